"""What issuers say of their certificates: OCSP answers and revocation lists, good, bad and meant for somebody else (attack N-08)."""

import contextlib
import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from asn1crypto import ocsp as asn1_ocsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ReasonFlags, ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from tests import captures
from tests.fake.notation import (
    AUTHORITY,
    LEAF,
    Entry,
    Extension,
    Party,
    authority,
    delta_at,
    key_usage,
    list_at,
    ocsp_answer,
    party,
    responder_at,
    revocation_list,
    with_sha1,
)
from tests.fake.pki import DAY, NOW
from webhook import limits
from webhook.formats import _revocation
from webhook.formats._revocation import List, Revoked, Undetermined, check_list, check_ocsp, questions_about
from webhook.parsing import Invalid

SECOND = dt.timedelta(seconds=1)
URL = "http://crl.test/ca.crl"
CA = authority("CA")
LEAF_OF_CA = party("Leaf", CA, more=(list_at([URL]), responder_at("http://ocsp.test/")))
OTHER = party("Other", CA)
OTHER_CA = authority("CA", key="P-256 another")


def responder(
    issuer: Party = CA,
    purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.OCSP_SIGNING,),
    *,
    no_check: bool = True,
    **options: Any,
) -> Party:
    """Whom an issuer has appointed to answer for it."""
    own: list[Extension] = [*LEAF[:2], (x509.ExtendedKeyUsage(list(purposes)), False)]
    if no_check:
        own.append((x509.OCSPNoCheck(), False))
    return party("Responder", issuer, own, **options)


def by_ocsp(answer: bytes, signed_at: dt.datetime | None = None, who: Party = LEAF_OF_CA) -> dt.datetime:
    assert who.issuer is not None
    return check_ocsp(answer, who.certificate, who.issuer.certificate, NOW, signed_at)


def by_list(
    base: bytes, delta: bytes | None = None, signed_at: dt.datetime | None = None, who: Party = LEAF_OF_CA
) -> dt.datetime:
    assert who.issuer is not None
    return check_list(List(base, delta), (URL,), who.certificate, who.issuer.certificate, NOW, signed_at)


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_a_certificate_says_of_itself() -> None:
    questions = questions_about(LEAF_OF_CA.certificate)
    assert questions == _revocation.Questions(("http://ocsp.test/",), ((URL,),), ())
    assert questions
    assert not questions_about(OTHER.certificate)
    many = party(
        "Many",
        CA,
        more=(
            list_at([URL, f"{URL}2"], *[[f"{URL}{i}"] for i in range(9)]),
            responder_at(*[f"http://{i}.test/" for i in range(9)]),
            (delta_at("http://crl.test/delta"), False),
        ),
    )
    found = questions_about(many.certificate)
    assert found.lists[0] == (URL, f"{URL}2")
    assert (len(found.lists), len(found.responders)) == (limits.MAX_REVOCATION_URLS, limits.MAX_REVOCATION_URLS)
    assert found.deltas == ("http://crl.test/delta",)


def test_a_point_without_a_name_is_one_that_nobody_can_ask() -> None:
    relative = x509.RelativeDistinguishedName([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    point = x509.CRLDistributionPoints([x509.DistributionPoint(None, relative, None, None)])
    issuers = x509.AuthorityInformationAccess(
        [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://x/"))]
    )
    found = questions_about(party("x", CA, more=((point, False), (issuers, False))).certificate)
    assert (found.lists, found.responders) == (((),), ())
    assert found


def test_a_certificate_that_cannot_be_read_is_refused() -> None:
    twice = party("x", CA, more=((x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), b"x"), False),))
    bent = x509.load_der_x509_certificate(twice.der.replace(b"\x55\x1d\x63", b"\x55\x1d\x0f"))
    with pytest.raises(Invalid, match="extensions that cannot be read"):
        questions_about(bent)


def test_a_request_names_the_certificate() -> None:
    asked = ocsp.load_der_ocsp_request(_revocation.request(LEAF_OF_CA.certificate, CA.certificate))
    assert asked.serial_number == LEAF_OF_CA.certificate.serial_number
    assert len(list(asked.extensions)) == 0


# ── OCSP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_n08_good_and_revoked() -> None:
    assert by_ocsp(ocsp_answer(LEAF_OF_CA)) == NOW + DAY
    assert by_ocsp(ocsp_answer(LEAF_OF_CA, named_by=hashes.SHA256())) == NOW + DAY
    with pytest.raises(Revoked, match="its issuer has revoked it on 2026-11-23"):
        by_ocsp(ocsp_answer(LEAF_OF_CA, revoked=True))


@pytest.mark.parametrize("key", ["RSA-2048", "P-384", "Ed25519"])
def test_issuers_of_every_kind_of_key(key: str) -> None:
    ca = authority("CA", key=key)
    leaf = party("Leaf", ca, more=(list_at([URL]),))
    assert by_ocsp(ocsp_answer(leaf), who=leaf) == NOW + DAY
    assert by_list(revocation_list(ca), who=leaf) == NOW + DAY
    with pytest.raises(Undetermined):
        by_ocsp(ocsp_answer(leaf, by=authority("CA", key=f"{key} other")), who=leaf)
    with pytest.raises(Undetermined):
        by_list(revocation_list(ca, by=authority("CA", key=f"{key} other")), who=leaf)


def test_whom_the_issuer_has_appointed_may_answer() -> None:
    appointed = responder()
    assert by_ocsp(ocsp_answer(LEAF_OF_CA, by=appointed, certificates=[appointed])) == NOW + DAY
    assert by_ocsp(ocsp_answer(LEAF_OF_CA, by=appointed, certificates=[OTHER, appointed])) == NOW + DAY


@pytest.mark.parametrize(
    "by",
    [
        responder(OTHER_CA),
        responder(purposes=[ExtendedKeyUsageOID.CODE_SIGNING]),
        responder(no_check=False),
        responder(begins=NOW + SECOND),
        responder(ends=NOW - SECOND),
        responder(key="RSA-1024"),
        party("Responder", CA, [*AUTHORITY, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)]),
        LEAF_OF_CA,
        OTHER_CA,
    ],
    ids=[
        "another's",
        "another purpose",
        "revocable",
        "too early",
        "too late",
        "weak",
        "an authority",
        "itself",
        "a namesake",
    ],
)
def test_n08_nobody_else_may(by: Party) -> None:
    with pytest.raises(Undetermined, match="signed by nobody whom the issuer has appointed"):
        by_ocsp(ocsp_answer(LEAF_OF_CA, by=by, certificates=[by]))


def test_n08_an_appointed_one_that_is_not_shown_cannot_answer() -> None:
    with pytest.raises(Undetermined, match="signed by nobody"):
        by_ocsp(ocsp_answer(LEAF_OF_CA, by=responder()))
    crowd = [party(f"Crowd {i}", CA) for i in range(limits.MAX_INTERMEDIATES)]
    with pytest.raises(Undetermined, match="signed by nobody"):
        by_ocsp(ocsp_answer(LEAF_OF_CA, by=responder(), certificates=[*crowd, responder()]))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "cannot be read"),
        (b"garbage", "cannot be read"),
        (ocsp_answer(LEAF_OF_CA)[:-1], "cannot be read"),
        (b"\x30\x03\x0a\x01\x03", "answers try later"),
        (b"\x30\x03\x0a\x01\x06", "answers unauthorized"),
        (ocsp_answer(LEAF_OF_CA, about=OTHER), "about another certificate"),
        (ocsp_answer(LEAF_OF_CA, status=ocsp.OCSPCertStatus.UNKNOWN), "does not know the certificate"),
        (ocsp_answer(LEAF_OF_CA, ends=NOW), "is over"),
        (ocsp_answer(LEAF_OF_CA, ends=None), "does not say until when it holds"),
        (ocsp_answer(LEAF_OF_CA, begins=NOW + SECOND * 301), "of a time to come"),
        (
            ocsp_answer(
                LEAF_OF_CA, extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"x"), True)]
            ),
            "a critical extension",
        ),
    ],
)
def test_n08_answers_that_do_not_tell(answer: bytes, why: str) -> None:
    with pytest.raises(Undetermined, match=why):
        by_ocsp(answer)
    telling = _revocation.answers(answer, LEAF_OF_CA.certificate, CA.certificate)
    # Whether it is over is a matter of time, which whoever asks does not look at.
    assert telling == ("over" in why or "until when" in why or "to come" in why)


def test_n08_an_answer_about_several_does_not_tell() -> None:
    answer = asn1_ocsp.OCSPResponse.load(ocsp_answer(LEAF_OF_CA))
    basic = answer["response_bytes"]["response"].parsed
    basic["tbs_response_data"]["responses"] = [*basic["tbs_response_data"]["responses"]] * 2
    answer["response_bytes"]["response"] = basic
    with pytest.raises(Undetermined, match="about several certificates"):
        by_ocsp(answer.dump(force=True))


def test_n08_weak_hashes_do_not_tell() -> None:
    with pytest.raises(Undetermined, match="signed by nobody"):
        by_ocsp(ocsp_answer(LEAF_OF_CA, hashed=hashes.SHA224()))
    ca = authority("CA", key="RSA-2048")
    leaf = party("Leaf", ca)
    appointed, old = responder(ca), with_sha1(responder(ca))
    assert by_ocsp(ocsp_answer(leaf, by=appointed, certificates=[appointed]), who=leaf) == NOW + DAY
    with pytest.raises(Undetermined, match="signed by nobody"):
        by_ocsp(ocsp_answer(leaf, by=old, certificates=[old]), who=leaf)


def test_n08_another_kind_of_signature_is_none() -> None:
    with pytest.raises(Undetermined, match="signed by nobody"):
        by_ocsp(ocsp_answer(LEAF_OF_CA, by=authority("CA", key="Ed25519 other")))


def test_a_responder_that_cannot_be_read_is_not_appointed() -> None:
    more = (x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), b"x"), False)
    own = responder(more=(more,))
    bent = x509.load_der_x509_certificate(own.der.replace(b"\x55\x1d\x63", b"\x55\x1d\x0f"))
    odd = Party(bent, own.private, CA)
    with pytest.raises(Undetermined, match="signed by nobody"):
        by_ocsp(ocsp_answer(LEAF_OF_CA, by=odd, certificates=[odd]))


def test_a_clock_that_is_a_little_ahead_is_nothing() -> None:
    assert by_ocsp(ocsp_answer(LEAF_OF_CA, begins=NOW + SECOND * 299)) == NOW + DAY
    assert by_list(revocation_list(CA, begins=NOW + SECOND * 299)) == NOW + DAY


def test_an_answer_about_the_same_number_of_another_issuer_does_not_tell() -> None:
    namesake = Party(LEAF_OF_CA.certificate, LEAF_OF_CA.private, OTHER_CA)
    with pytest.raises(Undetermined, match="about another certificate"):
        by_ocsp(ocsp_answer(namesake, by=CA))


# ── lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_n08_listed_and_not_listed() -> None:
    assert by_list(revocation_list(CA)) == NOW + DAY
    assert by_list(revocation_list(CA, Entry(OTHER))) == NOW + DAY
    for reason in (None, ReasonFlags.key_compromise, ReasonFlags.superseded, ReasonFlags.certificate_hold):
        with pytest.raises(Revoked, match="its issuer has revoked it on 2026-11-23"):
            by_list(revocation_list(CA, Entry(OTHER), Entry(LEAF_OF_CA, reason)))


def scope(**options: Any) -> tuple[Extension]:
    names = options.pop("names", None)
    values = {
        "full_name": None if names is None else [x509.UniformResourceIdentifier(name) for name in names],
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return ((x509.IssuingDistributionPoint(**{**values, **options}), True),)


RELATIVE = x509.RelativeDistinguishedName([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])

_FOR_OTHERS: tuple[dict[str, Any], ...] = (
    {"names": ["http://crl.test/another.crl"]},
    {"relative_name": RELATIVE},
    {"names": [URL], "only_some_reasons": frozenset({ReasonFlags.key_compromise})},
    {"names": [URL], "indirect_crl": True},
    {"only_contains_attribute_certs": True},
    {"only_contains_ca_certs": True},
)


@pytest.mark.parametrize(
    ("base", "why"),
    [
        (b"", "cannot be read"),
        (b"garbage", "cannot be read"),
        (revocation_list(OTHER_CA), "not signed by the certificate's issuer"),
        (revocation_list(CA, by=OTHER), "not signed by the certificate's issuer"),
        (revocation_list(CA, name=OTHER.certificate.subject), "not signed by the certificate's issuer"),
        (revocation_list(CA, ends=NOW), "is over"),
        (revocation_list(CA, begins=NOW + SECOND * 301), "of a time to come"),
        (revocation_list(CA, hashed=hashes.SHA224()), "signed with sha224"),
        (
            revocation_list(CA, extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"x"), True)]),
            "critical extension 1.2.3",
        ),
        (revocation_list(CA, extensions=[(x509.DeltaCRLIndicator(1), True)]), "a delta list in place of"),
        *((revocation_list(CA, extensions=scope(**options)), "not about such certificates") for options in _FOR_OTHERS),
    ],
)
def test_n08_lists_that_do_not_tell(base: bytes, why: str) -> None:
    with pytest.raises(Undetermined, match=why):
        by_list(base)


def test_lists_about_such_certificates() -> None:
    known: tuple[dict[str, Any], ...] = (
        {"names": [URL]},
        {"names": ["http://elsewhere/", URL]},
        {"only_contains_user_certs": True},
    )
    for options in known:
        assert by_list(revocation_list(CA, extensions=scope(**options))) == NOW + DAY
    below = authority("Below", CA, more=(list_at([URL]),))
    of_authorities = revocation_list(CA, extensions=scope(only_contains_ca_certs=True))
    assert by_list(of_authorities, who=below) == NOW + DAY
    with pytest.raises(Undetermined, match="not about such"):
        by_list(revocation_list(CA, extensions=scope(only_contains_user_certs=True)), who=below)
    bare = party("Bare", CA, LEAF[1:])
    assert by_list(revocation_list(CA, extensions=scope(only_contains_user_certs=True)), who=bare) == NOW + DAY


def test_n08_an_authority_that_may_not_sign_lists_does_not_tell() -> None:
    constraints = AUTHORITY[0]
    silent = authority("CA", extensions=(constraints, (key_usage("key_cert_sign"), True)))
    leaf = party("Leaf", silent)
    with pytest.raises(Undetermined, match="not signed by the certificate's issuer"):
        by_list(revocation_list(silent), who=leaf)
    anything = authority("CA", extensions=(constraints,))
    assert by_list(revocation_list(anything), who=party("Leaf", anything)) == NOW + DAY


def test_n08_a_list_that_is_over_still_tells_of_what_is_for_ever() -> None:
    def over(*entries: Entry) -> bytes:
        return revocation_list(CA, *entries, ends=NOW - SECOND)

    with pytest.raises(Revoked):
        by_list(over(Entry(LEAF_OF_CA)))
    with pytest.raises(Undetermined, match="is over"):
        by_list(over(Entry(LEAF_OF_CA, ReasonFlags.certificate_hold)))
    with pytest.raises(Undetermined, match="is over"):
        by_list(over(Entry(LEAF_OF_CA, invalid_since=NOW)), signed_at=NOW - SECOND)


def test_n08_since_when_it_is_invalid() -> None:
    since = revocation_list(CA, Entry(LEAF_OF_CA, invalid_since=NOW))
    assert by_list(since, signed_at=NOW - SECOND) == NOW + DAY
    for signed_at in (None, NOW, NOW + SECOND):
        with pytest.raises(Revoked):
            by_list(since, signed_at=signed_at)
    with pytest.raises(Revoked):
        by_list(revocation_list(CA, Entry(LEAF_OF_CA)), signed_at=NOW - SECOND)
    without_reason = revocation_list(CA, Entry(LEAF_OF_CA, None, invalid_since=NOW))
    assert by_list(without_reason, signed_at=NOW - SECOND) == NOW + DAY
    # What must be understood of an entry and is not may well be why it counts.
    critical = ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"x"), True),)
    with pytest.raises(Revoked):
        by_list(revocation_list(CA, Entry(LEAF_OF_CA, invalid_since=NOW, more=critical)), signed_at=NOW - SECOND)


# ── deltas ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def delta(*entries: Entry, begins: int = 5, number: int | None = 7, **options: Any) -> bytes:
    """What changed since list `begins`."""
    return revocation_list(CA, *entries, number=number, extensions=[(x509.DeltaCRLIndicator(begins), True)], **options)


def base(*entries: Entry, **options: Any) -> bytes:
    return revocation_list(CA, *entries, number=options.pop("number", 5), **options)


def test_n08_what_changed_since_counts() -> None:
    assert by_list(base(), delta()) == NOW + DAY
    assert by_list(base(), delta(ends=NOW + SECOND)) == NOW + SECOND
    with pytest.raises(Revoked):
        by_list(base(), delta(Entry(LEAF_OF_CA)))
    with pytest.raises(Revoked):
        by_list(base(Entry(LEAF_OF_CA)), delta())
    # On hold, and taken back; for ever, and not.
    back = Entry(LEAF_OF_CA, ReasonFlags.remove_from_crl)
    assert by_list(base(Entry(LEAF_OF_CA, ReasonFlags.certificate_hold)), delta(back)) == NOW + DAY
    assert by_list(base(), delta(back)) == NOW + DAY
    with pytest.raises(Revoked):
        by_list(base(Entry(LEAF_OF_CA)), delta(back))
    with pytest.raises(Revoked):
        by_list(base(Entry(LEAF_OF_CA, ReasonFlags.certificate_hold)), delta(Entry(LEAF_OF_CA)))


def test_an_older_delta_adds_nothing() -> None:
    assert by_list(base(number=9), delta(Entry(LEAF_OF_CA), begins=5, number=7)) == NOW + DAY
    with pytest.raises(Revoked):
        by_list(base(number=7), delta(Entry(LEAF_OF_CA), begins=5, number=7))


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (base(), b"garbage", "cannot be read"),
        (base(), revocation_list(OTHER_CA, extensions=[(x509.DeltaCRLIndicator(5), True)]), "not signed by"),
        (base(), delta(ends=NOW), "the delta list is over"),
        (base(), delta(begins=6), "the delta list begins after the revocation list"),
        (base(), base(), "does not say what it is a change of"),
        (base(), delta(number=None), "does not say what it is a change of"),
        (base(number=None), delta(), "does not say what it is a change of"),
        (
            base(),
            revocation_list(CA, number=7, extensions=[(x509.DeltaCRLIndicator(5), True), *scope(names=["http://x/"])]),
            "not about such",
        ),
    ],
)
def test_n08_deltas_that_do_not_tell(first: bytes, second: bytes, why: str) -> None:
    with pytest.raises(Undetermined, match=why):
        by_list(first, second)


def test_a_list_says_where_its_changes_are() -> None:
    assert _revocation.delta_urls(revocation_list(CA, extensions=[(delta_at("http://x/"), False)])) == ("http://x/",)
    assert _revocation.delta_urls(revocation_list(CA)) == ()
    assert _revocation.delta_urls(b"garbage") == ()


# ── what others wrote ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ["signer.ocsp", "revoked.ocsp", "intermediate.crl", "root.crl"])
def test_any_byte_changed_leaves_nothing_told(name: str) -> None:
    """But for the signature itself, which another valid one could replace, every byte is signed."""
    good = captures.key(f"notation/{name}")
    leaf, issuer = _captured("revoked" if name in {"revoked.ocsp", "intermediate.crl"} else "signer")
    for position in range(len(good)):
        changed = bytearray(good)
        changed[position] ^= 1 << position % 8
        with contextlib.suppress(Undetermined):
            if name.endswith("ocsp"):
                check_ocsp(bytes(changed), leaf, issuer, captures.NOW, None)
            else:
                check_list(List(bytes(changed)), (URL,), leaf, issuer, captures.NOW, None)
            raise AssertionError(position)


def _captured(who: str) -> tuple[x509.Certificate, x509.Certificate]:
    import base64
    import json

    folder = captures.path("notation-chain-revoked" if who == "revoked" else "notation-chain")
    [envelope] = [json.loads(file.read_bytes()) for file in folder.glob("blob-*") if file.stat().st_size > 2000]
    leaf, issuer, _ = (x509.load_der_x509_certificate(base64.b64decode(one)) for one in envelope["header"]["x5c"])
    return leaf, issuer
