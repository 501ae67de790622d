"""Since when API servers have asked us without a break, as far as looks at the webhook configurations can tell."""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Standing:
    """Said by `duty`, which looks every few seconds, to whoever infers from it that nothing was admitted by nobody. Seconds since the epoch.

    `since`: nothing was wrong from then on; infinite while something is, or was not looked at twice. `until`: up to then that was seen.
    """

    since: float = math.inf
    until: float = -math.inf
    _versions: frozenset[tuple[str, str, str]] = frozenset()

    def well(self, versions: frozenset[tuple[str, str, str]], began: float) -> None:
        """A look that began then has found all in place. `versions`: of what it found, which tell of what came and went between two looks."""
        if versions != self._versions:
            # What was read now was so some time after the look began: the next one knows.
            self.broken()
            self._versions = versions
            return
        self.since = min(self.since, began)
        self.until = began

    def broken(self) -> None:
        """Something is wrong, or nobody looks any more."""
        self.since, self.until, self._versions = math.inf, -math.inf, frozenset()
