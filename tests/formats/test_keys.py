"""Public keys: which are accepted, and what a signature by one is (attacks D-10, C-16, S-08)."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests import captures
from webhook import limits
from webhook.formats._keys import PublicKey, _refuse_weak_rsa, parse_public_keys, short
from webhook.parsing import Invalid
from webhook.trust import Rejected

RSA = rsa.generate_private_key(65_537, 2048)
MESSAGE = b"payload"


def pem(key: PublicKeyTypes, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    return key.public_bytes(Encoding.PEM, form)


def only(data: bytes) -> PublicKey:
    (key,) = parse_public_keys(data, "key")
    return key


def refusal(data: bytes) -> str:
    with pytest.raises(Invalid) as refused:
        parse_public_keys(data, "key")
    assert str(refused.value).startswith("key: ")
    return str(refused.value).removeprefix("key: ")


def test_a_key_is_known_by_its_spki() -> None:
    data = captures.key("cosign.pub")
    key = only(data)
    der = base64.b64decode(b"".join(data.splitlines()[1:-1]))
    assert key.fingerprint == "SHA256:" + hashlib.sha256(der).hexdigest()
    assert key.hint == base64.b64encode(hashlib.sha256(der).digest()).decode()
    assert repr(key) == f"PublicKey({key.fingerprint})"
    assert short(key.fingerprint) == key.fingerprint[:23] + "…"
    # Text around it, line ends and PKCS#1 change nothing.
    assert only(b"my key\n" + data.replace(b"\n", b"\r\n") + b"end") == key
    assert only(pem(RSA.public_key(), PublicFormat.PKCS1)) == only(pem(RSA.public_key()))


def test_several_keys_are_read_each_once() -> None:
    one, two = captures.key("cosign.pub"), captures.key("other.pub")
    assert parse_public_keys(one + two + one, "key") == (only(one), only(two))
    many = b"".join(pem(ed25519.Ed25519PrivateKey.generate().public_key()) for _ in range(limits.MAX_KEYS + 1))
    assert refusal(many) == "more than 32 keys"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no PEM public key"),
        (b"cosign.pub", "no PEM public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA", "no PEM public key"),
        (b"-----BEGIN PUBLIC KEY-----\n-----END PRIVATE-----", "no PEM public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "not a public key that can be read"),
        (b"-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----", "not a public key that can be read"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "a certificate; `key` wants the public key"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----", "only public keys"),
        (b"x" * (limits.MAX_KEY_MATERIAL + 1), "more than 1048576 bytes"),
    ],
)
def test_d10_what_is_no_public_key_is_refused(data: bytes, why: str) -> None:
    assert why in refusal(data)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (rsa.generate_private_key(65_537, 1024).public_key(), "RSA of 1024 bits; accepted: 2048 to 8192"),
        (rsa.generate_private_key(3, 2048).public_key(), "RSA with an exponent below 65537"),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "curve secp256k1; accepted: P-256, P-384, P-521"),
        (ec.generate_private_key(ec.SECP224R1()).public_key(), "curve secp224r1; accepted: P-256, P-384, P-521"),
        (ed448.Ed448PrivateKey.generate().public_key(), "accepted: ECDSA, RSA, Ed25519"),
        (x25519.X25519PrivateKey.generate().public_key(), "accepted: ECDSA, RSA, Ed25519"),
        (dsa.generate_private_key(2048).public_key(), "accepted: ECDSA, RSA, Ed25519"),
    ],
)
def test_d10_weak_and_unusual_keys_are_refused(key: PublicKeyTypes, why: str) -> None:
    assert why in refusal(pem(key))


@pytest.mark.parametrize(
    ("bits", "modulus", "exponent"),
    [
        (8193, 3, 65_537),
        (2047, 3, 65_537),
        (2048, 3, 2**31 + 1),
        (2048, 3, 65_538),
        (2048, 4, 65_537),
    ],
)
def test_d10_keys_made_to_be_slow_or_no_keys_at_all_are_refused(bits: int, modulus: int, exponent: int) -> None:
    with pytest.raises(Invalid, match="RSA"):
        _refuse_weak_rsa(bits, modulus, exponent)


@pytest.mark.parametrize("key", [RSA, ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()])
def test_s08_private_keys_are_refused_and_never_repeated(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        if form is PrivateFormat.TraditionalOpenSSL and isinstance(key, ed25519.Ed25519PrivateKey):
            continue
        data = key.private_bytes(Encoding.PEM, form, NoEncryption())
        message = refusal(captures.key("cosign.pub") + data)
        assert message == "a private key; give the public key, and consider the private one lost"


@pytest.mark.parametrize(
    ("curve", "hashes"),
    [
        (ec.SECP256R1(), [SHA256()]),
        (ec.SECP384R1(), [SHA256(), SHA384()]),
        (ec.SECP521R1(), [SHA256(), SHA512()]),
    ],
)
def test_ecdsa_with_the_hashes_that_signers_use(curve: ec.EllipticCurve, hashes: list[HashAlgorithm]) -> None:
    private = ec.generate_private_key(curve)
    key = only(pem(private.public_key()))
    for algorithm in hashes:
        key.verify(private.sign(MESSAGE, ec.ECDSA(algorithm)), MESSAGE)
    for algorithm in (SHA1(), *(h for h in (SHA256(), SHA384(), SHA512()) if h.name not in {x.name for x in hashes})):
        with pytest.raises(Rejected, match="not signed by SHA256:"):
            key.verify(private.sign(MESSAGE, ec.ECDSA(algorithm)), MESSAGE)


def test_rsa_is_pkcs1_with_sha256() -> None:
    key = only(pem(RSA.public_key()))
    key.verify(RSA.sign(MESSAGE, padding.PKCS1v15(), SHA256()), MESSAGE)
    for scheme, algorithm in (
        (padding.PKCS1v15(), SHA1()),
        (padding.PSS(padding.MGF1(SHA256()), padding.PSS.MAX_LENGTH), SHA256()),
    ):
        with pytest.raises(Rejected):
            key.verify(RSA.sign(MESSAGE, scheme, algorithm), MESSAGE)


@pytest.mark.parametrize("name", ["cosign.pub", "p384.pub", "p521.pub", "rsa.pub", "ed25519.pub"])
@pytest.mark.parametrize("signature", [b"", b"\x00", b"0\x06\x02\x01\x00\x02\x01\x00", b"\x00" * 64, b"\xff" * 256])
def test_no_key_accepts_garbage(name: str, signature: bytes) -> None:
    # Among them r = s = 0, which a verifier without its range check accepts for any message.
    with pytest.raises(Rejected):
        only(captures.key(name)).verify(signature, MESSAGE)


def test_bytes_that_are_no_key_verify_nothing() -> None:
    with pytest.raises(Invalid, match="not a public key that can be read"):
        PublicKey(b"no key").verify(b"", MESSAGE)
