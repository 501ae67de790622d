"""Rulings → an answer: the only place that decides by `mode`.

A denial beats what could not be verified, and that beats admission. `warn` and `audit` are the same judgement with another
answer. Pure: no clock, no I/O.
"""

from collections.abc import Sequence
from typing import assert_never

from webhook import limits
from webhook.judge import explain
from webhook.judge.evaluate import Judgement
from webhook.judge.explain import Verdict
from webhook.judge.workload import Question
from webhook.verdict import Allowed, Answer, Deferred, Denied, Ruling, Uncovered, Undecided


def settle(question: Question, judgements: Sequence[Judgement]) -> Answer:
    """What the question gets back.

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
    return Answer(True, 200, "", shown, annotations)


def verdict_of(judgements: Sequence[Judgement]) -> Verdict:
    """What enforcement makes of these judgements together: the same table, without the words."""
    verdicts = {_verdict(judgement) for judgement in judgements if isinstance(judgement, Ruling)}
    return "denied" if "denied" in verdicts else "undecided" if "undecided" in verdicts else "allowed"


def _verdict(ruling: Ruling) -> Verdict:
    """The table of enforcement: outcome by mode."""
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
    if isinstance(ruling.outcome, Allowed):
        notes = [f"{explain.about(ruling)}: {text} (not enforced by the policy)" for text in explain.logged(ruling)]
        if ruling.outcome.by_tag:
            notes.append(
                f"{explain.about(ruling)}: verified by tag, which can be moved before the node pulls it; use a digest"
            )
        return notes
    return [explain.sentence(ruling)] if ruling.mode == "warn" else []


def _annotations(judgements: Sequence[Judgement], verdict: Verdict) -> dict[str, str]:
    """For the API server's audit log: verdict, policies, digests, signers; denials that a mode let pass."""
    policies: dict[str, None] = {}
    digests: dict[str, None] = {}
    signers: dict[str, None] = {}
    passed: list[str] = []
    for judgement in judgements:
        if not isinstance(judgement, Ruling):
            continue
        if judgement.policy is not None:
            policies[str(judgement.policy)] = None
        if (digest := explain.digest_of(judgement)) is not None:
            digests[digest] = None
        if isinstance(judgement.outcome, Allowed):
            signers[explain.identities(judgement)] = None
            passed += [f"{explain.about(judgement)}: {text}" for text in explain.logged(judgement)]
        elif judgement.mode != "enforce":
            passed.append(explain.sentence(judgement))
    annotations: dict[str, str] = {"verdict": verdict}
    for key, values in (("policy", policies), ("digest", digests), ("signer", signers)):
        if values:
            annotations[key] = ",".join(list(values)[: limits.MAX_DENIAL_LINES])
    if passed:
        annotations["not-enforced"] = explain.denial(passed)
    return annotations
