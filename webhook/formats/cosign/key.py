"""Signed by a key that the policy names."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from webhook.formats._dsse import strict_base64
from webhook.formats._keys import PublicKey, short
from webhook.formats._rekorbody import Signed
from webhook.formats.cosign.published import Published
from webhook.formats.cosign.signatory import Signatory
from webhook.formats.cosign.witnesses import Witnesses
from webhook.parsing import Invalid, quote
from webhook.trust import Rejected


@dataclass(frozen=True, slots=True)
class Keys:
    """Any of these keys."""

    anchors: tuple[PublicKey, ...]
    witnesses: Witnesses

    def verify(self, published: Published, now: datetime) -> Signatory:
        """See `signatory.SignedBy`."""
        # (1) A key, and nothing else: a certificate's key is not "the key", whatever it is.
        if published.certificate is not None:
            raise Rejected("signed with a certificate, and the policy names a key")
        # (2) The hint chooses among the policy's keys and proves nothing.
        hint = published.hint
        keys = [key for key in self.anchors if not hint or key.hint == hint]
        if not keys:
            raise Rejected(f"signed by unknown key {_shown_hint(hint)}")
        # (3) The signature: from here on the payload is what a key's owner wrote.
        key = _signed_by(keys, published.signature, published.message)
        # (4) When it was made, where the policy wants to know.
        signed = Signed(published.message, published.signature, key, payload=published.envelope_payload)
        testimony = self.witnesses.hear(published, signed, now)
        return Signatory(
            key.fingerprint,
            testimony.signed_at,
            testimony.until,
            log_index=testimony.log_index,
            ends=testimony.ends,
        )

    def dangers(self) -> tuple[str, ...]:
        """None: a key is a key."""
        return ()

    def fingerprints(self) -> tuple[str, ...]:
        """Of all keys, in the order of the policy."""
        return tuple(key.fingerprint for key in self.anchors)

    def wanted(self) -> str:
        """The keys, shortened."""
        shown = " or ".join(short(key.fingerprint) for key in self.anchors[:3])
        more = f" or {len(self.anchors) - 3} more" if len(self.anchors) > 3 else ""
        return f"key {shown}{more}"


def _signed_by(keys: Iterable[PublicKey], signature: bytes, message: bytes) -> PublicKey:
    """The first of the keys that made the signature. Raises `Rejected` if none did, or there are none."""
    for key in keys:
        try:
            key.verify(signature, message)
        except Rejected:
            continue
        return key
    raise Rejected("not signed by a key of this signer")


def _shown_hint(hint: str) -> str:
    """A bundle's hint as a fingerprint, if it has that form; it is the publisher's word."""
    try:
        content = strict_base64(hint, "hint")
    except Invalid:
        return quote(hint, 40)
    return short(f"SHA256:{content.hex()}") if len(content) == 32 else quote(hint, 40)
