"""The chart as it is rendered (tables W and M of the threat model), on the plain YAML that is made from it."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests import chart_values
from webhook.judge.workload import KINDS
from webhook.memory.records import SHARDS
from webhook.observe.watchdog import STALL_SECONDS
from webhook.operator.installation import Installation
from webhook.operator.wanted import configurations_in

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "trusted-images"
DOCUMENTS = [one for one in yaml.safe_load_all((ROOT / "manifests" / "install.yaml").read_text("utf-8")) if one]


def one(kind: str, name: str = "trusted-images") -> dict[str, Any]:
    (found,) = (d for d in DOCUMENTS if d["kind"] == kind and d["metadata"]["name"] == name)
    return dict(found)


MUTATING, CONFIGURATION = yaml.safe_load_all(one("ConfigMap", "trusted-images-webhook")["data"]["configuration.yaml"])
IMAGES, POLICIES, EXCEPTIONS = CONFIGURATION["webhooks"]
(DIGESTS,) = MUTATING["webhooks"]
WEBHOOKS = (DIGESTS, IMAGES, POLICIES, EXCEPTIONS)
POD = one("Deployment")["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def test_m11_the_leader_takes_what_the_chart_writes() -> None:
    found = configurations_in(one("ConfigMap", "trusted-images-webhook"), Installation(namespace="trusted-images"))
    assert [document for _, document in found] == [MUTATING, CONFIGURATION]


def test_the_values_are_explained_and_closed() -> None:
    assert (CHART / "README.md").read_text("utf-8") == chart_values.render(), "make manifests"
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    documented = {name for name, _, _ in chart_values.rows()}

    def walk(schema: dict[str, Any], value: Any, path: str) -> None:
        if "properties" not in schema:
            assert path in documented, path
            return
        assert schema["additionalProperties"] is False, path
        assert set(value) <= set(schema["properties"]), path
        if path in documented:
            return
        for name, inner in value.items():
            walk(schema["properties"][name], inner, f"{path}.{name}" if path else name)

    walk(schema, values, "")


def test_w01_it_fails_closed_and_in_time() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    assert schema["properties"]["webhook"]["properties"]["timeoutSeconds"]["maximum"] == 10
    for webhook in WEBHOOKS:
        assert webhook["failurePolicy"] == "Fail"
        assert webhook["timeoutSeconds"] <= 10
        assert webhook["matchPolicy"] == "Equivalent"
        assert webhook["admissionReviewVersions"] == ["v1"]


def test_w01_what_an_api_server_says_while_nobody_answers_is_explained() -> None:
    page = (ROOT / "docs" / "install.md").read_text("utf-8")
    row = next(line for line in page.splitlines() if line.startswith("| `failed calling webhook"))
    for webhook in (DIGESTS, IMAGES):
        assert f'"{webhook["name"]}"' in row


def test_w02_what_a_cluster_starts_from_is_not_judged() -> None:
    assert IMAGES["namespaceSelector"] == DIGESTS["namespaceSelector"]
    (expression,) = IMAGES["namespaceSelector"]["matchExpressions"]
    assert expression["key"] == "kubernetes.io/metadata.name"
    assert expression["operator"] == "NotIn"
    assert set(expression["values"]) == {"kube-system", "kube-node-lease", "trusted-images"}


def test_w03_w04_w08_nobody_can_opt_out_by_a_label_or_a_condition() -> None:
    for webhook in WEBHOOKS:
        assert "objectSelector" not in webhook
        assert "matchConditions" not in webhook
    assert "matchLabels" not in IMAGES["namespaceSelector"]


def test_w10_k07_reviews_have_no_side_effects_but_the_count_of_uses_and_dry_runs_none() -> None:
    assert IMAGES["sideEffects"] == "NoneOnDryRun"
    assert {webhook["sideEffects"] for webhook in (DIGESTS, POLICIES, EXCEPTIONS)} == {"None"}


def test_m07_who_writes_an_exception_is_always_checked() -> None:
    (rule,) = EXCEPTIONS["rules"]
    assert (rule["resources"], rule["operations"]) == (["trustexceptions"], ["CREATE", "UPDATE"])
    assert EXCEPTIONS["clientConfig"]["service"]["path"] == "/validate-policies"
    assert "namespaceSelector" not in EXCEPTIONS
    # Where images are admitted while nobody answers, too.
    template = (CHART / "templates" / "_helpers.tpl").read_text("utf-8")
    block = template.partition("name: exceptions.trusted-images.dev")[2].partition("clientConfig")[0]
    assert "failurePolicy: Fail\n" in block
    # And no role of the chart lets anybody write one: that is the cluster's to give.
    for document in DOCUMENTS:
        for allowed in document.get("rules") or ():
            if "trustexceptions" in allowed.get("resources", ()):
                assert allowed["verbs"] == ["get", "list", "watch"]


def test_x03_w13_every_kind_and_the_subresource_of_kubectl_debug_are_sent() -> None:
    sent = {
        (group, resource) for rule in IMAGES["rules"] for group in rule["apiGroups"] for resource in rule["resources"]
    }
    assert ("", "pods/ephemeralcontainers") in sent
    judged = {(group, f"{kind.lower()}s") for group, kind in KINDS if group != "extensions"}
    assert judged == sent - {("", "pods/ephemeralcontainers")}
    for rule in IMAGES["rules"]:
        assert rule["operations"] == ["CREATE", "UPDATE"]


def test_k15_only_pods_are_changed_and_again_after_others() -> None:
    (rule,) = DIGESTS["rules"]
    assert rule["resources"] == ["pods", "pods/ephemeralcontainers"]
    assert DIGESTS["reinvocationPolicy"] == "IfNeeded"
    assert DIGESTS["clientConfig"]["service"]["path"] == "/mutate"


def test_w11_the_configuration_is_the_leaders_to_make_and_the_owners_to_end() -> None:
    # Neither Helm nor kubectl apply it: it is made when a replica answers, and goes with the role.
    assert not [d for d in DOCUMENTS if d["kind"].endswith("WebhookConfiguration")]
    installation = Installation(namespace="trusted-images")
    assert one("ConfigMap", installation.configuration)
    assert one("ClusterRole", installation.owner)
    assert one("Service", installation.service)
    assert "caBundle" not in IMAGES["clientConfig"]


def test_m07_the_rights_are_few_and_name_what_they_are_for() -> None:
    cluster = {
        (group, resource): (tuple(rule["verbs"]), tuple(rule.get("resourceNames", ())))
        for rule in one("ClusterRole")["rules"] for group in rule["apiGroups"] for resource in rule["resources"]
        if rule["verbs"] != ["create"]
    }  # fmt: skip
    name = ("trusted-images",)
    assert cluster == {
        ("trusted-images.dev", "trustpolicies"): (("get", "list", "watch"), ()),
        ("trusted-images.dev", "clustertrustpolicies"): (("get", "list", "watch"), ()),
        ("trusted-images.dev", "trustexceptions"): (("get", "list", "watch"), ()),
        ("trusted-images.dev", "trustpolicies/status"): (("patch",), ()),
        ("trusted-images.dev", "clustertrustpolicies/status"): (("patch",), ()),
        ("trusted-images.dev", "trustexceptions/status"): (("patch",), ()),
        ("", "namespaces"): (("get", "list", "watch"), ()),
        ("", "pods"): (("list", "watch"), ()),
        ("", "secrets"): (("get",), ()),
        ("", "configmaps"): (("get",), ()),
        ("", "serviceaccounts"): (("get",), ()),
        ("openreports.io", "reports"): (("patch", "delete"), name),
        ("wgpolicyk8s.io", "policyreports"): (("patch", "delete"), name),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): (("get", "patch", "delete"), name),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): (("get", "patch", "delete"), name),
        ("rbac.authorization.k8s.io", "clusterroles"): (("get",), name),
        ("rbac.authorization.k8s.io", "clusterroles/finalizers"): (("update",), name),
    }
    creates = {
        resource
        for rule in one("ClusterRole")["rules"]
        if rule["verbs"] == ["create"]
        for resource in rule["resources"]
    }
    assert creates == {
        "events",
        "pods/eviction",
        "reports",
        "policyreports",
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
    }
    for document in DOCUMENTS:
        assert "*" not in json.dumps(document.get("rules", [])), document["kind"]


def test_m05_m07_the_rights_in_the_release_s_namespace_name_what_they_are_for() -> None:
    installation = Installation(namespace="trusted-images")
    records = tuple(installation.records_path(shard).rpartition("/")[2] for shard in range(SHARDS))
    rules = [
        (resource, tuple(rule["verbs"]), tuple(rule.get("resourceNames", ())))
        for rule in one("Role")["rules"]
        for resource in rule["resources"]
    ]
    assert rules == [
        ("leases", ("get", "update"), ("trusted-images",)),
        ("leases", ("create",), ()),
        ("secrets", ("get", "update"), ("trusted-images-tls",)),
        ("secrets", ("get", "update"), (installation.kept_keys_path.rpartition("/")[2],)),
        ("secrets", ("create",), ()),
        ("configmaps", ("update",), records),
        ("configmaps", ("create",), ()),
        ("configmaps", ("get", "delete"), ("trusted-images-webhook",)),
        ("endpointslices", ("list",), ()),
    ]


def test_m07_who_may_view_a_namespace_may_read_its_policies_and_nobody_may_write_them() -> None:
    roles = {d["metadata"]["name"]: d for d in DOCUMENTS if d["kind"] == "ClusterRole"}
    assert set(roles) == {"trusted-images", "trusted-images-view"}
    aggregated = {label for role in roles.values() for label in role["metadata"]["labels"] if "aggregate" in label}
    assert aggregated == {"rbac.authorization.k8s.io/aggregate-to-view"}
    assert roles["trusted-images-view"]["rules"] == [
        {
            "apiGroups": ["trusted-images.dev"],
            "resources": ["trustpolicies", "clustertrustpolicies", "trustexceptions"],
            "verbs": ["get", "list", "watch"],
        }
    ]


def test_the_pod_is_restricted() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
    }  # fmt: skip
    assert POD["priorityClassName"] == "system-cluster-critical"
    assert one("Deployment")["spec"]["replicas"] == 3
    assert one("PodDisruptionBudget")["spec"]["minAvailable"] == 2
    assert POD["topologySpreadConstraints"]


def longest(probe: dict[str, int]) -> int:
    """Seconds until the kubelet acts on what stands still from just after a probe on."""
    # While a probe waits, none is begun.
    period = max(probe["periodSeconds"], probe["timeoutSeconds"])
    return probe["periodSeconds"] + (probe["failureThreshold"] - 1) * period + probe["timeoutSeconds"]


def test_f37_a_replica_that_stands_still_is_soon_not_asked_and_ended_only_if_that_lasts() -> None:
    readiness, liveness = CONTAINER["readinessProbe"], CONTAINER["livenessProbe"]
    assert longest(readiness) <= 6
    # Not by one probe that was slow.
    assert readiness["failureThreshold"] >= 2
    shortest = (liveness["failureThreshold"] - 1) * liveness["periodSeconds"] + liveness["timeoutSeconds"]
    assert shortest >= 30
    assert longest(liveness) <= 90
    # The log has what it stands in before it is ended, and what has begun is not ended before that.
    assert longest(readiness) > STALL_SECONDS
    assert shortest > 2 * STALL_SECONDS
    startup = CONTAINER["startupProbe"]
    assert startup["httpGet"] == liveness["httpGet"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 120


def test_f28_a_replica_that_leaves_has_time_to_answer() -> None:
    drain = next(int(word.partition("=")[2]) for word in CONTAINER["args"] if word.startswith("--drain-seconds"))
    assert POD["terminationGracePeriodSeconds"] >= drain + 30
    assert one("Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] == "/readyz"
