"""Keys of roles as Notary v1 lists them, and how many of them have signed.

The method follows from the key's type: metadata never chooses it. An id is the hash of what it names and is computed, and a key counts
once, whatever ids and certificates it comes under. Source: notary 0.7, `tuf/data/keys.go`, `tuf/signed/verifiers.go`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from webhook.formats._dsse import strict_base64
from webhook.formats._keys import PublicKey, public_key_of
from webhook.formats._x509 import parse_certificates
from webhook.formats.dct.wire import Document, Key, Role, canonical
from webhook.parsing import Invalid, quote
from webhook.trust import Rejected

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.x509 import Certificate

_METHODS: Final = {
    "ecdsa": "ecdsa",
    "ecdsa-x509": "ecdsa",
    "ed25519": "eddsa",
    "rsa": "rsapss",
    "rsa-x509": "rsapss",
}


@dataclass(frozen=True, slots=True)
class RoleKey:
    """A key that may speak for a role. `certificate`: what it came in; only a root key's is looked at further."""

    key: PublicKey
    method: str
    certificate: "Certificate | None" = None

    @property
    def ends(self) -> datetime | None:
        """When its certificate ends, if it has one."""
        return None if self.certificate is None else self.certificate.not_valid_after_utc


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """The keys of a role by id, and how many of them must have signed."""

    keys: Mapping[str, RoleKey]
    threshold: int

    def signers(self, document: Document, what: str) -> frozenset[PublicKey]:
        """The distinct keys that signed a document, at least as many as the threshold says. Raises `Rejected` or `Invalid`."""
        message = canonical(document.signed, f"{what}.signed")
        signed = set()
        for i, signature in enumerate(document.signatures):
            listed = self.keys.get(signature.keyid)
            # Old clients wrote the method in capitals.
            if listed is None or signature.method.lower() != listed.method or listed.key in signed:
                continue
            if _is_signed(listed, strict_base64(signature.sig, f"{what}.signatures[{i}].sig"), message):
                signed.add(listed.key)
        if len(signed) < self.threshold:
            raise Rejected(f"{what}: signed by {len(signed)} of its keys, and {self.threshold} are needed")
        return frozenset(signed)


def key_id(key: Key) -> str:
    """The id of a key: the hash of its canonical form, its private part always null."""
    form = {"keytype": key.keytype, "keyval": {"private": None, "public": key.keyval.public}}
    return hashlib.sha256(canonical(form, "key")).hexdigest()


def read_role(role: Role, keys: Mapping[str, Key], path: str) -> RoleKeys:
    """The keys that a role names, from those listed beside it. Raises `Invalid` or `Rejected`."""
    found = {}
    for keyid in role.keyids:
        key = keys.get(keyid)
        where = f"{path}: key {quote(keyid, 16)}"
        if key is None:
            raise Rejected(f"{where} is not listed")
        if key_id(key) != keyid:
            raise Rejected(f"{where} is not the hash of what it names")
        found[keyid] = _read_key(key, where)
    return RoleKeys(found, role.threshold)


def _read_key(key: Key, path: str) -> RoleKey:
    from cryptography.exceptions import UnsupportedAlgorithm

    method = _METHODS.get(key.keytype)
    if method is None:
        raise Invalid(f"{path}: type {quote(key.keytype, 40)}; known: {', '.join(_METHODS)}")
    content = strict_base64(key.keyval.public, path)
    certificate = parse_certificates(content, path)[0] if key.keytype.endswith("-x509") else None
    try:
        loaded = _load(content, method) if certificate is None else certificate.public_key()
        accepted = public_key_of(loaded)
    except Invalid as e:
        raise Invalid(f"{path}: {e}") from e
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise Invalid(f"{path}: not a key that can be read") from e
    if _method_of(loaded) != method:
        raise Invalid(f"{path}: not of the type that it says, {key.keytype}")
    return RoleKey(accepted, method, certificate)


def _load(content: bytes, method: str) -> "PublicKeyTypes":
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return ed25519.Ed25519PublicKey.from_public_bytes(content) if method == "eddsa" else load_der_public_key(content)


def _method_of(key: "PublicKeyTypes") -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, ec.EllipticCurvePublicKey):
        return "ecdsa"
    return "rsapss" if isinstance(key, rsa.RSAPublicKey) else "eddsa"


def _is_signed(by: RoleKey, signature: bytes, message: bytes) -> bool:
    """ECDSA is `r` and `s` one after the other, over SHA-256 on every curve; RSA is PSS with a salt as long as the hash."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = load_der_public_key(by.key.spki)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            size = (key.curve.key_size + 7) // 8
            if len(signature) != 2 * size:
                return False
            halves = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
            key.verify(encode_dss_signature(*halves), message, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
            key.verify(signature, message, pss, hashes.SHA256())
        else:
            key.verify(signature, message)  # type: ignore[union-attr,call-arg]  # what is left is Ed25519
    except InvalidSignature:
        return False
    return True


def common_names(certificate: "Certificate") -> tuple[str, ...]:
    """The common names of a certificate's subject. Raises `Invalid`.

    Read by another library than the rest: names of repositories are longer than the 64 characters that X.520 allows, and the usual one
    warns of each.
    """
    from asn1crypto import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        parts = x509.Certificate.load(certificate.public_bytes(Encoding.DER)).subject.chosen
        return tuple(str(pair["value"].native) for part in parts for pair in part if pair["type"].dotted == "2.5.4.3")
    except (ValueError, TypeError, KeyError) as e:
        raise Invalid("its certificate's subject cannot be read") from e
