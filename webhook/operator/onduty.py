"""The condition `OnDuty` of every policy: what looks at the webhook configurations have shown. Pure.

`Ready` is about a policy; this is about whether API servers ask us at all, and stands in every policy's status because that is where people
look. So it must not change with what is put back within seconds: a fault counts that every look has shown for a while. It is over at once;
but one that comes again soon, because somebody else keeps writing the configuration, is over only after a while.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

STANDS: Final = dt.timedelta(seconds=10)
"""For how long every look must have shown a fault: the leader puts back what it finds, and looks again five seconds later."""
FIRST: Final = dt.timedelta(minutes=2)
"""The same for what is being made for the first time: it waits for replicas, and every installation begins so. As long as the alert waits."""
_AGAIN: Final = dt.timedelta(minutes=10)
"""How soon after the one before a fault comes again."""
_CALM: Final = dt.timedelta(minutes=1)
"""For how long no look may show one then, until it is over."""
_LONG_AGO: Final = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class OnDuty:
    """What a policy's status says of it."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a look has shown that is not as it was installed.

    `hindrance`: why it is not put back, in one word; empty if it is. `stands`: for how long it must have been shown to be told.
    """

    reason: str
    message: str
    hindrance: str = ""
    status: Literal["False", "Unknown"] = "False"
    stands: dt.timedelta = STANDS

    def is_like(self, other: "Trouble | None") -> bool:
        """Whether it is the same to be told: the texts of errors may differ each time."""
        return other is not None and (self.reason, self.hindrance) == (other.reason, other.hindrance)


@dataclass(slots=True)
class Looks:
    """What several of them say together. `condition` is None before anything is known."""

    condition: OnDuty | None = None
    _told: Trouble | None = None
    _shown: Trouble | None = None
    """By the last look."""
    _since: dt.datetime = _LONG_AGO
    """Since when each look has shown some trouble."""
    _like_since: dt.datetime = _LONG_AGO
    """Since when it has been like the last one."""
    _last: dt.datetime = _LONG_AGO
    _over: dt.datetime = _LONG_AGO
    _comes_again: bool = False

    def well(self, message: str, now: dt.datetime) -> None:
        """A look has found everything as it was installed."""
        self._shown = None
        if self._told is not None:
            if self._comes_again and now - self._last < _CALM:
                return
            self._told, self._over = None, now
        self.condition = OnDuty("True", "InPlace", message)

    def ill(self, troubles: Sequence[Trouble], now: dt.datetime) -> bool:
        """A look has found something else; the worst first. Whether `condition` says that from now on."""
        worst = troubles[0]
        if self._shown is None:
            self._since = now
        if not worst.is_like(self._shown):
            self._like_since = now
        self._shown, self._last = worst, now
        stands = now - (self._since if self._told is None else self._like_since) >= min(one.stands for one in troubles)
        if worst.is_like(self._told) or not stands:
            return False
        if self._told is None:
            self._comes_again = now - self._over < _AGAIN
        self._told = worst
        text = ". ".join(one.message for one in troubles)
        if self._comes_again:
            text += f". It has come again: believed to be over after {_CALM.seconds} s in which no look shows it"
        self.condition = OnDuty(worst.status, worst.reason, text)
        return True
