"""What real cosign left behind: judged at a frozen time, compared with sigstore-python wherever it can judge, and mutated field by field."""

import base64
import contextlib
import copy
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier, policy

from tests import captures
from tests.captures import IMAGE, NOW
from tests.fake.registry import FakeRegistry
from tests.formats.test_contract import claim_of, judged
from tests.formats.test_keyless import build
from webhook.formats.cosign.signer import Cosign
from webhook.parsing import Invalid
from webhook.trust import Claim, Rejected, Untrusted

PATH = "shop/app"
ROOT = captures.key("trusted_root.json").decode()
ISSUER, SUBJECT = "https://accounts.acme.test", "dev@acme.test"
WHO = {"issuer": ISSUER, "subject": SUBJECT}
IDENTITY = f"issuer={ISSUER},subject={SUBJECT}"
SLSA = "https://slsa.dev/provenance/v1"
STAMPED = {"tlog": "ignore", "timestamp": {"require": True}}

LOGGED = [
    "cosign-v2-keyless-sigtag",
    "cosign-keyless-sigtag",
    "cosign-keyless-bundle-rekor1",
    "cosign-keyless-bundle-rekor1-tsa",
    "cosign-keyless-bundle-rekor2-tsa",
]
BUNDLES = [*LOGGED[2:], "cosign-keyless-bundle-tsa"]


def keyless(**spec: Any) -> Cosign:
    return build(**{"keyless": WHO, "trustRoot": ROOT, **spec})


def own(**spec: Any) -> Cosign:
    roots = captures.key("byo-root.pem").decode()
    return build(certificate={"roots": roots, "email": "release@acme.test", **spec})


def loaded(name: str) -> FakeRegistry:
    registry = FakeRegistry(referrers_api=False)
    registry.load(PATH, captures.path(name))
    return registry


async def identities(name: str, signer: Cosign) -> tuple[set[str], list[str]]:
    proofs, reasons, causes = await judged(signer, claim_of(IMAGE), loaded(name))
    assert causes == []
    return {proof.identity for proof in proofs}, reasons


async def evidence_of(name: str) -> list[Untrusted]:
    """All of a capture, signatures and attestations, as it is found."""
    registry = loaded(name)
    return [one async for one in keyless().collect(claim_of(IMAGE), registry) if isinstance(one, Untrusted)]


@pytest.mark.parametrize("name", LOGGED)
async def test_keyless_captures_are_accepted_by_their_identity_and_no_other(name: str) -> None:
    registry = loaded(name)
    proofs, _, _ = await judged(keyless(), claim_of(IMAGE), registry)
    [found] = proofs
    assert found.identity == IDENTITY
    assert found.signed_at is not None
    assert (NOW - found.signed_at).total_seconds() < 120
    assert found.log_index is not None
    for wrong in (
        {"issuer": ISSUER, "subject": "mallory@acme.test"},
        {"issuer": "https://elsewhere.test", "subject": SUBJECT},
        {"issuer": f"{ISSUER}/", "subject": SUBJECT},
        {"github": {"repository": "acme/shop"}},
    ):
        found_by, reasons = await identities(name, keyless(keyless=wrong))
        assert found_by == set()
        assert "another" in reasons[0]


@pytest.mark.parametrize("name", LOGGED)
async def test_keyless_captures_are_refused_under_another_root(name: str) -> None:
    public = captures.PUBLIC_ROOT.decode()
    found, reasons = await identities(name, keyless(trustRoot=public))
    assert found == set()
    assert "log entry: of no log that is trusted" in reasons[0]


async def test_a_capture_without_a_log_is_accepted_by_its_timestamp_alone() -> None:
    name = "cosign-keyless-bundle-tsa"
    assert (await identities(name, keyless(**STAMPED)))[0] == {IDENTITY}
    found, reasons = await identities(name, keyless())
    assert (found, reasons[0]) == (set(), "no log entry, which the policy demands")


async def test_annotations_of_a_keyless_capture() -> None:
    assert (await identities("cosign-keyless-sigtag", keyless(annotations={"team": "blue"})))[0] == {IDENTITY}
    assert (await identities("cosign-keyless-sigtag", keyless(annotations={"team": "red"})))[0] == set()


@pytest.mark.parametrize("name", ["cosign-key-bundle-rekor1", "cosign-key-sigtag-rekor1"])
async def test_logged_key_captures(name: str) -> None:
    pem = captures.key("cosign.pub").decode()
    logged = build(key=pem, tlog="require", trustRoot=ROOT)
    proofs, _, _ = await judged(logged, claim_of(IMAGE), loaded(name))
    assert [proof.signed_at is not None for proof in proofs] == [True]
    assert (await identities(name, build(key=captures.key("other.pub").decode(), tlog="require", trustRoot=ROOT)))[
        0
    ] == set()
    elsewhere = build(key=pem, tlog="require", trustRoot=captures.PUBLIC_ROOT.decode())
    assert (await identities(name, elsewhere)) == (set(), ["log entry: of no log that is trusted"])


@pytest.mark.parametrize("name", ["cosign-key-bundle-notlog", "cosign-key-sigtag-notlog"])
async def test_key_captures_without_an_entry_where_one_is_demanded(name: str) -> None:
    logged = build(key=captures.key("cosign.pub").decode(), tlog="require", trustRoot=ROOT)
    found, reasons = await identities(name, logged)
    assert (found, reasons[0]) == (set(), "no log entry, which the policy demands")


@pytest.mark.parametrize("name", ["cosign-byo-bundle", "cosign-byo-sigtag"])
async def test_captures_of_ones_own_authority(name: str) -> None:
    [found] = (await identities(name, own()))[0]
    assert found.endswith(",subject=email:release@acme.test")
    assert (await identities(name, own(email="mallory@acme.test")))[0] == set()
    assert (await identities(name, own(roots=captures.key("fulcio.pem").decode())))[0] == set()
    subject = build(certificate={"roots": captures.key("byo-root.pem").decode(), "subject": "CN=Acme Release,O=Acme"})
    assert len((await identities(name, subject))[0]) == 1
    proofs, _, _ = await judged(own(), claim_of(IMAGE), loaded(name))
    assert [proof.valid_until is not None and proof.valid_until.year for proof in proofs] == [2036]


@pytest.mark.parametrize("name", LOGGED)
async def test_check_opens_no_socket(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = keyless()
    found = await evidence_of(name)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("check opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    identities = set()
    for one in found:
        with contextlib.suppress(Rejected):
            identities.add(signer.check(one, claim_of(IMAGE), NOW).identity)
    assert identities == {IDENTITY}


# ── the oracle ───────────────────────────────────────────────────────────────────────────────────────────────────────
def normalised(content: bytes) -> str:
    """With the zeros that Go leaves out, which the oracle's reader insists on."""
    bundle = json.loads(content)
    for entry in bundle.get("verificationMaterial", {}).setdefault("tlogEntries", []):
        entry.setdefault("logIndex", "0")
        if (proof := entry.get("inclusionProof")) is not None:
            proof.setdefault("logIndex", "0")
            proof.setdefault("hashes", [])
    return json.dumps(bundle)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    file = tmp_path_factory.mktemp("root") / "trusted_root.json"
    file.write_text(ROOT)
    return Verifier(trusted_root=TrustedRoot.from_file(str(file)))


def oracle_accepts(oracle: Verifier, content: bytes, subject: str = SUBJECT, issuer: str = ISSUER) -> bool:
    try:
        bundle = Bundle.from_json(normalised(content))
        _, payload = oracle.verify_dsse(bundle, policy.Identity(identity=subject, issuer=issuer))
    except Exception:  # noqa: BLE001 - of whatever type, it is a no
        return False
    # What it leaves to its caller.
    return bool(json.loads(payload)["subject"][0]["digest"]["sha256"] == IMAGE[7:])


def we_accept(signer: Cosign, content: bytes, claim: Claim) -> bool:
    try:
        return bool(signer.check(Untrusted("x", {"bundle": content}), claim, NOW))
    except (Rejected, Invalid):
        return False


@pytest.mark.parametrize("name", BUNDLES)
async def test_sigstore_python_agrees_wherever_it_can_judge(oracle: Verifier, name: str) -> None:
    signer = keyless(**(STAMPED if name == "cosign-keyless-bundle-tsa" else {}))
    kinds = set()
    for one in await evidence_of(name):
        content = one.parts["bundle"]
        kind = json.loads(base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"]))["predicateType"]
        kinds.add(kind)
        claim = Claim(claim_of(IMAGE).subject, None if kind.startswith("https://sigstore.dev") else kind)
        assert we_accept(signer, content, claim)
        # It demands exactly one log entry, so it has no word on those without.
        assert oracle_accepts(oracle, content) is (name != "cosign-keyless-bundle-tsa")
        for who in ({"subject": "mallory@acme.test"}, {"issuer": "https://elsewhere.test"}):
            assert not oracle_accepts(oracle, content, **who)
            assert not we_accept(keyless(keyless={**WHO, **who}), content, claim)
    assert SLSA in kinds


def leaves_of(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON document."""
    if path:
        yield path
    children = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for step, child in children:
        yield from leaves_of(child, (*path, step))


def at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def replaced(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    at(changed, path[:-1])[path[-1]] = value
    return changed


VALUES: list[Any] = [None, {}, [], "", 0, 1, True, "x", "AAAA", [None], {"x": 1}, -1, 1.5, "\ud800", "9" * 30]
# So that everything in a bundle is something that the verdict rests on.
DEMANDS: dict[str, dict[str, Any]] = {
    "cosign-keyless-bundle-tsa": STAMPED,
    "cosign-keyless-bundle-rekor1-tsa": {"timestamp": {"require": True}},
}
LENIENT = frozenset({"timestampVerificationData", "integratedTime", "inclusionPromise", "logIndex"})


def another_of(documents: list[Any], path: tuple[str | int, ...]) -> list[Any]:
    """What stands in the same place of other bundles: valid there, and another's."""
    found = []
    for document in documents:
        try:
            found.append(at(document, path))
        except (KeyError, IndexError, TypeError):
            continue
    return found


@pytest.mark.parametrize("name", BUNDLES)
async def test_c13_every_field_of_a_bundle_replaced_by_everything(oracle: Verifier, name: str) -> None:
    signer = keyless(**DEMANDS.get(name, {}))
    claim = claim_of(IMAGE)
    whole = [json.loads(one.parts["bundle"]) for one in await evidence_of(name)]
    bundle = next(one for one in whole if we_accept(signer, json.dumps(one).encode(), claim))
    others = [one for one in whole if one != bundle]
    for capture in BUNDLES:
        if capture != name:
            others += [json.loads(one.parts["bundle"]) for one in await evidence_of(capture)]
    tried, accepted, by_oracle = 0, [], list[tuple[str | int, ...]]()
    for path in leaves_of(bundle):
        for value in [*VALUES, *another_of(others, path)]:
            if value == at(bundle, path) and type(value) is type(at(bundle, path)):
                continue
            content = json.dumps(replaced(bundle, path, value)).encode()
            tried += 1
            if we_accept(signer, content, claim):
                accepted.append((path, value))
            if oracle_accepts(oracle, content):
                by_oracle.append(path)
    assert tried > 250
    # The oracle takes less for granted where we insist: it demands no timestamp beside a log entry, does not miss a promise that was
    # taken away while there is a timestamp, and does not compare the two indexes that an entry of Rekor 2 has.
    assert [path for path in by_oracle if not LENIENT.intersection(path)] == []
    assert accepted == []


# Signed by nobody and believed by nobody: what a checkpoint's signer calls itself, and which certificate a token says it is by.
LABELS = re.compile(rb"\xe2\x80\x94 [^ ]+ |\"signedTimestamp\":\"[^\"]+\"")


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("name", BUNDLES)
async def test_c13_any_flipped_bit_of_a_bundle(name: str) -> None:
    signer, claim = keyless(**DEMANDS.get(name, {})), claim_of(IMAGE)
    content = next(one for one in [e.parts["bundle"] for e in await evidence_of(name)] if we_accept(signer, one, claim))
    labels = [match.span() for match in LABELS.finditer(content)]
    for position in range(0, len(content), 5):
        if any(begin <= position < end for begin, end in labels):
            continue
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        assert not we_accept(signer, bytes(flipped), claim), (position, content[position - 20 : position + 20])


@pytest.mark.parametrize("name", LOGGED[:2])
async def test_c13_every_field_beside_a_classic_signature_replaced_by_everything(name: str) -> None:
    signer, claim = keyless(), claim_of(IMAGE)
    [evidence] = await evidence_of(name)
    entry = json.loads(evidence.parts["entry"])
    signer.check(evidence, claim, NOW)
    [other] = [one for one in LOGGED[:2] if one != name]
    strange = (await evidence_of(other))[0].parts
    tried = 0
    for path in leaves_of(entry):
        for value in [*VALUES, at(json.loads(strange["entry"]), path)]:
            if value == at(entry, path) and type(value) is type(at(entry, path)):
                continue
            tried += 1
            changed = json.dumps(replaced(entry, path, value)).encode()
            with pytest.raises((Rejected, Invalid)):
                signer.check(Untrusted("x", {**evidence.parts, "entry": changed}), claim, NOW)
    assert tried > 80
    for part in ("payload", "signature", "certificate", "entry"):
        for value in (
            b"",
            b"null",
            b"{}",
            b"[]",
            b"\xff",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            strange[part],
        ):
            if value == evidence.parts[part]:
                continue
            with pytest.raises((Rejected, Invalid)):
                signer.check(Untrusted("x", {**evidence.parts, part: value}), claim, NOW)
        without = {key: value for key, value in evidence.parts.items() if key != part}
        if part in {"certificate", "entry"}:
            with pytest.raises((Rejected, Invalid)):
                signer.check(Untrusted("x", without), claim, NOW)
