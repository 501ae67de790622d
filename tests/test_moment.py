"""Times at the ends of the calendar, which anybody may write (attack T-11)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from webhook.moment import in_utc, later, rfc3339

EAST, WEST = timezone(timedelta(hours=14)), timezone(-timedelta(hours=14))
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "found"),
    [
        (datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))), datetime(2025, 12, 31, 23, tzinfo=UTC)),
        (datetime(1, 1, 1, tzinfo=EAST), FIRST),
        (datetime(1, 1, 1, tzinfo=WEST), datetime(1, 1, 1, 14, tzinfo=UTC)),
        (datetime(9999, 12, 31, 23, tzinfo=WEST), LAST),
        (datetime(9999, 12, 31, 23, tzinfo=EAST), datetime(9999, 12, 31, 9, tzinfo=UTC)),
    ],
)
def test_t11_a_time_is_told_in_utc_whatever_its_offset(time: datetime, found: datetime) -> None:
    assert in_utc(time) == found
    assert rfc3339(time) == found.isoformat(timespec="seconds").replace("+00:00", "Z")


def test_t11_nothing_is_later_than_the_last_time_nor_earlier_than_the_first() -> None:
    now, day = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)
    assert later(now, day) == now + day
    assert later(later(now, day), -day) == now
    assert later(LAST, day) == LAST
    assert later(FIRST, -day) == FIRST
    assert later(datetime(9999, 12, 31, 23, tzinfo=WEST), -day) == LAST - day
