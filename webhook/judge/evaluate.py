"""The judge: a question → rulings. The one place where errors become values.

Every image is judged twice by the same pure function: first over what is remembered, and only if that does not settle it over
what is then fetched. On the warm path nothing waits, so nothing is awaited, and the result says how long it will stay as it is. What is fetched belongs to everybody: work that
is not finished at the deadline goes on behind the answer, so that the controller's retry finds it done.
"""

import asyncio
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
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
from webhook.parsing import Invalid
from webhook.policy import require
from webhook.policy.policy import ContainerKind, NamedSigner, Policy
from webhook.trust import (
    Access,
    Claim,
    Keychain,
    Registry,
    Rejected,
    Resolved,
    Signer,
    Unavailable,
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
    final: bool = False
    """Whether some of its places are new and final: a node will run what stands there."""
    access: Access | Unavailable | None = None
    resolved: Resolved | Rejected | Unavailable | None = None
    findings: dict[Signer, Finding] = field(default_factory=dict)
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

    def signers(self) -> Iterator[Signer]:
        """The signers of all policies that cover the image, as far as their keys are known; equal ones more than once."""
        for policy in self.covering:
            for named in policy.signers:
                if not isinstance(named.signer, Unresolved):
                    yield named.signer


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
        self._findings: Memo[Finding] = Memo(lambda finding: _seconds_to_keep(finding, self._now()), limits.MAX_PROOFS)

    async def judge(self, question: Question, snapshot: Snapshot, keychain: Keychain, deadline: float) -> Judged:
        """What each image gets under each policy that speaks about it.

        `deadline` is on the event loop's clock. What could not be read by then is `Undecided`. Raises nothing.
        """
        judgements, cases = _cases(question, snapshot)
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
        subject = case.subject
        if subject is None:
            self._observer.recalled(hit=False)
            return
        claim = Claim(subject)
        for signer in case.signers():
            sources = signer.sources(claim)
            opened = tuple([self._registries.known(keychain, source) for source in sources])
            finding = None if None in opened else self._findings.recall(_key(case, signer, claim, opened))
            self._observer.recalled(hit=finding is not None)
            if finding is None:
                seconds = 0.0
                continue
            case.findings[signer], seconds = finding.answer, min(seconds, finding.seconds)
            case.opened |= {source: known for source, known in zip(sources, opened, strict=True) if known is not None}
        case.seconds = seconds

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

        await _until_done([asyncio.create_task(investigate(case)) for case in cases], deadline)

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
            if case.subject is None:
                await asyncio.wait(tasks)
            if case.subject is not None and _judgements(case) is None:
                claim = Claim(case.subject)
                tasks += [
                    asyncio.create_task(self._find(case, signer, claim, keychain, registry))
                    for signer in dict.fromkeys(case.signers())
                    if signer not in case.findings
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

    async def _find(self, case: _Case, signer: Signer, claim: Claim, keychain: Keychain, registry: Registry) -> None:
        found = await _value_of(self._fetch(case, signer, claim, keychain, registry))
        match found:
            case Unavailable():
                case.findings[signer] = Unknown((str(found),))
            case Rejected():
                case.findings[signer] = Unsatisfied((str(found),))
            case _:
                case.findings[signer] = found

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
        tally = _Tally()
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
    """What one signer's evidence has shown so far."""

    proofs: set[Proof] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)

    def add(self, found: Proof | Rejected | Unavailable) -> None:
        match found:
            case Proof():
                self.proofs.add(found)
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
        return Unsatisfied(tuple(self.reasons) or ("it carries no signature",))


def _cases(question: Question, snapshot: Snapshot) -> tuple[list[Judgement], list[_Case]]:
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
        every_proof = any(policy.deny.keys for policy in match.denying) or any(
            policy.require is not None and require.needs_all_proofs(policy.require) for policy in match.covering
        )
        final = question.final and not all(placed.stood for placed in where)
        cases.append(
            _Case(named, image, match.covering, match.denying, match.uncertain, final, every_proof=every_proof)
        )
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
        judgements.append(_ruling(case, policy, Undecided((cause,), case.subject)))
    for policy in case.covering:
        outcome = _outcome(case, policy)
        if outcome is None and not final:
            return None
        judgements.append(_ruling(case, policy, outcome or Undecided(_PENDING, case.subject)))
    for policy in case.denying:
        if policy in case.covering:
            continue
        denial = _denial(case, policy)
        if denial is None and not final:
            return None
        if not isinstance(denial, _Silent):
            judgements.append(_ruling(case, policy, denial or Undecided(_PENDING, case.subject)))
    if not case.covering and not case.uncertain:
        judgements.append(Uncovered(case.places, str(case.image)))
    return judgements


def _ruling(case: _Case, policy: Policy, outcome: Outcome) -> Ruling:
    return Ruling(
        places=case.places,
        image=str(case.image),
        policy=policy.key,
        outcome=outcome,
        mode=policy.mode,
        message=policy.message,
        findings=tuple(NamedFinding(named.name, _shown(case, named, outcome)) for named in policy.signers),
    )


def _shown(case: _Case, named: NamedSigner, outcome: Outcome) -> Finding:
    """What is told of one signer; of one that was not asked about, why not."""
    finding = _finding(case, named)
    if isinstance(named.signer, Unresolved) or named.signer in case.findings:
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
    match case.resolved:
        case Rejected():
            return Denied((str(case.resolved),), subject=case.subject)
        case Unavailable():
            return Undecided((str(case.resolved),), case.subject)
    return _demand(case, policy) if isinstance(denial, _Silent) else denial


def _refusal(case: _Case, policy: Policy) -> Denied | None:
    """What needs no evidence at all."""
    subject = case.subject
    if policy.faults:
        reasons = tuple(f"the policy is broken: {fault}" for fault in policy.faults)
        return Denied(reasons, subject=subject, fix="mend the policy; until then it denies what it covers")
    if policy.tags == "refuse" and case.image.digest is None:
        reason = "the policy admits digests only, because a tag can be moved to another image at any time"
        digest = subject.digest if subject else "sha256:…"
        return Denied((reason,), subject=subject, fix=f"name it by digest: {case.image.repository}@{digest}")
    return None


def _demand(case: _Case, policy: Policy) -> Outcome | None:
    """What the policy's `require` comes to for the image. None: that depends on something not fetched yet."""
    subject = case.subject
    finding = _required(case, policy, without=frozenset())
    match finding:
        case Satisfied():
            # The image itself has been seen, too: that somebody signed a digest does not make it an image.
            if case.resolved is None or subject is None:
                return None
            return _allowed(case, policy, subject, finding.proofs)
        case Unsatisfied():
            return (
                None if subject is None else Denied(finding.reasons, subject=subject, fix=_fix(case, policy, subject))
            )
        case Unknown():
            return None if _is_missing_some(case, policy) else Undecided(finding.causes, subject)
        case _:
            assert_never(finding)


def _allowed(case: _Case, policy: Policy, subject: Subject, proofs: frozenset[Proof]) -> Allowed | Denied:
    """What is verified is what must run: where the policy pins, the digest has to stand in the Pod by now.

    Only in mode `enforce`: the others change nothing, and tell of the open race.
    """
    by_tag = case.image.digest is None
    pins = by_tag and policy.tags == "pin" and policy.mode == "enforce"
    if not (pins and case.final):
        return Allowed(subject, proofs, by_tag=by_tag and not pins, pins=pins)
    reason = f"it is signed, and its digest was not written into the Pod ({case.image}@{subject.digest})"
    return Denied(
        (reason,), subject=subject, fix="try again; if it stays so: kubectl get mutatingwebhookconfigurations"
    )


class _Silent:
    """A deny list has been compared in full, and does not match."""


_SILENT: Final = _Silent()


def _denial(case: _Case, policy: Policy) -> Denied | Undecided | _Silent | None:
    """What the deny list of `policy` says. None: that depends on something not fetched yet.

    It is judged on each review, from the snapshot, whatever is remembered.
    """
    if policy.deny.digests:
        said = _denied_digest(case, policy.deny.digests)
        if not isinstance(said, _Silent):
            return said
    for covering in case.covering if policy.deny.keys else ():
        said = _denied_key(case, covering, policy.deny.keys)
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
            return Undecided((str(case.resolved),), case.subject)
        case Resolved(is_nested=True):
            reason = "an index of indexes, whose images cannot be compared with the policy's deny list"
            return Denied((reason,), subject=case.subject)
    return _SILENT


def _denied_key(case: _Case, covering: Policy, denied: frozenset[str]) -> Denied | Undecided | _Silent | None:
    """What stands only because a denied key signed it is denied; what somebody else signed as well stands by that."""
    if covering.faults:
        return _SILENT
    finding = _required(case, covering, without=frozenset())
    kept = _required(case, covering, without=denied)
    if isinstance(kept, Unknown) and _is_missing_some(case, covering):
        return None
    if not isinstance(finding, Satisfied) or isinstance(kept, Satisfied):
        return _SILENT
    if isinstance(kept, Unknown):
        return Undecided(kept.causes, case.subject)
    signed = sorted(frozenset().union(*map(_vouching, finding.proofs)) & denied)
    return Denied((f"signed by {', '.join(signed)}, which is on the policy's deny list",), True, case.subject)


def _digests(case: _Case) -> tuple[Digest, ...]:
    """The digest that was written, the one that was resolved, and the children of an index: any of them may run."""
    resolved = (case.resolved.digest, *case.resolved.children) if isinstance(case.resolved, Resolved) else ()
    return (*((case.image.digest,) if case.image.digest else ()), *resolved)


def _required(case: _Case, policy: Policy, *, without: frozenset[str]) -> Finding:
    """What the policy's `require` comes to, proofs of the identities in `without` left out."""
    if policy.require is None:
        return Unsatisfied(("the policy names no signer",))
    findings = {named.name: _without(_finding(case, named), without) for named in policy.signers}
    for name, finding in findings.items():
        if isinstance(finding, Unsatisfied):
            findings[name] = Unsatisfied((_no_signature(name, finding.reasons),))
        elif isinstance(finding, Unknown):
            findings[name] = Unknown(tuple(f'signer "{name}": {cause}' for cause in finding.causes))
    return require.evaluate(policy.require, findings)


def _finding(case: _Case, named: NamedSigner) -> Finding:
    if isinstance(named.signer, Unresolved):
        what = "its key could not be read" if named.ref is None else f"it is signer {named.ref}"
        return Unknown((f"{what}: {named.signer.reason}",))
    return case.findings.get(named.signer) or Unknown(_PENDING)


def _is_missing_some(case: _Case, policy: Policy) -> bool:
    """Whether evidence for one of the policy's signers has not been fetched yet."""
    return any(
        not isinstance(named.signer, Unresolved) and named.signer not in case.findings for named in policy.signers
    )


def _without(finding: Finding, identities: frozenset[str]) -> Finding:
    if not identities or not isinstance(finding, Satisfied):
        return finding
    proofs = frozenset(proof for proof in finding.proofs if not _vouching(proof) & identities)
    return Satisfied(proofs, finding.causes) if proofs else Unsatisfied(("signed only by a denied key",))


def _vouching(proof: Proof) -> frozenset[str]:
    """Everybody whose denial takes the proof away."""
    return proof.keys | {proof.identity}


def _no_signature(name: str, reasons: Sequence[str]) -> str:
    """`no signature by "release" (it carries no signature)`: the reasons once each, the rest counted."""
    distinct = list(dict.fromkeys(reasons))
    shown = "; ".join(distinct[:3]) + (f"; and {len(distinct) - 3} more" if len(distinct) > 3 else "")
    return f'no signature by "{name}" ({shown})'


def _fix(case: _Case, policy: Policy, subject: Subject) -> str | None:
    """What would make the image acceptable, as far as one sentence can say it; None where nobody could."""
    lacking = {
        named.name: f'"{named.name}" ({named.signer.wanted()})'
        for named in policy.signers
        if not isinstance(named.signer, Unresolved)
        and named.signer.fingerprints()
        and not isinstance(_finding(case, named), Satisfied)
    }
    if not lacking or policy.require is None:
        return None
    # Only a plain `a or b` and a plain `a and b` are words that say it all; else the expression is.
    plain = isinstance(policy.require, require.Name) or (
        not policy.require.distinct and all(isinstance(one, require.Name) for one in policy.require.operands)
    )
    needs_all = isinstance(policy.require, require.AtLeast) and policy.require.n == len(policy.require.operands)
    if plain:
        return f"sign {subject} with {(' and ' if needs_all else ' or ').join(lacking.values())}"
    return f"sign {subject} so that `{policy.require}` holds; missing: {', '.join(lacking.values())}"


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
