"""What lies elsewhere than in a registry, asked for over loopback: no login, no internal address, no plain HTTP by default."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.fake.http_registry import HTTPRegistry, serving, stalled, status
from tests.fake.registry import FakeRegistry
from webhook.registry.client import RegistryClient
from webhook.registry.dockerconfig import AnonymousKeychain
from webhook.registry.settings import RegistrySettings
from webhook.trust import Rejected, Unavailable


@pytest.fixture
async def store() -> AsyncIterator[HTTPRegistry]:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=request.content_type.encode() + b" " + await request.read())

    async with serving(HTTPRegistry(FakeRegistry())) as http:
        http.script["/echo"] = echo
        http.script["/missing"] = status(404)
        http.script["/broken"] = status(403)
        yield http


def client(store: HTTPRegistry, *, named: bool = True) -> RegistryClient:
    return RegistryClient(RegistrySettings.plain_http([store.host]) if named else RegistrySettings.empty())


async def test_documents_are_read_once_and_absence_is_an_answer(store: HTTPRegistry) -> None:
    registries = client(store)
    port = registries.under(AnonymousKeychain())
    for _ in range(2):
        assert await port.get(f"http://{store.host}/echo", 100) == b"application/octet-stream "
        assert await port.get(f"http://{store.host}/missing#fragment", 100) is None
    assert store.count() == 2
    posted = await port.post(f"http://{store.host}/echo", b"question", "application/ocsp-request", 100)
    assert posted == b"application/ocsp-request question"
    assert [asked.method for asked in store.asked] == ["GET", "GET", "POST"]
    assert not any("Authorization" in asked.headers for asked in store.asked)
    await registries.close()


async def test_v03_another_status_is_no_answer_and_too_much_is_a_rejection(store: HTTPRegistry) -> None:
    registries = client(store)
    port = registries.under(AnonymousKeychain())
    with pytest.raises(Unavailable, match="answers 403"):
        await port.get(f"http://{store.host}/broken", 100)
    with pytest.raises(Rejected, match="more than 10 bytes"):
        await port.get(f"http://{store.host}/echo", 10)
    await registries.close()


@pytest.mark.parametrize(
    ("url", "insecure_http", "why"),
    [
        ("http://HOST/echo", False, "plain HTTP; an operator can allow it"),
        ("http://HOST/echo", True, "is an internal address"),
        ("https://169.254.169.254/x", False, "never asked"),
        ("file:///etc/passwd", True, "not a URL of http or https"),
        ("https://user:pass@example.test/x", False, "without a login"),
        ("https:///x", False, "not a URL"),
        ("http://[::1", True, "not a URL"),
    ],
)
async def test_s05_urls_that_are_not_asked(store: HTTPRegistry, url: str, insecure_http: bool, why: str) -> None:
    registries = client(store, named=False)
    with pytest.raises((Rejected, Unavailable), match=why):
        await registries.under(AnonymousKeychain()).get(
            url.replace("HOST", store.host), 100, insecure_http=insecure_http
        )
    assert store.count() == 0
    await registries.close()


async def test_f15_whoever_waits_less_is_told_so_and_takes_the_answer_from_nobody(store: HTTPRegistry) -> None:
    release = asyncio.Event()
    store.script["/slow"] = stalled(release)
    registries = client(store)
    port = registries.under(AnonymousKeychain())
    begun = time.monotonic()
    for ask in (
        port.get(f"http://{store.host}/slow", 100, seconds=0.1),
        port.post(f"http://{store.host}/slow", b"x", "text/plain", 100, seconds=0.1),
    ):
        with pytest.raises(Unavailable, match="/slow: no answer in time"):
            await ask
    assert time.monotonic() - begun < 2
    assert await port.get(f"http://{store.host}/echo", 100, seconds=5) == b"application/octet-stream "
    release.set()
    await registries.close()
