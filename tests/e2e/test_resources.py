"""The custom resources and the release, as kubectl shows them."""

import re

import pytest
import yaml

from tests.e2e.laboratory import NAMESPACE, ROOT, Lab, resource
from tests.e2e.test_story import in_force
from tests.e2e.tools import Failed, run
from webhook.policy.schema import RESOURCES


def test_the_definitions_on_the_cluster_are_those_the_command_prints(lab: Lab) -> None:
    for document in yaml.safe_load_all((ROOT / "manifests" / "crds.yaml").read_text("utf-8")):
        there = lab.cluster.get("crd", document["metadata"]["name"])
        assert there["spec"]["versions"] == document["spec"]["versions"]
        established = {one["type"]: one["status"] for one in there["status"]["conditions"]}
        # What the API server thinks of the schema: a structural one, taken as it is.
        assert established["Established"] == "True"
        assert "NonStructuralSchema" not in established


@pytest.mark.parametrize("plural", [one.plural for one in RESOURCES])
def test_every_field_is_explained(lab: Lab, plural: str) -> None:
    said = lab.cluster.kubectl("explain", f"{plural}.spec", "--recursive")
    assert "signers" in said
    for field in (
        "images",
        "signers",
        "signers.cosign.key",
        "require",
        "mode",
        "namespaces" if "cluster" in plural else "deny",
    ):
        text = lab.cluster.kubectl("explain", f"{plural}.spec.{field}")
        assert re.search(r"DESCRIPTION:\n +\S", text), field
        assert "<no description>" not in text.splitlines(), field


def test_short_names_category_and_columns(lab: Lab, namespace: str) -> None:
    lab.cluster.apply(lab.policy("shop", namespace, mode="warn"))
    in_force(lab, "tp", "shop", namespace)
    head, line = lab.cluster.kubectl("get", "tp", "shop", "-n", namespace).splitlines()
    assert head.split() == ["NAME", "MODE", "READY", "ON", "DUTY", "ALLOWED", "DENIED", "WOULD", "DENY", "AGE"]
    assert line.split()[:3] == ["shop", "warn", "True"]
    assert "trustpolicy.trusted-images.dev/shop" in lab.cluster.kubectl("get", "trust", "-n", namespace, "-o", "name")


def test_the_api_server_refuses_by_the_schema_alone(lab: Lab, namespace: str) -> None:
    key = lab.public_key("release")
    both = [{"name": "a", "cosign": {"key": key}, "static": {"allow": True, "reason": "x"}}]
    with pytest.raises(Failed, match=r"spec\.signers\[0\]: Invalid value"):
        lab.cluster.apply(lab.policy("wrong", namespace, signers=both))
    with pytest.raises(
        Failed, match=r"spec\.images: Invalid value|spec\.images: Required|should have at least 1 items"
    ):
        lab.cluster.apply(lab.policy("wrong", namespace, images=[]))
    unknown = resource("TrustPolicy", "wrong", namespace, {**lab.policy("x", namespace)["spec"], "onFailure": "allow"})
    with pytest.raises(Failed, match=r'unknown field "spec\.onFailure"'):
        lab.cluster.apply(unknown)
    lab.cluster.apply(lab.policy("right", namespace))


def test_the_release_is_restricted_and_may_do_little(lab: Lab) -> None:
    # The Pod Security admission of the cluster looks at what runs.
    said = lab.cluster.warnings("label", "namespace", NAMESPACE, "--dry-run=server", "--overwrite",
                                "pod-security.kubernetes.io/enforce=restricted")  # fmt: skip
    assert "violate" not in said
    account = f"system:serviceaccount:{NAMESPACE}:trusted-images"
    for verb, what, may in (("get", "secrets", True), ("list", "secrets", False), ("watch", "secrets", False),
                            ("create", "pods", False), ("update", "trustpolicies.trusted-images.dev", False),
                            ("patch", "validatingwebhookconfigurations/kyverno", False),
                            ("patch", "validatingwebhookconfigurations/trusted-images", True)):  # fmt: skip
        try:
            answer = lab.cluster.kubectl("auth", "can-i", verb, what, "-A", f"--as={account}")
        except Failed:
            answer = "no"
        assert answer.strip().startswith("yes") is may, (verb, what)


def test_a_replica_starts_in_seconds_and_stays_small(lab: Lab) -> None:
    for name in lab.replicas():
        status = lab.cluster.get("pod", name, "-n", NAMESPACE)["status"]
        assert all(one["restartCount"] <= 1 for one in status["containerStatuses"])
    user = run("docker", "image", "inspect", "trusted-images:e2e", "--format", "{{.Config.User}}").strip()
    assert user == "65532:65532"
