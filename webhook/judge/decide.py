"""The judge with everything it needs: the policies in force, the credentials that apply, and enforcement.

Every face asks here, so that admission and the command line cannot come to differ. A question that was answered from memory
alone is answered again at once, as long as everything that its answer rests on stays as it was.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from webhook import limits
from webhook.image import ImageReference
from webhook.judge.enforce import Exceptions, Outages, enforced, settle
from webhook.judge.evaluate import Judge, Judged
from webhook.judge.knowngood import KnownGood
from webhook.judge.pin import Pin, pins
from webhook.judge.warm import Warmer
from webhook.judge.workload import Question
from webhook.memory.cache import Memo
from webhook.memory.store import PolicyStore, Snapshot
from webhook.memory.uses import UsesHere
from webhook.parsing import quote
from webhook.policy.exception import TrustException
from webhook.trust import Keychain, Manifest, Rejected, Resolved, Unavailable
from webhook.verdict import Answer, ExceptionKey, Judgement

_log = logging.getLogger(__name__)

KeychainOf = Callable[[Question], Keychain]
"""Whose credentials open the images of a question."""

FindNamespace = Callable[[str], Awaitable[None]]
"""Puts the labels of a namespace into the store, if there is such a namespace."""


class Uses(Protocol):
    """How often exceptions with a bound on their uses have been used."""

    def is_used_up(self, exception: TrustException) -> bool:
        """Whether none is left, as far as that is known without waiting."""
        ...

    async def spend(self, exception: TrustException, deadline: float) -> bool:
        """Takes one use, for good; False if none is left. `deadline` is on the event loop's clock.

        Raises `Unavailable` if it cannot be told, or the exception is not what it was any more.
        """
        ...


_NOT_READY: Final = Answer(False, 503, "could not verify: the policies have not been read yet. A retry may help")


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer, and what has to be as it was for it to be given again. `remembered`: what is to be known of it in an outage is."""

    answer: Answer
    snapshot: Snapshot
    judged: Judged
    remembered: bool


class Decider:
    """Questions → answers, each under the snapshot of policies it began with."""

    def __init__(
        self,
        judge: Judge,
        store: PolicyStore,
        keychain_of: KeychainOf,
        find_namespace: FindNamespace | None = None,
        clock: Callable[[], float] = time.monotonic,
        uses: Uses | None = None,
        known_good: KnownGood | None = None,
    ) -> None:
        self._judge = judge
        self._store = store
        self._keychain_of = keychain_of
        self._find_namespace = find_namespace
        self._uses = uses or UsesHere()
        self._known_good = known_good or KnownGood()
        self._warmer = Warmer(store)
        self._answers: Memo[_Kept] = Memo(lambda kept: kept.judged.seconds, limits.MAX_ANSWERS, clock=clock)

    async def judgements(self, question: Question, deadline: float) -> Sequence[Judgement]:
        """What each image gets under each policy, and what exceptions make of it; no use of one is spent.

        `deadline` is on the event loop's clock.
        """
        snapshot = self._store.snapshot
        judged = await self._judge.judge(question, snapshot, self._keychain_of(question), deadline)
        self._remember(question, snapshot, judged)
        known = snapshot.exceptions.get(question.who.namespace)
        exceptions = None if known is None else Exceptions(known, self._judge.now(), self._used_up(known))
        return enforced(question, judged.judgements, exceptions, self._outages(snapshot))

    async def close(self) -> None:
        """Ends what the judge reads behind its answers. To be awaited before what it reads with is closed."""
        await self._judge.close()

    def _outages(self, snapshot: Snapshot) -> Outages:
        return Outages(snapshot.index.policies, self._known_good, self._judge.now())

    def _remember(self, question: Question, snapshot: Snapshot, judged: Judged) -> bool:
        """Keeps what is to be known in an outage; whether there is nothing left to keep of it. A dry run leaves no trace."""
        wanted = self._known_good.wants(snapshot.index.policies, judged)
        if wanted and not question.dry_run:
            self._known_good.learn(question, wanted, judged, self._judge.now())
        return not wanted or not question.dry_run

    async def follow_changes(self) -> None:
        """After each change of the policies judges again what was asked of late, until cancelled."""
        await self._warmer.follow(self.judgements)

    async def meaning(self, question: Question, image: ImageReference) -> Resolved | Rejected | Unavailable:
        """What the name of an image means now, to whoever asks the question. Raises nothing."""
        return await self._judge.meaning(image, self._keychain_of(question))

    async def manifest(self, question: Question, image: ImageReference) -> Manifest | Rejected | Unavailable | None:
        """The manifest that an image's digest names, to whoever asks the question; None: there is none. Raises nothing."""
        return await self._judge.manifest(image, self._keychain_of(question))

    async def pins(self, question: Question, deadline: float) -> tuple[Pin, ...]:
        """What is to be written into the Pod that asks; nothing until the policies have been read."""
        if question.template or not self._store.is_ready:
            return ()
        return pins(question, await self.judgements(question, deadline))

    async def answer(self, question: Question, deadline: float) -> Answer:
        """The judgements, enforced. Until the first full list of policies has been read, nothing is admitted."""
        if not self._store.is_ready:
            return _NOT_READY
        if self._find_namespace is not None and self._store.snapshot.namespace_labels(question.who.namespace) is None:
            await self._look_for(question.who.namespace, self._find_namespace)
        snapshot, keychain, key = self._store.snapshot, self._keychain_of(question), question.key()
        kept = self._answers.peek(key)
        if (
            kept is not None
            and kept.snapshot is snapshot
            and (kept.remembered or question.dry_run)
            and self._judge.stands(kept.judged, keychain)
        ):
            return kept.answer
        judged = await self._judge.judge(question, snapshot, keychain, deadline)
        remembered = self._remember(question, snapshot, judged)
        self._warmer.note(key, question)
        known = snapshot.exceptions.get(question.who.namespace)
        if known is not None:
            return await self._excuse(question, snapshot, judged, known, deadline)
        answer = settle(question, enforced(question, judged.judgements, outages=self._outages(snapshot)))
        # What an outage lets in is let in until the outage ends, or the record grows old.
        if not answer.tolerated:
            self._answers.put(key, _Kept(answer, snapshot, judged, remembered))
        return answer

    def _used_up(self, exceptions: Sequence[TrustException]) -> frozenset[ExceptionKey]:
        return frozenset(one.key for one in exceptions if one.max_uses is not None and self._uses.is_used_up(one))

    async def _excuse(
        self,
        question: Question,
        snapshot: Snapshot,
        judged: Judged,
        known: tuple[TrustException, ...],
        deadline: float,
    ) -> Answer:
        """The answer where there are exceptions. It is not kept: they end by time, and each Pod that owes to one is counted.

        A use is spent before the answer is given. Each round spends one, or learns that it cannot be had, so there are no more rounds
        than exceptions.
        """
        used_up, uncounted, spent = set(self._used_up(known)), dict[ExceptionKey, str](), set[ExceptionKey]()
        while True:
            exceptions = Exceptions(known, self._judge.now(), used_up, uncounted)
            answer = settle(question, enforced(question, judged.judgements, exceptions, self._outages(snapshot)))
            owed = {excuse.key for excuse in answer.excused if excuse.counted}
            one = next((one for one in known if one.key in owed - spent), None)
            if one is None:
                return answer
            try:
                (spent if await self._uses.spend(one, deadline) else used_up).add(one.key)
            except Unavailable as e:
                uncounted[one.key] = str(e)

    async def _look_for(self, namespace: str, find: FindNamespace) -> None:
        """A namespace made a moment ago may not have been told yet. If it cannot be found, what selects by labels is undecided."""
        try:
            await asyncio.wait_for(find(namespace), limits.NAMESPACE_SECONDS)
        except Exception as e:  # noqa: BLE001 - whatever it is, the labels are not known, and that is judged
            _log.warning("namespace %s could not be looked for: %s", quote(namespace), e)
