"""What status says of keys in hardware: `proven`, `claimed` or `no`, and in which devices."""

import datetime as dt

import pytest

from tests.fake.hardware import BEGINS, ENDS
from tests.fake.signing import key
from tests.operator.test_leader import Lab
from tests.operator.test_policies import INLINE
from tests.policy.test_hardware import DEVICE, HARDWARE, spec
from webhook.operator.status import hardware_of
from webhook.policy.policy import NamedSigner
from webhook.trust import Device, Unresolved

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
PATH = "/apis/trusted-images.dev/v1alpha1/namespaces/shop/trustpolicies/web"
UNKNOWN = Unresolved("gone")
PROVEN = Device("SHA256:a", "proven", "YubiKey 1", BEGINS, ENDS)
CLAIMED = Device("SHA256:b", "claimed", "EV code signing certificate 1", BEGINS, NOW)


@pytest.mark.parametrize(
    ("devices", "now", "state"),
    [
        ([], NOW, "no"),
        ([PROVEN], NOW, "proven"),
        ([PROVEN], BEGINS, "proven"),
        ([PROVEN], BEGINS - dt.timedelta(seconds=1), "no"),
        ([PROVEN], ENDS, "no"),
        ([CLAIMED], NOW - dt.timedelta(seconds=1), "claimed"),
        ([PROVEN, CLAIMED], NOW - dt.timedelta(seconds=1), "claimed"),
        ([PROVEN, CLAIMED], NOW, "no"),
    ],
)
def test_a_signer_is_as_well_kept_as_the_worst_kept_of_its_keys(
    devices: list[Device], now: dt.datetime, state: str
) -> None:
    assert hardware_of(NamedSigner("a", UNKNOWN, tuple(devices)), now) == state


async def test_h12_status_shows_the_device_and_that_its_evidence_has_ended() -> None:
    lab = Lab()
    lab.now = NOW
    ends = NOW + dt.timedelta(days=1)
    leaf = DEVICE.attest(key("a").private.public_key(), ends=ends)
    written = spec({**HARDWARE, "evidence": DEVICE.f9.pem + leaf})
    written["signers"] += [{"name": "b", "cosign": {"key": key("b").pem}}]
    metadata = {"name": "web", "namespace": "shop", "generation": 1}
    lab.policies.seen(lab.kube.put(PATH, {"metadata": metadata, "spec": written}))
    await lab.leader.statuses.write()
    known = {"name": "a", "format": "cosign", "fingerprints": [key("a").fingerprint]}
    about = {"devices": ["YubiKey 15938765 (USB-C), firmware 5.2.7, slot 9c, PIN always, touch always"]}
    other = {"name": "b", "format": "cosign", "fingerprints": [key("b").fingerprint], "hardware": "no"}
    assert lab.kube.objects[PATH]["status"]["signers"] == [{**known, "hardware": "proven", **about}, other]
    # Nobody changes anything, and what was proven no longer is.
    lab.policies.seen(lab.kube.objects[PATH])
    lab.kube.asked.clear()
    lab.now = ends - dt.timedelta(seconds=1)
    await lab.leader.statuses.write()
    assert lab.writes() == []
    lab.now = ends
    await lab.leader.statuses.write()
    ended = {"lastError": "its hardware evidence is not valid now"}
    assert lab.kube.objects[PATH]["status"]["signers"] == [{**known, "hardware": "no", **about, **ended}, other]


async def test_evidence_that_does_not_prove_leaves_its_policy_denying() -> None:
    lab = Lab()
    written = spec({**HARDWARE, "evidence": DEVICE.f9.pem})
    lab.policies.seen(lab.kube.put(PATH, {"metadata": {"name": "web", "namespace": "shop"}, "spec": written}))
    await lab.leader.statuses.write()
    ready = lab.kube.objects[PATH]["status"]["conditions"][0]
    assert (ready["status"], ready["reason"]) == ("False", "Invalid")
    assert "spec.signers[0].hardware.evidence: does not vouch for key SHA256:" in ready["message"]
    lab.policies.seen(lab.kube.put(PATH, {**lab.kube.objects[PATH], "spec": INLINE}))
    assert lab.state == "in_force"
