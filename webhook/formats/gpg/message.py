"""An inline-signed OpenPGP message: a one-pass signature, what is signed, and the signature; nothing else, and each once.

Every other form in which OpenPGP can show a text beside a signature is refused: that is how a text comes to be read that nobody
signed. Source: RFC 9580, section 10.3; containers/image, docs/atomic-signature.md and docs/atomic-signature-embedded.json.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct

from webhook import limits
from webhook.formats._simplesigning import Critical
from webhook.formats.gpg import packets
from webhook.formats.gpg.packets import Packet, read_packets, unpack
from webhook.formats.gpg.signature import BINARY, Signature, key_id, read_signature
from webhook.parsing import Invalid
from webhook.trust import Rejected

_WHAT: Final = "signature"
_FORM: Final = [packets.ONE_PASS_SIGNATURE, packets.LITERAL, packets.SIGNATURE]


@dataclass(frozen=True, slots=True)
class Message:
    """A message, read and not verified. `announced`: the key id at its head, which must be that of the key that signed."""

    untrusted_content: bytes
    signature: Signature
    announced: str

    def is_announced(self, fingerprint: str) -> bool:
        """Whether the head of the message names this key."""
        return self.announced == key_id(fingerprint)


def read_message(data: bytes) -> Message:
    """The message in `data`, in its binary form. Raises `Invalid` or `Rejected`."""
    if len(data) > limits.MAX_OPENPGP:
        raise Rejected(f"{_WHAT}: more than {limits.MAX_OPENPGP} bytes")
    found = read_packets(data, _WHAT, limits.MAX_MESSAGE_PACKETS)
    if [one.tag for one in found] == [packets.COMPRESSED]:
        # Once: what is packed in there again is not looked into.
        found = read_packets(unpack(found[0].body, _WHAT), _WHAT, limits.MAX_MESSAGE_PACKETS)
    head, literal, body = _of_the_form(found)
    signature = read_signature(body, _WHAT)
    if signature.kind != BINARY:
        raise Rejected(f"{_WHAT}: of type {signature.kind:#04x}, not of a document")
    # RFC 9580, section 5.4: it repeats the signature's type, hash and algorithm, and says that no other signature follows.
    if (
        len(head) != 13
        or head[:4] != bytes([3, BINARY, signature.hash_algorithm, signature.algorithm])
        or head[12] != 1
    ):
        raise Rejected(f"{_WHAT}: its head announces another signature")
    return Message(_content(literal), signature, head[4:12].hex().upper())


def _of_the_form(found: Sequence[Packet]) -> tuple[bytes, bytes, bytes]:
    tags = [one.tag for one in found]
    count = tags.count(packets.SIGNATURE)
    if tags == _FORM:
        return found[0].body, found[1].body, found[2].body
    if count > 1:
        raise Rejected(f"{_WHAT}: {count} signatures in one message, expected exactly one")
    if packets.COMPRESSED in tags:
        raise Rejected(f"{_WHAT}: packed more than once, or beside something else")
    raise Rejected(f"{_WHAT}: not one inline-signed message, but packets {', '.join(map(str, tags)) or 'of none'}")


def _content(literal: bytes) -> bytes:
    """The content of a literal packet. Its file name and date are not signed and mean nothing. Source: RFC 9580, section 5.9."""
    if len(literal) < 6 or literal[:1] not in {b"b", b"t", b"u"} or len(literal) < 6 + literal[1]:
        raise Invalid(f"{_WHAT}: its content is not a literal packet")
    return literal[6 + literal[1] :]


class Payload(Struct, forbid_unknown_fields=True):
    """What is signed. `optional` says who made it and when, and decides nothing."""

    critical: Critical
    optional: dict[str, Any]


PAYLOAD_TYPE: Final = "atomic container signature"
