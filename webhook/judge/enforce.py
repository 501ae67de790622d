"""Rulings → an answer: the only place that decides by `mode`, by `onOutage`, or by an exception.

A denial beats what could not be verified, and that beats admission. `warn` and `audit` are the same judgement with another
answer. `onOutage` admits, and says so, what could not be verified because nobody could be asked, and never what was read; `warn` not what
was slow either. An exception
in force admits, and says so, what a policy refuses. What is final both leave refused. Pure: no clock, no I/O.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, assert_never

from webhook import limits
from webhook.image import Digest, Subject, parse_reference
from webhook.judge import explain
from webhook.judge.explain import Verdict
from webhook.judge.knowngood import KnownGood
from webhook.judge.workload import Question
from webhook.policy.exception import TrustException
from webhook.policy.policy import Policy
from webhook.policy.window import span
from webhook.verdict import (
    Allowed,
    Answer,
    Deferred,
    Denied,
    ExceptionKey,
    Excuse,
    Judgement,
    Mode,
    PolicyKey,
    Ruling,
    Tolerance,
    Uncovered,
    Undecided,
)

_NOT_ENFORCED: Final[tuple[Mode, ...]] = ("warn", "audit")


@dataclass(frozen=True, slots=True)
class Exceptions:
    """Those of the namespace that asks, at one moment.

    `used_up`: as far as is known, they let in no further Pod. `uncounted`: of those whose use could not be counted, why.
    """

    known: tuple[TrustException, ...]
    now: datetime
    used_up: AbstractSet[ExceptionKey] = frozenset()
    uncounted: Mapping[ExceptionKey, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outages:
    """What policies make of an outage, and what is known of before it, at one moment."""

    policies: Mapping[PolicyKey, Policy]
    known_good: KnownGood
    now: datetime


def enforced(
    question: Question,
    judgements: Sequence[Judgement],
    exceptions: Exceptions | None = None,
    outages: Outages | None = None,
) -> tuple[Judgement, ...]:
    """The judgements as they count.

    What `onOutage` bears with is tolerated, what an exception lifts is excused, and a tag that must be pinned by now is denied.
    """
    new = _new(question)
    counted: list[Judgement] = []
    for judgement in judgements:
        if not isinstance(judgement, Ruling):
            counted.append(judgement)
            continue
        is_new = not new.isdisjoint(judgement.places)
        ruling = judgement if outages is None else _tolerated(judgement, question, outages)
        # First what costs nobody a use, and before an exception that cannot be counted is taken for an outage.
        if exceptions is not None and ruling.tolerance is None:
            ruling = _excused(ruling, question, exceptions, is_new=is_new)
        counted.append(_with_its_digest(ruling) if question.final and is_new else ruling)
    return tuple(counted)


def _new(question: Question) -> frozenset[str]:
    """The places that the request brings; what stood there before runs already."""
    return frozenset(placed.where for placed in question.images if not placed.stood)


def _tolerated(ruling: Ruling, question: Question, outages: Outages) -> Ruling:
    """The ruling, let past its policy by what that says about outages.

    Only what is undecided, and only because others could not be asked; not where a deny list could not be compared. What is final
    in another policy refuses the image all the same.
    """
    outcome, policy = ruling.outcome, None if ruling.policy is None else outages.policies.get(ruling.policy)
    if policy is None or not isinstance(outcome, Undecided) or outcome.final or not outcome.outage:
        return ruling
    if ruling.mode != "enforce":
        return ruling
    match policy.terms.on_outage.action:
        case "deny":
            return ruling
        case "warn":
            # Whoever publishes enough to be read and checked would otherwise choose it.
            if outcome.late:
                return replace(
                    ruling, notes=("onOutage: warn waits for what is slow; a retry goes on where this ended",)
                )
            return replace(ruling, tolerance=Tolerance())
        case "last-known-good":
            # What a tag means now nobody can say. Where it is written into the Pod, what it meant is what will run; else anything might.
            if outcome.subject is None and (question.final or not ruling.pins):
                return replace(
                    ruling, notes=("what a tag means now is not known, so only a digest has a last known good",)
                )
            found = outages.known_good.find(ruling, policy, question.who.namespace, outages.now)
            if found is None:
                return replace(
                    ruling, notes=(f"not verified under this policy within {span(policy.terms.on_outage.max_stale)}",)
                )
            digest, verified_at = found
            subject = outcome.subject or _subject(ruling, digest)
            return replace(ruling, outcome=replace(outcome, subject=subject), tolerance=Tolerance(verified_at))
        case action:
            assert_never(action)


def _subject(ruling: Ruling, digest: Digest) -> Subject:
    image = parse_reference(ruling.image)
    return Subject(image.repository, digest, image.tag)


def _excused(ruling: Ruling, question: Question, exceptions: Exceptions, *, is_new: bool) -> Ruling:
    """The ruling, let past its policy by an exception that covers it alone: two never add up to a third (attack M-07)."""
    if ruling.policy is None or isinstance(ruling.outcome, Allowed) or ruling.mode != "enforce":
        return ruling
    kind = next(placed.kind for placed in question.images if placed.where in ruling.places)
    image, digest = parse_reference(ruling.image), explain.digest_of(ruling)
    covering = [one for one in exceptions.known if one.covers(ruling.policy, image, digest, question.who, kind)]
    if covering and ruling.outcome.final:
        return replace(ruling, notes=("no exception lifts this",))
    notes: list[str] = []
    uncounted: list[str] = []
    # What is not counted first: nobody's use is spent where that is enough.
    for one in sorted(covering, key=lambda one: (one.max_uses is not None, one.key.name)):
        excuse = one.excuse(exceptions.now)
        if excuse is None:
            notes.append(f"exception {one.key} {explain.lapsed(one, exceptions.now)}")
        elif is_new and one.key in exceptions.used_up:
            notes.append(f"exception {one.key} is used up")
        elif is_new and one.key in exceptions.uncounted:
            uncounted.append(f"a use of exception {one.key} cannot be counted: {exceptions.uncounted[one.key]}")
        else:
            return replace(ruling, excuse=excuse)
    if uncounted:
        # What it would have come to is not known: it may be lifted when asked again.
        return replace(ruling, outcome=Undecided(tuple(uncounted), ruling.outcome.subject), notes=tuple(notes))
    return replace(ruling, notes=tuple(notes))


def _with_its_digest(ruling: Ruling) -> Ruling:
    """What is admitted is what must run: where the policy pins, the digest has to stand in the Pod by now."""
    # What `onOutage: warn` lets in nobody has verified, whatever its digest.
    unverified = ruling.tolerance is not None and ruling.tolerance.verified_at is None
    if not ruling.pins or unverified or _verdict(ruling) != "allowed":
        return ruling
    subject = ruling.outcome.subject
    if subject is None:
        # An exception lets in whatever the tag means, which nobody could find out: there is no digest that could be demanded.
        return replace(ruling, pins=False)
    found = "it is signed" if ruling.excuse is None else f"exception {ruling.excuse.key} lets it in"
    found = found if ruling.tolerance is None else "it was verified before"
    reason = f"{found}, and its digest was not written into the Pod ({ruling.image}@{subject.digest})"
    fix = "try again; if it stays so: kubectl get mutatingwebhookconfigurations"
    return replace(ruling, outcome=Denied((reason,), subject=subject, fix=fix), excuse=None, tolerance=None)


def settle(question: Question, judgements: Sequence[Judgement]) -> Answer:
    """What the question gets back, from judgements as they count.

    A question whose images did not all come back with a judgement is a bug of ours, and denied.
    """
    judged = {place for judgement in judgements for place in judgement.places}
    unjudged = [placed.where for placed in question.images if placed.where not in judged]
    if unjudged or not judgements:
        return Answer(False, 500, f"{', '.join(unjudged) or 'the workload'}: not judged; this is a bug in the webhook")
    denied: list[str] = []
    undecided: list[str] = []
    warnings: list[str] = []
    for judgement in judgements:
        match judgement:
            case Uncovered():
                warnings.append(explain.uncovered(judgement))
            case Deferred():
                warnings.append(explain.deferred(judgement))
            case Ruling():
                match _verdict(judgement):
                    case "denied":
                        denied.append(explain.sentence(judgement))
                    case "undecided":
                        undecided.append(explain.sentence(judgement))
                    case "allowed":
                        warnings += _warnings(judgement)
                    case verdict:
                        assert_never(verdict)
            case _:
                assert_never(judgement)
    shown = tuple(explain.warning(text) for text in dict.fromkeys(warnings))[: limits.MAX_WARNINGS]
    annotations = _annotations(judgements, "denied" if denied else "undecided" if undecided else "allowed")
    if denied or undecided:
        return Answer(False, 403 if denied else 503, explain.denial(denied + undecided), shown, annotations)
    uses, borne = _uses(question, judgements), _borne(question, judgements)
    return Answer(True, 200, "", shown, annotations, uses, borne, _lenience(judgements))


def _borne(question: Question, judgements: Sequence[Judgement]) -> tuple[Ruling, ...]:
    """What `onOutage` let in, as far as it is new and will run."""
    if not question.final or question.dry_run:
        return ()
    new = _new(question)
    rulings = [one for one in judgements if isinstance(one, Ruling) and one.tolerance is not None]
    return tuple(one for one in rulings if not new.isdisjoint(one.places))


def _lenience(judgements: Sequence[Judgement]) -> Mode:
    """The strictest mode of those policies whose refusal was not enforced."""
    passed = {
        one.mode
        for one in judgements
        if isinstance(one, Ruling) and one.excuse is None and not isinstance(one.outcome, Allowed)
    }
    return next((mode for mode in _NOT_ENFORCED if mode in passed), "enforce")


def _uses(question: Question, judgements: Sequence[Judgement]) -> dict[Excuse, tuple[Ruling, ...]]:
    """What an admitted Pod owes to exceptions: templates and dry runs start nothing, and what stood there was counted before."""
    uses: dict[Excuse, tuple[Ruling, ...]] = {}
    if question.final and not question.dry_run:
        new = _new(question)
        for one in judgements:
            if isinstance(one, Ruling) and one.excuse is not None and not new.isdisjoint(one.places):
                uses[one.excuse] = (*uses.get(one.excuse, ()), one)
    return uses


def verdict_of(judgements: Sequence[Judgement]) -> Verdict:
    """What enforcement makes of these judgements together: the same table, without the words."""
    verdicts = {_verdict(judgement) for judgement in judgements if isinstance(judgement, Ruling)}
    return "denied" if "denied" in verdicts else "undecided" if "undecided" in verdicts else "allowed"


def _verdict(ruling: Ruling) -> Verdict:
    """The table of enforcement: outcome by mode, unless an exception lifts it or `onOutage` bears with it."""
    if ruling.excuse is not None or ruling.tolerance is not None:
        return "allowed"
    match ruling.outcome:
        case Allowed():
            return "allowed"
        case Denied():
            return "denied" if ruling.mode == "enforce" else "allowed"
        case Undecided():
            return "undecided" if ruling.mode == "enforce" else "allowed"
        case _:
            assert_never(ruling.outcome)


def _warnings(ruling: Ruling) -> list[str]:
    """What an admitted image's ruling still has to say."""
    notes = [f"{explain.about(ruling)}: {text} (not enforced by the policy)" for text in explain.logged(ruling)]
    let_in = ruling.excuse is not None or ruling.tolerance is not None
    if not isinstance(ruling.outcome, Allowed) and (let_in or ruling.mode == "warn"):
        notes.append(explain.sentence(ruling))
    if (isinstance(ruling.outcome, Allowed) or ruling.excuse is not None) and ruling.by_tag and not ruling.pins:
        what = "verified" if ruling.excuse is None else "excused"
        notes.append(
            f"{explain.about(ruling)}: {what} by tag, which can be moved before the node pulls it; use a digest"
        )
    return notes


def _annotations(judgements: Sequence[Judgement], verdict: Verdict) -> dict[str, str]:
    """For the API server's audit log: verdict, policies, digests, signers; what a policy, a mode or an exception let pass."""
    rulings = [judgement for judgement in judgements if isinstance(judgement, Ruling)]
    named: dict[str, list[str]] = {
        "policy": [str(ruling.policy) for ruling in rulings if ruling.policy is not None],
        "digest": [digest for ruling in rulings if (digest := explain.digest_of(ruling)) is not None],
        "signer": [explain.identities(ruling) for ruling in rulings if isinstance(ruling.outcome, Allowed)],
        "exception": [str(ruling.excuse.key) for ruling in rulings if ruling.excuse is not None],
    }
    refused = [ruling for ruling in rulings if not isinstance(ruling.outcome, Allowed)]
    told = {
        "not-enforced": [
            *(f"{explain.about(ruling)}: {text}" for ruling in rulings for text in explain.logged(ruling)),
            *(explain.sentence(ruling) for ruling in refused if ruling.mode != "enforce"),
        ],
        "excused": [explain.sentence(ruling) for ruling in refused if ruling.excuse is not None],
        "outage": [explain.sentence(ruling) for ruling in refused if ruling.tolerance is not None],
    }
    annotations: dict[str, str] = {"verdict": verdict}
    for key, values in named.items():
        if values:
            annotations[key] = ",".join(list(dict.fromkeys(values))[: limits.MAX_DENIAL_LINES])
    for key, passed in told.items():
        if passed:
            annotations[key] = explain.denial(passed)
    return annotations
