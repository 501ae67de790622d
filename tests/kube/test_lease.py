"""One leader at a time, and never a wait for one (fault F29)."""

import asyncio

import pytest

from tests.fake.kube import FakeKube
from webhook.kube import KubeError, lease
from webhook.kube.lease import DURATION, Lease

PATH = "/apis/coordination.k8s.io/v1/namespaces/ti/leases/trusted-images"


async def nobody() -> None:
    """Nothing that the Lease goes with."""


class Candidate:
    """A replica that counts how often it began to lead, and whether it leads now."""

    def __init__(self, kube: FakeKube, name: str, clock: list[float]) -> None:
        self.lease = Lease(kube, "ti", "trusted-images", name, nobody, lambda: clock[0])
        self.began = 0
        self.leads = False
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.lease.lead(self.work))

    async def work(self) -> None:
        self.began += 1
        self.leads = True
        try:
            await asyncio.sleep(3600)
        finally:
            self.leads = False

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Attempts follow one another at once; time passes only when a test says so."""
    monkeypatch.setattr(lease, "RENEW", 0.001)
    return [1000.0]


async def settled() -> None:
    await asyncio.sleep(0.05)


async def test_f29_of_several_one_leads(clock: list[float]) -> None:
    kube = FakeKube()
    candidates = [Candidate(kube, name, clock) for name in "abc"]
    for candidate in candidates:
        candidate.start()
    await settled()
    assert sum(candidate.leads for candidate in candidates) == 1
    for candidate in candidates:
        await candidate.stop()


async def test_f29_one_that_says_goodbye_is_followed_at_once(clock: list[float]) -> None:
    kube = FakeKube()
    first, second = Candidate(kube, "a", clock), Candidate(kube, "b", clock)
    first.start()
    await settled()
    second.start()
    await settled()
    assert (first.leads, second.leads) == (True, False)
    await first.stop()
    await first.lease.release()
    await settled()
    assert second.leads
    assert kube.objects[PATH]["spec"]["leaseTransitions"] == 2
    await first.lease.release()  # it is another's by now
    assert kube.objects[PATH]["spec"]["holderIdentity"] == "b"
    await second.stop()


async def test_f29_one_that_died_is_followed_when_its_lease_has_not_changed_for_long(clock: list[float]) -> None:
    kube = FakeKube()
    kube.put(PATH, {"spec": {"holderIdentity": "dead", "renewTime": "2999-01-01T00:00:00Z"}})
    second = Candidate(kube, "b", clock)
    second.start()
    await settled()
    clock[0] += DURATION - 1
    await settled()
    leads = [second.leads]
    clock[0] += 2
    await settled()
    assert [*leads, second.leads] == [False, True]
    await second.stop()


async def test_f29_a_leader_that_cannot_renew_stops_before_another_may_start(clock: list[float]) -> None:
    kube = FakeKube()
    first = Candidate(kube, "a", clock)
    first.start()
    await settled()
    kube.failing[PATH] = KubeError("down")
    await settled()
    leads = [first.leads]
    clock[0] += lease._GIVE_UP + 1
    await settled()
    assert [*leads, first.leads] == [True, False]
    assert lease._GIVE_UP < DURATION
    kube.failing.clear()
    await settled()
    assert (first.leads, first.began) == (True, 2)
    await first.stop()


async def test_f29_a_leader_that_lost_its_lease_stops(clock: list[float]) -> None:
    kube = FakeKube()
    first = Candidate(kube, "a", clock)
    first.start()
    await settled()
    kube.put(PATH, {"spec": {"holderIdentity": "b", "renewTime": "x"}})
    await settled()
    assert not first.leads
    await first.stop()


async def test_work_that_fails_is_begun_anew(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    kube = FakeKube()
    began = 0

    async def work() -> None:
        nonlocal began
        began += 1
        raise ValueError("broken")

    task = asyncio.create_task(Lease(kube, "ti", "trusted-images", "a", nobody, lambda: clock[0]).lead(work))
    await settled()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert began > 1
    assert "begins anew" in caplog.text


async def test_f33_work_that_fails_at_once_is_not_begun_as_fast_as_the_api_server_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "RENEW", 60)
    kube, began = FakeKube(), 0

    async def work() -> None:
        nonlocal began
        began += 1
        raise ValueError("broken")

    task = asyncio.create_task(Lease(kube, "ti", "trusted-images", "a", nobody).lead(work))
    await settled()
    asked = len(kube.asked)
    await settled()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (began, len(kube.asked)) == (1, asked)


async def test_an_api_server_that_is_down_keeps_nobody_from_leaving(caplog: pytest.LogCaptureFixture) -> None:
    kube = FakeKube()
    kube.failing[PATH] = KubeError("down")
    await Lease(kube, "ti", "trusted-images", "a", nobody).release()
    assert "was not given back" in caplog.text


async def test_w11_the_lease_goes_with_the_release(clock: list[float]) -> None:
    kube = FakeKube()
    owner = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "trusted-images", "uid": "u"}

    async def find_owner() -> dict[str, str]:
        return owner

    candidate = Candidate(kube, "a", clock)
    candidate.lease = Lease(kube, "ti", "trusted-images", "a", find_owner, lambda: clock[0])
    candidate.start()
    await settled()
    assert kube.objects[PATH]["metadata"]["ownerReferences"] == [owner]
    # It stays there when it is renewed, and given back.
    await candidate.stop()
    await candidate.lease.release()
    assert kube.objects[PATH]["metadata"]["ownerReferences"] == [owner]
