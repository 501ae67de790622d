"""Times that others wrote, in UTC: what stands at either end of the calendar is a time like any other, and no error. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Final

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)
_MIDDLE: Final = 5000
"""A year that is near neither end."""


def in_utc(time: datetime) -> datetime:
    """An aware time in UTC; the end of the calendar for what lies beyond it there."""
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return _LAST if time.year > _MIDDLE else _FIRST


def later(time: datetime, by: timedelta) -> datetime:
    """An aware time and a span after it, which may be negative; never beyond the calendar."""
    time = in_utc(time)
    try:
        return time + by
    except OverflowError:
        return _LAST if by > timedelta() else _FIRST


def rfc3339(time: datetime) -> str:
    """An aware time as people and the API server read it: RFC 3339, in UTC, to the second."""
    return in_utc(time).isoformat(timespec="seconds").replace("+00:00", "Z")
