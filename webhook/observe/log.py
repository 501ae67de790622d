"""One structured line a review, written off the path of the answer.

A thread does the writing, so that a slow reader of our output cannot slow an answer down; lines that pile up beyond a bound
are dropped and counted, because a full disk must deny nothing. Lines are JSON, or text for people; neither holds outside text
unescaped, so that nobody can write a line of ours.
"""

import enum
import json
import logging
import re
import sys
import threading
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import BinaryIO, Final, TextIO

import msgspec

_MOST_WAITING: Final = 10_000
_BATCH_SECONDS: Final = 0.05
_encode = msgspec.json.Encoder().encode_lines
_BARE: Final = re.compile(r"[A-Za-z0-9_./:@,+-]+")


class LogFormat(enum.StrEnum):
    """How lines are written: for machines, or for people."""

    json = "json"
    text = "text"


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


def _encode_text(lines: Sequence[msgspec.Struct]) -> bytes:
    return "".join(_text_of(line) for line in lines).encode()


def _text_of(line: msgspec.Struct) -> str:
    """Time and event, then what else is known as `name=value`."""
    fields = msgspec.to_builtins(line)
    head = (fields.pop("time"), fields.pop("event"))
    return " ".join([*head, *(f"{name}={_value(value)}" for name, value in fields.items())]) + "\n"


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


def _visible(text: str) -> str:
    """`text` on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class _JsonFormatter(logging.Formatter):
    """A record as one line of JSON, whatever its text holds."""

    def format(self, record: logging.LogRecord) -> str:
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        line = _Line(datetime.fromtimestamp(record.created, UTC), record.levelname, record.getMessage(), trace)
        return msgspec.json.encode(line).decode()


class _TextFormatter(logging.Formatter):
    """A record as one line, and a trace as lines that cannot be taken for others."""

    def format(self, record: logging.LogRecord) -> str:
        trace = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        time = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        first = f"{time} {record.levelname} {_visible(record.getMessage())}"
        return "\n".join([first, *(f"    | {_visible(line)}" for line in trace)])


def log_to(stream: TextIO, log_format: LogFormat = LogFormat.json) -> None:
    """Everything that is no review goes to `stream`, from INFO upwards, a line each."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonFormatter() if log_format is LogFormat.json else _TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class ReviewLog:
    """A writer of lines, with its thread; `close` writes what is waiting and ends it."""

    def __init__(self, stream: BinaryIO | None = None, log_format: LogFormat = LogFormat.json) -> None:
        self._stream = stream or sys.stdout.buffer
        self._encode = _encode if log_format is LogFormat.json else _encode_text
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
            self._stream.write(self._encode(lines))
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += len(lines)
