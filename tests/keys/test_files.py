"""Policies, keys and namespaces from YAML files: strictly, with file, line and column (attacks M-06, S-08)."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.policies import KEY
from webhook import limits
from webhook.formats import FORMATS
from webhook.keys import resolve
from webhook.keys.files import load_files
from webhook.parsing import Invalid
from webhook.policy.keyref import ObjectKey
from webhook.policy.policy import Policy
from webhook.trust import KeyRef, Unresolved
from webhook.verdict import PolicyKey

API = "trusted-images.dev/v1alpha1"


def trust_policy(key: str, name: str = "web", namespace: str = "shop") -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "TrustPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"images": ["**"], "signers": [{"name": "a", "cosign": {"key": key}}]},
    }


def entries(kind: str, name: str = "pub", namespace: str = "shop", **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, **fields}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def written(folder: Path, *documents: Any, name: str = "policy.yaml") -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump_all(documents, default_style='"'))
    return file


def loaded(*files: Path) -> tuple[Policy, ...]:
    return load_files(files).policies(FORMATS, "trusted-images")


def complaints(*files: Path) -> tuple[str, ...]:
    with pytest.raises(Invalid) as refused:
        loaded(*files)
    return refused.value.complaints


@pytest.mark.parametrize(
    ("reference", "held"),
    [
        ("secret://pub#cosign.pub", entries("Secret", data={"cosign.pub": b64(KEY)})),
        ("secret://pub#cosign.pub", entries("Secret", stringData={"cosign.pub": KEY})),
        ("k8s://shop/pub", entries("Secret", data={"cosign.pub": b64(KEY)})),
        ("configmap://pub#a", entries("ConfigMap", data={"a": KEY})),
        ("configmap://pub#a", entries("ConfigMap", binaryData={"a": b64(KEY)})),
    ],
)
def test_keys_are_read_from_the_objects_in_the_files(tmp_path: Path, reference: str, held: dict[str, Any]) -> None:
    inline, referred = trust_policy(KEY), trust_policy(reference, "other")
    one, other = loaded(written(tmp_path, inline), written(tmp_path, referred, held, name="keys.yaml"))
    assert one.signers == other.signers
    assert not isinstance(other.signers[0].signer, Unresolved)


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ([], "Secret shop/pub not found in the policy files"),
        ([entries("Secret", namespace="other", stringData={"x": KEY})], "Secret shop/pub not found"),
        ([entries("ConfigMap", data={"x": KEY})], "Secret shop/pub not found"),
        ([entries("Secret", stringData={"y": KEY})], "Secret shop/pub has no entry x"),
    ],
)
def test_a_key_that_is_not_there_is_unresolved_and_no_fault_of_the_policy(
    tmp_path: Path, held: list[dict[str, Any]], why: str
) -> None:
    (policy,) = loaded(written(tmp_path, trust_policy("secret://pub#x"), *held))
    signer = policy.signers[0].signer
    assert isinstance(signer, Unresolved)
    assert signer.reason.startswith(why)


def test_material_is_bounded_and_what_is_no_reference_is_left_to_the_policys_parse() -> None:
    refs = [KeyRef("secret://pub#x"), KeyRef("nonsense"), KeyRef("secret://other/pub#x")]
    large = resolve(refs, PolicyKey("shop", "a"), "home", lambda _: b"x" * (limits.MAX_KEY_MATERIAL + 1))
    assert large == {refs[0]: Unresolved("Secret shop/pub, entry x: more than 1048576 bytes")}


def test_lists_and_empty_documents_are_unrolled_and_namespaces_kept(tmp_path: Path) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"tier": "gold"}}}
    bare = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bare"}}
    inner = {"apiVersion": "v1", "kind": "List", "items": [trust_policy(KEY), None]}
    file = written(tmp_path, None, {"kind": "List", "items": [inner, namespace, bare]})
    found = load_files([file])
    assert [str(policy.key) for policy in found.policies(FORMATS, "trusted-images")] == ["shop/web"]
    assert found.namespaces == {"shop": {"tier": "gold"}, "bare": {}}


def test_every_complaint_about_every_file_is_told_with_its_place(tmp_path: Path) -> None:
    first = written(
        tmp_path, {"apiVersion": "v1", "kind": "Pod"}, 7, trust_policy("nonsense"), trust_policy(KEY), trust_policy(KEY)
    )
    second = tmp_path / "second.yaml"
    second.write_text("a: [")
    third = tmp_path / "third.yaml"
    third.write_bytes(b"#" * (limits.MAX_YAML + 1))
    found = complaints(first, second, third)
    beginnings = [
        f"{first}[0]: kind: Pod is none of TrustPolicy, ClusterTrustPolicy, TrustException, Secret, ConfigMap, Namespace, List",
        f"{first}[1]: kind: None is none of",
        f"{second}, line 2, column 1: ",
        f"{third}: more than 1048576 bytes",
        f"{first}[2] TrustPolicy shop/web: spec.signers[0].cosign.key: not a key",
        f"{first}[4] TrustPolicy shop/web: stands twice in these files",
    ]
    for complaint, beginning in zip(found, beginnings, strict=True):
        assert complaint.startswith(beginning)


def test_an_unforeseen_error_of_one_policy_is_a_complaint_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*_: object) -> None:
        raise RecursionError("the bytes of a key")

    file = written(tmp_path, trust_policy(KEY))
    assert len(load_files([file]).policies(FORMATS, "trusted-images")) == 1
    monkeypatch.setattr("webhook.policy.parse.parse_policy", crash)
    (complaint,) = complaints(file)
    found = re.fullmatch(r".*TrustPolicy shop/web: spec: an internal error, id ([0-9a-f]{8}) in the log", complaint)
    assert found is not None
    assert found[1] in caplog.text


def test_s08_a_value_that_is_not_base64_is_not_repeated(tmp_path: Path) -> None:
    (complaint,) = complaints(written(tmp_path, entries("Secret", data={"x": "s3cret-value"})))
    assert complaint.endswith("[0]: data.x: not base64")


def test_objects_are_read_strictly(tmp_path: Path) -> None:
    (complaint,) = complaints(written(tmp_path, {"kind": "Secret", "data": {"x": "eA=="}}))
    assert complaint.endswith("[0]: metadata: required")


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_files([tmp_path / "gone.yaml"])


def test_an_object_is_named_as_kubectl_names_it() -> None:
    assert str(ObjectKey("ConfigMap", "shop", "pub", "a")) == "ConfigMap shop/pub, entry a"
