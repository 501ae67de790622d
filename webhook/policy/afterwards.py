"""What a policy says about the time after admission. Few policies say something, so all others share one value."""

from dataclasses import dataclass
from typing import Final, Literal

OnDrift = Literal["report", "evict"]
"""What follows where a container runs another digest than the one that was verified."""


@dataclass(frozen=True, slots=True)
class Afterwards:
    """`onDrift`."""

    on_drift: OnDrift = "report"


DEFAULT: Final = Afterwards()
