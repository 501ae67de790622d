"""Keyrings, self-signatures and packets: what is read of them, what is refused, and what another implementation says."""

import datetime as dt
import hashlib
import itertools
import time
from typing import Any

import pysequoia
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from pysequoia.packet import PacketPile

from tests import captures
from tests.captures import NOW
from tests.fake.openpgp import (
    CERTIFY,
    CREATED,
    DAY,
    EMBEDDED,
    EXPIRES,
    ISSUER,
    REVOKER,
    SIGN,
    OpenPGPKey,
    armored,
    bound,
    certificate,
    flags,
    integer,
    lasting,
    message,
    old_packet,
    openpgp_key,
    packet,
    revocation,
    self_signed,
    subpacket,
    uid_framed,
)
from webhook import limits
from webhook.formats._keys import PublicKey
from webhook.formats.gpg.keyring import Certificate, parse_keyring
from webhook.formats.gpg.packets import read_integers, read_packets, read_subpackets
from webhook.formats.gpg.signature import Signature, read_signature
from webhook.parsing import Invalid
from webhook.trust import Rejected

A, B, SUB = openpgp_key("a"), openpgp_key("b"), openpgp_key("sub")
BOTH = A.framed + SUB.framed


def ring(*parts: bytes) -> tuple[Certificate, ...]:
    return parse_keyring(b"".join(parts), ".keys")


def one(*parts: bytes) -> Certificate:
    [found] = ring(*parts)
    return found


def why_not(key_at: dt.datetime, *parts: bytes) -> str:
    """Why the primary key may not sign at a time; empty if it may."""
    try:
        one(*parts).primary.ends(key_at, signing=True)
    except Rejected as e:
        return str(e)
    return ""


# ── what a keyring may be ────────────────────────────────────────────────────────────────────────────────────────────
TWO = certificate(A) + certificate(B)


def test_d05_a_keyring_that_begins_a_thousand_times_takes_no_longer_than_its_bytes() -> None:
    """Whoever may write a Secret could otherwise stop every replica for minutes."""
    many = b"-----BEGIN PGP PUBLIC KEY BLOCK-----" * (limits.MAX_KEY_MATERIAL // 36)
    began = time.monotonic()
    with pytest.raises(Invalid, match="not `-----BEGIN PGP PUBLIC KEY BLOCK-----` and its end alone"):
        parse_keyring(many, "keys")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "keyring",
    [
        pytest.param(TWO, id="binary"),
        pytest.param(armored(TWO).encode(), id="armored"),
        pytest.param((armored(certificate(A)) + armored(certificate(B))).encode(), id="armored one after the other"),
        pytest.param(f"pub A\n{armored(TWO)}\nend".encode(), id="text around"),
        pytest.param(armored(TWO, ["Version: GnuPG v1", "Comment: a-b"]).encode(), id="headers"),
        pytest.param(armored(TWO).replace("\n", "\r\n").encode(), id="lines as of DOS"),
        pytest.param(armored(TWO).replace("=AAAA\n", "").encode(), id="without a check sum"),
        pytest.param(packet(10, b"PGP") + certificate(A) + packet(12, b"x") + certificate(B), id="marker and trust"),
        pytest.param(TWO + certificate(A), id="one twice"),
        pytest.param(
            old_packet(6, A.body) + self_signed(A) + old_packet(6, B.body, 4) + self_signed(B), id="old headers"
        ),
    ],
)
def test_g05_keyrings_binary_armored_and_concatenated(keyring: bytes) -> None:
    assert [found.primary.fingerprint for found in ring(keyring)] == [A.fingerprint, B.fingerprint]


@pytest.mark.parametrize(
    ("keyring", "why"),
    [
        (b"", "no public key at its beginning"),
        (b"\0", "not an OpenPGP packet"),
        (b"ssh-ed25519 AAAA", "not an OpenPGP packet"),
        (packet(13, b"x") + certificate(A), "no public key at its beginning"),
        (self_signed(A), "no public key at its beginning"),
        (certificate(A) + packet(11, b"b"), r"a packet that no keyring has \(11\)"),
        (certificate(A) + packet(8, b"\0"), r"a packet that no keyring has \(8\)"),
        (certificate(A)[:-1], "cut short"),
        (bytes(limits.MAX_KEY_MATERIAL + 1), "more than 1048576 bytes"),
        (packet(10, b"") * (limits.MAX_KEYRING_PACKETS + 1), "more than 4000 packets"),
        (armored(TWO, kind="PGP MESSAGE").encode(), "not `-----BEGIN PGP PUBLIC KEY BLOCK-----`"),
        (armored(TWO).encode() + b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "not `-----BEGIN PGP PUBLIC KEY BLOCK-----`"),
        (armored(TWO).replace("\n\n", "\n\n*").encode(), "its armor is not base64"),
        (b"\xff" + armored(TWO).encode(), "not text"),
        (packet(6, b"\4"), "not a key packet"),
        (packet(6, A.body + bytes(0x10000)), "not a key packet"),
        (packet(6, b"\3" + A.body[1:]), "a key of version 3; version 4 is accepted"),
        (packet(6, b"\6" + A.body[1:]), "a key of version 6; version 4 is accepted"),
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_g05_what_is_no_keyring_is_refused(keyring: bytes, why: str) -> None:
    with pytest.raises(Invalid, match=rf"^\.keys: {why}"):
        ring(keyring)


def test_g05_d01_a_keyring_has_so_many_keys_and_no_more() -> None:
    keys = [certificate(openpgp_key(f"many{i}")) for i in range(limits.MAX_KEYS + 1)]
    assert len(ring(*keys[:-1])) == limits.MAX_KEYS
    with pytest.raises(Invalid, match="more than 32 keys"):
        ring(*keys)


def test_d01_so_many_self_signatures_are_verified_and_no_more() -> None:
    again = self_signed(A)[len(packet(13, b"release <release@acme.test>")) :]
    # Those of others are not looked at.
    strangers = packet(2, B.signature(0x10, uid_framed(A, b"x"), NOW)) * 2_000
    assert (
        len(
            ring(certificate(A, packet(13, b"x"), strangers, self_signed(A) + again * (limits.MAX_SELF_SIGNATURES - 1)))
        )
        == 1
    )
    with pytest.raises(Invalid, match=r"^\.keys: more than 256 self-signatures"):
        ring(certificate(A, self_signed(A) + again * limits.MAX_SELF_SIGNATURES))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (bytes([17]) + integer(7) * 4, "a key of kind 17; accepted: RSA, ECDSA, Ed25519"),
        (bytes([16]) + integer(7) * 3, "a key of kind 16"),
        (openpgp_key("k1", "secp256k1").body[5:], "a curve that is not accepted; accepted: P-256, P-384, P-521"),
        (openpgp_key("weak", "rsa1024").body[5:], "RSA of 1024 bits; accepted: 2048 to 8192"),
        (bytes([1]) + integer(1 << 2047 | 1) + integer(3), "RSA with an exponent below 65537"),
        (bytes([1]) + integer(1 << 2047 | 1) + integer(1), "not a public key that can be read"),
        (bytes([1]) + integer((1 << 9000) - 1) + integer(65537), "RSA of 9000 bits"),
        (bytes([1]) + integer(1 << 2047), "cut short"),
        (bytes([1]) + integer(1 << 2047 | 1) + integer(65537) + b"x", "something behind the last integer"),
        (bytes([1]) + b"\x08\x00" + b"\1" * 256 + integer(65537), "an integer of another length than it says"),
        (bytes([19]), "cut short"),
        (openpgp_key("p", "secp256r1").body[5:-1] + b"\0", "not a public key that can be read"),
        (A.body[5:].replace(b"\x2b\x06\x01\x04\x01\xda\x47\x0f\x01", b"\x2b\x06\x01\x04\x01\xda\x47\x0f\x02"), "EdDSA on another curve"),
        (A.body[5:16] .replace(b"\x01\x07\x40", b"") + integer(b"\x41" + bytes(32)), "EdDSA on another curve than Ed25519"),
        (bytes([27]) + bytes(31), "not a public key that can be read"),
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_d10_keys_that_policies_may_not_trust(body: bytes, why: str) -> None:
    whole = b"\4\0\0\0\0" + body
    fingerprint = (
        hashlib.sha1(b"\x99" + len(whole).to_bytes(2, "big") + whole, usedforsecurity=False).hexdigest().upper()
    )
    with pytest.raises(Invalid, match=rf"^\.keys: GPG:{fingerprint}: .*{why}"):
        ring(packet(6, whole))


def test_d10_a_subkey_of_another_kind_is_passed_over() -> None:
    dsa = b"\4\0\0\0\0" + bytes([17]) + integer(7) * 4
    encrypting = packet(14, dsa) + packet(
        2, A.signature(0x18, A.framed + b"\x99" + len(dsa).to_bytes(2, "big") + dsa, NOW)
    )
    assert one(certificate(A) + encrypting).signing_keys == (one(certificate(A)).primary,)


# ── self-signatures ──────────────────────────────────────────────────────────────────────────────────────────────────
def direct(*hashed: bytes, at: dt.datetime = A.created, may: int = CERTIFY | SIGN) -> bytes:
    return packet(2, A.signature(0x1F, A.framed, at, hashed=[*hashed, flags(may)]))


def user_attribute(key: OpenPGPKey) -> bytes:
    return packet(17, b"\1\1") + packet(2, key.signature(0x13, uid_framed(key, b"\1\1", b"\xd1"), key.created))


NO_SELF = "no self-signature with SHA-256 or better that holds"


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        pytest.param([direct()], "", id="direct key"),
        pytest.param([user_attribute(A)], "", id="user attribute"),
        pytest.param([packet(13, b"x")], NO_SELF, id="user id alone"),
        pytest.param([packet(13, b"x") + packet(2, B.signature(0x13, uid_framed(A, b"x"), NOW))], NO_SELF, id="by another"),
        pytest.param(
            [packet(13, b"x") + packet(2, A.signature(0x13, uid_framed(A, b"y"), NOW))], NO_SELF, id="of another id"
        ),
        pytest.param([self_signed(A, hash_algorithm=2)], NO_SELF, id="SHA-1"),
        pytest.param([self_signed(A, may=CERTIFY)], "no key of it may sign", id="may only certify"),
        pytest.param([self_signed(A, may=0)], "no key of it may sign", id="may nothing"),
        pytest.param([self_signed(A, may=None)], "", id="says nothing of uses"),
        pytest.param([self_signed(A, subpacket(27, b""), may=None)], "no key of it may sign", id="says empty uses"),
        pytest.param([self_signed(A, subpacket(100, b"x"))], "", id="something unknown"),
        pytest.param([self_signed(A, subpacket(100, b"x", critical=True))], NO_SELF, id="something unknown, critical"),
        pytest.param([self_signed(A, subpacket(20, b"x", critical=True))], NO_SELF, id="a critical notation"),
        pytest.param([self_signed(A, subpacket(9, b"\0\0\0\0", critical=True))], "", id="for ever, critical"),
        pytest.param([self_signed(A, subpacket(9, b"\0"))], NO_SELF, id="a time that is none"),
        pytest.param([self_signed(A, with_time=False)], NO_SELF, id="no time"),
        pytest.param([self_signed(A, lasting(DAY), lasting(400 * DAY))], NO_SELF, id="two lives"),
        pytest.param([self_signed(A, subpacket(CREATED, bytes(4)))], NO_SELF, id="two times"),
        pytest.param([self_signed(A, subpacket(34, b"x" * 300), subpacket(34, b"x" * 20_000))], "", id="long statements"),
    ],
)  # fmt: skip
def test_g05_self_signatures(parts: list[bytes], why: str) -> None:
    keyring = certificate(A, *parts)
    if why:
        with pytest.raises(Invalid, match=rf"^\.keys: GPG:{A.fingerprint}: {why}$"):
            ring(keyring)
    else:
        assert one(keyring).signing_keys == (one(keyring).primary,)


def test_g01_the_newest_self_signature_counts_and_of_one_second_the_strictest() -> None:
    later = A.created + DAY
    assert why_not(NOW, certificate(A, self_signed(A, lasting(DAY)), self_signed(A, at=later))) == ""
    assert "expired" in why_not(NOW, certificate(A, self_signed(A), self_signed(A, lasting(DAY), at=later)))
    assert "expired" in why_not(NOW, certificate(A, self_signed(A), self_signed(A, lasting(DAY), name=b"y")))
    assert "may not sign" in why_not(NOW, certificate(A, self_signed(A), self_signed(A, may=CERTIFY, at=later)))
    assert "may not sign" in why_not(NOW, certificate(A, self_signed(A), self_signed(A, may=CERTIFY, name=b"y")))
    # One that does not speak of uses takes none away.
    assert why_not(NOW, certificate(A, self_signed(A), self_signed(A, may=None, at=later))) == ""


def test_g01_what_is_not_said_yet_or_no_longer_does_not_count() -> None:
    later = NOW + DAY
    assert why_not(NOW, certificate(A, self_signed(A), self_signed(A, lasting(DAY), at=later))) == ""
    assert "expired" in why_not(later, certificate(A, self_signed(A), self_signed(A, lasting(DAY), at=later)))
    skew = dt.timedelta(seconds=limits.MAX_CLOCK_SKEW)
    only_later = certificate(A, self_signed(A, at=later))
    assert why_not(later - skew, only_later) == ""
    assert "no self-signature of it holds now" in why_not(later - 2 * skew, only_later)
    for_a_day = subpacket(EXPIRES, (86_400).to_bytes(4, "big"))
    assert why_not(A.created + DAY - skew, certificate(A, self_signed(A, for_a_day))) == ""
    assert "no self-signature of it holds now" in why_not(A.created + DAY, certificate(A, self_signed(A, for_a_day)))


def test_g01_a_weak_self_signature_grants_nothing_and_hides_nothing() -> None:
    later = self_signed(A, at=A.created + DAY, hash_algorithm=2)
    assert "its newest self-signature is over a weak hash" in why_not(NOW, certificate(A, self_signed(A), later))
    # What it alone says of uses is not said.
    silent = self_signed(A, may=None, at=A.created + DAY)
    assert "may not sign" in why_not(NOW, certificate(A, self_signed(A, hash_algorithm=2), silent))
    earlier = self_signed(A, lasting(DAY), hash_algorithm=2)
    assert why_not(NOW, certificate(A, earlier, self_signed(A, at=A.created + DAY))) == ""


def test_g01_a_user_id_that_was_taken_back_speaks_no_more() -> None:
    name = b"old <old@acme.test>"
    gone = packet(2, A.signature(0x30, uid_framed(A, name), A.created + 2 * DAY))
    stale = self_signed(A, lasting(DAY), name=name, at=A.created + DAY)
    assert "expired" in why_not(NOW, certificate(A, self_signed(A), stale))
    assert why_not(NOW, certificate(A, self_signed(A), stale + gone)) == ""
    # By another nobody's is taken back; and what is said again counts.
    strangers = packet(2, B.signature(0x30, uid_framed(A, name), A.created + 2 * DAY))
    assert "expired" in why_not(NOW, certificate(A, self_signed(A), stale + strangers))
    # Nor what one could not be certain of: it would bring back what was said before.
    for hash_algorithm in (2, 3):
        unsure = packet(2, A.signature(0x30, uid_framed(A, name), A.created + 2 * DAY, hash_algorithm=hash_algorithm))
        assert "expired" in why_not(NOW, certificate(A, self_signed(A), stale + unsure))
    again = self_signed(A, lasting(DAY), name=name, at=A.created + 3 * DAY)
    assert "expired" in why_not(NOW, certificate(A, self_signed(A), again + gone))


# ── revocations ──────────────────────────────────────────────────────────────────────────────────────────────────────
APPOINTED = direct(subpacket(REVOKER, b"\x80\x16" + bytes.fromhex(B.fingerprint)))


@pytest.mark.parametrize(
    ("keyring", "revoked"),
    [
        pytest.param([certificate(A)], False, id="not"),
        pytest.param([certificate(A, revocation(A) + self_signed(A))], True, id="where GnuPG puts it"),
        pytest.param([certificate(A), revocation(A)], True, id="appended"),
        pytest.param([certificate(A), certificate(B), revocation(A)], True, id="appended behind another key"),
        pytest.param([certificate(A), certificate(A, revocation(A) + self_signed(A))], True, id="of a second copy"),
        pytest.param([certificate(A, revocation(A) + self_signed(A)), certificate(A)], True, id="of the first copy"),
        pytest.param([certificate(A, revocation(A, hash_algorithm=2) + self_signed(A))], True, id="over SHA-1"),
        pytest.param([certificate(A, revocation(A, hash_algorithm=3) + self_signed(A))], True, id="over RIPE-MD/160"),
        pytest.param([certificate(A, revocation(B, hash_algorithm=3) + self_signed(A))], False, id="another's, over it"),
        pytest.param([certificate(A), revocation(B)], False, id="another's"),
        pytest.param([certificate(A, packet(2, A.signature(0x20, B.framed, NOW)) + self_signed(A))], False, id="of another"),
        pytest.param([certificate(A, packet(2, B.signature(0x20, A.framed, NOW)) + self_signed(A))], False, id="by nobody appointed"),
        pytest.param([certificate(A, APPOINTED + packet(2, B.signature(0x20, A.framed, NOW)))], True, id="by somebody appointed"),
        pytest.param([certificate(A, APPOINTED), certificate(B, revocation(B) + self_signed(B))], False, id="of the appointed's own key"),
        pytest.param([certificate(A, revocation(A, NOW + DAY) + self_signed(A))], True, id="with a date to come"),
        pytest.param([certificate(A, revocation(A, issuer=False) + self_signed(A))], True, id="without a name"),
    ],
)  # fmt: skip
def test_g01_a_key_that_was_taken_back(keyring: list[bytes], revoked: bool) -> None:
    found = ring(*keyring)[0]
    assert found.primary.fingerprint == A.fingerprint
    assert found.primary.is_revoked is revoked


def test_g01_a_key_is_taken_back_by_what_holds_but_has_another_hash_beside_it() -> None:
    body = bytearray(A.signature(0x20, A.framed, NOW))
    body[read_check(bytes(body))] ^= 1
    assert one(certificate(A, packet(2, bytes(body)) + self_signed(A))).primary.is_revoked


def test_g01_where_sha1_cannot_be_computed_a_revocation_over_it_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(openpgp_key("r", "rsa2048").private.public_key())
    key = openpgp_key("r", "rsa2048")
    keyring = certificate(
        key, revocation(key, hash_algorithm=2) + self_signed(key, hash_algorithm=2) + self_signed(key)
    )
    original = PublicKey.load

    class Forbidding:
        """The machine's library, as a policy of its distribution restricts it."""

        def __init__(self, loaded: Any) -> None:
            self.loaded = loaded
            self.key_size = loaded.key_size

        __class__ = kind  # It passes for the library's own.

        def verify(self, signature: bytes, digest: bytes, padding: Any, known: Any) -> None:
            if len(digest) == 20:
                raise UnsupportedAlgorithm("SHA-1 is forbidden")
            self.loaded.verify(signature, digest, padding, known)

    monkeypatch.setattr(PublicKey, "load", lambda self: Forbidding(original(self)))
    found = one(keyring)
    assert found.primary.is_revoked
    assert len(found.primary.self_signatures) == 1


@pytest.mark.parametrize(
    ("signature", "revoked"),
    [
        pytest.param(A.signature(0x28, BOTH, NOW), True, id="by the primary key"),
        pytest.param(A.signature(0x28, BOTH, NOW, hash_algorithm=2), True, id="over SHA-1"),
        pytest.param(A.signature(0x28, A.framed, NOW), False, id="of something else"),
        pytest.param(SUB.signature(0x28, BOTH, NOW), False, id="by itself"),
        pytest.param(B.signature(0x28, BOTH, NOW), False, id="by another"),
    ],
)
def test_g01_a_subkey_that_was_taken_back(signature: bytes, revoked: bool) -> None:
    plain = certificate(A, self_signed(A), bound(A, SUB) + packet(2, signature))
    assert [key.is_revoked for key in one(plain).subkeys] == [revoked]
    if signature == B.signature(0x28, BOTH, NOW):
        appointed = certificate(A, APPOINTED, bound(A, SUB) + packet(2, signature))
        assert [key.is_revoked for key in one(appointed).subkeys] == [True]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\3\5\x20" + bytes(20), id="version 3"),
        pytest.param(A.signature(0x20, A.framed, NOW, hashed=[subpacket(100, b"x", critical=True)]), id="of a key"),
        pytest.param(A.signature(0x28, BOTH, NOW, hashed=[subpacket(100, b"x", critical=True)]), id="of a subkey"),
    ],
)
def test_g01_a_revocation_that_cannot_be_read_is_not_passed_over(body: bytes) -> None:
    with pytest.raises(Invalid, match=r"^\.keys: a revocation that cannot be read: "):
        ring(certificate(A) + bound(A, SUB) + packet(2, body))


@pytest.mark.parametrize("body", [b"", b"\3\5\x10" + bytes(20), b"\5\x13" + bytes(20), b"\4\x13\1\1\0\0\0\0"])
def test_signatures_of_others_that_cannot_be_read_are_passed_over(body: bytes) -> None:
    assert one(certificate(A) + packet(2, body)) == one(certificate(A))


# ── subkeys ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("binding", "signs"),
    [
        pytest.param(bound(A, SUB), True, id="good"),
        pytest.param(bound(A, SUB, back=False), False, id="the subkey does not agree"),
        pytest.param(bound(A, SUB, back=B.signature(0x19, BOTH, NOW)), False, id="another agrees"),
        pytest.param(bound(A, SUB, back=SUB.signature(0x19, B.framed + SUB.framed, NOW)), False, id="with another"),
        pytest.param(bound(A, SUB, back=SUB.signature(0x18, BOTH, NOW)), False, id="in other words"),
        pytest.param(bound(A, SUB, back=SUB.signature(0x19, BOTH, NOW, hash_algorithm=2)), False, id="over SHA-1"),
        pytest.param(bound(A, SUB, back=b"\4"), False, id="unreadably"),
        pytest.param(bound(A, SUB, may=CERTIFY), False, id="may not sign"),
        pytest.param(bound(A, SUB, hash_algorithm=2), False, id="bound over SHA-1"),
        pytest.param(bound(B, SUB), False, id="another's"),
        pytest.param(packet(14, SUB.body), False, id="not bound"),
        pytest.param(
            packet(14, SUB.body) + packet(2, A.signature(0x18, BOTH, NOW, unhashed=[subpacket(EMBEDDED, SUB.signature(0x19, BOTH, NOW))])),
            False,
            id="without uses",
        ),
        pytest.param(
            packet(14, SUB.body)
            + packet(2, A.signature(0x18, BOTH, NOW, hashed=[flags(SIGN), subpacket(EMBEDDED, SUB.signature(0x19, BOTH, NOW))])),
            True,
            id="its agreement hashed",
        ),
    ],
)  # fmt: skip
def test_g02_subkeys_that_sign(binding: bytes, signs: bool) -> None:
    found = one(certificate(A, self_signed(A), binding))
    assert [key.fingerprint for key in found.signing_keys] == [A.fingerprint, *([SUB.fingerprint] if signs else [])]


def test_two_copies_of_a_certificate_are_merged() -> None:
    other = openpgp_key("sub2")
    first = certificate(A, self_signed(A, lasting(DAY)), bound(A, SUB))
    second = certificate(
        A, self_signed(A, at=A.created + DAY), bound(A, other), bound(A, SUB, lasting(DAY), at=NOW - DAY)
    )
    merged = one(first, second)
    assert {key.fingerprint for key in merged.signing_keys} == {A.fingerprint, SUB.fingerprint, other.fingerprint}
    assert merged.primary.ends(NOW, signing=True) == ()
    assert one(first, second) == one(first, second)
    assert set(one(second, first).signing_keys) == set(merged.signing_keys)
    with pytest.raises(Rejected, match="expired"):
        next(key for key in merged.subkeys if key.fingerprint == SUB.fingerprint).ends(NOW, signing=True)


# ── packets and signatures, byte by byte ─────────────────────────────────────────────────────────────────────────────
def test_lengths_of_packets() -> None:
    for size in (0, 1, 191, 192, 8_383, 8_384, 70_000):
        body = bytes(size)
        short = bytes([0xC0 | 13]) + (
            bytes([size]) if size < 192 else bytes([192 + (size - 192 >> 8), (size - 192) & 0xFF]) if size < 8_384 else b"\xff" + size.to_bytes(4, "big")
        )  # fmt: skip
        [found] = read_packets(short + body, "x", 1)
        assert (found.tag, found.body) == (13, body)
    assert [found.tag for found in read_packets(old_packet(13, bytes(9), 1), "x", 1)] == [13]


@pytest.mark.parametrize(
    "data", [b"\xcd", b"\xcd\x05abc", b"\xcd\xc0", b"\xcd\xff\0\0", b"\xb4", b"\xb5\0", b"\xb6\0\0\0"]
)
def test_packets_that_are_cut_short(data: bytes) -> None:
    with pytest.raises(Invalid, match=r"^x: cut short$"):
        read_packets(data, "x", 5)


@pytest.mark.parametrize(("data", "why"), [(b"\0", "an empty subpacket"), (b"\1", "cut short"), (b"\5\2", "cut short")])
def test_subpackets_that_are_none(data: bytes, why: str) -> None:
    with pytest.raises(Invalid, match=f"^x: {why}$"):
        list(read_subpackets(data, "x"))


def test_integers() -> None:
    assert read_integers(integer(0) + integer(255) + integer(256), 3, "x") == (b"", b"\xff", b"\1\0")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda b: b[:5], "cut short"),
        (lambda b: b[:12], "cut short"),
        (lambda b: b[:4] + b"\xff\xff" + b[6:], "cut short"),
        (lambda b: b"\3" + b[1:], "a signature of version 3, and 4 is accepted"),
        (lambda b: b"\6" + b[1:], "a signature of version 6, and 4 is accepted"),
    ],
)
def test_signatures_that_cannot_be_read(change: object, why: str) -> None:
    assert callable(change)
    with pytest.raises(Invalid, match=f"^x: {why}$"):
        read_signature(change(A.signature(0, b"", NOW)), "x")


def read_check(body: bytes) -> int:
    """Where the two bytes of the hash stand in a signature without anything unhashed."""
    return 6 + int.from_bytes(body[4:6], "big") + 2


def made(key: OpenPGPKey, **options: object) -> Signature:
    return read_signature(key.signature(0, b"text", NOW, **options), "x")  # type: ignore[arg-type]  # the tests' own options


def public(key: OpenPGPKey) -> PublicKey:
    return one(certificate(key)).primary.public


@pytest.mark.parametrize("kind", ["ed25519", "native", "rsa2048", "secp256r1"])
def test_d10_an_algorithm_that_is_not_the_keys(kind: str) -> None:
    key = openpgp_key("k", kind)
    made(key).verify(public(key), b"text")
    for algorithm in {1, 3, 17, 19, 22, 27, 99} - ({1, 3} if kind == "rsa2048" else {key.algorithm}):
        with pytest.raises(Rejected, match=r"by an algorithm that is not the key's|the signature does not hold"):
            made(key, algorithm=algorithm).verify(public(key), b"text")


@pytest.mark.parametrize("kind", ["ed25519", "native", "rsa2048", "secp256r1", "secp521r1"])
def test_c13_every_byte_of_a_signature(kind: str) -> None:
    key = openpgp_key("k", kind)
    body = key.signature(0, b"text", NOW)
    anchor = public(key)
    read_signature(body, "x").verify(anchor, b"text")
    for position in range(len(body)):
        for bit in (1, 0x80):
            flipped = bytearray(body)
            flipped[position] ^= bit
            with pytest.raises((Rejected, Invalid)):
                read_signature(bytes(flipped), "x").verify(anchor, b"text")
    with pytest.raises(Rejected, match="the signature does not hold"):
        read_signature(body, "x").verify(anchor, b"texT")
    with pytest.raises(Rejected, match="a hash that is not known"):
        made(key, hash_algorithm=99).verify(anchor, b"text")


@pytest.mark.parametrize("kind", ["ed25519", "native", "rsa2048", "secp256r1"])
def test_v02_numbers_of_every_size_in_place_of_a_signature(kind: str) -> None:
    key = openpgp_key("k", kind)
    body = key.signature(0, b"text", NOW)
    start = read_check(body) + 2
    anchor = public(key)
    for material in (b"", integer(0), integer(1), integer(0) * 2, integer(1) * 2, integer(1 << 4000), integer(1 << 4000) * 2, bytes(64), b"\xff" * 64):  # fmt: skip
        with pytest.raises(Rejected, match="the signature does not hold"):
            read_signature(body[:start] + material, "x").verify(anchor, b"text")


def test_hints() -> None:
    assert made(A).may_be_by(A.fingerprint)
    assert not made(A).may_be_by(B.fingerprint)
    assert made(A, issuer=False).may_be_by(B.fingerprint)
    assert made(A, issuer=False, unhashed=[subpacket(ISSUER, B.key_id)]).may_be_by(B.fingerprint)
    assert not made(A, issuer=False, unhashed=[subpacket(ISSUER, B.key_id)]).may_be_by(A.fingerprint)


# ── what another implementation says ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", ["ed25519", "rsa2048", "rsa4096", "secp256r1", "secp384r1", "secp521r1"])
def test_sequoia_reads_and_verifies_what_the_tests_write(kind: str) -> None:
    key, sub = openpgp_key("k", kind), openpgp_key("ksub", kind)
    keyring = certificate(key, self_signed(key, lasting(3650 * DAY)), bound(key, sub))
    read = pysequoia.Cert.from_bytes(keyring)
    assert read.fingerprint.upper() == key.fingerprint
    assert read.expiration == key.created + 3650 * DAY
    assert not read.is_revoked
    assert pysequoia.Cert.from_bytes(certificate(key, revocation(key) + self_signed(key))).is_revoked
    for signer in (key, sub):
        found = pysequoia.verify(message(signer, b"text"), store=lambda _: [read])
        assert [one.signing_key.upper() for one in found.valid_sigs] == [signer.fingerprint]
        assert found.bytes == b"text"


def test_fingerprints_and_packets_of_captures_are_those_of_sequoia() -> None:
    for path in (*captures.path("gpg-edge-cases").glob("*.gpg"), captures.path("gpg-rsa3072.pub")):
        data = path.read_bytes()
        theirs = [(bytes([int(p.tag)]), bytes(p.body)) for p in PacketPile.from_bytes(data)]
        assert [(bytes([p.tag]), p.body) for p in read_packets(data, "x", 100)] == theirs
        assert [c.primary.fingerprint for c in ring(data)] == [
            c.fingerprint.upper() for c in pysequoia.Cert.split_bytes(data)
        ]


def test_sequoias_own_keys_and_messages_are_accepted() -> None:
    for suite in (pysequoia.CipherSuite.Cv25519, pysequoia.CipherSuite.RSA3k, pysequoia.CipherSuite.P256):
        secret = pysequoia.Tsk.generate("Release <release@acme.test>", cipher_suite=suite)
        [found] = ring(bytes(secret.extract_certificate()))
        assert found.primary.fingerprint == secret.extract_certificate().fingerprint.upper()
        armored_message = pysequoia.sign(secret.signer(), b"text", mode=pysequoia.SignatureMode.INLINE)
        assert armored_message.startswith(b"-----BEGIN PGP MESSAGE-----")
        [signing] = found.signing_keys
        packets = list(PacketPile.from_bytes(armored_message))
        read_signature(bytes(packets[-1].body), "x").verify(signing.public, b"text")
