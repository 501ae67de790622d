"""The highest version that was seen of each piece of signed metadata: what a rollback is measured against.

It lives as long as the process: a replica that has just started believes the first genuine state that it is shown, however old it
is, until that expires (attack T-01).
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cachetools

from webhook import limits
from webhook.verdict import Version


@dataclass(frozen=True, slots=True)
class _Highest:
    """The highest number, since when, and the highest before it (0: none)."""

    number: int
    since: float
    before: int


class Versions:
    """Bounded; what was asked about longest ago is forgotten first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._highest: cachetools.LRUCache[bytes, _Highest] = cachetools.LRUCache(limits.MAX_VERSIONS)

    def moment(self) -> float:
        """Now, to be given back when what is fetched from now on is compared."""
        return self._clock()

    def behind(self, versions: Iterable[Version], began: float) -> str | None:
        """What among `versions` is older than had been seen when their fetching began, in words; None if nothing is.

        A state that was replaced while it was on its way is not held against it.
        """
        for version in versions:
            highest = self._highest.get(version.of)
            if highest is None:
                continue
            floor = highest.number if highest.since <= began else highest.before
            if version.number < floor:
                return f"{version.what} is version {version.number}, and version {floor} has been seen"
        return None

    def learn(self, versions: Iterable[Version]) -> None:
        """Remembers what was proven genuine, whatever else was wrong with it."""
        for version in versions:
            highest = self._highest.get(version.of)
            if highest is None or version.number > highest.number:
                self._highest[version.of] = _Highest(
                    version.number, self._clock(), 0 if highest is None else highest.number
                )
