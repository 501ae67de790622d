"""Verification levels: which validations are enforced, which are logged. Integrity always is enforced, and so stands in no table.

Source: Notary Project, trust-store-trust-policy.md, "Signature Verification details", "Custom Verification Level".
"""

from dataclasses import dataclass, fields
from typing import Final, Literal

from webhook.formats.notation.spec import Level, Override

Action = Literal["enforce", "log", "skip"]
Validation = Literal["authenticity", "authentic_timestamp", "expiry", "revocation"]


@dataclass(frozen=True, slots=True)
class Actions:
    """What a failure of each validation does: refuse, or be shown; `skip`: it is not made at all."""

    authenticity: Action
    authentic_timestamp: Action
    expiry: Action
    revocation: Action

    def of(self, validation: Validation) -> Action:
        """The action for one of them."""
        found: Action = getattr(self, validation)
        return found


LEVELS: Final[dict[Level, Actions]] = {
    "strict": Actions("enforce", "enforce", "enforce", "enforce"),
    "permissive": Actions("enforce", "log", "log", "log"),
    "audit": Actions("log", "log", "log", "log"),
}


def actions(level: Level, override: Override | None) -> Actions:
    """The level's actions, but for those that are overridden."""
    table = LEVELS[level]
    if override is None:
        return table
    return Actions(*(getattr(override, field.name) or getattr(table, field.name) for field in fields(Actions)))
