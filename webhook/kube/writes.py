"""Many writes to the API server, a few at a time: faster than one after the other, and never more than it can do."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from webhook import limits
from webhook.kube import KubeError

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Writes:
    """Remembers for how long the API server wants to be left alone. `clock` is monotonic, in seconds."""

    clock: Callable[[], float] = time.monotonic
    _until: float = 0.0

    @property
    def is_paused(self) -> bool:
        """Whether the API server is left alone now."""
        return self.clock() < self._until

    async def each(self, names: Iterable[K], write: Callable[[K], Awaitable[None]]) -> dict[K, KubeError]:
        """Calls `write` for each of `names`, in their order; what failed, and why.

        One that fails stops no other, unless the API server has too much to do or gives no answer: then none is begun any more, and none
        in a later call either before the time that it names is over. Cancelled, it ends when all that it began have.
        """
        left, failed = iter(names), dict[K, KubeError]()

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

        async with asyncio.TaskGroup() as tasks:
            for _ in range(limits.MAX_WRITES_AT_ONCE):
                tasks.create_task(some())
        return failed

    def _pause(self, error: KubeError) -> None:
        seconds = limits.KUBE_PAUSE if error.retry_after is None else error.retry_after
        self._until = max(self._until, self.clock() + seconds)
