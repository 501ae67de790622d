"""Distinguished names: what policies may write, whom that names, and what a certificate is called."""

import time

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from tests.fake.notation import party, subject
from webhook import limits
from webhook.formats.notation.names import claimed, describe, overlap, parse_identity, subject_of
from webhook.parsing import Invalid
from webhook.policy.names import parse_name
from webhook.trust import Rejected

BASE = "x509.subject: C=US, ST=WA, O=Acme"
NAMED = frozenset({("2.5.4.6", "US"), ("2.5.4.8", "WA"), ("2.5.4.10", "Acme")})


def name(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (BASE, {}),
        ("x509.subject:C=US,ST=WA,O=Acme", {}),
        ("x509.subject:  O=Acme ,  ST=WA ,C=US  ", {}),
        ("x509.subject: c=US, st=WA, o=Acme", {}),
        (f"{BASE}, CN=a, OU=b, L=c", {"2.5.4.3": "a", "2.5.4.11": "b", "2.5.4.7": "c"}),
        (f"{BASE}, 1.2.840.113549.1.9.1=a@b", {"1.2.840.113549.1.9.1": "a@b"}),
        (f"{BASE}, 2.5.4.3=a", {"2.5.4.3": "a"}),
        (rf"{BASE}, CN=a\, b\; c\\d", {"2.5.4.3": r"a, b; c\d"}),
        (rf"{BASE}, CN=\ a\ ", {"2.5.4.3": " a "}),
        (rf"{BASE}, CN=a\ \ , L=x", {"2.5.4.3": "a  ", "2.5.4.7": "x"}),
        (rf"{BASE}, CN=\#a", {"2.5.4.3": "#a"}),
        (rf"{BASE}, CN=a#b=c", {"2.5.4.3": "a#b=c"}),
        (rf"{BASE}, CN=\c3\bc\41", {"2.5.4.3": "üA"}),
        (rf"{BASE}, CN=a\\", {"2.5.4.3": "a\\"}),
        (f"{BASE}, CN=ü", {"2.5.4.3": "ü"}),
    ],
)
def test_names_that_policies_write(text: str, more: dict[str, str]) -> None:
    assert parse_identity(text) == NAMED | frozenset(more.items())


def test_anybody_is_one_character() -> None:
    assert parse_identity("*") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "write x509.subject: C=…"),
        ("**", "write x509.subject: C=…"),
        ("C=US, ST=WA, O=Acme", "write x509.subject: C=…"),
        ("x509.issuer: C=US, ST=WA, O=Acme", "write x509.subject: C=…"),
        ("x509.subject:", "not TYPE=value"),
        ("x509.subject: *", "not TYPE=value"),
        (f"{BASE},", "not TYPE=value"),
        (f"{BASE}, =x", "not TYPE=value"),
        (f"{BASE}, XX=x", "not TYPE=value"),
        (f"{BASE}, 3.1=x", "not TYPE=value"),
        (f"{BASE}, 2.05=x", "not TYPE=value"),
        (f"{BASE}, CN=", "an attribute without a value"),
        (f"{BASE}, CN=  ", "an attribute without a value"),
        (f"{BASE}, C=DE", "C stands twice"),
        (f"{BASE}, 2.5.4.6=DE", "C stands twice"),
        ("x509.subject: C=US, ST=WA", "lacks O; C, ST and O are mandatory"),
        ("x509.subject: O=Acme", "lacks C, ST; C, ST and O"),
        (f"{BASE}+CN=x", "must be escaped"),
        (f'{BASE}, CN="x"', "must be escaped"),
        (f"{BASE}; CN=x", "must be escaped"),
        (f"{BASE}, CN=<x", "must be escaped"),
        (f"{BASE}, CN=#0403", "# must be escaped"),
        (f"{BASE}, CN= #0403", "# must be escaped"),
        (rf"{BASE}, CN=a\b", "a backslash before what needs none"),
        (rf"{BASE}, CN=a\g", "a backslash before what needs none"),
        ("x509.subject: C=US, ST=WA, O=Acme, CN=a\\", "a backslash before what needs none"),
        (rf"{BASE}, CN=\ff", "not UTF-8"),
        (f"{BASE}, CN={'x' * limits.MAX_DISTINGUISHED_NAME}", f"more than {limits.MAX_DISTINGUISHED_NAME} characters"),
    ],
)
def test_n02_n12_names_that_are_none(text: str, why: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_identity(text)
    assert why in str(refused.value)


def test_c08_a_name_says_what_it_is_and_may_have_any_attributes() -> None:
    assert parse_name("x509.subject:OU=a,OU=b") == {("2.5.4.11", "a"), ("2.5.4.11", "b")}
    with pytest.raises(Invalid, match=r"^OU=a: write x509\.subject: C=…"):
        parse_name("OU=a")


@pytest.mark.parametrize("piece", ["=#", "\\", ",", "#" * 900, "CN=#0403,", "\\,", "a=b+"])
def test_n02_no_name_takes_long(piece: str) -> None:
    begun = time.monotonic()
    with pytest.raises(Invalid):
        parse_identity(f"{BASE}, {piece * 900}"[: limits.MAX_DISTINGUISHED_NAME])
    assert time.monotonic() - begun < 0.05


def test_n02_a_certificate_with_such_a_name_is_compared_as_it_stands() -> None:
    odd = name(
        (NameOID.COUNTRY_NAME, "US"),
        (NameOID.STATE_OR_PROVINCE_NAME, "WA"),
        (NameOID.ORGANIZATION_NAME, "Acme"),
        (NameOID.COMMON_NAME, "=#" * 30),
    )
    certificate = party("x", name=odd).certificate
    assert subject_of(certificate) > NAMED
    assert describe(certificate).endswith("CN=" + "=#" * 30)


def test_containment_is_exact() -> None:
    found = subject_of(party("Signer", name=subject("Signer", OU="build")).certificate)
    for text in (BASE, f"{BASE}, CN=Signer", f"{BASE}, OU=build", f"{BASE}, OU=build, CN=Signer"):
        assert (parse_identity(text) or {("", "")}) <= found
    for text in (f"{BASE}, CN=signer", f"{BASE}, CN=Sign", f"{BASE}, L=x", BASE.replace("Acme", "Acme2")):
        assert not (parse_identity(text) or frozenset()) <= found


def test_overlapping_is_containment_either_way() -> None:
    def names(*texts: str) -> list[frozenset[tuple[str, str]]]:
        return [parse_identity(text) or frozenset() for text in texts]

    assert overlap(names(BASE, f"{BASE}, CN=x"))
    assert overlap(names(f"{BASE}, CN=x", BASE))
    assert overlap(names(BASE, BASE))
    assert not overlap(names(f"{BASE}, CN=x", f"{BASE}, CN=y"))
    assert not overlap(names(BASE))
    assert not overlap([])


def test_ambiguous_subjects_are_refused() -> None:
    twice = name((NameOID.ORGANIZATIONAL_UNIT_NAME, "a"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "b"))
    many = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "b")]
            )
        ]
    )
    for odd in (twice, many):
        certificate = party("x", name=odd).certificate
        with pytest.raises(Rejected, match="two attributes of one kind, or several in one part"):
            subject_of(certificate)
    certificate = party("x", name=twice).certificate
    assert describe(certificate) == "x509.subject: OU=a, OU=b"
    # Denied is whoever has one of them.
    assert claimed(certificate) == parse_name("x509.subject: OU=b, OU=a") > parse_name("x509.subject: OU=b")


def test_a_bit_string_in_a_subject_is_shown_in_hex() -> None:
    bits = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\x01\xff", x509.name._ASN1Type.BitString)
    certificate = party("x", name=x509.Name([bits])).certificate
    assert describe(certificate) == r"x509.subject: 2.5.4.45=\#01ff"
    assert subject_of(certificate) == {("2.5.4.45", "#01ff")}


def test_a_subject_that_cannot_be_read_is_refused() -> None:
    der = party("x", name=subject("Signer \u00fc")).der
    certificate = x509.load_der_x509_certificate(der.replace("\u00fc".encode(), b"\xff\xff"))
    for read in (subject_of, describe):
        with pytest.raises(Rejected, match="its certificate's subject cannot be read"):
            read(certificate)


def test_attributes_are_shown_in_one_order_and_in_printable_ascii() -> None:
    mixed = name((NameOID.COMMON_NAME, "n\u00fc\u202e"), (NameOID.COUNTRY_NAME, "US"), (NameOID.EMAIL_ADDRESS, "a@b"))
    assert (
        describe(party("x", name=mixed).certificate)
        == r"x509.subject: C=US, CN=n\c3\bc\e2\80\ae, 1.2.840.113549.1.9.1=a@b"
    )


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20).filter(
        lambda text: "\x00" not in text
    )
)
def test_what_a_certificate_is_called_names_it_in_a_policy(value: str) -> None:
    certificate = _named(value)
    shown = describe(certificate)
    assert all(" " <= character <= "~" for character in shown)
    assert parse_identity(shown) == subject_of(certificate)
    assert parse_name(shown) == claimed(certificate)


def _named(value: str) -> x509.Certificate:
    """A certificate by that name; made once, as far as a name may have so many characters."""
    return party("named", name=subject("named", CN=value[:64])).certificate
