"""The judge: a question → rulings. The one place where errors become values.

Every image is judged twice by the same pure function: first over what is remembered, and only if that does not settle it over
what is then fetched. On the warm path nothing waits, so nothing is awaited, and the result says how long it will stay as it is. What is fetched belongs to everybody: work that
is not finished at the deadline goes on behind the answer, so that the controller's retry finds it done.
"""

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol, TypeVar, assert_never
from weakref import WeakValueDictionary

from webhook import limits
from webhook.image import Digest, ImageReference, Repository, Subject, parse_reference
from webhook.judge.workload import Placed, Question
from webhook.memory.cache import Memo, Remembered, jittered
from webhook.memory.store import Snapshot
from webhook.memory.versions import Versions
from webhook.parsing import Invalid, quote
from webhook.policy import require
from webhook.policy.attestation import Attested
from webhook.policy.policy import NO_DENIALS, ContainerKind, Demand, DenyList, Policy
from webhook.trust import (
    Access,
    Claim,
    Keychain,
    Platform,
    Registry,
    Rejected,
    Resolved,
    Signer,
    Unavailable,
    Unrelated,
    Unresolved,
    Untrusted,
    format_of,
)
from webhook.verdict import (
    Allowed,
    Deferred,
    Denied,
    Finding,
    NamedFinding,
    Outcome,
    Proof,
    Ruling,
    Satisfied,
    Uncovered,
    Undecided,
    Unknown,
    Unsatisfied,
)

_log = logging.getLogger(__name__)

T = TypeVar("T")

Judgement = Ruling | Uncovered | Deferred
"""What the judge says about one image: a ruling for each policy, or that there is none."""


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


@dataclass(slots=True)
class _Case:
    """One image in one kind of container: what is known about it so far. Lives as long as its review."""

    places: tuple[str, ...]
    image: ImageReference
    covering: tuple[Policy, ...]
    denying: tuple[Policy, ...]
    uncertain: tuple[Policy, ...]
    now: datetime
    access: Access | Unavailable | None = None
    resolved: Resolved | Rejected | Unavailable | None = None
    findings: dict[tuple[Digest, Signer], Finding] = field(default_factory=dict)
    every_proof: bool = False
    """Whether all evidence counts, because identities are counted or some key is denied; else the first proof ends it."""
    seconds: float = math.inf
    """For how long all of this is remembered."""
    opened: dict[Repository, Access] = field(default_factory=dict)
    """The logins that opened what is remembered."""

    @property
    def subject(self) -> Subject | None:
        """What would run: the digest that was written, else the one that the tag means."""
        image = self.image
        digest = image.digest or (self.resolved.digest if isinstance(self.resolved, Resolved) else None)
        return None if digest is None else Subject(image.repository, digest, image.tag, image.digest is not None)

    def judged(self, policy: Policy) -> tuple[Platform, ...] | Denied | None:
        """What `policy` judges: the image itself, or the images of an index. None: that is not known yet."""
        if self.subject is None:
            return None
        itself = (Platform("", self.subject.digest),)
        if policy.terms.platforms == "index":
            return itself
        if not isinstance(self.resolved, Resolved):
            return None
        if self.resolved.platforms is None:
            return itself
        if self.resolved.is_nested:
            return Denied(("an index of indexes, whose images cannot be judged one by one",), subject=self.subject)
        if not self.resolved.platforms:
            return Denied(("an index without an image of any platform",), subject=self.subject)
        return tuple(dict.fromkeys(self.resolved.platforms))

    def demands(self, subject: Subject) -> Iterator[tuple[Subject, Signer]]:
        """What all policies that cover the image ask of whom, as far as keys are known; equal ones more than once."""
        for policy in self.covering:
            judged = self.judged(policy)
            for platform in judged if isinstance(judged, tuple) else ():
                for demand in policy.wanted:
                    if not isinstance(demand.signer, Unresolved):
                        yield replace(subject, digest=platform.digest), demand.signer

    @property
    def wants_children(self) -> bool:
        """Whether the image has to be seen before it is known what is judged."""
        return self.subject is None or any(policy.terms.platforms != "index" for policy in self.covering)


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
        judgements, cases = _cases(question, snapshot, self._now())
        pending = []
        for case in cases:
            self._recall(case, keychain)
            known = _judgements(case)
            if known is None:
                pending.append(case)
            else:
                judgements += known
        if pending:
            await self._investigate_all(pending, question.who.namespace, keychain, deadline)
            for case in pending:
                judgements += _judgements(case, final=True) or ()
            return Judged(tuple(judgements))
        opened = {repository: access for case in cases for repository, access in case.opened.items()}
        return Judged(tuple(judgements), min((case.seconds for case in cases), default=math.inf), tuple(opened.items()))

    async def meaning(self, image: ImageReference, keychain: Keychain) -> Resolved | Rejected | Unavailable:
        """What an image's name means now: its digest and, for an index, those of the images in it. Raises nothing."""
        return await _value_of(self._registries.under(keychain).resolve(image))

    def stands(self, judged: Judged, keychain: Keychain) -> bool:
        """Whether a judgement that was kept no longer than it says still holds for whoever has this keychain."""
        known = self._registries.known
        hit = all(known(keychain, repository) == access for repository, access in judged.opened)
        self._observer.recalled(hit=hit)
        return hit

    # ── what is remembered ───────────────────────────────────────────────────────────────────────────────────────────
    def _recall(self, case: _Case, keychain: Keychain) -> None:
        """Fills `case` with what is known without waiting."""
        if not case.covering and not case.denying:
            case.seconds = _seconds_to_enforce(case)
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
        case.seconds = min(seconds, _seconds_to_deny(case), _seconds_to_enforce(case))

    # ── what has to be fetched ───────────────────────────────────────────────────────────────────────────────────────
    async def _investigate_all(
        self, cases: Sequence[_Case], namespace: str, keychain: Keychain, deadline: float
    ) -> None:
        at_once = asyncio.Semaphore(limits.MAX_JUDGED_AT_ONCE)
        # Gone with the last review that holds it.
        of_namespace = self._turns.setdefault(namespace, asyncio.Semaphore(limits.MAX_JUDGED_PER_NAMESPACE))

        async def investigate(case: _Case) -> None:
            async with at_once, of_namespace:
                await self._investigate(case, keychain)

        tasks = {asyncio.create_task(investigate(case)): case for case in cases}
        await _until_done(list(tasks), deadline)
        for task, case in tasks.items():
            if not task.done():
                self._go_on(case, namespace, keychain)

    def _go_on(self, case: _Case, namespace: str, keychain: Keychain) -> None:
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

    async def _investigate(self, case: _Case, keychain: Keychain) -> None:
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
            if case.subject is not None and _judgements(case) is None:
                turns = asyncio.Semaphore(limits.MAX_FOUND_AT_ONCE)
                tasks += [
                    asyncio.create_task(self._find(case, signer, Claim(subject), keychain, registry, turns))
                    for subject, signer in dict.fromkeys(case.demands(case.subject))
                    if (subject.digest, signer) not in case.findings
                ]
            waiting = set(tasks)
            while waiting and _judgements(case) is None:
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _resolve(self, case: _Case, registry: Registry) -> None:
        if case.resolved is None:
            case.resolved = await _value_of(registry.resolve(case.image))

    async def _find(
        self,
        case: _Case,
        signer: Signer,
        claim: Claim,
        keychain: Keychain,
        registry: Registry,
        turns: asyncio.Semaphore,
    ) -> None:
        async with turns:
            found = await _value_of(self._fetch(case, signer, claim, keychain, registry))
        match found:
            case Unavailable():
                case.findings[claim.subject.digest, signer] = Unknown((str(found),))
            case Rejected():
                case.findings[claim.subject.digest, signer] = Unsatisfied((str(found),))
            case _:
                case.findings[claim.subject.digest, signer] = found

    async def _fetch(
        self, case: _Case, signer: Signer, claim: Claim, keychain: Keychain, registry: Registry
    ) -> Finding:
        opened = tuple([await self._registries.opened(keychain, source) for source in signer.sources(claim)])

        async def weigh() -> Finding:
            finding = await self._weigh(signer, claim, registry, every_proof=case.every_proof)
            self._observer.verified(format_of(signer), finding)
            return finding

        return await self._findings.get(_key(case, signer, claim, opened), weigh)

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
        except Exception as e:  # noqa: BLE001 - one place that cannot be read must not take the proofs of another
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


def _cases(question: Question, snapshot: Snapshot, now: datetime) -> tuple[list[Judgement], list[_Case]]:
    """What needs no evidence, and the images that do: each distinct one once in each kind of container."""
    settled: list[Judgement] = []
    places: dict[tuple[str, ContainerKind], list[Placed]] = {}
    for placed in question.images:
        places.setdefault((placed.image, placed.kind), []).append(placed)
    cases = []
    labels = snapshot.namespace_labels(question.who.namespace)
    for (written, kind), where in places.items():
        named = tuple(placed.where for placed in where)
        if not written:
            settled.append(_empty(named, template=question.template))
            continue
        try:
            image = parse_reference(written)
        except Invalid as e:
            settled.append(Ruling(named, written, None, Denied((str(e),))))
            continue
        match = snapshot.index.match(image, question.who, kind, labels)
        every_proof = any(policy.terms.deny.names_signers for policy in match.denying) or any(
            policy.require is not None and require.needs_all_proofs(policy.require) for policy in match.covering
        )
        cases.append(_Case(named, image, match.covering, match.denying, match.uncertain, now, every_proof=every_proof))
    return settled, cases


def _empty(places: tuple[str, ...], *, template: bool) -> Judgement:
    return Deferred(places) if template else Ruling(places, "", None, Denied(("no image is named",)))


# ── the pure part: what is known → rulings ──────────────────────────────────────────────────────────────────────────────
_PENDING: Final = ("it could not be read in time",)


def _judgements(case: _Case, *, final: bool = False) -> list[Judgement] | None:
    """What every policy says on what is known now.

    None while something depends on evidence not fetched yet; if `final`, that is `Undecided`.
    """
    judgements: list[Judgement] = []
    for policy in case.uncertain:
        cause = "the labels of the namespace are not known, so whether the policy applies is not either"
        judgements.append(_ruling(case, policy, Undecided((cause,), case.subject, final=bool(policy.terms.deny))))
    for policy in case.covering:
        outcome = _outcome(case, policy)
        if outcome is None and not final:
            return None
        judgements.append(_ruling(case, policy, outcome or _pending(case, policy)))
    for policy in case.denying:
        if policy in case.covering:
            continue
        denial = _denial(case, policy)
        if denial is None and not final:
            return None
        if not isinstance(denial, _Silent):
            judgements.append(_ruling(case, policy, denial or _pending(case, policy)))
    if not case.covering and not case.uncertain:
        judgements.append(Uncovered(case.places, str(case.image)))
    return judgements


def _pending(case: _Case, policy: Policy) -> Undecided:
    """What a policy comes to whose evidence did not come in time; final while its deny list has not been compared."""
    final = not isinstance(_denial(case, policy), _Silent)
    return Undecided(_PENDING, case.subject, final, _is_outage(case, policy))


def _ruling(case: _Case, policy: Policy, outcome: Outcome) -> Ruling:
    by_tag = case.image.digest is None
    mode = policy.terms.mode_at(case.now)
    return Ruling(
        places=case.places,
        image=str(case.image),
        policy=policy.key,
        outcome=outcome,
        mode=mode,
        message=policy.terms.message,
        findings=tuple(
            NamedFinding(demand.name, _shown(case, policy, demand, outcome), demand.is_attestation)
            for demand in policy.demands
        ),
        by_tag=by_tag,
        # Only in mode `enforce`: the others change nothing, and tell of the open race.
        pins=by_tag and policy.terms.tags == "pin" and mode == "enforce",
    )


def _shown(case: _Case, policy: Policy, demand: Demand, outcome: Outcome) -> Finding:
    """What is told of one name; of one that was not asked about, why not."""
    finding = _over_all(case, policy, demand)
    if not isinstance(finding, Unknown) or not _is_missing(case, policy, demand):
        return finding
    if isinstance(case.resolved, Rejected | Unavailable):
        return Unknown((str(case.resolved),))
    return finding if isinstance(outcome, Undecided) else Unknown(("not needed for the decision",))


def _outcome(case: _Case, policy: Policy) -> Outcome | None:
    """What `policy`, which covers the image, says of it. None: that depends on something not fetched yet."""
    denial = _denial(case, policy)
    if isinstance(denial, Denied):
        return denial
    refusal = _refusal(case, policy)
    if refusal is not None:
        return refusal
    # An exception may lift what the policy requires; what deny lists say must be known first.
    final = not isinstance(denial, _Silent)
    match case.resolved:
        case Rejected():
            # An index that cannot be read may hold what is denied.
            final = final or any(policy.terms.deny.digests for policy in case.denying)
            return Denied((str(case.resolved),), final, case.subject)
        case Unavailable():
            demanded = None if final else _demand(case, policy)
            # What was read and does not satisfy is no outage, whoever fell silent since.
            if isinstance(demanded, Denied):
                return demanded
            # Who has signed it is not known either, or would have to be asked again.
            final = final or _names_signers(case)
            return Undecided((str(case.resolved),), case.subject, final, _is_outage(case, policy))
    return _demand(case, policy) if isinstance(denial, _Silent) else denial


def _refusal(case: _Case, policy: Policy) -> Denied | None:
    """What needs no evidence at all, and what no exception lifts: nobody knows what a broken policy denies, or what a tag will mean."""
    subject = case.subject
    if policy.faults:
        reasons = tuple(f"the policy is broken: {fault}" for fault in policy.faults)
        return Denied(reasons, True, subject, fix="mend the policy; until then it denies what it covers")
    if policy.terms.tags == "refuse" and case.image.digest is None:
        reason = "the policy admits digests only, because a tag can be moved to another image at any time"
        digest = subject.digest if subject else "sha256:…"
        return Denied((reason,), True, subject, fix=f"name it by digest: {case.image.repository}@{digest}")
    return None


def _demand(case: _Case, policy: Policy) -> Outcome | None:
    """What the policy's `require` comes to for the image. None: that depends on something not fetched yet."""
    subject = case.subject
    finding = _required(case, policy)
    names_signers = _names_signers(case)
    if isinstance(finding, Denied):
        # Nobody looked at who has signed the images in it.
        return replace(finding, final=names_signers)
    match finding:
        case Satisfied():
            # The image itself has been seen, too: that somebody signed a digest does not make it an image.
            if case.resolved is None or subject is None:
                return None
            return Allowed(subject, finding.proofs)
        case Unsatisfied():
            return (
                None if subject is None else Denied(finding.reasons, subject=subject, fix=_fix(case, policy, subject))
            )
        case Unknown():
            if _is_missing_some(case, policy):
                return None
            # What could not be read might have shown that a denied key alone has signed it.
            return Undecided(finding.causes, subject, names_signers, _is_outage(case, policy))
        case _:
            assert_never(finding)


def _is_outage(case: _Case, policy: Policy) -> bool:
    """Whether others could not be asked: whether it would be undecided, too, if the keys that are missing were nobody's.

    Whoever can take a key away could otherwise reach `onOutage`.
    """
    if policy.require is None:
        return False
    missing = [demand.name for demand in policy.wanted if isinstance(demand.signer, Unresolved)]
    judged = case.judged(policy)
    settled = []
    for digest in [one.digest for one in judged] if isinstance(judged, tuple) else [None]:
        findings = _findings(case, policy, digest, NO_DENIALS) | dict.fromkeys(
            missing, Unsatisfied(("its key is missing",))
        )
        settled.append(isinstance(require.evaluate(policy.require, findings), Unsatisfied))
    return not (any(settled) if policy.terms.platforms == "all" else all(settled))


def _names_signers(case: _Case) -> bool:
    """Whether some deny list can only be compared with signatures that have been read."""
    return any(one.terms.deny.names_signers for one in case.denying)


class _Silent:
    """A deny list has been compared in full, and does not match."""


_SILENT: Final = _Silent()


def _denial(case: _Case, policy: Policy) -> Denied | Undecided | _Silent | None:
    """What the deny list of `policy` says. None: that depends on something not fetched yet.

    It is judged on each review, from the snapshot, whatever is remembered.
    """
    if policy.terms.deny.digests:
        said = _denied_digest(case, policy.terms.deny.digests)
        if not isinstance(said, _Silent):
            return said
    for covering in case.covering if policy.terms.deny.names_signers else ():
        said = _denied_signature(case, covering, policy.terms.deny)
        if not isinstance(said, _Silent):
            return said
    return _SILENT


def _denied_digest(case: _Case, denied: frozenset[Digest]) -> Denied | Undecided | _Silent | None:
    for digest in _digests(case):
        if digest in denied:
            return Denied((f"digest {digest} is on the policy's deny list",), final=True, subject=case.subject)
    match case.resolved:
        case None:
            return None
        case Unavailable():
            return Undecided((str(case.resolved),), case.subject, final=True)
        case Resolved(is_nested=True):
            reason = "an index of indexes, whose images cannot be compared with the policy's deny list"
            return Denied((reason,), True, case.subject)
    return _SILENT


def _denied_signature(case: _Case, covering: Policy, deny: DenyList) -> Denied | Undecided | _Silent | None:
    """What stands only by denied signatures is denied; what somebody else signed as well stands by that."""
    if covering.faults:
        return _SILENT
    finding = _required(case, covering)
    kept = _required(case, covering, deny)
    if isinstance(kept, Unknown) and _is_missing_some(case, covering):
        return None
    if not isinstance(finding, Satisfied) or isinstance(kept, Satisfied | Denied):
        return _SILENT
    if isinstance(kept, Unknown):
        return Undecided(kept.causes, case.subject, final=True)
    signed = sorted(filter(None, (deny.refuses(proof, case.now) for proof in finding.proofs)))
    return Denied((f"signed {', '.join(signed)}, which is on the policy's deny list",), True, case.subject)


def _digests(case: _Case) -> tuple[Digest, ...]:
    """The digest that was written, the one that was resolved, and the children of an index: any of them may run."""
    resolved = (case.resolved.digest, *case.resolved.children) if isinstance(case.resolved, Resolved) else ()
    return (*((case.image.digest,) if case.image.digest else ()), *resolved)


def _required(case: _Case, policy: Policy, deny: DenyList = NO_DENIALS) -> Finding | Denied:
    """What the policy's `require` comes to, without the signatures that `deny` refuses. Denied: for what the image itself is."""
    judged = case.judged(policy)
    if isinstance(judged, Denied):
        return judged
    if policy.require is None:
        return Unsatisfied(("the policy names no signer",))
    expression = policy.require
    if judged is None:
        # Whose keys are not known is known without the image.
        return require.evaluate(expression, _findings(case, policy, None, deny))
    return _over_platforms(
        policy, {one: require.evaluate(expression, _findings(case, policy, one.digest, deny)) for one in judged}
    )


def _findings(case: _Case, policy: Policy, digest: Digest | None, deny: DenyList) -> dict[str, Finding]:
    """What was found under each name that `require` may use, worded for people."""
    findings: dict[str, Finding] = {}
    for demand in policy.wanted:
        finding = _without(_finding(case, demand, digest), deny, case.now)
        what, noun = ("attestation", "attestation") if demand.is_attestation else ("signer", "signature")
        if isinstance(finding, Unsatisfied):
            finding = Unsatisfied((f'no {noun} by "{demand.name}" ({_few(finding.reasons)})',))
        elif isinstance(finding, Unknown):
            finding = Unknown(tuple(f'{what} "{demand.name}": {cause}' for cause in finding.causes))
        findings[demand.name] = finding
    return findings


def _few(reasons: Sequence[str]) -> str:
    """The reasons once each, and of many the first ones."""
    distinct = list(dict.fromkeys(reasons))
    return "; ".join(distinct[:3]) + (f"; and {len(distinct) - 3} more" if len(distinct) > 3 else "")


def _over_platforms(policy: Policy, findings: Mapping[Platform, Finding]) -> Finding:
    """What the findings of the images of an index come to together."""
    if policy.terms.platforms == "index" or len(findings) == 1:
        return next(iter(findings.values()))
    named: dict[str, Finding] = {
        platform.digest: _of_platform(platform, finding) for platform, finding in findings.items()
    }
    names = tuple(require.Name(digest) for digest in named)
    wanted = require.AtLeast(len(names) if policy.terms.platforms == "all" else 1, names, distinct=False)
    together = require.evaluate(wanted, named)
    return Unsatisfied((_few(together.reasons),)) if isinstance(together, Unsatisfied) else together


def _of_platform(platform: Platform, finding: Finding) -> Finding:
    about = f"{quote(platform.name, 40)} ({platform.digest[:19]}…)"
    match finding:
        case Satisfied():
            return finding
        case Unsatisfied():
            return Unsatisfied(tuple(f"{about}: {reason}" for reason in finding.reasons))
        case Unknown():
            return Unknown(tuple(f"{about}: {cause}" for cause in finding.causes))
        case _:
            assert_never(finding)


def _over_all(case: _Case, policy: Policy, demand: Demand) -> Finding:
    """What was found of one name, over all that the policy judges."""
    judged = case.judged(policy)
    if not isinstance(judged, tuple):
        return _finding(case, demand, None)
    return _over_platforms(policy, {one: _finding(case, demand, one.digest) for one in judged})


def _finding(case: _Case, demand: Demand, digest: Digest | None) -> Finding:
    if demand.unread is not None:
        return Unknown((demand.unread,))
    found = (
        None if digest is None or isinstance(demand.signer, Unresolved) else case.findings.get((digest, demand.signer))
    )
    return found or Unknown(_PENDING)


def _is_missing(case: _Case, policy: Policy, demand: Demand) -> bool:
    """Whether evidence for the name has not been fetched yet."""
    if isinstance(demand.signer, Unresolved):
        return False
    judged = case.judged(policy)
    return not isinstance(judged, tuple) or any((one.digest, demand.signer) not in case.findings for one in judged)


def _is_missing_some(case: _Case, policy: Policy) -> bool:
    """Whether evidence for one of the names that the policy requires has not been fetched yet."""
    return any(_is_missing(case, policy, demand) for demand in policy.wanted)


def _without(finding: Finding, deny: DenyList, now: datetime) -> Finding:
    if not deny.names_signers or not isinstance(finding, Satisfied):
        return finding
    proofs = frozenset(proof for proof in finding.proofs if deny.refuses(proof, now) is None)
    return Satisfied(proofs, finding.causes) if proofs else Unsatisfied(("nothing but signatures that are denied",))


def _fix(case: _Case, policy: Policy, subject: Subject) -> str | None:
    """What would make the image acceptable, as far as one sentence can say it; None where nobody could."""
    lacking = {
        demand: f'"{demand.name}" ({demand.signer.wanted()})'
        for demand in policy.wanted
        if not isinstance(demand.signer, Unresolved)
        and demand.signer.fingerprints()
        and not isinstance(_over_all(case, policy, demand), Satisfied)
    }
    if not lacking or policy.require is None:
        return None
    verbs = {False: "sign", True: "attest"}
    needed = " and ".join(verbs[is_attestation] for is_attestation in sorted({one.is_attestation for one in lacking}))
    what = f"{needed} {_target(case, policy, subject)}"
    # Only a plain `a or b` and a plain `a and b` are words that say it all; else the expression is.
    plain = isinstance(policy.require, require.Name) or (
        not policy.require.distinct and all(isinstance(one, require.Name) for one in policy.require.operands)
    )
    needs_all = isinstance(policy.require, require.AtLeast) and policy.require.n == len(policy.require.operands)
    if plain:
        return f"{what} with {(' and ' if needs_all else ' or ').join(lacking.values())}"
    return f"{what} so that `{policy.require}` holds; missing: {', '.join(lacking.values())}"


def _target(case: _Case, policy: Policy, subject: Subject) -> str:
    judged = case.judged(policy)
    if not isinstance(judged, tuple) or not judged[0].name:
        return str(subject)
    return f"{'every' if policy.terms.platforms == 'all' else 'an'} image of a platform in {subject}"


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


def _seconds_to_deny(case: _Case) -> float:
    """Until a time comes from which on a signature of unknown time is denied."""
    times = (policy.terms.deny.signed_after for policy in case.denying)
    ahead = ((time - case.now).total_seconds() for time in times if time is not None)
    return min((seconds for seconds in ahead if seconds >= 0), default=math.inf)


def _seconds_to_enforce(case: _Case) -> float:
    """Until the audit of a policy ends."""
    policies = (*case.covering, *case.denying, *case.uncertain)
    times = (policy.terms.afterwards.audit_until for policy in policies)
    ahead = ((time - case.now).total_seconds() for time in times if time is not None)
    return min((seconds for seconds in ahead if seconds > 0), default=math.inf)


def _key(case: _Case, signer: Signer, claim: Claim, opened: tuple[Access | None, ...]) -> Hashable:
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
