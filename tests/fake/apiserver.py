"""An API server on loopback, as far as we use one: a `FakeKube` over HTTP, with watches, and what can go wrong with those."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fake.kube import FakeKube
from webhook.kube import KubeError
from webhook.kube.client import Document
from webhook.policy.document import API_VERSION, GROUP, VERSION
from webhook.policy.schema import EXCEPTIONS, RESOURCES

_VERBS = ["get", "list", "watch"]
_NAMESPACES = {
    "name": "namespaces",
    "singularName": "namespace",
    "kind": "Namespace",
    "namespaced": False,
    "verbs": _VERBS,
}
_DISCOVERY: dict[str, Document] = {
    "/version": {"major": "1", "minor": "37"},
    "/api": {"versions": ["v1"]},
    "/api/v1": {"resources": [_NAMESPACES]},
    "/apis": {
        "groups": [
            {
                "name": GROUP,
                "versions": [{"version": VERSION}],
                "preferredVersion": {"version": VERSION},
            }
        ]
    },
    f"/apis/{API_VERSION}": {
        "resources": [
            {"name": one.plural, "singularName": "", "kind": one.kind, "namespaced": one.namespaced, "verbs": _VERBS}
            for one in (*RESOURCES, EXCEPTIONS)
        ]
    },
}
GONE: Document = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}


@dataclass(eq=False)
class Stream:
    """A watch that somebody keeps open. None ends it, as the server's timeout does; an exception cuts it."""

    collection: str
    pending: asyncio.Queue[Document | ConnectionError | None] = field(default_factory=asyncio.Queue)


class FakeAPIServer(FakeKube):
    """What is put and removed here is told to whoever watches, unless that is `silent`. `down`: no request is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: set[Stream] = set()
        self.watched: list[str] = []
        """Paths with their queries, in the order in which watches began."""
        self.silent = False
        self.down = False
        self.url = ""
        self._history: list[tuple[int, str, Document]] = []
        self._oldest = 0

    # ── what happens to it ───────────────────────────────────────────────────────────────────────────────────────────
    def put(self, path: str, document: Mapping[str, Any]) -> Document:
        """Writes an object as somebody else, and tells it."""
        kind = "MODIFIED" if path in self.objects else "ADDED"
        written = super().put(path, document)
        self._tell(kind, path, written)
        return written

    def remove(self, path: str) -> None:
        """Removes an object as somebody else, and tells it."""
        before = self.objects[path]
        super().remove(path)
        self._tell(
            "DELETED", path, {**before, "metadata": {**before["metadata"], "resourceVersion": str(self._version)}}
        )

    def forget(self) -> None:
        """History before now is gone: whoever goes on from there is told 410."""
        self._history.clear()
        self._oldest = self._version

    def say(self, what: Document | ConnectionError | None) -> None:
        """The same to every watch: an event, the end of the stream, or a broken connection."""
        for stream in self.streams:
            stream.pending.put_nowait(what)

    def fail(self, status: Document, plural: str) -> None:
        """An ERROR event to every watch of a collection, and its end."""
        for stream in self.streams:
            if stream.collection.endswith(f"/{plural}"):
                stream.pending.put_nowait({"type": "ERROR", "object": status})
                stream.pending.put_nowait(None)

    def _tell(self, kind: str, path: str, document: Document) -> None:
        event = {"type": kind, "object": document}
        self._history.append((self._version, path, event))
        if not self.silent:
            for stream in self.streams:
                if self._belongs(path, stream.collection):
                    stream.pending.put_nowait(event)

    def _belongs(self, path: str, collection: str) -> bool:
        return path.rpartition("/")[0] == collection or self._below(path, collection)

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────
    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request; what a `FakeKube` raises becomes a status."""
        if self.down:
            _cut(request)
        if request.path in _DISCOVERY:
            return web.json_response(_DISCOVERY[request.path])
        if request.query.get("watch") == "true":
            return await self._watch(request)
        body = await request.text()
        try:
            found = await self.request(
                request.method,  # type: ignore[arg-type]  # one of ours, or it raises
                request.path,
                body=json.loads(body) if body else None,
                content_type=request.headers.get("Content-Type", ""),
            )
        except KubeError as e:
            said = {} if e.retry_after is None else {"Retry-After": f"{e.retry_after:.0f}"}
            status = {"kind": "Status", "message": str(e), "code": e.status or 500}
            return web.json_response(status, status=e.status or 500, headers=said)
        return web.json_response(_page(found, request.query) if "items" in found else found)

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        self.watched.append(request.path_qs)
        since = int(request.query.get("resourceVersion", "0"))
        stream = Stream(request.path)
        if since < self._oldest:
            stream.pending.put_nowait({"type": "ERROR", "object": GONE})
            stream.pending.put_nowait(None)
        elif not self.silent:
            for version, path, event in self._history:
                if version > since and self._belongs(path, stream.collection):
                    stream.pending.put_nowait(event)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self.streams.add(stream)
        try:
            while (told := await stream.pending.get()) is not None:
                if isinstance(told, ConnectionError):
                    _cut(request)
                await response.write(json.dumps(told).encode() + b"\n")
        finally:
            self.streams.discard(stream)
        return response


def _page(found: Document, query: Mapping[str, str]) -> Document:
    """As many items as are asked for, from where the page before has ended; only those of a reason, where that is selected."""
    name, _, wanted = query.get("fieldSelector", "").partition("=")
    if name:
        found = {**found, "items": [one for one in found["items"] if one.get(name) == wanted]}
    start = int(query.get("continue", "0"))
    end = start + int(query.get("limit", "0")) if "limit" in query else len(found["items"])
    more = {"continue": str(end)} if end < len(found["items"]) else {}
    return {**found, "items": found["items"][start:end], "metadata": {**found["metadata"], **more}}


def _cut(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError


@contextlib.asynccontextmanager
async def api_server() -> AsyncIterator[FakeAPIServer]:
    """One that answers at its `url`, until the block ends."""
    server = FakeAPIServer()
    runner = web.ServerRunner(
        web.Server(server.handle, access_log=None, handler_cancellation=True), shutdown_timeout=0.1
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        server.say(None)
        await runner.cleanup()
