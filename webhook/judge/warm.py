"""Questions of late, asked again when policies change: so that the Pods to come find done what a new policy or key wants to know.

Behind the answers and one after the other: a change of policy must not flood registries. What was verified anew is remembered for
outages, too; records made under the policy of before count no more.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final

from webhook import limits
from webhook.judge.workload import Question
from webhook.memory.store import PolicyStore
from webhook.verdict import Judgement

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
_QUESTION_SECONDS: Final = 10.0

Ask = Callable[[Question, float], Awaitable[Sequence[Judgement]]]
"""A question and a deadline on the event loop's clock → what is said; nothing is counted or spent by it."""


class Warmer:
    """The questions of late, bounded, the last ones first to be asked again."""

    def __init__(self, store: PolicyStore) -> None:
        self._store = store
        # In the order in which they were judged last.
        self._recent: dict[Hashable, Question] = {}

    def note(self, key: Hashable, question: Question) -> None:
        """Remembers a question that was just judged. A dry run starts nothing."""
        if question.dry_run:
            return
        self._recent.pop(key, None)
        self._recent[key] = question
        if len(self._recent) > limits.MAX_RECENT:
            del self._recent[next(iter(self._recent))]

    async def follow(self, ask: Ask) -> None:
        """Asks again after each change of the policies, until cancelled; a change meanwhile begins it anew."""
        index = self._store.snapshot.index
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._store.snapshot.index is not index:
                index = self._store.snapshot.index
                await self.ask_again(ask)

    async def ask_again(self, ask: Ask) -> int:
        """Asks every question of late under the policies as they are now, until they change; how many were asked."""
        index = self._store.snapshot.index
        asked = 0
        for question in reversed(list(self._recent.values())):
            if self._store.snapshot.index is not index:
                break
            try:
                await ask(question, asyncio.get_running_loop().time() + _QUESTION_SECONDS)
            except Exception:  # noqa: BLE001 - nobody waits for it, and the review that comes will say what is wrong
                _log.exception("a question of late could not be asked again")
            asked += 1
        return asked
