"""What every row of the table of formats must hold. A new format gets all of it for its one row."""

import base64
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.x509 import RFC822Name, SubjectAlternativeName

from tests.captures import NOW
from tests.fake import sigstore
from tests.fake.notary import SERVER, NotaryRepository, root_key
from tests.fake.notation import Form, authority, party, sign_notation, store, trusting
from tests.fake.openpgp import certificate, keyring_spec, openpgp_key, sign_gpg
from tests.fake.pki import CODE_SIGNING, issue
from tests.fake.registry import FakeRegistry, to_json
from tests.fake.signing import SigningKey, bundle, key, payload, sign_bundle, sign_classic, statement
from webhook import limits
from webhook.formats import FORMATS
from webhook.image import Digest, Repository, Subject
from webhook.parsing import Invalid, convert_all
from webhook.trust import Claim, KeyRef, Registry, Rejected, Signer, Unavailable, Untrusted
from webhook.verdict import Proof

PATH = "shop/app"
GUN = f"registry.test/{PATH}"
ROOT = authority("Root")
# A certificate whose signature ends in a one: of zeros at its end some could be called unused, and it would be the same signature.
SIGNER = next(one for one in iter(lambda: party("Signer", ROOT), None) if one.der[-1] & 1)

INSTANCE = sigstore.Sigstore()
# Zeros may be left out, so that of the first entry the names of its numbers mean nothing.
INSTANCE.log.append(b"somebody else's")
OWN_ROOT = issue("own root", ca=True)
RELEASE = issue(
    "release",
    OWN_ROOT,
    purposes=[CODE_SIGNING],
    extensions=[(SubjectAlternativeName([RFC822Name("release@acme.test")]), False)],
)

Sign = Callable[[FakeRegistry, Digest], object]


@dataclass(frozen=True)
class Case:
    """One way to satisfy one format: how a policy says it, and how somebody signs, rightly or not.

    `stranger`: what to change in the policy so that it names another key. `huge`, `twice`: signs with an oversized blob, and with a
    key that stands twice. `is_signed`: whether a byte of a part is one that a signature rests on. `nothing`: what is said where
    nobody signed.
    """

    name: str
    format: str
    spec: Callable[[Digest], dict[str, Any]]
    sign: Sign
    by_evidence: bool = True
    stranger: Mapping[str, Any] = field(default_factory=lambda: {"key": key("b").pem})
    huge: Sign = lambda _r, _d: None
    twice: Sign = lambda _r, _d: None
    is_signed: Callable[[bytes, int], bool] = lambda _content, _position: True
    nothing: tuple[str, ...] = ()


def grow(document: dict[str, Any]) -> None:
    (document["layers"][0] if "layers" in document else document)["size"] = limits.MAX_BLOB + 1


def twice_in_payload(digest: Digest, kind: str) -> bytes:
    """A simple-signing payload about another image, and about this one."""
    return (
        f'{{"critical":{{"identity":{{"docker-reference":"x"}},"image":{{"docker-manifest-digest":"sha256:{"0" * 64}"}},'
        f'"image":{{"docker-manifest-digest":"{digest}"}},"type":"{kind}"}},"optional":{{}}}}'
    ).encode()


def twice_in_statement(digest: Digest) -> bytes:
    """A statement about another image, and about this one."""
    return (
        f'{{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://sigstore.dev/cosign/sign/v1",'
        f'"subject":[{{"digest":{{"sha256":"{"0" * 64}"}}}}],"subject":[{{"digest":{{"sha256":"{digest[7:]}"}}}}]}}'
    ).encode()


def trust_data(digest: Digest, **changed: Any) -> NotaryRepository:
    """A notary server's repository that says what `v1` is."""
    return NotaryRepository(GUN, {"targets": {"v1": digest}}, keys={"root": [root_key("a", GUN)]}, **changed)


def rests_a_bundle_on(content: bytes, position: int) -> bool:
    """A bundle has parts that a key signature does not rest on; whatever they say, it is the same proof."""
    return (
        b"hint" not in content[position - 12 : position + 12]
        and b"Material" not in content[position - 40 : position + 40]
    )


def rests_a_message_on(content: bytes, position: int) -> bool:
    """The form, name and date of an OpenPGP literal are not signed: 6 bytes after the heads of the first two packets."""
    return not 25 <= position < 31


def rests_a_logged_bundle_on(content: bytes, position: int) -> bool:
    """What the signer of a checkpoint calls itself, and where the lines of a PEM end, is nobody's word."""
    label = re.search(rb"(?:\xe2\x80\x94|\\u2014) [^ ]+ ", content)
    is_label = label is not None and label.start() <= position < label.end()
    return not is_label and content[position : position + 1] != b"\n"


def _certified(
    name: str,
    spec: dict[str, Any],
    stranger: dict[str, Any],
    sealed: Callable[[bytes], dict[str, Any]],
    beside: Callable[[bytes], dict[str, str]],
) -> list[Case]:
    """Signatures with a certificate, in both layouts: `sealed` makes a bundle, `beside` the annotations of a classic one."""

    def bundled(registry: FakeRegistry, digest: Digest, signed: bytes | None = None, **options: Any) -> None:
        content = to_json(sealed(signed or to_json(statement(digest))))
        sign_bundle(registry, PATH, digest, key("a"), content=content, **options)

    def classic(
        registry: FakeRegistry, digest: Digest, content: bytes | None = None, edit: Callable[[Any], object] = bool
    ) -> None:
        content = content or to_json(payload(PATH, digest))

        def put(layer: dict[str, Any]) -> None:
            layer["annotations"] = beside(content)
            edit(layer)

        sign_classic(registry, PATH, digest, key("a"), content=content, edit_layer=put)

    return [
        Case(
            f"{name}-bundle",
            "cosign",
            lambda _: spec,
            bundled,
            stranger=stranger,
            huge=lambda r, d: bundled(r, d, edit_manifest=grow),
            twice=lambda r, d: bundled(r, d, twice_in_statement(d)),
            is_signed=rests_a_logged_bundle_on,
        ),
        Case(
            f"{name}-classic",
            "cosign",
            lambda _: spec,
            classic,
            stranger=stranger,
            huge=lambda r, d: classic(r, d, edit=grow),
            twice=lambda r, d: classic(r, d, twice_in_payload(d, "cosign container image signature")),
            is_signed=rests_a_logged_bundle_on,
        ),
    ]


def own_bundle(signed: bytes) -> dict[str, Any]:
    """By the certificate of an authority of one's own."""
    made = bundle(SigningKey(RELEASE.key), signed)
    return {**made, "verificationMaterial": {"certificate": {"rawBytes": sigstore.b64(RELEASE.der)}}}


def own_annotations(signed: bytes) -> dict[str, str]:
    return {
        "dev.cosignproject.cosign/signature": sigstore.b64(SigningKey(RELEASE.key).sign(signed)),
        "dev.sigstore.cosign/certificate": RELEASE.pem.decode(),
    }


WHO = {"issuer": sigstore.ISSUER, "subject": sigstore.SUBJECT}
OWN = {"roots": OWN_ROOT.pem.decode(), "email": "release@acme.test"}


def _notation(form: Form) -> Case:
    return Case(
        f"notation-{form}",
        "notation",
        lambda _: trusting(store("ca", ROOT)),
        lambda r, d: sign_notation(r, PATH, d, SIGNER, form),
        stranger=trusting(store("ca", authority("Other Root"))),
        huge=lambda r, d: sign_notation(r, PATH, d, SIGNER, form, edit_manifest=grow),
        twice=lambda r, d: sign_notation(
            r,
            PATH,
            d,
            SIGNER,
            form,
            signed=f'{{"targetArtifact":{{"digest":"x","digest":"{d}","size":1,"mediaType":"x"}}}}'.encode(),
        ),
    )


CASES = [
    Case(
        "classic",
        "cosign",
        lambda _: {"key": key("a").pem},
        lambda r, d: sign_classic(r, PATH, d, key("a")),
        huge=lambda r, d: sign_classic(r, PATH, d, key("a"), edit_layer=grow),
        twice=lambda r, d: sign_classic(
            r, PATH, d, key("a"), content=twice_in_payload(d, "cosign container image signature")
        ),
    ),
    Case(
        "bundle",
        "cosign",
        lambda _: {"key": key("a").pem},
        lambda r, d: sign_bundle(r, PATH, d, key("a")),
        huge=lambda r, d: sign_bundle(r, PATH, d, key("a"), edit_manifest=grow),
        twice=lambda r, d: sign_bundle(r, PATH, d, key("a"), signed=twice_in_statement(d)),
        is_signed=rests_a_bundle_on,
    ),
    *_certified(
        "keyless",
        {"keyless": WHO, "trustRoot": INSTANCE.trusted_root()},
        {"keyless": {**WHO, "subject": "mallory@acme.test"}},
        INSTANCE.bundle,
        INSTANCE.annotations,
    ),
    *_certified(
        "certificate",
        {"certificate": OWN},
        {"certificate": {**OWN, "email": "mallory@acme.test"}},
        own_bundle,
        own_annotations,
    ),
    Case(
        "gpg",
        "gpg",
        lambda _: keyring_spec(certificate(openpgp_key("a"))),
        lambda r, d: sign_gpg(r, PATH, d, openpgp_key("a")),
        stranger=keyring_spec(certificate(openpgp_key("b"))),
        huge=lambda r, d: sign_gpg(r, PATH, d, openpgp_key("a"), signed=bytes(limits.MAX_OPENPGP + 1)),
        twice=lambda r, d: sign_gpg(
            r, PATH, d, openpgp_key("a"), content=twice_in_payload(d, "atomic container signature")
        ),
        is_signed=rests_a_message_on,
    ),
    _notation("jws"),
    _notation("cose"),
    Case(
        "dct",
        "dct",
        lambda _: {"server": SERVER, "rootKeys": [root_key("a", GUN).public.pem]},
        lambda r, d: trust_data(d).publish(r),
        stranger={"rootKeys": [root_key("b", GUN).public.pem]},
        huge=lambda r, d: trust_data(d, raw={"targets": lambda c: c + b" " * limits.MAX_TUF_TARGETS}).publish(r),
        twice=lambda r, d: trust_data(
            d, raw={"targets": lambda c: c.replace(b'"targets":', b'"targets":{},"targets":')}
        ).publish(r),
        nothing=(f"there is no trust data of {GUN} on {SERVER}",),
    ),
    Case(
        "static",
        "static",
        lambda d: {"allow": True, "digests": [d], "reason": "why"},
        lambda _r, _d: None,
        by_evidence=False,
    ),
]
SIGNED = [case for case in CASES if case.by_evidence]


def ids(case: Case) -> str:
    return case.name


def build(case: Case, digest: Digest, **changed: Any) -> Signer:
    row = FORMATS[case.format]
    spec = convert_all({**case.spec(digest), **changed}, row.spec, "spec")
    materials = {reference: reference.encode() for _, reference in row.keys(spec)}
    return row.build(spec, materials)


def claim_of(digest: Digest, path: str = PATH) -> Claim:
    return Claim(Subject(Repository("registry.test", path), digest, "v1"))


async def judged(signer: Signer, claim: Claim, registry: Registry) -> tuple[set[Proof], list[str], list[str]]:
    """Proofs, reasons and causes, all evidence read."""
    proofs: set[Proof] = set()
    reasons: list[str] = []
    causes: list[str] = []
    async for evidence in signer.collect(claim, registry):
        match evidence:
            case Rejected():
                reasons.append(str(evidence))
            case Unavailable():
                causes.append(str(evidence))
            case Untrusted():
                try:
                    proofs.add(signer.check(evidence, claim, NOW))
                except (Rejected, Invalid) as e:
                    reasons.append(str(e))
    return proofs, reasons, causes


def signed(case: Case) -> tuple[FakeRegistry, Digest]:
    registry = FakeRegistry()
    digest = registry.push_image(PATH, "v1")
    case.sign(registry, digest)
    return registry, digest


def test_every_format_has_a_case_here() -> None:
    assert {case.format for case in CASES} == set(FORMATS)


@pytest.mark.parametrize("case", CASES, ids=ids)
async def test_a_good_signature_makes_a_proof(case: Case) -> None:
    registry, digest = signed(case)
    proofs, reasons, causes = await judged(build(case, digest), claim_of(digest), registry)
    assert [proof.format for proof in proofs] == [case.format]
    assert (reasons, causes) == ([], [])


@pytest.mark.parametrize("case", CASES, ids=ids)
async def test_another_digest_is_not_signed(case: Case) -> None:
    registry, digest = signed(case)
    other = registry.push_image(PATH, "v2", b"other")
    # The evidence of the first image, offered for the second.
    evidence = [e async for e in build(case, digest).collect(claim_of(digest), registry)]
    for one in evidence:
        assert isinstance(one, Untrusted)
        with pytest.raises(Rejected, match=r"another image|not one of the 1 digests"):
            build(case, digest).check(one, claim_of(other), NOW)


@pytest.mark.parametrize("case", SIGNED, ids=ids)
async def test_another_key_is_rejected(case: Case) -> None:
    registry, digest = signed(case)
    proofs, reasons, _ = await judged(build(case, digest, **case.stranger), claim_of(digest), registry)
    assert proofs == set()
    assert re.search(
        r"unknown key|not signed by a (root )?key|leads to none in a trust store|another subject|not mallory",
        reasons[0],
    )


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("case", SIGNED, ids=ids)
async def test_any_flipped_bit_is_rejected(case: Case) -> None:
    registry, digest = signed(case)
    signer, claim = build(case, digest), claim_of(digest)
    [evidence] = [e async for e in signer.collect(claim, registry) if isinstance(e, Untrusted)]
    identities = {signer.check(evidence, claim, NOW).identity}
    for name, content in evidence.parts.items():
        for position in range(0, len(content), 7):
            flipped = bytearray(content)
            flipped[position] ^= 4
            try:
                proof = signer.check(Untrusted("x", {**evidence.parts, name: bytes(flipped)}), claim, NOW)
            except (Rejected, Invalid):
                continue
            assert not case.is_signed(content, position)
            assert {proof.identity} == identities


@pytest.mark.parametrize("case", SIGNED, ids=ids)
async def test_nothing_signed_is_no_proof(case: Case) -> None:
    registry = FakeRegistry()
    digest = registry.push_image(PATH, "v1")
    assert await judged(build(case, digest), claim_of(digest), registry) == (set(), [*case.nothing], [])


@pytest.mark.parametrize("case", SIGNED, ids=ids)
async def test_a_registry_that_is_down_is_unavailable_and_not_a_rejection(case: Case) -> None:
    registry, digest = signed(case)
    for method in ("manifest", "referrers", "blob", "get"):
        registry.fail(method, lambda: Unavailable("registry.test: connection refused"))
    proofs, reasons, causes = await judged(build(case, digest), claim_of(digest), registry)
    assert (proofs, reasons) == (set(), [])
    assert "registry.test: connection refused" in causes


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_equal_demands_are_equal_values(case: Case) -> None:
    digest = Digest(f"sha256:{'0' * 64}")
    assert build(case, digest) == build(case, digest)
    assert hash(build(case, digest)) == hash(build(case, digest))
    hash(build(case, digest).scope(claim_of(digest)))


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_the_scope_tells_digests_apart(case: Case) -> None:
    one, other = Digest(f"sha256:{'0' * 64}"), Digest(f"sha256:{'1' * 64}")
    signer = build(case, one)
    assert signer.scope(claim_of(one)) != signer.scope(claim_of(other))
    attested = Claim(claim_of(one).subject, "https://slsa.dev/provenance/v1")
    assert signer.scope(claim_of(one)) != signer.scope(attested)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_an_unknown_option_is_refused(case: Case) -> None:
    with pytest.raises(Invalid, match=r"spec\.surprise: unknown field"):
        build(case, Digest(f"sha256:{'0' * 64}"), surprise=1)


@pytest.mark.parametrize("case", CASES, ids=ids)
async def test_check_opens_no_socket(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, digest = signed(case)
    signer, claim = build(case, digest), claim_of(digest)
    evidence = [e async for e in signer.collect(claim, registry) if isinstance(e, Untrusted)]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("check opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert signer.check(evidence[0], claim, NOW).format == case.format


@pytest.mark.parametrize("case", CASES, ids=ids)
@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:abc", f"sha512:{'0' * 64}"])
async def test_c14_a_claim_without_a_digest_proves_nothing(case: Case, digest: str) -> None:
    registry, good = signed(case)
    signer = build(case, good)
    evidence = [e async for e in signer.collect(claim_of(good), registry) if isinstance(e, Untrusted)]
    with pytest.raises(Invalid, match="not a digest"):
        signer.check(evidence[0], claim_of(Digest(digest)), NOW)


@pytest.mark.parametrize("case", SIGNED, ids=ids)
async def test_d01_an_oversized_blob_is_rejected_before_it_is_read(case: Case) -> None:
    registry = FakeRegistry()
    digest = registry.push_image(PATH, "v1")
    case.huge(registry, digest)
    proofs, reasons, _ = await judged(build(case, digest), claim_of(digest), registry)
    assert proofs == set()
    assert re.search(r"bytes, more than|an answer of more than", reasons[0])
    assert registry.asked["blob"] == 0


@pytest.mark.parametrize("case", SIGNED, ids=ids)
async def test_duplicate_keys_under_a_good_signature_are_rejected(case: Case) -> None:
    registry = FakeRegistry()
    digest = registry.push_image(PATH, "v1")
    case.twice(registry, digest)
    proofs, reasons, _ = await judged(build(case, digest), claim_of(digest), registry)
    assert proofs == set()
    assert "duplicate key" in reasons[0]


@dataclass(frozen=True)
class Written:
    """What a policy says besides its keys, and what is found about it whether they have been read or not."""

    case: str
    changed: Mapping[str, Any]
    complaints: tuple[str, ...] = ()
    dangers: tuple[str, ...] = ()


ACME = "x509.subject: C=US, ST=WA, O=Acme"
CLOCK = issue("clock", ca=True).pem.decode()
ANY_SIGNER = "notation: trustedIdentities * accepts every certificate below the trust stores' ones"
NO_ADDRESS = "neither the address of a store (https://…, without login and query) nor the word registry"
NO_ROLE = "is not a delegation's name: lower-case letters, digits, `-`, `_`, and `/` between"
WRITTEN = [
    Written("classic", {}),
    Written("classic", {"repository": "A B"}, (".repository: A B: A B is not a part of an image's path",)),
    Written("keyless-bundle", {}),
    Written("keyless-bundle", {"tlog": "ignore"}, (".tlog: with keyless, a log entry or a timestamp is needed",)),
    Written(
        "keyless-bundle",
        {"keyless": {**WHO, "issuer": "https://*"}},
        (".keyless.issuer: no character stands for others; write issuerRegex",),
    ),
    Written(
        "keyless-bundle",
        {"keyless": {"issuer": sigstore.ISSUER, "subjectRegex": ".*"}},
        dangers=("keyless",),
    ),
    Written("certificate-bundle", {"certificate": {**OWN, "email": "*"}}, (".certificate.email: ",)),
    Written("gpg", {}),
    Written("gpg", {"fingerprints": []}, (".fingerprints: empty, so nobody could have signed",)),
    Written("gpg", {"fingerprints": ["AB"]}, (".fingerprints[0]: AB: not a full fingerprint, of 40 hex digits",)),
    Written(
        "gpg",
        {"lookaside": "https://u:p@a.io/../x", "fingerprints": ["AB"]},
        (".fingerprints[0]: AB: not a full fingerprint", f".lookaside: https://u:p@a.io/../x: {NO_ADDRESS}"),
    ),
    Written("gpg", {"identity": {"repository": "A B"}}, (".identity: A B: A B is not a part of an image's path",)),
    Written("notation-jws", {"trustedIdentities": [ACME]}),
    Written("notation-jws", {}, dangers=(ANY_SIGNER,)),
    Written(
        "notation-jws",
        {"level": "audit"},
        dangers=("notation: authenticity is only logged, so that anybody may have signed",),
    ),
    Written(
        "notation-jws",
        {"trustedIdentities": ["garbage"], "timestamp": "always"},
        (".timestamp: needs a trust store of type tsa", ".trustedIdentities[0]: garbage: write x509.subject:"),
    ),
    Written(
        "notation-jws",
        {"trustedIdentities": ["x509.subject: CN=a"]},
        (".trustedIdentities[0]: x509.subject: CN=a: lacks C, ST, O; C, ST and O are mandatory",),
    ),
    Written(
        "notation-jws",
        {"trustedIdentities": [ACME, f"{ACME}, OU=Releases"]},
        (".trustedIdentities: one of them contains another, so that it is not clear who is meant",),
    ),
    Written("dct", {}),
    Written(
        "dct",
        {"server": "notaurl", "delegations": ["../x", "*"]},
        (
            ".server: notaurl is not a URL like https://notary.example",
            f".delegations[0]: ../x {NO_ROLE}",
            f".delegations[1]: * {NO_ROLE}",
        ),
    ),
    Written("dct", {"delegations": []}, (".delegations: empty, so nobody would have to sign",)),
    Written(
        "dct",
        {"server": "http://notary.test", "ca": CLOCK},
        (".ca: without meaning beside a server without TLS",),
    ),
    Written("dct", {"rootKeys": [], "ca": CLOCK}, (".rootKeys: empty, so nobody could have signed",)),
]


def found(read: Callable[[], tuple[str, ...]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Complaints, and dangers."""
    try:
        return (), read()
    except Invalid as e:
        return e.complaints, ()


@pytest.mark.parametrize("written", WRITTEN, ids=lambda written: f"{written.case}-{'-'.join(written.changed)}")
def test_what_is_found_without_the_keys_is_what_is_found_with_them(written: Written) -> None:
    [case] = [case for case in CASES if case.name == written.case]
    row, digest = FORMATS[case.format], Digest(f"sha256:{'0' * 64}")
    spec = convert_all({**case.spec(digest), **written.changed}, row.spec, "spec")
    by_reference = found(lambda: row.examine(spec))
    assert by_reference == found(lambda: build(case, digest, **written.changed).dangers())
    for said, expected in zip(by_reference, (written.complaints, written.dangers), strict=True):
        assert len(said) == len(expected)
        assert all(text.startswith(begin) for text, begin in zip(said, expected, strict=True))


def test_every_format_with_keys_is_examined_without_them() -> None:
    digest = Digest(f"sha256:{'0' * 64}")
    with_keys = {
        case.format
        for case in CASES
        if list(FORMATS[case.format].keys(convert_all(case.spec(digest), FORMATS[case.format].spec, "spec")))
    }
    assert {case.format for case in CASES for written in WRITTEN if written.case == case.name} == with_keys


def test_key_references_are_listed_with_their_paths() -> None:
    row = FORMATS["cosign"]
    spec = convert_all({"keys": ["secret://a#b", "secret://c#d"]}, row.spec, "")
    assert list(row.keys(spec)) == [(".keys[0]", KeyRef("secret://a#b")), (".keys[1]", KeyRef("secret://c#d"))]


def test_base64_of_the_fakes_is_standard() -> None:
    assert base64.b64decode(key("a").hint, validate=True)
