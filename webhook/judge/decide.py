"""The judge with everything it needs: the policies in force, the credentials that apply, and enforcement.

Every face asks here, so that admission and the command line cannot come to differ. A question that was answered from memory
alone is answered again at once, as long as everything that its answer rests on stays as it was.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from webhook import limits
from webhook.judge.enforce import settle
from webhook.judge.evaluate import Judge, Judged, Judgement
from webhook.judge.workload import Question
from webhook.memory.cache import Memo
from webhook.memory.store import PolicyStore, Snapshot
from webhook.trust import Keychain
from webhook.verdict import Answer

KeychainOf = Callable[[Question], Keychain]
"""Whose credentials open the images of a question."""

_NOT_READY: Final = Answer(False, 503, "could not verify: the policies have not been read yet. A retry may help")


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer, and what has to be as it was for it to be given again."""

    answer: Answer
    snapshot: Snapshot
    judged: Judged


class Decider:
    """Questions → answers, each under the snapshot of policies it began with."""

    def __init__(
        self, judge: Judge, store: PolicyStore, keychain_of: KeychainOf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._judge = judge
        self._store = store
        self._keychain_of = keychain_of
        self._answers: Memo[_Kept] = Memo(lambda kept: kept.judged.seconds, limits.MAX_ANSWERS, clock=clock)

    async def judgements(self, question: Question, deadline: float) -> Sequence[Judgement]:
        """What each image gets under each policy. `deadline` is on the event loop's clock."""
        keychain = self._keychain_of(question)
        return (await self._judge.judge(question, self._store.snapshot, keychain, deadline)).judgements

    async def answer(self, question: Question, deadline: float) -> Answer:
        """The judgements, enforced. Until the first full list of policies has been read, nothing is admitted."""
        if not self._store.is_ready:
            return _NOT_READY
        snapshot, keychain, key = self._store.snapshot, self._keychain_of(question), question.key()
        kept = self._answers.peek(key)
        if kept is not None and kept.snapshot is snapshot and self._judge.stands(kept.judged, keychain):
            return kept.answer
        judged = await self._judge.judge(question, snapshot, keychain, deadline)
        answer = settle(question, judged.judgements)
        self._answers.put(key, _Kept(answer, snapshot, judged))
        return answer
