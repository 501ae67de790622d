"""`hardware`: a signer counts only by keys that a device, or its authority, vouches for (attacks H of the threat model)."""

import datetime as dt
import functools
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.fake.hardware import (
    ANY,
    BEGINS,
    ENDS,
    EV,
    FIPS,
    FIRMWARE,
    FORM,
    ORDINARY,
    POLICY,
    SERIAL,
    START,
    YEAR,
    Certified,
    YubiKey,
    authority,
    certify,
    code_signing,
    name,
)
from tests.fake.pki import ODD, issue, with_odd_name
from tests.fake.registry import FakeRegistry
from tests.fake.signing import SigningKey, key, sign_bundle
from tests.formats.test_contract import claim_of, judged
from webhook import limits
from webhook.formats import FORMATS
from webhook.formats._hardware import InHardware, hold
from webhook.image import Digest
from webhook.parsing import Invalid, convert_all
from webhook.trust import Claim, Device, HardwareEvidence, HardwareKind, Rejected, Untrusted, format_of
from webhook.verdict import End, Proof

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)


def signer_of(*keys: SigningKey) -> Any:
    row = FORMATS["cosign"]
    spec = convert_all({"keys": [one.pem for one in keys]}, row.spec, "")
    return row.build(spec, {reference: reference.encode() for _, reference in row.keys(spec)})


def held(kind: HardwareKind, evidence: str, roots: str, *keys: SigningKey) -> tuple[InHardware, tuple[Device, ...]]:
    given = HardwareEvidence(kind, roots.encode(), evidence.encode())
    return hold(signer_of(*(keys or (key("a"),))), given)


def refused(kind: HardwareKind, evidence: str, roots: str, *keys: SigningKey) -> str:
    with pytest.raises(Invalid) as raised:
        held(kind, evidence, roots, *keys)
    return str(raised.value)


def why_not(kind: HardwareKind, evidence: str, roots: str) -> str:
    reason = refused(kind, evidence, roots)
    beginning = f".evidence: does not vouch for key {key('a').fingerprint[:23]}…: "
    assert reason.startswith(beginning)
    return reason.removeprefix(beginning)


@functools.cache
def yubikey() -> YubiKey:
    return YubiKey()


def public(name_: str = "a") -> ec.EllipticCurvePublicKey:
    found = key(name_).private.public_key()
    assert isinstance(found, ec.EllipticCurvePublicKey)
    return found


# ── what the device says ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changed", "about"),
    [
        ({}, "YubiKey 15938765 (USB-C), firmware 5.2.7, slot 9c, PIN always, touch always"),
        ({POLICY: b"\x01\x01"}, "YubiKey 15938765 (USB-C), firmware 5.2.7, slot 9c, PIN never, touch never"),
        ({POLICY: b"\x02\x03"}, "YubiKey 15938765 (USB-C), firmware 5.2.7, slot 9c, PIN once, touch cached"),
        ({POLICY: b"\x04\x01"}, "YubiKey 15938765 (USB-C), firmware 5.2.7, slot 9c, PIN match once, touch never"),
        ({FORM: None}, "YubiKey 15938765, firmware 5.2.7, slot 9c, PIN always, touch always"),
        ({FORM: b"\x00"}, "YubiKey 15938765, firmware 5.2.7, slot 9c, PIN always, touch always"),
        ({FORM: b"\x81"}, "YubiKey 15938765 (USB-A), firmware 5.2.7, slot 9c, PIN always, touch always"),
        ({SERIAL: b"\x02\x01\x07"}, "YubiKey 7 (USB-C), firmware 5.2.7, slot 9c, PIN always, touch always"),
        (
            {FIRMWARE: b"\x04\x03\x05\x07\x04", POLICY: b"\x04\x02\x02\x02", FORM: b"\x04\x01\x01"},
            "YubiKey 15938765 (USB-A), firmware 5.7.4, slot 9c, PIN once, touch always",
        ),
    ],
)
def test_a_yubikey_proves_that_it_generated_the_key(changed: dict[str, bytes | None], about: str) -> None:
    device = yubikey()
    evidence = device.f9.pem + device.attest(public(), changed=changed)
    signer, devices = held("yubikey-piv", evidence, device.root.pem)
    assert devices == (Device(key("a").fingerprint, "proven", about, BEGINS, ENDS),)
    assert signer.devices == devices


def test_a_fips_device_is_called_one_by_its_own_certificate() -> None:
    device = YubiKey(fips=True)
    _, (found,) = held("yubikey-piv", device.f9.pem + device.attest(public()), device.root.pem)
    assert ", firmware 5.2.7, FIPS, slot" in found.about
    leaf = yubikey().attest(public(), changed={FIPS: b"\x05\x00"})
    _, (other,) = held("yubikey-piv", yubikey().f9.pem + leaf, yubikey().root.pem)
    assert "FIPS" not in other.about


def test_a_chain_may_have_authorities_of_the_vendor_in_between() -> None:
    root = authority("Yubico Attestation Root 1")
    first = authority("Yubico Attestation Intermediate B 1", root, path_length=2)
    second = authority("Yubico PIV Attestation B 1", first, path_length=1)
    device = YubiKey(root=second)
    leaf = device.attest(public(), slot="82")
    for order in ([leaf, device.f9.pem, second.pem, first.pem], [first.pem, second.pem, device.f9.pem, leaf]):
        _, (found,) = held("yubikey-piv", "".join(order), root.pem)
        assert "slot 82" in found.about
    # Whoever pins a certificate further down pins that, and needs none above it.
    held("yubikey-piv", leaf + device.f9.pem, second.pem)
    held("yubikey-piv", leaf, device.f9.pem)


def test_several_keys_have_several_devices_and_each_needs_its_own() -> None:
    one, two = yubikey(), YubiKey(root=yubikey().root)
    evidence = (
        one.f9.pem + one.attest(public("a")) + two.f9.pem + two.attest(public("b"), changed={SERIAL: b"\x02\x01\x02"})
    )
    _, devices = held("yubikey-piv", evidence, one.root.pem, key("a"), key("b"))
    assert [device.key for device in devices] == [key("a").fingerprint, key("b").fingerprint]
    reason = refused("yubikey-piv", evidence, one.root.pem, key("a"), key("b"), key("c"))
    assert reason == f".evidence: does not vouch for key {key('c').fingerprint[:23]}…: is about other keys"


# ── attacks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_h01_the_attestation_of_another_key_is_none_of_this_one() -> None:
    device = yubikey()
    assert why_not("yubikey-piv", device.f9.pem + device.attest(public("b")), device.root.pem) == "is about other keys"


def test_h02_another_root_and_a_device_nobody_vouches_for() -> None:
    device, strangers = yubikey(), YubiKey()
    assert strangers.root.certificate.subject == device.root.certificate.subject
    evidence = strangers.f9.pem + strangers.attest(public())
    assert why_not("yubikey-piv", evidence, device.root.pem) == "it leads to none of the pinned roots"
    # The evidence brings its own root: that is no pin.
    with_root = evidence + strangers.root.pem
    assert why_not("yubikey-piv", with_root, device.root.pem) == "it leads to none of the pinned roots"
    assert why_not("yubikey-piv", device.attest(public()), device.root.pem) == "it leads to none of the pinned roots"
    held("yubikey-piv", evidence, device.root.pem + strangers.root.pem)
    # A root that may issue without end leads to itself, and no further.
    endless = YubiKey(root=authority("Yubico PIV Root CA Serial 263751"))
    evidence = endless.f9.pem + endless.attest(public()) + endless.root.pem
    assert why_not("yubikey-piv", evidence, device.root.pem) == "it leads to none of the pinned roots"


@pytest.mark.parametrize("oid", [FIRMWARE, SERIAL, POLICY])
def test_h03_an_extension_that_is_missing(oid: str) -> None:
    device = yubikey()
    evidence = device.f9.pem + device.attest(public(), changed={oid: None})
    assert why_not("yubikey-piv", evidence, device.root.pem) == f"it has no extension {oid}"


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        (FIRMWARE, b""),
        (FIRMWARE, b"\x05\x02"),
        (FIRMWARE, b"\x05\x02\x07\x00"),
        (FIRMWARE, b"\x04\x02\x05\x02\x07"),
        (FIRMWARE, b"\x02\x03\x05\x02\x07"),
        (POLICY, b"\x03"),
        (POLICY, b"\x03\x02\x01"),
        (POLICY, b"\x04\x03\x03\x02"),
        (FORM, b"\x03\x03"),
        (SERIAL, b""),
        (SERIAL, b"\x02\x00"),
        (SERIAL, b"\x02\x01\xff"),
        (SERIAL, b"\x02\x02\x01"),
        (SERIAL, b"\x04\x01\x01"),
        (SERIAL, b"\x02\x09" + b"\x01" * 9),
    ],
)
def test_h03_an_extension_of_another_form(oid: str, value: bytes) -> None:
    device = yubikey()
    evidence = device.f9.pem + device.attest(public(), changed={oid: value})
    assert why_not("yubikey-piv", evidence, device.root.pem) == f"its extension {oid} is none that a YubiKey writes"


@pytest.mark.parametrize("value", [b"\x00\x02", b"\x03\x00", b"\x06\x02", b"\x03\x04", b"\xff\xff"])
def test_h03_a_policy_that_no_device_has(value: bytes) -> None:
    device = yubikey()
    evidence = device.f9.pem + device.attest(public(), changed={POLICY: value})
    assert why_not("yubikey-piv", evidence, device.root.pem) == "its PIN and touch policy are none that a YubiKey has"


def test_h04_bytes_that_were_altered_after_the_device_signed() -> None:
    device = yubikey()
    pem = device.attest(public(), changed={POLICY: b"\x01\x01"})
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    policy = bytes.fromhex("040201 01".replace(" ", ""))
    assert der.count(policy) == 1
    altered = x509.load_der_x509_certificate(der.replace(policy, b"\x04\x02\x03\x02"))
    evidence = device.f9.pem + altered.public_bytes(Encoding.PEM).decode()
    assert why_not("yubikey-piv", evidence, device.root.pem) == "it leads to none of the pinned roots"
    held("yubikey-piv", device.f9.pem + pem, device.root.pem)


def test_h05_an_imported_key_has_no_attestation() -> None:
    # A device attests no imported key. What there is of one: the certificate that was imported with it, of one's own or of an authority.
    device = yubikey()
    private = key("a").private
    own = certify("YubiKey PIV Attestation 9c", public(), None, private).public_bytes(Encoding.PEM).decode()
    assert why_not("yubikey-piv", device.f9.pem + own, device.root.pem) == f"it has no extension {FIRMWARE}"
    imitated = device.attest(
        public(), by=Certified(certify("Yubico PIV Attestation", public(), None, private), private)
    )
    assert why_not("yubikey-piv", device.f9.pem + imitated, device.root.pem) == "it leads to none of the pinned roots"
    # By an authority that the policy pins for something else.
    issued = device.attest(
        public(), changed=dict.fromkeys((FIRMWARE, SERIAL, POLICY, FORM)), by=device.root, subject="Acme"
    )
    assert why_not("yubikey-piv", issued, device.root.pem) == "it is no attestation of a slot of a YubiKey"


def test_h06_an_attested_key_attests_no_other() -> None:
    # The owner of a real device signs an attestation of a key in a file, with a key that the device attests.
    device = yubikey()
    genuine = device.attest(public("b"))
    attested = Certified(x509.load_pem_x509_certificate(genuine.encode()), key("b").private)
    forged = device.attest(public(), by=attested)
    assert (
        why_not("yubikey-piv", device.f9.pem + genuine + forged, device.root.pem)
        == "it leads to none of the pinned roots"
    )
    # Nor would it if firmware made an authority of it: the device's certificate permits none below it.
    promoted = device.attest(public("b"), ca=True)
    attested = Certified(x509.load_pem_x509_certificate(promoted.encode()), key("b").private)
    forged = device.attest(public(), by=attested)
    assert (
        why_not("yubikey-piv", device.f9.pem + promoted + forged, device.root.pem)
        == "it leads to none of the pinned roots"
    )
    assert (
        why_not("yubikey-piv", device.f9.pem + device.attest(public(), ca=True), device.root.pem)
        == "it is an authority's"
    )
    held("yubikey-piv", device.f9.pem + device.attest(public(), ca=False), device.root.pem)


@pytest.mark.parametrize(
    "subject",
    [
        "YubiKey PIV Attestation f9",
        "YubiKey PIV Attestation",
        "YubiKey PIV Attestation 9c ",
        "Yubico PIV Attestation",
        name("x").__class__([]),
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "YubiKey PIV Attestation 9c")]),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "YubiKey PIV Attestation 9c")] * 2),
    ],
)  # fmt: skip
def test_h07_what_is_no_attestation_of_a_slot(subject: Any) -> None:
    device = yubikey()
    made = certify(subject, public(), device.f9, device.f9.key, extensions={FIRMWARE: b"\x05\x02\x07"})
    evidence = device.f9.pem + made.public_bytes(Encoding.PEM).decode()
    assert why_not("yubikey-piv", evidence, device.root.pem) == "it is no attestation of a slot of a YubiKey"


@functools.cache
def rsa_key() -> SigningKey:
    return SigningKey(rsa.generate_private_key(65537, 2048))


@pytest.mark.parametrize(
    ("firmware", "is_weak"),
    [(b"\x04\x02\x05", False), (b"\x04\x02\x06", True), (b"\x04\x03\x04", True), (b"\x04\x03\x05", False)],
)
def test_h08_rsa_keys_of_firmware_that_makes_weak_ones(firmware: bytes, is_weak: bool) -> None:
    device = yubikey()
    found = rsa_key().private.public_key()
    assert isinstance(found, rsa.RSAPublicKey)
    evidence = device.f9.pem + device.attest(found, changed={FIRMWARE: firmware})
    if is_weak:
        assert "generates RSA keys that can be factored (CVE-2017-15361)" in refused(
            "yubikey-piv", evidence, device.root.pem, rsa_key()
        )
        held("yubikey-piv", device.f9.pem + device.attest(public(), changed={FIRMWARE: firmware}), device.root.pem)
    else:
        held("yubikey-piv", evidence, device.root.pem, rsa_key())


def _usage(sign: bool) -> x509.KeyUsage:
    rest = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )  # fmt: skip
    return x509.KeyUsage(digital_signature=True, key_cert_sign=sign, crl_sign=False, **rest)


@pytest.mark.parametrize(
    ("f9", "is_right"),
    [
        ({}, True),
        ({"path_length": 0}, True),
        ({"usage": _usage(sign=True)}, True),
        ({"usage": _usage(sign=False)}, False),
        ({"ca": False, "path_length": None}, False),
        ({"ca": None}, False),
        ({"digest": hashes.SHA384()}, True),
        ({"digest": hashes.SHA224()}, False),
        ({"key": rsa.generate_private_key(65537, 1024)}, False),
    ],
)
def test_h02_who_may_issue(f9: dict[str, Any], is_right: bool) -> None:
    device = YubiKey()
    device.f9 = authority("Yubico PIV Attestation", device.root, **f9)
    evidence = device.f9.pem + device.attest(public())
    if is_right:
        held("yubikey-piv", evidence, device.root.pem)
    else:
        assert why_not("yubikey-piv", evidence, device.root.pem) == "it leads to none of the pinned roots"


def test_h02_a_root_says_how_many_authorities_may_be_below_it() -> None:
    root = authority("Yubico PIV Root CA Serial 263751", path_length=0)
    device = YubiKey(root=root)
    assert (
        why_not("yubikey-piv", device.f9.pem + device.attest(public()), root.pem)
        == "it leads to none of the pinned roots"
    )


def test_h02_a_device_whose_extensions_cannot_be_read_attests_nothing() -> None:
    # Two extensions of one kind in the device's certificate, whose signature is right.
    device = YubiKey()
    der = device.f9.certificate.public_bytes(Encoding.DER)
    tbs = device.f9.certificate.tbs_certificate_bytes
    doubled = _doubled(tbs)
    signature = device.root.key.sign(doubled, ec.ECDSA(hashes.SHA256()))  # type: ignore[call-arg, arg-type]  # an EC key, as authority makes them
    made = _sequence(
        doubled + der[_header(der) + len(tbs) : -len(device.f9.certificate.signature) - 3] + _bits(signature)
    )
    device.f9 = Certified(x509.load_der_x509_certificate(made), device.f9.key)
    evidence = device.f9.pem + device.attest(public())
    assert why_not("yubikey-piv", evidence, device.root.pem) == "its certificate has extensions that cannot be read"


def _header(der: bytes) -> int:
    return 4 if der[1] == 0x82 else 3 if der[1] == 0x81 else 2


def _sequence(content: bytes, tag: int = 0x30) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x81, size]) if size < 256 else b"\x82" + size.to_bytes(2)
    return bytes([tag]) + length + content


def _bits(signature: bytes) -> bytes:
    return _sequence(b"\x00" + signature, 0x03)


def _doubled(tbs: bytes) -> bytes:
    """A certificate's content, with its last extension twice."""
    from asn1crypto import x509 as asn1

    content = asn1.TbsCertificate.load(tbs)
    content["extensions"].append(content["extensions"][-1])
    made: bytes = asn1.TbsCertificate(
        {name: content[name] for name in content if name not in {"issuer_unique_id", "subject_unique_id"}}
    ).dump(force=True)
    return made


def test_d01_evidence_is_bounded() -> None:
    device = yubikey()
    leaf = device.attest(public())
    fill = limits.MAX_HARDWARE_CERTIFICATES - 2
    held("yubikey-piv", device.f9.pem + leaf + device.root.pem * fill, device.root.pem)
    reason = refused("yubikey-piv", device.f9.pem + leaf + device.root.pem * (fill + 1), device.root.pem)
    assert reason == f".evidence: more than {limits.MAX_HARDWARE_CERTIFICATES} certificates"


def test_d01_a_chain_is_bounded() -> None:
    root = authority("Root")
    above: list[Certified] = [root]
    for i in range(limits.MAX_DEVICE_CHAIN):
        above.append(authority(f"{i}", above[-1]))
    longest = YubiKey(root=above[limits.MAX_DEVICE_CHAIN - 2])
    longest.f9 = authority("Yubico PIV Attestation", longest.root)
    evidence = "".join(one.pem for one in above[1:]) + longest.f9.pem
    held("yubikey-piv", evidence + longest.attest(public()), root.pem)
    device = YubiKey(root=above[limits.MAX_DEVICE_CHAIN - 1])
    device.f9 = authority("Yubico PIV Attestation", device.root)
    reason = why_not("yubikey-piv", evidence + device.f9.pem + device.attest(public()), root.pem)
    assert reason == f"more than {limits.MAX_DEVICE_CHAIN} certificates below a root"


def test_m10_a_name_that_nobody_can_read_breaks_the_policy_that_brings_it_and_nothing_else() -> None:
    device, odd = yubikey(), with_odd_name(issue(ODD, ca=True)).pem.decode()
    evidence = device.f9.pem + device.attest(public())
    held("yubikey-piv", evidence, device.root.pem)
    why = ": a certificate whose names cannot be read"
    assert refused("yubikey-piv", evidence + odd, device.root.pem) == f".evidence{why}"
    assert refused("yubikey-piv", evidence, device.root.pem + odd) == f".roots{why}"
    assert refused("code-signing-oid", evidence + odd, device.root.pem) == f".evidence{why}"


def test_d08_names_that_are_all_alike_cost_a_bounded_number_of_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    device = yubikey()
    strangers = "".join(authority("Yubico PIV Attestation", device.root).pem for _ in range(3))
    held("yubikey-piv", strangers + device.f9.pem + device.attest(public()), device.root.pem)
    monkeypatch.setattr(limits, "MAX_ISSUER_CHECKS", 3)
    reason = why_not("yubikey-piv", strangers + device.f9.pem + device.attest(public()), device.root.pem)
    assert reason == "too many certificates of the same name"


@pytest.mark.parametrize(
    ("evidence", "roots", "why"),
    [
        ("", "ROOT", ".evidence: no PEM certificate"),
        ("-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----", "ROOT", ".evidence: a private key"),
        ("LEAF", "nothing", ".roots: no PEM certificate"),
    ],
)
def test_m08_what_is_no_evidence_is_refused_and_not_repeated(evidence: str, roots: str, why: str) -> None:
    texts = {"ROOT": yubikey().root.pem, "LEAF": yubikey().attest(public())}
    reason = refused("yubikey-piv", texts.get(evidence, evidence), texts.get(roots, roots))
    assert reason.startswith(why)
    assert "CANARY" not in reason


def test_a_certificate_whose_key_nobody_may_trust_is_passed_over() -> None:
    device = yubikey()
    weak = rsa.generate_private_key(65537, 1024).public_key()
    held("yubikey-piv", device.f9.pem + device.attest(weak) + device.attest(public()), device.root.pem)


def test_one_wrong_certificate_about_a_key_hides_no_right_one() -> None:
    device = yubikey()
    wrong, right = YubiKey().attest(public()), device.attest(public())
    for order in (wrong + right, right + wrong):
        held("yubikey-piv", device.f9.pem + order, device.root.pem)
    reason = why_not("yubikey-piv", device.f9.pem + wrong + wrong, device.root.pem)
    assert reason.count("it leads to none of the pinned roots") == 2


def test_h09_a_signer_without_keys_of_its_own_cannot_have_them_in_hardware() -> None:
    row = FORMATS["static"]
    assert row.hold is None
    decree = row.build(convert_all({"allow": True, "reason": "x"}, row.spec, ""), {})
    given = HardwareEvidence("yubikey-piv", yubikey().root.pem.encode(), yubikey().attest(public()).encode())
    with pytest.raises(Invalid, match="the signer has no keys of its own"):
        hold(decree, given)


# ── what an authority says ───────────────────────────────────────────────────────────────────────────────────────────


def private() -> ec.EllipticCurvePrivateKey:
    found = key("a").private
    assert isinstance(found, ec.EllipticCurvePrivateKey)
    return found


@pytest.mark.parametrize(
    ("given", "about"),
    [
        ({}, "EV code signing certificate "),
        ({"by": (EV,)}, "EV code signing certificate "),
        ({"stated": (ORDINARY, EV)}, "EV code signing certificate "),
        ({"stated": (ORDINARY,)}, "code signing certificate "),
        ({"stated": (ORDINARY,), "by": (ORDINARY,)}, "code signing certificate "),
        ({"stated": (ORDINARY,), "begins": dt.datetime(2023, 6, 1, tzinfo=dt.UTC)}, "code signing certificate "),
        ({"begins": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "EV code signing certificate "),
        ({"root_begins": START + dt.timedelta(days=9)}, "EV code signing certificate "),
    ],
)
def test_an_authority_claims_that_the_key_is_in_a_device(given: dict[str, Any], about: str) -> None:
    _, (device,) = held("code-signing-oid", *code_signing(private(), **given))
    assert device.state == "claimed"
    assert device.about.startswith(about)
    assert device.about.endswith(" by CN=Code Signing CA")
    begins = given.get("begins", START)
    assert (device.valid_from, device.valid_until) == (given.get("root_begins", begins), begins + YEAR)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"stated": ()}, f"it states neither policy {EV} nor {ORDINARY}"),
        ({"stated": (ANY,)}, f"it states neither policy {EV} nor {ORDINARY}"),
        ({"stated": ("2.23.140.1.2.2",)}, f"it states neither policy {EV} nor {ORDINARY}"),
        (
            {"stated": (ORDINARY,), "begins": dt.datetime(2023, 5, 31, tzinfo=dt.UTC)},
            "it is from before June 2023, when its policy did not yet demand hardware",
        ),
        ({"by": ()}, "an authority between it and the root does not issue by that policy"),
        ({"by": (ORDINARY,)}, "an authority between it and the root does not issue by that policy"),
        ({"stated": (ORDINARY,), "by": (EV,)}, "an authority between it and the root does not issue by that policy"),
        (
            {"extensions": [(x509.InhibitAnyPolicy(0), False)]},
            "an authority between it and the root does not issue by that policy",
        ),
        (
            {"extensions": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.33"), b"\x30\x00"), False)]},
            "an authority between it and the root renames policies",
        ),
        (
            {"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)},
            "its certificate is not for code signing",
        ),
    ],
)
def test_h10_a_certificate_that_claims_less(given: dict[str, Any], why: str) -> None:
    assert why_not("code-signing-oid", *code_signing(private(), **given)) == why


def test_h10_a_constraint_that_is_not_understood_is_refused() -> None:
    evidence, roots = code_signing(private(), extensions=[(x509.InhibitAnyPolicy(0), True)])
    assert "unaccounted-for critical extensions" in why_not("code-signing-oid", evidence, roots)


def test_h02_a_code_signing_certificate_of_another_root_or_key() -> None:
    evidence, _ = code_signing(private())
    other = issue("Root", ca=True, begins=START - YEAR, ends=START + 9 * YEAR)
    assert why_not("code-signing-oid", evidence, other.pem.decode()).startswith(
        "its certificate leads to no trusted one"
    )
    elsewhere = key("b").private
    assert isinstance(elsewhere, ec.EllipticCurvePrivateKey)
    assert why_not("code-signing-oid", *code_signing(elsewhere)) == "is about other keys"


def test_h11_one_kind_of_evidence_is_not_the_other() -> None:
    device = yubikey()
    attested = device.f9.pem + device.attest(public())
    reason = why_not("code-signing-oid", attested, device.root.pem)
    assert reason == "its certificate does not say that it is for code signing"
    assert why_not("yubikey-piv", *code_signing(private())) == "it is no attestation of a slot of a YubiKey"


# ── what it means for signatures ─────────────────────────────────────────────────────────────────────────────────────


def attested(*keys: str, ends: dt.datetime = ENDS) -> InHardware:
    device = yubikey()
    evidence = device.f9.pem + "".join(device.attest(public(one), ends=ends) for one in keys)
    return held("yubikey-piv", evidence, device.root.pem, *map(key, keys))[0]


async def verdict(signer: Any, by: str) -> tuple[set[Proof], list[str]]:
    registry = FakeRegistry()
    digest = registry.push_image("shop/app", "v1")
    sign_bundle(registry, "shop/app", digest, key(by))
    proofs, reasons, causes = await judged(signer, claim_of(digest), registry)
    assert not causes
    return proofs, reasons


async def test_a_signature_by_an_attested_key_counts_until_its_evidence_ends() -> None:
    (proof,), _ = await verdict(attested("a"), "a")
    assert (proof.identity, proof.valid_until) == (key("a").fingerprint, ENDS)
    nothing, reasons = await verdict(attested("a"), "b")
    assert not nothing
    assert "signed by unknown key" in reasons[0]


async def test_h12_evidence_that_has_ended_vouches_for_nothing() -> None:
    ended = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    nothing, (reason,) = await verdict(attested("a", ends=ended), "a")
    assert not nothing
    assert reason == f"signed by {key('a').fingerprint[:23]}…, whose hardware evidence is valid until {ended}"


class Says:
    """A signer whose check proves what it is told to."""

    def __init__(self, proof: Proof) -> None:
        self.proof = proof

    def __getattr__(self, name_: str) -> Any:
        return getattr(attested("a").signer, name_)

    def check(self, evidence: Untrusted, claim: Claim, now: dt.datetime) -> Proof:
        return self.proof


def check(proof: Proof, device: Device, now: dt.datetime = NOW) -> Proof:
    held_ = InHardware(Says(proof), (device,))
    return held_.check(Untrusted("x", {}), claim_of(Digest("sha256:" + "0" * 64)), now)


DEVICE = Device(key("a").fingerprint, "proven", "YubiKey", BEGINS, NOW + YEAR)


def test_h01_a_key_that_signed_and_is_not_vouched_for_does_not_count() -> None:
    with pytest.raises(Rejected, match=r"signed by SHA256:[0-9a-f]+, which no evidence shows to be in hardware"):
        check(Proof("cosign", key("b").fingerprint, "x"), DEVICE)


def test_h12_a_trusted_time_is_the_time_that_counts() -> None:
    proof = Proof("cosign", key("a").fingerprint, "x")
    assert check(proof, DEVICE).valid_until == NOW + YEAR
    assert check(proof, DEVICE).ends == End(NOW + YEAR, "the evidence about YubiKey")
    sooner = Proof("cosign", key("a").fingerprint, "x", valid_until=NOW + YEAR / 2)
    assert check(sooner, DEVICE).valid_until == NOW + YEAR / 2
    signed = Proof("cosign", key("a").fingerprint, "x", signed_at=NOW)
    assert check(signed, DEVICE, now=NOW + 9 * YEAR) == signed
    for at in (NOW + YEAR, BEGINS - dt.timedelta(seconds=1)):
        with pytest.raises(Rejected, match="whose hardware evidence is valid until"):
            check(Proof("cosign", key("a").fingerprint, "x", signed_at=at), DEVICE)
        with pytest.raises(Rejected, match="whose hardware evidence is valid until"):
            check(proof, DEVICE, now=at)


def test_a_signer_in_hardware_is_what_it_was_and_says_so() -> None:
    signer = attested("a")
    claim = claim_of(Digest("sha256:" + "0" * 64))
    inner: Any = signer.signer
    for ask in ("scope", "sources"):
        assert getattr(signer, ask)(claim) == getattr(inner, ask)(claim)
    assert signer.dangers() == inner.dangers()
    assert signer.fingerprints() == inner.fingerprints()
    assert signer.wanted() == f"{inner.wanted()}, in hardware"
    assert format_of(signer) == format_of(inner) == "cosign"
    assert hash(signer) == hash(attested("a")) or signer != attested("a")
