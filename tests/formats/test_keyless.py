"""Keyless signatures: what is accepted, and every attack on the certificate, the log, the time and the trust root."""

import asyncio
import base64
import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.fake import sigstore
from tests.fake.pki import DAY, NOW, TIME_STAMPING, issue, timestamp
from tests.fake.registry import FakeRegistry, to_json
from tests.fake.signing import SLSA, SigningKey, key, payload, statement
from tests.fake.sigstore import ISSUER, SUBJECT, CertificateLog, Json, Made, Sigstore, TransparencyLog, b64
from webhook import limits
from webhook.formats._dsse import pae
from webhook.formats.cosign import FORMAT
from webhook.formats.cosign.signer import Cosign
from webhook.formats.cosign.spec import CosignSpec
from webhook.image import Digest, Repository, Subject
from webhook.parsing import Invalid, convert_all
from webhook.trust import Claim, HardwareEvidence, KeyRef, Rejected, Untrusted
from webhook.verdict import End, Proof

DIGEST = Digest(f"sha256:{'a' * 64}")
OTHER = Digest(f"sha256:{'b' * 64}")
CLAIM = Claim(Subject(Repository("registry.test", "shop/app"), DIGEST, "v1"))
WHO = {"issuer": ISSUER, "subject": SUBJECT}
MINUTE = dt.timedelta(minutes=1)
SECOND = dt.timedelta(seconds=1)
STATEMENT = to_json(statement(DIGEST))
PAYLOAD = to_json(payload("shop/app", DIGEST))


def build(**spec: Any) -> Cosign:
    read = convert_all(spec, CosignSpec, "cosign")
    built = FORMAT.build(read, {reference: reference.encode() for _, reference in FORMAT.keys(read)})
    assert isinstance(built, Cosign)
    return built


def keyless(instance: Sigstore, edit_root: Callable[[Json], object] | None = None, **spec: Any) -> Cosign:
    return build(**{"keyless": WHO, "trustRoot": instance.trusted_root(edit_root), **spec})


def bundled(bundle: Json) -> Untrusted:
    return Untrusted("a bundle", {"bundle": to_json(bundle)})


def classic(annotations: dict[str, str], signed: bytes = PAYLOAD) -> Untrusted:
    names = {
        "signature": "dev.cosignproject.cosign/signature",
        "certificate": "dev.sigstore.cosign/certificate",
        "chain": "dev.sigstore.cosign/chain",
        "entry": "dev.sigstore.cosign/bundle",
        "timestamp": "dev.sigstore.cosign/rfc3161timestamp",
    }
    parts = {name: annotations[long].encode() for name, long in names.items() if annotations.get(long)}
    return Untrusted("a layer", {"payload": signed, **parts})


def proof(signer: Cosign, evidence: Untrusted, claim: Claim = CLAIM, now: dt.datetime = NOW) -> Proof:
    return signer.check(evidence, claim, now)


def refused(signer: Cosign, evidence: Untrusted, claim: Claim = CLAIM, now: dt.datetime = NOW) -> str:
    """Why it is refused; any other exception fails the test."""
    with pytest.raises((Rejected, Invalid)) as error:
        signer.check(evidence, claim, now)
    return str(error.value)


@pytest.fixture(scope="module")
def instance() -> Sigstore:
    return Sigstore()


V1 = [sigstore.dsse, sigstore.hashedrekord, sigstore.intoto]
V2 = [sigstore.hashedrekord_v2, sigstore.dsse_v2]


# ── accepted ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
@pytest.mark.parametrize("body", V1)
def test_a_bundle_logged_by_rekor_1(instance: Sigstore, body: Callable[[Made], Json], version: str) -> None:
    made = proof(keyless(instance), bundled(instance.bundle(STATEMENT, body=body, version=version)))
    assert (made.identity, made.signed_at) == (f"issuer={ISSUER},subject={SUBJECT}", NOW)
    assert made.statement == STATEMENT
    assert (made.valid_until, made.ends) == (None, None)
    assert made.serial == f"{int(made.serial or '', 16):x}"
    assert made.log_index == len(instance.log.leaves) - 1
    assert made.keys == (key("keyless").fingerprint,)


@pytest.mark.parametrize("body", V2)
def test_a_bundle_logged_by_rekor_2_is_dated_by_a_timestamp(instance: Sigstore, body: Callable[[Made], Json]) -> None:
    assert proof(keyless(instance), bundled(instance.bundle(STATEMENT, body=body, stamped=True))).signed_at == NOW
    undated = bundled(instance.bundle(STATEMENT, body=body))
    assert refused(keyless(instance), undated) == "nothing that is trusted says when it was signed"


def test_a_classic_signature(instance: Sigstore) -> None:
    made = proof(keyless(instance), classic(instance.annotations(PAYLOAD)))
    assert (made.identity, made.signed_at, made.statement) == (f"issuer={ISSUER},subject={SUBJECT}", NOW, None)


@pytest.mark.parametrize("shape", ["bundle", "classic"])
def test_c17_without_a_log_only_by_a_timestamp_that_the_policy_demands(instance: Sigstore, shape: str) -> None:
    def evidence(**how: Any) -> Untrusted:
        if shape == "bundle":
            return bundled(instance.bundle(STATEMENT, **how))
        return classic(instance.annotations(PAYLOAD, **how))

    stamped = evidence(logged=False, stamped=True)
    by_timestamp = keyless(instance, tlog="ignore", timestamp={"require": True})
    assert proof(by_timestamp, stamped).signed_at == NOW
    assert refused(keyless(instance), stamped) == "no log entry, which the policy demands"
    assert refused(by_timestamp, evidence(logged=False)) == "no timestamp, which the policy demands"
    with pytest.raises(Invalid, match=r"\.tlog: with keyless, a log entry or a timestamp is needed"):
        keyless(instance, tlog="ignore")
    with pytest.raises(Invalid, match=r"\.tlog: with keyless, a log entry or a timestamp is needed"):
        keyless(instance, tlog="ignore", timestamp={})


def test_both_a_log_and_a_timestamp_may_be_demanded(instance: Sigstore) -> None:
    both = keyless(instance, tlog="require", timestamp={"require": True})
    assert proof(both, bundled(instance.bundle(STATEMENT, stamped=True))).signed_at == NOW
    assert refused(both, bundled(instance.bundle(STATEMENT))) == "no timestamp, which the policy demands"
    assert refused(both, bundled(instance.bundle(STATEMENT, logged=False, stamped=True))) == (
        "no log entry, which the policy demands"
    )


def test_a_timestamp_authority_of_the_policys_own_stands_in_for_the_trust_roots(instance: Sigstore) -> None:
    root = issue("own tsa root", ca=True)
    authority = issue("own tsa", root, purposes=[TIME_STAMPING])
    own = {"tsa": (root.pem + authority.pem).decode(), "require": True}
    bundle = instance.bundle(STATEMENT)
    signature = bundle["dsseEnvelope"]["signatures"][0]["sig"]
    stamp = timestamp(authority, base64.b64decode(signature))
    bundle["verificationMaterial"]["timestampVerificationData"] = {
        "rfc3161Timestamps": [{"signedTimestamp": b64(stamp)}]
    }
    assert proof(keyless(instance, timestamp=own), bundled(bundle)).signed_at == NOW
    assert "not signed by an authority that is trusted" in refused(
        keyless(instance, timestamp={"require": True}), bundled(bundle)
    )
    assert "not signed by an authority that is trusted" in refused(
        keyless(instance, timestamp=own), bundled(instance.bundle(STATEMENT, stamped=True))
    )


def test_a_key_signature_is_not_keyless_and_the_reverse(instance: Sigstore) -> None:
    by_key = bundled(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": instance.bundle(STATEMENT)["dsseEnvelope"],
        }
    )
    assert refused(keyless(instance), by_key) == "signed by a key, and the policy wants an identity"
    own = build(certificate={"roots": instance.fulcio.root.pem.decode(), "email": SUBJECT})
    assert refused(own, by_key) == "signed by a key, and the policy wants a certificate"
    key_signer = build(key=key("keyless").pem)
    assert refused(key_signer, bundled(instance.bundle(STATEMENT))) == (
        "signed with a certificate, and the policy names a key"
    )
    assert proof(key_signer, by_key).identity == key("keyless").fingerprint


def test_c04_an_attestation_is_no_keyless_signature(instance: Sigstore) -> None:
    attested = bundled(instance.bundle(to_json(statement(DIGEST, SLSA))))
    assert refused(keyless(instance), attested) == f"an attestation of type {SLSA}, not a signature"
    assert proof(keyless(instance), attested, Claim(CLAIM.subject, SLSA)).statement
    signed = bundled(instance.bundle(STATEMENT))
    assert refused(keyless(instance), signed, Claim(CLAIM.subject, SLSA)) == f"a signature, not of type {SLSA}"
    assert refused(keyless(instance), classic(instance.annotations(PAYLOAD)), Claim(CLAIM.subject, SLSA)) == (
        "a signature, not an attestation"
    )


@pytest.mark.parametrize(
    "who",
    [
        {"issuer": ISSUER, "subject": "mallory@acme.test"},
        {"issuer": "https://elsewhere.test", "subject": SUBJECT},
        {"github": {"repository": "acme/shop"}},
    ],
)
def test_another_identity_has_not_signed(instance: Sigstore, who: dict[str, Any]) -> None:
    for evidence in (bundled(instance.bundle(STATEMENT)), classic(instance.annotations(PAYLOAD))):
        proof(keyless(instance), evidence)
        assert "another" in refused(keyless(instance, keyless=who), evidence)


def test_another_image_is_not_signed(instance: Sigstore) -> None:
    other = Claim(Subject(CLAIM.subject.repository, OTHER, "v1"))
    assert refused(keyless(instance), bundled(instance.bundle(STATEMENT)), other) == "it is about another image"
    assert "it is about another image" in refused(keyless(instance), classic(instance.annotations(PAYLOAD)), other)


# ── the log entry is about this signature ────────────────────────────────────────────────────────────────────────────
def other_than(made: Made, what: str) -> Made:
    """The same, but for one of the three that an entry binds."""
    if what == "artifact":
        return Made(b"another message", b"another payload", made.signature, made.verifier)
    if what == "signature":
        return Made(made.message, made.payload, key("keyless").sign(made.message), made.verifier)
    return Made(made.message, made.payload, made.signature, key("mallory").pem)


REASONS = {
    "artifact": "log entry: of something else that was signed",
    "signature": "log entry: of another signature",
    "signer": "log entry: of another signer",
}


def made_of(bundle: Json) -> Made:
    """What a bundle's entry has to be about."""
    material = bundle["verificationMaterial"]
    chain = material.get("x509CertificateChain", {}).get("certificates")
    raw = (chain[0] if chain else material["certificate"])["rawBytes"]
    leaf = x509.load_der_x509_certificate(base64.b64decode(raw))
    envelope = bundle["dsseEnvelope"]
    signed = base64.b64decode(envelope["payload"])
    return Made(
        pae(envelope["payloadType"], signed),
        signed,
        base64.b64decode(envelope["signatures"][0]["sig"]),
        sigstore.pem(leaf),
    )


SHAPES = [
    *((body, version) for body in V1 for version in ("0.1", "0.2", "0.3")),
    *((body, version) for body in V2 for version in ("0.2", "0.3")),
]


@pytest.mark.parametrize("what", REASONS)
@pytest.mark.parametrize(("body", "version"), SHAPES)
def test_c01_c03_an_entry_of_something_else_in_a_bundle(
    instance: Sigstore, body: Callable[[Made], Json], version: str, what: str
) -> None:
    bundle = instance.bundle(STATEMENT, body=body, version=version, stamped=body in V2)
    proof(keyless(instance), bundled(bundle))
    log, at = (instance.log_v2, None) if body in V2 else (instance.log, NOW)
    bundle["verificationMaterial"]["tlogEntries"] = [log.entry(body(other_than(made_of(bundle), what)), at)]
    assert refused(keyless(instance), bundled(bundle)) == REASONS[what]


@pytest.mark.parametrize("what", REASONS)
def test_c01_an_entry_of_something_else_beside_a_classic_signature(instance: Sigstore, what: str) -> None:
    written = instance.annotations(PAYLOAD)
    made = Made(
        PAYLOAD,
        b"",
        base64.b64decode(written["dev.cosignproject.cosign/signature"]),
        written["dev.sigstore.cosign/certificate"],
    )
    entry = instance.log.annotation(sigstore.hashedrekord(other_than(made, what)), NOW)
    written["dev.sigstore.cosign/bundle"] = json.dumps(entry)
    assert refused(keyless(instance), classic(written)) == REASONS[what]
    entry = instance.log.annotation(sigstore.hashedrekord(made), NOW)
    proof(keyless(instance), classic({**written, "dev.sigstore.cosign/bundle": json.dumps(entry)}))


@pytest.mark.parametrize("what", REASONS)
@pytest.mark.parametrize("body", [*V1, *V2])
def test_c01_c03_with_a_bare_key_too(instance: Sigstore, body: Callable[[Made], Json], what: str) -> None:
    signer = key("bare")
    by_key = build(key=signer.pem, tlog="require", trustRoot=instance.trusted_root())
    message = pae("application/vnd.in-toto+json", STATEMENT)
    made = Made(message, STATEMENT, signer.sign(message), signer.pem)
    log, at = (instance.log_v2, None) if body in V2 else (instance.log, NOW)

    def evidence(entry: Json) -> Untrusted:
        return bundled(
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": {"publicKey": {"hint": signer.hint}, "tlogEntries": [entry]},
                "dsseEnvelope": {
                    "payload": b64(STATEMENT),
                    "payloadType": "application/vnd.in-toto+json",
                    "signatures": [{"sig": b64(made.signature)}],
                },
            }
        )

    assert proof(by_key, evidence(log.entry(body(made), at))).signed_at == at
    assert refused(by_key, evidence(log.entry(body(other_than(made, what)), at))) == REASONS[what]
    # A certificate of that very key is not the key.
    certified = Made(made.message, made.payload, made.signature, sigstore.pem(instance.certify(signer)))
    assert refused(by_key, evidence(log.entry(body(certified), at))) == REASONS["signer"]


def entry_of(bundle: Json) -> Json:
    found: Json = bundle["verificationMaterial"]["tlogEntries"][0]
    return found


@pytest.mark.parametrize("version", ["0.1", "0.3"])
def test_c02_a_promise_of_another_entry(instance: Sigstore, version: str) -> None:
    one, other = (instance.bundle(STATEMENT, version=version) for _ in range(2))
    entry_of(one)["inclusionPromise"] = entry_of(other)["inclusionPromise"]
    assert "log entry: promise: not signed by the log" in refused(keyless(instance), bundled(one))


def test_c02_a_promise_by_an_unknown_key(instance: Sigstore) -> None:
    bundle = instance.bundle(STATEMENT)
    entry = entry_of(bundle)
    body = base64.b64decode(entry["canonicalizedBody"])
    forged = TransparencyLog(key("mallory")).promise(body, int(entry["integratedTime"]), int(entry["logIndex"]))
    entry["inclusionPromise"]["signedEntryTimestamp"] = b64(forged)
    assert "log entry: promise: not signed by the log" in refused(keyless(instance), bundled(bundle))


@pytest.mark.parametrize("shape", ["bundle", "classic"])
def test_c02_c11_a_time_that_the_log_did_not_sign(instance: Sigstore, shape: str) -> None:
    if shape == "bundle":
        bundle = instance.bundle(STATEMENT, at=NOW - DAY)
        entry_of(bundle)["integratedTime"] = str(int(NOW.timestamp()))
        evidence = bundled(bundle)
    else:
        written = instance.annotations(PAYLOAD, at=NOW - DAY)
        entry = json.loads(written["dev.sigstore.cosign/bundle"])
        entry["Payload"]["integratedTime"] += 60
        evidence = classic({**written, "dev.sigstore.cosign/bundle": json.dumps(entry)})
    assert "log entry: promise: not signed by the log" in refused(keyless(instance), evidence)


def test_c11_a_time_without_any_promise(instance: Sigstore) -> None:
    bundle = instance.bundle(STATEMENT)
    del entry_of(bundle)["inclusionPromise"]
    assert refused(keyless(instance), bundled(bundle)) == "log entry: a time without the log's signature over it"
    bundle = instance.bundle(STATEMENT, body=sigstore.hashedrekord_v2, stamped=True)
    proof(keyless(instance), bundled(bundle))
    entry_of(bundle)["integratedTime"] = str(int(NOW.timestamp()))
    assert refused(keyless(instance), bundled(bundle)) == "log entry: a time without the log's signature over it"


def test_c11_with_the_log_ignored_its_time_proves_nothing(instance: Sigstore) -> None:
    signer = keyless(instance, tlog="ignore", timestamp={"require": True})
    assert refused(signer, bundled(instance.bundle(STATEMENT))) == "no timestamp, which the policy demands"
    old = instance.bundle(STATEMENT, at=NOW - DAY, stamped=True)
    entry_of(old)["integratedTime"] = "0"
    assert proof(signer, bundled(old)).signed_at == NOW - DAY


def test_c15_the_logs_key_comes_from_the_trust_root(instance: Sigstore) -> None:
    stranger = Sigstore(fulcio=instance.fulcio, certificates=instance.certificates, log=TransparencyLog(key("other")))
    evidence = bundled(stranger.bundle(STATEMENT))
    assert refused(keyless(instance), evidence) == "log entry: of no log that is trusted"
    proof(keyless(stranger), evidence)
    # Nobody's entry beside a good one does no harm, and says nothing.
    bundle = instance.bundle(STATEMENT)
    bundle["verificationMaterial"]["tlogEntries"].append(entry_of(stranger.bundle(STATEMENT)))
    assert proof(keyless(instance), bundled(bundle)).signed_at == NOW


async def test_c15_nothing_is_asked_of_a_log(instance: Sigstore) -> None:
    registry = FakeRegistry()
    digest = registry.push_image("shop/app", "v1")
    content = to_json(instance.bundle(to_json(statement(digest))))
    layer = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "size": len(content),
        "digest": registry.push_blob(content),
    }
    registry.push_manifest(
        "shop/app",
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": layer["mediaType"],
            "layers": [layer],
            "subject": {"mediaType": "x", "size": 1, "digest": digest},
        },
    )
    claim = Claim(Subject(Repository("registry.test", "shop/app"), digest, "v1"))
    signer = keyless(instance)
    found = [one async for one in signer.collect(claim, registry) if isinstance(one, Untrusted)]
    signer.check(found[0], claim, NOW)
    assert registry.asked["get"] == registry.asked["post"] == 0


def test_an_entry_of_a_known_log_that_is_wrong_is_not_outweighed_by_a_right_one(instance: Sigstore) -> None:
    bundle, other = instance.bundle(STATEMENT), instance.bundle(STATEMENT)
    entries = bundle["verificationMaterial"]["tlogEntries"]
    entries.append(entry_of(other))
    assert refused(keyless(instance), bundled(bundle)) == REASONS["signature"]
    # The same entry twice is one log's word, as it was before.
    entries[1] = entries[0]
    assert proof(keyless(instance), bundled(bundle)).log_index == int(entries[0]["logIndex"])


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda e: e.pop("inclusionProof"), "no inclusion proof, which a bundle of this version must have"),
        (lambda e: e["inclusionProof"].pop("checkpoint"), "no checkpoint, so nobody vouches for its root"),
        (lambda e: e["inclusionProof"].update(treeSize="1"), "its index is outside of the tree"),
        (lambda e: e["inclusionProof"].update(rootHash=b64(b"x" * 32)), "the inclusion proof leads to another root"),
        (lambda e: e["inclusionProof"]["hashes"].pop(), "the inclusion proof is too short for its tree"),
        (lambda e: e["inclusionProof"]["hashes"].extend([b64(b"x" * 32)] * 5), "the inclusion proof is too long"),
        (lambda e: e["inclusionProof"].update(hashes=[b64(b"x" * 32)] * 65), "more than 64 hashes"),
        (lambda e: e["inclusionProof"].update(treeSize="03"), "treeSize: not a whole number"),
        (lambda e: e["inclusionProof"].update(treeSize="-3"), "treeSize: not a whole number"),
        (lambda e: e["kindVersion"].update(version="0.0.2"), "its kind is not the one that its bundle names"),
        (lambda e: e.update(integratedTime="9999999999999999999"), "promise: not signed by the log"),
    ],
)
def test_a_proof_that_is_none(instance: Sigstore, edit: Callable[[Json], object], reason: str) -> None:
    for _ in range(4):
        instance.bundle(STATEMENT)
    bundle = instance.bundle(STATEMENT)
    edit(entry_of(bundle))
    assert reason in refused(keyless(instance), bundled(bundle))


def test_a_bundle_of_0_1_rests_on_the_promise(instance: Sigstore) -> None:
    bundle = instance.bundle(STATEMENT, version="0.1")
    del entry_of(bundle)["inclusionProof"]["checkpoint"]
    proof(keyless(instance), bundled(bundle))
    del entry_of(bundle)["inclusionProof"]
    proof(keyless(instance), bundled(bundle))
    del entry_of(bundle)["inclusionPromise"]
    assert "no inclusion promise, which a bundle of this version must have" in refused(
        keyless(instance), bundled(bundle)
    )


def test_a_promise_beyond_all_calendars_is_refused(instance: Sigstore) -> None:
    bundle = instance.bundle(STATEMENT)
    entry = entry_of(bundle)
    body, seconds = base64.b64decode(entry["canonicalizedBody"]), 10**18
    entry["integratedTime"] = str(seconds)
    entry["inclusionPromise"]["signedEntryTimestamp"] = b64(instance.log.promise(body, seconds, int(entry["logIndex"])))
    assert refused(keyless(instance), bundled(bundle)) == "log entry: a time beyond all calendars"


def test_without_a_promise_the_index_is_the_proofs(instance: Sigstore) -> None:
    bundle = instance.bundle(STATEMENT, body=sigstore.hashedrekord_v2, stamped=True)
    entry_of(bundle)["logIndex"] = "7"
    assert refused(keyless(instance), bundled(bundle)) == "log entry: two different indexes"


# ── windows ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def window(kind: str, begins: dt.datetime, ends: dt.datetime, place: int = 0) -> Callable[[Json], object]:
    """Sets when one of the trust root's keys or authorities was in force."""

    def edit(root: Json) -> None:
        one = root[kind][place]
        (one.get("publicKey") or one)["validFor"] = {"start": begins.isoformat(), "end": ends.isoformat()}

    return edit


WINDOWS = {
    "tlogs": "log entry: its log was not in force when it was signed",
    "ctlogs": "certificate timestamp: its log was not in force at that time",
    "certificateAuthorities": "its certificate's authority was not in force when it was signed",
    "timestampAuthorities": "timestamp: its authority was not in force at that time",
}


@pytest.mark.parametrize("kind", WINDOWS)
@pytest.mark.parametrize(
    ("begins", "ends", "accepted"),
    [
        (NOW, NOW, True),
        (NOW - DAY, NOW, True),
        (NOW, NOW + DAY, True),
        (NOW + SECOND, NOW + DAY, False),
        (NOW - DAY, NOW - SECOND, False),
    ],
)
def test_c08_every_key_counts_in_its_window_both_ends_included(
    instance: Sigstore, kind: str, begins: dt.datetime, ends: dt.datetime, accepted: bool
) -> None:
    signer = keyless(instance, window(kind, begins, ends), timestamp={"require": True})
    evidence = bundled(instance.bundle(STATEMENT, stamped=True))
    # Judged long afterwards: what counts is when it was signed.
    if accepted:
        proof(signer, evidence, now=NOW + 90 * DAY)
    else:
        assert refused(signer, evidence, now=NOW + 90 * DAY) == WINDOWS[kind]


def test_c08_a_log_without_a_clock_counts_by_the_timestamp_or_else_now(instance: Sigstore) -> None:
    edit = window("tlogs", NOW - DAY, NOW + DAY, 1)
    evidence = bundled(instance.bundle(STATEMENT, body=sigstore.hashedrekord_v2, stamped=True))
    proof(keyless(instance, edit), evidence, now=NOW + 90 * DAY)
    late = window("tlogs", NOW + SECOND, NOW + DAY, 1)
    assert refused(keyless(instance, late), evidence) == WINDOWS["tlogs"]
    signer = key("bare")
    by_key = build(key=signer.pem, tlog="require", trustRoot=instance.trusted_root(edit))
    message = pae("application/vnd.in-toto+json", STATEMENT)
    made = Made(message, STATEMENT, signer.sign(message), signer.pem)
    undated = bundled(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "publicKey": {"hint": signer.hint},
                "tlogEntries": [instance.log_v2.entry(sigstore.hashedrekord_v2(made), None)],
            },
            "dsseEnvelope": {
                "payload": b64(STATEMENT),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": b64(made.signature)}],
            },
        }
    )
    found = proof(by_key, undated)
    assert (found.signed_at, found.valid_until) == (None, NOW + DAY)
    assert found.ends == End(NOW + DAY, "a transparency log of its trust root")
    assert refused(by_key, undated, now=NOW + 2 * DAY) == WINDOWS["tlogs"]
    open_ended = build(key=signer.pem, tlog="require", trustRoot=instance.trusted_root())
    lasting = proof(open_ended, undated)
    assert (lasting.valid_until, lasting.ends) == (None, None)


def test_c08_one_key_listed_twice_counts_in_either_window(instance: Sigstore) -> None:
    def twice(root: Json) -> None:
        root["tlogs"].insert(0, json.loads(json.dumps(root["tlogs"][0])))
        window("tlogs", NOW - 2 * DAY, NOW - DAY)(root)
        root["tlogs"][0]["publicKey"]["rawBytes"] = b64(key("older").spki)

    # The older key under the same name has not signed it; the newer one has.
    proof(keyless(instance, twice), bundled(instance.bundle(STATEMENT)))


def test_c09_every_certificate_of_the_chain_counts_at_the_signing_time(instance: Sigstore) -> None:
    fulcio = sigstore.Fulcio(
        root := issue("root", ca=True, begins=NOW - DAY, ends=NOW + DAY),
        issue("intermediate", root, ca=True, begins=NOW - DAY, ends=NOW + MINUTE),
    )
    own = Sigstore(fulcio=fulcio)
    evidence = bundled(own.bundle(STATEMENT))
    # Root and intermediate have ended long since; at the time of signing they had not.
    proof(keyless(own), evidence, now=NOW + 90 * DAY)
    late = NOW + 2 * MINUTE
    certificate = own.certify(key("keyless"), late)
    evidence = bundled(own.bundle(STATEMENT, certificate=certificate, at=late))
    assert "leads to no trusted one" in refused(keyless(own), evidence, now=late)


@pytest.mark.parametrize("off", [-SECOND, dt.timedelta(minutes=10, seconds=1)])
def test_c10_all_verified_times_lie_in_the_certificates_validity(instance: Sigstore, off: dt.timedelta) -> None:
    signer, certificate = key("keyless"), instance.certify(key("keyless"))
    good = bundled(instance.bundle(STATEMENT, certificate=certificate, stamped=True))
    proof(keyless(instance), good)
    bundle = instance.bundle(STATEMENT, signer=signer, certificate=certificate)
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    bundle["verificationMaterial"]["timestampVerificationData"] = {
        "rfc3161Timestamps": [{"signedTimestamp": b64(instance.stamp(signature, at))} for at in (NOW, NOW + off)]
    }
    assert "leads to no trusted one" in refused(keyless(instance), bundled(bundle))
    late = instance.bundle(STATEMENT, certificate=certificate, at=NOW + off)
    assert "leads to no trusted one" in refused(keyless(instance), bundled(late))


def test_c10_a_retired_authoritys_token_does_not_count_in_anothers_window(instance: Sigstore) -> None:
    successor = Sigstore(fulcio=instance.fulcio, certificates=instance.certificates, log=instance.log)

    def both(root: Json) -> None:
        newer = json.loads(successor.trusted_root())["timestampAuthorities"][0]
        root["timestampAuthorities"].append(newer)
        window("timestampAuthorities", NOW - 20 * DAY, NOW - DAY)(root)

    signer = keyless(instance, both, tlog="ignore", timestamp={"require": True})
    proof(signer, bundled(successor.bundle(STATEMENT, logged=False, stamped=True)))
    assert "its authority was not in force at that time" in refused(
        signer, bundled(instance.bundle(STATEMENT, logged=False, stamped=True))
    )


def test_c10_an_untrusted_timestamp_beside_a_log_entry_is_passed_over(instance: Sigstore) -> None:
    bundle = instance.bundle(STATEMENT)
    stranger = Sigstore().stamp(b"something else", NOW - DAY)
    bundle["verificationMaterial"]["timestampVerificationData"] = {
        "rfc3161Timestamps": [{"signedTimestamp": b64(stranger)}]
    }
    assert proof(keyless(instance), bundled(bundle)).signed_at == NOW
    assert "timestamp" in refused(keyless(instance, timestamp={"require": True}), bundled(bundle))

    def without(root: Json) -> None:
        root["timestampAuthorities"] = []

    assert proof(keyless(instance, without), bundled(bundle)).signed_at == NOW


# ── the certificate ──────────────────────────────────────────────────────────────────────────────────────────────────
def with_certificate(instance: Sigstore, **options: Any) -> Untrusted:
    return bundled(instance.bundle(STATEMENT, certificate=instance.certify(key("keyless"), **options)))


def test_c21_a_certificate_that_no_certificate_log_was_shown(instance: Sigstore) -> None:
    assert refused(keyless(instance), with_certificate(instance, logs=[])) == (
        "its certificate holds no signed certificate timestamp"
    )
    stranger = CertificateLog(key("other-ct"))
    assert refused(keyless(instance), with_certificate(instance, logs=[stranger])) == (
        "its certificate's timestamps are of no certificate log that is trusted"
    )
    proof(keyless(instance), with_certificate(instance, logs=[stranger, instance.certificates]))


def test_c21_a_certificate_timestamp_that_the_log_did_not_sign(instance: Sigstore) -> None:
    class Forger(CertificateLog):
        @property
        def identity(self) -> bytes:
            return instance.certificates.identity

    forged = with_certificate(instance, logs=[Forger(key("mallory"))])
    assert "certificate timestamp: not signed by the log" in refused(keyless(instance), forged)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"names": ()}, "its certificate names no subject"),
        ({"names": (x509.RFC822Name(SUBJECT), x509.RFC822Name("x@acme.test"))}, "names 2 subjects, expected exactly"),
        ({"names": (x509.DNSName("acme.test"),)}, "names a subject of a kind that is not supported"),
        (
            {"names": (x509.OtherName(x509.ObjectIdentifier("1.2.3"), sigstore.utf8_string("x")),)},
            "names a subject of a kind that is not supported",
        ),
        (
            {"names": (x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), b"\x04\x01x"),)},
            "its certificate has an extension that cannot be read",
        ),
        ({"issuer": None}, "its certificate names no issuer"),
        ({"raw_issuer": "https://elsewhere.test"}, "its certificate names two different issuers"),
        ({"said": {12: ""}}, "a text of 0 bytes, expected 1 to 8192"),
        ({"said": {12: "x" * (limits.MAX_IDENTITY + 1)}}, "a text of 8193 bytes, expected 1 to 8192"),
        ({"issuer": None, "raw_issuer": ""}, "a text of 0 bytes"),
        ({"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "its certificate is not for code signing"),
        ({"signs": False}, "its certificate is not for digital signatures"),
    ],
)
def test_c21_a_certificate_that_says_not_whom_in_one_way(
    instance: Sigstore, options: dict[str, Any], reason: str
) -> None:
    assert reason in refused(keyless(instance), with_certificate(instance, **options))


def test_c21_the_older_form_of_the_issuer_alone(instance: Sigstore) -> None:
    proof(keyless(instance), with_certificate(instance, issuer=None, raw_issuer=ISSUER))
    proof(keyless(instance), with_certificate(instance, raw_issuer=ISSUER))
    not_text = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1"), b"\xff\xfe")
    assert "a text that is not UTF-8" in refused(
        keyless(instance), with_certificate(instance, issuer=None, further=[not_text])
    )


def test_c21_a_user_name_as_the_subject(instance: Sigstore) -> None:
    name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), sigstore.utf8_string("dev!acme.test"))
    evidence = with_certificate(instance, names=(name,))
    signer = keyless(instance, keyless={"issuer": ISSUER, "subject": "dev!acme.test"})
    assert proof(signer, evidence).identity == f"issuer={ISSUER},subject=dev!acme.test"


def test_an_authority_is_no_signer(instance: Sigstore) -> None:
    intermediate = instance.fulcio.intermediate
    bundle = instance.bundle(STATEMENT, signer=SigningKey(intermediate.key), certificate=intermediate.certificate)
    assert refused(keyless(instance), bundled(bundle)) == "its certificate is an authority's"
    root = instance.fulcio.root
    bundle = instance.bundle(STATEMENT, signer=SigningKey(root.key), certificate=root.certificate)
    assert refused(keyless(instance), bundled(bundle)) == "its certificate is an authority's own"


def test_another_instances_certificate(instance: Sigstore) -> None:
    other = Sigstore(certificates=instance.certificates, log=instance.log)
    assert "leads to no trusted one" in refused(keyless(instance), bundled(other.bundle(STATEMENT)))


PRIVATE: list[Callable[[], Any]] = [
    lambda: rsa.generate_private_key(65537, 2048),
    ed25519.Ed25519PrivateKey.generate,
    lambda: ec.generate_private_key(ec.SECP384R1()),
]


@pytest.mark.parametrize("private", PRIVATE, ids=["rsa", "ed25519", "p384"])
def test_c23_every_kind_of_key_that_a_certificate_may_hold(instance: Sigstore, private: Callable[[], Any]) -> None:
    signer = SigningKey(private())
    evidence = instance.bundle(STATEMENT, signer=signer, certificate=instance.certify(signer))
    assert proof(keyless(instance), bundled(evidence)).identity.endswith(SUBJECT)
    evidence["dsseEnvelope"]["signatures"][0]["sig"] = b64(b"x" * 70)
    assert "not signed by" in refused(keyless(instance), bundled(evidence))


@pytest.mark.parametrize(
    "private", [lambda: ec.generate_private_key(ec.SECP256K1()), lambda: rsa.generate_private_key(65537, 1024)]
)
def test_c23_and_those_that_it_may_not(instance: Sigstore, private: Callable[[], Any]) -> None:
    signer = SigningKey(private())
    evidence = instance.bundle(STATEMENT, signer=signer, certificate=instance.certify(signer))
    assert "accepted: " in refused(keyless(instance), bundled(evidence))


def test_a_bundle_of_0_3_has_one_certificate_alone(instance: Sigstore) -> None:
    bundle = instance.bundle(STATEMENT)
    raw = bundle["verificationMaterial"].pop("certificate")
    bundle["verificationMaterial"]["x509CertificateChain"] = {"certificates": [raw]}
    assert "a bundle of this version has `certificate` alone" in refused(keyless(instance), bundled(bundle))
    older = instance.bundle(STATEMENT, version="0.2")
    chain = older["verificationMaterial"]["x509CertificateChain"]["certificates"]
    chain += [{"rawBytes": b64(instance.fulcio.intermediate.der)}]
    proof(keyless(instance), bundled(older))
    chain += chain[1:] * 10
    assert "x509CertificateChain: 12 certificates" in refused(keyless(instance), bundled(older))
    chain.clear()
    assert "x509CertificateChain: 0 certificates" in refused(keyless(instance), bundled(older))


def test_beside_a_classic_signature_stands_one_certificate(instance: Sigstore) -> None:
    written = instance.annotations(PAYLOAD)
    name = "dev.sigstore.cosign/certificate"
    two = {**written, name: written[name] + instance.fulcio.intermediate.pem.decode()}
    assert "2 certificates, expected the signer's alone" in refused(keyless(instance), classic(two))
    chain = (instance.fulcio.intermediate.pem + instance.fulcio.root.pem).decode()
    proof(keyless(instance), classic({**written, "dev.sigstore.cosign/chain": chain}))
    assert "chain: more than 10 certificates" in refused(
        keyless(instance), classic({**written, "dev.sigstore.cosign/chain": chain * 6})
    )


# ── trust roots ──────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_c22_two_trust_roots_at_once_do_not_mix() -> None:
    one, other = Sigstore(), Sigstore(log=TransparencyLog(key("o-rekor")), certificates=CertificateLog(key("o-ct")))
    cases = [(keyless(of), bundled(by.bundle(STATEMENT)), of is by) for of in (one, other) for by in (one, other)]

    def judge(number: int) -> bool:
        signer, evidence, expected = cases[number % 4]
        try:
            signer.check(evidence, CLAIM, NOW)
        except Rejected:
            return expected is False
        return expected

    answers = await asyncio.gather(*(asyncio.to_thread(judge, number) for number in range(400)))
    assert all(answers)


@pytest.mark.parametrize(
    ("edit", "spec", "reason"),
    [
        (lambda r: r.update(certificateAuthorities=[]), {}, "it has no certificate authority, so nobody could sign"),
        (lambda r: r.update(ctlogs=[]), {}, "it has no certificate log, so no certificate would be accepted"),
        (lambda r: r.update(tlogs=[]), {}, "it has no transparency log, and an entry of one is demanded"),
        (
            lambda r: r.update(timestampAuthorities=[]),
            {"timestamp": {"require": True}},
            "it has no timestamp authority, and a timestamp is demanded",
        ),
    ],
)
def test_v01_a_trust_root_that_lacks_what_is_looked_up_in_it(
    instance: Sigstore, edit: Callable[[Json], object], spec: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Invalid, match=rf"\.trustRoot: {reason}"):
        keyless(instance, edit, **spec)


def test_a_trust_root_where_nothing_is_looked_up_in_it_is_refused(instance: Sigstore) -> None:
    with pytest.raises(Invalid, match=r"\.trustRoot: nothing here is looked up in it"):
        build(key=key("a").pem, trustRoot=instance.trusted_root())
    build(key=key("a").pem, trustRoot=instance.trusted_root(), timestamp={"require": True})
    build(key=key("a").pem, trustRoot=instance.trusted_root(), tlog="require")


def test_the_key_references_of_a_policy_are_those_that_are_needed(instance: Sigstore) -> None:
    def references(**spec: Any) -> list[tuple[str, KeyRef]]:
        return list(FORMAT.keys(convert_all(spec, CosignSpec, "")))

    assert references(keyless=WHO) == [(".trustRoot", KeyRef("public"))]
    assert references(keyless=WHO, trustRoot="secret://x#y") == [(".trustRoot", KeyRef("secret://x#y"))]
    assert references(key="k") == [(".key", KeyRef("k"))]
    assert references(key="k", tlog="require") == [(".key", KeyRef("k")), (".trustRoot", KeyRef("public"))]
    assert references(key="k", timestamp={"tsa": "t"}) == [(".key", KeyRef("k")), (".timestamp.tsa", KeyRef("t"))]
    assert references(certificate={"roots": "r", "intermediates": "i", "email": "e"}) == [
        (".certificate.roots", KeyRef("r")),
        (".certificate.intermediates", KeyRef("i")),
    ]


def test_hardware_is_for_keys_that_are_known_beforehand(instance: Sigstore) -> None:
    assert FORMAT.hold is not None
    evidence = HardwareEvidence("yubikey-piv", b"roots", b"evidence")
    with pytest.raises(Invalid, match="only a signer by key has keys that are known beforehand"):
        FORMAT.hold(keyless(instance), evidence)
    with pytest.raises(Invalid, match=r"\.evidence: no PEM certificate"):
        FORMAT.hold(build(key=key("a").pem), evidence)


def test_what_people_read_about_such_a_signer(instance: Sigstore) -> None:
    signer = keyless(instance, annotations={"team": "blue"})
    assert signer.wanted() == f"{SUBJECT} of issuer {ISSUER}, annotations -a team=blue"
    assert signer.dangers() == ()
    assert signer.fingerprints() == (SigningKey(instance.fulcio.root.key).fingerprint,)
    assert hash(signer) == hash(keyless(instance, annotations={"team": "blue"}))
    assert signer != keyless(Sigstore(), annotations={"team": "blue"})
