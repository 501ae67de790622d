"""Notices that an event loop stands still, and says in what: a thread of its own looks whether the loop still beats.

While it stands nothing on it is answered: probes time out, by which the kubelet takes the replica out of service, and ends it if that lasts. What
stood in the way nobody could tell afterwards.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import PurePath
from types import FrameType
from typing import Final

from webhook.observe.metrics import Loop, Metrics

_log = logging.getLogger(__name__)

STALL_SECONDS: Final = 3.0
"""A loop that is late by more stands still."""
_BEAT_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.5
_END_SECONDS: Final = 1.0
_FRAMES: Final = 30
"""Innermost calls that are told."""


class Watchdog:
    """Watches one event loop at a time, and tells the log and the metrics of it. Times in seconds."""

    def __init__(
        self,
        loop: Loop,
        metrics: Metrics,
        *,
        stall: float = STALL_SECONDS,
        beat: float = _BEAT_SECONDS,
        look: float = _LOOK_SECONDS,
    ) -> None:
        self._name: Loop = loop
        self._metrics = metrics
        self._stall = stall
        self._beat_seconds = beat
        self._look = look
        self._beaten: float | None = None
        self._was_late = 0.0
        metrics.loop_lag.labels(loop).set_function(lambda: self.lag)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watches the loop that runs, until the block ends. To be entered in the loop's thread."""
        loop, ended = asyncio.get_running_loop(), threading.Event()
        beating: asyncio.TimerHandle

        def beat() -> None:
            nonlocal beating
            self._was_late = max(self._was_late, self.lag)
            self._beaten = time.monotonic()
            beating = loop.call_later(self._beat_seconds, beat)

        beat()
        watch = threading.Thread(
            target=self._watch, args=(threading.get_ident(), ended), name=f"watchdog-{self._name}", daemon=True
        )
        watch.start()
        try:
            yield
        finally:
            ended.set()
            beating.cancel()
            # It may be writing to what nobody reads.
            watch.join(_END_SECONDS)
            self._beaten = None

    @property
    def lag(self) -> float:
        """By how much the next beat is late."""
        beaten = self._beaten
        return 0.0 if beaten is None else max(0.0, time.monotonic() - beaten - self._beat_seconds)

    def _watch(self, thread: int, ended: threading.Event) -> None:
        told = False
        while not ended.wait(self._look):
            was_late, self._was_late = self._was_late, 0.0
            if was_late > self._stall:
                if told:
                    _log.warning("the event loop of %s goes on, after %.1f s", self._name, was_late)
                else:
                    # This thread stood still as well: there was no processor for it, or something held the interpreter.
                    self._metrics.stalled(self._name)
                    _log.error(
                        "the event loop of %s stood still for %.1f s, with the whole process", self._name, was_late
                    )
                told = False
            lag = self.lag
            if lag > self._stall and not told:
                told = True
                self._metrics.stalled(self._name)
                calls = _calls(sys._current_frames().get(thread))  # noqa: SLF001 - documented, for this
                _log.error("the event loop of %s stands still for %.1f s now, in: %s", self._name, lag, calls)


def _calls(frame: FrameType | None) -> str:
    """Where a thread is, the innermost call first, on one line and without any value."""
    found: list[str] = []
    for inner, line in traceback.walk_stack(frame):
        if len(found) == _FRAMES:
            found.append("…")
            break
        code = inner.f_code
        found.append(f"{code.co_name} ({'/'.join(PurePath(code.co_filename).parts[-2:])}:{line})")
    return " < ".join(found)
