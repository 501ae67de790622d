"""Records of what was verified, kept in the cluster by all replicas, and told of when they are used (attack M-05, fault F-33)."""

import asyncio
import base64
import datetime as dt
import itertools

import pytest

from tests.captures import NOW
from tests.fake.kube import FakeKube
from tests.operator.test_policies import INLINE, SHOP, World
from webhook import limits
from webhook.image import digest_of
from webhook.kube import KubeError
from webhook.memory import records as parts
from webhook.memory.records import OWNER, SHARDS, Record, RecordKey, Records
from webhook.operator import records as module
from webhook.operator.installation import Installation
from webhook.operator.outages import OutageEvents
from webhook.operator.records import ClusterRecords
from webhook.verdict import Borne, PolicyKey, Ruling, Tolerance, Undecided

INSTALLATION = Installation(namespace="ti")
SECRET = INSTALLATION.records_key_path
ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/trusted-images"


def named(number: int) -> RecordKey:
    return RecordKey(digest_of(b"%d" % number), b"o" * OWNER + b"what")


# Two of one part, and one of another.
ONE, TWO = next((a, b) for a, b in itertools.combinations(map(named, range(100)), 2) if a.shard == b.shard)
OTHER = next(one for one in map(named, range(100)) if one.shard != ONE.shard)
PATH = INSTALLATION.records_path(ONE.shard)


class Replica:
    def __init__(self, kube: FakeKube, most: int = limits.MAX_RECORDS) -> None:
        self.records = Records(most)
        self.kept = ClusterRecords(kube, INSTALLATION, self.records, lambda: NOW)

    async def verifies(self, *keys: RecordKey, at: dt.datetime = NOW, good: bool = True) -> None:
        for key in keys:
            self.records.learn(key, Record(at, good=good))
        await self.kept.write()

    async def starts(self) -> "Replica":
        await self.kept.read()
        return self

    def knows(self, key: RecordKey) -> bool:
        found = self.records.find(key)
        return found is not None and found.good


@pytest.fixture
def kube() -> FakeKube:
    kube = FakeKube()
    kube.put(ROLE, {})
    return kube


async def test_a_replica_that_starts_knows_what_others_verified(kube: FakeKube) -> None:
    one, other = Replica(kube), Replica(kube)
    await one.verifies(ONE, OTHER)
    await other.verifies(TWO)
    third = await Replica(kube).starts()
    assert all(map(third.knows, (ONE, TWO, OTHER)))
    # Both wrote the same part, and it holds what either knew.
    assert len([path for path in kube.objects if "/configmaps/" in path]) == 2
    for path in (PATH, SECRET):
        assert kube.objects[path]["metadata"]["ownerReferences"][0]["kind"] == "ClusterRole"
    assert kube.objects[PATH]["data"]["records"].count("\n") == 2
    assert str(ONE.digest) in kube.objects[PATH]["data"]["records"]


async def test_a_denial_that_another_replica_found_counts_here(kube: FakeKube) -> None:
    one, other = Replica(kube), Replica(kube)
    await one.verifies(ONE, at=NOW - dt.timedelta(minutes=2))
    await other.starts()
    assert other.knows(ONE)
    await one.verifies(ONE, at=NOW, good=False)
    await other.starts()
    assert not other.knows(ONE)


async def test_only_what_is_new_is_written_and_a_few_parts_at_a_time(kube: FakeKube) -> None:
    one = Replica(kube)
    many = list(map(named, range(200)))
    assert {key.shard for key in many} == set(range(SHARDS))
    await one.verifies(*many)
    written = [asked for asked in kube.asked if asked[0] != "GET" and "secrets" not in asked[1]]
    assert len(written) == 4
    while one.records.changed():
        await one.kept.write()
    kube.asked.clear()
    await one.verifies(*many, at=NOW + dt.timedelta(minutes=59))
    assert not kube.asked
    # What is there already is not written again.
    one.records.lost(ONE.shard)
    await one.kept.write()
    assert {method for method, _ in kube.asked} == {"GET"}


async def test_f33_what_cannot_be_written_is_written_later(kube: FakeKube, caplog: pytest.LogCaptureFixture) -> None:
    one = Replica(kube)
    kube.failing["/api/v1/namespaces/ti/configmaps"] = KubeError("the API server is down")
    await one.verifies(ONE)
    await one.starts()
    assert one.records.changed() == {ONE.shard}
    assert "is not kept yet: the API server is down" in caplog.text
    assert "cannot be read: the API server is down" in caplog.text
    caplog.clear()
    kube.failing["/api/v1/namespaces/ti/configmaps"] = KubeError("changed meanwhile", 409)
    await one.kept.write()
    assert not caplog.text
    kube.failing.clear()
    await one.kept.write()
    assert (await Replica(kube).starts()).knows(ONE)


async def test_the_same_part_written_by_two_at_once_loses_nothing(kube: FakeKube) -> None:
    await Replica(kube).verifies(OTHER)
    one, two = Replica(kube), Replica(kube)
    one.records.learn(ONE, Record(NOW))
    two.records.learn(TWO, Record(NOW))
    await asyncio.gather(one.kept.write(), two.kept.write())
    for replica in (one, two):
        await replica.kept.write()
    third = await Replica(kube).starts()
    assert third.knows(ONE)
    assert third.knows(TWO)


async def test_m05_what_none_of_us_wrote_is_nothing_and_is_written_over(
    kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = FakeKube()
    elsewhere.put(ROLE, {})
    await Replica(elsewhere).verifies(TWO)
    forged = elsewhere.objects[PATH]["data"]
    one = Replica(kube)
    await one.verifies(ONE, OTHER)
    good = kube.objects[PATH]["data"]
    another = kube.objects[INSTALLATION.records_path(OTHER.shard)]["data"]
    for data in (
        forged,
        another,
        {**good, "records": good["records"] + good["records"]},
        {"records": good["records"]},
        {"mac": good["mac"]},
        None,
    ):
        found = {name: value for name, value in kube.objects[PATH].items() if name != "data"}
        kube.put(PATH, {**found, "data": data})
        caplog.clear()
        fresh = await Replica(kube).starts()
        assert not fresh.knows(ONE)
        assert not fresh.knows(TWO)
        assert f"ConfigMap trusted-images-records-{ONE.shard} was not written by us" in caplog.text
        # Whoever knows better mends it.
        await one.starts()
        await one.kept.write()
        assert kube.objects[PATH]["data"] == good
        assert (await Replica(kube).starts()).knows(ONE)


async def test_m05_what_we_wrote_ourselves_is_read_strictly(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(parts, "write", lambda _: "no record\n")
        await Replica(kube).verifies(ONE)
    assert not (await Replica(kube).starts()).knows(ONE)
    assert "line 1 is no record" in caplog.text


async def test_replicas_agree_on_one_key_and_on_another_that_replaces_it(
    kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = Replica(kube), Replica(kube)
    await asyncio.gather(one.verifies(ONE), two.verifies(OTHER))
    assert (await Replica(kube).starts()).knows(ONE)
    assert two.kept._key == one.kept._key
    # Somebody removes it: all that was written by it is nothing, and is written anew by whoever knows it.
    kube.remove(SECRET)
    third = Replica(kube)
    await third.verifies(TWO)
    for _ in range(3):
        for replica in (one, two, third):
            await replica.starts()
            await replica.kept.write(SHARDS)
    caplog.clear()
    fresh = await Replica(kube).starts()
    assert all(map(fresh.knows, (ONE, TWO, OTHER)))
    assert not caplog.text


async def test_a_key_made_by_another_a_moment_before_is_taken(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    key = base64.b64encode(b"k" * 32).decode()
    create = kube.create

    async def late(path: str, body: dict[str, object]) -> dict[str, object]:
        if body["kind"] == "Secret":
            kube.put(SECRET, {"data": {"key": key}})
        return await create(path, body)

    monkeypatch.setattr(kube, "create", late)
    one = Replica(kube)
    await one.verifies(ONE)
    assert one.kept._key == b"k" * 32
    kube.failing[SECRET] = KubeError("forbidden", 403)
    other = Replica(kube)
    await other.verifies(OTHER)
    assert other.records.changed() == {OTHER.shard}


@pytest.mark.parametrize(
    "data", [{}, {"key": "short"}, {"key": "é"}, {"key": base64.b64encode(b"short").decode()}, None]
)
async def test_m05_a_secret_without_a_key_keeps_nothing(
    kube: FakeKube, data: object, caplog: pytest.LogCaptureFixture
) -> None:
    kube.put(SECRET, {"data": data})
    one = Replica(kube)
    await one.verifies(ONE)
    assert PATH not in kube.objects
    assert "holds no key of 32 bytes" in caplog.text


async def test_a_secret_that_may_not_be_made_keeps_nothing(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forbidden(*_: object) -> dict[str, object]:
        raise KubeError("forbidden", 403)

    monkeypatch.setattr(kube, "create", forbidden)
    one = Replica(kube)
    await one.verifies(ONE)
    assert PATH not in kube.objects
    assert one.records.changed() == {ONE.shard}


async def test_w11_nothing_is_made_that_would_stay_behind_when_the_release_goes(kube: FakeKube) -> None:
    one = Replica(kube)
    await one.verifies(OTHER)
    kube.put(ROLE, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    await one.verifies(ONE)
    assert PATH not in kube.objects
    kube.remove(ROLE)
    await one.kept.write()
    assert PATH not in kube.objects


async def test_d09_a_part_is_bounded_whatever_others_wrote(kube: FakeKube) -> None:
    crowded = [key for key in map(named, range(3000)) if key.shard == ONE.shard][:100]
    for start in range(0, 100, 50):
        for number, key in enumerate(crowded[start : start + 50]):
            one = Replica(kube, most=160)
            await one.starts()
            await one.verifies(key, at=NOW - dt.timedelta(minutes=100 - start - number))
    assert kube.objects[PATH]["data"]["records"].count("\n") == 21


async def test_it_works_until_it_is_stopped_and_writes_what_is_left(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WRITE_SECONDS", 0.01)
    one, two = Replica(kube), Replica(kube)
    working = asyncio.create_task(one.kept.work())
    await two.verifies(OTHER)
    async with asyncio.timeout(5):
        while not one.knows(OTHER):
            await asyncio.sleep(0.01)
    one.records.learn(ONE, Record(NOW))
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert (await Replica(kube).starts()).knows(ONE)


# ── told ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def borne(image: str = "ghcr.io/a/b:v1", uid: str = "u1", policy: PolicyKey | None = SHOP) -> Borne:
    outcome = Undecided(("the registry is down",), outage=True)
    ruling = Ruling(("spec.containers[0].image",), image, policy, outcome, tolerance=Tolerance(NOW))
    return Borne((ruling,), "shop", "web-1" if uid else "", uid, NOW)


async def test_the_pod_and_the_policy_are_told_and_the_policy_not_again_and_again() -> None:
    world, seconds = World(), [0.0]
    world.policies.seen(world.policy(INLINE))
    events = OutageEvents(world.kube, world.policies, lambda: seconds[0])
    (key,) = world.policies.in_force

    def told() -> list[str]:
        found = [one["involvedObject"]["kind"] for path, one in world.kube.objects.items() if "/events/" in path]
        return sorted(found)

    await events.tell_of(borne(policy=key))
    assert told() == ["Pod", "TrustPolicy"]
    event = next(one for path, one in world.kube.objects.items() if "/events/" in path)
    assert (event["type"], event["reason"]) == ("Warning", "AdmittedInOutage")
    assert "let in by onOutage: last-known-good, verified at 2026-11-24T00:38:00Z: could not verify" in event["message"]
    await events.tell_of(borne(uid="u2", policy=key))
    assert told() == ["Pod", "Pod", "TrustPolicy"]
    await events.tell_of(borne("ghcr.io/a/c:v1", uid="", policy=key))
    assert told() == ["Pod", "Pod", "TrustPolicy", "TrustPolicy"]
    seconds[0] = 601
    await events.tell_of(borne(uid="", policy=key))
    assert told() == ["Pod", "Pod", "TrustPolicy", "TrustPolicy", "TrustPolicy"]
    # A policy that is gone meanwhile hears nothing.
    await events.tell_of(borne(uid="", policy=PolicyKey(None, "gone")))
    await events.tell_of(borne(uid="", policy=None))
    assert len(told()) == 5


async def test_f33_telling_fails_nothing_and_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "MAX_UNTOLD_USES", 2)
    caplog.set_level("INFO")
    world = World()
    events = OutageEvents(world.kube, world.policies)
    world.kube.failing["/api/v1/namespaces/shop/events"] = KubeError("full", 507)
    for number in range(3):
        events.tell(borne(uid=f"u{number}"))
    assert "Pod shop/web-1, let in during an outage, is told nobody" in caplog.text
    working = asyncio.create_task(events.work())
    async with asyncio.timeout(5):
        while caplog.text.count("an Event about Pod web-1 was not written: full") < 2:
            await asyncio.sleep(0.01)
    working.cancel()
