"""Attestations: what a policy demands of a statement beyond who made it.

A signer again, so that the judge knows nothing of it. Which evidence there is, and who made it, is the inner signers' affair; the
rest is judged on their proofs, of which every one is looked at until one satisfies.
"""

import datetime as dt
from collections.abc import AsyncGenerator, Hashable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import Struct

from webhook import limits
from webhook.image import Repository, Subject
from webhook.moment import rfc3339
from webhook.parsing import Invalid, convert, read_json
from webhook.policy.cel.values import from_datetime
from webhook.policy.predicates import reported_at
from webhook.policy.where import Where
from webhook.policy.window import until_too_old
from webhook.trust import Claim, Evidence, Registry, Rejected, Signer, Unavailable, Unrelated, Untrusted, format_of
from webhook.verdict import Proof

_PLACE: Final = "place"
"""The part of a piece of evidence that says among whose it was found."""


class _Statement(Struct, rename={"predicate_type": "predicateType"}):
    subject: list[dict[str, Any]]
    predicate: Any = None


@dataclass(frozen=True, slots=True)
class Attested:
    """An attestation of one of these types, by one of these signers, in which a condition holds, and up to an age.

    `unresolved`: what is known of signers whose keys could not be read. `called`: the type as the policy calls it.
    """

    by: tuple[Signer, ...]
    predicate_types: tuple[str, ...]
    called: str
    where: Where | None = None
    max_age: dt.timedelta | None = None
    unresolved: tuple[str, ...] = ()

    def _claims(self, claim: Claim) -> Iterator[Claim]:
        for predicate_type in self.predicate_types:
            yield Claim(claim.subject, predicate_type)

    def scope(self, claim: Claim) -> Hashable:
        """Those of the signers; the image's name too, if the condition looks at it."""
        subject = claim.subject
        name = (subject.repository, subject.tag) if self.where is not None and self.where.looks_at_name else None
        return name, tuple(signer.scope(one) for signer in self.by for one in self._claims(claim))

    def sources(self, claim: Claim) -> tuple[Repository, ...]:
        """Those of all signers."""
        return tuple(dict.fromkeys(source for signer in self.by for source in signer.sources(claim)))

    def _places(self, claim: Claim) -> list[tuple[Signer, ...]]:
        """The signers, those together that read the same places in the same format."""
        places: dict[Hashable, tuple[Signer, ...]] = {}
        for signer in self.by:
            key = (format_of(signer), signer.sources(claim))
            places[key] = (*places.get(key, ()), signer)
        return list(places.values())

    async def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
        """What the signers collect, each place once. A place that cannot be read hides no other."""
        wanted = next(self._claims(claim))
        for i, signers in enumerate(self._places(claim)):
            try:
                async with aclosing(signers[0].collect(wanted, registry)) as found:
                    async for one in found:
                        if isinstance(one, Untrusted):
                            yield Untrusted(one.origin, {**one.parts, _PLACE: b"%d" % i})
                        else:
                            yield one
            except (Rejected, Unavailable) as e:
                yield e
            except Invalid as e:
                yield Rejected(str(e))
        for reason in self.unresolved:
            yield Unavailable(reason)

    def dangers(self) -> tuple[str, ...]:
        """None of its own."""
        return ()

    def fingerprints(self) -> tuple[str, ...]:
        """Of the signers that may attest."""
        return tuple(dict.fromkeys(key for signer in self.by for key in signer.fingerprints()))

    def wanted(self) -> str:
        """Whose attestation is wanted, and of which type."""
        by = " or ".join(dict.fromkeys(signer.wanted() for signer in self.by[:3]))
        more = f" or {len(self.by) - 3} more" if len(self.by) > 3 else ""
        return f"{self.called} by {by}{more}"

    def check(self, evidence: Untrusted, claim: Claim, now: dt.datetime) -> Proof:
        """The proof of the first signer that made it, if what it states satisfies. Raises `Rejected`.

        Of many signers that did not, the one that came furthest gives the reason.
        """
        place = int(evidence.parts.get(_PLACE, b"0"))
        signers = next(iter(self._places(claim)[place : place + 1]), ())
        inner = Untrusted(evidence.origin, {name: part for name, part in evidence.parts.items() if name != _PLACE})
        unmet: list[Rejected] = []
        unproven: list[Rejected | Invalid] = []
        for signer in signers:
            for one in self._claims(claim):
                try:
                    proof = signer.check(inner, one, now)
                except (Rejected, Invalid) as e:
                    unproven.append(e)
                    continue
                try:
                    return self._satisfied(proof, one, now)
                except (Rejected, Invalid) as e:
                    unmet.append(Rejected(str(e)))
        raise _furthest(unmet, unproven)

    def _satisfied(self, proof: Proof, claim: Claim, now: dt.datetime) -> Proof:
        """The proof, if the statement in it satisfies. The statement itself is not kept: it may be large."""
        predicate_type = claim.predicate_type or ""
        document = read_json(proof.statement or b"", "statement", limits.MAX_STATEMENT_ITEMS)
        statement = convert(document, _Statement, "statement")
        found = replace(proof, statement=None, predicate_type=predicate_type)
        if self.max_age is not None:
            at = proof.signed_at or _reported(predicate_type, statement.predicate, now)
            found = found.ending([until_too_old(at, self.max_age, now, "the attestation")])
        if self.where is not None:
            self.where.check(statement.predicate, _subject(statement, claim.subject), claim.subject, now)
            if self.where.looks_at_now:
                # Asked again then; when it will not hold any more nobody can tell.
                again = now + dt.timedelta(seconds=limits.NOW_SECONDS)
                until = again if found.valid_until is None else min(found.valid_until, again)
                found = replace(found, valid_until=until)
        return found


def _furthest(unmet: Iterable[Rejected], unproven: Iterable[Rejected | Invalid]) -> Rejected:
    """Of all reasons the one that is nearest to what would have satisfied: who signed is known before what was signed."""
    reasons = list(unproven)
    nearest = next(iter(unmet), None) or next((reason for reason in reasons if isinstance(reason, Unrelated)), None)
    return nearest or Rejected(str(reasons[0]) if reasons else "nobody may attest")


def _subject(statement: _Statement, image: Subject) -> Mapping[str, Any]:
    """The subject that is the image; that there is one was verified."""
    for subject in statement.subject:
        digest = subject.get("digest")
        if isinstance(digest, dict) and digest.get("sha256") == image.digest.removeprefix("sha256:"):
            return {name: value for name, value in subject.items() if name in {"name", "digest"}}
    raise Rejected("it is about another image")


def _reported(predicate_type: str, predicate: Any, now: dt.datetime) -> dt.datetime | None:
    """The time that the predicate itself gives, which must not lie ahead: it could be put off for ever. Raises `Rejected`."""
    reported = reported_at(predicate_type, predicate)
    if reported is None:
        return None
    ahead = from_datetime(now + dt.timedelta(seconds=limits.MAX_CLOCK_SKEW))
    if reported > ahead:
        raise Rejected(f"it reports of {rfc3339(reported.utc)}, which has not come yet")
    return reported.utc
