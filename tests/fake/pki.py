"""Certificates and timestamps made on the spot: every field can be made wrong.

Times are arguments, so that nothing here ends by itself.
"""

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW: Final = dt.datetime(2026, 11, 24, 0, 38, tzinfo=dt.UTC)
DAY: Final = dt.timedelta(days=1)

CODE_SIGNING: Final = ExtendedKeyUsageOID.CODE_SIGNING
TIME_STAMPING: Final = ExtendedKeyUsageOID.TIME_STAMPING


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


def _usage(*, ca: bool, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=not signs and not ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def issue(
    name: str,
    issuer: Issued | None = None,
    *,
    ca: bool = False,
    begins: dt.datetime = NOW - DAY,
    ends: dt.datetime = NOW + DAY,
    purposes: Sequence[x509.ObjectIdentifier] | None = None,
    signs: bool = True,
    usage: bool = True,
    constraints: bool = True,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    subject: x509.Name | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> Issued:
    """A certificate, self-signed without `issuer`. For an authority: `ca`; for a leaf: what it is for."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    own_name = subject if subject is not None else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(own_name)
        .issuer_name(own_name if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(authority, critical=False)
    if ca or constraints:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if usage:
        builder = builder.add_extension(_usage(ca=ca, signs=signs and not ca), critical=True)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=TIME_STAMPING in purposes)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return Issued(builder.sign(key if issuer is None else issuer.key, hashes.SHA256()), key)


ODD: Final = "\0odd"
"""A part of a name that `with_odd_name` writes in a way that the library cannot read."""


def with_odd_name(issued: Issued, by: ec.EllipticCurvePrivateKey | None = None) -> Issued:
    """The same certificate, signed anew, in which `ODD` is a BIT STRING: well-formed, and no text. `by`: its issuer's key."""
    text, bits = (bytes([tag, len(ODD)]) + ODD.encode() for tag in (0x0C, 0x03))
    assert text in issued.der
    changed = asn1_x509.Certificate.load(issued.der.replace(text, bits))
    changed["signature_value"] = (by or issued.key).sign(changed["tbs_certificate"].dump(), ec.ECDSA(hashes.SHA256()))
    return Issued(x509.load_der_x509_certificate(changed.dump()), issued.key)


def timestamp(
    authority: Issued,
    message: bytes,
    at: dt.datetime = NOW,
    *,
    accuracy: dt.timedelta | None = None,
    algorithm: str = "sha256",
    policy: str = "1.2.3.4.1",
    certificates: Sequence[Issued] | None = None,
    status: str = "granted",
    bare: bool = False,
    changed: Any = None,
    imprint: bytes | None = None,
    nonce: int | None = None,
) -> bytes:
    """An RFC 3161 response (`bare`: the token alone) over `message`, with these certificates in this order, or its own.

    `imprint` and `nonce`: as a request says them, whose message nobody has shown.
    """
    info: dict[str, Any] = {
        "version": "v1",
        "policy": policy,
        "message_imprint": {
            "hash_algorithm": algos.DigestAlgorithm({"algorithm": algorithm}),
            "hashed_message": hashlib.new(algorithm, message).digest() if imprint is None else imprint,
        },
        "serial_number": 4711,
        "gen_time": at,
    }
    if nonce is not None:
        info["nonce"] = nonce
    if accuracy is not None:
        info["accuracy"] = {
            "seconds": accuracy.seconds,
            "millis": accuracy.microseconds // 1000,
            "micros": accuracy.microseconds % 1000,
        }
    # Zero is written by leaving it out.
    if "accuracy" in info:
        info["accuracy"] = {name: value for name, value in info["accuracy"].items() if value}
    content = tsp.TSTInfo(info).dump()
    own = asn1_x509.Certificate.load(authority.der)
    identified = tsp.ESSCertIDv2({"cert_hash": hashlib.sha256(authority.der).digest()})
    attributes = cms.CMSAttributes(
        [
            cms.CMSAttribute({"type": "content_type", "values": ["tst_info"]}),
            cms.CMSAttribute({"type": "message_digest", "values": [hashlib.sha256(content).digest()]}),
            cms.CMSAttribute({"type": "signing_certificate_v2", "values": [{"certs": [identified]}]}),
        ]
    )
    signature = authority.key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256()))
    signer = cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.SignerIdentifier(
                "issuer_and_serial_number", {"issuer": own.issuer, "serial_number": own.serial_number}
            ),
            "digest_algorithm": {"algorithm": "sha256"},
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": "sha256_ecdsa"},
            "signature": signature if changed is None else changed(signature),
        }
    )
    written = [authority] if certificates is None else certificates
    signed: dict[str, Any] = {
        "version": "v3",
        "digest_algorithms": [{"algorithm": "sha256"}],
        "encap_content_info": {"content_type": "tst_info", "content": core.ParsableOctetString(content)},
        "signer_infos": [signer],
    }
    if written:
        signed["certificates"] = [asn1_x509.Certificate.load(one.der) for one in written]
    token = cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(signed)})
    whole = token if bare else tsp.TimeStampResp({"status": {"status": status}, "time_stamp_token": token})
    # The library writes sets in DER's order; OpenSSL does not.
    ders = [one.der for one in written]
    return bytes(whole.dump()).replace(b"".join(sorted(ders)), b"".join(ders)) if ders else bytes(whole.dump())
