"""The process that is measured: the webhook as `serve` composes it, with a no-op TLS handler beside it.

Run by the benchmarks as `python -m bench.server POLICIES [keyless]`; prints one line of JSON with its ports, then follows commands on
standard input, one word a line, and answers each with a line.
"""

import asyncio
import contextlib
import datetime as dt
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from aiohttp import web

from bench import world
from tests.fake.http_registry import HTTPRegistry, serving
from tests.fake.registry import FakeRegistry
from webhook.admission.tls import ServingCertificate, write_self_signed
from webhook.cli import hosting
from webhook.cli.hosting import Ports
from webhook.memory.store import PolicyStore
from webhook.observe.log import ReviewLog
from webhook.observe.metrics import Metrics
from webhook.registry.client import RegistryClient
from webhook.registry.dockerconfig import AnonymousKeychain
from webhook.registry.settings import RegistrySettings

_NO_OP = b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"x","allowed":true}}'


async def _no_op(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=_NO_OP, content_type="application/json")


def _rss() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def _main(count: int, *, keyless: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        registry = await stack.enter_async_context(serving(HTTPRegistry(FakeRegistry())))
        host = registry.host
        world.sign(registry.registry, host)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificate = ServingCertificate(*write_self_signed(folder, ["127.0.0.1"], dt.datetime.now(dt.UTC)))
        further = [world.sign_keyless(registry.registry)] if keyless else []
        before, started = _rss(), time.perf_counter()
        store = PolicyStore()
        store.replace_all([world.policy(host), *world.other_policies(count - 1), *further])
        store.set_ready()
        loaded = time.perf_counter() - started
        gc.collect()
        gc.freeze()
        client = RegistryClient(RegistrySettings.plain_http([host]))
        stack.push_async_callback(client.close)
        pool = stack.enter_context(hosting.checking_pool())
        metrics = Metrics()
        decider = await stack.enter_async_context(
            hosting.composed(store, client, lambda _: AnonymousKeychain(), pool, metrics)
        )
        sink = stack.enter_context(Path(os.devnull).open("wb"))  # noqa: ASYNC230, SIM115 - opened once, before anything is served
        log = ReviewLog(sink)
        stack.callback(log.close)
        ports = await stack.enter_async_context(
            hosting.listening(
                decider, metrics, log, certificate.context,
                home="trusted-images", address="127.0.0.1", ports=Ports(0, 0), not_ready=lambda: None,
            )
        )  # fmt: skip
        plain = web.Application(client_max_size=8 * 2**20)
        plain.router.add_post("/validate", _no_op)
        runner = web.AppRunner(plain, access_log=None, keepalive_timeout=120)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate.context).start()
        ready = {
            "host": host, "webhook": ports.webhook, "plain": runner.addresses[0][1], "loaded": loaded,
            "grown": _rss() - before,
        }  # fmt: skip
        _tell(ready)
        await _follow(registry)
        await runner.cleanup()


async def _follow(registry: HTTPRegistry) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        if line.strip() == b"state":
            _tell({"requests": registry.count(), "cpu": time.process_time(), "rss": _rss()})


def _tell(document: dict[str, object]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(int(sys.argv[1]), keyless="keyless" in sys.argv))
