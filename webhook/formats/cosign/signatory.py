"""Whoever signed, as proven: what a key, a certificate of one's own authority and one of sigstore's come to alike."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from webhook.formats.cosign.published import Published
from webhook.verdict import End


@dataclass(frozen=True, slots=True)
class Signatory:
    """Who signed, and when; see `verdict.Proof` for what each means."""

    identity: str
    signed_at: datetime | None = None
    valid_until: datetime | None = None
    serial: str | None = None
    log_index: int | None = None
    keys: tuple[str, ...] = ()
    ends: End | None = None


class SignedBy(Protocol):
    """Whose signature is wanted, and by what it is known. A frozen value."""

    def verify(self, published: Published, now: datetime) -> Signatory:
        """Whoever made this signature, if it is theirs. Nothing is said about what was signed. Raises `Rejected` or `Invalid`."""
        ...

    def dangers(self) -> tuple[str, ...]:
        """See `trust.Signer`."""
        ...

    def fingerprints(self) -> tuple[str, ...]:
        """See `trust.Signer`."""
        ...

    def wanted(self) -> str:
        """See `trust.Signer`."""
        ...
