"""Keys outside the cluster, from the command line to the verdict: a token that signs, a token that is read, an image that is judged."""

import asyncio
import contextlib
import datetime as dt
import hashlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.admission.test_review import review
from tests.cli.test_commands import run, served
from tests.fake import softhsm
from tests.fake.http_registry import HTTPRegistry, answers, serving
from tests.fake.registry import FakeRegistry
from tests.fake.signing import key, sign_bundle, sign_classic
from tests.fake.softhsm import SoftHSM
from webhook.admission.tls import write_self_signed
from webhook.formats._keys import parse_public_keys
from webhook.keys.pkcs11 import Modules, TokenKeys
from webhook.policy.pkcs11uri import parse_pkcs11_uri

API = "trusted-images.dev/v1alpha1"
URI = "pkcs11:token=acme;object=release;type=public"


def policy(folder: Path, reference: str, kind: str = "ClusterTrustPolicy") -> str:
    spec = {
        "images": ["127.0.0.1:*/shop/**"],
        "tags": "allow",
        "signers": [{"name": "release", "cosign": {"key": reference}}],
    }
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": API, "kind": kind, "metadata": {"name": "shop"}, "spec": spec}))
    return str(file)


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Lab:
    hsm: SoftHSM
    http: HTTPRegistry
    fingerprint: str

    def image(self, name: str) -> str:
        return f"{self.http.host}/shop/{name}:v1"


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """Images that a key in a token has signed, in both layouts of cosign, and one that another has."""
    hsm = SoftHSM(tmp_path / "hsm")
    for name, value in hsm.environment.items():
        monkeypatch.setenv(name, value)
    hsm.make_token("acme")
    hsm.make_key("acme", "secp256r1", "release")
    assert softhsm.MODULE is not None
    found = await TokenKeys(Modules((softhsm.MODULE,))).fetch(parse_pkcs11_uri(URI))
    assert isinstance(found, bytes)
    (public,) = parse_public_keys(found, "key")
    signer = hsm.signer("acme", "release", public)
    registry = FakeRegistry()
    sign_classic(registry, "shop/classic", registry.push_image("shop/classic", "v1", b"1"), signer)
    sign_bundle(registry, "shop/bundle", registry.push_image("shop/bundle", "v1", b"2"), signer)
    sign_bundle(registry, "shop/other", registry.push_image("shop/other", "v1", b"3"), key("b"))
    async with serving(HTTPRegistry(registry)) as http:
        yield Lab(hsm, http, public.fingerprint)


@softhsm.needed
async def test_an_image_signed_in_a_token_is_judged_by_the_key_read_from_it(lab: Lab, tmp_path: Path) -> None:
    words = ["-p", policy(tmp_path, URI), "--plain-http", "--pkcs11-module", str(softhsm.MODULE)]
    for name in ("classic", "bundle"):
        result = await run("verify", lab.image(name), *words)
        assert result.exit_code == 0, result.output
        assert f"policy cluster/shop: signed by {lab.fingerprint}" in result.output
    refused = await run("verify", lab.image("other"), *words)
    assert refused.exit_code == 1
    assert 'no signature by "release"' in refused.output


@softhsm.needed
async def test_f25_without_its_token_an_image_is_undecided_and_says_why(lab: Lab, tmp_path: Path) -> None:
    lab.hsm.unplug()
    file = policy(tmp_path, URI)
    result = await run(
        "verify", lab.image("classic"), "-p", file, "--plain-http", "--pkcs11-module", str(softhsm.MODULE)
    )
    assert result.exit_code == 2
    assert (
        "its key could not be read: pkcs11:token=acme;object=release;type=public: no such token is present"
        in result.output
    )


async def test_m06_a_module_nobody_permitted_is_not_loaded(tmp_path: Path) -> None:
    file = policy(tmp_path, f"{URI}?module-path=/usr/lib/evil.so")
    for words, why in (
        ([], "no PKCS#11 module is permitted"),
        (["--pkcs11-module", "/usr/lib/good.so"], "its module is none of those that the operator permits"),
    ):
        result = await run("verify", "127.0.0.1:1/shop/app", "-p", file, "--plain-http", *words)
        assert result.exit_code == 2
        assert why in result.output
    result = await run("verify", "127.0.0.1:1/shop/app", "-p", file, "--pkcs11-module", "good.so")
    assert (result.exit_code, result.output) == (
        2,
        "kubectl-trust: --pkcs11-module good.so: not an absolute path, so what is loaded would depend on where we stand\n",
    )


async def test_m06_a_tenant_has_no_token_read(tmp_path: Path) -> None:
    result = await run("verify", "127.0.0.1:1/shop/app", "-p", policy(tmp_path, URI, "TrustPolicy"))
    assert result.exit_code == 2
    assert "pkcs11: only a ClusterTrustPolicy may refer to keys outside the cluster" in result.output


@softhsm.needed
async def test_serve_reads_a_token_that_is_plugged_in_later(lab: Lab, tmp_path: Path) -> None:
    lab.hsm.unplug()
    registries = tmp_path / "registries.yaml"
    registries.write_text(f"registries: [{{host: '{lab.http.host}', plainHTTP: true}}]")
    words = ["--policy", policy(tmp_path, URI), "--registries", str(registries), "--pkcs11-module", str(softhsm.MODULE)]
    async with served(*words) as (_, port, _, certificate):
        trusted = ssl.create_default_context(cafile=str(certificate))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as http:

            async def code() -> int:
                body = review(spec={"containers": [{"name": "a", "image": lab.image("bundle")}]})
                async with http.post(f"https://127.0.0.1:{port}/validate", json=body) as answer:
                    response: dict[str, Any] = (await answer.json())["response"]
                    return 200 if response["allowed"] else int(response["status"]["code"])

            assert await code() == 503
            lab.hsm.plug_in()
            async with asyncio.timeout(20):
                while await code() != 200:
                    await asyncio.sleep(0.2)


# ── documents ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_from_the_web_counts_if_its_hash_is_right(tmp_path: Path) -> None:
    registry = FakeRegistry()
    sign_bundle(registry, "shop/app", registry.push_image("shop/app", "v1"), key("a"))
    certificate, private = write_self_signed(tmp_path, ["localhost"], dt.datetime.now(dt.UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    async with contextlib.AsyncExitStack() as stack:
        web = await stack.enter_async_context(serving(HTTPRegistry(FakeRegistry()), context))
        http = await stack.enter_async_context(serving(HTTPRegistry(registry)))
        web.script["/a.pub"] = answers(key("a").pem.encode(), {})
        registries = tmp_path / "registries.yaml"
        registries.write_text(
            f"registries: [{{host: '{web.host}', ca: {certificate}}}, {{host: '{http.host}', plainHTTP: true}}]"
        )
        for sha256, code, why in (
            (hashlib.sha256(key("a").pem.encode()).hexdigest(), 0, f"signed by {key('a').fingerprint}"),
            ("0" * 64, 2, "its key could not be read: https://"),
        ):
            file = policy(tmp_path, f"https://{web.host}/a.pub#sha256={sha256}")
            result = await run("verify", f"{http.host}/shop/app:v1", "-p", file, "--registries", str(registries))
            assert result.exit_code == code, result.output
            assert why in result.output
