"""`https://…#sha256=…` over TLS on loopback: the hash decides, and the rules of all requests hold (attacks S-02, S-05)."""

import asyncio
import datetime as dt
import hashlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.captures import NOW
from tests.fake.http_registry import HTTPRegistry, answers, serving, stalled, status
from tests.fake.registry import FakeRegistry
from tests.policies import KEY, OTHER_KEY
from webhook import limits
from webhook.admission.tls import write_self_signed
from webhook.cli.hosting import remote_keys
from webhook.keys.https import HttpsKeys
from webhook.keys.kept import KeptKeys
from webhook.keys.pkcs11 import Modules
from webhook.keys.remote import RemoteKeys
from webhook.policy.keyref import UrlKey
from webhook.registry.client import RegistryClient
from webhook.registry.settings import RegistrySettings, parse_settings
from webhook.trust import Rejected, Unresolved

SHA256 = hashlib.sha256(KEY.encode()).hexdigest()


@dataclass
class Web:
    http: HTTPRegistry
    client: RegistryClient

    async def read(self, path: str = "/release.pub", sha256: str = SHA256) -> bytes | Unresolved:
        key = UrlKey(f"https://{self.http.host}{path}", sha256)
        keys = remote_keys(self.client, Modules())
        await keys.look([key])
        return keys.read(key)

    async def why_not(self, path: str = "/release.pub", sha256: str = SHA256) -> str:
        found = await self.read(path, sha256)
        assert isinstance(found, Unresolved)
        return found.reason.removeprefix(f"https://{self.http.host}{path}: ")


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    certificate, key = write_self_signed(tmp_path, ["localhost"], dt.datetime.now(dt.UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with serving(HTTPRegistry(FakeRegistry()), context) as http:
        http.script["/release.pub"] = answers(KEY.encode(), {})
        settings = f"registries: [{{host: '{http.host}', ca: {certificate}}}]"
        client = RegistryClient(parse_settings(settings.encode(), "registries.yaml"))
        yield Web(http, client)
        await client.close()


async def test_the_document_is_what_the_policy_means(web: Web) -> None:
    assert await web.read() == KEY.encode()
    assert not any("Authorization" in asked.headers for asked in web.http.asked)


async def test_m06_other_bytes_under_the_same_url_are_no_key(web: Web) -> None:
    web.http.script["/release.pub"] = answers(OTHER_KEY.encode(), {})
    other = hashlib.sha256(OTHER_KEY.encode()).hexdigest()
    assert await web.why_not() == f"its SHA-256 is {other}, and the policy wants {SHA256}"


async def test_f25_what_is_not_there_says_so(web: Web) -> None:
    web.http.script["/missing"] = status(404)
    web.http.script["/forbidden"] = status(403)
    assert await web.why_not("/missing") == "nothing is there (404)"
    assert "answers 403" in await web.why_not("/forbidden")


async def test_f25_what_a_server_answers_in_its_place_takes_no_document_out_of_force() -> None:
    """Neither where it was read nor elsewhere: the hash says what it is, and no server."""
    answer: bytes | Rejected | None = KEY.encode()

    async def ask(_url: str, _limit: int) -> bytes | None:
        if isinstance(answer, Rejected):
            raise answer
        return answer

    def starts() -> RemoteKeys:
        return RemoteKeys({UrlKey: HttpsKeys(ask)}, kept=kept)

    key = UrlKey("https://keys.example/release.pub", SHA256)
    kept = KeptKeys(lambda: NOW)
    running = starts()
    await running.look([key])
    secret = kept.next()
    kept.wrote(secret, secret)
    for wrong in (None, OTHER_KEY.encode(), Rejected("an answer of more than 5 bytes")):
        answer = wrong
        running.ask_again({key})
        for keys in (running, starts()):
            await keys.look([key])
            assert keys.read(key) == KEY.encode()
            assert keys.held(key) is not None
            assert not kept.is_changed


async def test_d02_a_document_that_is_too_large_is_no_key(web: Web) -> None:
    largest = b"x" * limits.MAX_KEY_MATERIAL
    web.http.script |= {"/largest": answers(largest, {}), "/larger": answers(largest + b"x", {})}
    assert await web.read("/largest", hashlib.sha256(largest).hexdigest()) == largest
    assert await web.why_not("/larger") == f"localhost: an answer of more than {limits.MAX_KEY_MATERIAL} bytes"


async def test_d07_a_server_that_stalls_is_an_outage(web: Web) -> None:
    release = asyncio.Event()
    web.http.script["/stalled"] = stalled(release)
    key = UrlKey(f"https://{web.http.host}/stalled", SHA256)
    keys = remote_keys(web.client, Modules())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "FIRST_KEYS_SECONDS", 0.1)
        await keys.look_first([key])
    release.set()
    assert isinstance(keys.read(key), Unresolved)


async def test_s02_no_redirect_leads_to_plain_http(web: Web) -> None:
    web.http.script["/moved"] = status(302, {"Location": "http://127.0.0.1:1/release.pub"})
    assert "redirect" in await web.why_not("/moved")


async def test_s05_an_internal_address_is_not_asked_unless_the_operator_named_it(web: Web) -> None:
    strangers = Web(web.http, RegistryClient(RegistrySettings.empty()))
    assert "internal address" in await strangers.why_not()
    assert web.http.count() == 0
    await strangers.client.close()


async def test_s03_a_certificate_that_nobody_vouches_for_is_refused(web: Web) -> None:
    strangers = Web(web.http, RegistryClient(RegistrySettings.empty(), private_addresses=True))
    assert "its TLS certificate is refused" in await strangers.why_not()
    await strangers.client.close()
