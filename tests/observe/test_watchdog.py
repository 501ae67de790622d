"""An event loop that stands still is told with what it stands in, and goes on in order (fault F-37)."""

import asyncio
import contextlib
import json
import logging
import signal
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.admission.test_review import review
from tests.fake.signing import key
from tests.process import until_serving
from webhook.observe.metrics import Loop, Metrics
from webhook.observe.watchdog import STALL_SECONDS, Watchdog
from webhook.policy.document import API_VERSION

STALL = 0.3


def obstacle(seconds: float = 1.0) -> None:
    """What stands in the way."""
    time.sleep(seconds)


def watchdog(metrics: Metrics, loop: Loop = "webhook", stall: float = STALL) -> Watchdog:
    """One that is quick to bark."""
    return Watchdog(loop, metrics, stall=stall, beat=0.05, look=0.05)


def sample(metrics: Metrics, name: str, loop: Loop = "webhook") -> float | None:
    return metrics.registry.get_sample_value(f"trusted_images_event_loop_{name}", {"loop": loop})


async def until_told(caplog: pytest.LogCaptureFixture, count: int) -> list[logging.LogRecord]:
    async with asyncio.timeout(10):
        while len(caplog.records) < count:
            await asyncio.sleep(0.02)
    return caplog.records


async def test_f37_a_loop_that_stands_still_is_told_while_it_does_and_with_what_it_stands_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()
    with watchdog(metrics).watching():
        await asyncio.sleep(0.1)
        obstacle()
        over = time.time()
        first, second = await until_told(caplog, 2)
        # And again, each time.
        obstacle()
        await until_told(caplog, 4)
    assert first.created < over
    assert "the event loop of webhook stands still for" in first.getMessage()
    calls = first.getMessage().partition(", in: ")[2].split(" < ")
    assert calls[0].startswith("obstacle (observe/test_watchdog.py:")
    assert "\n" not in first.getMessage()
    assert second.created >= over
    assert "goes on, after" in second.getMessage()
    assert float(second.getMessage().split()[-2]) == pytest.approx(1.0, abs=0.5)
    assert sample(metrics, "stalls_total") == 2
    assert sample(metrics, "stalls_total", "kopf") == 0


async def test_f37_a_loop_that_is_busy_and_answers_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    with watchdog(metrics, stall=2.0).watching():
        for _ in range(16):
            obstacle(0.15)
            await asyncio.sleep(0)
    assert caplog.records == []
    assert sample(metrics, "stalls_total") == 0


async def test_f37_how_late_a_loop_is_can_be_read_from_another_and_ends_with_it() -> None:
    metrics, stands = Metrics(), threading.Event()
    go_on, ended = threading.Event(), threading.Event()

    async def other() -> None:
        with watchdog(metrics, "kopf").watching():
            stands.set()
            go_on.wait(10)

    def run() -> None:
        asyncio.run(other())
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    assert await asyncio.to_thread(stands.wait, 10)
    async with asyncio.timeout(10):
        while not sample(metrics, "stalls_total", "kopf"):
            await asyncio.sleep(0.02)
    lag = sample(metrics, "lag_seconds", "kopf")
    assert lag is not None
    assert lag > STALL
    assert sample(metrics, "lag_seconds") == 0
    go_on.set()
    assert await asyncio.to_thread(ended.wait, 10)
    assert sample(metrics, "lag_seconds", "kopf") == 0
    assert not [one for one in threading.enumerate() if one.name == "watchdog-kopf"]


async def test_f37_a_process_that_got_no_processor_is_told_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    dog = watchdog(metrics)
    with dog.watching():
        # As after SIGCONT, where the loop is first to run again.
        await asyncio.sleep(0.2)
        dog._was_late = 7.0
        (record,) = await until_told(caplog, 1)
        await asyncio.sleep(0.2)
    assert "stood still for 7.0 s, with the whole process" in record.getMessage()
    assert len(caplog.records) == 1
    assert sample(metrics, "stalls_total") == 1


async def test_f37_very_many_calls_are_told_from_the_innermost(caplog: pytest.LogCaptureFixture) -> None:
    def nested(depth: int) -> None:
        if depth:
            nested(depth - 1)
        else:
            obstacle(2 * STALL + 0.3)

    with watchdog(Metrics()).watching():
        await asyncio.sleep(0.1)
        nested(100)
        await until_told(caplog, 2)
    calls = caplog.records[0].getMessage().partition(", in: ")[2].split(" < ")
    assert len(calls) == 31
    assert calls[0].startswith("obstacle ")
    assert calls[-1] == "…"


# ── a process ────────────────────────────────────────────────────────────────────────────────────────────────────────
SECONDS = 7
BLOCKED = f"""
import asyncio, signal, sys, time
from webhook.cli import main, running

signals = running.signals

def obstacle():
    time.sleep({SECONDS})

def with_obstacle():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, obstacle)
    return signals()

running.signals = with_obstacle
sys.argv[0] = "kubectl-trust"
main()
"""


@contextlib.asynccontextmanager
async def silent_registry() -> AsyncIterator[str]:
    """One that never answers."""
    open_now: set[asyncio.StreamWriter] = set()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()
        open_now.discard(writer)

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with asyncio.timeout(10):
            while open_now:
                await asyncio.sleep(0.02)
    finally:
        server.close()


async def test_f37_a_server_that_stood_still_answers_what_it_was_asked_before_and_meanwhile(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        host = await stack.enter_async_context(silent_registry())
        spec = {"images": [f"{host}/**"], "signers": [{"name": "a", "cosign": {"key": key("a").pem}}]}
        metadata = {"name": "web", "namespace": "shop"}
        document = {"apiVersion": API_VERSION, "kind": "TrustPolicy", "metadata": metadata, "spec": spec}
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(document))
        (tmp_path / "registries.yaml").write_text(f"registries: [{{host: '{host}', plainHTTP: true}}]")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", BLOCKED, "serve", "--address", "127.0.0.1", "--port", "0", "--metrics-port", "0",
            "--policy", str(tmp_path / "policy.yaml"), "--registries", str(tmp_path / "registries.yaml"),
            "--tuf-url", "", "--drain-seconds", "0",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            said, port, metrics = await until_serving(process)
            certificate = said.partition("--cacert ")[2].split()[0]
            connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=certificate))
            http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))

            async def ask(image: str) -> Any:
                asked = review(spec={"containers": [{"name": "a", "image": image}]})
                async with http.post(f"https://127.0.0.1:{port}/validate?timeout=2s", json=asked) as response:
                    return (await response.json())["response"]

            async def is_ready() -> bool:
                with contextlib.suppress(TimeoutError):
                    wait = aiohttp.ClientTimeout(2)
                    async with http.get(f"http://127.0.0.1:{metrics}/readyz", timeout=wait) as response:
                        return response.status == 200
                return False

            assert await is_ready()
            before = asyncio.create_task(ask(f"{host}/shop/app:v1"))
            await asyncio.sleep(0.3)
            process.send_signal(signal.SIGUSR1)
            await asyncio.sleep(0.3)
            meanwhile = asyncio.create_task(ask(f"{host}/shop/app:v2"))
            # As the kubelet asks: two probes, and it is out of service.
            assert not await is_ready()
            assert not await is_ready()
            # Its time is long over, and it is answered in order.
            for asked in (before, meanwhile):
                answer = await asyncio.wait_for(asked, 2 * SECONDS)
                assert (answer["allowed"], answer["status"]["code"]) == (False, 503)
                assert "could not verify" in answer["status"]["message"]
            assert await is_ready()
            async with http.get(f"http://127.0.0.1:{metrics}/metrics") as response:
                assert 'trusted_images_event_loop_stalls_total{loop="webhook"} 1.0\n' in await response.text()
            await asyncio.sleep(1)
            process.terminate()
            assert process.stderr is not None
            lines = [json.loads(line) for line in (await process.stderr.read()).splitlines()]
            first, second = (line for line in lines if "the event loop" in line["event"])
            assert "in: obstacle (" in first["event"]
            assert first["level"] == "ERROR"
            assert second["event"].startswith("the event loop of webhook goes on, after ")
            assert STALL_SECONDS < float(second["event"].split()[-2]) <= SECONDS + 1
            assert await asyncio.wait_for(process.wait(), 30) == 0
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
