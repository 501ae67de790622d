"""Who says when a signature was made, beside the signer: transparency logs and timestamp authorities.

What a policy trusts of them is fixed when it is read. All that they say counts, never a choice of it: a signature that existed at two
moments must have been good at both (attack C-10).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from webhook.formats._logs import Log
from webhook.formats._rekor import Logged, verify_entry
from webhook.formats._rekorbody import Signed
from webhook.formats._timestamp import Authority, verify_timestamp
from webhook.formats._trustroot import TrustRoot
from webhook.formats.cosign.published import Published
from webhook.trust import Rejected
from webhook.verdict import End


@dataclass(frozen=True, slots=True)
class Testimony:
    """What was said of one signature, verified. `moments`: when it existed; empty: nobody says. `log_index`: its place in a log.

    `until`: from then on a log would not be believed any more whose word rests on the time of judgement.
    """

    moments: tuple[datetime, ...] = ()
    log_index: int | None = None
    until: datetime | None = None

    @property
    def signed_at(self) -> datetime | None:
        """The first moment: by then the signature existed."""
        return min(self.moments, default=None)

    @property
    def ends(self) -> End | None:
        """The same as `until`, and what it is that ends."""
        return None if self.until is None else End(self.until, "a transparency log of its trust root")


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Whom a policy believes. `root` has logs and timestamp authorities, `authorities` stand in for the latter where given.

    `log`: whether an entry is demanded; otherwise entries are not looked at. `timestamp`: whether a timestamp is demanded;
    otherwise those of authorities that are trusted count, and others are passed over.
    """

    root: TrustRoot | None = None
    authorities: tuple[Authority, ...] | None = None
    log: bool = False
    timestamp: bool = False

    def hear(self, published: Published, signed: Signed, now: datetime) -> Testimony:
        """What they say of a signature, at least what is demanded. Raises `Rejected` or `Invalid`."""
        # (1) Timestamps, over the signature's own bytes.
        moments = self._timestamps(published)
        # (2) Log entries, about this very signature.
        entries = self._entries(published, signed) if self.log else ()
        moments += tuple(entry.at for entry in entries if entry.at is not None)
        # (3) Each log in its window: at the time it says itself, else at the others', else now (attack C-08).
        untold = [entry.log for entry in entries if entry.at is None]
        for entry in entries:
            times = (entry.at,) if entry.at is not None else moments or (now,)
            if not all(entry.log.window.includes(time) for time in times):
                raise Rejected("log entry: its log was not in force when it was signed")
        ends = [] if moments else [log.window.ends for log in untold if log.window.ends is not None]
        return Testimony(moments, entries[0].index if entries else None, min(ends, default=None))

    def _timestamps(self, published: Published) -> tuple[datetime, ...]:
        authorities: Sequence[Authority] = self.root.timestamp_authorities if self.root else ()
        if self.authorities is not None:
            authorities = self.authorities
        if not authorities and not self.timestamp:
            return ()
        moments: list[datetime] = []
        reasons = ["no timestamp, which the policy demands"]
        for token in published.timestamps():
            try:
                moments.append(verify_timestamp(token, published.signature, authorities).at)
            except Rejected as e:
                reasons.append(str(e))
        if self.timestamp and not moments:
            raise Rejected(reasons[-1])
        return tuple(moments)

    def _entries(self, published: Published, signed: Signed) -> tuple[Logged, ...]:
        logs: Sequence[Log] = self.root.logs if self.root else ()
        # An entry of a log that is trusted has to be right; one of another log says nothing, and does no harm.
        found = [verify_entry(entry, logs, signed) for entry in published.entries()]
        known = tuple(logged for logged in found if logged is not None)
        if not known:
            raise Rejected(
                "log entry: of no log that is trusted" if found else "no log entry, which the policy demands"
            )
        return known
