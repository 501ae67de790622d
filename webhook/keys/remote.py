"""Keys outside the cluster: asked for in the background, kept, asked for again. No review waits for any of them.

One rule for all of them: an outage changes no key. What was last read stays in force while its source cannot be asked; a source that
answers, and has no such key any more, takes it out of force.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from webhook import limits
from webhook.policy.keyref import RemoteKey
from webhook.trust import Unavailable, Unresolved

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where keys of one kind come from."""

    @property
    def seconds(self) -> float | None:
        """How long what was read stands before it is asked for again; None: for good."""
        ...

    async def fetch(self, key: Any) -> bytes | Unresolved:
        """The key, or why there is none. Raises `Unavailable` if nobody could be asked. Takes a bounded time."""
        ...


@dataclass(slots=True)
class _Known:
    """What is known of one key, and from when on (monotonic seconds) it is asked for again."""

    value: bytes | Unresolved
    due: float = 0.0
    failures: int = 0


class RemoteKeys:
    """What was last read of each key. `sources` by the kind of key they are for."""

    def __init__(self, sources: Mapping[type[RemoteKey], Source], clock: Callable[[], float] = time.monotonic) -> None:
        self._sources = sources
        self._clock = clock
        self._known: dict[RemoteKey, _Known] = {}
        self._look_again = asyncio.Event()

    def read(self, key: RemoteKey) -> bytes | Unresolved:
        """The key, as it was when it was last asked for; one nobody has asked for yet will be, soon."""
        known = self._known.get(key)
        if known is None:
            self._look_again.set()
            return Unresolved(f"{key}: it has not been read yet")
        return known.value

    async def look(self, wanted: Collection[RemoteKey]) -> frozenset[RemoteKey]:
        """Asks for those of these keys that are due, forgets all others, and says which have changed since."""
        due = self._due(wanted)
        answers = await asyncio.gather(*map(self._ask, due))
        return frozenset(key for key, changed in zip(due, answers, strict=True) if changed)

    async def look_first(self, wanted: Collection[RemoteKey]) -> None:
        """Asks for all of these keys, for as long as a start may take; what is missing then is asked for again by `follow`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.FIRST_KEYS_SECONDS):
                await self.look(wanted)

    async def follow(
        self, wanted: Callable[[], Collection[RemoteKey]], changed: Callable[[frozenset[RemoteKey]], None]
    ) -> None:
        """Until cancelled: asks when a key is due or somebody wants a new one, and tells what has changed.

        Each key is asked for by itself, so that a source that hangs keeps no other key waiting.
        """
        asking: set[RemoteKey] = set()

        async def ask(key: RemoteKey) -> None:
            try:
                if await self._ask(key):
                    changed(frozenset({key}))
            finally:
                asking.discard(key)
                self._look_again.set()

        async with asyncio.TaskGroup() as tasks:
            while True:
                self._look_again.clear()
                for key in self._due(wanted()):
                    if key not in asking:
                        asking.add(key)
                        tasks.create_task(ask(key))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._look_again.wait(), self._pause(asking))

    def _due(self, wanted: Collection[RemoteKey]) -> list[RemoteKey]:
        """Those of the keys that are to be asked for now; all others are forgotten."""
        for key in self._known.keys() - wanted:
            del self._known[key]
        now = self._clock()
        return [key for key in wanted if key not in self._known or self._known[key].due <= now]

    def _pause(self, asking: Collection[RemoteKey]) -> float:
        """Seconds until the next key is due."""
        dues = [known.due for key, known in self._known.items() if key not in asking]
        return min(max(min(dues, default=float("inf")) - self._clock(), 0.0), limits.MAX_KEY_PAUSE)

    async def _ask(self, key: RemoteKey) -> bool:
        """Whether what is known of the key is now another."""
        source = self._sources.get(type(key))
        before = self._known.get(key)
        failed = True
        try:
            found = Unresolved(f"{key}: not supported here") if source is None else await source.fetch(key)
            failed = isinstance(found, Unresolved)
        except Unavailable as e:
            _log.warning("key %s could not be read: %s", key, e)
            # An outage is no change of the key.
            held = before is not None and isinstance(before.value, bytes)
            found = before.value if before is not None and held else Unresolved(f"{key}: {e}")
        except Exception:  # noqa: BLE001 - whatever a source raises, the other keys are followed on
            _log.exception("key %s could not be read", key)
            found = Unresolved(f"{key}: an error of the webhook, which stands in its log")
        failures = (0 if before is None else before.failures) + 1 if failed else 0
        self._known[key] = _Known(found, self._clock() + self._seconds(source, failures), failures)
        return before is None or found != before.value

    @staticmethod
    def _seconds(source: Source | None, failures: int) -> float:
        """Until the key is asked for again: after failures 1 s, 2 s, 4 s and so on."""
        if failures:
            return min(limits.MIN_KEY_PAUSE * 2.0 ** (min(failures, 16) - 1), limits.MAX_KEY_PAUSE)
        seconds = None if source is None else source.seconds
        return float("inf") if seconds is None else seconds
