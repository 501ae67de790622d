"""A running webhook on loopback, for tests: the servers as `serve` composes them, over real TLS."""

import asyncio
import contextlib
import datetime as dt
import io
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from webhook.admission.tls import ServingCertificate, write_self_signed
from webhook.cli import hosting
from webhook.cli.hosting import Ports
from webhook.judge.decide import Decider
from webhook.judge.pin import Pin
from webhook.judge.workload import Question
from webhook.memory.store import PolicyStore
from webhook.observe.log import ReviewLog
from webhook.observe.metrics import Metrics
from webhook.verdict import Answer, Borne, Refusal, Use


@dataclass
class Deciding:
    """What answers the questions, in place of the judge: any function. Duck-typed as `Decider`."""

    decide: Callable[[Question, float], Awaitable[Answer]]

    async def answer(self, question: Question, deadline: float) -> Answer:
        """As the function says."""
        return await self.decide(question, deadline)

    async def pins(self, question: Question, deadline: float) -> tuple[Pin, ...]:
        """Nothing."""
        return ()


@dataclass
class Running:
    """A webhook that answers, and a client that trusts its certificate."""

    url: str
    console: str
    http: aiohttp.ClientSession
    certificate: ServingCertificate
    metrics: Metrics
    lines: list[dict[str, Any]]
    ports: Ports

    async def post(self, document: Any, path: str = "/validate", **options: Any) -> tuple[int, Any]:
        """POSTs a document as JSON (or bytes as they are): the status, and the body, parsed if it is JSON."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        async with self.http.post(self.url + path, data=io.BytesIO(body), headers=headers, **options) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.content_type == "application/json" else text

    async def metric(self, series: str) -> float:
        """The value of one series of the metrics endpoint."""
        async with self.http.get(f"{self.console}/metrics") as response:
            lines = (await response.text()).splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"{series} ")))


class _Lines:
    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self._lines = lines

    def write(self, data: bytes) -> None:
        self._lines += [json.loads(line) for line in data.splitlines()]

    def flush(self) -> None:
        pass


async def allow(_question: Question, _deadline: float) -> Answer:
    """Allows everything."""
    return Answer(True, 200)


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    decider: Decider | Deciding | Callable[[Question, float], Awaitable[Answer]] = allow,
    not_ready: Callable[[], str | None] = lambda: None,
    tell: Callable[[Use], None] = lambda _: None,
    bear: Callable[[Borne], None] = lambda _: None,
    tell_refusal: Callable[[Refusal], None] = lambda _: None,
) -> AsyncIterator[Running]:
    """The webhook on ports of the system's choice, until the block ends."""
    certificate = ServingCertificate(*write_self_signed(folder, ["127.0.0.1"], dt.datetime.now(dt.UTC)))
    metrics, lines = Metrics(), list[dict[str, Any]]()
    log = ReviewLog(_Lines(lines))  # type: ignore[arg-type]  # all of a stream that it uses
    answering = decider if isinstance(decider, Decider | Deciding) else Deciding(decider)
    trusted = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    try:
        async with (
            hosting.listening(
                answering,  # type: ignore[arg-type]  # has its one method
                metrics, log, certificate.context, home="trusted-images", address="127.0.0.1", ports=Ports(0, 0),
                not_ready=not_ready, tell=tell, bear=bear, tell_refusal=tell_refusal,
            ) as ports,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as http,
        ):  # fmt: skip
            yield Running(
                f"https://127.0.0.1:{ports.webhook}", f"http://127.0.0.1:{ports.metrics}", http, certificate, metrics,
                lines, ports,
            )  # fmt: skip
            await http.close()
            await asyncio.sleep(0)
    finally:
        log.close()


def ready_store(*policies: Any) -> PolicyStore:
    """A store with these policies in force."""
    store = PolicyStore()
    store.replace_all(policies)
    store.set_ready()
    return store
