"""`trustRoot: public` on the command line: a TUF repository on loopback stands for sigstore's, real HTTP and real files."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_commands import API, run, served
from tests.fake.http_registry import HTTPRegistry
from tests.fake.http_registry import serving as serving_registry
from tests.fake.registry import EMPTY_CONFIG, OCI_MANIFEST, FakeRegistry, to_json
from tests.fake.signing import BUNDLE, key, statement
from tests.fake.sigstore import ISSUER, SUBJECT, Sigstore
from tests.fake.tuf import TufRepository, serving
from webhook.cli import hosting
from webhook.cli.serve import PolicyFilesInForce
from webhook.keys.publicgood import PublicGood, Start
from webhook.keys.remote import RemoteKeys
from webhook.memory.store import PolicyStore
from webhook.observe.metrics import Metrics
from webhook.policy.keyref import PublicRoot
from webhook.trust import Unresolved
from webhook.verdict import PolicyKey


@pytest.fixture
def instance() -> Sigstore:
    return Sigstore()


@pytest.fixture
async def registry(instance: Sigstore) -> AsyncIterator[HTTPRegistry]:
    """A registry with `shop/keyless`, signed by dev@acme.test."""
    fake = FakeRegistry()
    digest = fake.push_image("shop/keyless", "v1")
    content = to_json(instance.bundle(to_json(statement(digest))))
    layer = {"mediaType": BUNDLE, "size": len(content), "digest": fake.push_blob(content)}
    fake.push_manifest(
        "shop/keyless",
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": BUNDLE,
            "config": EMPTY_CONFIG,
            "layers": [layer],
            "subject": {"mediaType": OCI_MANIFEST, "size": 1, "digest": digest},
        },
    )
    async with serving_registry(HTTPRegistry(fake)) as http:
        yield http


def policy_file(folder: Path, *signers: dict[str, Any], require: str = "release") -> str:
    file = folder / "policy.yaml"
    named = [{"name": name, "cosign": cosign} for name, cosign in zip(("release", "other"), signers, strict=False)]
    spec = {"images": ["127.0.0.1:*/**"], "signers": named, "require": require}
    metadata = {"name": "web", "namespace": "shop"}
    file.write_text(yaml.safe_dump({"apiVersion": API, "kind": "TrustPolicy", "metadata": metadata, "spec": spec}))
    return str(file)


KEYLESS: dict[str, Any] = {"keyless": {"issuer": ISSUER, "subject": SUBJECT}}


@pytest.fixture
def tuf(instance: Sigstore, tmp_path: Path) -> tuple[TufRepository, str]:
    """The repository, and the file with its first root."""
    repository = TufRepository()
    repository.publish(instance.trusted_root().encode())
    file = tmp_path / "root.json"
    file.write_bytes(repository.first_root)
    return repository, str(file)


def registries(folder: Path, *hosts: str) -> str:
    file = folder / "registries.yaml"
    file.write_text(json.dumps({"registries": [{"host": host, "plainHTTP": True} for host in hosts]}))
    return str(file)


async def test_verify_asks_for_the_public_trust_root_where_a_policy_does(
    registry: HTTPRegistry, tuf: tuple[TufRepository, str], tmp_path: Path
) -> None:
    repository, root = tuf
    image = f"{registry.host}/shop/keyless:v1"
    async with serving(repository) as url:
        hosts = registries(tmp_path, registry.host, url.removeprefix("http://"))
        words = ["verify", image, "-n", "shop", "--registries", hosts, "--tuf-url", url, "--tuf-root", root]
        result = await run(*words, "-p", policy_file(tmp_path, KEYLESS))
        assert result.exit_code == 0, result.output
        assert f"signed by issuer={ISSUER},subject={SUBJECT}" in re.sub(r"\s+", " ", result.output)
        mallory = {"keyless": {"issuer": ISSUER, "subject": "mallory@acme.test"}}
        result = await run(*words, "-p", policy_file(tmp_path, mallory))
        assert result.exit_code == 1
        assert "another subject" in re.sub(r"\s+", " ", result.output)
        asked = len(repository.asked)
        assert asked > 0
        # A policy by key bothers nobody.
        await run(*words, "-p", policy_file(tmp_path, {"key": key("a").pem}))
        assert len(repository.asked) == asked


async def test_f16_verify_without_the_repository(
    registry: HTTPRegistry, tuf: tuple[TufRepository, str], tmp_path: Path
) -> None:
    _, root = tuf
    image = f"{registry.host}/shop/keyless:v1"
    hosts = registries(tmp_path, registry.host, "127.0.0.1:1")
    words = ["verify", image, "-n", "shop", "--registries", hosts, "--tuf-url", "http://127.0.0.1:1"]
    result = await run(*words, "--tuf-root", root, "-p", policy_file(tmp_path, KEYLESS))
    assert result.exit_code == 2
    told = re.sub(r"\s+", " ", result.output)
    assert "kubectl-trust: sigstore's trust root could not be refreshed: 127.0.0.1: " in told
    assert "could not verify" in told or "UNDECIDED" in told
    # The one that is shipped counts without the repository; this image was signed under another.
    result = await run(*words, "-p", policy_file(tmp_path, KEYLESS))
    assert result.exit_code == 1
    assert "of no log that is trusted" in re.sub(r"\s+", " ", result.output)


async def test_nobody_is_asked_where_the_url_is_empty(registry: HTTPRegistry, tmp_path: Path) -> None:
    hosts = registries(tmp_path, registry.host)
    words = ["verify", f"{registry.host}/shop/keyless:v1", "-n", "shop", "--registries", hosts, "--tuf-url", ""]
    result = await run(*words, "-p", policy_file(tmp_path, KEYLESS))
    assert result.exit_code == 1
    assert "could not be refreshed" not in result.output


async def test_a_root_that_cannot_be_read_is_misuse(tmp_path: Path) -> None:
    words = ["verify", "a.test/x:v1", "-p", policy_file(tmp_path, KEYLESS), "--tuf-root", str(tmp_path / "gone")]
    result = await run(*words)
    assert (result.exit_code, "No such file" in result.output) == (2, True)


async def test_serve_keeps_it_fresh_and_says_until_when(tuf: tuple[TufRepository, str], tmp_path: Path) -> None:
    repository, root = tuf
    async with serving(repository) as url:
        hosts = registries(tmp_path, url.removeprefix("http://"))
        words = [
            "--policy",
            policy_file(tmp_path, KEYLESS),
            "--registries",
            hosts,
            "--tuf-url",
            url,
            "--tuf-root",
            root,
        ]
        async with served(*words) as (process, _, metrics, _):
            async with asyncio.timeout(20):
                while "timestamp.json" not in repository.asked or not await fresh_until(metrics):
                    await asyncio.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), 20) == 0


async def fresh_until(port: int) -> float:
    import aiohttp

    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as response:
        text = await response.text()
    name = "trusted_images_public_root_fresh_until_timestamp_seconds"
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def test_f16_f17_policies_from_files_follow_it(tmp_path: Path, instance: Sigstore) -> None:
    repository = TufRepository()
    repository.publish(instance.trusted_root().encode())
    start = Start(repository.first_root)
    root = PublicGood(repository.fetch, tmp_path, hosting.now, "https://tuf.test", start)
    store = PolicyStore()
    file = Path(policy_file(tmp_path, KEYLESS, {"key": key("a").pem}, require="any"))
    files = PolicyFilesInForce(store, [file], "trusted-images", Metrics())
    files.load()

    def signers() -> list[object]:
        return [named.signer for named in store.snapshot.index.policies[PolicyKey("shop", "web")].signers]

    assert isinstance(signers()[0], Unresolved)
    by_key = signers()[1]
    remote = RemoteKeys({PublicRoot: root})
    await files.read_keys(remote)
    assert not isinstance(signers()[0], Unresolved)
    until = root.fresh_until
    assert until is not None
    root._now = lambda: until
    following = asyncio.create_task(files.follow_keys(remote))
    async with asyncio.timeout(5):
        while not isinstance(signers()[0], Unresolved):
            await asyncio.sleep(0.01)
    # Whoever signs by key has nothing to do with it.
    assert signers()[1] == by_key
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
