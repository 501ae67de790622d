"""The parts of a running webhook put together: judge, servers, certificates. The one place that knows all of them.

`serve` composes them for good, `demo` for half a minute, the command line without the servers.
"""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from webhook import limits
from webhook.admission import server as admission_server
from webhook.admission.lint import Lint
from webhook.admission.server import Admission
from webhook.console import server as console_server
from webhook.formats import FORMATS
from webhook.judge.decide import Decider, FindNamespace, KeychainOf
from webhook.judge.evaluate import Judge
from webhook.memory.store import PolicyStore
from webhook.observe.log import ReviewLog
from webhook.observe.metrics import Metrics
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


def compose(
    store: PolicyStore,
    registries: RegistryClient,
    keychain_of: KeychainOf,
    pool: ThreadPoolExecutor,
    metrics: Metrics,
    clock: Callable[[], dt.datetime] = now,
    find_namespace: FindNamespace | None = None,
) -> Decider:
    """The judge over these policies and registries."""
    return Decider(Judge(registries, pool=pool, now=clock, observer=metrics), store, keychain_of, find_namespace)


class CannotListen(Exception):
    """An address or port that is not ours to listen on."""


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
) -> AsyncIterator[Ports]:
    """The servers, answering; `ports` of 0 are chosen by the system. On leaving, reviews under way are answered first."""
    admission = Admission(decider.answer, Lint(FORMATS, home), metrics, log)
    async with (
        _site(admission_server.build_app(admission), address, ports.webhook, tls) as webhook_port,
        _site(console_server.build_app(metrics, not_ready), address, ports.metrics, None) as metrics_port,
    ):
        yield Ports(webhook_port, metrics_port)


class _SilentConnections:
    """Connections that have not asked anything yet.

    The library bounds how long one may idle after a request, and not how long one may take to finish the headers of its
    first; a few thousand of those would use up our file descriptors.
    """

    def __init__(self) -> None:
        self._silent: set[asyncio.BaseProtocol] = set()

    @web.middleware
    async def heard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A request has come in whole, less its body."""
        self._silent.discard(request.protocol)
        return await handler(request)

    def watched(self, server: web.Server) -> Callable[[], asyncio.BaseProtocol]:
        """The protocol factory of `server`, whose connections end unless they ask something in time."""
        loop = asyncio.get_running_loop()

        def connect() -> asyncio.BaseProtocol:
            protocol = server()
            self._silent.add(protocol)
            loop.call_later(_TLS_HANDSHAKE_SECONDS + limits.MAX_REQUEST_SECONDS, self._drop, protocol)
            return protocol

        return connect

    def _drop(self, protocol: web.RequestHandler) -> None:
        if protocol in self._silent:
            self._silent.discard(protocol)
            if protocol.transport is not None:
                protocol.transport.close()


@contextlib.asynccontextmanager
async def _site(app: web.Application, address: str, port: int, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    silent = _SilentConnections()
    app.middlewares.append(silent.heard)
    runner = web.AppRunner(
        app,
        access_log=None,
        # Compressed bodies are refused; nothing may unpack them on the way to being refused.
        auto_decompress=False,
        keepalive_timeout=_KEEP_ALIVE_SECONDS,
        # How long we go on reading a body that was refused, so that its sender sees why.
        lingering_time=1.0,
        shutdown_timeout=limits.SHUTDOWN_GRACE,
        max_line_size=limits.MAX_HEADER_FIELD,
        max_field_size=limits.MAX_HEADER_FIELD,
    )
    await runner.setup()
    try:
        if runner.server is None:
            raise RuntimeError("the runner was set up and has no server")
        try:
            listener = socket.create_server((address, port), family=_family(address), backlog=1024)
        except OSError as e:
            raise CannotListen(f"cannot listen on {address} port {port}: {e.strerror or e}") from e
        handshake = None if tls is None else _TLS_HANDSHAKE_SECONDS
        loop = asyncio.get_running_loop()
        site = await loop.create_server(
            silent.watched(runner.server), sock=listener, ssl=tls, ssl_handshake_timeout=handshake
        )
        try:
            yield listener.getsockname()[1]
        finally:
            site.close()
    finally:
        await runner.cleanup()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
