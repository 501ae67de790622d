"""`Memo`: answers kept for a while, and equal questions asked once.

Keys are values: an edited policy or a rotated key is another key, so there is no invalidation here and none is needed. Only
answers are kept; an error is handed to those who waited for it and forgotten, because an outage is not an answer.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import cachetools

from webhook import limits

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remembered(Generic[T]):
    """An answer that is kept, and for how many seconds more."""

    answer: T
    seconds: float


def jittered(least: float, most: float) -> float:
    """Seconds between `least` and `most`, so that what was learnt together does not expire together."""
    return random.uniform(least, most)  # noqa: S311 - spreads load, protects nothing


class Memo(Generic[T]):
    """Answers by key, bounded in number or in size, each for as long as `ttl` says; equal questions share one flight.

    `ttl` is seconds, or a function of the answer that says how many (0: do not keep it). `most` bounds the sum of `size`,
    which counts 1 for each answer unless given. A flight goes on when those who asked for it have stopped waiting, for
    `limits.FLIGHT_SECONDS` at the most, so that whoever asks again joins it or finds it done.
    """

    def __init__(
        self,
        ttl: float | Callable[[T], float],
        most: int,
        *,
        size: Callable[[T], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        seconds = ttl if callable(ttl) else lambda _: ttl
        measure = None if size is None else (lambda kept: size(kept[0]))
        # Each answer with the moment when it ends.
        self._kept: cachetools.TLRUCache[Hashable, tuple[T, float]] = cachetools.TLRUCache(
            maxsize=most, ttu=lambda _, kept, __: kept[1], timer=clock, getsizeof=measure
        )
        self._seconds = seconds
        self._clock = clock
        self._flights: dict[Hashable, asyncio.Task[T]] = {}

    def peek(self, key: Hashable) -> T | None:
        """The answer kept for `key`, or None. Waits for nothing: the warm path is made of this."""
        kept = self._kept.get(key)
        return None if kept is None else kept[0]

    def recall(self, key: Hashable) -> Remembered[T] | None:
        """The same, with how long it will be kept: whatever is built on it must not stand longer."""
        kept = self._kept.get(key)
        return None if kept is None else Remembered(kept[0], kept[1] - self._clock())

    def put(self, key: Hashable, value: T) -> None:
        """Keeps an answer that was learnt in another way. One larger than everything that may be kept is not kept."""
        try:
            self._kept[key] = (value, self._clock() + self._seconds(value))
        except ValueError:
            return

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """The answer kept for `key`, or the one that `make` gives, asked once however many want it.

        Raises whatever `make` raises, to all who waited, and TimeoutError when the flight took longer than it may.
        """
        kept = self._kept.get(key)
        if kept is not None:
            return kept[0]
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._fly(key, make))
            self._flights[key] = flight
            flight.add_done_callback(_consume)
        # Shielded: one review that gives up must not take the answer from the others.
        return await asyncio.shield(flight)

    async def _fly(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(limits.FLIGHT_SECONDS):
                value = await make()
            self.put(key, value)
            return value
        finally:
            del self._flights[key]

    def forget(self, key: Hashable) -> None:
        """Drops what is kept for `key`, because a peer has said that it no longer holds."""
        self._kept.pop(key, None)

    async def close(self) -> None:
        """Ends the flights that go on; to be awaited before what they ask with is closed."""
        flights = dict(self._flights)
        for flight in flights.values():
            flight.cancel()
        await asyncio.gather(*flights.values(), return_exceptions=True)
        for key, flight in flights.items():
            # One that had not begun has not taken itself out.
            if self._flights.get(key) is flight:
                del self._flights[key]

    def __len__(self) -> int:
        return len(self._kept)


def _consume(flight: "asyncio.Task[object]") -> None:
    """Takes the error of a flight nobody waits for any more; whoever asks again makes a new one."""
    if not flight.cancelled():
        flight.exception()
