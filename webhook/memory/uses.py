"""Uses of exceptions, counted in this process: for a replica that stands alone, without a cluster to keep the count."""

from collections.abc import Mapping

from webhook.policy.exception import TrustException
from webhook.verdict import ExceptionKey


class UsesHere:
    """Counts that begin with what is known, and end with the process."""

    def __init__(self) -> None:
        self._counts: dict[ExceptionKey, int] = {}

    def learn(self, known: Mapping[ExceptionKey, int]) -> None:
        """Somebody else has counted so many; whoever counted more is right."""
        self._counts |= {key: max(count, self._counts.get(key, 0)) for key, count in known.items()}

    def is_used_up(self, exception: TrustException) -> bool:
        """Whether none is left."""
        return exception.max_uses is not None and self._counts.get(exception.key, 0) >= exception.max_uses

    async def spend(self, exception: TrustException, deadline: float) -> bool:  # noqa: ARG002 - what other counts need
        """Takes one use; False if none is left. Raises nothing: nobody has to be asked."""
        if self.is_used_up(exception):
            return False
        self._counts[exception.key] = self._counts.get(exception.key, 0) + 1
        return True
