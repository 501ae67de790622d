"""Public keys that policies trust: which are accepted, and how a signature by one is checked.

Hash and padding follow from the key alone. An artifact never chooses them: that would let its author pick the weakest.
"""

import base64
import functools
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from webhook import limits
from webhook.parsing import Invalid
from webhook.trust import Rejected

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    Loaded = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_PEM: Final = re.compile(rb"-----BEGIN (?P<label>[A-Z0-9 ]{1,64})-----[^-]*-----END (?P=label)-----")
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that was accepted, known by its SubjectPublicKeyInfo in DER: equal bytes, equal key."""

    spki: bytes

    @property
    def fingerprint(self) -> str:
        """`SHA256:` and the hex hash of the SPKI, as denials and deny lists write it."""
        return f"SHA256:{hashlib.sha256(self.spki).hexdigest()}"

    @property
    def hint(self) -> str:
        """The same hash in base64, as sigstore bundles write it (`publicKey.hint`)."""
        return base64.b64encode(hashlib.sha256(self.spki).digest()).decode()

    def load(self) -> "Loaded":
        """The key as the library holds it, for protocols whose signatures say by which hash and padding they were made."""
        return _load(self.spki)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Returns if `signature` over `message` was made by this key. Raises `Rejected`.

        ECDSA signatures are DER. Where versions of cosign differ, all that they are known to write for a key of this kind is
        tried: for P-384 and P-521 the hash of the curve's strength (cosign 3) and SHA-256 (cosign 2), for Ed25519 the plain
        form (cosign 2) and Ed25519ph (cosign 3, whose own `verify` refuses it).
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

        key = _load(self.spki)
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                _verify_ed25519(key, signature, message)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                _verify_ecdsa(key, signature, message)
            else:
                key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature as e:
            raise Rejected(f"not signed by {short(self.fingerprint)}") from e

    def __repr__(self) -> str:
        return f"PublicKey({self.fingerprint})"


def short(fingerprint: str) -> str:
    """A fingerprint as messages show it."""
    return f"{fingerprint[:23]}…"


def _verify_ed25519(key: "ed25519.Ed25519PublicKey", signature: bytes, message: bytes) -> None:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, message)
    except InvalidSignature:
        # The library at hand has no Ed25519ph.
        from Crypto.Hash import SHA512
        from Crypto.Signature import eddsa

        verifier = eddsa.new(eddsa.import_public_key(key.public_bytes_raw()), "rfc8032")
        try:
            verifier.verify(SHA512.new(message), signature)
        except ValueError as e:
            raise InvalidSignature from e


def _verify_ecdsa(key: "ec.EllipticCurvePublicKey", signature: bytes, message: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    strong = {"secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}.get(key.curve.name)
    if strong is not None:
        try:
            key.verify(signature, message, ec.ECDSA(strong))
        except InvalidSignature:
            pass
        else:
            return
    key.verify(signature, message, ec.ECDSA(hashes.SHA256()))


@functools.lru_cache(maxsize=1024)
def _load(spki: bytes) -> "Loaded":
    """The key as the library holds it. Raises `Invalid` if it is none that policies may trust."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(spki)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise Invalid("not a public key that can be read") from e
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise Invalid(f"curve {key.curve.name}; accepted: P-256, P-384, P-521")
        return key
    if isinstance(key, rsa.RSAPublicKey):
        _refuse_weak_rsa(key.key_size, key.public_numbers().n, key.public_numbers().e)
        return key
    raise Invalid(f"{type(key).__name__.lstrip('_')}; accepted: ECDSA, RSA, Ed25519")


def _refuse_weak_rsa(bits: int, modulus: int, exponent: int) -> None:
    if not limits.MIN_RSA_BITS <= bits <= limits.MAX_RSA_BITS:
        raise Invalid(f"RSA of {bits} bits; accepted: {limits.MIN_RSA_BITS} to {limits.MAX_RSA_BITS}")
    if not limits.MIN_RSA_EXPONENT <= exponent <= limits.MAX_RSA_EXPONENT or exponent % 2 == 0:
        raise Invalid("RSA with an exponent below 65537, beyond 2^31 - 1, or even")
    if modulus % 2 == 0:
        raise Invalid("RSA with an even modulus")


def accept(key: "Loaded") -> PublicKey:
    """The key, if policies may trust one of its kind and size. Raises `Invalid`."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    _load(spki)
    return PublicKey(spki)


def parse_public_keys(data: bytes, path: str) -> tuple[PublicKey, ...]:
    """The PEM public keys in `data`, at least one; text around them is ignored, as PEM allows.

    Raises `Invalid` beginning with `path`. Nothing of `data` is repeated: it may be a private key.
    """
    if len(data) > limits.MAX_KEY_MATERIAL:
        raise Invalid(f"{path}: more than {limits.MAX_KEY_MATERIAL} bytes")
    if b"PRIVATE KEY" in data:
        raise Invalid(f"{path}: a private key; give the public key, and consider the private one lost")
    found = list(_PEM.finditer(data))
    if not found:
        raise Invalid(f"{path}: no PEM public key (-----BEGIN PUBLIC KEY-----)")
    if len(found) > limits.MAX_KEYS:
        raise Invalid(f"{path}: more than {limits.MAX_KEYS} keys")
    return tuple(dict.fromkeys(_read(match, path) for match in found))


def _read(match: "re.Match[bytes]", path: str) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    label = match["label"].decode()
    if label == "CERTIFICATE":
        raise Invalid(f"{path}: a certificate; `key` wants the public key alone")
    if label not in {"PUBLIC KEY", "RSA PUBLIC KEY"}:
        raise Invalid(f"{path}: {label}; only public keys are accepted")
    try:
        return public_key_of(load_pem_public_key(match[0]))
    except Invalid as e:
        raise Invalid(f"{path}: {e}") from e
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise Invalid(f"{path}: not a public key that can be read") from e


def public_key_of(key: "PublicKeyTypes") -> PublicKey:
    """A key that a library has read, if it is one that policies may trust. Raises `Invalid`."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    _load(spki)
    return PublicKey(spki)
