"""Certificate chains as the Notary Project wants them: attack N-10, certificate by certificate, each with one that is accepted."""

import datetime as dt
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.fake.notation import (
    AUTHORITY,
    LEAF,
    Extension,
    Party,
    authority,
    key_usage,
    party,
    private_key,
    raw_signature,
    subject,
    with_sha1,
)
from tests.fake.pki import DAY, NOW
from webhook import limits
from webhook.formats.notation.chain import algorithm_of, begins, ends, read_chain, verify
from webhook.parsing import Invalid
from webhook.trust import Rejected

ROOT = authority("Root")
BETWEEN = authority("Between", ROOT)
LEAF_BC, LEAF_KU, LEAF_EKU = LEAF
NOT_CRITICAL_KU: Extension = (key_usage("digital_signature"), False)


def refusal(chain: list[bytes]) -> str:
    with pytest.raises((Rejected, Invalid)) as refused:
        read_chain(chain)
    return str(refused.value)


def test_a_chain_is_read_whole() -> None:
    leaf = party("Leaf", BETWEEN, begins=NOW - DAY / 2, ends=NOW + DAY / 2)
    chain = read_chain(leaf.chain)
    assert chain.leaf == leaf.certificate
    assert len(chain.certificates) == 3
    assert (begins(chain), ends(chain)) == (NOW - DAY / 2, NOW + DAY / 2)
    assert read_chain(party("Alone").chain).leaf.issuer == party("Alone").certificate.subject


@pytest.mark.parametrize(
    ("leaf", "why"),
    [
        ((LEAF_BC, (key_usage("content_commitment"), True)), "is not for digital signatures"),
        ((LEAF_BC,), "does not say what it is for"),
        ((LEAF_BC, NOT_CRITICAL_KU), "the key usage of its leaf certificate is not critical"),
        *(
            ((LEAF_BC, (key_usage("digital_signature", name), True)), f"is for {name} too")
            for name in ("key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
        ),
        (
            (LEAF_BC, (key_usage("digital_signature", "key_agreement", "encipher_only"), True)),
            "is for key_agreement too",
        ),
        ((*AUTHORITY[:1], LEAF_KU), "its leaf certificate is an authority's"),
        *(
            (
                (LEAF_BC, LEAF_KU, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING, purpose]), False)),
                f"is for {name}",
            )
            for purpose, name in (
                (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, "anyExtendedKeyUsage"),
                (ExtendedKeyUsageOID.SERVER_AUTH, "serverAuth"),
                (ExtendedKeyUsageOID.CLIENT_AUTH, "clientAuth"),
                (ExtendedKeyUsageOID.EMAIL_PROTECTION, "emailProtection"),
                (ExtendedKeyUsageOID.TIME_STAMPING, "timeStamping"),
                (ExtendedKeyUsageOID.OCSP_SIGNING, "OCSPSigning"),
            )
        ),
        ((*LEAF, (x509.NameConstraints([x509.DNSName("x.test")], None), True)), "has the critical extension 2.5.29.30"),
        (
            (*LEAF, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x"), True)),
            "critical extension 1.2.3.4",
        ),
    ],
)
@pytest.mark.parametrize("issuer", [BETWEEN, None], ids=["issued", "self-signed"])
def test_n10_leaves_that_may_not_sign_code(leaf: tuple[Extension, ...], why: str, issuer: Party | None) -> None:
    assert why in refusal(party("Leaf", issuer, leaf).chain)


@pytest.mark.parametrize(
    "leaf",
    [
        LEAF,
        (LEAF_KU,),
        (LEAF_BC, LEAF_KU),
        ((LEAF_BC[0], False), LEAF_KU),
        (LEAF_BC, (key_usage("digital_signature", "content_commitment"), True), LEAF_EKU),
        (LEAF_BC, LEAF_KU, (LEAF_EKU[0], True)),
        (LEAF_BC, LEAF_KU, (x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.2.3.4")]), False)),
        (*LEAF, (x509.SubjectAlternativeName([x509.DNSName("x.test")]), True)),
        (*LEAF, (x509.NameConstraints([x509.DNSName("x.test")], None), False)),
        (*LEAF, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x"), False)),
    ],
)
@pytest.mark.parametrize("issuer", [BETWEEN, None], ids=["issued", "self-signed"])
def test_leaves_that_may(leaf: tuple[Extension, ...], issuer: Party | None) -> None:
    read_chain(party("Leaf", issuer, leaf).chain)


CONSTRAINTS, USAGE = AUTHORITY


@pytest.mark.parametrize(
    ("extensions", "why"),
    [
        ((USAGE,), "certificate 1 of its chain is no authority's"),
        (((CONSTRAINTS[0], False), USAGE), "certificate 1 of its chain is no authority's"),
        ((LEAF_BC, USAGE), "certificate 1 of its chain is no authority's"),
        ((CONSTRAINTS,), "certificate 1 of its chain does not say what it is for"),
        ((CONSTRAINTS, (USAGE[0], False)), "the key usage of certificate 1 of its chain is not critical"),
        ((CONSTRAINTS, (key_usage("digital_signature", "crl_sign"), True)), "certificate 1 of its chain may not sign"),
        ((*AUTHORITY, (x509.NameConstraints(None, [x509.DNSName("x.test")]), True)), "certificate 1 has the critical"),
        ((*AUTHORITY, (x509.PolicyConstraints(0, None), True)), "certificate 1 has the critical extension 2.5.29.36"),
    ],
)
def test_n10_authorities_that_are_none(extensions: tuple[Extension, ...], why: str) -> None:
    assert why in refusal(party("Leaf", authority("Between", ROOT, extensions=extensions)).chain)
    top = authority("Top", extensions=extensions)
    assert why in refusal(party("Leaf", top).chain)


def constrained(name: str, length: int, issuer: Party | None = None) -> Party:
    return authority(name, issuer, extensions=((x509.BasicConstraints(ca=True, path_length=length), True), USAGE))


def test_n10_path_lengths_hold() -> None:
    read_chain(party("Leaf", constrained("Between", 0, ROOT)).chain)
    read_chain(party("Leaf", constrained("Between", 0, constrained("Root", 1))).chain)
    below = party("Leaf", authority("Lower", constrained("Between", 0, ROOT)))
    assert "certificate 2 of its chain allows 0 authorities below it" in refusal(below.chain)
    assert "certificate 2 of its chain allows 0" in refusal(
        party("Leaf", authority("Between", constrained("Root", 0))).chain
    )


def test_n10_a_chain_is_complete_ordered_and_nothing_else() -> None:
    leaf = party("Leaf", BETWEEN)
    mine, between, root = leaf.chain
    assert "certificate 1 of its chain was not issued by itself, so the chain is not complete" in refusal(
        [mine, between]
    )
    assert "certificate 0 of its chain was not issued by itself" in refusal([mine])
    assert "its leaf certificate is an authority's" in refusal([between, mine, root])
    assert "certificate 1 of its chain was not issued by certificate 2" in refusal([mine, root, between, root])
    assert "was not issued by certificate" in refusal([mine, authority("Other", ROOT).der, between, root])
    assert "certificate 2 of its chain is self-signed, and not the last" in refusal([mine, between, root, root])
    assert "certificate 0 of its chain is self-signed, and not the last" in refusal(
        [party("Twin", key="P-256 twin").der, authority("Twin", key="P-256 twin").der]
    )
    assert "its certificate chain is empty" in refusal([])
    assert f"more than {limits.MAX_CHAIN} certificates" in refusal([mine] * (limits.MAX_CHAIN + 1))


def test_n10_the_same_name_is_not_the_same_key() -> None:
    forged = party("Leaf", authority("Between", ROOT, key="P-256 forged"))
    assert "certificate 0 of its chain was not issued by certificate 1" in refusal([forged.der, *BETWEEN.chain])
    # Nor the same key the same name.
    renamed = party("Leaf", BETWEEN, issuer_name=subject("Somebody"))
    assert "certificate 0 of its chain was not issued by certificate 1" in refusal(renamed.chain)


def test_d01_the_longest_chain_is_read() -> None:
    above = ROOT
    for i in range(limits.MAX_INTERMEDIATES):
        above = authority(f"Between {i}", above)
    assert len(read_chain(party("Leaf", above).chain).certificates) == limits.MAX_CHAIN


@pytest.mark.parametrize("key", ["RSA-1024", "P-192"])
def test_n10_d10_weak_keys_anywhere_in_the_chain(key: str) -> None:
    accepted = "accepted: "
    assert accepted in refusal(party("Leaf", BETWEEN, key=key).chain)
    assert accepted in refusal(party("Leaf", authority("Between", ROOT, key=key)).chain)
    assert accepted in refusal(party("Leaf", authority("Root", key=key)).chain)


def test_n10_sha1_anywhere_in_the_chain() -> None:
    root = authority("Root", key="RSA-2048")
    read_chain(party("Leaf", root).chain)
    old_leaf = with_sha1(party("Leaf", root))
    assert refusal(old_leaf.chain) == "a certificate of its chain is signed with sha1"
    old_root = with_sha1(root)
    assert refusal(party("Leaf", old_root).chain) == "a certificate of its chain is signed with sha1"


def test_an_authority_may_have_a_key_that_signers_may_not() -> None:
    edwards = authority("Root", key="Ed25519")
    read_chain(party("Leaf", edwards).chain)
    alone = read_chain(party("Leaf", key="Ed25519").chain)
    with pytest.raises(Rejected, match="its key is none that may sign: RSA of 2048, 3072 or 4096 bits"):
        algorithm_of(alone.leaf)


def test_what_cannot_be_read_is_refused() -> None:
    der = party("Leaf").der
    assert "certificate 0: not a certificate that can be read" in refusal([b"x"])
    # Version 4, and a name constraint that is none.
    assert "certificate 0: not a certificate that can be read" in refusal(
        [der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03", 1)]
    )
    assert f"certificate 0: more than {limits.MAX_CERTIFICATE} bytes" in refusal([b"x" * (limits.MAX_CERTIFICATE + 1)])
    twice = (*LEAF, (x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), b"x"), False))
    bent = party("Leaf", None, twice).der.replace(b"\x55\x1d\x63", b"\x55\x1d\x0f")
    assert "certificate 0: extensions that cannot be read" in refusal([bent])


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        ("RSA-2048", "PS256"),
        ("RSA-3072", "PS384"),
        ("RSA-4096", "PS512"),
        ("P-256", "ES256"),
        ("P-384", "ES384"),
        ("P-521", "ES512"),
    ],
)
def test_n11_the_key_decides_about_the_algorithm(key: str, algorithm: str) -> None:
    leaf = party("Leaf", key=key)
    good = raw_signature(leaf.private, b"message", algorithm)
    assert algorithm_of(leaf.certificate) == algorithm
    verify(leaf.certificate, algorithm, good, b"message")
    for other in {"PS256", "PS384", "PS512", "ES256", "ES384", "ES512"} - {algorithm}:
        with pytest.raises(Rejected, match=f"its algorithm is {other}, and its key's is {algorithm}"):
            verify(leaf.certificate, other, good, b"message")
    wrong: Any = [good[:-1] + bytes([good[-1] ^ 1]), good[::-1], good[:-1], good + b"\0", b"", b"\0" * len(good)]
    for signature in wrong:
        with pytest.raises(Rejected, match=r"not made by its certificate's key|not the length"):
            verify(leaf.certificate, algorithm, signature, b"message")
    with pytest.raises(Rejected, match="not made by its certificate's key"):
        verify(leaf.certificate, algorithm, good, b"another")
    if algorithm.startswith("ES"):
        # The same two numbers, written otherwise.
        half = len(good) // 2
        with pytest.raises(Rejected, match="its signature has not the length of its curve's"):
            verify(leaf.certificate, algorithm, good[:half] + b"\0" + good[half:], b"message")


def test_n11_a_weaker_hash_under_the_right_name_is_no_signature() -> None:
    leaf = party("Leaf", key="P-384")
    with pytest.raises(Rejected, match="not made by"):
        verify(leaf.certificate, "ES384", raw_signature(leaf.private, b"message", "ES256"), b"message")
    odd = party("Leaf", key="RSA-2560")
    with pytest.raises(Rejected, match="its key is none that may sign"):
        verify(odd.certificate, "PS256", raw_signature(private_key("RSA-2560"), b"m", "PS256"), b"m")


def test_validity_is_of_all_certificates_together() -> None:
    late = authority("Root", begins=NOW - dt.timedelta(hours=1), ends=NOW + 2 * DAY)
    chain = read_chain(party("Leaf", late, ends=NOW + DAY / 4).chain)
    assert (begins(chain), ends(chain)) == (NOW - dt.timedelta(hours=1), NOW + DAY / 4)
