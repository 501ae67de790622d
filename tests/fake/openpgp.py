"""Makes OpenPGP keys, keyrings and signed messages of every kind a test may want, right and wrong.

Low enough to write what no tool would write. That what it writes is OpenPGP, Sequoia and GnuPG say in the tests.
"""

import datetime as dt
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from tests.captures import NOW
from tests.fake.registry import FakeRegistry, to_json
from tests.fake.signing import Edit, _edited
from webhook.image import Digest

DAY = dt.timedelta(days=1)
MADE = NOW - 300 * DAY
STORE = "https://lookaside.test/sigs"

SIGN, CERTIFY = 0x02, 0x01
CREATED, EXPIRES, KEY_EXPIRES, REVOKER, ISSUER, FLAGS, EMBEDDED, ISSUER_FINGERPRINT = 2, 3, 9, 12, 16, 27, 32, 33
HASHES = {2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}
OIDS = {
    "secp256r1": bytes.fromhex("2a8648ce3d030107"),
    "secp384r1": bytes.fromhex("2b81040022"),
    "secp521r1": bytes.fromhex("2b81040023"),
    "secp256k1": bytes.fromhex("2b8104000a"),
    "ed25519": bytes.fromhex("2b06010401da470f01"),
}


def integer(value: bytes | int) -> bytes:
    """A multiprecision integer."""
    number = int.from_bytes(value, "big") if isinstance(value, bytes) else value
    return number.bit_length().to_bytes(2, "big") + number.to_bytes((number.bit_length() + 7) // 8, "big")


def packet(tag: int, body: bytes) -> bytes:
    """A packet with a new header."""
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4, "big") + body


def old_packet(tag: int, body: bytes, octets: int = 2) -> bytes:
    """A packet with an old header; 0 octets of length: it ends where everything ends."""
    if octets == 0:
        return bytes([0x83 | tag << 2]) + body
    return bytes([0x80 | tag << 2 | {1: 0, 2: 1, 4: 2}[octets]]) + len(body).to_bytes(octets, "big") + body


def in_pieces(tag: int, body: bytes, size: int = 9) -> bytes:
    """A packet in pieces of 2^`size` bytes."""
    pieces = b""
    while len(body) > 1 << size:
        pieces += bytes([0xE0 | size]) + body[: 1 << size]
        body = body[1 << size :]
    return (
        bytes([0xC0 | tag])
        + pieces
        + (bytes([len(body)]) if len(body) < 192 else b"\xff" + len(body).to_bytes(4, "big"))
        + body
    )


def subpacket(kind: int, body: bytes, *, critical: bool = False) -> bytes:
    """A subpacket, its length as short as may be."""
    length = len(body) + 1
    if length < 192:
        head = bytes([length])
    elif length < 16_320:
        head = bytes([192 + (length - 192 >> 8), (length - 192) & 0xFF])
    else:
        head = b"\xff" + length.to_bytes(4, "big")
    return head + bytes([kind | (0x80 if critical else 0)]) + body


def time(at: dt.datetime) -> bytes:
    """Seconds since 1970."""
    return int(at.timestamp()).to_bytes(4, "big")


@dataclass(frozen=True, eq=False)
class OpenPGPKey:
    """A private key as its owner holds it."""

    private: Any
    created: dt.datetime = MADE
    native: bool = False
    """Ed25519 as RFC 9580 writes it, not as GnuPG does."""

    @property
    def algorithm(self) -> int:
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return 27 if self.native else 22
        return 1 if isinstance(self.private, rsa.RSAPrivateKey) else 19

    @functools.cached_property
    def body(self) -> bytes:
        """The public key packet's body."""
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            material = integer(numbers.n) + integer(numbers.e)
        elif self.algorithm == 27:
            material = public.public_bytes_raw()
        elif isinstance(public, ed25519.Ed25519PublicKey):
            material = bytes([9]) + OIDS["ed25519"] + integer(b"\x40" + public.public_bytes_raw())
        else:
            size = (public.key_size + 7) // 8
            numbers = public.public_numbers()
            point = b"\4" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")
            oid = OIDS[public.curve.name]
            material = bytes([len(oid)]) + oid + integer(point)
        return b"\4" + time(self.created) + bytes([self.algorithm]) + material

    @property
    def framed(self) -> bytes:
        """What signatures about the key are over."""
        return b"\x99" + len(self.body).to_bytes(2, "big") + self.body

    @property
    def fingerprint(self) -> str:
        return hashlib.sha1(self.framed, usedforsecurity=False).hexdigest().upper()

    @property
    def key_id(self) -> bytes:
        return bytes.fromhex(self.fingerprint)[-8:]

    def _names(self) -> tuple[bytes, bytes]:
        """The hints by which a verifier finds the key: GnuPG looks for the one of old."""
        whole = bytes.fromhex(self.fingerprint)
        return subpacket(ISSUER_FINGERPRINT, b"\4" + whole), subpacket(ISSUER, self.key_id)

    def signature(
        self,
        kind: int,
        message: bytes,
        at: dt.datetime,
        *,
        hash_algorithm: int = 8,
        hashed: Iterable[bytes] = (),
        unhashed: Iterable[bytes] = (),
        issuer: bool = True,
        algorithm: int | None = None,
        with_time: bool = True,
    ) -> bytes:
        """The body of a signature packet over `message`."""
        area = b"".join(
            [
                *([subpacket(CREATED, time(at))] if with_time else []),
                *(self._names() if issuer else []),
                *hashed,
            ]
        )
        prefix = bytes([4, kind, algorithm or self.algorithm, hash_algorithm]) + len(area).to_bytes(2, "big") + area
        whole = message + prefix + b"\4\xff" + len(prefix).to_bytes(4, "big")
        name = HASHES.get(hash_algorithm, "sha256")
        digest = hashlib.new(name, whole).digest()
        loose = b"".join(unhashed)
        return prefix + len(loose).to_bytes(2, "big") + loose + digest[:2] + self._math(name, digest)

    def _math(self, name: str, digest: bytes) -> bytes:
        known = Prehashed(getattr(hashes, name.upper())())
        if isinstance(self.private, rsa.RSAPrivateKey):
            return integer(self.private.sign(digest, padding.PKCS1v15(), known))
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            raw = self.private.sign(digest)
            return raw if self.native else integer(raw[:32]) + integer(raw[32:])
        r, s = decode_dss_signature(self.private.sign(digest, ec.ECDSA(known)))
        return integer(r) + integer(s)


@functools.cache
def openpgp_key(name: str, kind: str = "ed25519") -> OpenPGPKey:
    """A key by name, the same one each time it is asked for; but for RSA in every process, so that tests can be named by it."""
    if kind.startswith("rsa"):
        return OpenPGPKey(rsa.generate_private_key(65537, int(kind[3:])))
    seed = hashlib.sha256(f"{kind} {name}".encode()).digest()
    if kind in {"ed25519", "native"}:
        return OpenPGPKey(ed25519.Ed25519PrivateKey.from_private_bytes(seed), native=kind == "native")
    return OpenPGPKey(ec.derive_private_key(int.from_bytes(seed[:31], "big"), getattr(ec, kind.upper())()))


def uid_framed(key: OpenPGPKey, name: bytes, mark: bytes = b"\xb4") -> bytes:
    """What a signature about a user id is over."""
    return key.framed + mark + len(name).to_bytes(4, "big") + name


def flags(value: int) -> bytes:
    return subpacket(FLAGS, bytes([value]))


def lasting(span: dt.timedelta) -> bytes:
    """A key's life, from its making on."""
    return subpacket(KEY_EXPIRES, int(span.total_seconds()).to_bytes(4, "big"))


def self_signed(
    key: OpenPGPKey,
    *hashed: bytes,
    name: bytes = b"release <release@acme.test>",
    at: dt.datetime | None = None,
    may: int | None = CERTIFY | SIGN,
    **options: Any,
) -> bytes:
    """A user id and its self-signature."""
    spoken = [*hashed, *([flags(may)] if may is not None else [])]
    return packet(13, name) + packet(
        2, key.signature(0x13, uid_framed(key, name), at or key.created, hashed=spoken, **options)
    )


def bound(
    primary: OpenPGPKey,
    sub: OpenPGPKey,
    *hashed: bytes,
    at: dt.datetime | None = None,
    may: int = SIGN,
    back: bool | bytes = True,
    with_key: bool = True,
    **options: Any,
) -> bytes:
    """A subkey and its binding; `back`: whether the subkey agrees, or in what words."""
    both = primary.framed + sub.framed
    agreed = back if isinstance(back, bytes) else sub.signature(0x19, both, at or sub.created)
    signature = primary.signature(
        0x18,
        both,
        at or sub.created,
        hashed=[*hashed, flags(may)],
        unhashed=[subpacket(EMBEDDED, agreed)] if back else [],
        **options,
    )
    return (packet(14, sub.body) if with_key else b"") + packet(2, signature)


def certificate(key: OpenPGPKey, *parts: bytes) -> bytes:
    """A primary key with `parts` behind it; without any, with a user id."""
    return packet(6, key.body) + (b"".join(parts) or self_signed(key))


def revocation(key: OpenPGPKey, at: dt.datetime = NOW - 10 * DAY, **options: Any) -> bytes:
    return packet(2, key.signature(0x20, key.framed, at, **options))


def armored(data: bytes, headers: Sequence[str] = (), kind: str = "PGP PUBLIC KEY BLOCK") -> str:
    """As GnuPG exports keys."""
    import base64

    text = base64.encodebytes(data).decode()
    return "\n".join([f"-----BEGIN {kind}-----", *headers, "", text + "=AAAA", f"-----END {kind}-----", ""])


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def payload(path: str, digest: str, tag: str = "v1") -> dict[str, Any]:
    """What skopeo signs."""
    return {
        "critical": {
            "identity": {"docker-reference": f"registry.test/{path}:{tag}"},
            "image": {"docker-manifest-digest": digest},
            "type": "atomic container signature",
        },
        "optional": {"creator": "tests", "timestamp": 1},
    }


def head(key: OpenPGPKey, hash_algorithm: int = 8, *, kind: int = 0, last: int = 1) -> bytes:
    """A one-pass signature's body."""
    return bytes([3, kind, hash_algorithm, key.algorithm]) + key.key_id + bytes([last])


def literal(content: bytes, name: bytes = b"", form: bytes = b"b") -> bytes:
    """A literal packet's body."""
    return form + bytes([len(name)]) + name + bytes(4) + content


@dataclass
class Parts:
    """The packets of a message, in order; tests change them before they are joined."""

    packets: list[tuple[int, bytes]] = field(default_factory=list)

    def joined(self) -> bytes:
        return b"".join(packet(tag, body) for tag, body in self.packets)


def parts(key: OpenPGPKey, content: bytes, at: dt.datetime = NOW - DAY, **options: Any) -> Parts:
    """A message by `key` over `content`."""
    body = key.signature(0x00, content, at, **options)
    announced = head(key, options.get("hash_algorithm", 8))
    return Parts([(4, announced), (11, literal(content)), (2, body)])


def message(key: OpenPGPKey, content: bytes, at: dt.datetime = NOW - DAY, **options: Any) -> bytes:
    """The same, as bytes."""
    return parts(key, content, at, **options).joined()


def sign_gpg(
    registry: FakeRegistry,
    path: str,
    digest: Digest,
    key: OpenPGPKey,
    *,
    edit_payload: Edit | None = None,
    content: bytes | None = None,
    signed: bytes | None = None,
    tag: str = "v1",
    **options: Any,
) -> str:
    """Puts a signature into the lookaside store, behind those that are there; gives its address."""
    text = content if content is not None else to_json(_edited(payload(path, digest, tag), edit_payload))
    return keep(registry, path, digest, signed if signed is not None else message(key, text, **options))


def keep(registry: FakeRegistry, path: str, digest: str, signed: bytes, base: str = STORE) -> str:
    """Puts bytes where the next signature of an image lies."""
    folder = f"{base}/{path}@{digest.replace(':', '=')}"
    number = 1
    while f"{folder}/signature-{number}" in registry.documents:
        number += 1
    registry.documents[f"{folder}/signature-{number}"] = signed
    return f"{folder}/signature-{number}"


def keyring_spec(*certificates: bytes, **options: Mapping[str, Any] | Any) -> dict[str, Any]:
    """`signers[].gpg` with these certificates."""
    return {"keys": armored(b"".join(certificates)), "lookaside": STORE, **options}
