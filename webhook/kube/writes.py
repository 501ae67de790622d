"""Many writes to the API server, a few at a time: faster than one after the other, and never more than it can do."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from webhook import limits
from webhook.kube import KubeError

_log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Writes:
    """Remembers for how long the API server wants to be left alone. `clock` is monotonic, in seconds."""

    clock: Callable[[], float] = time.monotonic
    _until: float = 0.0
    _raised: frozenset[Hashable] = field(default_factory=frozenset)
    """What was not written in the last call because of an error of ours."""

    @property
    def is_paused(self) -> bool:
        """Whether the API server is left alone now."""
        return self.clock() < self._until

    async def each(self, names: Iterable[K], write: Callable[[K], Awaitable[None]]) -> dict[K, Exception]:
        """Calls `write` for each of `names`, in their order; what failed, and why.

        One that fails stops no other, unless the API server has too much to do or gives no answer: then none is begun any more, and none
        in a later call either before the time that it names is over. An error of ours stops no other either, and is logged with where it comes from.
        Cancelled, it ends when all that it began have.
        """
        left, failed = iter(names), dict[K, Exception]()

        async def some() -> None:
            while not self.is_paused:
                try:
                    name = next(left)
                except StopIteration:
                    return
                try:
                    await write(name)
                except KubeError as e:
                    failed[name] = e
                    if e.is_busy:
                        self._pause(e)
                except Exception as e:  # noqa: BLE001 - whatever it is: the others are written
                    failed[name] = e
                    if name not in self._raised:
                        _log.exception("%s could not be written", name)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(limits.MAX_WRITES_AT_ONCE):
                tasks.create_task(some())
        self._raised = frozenset(name for name, error in failed.items() if not isinstance(error, KubeError))
        return failed

    def _pause(self, error: KubeError) -> None:
        seconds = limits.KUBE_PAUSE if error.retry_after is None else error.retry_after
        self._until = max(self._until, self.clock() + seconds)
