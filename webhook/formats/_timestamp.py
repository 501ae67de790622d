"""RFC 3161 timestamps: when a signature existed, as an authority that the policy trusts has signed it.

Read by a library that takes DER strictly; what signers are known to write otherwise is put into that form first, outside of what the
authority has signed. Revocation of an authority's certificates is not looked at: an authority is trusted by its window.
Source: RFC 3161, sections 2.3 and 2.4.2; RFC 5652, section 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from webhook import limits
from webhook.formats import _x509
from webhook.parsing import Invalid, quote
from webhook.trust import Rejected

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from rfc3161_client import Accuracy, TimeStampResponse


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A moment that an authority vouches for: aware, and right within `accuracy` to either side."""

    at: datetime
    accuracy: timedelta = timedelta()

    @property
    def earliest(self) -> datetime:
        """No earlier than this."""
        return self.at - self.accuracy

    @property
    def latest(self) -> datetime:
        """No later than this."""
        return self.at + self.accuracy

    def within(self, begins: datetime | None, ends: datetime | None) -> bool:
        """Whether all of it lies between two moments, both inclusive; None: open on that side."""
        return (begins is None or begins <= self.earliest) and (ends is None or self.latest <= ends)


@dataclass(frozen=True, slots=True)
class Authority:
    """A timestamp authority: its roots, what lies between, and its own certificate where that is pinned too.

    The window is this authority's, and holds for no other (attack C-10); None: open on that side.
    """

    roots: "tuple[Certificate, ...]"
    intermediates: "tuple[Certificate, ...]" = ()
    certificate: "Certificate | None" = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None


def read_authorities(
    certificates: "Sequence[Certificate]",
    path: str,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
) -> tuple[Authority, ...]:
    """The authorities that certificates in any order stand for: one for each that is no CA's, or one for all roots.

    Raises `Invalid` beginning with `path` if no root is among them, so that no timestamp could be traced to one.
    """
    for one in certificates:
        _x509.require_names(one, path)
    roots = tuple(one for one in certificates if _is_authority(one) and one.issuer == one.subject)
    between = tuple(one for one in certificates if _is_authority(one) and one.issuer != one.subject)
    pinned = [one for one in certificates if not _is_authority(one)]
    own: Sequence[Certificate | None] = pinned or [None]
    if not roots:
        raise Invalid(f"{path}: no self-signed root among the certificates, so no timestamp could be traced to one")
    return tuple(Authority(roots, between, one, valid_from, valid_until) for one in own)


def _is_authority(certificate: "Certificate") -> bool:
    from cryptography.x509 import BasicConstraints, ExtensionNotFound

    try:
        return certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
    except ExtensionNotFound:
        return False
    except _x509.unreadable():
        return False


def verify_timestamp(untrusted_token: bytes, message: bytes, authorities: Sequence[Authority]) -> Timestamp:
    """The moment before which `message` (for a signature: its raw bytes) existed, by one of the authorities.

    `untrusted_token` is a whole response or the bare token. Raises `Rejected`.
    """
    if not authorities:
        raise Rejected("timestamp: the policy trusts no timestamp authority")
    response, moment = _read(untrusted_token)
    reasons = []
    for authority in authorities:
        try:
            _verify(response, message, authority)
        except Rejected as e:
            reasons.append(str(e))
            continue
        if moment.within(authority.valid_from, authority.valid_until):
            return moment
        reasons.append("its authority was not in force at that time")
    raise Rejected(f"timestamp: {'; '.join(dict.fromkeys(reasons))}")


def _verify(response: "TimeStampResponse", message: bytes, authority: Authority) -> None:
    from rfc3161_client import VerificationError, VerifierBuilder

    verifier = VerifierBuilder(
        roots=list(authority.roots),
        intermediates=list(authority.intermediates),
        tsa_certificate=authority.certificate,
    ).build()
    refusals: tuple[type[Exception], ...] = (VerificationError, *_x509.unreadable())
    try:
        # RFC 3161, 2.4.2: the signature and its chain at the time it states, timeStamping as the only purpose, and the imprint.
        verified = verifier.verify_message(response, message)
    except refusals as e:
        brings_none = authority.certificate is None and not response.signed_data.certificates
        raise Rejected(_NO_CERTIFICATE if brings_none else _reason(e)) from e
    if not verified:
        raise Rejected("it does not verify")


_NO_CERTIFICATE: Final = (
    "the token brings no certificate, so the authority's own has to stand among those that are trusted, beside its root"
)


def _reason(error: Exception) -> str:
    # The library repeats what OpenSSL says of its own inside, which tells people nothing.
    if str(error).startswith("Error while verifying certificates"):
        return "not signed by an authority that is trusted"
    return quote(error, 160)


def _read(untrusted_token: bytes) -> "tuple[TimeStampResponse, Timestamp]":
    """The response, and the moment it states, which nobody has vouched for yet. Raises `Rejected`."""
    from rfc3161_client import decode_timestamp_response

    if len(untrusted_token) > limits.MAX_TIMESTAMP:
        raise Rejected(f"timestamp: more than {limits.MAX_TIMESTAMP} bytes")
    try:
        response = decode_timestamp_response(_in_order(untrusted_token))
        # The library reads on demand.
        info = response.tst_info
        return response, Timestamp(info.gen_time, _slack(info.accuracy, info.policy.dotted_string))
    except Exception as e:
        # A token is a stranger's, and what the library raises for one has no name in common.
        raise Rejected("timestamp: not one that can be read") from e


_BASELINE: Final = "0.4.0.2023.1.1"
"""The baseline time-stamp policy: right within a second, where nothing better is said (RFC 3628, 5.2)."""


def _slack(accuracy: "Accuracy | None", policy: str) -> timedelta:
    if accuracy is None:
        return timedelta(seconds=1 if policy == _BASELINE else 0)
    return timedelta(seconds=accuracy.seconds, milliseconds=accuracy.millis or 0, microseconds=accuracy.micros or 0)


def _in_order(untrusted_token: bytes) -> bytes:
    """A whole response with its certificates in DER's order, which OpenSSL and others do not keep.

    The certificates lie outside of what is signed; the signature is checked over the rest, which stays byte for byte.
    """
    from asn1crypto import cms, tsp

    # A response is a SEQUENCE of a SEQUENCE, a token one of an OBJECT IDENTIFIER.
    outer = tsp.TimeStampResp.load(untrusted_token, strict=True)
    try:
        token = outer["time_stamp_token"]
        status = outer["status"]
    except ValueError:
        token = cms.ContentInfo.load(untrusted_token, strict=True)
        status = {"status": "granted"}
    certificates = token["content"]["certificates"]
    if len(certificates) > limits.MAX_INTERMEDIATES + 1:
        raise ValueError("too many certificates")
    written = [one.dump() for one in certificates]
    if written != sorted(written):
        token["content"]["certificates"] = cms.CertificateSet(sorted(certificates, key=lambda one: one.dump()))
    return bytes(tsp.TimeStampResp({"status": status, "time_stamp_token": token}).dump())
