"""Devices that attest their keys, as vendors' devices do: every field can be made wrong.

The form follows Yubico's "PIV Attestation OID Arc" and what firmware writes: no key usages, no key identifiers, the vendor's extensions bare
(to firmware 5.7: in an OCTET STRING from then on), dates copied from the attesting certificate.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.fake.pki import Issued, issue
from tests.fake.signing import Private

BEGINS: Final = dt.datetime(2016, 3, 14, tzinfo=dt.UTC)
ENDS: Final = dt.datetime(2052, 4, 17, tzinfo=dt.UTC)
ARC: Final = "1.3.6.1.4.1.41482.3"
FIRMWARE, SERIAL, POLICY, FORM, FIPS = (f"{ARC}.{number}" for number in (3, 7, 8, 9, 10))
# What a YubiKey 5C with serial number 15938765 writes about a key that wants PIN and touch each time.
WRITTEN: Final = {FIRMWARE: b"\x05\x02\x07", SERIAL: b"\x02\x04\x00\xf3\x34\xcd", POLICY: b"\x03\x02", FORM: b"\x03"}

Public = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True)
class Certified:
    """A certificate, and the key that it is about."""

    certificate: x509.Certificate
    key: Private

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certify(
    subject: x509.Name | str,
    public: Public,
    issuer: Certified | None,
    signer: Private,
    *,
    ca: bool | None = None,
    path_length: int | None = None,
    extensions: dict[str, bytes] | None = None,
    usage: x509.KeyUsage | None = None,
    begins: dt.datetime = BEGINS,
    ends: dt.datetime = ENDS,
    digest: hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | None = None,
) -> x509.Certificate:
    """A certificate with exactly these extensions."""
    subject = name(subject) if isinstance(subject, str) else subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    for oid, value in (extensions or {}).items():
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=False)
    assert not isinstance(signer, ed25519.Ed25519PrivateKey)
    return builder.sign(signer, digest or hashes.SHA256())


def authority(
    text: str,
    issuer: Certified | None = None,
    path_length: int | None = None,
    key: Private | None = None,
    **given: object,
) -> Certified:
    """An authority: a vendor's root, or one below it."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = key if issuer is None else issuer.key
    options = {"ca": True, "path_length": path_length, **given}
    return Certified(certify(text, key.public_key(), issuer, signer, **options), key)  # type: ignore[arg-type]  # as certify has them


@dataclass
class YubiKey:
    """A device: its own certificate in slot f9, by the vendor or whoever replaced it."""

    root: Certified = field(default_factory=lambda: authority("Yubico PIV Root CA Serial 263751", path_length=1))
    fips: bool = False

    def __post_init__(self) -> None:
        extensions = {FIRMWARE: WRITTEN[FIRMWARE]} | ({FIPS: b"\x05\x00"} if self.fips else {})
        self.f9 = authority("Yubico PIV Attestation", self.root, path_length=0, extensions=extensions)

    def attest(
        self,
        public: Public,
        *,
        slot: str = "9c",
        changed: dict[str, bytes | None] | None = None,
        by: Certified | None = None,
        subject: x509.Name | str | None = None,
        **given: object,
    ) -> str:
        """The attestation of a key, PEM. `changed`: extensions, None without; `by`: whoever signs it in place of the device."""
        written = {oid: value for oid, value in {**WRITTEN, **(changed or {})}.items() if value is not None}
        by = by or self.f9
        subject = subject or f"YubiKey PIV Attestation {slot}"
        made = certify(subject, public, by, by.key, extensions=written, **given)  # type: ignore[arg-type]  # as certify has them
        return made.public_bytes(Encoding.PEM).decode()


EV, ORDINARY, ANY = "2.23.140.1.3", "2.23.140.1.4.1", "2.5.29.32.0"
START: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
YEAR: Final = dt.timedelta(days=365)


def policies(*oids: str) -> tuple[x509.ExtensionType, bool]:
    """The extension that states certificate policies."""
    stated = [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in oids]
    return x509.CertificatePolicies(stated), False


def code_signing(
    key: ec.EllipticCurvePrivateKey,
    *,
    stated: Sequence[str] = (EV,),
    by: Sequence[str] = (ANY,),
    begins: dt.datetime = START,
    root_begins: dt.datetime | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CODE_SIGNING,),
    root: Issued | None = None,
) -> tuple[str, str]:
    """Evidence and roots, PEM: a code-signing certificate about `key` by an authority below a root."""
    before = begins - YEAR
    root = root or issue("Root", ca=True, begins=root_begins or before, ends=begins + 9 * YEAR)
    stated_by = [policies(*by)] if by else []
    middle = issue(
        "Code Signing CA", root, ca=True, begins=before, ends=begins + 5 * YEAR, extensions=[*stated_by, *extensions]
    )
    own = [policies(*stated)] if stated else []
    leaf = issue("Acme", middle, begins=begins, ends=begins + YEAR, purposes=purposes, extensions=own, key=key)
    return (leaf.pem + middle.pem).decode(), root.pem.decode()
