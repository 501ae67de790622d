"""The chart through the real Helm, 3 and 4: it lints, renders what Kubernetes takes, refuses what it must, and ignores no value.

`tests/e2e/lab.sh helm` brings both. With HELM_REQUIRED, as in CI, it is an error that one is missing.
"""

import base64
import copy
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests import chart_values
from tests.test_chart import CHART, DOCUMENTS, ROOT
from webhook.operator.installation import Installation
from webhook.operator.wanted import configurations_in
from webhook.parsing import Invalid
from webhook.registry.settings import RegistrySettings, parse_settings

HELMS = [name for name in ("helm3", "helm4") if shutil.which(name)] or [
    name for name in ("helm",) if shutil.which(name)
]
if os.environ.get("HELM_REQUIRED") and len(HELMS) < 2:
    raise RuntimeError("HELM_REQUIRED is set, and helm3 and helm4 are not both on the PATH (tests/e2e/lab.sh helm)")
NO_HELM = pytest.param(
    "helm", marks=pytest.mark.skip(reason="NO HELM: the chart is not rendered (tests/e2e/lab.sh helm)")
)

VALUES = {"default": {}} | {
    file.name.removesuffix("-values.yaml"): yaml.safe_load(file.read_text("utf-8"))
    for file in sorted((CHART / "ci").glob("*-values.yaml"))
}
PEM = VALUES["own-certificate"]["webhook"]["caBundle"]
OTHERS = {"cert-manager.io/v1", "monitoring.coreos.com/v1"}
"""Whose schemas Kubernetes does not bring."""

helms = pytest.mark.parametrize("helm", HELMS or [NO_HELM])
# Where one is enough, since both render the same.
newest = pytest.mark.parametrize("helm", HELMS[-1:] or [NO_HELM])


class Refused(Exception):
    """What Helm said on its error stream."""


def run(helm: str, *words: str, values: Any) -> str:
    ran = subprocess.run(  # noqa: S603 - Helm, on the PATH
        [helm, *words, "-f", "-"], input=json.dumps(values), capture_output=True, text=True, timeout=60, check=False
    )
    if ran.returncode:
        raise Refused(ran.stderr)
    return ran.stdout


def rendered(helm: str, values: Any, *words: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The documents by kind and name: Helm 3 and 4 differ in their order and in empty lines."""
    text = run(helm, "template", "trusted-images", str(CHART), "-n", "trusted-images", *words, values=values)
    documents = [one for one in yaml.safe_load_all(text) if one]
    found = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    assert len(found) == len(documents)
    return found


@helms
def test_the_plain_yaml_is_what_the_chart_renders(helm: str) -> None:
    plain = rendered(helm, {}, "--no-hooks", "--skip-tests", "--set", "crds.install=false")
    assert plain == {(one["kind"], one["metadata"]["name"]): one for one in DOCUMENTS}, "make manifests"


@helms
@pytest.mark.parametrize("name", VALUES)
def test_it_lints(helm: str, name: str) -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in run(helm, "lint", "--strict", str(CHART), values=VALUES[name])


@pytest.mark.skipif(len(HELMS) < 2, reason="NO HELM 3 AND 4: what they render is not compared (tests/e2e/lab.sh helm)")
@pytest.mark.parametrize("name", VALUES)
def test_both_render_the_same(name: str) -> None:
    assert rendered("helm3", VALUES[name]) == rendered("helm4", VALUES[name])


@newest
@pytest.mark.parametrize("version", ["1.28", "1.37"])
@pytest.mark.parametrize("name", VALUES)
def test_kubernetes_takes_it(helm: str, name: str, version: str) -> None:
    documents = list(rendered(helm, VALUES[name]).values())
    for document in [*documents, *nested(documents)]:
        if document["apiVersion"] not in OTHERS:
            kubernetes_validate.validate(document, version, strict=True)


@newest
@pytest.mark.parametrize("name", VALUES)
def test_m11_the_leader_takes_what_the_chart_writes_whatever_the_values_are(helm: str, name: str) -> None:
    found = rendered(helm, VALUES[name])
    (service,) = {name for kind, name in found if kind == "Service"}
    installation = Installation(namespace="trusted-images", service=service, configuration=f"{service}-webhook")
    assert len(configurations_in(found["ConfigMap", installation.configuration], installation)) == 2


def nested(documents: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The webhook configurations, which the leader applies out of a ConfigMap."""
    for document in documents:
        if document["kind"] == "ConfigMap" and "configuration.yaml" in document["data"]:
            yield from yaml.safe_load_all(document["data"]["configuration.yaml"])


def test_a_field_that_kubernetes_does_not_know_is_noticed() -> None:
    _, configuration = nested(DOCUMENTS)
    kubernetes_validate.validate(configuration, "1.37", strict=True)
    configuration["webhooks"][0]["failurePolice"] = "Fail"
    with pytest.raises(kubernetes_validate.ValidationError, match="failurePolice"):
        kubernetes_validate.validate(configuration, "1.37", strict=True)


@newest
@pytest.mark.parametrize("path", [name for name, _, _ in chart_values.rows()])
def test_no_value_is_ignored(helm: str, path: str) -> None:
    """For every value there is a file in ci/ that sets it, and renders something else without it."""
    *above, last = path.split(".")
    for values in VALUES.values():
        without = copy.deepcopy(values)
        place = without
        for part in above:
            place = place.get(part, {})
        if last in place:
            del place[last]
            try:
                if rendered(helm, without) != rendered(helm, values):
                    return
            except Refused:
                return
    raise AssertionError(f"no values file in ci/ shows what {path} does")


@newest
@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replicas": 3}, "replicas"),
        ({"webhook": {"timeoutSeconds": 11}}, "timeoutSeconds"),
        ({"certificates": {"source": "vault"}}, "source"),
        ({"image": {"digest": "sha256:short"}}, "digest"),
        ({"webhook": {"failurePolicy": "Ignore"}}, "allowIgnore"),
        ({"webhook": {"exemptNamespaces": ["kube-*"]}}, "exemptNamespaces"),
        ({"webhook": {"exemptNamespaces": ["Shop"]}}, "exemptNamespaces"),
        ({"webhook": {"exemptNamespaces": ["x" * 64]}}, "exemptNamespaces"),
        ({"certificates": {"source": "secret"}, "webhook": {"caBundle": "LS0tLS1CRUdJTg=="}}, "caBundle"),
    ],
)
def test_w01_what_is_wrong_is_refused_with_its_name(helm: str, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Refused, match=complaint):
        rendered(helm, values)


@newest
def test_w01_ignore_is_rendered_where_it_is_asked_for_twice(helm: str) -> None:
    documents = list(rendered(helm, {"webhook": {"failurePolicy": "Ignore", "allowIgnore": True}}).values())
    found = {one["name"]: one["failurePolicy"] for document in nested(documents) for one in document["webhooks"]}
    # Who has written and approved an exception is never left unchecked.
    assert found.pop("exceptions.trusted-images.dev") == "Fail"
    assert set(found.values()) == {"Ignore"}


@newest
@pytest.mark.parametrize("source", ["self", "cert-manager"])
def test_w11_authorities_that_do_not_know_what_is_served_are_refused(helm: str, source: str) -> None:
    bundle = VALUES["own-certificate"]["webhook"]
    with pytest.raises(
        Refused, match=rf"webhook\.caBundle: .*certificates\.source {source} .* set certificates\.source"
    ):
        rendered(helm, {"certificates": {"source": source}, "webhook": bundle})
    assert rendered(helm, {"certificates": {"source": source}, "webhook": {"caBundle": ""}})
    # Some write before each certificate whose it is.
    told = {"caBundle": "# Acme Root 1\n" + bundle["caBundle"]}
    for configuration in nested(list(rendered(helm, {"certificates": {"source": "secret"}, "webhook": told}).values())):
        for webhook in configuration["webhooks"]:
            assert base64.b64decode(webhook["clientConfig"]["caBundle"]).decode() == told["caBundle"]


@newest
@pytest.mark.parametrize("listed", [None, [], ["cni"], ["kube-system", "elsewhere"]])
def test_w02_what_a_cluster_starts_from_is_exempt_whatever_is_listed(helm: str, listed: list[str] | None) -> None:
    text = run(helm, "template", "x", str(CHART), "-n", "elsewhere", values={"webhook": {"exemptNamespaces": listed}})
    own = {"kube-system", "kube-node-lease", "elsewhere"}
    for configuration in nested([one for one in yaml.safe_load_all(text) if one]):
        (expression,) = configuration["webhooks"][0]["namespaceSelector"]["matchExpressions"]
        assert (expression["key"], expression["operator"]) == ("kubernetes.io/metadata.name", "NotIn")
        assert sorted(expression["values"]) == sorted(own | set(listed or ()))


RIGHT: dict[str, list[dict[str, Any]]] = {
    "names and ports": [{"host": host} for host in ("GHCR.io", "a.io:5000", "localhost", "a:1", "docker.io", "x:65535")],
    "addresses": [{"host": host} for host in ("10.0.0.1", "10.0.0.1:5000", "[::1]:5000", "1.a", "10.io")],
    "mirrors": [
        {
            "host": "m.io",
            "mirrors": [{"source": "docker.io", "prefix": "m.io/hub__a/b-c/"}, {"source": "docker.io/acme", "prefix": "m.io:5000"}],
        }
    ],
    "logins": [{"host": "a.io", "credentials": {"dockerconfig": "/logins/config.json"}, "realms": ["b.io", "c.io:8443"]}],
    "authorities": [{"host": "a.io", "ca": "/etc/trusted-images/ca/a.pem"}, {"host": "b.io", "ca": "/mine/b.pem"}],
    "plain": [{"host": "a.io", "plainHTTP": True}, {"host": "b.io", "plainHTTP": False, "ca": "/mine/b.pem"}],
}  # fmt: skip
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "host"),
    ({"host": ""}, "host"),
    ({"host": "https://b.io"}, "host"),
    ({"host": "b.io/acme"}, "host"),
    ({"host": "b.io:"}, "host"),
    ({"host": "b_c.io"}, "host"),
    ({"host": "b.io:65536"}, r"registries\[1\]\.host: b\.io:65536: not a port"),
    ({"host": "127.1"}, r"registries\[1\]\.host: 127\.1: an address that is not written in full"),
    ({"host": "10.0.0.256:5000"}, "not written in full"),
    ({"host": "0x7f000001"}, "not written in full"),
    ({"host": "A.io:443"}, r"registries\[1\]\.host: a\.io stands twice; write all"),
    ({"host": "b.io", "realms": ["https://c.io"]}, "realms"),
    ({"host": "b.io", "realms": ["127.1"]}, r"realms\[0\]: 127\.1"),
    ({"host": "b.io", "mirrors": [{"source": "c.io"}]}, "prefix"),
    ({"host": "b.io", "mirrors": [{"source": "https://c.io", "prefix": "b.io"}]}, "source"),
    ({"host": "b.io", "mirrors": [{"source": "c.io", "prefix": "https://b.io/c"}]}, "prefix"),
    ({"host": "b.io", "mirrors": [{"source": "c.io/UP", "prefix": "b.io"}]}, "source"),
    ({"host": "b.io", "mirrors": [{"source": "c.io/" + "x" * 250, "prefix": "b.io"}]}, "source"),
    ({"host": "b.io", "mirrors": [{"source": "c.io", "prefix": "127.1/c"}]}, r"mirrors\[0\]\.prefix: 127\.1"),
    ({"host": "b.io", "mirrors": [{"source": "docker.io/", "prefix": "b.io"}]}, r"docker\.io has two mirrors"),
    ({"host": "b.io", "credentials": {}}, "dockerconfig"),
    (
        {"host": "b.io", "ca": "/mine/b.pem", "plainHTTP": True},
        r"registries\[1\]\.ca: without meaning beside plainHTTP",
    ),
]
"""Each beside another entry for a.io, which mirrors Docker Hub."""


def settings_of(documents: dict[tuple[str, str], dict[str, Any]]) -> RegistrySettings:
    """The settings as a replica reads them."""
    text = documents["ConfigMap", "trusted-images-registries"]["data"]["registries.yaml"]
    return parse_settings(text.encode(), "registries.yaml")


@newest
@pytest.mark.parametrize("entries", RIGHT.values(), ids=RIGHT)
def test_registries_reach_the_replicas(helm: str, entries: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    values = {"registries": {"registries": entries}, "certificateAuthorities": {"a.pem": PEM}}
    assert len(settings_of(rendered(helm, values)).hosts) == len(entries)


@newest
@pytest.mark.parametrize(("entry", "complaint"), WRONG)
def test_f09_what_a_replica_would_not_start_with_is_refused(
    helm: str, entry: dict[str, Any], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    beside = {"host": "a.io", "mirrors": [{"source": "index.docker.io", "prefix": "a.io/hub"}]}
    written = {"registries": [beside, entry]}
    with pytest.raises(Invalid):
        parse_settings(json.dumps(written).encode(), "registries.yaml")
    with pytest.raises(Refused, match=complaint):
        rendered(helm, {"registries": written})


@newest
@pytest.mark.parametrize(
    ("ca", "complaint"),
    [
        (
            "/etc/trusted-images/ca/b.pem",
            r'no key "b\.pem"\. Add it there, with the PEM, or name one that it has \(a\.pem\)',
        ),
        ("/etc/trusted-images/./ca//b.pem", 'no key "b.pem"'),
        ("/etc/trusted-images/ca/deep/a.pem", 'no key "deep/a.pem"'),
        ("/etc/trusted-images/ca", 'no key ""'),
        ("a.pem", "no path in the container; a key of certificateAuthorities is at /etc/trusted-images/ca/a.pem"),
    ],
)
def test_f09_an_authority_that_would_be_no_file_is_refused(helm: str, ca: str, complaint: str) -> None:
    values = {"registries": {"registries": [{"host": "a.io", "ca": ca}]}, "certificateAuthorities": {"a.pem": PEM}}
    with pytest.raises(Refused, match=complaint):
        rendered(helm, values)
    with pytest.raises(Refused, match="certificateAuthorities"):
        rendered(helm, {"certificateAuthorities": {"a.pem": "/etc/ssl/a.pem"}})


@newest
def test_m07_without_records_and_kept_keys_there_is_no_right_to_write_them(helm: str) -> None:
    values = {"outages": {"records": 0, "keys": False}, "certificates": {"source": "secret"}}
    documents = rendered(helm, values)
    rules = next(one for (kind, _), one in documents.items() if kind == "Role")["rules"]
    verbs = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert not verbs & {
        ("configmaps", "create"),
        ("configmaps", "update"),
        ("secrets", "create"),
        ("secrets", "update"),
    }
    with pytest.raises(Refused, match="records"):
        rendered(helm, {"outages": {"records": 20_001}})


@newest
def test_m07_who_administers_a_namespace_writes_its_policies_where_that_is_asked_for(helm: str) -> None:
    documents = rendered(helm, {"rbac": {"aggregateToView": False, "aggregateToAdmin": True}})
    roles = {name: one for (kind, name), one in documents.items() if kind == "ClusterRole"}
    assert set(roles) == {"trusted-images", "trusted-images-admin"}
    role = roles["trusted-images-admin"]
    assert [label for label in role["metadata"]["labels"] if "aggregate" in label] == [
        "rbac.authorization.k8s.io/aggregate-to-admin"
    ]
    # Neither cluster policies, nor exceptions, nor anything's status.
    (rule,) = role["rules"]
    assert (rule["apiGroups"], rule["resources"]) == (["trusted-images.dev"], ["trustpolicies"])
    assert rule["verbs"] == ["create", "update", "patch", "delete"]


@newest
def test_modules_are_the_operators_and_reach_the_command(helm: str) -> None:
    values = VALUES["everything"]
    pod = rendered(helm, values)["Deployment", "image-trust"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert [word for word in container["args"] if word.startswith("--pkcs11")] == [
        "--pkcs11-module=/modules/liba.so",
        "--pkcs11-module=/modules/libb.so",
        "--pkcs11-pins=/etc/trusted-images/pins",
    ]
    assert {"name": "pins", "secret": {"secretName": "hsm-pins"}} in pod["volumes"]
    assert {"name": "pins", "mountPath": "/etc/trusted-images/pins", "readOnly": True} in container["volumeMounts"]
    assert values["extraVolumes"][0] in pod["volumes"]
    assert values["extraVolumeMounts"][0] in container["volumeMounts"]
    with pytest.raises(Refused, match="pkcs11"):
        rendered(helm, {"pkcs11": {"modules": ["liba.so"]}})


@newest
def test_cert_manager_without_an_issuer_gets_an_authority_that_outlives_what_is_served(helm: str) -> None:
    documents = rendered(helm, {"certificates": {"source": "cert-manager"}})
    served, authority = (documents["Certificate", name]["spec"] for name in ("trusted-images", "trusted-images-ca"))
    issuer = documents["Issuer", served["issuerRef"]["name"]]["spec"]
    assert issuer == {"ca": {"secretName": authority["secretName"]}}
    assert authority["isCA"] is True
    assert "duration" not in served
    assert documents["Issuer", authority["issuerRef"]["name"]]["spec"] == {"selfSigned": {}}


@newest
def test_the_notes_have_a_first_test_and_the_emergency_line(helm: str) -> None:
    # Only an installation prints notes; one that only pretends needs no cluster.
    said = run(helm, "install", "trusted-images", str(CHART), "-n", "trusted-images", "--dry-run=client", values={})
    notes = said.partition("NOTES:")[2]
    assert "kubectl -n trust-test run unsigned --image=nginx --dry-run=server" in notes
    line = next(one.strip() for one in notes.splitlines() if "delete configmap" in one)
    assert line.endswith("kubectl delete validatingwebhookconfiguration,mutatingwebhookconfiguration trusted-images")
    # Once for the emergency, once for a release whose image cannot be pulled.
    page = (ROOT / "docs" / "install.md").read_text("utf-8").splitlines()
    assert page.count(f"$ {line}") == 2
    assert page[page.index(f"$ {line}", page.index("## Removing")) + 1].endswith("--no-hooks")


def test_every_values_file_is_used() -> None:
    assert set(VALUES) == {"default", "minimal", "cert-manager", "own-certificate", "everything"}
    assert len(VALUES) == 1 + len(list((CHART / "ci").iterdir()))
