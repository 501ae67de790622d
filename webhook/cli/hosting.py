"""The parts of a running webhook put together: judge, servers, certificates. The one place that knows all of them.

`serve` composes them for good, `demo` for half a minute, the command line without the servers.
"""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from webhook import limits
from webhook.admission.lint import Lint
from webhook.admission.server import Admission, Bear, Tell, TellRefusal
from webhook.console import server as console_server
from webhook.formats import FORMATS
from webhook.judge.decide import Decider, FindNamespace, KeychainOf, Uses
from webhook.judge.evaluate import Judge
from webhook.judge.knowngood import KnownGood
from webhook.keys import publicgood
from webhook.keys.https import HttpsKeys
from webhook.keys.kept import KeptKeys
from webhook.keys.pkcs11 import Modules, TokenKeys
from webhook.keys.publicgood import PublicGood, Start
from webhook.keys.remote import RemoteKeys, Source
from webhook.memory.records import Records
from webhook.memory.store import PolicyStore
from webhook.observe.log import ReviewLog
from webhook.observe.metrics import Metrics
from webhook.policy.keyref import PublicRoot, RemoteKey, UrlKey
from webhook.policy.pkcs11uri import TokenKey
from webhook.registry.client import RegistryClient

HOME: Final = "trusted-images"
"""The namespace where the webhook runs unless it is told otherwise: the one the chart installs into."""

_CHECKING_THREADS: Final = 2
"""Signature checks at a time: enough to use two cores, few enough that health checks are still answered."""

# Longer than the 90 s after which the API server closes an idle connection, so that it is never we who close one that it is
# about to use.
_KEEP_ALIVE_SECONDS: Final = 120.0
_TLS_HANDSHAKE_SECONDS: Final = 10.0


@contextlib.contextmanager
def checking_pool() -> Iterator[ThreadPoolExecutor]:
    """The bounded pool in which evidence is checked."""
    pool = ThreadPoolExecutor(_CHECKING_THREADS, thread_name_prefix="check")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def now() -> dt.datetime:
    """The wall clock, for validity; deadlines and caches use the monotonic one."""
    return dt.datetime.now(dt.UTC)


@contextlib.asynccontextmanager
async def composed(
    store: PolicyStore,
    registries: RegistryClient,
    keychain_of: KeychainOf,
    pool: ThreadPoolExecutor,
    metrics: Metrics,
    clock: Callable[[], dt.datetime] = now,
    find_namespace: FindNamespace | None = None,
    uses: Uses | None = None,
    records: Records | None = None,
) -> AsyncIterator[Decider]:
    """The judge over these policies and registries.

    Without `uses`, those of exceptions are counted in this process; without `records`, what was verified is forgotten with it. On leaving,
    what goes on behind the answers is ended: to be left before `registries` and `pool` are.
    """
    judge = Judge(registries, pool=pool, now=clock, observer=metrics)
    known_good = KnownGood(records)
    metrics.records.set_function(lambda: len(known_good.records))
    decider = Decider(judge, store, keychain_of, find_namespace, uses=uses, known_good=known_good)
    try:
        yield decider
    finally:
        await decider.close()


_EXCEPTION_STATES: Final = ("in_force", "not_approved", "expired", "used_up", "broken")


def gauge_exceptions(metrics: Metrics, states: Callable[[], Sequence[str]]) -> None:
    """Counts exceptions by state whenever the metrics are read: they end by time, which tells nobody."""

    def gauge(state: str) -> None:
        metrics.exceptions.labels(state).set_function(lambda: states().count(state))

    for state in _EXCEPTION_STATES:
        gauge(state)


@dataclass(frozen=True, slots=True)
class Tuf:
    """Where sigstore's public trust root is published, and what to begin with (None: what this version brings along)."""

    url: str = publicgood.URL
    start: Start | None = None


def public_good(
    registries: RegistryClient, folder: Path, tuf: Tuf, metrics: Metrics, kept: KeptKeys | None = None
) -> PublicGood:
    """Sigstore's public trust root, fetched as everything else is: with the proxies, authorities and bounds of `registries`."""

    def fetch(url: str) -> Awaitable[bytes | None]:
        # Stores of objects say 403 of what is not there to whoever may not list them.
        return registries.documents.ask(url, limits.MAX_TUF_FILE, absent=frozenset({403, 404}))

    return PublicGood(fetch, folder, now, tuf.url, tuf.start, metrics.root_refreshed, kept)


def remote_keys(
    registries: RegistryClient, modules: Modules, root: PublicGood | None = None, kept: KeptKeys | None = None
) -> RemoteKeys:
    """The keys outside the cluster: documents are fetched as registries are, tokens read by the modules permitted."""
    sources: dict[type[RemoteKey], Source] = {
        UrlKey: HttpsKeys(registries.documents.ask),
        TokenKey: TokenKeys(modules),
    }
    return RemoteKeys(sources if root is None else sources | {PublicRoot: root}, kept=kept)


class CannotListen(Exception):
    """An address or port that is not ours to listen on."""


Routes = Mapping[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]]
"""What answers at which path."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers listen."""

    webhook: int
    metrics: int


@contextlib.asynccontextmanager
async def listening(
    decider: Decider,
    metrics: Metrics,
    log: ReviewLog,
    tls: ssl.SSLContext,
    *,
    home: str,
    address: str,
    ports: Ports,
    not_ready: Callable[[], str | None],
    tell: Tell = lambda _: None,
    bear: Bear = lambda _: None,
    tell_refusal: TellRefusal = lambda _: None,
) -> AsyncIterator[Ports]:
    """The servers, answering; `ports` of 0 are chosen by the system. On leaving, reviews under way are answered first."""
    lint = Lint(FORMATS, home, now)
    admission = Admission(decider.answer, decider.pins, tell, lint, metrics, log, bear, tell_refusal)
    metrics.lines_dropped.set_function(lambda: log.dropped)
    reviews = _Port(admission.routes(), ["POST"], limits.MAX_REVIEW, leaves=lambda: not_ready() is not None)
    console = _Port(console_server.routes(metrics, not_ready), ["GET", "HEAD"], 0)
    async with (
        _listening(reviews, address, ports.webhook, tls) as webhook_port,
        _listening(console, address, ports.metrics, None) as metrics_port,
    ):
        yield Ports(webhook_port, metrics_port)


class _Port:
    """What answers on one port: a handler for each path, all asked by the same methods.

    On the library's lower level, without its applications: a review passes here, and routing, middleware and their checks would be a
    tenth of its cost. Connections that have not asked anything yet are closed in time: the library bounds how long one may idle after a
    request, and not how long one may take to finish the headers of its first; a few thousand of those would use up our file descriptors.

    While `leaves` is true, every answer ends its connection. A client that keeps one would use it until we close it, and lose the request
    that is on its way at that moment: an API server's connection does not follow the endpoints.
    """

    def __init__(
        self, routes: Routes, methods: Collection[str], max_body: int, leaves: Callable[[], bool] = lambda: False
    ) -> None:
        self._routes = routes
        self._methods = frozenset(methods)
        self._max_body = max_body
        self._leaves = leaves
        self._silent: set[asyncio.BaseProtocol] = set()
        self._loop = asyncio.get_running_loop()
        self.server = web.Server(
            self._handle,
            request_factory=self._request,
            access_log=None,
            # Compressed bodies are refused; nothing may unpack them on the way to being refused.
            auto_decompress=False,
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
            # How long we go on reading a body that was refused, so that its sender sees why.
            lingering_time=1.0,
            max_line_size=limits.MAX_HEADER_FIELD,
            max_field_size=limits.MAX_HEADER_FIELD,
        )

    def connect(self) -> asyncio.BaseProtocol:
        """The protocol of a new connection, which ends unless it asks something in time."""
        protocol = self.server()
        self._silent.add(protocol)
        self._loop.call_later(_TLS_HANDSHAKE_SECONDS + limits.MAX_REQUEST_SECONDS, self._drop, protocol)
        return protocol

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        # A request has come in whole, less its body.
        self._silent.discard(protocol)
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=self._max_body)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = self._routes.get(request.path)
        if handler is None:
            return web.Response(status=404, text="404: Not Found\n")
        if request.method not in self._methods:
            allowed = ", ".join(sorted(self._methods))
            return web.Response(status=405, text="405: Method Not Allowed\n", headers={"Allow": allowed})
        response = await handler(request)
        if self._leaves():
            response.force_close()
        return response

    def _drop(self, protocol: web.RequestHandler) -> None:
        if protocol in self._silent:
            self._silent.discard(protocol)
            if protocol.transport is not None:
                protocol.transport.close()


@contextlib.asynccontextmanager
async def _listening(port: _Port, address: str, number: int, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    runner = web.ServerRunner(port.server, shutdown_timeout=limits.SHUTDOWN_GRACE)
    await runner.setup()
    try:
        try:
            listener = socket.create_server((address, number), family=_family(address), backlog=1024)
        except OSError as e:
            raise CannotListen(f"cannot listen on {address} port {number}: {e.strerror or e}") from e
        handshake = None if tls is None else _TLS_HANDSHAKE_SECONDS
        loop = asyncio.get_running_loop()
        site = await loop.create_server(port.connect, sock=listener, ssl=tls, ssl_handshake_timeout=handshake)
        try:
            yield listener.getsockname()[1]
        finally:
            site.close()
    finally:
        await runner.cleanup()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
