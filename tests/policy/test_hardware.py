"""`hardware` in a policy: beside the format, with its own key strings, and refused where nothing would enforce it."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.fake.hardware import YubiKey
from tests.fake.signing import key
from tests.policies import HOME, inline
from webhook.formats import FORMATS
from webhook.formats._hardware import InHardware
from webhook.parsing import Invalid
from webhook.policy.parse import key_references, parse_policy
from webhook.policy.policy import NamedSigner
from webhook.trust import KeyRef, Unresolved
from webhook.verdict import PolicyKey

DEVICE = YubiKey()
EVIDENCE = DEVICE.f9.pem + DEVICE.attest(key("a").private.public_key())
HARDWARE = {"attestation": "yubikey-piv", "roots": DEVICE.root.pem, "evidence": EVIDENCE}


def spec(hardware: Any = HARDWARE, **signer: Any) -> dict[str, Any]:
    return {
        "images": ["**"],
        "signers": [{"name": "a", "hardware": hardware, **(signer or {"cosign": {"key": key("a").pem}})}],
    }


def signer_of(written: dict[str, Any], others: Mapping[str, bytes | Unresolved] | None = None) -> NamedSigner:
    materials = inline(written, {KeyRef(name): value for name, value in (others or {}).items()})
    (named,) = parse_policy(PolicyKey("shop", "web"), written, materials, FORMATS, HOME).signers
    return named


def complaints(written: dict[str, Any], others: Mapping[str, bytes | Unresolved] | None = None) -> tuple[str, ...]:
    with pytest.raises(Invalid) as refused:
        signer_of(written, others)
    return refused.value.complaints


def test_a_signer_is_bound_to_the_device_that_holds_its_key() -> None:
    named = signer_of(spec())
    assert isinstance(named.signer, InHardware)
    assert [device.key for device in named.devices] == [key("a").fingerprint]
    assert named.devices == named.signer.devices
    assert not signer_of({"images": ["**"], "signers": [{"name": "a", "cosign": {"key": key("a").pem}}]}).devices


def test_evidence_may_lie_where_keys_may() -> None:
    written = spec({**HARDWARE, "roots": "configmap://yubico#roots.pem", "evidence": "secret://evidence#release"})
    assert {str(one) for one in key_references(written, FORMATS)} == {
        key("a").pem, "configmap://yubico#roots.pem", "secret://evidence#release",
    }  # fmt: skip
    found = {"configmap://yubico#roots.pem": DEVICE.root.pem.encode(), "secret://evidence#release": EVIDENCE.encode()}
    assert signer_of(written, found).signer == signer_of(spec()).signer
    # Evidence that cannot be read proves nothing, and its signer counts for nothing meanwhile.
    gone = Unresolved("Secret shop/evidence does not exist")
    named = signer_of(written, {**found, "secret://evidence#release": gone})
    assert named == NamedSigner("a", gone, attests=True)


def test_m06_evidence_is_read_from_nowhere_else() -> None:
    written = spec({**HARDWARE, "roots": "configmap://kube-system/a#b"})
    assert complaints(written) == (
        "spec.signers[0].hardware.roots: namespace kube-system: a policy of this kind reads its own namespace only (shop)",
    )


@pytest.mark.parametrize(
    ("hardware", "wanted"),
    [
        (None, ["spec.signers[0].hardware: expected object, got null"]),
        ("yubikey-piv", ["spec.signers[0].hardware: expected object, got str"]),
        ({}, [f"spec.signers[0].hardware.{name}: required" for name in ("attestation", "roots", "evidence")]),
        (
            {**HARDWARE, "attestation": "tpm"},
            ["spec.signers[0].hardware.attestation: tpm is none of yubikey-piv, code-signing-oid"],
        ),
        ({**HARDWARE, "touch": "always"}, ["spec.signers[0].hardware.touch: unknown field; known: attestation, evidence, roots"]),
        ({**HARDWARE, "roots": 7}, ["spec.signers[0].hardware.roots: expected str, got int"]),
        ({**HARDWARE, "roots": "x"}, ["spec.signers[0].hardware.roots: not a key"]),
        (
            {**HARDWARE, "roots": YubiKey().root.pem},
            ["spec.signers[0].hardware.evidence: does not vouch for key SHA256:"],
        ),
    ],
)  # fmt: skip
def test_m10_a_mistake_is_told_with_its_place(hardware: Any, wanted: list[str]) -> None:
    found = complaints(spec(hardware))
    for complaint, beginning in zip(found, wanted, strict=True):
        assert complaint.startswith(beginning)


def test_h09_a_signer_that_is_no_key_has_none_in_hardware() -> None:
    assert complaints(spec(static={"allow": True, "reason": "why"})) == (
        "spec.signers[0].hardware: a static signer has no key that could be in hardware",
    )


def test_what_is_wrong_with_the_signer_is_told_beside_it() -> None:
    found = complaints(spec({**HARDWARE, "attestation": "tpm"}, cosign={"key": 7}))
    assert [complaint.partition(":")[0] for complaint in found] == [
        "spec.signers[0].hardware.attestation", "spec.signers[0].cosign.key",
    ]  # fmt: skip
    assert complaints(spec(cosign={"key": "-----BEGIN X-----"})) == (
        "spec.signers[0].cosign.key: no PEM public key (-----BEGIN PUBLIC KEY-----)",
    )


def test_key_references_of_what_cannot_be_read_are_left_out() -> None:
    for signers in ("x", ["x"], [{"hardware": "x"}], [{"hardware": {"roots": "secret://a#b"}}]):
        assert key_references({"signers": signers}, FORMATS) == frozenset()
