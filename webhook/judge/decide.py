"""The judge with everything it needs: the policies in force, the credentials that apply, and enforcement.

Every face asks here, so that admission and the command line cannot come to differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from webhook.judge.enforce import settle
from webhook.judge.evaluate import Judge, Judgement
from webhook.judge.workload import Question
from webhook.memory.store import PolicyStore
from webhook.trust import Keychain
from webhook.verdict import Answer

KeychainOf = Callable[[Question], Keychain]
"""Whose credentials open the images of a question."""


@dataclass(frozen=True, slots=True)
class Decider:
    """Questions → answers, each under the snapshot of policies it began with."""

    judge: Judge
    store: PolicyStore
    keychain_of: KeychainOf

    async def judgements(self, question: Question, deadline: float) -> Sequence[Judgement]:
        """What each image gets under each policy. `deadline` is on the event loop's clock."""
        return await self.judge.judge(question, self.store.snapshot, self.keychain_of(question), deadline)

    async def answer(self, question: Question, deadline: float) -> Answer:
        """The judgements, enforced. Until the first full list of policies has been read, nothing is admitted."""
        if not self.store.is_ready:
            return Answer(False, 503, "could not verify: the policies have not been read yet. A retry may help")
        return settle(question, await self.judgements(question, deadline))
