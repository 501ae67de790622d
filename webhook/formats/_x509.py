"""Certificates and their chains, as every tradition that signs by certificate needs them. Time is an argument, names are nobody's here.

The library validates paths; what it leaves to its caller (what the leaf may be used for, how many certificates are looked at) is
checked here. Source: RFC 5280, sections 4.2 and 6.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from webhook import limits
from webhook.formats._keys import PublicKey, public_key_of
from webhook.parsing import Invalid, quote
from webhook.trust import Rejected
from webhook.verdict import End

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.x509 import Certificate, Extensions

_BEGIN = b"-----BEGIN CERTIFICATE-----"


def parse_certificates(data: bytes, path: str) -> "tuple[Certificate, ...]":
    """The PEM certificates in `data`, at least one and in their order; text around them is ignored, as PEM allows.

    Raises `Invalid` beginning with `path`. Nothing of `data` is repeated: it may be a private key.
    """
    from cryptography.x509 import load_pem_x509_certificates

    if len(data) > limits.MAX_KEY_MATERIAL:
        raise Invalid(f"{path}: more than {limits.MAX_KEY_MATERIAL} bytes")
    if b"PRIVATE KEY" in data:
        raise Invalid(f"{path}: a private key; give the certificate, and consider the private key lost")
    count = data.count(_BEGIN)
    if not count:
        raise Invalid(f"{path}: no PEM certificate ({_BEGIN.decode()})")
    if count > limits.MAX_CERTIFICATES:
        raise Invalid(f"{path}: more than {limits.MAX_CERTIFICATES} certificates")
    try:
        return tuple(load_pem_x509_certificates(data))
    except unreadable() as e:
        raise Invalid(f"{path}: not a certificate that can be read") from e


def parse_der(untrusted_der: bytes, path: str) -> "Certificate":
    """One certificate in DER. Raises `Invalid` beginning with `path`."""
    from cryptography.x509 import load_der_x509_certificate

    if len(untrusted_der) > limits.MAX_CERTIFICATE:
        raise Invalid(f"{path}: more than {limits.MAX_CERTIFICATE} bytes")
    try:
        return load_der_x509_certificate(untrusted_der)
    except unreadable() as e:
        raise Invalid(f"{path}: not a certificate that can be read") from e


def read_extensions(certificate: "Certificate", path: str) -> "Extensions":
    """The extensions of a certificate, which the library reads on demand. Raises `Invalid` beginning with `path`."""
    try:
        return certificate.extensions
    except unreadable() as e:
        raise Invalid(f"{path}: extensions that cannot be read") from e


def require_names(certificate: "Certificate", path: str) -> None:
    """Returns if the certificate's subject and issuer can be read, which the library does on demand. Raises `Invalid` beginning with `path`."""
    try:
        certificate.subject, certificate.issuer  # noqa: B018 - reading is all that is wanted
    except unreadable() as e:
        raise Invalid(f"{path}: a certificate whose names cannot be read") from e


def unreadable() -> tuple[type[Exception], ...]:
    """All that the library raises for certificates, lists and answers that it cannot read: they have no name in common."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import DuplicateExtension, InvalidVersion, UnsupportedGeneralNameType

    return ValueError, TypeError, UnsupportedAlgorithm, DuplicateExtension, InvalidVersion, UnsupportedGeneralNameType


def verify_chain(
    leaf: "Certificate", intermediates: "Sequence[Certificate]", anchors: "Sequence[Certificate]", at: datetime
) -> "tuple[Certificate, ...]":
    """The chain from `leaf` to one of `anchors`, every certificate of it valid at `at` (attack C-09).

    An anchor may be any certificate: a root, an intermediate, the leaf itself. Between it and the leaf stand authorities that may issue
    to signers of code. What the leaf may be used for, and whose it is, is for the caller to check. Raises `Rejected`.
    """
    from cryptography.x509 import ExtendedKeyUsage
    from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

    if not anchors:
        raise Rejected("no certificate is trusted, so none can be traced to one")
    if len(intermediates) > limits.MAX_INTERMEDIATES:
        raise Rejected(f"more than {limits.MAX_INTERMEDIATES} intermediate certificates")
    # The Web's profile is for authorities too; only its extended key usage says nothing about who signs code.
    authority = ExtensionPolicy.webpki_defaults_ca().may_be_present(ExtendedKeyUsage, Criticality.AGNOSTIC, None)
    signer = ExtensionPolicy.permit_all().may_be_present(ExtendedKeyUsage, Criticality.AGNOSTIC, None)
    refusals: tuple[type[Exception], ...] = (VerificationError, *unreadable())
    between = [one for one in intermediates if _may_issue_to_signers(one)]
    try:
        builder = PolicyBuilder().store(Store(list(anchors))).time(at.astimezone(UTC).replace(tzinfo=None))
        verifier = builder.extension_policies(ca_policy=authority, ee_policy=signer).build_client_verifier()
        return tuple(verifier.verify(leaf, between).chain)
    except refusals as e:
        why = _first_line(e) if len(between) == len(intermediates) else "an authority of it is not for code signing"
        raise Rejected(f"its certificate leads to no trusted one: {quote(why, 160)}") from e


def _may_issue_to_signers(authority: "Certificate") -> bool:
    """Whether what it is for, if it says so, includes code signing: what a certificate is for bounds all below it, as Go and others read it.

    Source: RFC 5280, 4.2.1.12; Go, `crypto/x509`, `VerifyOptions.KeyUsages`.
    """
    from cryptography.x509 import ExtendedKeyUsage
    from cryptography.x509.oid import ExtendedKeyUsageOID

    wanted = {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    return all(
        not wanted.isdisjoint(one.value) for one in extensions_of(authority) if isinstance(one.value, ExtendedKeyUsage)
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def ends(chain: "Sequence[Certificate]") -> datetime:
    """When the first certificate of a chain ends."""
    return min(certificate.not_valid_after_utc for certificate in chain)


def end_of(chain: "Sequence[Certificate]") -> End:
    """The same, and which certificate it is, as people know it."""
    first = min(chain, key=lambda certificate: certificate.not_valid_after_utc)
    try:
        subject = first.subject.rfc4514_string()
    except unreadable():
        subject = ""
    return End(first.not_valid_after_utc, f"certificate {quote(subject or f'{first.serial_number:x}', 120)}")


def extensions_of(certificate: "Certificate") -> "Extensions":
    """What a certificate says beside its names and its key. Raises `Rejected` if that cannot be read."""
    try:
        return certificate.extensions
    except unreadable() as e:
        raise Rejected("its certificate has extensions that cannot be read") from e


def require_code_signing(leaf: "Certificate") -> None:
    """Returns if `leaf` is an end entity's and may sign code. Raises `Rejected`.

    RFC 5280, 4.2.1.3 and 4.2.1.12: `digitalSignature`, and `codeSigning` among the extended usages; `anyExtendedKeyUsage` is not it.
    """
    from cryptography.x509.oid import ExtendedKeyUsageOID

    require_usage(leaf, ExtendedKeyUsageOID.CODE_SIGNING.dotted_string, "code signing")


def require_usage(leaf: "Certificate", usage: str, name: str) -> None:
    """Returns if `leaf` is an end entity's with key usage `digitalSignature` and this extended usage. Raises `Rejected`."""
    from cryptography.x509 import BasicConstraints, ExtendedKeyUsage, ExtensionNotFound, KeyUsage

    extensions = extensions_of(leaf)
    try:
        if extensions.get_extension_for_class(BasicConstraints).value.ca:
            raise Rejected("its certificate is an authority's")
    except ExtensionNotFound:
        # RFC 5280, 4.2.1.9: without it the key signs no certificates.
        pass
    try:
        if not extensions.get_extension_for_class(KeyUsage).value.digital_signature:
            raise Rejected("its certificate is not for digital signatures")
        usages = extensions.get_extension_for_class(ExtendedKeyUsage).value
    except ExtensionNotFound as e:
        raise Rejected(f"its certificate does not say that it is for {name}") from e
    if usage not in {one.dotted_string for one in usages}:
        raise Rejected(f"its certificate is not for {name}")


def public_key(certificate: "Certificate") -> PublicKey:
    """The key in a certificate, if it is one that policies may trust. Raises `Invalid`."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as e:
        raise Invalid("its certificate's key cannot be read") from e
    return public_key_of(key)
