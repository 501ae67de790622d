"""Envelopes in COSE: a tagged COSE_Sign1.

Source: Notary Project, signature-envelope-cose.md; RFC 9052, sections 3.1, 4.2 and 4.4; RFC 9360, section 2.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from webhook import limits
from webhook.formats.notation import envelope
from webhook.formats.notation.cbor import Tag, byte_string, head, read_cbor
from webhook.formats.notation.envelope import Envelope
from webhook.parsing import Invalid, quote
from webhook.trust import Rejected

MEDIA_TYPE: Final = "application/cose"

_SIGN1: Final = 18
_EPOCH: Final = 1
_ALGORITHM, _CRITICAL, _CONTENT_TYPE, _CHAIN = 1, 2, 3, 33
_TIMES: Final = (envelope.SIGNING_TIME, envelope.AUTHENTIC_TIME, envelope.EXPIRY)
_ALGORITHMS: Final = {-37: "PS256", -38: "PS384", -39: "PS512", -7: "ES256", -35: "ES384", -36: "ES512"}

_Headers = dict[int | str, object]


def read(untrusted: bytes) -> Envelope:
    """The envelope in these bytes. Raises `Invalid` or `Rejected`."""
    message = read_cbor(untrusted, "cose")
    if not isinstance(message, Tag) or message.number != _SIGN1:
        raise Invalid("cose: not a COSE_Sign1 with its tag")
    parts = envelope.as_list(message.value, "cose")
    if len(parts) != 4:
        raise Invalid("cose: not the four parts of a COSE_Sign1")
    body_protected = _bytes(parts[0], "cose.protected")
    protected = _map(read_cbor(body_protected, "cose.protected"), "cose.protected")
    unprotected = _map(parts[1], "cose.unprotected")
    payload, signature = _bytes(parts[2], "cose.payload"), _bytes(parts[3], "cose.signature")
    # RFC 9052, 3: no label in both, or one reader takes this one and another that one.
    if twice := protected.keys() & unprotected.keys():
        raise Rejected(f"cose.unprotected: label {quote(min(twice, key=str), 80)} is protected and unprotected at once")
    number = protected.get(_ALGORITHM)
    if not isinstance(number, int) or number not in _ALGORITHMS:
        raise Rejected(f"cose.protected: algorithm {quote(number, 80)} is not accepted")
    if protected.get(_CONTENT_TYPE) != envelope.PAYLOAD_TYPE:
        raise Rejected(f"cose.protected: expected content type {envelope.PAYLOAD_TYPE}")
    times: dict[str, datetime] = {
        name: _time(protected[name], f"cose.protected.{name}") for name in _TIMES if name in protected
    }
    critical = envelope.as_list(protected.get(_CRITICAL), "cose.protected.crit")
    attributes = envelope.read_attributes(protected, protected.get(envelope.SCHEME), times, critical, "cose.protected")
    timestamp = unprotected.get(envelope.TIMESTAMP)
    return Envelope(
        algorithm=_ALGORITHMS[number],
        scheme=attributes.scheme,
        signing_time=attributes.signing_time,
        authentic_time=attributes.authentic_time,
        expiry=attributes.expiry,
        untrusted_payload=payload,
        signed=_to_be_signed(body_protected, payload),
        signature=signature,
        # signature-envelope-cose.md: the chain may be in either header.
        certificates=_chain({**unprotected, **protected}.get(_CHAIN)),
        timestamp=None if timestamp is None else _bytes(timestamp, "cose.unprotected.timestampSignature"),
    )


def _to_be_signed(body_protected: bytes, payload: bytes) -> bytes:
    """RFC 9052, 4.4: `["Signature1", body_protected, external_aad, payload]`; nothing external here."""
    context = b"Signature1"
    return (
        head(4, 4)
        + head(3, len(context))
        + context
        + byte_string(body_protected)
        + byte_string(b"")
        + byte_string(payload)
    )


def _chain(value: object) -> tuple[bytes, ...]:
    """RFC 9360, 2: a list, or a certificate by itself."""
    certificates = envelope.as_list([value] if isinstance(value, bytes) else value, "cose.x5chain")
    if len(certificates) > limits.MAX_CHAIN:
        raise Rejected(f"cose.x5chain: more than {limits.MAX_CHAIN} certificates")
    return tuple(_bytes(one, f"cose.x5chain[{i}]") for i, one in enumerate(certificates))


def _time(value: object, path: str) -> datetime:
    """RFC 8949, 3.4.2: whole seconds since 1970 under their tag."""
    if isinstance(value, Tag) and value.number == _EPOCH and type(value.value) is int:
        try:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value.value)
        except OverflowError:
            # Before the year 1, or after 9999.
            pass
    raise Invalid(f"{path}: not a time in whole seconds under tag 1")


def _bytes(value: object, path: str) -> bytes:
    if not isinstance(value, bytes) or not value:
        raise Invalid(f"{path}: expected bytes, at least one")
    return value


def _map(value: object, path: str) -> _Headers:
    if not isinstance(value, dict):
        raise Invalid(f"{path}: expected a map")
    return value
