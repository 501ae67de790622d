"""The notification: once, bounded, behind the answer, and its address in no log line (attacks S-02, S-08)."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import yarl
from aiohttp import web

from webhook import limits
from webhook.observe.notify import notifying, parse_notify_url
from webhook.parsing import Invalid

Handler = Callable[[web.Request], Awaitable[web.Response]]


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[yarl.URL]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield yarl.URL(f"http://127.0.0.1:{runner.addresses[0][1]}/CANARY")
    finally:
        await runner.cleanup()


async def test_a_message_is_posted_as_json() -> None:
    got: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        got.append((request.method, request.path, request.content_type, await request.json()))
        return web.Response()

    async with listening(take) as url, notifying(url) as notifier:
        assert notifier is not None
        await notifier.send({"text": "hello"})
    assert got == [("POST", "/CANARY", "application/json", {"text": "hello"})]


async def test_nobody_is_told_where_nobody_is_to_be_told() -> None:
    async with notifying(None) as notifier:
        assert notifier is None


async def test_s02_s08_whatever_comes_of_it_is_logged_without_the_address(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "webhook")
    monkeypatch.setattr(limits, "NOTIFY_SECONDS", 0.1)
    asked: list[str] = []

    async def refuse(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=404)

    async def lead_away(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async def stall(request: web.Request) -> web.Response:
        asked.append(request.path)
        await asyncio.sleep(5)
        return web.Response()

    for handler, said in ((refuse, "answers 404"), (lead_away, "answers 307"), (stall, "127.0.0.1: ")):
        async with listening(handler) as url, notifying(url) as notifier:
            assert notifier is not None
            await notifier.send({})
        assert said in caplog.records[-1].getMessage()
    async with listening(refuse) as gone:
        pass
    async with notifying(gone) as notifier:
        assert notifier is not None
        await notifier.send({})
    assert "the notification was not sent: 127.0.0.1: ClientConnectorError" in caplog.text
    assert asked == ["/CANARY"] * 3
    assert "CANARY" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("webhook")
    )


@pytest.mark.parametrize("text", ["", "hook.example", "ftp://hook.example", "https://", "http://[::1"])
def test_an_address_is_a_url(text: str) -> None:
    with pytest.raises(Invalid, match="not a URL") as refused:
        parse_notify_url(text)
    assert "example" not in str(refused.value)


def test_an_address_may_be_plain_http_inside_a_cluster() -> None:
    assert parse_notify_url("http://alerts.monitoring.svc/hook").host == "alerts.monitoring.svc"
