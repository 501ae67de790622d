"""GPG simple signing: what real signers wrote, and the attacks on who signed, when, what, and where it lies."""

import base64
import bz2
import copy
import datetime as dt
import json
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import captures
from tests.captures import IMAGE, NOW
from tests.fake.openpgp import (
    CERTIFY,
    DAY,
    EXPIRES,
    ISSUER,
    STORE,
    armored,
    bound,
    certificate,
    head,
    in_pieces,
    keep,
    keyring_spec,
    lasting,
    literal,
    message,
    old_packet,
    openpgp_key,
    packet,
    parts,
    payload,
    revocation,
    self_signed,
    sign_gpg,
    subpacket,
)
from tests.fake.registry import FakeRegistry, to_json
from tests.formats.test_contract import PATH, claim_of, judged
from webhook import limits
from webhook.formats.gpg import FORMAT
from webhook.formats.gpg.signer import Gpg
from webhook.formats.gpg.spec import GpgSpec
from webhook.image import Digest, Repository, Subject
from webhook.parsing import Invalid, convert_all
from webhook.trust import Claim, KeyRef, Rejected, Unavailable, Untrusted
from webhook.verdict import End

SKEW = dt.timedelta(seconds=limits.MAX_CLOCK_SKEW)
A, B = openpgp_key("a"), openpgp_key("b")


def gpg(*certificates: bytes, **options: Any) -> Gpg:
    """A signer over these certificates, as a policy with a binary keyring has it."""
    spec = convert_all({**keyring_spec(), "keys": "secret://ring#gpg", **options}, GpgSpec, "gpg")
    built = FORMAT.build(spec, {KeyRef("secret://ring#gpg"): b"".join(certificates or (certificate(A),))})
    assert isinstance(built, Gpg)
    return built


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def image(registry: FakeRegistry) -> Digest:
    return registry.push_image(PATH, "v1")


async def outcome(signer: Gpg, image: Digest, registry: FakeRegistry, now: dt.datetime = NOW) -> str:
    """The identity that is proven, or why none is; exactly one piece of evidence is expected."""
    claim = claim_of(image)
    [evidence] = [e async for e in signer.collect(claim, registry)]
    assert isinstance(evidence, Untrusted)
    try:
        return signer.check(evidence, claim, now).identity
    except (Rejected, Invalid) as e:
        return str(e)


def expect(found: str, why: str) -> None:
    """A's proof, or this reason and no proof."""
    if why:
        assert why in found
        assert not found.startswith("GPG:")
    else:
        assert found == f"GPG:{A.fingerprint}"


# ── what real signers wrote ──────────────────────────────────────────────────────────────────────────────────────────
BY_SKOPEO = "127.0.0.1:5065/gpg/app"


def skopeos(number: int) -> bytes:
    return (captures.path("gpg-simple-signing") / f"signature-{number}").read_bytes()


def checked(signer: Gpg, signed: bytes, claim: Claim, now: dt.datetime = NOW) -> str:
    try:
        return signer.check(Untrusted("x", {"signature": signed}), claim, now).identity
    except (Rejected, Invalid) as e:
        return str(e)


@pytest.mark.parametrize(
    ("number", "ring", "fingerprint"),
    [
        (1, "gpg-rsa3072.pub", "DE9B97DFC681AEC6FBAC0FCECE39D13B5EC3F451"),
        (2, "gpg-ed25519.pub", "882516DC24A16540A2BCCEBEAF282D19E8FD329A"),
    ],
)
def test_g01_captures_by_skopeo_are_accepted_by_their_key_and_no_other(
    number: int, ring: str, fingerprint: str
) -> None:
    name, _, path = BY_SKOPEO.partition("/")
    claim = Claim(Subject(Repository(name, path), IMAGE, "v1"))
    assert checked(gpg(captures.key(ring)), skopeos(number), claim) == f"GPG:{fingerprint}"
    other = "gpg-rsa3072.pub" if number == 2 else "gpg-ed25519.pub"
    assert checked(gpg(captures.key(other)), skopeos(number), claim) == f"signed by unknown key GPG:{fingerprint}"
    elsewhere = Claim(Subject(Repository(name, "other/app"), IMAGE, "v1"))
    assert "which the policy's `identity` does not accept" in checked(
        gpg(captures.key(ring)), skopeos(number), elsewhere
    )
    # G-03: a manifest that differs in one bit has another digest.
    modified = Claim(Subject(Repository(name, path), Digest(f"sha256:{'0' * 64}"), "v1"))
    assert "about another image" in checked(gpg(captures.key(ring)), skopeos(number), modified)


EDGE = captures.path("gpg-edge-cases")
EDGE_IMAGE = Digest("sha256:de7cae8d1c58248d5a095cae74ee952b51c3cf04dedefa9b605986ee79dda7b6")
RSA, SUB, REV = (
    "GPG:9C9E40EA15F6691482C4500C857210A72566B8FE",
    "GPG:9D639C4E4194144A620F3FE2FA64BC890F441223",
    "GPG:B6208625A07764BF5046D2F0CB937877DA196F43",
)


@pytest.mark.parametrize(
    ("signed", "ring", "expected"),
    [
        ("sub.sig", "sub.gpg", SUB),
        ("sub.sig", "ring.gpg", SUB),
        ("sub.sig", "ring.asc", SUB),
        ("exp.sig", "exp.gpg", "key GPG:B09C26D407ED31AB6F5B79F9E79F060B3B4B27C2 expired at 2026-11-23T18:42:11Z"),
        ("exp.sig", "ring.gpg", "key GPG:B09C26D407ED31AB6F5B79F9E79F060B3B4B27C2 expired at 2026-11-23T18:42:11Z"),
        ("rev.sig", "rev.gpg", f"key {REV} has been revoked"),
        ("rev.sig", "rev-before.gpg", REV),
        ("sha1.sig", "rev-before.gpg", "signed over a hash that is not accepted (2); SHA-256 or better is"),
        ("two.sig", "rev-before.gpg", "signature: 2 signatures in one message, expected exactly one"),
        ("two.sig", "sub.gpg", "signature: 2 signatures in one message, expected exactly one"),
        ("det.sig", "sub.gpg", "signature: not one inline-signed message, but packets 2"),
        ("clear.sig", "sub.gpg", "signature: not an OpenPGP packet"),
        ("sub.sig", "ed25519.gpg", "signed by unknown key GPG:412D9C6B5300B32D83067762543DA1D6386FA8E3"),
    ],
)
def test_g01_g06_captures_by_gnupg(signed: str, ring: str, expected: str) -> None:
    claim = Claim(Subject(Repository("127.0.0.1:5055", "gpg/app"), EDGE_IMAGE, "v1"))
    signer = gpg((EDGE / ring).read_bytes())
    assert checked(signer, (EDGE / signed).read_bytes(), claim) == expected


def test_g01_a_capture_with_an_rsa_key() -> None:
    claim = Claim(Subject(Repository("127.0.0.1:5055", "app"), EDGE_IMAGE, "v1"))
    signed = (EDGE / "sa.sig").read_bytes()
    assert checked(gpg((EDGE / "rsa.gpg").read_bytes()), signed, claim) == RSA
    assert checked(gpg((EDGE / "ed25519.gpg").read_bytes()), signed, claim) == f"signed by unknown key {RSA}"


def test_g01_the_expired_key_was_good_before_its_end() -> None:
    claim = Claim(Subject(Repository("127.0.0.1:5055", "gpg/app"), EDGE_IMAGE, "v1"))
    before = dt.datetime(2026, 11, 23, 18, 42, 10, tzinfo=dt.UTC)
    signer = gpg((EDGE / "exp.gpg").read_bytes())
    assert checked(signer, (EDGE / "exp.sig").read_bytes(), claim, before).startswith("GPG:B09C26D4")


# ── G-01: whose key, and whether it is good now ──────────────────────────────────────────────────────────────────────
KINDS = ["ed25519", "native", "rsa2048", "rsa4096", "secp256r1", "secp384r1", "secp521r1"]


@pytest.mark.parametrize("hash_algorithm", [8, 9, 10])
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_key_and_hash(
    registry: FakeRegistry, image: Digest, kind: str, hash_algorithm: int
) -> None:
    key = openpgp_key("k", kind)
    sign_gpg(registry, PATH, image, key, hash_algorithm=hash_algorithm)
    assert await outcome(gpg(certificate(key)), image, registry) == f"GPG:{key.fingerprint}"
    assert await outcome(gpg(certificate(B)), image, registry) == f"signed by unknown key GPG:{key.fingerprint}"


@pytest.mark.parametrize(("hash_algorithm", "accepted"), [(8, True), (2, False), (11, False), (99, False)])
async def test_g01_weak_hashes_are_refused(
    registry: FakeRegistry, image: Digest, hash_algorithm: int, accepted: bool
) -> None:
    sign_gpg(registry, PATH, image, A, hash_algorithm=hash_algorithm)
    found = await outcome(gpg(), image, registry)
    assert (found == f"GPG:{A.fingerprint}") is accepted
    assert accepted or found == f"signed over a hash that is not accepted ({hash_algorithm}); SHA-256 or better is"


LIVING = [
    ("never expires", certificate(A), ""),
    ("expires later", certificate(A, self_signed(A, lasting(400 * DAY))), ""),
    (
        "expired after it signed",
        certificate(A, self_signed(A, lasting(299 * DAY + DAY / 2))),
        "expired at 2026-11-23T12",
    ),
    ("expired before it signed", certificate(A, self_signed(A, lasting(10 * DAY))), "expired at 2026-02-07"),
    # Prolonged after it signed; the first self-signature is gone, as GnuPG leaves it.
    ("prolonged", certificate(A, self_signed(A, lasting(400 * DAY), at=NOW - DAY / 2)), ""),
    (
        "prolonged, both there",
        certificate(A, self_signed(A, lasting(10 * DAY)), self_signed(A, lasting(400 * DAY), at=NOW - DAY / 2)),
        "",
    ),
    (
        "shortened",
        certificate(A, self_signed(A, lasting(400 * DAY)), self_signed(A, lasting(10 * DAY), at=NOW - DAY / 2)),
        "expired at",
    ),
    ("revoked after it signed", certificate(A, revocation(A, NOW - DAY / 2) + self_signed(A)), "has been revoked"),
    ("revoked before it signed", certificate(A, revocation(A) + self_signed(A)), "has been revoked"),
    ("revocation by another", certificate(A, revocation(B) + self_signed(A)), ""),
    ("may only certify", certificate(A, self_signed(A, may=CERTIFY) + bound(A, openpgp_key("sub"))), "unknown key"),
]


@pytest.mark.parametrize(("ring", "why"), [pytest.param(*rest, id=name) for name, *rest in LIVING])
async def test_g01_keys_are_judged_now(registry: FakeRegistry, image: Digest, ring: bytes, why: str) -> None:
    sign_gpg(registry, PATH, image, A)
    found = await outcome(gpg(ring), image, registry)
    expect(found, why)


SUBKEY = openpgp_key("sub")
BOUND = [
    ("good", bound(A, SUBKEY), ""),
    ("expires later", bound(A, SUBKEY, lasting(400 * DAY)), ""),
    ("expired after it signed", bound(A, SUBKEY, lasting(299 * DAY + DAY / 2)), "expired at"),
    (
        "prolonged",
        bound(A, SUBKEY, lasting(10 * DAY)) + bound(A, SUBKEY, lasting(400 * DAY), at=NOW - DAY, with_key=False),
        "",
    ),
    (
        "revoked after it signed",
        bound(A, SUBKEY) + packet(2, A.signature(0x28, A.framed + SUBKEY.framed, NOW - DAY / 2)),
        "has been revoked",
    ),
    (
        "revocation by another",
        bound(A, SUBKEY) + packet(2, B.signature(0x28, A.framed + SUBKEY.framed, NOW - DAY / 2)),
        "",
    ),
]


@pytest.mark.parametrize(("binding", "why"), [pytest.param(*rest, id=name) for name, *rest in BOUND])
async def test_g01_subkeys_are_judged_now(registry: FakeRegistry, image: Digest, binding: bytes, why: str) -> None:
    sign_gpg(registry, PATH, image, SUBKEY)
    found = await outcome(gpg(certificate(A, self_signed(A, may=CERTIFY), binding)), image, registry)
    expect(found, why)


@pytest.mark.parametrize(
    ("primary", "why"),
    [
        (self_signed(A), ""),
        (self_signed(A, lasting(10 * DAY)), f"key GPG:{A.fingerprint} expired at"),
        (revocation(A) + self_signed(A), f"key GPG:{A.fingerprint} has been revoked"),
    ],
)
async def test_g01_a_subkey_is_no_better_than_its_primary_key(
    registry: FakeRegistry, image: Digest, primary: bytes, why: str
) -> None:
    sign_gpg(registry, PATH, image, SUBKEY)
    found = await outcome(gpg(certificate(A, primary, bound(A, SUBKEY))), image, registry)
    expect(found, why)


@pytest.mark.parametrize(
    ("at", "hashed", "why"),
    [
        (NOW - DAY, [], ""),
        (NOW + SKEW, [], ""),
        (NOW + SKEW + dt.timedelta(seconds=1), [], "which is yet to come"),
        (A.created, [], ""),
        (A.created - dt.timedelta(seconds=1), [], "signed before its key was made"),
        (NOW - DAY, [subpacket(EXPIRES, (86_401).to_bytes(4, "big"))], ""),
        (NOW - DAY, [subpacket(EXPIRES, (86_400).to_bytes(4, "big"))], "the signature expired at 2026-11-24T00:38:00Z"),
        (NOW - DAY, [subpacket(EXPIRES, bytes(4))], ""),
    ],
)
async def test_g01_when_it_was_signed(
    registry: FakeRegistry, image: Digest, at: dt.datetime, hashed: list[bytes], why: str
) -> None:
    sign_gpg(registry, PATH, image, A, at=at, hashed=hashed)
    found = await outcome(gpg(), image, registry)
    expect(found, why)


async def test_a_proof_ends_with_the_first_thing_it_rests_on(registry: FakeRegistry, image: Digest) -> None:
    seconds = subpacket(EXPIRES, (2 * 86_400).to_bytes(4, "big"))
    named = f"key GPG:{A.fingerprint}"
    expiring = self_signed(A, subpacket(EXPIRES, (301 * 86_400).to_bytes(4, "big")))
    for ring, hashed, end, ends in [
        (certificate(A), [], None, None),
        (certificate(A), [seconds], NOW + DAY, End(NOW + DAY, "the signature itself")),
        (certificate(A, self_signed(A, lasting(310 * DAY))), [], NOW + 10 * DAY, End(NOW + 10 * DAY, named)),
        (
            certificate(A, self_signed(A, lasting(310 * DAY))),
            [seconds],
            NOW + DAY,
            End(NOW + DAY, "the signature itself"),
        ),
        # From then on the key may be another, which need not be its end.
        (certificate(A, self_signed(A), self_signed(A, at=NOW + 5 * DAY)), [], NOW + 5 * DAY - SKEW, None),
        (certificate(A, expiring), [], NOW + DAY, End(NOW + DAY, named)),
        # An older one holds when the newest does no more.
        (certificate(A, self_signed(A, at=A.created), expiring), [], NOW + DAY, None),
    ]:
        registry.documents.clear()
        sign_gpg(registry, PATH, image, A, hashed=hashed)
        [proof], _, _ = await judged(gpg(ring), claim_of(image), registry)
        assert (proof.valid_until, proof.ends) == (end, ends)
        assert proof.signed_at is None
    registry.documents.clear()
    sign_gpg(registry, PATH, image, SUBKEY)
    ring = certificate(A, self_signed(A, lasting(310 * DAY)), bound(A, SUBKEY, lasting(305 * DAY)))
    [proof], _, _ = await judged(gpg(ring), claim_of(image), registry)
    assert proof.valid_until == NOW + 5 * DAY
    assert proof.ends == End(NOW + 5 * DAY, f"key GPG:{SUBKEY.fingerprint}")


# ── G-02: who it is ──────────────────────────────────────────────────────────────────────────────────────────────────
async def test_g02_full_fingerprints_choose_among_the_keys(registry: FakeRegistry, image: Digest) -> None:
    other = openpgp_key("sub2")
    ring = (certificate(A, self_signed(A), bound(A, SUBKEY), bound(A, other)), certificate(B))
    for key, fingerprints, accepted in [
        (A, [A], True),
        (SUBKEY, [A], True),
        (SUBKEY, [SUBKEY], True),
        (other, [SUBKEY], False),
        (A, [SUBKEY], False),
        (B, [A, SUBKEY], False),
        (B, [A, B], True),
    ]:
        registry.documents.clear()
        sign_gpg(registry, PATH, image, key)
        signer = gpg(*ring, fingerprints=[one.fingerprint.lower() for one in fingerprints])
        found = await outcome(signer, image, registry)
        assert (found == f"GPG:{(B if key is B else A).fingerprint}") is accepted
        assert accepted or found == f"signed by unknown key GPG:{key.fingerprint}"


@pytest.mark.parametrize(
    ("fingerprints", "why"),
    [
        ([], r"\.fingerprints: empty, so nobody could have signed"),
        ([A.fingerprint[-16:]], r"\.fingerprints\[0\]: .*not a full fingerprint, of 40 hex digits"),
        ([A.fingerprint, A.fingerprint[-8:]], r"\.fingerprints\[1\]: .*not a full fingerprint"),
        ([f"{A.fingerprint[:-1]}\n"], "not a full fingerprint"),
        ([B.fingerprint], r"\.fingerprints\[0\]: [0-9A-F]{40}: `keys` holds no such key that may sign"),
    ],
)
def test_g02_key_ids_and_fingerprints_of_others_are_refused(fingerprints: list[str], why: str) -> None:
    with pytest.raises(Invalid, match=why):
        gpg(fingerprints=fingerprints)


async def test_g02_keys_of_one_person_are_one_identity(registry: FakeRegistry, image: Digest) -> None:
    for key in (A, SUBKEY):
        sign_gpg(registry, PATH, image, key)
    proofs, _, _ = await judged(gpg(certificate(A, self_signed(A), bound(A, SUBKEY))), claim_of(image), registry)
    assert len(proofs) == 2
    assert {proof.identity for proof in proofs} == {f"GPG:{A.fingerprint}"}


async def test_g02_hints_prove_nothing(registry: FakeRegistry, image: Digest) -> None:
    # Without a hint every key is tried; with a wrong one, what it names.
    sign_gpg(registry, PATH, image, A, issuer=False)
    assert await outcome(gpg(certificate(B), certificate(A)), image, registry) == f"GPG:{A.fingerprint}"
    assert await outcome(gpg(certificate(B)), image, registry) == "not signed by a key of this signer"
    registry.documents.clear()
    sign_gpg(registry, PATH, image, B, issuer=False, hashed=[subpacket(ISSUER, A.key_id)])
    assert await outcome(gpg(certificate(A)), image, registry) == "not signed by a key of this signer"
    registry.documents.clear()
    sign_gpg(registry, PATH, image, B, issuer=False, unhashed=[subpacket(ISSUER, B.key_id)])
    assert await outcome(gpg(certificate(B)), image, registry) == f"GPG:{B.fingerprint}"


async def test_g02_the_head_of_a_message_names_the_key_that_signed_it(registry: FakeRegistry, image: Digest) -> None:
    made = parts(A, to_json(payload(PATH, image)))
    made.packets[0] = (4, head(B))
    keep(registry, PATH, image, made.joined())
    assert await outcome(gpg(), image, registry) == "its head announces another key than signed it"


# ── G-06: one signature over one text, and nothing beside them ───────────────────────────────────────────────────────
def shape(change: Callable[[list[tuple[int, bytes]]], object]) -> Callable[[bytes], bytes]:
    def made(text: bytes) -> bytes:
        message = parts(A, text)
        change(message.packets)
        return message.joined()

    return made


def zipped(data: bytes, algorithm: int = 1) -> bytes:
    """A compressed packet's body."""
    match algorithm:
        case 0:
            packed = data
        case 1:
            packing = zlib.compressobj(wbits=-15)
            packed = packing.compress(data) + packing.flush()
        case 2:
            packed = zlib.compress(data)
        case _:
            packed = bz2.compress(data)
    return bytes([algorithm]) + packed


WRONG = b'{"critical":{}}'
SHAPES: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("plain", lambda text: message(A, text), ""),
    ("old headers", lambda text: b"".join(old_packet(t, b) for t, b in parts(A, text).packets), ""),
    ("old headers, 4 octets", lambda text: b"".join(old_packet(t, b, 4) for t, b in parts(A, text).packets), ""),
    ("text in pieces", lambda text: _with_text_in_pieces(text, 9), ""),
    ("text in pieces too small", lambda text: _with_text_in_pieces(text, 8), "a packet in pieces that may not be"),
    *[(f"compressed {n}", lambda text, n=n: packet(8, zipped(message(A, text), n)), "") for n in range(4)],
    ("compressed without an end", lambda text: old_packet(8, zipped(message(A, text)), 0), ""),
    ("compressed in a new way", lambda text: packet(8, b"\x09" + text), "compressed in a way that is not known (9)"),
    ("compressed nothing", lambda _: packet(8, b""), "an empty compressed packet"),
    ("compressed garbage", lambda text: packet(8, b"\x01" + text), "cannot be unpacked"),
    ("bzip2 garbage", lambda text: packet(8, b"\x03" + text), "cannot be unpacked"),
    ("cut", lambda text: packet(8, zipped(message(A, text))[:-9]), "cut short, or something is behind it"),
    ("something behind", lambda text: packet(8, zipped(message(A, text), 2) + b"x"), "or something is behind it"),
    ("bzip2, twice", lambda text: packet(8, zipped(message(A, text), 3) + bz2.compress(b"")), "something is behind it"),
    ("twice compressed", lambda text: packet(8, zipped(packet(8, zipped(message(A, text))))), "packed more than once"),
    ("two compressed", lambda text: packet(8, zipped(message(A, text))) * 2, "packed more than once, or beside"),
    ("unsigned text", lambda text: packet(11, literal(text)), "not one inline-signed message, but packets 11"),
    ("encrypted", lambda text: packet(1, text) + packet(18, text), "but packets 1, 18"),
    ("nothing", lambda _: b"", "but packets of none"),
    ("signature first", shape(lambda p: p.insert(0, p.pop())), "not one inline-signed message, but packets 2, 4, 11"),
    ("text in front", shape(lambda p: p.insert(0, (11, literal(WRONG)))), "but packets 11, 4, 11, 2"),
    ("text behind", shape(lambda p: p.append((11, literal(WRONG)))), "but packets 4, 11, 2, 11"),
    ("two texts", shape(lambda p: p.insert(1, (11, literal(WRONG)))), "but packets 4, 11, 11, 2"),
    ("two signatures", shape(lambda p: p.append(p[2])), "2 signatures in one message"),
    ("other text", shape(lambda p: p.__setitem__(1, (11, literal(WRONG)))), "not signed by a key of this signer"),
    ("a marker", shape(lambda p: p.insert(0, (10, b"PGP"))), "but packets 10, 4, 11, 2"),
    ("many packets", lambda _: packet(10, b"PGP") * 17, "more than 16 packets"),
    ("cut text", lambda text: message(A, text)[:-1], "cut short"),
    ("armored", lambda text: armored(message(A, text), kind="PGP MESSAGE").encode(), "not an OpenPGP packet"),
    ("a file name", shape(lambda p: p.__setitem__(1, (11, literal(p[1][1][6:], b"--set-filename")))), ""),
    ("a text's form", shape(lambda p: p.__setitem__(1, (11, literal(p[1][1][6:], form=b"t")))), ""),
    ("no form", shape(lambda p: p.__setitem__(1, (11, literal(p[1][1][6:], form=b"x")))), "not a literal packet"),
    ("no literal", shape(lambda p: p.__setitem__(1, (11, b"b"))), "not a literal packet"),
    ("a name too long", shape(lambda p: p.__setitem__(1, (11, b"b\xff" + bytes(9)))), "not a literal packet"),
    ("signature of a text", lambda text: _of_type(text, 0x01), "of type 0x01, not of a document"),
    ("signature of a key", lambda text: _of_type(text, 0x13), "of type 0x13, not of a document"),
    ("head of a text", shape(lambda p: p.__setitem__(0, (4, head(A, kind=1)))), "its head announces another signature"),
    ("head of SHA-1", shape(lambda p: p.__setitem__(0, (4, head(A, 2)))), "its head announces another signature"),
    ("head of many", shape(lambda p: p.__setitem__(0, (4, head(A, last=0)))), "its head announces another signature"),
    ("no head", shape(lambda p: p.__setitem__(0, (4, b""))), "its head announces another signature"),
    ("a key in pieces", lambda text: in_pieces(6, text * 3), "a packet in pieces that may not be"),
    ("a key without an end", lambda text: old_packet(6, text, 0), "a packet without an end"),
]  # fmt: skip


def _with_text_in_pieces(text: bytes, size: int) -> bytes:
    padded = text + b" " * 2_000
    made = parts(A, padded).packets
    return packet(*made[0]) + in_pieces(11, made[1][1], size) + packet(*made[2])


def _of_type(text: bytes, kind: int) -> bytes:
    made = parts(A, text)
    made.packets[2] = (2, A.signature(kind, text, NOW - DAY))
    return made.joined()


@pytest.mark.parametrize(("made", "why"), [pytest.param(*rest, id=name) for name, *rest in SHAPES])
async def test_g02_g06_only_one_form_of_message_is_read(
    registry: FakeRegistry, image: Digest, made: Callable[[bytes], bytes], why: str
) -> None:
    keep(registry, PATH, image, made(to_json(payload(PATH, image))))
    found = await outcome(gpg(), image, registry)
    expect(found, why)


@pytest.mark.parametrize("algorithm", [1, 2, 3])
async def test_g06_d01_a_bomb_is_unpacked_no_further_than_the_limit(
    registry: FakeRegistry, image: Digest, algorithm: int
) -> None:
    text = to_json(payload(PATH, image))
    room = limits.MAX_OPENPGP - len(message(A, text))
    keep(registry, PATH, image, packet(8, zipped(message(A, text + b" " * room), algorithm)))
    assert await outcome(gpg(), image, registry) == f"GPG:{A.fingerprint}"
    registry.documents.clear()
    keep(registry, PATH, image, packet(8, zipped(message(A, text + b" " * (room + 1)), algorithm)))
    assert "more than 4194304 bytes, unpacked" in await outcome(gpg(), image, registry)
    signer, claim, evidence = gpg(), claim_of(image), Untrusted("x", {"signature": packet(8, bomb(algorithm))})
    tracemalloc.start()
    try:
        with pytest.raises(Invalid, match="more than 4194304 bytes, unpacked"):
            signer.check(evidence, claim, NOW)
        assert tracemalloc.get_traced_memory()[1] < 4 * limits.MAX_OPENPGP
    finally:
        tracemalloc.stop()


def bomb(algorithm: int) -> bytes:
    """A compressed packet of 100 MiB, made piece by piece."""
    packing: Any = {1: zlib.compressobj(wbits=-15), 2: zlib.compressobj(), 3: bz2.BZ2Compressor()}[algorithm]
    pieces: list[bytes] = [packing.compress(bytes(limits.MIB)) for _ in range(100)]
    return b"".join([bytes([algorithm]), *pieces, packing.flush()])


async def test_g06_d01_an_oversized_message_is_not_read(registry: FakeRegistry, image: Digest) -> None:
    signer, claim = gpg(), claim_of(image)
    with pytest.raises(Rejected, match="more than 4194304 bytes"):
        signer.check(Untrusted("x", {"signature": bytes(limits.MAX_OPENPGP + 1)}), claim, NOW)


# ── what is said ─────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda p: p["optional"].update(surprise=[1, {}]), ""),
        (lambda p: p.update(optional={}), ""),
        (lambda p: p.pop("optional"), "missing required field optional"),
        (lambda p: p.update(optional=None), "payload.optional: expected object"),
        (lambda p: p.update(surprise=1), "unknown field surprise"),
        (lambda p: p.pop("critical"), "missing required field critical"),
        (lambda p: p["critical"].update(surprise=1), "unknown field surprise"),
        (lambda p: p["critical"]["image"].update(surprise=1), "unknown field surprise"),
        (lambda p: p["critical"]["identity"].update(surprise=1), "unknown field surprise"),
        (lambda p: p["critical"].update(type="cosign container image signature"), "payload.critical.type: cosign"),
        (lambda p: p["critical"]["image"].update({"docker-manifest-digest": "sha256:00"}), "about another image"),
        (lambda p: p["critical"]["image"].update({"docker-manifest-digest": None}), "expected str, got null"),
        (lambda p: p["critical"]["identity"].update({"docker-reference": "x y"}), "docker-reference: not an image"),
        (lambda p: p["critical"]["identity"].update({"docker-reference": ""}), "docker-reference: "),
    ],
)
async def test_g01_what_was_signed(
    registry: FakeRegistry, image: Digest, edit: Callable[[dict[str, Any]], None], why: str
) -> None:
    sign_gpg(registry, PATH, image, A, edit_payload=edit)
    found = await outcome(gpg(), image, registry)
    expect(found, why)


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b"null", b'{"critical":', b"\xff\xfe"])
async def test_g01_a_valid_signature_over_invalid_json(registry: FakeRegistry, image: Digest, content: bytes) -> None:
    sign_gpg(registry, PATH, image, A, content=content)
    assert (await outcome(gpg(), image, registry)).startswith("payload: ")


async def test_g01_a_signature_is_no_attestation(registry: FakeRegistry, image: Digest) -> None:
    sign_gpg(registry, PATH, image, A)
    attested = Claim(claim_of(image).subject, "https://slsa.dev/provenance/v1")
    proofs, reasons, _ = await judged(gpg(), attested, registry)
    assert (proofs, reasons) == (set(), ["a signature, not an attestation"])


@pytest.mark.parametrize(
    ("identity", "signed", "accepted"),
    [
        (None, f"registry.test/{PATH}:v1", True),
        (None, f"registry.test/{PATH}:v2", False),
        (None, f"registry.test/{PATH}", False),
        ("repository", f"registry.test/{PATH}:v2", True),
        ("exact", f"registry.test/{PATH}:v1", True),
        ({"reference": "up.io/x:1"}, "up.io/x:1", True),
        ({"repository": "up.io/x"}, "up.io/x:1", True),
        ({"prefix": "registry.test/shop", "signedPrefix": "up.io/shop"}, "up.io/shop/app:v1", True),
        ({"prefix": "registry.test/shop", "signedPrefix": "up.io/shop"}, "up.io/shop/app", False),
    ],
)
async def test_g04_which_name_was_signed(
    registry: FakeRegistry, image: Digest, identity: Any, signed: str, accepted: bool
) -> None:
    sign_gpg(
        registry, PATH, image, A,
        edit_payload=lambda p: p["critical"]["identity"].update({"docker-reference": signed}),
    )  # fmt: skip
    found = await outcome(gpg(**({"identity": identity} if identity else {})), image, registry)
    assert (found == f"GPG:{A.fingerprint}") is accepted
    assert accepted or "which the policy's `identity` does not accept" in found


def test_g04_the_scope_has_the_tag_where_the_rule_looks_at_it() -> None:
    subjects = [Subject(Repository("r.io", "a"), IMAGE, tag, pinned) for tag, pinned in (("v1", False), ("v2", False))]
    one, other = map(Claim, subjects)
    assert gpg().scope(one) != gpg().scope(other)
    assert gpg(identity="repository").scope(one) == gpg(identity="repository").scope(other)
    pinned = [Claim(Subject(Repository("r.io", "a"), IMAGE, tag, pinned=True)) for tag in ("v1", "v2", None)]
    assert len({gpg().scope(claim) for claim in pinned}) == 1


# ── G-03: where signatures lie ───────────────────────────────────────────────────────────────────────────────────────
async def test_g03_signatures_are_numbered_to_the_first_that_is_not_there(
    registry: FakeRegistry, image: Digest
) -> None:
    first = sign_gpg(registry, PATH, image, B)
    assert first == f"{STORE}/{PATH}@sha256={image[7:]}/signature-1"
    sign_gpg(registry, PATH, image, A)
    proofs, reasons, _ = await judged(gpg(), claim_of(image), registry)
    assert [proof.origin for proof in proofs] == ["signature-2"]
    # One bad and one good: the bad one is named only if nothing satisfies.
    assert reasons == [f"signed by unknown key GPG:{B.fingerprint}"]
    assert registry.asked["get"] == 3
    del registry.documents[first]
    assert await judged(gpg(), claim_of(image), registry) == (set(), [], [])


async def test_g03_d01_a_hundred_signatures_are_read_and_no_more(registry: FakeRegistry, image: Digest) -> None:
    for _ in range(limits.MAX_SIGNATURES - 1):
        sign_gpg(registry, PATH, image, B)
    last = sign_gpg(registry, PATH, image, A)
    proofs, reasons, _ = await judged(gpg(), claim_of(image), registry)
    assert len(proofs) == 1
    assert reasons[-1] == "the first 100 signatures were read, and no more"
    registry.documents[last] = registry.documents[last.replace("-100", "-99")]
    sign_gpg(registry, PATH, image, A)
    registry.asked.clear()
    proofs, reasons, _ = await judged(gpg(), claim_of(image), registry)
    assert proofs == set()
    assert reasons[-1] == "the first 100 signatures were read, and no more"
    assert registry.asked["get"] == limits.MAX_SIGNATURES


async def test_g03_d01_bytes_are_counted_over_all_signatures(registry: FakeRegistry, image: Digest) -> None:
    for _ in range(limits.MAX_EVIDENCE // limits.MAX_OPENPGP + 1):
        keep(registry, PATH, image, bytes([0xFF]) * limits.MAX_OPENPGP)
    _, reasons, _ = await judged(gpg(), claim_of(image), registry)
    assert reasons[-1] == "more than 33554432 bytes of signatures in all; the rest was not read"


async def test_g03_one_that_is_too_large_hides_none_behind_it(registry: FakeRegistry, image: Digest) -> None:
    keep(registry, PATH, image, bytes(limits.MAX_OPENPGP + 1))
    sign_gpg(registry, PATH, image, A)
    proofs, reasons, _ = await judged(gpg(), claim_of(image), registry)
    assert len(proofs) == 1
    assert "an answer of more than 4194304 bytes" in reasons[0]


async def test_g03_v03_a_store_that_cannot_be_read_is_an_outage(registry: FakeRegistry, image: Digest) -> None:
    sign_gpg(registry, PATH, image, B)
    second = sign_gpg(registry, PATH, image, A)
    registry.fail(f"get {second}", lambda: Unavailable("lookaside.test: answers 503"))
    proofs, reasons, causes = await judged(gpg(), claim_of(image), registry)
    assert (proofs, causes) == (set(), ["lookaside.test: answers 503"])
    assert len(reasons) == 1


async def test_g03_names_of_formats(registry: FakeRegistry, image: Digest) -> None:
    good = message(A, to_json(payload(PATH, image)))
    keep(registry, PATH, image, b"\0sigstore-json\n{}")
    keep(registry, PATH, image, b"\0simple-signing\n" + good)
    proofs, reasons, _ = await judged(gpg(), claim_of(image), registry)
    assert [proof.origin for proof in proofs] == ["signature-2"]
    assert reasons == []


@pytest.mark.parametrize("trailing", ["", "/", "//"])
async def test_g03_the_address_of_a_store(registry: FakeRegistry, image: Digest, trailing: str) -> None:
    sign_gpg(registry, PATH, image, A)
    assert await outcome(gpg(lookaside=STORE + trailing), image, registry) == f"GPG:{A.fingerprint}"
    assert gpg(lookaside=STORE).sources(claim_of(image)) == ()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "Registry",
        "file:///var/lib/containers/sigstore",
        "ftp://a.test/x",
        "https://",
        "https://user:s3cr3t@a.test/x",
        "https://a.test/x?y=z",
        "https://a.test/x#y",
        "https://a.test/x y",
        "https://a.test/x\n",
        "//a.test/x",
    ],
)
def test_g03_s01_what_is_no_address_of_a_store_is_refused(address: str) -> None:
    with pytest.raises(Invalid, match=r"^\.lookaside: .*neither the address of a store"):
        gpg(lookaside=address)
    assert gpg(lookaside="http://a.test:8080/x").lookaside == "http://a.test:8080/x"


def extension(*contents: bytes, **changed: Any) -> bytes:
    return to_json(
        {
            "signatures": [
                {
                    "schemaVersion": 2,
                    "name": f"x@{i}",
                    "type": "atomic",
                    "content": base64.b64encode(content).decode(),
                    **changed,
                }
                for i, content in enumerate(contents)
            ]
        }
    )


async def test_g03_the_registrys_signature_extension(registry: FakeRegistry, image: Digest) -> None:
    signer = gpg(lookaside="registry")
    claim = claim_of(image)
    assert signer.sources(claim) == (claim.subject.repository,)
    assert await judged(signer, claim, registry) == (set(), [], [])
    good, bad = (message(key, to_json(payload(PATH, image))) for key in (A, B))
    registry.signature_lists[PATH, image] = extension(bad, good)
    proofs, reasons, _ = await judged(signer, claim, registry)
    assert [proof.origin for proof in proofs] == ["signature 2 in the registry"]
    assert reasons == [f"signed by unknown key GPG:{B.fingerprint}"]
    # Nothing is looked for elsewhere.
    assert registry.asked["get"] == 0


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        (b'{"signatures":null}', []),
        (b"{}", []),
        (b"{", ["signatures: not JSON in UTF-8"]),
        (b'{"signatures":[{}]}', ["signatures.signatures[0]: object missing required field schemaVersion"]),
        (extension(b"x", type="sigstore"), []),
        (extension(b"x", schemaVersion=1), []),
        (extension(b"x", content="*"), ["signature 1 in the registry: not base64"]),
        (extension(b"x", content=""), ["signature 1 in the registry: empty"]),
        (extension(*[b"\xff"] * 101), ["signature: cut short"] * 100 + ["the first 100 signatures were read, and no more"]),
    ],
)  # fmt: skip
async def test_g03_lists_of_the_extension(
    registry: FakeRegistry, image: Digest, body: bytes, reasons: list[str]
) -> None:
    registry.signature_lists[PATH, image] = body
    assert await judged(gpg(lookaside="registry"), claim_of(image), registry) == (set(), reasons, [])


async def test_g03_v03_an_extension_that_cannot_be_read_is_an_outage(registry: FakeRegistry, image: Digest) -> None:
    registry.fail("signatures", lambda: Unavailable("registry.test: answers 503"))
    found = await judged(gpg(lookaside="registry"), claim_of(image), registry)
    assert found == (set(), [], ["registry.test: answers 503"])


# ── G-05: isolation ──────────────────────────────────────────────────────────────────────────────────────────────────
async def test_g05_keyrings_of_two_policies_never_mix(registry: FakeRegistry, image: Digest) -> None:
    sign_gpg(registry, PATH, image, A)
    one, other = gpg(certificate(A)), gpg(certificate(B))
    for _ in range(2):
        assert await outcome(one, image, registry) == f"GPG:{A.fingerprint}"
        assert await outcome(other, image, registry) == f"signed by unknown key GPG:{A.fingerprint}"
    # Nor do a key and the same key revoked.
    revoked = gpg(certificate(A, revocation(A) + self_signed(A)))
    assert await outcome(revoked, image, registry) == f"key GPG:{A.fingerprint} has been revoked"
    assert await outcome(one, image, registry) == f"GPG:{A.fingerprint}"
    assert len({one, other, revoked}) == 3


async def test_v01_no_key_accepts_nothing(registry: FakeRegistry, image: Digest) -> None:
    for nothing in (b"", b"\n", packet(10, b"PGP")):
        with pytest.raises(Invalid, match=r"^\.keys: "):
            gpg(nothing)
    sign_gpg(registry, PATH, image, A)
    nobody = Gpg((), gpg().identity, STORE)
    assert await outcome(nobody, image, registry) == f"signed by unknown key GPG:{A.fingerprint}"
    with pytest.raises(Invalid, match=r"spec\.keys: required; spec\.lookaside: required"):
        convert_all({}, GpgSpec, "spec")


def test_m08_a_private_key_is_refused_and_never_repeated() -> None:
    secret = b"s3cr3t-CANARY"
    for keyring in (
        b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + secret + b"\n-----END PGP PRIVATE KEY BLOCK-----",
        packet(5, A.body + secret),
        certificate(A) + packet(7, A.body + secret),
    ):
        with pytest.raises(Invalid, match=r"^\.keys: a private key; give the public key") as refused:
            gpg(keyring)
        assert "CANARY" not in str(refused.value)


def test_all_complaints_come_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        gpg(b"\xff", identity={}, lookaside="x", fingerprints=["x"])
    assert [complaint.partition(":")[0] for complaint in refused.value.complaints] == [
        ".keys",
        ".fingerprints[0]",
        ".identity",
        ".lookaside",
    ]


def test_whom_it_wants_in_words() -> None:
    assert gpg().wanted() == f"key GPG:{A.fingerprint}"
    assert gpg().fingerprints() == (f"GPG:{A.fingerprint}",)
    assert gpg().dangers() == ()
    several = [openpgp_key(name) for name in "abcde"]
    names = [f"GPG:{key.fingerprint}" for key in several]
    ring = gpg(*map(certificate, several))
    assert ring.wanted() == f"key {names[0]} or {names[1]} or {names[2]} or 2 more"
    assert ring.fingerprints() == tuple(names)


# ── nothing escapes ──────────────────────────────────────────────────────────────────────────────────────────────────
GOOD = message(A, to_json(payload(PATH, IMAGE)))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
@example(b"\x8b")
@example(b"\xc2\x00")
@example(packet(2, b"\4" * 12))
@example(packet(4, b"") + packet(11, b"") + packet(2, b""))
def test_c13_v02_random_bytes_are_rejected_and_raise_nothing_else(content: bytes) -> None:
    for signed in (content, GOOD[:40] + content, packet(8, b"\1" + content)):
        assert not checked(gpg(), signed, claim_of(IMAGE)).startswith("GPG:")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(min_value=0, max_value=300))
def test_v02_random_keyrings_are_refused_and_raise_nothing_else(content: bytes, cut: int) -> None:
    for keyring in (content, certificate(A)[:cut] + content, certificate(A) + packet(2, content)):
        try:
            signer = gpg(keyring)
        except Invalid:
            continue
        assert signer.fingerprints() == (f"GPG:{A.fingerprint}",)


@pytest.mark.parametrize("value", [None, {}, [], "", 0, True, "x"])
def test_c13_every_field_replaced_by_everything(value: object) -> None:
    text = payload(PATH, IMAGE)

    def places(node: object, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        return (
            [at, *(p for key, child in node.items() for p in places(child, (*at, key)))]
            if isinstance(node, dict)
            else [at]
        )

    for place in places(text):
        if place[:1] == ("optional",) and len(place) > 1:
            continue
        changed: Any = {"top": copy.deepcopy(text)}
        node = changed
        for key in ("top", *place)[:-1]:
            node = node[key]
        node[("top", *place)[-1]] = value
        if changed["top"] == text or (place == ("optional",) and isinstance(value, dict)):
            continue
        found = checked(gpg(), message(A, json.dumps(changed["top"]).encode()), claim_of(IMAGE))
        assert not found.startswith("GPG:"), place


def test_nothing_heavy_is_loaded_before_a_policy_needs_it() -> None:
    program = "import sys, webhook.formats; print(sorted(m for m in sys.modules if m.split('.')[0] in ('cryptography', 'pysequoia')))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own program
    assert found.stdout == "[]\n"
