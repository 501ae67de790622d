"""The statuses of many policies: a few at a time, the new ones first, and nothing without need (F-33, F-29)."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake.apiserver import FakeAPIServer, api_server
from tests.fake.kubeconfig import write_kubeconfig
from tests.operator.test_leader import INSTALLATION, Lab
from tests.operator.test_policies import INLINE
from webhook import limits
from webhook.kube import KubeError
from webhook.kube.client import connected
from webhook.kube.writes import Writes
from webhook.operator import leader, status, statuses
from webhook.operator.leader import Leader
from webhook.operator.onduty import OnDuty
from webhook.operator.policies import InForce
from webhook.verdict import PolicyKey

ROOT = "/apis/trusted-images.dev/v1alpha1/namespaces/shop/trustpolicies"


class Many(Lab):
    """Many policies."""

    def put(self, name: str, spec: dict[str, Any] = INLINE, status: dict[str, Any] | None = None) -> None:
        metadata = {"name": name, "namespace": "shop", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
        self.policies.seen(
            self.kube.put(f"{ROOT}/{name}", {"metadata": metadata, "spec": spec, "status": status or {}})
        )

    def hear(self) -> None:
        """What was written comes back, as events of the objects."""
        for path, document in list(self.kube.objects.items()):
            if path.startswith(ROOT):
                self.policies.seen(document)

    def told(self) -> list[str]:
        """The names of those whose status was written since the last time, in their order."""
        found = [path.split("/")[-2] for method, path in self.kube.asked if method == "PATCH"]
        self.kube.asked.clear()
        return found


@pytest.fixture
def lab() -> Many:
    return Many()


async def test_a_round_writes_so_many_and_a_new_policy_comes_before_the_rest(lab: Many) -> None:
    count = limits.MAX_STATUSES
    for i in range(count + 10):
        lab.put(f"old-{i}")
    await lab.leader.statuses.write()
    assert lab.told() == [f"old-{i}" for i in range(count)]
    await lab.leader.statuses.write()
    assert len(lab.told()) == 10
    lab.hear()
    # Something is said about all of them; all of it is to be said anew.
    lab.leader.statuses._said.clear()
    for i in range(count + 10):
        path = f"{ROOT}/old-{i}"
        changed = {**lab.kube.objects[path]["metadata"], "generation": 2}
        lab.kube.put(path, {**lab.kube.objects[path], "metadata": changed})
    lab.hear()
    lab.put("new")
    await lab.leader.statuses.write()
    assert lab.told() == ["new", *(f"old-{i}" for i in range(count - 1))]


async def test_a_quiet_round_asks_nothing_and_opens_no_document(lab: Many, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(30):
        lab.put(f"p{i}")
    await lab.leader.statuses.write()
    lab.hear()
    # Another leader looks once whether anything is to be written.
    for one in (lab.leader, Leader(lab.kube, lab.policies, INSTALLATION, lambda: lab.now, lab.reaches, lab.duty())):
        await one.statuses.write()
        assert len(lab.told()) in {0, 30}
    opened: list[object] = []
    monkeypatch.setattr("webhook.operator.policies.Written.document", property(opened.append))
    await lab.leader.statuses.write()
    assert (lab.told(), opened) == ([], [])


async def test_f33_what_fails_again_and_again_comes_last(lab: Many) -> None:
    lab.put("stuck")
    count = limits.MAX_STATUSES
    for i in range(count):
        lab.put(f"p{i}")
    lab.kube.failing[f"{ROOT}/stuck"] = KubeError("500 internal error", 500)
    await lab.leader.statuses.write()
    assert lab.told()[0] == "stuck"
    await lab.leader.statuses.write()
    assert lab.told() == [f"p{count - 1}", "stuck"]
    lab.kube.failing.clear()
    await lab.leader.statuses.write()
    assert lab.told() == ["stuck"]
    assert "status" in lab.kube.objects[f"{ROOT}/stuck"]


async def test_a_policy_that_is_gone_meanwhile_is_forgotten(lab: Many) -> None:
    lab.put("web")
    lab.kube.failing[ROOT] = KubeError("not now", 500)
    await lab.leader.statuses.write()
    lab.policies.gone({**lab.kube.objects[f"{ROOT}/web"]})
    lab.kube.failing.clear()
    lab.told()
    for _ in range(2):
        await lab.leader.statuses.write()
    assert lab.told() == []


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeAPIServer]:
    """An API server over HTTP."""
    async with api_server() as found:
        file = write_kubeconfig(tmp_path, found.url)
        monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
        yield found


async def test_f33_an_api_server_that_says_429_is_not_hammered(lab: Many, server: FakeAPIServer) -> None:
    lab.kube = server
    for i in range(100):
        lab.put(f"p{i}")
    seconds = [0.0]
    async with connected() as kube:
        leader = Leader(kube, lab.policies, INSTALLATION, lambda: lab.now, lab.reaches, lab.duty())
        leader.statuses.writes = Writes(lambda: seconds[0])
        server.failing[ROOT] = KubeError("too many requests", 429, 5)
        for seconds[0] in (0.0, 2.0, 4.0):
            await leader.statuses.write()
        assert len(lab.told()) == limits.MAX_WRITES_AT_ONCE
        server.failing.clear()
        seconds[0] = 5.0
        await leader.statuses.write()
        assert len(lab.told()) == 100
    assert all("status" in one for path, one in server.objects.items() if path.startswith(ROOT))


async def test_f29_a_leader_that_is_one_no_longer_leaves_nothing_behind(lab: Many) -> None:
    for i in range(100):
        lab.put(f"p{i}")
    real, stuck = lab.kube.merge, asyncio.Event()

    async def merge(path: str, body: dict[str, object]) -> dict[str, object]:
        lab.kube.asked.append(("PATCH", path))
        await stuck.wait()
        return await real(path, body)

    lab.kube.merge = merge  # type: ignore[method-assign]  # an API server that takes its time
    task = asyncio.create_task(lab.leader.work())
    while len(lab.kube.asked) < limits.MAX_WRITES_AT_ONCE:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    lab.kube.merge = real  # type: ignore[method-assign]  # as it was
    lab.kube.asked.clear()
    assert len(asyncio.all_tasks()) == 1
    # Whoever leads next goes on.
    await Leader(lab.kube, lab.policies, INSTALLATION, lambda: lab.now, lab.reaches, lab.duty()).statuses.write()
    assert len(lab.told()) == 100
    assert PolicyKey("shop", "p99") in lab.policies.in_force


async def test_what_changes_by_time_alone_is_written_when_it_does(lab: Many) -> None:
    path = f"{ROOT}/web"
    metadata = {"name": "web", "namespace": "shop", "creationTimestamp": lab.now.isoformat()}
    spec = {**INLINE, "rollout": {"auditFor": "1h", "promoteWhen": "clean"}}
    lab.policies.seen(
        lab.kube.put(path, {"metadata": metadata, "spec": spec, "status": {"preview": {"denied": 0, "undecided": 0}}})
    )

    async def effective() -> str:
        await lab.leader.statuses.write()
        lab.hear()
        found = lab.kube.objects[path]["status"]["conditions"]
        return str(next(one["reason"] for one in found if one["type"] == "Effective"))

    assert await effective() == "AuditFirst"
    lab.now += dt.timedelta(minutes=59)
    lab.told()
    assert (await effective(), lab.told()) == ("AuditFirst", [])
    lab.now += dt.timedelta(minutes=1)
    assert await effective() == "NotJudgedYet"


@pytest.mark.parametrize(
    "validity",
    [
        {"notAfter": "0001-01-01T00:00:00Z"},
        {"notBefore": "0001-01-01T00:00:00+14:00"},
        {"notAfter": "9999-12-31T23:59:59Z"},
        {"notAfter": "9999-12-31T23:59:59-14:00"},
    ],
)
async def test_t11_times_at_the_ends_of_the_calendar_are_times(lab: Many, validity: dict[str, str]) -> None:
    [signer] = INLINE["signers"]
    lab.put("odd", {**INLINE, "signers": [{**signer, "validity": validity}]})
    lab.put("other")
    for _ in range(2):
        await lab.leader.statuses.write()
        lab.hear()
    assert sorted(lab.told()) == ["odd", "other"]
    await lab.leader.statuses.write()
    assert not lab.told()


@pytest.mark.parametrize(
    "found",
    [
        {"ending": {"images": 1, "first": "0001-01-01T00:00:00+14:00", "examples": []}},
        {"preview": {"denied": 0, "undecided": 0, "lastDenied": "9999-12-31T23:59:59Z"}},
        {"preview": {"denied": 0, "undecided": 0, "lastDenied": "0001-01-01T00:00:00+14:00"}},
        {"rollout": {"promotedAt": "0001-01-01T00:00:00+14:00"}},
        {"rollout": {"promotedAt": "9999-12-31T23:59:59-14:00"}},
    ],
)
async def test_t11_whatever_somebody_has_written_into_a_status(lab: Many, found: dict[str, Any]) -> None:
    lab.put("odd", {**INLINE, "rollout": {"auditFor": "24h", "promoteWhen": "clean"}}, found)
    lab.put("other")
    await lab.leader.statuses.write()
    assert sorted(lab.told()) == ["odd", "other"]


async def test_f33_an_error_about_one_policy_costs_no_other_and_comes_once(
    lab: Many, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = status.status_of

    def broken(known: InForce, now: dt.datetime, on_duty: OnDuty | None = None) -> dict[str, Any]:
        if known.written.key.name == "odd":
            raise ZeroDivisionError
        return real(known, now, on_duty)

    monkeypatch.setattr(statuses, "status_of", broken)
    lab.put("odd")
    lab.put("other")
    for _ in range(3):
        await lab.leader.statuses.write()
    assert lab.told() == ["other"]
    assert [record.message for record in caplog.records if record.exc_info] == [
        "what the status of shop/odd should be cannot be told"
    ]
    monkeypatch.undo()
    lab.now += dt.timedelta(minutes=10)
    await lab.leader.statuses.write()
    assert lab.told() == ["odd"]


async def test_f33_what_is_wrong_with_the_statuses_does_not_end_the_rest(
    lab: Many, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = 0

    async def wrong(_: statuses.Statuses) -> None:
        nonlocal rounds
        rounds += 1
        raise ZeroDivisionError

    monkeypatch.setattr(leader, "_SECONDS", 0.001)
    monkeypatch.setattr(leader, "_CERTIFICATE_SECONDS", 0.001)
    monkeypatch.setattr(statuses.Statuses, "write", wrong)
    working = asyncio.create_task(lab.leader.work())
    while rounds < 3:
        await asyncio.sleep(0.001)
        assert not working.done()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert "ZeroDivisionError" in caplog.text
