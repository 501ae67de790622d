"""The serving certificate and its authority: what the Secret should hold next, given what it holds and the time. Pure.

Authorities overlap: a new one is published beside the old one first, and signs only after every API server can know it. So no review
meets a certificate whose authority is not in the webhook configuration yet.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS: Final = 365
AUTHORITY_RENEWED: Final = dt.timedelta(days=60)
"""Before its end an authority gets a successor."""
LEAF_DAYS: Final = 90
LEAF_RENEWED: Final = dt.timedelta(days=30)
"""Before its end a serving certificate gets a successor."""
PUBLISHED: Final = dt.timedelta(minutes=10)
"""How long an authority is published before it signs a serving certificate in place of an older one's."""
_SKEW: Final = dt.timedelta(minutes=5)
"""Certificates are valid from a little earlier, for API servers whose clocks are behind."""

Data = Mapping[str, bytes]
"""`ca.crt`: authorities in force, the newest first. `ca.key`: the newest one's. `tls.crt`, `tls.key`: what is served."""


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def next_data(data: Data | None, names: Sequence[str], now: dt.datetime) -> Data | None:
    """What the Secret should hold, or None if it may stay as it is. What cannot be read is made anew."""
    try:
        held = _read(data or {})
    except (KeyError, ValueError, TypeError):
        held = None
    if held is None:
        authority = _authority(now)
        return _data([authority.certificate], authority.key, _leaf(authority, names, now))
    authorities, authority, leaf = held
    alive = [one for one in authorities if one.not_valid_after_utc > now]
    if authority.certificate.not_valid_after_utc - now < AUTHORITY_RENEWED:
        authority = _authority(now)
        alive.insert(0, authority.certificate)
        if not _serves(leaf.certificate, alive, names, now):
            leaf = _leaf(authority, names, now)
        return _data(alive, authority.key, leaf)
    signed_by_newest = leaf.certificate.issuer == authority.certificate.subject
    published = now - authority.certificate.not_valid_before_utc - _SKEW >= PUBLISHED
    ending = leaf.certificate.not_valid_after_utc - now < LEAF_RENEWED
    if not _serves(leaf.certificate, alive, names, now) or ((ending or not signed_by_newest) and published):
        return _data(alive, authority.key, _leaf(authority, names, now))
    return None if len(alive) == len(authorities) else _data(alive, authority.key, leaf)


def bundle(data: Data, published: bytes, now: dt.datetime) -> bytes:
    """The authorities that API servers should know: the Secret's, and those published before that have not ended.

    A replica may serve a certificate of an authority that the Secret has lost.
    """
    found = {one.fingerprint(hashes.SHA256()): one for one in _authorities(data["ca.crt"])}
    try:
        for one in x509.load_pem_x509_certificates(published) if published.strip() else ():
            if one.not_valid_after_utc > now and one.subject.rfc4514_string().startswith(f"CN={_COMMON_NAME}-"):
                found.setdefault(one.fingerprint(hashes.SHA256()), one)
    except ValueError:
        pass
    return _pem(list(found.values())[:_MOST_AUTHORITIES])


_COMMON_NAME: Final = "trusted-images-ca"
_MOST_AUTHORITIES: Final = 4


def _read(data: Data) -> tuple[list[x509.Certificate], _Pair, _Pair]:
    """Authorities, the newest with its key, and the leaf with its own. Raises if anything is missing or does not fit."""
    authorities = _authorities(data["ca.crt"])
    authority = _Pair(authorities[0], _key(data["ca.key"]))
    leaf = _Pair(x509.load_pem_x509_certificate(data["tls.crt"]), _key(data["tls.key"]))
    for pair in (authority, leaf):
        if pair.certificate.public_key() != pair.key.public_key():
            raise ValueError("a key that is another certificate's")
    return authorities, authority, leaf


def _authorities(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem)


def _key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an ECDSA key")
    return key


def _serves(
    leaf: x509.Certificate, authorities: Sequence[x509.Certificate], names: Sequence[str], now: dt.datetime
) -> bool:
    """Whether API servers that know these authorities accept `leaf` for `names` now."""
    if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
        return False
    alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if not set(names) <= set(alternatives.get_values_for_type(x509.DNSName)):
        return False
    return any(_signed(leaf, authority) for authority in authorities)


def _signed(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no signature
        return False
    return True


def _authority(now: dt.datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # The moment is part of the name, so that issuer and subject tell two authorities apart.
    name = _name(f"{_COMMON_NAME}-{now:%Y%m%d%H%M%S}")
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Pair(certificate, key)


def _leaf(authority: _Pair, names: Sequence[str], now: dt.datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(names[0][:64]), authority.certificate.subject, key, now, LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return _Pair(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _data(authorities: Sequence[x509.Certificate], key: ec.EllipticCurvePrivateKey, leaf: _Pair) -> Data:
    return {
        "ca.crt": _pem(authorities),
        "ca.key": _private(key),
        "tls.crt": _pem([leaf.certificate]),
        "tls.key": _private(leaf.key),
    }


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
