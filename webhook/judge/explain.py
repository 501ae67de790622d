"""Rulings → words and JSON, for the person who was denied and for machines.

Decides nothing. Every line begins with the place and the image, then the cause, then the fix. What came from a registry or a
signature was escaped and cut where it entered the text (`parsing.quote`); nothing here repeats raw bytes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, assert_never

from webhook import limits
from webhook.image import Digest
from webhook.moment import rfc3339
from webhook.parsing import quote
from webhook.policy.exception import TrustException
from webhook.trust import BY_REGISTRIES, NOT_IN_FILES
from webhook.verdict import (
    Allowed,
    Deferred,
    Denied,
    Excuse,
    Finding,
    Judgement,
    NamedFinding,
    Proof,
    Ruling,
    Satisfied,
    Tolerance,
    Uncovered,
    Undecided,
    Unknown,
    Unsatisfied,
    Use,
)

Verdict = Literal["allowed", "denied", "undecided"]

_NOTES: Final = 3
"""Exceptions that do not count, told in one line: who has more of them than that looks at their status."""


def sentence(ruling: Ruling) -> str:
    """One line for people about a ruling: where, which image, which policy, and who signed, or cause and fix, or what excuses it."""
    outcome = ruling.outcome
    match outcome:
        case Allowed():
            text = f"signed by {identities(ruling)}"
        case Denied():
            text = "; ".join(outcome.reasons) + (f". Fix: {outcome.fix}" if outcome.fix else "")
        case Undecided():
            # Not where all of them wait for somebody to write something.
            lasts = all(cause.endswith((BY_REGISTRIES, NOT_IN_FILES)) for cause in outcome.causes)
            text = (
                f"could not verify: {'; '.join(dict.fromkeys(outcome.causes))}{'' if lasts else '. A retry may help'}"
            )
        case _:
            assert_never(outcome)
    policy = f"policy {ruling.policy}: " if ruling.policy else ""
    if ruling.excuse is not None:
        return f"{about(ruling)}: {policy}{excused(ruling.excuse)}. Without it: {text}"
    if ruling.tolerance is not None:
        return f"{about(ruling)}: {policy}{tolerated(ruling.tolerance)}: {text}"
    notes = "".join(f". Note: {note}" for note in ruling.notes[:_NOTES])
    message = f". {quote(ruling.message, limits.MAX_TEXT)}" if ruling.message else ""
    return f"{about(ruling)}: {policy}{text}{notes}{message}"


def excused(excuse: Excuse) -> str:
    """By which exception, until when, who approved it, and why."""
    return (
        f"let in by exception {excuse.key} until {rfc3339(excuse.expires_at)}, approved by {quote(excuse.approved_by)}:"
        f" {quote(excuse.reason)}"
    )


def tolerated(tolerance: Tolerance) -> str:
    """That an outage let it in, and what is known of before."""
    if tolerance.verified_at is None:
        return "let in unverified by onOutage: warn"
    return f"let in by onOutage: last-known-good, verified at {rfc3339(tolerance.verified_at)}"


def notice(use: Use) -> dict[str, object]:
    """A use of an exception, as it is sent to the address for notifications; `text` is for people."""
    excuse = use.excuse
    lines = denial([sentence(ruling) for ruling in use.rulings])
    return {
        "event": "ExceptionUsed",
        "text": f"Pod {use.namespace}/{use.name} was {excused(excuse)}\n{lines}",
        "time": rfc3339(use.at),
        "namespace": use.namespace,
        "pod": use.name,
        "images": list(dict.fromkeys(ruling.image for ruling in use.rulings)),
        "digests": list(dict.fromkeys(filter(None, map(digest_of, use.rulings)))),
        "policies": list(dict.fromkeys(str(ruling.policy) for ruling in use.rulings)),
        "exception": _excuse(excuse),
    }


def lapsed(exception: TrustException, now: datetime) -> str:
    """Why an exception that covers an image does not count, in words that follow its name."""
    if exception.lapse(now) == "expired":
        return f"expired at {rfc3339(exception.expires_at)}"
    return f"is not approved: somebody other than {quote(exception.requested_by)} has to set approvedBy"


def about(judgement: Judgement) -> str:
    """The places, the image and the digest it means, as every line begins."""
    named = [place for place in judgement.places if place]
    places = ", ".join(named[:3]) + (" …" if len(named) > 3 else "")
    if isinstance(judgement, Deferred):
        return places
    digest = digest_of(judgement)
    # A digest that was written already stands in the name.
    meant = f" ({digest[:19]}…)" if digest and "@" not in judgement.image else ""
    return f"{places} {quote(judgement.image, limits.MAX_REFERENCE)}{meant}".strip()


def digest_of(judgement: Judgement) -> Digest | None:
    """The digest that was judged, if it came to be known."""
    if not isinstance(judgement, Ruling) or judgement.outcome.subject is None:
        return None
    return judgement.outcome.subject.digest


def identities(ruling: Ruling) -> str:
    """Who is proven to have signed, in a stable order; empty if nobody."""
    proofs = ruling.outcome.proofs if isinstance(ruling.outcome, Allowed) else ()
    return ", ".join(sorted({proof.identity for proof in proofs}))


def logged(ruling: Ruling) -> tuple[str, ...]:
    """What is wrong with the proofs and not enforced, because the policy says so."""
    proofs = ruling.outcome.proofs if isinstance(ruling.outcome, Allowed) else ()
    return tuple(sorted({f"signed by {proof.identity}, {text}" for proof in proofs for text in proof.logged}))


def ends(ruling: Ruling) -> str | None:
    """With what an image that is allowed will not be any more, by what was read; None: with nothing that is known.

    Evidence that was not read may last longer; what issuers say of revocation is no part of it, and may end it any day.
    """
    end = ruling.outcome.ends if isinstance(ruling.outcome, Allowed) else None
    if end is None:
        return None
    until = f"by the signatures that were read allowed until {rfc3339(end.at)}, when this ends: {end.what}"
    return f"{until}; revocation lists and OCSP answers, where they count, are renewed by others"


def details(ruling: Ruling) -> list[str]:
    """What is known of the proofs beyond who made them, one line for each of which something is."""
    proofs = ruling.outcome.proofs if isinstance(ruling.outcome, Allowed) else ()
    lines = []
    for proof in sorted(proofs, key=_order):
        what = f"attested {quote(proof.predicate_type, 120)}" if proof.predicate_type else "signed"
        known = {
            "at": _time(proof.signed_at),
            "log index": proof.log_index,
            "certificate": proof.serial,
            "until": _time(proof.valid_until),
        }
        told = [f"{name} {value}" for name, value in known.items() if value is not None]
        if told or proof.predicate_type:
            lines.append(", ".join([f"{what} by {proof.identity}", *told, f"from {proof.origin}"]))
    return lines


def uncovered(judgement: Uncovered) -> str:
    """The warning for an image nobody spoke about."""
    return f"{about(judgement)}: no trust policy covers this image; it was not verified"


def deferred(judgement: Deferred) -> str:
    """The warning for a template whose image something fills in later."""
    return f"{about(judgement)}: no image yet; the Pods made from it will be judged"


def denial(lines: Sequence[str]) -> str:
    """All lines of one denial, bounded in number."""
    shown = list(lines[: limits.MAX_DENIAL_LINES])
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    return "\n".join(shown)


def warning(text: str) -> str:
    """`text` as an admission warning: one line, cut to what the API server shows."""
    line = text.replace("\n", "; ")
    return line if len(line) <= limits.MAX_WARNING else f"{line[: limits.MAX_WARNING - 1]}…"


def as_json(judgements: Iterable[Judgement], verdicts: Mapping[str, Verdict]) -> list[dict[str, object]]:
    """One object per image, as `kubectl trust verify -o json` prints them; `verdicts` by image."""
    by_image: dict[str, list[Ruling | Uncovered]] = {}
    for judgement in judgements:
        if not isinstance(judgement, Deferred):
            by_image.setdefault(judgement.image, []).append(judgement)
    return [
        {
            "image": image,
            "digest": next(filter(None, map(digest_of, said)), None),
            "verdict": verdicts[image],
            "policies": [
                {
                    "name": str(ruling.policy),
                    "satisfied": _satisfied(ruling.outcome),
                    "ends": _end(ruling.outcome),
                    "signers": [_signer(named) for named in ruling.findings if not named.is_attestation],
                    "attestations": [_signer(named) for named in ruling.findings if named.is_attestation],
                    "exception": None if ruling.excuse is None else _excuse(ruling.excuse),
                    "outage": None if ruling.tolerance is None else _outage(ruling.tolerance),
                }
                for ruling in said
                if isinstance(ruling, Ruling) and ruling.policy is not None
            ],
            "reasons": [reason for judgement in said for reason in _reasons(judgement)],
        }
        for image, said in by_image.items()
    ]


def _reasons(judgement: Ruling | Uncovered) -> Iterator[str]:
    if isinstance(judgement, Uncovered):
        yield uncovered(judgement)
    elif not isinstance(judgement.outcome, Allowed):
        yield sentence(judgement) + ("" if judgement.mode == "enforce" else f" [{judgement.mode} only]")


def _excuse(excuse: Excuse) -> dict[str, object]:
    return {
        "name": str(excuse.key),
        "reason": excuse.reason,
        "requestedBy": excuse.requested_by,
        "approvedBy": excuse.approved_by,
        "expiresAt": rfc3339(excuse.expires_at),
    }


def _outage(tolerance: Tolerance) -> dict[str, object]:
    return {
        "action": "warn" if tolerance.verified_at is None else "last-known-good",
        "verifiedAt": _time(tolerance.verified_at),
    }


def _satisfied(outcome: Allowed | Denied | Undecided) -> bool | None:
    match outcome:
        case Allowed():
            return True
        case Denied():
            return False
        case Undecided():
            return None
        case _:
            assert_never(outcome)


def _end(outcome: Allowed | Denied | Undecided) -> dict[str, object] | None:
    if not isinstance(outcome, Allowed) or outcome.ends is None:
        return None
    return {"at": rfc3339(outcome.ends.at), "what": outcome.ends.what}


def _signer(named: NamedFinding) -> dict[str, object]:
    satisfied, identity, reason = found(named.finding)
    proofs = sorted(named.finding.proofs, key=_order) if isinstance(named.finding, Satisfied) else []
    shown: dict[str, object] = {
        "name": named.name,
        "satisfied": satisfied,
        "identity": identity,
        "reason": reason,
        "proofs": [_proof(proof) for proof in proofs],
    }
    if notes := sorted({text for proof in proofs for text in proof.logged}):
        shown["logged"] = notes
    return shown


def _proof(proof: Proof) -> dict[str, object]:
    return {
        "identity": proof.identity,
        "origin": proof.origin,
        "predicateType": proof.predicate_type,
        "signedAt": _time(proof.signed_at),
        "logIndex": proof.log_index,
        "certSerial": proof.serial,
        "validUntil": _time(proof.valid_until),
    }


def _order(proof: Proof) -> tuple[str, ...]:
    return proof.predicate_type or "", proof.identity, proof.origin, _time(proof.signed_at) or ""


def _time(time: datetime | None) -> str | None:
    return None if time is None else rfc3339(time)


def found(finding: Finding) -> tuple[bool | None, str | None, str | None]:
    """Whether a name is satisfied (None: not known); by whom, if so; else why not."""
    match finding:
        case Satisfied():
            return True, ", ".join(sorted({proof.identity for proof in finding.proofs})), None
        case Unsatisfied():
            return False, None, "; ".join(finding.reasons)
        case Unknown():
            return None, None, "; ".join(finding.causes)
        case _:
            assert_never(finding)
