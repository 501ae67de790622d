"""OpenPGP signatures of version 4: what they say, and the arithmetic by which a key made one.

A signature is read without being believed: only `Signature.verify` says that a key made it, and what must be true of the key is
for `keyring` to judge. Only the hashed area is what the key's owner wrote. Source: RFC 9580, section 5.2.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from webhook.formats._keys import PublicKey
from webhook.formats.gpg.packets import Subpacket, read_integers, read_subpackets
from webhook.parsing import Invalid
from webhook.trust import Rejected

BINARY: Final = 0x00
CERTIFICATIONS: Final = frozenset({0x10, 0x11, 0x12, 0x13})
SUBKEY_BINDING: Final = 0x18
PRIMARY_KEY_BINDING: Final = 0x19
DIRECT_KEY: Final = 0x1F
KEY_REVOCATION: Final = 0x20
SUBKEY_REVOCATION: Final = 0x28
CERTIFICATION_REVOCATION: Final = 0x30

Algorithm = Literal["RSA", "ECDSA", "EdDSA", "Ed25519"]
ALGORITHMS: Final[dict[int, Algorithm]] = {1: "RSA", 3: "RSA", 19: "ECDSA", 22: "EdDSA", 27: "Ed25519"}
HASHES: Final = {8: "sha256", 9: "sha384", 10: "sha512"}
_WEAK_HASHES: Final = {2: "sha1", 11: "sha224"}
"""By these nothing is trusted; but that somebody took something back is believed."""

_CREATED, _EXPIRES, _KEY_EXPIRES, _REVOKER, _ISSUER, _KEY_FLAGS, _EMBEDDED, _ISSUER_FINGERPRINT = (
    2, 3, 9, 12, 16, 27, 32, 33,
)  # fmt: skip
_SINGLE: Final = frozenset({_CREATED, _EXPIRES, _KEY_EXPIRES, _KEY_FLAGS})
# Preferences, features and the like, which say nothing about whether a signature holds.
_UNDERSTOOD: Final = _SINGLE | {
    _REVOKER,
    _ISSUER,
    _EMBEDDED,
    _ISSUER_FINGERPRINT,
    4,
    7,
    11,
    21,
    22,
    23,
    25,
    28,
    29,
    30,
    34,
}


class Unverifiable(Rejected):
    """Whether the key made the signature cannot be told, or only in a form that is not accepted."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a signature packet says. `prefix`: the bytes of it that are signed; `issuers`: hints, which prove nothing."""

    kind: int
    algorithm: int
    hash_algorithm: int
    prefix: bytes
    check: bytes
    material: bytes
    created: datetime
    expires: datetime | None
    key_seconds: int | None
    key_flags: int | None
    revokers: frozenset[str]
    issuers: frozenset[str]
    embedded: tuple[bytes, ...]

    @property
    def is_weak(self) -> bool:
        """Whether its hash is one that others can make collide, or none we know."""
        return self.hash_algorithm not in HASHES

    def may_be_by(self, fingerprint: str) -> bool:
        """Whether the hints allow this key; without any hint every key may have made it."""
        return not self.issuers or fingerprint in self.issuers or key_id(fingerprint) in self.issuers

    def verify(self, key: PublicKey, message: bytes) -> None:
        """Returns if `key` made this signature over `message`. Raises `Rejected`, or `Unverifiable` where nobody can tell.

        Source: RFC 9580, section 5.2.4.
        """
        trailer = b"\x04\xff" + len(self.prefix).to_bytes(4, "big")
        signed = message + self.prefix + trailer
        name = HASHES.get(self.hash_algorithm) or _WEAK_HASHES.get(self.hash_algorithm)
        if name is None:
            raise Unverifiable(f"signed over a hash that is not known ({self.hash_algorithm})")
        digest = hashlib.new(name, signed, usedforsecurity=False).digest()
        _verify(key, self, name, digest)
        if digest[:2] != self.check:
            raise Unverifiable("beside the signature stands another hash than it is over")


def key_id(fingerprint: str) -> str:
    """The key id, which is the end of the fingerprint and not enough to know a key by. Source: RFC 9580, section 5.5.4.2."""
    return fingerprint[-16:]


def read_signature(body: bytes, what: str) -> Signature:
    """The signature in a packet's body. Raises `Invalid` beginning with `what`; of versions other than 4, too."""
    if len(body) < 12 or body[0] != 4:
        version = f"a signature of version {body[0]}, and 4 is accepted" if body and body[0] != 4 else "cut short"
        raise Invalid(f"{what}: {version}")
    kind, algorithm, hash_algorithm = body[1], body[2], body[3]
    hashed_end = 6 + int.from_bytes(body[4:6], "big")
    unhashed_start = hashed_end + 2
    unhashed_end = unhashed_start + int.from_bytes(body[hashed_end:unhashed_start], "big")
    if unhashed_end + 2 > len(body):
        raise Invalid(f"{what}: cut short")
    hashed = tuple(read_subpackets(body[6:hashed_end], what))
    unhashed = tuple(read_subpackets(body[unhashed_start:unhashed_end], what))
    stated = _stated(hashed, what)
    created = _time(stated.get(_CREATED, b""), what)
    seconds = stated.get(_EXPIRES)
    lifetime = _number(seconds, what) if seconds is not None else 0
    key_seconds = stated.get(_KEY_EXPIRES)
    flags = stated.get(_KEY_FLAGS)
    return Signature(
        kind=kind,
        algorithm=algorithm,
        hash_algorithm=hash_algorithm,
        prefix=body[:hashed_end],
        check=body[unhashed_end : unhashed_end + 2],
        material=body[unhashed_end + 2 :],
        created=created,
        # No time at all means for ever. Source: RFC 9580, sections 5.2.3.18 and 5.2.3.13.
        expires=created + timedelta(seconds=lifetime) if lifetime else None,
        key_seconds=(_number(key_seconds, what) or None) if key_seconds is not None else None,
        key_flags=None if flags is None else (flags[0] if flags else 0),
        revokers=frozenset(one.body[2:].hex().upper() for one in hashed if one.kind == _REVOKER),
        issuers=frozenset(_issuers((*hashed, *unhashed))),
        # It is signed by itself, and GnuPG writes it where nothing is hashed.
        embedded=tuple(one.body for one in (*hashed, *unhashed) if one.kind == _EMBEDDED),
    )


def _stated(hashed: Iterable[Subpacket], what: str) -> dict[int, bytes]:
    """What is said once. Raises `Invalid` for what is said twice, and for what must be understood and is not."""
    stated: dict[int, bytes] = {}
    for one in hashed:
        if one.critical and one.kind not in _UNDERSTOOD:
            raise Invalid(f"{what}: a critical statement of a kind that is not known ({one.kind})")
        if one.kind in _SINGLE:
            if one.kind in stated:
                raise Invalid(f"{what}: the same statement twice ({one.kind})")
            stated[one.kind] = one.body
    return stated


def _issuers(subpackets: Iterable[Subpacket]) -> Iterable[str]:
    for one in subpackets:
        if one.kind == _ISSUER:
            yield one.body.hex().upper()
        elif one.kind == _ISSUER_FINGERPRINT:
            yield one.body[1:].hex().upper()


def _number(body: bytes, what: str) -> int:
    if len(body) != 4:
        raise Invalid(f"{what}: a time of {len(body)} bytes")
    return int.from_bytes(body, "big")


def _time(body: bytes, what: str) -> datetime:
    return datetime.fromtimestamp(_number(body, what), UTC)


def _verify(key: PublicKey, signature: Signature, hash_name: str, digest: bytes) -> None:
    """Returns if the arithmetic holds. Raises `Rejected`. Source: RFC 9580, section 5.2.3.1 to 5.2.3.4."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

    prehashed = Prehashed(getattr(hashes, hash_name.upper())())
    algorithm, loaded = ALGORITHMS.get(signature.algorithm), key.load()
    try:
        match loaded:
            case rsa.RSAPublicKey() if algorithm == "RSA":
                (number,) = read_integers(signature.material, 1, "signature")
                loaded.verify(number.rjust(loaded.key_size + 7 >> 3, b"\0"), digest, padding.PKCS1v15(), prehashed)
            case ec.EllipticCurvePublicKey() if algorithm == "ECDSA":
                r, s = read_integers(signature.material, 2, "signature")
                encoded = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
                loaded.verify(encoded, digest, ec.ECDSA(prehashed))
            case ed25519.Ed25519PublicKey() if algorithm == "EdDSA":
                r, s = read_integers(signature.material, 2, "signature")
                loaded.verify(r.rjust(32, b"\0") + s.rjust(32, b"\0"), digest)
            case ed25519.Ed25519PublicKey() if algorithm == "Ed25519":
                loaded.verify(signature.material, digest)
            case _:
                raise Rejected(f"signed by an algorithm that is not the key's ({signature.algorithm})")
    except (InvalidSignature, Invalid) as e:
        raise Rejected("the signature does not hold") from e
    except UnsupportedAlgorithm as e:
        # SHA-1, where the machine's policy forbids even looking at it.
        raise Unverifiable(f"signed over a hash that cannot be computed here ({signature.hash_algorithm})") from e
