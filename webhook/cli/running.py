"""A process that serves until it is told to stop: its event loop, its signals, its tasks."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Annotated, Any, Final

import typer

from webhook.observe.log import LogFormat

_log = logging.getLogger(__name__)

Address = Annotated[str, typer.Option(help="The address to listen on.")]
ANY_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - a Pod's own; whoever runs it elsewhere names another
Port = Annotated[int, typer.Option(min=0, max=65535, help="The webhook's port (HTTPS).")]
MetricsPort = Annotated[int, typer.Option(min=0, max=65535, help="The port of /livez, /readyz, /metrics (HTTP).")]
DrainSeconds = Annotated[
    float, typer.Option(min=0, max=300, help="Seconds between not ready and closing, after SIGTERM.")
]

End = Callable[[], Awaitable[None]]
"""Ends something, and returns when it has ended."""

LogFormatOption = Annotated[
    LogFormat, typer.Option("--log-format", help="How log lines are written: JSON for machines, text for people.")
]

Stopping = asyncio.Queue[signal.Signals]
"""Why the process should end; empty while it should not."""


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs `main` on uvloop where it is installed (the extra `fast`), else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


async def stopped(stopping: Stopping, drain_seconds: float, leave: End | None = None) -> None:
    """Waits for a signal; after SIGTERM it goes on for `drain_seconds`, not ready and answering. `leave`: what else ends at once."""
    received = await stopping.get()
    stopping.put_nowait(received)
    _log.info("%s: not ready from now on; reviews under way are answered", received.name)
    if leave is not None:
        await leave()
    if received is signal.SIGTERM:
        # The API server is told by the endpoints' change, which takes a moment to reach it.
        await asyncio.sleep(drain_seconds)


def signals() -> Stopping:
    """SIGTERM and SIGINT, as they come."""
    stopping: Stopping = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, stopping.put_nowait, wanted)
    return stopping


@contextlib.asynccontextmanager
async def background() -> AsyncIterator[Callable[[Coroutine[Any, Any, None]], End]]:
    """Starts tasks that end with the block, or by what starting one gives back; one that fails is logged, since it would otherwise be missed in silence."""
    tasks: list[asyncio.Task[None]] = []

    def start(work: Coroutine[Any, Any, None]) -> End:
        task = asyncio.create_task(work)
        task.add_done_callback(_report)
        tasks.append(task)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        return end

    try:
        yield start
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a background task ended: %s", error, exc_info=error)
