"""The revocation lists that proofs rest on: when the first of them ends, unless its issuer publishes another in time."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from webhook import limits
from webhook.parsing import quote
from webhook.verdict import End

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class RevocationLists:
    """The newest of each name, as long as it is asked for; of too many those that end first. `clock`: seconds that only grow."""

    clock: Callable[[], float] = time.monotonic
    _known: dict[str, tuple[datetime, float]] = field(default_factory=dict)
    """By its URL: until when it holds, and when it was last relied on; who was so last stands last."""
    _seconds: float = limits.LIST_SECONDS

    def relied_on(self, lists: Iterable[End]) -> None:
        """Something was proven with the help of these."""
        for one in lists:
            before = self._known.pop(one.what, None)
            # Another replica of its server may still give an older one.
            until = one.at if before is None else max(one.at, before[0])
            if before is None or until > before[0]:
                _log.info("revocation list %s holds until %s", quote(one.what, 200), until.isoformat())
            self._known[one.what] = until, self.clock()
        self._forget()
        while len(self._known) > limits.MAX_LISTS:
            # The first to end is what is told, whoever's it is: however many others there are, that one is kept.
            del self._known[max(self._known, key=lambda name: self._known[name][0])]

    @contextlib.contextmanager
    def kept(self, seconds: float) -> Iterator[None]:
        """Meanwhile they are told of for `seconds` longer: whoever looks at everything so often proves anew by then what still is proven by them."""
        self._forget()
        self._seconds = limits.LIST_SECONDS + seconds
        try:
            yield
        finally:
            self._seconds = limits.LIST_SECONDS

    def _forget(self) -> None:
        for name, (_, relied) in list(self._known.items()):
            if relied >= self._lately:
                break
            del self._known[name]

    def first(self) -> datetime | None:
        """When the first of those ends that were relied on lately; None: there is none."""
        return min((until for until, relied in self._known.values() if relied >= self._lately), default=None)

    @property
    def _lately(self) -> float:
        return self.clock() - self._seconds
