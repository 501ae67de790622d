"""`onOutage`: what follows where the evidence could not be read, because whoever keeps it could not be asked.

Said by the policy, decided in `judge.enforce`. Nothing here touches what was read and does not satisfy.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Final, Literal

from webhook import limits
from webhook.parsing import Invalid

OutageAction = Literal["deny", "warn", "last-known-good"]
"""Refuse, admit with a warning, or admit with a warning what was verified not long ago."""


@dataclass(frozen=True, slots=True)
class OnOutage:
    """What a policy makes of an outage. `max_stale` counts with `last-known-good` alone."""

    action: OutageAction = "deny"
    max_stale: dt.timedelta = limits.DEFAULT_STALE


DENY: Final = OnOutage()
"""What policies say that say nothing: one value for all of them."""


def on_outage(action: OutageAction, max_stale: dt.timedelta | None) -> OnOutage:
    """The value for what was written; an age that is missing is the default. Raises `Invalid` with the field.

    A proof is remembered for up to an hour, so nobody can tell more closely how long ago something was verified.
    """
    if max_stale is None:
        return OnOutage(action)
    if action != "last-known-good":
        raise Invalid(".maxStale: only last-known-good has an age")
    if not limits.MIN_STALE <= max_stale <= limits.MAX_STALE:
        raise Invalid(".maxStale: not between 1h and 720h")
    return OnOutage(action, max_stale)


def outage_dangers(on_outage: OnOutage, *, by_tag: bool) -> tuple[str, ...]:
    """What is allowed and yet dangerous, or probably not meant. `by_tag`: the policy lets tags be."""
    if on_outage.action == "warn":
        return (
            "spec.onOutage: warn lets in whatever nobody could verify, and whoever can make a registry fall silent chooses when",
        )
    if on_outage.action == "last-known-good" and by_tag:
        return (
            "spec.onOutage: last-known-good knows digests; with `tags: allow` images named by tag do not start in an outage",
        )
    return ()
