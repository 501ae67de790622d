"""What a policy says about the time after it was written and admitted by. Few policies say something, so all others share one value."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

OnDrift = Literal["report", "evict"]
"""What follows where a container runs another digest than the one that was verified."""

PromoteWhen = Literal["clean", "always"]
"""What ends a policy's time in audit: that nothing would have been denied for so long, or the time alone."""

NEVER: Final = datetime.max.replace(tzinfo=UTC)
"""The end of an audit of which nobody knows when it comes."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """`rollout`: in audit first."""

    audit_for: timedelta
    promote_when: PromoteWhen = "clean"


@dataclass(frozen=True, slots=True)
class Afterwards:
    """`onDrift` and `rollout`. `audit_until`: until then the policy only audits, whatever its mode; aware. None: it does not wait."""

    on_drift: OnDrift = "report"
    rollout: Rollout | None = None
    audit_until: datetime | None = None


DEFAULT: Final = Afterwards()
