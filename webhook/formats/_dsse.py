"""DSSE envelopes: what was signed, and by exactly one signature.

Source: DSSE, protocol.md and envelope.md.
"""

import base64
import binascii
from dataclasses import dataclass

from msgspec import Struct

from webhook.parsing import Invalid, convert
from webhook.trust import Rejected


class _Signature(Struct):
    sig: str


class _Envelope(Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[_Signature]


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope, decoded and not verified. `payload` may be read only after `signature` was verified over `signed`."""

    untrusted_payload: bytes
    payload_type: str
    signature: bytes

    @property
    def signed(self) -> bytes:
        """The bytes that the signature is over."""
        return pae(self.payload_type, self.untrusted_payload)


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that a DSSE signature is over. Lengths are decimal and count bytes of the UTF-8 form.

    Source: DSSE protocol, "Signature Definition".
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def read_envelope(untrusted: object, path: str, payload_type: str) -> Envelope:
    """The envelope in a JSON value. Raises `Invalid`, or `Rejected` for another payload type or number of signatures."""
    envelope = convert(untrusted, _Envelope, path)
    # Code that takes the first of several signatures, and code that takes any, would come to different answers.
    if len(envelope.signatures) != 1:
        raise Rejected(f"{path}.signatures: {len(envelope.signatures)}, expected exactly one")
    if envelope.payload_type != payload_type:
        raise Rejected(f"{path}.payloadType: expected {payload_type}")
    return Envelope(
        untrusted_payload=strict_base64(envelope.payload, f"{path}.payload"),
        payload_type=envelope.payload_type,
        signature=strict_base64(envelope.signatures[0].sig, f"{path}.signatures[0].sig"),
    )


def strict_base64(text: str, path: str) -> bytes:
    """Standard base64 with padding and nothing else, not even white space. Raises `Invalid`; empty is invalid too."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise Invalid(f"{path}: not base64") from e
    # Trailing bits that are not zero would let one signature be written in several ways.
    if not content or base64.b64encode(content).decode() != text:
        raise Invalid(f"{path}: not base64 in its one form" if content else f"{path}: empty")
    return content
