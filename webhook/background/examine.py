"""One kind of Pods → what runs in them, and what admission would say of what is written, under each policy.

What a node names is judged, and by what was written where both are the same image.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from webhook import limits
from webhook.background.contents import Read, is_twin
from webhook.background.lines import Line, lines_of
from webhook.background.pods import Sight
from webhook.image import Digest, ImageReference, parse_reference
from webhook.judge.workload import Placed, Question
from webhook.operator.radar import SOON
from webhook.parsing import Invalid
from webhook.trust import Resolved
from webhook.verdict import Allowed, Denied, End, Judgement, Outcome, PolicyKey, Ruling


class Asked(Read, Protocol):
    """Who judges; `judge.decide.Decider` implements it."""

    async def judgements(self, question: Question, deadline: float) -> Sequence[Judgement]:
        """What each image gets under each policy, with what exceptions make of it; no use of one is spent."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """What Pods of one kind get. `runs`: what runs in them; `written`: what admission would say, were they made again."""

    runs: tuple[Line, ...]
    written: tuple[Line, ...]

    @property
    def is_settled(self) -> bool:
        """Whether everything could be verified."""
        return all(line.ending != "undecided" for line in (*self.runs, *self.written))


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found of Pods of one kind.

    `strangers`: the places where something runs that is not what was written, with why. `unread`: the places of which it cannot be told whether
    that is the same image. `list_ends`: when the first of the revocation lists ends that something rests on; None: it rests on none.
    """

    result: Result
    strangers: Mapping[str, str]
    unread: frozenset[str]
    list_ends: datetime | None = None


@dataclass(frozen=True, slots=True)
class Examiner:
    """Who finds that out. `clock`: the wall clock, aware."""

    asked: Asked
    clock: Callable[[], datetime]

    async def examine(self, sight: Sight) -> Examined:
        """What Pods of one kind get."""
        judgements, strangers = await self._running(sight)
        anew = await self._judgements(sight.question)
        written = lines_of(anew)
        twins, unread = await self._twins(sight, judgements, written, strangers)
        runs = lines_of(judgements)
        if twins:
            rest = tuple(line for line in runs if line.where not in twins)
            runs = (*rest, *lines_of(await self._ask(sight.question, twins)))
            strangers = {where: why for where, why in strangers.items() if where not in twins}
        # Kept once where both say the same, as of what is written by digest.
        known = {line: line for line in runs}
        result = Result(runs, tuple(known.get(line, line) for line in written))
        return Examined(result, strangers, unread, _list_ends((*judgements, *anew)))

    async def _running(self, sight: Sight) -> tuple[Sequence[Judgement], Mapping[str, str]]:
        """What runs, under each policy; and the places where something runs that is not what was written, with why.

        A node may say which of an index's images it runs; then the index is judged, as at admission.
        """
        running = {
            placed.where: digest for placed, digest in zip(sight.question.images, sight.running, strict=True) if digest
        }
        named = {placed.where: placed for placed in sight.question.images}
        judged = {where: _at(named[where].image, digest) for where, digest in running.items()}
        strangers: dict[str, str] = {}
        for where, digest in running.items():
            written = reference_of(named[where].image)
            if written is None or written.digest in {None, digest}:
                continue
            meant = await self.asked.meaning(sight.question, written)
            if isinstance(meant, Resolved) and digest not in meant.children:
                strangers[where] = f"{written.digest} was written"
            else:
                # One of its images, or nobody can tell now: the index is what is judged.
                judged[where] = named[where].image
        judgements = await self._ask(sight.question, judged)
        denied = {line.where for line in lines_of(judgements) if line.ending == "denied"}
        indexes: dict[str, str] = {}
        for where in denied & running.keys():
            written = reference_of(named[where].image)
            if written is None or written.digest is not None:
                continue
            meant = await self.asked.meaning(sight.question, written)
            if isinstance(meant, Resolved) and running[where] in meant.children:
                indexes[where] = _at(named[where].image, meant.digest)
        if indexes:
            judgements = await self._ask(sight.question, judged | indexes)
        return judgements, strangers

    async def _twins(
        self, sight: Sight, judgements: Sequence[Judgement], written: Iterable[Line], strangers: Mapping[str, str]
    ) -> tuple[Mapping[str, str], frozenset[str]]:
        """What is judged in place of what the node names, because it is the same image; and the places of which that cannot be told.

        Only where what the node names is denied, and by no deny list: that digest was meant.
        """
        denied = {line.where for line in lines_of(judgements) if line.ending == "denied"} - _denied_for_good(judgements)
        doubtful: dict[str, tuple[str, Digest]] = {}
        for placed, digest in zip(sight.question.images, sight.running, strict=True):
            image = reference_of(placed.image) if placed.where in denied else None
            if digest is None or image is None:
                continue
            # What a tag leads to says something only where it would be admitted.
            if placed.where in strangers if image.digest is not None else _admits(written, placed.where):
                doubtful[placed.where] = placed.image, digest
        known: dict[tuple[str, Digest], str | None] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.RESCAN_SECONDS):
                for one in set(doubtful.values()):
                    known[one] = await self._judged_as(sight.question, *one)
        found = {where: known.get(one) for where, one in doubtful.items()}
        twins = {where: image for where, image in found.items() if image not in {None, _at(*doubtful[where])}}
        unread = frozenset(where for where, image in found.items() if image is None)
        return twins, unread

    async def _judged_as(self, question: Question, written: str, digest: Digest) -> str | None:
        """The image by which is judged what runs: itself, or what was written, if it is a twin of that; None: that cannot be told."""
        itself, image = _at(written, digest), parse_reference(written)
        meant = await self.asked.meaning(question, image)
        if not isinstance(meant, Resolved):
            return None
        if digest in {meant.digest, *meant.children}:
            return itself
        twin = await is_twin(self.asked, question, image.at(digest), image.at(meant.digest))
        if twin is None:
            return None
        return _at(written, meant.digest) if twin else itself

    async def _ask(self, question: Question, images: Mapping[str, str]) -> Sequence[Judgement]:
        """The judgements of these images in their places; they stand there already, so no exception's use is needed for them."""
        placed = tuple(
            Placed(one.where, images[one.where], one.kind, one.name, stood=True)
            for one in question.images
            if one.where in images
        )
        return await self._judgements(replace(question, images=placed))

    async def _judgements(self, question: Question) -> Sequence[Judgement]:
        """What the images of a question get. Where something ends soon, all evidence is read: some of it may last longer."""
        said, now = await self.asked.judgements(question, _deadline()), self.clock()
        if not any(end is not None and end.at - now < SOON for end in map(_end_of, said)):
            return said
        again = await self.asked.judgements(replace(question, thorough=True), _deadline())
        lasting = {(one.places, one.policy): one.outcome for one in again if isinstance(one, Ruling)}
        return tuple(_lasting(one, lasting) for one in said)


def reference_of(written: str) -> ImageReference | None:
    """The image that a text names; None: it names none."""
    try:
        return parse_reference(written)
    except Invalid:
        return None


def _deadline() -> float:
    return asyncio.get_running_loop().time() + limits.RESCAN_SECONDS


def _end_of(judgement: Judgement) -> End | None:
    """With what an image would cease to be allowed."""
    outcome = judgement.outcome if isinstance(judgement, Ruling) else None
    return outcome.ends if isinstance(outcome, Allowed) else None


def _list_ends(judgements: Iterable[Judgement]) -> datetime | None:
    outcomes = (one.outcome for one in judgements if isinstance(one, Ruling))
    proofs = (proof for one in outcomes if isinstance(one, Allowed) for proof in one.proofs)
    return min((one.at for proof in proofs for one in proof.lists), default=None)


def _lasting(judgement: Judgement, lasting: Mapping[tuple[tuple[str, ...], PolicyKey | None], Outcome]) -> Judgement:
    """The same, as long as was found; what could not be read again lasts as long as was known."""
    found = lasting.get((judgement.places, judgement.policy)) if isinstance(judgement, Ruling) else None
    if (
        not isinstance(judgement, Ruling)
        or not isinstance(judgement.outcome, Allowed)
        or not isinstance(found, Allowed)
    ):
        return judgement
    return replace(judgement, outcome=replace(judgement.outcome, ends=found.ends))


def _at(written: str, digest: Digest) -> str:
    return f"{written.partition('@')[0]}@{digest}"


def _denied_for_good(judgements: Iterable[Judgement]) -> set[str]:
    """The places of which a deny list says so, or something else that nothing lifts."""
    return {
        where
        for one in judgements
        if isinstance(one, Ruling) and isinstance(one.outcome, Denied) and one.outcome.final
        for where in one.places
    }


def _admits(written: Iterable[Line], where: str) -> bool:
    """Whether what is written in a place would be admitted now."""
    return not any(line.is_refused or line.ending == "undecided" for line in written if line.where == where)
