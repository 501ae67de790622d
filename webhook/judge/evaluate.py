"""The judge: a question → rulings. The one place where errors become values.

Every image is judged twice by the same pure function (`ruling`): first over what is remembered, and only if that does not settle it
over what is then fetched. On the warm path nothing waits, so nothing is awaited, and the result says how long it will stay as it is.
What is fetched belongs to everybody: work that is not finished at the deadline goes on behind the answer, so that the controller's
retry finds it done.
"""

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, TypeVar, assert_never
from weakref import WeakValueDictionary

from webhook import limits
from webhook.image import ImageReference, Repository
from webhook.judge.case import Case, cases_of
from webhook.judge.ruling import judgements_on, seconds_to_deny, seconds_to_enforce
from webhook.judge.workload import Question
from webhook.memory.cache import Memo, Remembered, jittered
from webhook.memory.store import Snapshot
from webhook.memory.versions import Versions
from webhook.parsing import Invalid
from webhook.policy.attestation import Attested
from webhook.trust import (
    Access,
    Claim,
    Keychain,
    Manifest,
    Registry,
    Rejected,
    Resolved,
    Signer,
    Unavailable,
    Unrelated,
    Untrusted,
    format_of,
)
from webhook.verdict import Denied, Finding, Judgement, Proof, Ruling, Satisfied, Unknown, Unsatisfied

_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judged:
    """What the images of one question get; every image is in it.

    `seconds`: for how long the same question gets the same under the same snapshot, if the logins in `opened` still open
    what they opened; 0 where anything had to be fetched or could not be.
    """

    judgements: tuple[Judgement, ...]
    seconds: float = 0.0
    opened: tuple[tuple[Repository, Access], ...] = ()


class Registries(Protocol):
    """The registries of the world. `registry.client` implements it."""

    def under(self, keychain: Keychain) -> Registry:
        """The port, with the credentials of `keychain`."""
        ...

    def known(self, keychain: Keychain, repository: Repository) -> Access | None:
        """The logins that open a repository, if that needs no waiting."""
        ...

    async def opened(self, keychain: Keychain, repository: Repository) -> Access:
        """The same, waiting for what has to be read. Raises `Unavailable`."""
        ...

    def recall_resolved(self, image: ImageReference, access: Access) -> Remembered[Resolved] | None:
        """What `Registry.resolve` would return, if that is remembered; for the warm path."""
        ...


class Observer(Protocol):
    """Who counts what the judge does; decides nothing."""

    def verified(self, signer: str, finding: Finding) -> None:
        """A signer was judged from evidence that had to be read."""
        ...

    def recalled(self, *, hit: bool) -> None:
        """A signer's finding was remembered, or was not."""
        ...


class Judge:
    """Gives rulings. One for a process; it holds no policy: each question brings the snapshot it is judged under."""

    def __init__(
        self,
        registries: Registries,
        *,
        pool: Executor,
        now: Callable[[], datetime],
        observer: Observer,
    ) -> None:
        self._registries = registries
        self._pool = pool
        self._now = now
        self._observer = observer
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._versions = Versions()
        self._behind: dict[asyncio.Task[None], str] = {}
        self._findings: Memo[Finding] = Memo(lambda finding: _seconds_to_keep(finding, self._now()), limits.MAX_PROOFS)

    def now(self) -> datetime:
        """The wall clock that everything here is judged by; aware."""
        return self._now()

    async def judge(self, question: Question, snapshot: Snapshot, keychain: Keychain, deadline: float) -> Judged:
        """What each image gets under each policy that speaks about it.

        `deadline` is on the event loop's clock. What could not be read by then is `Undecided`. Raises nothing.
        """
        judgements, cases = cases_of(question, snapshot, self._now())
        pending = []
        for case in cases:
            self._recall(case, keychain)
            known = _settled(case)
            if known is None:
                pending.append(case)
            else:
                judgements += known
        if pending:
            await self._investigate_all(pending, question.who.namespace, keychain, deadline)
            for case in pending:
                judgements += judgements_on(case, final=True) or ()
            return Judged(tuple(judgements))
        opened = {repository: access for case in cases for repository, access in case.opened.items()}
        return Judged(tuple(judgements), min((case.seconds for case in cases), default=math.inf), tuple(opened.items()))

    async def meaning(self, image: ImageReference, keychain: Keychain) -> Resolved | Rejected | Unavailable:
        """What an image's name means now: its digest and, for an index, those of the images in it. Raises nothing."""
        return await _value_of(self._registries.under(keychain).resolve(image))

    async def manifest(self, image: ImageReference, keychain: Keychain) -> Manifest | Rejected | Unavailable | None:
        """The manifest that an image's digest, or its tag, names; None: there is none. Raises nothing."""
        reference = image.digest or image.tag or ""
        return await _value_of(self._registries.under(keychain).manifest(image.repository, reference))

    def stands(self, judged: Judged, keychain: Keychain) -> bool:
        """Whether a judgement that was kept no longer than it says still holds for whoever has this keychain."""
        known = self._registries.known
        hit = all(known(keychain, repository) == access for repository, access in judged.opened)
        self._observer.recalled(hit=hit)
        return hit

    async def close(self) -> None:
        """Ends what goes on behind the answers. To be awaited before the registries and the pool are closed."""
        behind = list(self._behind)
        for task in behind:
            task.cancel()
        await asyncio.gather(*behind, return_exceptions=True)
        await self._findings.close()

    # ── what is remembered ───────────────────────────────────────────────────────────────────────────────────────────
    def _recall(self, case: Case, keychain: Keychain) -> None:
        """Fills `case` with what is known without waiting."""
        if not case.covering and not case.denying:
            case.seconds = seconds_to_enforce(case)
            return
        case.seconds, seconds = 0.0, math.inf
        access = self._registries.known(keychain, case.image.repository)
        if access is None:
            self._observer.recalled(hit=False)
            return
        case.access = case.opened[case.image.repository] = access
        resolved = self._registries.recall_resolved(case.image, access)
        if resolved is None:
            seconds = 0.0
        else:
            case.resolved, seconds = resolved.answer, resolved.seconds
        image = case.subject
        if image is None:
            self._observer.recalled(hit=False)
            return
        for subject, signer in case.demands(image):
            claim = Claim(subject)
            sources = signer.sources(claim)
            opened = tuple([self._registries.known(keychain, source) for source in sources])
            finding = None if None in opened else self._findings.recall(_key(case, signer, claim, opened))
            self._observer.recalled(hit=finding is not None)
            if finding is None:
                seconds = 0.0
                continue
            case.findings[subject.digest, signer], seconds = finding.answer, min(seconds, finding.seconds)
            case.opened |= {source: known for source, known in zip(sources, opened, strict=True) if known is not None}
        case.seconds = min(seconds, seconds_to_deny(case), seconds_to_enforce(case))

    # ── what has to be fetched ───────────────────────────────────────────────────────────────────────────────────────
    async def _investigate_all(
        self, cases: Sequence[Case], namespace: str, keychain: Keychain, deadline: float
    ) -> None:
        at_once = asyncio.Semaphore(limits.MAX_JUDGED_AT_ONCE)
        # Gone with the last review that holds it.
        of_namespace = self._turns.setdefault(namespace, asyncio.Semaphore(limits.MAX_JUDGED_PER_NAMESPACE))

        async def investigate(case: Case) -> None:
            async with at_once, of_namespace:
                await self._investigate(case, keychain)

        tasks = {asyncio.create_task(investigate(case)): case for case in cases}
        await _until_done(list(tasks), deadline)
        for task, case in tasks.items():
            if not task.done():
                self._go_on(case, namespace, keychain)

    def _go_on(self, case: Case, namespace: str, keychain: Keychain) -> None:
        """Reads the rest of `case` behind the answer, so that the controller's next try finds it done.

        Where too much goes on already, that try begins it anew.
        """
        of_namespace = sum(one == namespace for one in self._behind.values())
        if len(self._behind) >= limits.MAX_BEHIND or of_namespace >= limits.MAX_BEHIND_PER_NAMESPACE:
            return
        # The review goes on with what it has.
        rest = replace(case, findings=dict(case.findings), opened=dict(case.opened))

        async def finish() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.FLIGHT_SECONDS):
                    await self._investigate(rest, keychain)

        task = asyncio.create_task(finish())
        self._behind[task] = namespace
        task.add_done_callback(self._behind.pop)

    async def _investigate(self, case: Case, keychain: Keychain) -> None:
        """Fetches for `case` what its rulings still need, and stops as soon as they need nothing more."""
        access = await _value_of(self._registries.opened(keychain, case.image.repository))
        if isinstance(access, Rejected | Unavailable):
            case.resolved = access
            return
        case.access = access
        registry = self._registries.under(keychain)
        tasks = [asyncio.create_task(self._resolve(case, registry))]
        try:
            # A digest that was written is what the evidence must be about: no need to see the image first.
            if case.wants_children:
                await asyncio.wait(tasks)
            if case.subject is not None and _settled(case) is None:
                turns = asyncio.Semaphore(limits.MAX_FOUND_AT_ONCE)
                tasks += [
                    asyncio.create_task(self._find(case, signer, Claim(subject), keychain, registry, turns))
                    for subject, signer in dict.fromkeys(case.demands(case.subject))
                    if (subject.digest, signer) not in case.findings
                ]
            waiting = set(tasks)
            while waiting and _settled(case) is None:
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if waiting and any(
                isinstance(one, Ruling) and isinstance(one.outcome, Denied) for one in judgements_on(case) or ()
            ):
                # It will not be admitted; who is missing besides is worth a moment, or people would learn it one by one.
                await asyncio.wait(waiting, timeout=limits.DENIAL_GRACE_SECONDS)
        finally:
            for task in tasks:
                task.cancel()

    async def _resolve(self, case: Case, registry: Registry) -> None:
        if case.resolved is None:
            case.resolved = await _value_of(registry.resolve(case.image))

    async def _find(
        self,
        case: Case,
        signer: Signer,
        claim: Claim,
        keychain: Keychain,
        registry: Registry,
        turns: asyncio.Semaphore,
    ) -> None:
        async with turns:
            found = await _value_of(self._fetch(case, signer, claim, keychain, registry))
        if isinstance(found, Unavailable):
            found = Unknown((str(found),))
        elif isinstance(found, Rejected):
            found = Unsatisfied((str(found),))
        case.findings |= {} if found is None else {(claim.subject.digest, signer): found}

    async def _fetch(
        self, case: Case, signer: Signer, claim: Claim, keychain: Keychain, registry: Registry
    ) -> Finding | None:
        """None: not read and checked in time. Each request ends by itself; how much there is, and how slow to check, is a publisher's choice."""
        opened = tuple([await self._registries.opened(keychain, source) for source in signer.sources(claim)])

        async def weigh() -> Finding:
            finding = await self._weigh(signer, claim, registry, every_proof=case.every_proof)
            self._observer.verified(format_of(signer), finding)
            return finding

        try:
            return await self._findings.get(_key(case, signer, claim, opened), weigh)
        except TimeoutError:
            return None

    async def _weigh(self, signer: Signer, claim: Claim, registry: Registry, *, every_proof: bool) -> Finding:
        """Reads and checks evidence until there is a proof, or to its end where all proofs count."""
        tally = _Tally("attestation" if isinstance(signer, Attested) else "signature")
        began = self._versions.moment()
        try:
            async with aclosing(signer.collect(claim, registry)) as evidence:
                async for item in evidence:
                    tally.add(await self._check(signer, item, claim, began) if isinstance(item, Untrusted) else item)
                    if tally.proofs and not every_proof:
                        break
        except Exception as e:
            # All that is read together took longer than it may. What was proven by then stands.
            if isinstance(e, TimeoutError) and not tally.proofs:
                raise
            # One place that cannot be read must not take the proofs of another.
            tally.add(_as_value(e))
        return tally.finding()

    async def _check(
        self, signer: Signer, untrusted: Untrusted, claim: Claim, began: float
    ) -> Proof | Rejected | Unavailable:
        """In the pool: how long it takes is the publisher's choice. `began`: when the evidence began to be fetched."""
        loop = asyncio.get_running_loop()
        checking = loop.run_in_executor(self._pool, signer.check, untrusted, claim, self._now())
        return self._measured(await _value_of(checking), began)

    def _measured(self, found: Proof | Rejected | Unavailable, began: float) -> Proof | Rejected | Unavailable:
        """What was found, unless it is a proof over an old state. What is genuine is learnt from, also where it does not satisfy."""
        if isinstance(found, Unavailable):
            return found
        behind = self._versions.behind(found.versions, began)
        self._versions.learn(found.versions)
        if isinstance(found, Rejected):
            return found
        # What is remembered of a proof needs no versions any more.
        return Rejected(f"an old state, played back: {behind}") if behind else replace(found, versions=())


@dataclass(slots=True)
class _Tally:
    """What one signer's evidence has shown so far; `looked_for` is a signature or an attestation."""

    looked_for: str
    proofs: set[Proof] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    unrelated: list[str] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)

    def add(self, found: Proof | Rejected | Unavailable) -> None:
        match found:
            case Proof():
                self.proofs.add(found)
            case Unrelated():
                self.unrelated.append(str(found))
            case Rejected():
                self.reasons.append(str(found))
            case Unavailable():
                self.causes.append(str(found))
            case _:
                assert_never(found)

    def finding(self) -> Finding:
        """Unread evidence might have satisfied, so it outweighs what was read and does not."""
        if self.proofs:
            return Satisfied(frozenset(self.proofs), tuple(self.causes))
        if self.causes:
            return Unknown(tuple(self.causes))
        found = tuple(self.reasons or self.unrelated)
        return Unsatisfied(found or (f"it carries no {self.looked_for}",), absent=not found)


def _settled(case: Case) -> list[Judgement] | None:
    """What every policy says, once enough of the evidence is known, or all of it where that is asked for."""
    if case.thorough and case.subject is not None:
        missing = ((one.digest, signer) not in case.findings for one, signer in case.demands(case.subject))
        if any(missing):
            return None
    return judgements_on(case)


# ── keeping and waiting ──────────────────────────────────────────────────────────────────────────────────────────────
def _seconds_to_keep(finding: Finding, now: datetime) -> float:
    match finding:
        case Satisfied():
            # No longer than the proof that ends first: without it the finding might be another.
            ends = [proof.valid_until for proof in finding.proofs if proof.valid_until is not None]
            return max(0.0, min([limits.PROOF_SECONDS, *((end - now).total_seconds() for end in ends)]))
        case Unsatisfied():
            return jittered(limits.MIN_DENIAL_SECONDS, limits.MAX_DENIAL_SECONDS)
        case Unknown():
            return 0.0
        case _:
            assert_never(finding)


def _key(case: Case, signer: Signer, claim: Claim, opened: tuple[Access | None, ...]) -> Hashable:
    """Everything a finding rests on. What one tenant's credentials opened, another's must open again (attack M-01)."""
    return signer, signer.scope(claim), case.access, opened, case.every_proof


async def _until_done(tasks: Sequence["asyncio.Task[None]"], deadline: float) -> None:
    """Waits for all, or until the deadline; then lets go of what they wait for, which goes on by itself."""
    try:
        done, _ = await asyncio.wait(tasks, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()


async def _value_of(answer: Awaitable[T]) -> T | Rejected | Unavailable:
    """What `answer` gives, its errors as values."""
    try:
        return await answer
    except Exception as e:  # noqa: BLE001 - this is the place where errors become values
        return _as_value(e)


def _as_value(error: Exception) -> Rejected | Unavailable:
    """An unforeseen error is a rejection, not an outage: a publisher could otherwise crash us to reach one."""
    match error:
        case Rejected() | Unavailable():
            return error
        case Invalid():
            return Rejected(str(error))
        case TimeoutError():
            return Unavailable("no answer in time")
    number = secrets.token_hex(4)
    _log.error("unforeseen error %s: %s", number, type(error).__name__, exc_info=error)
    return Rejected(f"an internal error, id {number} in the webhook's log")
