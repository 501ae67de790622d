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
from tests.fake import softhsm
from tests.fake.apiserver import FakeAPIServer, api_server
from tests.fake.http_registry import HTTPRegistry, serving
from tests.fake.kubeconfig import write_kubeconfig
from tests.fake.registry import FakeRegistry
from tests.fake.signing import key, sign_classic
from tests.fake.softhsm import SoftHSM
from tests.operator import test_leader
from tests.operator.test_radar import written
from tests.process import PROGRAM, until_serving
from webhook.formats._keys import parse_public_keys
from webhook.keys.pkcs11 import Modules, TokenKeys
from webhook.operator.installation import Installation
from webhook.policy.document import API_VERSION
from webhook.policy.pkcs11uri import parse_pkcs11_uri

INSTALLATION = Installation(namespace="trusted-images")
WANTED = test_leader.written(test_leader.WANTED).replace('"namespace": "ti"', '"namespace": "trusted-images"')


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

    async def reviewed(self, image: str) -> dict[str, Any]:
        """The response about a Pod with this image."""
        document = review(spec={"containers": [{"name": "web", "image": image}]})
        async with self.http.post(f"{self.webhook}/validate", json=document, ssl=False) as response:
            found: dict[str, Any] = (await response.json())["response"]
            return found

    async def until_told(self, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while True:
                for path, one in self.server.objects.items():
                    if "/events/" in path and is_wanted(one):
                        return one
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[FakeAPIServer]:
    """An API server, and what the chart has made there."""
    async with api_server() as server:
        server.put("/apis/rbac.authorization.k8s.io/v1/clusterroles/trusted-images", {})
        server.put(INSTALLATION.configuration_path, {"data": {"configuration.yaml": WANTED}})
        server.put("/api/v1/namespaces/shop", {})
        yield server


@contextlib.asynccontextmanager
async def operating(folder: Path, server: FakeAPIServer, *words: str) -> AsyncIterator[Operated]:
    """The webhook, from its start to its end."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "operate", "--address", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--identity", "a", "--log-format", "text",
        "--tuf-url", "", "--drain-seconds", "0", *words,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("KUBERNETES_")}, "KUBECONFIG": str(write_kubeconfig(folder, server.url))},
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


@pytest.fixture
async def operated(tmp_path: Path) -> AsyncIterator[Operated]:
    async with cluster() as server:
        signer = {"name": "one", "static": {"allow": True, "digests": ["sha256:" + "0" * 64], "reason": "it is ours"}}
        document = {"metadata": {"name": "base", "generation": 1}, "spec": written(signer, images=("**",))}
        server.put(f"/apis/{API_VERSION}/clustertrustpolicies/base", document)
        async with operating(tmp_path, server) as running:
            yield running


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


@softhsm.needed
async def test_f25_a_key_on_a_token_that_is_gone_counts_after_a_restart_and_admits_what_it_signed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hsm = SoftHSM(tmp_path / "hsm")
    for name, value in hsm.environment.items():
        monkeypatch.setenv(name, value)
    hsm.make_token("acme")
    hsm.make_key("acme", "secp256r1", "release")
    assert softhsm.MODULE is not None
    reference = "pkcs11:token=acme;object=release;type=public"
    found = await TokenKeys(Modules((softhsm.MODULE,))).fetch(parse_pkcs11_uri(reference))
    assert isinstance(found, bytes)
    (public,) = parse_public_keys(found, "key")
    registry, signer = FakeRegistry(), hsm.signer("acme", "release", public)
    digests = [registry.push_image(f"shop/{name}", "v1", name.encode()) for name in ("signed", "other")]
    sign_classic(registry, "shop/signed", digests[0], signer)
    sign_classic(registry, "shop/other", digests[1], key("b"))
    async with cluster() as server:
        async with serving(HTTPRegistry(registry)) as http:
            signed, other = f"{http.host}/shop/signed@{digests[0]}", f"{http.host}/shop/other@{digests[1]}"
            registries = tmp_path / "registries.yaml"
            registries.write_text(json.dumps({"registries": [{"host": http.host, "plainHTTP": True}]}))
            spec = {
                "images": ["**"],
                "onOutage": {"action": "last-known-good"},
                "signers": [{"name": "release", "cosign": {"key": reference}}],
            }
            document = {"metadata": {"name": "base", "generation": 1}, "spec": spec}
            server.put(f"/apis/{API_VERSION}/clustertrustpolicies/base", document)
            words = ("--registries", str(registries), "--pkcs11-module", str(softhsm.MODULE))
            async with operating(tmp_path, server, *words) as running:
                await running.until('trusted_images_policies{state="in_force"} 1.0')
                assert (await running.reviewed(signed))["allowed"]
            # Written by then at the latest, as are the records of what was verified.
            assert INSTALLATION.kept_keys_path in server.objects
            hsm.tokens.rename(tmp_path / "taken-away")
            hsm.tokens.mkdir()
            async with operating(tmp_path, server, *words) as running:
                await running.until("trusted_images_held_keys 1.0")
                await running.until('trusted_images_policies{state="in_force"} 1.0')
                answer = await running.reviewed(signed)
                assert answer["allowed"]
                assert "warnings" not in answer
                refused = await running.reviewed(other)
                assert not refused["allowed"]
                assert 'no signature by "release"' in refused["status"]["message"]
        # The registry is gone, too: records are known by the keys they rest on.
        async with operating(tmp_path, server, *words) as running:
            await running.until("trusted_images_held_keys 1.0")
            answer = await running.reviewed(signed)
            assert answer["allowed"]
            assert "let in by onOutage: last-known-good" in answer["warnings"][0]
            assert not (await running.reviewed(other))["allowed"]
        # Its twin, where no key is kept.
        async with operating(tmp_path, server, *words, "--no-keep-keys") as running:
            await running.until('trusted_images_policies{state="unresolved"} 1.0')
            assert "could not verify" in (await running.reviewed(signed))["status"]["message"]
