"""A `FakeRegistry` over HTTP on loopback, with logins and every fault a registry can have."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from aiohttp import web

from tests.fake.registry import OCI_INDEX, FakeRegistry, to_json
from webhook.image import Digest

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    query: dict[str, list[str]]


@dataclass
class HTTPRegistry:
    """What it serves and how. `host` is known once it is served."""

    registry: FakeRegistry
    users: dict[str, str] = field(default_factory=dict)
    bearer: bool = False
    anonymous: bool = True
    realm: str | None = None
    token_seconds: int = 300
    page: int | None = None
    """Referrers a page; None: all at once."""
    script: dict[str, Handler] = field(default_factory=dict)
    """Handlers for paths that end so, in place of the right answer."""
    host: str = ""
    scheme: str = "http"
    asked: list[Asked] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def count(self, part: str = "") -> int:
        """Requests whose path contains `part`."""
        return sum(part in asked.path for asked in self.asked)

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────
    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(
            Asked(request.method, request.path, dict(request.headers), parse_qs(request.rel_url.raw_query_string))
        )
        for ending, handler in self.script.items():
            if request.path.endswith(ending):
                return await handler(request)
        if request.path == "/token":
            return await self._token(request)
        refused = self._refusal(request)
        return refused or self._content(request)

    def _login(self, request: web.Request) -> tuple[str, str] | None:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return None
        user, _, password = base64.b64decode(value).decode().partition(":")
        return user, password

    async def _token(self, request: web.Request) -> web.Response:
        login = self._login(request)
        if request.method == "POST":
            form = await request.post()
            login = ("<token>", str(form["refresh_token"]))
        known = login is not None and self.users.get(login[0]) == login[1]
        if not known and (login is not None or not self.anonymous):
            return web.json_response({"errors": []}, status=401)
        token = f"token-{len(self.tokens)}"
        self.tokens.add(token)
        return web.json_response({"token": token, "expires_in": self.token_seconds})

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.bearer:
            if request.headers.get("Authorization", "").removeprefix("Bearer ") in self.tokens:
                return None
            realm = self.realm or f"{self.scheme}://{self.host}/token"
            challenge = f'Bearer realm="{realm}",service="registry.test",scope="repository:x,y:pull"'
        elif self.users:
            login = self._login(request)
            if login is not None and self.users.get(login[0]) == login[1]:
                return None
            challenge = 'Basic realm="registry"'
        else:
            return None
        return web.json_response(
            {"errors": [{"code": "UNAUTHORIZED"}]}, status=401, headers={"WWW-Authenticate": challenge}
        )

    def _content(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/v2/")
        repository, found, reference = path.rpartition("/manifests/")
        if found:
            digest = self.registry.tags.get((repository, reference), Digest(reference))
            manifest = self.registry.manifests.get((repository, digest))
            if manifest is None:
                return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
            headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": digest}
            return web.Response(body=manifest.body, headers=headers)
        repository, found, reference = path.rpartition("/blobs/")
        if found and Digest(reference) in self.registry.blobs:
            return web.Response(body=self.registry.blobs[Digest(reference)])
        repository, found, reference = path.rpartition("/referrers/")
        if found and self.registry.referrers_api:
            return self._referrers(request, repository, Digest(reference))
        repository, found, reference = request.path.removeprefix("/extensions/v2/").rpartition("/signatures/")
        if found and (repository, Digest(reference)) in self.registry.signature_lists:
            return web.Response(body=self.registry.signature_lists[repository, Digest(reference)])
        return web.json_response({"errors": [{"code": "UNKNOWN"}]}, status=404)

    def _referrers(self, request: web.Request, repository: str, digest: Digest) -> web.Response:
        descriptors = self.registry.list_referrers(repository, digest)
        start, headers = int(request.query.get("n", "0")), {"Content-Type": OCI_INDEX}
        chosen = descriptors[start:]
        if self.page is not None:
            chosen = descriptors[start : start + self.page]
            if start + self.page < len(descriptors):
                headers["Link"] = f'<{request.path}?n={start + self.page}>; rel="next"'
        entries = [{"mediaType": d.media_type, "digest": d.digest, "size": d.size} for d in chosen]
        return web.Response(
            body=to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}), headers=headers
        )


@contextlib.asynccontextmanager
async def serving(http: HTTPRegistry, tls: ssl.SSLContext | None = None) -> AsyncIterator[HTTPRegistry]:
    """Serves it on a free port of loopback, and leaves nothing running."""
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", http.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        name = "localhost" if tls else "127.0.0.1"
        http.host, http.scheme = f"{name}:{runner.addresses[0][1]}", "https" if tls else "http"
        yield http
    finally:
        await runner.cleanup()


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"{}") -> Handler:
    """Answers with this status."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers=headers, body=body)

    return handler


def answers(body: bytes, headers: dict[str, str]) -> Handler:
    """Answers 200 with this."""
    return status(200, headers, body)


def endless(chunk: bytes = b"x" * 65536) -> Handler:
    """Never stops sending."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):
            while True:
                await response.write(chunk)
        return response

    return handler


def truncated(body: bytes, said: int) -> Handler:
    """Says it sends `said` bytes, sends fewer and hangs up."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(said)})
        await response.prepare(request)
        await response.write(body)
        if request.transport is not None:
            request.transport.close()
        return response

    return handler


def stalled(release: asyncio.Event) -> Handler:
    """Says nothing until released."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response(status=503)

    return handler


def reset() -> Handler:
    """Hangs up at once."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    return handler
