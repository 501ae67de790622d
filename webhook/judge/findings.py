"""What was found about the image of a case under each name of a policy, and what that comes to. Pure."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, assert_never

from webhook.image import Digest
from webhook.judge.case import Case
from webhook.parsing import quote
from webhook.policy import require
from webhook.policy.policy import NO_DENIALS, Demand, DenyList, Policy
from webhook.trust import Platform, Unresolved
from webhook.verdict import Denied, End, Finding, Satisfied, Unknown, Unsatisfied

PENDING: Final = ("it could not be read in time",)


def required(
    case: Case, policy: Policy, deny: DenyList = NO_DENIALS, after: datetime | None = None
) -> Finding | Denied:
    """What the policy's `require` comes to, without the signatures that `deny` refuses, and without those that have ended `after` a time.

    Denied: for what the image itself is.
    """
    judged = case.judged(policy)
    if isinstance(judged, Denied):
        return judged
    if policy.require is None:
        return Unsatisfied(("the policy names no signer",))
    expression = policy.require
    if judged is None:
        # Whose keys are not known is known without the image.
        return require.evaluate(expression, findings_by_name(case, policy, None, deny))
    return _over_platforms(
        policy,
        {one: require.evaluate(expression, findings_by_name(case, policy, one.digest, deny, after)) for one in judged},
    )


def end_of(case: Case, policy: Policy, finding: Satisfied) -> End | None:
    """With what the policy's `require`, which is satisfied, would cease to be, or nothing but denied signatures would be left; None: with nothing.

    By the proofs that there are: what was not read may satisfy for longer.
    """
    ends = sorted({proof.ends for proof in finding.proofs if proof.ends is not None})
    if not ends:
        return None
    lists = (NO_DENIALS, *(one.terms.deny for one in case.denying if one.terms.deny.names_signers))

    def is_over(end: End) -> bool:
        return not all(isinstance(required(case, policy, deny, end.at), Satisfied) for deny in lists)

    # Less and less is left: once it is over it stays so.
    first = bisect_left(ends, True, key=is_over)
    return ends[first] if first < len(ends) else None


def findings_by_name(
    case: Case, policy: Policy, digest: Digest | None, deny: DenyList, after: datetime | None = None
) -> dict[str, Finding]:
    """What was found under each name that `require` may use, worded for people."""
    findings: dict[str, Finding] = {}
    for demand in policy.wanted:
        finding = _without(_finding(case, demand, digest), deny, case.now, after)
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


def over_all(case: Case, policy: Policy, demand: Demand) -> Finding:
    """What was found of one name, over all that the policy judges."""
    judged = case.judged(policy)
    if not isinstance(judged, tuple):
        return _finding(case, demand, None)
    return _over_platforms(policy, {one: _finding(case, demand, one.digest) for one in judged})


def _finding(case: Case, demand: Demand, digest: Digest | None) -> Finding:
    if demand.unread is not None:
        return Unknown((demand.unread,))
    if digest is None and demand.never and not isinstance(demand.signer, Unresolved):
        return Unsatisfied((demand.signer.wanted(),))
    found = (
        None if digest is None or isinstance(demand.signer, Unresolved) else case.findings.get((digest, demand.signer))
    )
    return found or Unknown(PENDING)


def is_missing(case: Case, policy: Policy, demand: Demand) -> bool:
    """Whether evidence for the name has not been fetched yet."""
    if isinstance(demand.signer, Unresolved):
        return False
    judged = case.judged(policy)
    return not isinstance(judged, tuple) or any((one.digest, demand.signer) not in case.findings for one in judged)


def is_missing_some(case: Case, policy: Policy) -> bool:
    """Whether evidence for one of the names that the policy requires has not been fetched yet."""
    return any(is_missing(case, policy, demand) for demand in policy.wanted)


def _without(finding: Finding, deny: DenyList, now: datetime, after: datetime | None) -> Finding:
    if not isinstance(finding, Satisfied):
        return finding
    if after is not None:
        lasting = frozenset(proof for proof in finding.proofs if proof.ends is None or proof.ends.at > after)
        if not lasting:
            return Unsatisfied(("nothing but signatures that have ended",))
        finding = Satisfied(lasting, finding.causes)
    if not deny.names_signers:
        return finding
    proofs = frozenset(proof for proof in finding.proofs if deny.refuses(proof, now) is None)
    return Satisfied(proofs, finding.causes) if proofs else Unsatisfied(("nothing but signatures that are denied",))
