"""Envelopes in JWS: flattened JSON, one signature.

Source: Notary Project, signature-envelope-jws.md; RFC 7515, sections 4.1.11 and 7.2.2.
"""

import base64
import binascii
import re
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from webhook import limits
from webhook.formats._dsse import strict_base64
from webhook.formats.notation import envelope
from webhook.formats.notation.envelope import Envelope
from webhook.parsing import Invalid, convert, quote, read_json
from webhook.trust import Rejected

MEDIA_TYPE: Final = "application/jose+json"

_TIMES: Final = (envelope.SIGNING_TIME, envelope.AUTHENTIC_TIME, envelope.EXPIRY)
_KNOWN: Final = ("alg", "cty", "crit", "b64", envelope.SCHEME, *_TIMES)
_RFC_3339: Final = re.compile(
    r"(?P<to_the_second>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,9})?(?P<offset>Z|[+-][0-9]{2}:[0-9]{2})"
)


class _Flattened(Struct, forbid_unknown_fields=True):
    """A second form of signature beside this one ("signatures") would be read by somebody else."""

    payload: str
    protected: str
    header: dict[str, Any]
    signature: str


class _Unprotected(Struct):
    x5c: list[str]
    timestamp: str | None = msgspec.field(default=None, name=envelope.TIMESTAMP)


def read(untrusted: bytes) -> Envelope:
    """The envelope in these bytes. Raises `Invalid` or `Rejected`."""
    document = convert(read_json(untrusted, "jws"), _Flattened, "jws")
    payload = _base64url(document.payload, "jws.payload")
    protected = read_json(_base64url(document.protected, "jws.protected"), "jws.protected")
    if not isinstance(protected, dict):
        raise Invalid("jws.protected: expected an object")
    envelope.refuse_lookalikes(protected, _KNOWN, "jws.protected")
    envelope.refuse_lookalikes(document.header, ("x5c", envelope.TIMESTAMP), "jws.header")
    # RFC 7515, 7.2.1: no name in both, or one reader takes this one and another that one.
    if twice := protected.keys() & document.header.keys():
        raise Rejected(f"jws.header.{quote(min(twice), 80)}: protected and unprotected at once")
    # RFC 7797: with it the signature would be over other bytes.
    if "b64" in protected:
        raise Rejected("jws.protected.b64: not supported")
    algorithm = envelope.as_text(protected.get("alg"), "jws.protected.alg")
    if algorithm not in envelope.ALGORITHMS:
        raise Rejected(f"jws.protected.alg: {quote(algorithm, 80)} is not accepted")
    if protected.get("cty") != envelope.PAYLOAD_TYPE:
        raise Rejected(f"jws.protected.cty: expected {envelope.PAYLOAD_TYPE}")
    times: dict[str, datetime] = {
        name: _time(protected[name], f"jws.protected.{name}") for name in _TIMES if name in protected
    }
    critical = envelope.as_list(protected.get("crit"), "jws.protected.crit")
    attributes = envelope.read_attributes(protected, protected.get(envelope.SCHEME), times, critical, "jws.protected")
    unprotected = convert(document.header, _Unprotected, "jws.header")
    if len(unprotected.x5c) > limits.MAX_CHAIN:
        raise Rejected(f"jws.header.x5c: more than {limits.MAX_CHAIN} certificates")
    return Envelope(
        algorithm=algorithm,
        scheme=attributes.scheme,
        signing_time=attributes.signing_time,
        authentic_time=attributes.authentic_time,
        expiry=attributes.expiry,
        untrusted_payload=payload,
        signed=f"{document.protected}.{document.payload}".encode("ascii"),
        signature=_base64url(document.signature, "jws.signature"),
        certificates=tuple(strict_base64(one, f"jws.header.x5c[{i}]") for i, one in enumerate(unprotected.x5c)),
        timestamp=None
        if unprotected.timestamp is None
        else strict_base64(unprotected.timestamp, f"jws.header.{envelope.TIMESTAMP}"),
    )


def _time(value: object, path: str) -> datetime:
    """RFC 3339; fractions of a second are cut off, which makes an expiry no later."""
    match = _RFC_3339.fullmatch(envelope.as_text(value, path))
    try:
        if match is not None:
            return datetime.fromisoformat(match["to_the_second"] + match["offset"])
    except ValueError:
        # A day or an hour that does not exist.
        pass
    raise Invalid(f"{path}: not a time of RFC 3339")


def _base64url(text: str, path: str) -> bytes:
    """URL-safe base64 without padding, in its one form. Raises `Invalid`; empty is invalid too."""
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as e:
        raise Invalid(f"{path}: not base64url") from e
    if not content or base64.urlsafe_b64encode(content).rstrip(b"=").decode() != text:
        raise Invalid(f"{path}: not base64url in its one form")
    return content
