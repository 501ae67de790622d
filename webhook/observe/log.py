"""One structured line a review, written off the path of the answer.

A thread does the writing, so that a slow reader of our output cannot slow an answer down; lines that pile up beyond a bound
are dropped and counted, because a full disk must deny nothing. Lines are JSON and hold no outside text unescaped.
"""

import logging
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from typing import BinaryIO, Final, TextIO

import msgspec

_MOST_WAITING: Final = 10_000
_BATCH_SECONDS: Final = 0.05
_encode = msgspec.json.Encoder().encode_lines


class ReviewLine(msgspec.Struct, omit_defaults=True, gc=False):
    """What is written about one review. `ms` is milliseconds from its last byte to the answer."""

    time: datetime
    event: str
    uid: str
    operation: str
    namespace: str
    kind: str
    name: str
    decision: str
    ms: float
    dry_run: bool = False
    policy: str = ""
    digest: str = ""
    signer: str = ""
    exception: str = ""
    reason: str = ""


class _Line(msgspec.Struct, omit_defaults=True):
    time: datetime
    level: str
    event: str
    trace: str = ""


class _Formatter(logging.Formatter):
    """A record as one line of JSON, whatever its text holds."""

    def format(self, record: logging.LogRecord) -> str:
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        line = _Line(datetime.fromtimestamp(record.created, UTC), record.levelname, record.getMessage(), trace)
        return msgspec.json.encode(line).decode()


def log_as_json(stream: TextIO) -> None:
    """Everything that is no review goes to `stream`, from INFO upwards, one line of JSON each."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class ReviewLog:
    """A writer of lines, with its thread; `close` writes what is waiting and ends it."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream or sys.stdout.buffer
        self._waiting: deque[msgspec.Struct] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="review-log", daemon=True)
        self._thread.start()
        self.dropped = 0

    def add(self, line: msgspec.Struct) -> None:
        """Hands over a line; never waits."""
        if len(self._waiting) >= _MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Writes what is waiting and ends the thread."""
        self._closing.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            # Lines come in bursts; waking once for many of them leaves the processor to the reviews.
            self._closing.wait(_BATCH_SECONDS)
            self._wake.clear()
            self._write()
        self._write()

    def _write(self) -> None:
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            self._stream.write(_encode(lines))
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += len(lines)
