"""When signatures count: between two times, and up to an age.

Judged at the trusted time of a signature, which is that of a transparency log or a timestamp authority. A signature without one is
judged by now, and has no age.
"""

import datetime as dt
from collections.abc import AsyncGenerator, Hashable
from dataclasses import dataclass

from webhook import limits
from webhook.image import Repository
from webhook.moment import rfc3339
from webhook.trust import Claim, Evidence, Registry, Rejected, Signer, Untrusted
from webhook.verdict import End, Proof


@dataclass(frozen=True, slots=True)
class Windowed:
    """A signer whose signatures count between two times, both included, and up to an age.

    A signer again, so that the judge knows nothing of it.
    """

    signer: Signer
    not_before: dt.datetime | None = None
    not_after: dt.datetime | None = None
    max_age: dt.timedelta | None = None

    def scope(self, claim: Claim) -> Hashable:
        """That of the signer."""
        return self.signer.scope(claim)

    def sources(self, claim: Claim) -> tuple[Repository, ...]:
        """Those of the signer."""
        return self.signer.sources(claim)

    def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
        """What the signer collects."""
        return self.signer.collect(claim, registry)

    def dangers(self) -> tuple[str, ...]:
        """Those of the signer."""
        return self.signer.dangers()

    def fingerprints(self) -> tuple[str, ...]:
        """Those of the signer."""
        return self.signer.fingerprints()

    def wanted(self) -> str:
        """Whose signature is wanted, and of which time."""
        bounds = [
            f"not before {rfc3339(self.not_before)}" if self.not_before else "",
            f"not after {rfc3339(self.not_after)}" if self.not_after else "",
            f"at most {span(self.max_age)} old" if self.max_age else "",
        ]
        return ", ".join([self.signer.wanted(), *filter(None, bounds)])

    def check(self, evidence: Untrusted, claim: Claim, now: dt.datetime) -> Proof:
        """The signer's proof, if it is of the right time. Raises `Rejected` or `Invalid`."""
        proof = self.signer.check(evidence, claim, now)
        at = proof.signed_at or now
        when = f"signed at {rfc3339(at)}" if proof.signed_at else f"no trusted time, so judged by now, {rfc3339(now)}"
        if self.not_before is not None and at < self.not_before:
            raise Rejected(f"{when}: before {rfc3339(self.not_before)}, when this signer begins to count")
        if self.not_after is not None and at > self.not_after:
            raise Rejected(f"{when}: after {rfc3339(self.not_after)}, until when this signer counts")
        ends = []
        if self.not_after is not None and proof.signed_at is None:
            ends.append(End(self.not_after, "the validity of its signer"))
        if self.max_age is not None:
            ends.append(until_too_old(proof.signed_at, self.max_age, now, "the signature"))
        return proof.ending(ends)


def until_too_old(at: dt.datetime | None, max_age: dt.timedelta, now: dt.datetime, what: str) -> End:
    """When something of this time will be too old. Raises `Rejected` if it is, if its time is not known, or if that is still to come."""
    if at is None:
        raise Rejected(f"{what} has no trusted time, so no age, and at most {span(max_age)} is accepted")
    if at - now > dt.timedelta(seconds=limits.MAX_CLOCK_SKEW):
        # Whoever judges at an earlier time asks what was fresh then.
        raise Rejected(f"{what} is of {rfc3339(at)}, which is still to come")
    if now - at > max_age:
        raise Rejected(f"{what} is of {rfc3339(at)}, which is more than {span(max_age)} ago")
    return End(at + max_age, f"the age that is accepted of {what}, {span(max_age)}")


def span(length: dt.timedelta) -> str:
    """A span of time as policies write it: `36h`, `1h30m`."""
    seconds = int(length.total_seconds())
    parts = ((seconds // 3600, "h"), (seconds % 3600 // 60, "m"), (seconds % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
