"""What policies rest on and will end is told in time: on the policy, as an Event, in the metrics (faults F17, F31)."""

import datetime as dt
import json
from typing import Any

import pytest

from tests.fake.hardware import ENDS
from tests.fake.pki import DAY, issue
from tests.fake.signing import key
from tests.operator.test_leader import Lab
from tests.policy.test_hardware import DEVICE, HARDWARE
from tests.policy.test_hardware import spec as hardware_spec
from webhook.cli import hosting
from webhook.cli.expiries import gauge_expiries
from webhook.formats.endings import Ending, EndingKind
from webhook.observe.metrics import Metrics
from webhook.operator.radar import SOON, SignerEnding, condition, first_ends, is_over
from webhook.policy.document import API_VERSION
from webhook.policy.require import Name, parse_require
from webhook.verdict import End, PolicyKey

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
PATH = f"/apis/{API_VERSION}/namespaces/shop/trustpolicies/web"
CLUSTER = f"/apis/{API_VERSION}/clustertrustpolicies/base"


def authority(ends: dt.datetime, name: str = "Acme Root") -> str:
    return issue(name, ca=True, begins=NOW - 400 * DAY, ends=ends).pem.decode()


def signed_by(pem: str, name: str = "release") -> dict[str, Any]:
    return {"name": name, "cosign": {"certificate": {"roots": pem, "email": "a@acme.io"}, "tlog": "ignore"}}


def written(*signers: dict[str, Any], images: tuple[str, ...] = ("ghcr.io/acme/**",)) -> dict[str, Any]:
    return {"images": list(images), "signers": list(signers)}


@pytest.fixture
def lab() -> Lab:
    found = Lab()
    found.now = NOW
    return found


def put(lab: Lab, spec: dict[str, Any], path: str = PATH) -> None:
    metadata = {"name": path.rpartition("/")[2], "generation": 1} | ({"namespace": "shop"} if path == PATH else {})
    before = lab.kube.objects.get(path)
    if before is not None:
        metadata["uid"] = before["metadata"]["uid"]
    kept = {"status": before["status"]} if before is not None and "status" in before else {}
    lab.policies.seen(lab.kube.put(path, {"metadata": metadata, "spec": spec, **kept}))


async def expiring(lab: Lab, path: str = PATH) -> tuple[str, str, str]:
    """Status, reason and message of the condition, as the leader writes it."""
    await lab.leader.statuses.write()
    for place in (PATH, CLUSTER):
        if place in lab.kube.objects:
            lab.policies.seen(lab.kube.objects[place])
    found = next(one for one in lab.kube.objects[path]["status"]["conditions"] if one["type"] == "Expiring")
    return found["status"], found["reason"], found["message"]


def told(lab: Lab) -> list[str]:
    return [one["reason"] for path, one in lab.kube.objects.items() if "/events/" in path]


async def test_f17_a_root_that_ends_is_told_a_month_before_with_what_it_breaks(lab: Lab) -> None:
    ends = NOW + SOON + DAY
    put(lab, written(signed_by(authority(ends)), images=("ghcr.io/acme/**", "quay.io/acme/web")))
    said = f'signer "release": certificate CN=Acme Root ends at {ends:%Y-%m-%dT%H:%M:%SZ}'
    assert await expiring(lab) == ("False", "NothingEndsSoon", f"the first end: {said}")
    assert told(lab) == []
    # Nobody writes anything; the day comes.
    lab.now = ends - SOON + dt.timedelta(seconds=1)
    assert await expiring(lab) == ("True", "EndsSoon", f"{said}. Concerned: ghcr.io/acme/**, quay.io/acme/web")
    assert told(lab) == ["PolicyEndsSoon"]
    lab.now += DAY
    lab.kube.asked.clear()
    await lab.leader.statuses.write()
    assert lab.writes() == []
    lab.now = ends
    status, reason, message = await expiring(lab)
    assert (status, reason) == ("True", "Expired")
    assert message.startswith(said.replace("ends at", "ended at"))
    # A successor alone, and all is well.
    put(lab, written(signed_by(authority(ends + 400 * DAY))))
    assert (await expiring(lab))[:2] == ("False", "NothingEndsSoon")


async def test_a_validity_and_evidence_of_hardware_end_too(lab: Lab) -> None:
    leaf = DEVICE.attest(key("a").private.public_key(), ends=NOW + 3 * DAY)
    put(lab, hardware_spec({**HARDWARE, "evidence": DEVICE.f9.pem + leaf}, cosign={"key": key("a").pem}))
    status, _, message = await expiring(lab)
    assert status == "True"
    assert 'signer "a": the evidence about YubiKey ' in message
    assert "2026-11-27T00:00:00Z" in message
    put(
        lab, written({"name": "old", "cosign": {"key": key("a").pem}, "validity": {"notAfter": "2026-11-25T00:00:00Z"}})
    )
    assert (await expiring(lab))[2].startswith('signer "old": its validity ends at 2026-11-25T00:00:00Z')
    assert ENDS > NOW


async def test_a_policy_that_refers_to_anothers_signer_is_told_of_its_end(lab: Lab) -> None:
    put(lab, written(signed_by(authority(NOW + DAY)), signed_by(authority(NOW + 2 * DAY, "Other"), "other")), CLUSTER)
    put(lab, written({"name": "theirs", "ref": {"name": "base/release"}}, images=("ghcr.io/acme/web",)))
    status, reason, message = await expiring(lab)
    assert (status, reason) == ("True", "EndsSoon")
    assert message == (
        'signer "theirs": certificate CN=Acme Root ends at 2026-11-25T00:00:00Z. Concerned: ghcr.io/acme/web'
    )
    put(lab, written(signed_by(authority(NOW + 400 * DAY))), CLUSTER)
    assert (await expiring(lab))[0] == "False"


async def test_a_reference_through_another_is_followed_and_one_to_nothing_is_not(lab: Lab) -> None:
    put(lab, written({"name": "theirs", "ref": {"name": "base/release"}}))
    assert (await expiring(lab))[0] == "False"
    put(lab, written({"name": "release", "ref": {"name": "deep/release"}}), CLUSTER)
    deep = CLUSTER.replace("base", "deep")
    put(lab, written(signed_by(authority(NOW + DAY))), deep)
    assert lab.policies.standing()[PolicyKey("shop", "web")].ends[0].signer == "theirs"


async def test_a_broken_policy_is_not_known_to_end(lab: Lab) -> None:
    put(lab, written(signed_by("nonsense")))
    assert (await expiring(lab))[:2] == ("Unknown", "Invalid")


def test_much_that_ends_is_told_in_few_words() -> None:
    ends = [SignerEnding(f"s{i}", Ending("certificate", f"certificate CN={i}", NOW + i * DAY)) for i in range(8)]
    _, reason, message = condition(ends, [f"ghcr.io/a{i}" for i in range(9)], NOW, Name("s0"))
    assert reason == "Expired"
    assert "CN=4" in message
    assert "CN=5" not in message
    assert "; and 3 more. Concerned: ghcr.io/a0, ghcr.io/a1, ghcr.io/a2, ghcr.io/a3, ghcr.io/a4, …" in message
    # What has ended hides nothing of what will.
    assert first_ends(ends, NOW) == {"certificate": NOW + DAY}


def ending(signer: str, days: int, kind: EndingKind = "certificate") -> SignerEnding:
    return SignerEnding(signer, Ending(kind, "something", NOW + days * DAY))


@pytest.mark.parametrize(
    ("require", "ends", "reason"),
    [
        ("any", [ending("a", -1, "validity")], "PartlyExpired"),
        ("any", [ending("a", -1, "validity"), ending("b", 5)], "EndsSoon"),
        ("any", [ending("a", -1, "validity"), ending("b", -1)], "Expired"),
        ("a", [ending("a", -1, "validity")], "Expired"),
        # Its root goes on, and does not help.
        ("a", [ending("a", -1, "validity"), ending("a", 400)], "Expired"),
        # A root beside its successor.
        ("a", [ending("a", -1), ending("a", 400)], "PartlyExpired"),
        ("b", [ending("a", -1)], "PartlyExpired"),
        ("a and b", [ending("a", 0)], "Expired"),
        ("2 of (a, b)", [ending("b", -1)], "Expired"),
        ("1 of (a, b)", [ending("b", -1)], "PartlyExpired"),
    ],
)
def test_f17_what_has_ended_is_a_fault_only_where_nothing_else_satisfies(
    require: str, ends: list[SignerEnding], reason: str
) -> None:
    demand = parse_require(require, ["a", "b"])
    assert condition(ends, ["**"], NOW, demand)[:2] == ("True", reason)
    assert is_over(demand, ends, NOW) is (reason == "Expired")
    assert not is_over(None, ends, NOW)


async def test_f17_after_a_rotation_the_metrics_tell_of_the_next_end(lab: Lab) -> None:
    metrics = Metrics()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"trusted_images_{name}", labels)

    gauge_expiries(metrics, lab.policies, lab.exceptions)
    now = hosting.now()
    old, new = (
        {"name": name, "cosign": {"key": key(name).pem}, "validity": {"notAfter": at.isoformat(timespec="seconds")}}
        for name, at in (("a", now - 30 * DAY), ("b", now + 30 * DAY))
    )
    put(lab, written(old, new))
    assert value("expiry_timestamp_seconds", kind="validity") == pytest.approx((now + 30 * DAY).timestamp(), abs=1)
    assert (value("ended", kind="validity"), value("policies_over")) == (1, 0)
    put(lab, written(old))
    assert value("expiry_timestamp_seconds", kind="validity") == float("inf")
    assert (value("ended", kind="validity"), value("policies_over")) == (1, 1)


async def test_d09_the_metrics_name_kinds_and_nothing_else(lab: Lab) -> None:
    metrics = Metrics()

    def seconds(kind: str) -> float | None:
        return metrics.registry.get_sample_value("trusted_images_expiry_timestamp_seconds", {"kind": kind})

    gauge_expiries(metrics, lab.policies, lab.exceptions)
    assert seconds("certificate") == float("inf")
    put(lab, written(signed_by(authority(NOW + 9 * DAY))))
    put(lab, written(signed_by(authority(NOW + 7 * DAY))), CLUSTER)
    assert seconds("certificate") == (NOW + 7 * DAY).timestamp()
    assert seconds("exception") == float("inf")
    from tests.policies import EXCEPTION

    at = hosting.now() + DAY
    spec = {**EXCEPTION, "expiresAt": at.isoformat(timespec="seconds")}
    path = f"/apis/{API_VERSION}/namespaces/shop/trustexceptions/hotfix"
    lab.exceptions.seen(lab.kube.put(path, {"metadata": {"name": "hotfix", "namespace": "shop"}, "spec": spec}))
    assert seconds("exception") == pytest.approx(at.timestamp(), abs=1)
    # What nobody approved lifts nothing, and so nothing ends with it.
    lab.exceptions.seen(
        lab.kube.put(path, {"metadata": {"name": "hotfix", "namespace": "shop"}, "spec": {**spec, "approvedBy": ""}})
    )
    assert seconds("exception") == float("inf")
    assert "Acme" not in json.dumps(metrics.render().decode())


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ({"images": 2, "first": "2026-12-01T00:00:00Z", "examples": ["shop/web: until …"]}, True),
        ({"images": 2, "first": "2026-12-01T00:00:00Z"}, True),
        ({"images": "many", "first": "2026-12-01T00:00:00Z"}, False),
        ({"images": 2, "first": "tomorrow"}, False),
        ({"images": 2}, False),
        ("soon", False),
        (None, False),
    ],
)
def test_d01_whatever_somebody_writes_into_a_status_is_read_or_is_not_there(ending: object, told: bool) -> None:
    status, reason, message = condition([], ["**"], NOW, Name("a"), {"ending": ending})
    assert (status, reason) == (("True", "RunningEndsSoon") if told else ("False", "NothingEndsSoon"))
    assert ("2 images of running containers could not be started again from 2026-12-01T00:00:00Z on" in message) is told
    assert condition([], ["**"], NOW, Name("a"), {"verdicts": ending})[0] == "False"


def test_what_runs_and_ends_stands_beside_what_has_ended() -> None:
    running = {"ending": {"images": 1, "first": "2026-12-01T00:00:00Z", "examples": ["shop/web: until …"]}}
    ends = [ending("a", -1), ending("a", 400)]
    assert condition(ends, ["**"], NOW, Name("a"))[1] == "PartlyExpired"
    _, reason, message = condition(ends, ["**"], NOW, Name("a"), running)
    assert reason == "EndsSoon"
    assert message.endswith(
        "Concerned: **. 1 images of running containers could not be started again from 2026-12-01T00:00:00Z on: shop/web: until …"
    )
    # What is over stays over.
    assert condition(ends[:1], ["**"], NOW, Name("a"), running)[1] == "Expired"


async def test_what_runs_and_revocation_lists_are_in_the_metrics(lab: Lab) -> None:
    metrics = Metrics()

    def seconds(kind: str) -> float | None:
        return metrics.registry.get_sample_value("trusted_images_expiry_timestamp_seconds", {"kind": kind})

    gauge_expiries(metrics, lab.policies, lab.exceptions)
    assert seconds("signature") == seconds("crl") == float("inf")
    metrics.running.ends(NOW + DAY, 3)
    metrics.lists.relied_on([End(NOW + 2 * DAY, "http://crl.test/")])
    assert (seconds("signature"), seconds("crl")) == ((NOW + DAY).timestamp(), (NOW + 2 * DAY).timestamp())
    metrics.running.clear()
    assert seconds("signature") == float("inf")
