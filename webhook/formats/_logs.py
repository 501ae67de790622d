"""Logs that are trusted: what names them, their key, and when the key was in force. Transparency logs and certificate logs alike."""

from dataclasses import dataclass
from datetime import datetime

from webhook.formats._keys import PublicKey
from webhook.trust import Rejected


@dataclass(frozen=True, slots=True)
class Window:
    """When something was in force, both ends inclusive; None: open on that side. Aware."""

    begins: datetime | None = None
    ends: datetime | None = None

    def includes(self, at: datetime) -> bool:
        """Whether it was in force at `at`."""
        return (self.begins is None or self.begins <= at) and (self.ends is None or at <= self.ends)


@dataclass(frozen=True, slots=True)
class Log:
    """A log's key in its window. `identity` is how entries name the log, `note_identity` how checkpoints do.

    Both are taken from the trust root and computed nowhere: logs with Ed25519 keys derive them otherwise than those with ECDSA.
    """

    identity: bytes
    key: PublicKey
    window: Window
    note_identity: bytes

    def verify(self, signature: bytes, message: bytes, what: str) -> None:
        """Returns if this log signed `message`; `what` it is begins the message. Raises `Rejected`."""
        try:
            self.key.verify(signature, message)
        except Rejected as e:
            raise Rejected(f"{what}: not signed by the log {self.identity.hex()[:16]}…") from e
