"""kopf against an API server: what is created, changed and deleted there is in force here, and nothing is written to it."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import kmock
import kopf
import pytest
from kmock import ResourceInfo

from tests.fake.kubeconfig import write_kubeconfig
from tests.operator.test_policies import INLINE, SHOP, World
from tests.policies import EXCEPTION
from webhook.observe.metrics import Metrics
from webhook.observe.watchdog import Watchdog
from webhook.operator.handlers import Watching, follow
from webhook.policy.document import API_VERSION
from webhook.policy.schema import EXCEPTIONS, RESOURCES, Resource

ROOT = f"/apis/{API_VERSION}/namespaces/shop/trustpolicies"


class Server:
    """The API server, spoken to as somebody else."""

    def __init__(self, emulator: kmock.KubernetesEmulator, url: str, http: aiohttp.ClientSession) -> None:
        self.emulator = emulator
        self._url = url
        self._http = http
        self._version = 100

    async def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        headers = {"Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"}
        data = None if body is None else json.dumps(body)
        async with self._http.request(method, f"{self._url}{path}", data=data, headers=headers) as answer:
            assert answer.status < 300, await answer.text()

    def policy(self, spec: dict[str, Any] = INLINE, name: str = "web") -> dict[str, Any]:
        self._version += 1
        metadata = {"name": name, "namespace": "shop", "resourceVersion": str(self._version), "uid": f"uid-{name}"}
        return {"apiVersion": API_VERSION, "kind": "TrustPolicy", "metadata": metadata, "spec": spec}


@contextlib.asynccontextmanager
async def following(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    resources: Sequence[Resource] = (*RESOURCES, EXCEPTIONS),
    watching: Watching = contextlib.nullcontext,
) -> AsyncIterator[Server]:
    emulator = kmock.KubernetesEmulator()
    verbs = frozenset({"list", "watch", "get"})
    for resource in resources:
        emulator.resources[f"{API_VERSION}/{resource.plural}"] = ResourceInfo(
            namespaced=resource.namespaced, kind=resource.kind, verbs=verbs
        )
    # Namespaces only by name: the emulator fails to list them, which kopf survives. The end-to-end suite follows them.
    emulator.resources["v1/namespaces"] = ResourceInfo(namespaced=False, kind="Namespace", verbs=verbs)
    async with kmock.Server(emulator) as server, aiohttp.ClientSession() as http:
        file = write_kubeconfig(tmp_path, str(server.url))
        monkeypatch.setenv("KUBECONFIG", str(file))
        task = asyncio.create_task(follow(world.policies, world.exceptions, world.store, lambda _: None, watching))
        try:
            yield Server(emulator, str(server.url).rstrip("/"), http)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.02)


async def test_f22_w12_policies_are_followed_and_nothing_is_written_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    policies = world.store
    async with following(world, tmp_path, monkeypatch) as server:
        await server.send("POST", ROOT, server.policy())
        await until(lambda: SHOP in policies.snapshot.index.policies)
        await server.send("PATCH", f"{ROOT}/web", server.policy({**INLINE, "mode": "warn"}))
        await until(lambda: policies.snapshot.index.policies[SHOP].terms.mode == "warn")
        # W-12: nothing is written to it, so that whoever deletes a policy waits for nobody.
        kept = server.emulator.objects[f"{API_VERSION}/trustpolicies", "shop", "web"]
        assert set(kept["metadata"]) == {"name", "namespace", "resourceVersion", "uid"}
        await server.send("DELETE", f"{ROOT}/web")
        await until(lambda: SHOP not in policies.snapshot.index.policies)
        # Exceptions are followed like policies, and apart from them.
        root = ROOT.replace(RESOURCES[0].plural, EXCEPTIONS.plural)
        await server.send("POST", root, {**server.policy(EXCEPTION), "kind": EXCEPTIONS.kind})
        await until(lambda: "shop" in policies.snapshot.exceptions)
        await server.send("DELETE", f"{root}/web")
        await until(lambda: not policies.snapshot.exceptions)


async def test_policies_are_followed_where_nobody_has_defined_exceptions_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    async with following(world, tmp_path, monkeypatch, RESOURCES) as server:
        await server.send("POST", ROOT, server.policy())
        await until(lambda: SHOP in world.store.snapshot.index.policies)


async def test_f37_kopf_s_own_event_loop_is_watched_for_as_long_as_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    login = kopf.login_with_kubeconfig
    stood: list[str] = []

    def slow_login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        stood.append(threading.current_thread().name)
        time.sleep(1)
        return login(**kwargs)

    monkeypatch.setattr(kopf, "login_with_kubeconfig", slow_login)
    metrics, world = Metrics(), World()
    dog = Watchdog("kopf", metrics, stall=0.2, beat=0.05, look=0.05)
    async with following(world, tmp_path, monkeypatch, watching=dog.watching) as server:
        await until(lambda: "the event loop of kopf goes on" in caplog.text)
        assert "slow_login" in caplog.text
        assert stood == ["kopf"]
        assert metrics.registry.get_sample_value("trusted_images_event_loop_stalls_total", {"loop": "kopf"}) == 1
        # Policies are followed all the same.
        await server.send("POST", ROOT, server.policy())
        await until(lambda: SHOP in world.store.snapshot.index.policies)
        assert [one for one in threading.enumerate() if one.name == "watchdog-kopf"]
    await until(lambda: not [one for one in threading.enumerate() if one.name == "watchdog-kopf"])
