"""Chains of certificates: what leads to a trusted one, when, and what a leaf may be used for."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.fake.pki import CODE_SIGNING, DAY, NOW, TIME_STAMPING, Issued, issue
from webhook import limits
from webhook.formats import _x509
from webhook.parsing import Invalid
from webhook.trust import Rejected

ROOT = issue("root", ca=True, ends=NOW + 9 * DAY)
BETWEEN = issue("between", ROOT, ca=True, ends=NOW + 2 * DAY)
LEAF = issue("leaf", BETWEEN, purposes=[CODE_SIGNING])
OTHER = issue("other", ca=True)


def chain(leaf: Issued, between: list[Issued], anchors: list[Issued], at: object = NOW) -> list[str]:
    found = _x509.verify_chain(
        leaf.certificate,
        [one.certificate for one in between],
        [one.certificate for one in anchors],
        at,  # type: ignore[arg-type]  # a datetime
    )
    return [one.subject.rfc4514_string() for one in found]


@pytest.mark.parametrize(
    ("anchors", "path"),
    [
        ([ROOT], ["CN=leaf", "CN=between", "CN=root"]),
        ([BETWEEN], ["CN=leaf", "CN=between"]),
        ([OTHER, ROOT], ["CN=leaf", "CN=between", "CN=root"]),
    ],
)
def test_a_leaf_leads_to_whatever_is_an_anchor(anchors: list[Issued], path: list[str]) -> None:
    assert chain(LEAF, [BETWEEN], anchors) == path


def test_a_self_signed_leaf_can_be_its_own_anchor() -> None:
    own = issue("own", purposes=[CODE_SIGNING])
    assert chain(own, [], [own]) == ["CN=own"]


@pytest.mark.parametrize(
    ("between", "anchors"), [([BETWEEN], [OTHER]), ([], [ROOT]), ([OTHER], [ROOT])], ids=["root", "gap", "stranger"]
)
def test_what_leads_nowhere_is_rejected(between: list[Issued], anchors: list[Issued]) -> None:
    with pytest.raises(Rejected, match="its certificate leads to no trusted one"):
        chain(LEAF, between, anchors)


def test_v01_without_an_anchor_nothing_is_trusted() -> None:
    with pytest.raises(Rejected, match="no certificate is trusted"):
        chain(LEAF, [BETWEEN, ROOT], [])


def test_c09_every_certificate_is_valid_at_the_time_and_not_the_leaf_alone() -> None:
    short = issue("short", ROOT, ca=True, begins=NOW - 3 * DAY, ends=NOW - DAY)
    leaf = issue("leaf", short, begins=NOW - 3 * DAY, ends=NOW + DAY, purposes=[CODE_SIGNING])
    with pytest.raises(Rejected, match="leads to no trusted one"):
        chain(leaf, [short], [ROOT], NOW)
    early_root = issue("root", ca=True, begins=NOW - 9 * DAY, ends=NOW + 9 * DAY, key=ROOT.key)
    assert chain(leaf, [short], [early_root], NOW - 2 * DAY)[0] == "CN=leaf"
    with pytest.raises(Rejected, match="leads to no trusted one"):
        chain(LEAF, [BETWEEN], [ROOT], NOW + 1.5 * DAY)


def test_c09_an_authority_for_something_else_issues_no_signers() -> None:
    """As cosign has it: what an authority says it is for holds for all below it, a company's TLS authority for one."""

    def below(*purposes: x509.ObjectIdentifier) -> tuple[Issued, Issued]:
        says = [(x509.ExtendedKeyUsage(purposes), False)] if purposes else []
        between = issue("between", ROOT, ca=True, ends=NOW + 2 * DAY, extensions=says)
        return issue("leaf", between, purposes=[CODE_SIGNING]), between

    for purposes in (
        (),
        (CODE_SIGNING,),
        (ExtendedKeyUsageOID.SERVER_AUTH, CODE_SIGNING),
        (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,),
    ):
        leaf, between = below(*purposes)
        assert chain(leaf, [between], [ROOT]) == ["CN=leaf", "CN=between", "CN=root"]
    for purpose in (ExtendedKeyUsageOID.SERVER_AUTH, TIME_STAMPING):
        leaf, between = below(purpose)
        with pytest.raises(Rejected, match="leads to no trusted one: an authority of it is not for code signing"):
            chain(leaf, [between], [ROOT])
        # Whoever names it as an anchor trusts it for signers.
        assert chain(leaf, [], [between]) == ["CN=leaf", "CN=between"]


def test_d01_intermediates_are_bounded() -> None:
    many = [issue(f"i{i}", ROOT, ca=True) for i in range(limits.MAX_INTERMEDIATES - 1)]
    assert chain(LEAF, [*many, BETWEEN], [ROOT])
    with pytest.raises(Rejected, match="more than 10 intermediate"):
        chain(LEAF, [*many, many[0], BETWEEN], [ROOT])


def test_a_chain_ends_with_its_first_certificate() -> None:
    assert _x509.ends([ROOT.certificate, LEAF.certificate, BETWEEN.certificate]) == NOW + DAY


@pytest.mark.parametrize(
    ("leaf", "why"),
    [
        (issue("leaf", ROOT, ca=True), "an authority's"),
        (issue("leaf", ROOT, purposes=[CODE_SIGNING], signs=False), "not for digital signatures"),
        (issue("leaf", ROOT, purposes=[CODE_SIGNING], usage=False), "does not say that it is for code signing"),
        (issue("leaf", ROOT), "does not say that it is for code signing"),
        (issue("leaf", ROOT, purposes=[TIME_STAMPING]), "not for code signing"),
        (issue("leaf", ROOT, purposes=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), "not for code signing"),
        (
            issue(
                "leaf",
                ROOT,
                purposes=[CODE_SIGNING],
                extensions=[
                    (x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x03\x01\x01"), False),
                ],
            ),
            "cannot be read",
        ),
    ],
)
def test_what_a_leaf_is_not_for(leaf: Issued, why: str) -> None:
    with pytest.raises(Rejected, match=why):
        _x509.require_code_signing(leaf.certificate)


def test_what_a_leaf_is_for() -> None:
    _x509.require_code_signing(LEAF.certificate)
    _x509.require_code_signing(issue("leaf", ROOT, purposes=[CODE_SIGNING], constraints=False).certificate)


def test_certificates_are_read_in_their_order() -> None:
    read = _x509.parse_certificates(b"# mine\n" + LEAF.pem + BETWEEN.pem, "certs")
    assert read == (LEAF.certificate, BETWEEN.certificate)
    assert _x509.parse_der(LEAF.der, "certificate") == LEAF.certificate


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "certs: no PEM certificate"),
        (b"x" * (limits.MAX_KEY_MATERIAL + 1), "certs: more than 1048576 bytes"),
        (LEAF.pem * (limits.MAX_CERTIFICATES + 1), "certs: more than 100 certificates"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certs: not a certificate"),
        (LEAF.pem + b"-----BEGIN EC PRIVATE KEY-----\nsecret", "certs: a private key"),
    ],
)
def test_m08_what_is_no_certificate_is_refused_and_not_repeated(data: bytes, why: str) -> None:
    with pytest.raises(Invalid, match=why) as caught:
        _x509.parse_certificates(data, "certs")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("der", [b"", b"0\x00", LEAF.der[:-1], b"x" * (limits.MAX_CERTIFICATE + 1)])
def test_c13_der_that_is_no_certificate(der: bytes) -> None:
    with pytest.raises(Invalid, match=r"^certificate: (not a certificate|more than 65536 bytes)"):
        _x509.parse_der(der, "certificate")


def test_d10_the_key_of_a_certificate_must_be_one_that_policies_may_trust() -> None:
    assert _x509.public_key(LEAF.certificate).fingerprint.startswith("SHA256:")
    weak = rsa.generate_private_key(65_537, 1024)
    certificate = issue("leaf", ROOT, key=weak).certificate  # type: ignore[arg-type]  # another kind of key
    with pytest.raises(Invalid, match="RSA of 1024 bits"):
        _x509.public_key(certificate)


def test_d10_a_key_that_cannot_be_read() -> None:
    # The curve's name made one that nobody has.
    broken = LEAF.der.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030177"))
    with pytest.raises(Invalid, match="key cannot be read"):
        _x509.public_key(_x509.parse_der(broken, "certificate"))
