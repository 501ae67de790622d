"""A case → rulings, on what is known now: asked first over what is remembered, and again after each thing that is fetched. Pure."""

import math
from dataclasses import replace
from typing import Final, assert_never

from webhook.image import Digest, Subject
from webhook.judge.case import Case
from webhook.judge.findings import PENDING, end_of, findings_by_name, is_missing, is_missing_some, over_all, required
from webhook.policy import require
from webhook.policy.policy import NO_DENIALS, Demand, DenyList, Policy
from webhook.trust import Rejected, Resolved, Unavailable, Unresolved
from webhook.verdict import (
    Allowed,
    Denied,
    Finding,
    Judgement,
    NamedFinding,
    Outcome,
    Ruling,
    Satisfied,
    Uncovered,
    Undecided,
    Unknown,
    Unsatisfied,
)


def judgements_on(case: Case, *, final: bool = False) -> list[Judgement] | None:
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


def _pending(case: Case, policy: Policy) -> Undecided:
    """What a policy comes to whose evidence did not come in time; final while its deny list has not been compared."""
    final = not isinstance(_denial(case, policy), _Silent)
    return Undecided(PENDING, case.subject, final, _is_outage(case, policy), late=True)


def _ruling(case: Case, policy: Policy, outcome: Outcome) -> Ruling:
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


def _shown(case: Case, policy: Policy, demand: Demand, outcome: Outcome) -> Finding:
    """What is told of one name; of one that was not asked about, why not."""
    finding = over_all(case, policy, demand)
    if not isinstance(finding, Unknown) or not is_missing(case, policy, demand):
        return finding
    if isinstance(case.resolved, Rejected | Unavailable):
        return Unknown((str(case.resolved),))
    return finding if isinstance(outcome, Undecided) else Unknown(("not needed for the decision",))


def _outcome(case: Case, policy: Policy) -> Outcome | None:
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
            # Nor is what no image could satisfy.
            refused = None if final or case.subject is not None else required(case, policy)
            if isinstance(refused, Unsatisfied):
                return Denied(refused.reasons, final=_names_signers(case))
            # Who has signed it is not known either, or would have to be asked again.
            final = final or _names_signers(case)
            return Undecided((str(case.resolved),), case.subject, final, _is_outage(case, policy))
    return _demand(case, policy) if isinstance(denial, _Silent) else denial


def _refusal(case: Case, policy: Policy) -> Denied | None:
    """What needs no evidence at all, and what no exception lifts: nobody knows what a broken policy denies, or what a tag will mean."""
    subject = case.subject
    if policy.faults:
        reasons = tuple(f"the policy is broken: {fault}" for fault in policy.faults)
        return Denied(
            reasons, True, subject, fix="mend the policy, or the key it names; until then it denies what it covers"
        )
    if policy.terms.tags == "refuse" and case.image.digest is None:
        reason = "the policy admits digests only, because a tag can be moved to another image at any time"
        digest = subject.digest if subject else "sha256:…"
        return Denied((reason,), True, subject, fix=f"name it by digest: {case.image.repository}@{digest}")
    return None


def _demand(case: Case, policy: Policy) -> Outcome | None:
    """What the policy's `require` comes to for the image. None: that depends on something not fetched yet."""
    subject = case.subject
    finding = required(case, policy)
    names_signers = _names_signers(case)
    if isinstance(finding, Denied):
        # Nobody looked at who has signed the images in it.
        return replace(finding, final=names_signers)
    match finding:
        case Satisfied():
            # The image itself has been seen, too: that somebody signed a digest does not make it an image.
            if case.resolved is None or subject is None:
                return None
            return Allowed(subject, finding.proofs, end_of(case, policy, finding))
        case Unsatisfied():
            return (
                None if subject is None else Denied(finding.reasons, subject=subject, fix=_fix(case, policy, subject))
            )
        case Unknown():
            if is_missing_some(case, policy):
                return None
            # What could not be read might have shown that a denied key alone has signed it.
            return Undecided(finding.causes, subject, names_signers, _is_outage(case, policy))
        case _:
            assert_never(finding)


def _is_outage(case: Case, policy: Policy) -> bool:
    """Whether others could not be asked: whether it would be undecided, too, if the keys that are missing were nobody's.

    Whoever can take a key away could otherwise reach `onOutage`.
    """
    if policy.require is None:
        return False
    missing = [demand.name for demand in policy.wanted if isinstance(demand.signer, Unresolved)]
    judged = case.judged(policy)
    settled = []
    for digest in [one.digest for one in judged] if isinstance(judged, tuple) else [None]:
        findings = findings_by_name(case, policy, digest, NO_DENIALS) | dict.fromkeys(
            missing, Unsatisfied(("its key is missing",))
        )
        settled.append(isinstance(require.evaluate(policy.require, findings), Unsatisfied))
    return not (any(settled) if policy.terms.platforms == "all" else all(settled))


def _names_signers(case: Case) -> bool:
    """Whether some deny list can only be compared with signatures that have been read."""
    return any(one.terms.deny.names_signers for one in case.denying)


class _Silent:
    """A deny list has been compared in full, and does not match."""


_SILENT: Final = _Silent()


def _denial(case: Case, policy: Policy) -> Denied | Undecided | _Silent | None:
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


def _denied_digest(case: Case, denied: frozenset[Digest]) -> Denied | Undecided | _Silent | None:
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


def _denied_signature(case: Case, covering: Policy, deny: DenyList) -> Denied | Undecided | _Silent | None:
    """What stands only by denied signatures is denied; what somebody else signed as well stands by that."""
    if covering.faults:
        return _SILENT
    finding = required(case, covering)
    kept = required(case, covering, deny)
    if isinstance(kept, Unknown) and is_missing_some(case, covering):
        return None
    if not isinstance(finding, Satisfied) or isinstance(kept, Satisfied | Denied):
        return _SILENT
    if isinstance(kept, Unknown):
        return Undecided(kept.causes, case.subject, final=True)
    signed = sorted({how for proof in finding.proofs if (how := deny.refuses(proof, case.now)) is not None})
    return Denied((f"signed {', '.join(signed)}, which is on the policy's deny list",), True, case.subject)


def _digests(case: Case) -> tuple[Digest, ...]:
    """The digest that was written, the one that was resolved, and the children of an index: any of them may run."""
    resolved = (case.resolved.digest, *case.resolved.children) if isinstance(case.resolved, Resolved) else ()
    return (*((case.image.digest,) if case.image.digest else ()), *resolved)


def _fix(case: Case, policy: Policy, subject: Subject) -> str | None:
    """What would make the image acceptable, as far as one sentence can say it; None where nobody could."""
    lacking = {
        demand: f'"{demand.name}" ({demand.signer.wanted()})'
        for demand in policy.wanted
        if not isinstance(demand.signer, Unresolved)
        and demand.signer.fingerprints()
        # Not those nobody has looked for any more: they may have signed.
        and isinstance(over_all(case, policy, demand), Unsatisfied)
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


def _target(case: Case, policy: Policy, subject: Subject) -> str:
    judged = case.judged(policy)
    if not isinstance(judged, tuple) or not judged[0].name:
        return str(subject)
    return f"{'every' if policy.terms.platforms == 'all' else 'an'} image of a platform in {subject}"


def seconds_to_deny(case: Case) -> float:
    """Until a time comes from which on a signature of unknown time is denied."""
    times = (policy.terms.deny.signed_after for policy in case.denying)
    ahead = ((time - case.now).total_seconds() for time in times if time is not None)
    return min((seconds for seconds in ahead if seconds >= 0), default=math.inf)


def seconds_to_enforce(case: Case) -> float:
    """Until the audit of a policy ends."""
    policies = (*case.covering, *case.denying, *case.uncertain)
    times = (policy.terms.afterwards.audit_until for policy in policies)
    ahead = ((time - case.now).total_seconds() for time in times if time is not None)
    return min((seconds for seconds in ahead if seconds > 0), default=math.inf)
