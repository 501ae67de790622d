"""Signed with a certificate of one's own authority: chain, time, purpose and name (attacks C-08 to C-11, N-10's kin)."""

import base64
import datetime as dt
import ipaddress
import json
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.fake import sigstore
from tests.fake.pki import CODE_SIGNING, DAY, NOW, ODD, TIME_STAMPING, Issued, issue, timestamp, with_odd_name
from tests.fake.signing import BUNDLE, IN_TOTO, SigningKey, key
from tests.fake.sigstore import Json, Made, Sigstore, b64
from tests.formats.test_keyless import PAYLOAD, STATEMENT, build, bundled, classic, proof, refused
from webhook.formats._dsse import pae
from webhook.formats.cosign import FORMAT
from webhook.formats.cosign.certificate import CertifiedName
from webhook.formats.cosign.signer import Cosign
from webhook.formats.cosign.spec import CosignSpec
from webhook.parsing import Invalid, convert_all
from webhook.trust import Rejected, Untrusted
from webhook.verdict import End

SECOND = dt.timedelta(seconds=1)
ROOT = issue("acme root", ca=True, ends=NOW + 100 * DAY)
INTERMEDIATE = issue("acme intermediate", ROOT, ca=True, ends=NOW + 50 * DAY)
NAMES = [
    x509.RFC822Name("release@acme.test"),
    x509.DNSName("ci.acme.test"),
    x509.UniformResourceIdentifier("spiffe://acme.test/release"),
]
SUBJECT = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme, Inc."),
        x509.NameAttribute(NameOID.COMMON_NAME, "release"),
    ]
)


def leaf(issuer: Issued = ROOT, names: Sequence[x509.GeneralName] = NAMES, **options: Any) -> Issued:
    extensions = [(x509.SubjectAlternativeName(list(names)), False)] if names else []
    settings = {"purposes": [CODE_SIGNING], "subject": SUBJECT, "extensions": extensions, "ends": NOW + 30 * DAY}
    return issue("release", issuer, **{**settings, **options})


def signer(roots: Sequence[Issued] = (ROOT,), between: Sequence[Issued] = (), **spec: Any) -> Cosign:
    certificate: dict[str, Any] = {"roots": b"".join(one.pem for one in roots).decode()}
    if between:
        certificate["intermediates"] = b"".join(one.pem for one in between).decode()
    name = spec.pop("name", {"email": "release@acme.test"})
    return build(certificate={**certificate, **name}, **spec)


def signed(by: Issued, *, stamps: Sequence[bytes] = (), entry: Json | None = None) -> Untrusted:
    """A bundle by this certificate's key."""
    signature = SigningKey(by.key).sign(pae(IN_TOTO, STATEMENT))
    material: Json = {"certificate": {"rawBytes": b64(by.der)}}
    if stamps:
        material["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": b64(one)} for one in stamps]}
    if entry:
        material["tlogEntries"] = [entry]
    envelope = {"payload": b64(STATEMENT), "payloadType": IN_TOTO, "signatures": [{"sig": b64(signature)}]}
    return bundled({"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope})


def in_classic_form(by: Issued, chain: str = "") -> Untrusted:
    written = {
        "dev.cosignproject.cosign/signature": b64(SigningKey(by.key).sign(PAYLOAD)),
        "dev.sigstore.cosign/certificate": by.pem.decode(),
        "dev.sigstore.cosign/chain": chain,
    }
    return classic(written)


def test_a_chain_to_the_root_now_holds_until_its_first_certificate_ends() -> None:
    by = leaf()
    for evidence in (signed(by), in_classic_form(by)):
        found = proof(signer(), evidence)
        fingerprint = SigningKey(ROOT.key).fingerprint
        assert found.identity == f"issuer={fingerprint},subject=email:release@acme.test"
        assert (found.signed_at, found.valid_until) == (None, NOW + 30 * DAY)
        assert found.ends == End(NOW + 30 * DAY, "certificate CN=release,O=Acme\\, Inc.,C=DE")
        assert found.serial == f"{by.certificate.serial_number:x}"
        assert found.keys == (SigningKey(by.key).fingerprint, fingerprint)
    under = leaf(INTERMEDIATE, ends=NOW + 90 * DAY)
    found = proof(signer(between=[INTERMEDIATE]), signed(under))
    assert found.valid_until == NOW + 50 * DAY
    assert found.ends == End(NOW + 50 * DAY, "certificate CN=acme intermediate")


def test_intermediates_come_from_the_policy_or_with_the_signature() -> None:
    under = leaf(INTERMEDIATE)
    proof(signer(between=[INTERMEDIATE]), signed(under))
    assert "leads to no trusted one" in refused(signer(), signed(under))
    proof(signer(), in_classic_form(under, INTERMEDIATE.pem.decode()))
    proof(signer([INTERMEDIATE]), signed(under))
    stranger = issue("stranger", ca=True)
    assert "leads to no trusted one" in refused(signer(), in_classic_form(leaf(stranger), stranger.pem.decode()))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ({"email": "release@acme.test"}, "email:release@acme.test"),
        ({"hostname": "CI.acme.test"}, "hostname:ci.acme.test"),
        ({"uri": "spiffe://acme.test/release"}, "uri:spiffe://acme.test/release"),
        ({"subject": "CN=release,O=Acme\\, Inc.,C=DE"}, "subject:CN=release,O=Acme\\, Inc.,C=DE"),
    ],
)
def test_the_name_that_the_policy_wants(name: dict[str, str], shown: str) -> None:
    assert proof(signer(name=name), signed(leaf())).identity.endswith(f",subject={shown}")
    assert signer(name=name).wanted() == shown.replace(":", " ", 1)


@pytest.mark.parametrize(
    "name",
    [
        {"email": "mallory@acme.test"},
        {"email": "RELEASE@acme.test"},
        {"email": "ci.acme.test"},
        {"hostname": "acme.test"},
        {"hostname": "x.ci.acme.test"},
        {"uri": "spiffe://acme.test/release/"},
        {"subject": "CN=release,O=Acme"},
        {"subject": "C=DE,O=Acme\\, Inc.,CN=release"},
        {"subject": "CN=release"},
    ],
)
def test_another_name(name: dict[str, str]) -> None:
    [kind] = name
    assert f"signed by {kind} " in refused(signer(name=name), signed(leaf()))


@pytest.mark.parametrize("kind", ["email", "hostname", "uri"])
def test_a_certificate_without_such_a_name(kind: str) -> None:
    wanted = signer(name={kind: "x"})
    assert refused(wanted, signed(leaf(names=()))) == f"signed by {kind} nobody, not x"
    other = [x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]
    assert refused(wanted, signed(leaf(names=other))) == f"signed by {kind} nobody, not x"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ca": True}, "its certificate is an authority's"),
        ({"signs": False}, "its certificate is not for digital signatures"),
        ({"purposes": [TIME_STAMPING]}, "its certificate is not for code signing"),
        ({"purposes": None}, "does not say that it is for code signing"),
        ({"usage": False}, "does not say that it is for code signing"),
    ],
)
def test_a_certificate_for_something_else(options: dict[str, Any], reason: str) -> None:
    assert reason in refused(signer(), signed(leaf(**options)))
    proof(signer(), signed(leaf()))


def test_a_subject_that_cannot_be_read() -> None:
    class Unreadable:
        """A certificate whose subject the library cannot decode."""

        @property
        def subject(self) -> x509.Name:
            raise ValueError

    unreadable: Any = Unreadable()
    with pytest.raises(Rejected, match="its certificate's subject cannot be read"):
        CertifiedName("subject", "CN=x").check(unreadable)


def test_a_subject_that_is_no_text() -> None:
    names = [(x509.SubjectAlternativeName(list(NAMES)), False)]
    odd = with_odd_name(issue(ODD, ROOT, purposes=[CODE_SIGNING], extensions=names), ROOT.key)
    assert refused(signer(name={"subject": "CN=release"}), signed(odd)) == "its certificate's subject cannot be read"
    proof(signer(), signed(odd))


def test_c09_a_chain_that_is_not_valid_now() -> None:
    by = leaf(INTERMEDIATE)
    wanted = signer(between=[INTERMEDIATE])
    proof(wanted, signed(by), now=NOW + 30 * DAY)
    assert "leads to no trusted one" in refused(wanted, signed(by), now=NOW + 30 * DAY + SECOND)
    long_lived = leaf(INTERMEDIATE, ends=NOW + 90 * DAY)
    assert "leads to no trusted one" in refused(wanted, signed(long_lived), now=NOW + 50 * DAY + SECOND)
    assert "leads to no trusted one" in refused(wanted, signed(by), now=NOW - 2 * DAY)
    # Whatever the zone that the moment is written in.
    elsewhere = dt.timezone(dt.timedelta(hours=9))
    proof(wanted, signed(by), now=(NOW + 30 * DAY).astimezone(elsewhere))


STAMPS = issue("tsa root", ca=True, ends=NOW + 3650 * DAY)
STAMPER = issue("tsa", STAMPS, purposes=[TIME_STAMPING], ends=NOW + 3650 * DAY)
TSA = {"tsa": (STAMPER.pem + STAMPS.pem).decode()}


def stamped(by: Issued, *moments: dt.datetime) -> Untrusted:
    content = json.loads(signed(by).parts["bundle"])
    signature = base64.b64decode(content["dsseEnvelope"]["signatures"][0]["sig"])
    tokens = [{"signedTimestamp": b64(timestamp(STAMPER, signature, at))} for at in moments]
    content["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": tokens}
    return bundled(content)


def test_c09_a_timestamp_proves_that_the_chain_was_valid_then() -> None:
    by = leaf(INTERMEDIATE)
    wanted = signer(between=[INTERMEDIATE], timestamp=TSA)
    later = NOW + 365 * DAY
    found = proof(wanted, stamped(by, NOW), now=later)
    assert (found.signed_at, found.valid_until, found.ends) == (NOW, None, None)
    assert "leads to no trusted one" in refused(wanted, signed(by), now=later)
    # The intermediate had ended when the leaf, which had not, signed.
    long_lived = leaf(INTERMEDIATE, ends=NOW + 90 * DAY)
    assert "leads to no trusted one" in refused(wanted, stamped(long_lived, NOW + 60 * DAY), now=later)
    # Without the authority in the policy its word is nobody's.
    assert "leads to no trusted one" in refused(signer(between=[INTERMEDIATE]), stamped(by, NOW), now=later)


def test_c10_every_time_counts() -> None:
    by = leaf()
    wanted = signer(timestamp=TSA)
    assert proof(wanted, stamped(by, NOW, NOW + DAY)).signed_at == NOW
    assert "leads to no trusted one" in refused(wanted, stamped(by, NOW, NOW + 31 * DAY))


def test_a_timestamp_that_is_demanded() -> None:
    by = leaf()
    wanted = signer(timestamp={**TSA, "require": True})
    proof(wanted, stamped(by, NOW))
    assert refused(wanted, signed(by)) == "no timestamp, which the policy demands"


def test_c11_a_log_entry_that_is_demanded_dates_the_signature() -> None:
    instance = Sigstore()
    by = leaf()
    wanted = signer(tlog="require", trustRoot=instance.trusted_root())
    message = pae(IN_TOTO, STATEMENT)
    content = json.loads(signed(by).parts["bundle"])
    signature = base64.b64decode(content["dsseEnvelope"]["signatures"][0]["sig"])
    made = Made(message, STATEMENT, signature, by.pem.decode())
    content["verificationMaterial"]["tlogEntries"] = [instance.log.entry(sigstore.dsse(made), NOW)]
    found = proof(wanted, bundled(content), now=NOW + 365 * DAY)
    assert (found.signed_at, found.log_index, found.valid_until, found.ends) == (NOW, 0, None, None)
    assert refused(wanted, signed(by)) == "no log entry, which the policy demands"
    # Where no entry is demanded none is looked at, right or wrong, and the present counts.
    content["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = "x"
    assert proof(signer(), bundled(content)).signed_at is None


def test_an_entry_of_a_log_without_a_clock_holds_no_longer_than_the_logs_key() -> None:
    instance = Sigstore()

    def edit(root: Json) -> None:
        root["tlogs"][1]["publicKey"]["validFor"] = {
            "start": (NOW - DAY).isoformat(),
            "end": (NOW + 5 * DAY).isoformat(),
        }

    by = leaf()
    content = json.loads(signed(by).parts["bundle"])
    signature = base64.b64decode(content["dsseEnvelope"]["signatures"][0]["sig"])
    made = Made(pae(IN_TOTO, STATEMENT), STATEMENT, signature, by.pem.decode())
    content["verificationMaterial"]["tlogEntries"] = [instance.log_v2.entry(sigstore.hashedrekord_v2(made), None)]
    found = proof(signer(tlog="require", trustRoot=instance.trusted_root(edit)), bundled(content))
    assert found.valid_until == NOW + 5 * DAY
    assert found.ends == End(NOW + 5 * DAY, "a transparency log of its trust root")


def test_another_key_than_the_certificates() -> None:
    by = leaf()
    forged = Issued(by.certificate, ec.generate_private_key(ec.SECP256R1()))
    assert "not signed by" in refused(signer(), signed(forged))


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        ({"roots": ROOT.pem.decode()}, ".certificate: exactly one of email, hostname, uri and subject is wanted"),
        ({"roots": ROOT.pem.decode(), "email": "a", "uri": "b"}, ".certificate: exactly one of email, hostname, uri"),
        ({"roots": key("a").pem, "email": "a"}, ".certificate.roots: no PEM certificate"),
        ({"roots": "", "email": "a"}, ".certificate.roots: no PEM certificate"),
        ({"roots": ROOT.pem.decode(), "intermediates": "x", "email": "a"}, ".certificate.intermediates: no PEM"),
        (
            {"roots": ROOT.pem.decode(), "intermediates": INTERMEDIATE.pem.decode() * 11, "email": "a"},
            ".certificate.intermediates: more than 10 certificates",
        ),
        ({"roots": ROOT.pem.decode(), "email": "*@acme.test"}, ".certificate.email: *@acme.test: names are compared"),
        ({"roots": ROOT.pem.decode(), "subject": "release"}, ".certificate.subject: release: not a distinguished name"),
    ],
)
def test_v01_what_names_nobody_is_refused_when_it_is_written(certificate: dict[str, str], reason: str) -> None:
    spec = convert_all({"certificate": certificate}, CosignSpec, "cosign")
    with pytest.raises(Invalid) as refusal:
        FORMAT.build(spec, {reference: reference.encode() for _, reference in FORMAT.keys(spec)})
    assert refusal.value.complaints[0].startswith(reason)


def test_a_root_whose_key_is_weak_is_refused() -> None:
    odd = ec.generate_private_key(ec.SECP256K1())
    weak = issue("odd root", ca=True, key=odd)
    with pytest.raises(Invalid, match=r"\.certificate\.roots: curve secp256k1"):
        signer([weak])


@pytest.mark.parametrize("tsa", ["x", ROOT.pem.decode().replace("A", "B"), STAMPER.pem.decode()])
def test_a_timestamp_authority_that_is_none(tsa: str) -> None:
    with pytest.raises(Invalid, match=r"\.timestamp\.tsa: "):
        signer(timestamp={"tsa": tsa})


def test_what_people_read_about_such_a_signer() -> None:
    assert signer().dangers() == ()
    assert signer([ROOT, INTERMEDIATE]).fingerprints() == (
        SigningKey(ROOT.key).fingerprint,
        SigningKey(INTERMEDIATE.key).fingerprint,
    )
