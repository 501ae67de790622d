"""Requests to the API server, against one on loopback: what is sent, and how failures are told."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.fake.kubeconfig import write_kubeconfig
from webhook import limits
from webhook.kube import KubeError
from webhook.kube.client import Kube, connected

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def api_server(answer: Answering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    file = write_kubeconfig(tmp_path, f"http://{host}:{port}", "s3cret-CANARY")
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    try:
        async with connected() as kube:
            yield kube
    finally:
        await runner.cleanup()


async def test_what_is_asked_and_what_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, str, str, Any]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.text()
        seen.append(
            (
                request.method,
                request.path_qs,
                request.content_type,
                request.headers.get("Authorization", ""),
                json.loads(body or "null"),
            )
        )
        return web.json_response({"kind": "Thing"})

    async with api_server(answer, tmp_path, monkeypatch) as kube:
        assert await kube.get("/api/v1/things/a", resourceVersion="0") == {"kind": "Thing"}
        await kube.create("/api/v1/things", {"a": 1})
        await kube.replace("/api/v1/things/a", {"a": 2})
        await kube.merge("/api/v1/things/a", {"a": 3})
        await kube.apply("/api/v1/things/a", {"a": 4})
        await kube.delete("/api/v1/things/a")
    assert {one[3] for one in seen} == {"Bearer s3cret-CANARY"}
    assert [(method, path, kind, body) for method, path, kind, _, body in seen] == [
        ("GET", "/api/v1/things/a?resourceVersion=0", "application/json", None),
        ("POST", "/api/v1/things?fieldManager=trusted-images", "application/json", {"a": 1}),
        ("PUT", "/api/v1/things/a?fieldManager=trusted-images", "application/json", {"a": 2}),
        ("PATCH", "/api/v1/things/a?fieldManager=trusted-images", "application/merge-patch+json", {"a": 3}),
        ("PATCH", "/api/v1/things/a?fieldManager=trusted-images&force=true", "application/apply-patch+yaml", {"a": 4}),
        ("DELETE", "/api/v1/things/a", "application/json", None),
    ]


async def test_a_list_is_read_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        last = "continue" in request.query
        metadata = {"resourceVersion": "7"} | ({} if last else {"continue": "more"})
        return web.json_response({"items": [{"n": 2}] if last else [{"n": 0}, {"n": 1}], "metadata": metadata})

    async with api_server(answer, tmp_path, monkeypatch) as kube:
        assert await kube.list_all("/api/v1/things") == ([{"n": 0}, {"n": 1}, {"n": 2}], "7")


@pytest.mark.parametrize(
    ("response", "status", "says"),
    [
        (web.json_response({"message": "no right\nto \x1b do so"}, status=403), 403, "403 no right"),
        (web.Response(status=500, text="x"), 500, "500 without a reason"),
        (web.json_response([], status=404), 404, "404 without a reason"),
        (web.Response(text="{"), 0, "the answer is not JSON"),
        (web.json_response([]), 0, "the answer is no object"),
    ],
)
async def test_failures_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, response: web.Response, status: int, says: str
) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return response

    async with api_server(answer, tmp_path, monkeypatch) as kube:
        with pytest.raises(KubeError, match=says) as caught:
            await kube.request("POST", "/x", body={"data": "s3cret-CANARY"})
    assert caught.value.status == status
    assert "\n" not in str(caught.value)
    assert "CANARY" not in str(caught.value)


async def test_absence_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=404 if "gone" in request.path else 500)

    async with api_server(answer, tmp_path, monkeypatch) as kube:
        assert await kube.get("/gone") is None
        await kube.delete("/gone")
        for call in (kube.get("/x"), kube.delete("/x")):
            with pytest.raises(KubeError):
                await call


async def test_f21_silence_and_closed_doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KUBE_SECONDS", 0.1)

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.close()
        return web.Response()

    async with api_server(answer, tmp_path, monkeypatch) as kube:
        with pytest.raises(KubeError, match="the API server gives no answer"):
            await kube.get("/x")


async def test_without_a_cluster_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubeError, match="neither in a Pod nor with a kubeconfig"):
        async with connected():
            pass


async def watched(kube: Kube, path: str = "/api/v1/things") -> list[Any]:
    return [event async for event in kube.watch(path, "7")]


async def test_f20_a_watch_gives_events_and_ends_as_the_server_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[bytes | None] = []
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        if "old" in request.path:
            return web.json_response({"message": "too old"}, status=410)
        response = web.StreamResponse()
        await response.prepare(request)
        for line in lines:
            if line is None:
                assert request.transport is not None
                request.transport.abort()
                break
            await response.write(line)
        return response

    def event(kind: str, **fields: Any) -> bytes:
        return json.dumps({"type": kind, "object": fields}).encode() + b"\n"

    async with api_server(answer, tmp_path, monkeypatch) as kube:
        lines += [event("ADDED", a=1), event("BOOKMARK", b="x" * 500_000)]
        assert [one["type"] for one in await watched(kube)] == ["ADDED", "BOOKMARK"]
        assert asked == ["/api/v1/things?watch=true&resourceVersion=7&allowWatchBookmarks=true&timeoutSeconds=300"]
        for last, status, what in (
            (event("ERROR", code=410, message="too old"), 410, "too old"),
            (b"[]\n", 0, "no object"),
            (b"{\n", 0, "not JSON"),
            (None, 0, "the stream broke"),
        ):
            lines[1] = last
            with pytest.raises(KubeError, match=what) as failed:
                await watched(kube)
            assert failed.value.status == status
        with pytest.raises(KubeError, match="410 too old") as failed:
            await watched(kube, "/api/v1/old")
        assert failed.value.status == 410


async def test_f20_a_silent_watch_is_a_dead_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCH_SILENT_SECONDS", 0.1)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(5)
        return response

    async with api_server(answer, tmp_path, monkeypatch) as kube:
        with pytest.raises(KubeError, match="the stream broke"):
            await watched(kube)


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("9999999999", limits.MAX_KUBE_PAUSE), ("Wed, 21 Oct 2026 07:28:00 GMT", None), (None, None)]
)  # fmt: skip
async def test_f33_for_how_long_the_api_server_wants_to_be_left_alone(
    header: str | None, seconds: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        headers = {} if header is None else {"Retry-After": header}
        return web.json_response({"message": "too many requests"}, status=429, headers=headers)

    async with api_server(answer, tmp_path, monkeypatch) as kube:
        with pytest.raises(KubeError, match="too many requests") as caught:
            await kube.merge("/x", {})
    assert (caught.value.retry_after, caught.value.is_busy) == (seconds, True)
