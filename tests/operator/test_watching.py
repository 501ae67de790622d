"""kopf against an API server whose watches fail in every way they can (fault F20): no change is missed, and nothing ends for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fake.apiserver import FakeAPIServer, api_server
from tests.fake.kubeconfig import write_kubeconfig
from tests.operator.test_policies import INLINE, SHOP, World
from webhook import limits
from webhook.kube.client import connected
from webhook.operator import handlers, resync
from webhook.policy.document import API_VERSION

POLICY = f"/apis/{API_VERSION}/namespaces/shop/trustpolicies/web"
CLUSTER = f"/apis/{API_VERSION}/clustertrustpolicies/all"
COLLECTIONS = 4
"""What is watched: both kinds of policies, and namespaces."""


@dataclass
class Followed:
    """A cluster that is followed."""

    server: FakeAPIServer
    world: World

    def put(self, mode: str = "enforce", path: str = POLICY) -> None:
        namespace = {"namespace": "shop"} if path == POLICY else {}
        metadata = {"name": path.rpartition("/")[2], **namespace}
        self.server.put(path, {"metadata": metadata, "spec": {**INLINE, "mode": mode}})

    @property
    def mode(self) -> str | None:
        """What the policy does, as it is in force; None if it is not."""
        known = self.world.store.snapshot.index.policies.get(SHOP)
        return None if known is None else known.terms.mode


async def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.fixture
async def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Followed]:
    """As `operate` follows: the first list, then events, and a comparison so seldom that a test sees only what it is about."""
    monkeypatch.setattr(handlers, "_AGAIN_SECONDS", 0.05)
    async with api_server() as server:
        lead_to(server, tmp_path, monkeypatch)
        followed = Followed(server, World())
        async with following(followed):
            yield followed


def lead_to(server: FakeAPIServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kopf and our own requests take for the cluster."""
    file = str(write_kubeconfig(folder, server.url))
    monkeypatch.setenv("KUBECONFIG", file)
    # Read when the library was imported.
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", file)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@contextlib.asynccontextmanager
async def following(followed: Followed) -> AsyncIterator[None]:
    task = asyncio.create_task(
        handlers.follow(followed.world.policies, followed.world.exceptions, followed.world.store, lambda _: None)
    )
    try:
        await until(lambda: len(followed.server.streams) == COLLECTIONS)
        yield
        assert not task.done(), "it goes on, whatever happened"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def watched_anew(followed: Followed, before: int) -> None:
    """Every stream has been opened again."""
    await until(
        lambda: len(followed.server.watched) >= before + COLLECTIONS and len(followed.server.streams) == COLLECTIONS
    )


async def test_f20_f22_events_of_every_collection_are_followed(followed: Followed) -> None:
    store = followed.world.store
    followed.put()
    followed.put(path=CLUSTER)
    await until(lambda: len(store.snapshot.index.policies) == 2)
    followed.put("warn")
    await until(lambda: followed.mode == "warn")
    followed.server.remove(POLICY)
    followed.server.remove(CLUSTER)
    await until(lambda: not store.snapshot.index.policies)


async def test_m04_labels_of_namespaces_are_followed(followed: Followed) -> None:
    path = "/api/v1/namespaces/shop"
    followed.server.put(path, {"metadata": {"labels": {"tier": "gold"}}})
    await until(lambda: (followed.world.store.snapshot.namespace_labels("shop") or {}).get("tier") == "gold")
    followed.server.put(path, {"metadata": {"labels": {}}})
    await until(lambda: "tier" not in (followed.world.store.snapshot.namespace_labels("shop") or {"tier": ""}))
    followed.server.remove(path)
    await until(lambda: followed.world.store.snapshot.namespace_labels("shop") is None)


@pytest.mark.parametrize("end", [None, ConnectionResetError()], ids=["ended", "cut"])
async def test_f20_a_stream_that_ends_goes_on_where_it_was(followed: Followed, end: ConnectionError | None) -> None:
    followed.put()
    await until(lambda: followed.mode == "enforce")
    before = len(followed.server.watched)
    # What happens in between is in the history that the next watch begins with.
    followed.server.silent = True
    followed.put("warn")
    followed.server.silent = False
    followed.server.say(end)
    await until(lambda: followed.mode == "warn")
    await watched_anew(followed, before)
    assert all("resourceVersion=" in path for path in followed.server.watched)


async def test_f20_after_410_gone_everything_is_listed_anew(followed: Followed) -> None:
    followed.put()
    await until(lambda: followed.mode == "enforce")
    followed.server.silent = True
    followed.put("warn")
    followed.server.forget()
    followed.server.silent = False
    lists = [asked for asked in followed.server.asked if asked[1].endswith("/trustpolicies")]
    # The stream ends; going on where it was is refused with 410.
    followed.server.say(None)
    await until(lambda: followed.mode == "warn")
    assert len([asked for asked in followed.server.asked if asked[1].endswith("/trustpolicies")]) > len(lists)


@pytest.mark.parametrize(
    "status",
    [
        {"kind": "Status", "code": 500, "reason": "InternalError", "message": "etcd event received with PrevKv=nil"},
        {"kind": "Status", "code": 504, "reason": "Timeout", "message": "Too large resource version"},
    ],
    ids=lambda status: str(status["code"]),
)
async def test_f20_an_error_in_a_stream_ends_nothing(followed: Followed, status: dict[str, Any]) -> None:
    followed.put()
    await until(lambda: followed.mode == "enforce")
    before = len(followed.server.watched)
    followed.server.fail(status, "trustpolicies")
    await watched_anew(followed, before)
    assert followed.mode == "enforce"
    followed.put("warn")
    await until(lambda: followed.mode == "warn")


async def test_f20_silence_hides_a_change_no_longer_than_its_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "_SILENT_SECONDS", 0.5)
    async with api_server() as server:
        lead_to(server, tmp_path, monkeypatch)
        followed = Followed(server, World())
        async with following(followed):
            followed.put()
            await until(lambda: followed.mode == "enforce")
            # The streams stay open and carry nothing any more, as behind a load balancer that has forgotten them.
            server.silent = True
            followed.put("warn")
            server.silent = False
            assert followed.mode == "enforce"
            await until(lambda: followed.mode == "warn", 3)


async def test_f20_what_every_stream_hides_is_found_by_the_comparison(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resync, "_SECONDS", 0.1)
    followed.put()
    followed.put(path=CLUSTER)
    world = followed.world
    await until(lambda: len(world.store.snapshot.index.policies) == 2)
    followed.server.silent = True
    followed.put("warn")
    followed.server.remove(CLUSTER)
    async with connected() as kube:
        comparing = asyncio.create_task(resync.compare(kube, world.policies, world.exceptions, world.store))
        try:
            await until(lambda: followed.mode == "warn" and len(world.store.snapshot.index.policies) == 1)
        finally:
            comparing.cancel()


async def test_f32_a_long_list_is_read_page_by_page(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KUBE_PAGE", 40)
    for number in range(100):
        followed.put(path=f"{CLUSTER}-{number}")
    world = World()
    followed.server.asked.clear()
    async with connected() as kube:
        await resync.list_once(kube, world.policies, world.exceptions, world.store)
    assert len(world.store.snapshot.index.policies) == 100
    assert [path for _, path in followed.server.asked].count(CLUSTER.rpartition("/")[0]) == 3


async def test_f21_while_the_api_server_is_down_what_was_known_stays_in_force(followed: Followed) -> None:
    followed.put()
    await until(lambda: followed.mode == "enforce")
    followed.server.down = True
    followed.server.say(ConnectionResetError())
    await until(lambda: not followed.server.streams)
    await asyncio.sleep(0.5)
    assert followed.mode == "enforce"
    followed.put("warn")
    followed.server.down = False
    await until(lambda: followed.mode == "warn", 30)
