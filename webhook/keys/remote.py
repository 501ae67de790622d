"""Keys outside the cluster: asked for in the background, kept, asked for again. No review waits for any of them.

One rule for all of them: an outage changes no key. What was last read stays in force while its source cannot be asked, for
`limits.MAX_KEPT`; a source that answers, and has no such key any more, takes it out of force. With `KeptKeys` that holds beyond the
life of the process, and what one replica was told counts in those that cannot ask themselves.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from webhook import limits
from webhook.keys.kept import Kept, KeptKeys
from webhook.policy.keyref import PublicRoot, RemoteKey, UrlKey
from webhook.trust import NoSuchKey, Unavailable, Unresolved

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where keys of one kind come from."""

    @property
    def seconds(self) -> float | None:
        """How long what was read stands before it is asked for again; None: for good."""
        ...

    async def fetch(self, key: Any) -> bytes | Unresolved:
        """The key, or why there is none; what others hear of that is `NoSuchKey` only. Raises `Unavailable` if nobody could be asked. Takes a bounded time."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """A key in force while its source cannot be asked: when it was last read, and since when nobody answers. Aware, in seconds."""

    read_at: datetime
    since: datetime


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of one key, and from when on (monotonic seconds) it is asked for again.

    `at`: when it was read, for keys that are in force. `turn` as in `KeptKeys`. `since`: when its source first gave no answer.
    """

    value: bytes | Unresolved
    due: float = 0.0
    failures: int = 0
    at: datetime | None = None
    turn: int = 0
    since: datetime | None = None


class RemoteKeys:
    """What was last read of each key. `sources` by the kind of key they are for. `kept`: what outlives the process; by default nothing."""

    def __init__(
        self,
        sources: Mapping[type[RemoteKey], Source],
        clock: Callable[[], float] = time.monotonic,
        kept: KeptKeys | None = None,
    ) -> None:
        self._sources = sources
        self._clock = clock
        self._kept = kept
        self._now = _utc if kept is None else kept.now
        self._known: dict[RemoteKey, _Known] = {}
        self._look_again = asyncio.Event()

    def read(self, key: RemoteKey) -> bytes | Unresolved:
        """The key, as it was when it was last asked for; one nobody has asked for yet will be, soon."""
        known = self._known.get(key)
        if known is None:
            self._look_again.set()
            return Unresolved(f"{key}: it has not been read yet")
        return known.value

    def held(self, key: RemoteKey) -> Held | None:
        """Since when a key is in force although its source cannot be asked; None if it can, or the key is not in force."""
        known = self._known.get(key)
        if known is None or known.at is None or known.since is None:
            return None
        return Held(known.at, known.since)

    @property
    def held_count(self) -> int:
        """How many keys are."""
        return sum(self.held(key) is not None for key in self._known)

    def ask_again(self, keys: Collection[RemoteKey]) -> None:
        """Has `follow` ask for these keys at once, as far as anybody wants them: others know something else of them."""
        for key in keys & self._known.keys():
            self._known[key] = replace(self._known[key], due=0.0)
            self._look_again.set()

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
        for key in wanted:
            if key not in self._known:
                # Asked for anew by `follow`, however long its source takes.
                kept = self._in_outage(key, None, "no answer in time")
                if isinstance(kept.value, bytes):
                    self._known[key] = kept

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
        if self._kept is not None:
            self._kept.want(wanted)
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
        kept = self._kept_of(key)
        turn = 0 if kept is None else kept.turn(key)
        is_settled = True
        try:
            found = Unresolved(f"{key}: not supported here") if source is None else await source.fetch(key)
            known = _Known(found, at=self._now() if isinstance(found, bytes) else None, turn=turn)
            if kept is not None and isinstance(found, bytes | NoSuchKey):
                # What only went wrong here says nothing about the key to anybody else.
                is_settled = kept.learn(key, found if isinstance(found, bytes) else None, turn)
        except Unavailable as e:
            _log.warning("key %s could not be read: %s", key, e)
            # An outage is no change of the key.
            known = self._in_outage(key, self._known.get(key), str(e))
        except Exception:  # noqa: BLE001 - whatever a source raises, the other keys are followed on
            _log.exception("key %s could not be read", key)
            known = _Known(Unresolved(f"{key}: an error of the webhook, which stands in its log"), turn=turn)
        failed = known.at is None or known.since is not None or not is_settled
        failures = (0 if before is None else before.failures) + 1 if failed else 0
        self._known[key] = replace(known, due=self._clock() + self._seconds(source, failures), failures=failures)
        return before is None or known.value != before.value

    def _kept_of(self, key: RemoteKey) -> KeptKeys | None:
        """What keeps it. Of the public trust root the files of its repository are kept instead, which prove themselves."""
        return None if isinstance(key, PublicRoot) else self._kept

    def _in_outage(self, key: RemoteKey, before: _Known | None, cause: str) -> _Known:
        """What counts while its source cannot be asked: what was last read here, or since by another replica, or is kept."""
        kept = self._kept_of(key)
        in_force = before if before is not None and before.at is not None else None
        since = None if in_force is None else in_force.since
        if in_force is not None and in_force.at is not None and self._is_over(key, in_force.at):
            _log.warning("key %s was last read at %s, too long ago to be in force", key, _said(in_force.at))
            in_force = None
        found: Kept | None = None
        if kept is not None:
            found = kept.find(key) if in_force is None else kept.find_newer(key, in_force.turn)
        if found is None or kept is None:
            if in_force is None:
                return _Known(Unresolved(f"{key}: {cause}"))
            return replace(in_force, since=in_force.since or self._now())
        turn = kept.turn(key)
        if found.material is None:
            return _Known(
                Unresolved(f"{key}: {cause}; its source had no such key when it was last asked, at {_said(found.at)}"),
                turn=turn,
            )
        if in_force is None or in_force.value != found.material:
            _log.warning(
                "key %s is in force as it was read at %s, because its source cannot be asked", key, _said(found.at)
            )
        return _Known(found.material, at=found.at, turn=turn, since=since or self._now())

    def _is_over(self, key: RemoteKey, at: datetime) -> bool:
        """Whoever read it: replicas that run must not let in what one that starts refuses. What is known by its hash has no age."""
        return not isinstance(key, UrlKey) and self._now() - at >= limits.MAX_KEPT

    @staticmethod
    def _seconds(source: Source | None, failures: int) -> float:
        """Until the key is asked for again: after failures 1 s, 2 s, 4 s and so on."""
        if failures:
            return min(limits.MIN_KEY_PAUSE * 2.0 ** (min(failures, 16) - 1), limits.MAX_KEY_PAUSE)
        seconds = None if source is None else source.seconds
        return float("inf") if seconds is None else seconds


def _utc() -> datetime:
    return datetime.now(UTC)


def _said(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
