"""docs/prefix.md: its policy pins what it says it pins, and `verify` prints what the page shows."""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from typer.testing import CliRunner, Result

from tests import captures
from tests.fake.http_registry import HTTPRegistry, serving
from tests.fake.registry import FakeRegistry
from webhook.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "prefix.md").read_text("utf-8")
POLICY = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
SHOWN = re.findall(r"^\$ kubectl trust verify (\S+) --policy etcd.yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
async def options(tmp_path: Path) -> AsyncIterator[list[str]]:
    """example.com, by a mirror on loopback: with images by the page's key, and by another."""
    fake = FakeRegistry()
    fake.load("etcd/etcd", captures.path("cosign-key-bundle-notlog"))
    fake.load("etcd/tools/backup", captures.path("cosign-v2-key-sigtag-notlog"))
    for path in ("etcd/other", "etcdctl/x", "etcd", "other/example.com/etcd/x"):
        fake.load(path, captures.path("cosign-key-p384-bundle"))
    async with serving(HTTPRegistry(fake)) as http:
        mirrors = [{"source": host, "prefix": http.host} for host in ("example.com", "evil.example")]
        settings = {"registries": [{"host": http.host, "plainHTTP": True, "mirrors": mirrors}]}
        (tmp_path / "registries.yaml").write_text(json.dumps(settings))
        (tmp_path / "etcd.yaml").write_text(POLICY)
        yield ["--policy", str(tmp_path / "etcd.yaml"), "--registries", str(tmp_path / "registries.yaml")]


async def verify(image: str, options: list[str]) -> Result:
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, ["verify", image, *options]))


async def test_verify_prints_what_the_page_shows(options: list[str]) -> None:
    assert len(SHOWN) == 2
    for image, output in SHOWN:
        result = await verify(image, options)
        assert result.output == output
        assert result.exit_code == (0 if output.startswith("ALLOWED") else 1)


async def test_p01_the_prefix_covers_what_the_page_says(options: list[str]) -> None:
    for image, output in (
        ("example.com/etcd/tools/backup:v1", "policy cluster/etcd: signed by SHA256:609f"),
        ("EXAMPLE.com:443/etcd/other:v1", "DENIED"),
        ("example.com/etcdctl/x:v1", "no trust policy covers this image"),
        ("example.com/etcd:v1", "no trust policy covers this image"),
        ("evil.example/other/example.com/etcd/x:v1", "no trust policy covers this image"),
    ):
        assert output in (await verify(image, options)).output, image


def test_the_fingerprint_is_that_of_the_key_in_the_page() -> None:
    [key] = yaml.safe_load(POLICY)["spec"]["signers"][0]["cosign"]["keys"]
    der = load_pem_public_key(key.encode()).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert f"{hashlib.sha256(der).hexdigest()}  -\n" in PAGE
