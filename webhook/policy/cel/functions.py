"""The functions of the language. Source: CEL language definition, "List of Standard Definitions"."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from webhook import limits
from webhook.parsing import quote
from webhook.policy.cel import values
from webhook.policy.cel.values import Duration, Failure, Meter, Timestamp, Value

if TYPE_CHECKING:
    # Imported where it is used: only conditions with `matches` need it.
    import re2

_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_DOUBLE: Final = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Function:
    """One function. `takes` counts its arguments, the one before the dot among them; `decides`: its result is a boolean."""

    apply: Callable[..., Value]
    takes: int = 1
    decides: bool = False


def _size(_meter: Meter, value: Value) -> Value:
    if isinstance(value, str | list | dict):
        return len(value)
    raise values.overload("size", value)


def _integer(_meter: Meter, value: Value) -> Value:
    if type(value) is int:
        return values.integer_of(value)
    if isinstance(value, float):
        return values.integer_of(int(value))
    if isinstance(value, Timestamp):
        return value.nanoseconds // 10**9
    if isinstance(value, str):
        if _INTEGER.fullmatch(value) is None:
            raise Failure(f"{quote(value, 80)} is no integer")
        return values.integer_of(int(value))
    raise values.overload("int", value)


def _double(_meter: Meter, value: Value) -> Value:
    if values.is_number(value) and isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        if _DOUBLE.fullmatch(value) is None:
            raise Failure(f"{quote(value, 80)} is no number")
        return values.double_of(float(value))
    raise values.overload("double", value)


def _string(_meter: Meter, value: Value) -> Value:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise values.overload("string", value)


def _timestamp(_meter: Meter, value: Value) -> Value:
    if isinstance(value, str):
        return values.read_timestamp(value)
    if isinstance(value, Timestamp):
        return value
    if type(value) is int:
        return values.timestamp_of(value * 10**9)
    raise values.overload("timestamp", value)


def _duration(_meter: Meter, value: Value) -> Value:
    if isinstance(value, str):
        return values.read_duration(value)
    if isinstance(value, Duration):
        return value
    raise values.overload("duration", value)


def _of_texts(what: str, apply: Callable[[str, str], bool]) -> Callable[[Meter, Value, Value], Value]:
    def call(meter: Meter, value: Value, argument: Value) -> Value:
        if not isinstance(value, str) or not isinstance(argument, str):
            raise values.overload(what, value, argument)
        meter.spend((len(value) + len(argument)) // limits.WHERE_CHARACTERS)
        return apply(value, argument)

    return call


def _matches(meter: Meter, value: Value, pattern: Value) -> Value:
    """Anywhere in the text, unless the pattern says `^` and `$`; in linear time (attack D-05)."""
    if not isinstance(value, str) or not isinstance(pattern, str):
        raise values.overload("matches", value, pattern)
    meter.spend(limits.WHERE_PATTERN + len(pattern))
    compiled = compile_pattern(pattern)
    # The engine is linear in both.
    meter.spend(len(value) * compiled.programsize // limits.WHERE_MATCHED)
    try:
        return compiled.search(value) is not None
    except UnicodeEncodeError as e:
        raise Failure("a text that is not Unicode") from e


@functools.lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> "re2._Regexp[str]":
    """A regular expression in the syntax of RE2. Raises `Failure`."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = limits.WHERE_PATTERN_BYTES
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as e:
        raise Failure(f"{quote(pattern, 80)} is no regular expression of RE2") from e


def _of_calendar(what: str, of: Callable[[Timestamp], int]) -> Callable[[Meter, Value], Value]:
    def call(_meter: Meter, value: Value) -> Value:
        if not isinstance(value, Timestamp):
            raise values.overload(what, value)
        return of(value)

    return call


def _of_clock(
    what: str, of: Callable[[Timestamp], int], unit: int, span: int | None = None
) -> Callable[[Meter, Value], Value]:
    """Of a time the reading of a clock in UTC, of a duration the whole of it in that unit, or what is left over of `span`."""

    def call(_meter: Meter, value: Value) -> Value:
        if isinstance(value, Timestamp):
            return of(value)
        if not isinstance(value, Duration):
            raise values.overload(what, value)
        count = abs(value.nanoseconds) // unit
        return (count if span is None else count % span) * (-1 if value.nanoseconds < 0 else 1)

    return call


GLOBALS: Final[Mapping[str, Function]] = {
    "size": Function(_size),
    "int": Function(_integer),
    "double": Function(_double),
    "string": Function(_string),
    "timestamp": Function(_timestamp),
    "duration": Function(_duration),
    "matches": Function(_matches, 2, decides=True),
}
"""`name(…)`."""

METHODS: Final[Mapping[str, Function]] = {
    "size": Function(_size),
    "contains": Function(_of_texts("contains", lambda text, part: part in text), 2, decides=True),
    "startsWith": Function(_of_texts("startsWith", str.startswith), 2, decides=True),
    "endsWith": Function(_of_texts("endsWith", str.endswith), 2, decides=True),
    "matches": Function(_matches, 2, decides=True),
    "getFullYear": Function(_of_calendar("getFullYear", lambda time: time.utc.year)),
    "getMonth": Function(_of_calendar("getMonth", lambda time: time.utc.month - 1)),
    "getDate": Function(_of_calendar("getDate", lambda time: time.utc.day)),
    "getDayOfMonth": Function(_of_calendar("getDayOfMonth", lambda time: time.utc.day - 1)),
    "getDayOfWeek": Function(_of_calendar("getDayOfWeek", lambda time: time.utc.isoweekday() % 7)),
    "getDayOfYear": Function(_of_calendar("getDayOfYear", lambda time: time.utc.timetuple().tm_yday - 1)),
    "getHours": Function(_of_clock("getHours", lambda time: time.utc.hour, 3600 * 10**9)),
    "getMinutes": Function(_of_clock("getMinutes", lambda time: time.utc.minute, 60 * 10**9)),
    "getSeconds": Function(_of_clock("getSeconds", lambda time: time.utc.second, 10**9)),
    "getMilliseconds": Function(
        _of_clock("getMilliseconds", lambda time: time.utc.microsecond // 1000, 10**6, span=1000)
    ),
}
"""`value.name(…)`."""
