"""Who may hold how much at one time: all registries together, and each of them a part, so that one leaves room for the others."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from webhook.trust import Unavailable


class Share:
    """A number of `what` for everybody, of which one registry may hold `each`. Nobody waits: who would exceed it fails."""

    def __init__(self, what: str, most: int, each: int) -> None:
        self._what = what
        self._most = most
        self._each = each
        self._held: Counter[str] = Counter()
        self._total = 0

    @contextmanager
    def holding(self, host: str) -> "Iterator[Held]":
        """What is added is held until the end of the block."""
        held = Held(self, host)
        try:
            yield held
        finally:
            self._give(host, held.count)

    def take(self, host: str, count: int) -> None:
        """Raises `Unavailable` if `host`, or all hosts together, would hold too much."""
        if self._held[host] + count > self._each or self._total + count > self._most:
            raise Unavailable(f"{host}: {self._held[host]} {self._what} are under way already, {self._total} in all")
        self._held[host] += count
        self._total += count

    def _give(self, host: str, count: int) -> None:
        self._total -= count
        self._held[host] -= count
        if not self._held[host]:
            del self._held[host]


@dataclass(slots=True)
class Held:
    """What one request holds of a share."""

    share: Share
    host: str
    count: int = 0

    def add(self, count: int) -> None:
        """Raises `Unavailable`, and holds no more than before."""
        self.share.take(self.host, count)
        self.count += count
