"""`kubectl trust operate` as a process, against an API server on loopback: what it tells is told by all of it put together."""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.admission.test_review import review
from tests.fake.apiserver import FakeAPIServer, api_server
from tests.fake.kubeconfig import write_kubeconfig
from tests.operator.test_leader import WANTED
from tests.operator.test_radar import written
from tests.process import PROGRAM, until_serving
from webhook.operator.installation import Installation
from webhook.policy.document import API_VERSION

INSTALLATION = Installation(namespace="trusted-images")


@dataclass
class Operated:
    server: FakeAPIServer
    http: aiohttp.ClientSession
    webhook: str
    console: str
    said: str

    async def series(self) -> str:
        async with self.http.get(f"{self.console}/metrics") as response:
            return await response.text()

    async def until(self, what: str) -> None:
        """Until the metrics have this line."""
        async with asyncio.timeout(30):
            while f"\n{what}\n" not in await self.series():
                await asyncio.sleep(0.1)

    async def until_told(self, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while True:
                for path, one in self.server.objects.items():
                    if "/events/" in path and is_wanted(one):
                        return one
                await asyncio.sleep(0.1)


@pytest.fixture
async def operated(tmp_path: Path) -> AsyncIterator[Operated]:
    async with api_server() as server:
        server.put("/apis/rbac.authorization.k8s.io/v1/clusterroles/trusted-images", {})
        server.put(INSTALLATION.configuration_path, {"data": {"configuration.yaml": json.dumps(WANTED)}})
        server.put("/api/v1/namespaces/shop", {})
        signer = {"name": "one", "static": {"allow": True, "digests": ["sha256:" + "0" * 64], "reason": "it is ours"}}
        document = {"metadata": {"name": "base", "generation": 1}, "spec": written(signer, images=("**",))}
        server.put(f"/apis/{API_VERSION}/clustertrustpolicies/base", document)
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "operate", "--address", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--identity", "a", "--log-format", "text",
            "--tuf-url", "", "--drain-seconds", "0",
            env={**{k: v for k, v in os.environ.items() if not k.startswith("KUBERNETES_")}, "KUBECONFIG": str(write_kubeconfig(tmp_path, server.url))},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            said, webhook, metrics = await until_serving(process)
            assert process.stderr is not None
            drained = asyncio.create_task(process.stderr.read())
            async with aiohttp.ClientSession() as http:
                yield Operated(server, http, f"https://127.0.0.1:{webhook}", f"http://127.0.0.1:{metrics}", said)
            process.terminate()
            await drained
            assert await asyncio.wait_for(process.wait(), 30) == 0
        finally:
            if process.returncode is None:
                process.kill()
            with contextlib.suppress(ProcessLookupError):
                await process.wait()


async def test_a_replica_tells_what_it_is_and_what_it_refuses(operated: Operated) -> None:
    # The log is text, as it was asked for.
    assert re.search(r"^\S+Z INFO serving on ", operated.said, flags=re.MULTILINE)
    await operated.until("trusted_images_leader 1.0")
    await operated.until('trusted_images_policies{state="in_force"} 1.0')
    # The webhook configuration is wanted and not there yet: nobody asks us.
    await operated.until('trusted_images_configuration_in_place{configuration="validating"} 0.0')
    series = await operated.series()
    assert 'trusted_images_expiry_timestamp_seconds{kind="certificate"} +Inf' in series
    listed = re.search(r"^trusted_images_last_list_timestamp_seconds (\S+)$", series, flags=re.MULTILINE)
    assert listed is not None
    assert float(listed[1]) > 0
    # A port of this machine where nobody is, and an address that nobody has permitted.
    document = review(spec={"containers": [{"name": "web", "image": "127.0.0.1:1/shop/web:v1"}]})
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d", "uid": "abc", "controller": True}
    document["request"]["object"]["metadata"] = {"generateName": "web-5d-", "ownerReferences": [owner]}
    for dry_run in (True, False):
        document["request"]["dryRun"] = dry_run
        async with operated.http.post(f"{operated.webhook}/validate", json=document, ssl=False) as response:
            assert not (await response.json())["response"]["allowed"]
    event = await operated.until_told(lambda one: one["reason"] == "ImageNotVerified")
    assert event["involvedObject"]["name"] == "web-5d"
    assert event["message"].startswith(
        "Pod web: spec.containers[0].image 127.0.0.1:1/shop/web:v1: policy cluster/base: could not verify"
    )
    await operated.until('trusted_images_refusal_events_total{result="written"} 1.0')
