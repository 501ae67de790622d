"""Exceptions of a cluster: followed, judged, counted without races, and told (attacks M-07, K-07; faults F20 to F23, F33)."""

import asyncio
import datetime as dt
import logging
from typing import Any

import pytest

from tests import captures
from tests.fake.kube import FakeKube
from tests.operator.test_policies import World
from tests.policies import EXCEPTION
from webhook import limits
from webhook.kube import KubeError
from webhook.memory.store import PolicyStore
from webhook.operator import resync, uses
from webhook.operator.exceptions import Exceptions, path_of
from webhook.operator.exceptionstatus import ExceptionStatuses, state_of, status_of
from webhook.operator.uses import ClusterUses
from webhook.policy.document import API_VERSION
from webhook.policy.exception import TrustException
from webhook.trust import Unavailable
from webhook.verdict import Denied, ExceptionKey, PolicyKey, Ruling, Use

KEY = ExceptionKey("shop", "hotfix")
PATH = path_of(KEY)
ENDS = dt.datetime(2026, 12, 31, 12, tzinfo=dt.UTC)


class Cluster:
    """An API server with one exception; each replica has its own view of it."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.now = captures.NOW

    def write(self, path: str = PATH, status: Any = None, **fields: Any) -> dict[str, Any]:
        spec = {name: value for name, value in {**EXCEPTION, **fields}.items() if value is not None}
        before = self.kube.objects.get(path)
        metadata = {"name": path.rpartition("/")[2], "namespace": "shop", "generation": 1}
        if before is not None:
            metadata["uid"] = before["metadata"]["uid"]
            status = status or before.get("status")
        return self.kube.put(path, {"metadata": metadata, "spec": spec} | ({"status": status} if status else {}))

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.kube.objects[PATH].get("status", {})
        return found


class Replica:
    """What one process holds."""

    def __init__(self, cluster: Cluster, notifier: Any = None) -> None:
        self.store = PolicyStore()
        self.exceptions = Exceptions(self.store)
        self.uses = ClusterUses(cluster.kube, self.exceptions, lambda: cluster.now, notifier)
        for path, found in cluster.kube.objects.items():
            if "/trustexceptions/" in path:
                self.exceptions.seen(found)

    @property
    def exception(self) -> TrustException:
        return self.store.snapshot.exceptions["shop"][0]

    async def spend(self, one: TrustException | None = None, seconds: float = 5) -> bool:
        return await self.uses.spend(one or self.exception, asyncio.get_running_loop().time() + seconds)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def names(store: PolicyStore) -> list[str]:
    return [one.key.name for of_namespace in store.snapshot.exceptions.values() for one in of_namespace]


# ── following ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_f20_f22_events_and_lists_in_any_order(cluster: Cluster) -> None:
    store = PolicyStore()
    exceptions = Exceptions(store)
    first = cluster.write()
    second = cluster.write(approvedBy=None)
    exceptions.seen(second)
    exceptions.seen(first)
    exceptions.gone(first)
    assert store.snapshot.exceptions["shop"][0].approved_by is None
    new = cluster.write(f"{PATH}-2")
    # A list that began before the event undoes it not; a later one does.
    exceptions.seen(new)
    exceptions.listed([second], str(int(new["metadata"]["resourceVersion"]) - 1))
    assert names(store) == ["hotfix", "hotfix-2"]
    exceptions.listed([second], new["metadata"]["resourceVersion"])
    assert names(store) == ["hotfix"]
    exceptions.gone(second)
    exceptions.gone(second)
    assert names(store) == []
    assert not store.snapshot.exceptions


def test_f23_a_broken_exception_lifts_nothing_touches_no_other_and_heals(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    replica = Replica(cluster)
    good = cluster.write(f"{PATH}-good")
    replica.exceptions.seen(good)
    for fields in ({"images": ["web:v1"]}, {"approvedBy": "alice"}, {"expiresAt": "tomorrow"}):
        replica.exceptions.seen(cluster.write())
        assert len(replica.store.snapshot.exceptions["shop"]) == 2
        replica.exceptions.seen(cluster.write(**fields))
        assert [one.key.name for one in replica.store.snapshot.exceptions["shop"]] == ["hotfix-good"]
        assert state_of(replica.exceptions.known[KEY], captures.NOW) == "broken"
    assert "exception shop/hotfix is broken and lifts nothing: spec.images[0]: " in caplog.text
    count = len(caplog.records)
    replica.exceptions.seen(cluster.write(expiresAt="tomorrow", status={"uses": 1}))
    assert len(caplog.records) == count
    replica.exceptions.listed([cluster.kube.objects[PATH], good], "999999")
    assert [one.key.name for one in replica.store.snapshot.exceptions["shop"]] == ["hotfix-good"]


def test_a_written_status_changes_nothing_that_answers_rest_on(cluster: Cluster) -> None:
    cluster.write()
    replica = Replica(cluster)
    before = replica.store.snapshot
    replica.exceptions.seen(cluster.write(status={"uses": 3, "active": True}))
    assert replica.store.snapshot is before
    assert replica.exceptions.known[KEY].uses == 3


async def test_f21_exceptions_that_cannot_be_listed_keep_nobody_from_being_judged(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.kube.failing[f"/apis/{API_VERSION}/trustexceptions"] = KubeError("no such kind", 404)
    await resync.first_list(world.kube, world.policies, world.exceptions, world.store)
    assert world.store.is_ready
    assert "the exceptions cannot be read: no such kind" in caplog.text
    world.kube.failing.clear()
    world.kube.put(PATH, cluster.write())
    await resync.list_once(world.kube, world.policies, world.exceptions, world.store)
    assert "shop" in world.store.snapshot.exceptions


# ── counting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_m07_of_two_replicas_that_take_the_last_use_one_gets_it(cluster: Cluster) -> None:
    cluster.write(maxUses=1)
    one, two = Replica(cluster), Replica(cluster)
    real, met = cluster.kube.merge, asyncio.Event()
    arrived = 0

    async def merge(path: str, body: dict[str, Any]) -> dict[str, Any]:
        # Both have read that one is left before either writes.
        nonlocal arrived
        arrived += 1
        if arrived == 2:
            met.set()
        await met.wait()
        return await real(path, body)

    cluster.kube.merge = merge  # type: ignore[method-assign]  # an API server on which two meet
    assert sorted(await asyncio.gather(one.spend(), two.spend())) == [False, True]
    assert cluster.status["uses"] == 1
    assert cluster.status["lastUsed"] == "2026-11-24T00:38:00Z"
    assert one.uses.is_used_up(one.exception)
    assert two.uses.is_used_up(two.exception)


async def test_m07_no_number_of_replicas_and_reviews_spends_more_than_there_is(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "_TRIES", 100)
    monkeypatch.setattr(uses, "_PAUSE_SECONDS", 0.0)
    cluster.write(maxUses=7)
    real = cluster.kube.request

    async def request(*args: Any, **kwargs: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return await real(*args, **kwargs)

    cluster.kube.request = request  # type: ignore[method-assign]  # each request takes a turn
    replicas = [Replica(cluster) for _ in range(3)]
    got = await asyncio.gather(*(replica.spend() for replica in replicas for _ in range(5)))
    assert sum(got) == 7
    assert cluster.status["uses"] == 7


async def test_one_that_was_withdrawn_or_changed_meanwhile_lets_nobody_in(cluster: Cluster) -> None:
    cluster.write(maxUses=5)
    replica = Replica(cluster)
    changes: list[dict[str, Any]] = [{"approvedBy": None}, {"expiresAt": "2026-12-01T00:00:00Z"}, {"maxUses": 6}]
    for fields in changes:
        cluster.write(**{"maxUses": 5, **fields})
        with pytest.raises(Unavailable, match="it has been changed meanwhile"):
            await replica.spend()
    cluster.write(maxUses=5)
    assert await replica.spend()
    # One of the same name made anew has its own approval, and its own count.
    spec = cluster.kube.objects[PATH]["spec"]
    cluster.kube.remove(PATH)
    with pytest.raises(Unavailable, match="it is not there any more"):
        await replica.spend()
    cluster.kube.put(PATH, {"metadata": {"namespace": "shop"}, "spec": spec})
    with pytest.raises(Unavailable, match="it is not there any more"):
        await replica.spend()


async def test_f21_a_use_that_cannot_be_written_is_unavailable(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.write(maxUses=5)
    replica = Replica(cluster)
    cluster.kube.failing[f"{PATH}/status"] = KubeError("forbidden", 403)
    with pytest.raises(Unavailable, match="forbidden"):
        await replica.spend()
    monkeypatch.setattr(uses, "_PAUSE_SECONDS", 0.0)
    cluster.kube.failing[f"{PATH}/status"] = KubeError("conflict", 409)
    with pytest.raises(Unavailable, match="others write to it all the time"):
        await replica.spend()
    cluster.kube.failing.clear()
    cluster.write(maxUses=5, status={"uses": "many"})
    with pytest.raises(Unavailable, match=r"status\.uses"):
        await replica.spend()
    real = cluster.kube.request

    async def never(*_: Any, **__: Any) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    cluster.kube.request = never  # type: ignore[method-assign]  # silence
    with pytest.raises(Unavailable, match="no answer in time"):
        await replica.spend(seconds=0.02)
    cluster.kube.request = real  # type: ignore[method-assign]  # back again
    cluster.write(maxUses=5, status={"uses": 1})
    assert await replica.spend()
    assert cluster.status["uses"] == 2


async def test_what_is_left_is_known_without_asking(cluster: Cluster) -> None:
    cluster.write(maxUses=2, status={"uses": 1})
    replica = Replica(cluster)
    one = replica.exception
    assert not replica.uses.is_used_up(one)
    assert await replica.spend()
    # Before the event about it comes back.
    assert replica.uses.is_used_up(one)
    assert not await replica.spend()
    cluster.write(maxUses=3)
    replica.exceptions.seen(cluster.kube.objects[PATH])
    assert not replica.uses.is_used_up(replica.exception)
    cluster.write(maxUses=None)
    replica.exceptions.seen(cluster.kube.objects[PATH])
    assert not replica.uses.is_used_up(replica.exception)
    assert await replica.spend()


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Mailbox:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


def used(replica: Replica, name: str = "web-1", uid: str = "uid-1") -> Use:
    excuse = replica.exception.excuse(captures.NOW)
    assert excuse is not None
    ruling = Ruling(
        ("spec.containers[0].image",), "ghcr.io/a/b:v1", PolicyKey("shop", "web"), Denied(("no",)), excuse=excuse
    )
    return Use(excuse, (ruling,), "shop", name, uid, captures.NOW)


def events(cluster: Cluster) -> list[dict[str, Any]]:
    return [found for path, found in cluster.kube.objects.items() if "/events/" in path]


async def test_each_use_is_told_on_the_exception_on_the_pod_and_to_the_address(cluster: Cluster) -> None:
    cluster.write()
    mailbox = Mailbox()
    replica = Replica(cluster, mailbox)
    await replica.uses.tell_of(used(replica))
    on_exception, on_pod = events(cluster)
    assert {event["reason"] for event in (on_exception, on_pod)} == {"ExceptionUsed"}
    assert on_exception["involvedObject"] == {
        "apiVersion": API_VERSION, "kind": "TrustException", "name": "hotfix", "namespace": "shop",
        "uid": cluster.kube.objects[PATH]["metadata"]["uid"],
    }  # fmt: skip
    assert on_exception["message"].startswith(
        "Pod shop/web-1: spec.containers[0].image ghcr.io/a/b:v1: policy shop/web: let in by"
    )
    assert (on_pod["involvedObject"]["kind"], on_pod["involvedObject"]["uid"]) == ("Pod", "uid-1")
    assert [message["pod"] for message in mailbox.sent] == ["web-1"]
    # A Pod that has no name yet, and an exception that is gone: told as far as it can be.
    use = used(replica, "", "")
    replica.exceptions.gone(cluster.kube.objects[PATH])
    await replica.uses.tell_of(use)
    assert len(events(cluster)) == 3
    cluster.kube.failing["/api/v1/namespaces/shop/events"] = KubeError("forbidden", 403)
    await replica.uses.tell_of(use)
    assert len(mailbox.sent) == 3


async def test_uses_without_a_bound_are_counted_behind_the_answer(cluster: Cluster) -> None:
    cluster.write()
    replica = Replica(cluster)
    for _ in range(3):
        replica.uses.tell(used(replica))
    cluster.kube.failing[f"{PATH}/status"] = KubeError("down")
    await replica.uses.count_owed()
    assert "uses" not in cluster.status
    cluster.kube.failing.clear()
    await replica.uses.count_owed()
    assert cluster.status["uses"] == 3
    await replica.uses.count_owed()
    assert cluster.status["uses"] == 3
    # What is used while it is written down is owed still.
    replica.uses.tell(used(replica))
    real = cluster.kube.merge

    async def merge(path: str, body: dict[str, Any]) -> dict[str, Any]:
        cluster.kube.merge = real  # type: ignore[method-assign]  # once
        replica.uses.tell(used(replica))
        return await real(path, body)

    cluster.kube.merge = merge  # type: ignore[method-assign]  # an API server that takes its time
    await replica.uses.count_owed()
    assert cluster.status["uses"] == 4
    await replica.uses.count_owed()
    assert cluster.status["uses"] == 5
    # Two replicas add up.
    other = Replica(cluster)
    for one in (replica, other):
        one.uses.tell(used(one))
        await one.uses.count_owed()
    assert cluster.status["uses"] == 7
    # What is gone is owed nothing.
    replica.uses.tell(used(replica))
    use = used(replica)
    replica.exceptions.gone(cluster.kube.objects[PATH])
    replica.uses.tell(use)
    cluster.kube.asked.clear()
    await replica.uses.count_owed()
    assert cluster.kube.asked == []


async def test_those_with_a_bound_are_not_counted_twice(cluster: Cluster) -> None:
    cluster.write(maxUses=5)
    replica = Replica(cluster)
    assert await replica.spend()
    replica.uses.tell(used(replica))
    await replica.uses.count_owed()
    assert cluster.status["uses"] == 1


async def test_d09_what_nobody_can_be_told_of_in_time_is_dropped_and_counted_all_the_same(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "MAX_UNTOLD_USES", 2)
    monkeypatch.setattr(uses, "_COUNT_SECONDS", 0.01)
    cluster.write()
    replica = Replica(cluster)
    for _ in range(5):
        replica.uses.tell(used(replica))
    assert caplog.text.count("a use of exception shop/hotfix is told nobody: 2 wait already") == 3
    working = asyncio.create_task(replica.uses.work())
    async with asyncio.timeout(5):
        while cluster.status.get("uses") != 5 or len(events(cluster)) < 4:
            await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert len(events(cluster)) == 4


# ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────────

POLICIES = {PolicyKey("shop", "web")}


@pytest.mark.parametrize(
    ("fields", "status", "now", "active", "reason", "message"),
    [
        ({}, None, captures.NOW, True, "InForce", "approved by bob, until 2026-12-31T12:00:00Z"),
        ({"approvedBy": None}, None, captures.NOW, False, "NotApproved",
         "it lifts nothing until somebody other than alice sets approvedBy"),
        ({}, None, ENDS, False, "Expired", "it lifts nothing since 2026-12-31T12:00:00Z"),
        ({"maxUses": 2}, {"uses": 1}, captures.NOW, True, "InForce", "approved by bob, until 2026-12-31T12:00:00Z"),
        ({"maxUses": 2}, {"uses": 2}, captures.NOW, False, "UsedUp", "it has let in 2 Pods of 2"),
        ({"images": ["web:v1"]}, None, captures.NOW, False, "Invalid", "it lifts nothing: spec.images[0]: web:v1: a tag"),
        ({"policies": ["web", "tpyo", "cluster/x"]}, None, captures.NOW, True, "InForce",
         "approved by bob, until 2026-12-31T12:00:00Z; there is no policy cluster/x, shop/tpyo"),
    ],
)  # fmt: skip
def test_m10_the_status_says_whether_it_counts_and_why_not(
    cluster: Cluster, fields: Any, status: Any, now: dt.datetime, active: bool, reason: str, message: str
) -> None:
    cluster.write(status=status, **fields)
    known = Replica(cluster).exceptions.known[KEY]
    written = status_of(known, POLICIES, now)
    (condition,) = written["conditions"]
    assert (written["active"], condition["type"], condition["reason"]) == (active, "Active", reason)
    assert condition["status"] == str(active)
    assert condition["message"].startswith(message)
    assert written["observedGeneration"] == condition["observedGeneration"] == 1
    assert "uses" not in written


async def test_the_leader_writes_what_time_changes_and_nothing_else(cluster: Cluster) -> None:
    cluster.write(maxUses=2)
    replica = Replica(cluster)
    statuses = ExceptionStatuses(cluster.kube, replica.exceptions, lambda: POLICIES, lambda: cluster.now)

    async def round_of_the_leader() -> int:
        cluster.kube.asked.clear()
        await statuses.write()
        replica.exceptions.seen(cluster.kube.objects[PATH])
        return len(cluster.kube.asked)

    assert await round_of_the_leader() == 1
    assert cluster.status["active"] is True
    assert [await round_of_the_leader() for _ in range(3)] == [0, 0, 0]
    # A use in between is kept.
    assert await replica.spend()
    replica.exceptions.seen(cluster.kube.objects[PATH])
    assert await round_of_the_leader() == 0
    assert cluster.status["uses"] == 1
    changed = cluster.status["conditions"][0]["lastTransitionTime"]
    cluster.now = ENDS
    assert await round_of_the_leader() == 1
    (condition,) = cluster.status["conditions"]
    assert (condition["reason"], cluster.status["uses"]) == ("Expired", 1)
    assert condition["lastTransitionTime"] == "2026-12-31T12:00:00Z" != changed
    assert [await round_of_the_leader() for _ in range(2)] == [0, 0]
    # Of one that is gone nothing is remembered, so that one made anew is told of again.
    replica.exceptions.gone(cluster.kube.objects[PATH])
    await statuses.write()
    assert not statuses._written


@pytest.mark.parametrize("ends", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
async def test_t11_an_exception_may_end_at_either_end_of_the_calendar(cluster: Cluster, ends: str) -> None:
    cluster.write(expiresAt=ends)
    replica = Replica(cluster)
    await ExceptionStatuses(cluster.kube, replica.exceptions, lambda: POLICIES, lambda: cluster.now).write()
    assert cluster.status["active"] is ends.startswith("9999")


async def test_f33_a_status_that_cannot_be_written_stops_no_other(
    cluster: Cluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("webhook.operator.exceptionstatus._SECONDS", 0.01)
    cluster.write()
    cluster.write(f"{PATH}-2")
    replica = Replica(cluster)
    cluster.kube.failing[f"{PATH}/status"] = KubeError("changed", 409)
    statuses = ExceptionStatuses(cluster.kube, replica.exceptions, lambda: POLICIES, lambda: cluster.now)
    working = asyncio.create_task(statuses.work())
    async with asyncio.timeout(5):
        while "status" not in cluster.kube.objects[f"{PATH}-2"]:
            await asyncio.sleep(0.01)
        assert "the status of exception shop/hotfix was not written: changed" in caplog.text
        cluster.kube.failing.clear()
        while not cluster.status:
            await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
