"""Whether a certificate was revoked, by what its issuer says: OCSP answers and revocation lists. Judges bytes, asks nobody.

Where to ask stands in certificates, so `questions_about` is for those whose issuer is trusted. What is asked has no nonce: answers are
kept, and shared by those who ask the same; how old one may be is for its issuer to say.
Sources: RFC 5280, sections 5 and 6.3; RFC 6960, sections 3.2 and 4.2; Notary Project, trust-store-trust-policy.md, "Certificate
Revocation Evaluation".
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from webhook import limits
from webhook.formats import _x509
from webhook.parsing import quote
from webhook.trust import Rejected

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.hazmat.primitives.hashes import HashAlgorithm
    from cryptography.x509 import Certificate, CertificateRevocationList, Extensions, RevokedCertificate
    from cryptography.x509.ocsp import OCSPResponse

_STRONG: Final = frozenset({"sha256", "sha384", "sha512"})


class Revoked(Rejected):
    """Its issuer has revoked it."""


class Undetermined(Exception):
    """What was read does not tell whether it was revoked."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Where a certificate says that its state can be learned. Empty: nowhere, so that it cannot be revoked.

    `responders` are URLs to which `request` is posted. `lists` has an entry for each distribution point: URLs that lead to the same
    list. `deltas` are URLs of the changes since.
    """

    responders: tuple[str, ...] = ()
    lists: tuple[tuple[str, ...], ...] = ()
    deltas: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.responders or self.lists)


@dataclass(frozen=True, slots=True)
class List:
    """A revocation list as it was fetched, and its changes since, if it or the certificate names such."""

    untrusted: bytes
    untrusted_delta: bytes | None = None


def questions_about(certificate: "Certificate") -> Questions:
    """What a certificate says of itself, at most `MAX_REVOCATION_URLS` of each kind. Raises `Invalid` if it cannot be read."""
    from cryptography.x509 import AuthorityInformationAccess, CRLDistributionPoints, FreshestCRL
    from cryptography.x509.oid import AuthorityInformationAccessOID

    extensions = _x509.read_extensions(certificate, "certificate")
    responders: list[str] = []
    lists: list[tuple[str, ...]] = []
    deltas: list[str] = []
    for extension in extensions:
        match extension.value:
            case AuthorityInformationAccess():
                accesses = [one for one in extension.value if one.access_method == AuthorityInformationAccessOID.OCSP]
                responders += _urls(one.access_location for one in accesses)
            case CRLDistributionPoints():
                # One without a name is its issuer's own directory entry, which nobody can ask for; it still is a place.
                lists += [_urls(point.full_name or ()) for point in extension.value]
            case FreshestCRL():
                deltas += [url for point in extension.value for url in _urls(point.full_name or ())]
    most = limits.MAX_REVOCATION_URLS
    return Questions(tuple(responders[:most]), tuple(lists[:most]), tuple(deltas[:most]))


def request(certificate: "Certificate", issuer: "Certificate") -> bytes:
    """An OCSP request, in DER. SHA-1 only finds the certificate in the responder's books; many know no other hash."""
    from cryptography.hazmat.primitives.hashes import SHA1
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.ocsp import OCSPRequestBuilder

    builder = OCSPRequestBuilder().add_certificate(certificate, issuer, SHA1())  # noqa: S303 - see above
    return builder.build().public_bytes(Encoding.DER)


def answers(untrusted: bytes, certificate: "Certificate", issuer: "Certificate") -> bool:
    """Whether an OCSP answer tells the certificate's state, at whatever time: else there is reason to ask for a list."""
    try:
        with _reading("the OCSP answer"):
            response = _read_response(untrusted)
            _check_responder(response, issuer, None)
            _check_about(response, certificate, issuer)
    except Undetermined:
        return False
    return True


def delta_urls(untrusted: bytes) -> tuple[str, ...]:
    """Where a revocation list says that its changes are; none if it cannot be read."""
    from cryptography.x509 import FreshestCRL, load_der_x509_crl

    try:
        extensions = load_der_x509_crl(untrusted).extensions
    except _x509.unreadable():
        return ()
    points = [point for one in extensions if isinstance(one.value, FreshestCRL) for point in one.value]
    return tuple(url for point in points for url in _urls(point.full_name or ()))[: limits.MAX_REVOCATION_URLS]


def check_ocsp(
    untrusted: bytes, certificate: "Certificate", issuer: "Certificate", now: datetime, signed_at: datetime | None
) -> datetime:
    """Returns until when the answer says that the certificate is not revoked.

    `signed_at`: trusted time of the signature; what was revoked as from a later time has not been then. Raises `Revoked` or
    `Undetermined`.
    """
    from cryptography.x509.ocsp import OCSPCertStatus

    with _reading("the OCSP answer"):
        # (1) RFC 6960, 3.2: signed by the issuer, or by whom it has appointed; about this certificate.
        response = _read_response(untrusted)
        _check_responder(response, issuer, now)
        _check_about(response, certificate, issuer)
        # (2) Current.
        until = _current(response.this_update_utc, response.next_update_utc, now, "the OCSP answer")
        # (3) What it says.
        if response.certificate_status is not OCSPCertStatus.GOOD and not _was_valid_then(
            _invalid_since(response.single_extensions), signed_at
        ):
            raise Revoked(f"its issuer has revoked it{_on(response.revocation_time_utc)}")
        return until


def check_list(
    found: List,
    names: Sequence[str],
    certificate: "Certificate",
    issuer: "Certificate",
    now: datetime,
    signed_at: datetime | None,
) -> datetime:
    """The same by a revocation list that was found under one of the URLs `names`. Raises `Revoked` or `Undetermined`."""
    with _reading("the revocation list"):
        # (1) RFC 5280, 6.3.3 (f) and (g): signed by the issuer; (b): about certificates like this one, for all reasons.
        base = _read_list(found.untrusted, issuer)
        # A delta list is signed by the issuer too, and silent about what was revoked before.
        if _is_delta(base):
            raise Undetermined("a delta list in place of the revocation list")
        _check_scope(base.extensions, names, certificate)
        entry = base.get_revoked_certificate_by_serial_number(certificate.serial_number)
        # A list that is over still tells of what can never be taken back.
        try:
            until = _current(base.last_update_utc, base.next_update_utc, now, "the revocation list")
        except Undetermined:
            if entry is not None and not _is_on_hold(entry):
                _refuse(entry, signed_at)
            raise
        # (2) RFC 5280, 5.2.4: what changed since, if there is such a list. Without it nobody knows.
        if found.untrusted_delta is not None:
            delta = _read_list(found.untrusted_delta, issuer)
            until = min(until, _current(delta.last_update_utc, delta.next_update_utc, now, "the delta list"))
            if _is_newer(delta, base):
                _check_scope(delta.extensions, names, certificate)
                entry = _changed(entry, delta.get_revoked_certificate_by_serial_number(certificate.serial_number))
        # (3) What they say.
        if entry is not None and not _is_removed(entry):
            _refuse(entry, signed_at)
        return until


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Raises `Undetermined` for all that the library cannot read; much of it is read on demand only."""
    try:
        yield
    except _x509.unreadable() as e:
        raise Undetermined(f"{what} cannot be read") from e


# ── OCSP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _read_response(untrusted: bytes) -> "OCSPResponse":
    from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus, load_der_ocsp_response

    response = load_der_ocsp_response(untrusted)
    if response.response_status is not OCSPResponseStatus.SUCCESSFUL:
        raise Undetermined(f"the OCSP responder answers {response.response_status.name.lower().replace('_', ' ')}")
    # More than one was not asked for, and the library reads the first one only.
    if len(list(response.responses)) != 1:
        raise Undetermined("the OCSP answer is about several certificates")
    if response.certificate_status is OCSPCertStatus.UNKNOWN:
        raise Undetermined("the OCSP responder does not know the certificate")
    if any(extension.critical for extension in (*response.extensions, *response.single_extensions)):
        raise Undetermined("the OCSP answer has a critical extension")
    return response


def _check_about(response: "OCSPResponse", certificate: "Certificate", issuer: "Certificate") -> None:
    from cryptography.x509.ocsp import OCSPRequestBuilder

    asked = OCSPRequestBuilder().add_certificate(certificate, issuer, response.hash_algorithm).build()
    same = (
        response.serial_number == asked.serial_number
        and response.issuer_key_hash == asked.issuer_key_hash
        and response.issuer_name_hash == asked.issuer_name_hash
    )
    if not same:
        raise Undetermined("the OCSP answer is about another certificate")


def _check_responder(response: "OCSPResponse", issuer: "Certificate", now: datetime | None) -> None:
    """RFC 6960, 4.2.2.2: the issuer itself, or a certificate that it has made for this. `now`: None for whenever."""
    hashed = response.signature_hash_algorithm
    if _signed(issuer, response.signature, response.tbs_response_bytes, hashed):
        return
    for delegate in response.certificates[: limits.MAX_INTERMEDIATES]:
        if _is_appointed(delegate, issuer, now) and _signed(
            delegate, response.signature, response.tbs_response_bytes, hashed
        ):
            return
    raise Undetermined("the OCSP answer is signed by nobody whom the issuer has appointed")


def _is_appointed(delegate: "Certificate", issuer: "Certificate", now: datetime | None) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.x509 import OCSPNoCheck
    from cryptography.x509.oid import ExtendedKeyUsageOID

    if now is not None and not delegate.not_valid_before_utc <= now <= delegate.not_valid_after_utc:
        return False
    try:
        _x509.public_key(delegate)
        _x509.require_usage(delegate, ExtendedKeyUsageOID.OCSP_SIGNING.dotted_string, "OCSP")
        hashed = delegate.signature_hash_algorithm
        if hashed is not None and hashed.name not in _STRONG:
            return False
        delegate.verify_directly_issued_by(issuer)
        # Without it, whether the responder itself was revoked would have to be asked elsewhere, without end.
        return any(isinstance(extension.value, OCSPNoCheck) for extension in delegate.extensions)
    except (Rejected, InvalidSignature):
        return False
    except _x509.unreadable():
        return False


def _signed(by: "Certificate", signature: bytes, message: bytes, hashed: "HashAlgorithm | None") -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    key = by.public_key()
    if hashed is not None and hashed.name not in _STRONG:
        return False
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        elif isinstance(key, ec.EllipticCurvePublicKey) and hashed is not None:
            key.verify(signature, message, ec.ECDSA(hashed))
        elif isinstance(key, rsa.RSAPublicKey) and hashed is not None:
            key.verify(signature, message, padding.PKCS1v15(), hashed)
        else:
            return False
    except InvalidSignature:
        return False
    return True


# ── lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _read_list(untrusted: bytes, issuer: "Certificate") -> "CertificateRevocationList":
    """A list that the issuer has signed. Raises `Undetermined`."""
    from cryptography.x509 import load_der_x509_crl

    found = load_der_x509_crl(untrusted)
    hashed = found.signature_hash_algorithm
    if hashed is not None and hashed.name not in _STRONG:
        raise Undetermined(f"the revocation list is signed with {quote(hashed.name, 20)}")
    key = issuer.public_key()
    if found.issuer != issuer.subject or not _may_sign_lists(issuer) or not found.is_signature_valid(key):  # type: ignore[arg-type]  # a key of another kind is a TypeError
        raise Undetermined("the revocation list is not signed by the certificate's issuer")
    for extension in found.extensions:
        if extension.critical and extension.oid.dotted_string not in _LIST_EXTENSIONS:
            raise Undetermined(f"the revocation list has the critical extension {extension.oid.dotted_string}")
    return found


_LIST_EXTENSIONS: Final = frozenset({"2.5.29.28", "2.5.29.27", "2.5.29.20", "2.5.29.35"})
"""Issuing distribution point, delta indicator, number, authority key: what is looked at here, or names no one but the issuer."""
_ENTRY_EXTENSIONS: Final = frozenset({"2.5.29.21", "2.5.29.24"})
"""Reason and invalidity date."""


def _may_sign_lists(issuer: "Certificate") -> bool:
    from cryptography.x509 import ExtensionNotFound, KeyUsage

    try:
        return issuer.extensions.get_extension_for_class(KeyUsage).value.crl_sign
    except ExtensionNotFound:
        # RFC 5280, 4.2.1.3: without it the key may be used for anything.
        return True


def _check_scope(extensions: "Extensions", names: Sequence[str], certificate: "Certificate") -> None:
    """RFC 5280, 5.2.5 and 6.3.3 (b): a list of other certificates, or of some reasons, tells nothing of this one."""
    from cryptography.x509 import BasicConstraints, ExtensionNotFound, IssuingDistributionPoint

    try:
        scope = extensions.get_extension_for_class(IssuingDistributionPoint).value
    except ExtensionNotFound:
        return
    try:
        is_authority = certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
    except ExtensionNotFound:
        is_authority = False
    # Lists of one issuer are told apart by this name alone, and come without TLS: another one would be silent about this certificate.
    named = _urls(scope.full_name or ())
    if (
        scope.relative_name is not None
        or (scope.full_name is not None and not set(named) & set(names))
        or scope.only_some_reasons
        or scope.indirect_crl
        or scope.only_contains_attribute_certs
        or (scope.only_contains_ca_certs and not is_authority)
        or (scope.only_contains_user_certs and is_authority)
    ):
        raise Undetermined("the revocation list is not about such certificates")


def _is_delta(found: "CertificateRevocationList") -> bool:
    from cryptography.x509 import DeltaCRLIndicator

    return any(isinstance(extension.value, DeltaCRLIndicator) for extension in found.extensions)


def _is_newer(delta: "CertificateRevocationList", base: "CertificateRevocationList") -> bool:
    """Whether a delta list has something to add to the base. Raises `Undetermined` if it begins after it."""
    from cryptography.x509 import CRLNumber, DeltaCRLIndicator, ExtensionNotFound

    try:
        begins = delta.extensions.get_extension_for_class(DeltaCRLIndicator).value.crl_number
        number = delta.extensions.get_extension_for_class(CRLNumber).value.crl_number
        known = base.extensions.get_extension_for_class(CRLNumber).value.crl_number
    except ExtensionNotFound as e:
        raise Undetermined("the delta list does not say what it is a change of") from e
    if begins > known:
        raise Undetermined("the delta list begins after the revocation list")
    return number >= known


def _changed(entry: "RevokedCertificate | None", changed: "RevokedCertificate | None") -> "RevokedCertificate | None":
    """The entry that counts. What was taken back had been on hold; everything else is for ever."""
    is_for_ever = entry is not None and not _is_on_hold(entry)
    return entry if changed is None or (is_for_ever and _is_removed(changed)) else changed


def _is_on_hold(entry: "RevokedCertificate") -> bool:
    from cryptography.x509 import ReasonFlags

    return _reason(entry) in {ReasonFlags.certificate_hold, ReasonFlags.remove_from_crl}


def _is_removed(entry: "RevokedCertificate") -> bool:
    from cryptography.x509 import ReasonFlags

    return _reason(entry) is ReasonFlags.remove_from_crl


def _reason(entry: "RevokedCertificate") -> object:
    from cryptography.x509 import CRLReason

    for extension in entry.extensions:
        if isinstance(extension.value, CRLReason):
            return extension.value.reason
    return None


def _refuse(entry: "RevokedCertificate", signed_at: datetime | None) -> None:
    """Raises `Revoked`, unless it was revoked as from a time after the signature."""
    unknown = [
        extension.oid.dotted_string
        for extension in entry.extensions
        if extension.critical and extension.oid.dotted_string not in _ENTRY_EXTENSIONS
    ]
    if not unknown and _was_valid_then(_invalid_since(entry.extensions), signed_at):
        return
    raise Revoked(f"its issuer has revoked it{_on(entry.revocation_date_utc)}")


# ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _current(begins: datetime | None, ends: datetime | None, now: datetime, what: str) -> datetime:
    if begins is None or begins > now + timedelta(seconds=limits.MAX_CLOCK_SKEW):
        raise Undetermined(f"{what} is of a time to come")
    if ends is None or ends <= now:
        raise Undetermined(f"{what} is over, or does not say until when it holds")
    return ends


def _invalid_since(extensions: "Extensions") -> datetime | None:
    from cryptography.x509 import InvalidityDate

    for extension in extensions:
        if isinstance(extension.value, InvalidityDate):
            return extension.value.invalidity_date_utc
    return None


def _was_valid_then(invalid_since: datetime | None, signed_at: datetime | None) -> bool:
    """trust-store-trust-policy.md: revoked, unless the date of invalidity is known and a trusted time lies before it."""
    return invalid_since is not None and signed_at is not None and signed_at < invalid_since


def _on(since: datetime | None) -> str:
    return "" if since is None else f" on {since:%Y-%m-%d}"


def _urls(names: Iterable[object]) -> tuple[str, ...]:
    from cryptography.x509 import UniformResourceIdentifier

    return tuple(one.value for one in names if isinstance(one, UniformResourceIdentifier))
