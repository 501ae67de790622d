"""What a condition reckons with: JSON's values, points in time and spans of it, and what may be done with two of them.

Every operation is paid for in units of about a microsecond, by what it has to look at. Types never mix: what the language
does not define is a failure, and a failure satisfies nothing. Source: CEL language definition, "Values".
"""

import datetime as dt
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from webhook import limits
from webhook.parsing import quote


class Failure(Exception):
    """An operation has no result: a missing field, types that do not fit, a number out of range. The reason is for people."""


class TooCostly(Exception):
    """The whole evaluation has spent what one may cost. Unlike a failure, nothing absorbs it."""


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A point in time, in nanoseconds since 1970 (UTC), within the years 1 to 9999."""

    nanoseconds: int

    @property
    def utc(self) -> dt.datetime:
        """The same for a calendar, cut to microseconds."""
        return _EPOCH + dt.timedelta(microseconds=self.nanoseconds // 1000)


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span of time in nanoseconds, of either sign."""

    nanoseconds: int


Value = bool | int | float | str | Timestamp | Duration | list["Value"] | dict[str, "Value"] | None

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SECOND: Final = 1_000_000_000
_TIMES: Final = range(-62_135_596_800 * _SECOND, 253_402_300_800 * _SECOND)
_LONGEST: Final = 315_576_000_000 * _SECOND
_RFC_3339: Final = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?(?:[Zz]|(?P<offset>[+-][0-9]{2}:[0-9]{2}))"
)
_UNITS: Final = {"h": 3600 * _SECOND, "m": 60 * _SECOND, "s": _SECOND, "ms": 10**6, "us": 10**3, "ns": 1}
_SPAN: Final = re.compile(r"(?P<number>[0-9]{1,18}(?:\.[0-9]{1,9})?)(?P<unit>h|ms|m|s|us|ns)")
_INTEGERS: Final = range(-(2**63), 2**63)
_NAMES: Final = {bool: "a boolean", int: "an integer", float: "a double", str: "a text", list: "a list", dict: "a map"}


class Meter:
    """What one evaluation may still spend."""

    __slots__ = ("left",)

    def __init__(self, units: int) -> None:
        self.left = units

    def spend(self, units: int) -> None:
        """Counts `units`. Raises `TooCostly` when there are no more."""
        self.left -= units
        if self.left < 0:
            raise TooCostly


def name(value: Value) -> str:
    """The type of a value, in words."""
    return "null" if value is None else _NAMES.get(type(value), f"a {type(value).__name__.lower()}")


def overload(what: str, *values: Value) -> Failure:
    """That `what` is not defined for these."""
    return Failure(f"{what} is not defined for {' and '.join(map(name, values))}")


def is_number(value: Value) -> bool:
    """Whether it is an integer or a double; to Python a boolean is an integer too."""
    return type(value) is int or type(value) is float


def equal(meter: Meter, one: Value, other: Value) -> bool:
    """Whether two values are equal. Values of different types are not, except numbers."""
    meter.spend(1)
    if is_number(one) and is_number(other):
        return one == other
    if type(one) is not type(other):
        return False
    if isinstance(one, str) and isinstance(other, str):
        meter.spend(min(len(one), len(other)) // limits.WHERE_CHARACTERS)
        return one == other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(equal(meter, a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(meter, one[key], other[key]) for key in one)
    return one == other


def less(meter: Meter, one: Value, other: Value, *, or_equal: bool = False) -> bool:
    """Whether `one` comes before `other`."""
    if isinstance(one, str) and isinstance(other, str):
        meter.spend(min(len(one), len(other)) // limits.WHERE_CHARACTERS)
        return one <= other if or_equal else one < other
    if (isinstance(one, Timestamp) and isinstance(other, Timestamp)) or (
        isinstance(one, Duration) and isinstance(other, Duration)
    ):
        return one.nanoseconds <= other.nanoseconds if or_equal else one.nanoseconds < other.nanoseconds
    if isinstance(one, int | float) and isinstance(other, int | float) and is_number(one) == is_number(other):
        return one <= other if or_equal else one < other
    raise overload("an order", one, other)


def add(meter: Meter, one: Value, other: Value) -> Value:
    """`one + other`."""
    match one, other:
        case str(), str():
            meter.spend((len(one) + len(other)) // limits.WHERE_COPIED)
            return one + other
        case list(), list():
            meter.spend(len(one) + len(other))
            return one + other
        case Timestamp(), Duration():
            return timestamp_of(one.nanoseconds + other.nanoseconds)
        case Duration(), Timestamp():
            return timestamp_of(one.nanoseconds + other.nanoseconds)
        case Duration(), Duration():
            return duration_of(one.nanoseconds + other.nanoseconds)
    return reckon("+", one, other)


def subtract(_meter: Meter, one: Value, other: Value) -> Value:
    """`one - other`."""
    match one, other:
        case Timestamp(), Timestamp():
            return duration_of(one.nanoseconds - other.nanoseconds)
        case Timestamp(), Duration():
            return timestamp_of(one.nanoseconds - other.nanoseconds)
        case Duration(), Duration():
            return duration_of(one.nanoseconds - other.nanoseconds)
    return reckon("-", one, other)


def reckon(operator: str, one: Value, other: Value) -> int | float:
    """Arithmetic of two integers or two doubles; they are never mixed. Whatever has no finite result is a failure."""
    if type(one) is int and type(other) is int:
        return integer_of(_integer(operator, one, other))
    if type(one) is float and type(other) is float and operator != "%":
        return double_of(_double(operator, one, other))
    raise overload(f"`{operator}`", one, other)


def _integer(operator: str, one: int, other: int) -> int:
    match operator:
        case "+":
            return one + other
        case "-":
            return one - other
        case "*":
            return one * other
    if other == 0:
        raise Failure("division by zero")
    # Towards zero, as in C, not downwards as in Python.
    quotient = abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)
    return quotient if operator == "/" else one - other * quotient


def _double(operator: str, one: float, other: float) -> float:
    match operator:
        case "+":
            return one + other
        case "-":
            return one - other
        case "*":
            return one * other
    if other == 0:
        raise Failure("division by zero")
    return one / other


def integer_of(value: int) -> int:
    """A result as a 64-bit integer."""
    if value not in _INTEGERS:
        raise Failure("an integer out of range")
    return value


def double_of(value: float) -> float:
    """A result as a finite double."""
    if not math.isfinite(value):
        raise Failure("a double out of range")
    return value


def timestamp_of(nanoseconds: int) -> Timestamp:
    """A result as a point in time."""
    if nanoseconds not in _TIMES:
        raise Failure("a time out of range")
    return Timestamp(nanoseconds)


def duration_of(nanoseconds: int) -> Duration:
    """A result as a span of time; of at most 10,000 years."""
    if abs(nanoseconds) > _LONGEST:
        raise Failure("a duration out of range")
    return Duration(nanoseconds)


def from_datetime(time: dt.datetime) -> Timestamp:
    """An aware time as a value."""
    return timestamp_of((time - _EPOCH) // dt.timedelta(microseconds=1) * 1000)


def read_timestamp(text: str) -> Timestamp:
    """RFC 3339, with its offset and at most nine digits of a fraction. Raises `Failure`."""
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise Failure(f"{quote(text, 80)} is no time; one is written like 2026-11-25T08:00:00Z")
    try:
        whole = dt.datetime.fromisoformat(f"{match['date']}T{match['time']}{match['offset'] or '+00:00'}")
    except ValueError as e:
        raise Failure(f"{quote(text, 80)} is no time of the calendar") from e
    seconds = (whole - _EPOCH) // dt.timedelta(seconds=1)
    return timestamp_of(seconds * _SECOND + int((match["fraction"] or "").ljust(9, "0")))


def read_duration(text: str) -> Duration:
    """`1h30m`, `-1.5s`: numbers with units from `h` down to `ns`. Raises `Failure`."""
    digits = text.removeprefix("-").removeprefix("+") if not text.startswith(("-+", "+-", "--")) else ""
    total, offset = Decimal(0), 0
    while match := _SPAN.match(digits, offset):
        total += Decimal(match["number"]) * _UNITS[match["unit"]]
        offset = match.end()
    if not digits or offset != len(digits):
        if text in {"0", "-0", "+0"}:
            return Duration(0)
        raise Failure(f"{quote(text, 80)} is no duration; one is written like 36h or 1h30m")
    return duration_of(int(-total if text.startswith("-") else total))
