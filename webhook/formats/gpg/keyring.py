"""OpenPGP certificates: which keys are in a keyring, what their owners said about them, and what is true of them at a given time.

Everything is judged as of now, as GnuPG does: an expired or revoked key stands behind nothing, not even behind what it signed
before, and a key whose life was prolonged stands behind all it ever signed. The time a signature bears is its signer's word.
Source: RFC 9580, sections 5.2.1, 5.2.3.10, 5.2.4, 10.1; GnuPG where the specification leaves it open.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from webhook import limits
from webhook.formats import _keys
from webhook.formats._keys import PublicKey
from webhook.formats.gpg import packets, signature
from webhook.formats.gpg.packets import Packet, read_armor, read_integers, read_packets
from webhook.formats.gpg.signature import ALGORITHMS, Signature, Unverifiable, read_signature
from webhook.parsing import Invalid
from webhook.trust import Rejected
from webhook.verdict import End

if TYPE_CHECKING:
    from webhook.formats._keys import Loaded

_SIGNS: Final = 0x02
_SKEW: Final = timedelta(seconds=limits.MAX_CLOCK_SKEW)
_IGNORED: Final = frozenset({packets.TRUST, packets.MARKER, packets.PADDING})
_OF_KEYRINGS: Final = _IGNORED | {
    packets.PUBLIC_KEY, packets.PUBLIC_SUBKEY, packets.USER_ID, packets.USER_ATTRIBUTE, packets.SIGNATURE,
}  # fmt: skip
_CURVES: Final = {
    bytes.fromhex("2a8648ce3d030107"): "SECP256R1",
    bytes.fromhex("2b81040022"): "SECP384R1",
    bytes.fromhex("2b81040023"): "SECP521R1",
}
_ED25519: Final = bytes.fromhex("2b06010401da470f01")


@dataclass(frozen=True, slots=True)
class SelfSignature:
    """What an owner says of a key, from `created` on: that it is good until `until`, and may do what `flags` say.

    `expires`: until when the signature itself holds. `is_weak`: it is over a hash that others can make collide.
    """

    created: datetime
    is_weak: bool
    until: datetime | None
    flags: int | None
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class Key:
    """A primary key or subkey; known by its full fingerprint, 40 upper-case hex digits."""

    fingerprint: str
    created: datetime
    public: PublicKey
    self_signatures: frozenset[SelfSignature]
    is_revoked: bool
    is_primary: bool

    def ends(self, at: datetime, *, signing: bool) -> tuple[datetime, ...]:
        """The times from which on what holds at `at` may no longer hold.

        Raises `Rejected` if the key has been revoked or has expired by then, or with `signing` may not sign.
        """
        name = f"key GPG:{self.fingerprint}"
        if self.is_revoked:
            raise Rejected(f"{name} has been revoked")
        holding = self._holding(at)
        if not holding:
            raise Rejected(f"{name}: no self-signature of it holds now")
        newest = _newest(holding)
        if any(one.is_weak for one in newest):
            raise Rejected(f"{name}: its newest self-signature is over a weak hash")
        ends = [one.until for one in newest if one.until is not None]
        if ends and min(ends) <= at:
            raise Rejected(f"{name} expired at {min(ends):%Y-%m-%dT%H:%M:%SZ}")
        if signing and not self._may_sign(holding):
            raise Rejected(f"{name} may not sign")
        ends += [one.created - _SKEW for one in self.self_signatures if one.created > at + _SKEW]
        return (*ends, *(one.expires for one in newest if one.expires is not None))

    def expires(self, at: datetime) -> End | None:
        """When it does, as its newest self-signature that holds at `at` says, or when the last of these ends; None: never."""
        holding = self._holding(at)
        ends = [one.until for one in _newest(holding) if one.until is not None]
        last = [one.expires for one in holding if one.expires is not None]
        if last and len(last) == len(holding):
            ends.append(max(last))
        return End(min(ends), f"key GPG:{self.fingerprint}") if ends else None

    def _holding(self, at: datetime) -> list[SelfSignature]:
        return [s for s in self.self_signatures if s.created <= at + _SKEW and (s.expires is None or at < s.expires)]

    def _may_sign(self, holding: Iterable[SelfSignature]) -> bool:
        """Whether the newest self-signature that speaks of uses allows signing; a primary key of which none does may do all."""
        speaking = [one for one in holding if one.flags is not None]
        if not speaking:
            return self.is_primary
        last = max(one.created for one in speaking)
        return all((one.flags or 0) & _SIGNS and not one.is_weak for one in speaking if one.created == last)

    @property
    def could_ever_sign(self) -> bool:
        """Whether some self-signature lets it sign, at some time."""
        return any(self._may_sign([one]) for one in self.self_signatures if not one.is_weak)


def _newest(holding: Sequence[SelfSignature]) -> list[SelfSignature]:
    """The ones that count; of several of one second, the strictest does."""
    last = max(one.created for one in holding)
    return [one for one in holding if one.created == last]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A primary key and the subkeys that may sign for it. Whoever holds it is one identity, whichever key was used."""

    primary: Key
    subkeys: tuple[Key, ...]

    @property
    def signing_keys(self) -> tuple[Key, ...]:
        """All keys that could sign, at some time."""
        return tuple(key for key in (self.primary, *self.subkeys) if key.could_ever_sign)


def parse_keyring(data: bytes, path: str) -> tuple[Certificate, ...]:
    """The certificates in a keyring: binary or armored, one or several, copies of one merged.

    Raises `Invalid` beginning with `path` for what is none, and for a certificate that could stand behind no signature. Nothing
    of `data` is repeated: it may be a private key.
    """
    if len(data) > limits.MAX_KEY_MATERIAL:
        raise Invalid(f"{path}: more than {limits.MAX_KEY_MATERIAL} bytes")
    if b"PRIVATE KEY" in data:
        raise Invalid(f"{path}: a private key; give the public key, and consider the private one lost")
    binary = read_armor(data, path) if b"-----BEGIN " in data else data
    found = [one for one in read_packets(binary, path, limits.MAX_KEYRING_PACKETS) if one.tag not in _IGNORED]
    for one in found:
        if one.tag in {packets.SECRET_KEY, packets.SECRET_SUBKEY}:
            raise Invalid(f"{path}: a private key; give the public key, and consider the private one lost")
        if one.tag not in _OF_KEYRINGS:
            raise Invalid(f"{path}: a packet that no keyring has ({one.tag})")
    if not found or found[0].tag != packets.PUBLIC_KEY:
        raise Invalid(f"{path}: no public key at its beginning")
    return _Keyring(path).read(found)


@dataclass(slots=True)
class _Part:
    """A key packet, and what was found about it so far."""

    fingerprint: str
    created: datetime
    public: PublicKey | None
    framed: bytes
    complaint: str
    self_signatures: set[SelfSignature] = field(default_factory=set)
    is_revoked: bool = False

    def key(self, *, is_primary: bool) -> Key | None:
        """The key, if it is of a kind that is accepted and its owner speaks of it."""
        if self.public is None or not self.self_signatures:
            return None
        return Key(
            self.fingerprint, self.created, self.public, frozenset(self.self_signatures), self.is_revoked, is_primary
        )


@dataclass(slots=True)
class _Group:
    """A certificate that is being read. `revokers`: whom its owner appointed; their word is taken where it stands."""

    primary: _Part
    subkeys: dict[str, _Part] = field(default_factory=dict)
    revokers: set[str] = field(default_factory=set)


class _Keyring:
    """Reads the packets of a keyring in order: each signature is about what stands before it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._groups: dict[str, _Group] = {}
        self._revocations: list[tuple[_Group, Signature]] = []
        self._left = limits.MAX_SELF_SIGNATURES

    def read(self, found: Sequence[Packet]) -> tuple[Certificate, ...]:
        at = 0
        while at < len(found):
            end = next((i for i in range(at + 1, len(found)) if found[i].tag == packets.PUBLIC_KEY), len(found))
            self._certificate(found[at:end])
            at = end
        if len(self._groups) > limits.MAX_KEYS:
            raise Invalid(f"{self._path}: more than {limits.MAX_KEYS} keys")
        # A revocation may lie anywhere: people append the file that GnuPG made for the day a key is lost.
        for group in self._groups.values():
            revokers = _ids(group.revokers)
            for place, revocation in self._revocations:
                is_appointed = place is group and not revocation.issuers.isdisjoint(revokers)
                if is_appointed or self._revokes(revocation, group, group.primary.framed):
                    group.primary.is_revoked = True
        return tuple(self._built(group) for group in self._groups.values())

    def _built(self, group: _Group) -> Certificate:
        name = f"{self._path}: GPG:{group.primary.fingerprint}"
        primary = group.primary.key(is_primary=True)
        if primary is None or all(one.is_weak for one in primary.self_signatures):
            raise Invalid(f"{name}: {group.primary.complaint or 'no self-signature with SHA-256 or better that holds'}")
        subkeys = [key for part in group.subkeys.values() if (key := part.key(is_primary=False)) is not None]
        certificate = Certificate(primary, tuple(key for key in subkeys if key.could_ever_sign))
        if not certificate.signing_keys:
            raise Invalid(f"{name}: no key of it may sign")
        return certificate

    def _certificate(self, found: Sequence[Packet]) -> None:
        primary = _part(found[0].body, self._path)
        group = self._groups.setdefault(primary.fingerprint, _Group(primary))
        at = 0
        while at < len(found):
            end = next((i for i in range(at + 1, len(found)) if found[i].tag != packets.SIGNATURE), len(found))
            signatures = [one for packet in found[at + 1 : end] if (one := self._readable(packet.body)) is not None]
            self._revocations += [(group, one) for one in signatures if one.kind == signature.KEY_REVOCATION]
            self._about(found[at], group, signatures)
            at = end

    def _readable(self, body: bytes) -> Signature | None:
        """A signature, if it can be read: those of others may be of any kind. Raises `Invalid` for a revocation that cannot be."""
        try:
            return read_signature(body, self._path)
        except Invalid as e:
            kind = body[2:3] if body[:1] < b"\4" else body[1:2]
            if kind and kind[0] in {signature.KEY_REVOCATION, signature.SUBKEY_REVOCATION}:
                raise Invalid(f"{self._path}: a revocation that cannot be read: {e}") from e
            return None

    def _about(self, packet: Packet, group: _Group, signatures: Sequence[Signature]) -> None:
        match packet.tag:
            case packets.PUBLIC_KEY:
                wanted = [one for one in signatures if one.kind == signature.DIRECT_KEY]
                self._primary(group, wanted, group.primary.framed)
            case packets.USER_ID | packets.USER_ATTRIBUTE:
                mark = b"\xb4" if packet.tag == packets.USER_ID else b"\xd1"
                named = group.primary.framed + mark + len(packet.body).to_bytes(4, "big") + packet.body
                taken_back = [
                    one.created
                    for one in signatures
                    # Taking back what was said last may bring back what was said before: so it must be certain.
                    if one.kind == signature.CERTIFICATION_REVOCATION
                    and not one.is_weak
                    and self._holds(one, group.primary, named)
                ]
                wanted = [one for one in signatures if one.kind in signature.CERTIFICATIONS]
                self._primary(group, [one for one in wanted if all(one.created > at for at in taken_back)], named)
            case _:
                self._subkey(packet, group, signatures)

    def _primary(self, group: _Group, signatures: Sequence[Signature], signed: bytes) -> None:
        for one in signatures:
            if self._holds(one, group.primary, signed):
                group.revokers |= one.revokers
                group.primary.self_signatures.add(_self_signature(one, group.primary, one.key_flags))

    def _subkey(self, packet: Packet, group: _Group, signatures: Sequence[Signature]) -> None:
        read = _part(packet.body, self._path)
        part = group.subkeys.setdefault(read.fingerprint, read)
        signed = group.primary.framed + part.framed
        for one in signatures:
            if one.kind == signature.SUBKEY_REVOCATION:
                is_appointed = not one.issuers.isdisjoint(_ids(group.revokers))
                part.is_revoked |= is_appointed or self._revokes(one, group, signed)
            elif one.kind == signature.SUBKEY_BINDING and self._holds(one, group.primary, signed):
                flags = one.key_flags or 0
                # Else one could claim another's key for one's own. Source: RFC 9580, section 5.2.1.10.
                agreed = bool(flags & _SIGNS) and self._agrees(one, part, signed)
                part.self_signatures.add(_self_signature(one, part, flags if agreed else flags & ~_SIGNS))

    def _agrees(self, binding: Signature, part: _Part, signed: bytes) -> bool:
        """Whether the subkey itself says that it is this primary key's."""
        for body in binding.embedded:
            back = self._readable(body)
            if back is not None and back.kind == signature.PRIMARY_KEY_BINDING and not back.is_weak:
                return self._holds(back, part, signed)
        return False

    def _holds(self, one: Signature, by: _Part, signed: bytes) -> bool:
        try:
            return self._verified(one, by, signed)
        except Rejected:
            return False

    def _revokes(self, one: Signature, group: _Group, signed: bytes) -> bool:
        """Whether the owner took the key back. Where nobody can tell, it is believed that they did."""
        try:
            return self._verified(one, group.primary, signed)
        except Unverifiable:
            return True
        except Rejected:
            return False

    def _verified(self, one: Signature, by: _Part, signed: bytes) -> bool:
        """True; False if it is by another, so that nothing was verified. Raises `Rejected` if it does not hold."""
        if by.public is None or not one.may_be_by(by.fingerprint):
            return False
        self._left -= 1
        if self._left < 0:
            raise Invalid(f"{self._path}: more than {limits.MAX_SELF_SIGNATURES} self-signatures")
        one.verify(by.public, signed)
        return True


def _ids(fingerprints: Iterable[str]) -> frozenset[str]:
    """The fingerprints, and their ends, by which signatures call them."""
    return frozenset(name for one in fingerprints for name in (one, signature.key_id(one)))


def _self_signature(one: Signature, about: _Part, flags: int | None) -> SelfSignature:
    until = None if one.key_seconds is None else about.created + timedelta(seconds=one.key_seconds)
    return SelfSignature(one.created, one.is_weak, until, flags, one.expires)


def _part(body: bytes, path: str) -> _Part:
    """A key packet. Raises `Invalid` for versions other than 4. Source: RFC 9580, sections 5.5.2, 5.5.4."""
    if len(body) < 6 or len(body) > 0xFFFF:
        raise Invalid(f"{path}: not a key packet")
    if body[0] != 4:
        raise Invalid(f"{path}: a key of version {body[0]}; version 4 is accepted")
    framed = b"\x99" + len(body).to_bytes(2, "big") + body
    # Which hash names a key is the format's choice, not ours.
    fingerprint = hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper()
    created = datetime.fromtimestamp(int.from_bytes(body[1:5], "big"), UTC)
    try:
        return _Part(fingerprint, created, _public(body[5], body[6:]), framed, "")
    except Invalid as e:
        return _Part(fingerprint, created, None, framed, str(e))


def _public(algorithm: int, material: bytes) -> PublicKey:
    """The key in a key packet. Raises `Invalid` for what policies may not trust. Source: RFC 9580, section 5.5.5."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return _keys.accept(_loaded(algorithm, material))
    except (ValueError, UnsupportedAlgorithm) as e:
        raise Invalid(str(e) if isinstance(e, Invalid) else "not a public key that can be read") from e


def _loaded(algorithm: int, material: bytes) -> "Loaded":
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match ALGORITHMS.get(algorithm):
        case "RSA":
            modulus, exponent = read_integers(material, 2, "key")
            return rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")).public_key()
        case "ECDSA":
            curve, point = _on_curve(material)
            name = _CURVES.get(curve)
            if name is None:
                raise Invalid("a curve that is not accepted; accepted: P-256, P-384, P-521")
            return ec.EllipticCurvePublicKey.from_encoded_point(getattr(ec, name)(), point)
        case "EdDSA":
            curve, point = _on_curve(material)
            if curve != _ED25519 or point[:1] != b"\x40":
                raise Invalid("EdDSA on another curve than Ed25519")
            return ed25519.Ed25519PublicKey.from_public_bytes(point[1:])
        case "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(material)
        case _:
            raise Invalid(f"a key of kind {algorithm}; accepted: RSA, ECDSA, Ed25519")


def _on_curve(material: bytes) -> tuple[bytes, bytes]:
    """The curve's object identifier, and the point on it."""
    end = 1 + (material[0] if material else 0)
    (point,) = read_integers(material[end:], 1, "key")
    return material[1:end], point
