"""Exceptions from files: `verify`, `check` and `serve` honour them as a cluster does, and only `serve` counts."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.admission.test_review import review
from tests.cli.test_commands import policy, registry, run, served
from tests.fake.http_registry import HTTPRegistry
from tests.policies import EXCEPTION

__all__ = ["policy", "registry"]

API = "trusted-images.dev/v1alpha1"


def written(folder: Path, status: Any = None, name: str = "hotfix", **fields: Any) -> str:
    spec = {
        field: value
        for field, value in {**EXCEPTION, "images": ["127.0.0.1:*/shop/unsigned:*"], **fields}.items()
        if value is not None
    }
    document = {
        "apiVersion": API,
        "kind": "TrustException",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(document | ({} if status is None else {"status": status})))
    return str(file)


AT = ("--at", "2026-11-24T00:00:00Z")


async def test_verify_and_check_let_in_what_an_exception_lets_in(
    registry: HTTPRegistry, policy: str, tmp_path: Path
) -> None:
    image = f"{registry.host}/shop/unsigned:v1"
    options = ("-n", "shop", "-p", policy, "--plain-http", *AT)
    assert (await run("verify", image, *options)).exit_code == 1
    one = ("-p", written(tmp_path))
    text = await run("verify", image, *options, *one)
    assert text.exit_code == 0
    first, second = text.output.splitlines()
    assert first.startswith(f"ALLOWED   {image}")
    assert (
        "policy shop/web: let in by exception shop/hotfix until 2026-12-31T12:00:00Z, approved by bob: incident"
        in second
    )
    assert "Without it: no signature by" in second
    (entry,) = json.loads((await run("verify", image, *options, *one, "-o", "json")).output)
    assert entry["verdict"] == "allowed"
    assert entry["policies"][0]["satisfied"] is False
    assert entry["policies"][0]["exception"]["name"] == "shop/hotfix"
    pod = {"containers": [{"name": "a", "image": image}]}
    for asked in (
        review(spec=pod),
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop"}, "spec": pod},
    ):
        checked = await run("check", "-f", "-", *options[2:], *one, stdin=json.dumps(asked))
        assert checked.exit_code == 0
        assert "let in by exception shop/hotfix" in checked.output


@pytest.mark.parametrize(
    ("fields", "at", "code", "says"),
    [
        ({}, "2026-12-31T11:59:59Z", 0, "let in by exception"),
        ({}, "2026-12-31T12:00:00Z", 1, "Note: exception shop/hotfix expired at 2026-12-31T12:00:00Z"),
        ({"approvedBy": None}, "2026-11-24T00:00:00Z", 1, "Note: exception shop/hotfix is not approved"),
        ({"maxUses": 2, "status": {"uses": 1}}, "2026-11-24T00:00:00Z", 0, "let in by exception"),
        ({"maxUses": 2, "status": {"uses": 2}}, "2026-11-24T00:00:00Z", 1, "Note: exception shop/hotfix is used up"),
        ({"policies": ["also"]}, "2026-11-24T00:00:00Z", 1, "no signature by"),
    ],
)
async def test_one_that_does_not_count_lets_nothing_in(
    registry: HTTPRegistry, policy: str, tmp_path: Path, fields: dict[str, Any], at: str, code: int, says: str
) -> None:
    image = f"{registry.host}/shop/unsigned:v1"
    words = ("-n", "shop", "-p", policy, "-p", written(tmp_path, **fields), "--plain-http", "--at", at)
    for _ in range(2):
        result = await run("verify", image, *words)
        assert (result.exit_code, says in result.output) == (code, True)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"images": ["web:v1"]}, "[0]: TrustException shop/hotfix: spec.images[0]: web:v1: a tag can be moved"),
        (
            {"approvedBy": "alice"},
            "[0]: TrustException shop/hotfix: spec.approvedBy: whoever asked for it cannot approve it",
        ),
        ({"status": {"uses": "many"}}, "[0]: status.uses: expected int, got str"),
    ],
)
async def test_m10_a_broken_exception_is_misuse(
    policy: str, tmp_path: Path, fields: dict[str, Any], complaint: str
) -> None:
    file = written(tmp_path, **fields)
    result = await run("verify", "nginx", "-p", policy, "-p", file)
    assert result.exit_code == 2
    assert f"{file}{complaint}" in result.output


async def test_one_that_stands_twice_is_misuse(policy: str, tmp_path: Path) -> None:
    file = written(tmp_path)
    result = await run("verify", "nginx", "-p", policy, "-p", file, "-p", file)
    assert result.exit_code == 2
    assert "TrustException shop/hotfix: stands twice in these files" in result.output


async def test_k07_serve_counts_pods_and_neither_dry_runs_nor_templates(
    registry: HTTPRegistry, policy: str, tmp_path: Path
) -> None:
    registries = tmp_path / "registries.yaml"
    registries.write_text(f"registries: [{{host: '{registry.host}', plainHTTP: true}}]")
    ends = "2100-01-01T00:00:00Z"
    one = written(tmp_path, maxUses=1, expiresAt=ends)
    other = written(tmp_path, name="asked", approvedBy=None, expiresAt=ends)
    words = (
        "--policy",
        policy,
        "--policy",
        one,
        "--policy",
        other,
        "--registries",
        str(registries),
        "--drain-seconds",
        "0",
    )
    spec = {"containers": [{"name": "a", "image": f"{registry.host}/shop/unsigned:v1"}]}
    async with (
        served(*words) as (_, port, metrics, certificate),
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(certificate)))
        ) as http,
    ):

        async def asked(kind: str = "Pod", **request: Any) -> dict[str, Any]:
            document = review(kind, spec=spec, **request)
            async with http.post(f"https://127.0.0.1:{port}/validate", json=document) as response:
                found: dict[str, Any] = (await response.json())["response"]
                return found

        async def series() -> str:
            async with http.get(f"http://127.0.0.1:{metrics}/metrics") as response:
                return await response.text()

        for _ in range(2):
            assert (await asked(dryRun=True))["allowed"]
            assert (await asked("Deployment"))["allowed"]
        assert "trusted_images_exceptions_used_total 0.0" in await series()
        first = await asked()
        assert first["allowed"]
        assert first["auditAnnotations"]["exception"] == "shop/hotfix"
        second = await asked()
        assert second["status"]["code"] == 403
        assert "exception shop/hotfix is used up" in second["status"]["message"]
        told = await series()
        assert "trusted_images_exceptions_used_total 1.0" in told
        for state, count in (("in_force", 0), ("used_up", 1), ("not_approved", 1), ("expired", 0), ("broken", 0)):
            assert f'trusted_images_exceptions{{state="{state}"}} {count}.0' in told
        # More are let in after the file says so, and the count goes on.
        written(tmp_path, maxUses=2, expiresAt=ends)
        async with asyncio.timeout(10):
            while not (await asked(dryRun=True))["allowed"]:
                await asyncio.sleep(0.1)
        assert (await asked())["allowed"]
        assert not (await asked())["allowed"]


def test_s08_an_address_for_notifications_that_is_none_is_misuse_and_not_repeated(tmp_path: Path) -> None:
    for url in ("ftp://hook.example/CANARY", "CANARY", "https://"):
        ran = subprocess.run(
            [sys.executable, "-c", "from webhook.cli import main; main()", "operate"],
            env={**os.environ, "NOTIFY_URL": url, "KUBECONFIG": str(tmp_path / "none")},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ran.returncode == 2
        assert "--notify-url: not a URL of http or https" in ran.stderr
        assert "CANARY" not in ran.stderr
