"""Notation against the real signer's captures, against what our own fakes sign, and against attackers.

Envelopes, chains, names and revocation by themselves have files of their own beside this one.
"""

import datetime as dt
import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import (
    BasicConstraints,
    DeltaCRLIndicator,
    ExtendedKeyUsage,
    ObjectIdentifier,
    UnrecognizedExtension,
    load_der_x509_certificate,
)

from tests import captures
from tests.fake.notation import (
    Entry,
    Form,
    Party,
    authority,
    delta_at,
    key_usage,
    list_at,
    ocsp_answer,
    party,
    push_envelope,
    responder_at,
    revocation_list,
    sign_notation,
    stamped_by,
    store,
    trusting,
)
from tests.fake.pki import DAY, NOW, ODD, TIME_STAMPING, Issued, with_odd_name
from tests.fake.registry import FakeRegistry
from tests.formats.test_contract import claim_of
from webhook import limits
from webhook.formats import FORMATS
from webhook.formats._x509 import public_key
from webhook.formats.notation.signer import Notation
from webhook.formats.notation.spec import NotationSpec, TrustStore
from webhook.image import Digest
from webhook.parsing import Invalid, convert_all
from webhook.trust import Claim, KeyRef, Rejected, Unavailable, Untrusted
from webhook.verdict import End, Proof

PATH = "shop/app"
FORMS: tuple[Form, ...] = ("jws", "cose")
BOTH = pytest.mark.parametrize("form", FORMS)
SECOND = dt.timedelta(seconds=1)
AUTHORITY_SIGNS = "notary.x509.signingAuthority"

ROOT = authority("Root")
BETWEEN = authority("Between", ROOT)
SIGNER = party("Signer", BETWEEN)
SUBJECT = SIGNER.certificate.subject.rfc4514_string()
OTHER_ROOT = authority("Other Root")
TSA_ROOT = authority("TSA Root", begins=NOW - 90 * DAY, ends=NOW + 900 * DAY)
STAMPING = (
    (BasicConstraints(ca=False, path_length=None), True),
    (key_usage("digital_signature"), True),
    (ExtendedKeyUsage([TIME_STAMPING]), True),
)
TSA = party("TSA", TSA_ROOT, STAMPING, begins=NOW - 90 * DAY, ends=NOW + 900 * DAY)
CA = trusting(store("ca", ROOT))
STAMPED = trusting(store("ca", ROOT), store("tsa", TSA_ROOT))
SERVICE = trusting(store("signingAuthority", ROOT))


def build(spec: dict[str, Any], **others: Any) -> Notation:
    row = FORMATS["notation"]
    read = convert_all({**spec, **others}, row.spec, "spec")
    signer = row.build(read, {reference: reference.encode() for _, reference in row.keys(read)})
    assert isinstance(signer, Notation)
    return signer


async def judged(
    signer: Notation, claim: Claim, registry: FakeRegistry, now: dt.datetime = NOW
) -> tuple[list[Proof], list[str], list[str]]:
    """Proofs, reasons and causes, all evidence read and judged at `now`."""
    proofs: list[Proof] = []
    reasons: list[str] = []
    causes: list[str] = []
    async for evidence in signer.collect(claim, registry):
        try:
            if not isinstance(evidence, Untrusted):
                raise evidence
            proofs.append(signer.check(evidence, claim, now))
        except Unavailable as e:
            causes.append(str(e))
        except (Rejected, Invalid) as e:
            reasons.append(str(e))
    return proofs, reasons, causes


class Signed:
    """An image with one signature, and what is said of it."""

    def __init__(self, signer: Party = SIGNER, form: Form = "jws", **options: Any) -> None:
        self.registry = FakeRegistry()
        self.digest = self.registry.push_image(PATH, "v1")
        sign_notation(self.registry, PATH, self.digest, signer, form, **options)

    async def _under(self, spec: dict[str, Any], now: dt.datetime, others: dict[str, Any]) -> Proof | str:
        proofs, reasons, causes = await judged(build(spec, **others), claim_of(self.digest), self.registry, now)
        answers: list[Proof | str] = [*proofs, *reasons, *(f"could not verify: {cause}" for cause in causes)]
        assert len(answers) == 1
        return answers[0]

    async def proof(self, spec: dict[str, Any], now: dt.datetime = NOW, **others: Any) -> Proof:
        answer = await self._under(spec, now, others)
        assert isinstance(answer, Proof), answer
        return answer

    async def refusal(self, spec: dict[str, Any], now: dt.datetime = NOW, **others: Any) -> str:
        answer = await self._under(spec, now, others)
        assert isinstance(answer, str), answer
        return answer


# ── what the real signer wrote ───────────────────────────────────────────────────────────────────────────────────────
ACME = {"type": "ca", "certs": captures.key("notation/acme.pem").decode()}
PKI = {"type": "ca", "certs": captures.key("notation/root.pem").decode()}
OPENSSL = {"type": "tsa", "certs": captures.key("notation/tsa-root.pem").decode()}
ACME_NAME = "x509.subject: C=US, ST=WA, O=Notary"
PKI_NAME = "x509.subject: C=US, ST=WA, O=Acme, CN=Acme Signer"
LATER = captures.NOW + dt.timedelta(days=400)


def captured(folder: str, ocsp: str | None = None) -> FakeRegistry:
    """A registry with a capture, and what the issuers of its certificates say."""
    registry = FakeRegistry(referrers_api=folder == "referrers-api")
    registry.load(PATH, captures.path(folder))
    for name in ("root", "intermediate"):
        registry.documents[f"http://crl.acme.test/{name}.crl"] = captures.key(f"notation/{name}.crl")
    if ocsp is not None:
        registry.documents["http://ocsp.acme.test/"] = lambda _: captures.key(f"notation/{ocsp}.ocsp")
    return registry


@pytest.mark.parametrize(
    ("folder", "spec", "now", "identity"),
    [
        ("notation-jws", trusting(ACME, identities=[ACME_NAME]), captures.NOW, "O=Notary, CN=acme"),
        ("notation-cose", trusting(ACME, identities=[ACME_NAME]), captures.NOW, "O=Notary, CN=acme"),
        ("notation-jws", trusting(ACME, annotations={"team": "blue"}), captures.NOW, "O=Notary, CN=acme"),
        ("referrers-api", trusting(ACME), captures.NOW, "O=Notary, CN=acme"),
        ("notation-cose-timestamped", trusting(ACME, OPENSSL), LATER, "O=Notary, CN=acme"),
        ("notation-chain", trusting(PKI, identities=[PKI_NAME]), captures.NOW, "O=Acme, CN=Acme Signer"),
        ("notation-chain-timestamped", trusting(PKI, OPENSSL), LATER, "O=Acme, CN=Acme Signer"),
    ],
)
async def test_what_notation_wrote_is_accepted(
    folder: str, spec: dict[str, Any], now: dt.datetime, identity: str
) -> None:
    proofs, reasons, causes = await judged(build(spec), claim_of(captures.IMAGE), captured(folder), now)
    assert (reasons, causes) == ([], [])
    [proof] = proofs
    assert proof.identity.startswith("x509.subject: C=US, ST=WA")
    assert proof.identity.endswith(identity)
    assert proof.logged == ()
    assert (proof.signed_at is None) == ("timestamped" not in folder)


@pytest.mark.parametrize(
    ("folder", "spec", "now", "why"),
    [
        ("notation-jws", trusting(PKI), captures.NOW, "leads to none in a trust store of type ca"),
        ("notation-cose", trusting(PKI), captures.NOW, "leads to none in a trust store of type ca"),
        ("referrers-api", trusting(PKI), captures.NOW, "leads to none in a trust store of type ca"),
        ("notation-jws", trusting(ACME, annotations={"team": "red"}), captures.NOW, "team=red is not signed"),
        ("notation-jws", trusting(ACME), LATER, "it expired at 2026-11-25T00:36:57"),
        ("notation-chain", trusting(ACME), captures.NOW, "leads to none"),
        (
            "notation-chain",
            trusting(PKI, identities=["x509.subject: C=US, ST=WA, O=Other"]),
            captures.NOW,
            "O=Acme, CN=Acme Signer, which is no trusted identity",
        ),
        ("notation-chain-timestamped", trusting(ACME, OPENSSL), captures.NOW, "leads to none"),
        ("notation-cose-timestamped", trusting(ACME), LATER, "are valid from .* only"),
        (
            "notation-cose-timestamped",
            trusting(ACME, {**PKI, "type": "tsa"}),
            captures.NOW,
            "not signed by an authority that is trusted",
        ),
        # The certificate began in the second that the authority, right within one, vouches for.
        (
            "notation-jws-timestamped",
            trusting(ACME, OPENSSL),
            captures.NOW,
            "it was signed at .*, when not all of its certificates were valid",
        ),
    ],
)
async def test_what_notation_wrote_is_refused_to_others(
    folder: str, spec: dict[str, Any], now: dt.datetime, why: str
) -> None:
    proofs, reasons, causes = await judged(build(spec), claim_of(captures.IMAGE), captured(folder), now)
    assert (proofs, causes) == ([], [])
    [reason] = reasons
    assert re.search(why, reason)


@pytest.mark.parametrize("ocsp", [None, "revoked"])
async def test_n08_a_captured_signature_by_a_revoked_certificate_is_refused(ocsp: str | None) -> None:
    registry = captured("notation-chain-revoked", ocsp)
    proofs, reasons, causes = await judged(build(trusting(PKI)), claim_of(captures.IMAGE), registry)
    assert (proofs, causes) == ([], [])
    assert reasons == ["certificate 0 of its chain: its issuer has revoked it on 2026-10-25"]


async def test_where_the_policy_skips_revocation_nobody_is_asked() -> None:
    registry = captured("notation-chain-revoked", "revoked")
    skipping = build(trusting(PKI), override={"revocation": "skip"})
    assert len((await judged(skipping, claim_of(captures.IMAGE), registry))[0]) == 1
    assert registry.asked["get"] == registry.asked["post"] == 0


async def test_a_responder_that_answers_saves_the_list() -> None:
    registry = captured("notation-chain", "signer")
    [proof] = (await judged(build(trusting(PKI)), claim_of(captures.IMAGE), registry))[0]
    # One for the leaf; the authority above it names no responder, so its list.
    assert (registry.asked["post"], registry.asked["get"]) == (1, 1)
    assert proof.valid_until == dt.datetime(2036, 11, 21, 0, 36, 59, tzinfo=dt.UTC)


# ── a good signature, and what it says ───────────────────────────────────────────────────────────────────────────────
@BOTH
async def test_a_good_signature_says_who_and_until_when(form: Form) -> None:
    proof = await Signed(form=form).proof(CA)
    assert (proof.format, proof.identity) == ("notation", "x509.subject: C=US, ST=WA, O=Acme, CN=Signer")
    assert proof.valid_until == NOW + DAY
    assert proof.serial == f"{SIGNER.certificate.serial_number:x}"
    assert proof.keys == tuple(public_key(one.certificate).fingerprint for one in (SIGNER, BETWEEN, ROOT))
    assert proof.signed_at is None


@BOTH
@pytest.mark.parametrize("anchor", [ROOT, BETWEEN])
async def test_any_authority_of_the_chain_may_be_the_trusted_one(form: Form, anchor: Party) -> None:
    assert (await Signed(form=form).proof(trusting(store("ca", OTHER_ROOT, anchor)))).logged == ()
    assert "leads to none" in await Signed(form=form).refusal(trusting(store("ca", OTHER_ROOT)))


async def test_a_signer_that_certifies_itself_may_be_trusted_by_name() -> None:
    alone = party("Alone")
    assert (await Signed(alone).proof(trusting(store("ca", alone)))).identity.endswith("CN=Alone")
    assert "leads to none" in await Signed(party("Alone", key="P-256 twin")).refusal(trusting(store("ca", alone)))


@pytest.mark.parametrize("kind", ["RSA-2048", "RSA-3072", "RSA-4096", "P-256", "P-384", "P-521"])
@BOTH
async def test_every_algorithm_of_the_specification(form: Form, kind: str) -> None:
    await Signed(party("Signer", BETWEEN, key=kind), form).proof(CA)


async def test_an_attestation_is_no_signature() -> None:
    signed = Signed()
    claim = Claim(claim_of(signed.digest).subject, "https://slsa.dev/provenance/v1")
    assert (await judged(build(CA), claim, signed.registry))[1] == ["a signature, not an attestation"]


# ── N-01, N-03: what is read ─────────────────────────────────────────────────────────────────────────────────────────
async def test_n01_endless_signatures_end_at_the_limit() -> None:
    registry = FakeRegistry()
    digest = registry.push_image(PATH, "v1")
    bad = party("Nobody")
    for i in range(limits.MAX_REFERRERS + 5):
        sign_notation(registry, PATH, digest, bad, signed_at=NOW - i * SECOND)
    proofs, reasons, causes = await judged(build(CA), claim_of(digest), registry)
    assert (proofs, causes) == ([], [])
    assert reasons[-1] == f"more than {limits.MAX_REFERRERS} referrers; the rest was not read"
    assert len(reasons) == limits.MAX_REFERRERS + 1
    assert registry.asked["blob"] == limits.MAX_REFERRERS


async def test_n01_signatures_are_counted_however_many_referrers_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REFERRERS", limits.MAX_SIGNATURES + 2)
    registry = FakeRegistry()
    digest = registry.push_image(PATH, "v1")
    for i in range(limits.MAX_SIGNATURES + 1):
        sign_notation(registry, PATH, digest, party("Nobody"), signed_at=NOW - i * SECOND)
    assert (await judged(build(CA), claim_of(digest), registry))[1][
        -1
    ] == "more than 100 signatures; the rest was not read"


async def test_n01_one_good_signature_among_bad_ones_counts() -> None:
    registry = FakeRegistry()
    digest = registry.push_image(PATH, "v1")
    for i in range(20):
        sign_notation(registry, PATH, digest, party("Nobody"), signed_at=NOW - i * SECOND)
    sign_notation(registry, PATH, digest, SIGNER)
    proofs, reasons, _ = await judged(build(CA), claim_of(digest), registry)
    assert (len(proofs), len(reasons)) == (1, 20)


@pytest.mark.parametrize("referrers_api", [True, False])
async def test_signatures_are_found_on_the_fallback_tag_too(referrers_api: bool) -> None:
    registry = FakeRegistry(referrers_api=referrers_api)
    digest = registry.push_image(PATH, "v1")
    sign_notation(registry, PATH, digest, SIGNER, fallback=True)
    assert len((await judged(build(CA), claim_of(digest), registry))[0]) == 1


async def test_a_list_of_referrers_that_cannot_be_read_hides_no_signature_on_the_tag() -> None:
    registry = FakeRegistry()
    digest = registry.push_image(PATH, "v1")
    sign_notation(registry, PATH, digest, SIGNER, fallback=True)
    registry.fail("referrers", lambda: Unavailable("registry.test: connection refused"))
    proofs, reasons, causes = await judged(build(CA), claim_of(digest), registry)
    assert (len(proofs), reasons, causes) == (1, [], ["registry.test: connection refused"])


async def test_other_artifacts_are_nobodys_business_and_odd_ones_are_named() -> None:
    registry = FakeRegistry()
    digest = registry.push_image(PATH, "v1")

    def sbom(manifest: dict[str, Any]) -> None:
        manifest["config"]["mediaType"] = "application/spdx+json"

    def two_layers(manifest: dict[str, Any]) -> None:
        manifest["layers"] *= 2

    def other_layer(manifest: dict[str, Any]) -> None:
        manifest["layers"][0]["mediaType"] = "application/pkcs7-signature"

    for edit in (sbom, two_layers, other_layer):
        sign_notation(registry, PATH, digest, SIGNER, edit_manifest=edit)
    proofs, reasons, causes = await judged(build(CA), claim_of(digest), registry)
    assert (proofs, causes) == ([], [])
    assert all("expected exactly one layer, an envelope in JWS or COSE" in reason for reason in reasons)
    assert len(reasons) == 2


async def test_the_artifact_type_may_stand_in_its_own_field() -> None:
    def modern(manifest: dict[str, Any]) -> None:
        manifest["artifactType"] = manifest["config"]["mediaType"]
        manifest["config"]["mediaType"] = "application/vnd.oci.empty.v1+json"

    await Signed(edit_manifest=modern).proof(CA)


async def test_the_form_is_what_the_layer_says_and_the_bytes_must_agree() -> None:
    registry = FakeRegistry()
    digest = registry.push_image(PATH, "v1")
    push_envelope(registry, PATH, digest, "cose", b'{"payload":"e30","protected":"e30","header":{},"signature":"e30"}')
    push_envelope(registry, PATH, digest, "jws", b"\xd2\x84")
    assert (await judged(build(CA), claim_of(digest), registry))[1] == [
        "cose: not CBOR that is accepted: it ends too early",
        "jws: not JSON in UTF-8",
    ]
    with pytest.raises(Rejected, match="neither an envelope in JWS nor one in COSE"):
        build(CA).check(Untrusted("x", {"envelope": b"", "media type": b"text/plain"}), claim_of(digest), NOW)


async def test_n03_a_signature_of_another_image_under_this_ones_digest_is_refused() -> None:
    signed = Signed()
    other = signed.registry.push_image(PATH, "v2", b"other")
    [referrer] = [d.digest for d in signed.registry.list_referrers(PATH, signed.digest)]
    manifest = json.loads(signed.registry.manifests[PATH, referrer].body)
    # It refers to the other image now, and its content still speaks of the first.
    manifest["subject"]["digest"] = other
    signed.registry.push_manifest(PATH, manifest)
    proofs, reasons, _ = await judged(build(CA), claim_of(other), signed.registry)
    assert (proofs, reasons) == ([], [f"it is about another image, {signed.digest}"])
    await signed.proof(CA)


async def test_an_image_that_is_not_there_was_not_signed() -> None:
    signed = Signed()
    del signed.registry.manifests[PATH, signed.digest]
    assert await signed.refusal(CA) == "there is no such image"


# ── N-04: expiry ─────────────────────────────────────────────────────────────────────────────────────────────────────
@BOTH
async def test_n04_an_expired_signature_is_refused_and_one_second_before_it_is_not(form: Form) -> None:
    signed = Signed(form=form, expiry=NOW + 60 * SECOND)
    proof = await signed.proof(CA, NOW + 59 * SECOND)
    assert proof.valid_until == NOW + 60 * SECOND
    assert proof.ends == End(NOW + 60 * SECOND, "the signature itself")
    assert await signed.refusal(CA, NOW + 60 * SECOND) == "it expired at 2026-11-24T00:39:00+00:00"
    logged = await signed.proof(CA, NOW + 60 * SECOND, override={"expiry": "log"})
    assert logged.logged == ("expiry: it expired at 2026-11-24T00:39:00+00:00",)
    assert (logged.valid_until, logged.ends) == (NOW + DAY, End(NOW + DAY, f"certificate {SUBJECT}"))


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@BOTH
async def test_without_a_timestamp_every_certificate_must_be_valid_now(form: Form) -> None:
    for short in (
        party("Signer", BETWEEN, ends=NOW + 60 * SECOND),
        party("Signer", authority("Between", ROOT, ends=NOW + 60 * SECOND)),
    ):
        signed = Signed(short, form)
        proof = await signed.proof(CA, NOW + 60 * SECOND)
        assert proof.valid_until == NOW + 60 * SECOND
        ending = short if short.issuer is BETWEEN else short.issuer
        assert ending is not None
        assert proof.ends == End(NOW + 60 * SECOND, f"certificate {ending.certificate.subject.rfc4514_string()}")
        assert "are valid from" in await signed.refusal(CA, NOW + 61 * SECOND)
    assert "are valid from" in await Signed(party("Signer", BETWEEN, begins=NOW + SECOND), form).refusal(CA)
    await Signed(party("Signer", BETWEEN, begins=NOW), form).proof(CA)


@BOTH
async def test_a_timestamp_keeps_a_signature_beyond_the_end_of_its_certificates(form: Form) -> None:
    signed = Signed(form=form, stamp=stamped_by(TSA))
    proof = await signed.proof(STAMPED, NOW + 400 * DAY)
    assert (proof.signed_at, proof.valid_until, proof.ends) == (NOW, None, None)
    # Nobody is trusted with times: then the certificates have to be valid now, and the timestamp is nothing.
    assert "are valid from" in await signed.refusal(CA, NOW + 400 * DAY)
    assert (await signed.proof(CA)).signed_at is None


@BOTH
async def test_with_a_tsa_store_a_timestamp_is_wanted(form: Form) -> None:
    bare, late = Signed(form=form), {**STAMPED, "timestamp": "afterCertExpiry"}
    assert await bare.refusal(STAMPED) == "it carries no timestamp, and the policy wants one"
    assert (await bare.proof(late)).valid_until == NOW + DAY
    assert "no timestamp" in await bare.refusal(late, NOW + 2 * DAY)
    stamped = Signed(form=form, stamp=stamped_by(TSA))
    proof = await stamped.proof(late)
    assert (proof.signed_at, proof.valid_until) == (None, NOW + DAY)
    assert (await stamped.proof(late, NOW + 2 * DAY)).signed_at == NOW


@BOTH
async def test_f17_what_a_timestamp_will_keep_does_not_end_with_its_certificates(form: Form) -> None:
    late = {**STAMPED, "timestamp": "afterCertExpiry"}
    ends = End(NOW + DAY, f"certificate {SUBJECT}")
    kept = Signed(form=form, stamp=stamped_by(TSA))
    assert (await kept.proof(late)).ends is None
    assert (await kept.proof(late, NOW + 2 * DAY)).ends is None
    # One that nobody trusts with times, or that is of another time, or none at all: nothing will stand in.
    assert (await kept.proof(CA)).ends == ends
    strange = Signed(form=form, stamp=lambda _: b"garbage")
    outside = Signed(form=form, stamp=stamped_by(TSA, NOW - 2 * DAY))
    for signed in (strange, outside, Signed(form=form)):
        assert (await signed.proof(late)).ends == ends
        assert "could not" not in await signed.refusal(late, NOW + 2 * DAY)
    # What is not enforced ends nothing.
    assert (await Signed(form=form).proof(CA, override={"authenticTimestamp": "log"})).ends is None


@BOTH
async def test_a_timestamp_that_proves_nothing_is_refused(form: Form) -> None:
    others_root = authority("TSA Root", key="P-256 other tsa", begins=NOW - 90 * DAY, ends=NOW + 900 * DAY)
    outside = Signed(form=form, stamp=stamped_by(TSA, NOW + 2 * DAY))
    assert "when not all of its certificates were valid" in await outside.refusal(STAMPED)
    wide = Signed(form=form, stamp=stamped_by(TSA, NOW + DAY, accuracy=2 * SECOND))
    assert "when not all of its certificates were valid" in await wide.refusal(STAMPED)
    await Signed(form=form, stamp=stamped_by(TSA, NOW + DAY - 2 * SECOND, accuracy=2 * SECOND)).proof(STAMPED)
    of_something_else = Signed(form=form, stamp=lambda _: stamped_by(TSA)(b"another signature"))
    assert "timestamp: " in await of_something_else.refusal(STAMPED)
    trusted = trusting(store("ca", ROOT), store("tsa", others_root))
    assert "not signed by an authority that is trusted" in await Signed(form=form, stamp=stamped_by(TSA)).refusal(
        trusted
    )
    garbage = Signed(form=form, stamp=lambda _: b"garbage")
    assert "timestamp: not one that can be read" in await garbage.refusal(STAMPED)


async def test_a_time_that_is_only_logged_proves_no_time() -> None:
    signed = Signed(stamp=lambda _: b"garbage")
    proof = await signed.proof(STAMPED, override={"authenticTimestamp": "log"})
    assert proof.logged == ("authentic timestamp: timestamp: not one that can be read",)
    assert (proof.signed_at, proof.valid_until) == (None, None)


# ── N-07: schemes and stores ─────────────────────────────────────────────────────────────────────────────────────────
@BOTH
async def test_n07_each_scheme_has_its_own_store(form: Form) -> None:
    ordinary, by_service = Signed(form=form), Signed(form=form, scheme=AUTHORITY_SIGNS)
    assert "none in a trust store of type ca" in await ordinary.refusal(SERVICE)
    assert "none in a trust store of type signingAuthority" in await by_service.refusal(CA)
    await ordinary.proof(CA)
    proof = await by_service.proof(SERVICE)
    assert proof.signed_at == NOW - dt.timedelta(minutes=1)
    both = trusting(store("ca", OTHER_ROOT), store("signingAuthority", ROOT))
    assert "type ca" in await ordinary.refusal(both)


@BOTH
async def test_the_word_of_a_signing_authority_is_its_time(form: Form) -> None:
    signed = Signed(form=form, scheme=AUTHORITY_SIGNS)
    proof = await signed.proof(SERVICE, NOW + 400 * DAY)
    assert (proof.valid_until, proof.ends) == (None, None)
    outside = Signed(form=form, scheme=AUTHORITY_SIGNS, signed_at=NOW - 2 * DAY)
    assert "when not all of its certificates were valid" in await outside.refusal(SERVICE)


async def test_the_word_of_a_signing_authority_nobody_trusts_is_nobodys() -> None:
    proof = await Signed(scheme=AUTHORITY_SIGNS).proof(CA, level="audit")
    assert proof.signed_at is None
    assert proof.identity == public_key(SIGNER.certificate).fingerprint
    assert [text.partition(":")[0] for text in proof.logged] == ["authenticity"]


# ── N-08: revocation ─────────────────────────────────────────────────────────────────────────────────────────────────
OCSP, CRL = "http://ocsp.test/", "http://crl.test/between.crl"
ASKED = party("Asked", BETWEEN, more=(responder_at(OCSP), list_at([CRL])))
LISTED = party("Listed", BETWEEN, more=(list_at([CRL]),))


def _always(answer: bytes) -> Callable[[bytes], bytes]:
    return lambda _: answer


def telling(signed: Signed, **documents: Any) -> Signed:
    """The same, with what responder and list say."""
    urls = {"ocsp": OCSP, "crl": CRL}
    for name, answer in documents.items():
        signed.registry.documents[urls[name]] = _always(answer) if name == "ocsp" else answer
    return signed


@BOTH
async def test_n08_what_issuers_say_decides(form: Form) -> None:
    good, revoked = ocsp_answer(ASKED), ocsp_answer(ASKED, revoked=True)
    empty, listing = revocation_list(BETWEEN), revocation_list(BETWEEN, Entry(ASKED))
    assert (await telling(Signed(ASKED, form), ocsp=good).proof(CA)).valid_until == NOW + DAY
    assert "has revoked it on 2026-11-23" in await telling(Signed(ASKED, form), ocsp=revoked).refusal(CA)
    await telling(Signed(ASKED, form), crl=empty).proof(CA)
    assert "has revoked it on 2026-11-23" in await telling(Signed(ASKED, form), crl=listing).refusal(CA)
    # The responder is asked first; the list only where it does not tell.
    await telling(Signed(ASKED, form), ocsp=good, crl=listing).proof(CA)
    assert "revoked" in await telling(Signed(ASKED, form), ocsp=b"garbage", crl=listing).refusal(CA)
    await telling(Signed(ASKED, form), ocsp=b"garbage", crl=empty).proof(CA)


async def test_n08_a_proof_holds_no_longer_than_what_issuers_said() -> None:
    answer = ocsp_answer(ASKED, ends=NOW + 60 * SECOND)
    proof = await telling(Signed(ASKED), ocsp=answer).proof(CA)
    # Its issuer will say it again; so that does not end, nor is it a list.
    assert (proof.valid_until, proof.ends and proof.ends.at, proof.lists) == (NOW + 60 * SECOND, NOW + DAY, ())


async def test_f31_a_proof_names_the_revocation_lists_that_it_rests_on() -> None:
    url = "http://crl.test/root.crl"
    between = authority("Between", ROOT, more=(list_at([url]),))
    signed = Signed(party("Listed", between, more=(list_at([CRL, "http://second.test/"]),)))
    telling(signed, crl=revocation_list(between, ends=NOW + 60 * SECOND))
    signed.registry.documents[url] = revocation_list(ROOT, ends=NOW + 90 * SECOND)
    proof = await signed.proof(CA)
    assert proof.lists == (End(NOW + 60 * SECOND, CRL), End(NOW + 90 * SECOND, url))
    # Its issuer makes another: the signature does not end with it.
    assert (proof.valid_until, proof.ends and proof.ends.at) == (NOW + 60 * SECOND, NOW + DAY)
    # Where nothing follows from it, nothing rests on it.
    assert (await signed.proof(CA, level="permissive")).lists == ()
    # Where a responder tells, nobody looks at a list.
    answered = telling(Signed(ASKED), ocsp=ocsp_answer(ASKED), crl=revocation_list(BETWEEN))
    assert (await answered.proof(CA)).lists == ()


@pytest.mark.parametrize(
    ("documents", "why"),
    [
        ({}, "it has no answer"),
        ({"ocsp": b"garbage"}, "the OCSP answer cannot be read; it has no answer"),
        ({"ocsp": ocsp_answer(ASKED, ends=NOW)}, "the OCSP answer is over"),
        ({"crl": revocation_list(BETWEEN, ends=NOW)}, "the revocation list is over"),
        ({"crl": revocation_list(OTHER_ROOT)}, "the revocation list is not signed by the certificate's issuer"),
        ({"crl": b"x" * (limits.MAX_REVOCATION_LIST + 1)}, f"more than {limits.MAX_REVOCATION_LIST} bytes"),
        ({"ocsp": b"x" * (limits.MAX_OCSP + 1)}, f"more than {limits.MAX_OCSP} bytes"),
    ],
)
async def test_n08_f15_what_nobody_can_tell_is_not_verified_and_by_other_levels_logged(
    documents: dict[str, bytes], why: str
) -> None:
    signed = telling(Signed(ASKED), **documents)
    text = await signed.refusal(CA)
    assert text.startswith("could not verify: whether certificate 0 of its chain was revoked could not be learned: ")
    assert why in text
    for level in ("permissive", "audit"):
        proof = await signed.proof(CA, level=level)
        assert [text.partition(":")[0] for text in proof.logged] == ["revocation"]
        assert why in proof.logged[0]


@pytest.mark.parametrize("method", ["post", "get"])
async def test_f15_a_service_that_does_not_answer_is_named(method: str) -> None:
    signed = telling(Signed(ASKED), ocsp=ocsp_answer(ASKED))
    if method == "get":
        signed.registry.documents.clear()
    signed.registry.fail(method, lambda: Unavailable("ocsp.test: no answer in time"))
    assert "ocsp.test: no answer in time" in await signed.refusal(CA)
    # Where the other one answers, nothing is missing.
    signed.registry.failures.clear()
    telling(signed, ocsp=ocsp_answer(ASKED), crl=revocation_list(BETWEEN))
    signed.registry.fail("post", lambda: Unavailable("ocsp.test: no answer in time"))
    await signed.proof(CA)


async def test_n08_what_changed_since_is_asked_for_and_missed() -> None:
    url = "http://crl.test/delta.crl"
    named = (delta_at(url), False)
    since = revocation_list(BETWEEN, number=2, extensions=[(DeltaCRLIndicator(1), True)])
    revoked = revocation_list(BETWEEN, Entry(LISTED), number=2, extensions=[(DeltaCRLIndicator(1), True)])
    own = party("Own", BETWEEN, more=(list_at([CRL]), named))
    for signer, base in ((LISTED, revocation_list(BETWEEN, extensions=[named])), (own, revocation_list(BETWEEN))):
        signed = telling(Signed(signer), crl=base)
        assert "what changed since its revocation list was not to be had" in await signed.refusal(CA)
        signed.registry.documents[url] = since
        await signed.proof(CA)
    listed = telling(Signed(LISTED), crl=revocation_list(BETWEEN, extensions=[named]))
    listed.registry.documents[url] = revoked
    assert "revoked it" in await listed.refusal(CA)


async def test_n08_the_next_place_is_asked_where_one_has_nothing() -> None:
    more = (responder_at("http://first.test/", OCSP), list_at(["http://first.test/x.crl", CRL]))
    signed = telling(Signed(party("Asked", BETWEEN, more=more)), crl=revocation_list(BETWEEN))
    await signed.proof(CA)
    assert (signed.registry.asked["post"], signed.registry.asked["get"]) == (2, 2)


async def test_n08_every_certificate_but_the_last_is_asked_about() -> None:
    url = "http://crl.test/root.crl"
    between = authority("Between", ROOT, more=(list_at([url]),))
    signed = Signed(party("Listed", between, more=(list_at([CRL]),)))
    telling(signed, crl=revocation_list(between))
    assert "whether certificate 1 of its chain" in await signed.refusal(CA)
    signed.registry.documents[url] = revocation_list(ROOT, Entry(between))
    assert await signed.refusal(CA) == "certificate 1 of its chain: its issuer has revoked it on 2026-11-23"
    signed.registry.documents[url] = revocation_list(ROOT)
    await signed.proof(CA)


async def test_n08_a_revoked_certificate_outweighs_one_nobody_can_tell_of() -> None:
    url = "http://crl.test/root.crl"
    between = authority("Between", ROOT, more=(list_at([url]),))
    signed = Signed(party("Listed", between, more=(list_at([CRL]),)))
    signed.registry.documents[url] = revocation_list(ROOT, Entry(between))
    assert await signed.refusal(CA) == "certificate 1 of its chain: its issuer has revoked it on 2026-11-23"


async def test_n08_what_was_revoked_after_a_trusted_time_had_been_good_then() -> None:
    entry = Entry(LISTED, invalid_since=NOW + SECOND)
    stamped = telling(Signed(LISTED, stamp=stamped_by(TSA)), crl=revocation_list(BETWEEN, entry))
    assert (await stamped.proof(STAMPED)).signed_at == NOW
    # Without a trusted time, at a later one, and where nobody says since when, it is revoked.
    assert "revoked" in await stamped.refusal(CA)
    later = telling(Signed(LISTED, stamp=stamped_by(TSA, NOW + SECOND)), crl=revocation_list(BETWEEN, entry))
    assert "revoked" in await later.refusal(STAMPED)
    ever = telling(Signed(LISTED, stamp=stamped_by(TSA)), crl=revocation_list(BETWEEN, Entry(LISTED)))
    assert "revoked" in await ever.refusal(STAMPED)


@BOTH
async def test_c20_a_strangers_certificate_whose_name_nobody_can_read_hides_no_good_signature(form: Form) -> None:
    stranger = party(ODD)
    assert isinstance(stranger.private, ec.EllipticCurvePrivateKey)
    odd = with_odd_name(Issued(stranger.certificate, stranger.private))
    signed = Signed(Party(odd.certificate, stranger.private), form)
    assert "its certificate's subject cannot be read" in await signed.refusal(CA)
    # Nor where anybody may have signed.
    assert "its certificate's subject cannot be read" in await signed.refusal(CA, level="audit")
    sign_notation(signed.registry, PATH, signed.digest, SIGNER, form)
    proofs, reasons, causes = await judged(build(CA), claim_of(signed.digest), signed.registry)
    assert len(proofs) == 1, (reasons, causes)


def with_an_extended_certificate(token: bytes) -> bytes:
    """Among its certificates is one of a kind from before X.509 had extensions (RFC 5652, 10.2.2)."""
    from asn1crypto import cms

    whole = cms.ContentInfo.load(token)
    [*written] = whole["content"]["certificates"]
    info = {"version": 0, "certificate": written[0].chosen, "attributes": []}
    signed = {"extended_certificate_info": info, "signature_algorithm": {"algorithm": "sha256_rsa"}, "signature": b"x"}
    old = cms.CertificateChoices("extended_certificate", cms.ExtendedCertificate(signed))
    whole["content"]["certificates"] = cms.CertificateSet([*written, old])
    return bytes(whole.dump(force=True))


@BOTH
async def test_c13_c20_a_timestamp_that_nobody_can_read_hides_no_good_signature(form: Form) -> None:
    """Timestamps are not signed: whoever may push could put any into what a trusted signer made."""
    stamp = stamped_by(TSA)
    signed = Signed(form=form, stamp=lambda signature: with_an_extended_certificate(stamp(signature)))
    assert "timestamp: " in await signed.refusal(STAMPED)
    sign_notation(signed.registry, PATH, signed.digest, SIGNER, form, stamp=stamp)
    proofs, reasons, causes = await judged(build(STAMPED), claim_of(signed.digest), signed.registry)
    assert [proof.signed_at for proof in proofs] == [NOW], (reasons, causes)
    assert len(reasons) == 1


# ── N-06: the authorities behind timestamps ──────────────────────────────────────────────────────────────────────────
CLOCK_CRL = "http://crl.test/clock.crl"
LISTED_TSA = party(
    "Listed TSA", TSA_ROOT, STAMPING, more=(list_at([CLOCK_CRL]),), begins=NOW - 90 * DAY, ends=NOW + 900 * DAY
)


@BOTH
async def test_n06_a_timestamp_of_a_revoked_authority_is_refused(form: Form) -> None:
    signed = Signed(form=form, stamp=stamped_by(LISTED_TSA))
    documents = signed.registry.documents
    documents[CLOCK_CRL] = revocation_list(TSA_ROOT, ends=NOW + 60 * SECOND)
    proof = await signed.proof(STAMPED)
    assert (proof.signed_at, proof.valid_until) == (NOW, NOW + 60 * SECOND)
    assert (proof.ends, proof.lists) == (None, (End(NOW + 60 * SECOND, CLOCK_CRL),))
    documents[CLOCK_CRL] = revocation_list(TSA_ROOT, Entry(LISTED_TSA))
    assert await signed.refusal(STAMPED) == "certificate 0 of its chain: its issuer has revoked it on 2026-11-23"
    del documents[CLOCK_CRL]
    assert (await signed.refusal(STAMPED)).startswith("could not verify: whether certificate 0")
    # Nobody is asked where the policy skips it, or trusts nobody with times.
    signed.registry.asked.clear()
    await signed.proof(STAMPED, override={"revocation": "skip"})
    await signed.proof(CA)
    assert signed.registry.asked["get"] == 0
    logged = await signed.proof(STAMPED, override={"authenticTimestamp": "log"})
    assert [text.partition(":")[0] for text in logged.logged] == ["authentic timestamp"]


async def test_n06_nobody_is_asked_in_the_name_of_an_authority_that_is_not_trusted() -> None:
    clock = authority("Clock", begins=NOW - 90 * DAY, ends=NOW + 900 * DAY)
    forged = party("TSA", clock, STAMPING, more=(list_at([CLOCK_CRL]),), begins=NOW - DAY)
    signed = Signed(stamp=stamped_by(forged))
    assert "not signed by an authority that is trusted" in await signed.refusal(STAMPED)
    assert signed.registry.asked["get"] == 0


async def test_what_is_wrong_anyway_is_no_outage() -> None:
    """Whoever publishes must not reach what an outage is given."""
    unread = Signed(ASKED, annotations={"a": "b"})
    assert "is not signed" in await unread.refusal(CA, annotations={"a": "c"})
    assert "it expired" in await Signed(ASKED, expiry=NOW).refusal(CA)
    assert "are valid from" in await unread.refusal(CA, NOW + 2 * DAY)
    assert (await unread.refusal(CA)).startswith("could not verify")


async def test_nobody_is_asked_in_the_name_of_a_certificate_that_is_not_trusted() -> None:
    """Attack S-05: anybody can write URLs into certificates of their own."""
    signed = Signed(ASKED)
    assert "leads to none" in await signed.refusal(trusting(store("ca", OTHER_ROOT)))
    assert (await signed.proof(trusting(store("ca", OTHER_ROOT)), level="audit")).logged
    # Nor of one that only stands beside a trusted one.
    forged = party("Asked", authority("Between", OTHER_ROOT, key="P-256 forged"), more=(responder_at(OCSP),))
    beside = Party(forged.certificate, forged.private, Party(ROOT.certificate, ROOT.private))
    assert "was not issued by certificate 1" in await Signed(beside).refusal(CA)
    assert signed.registry.asked["post"] == signed.registry.asked["get"] == 0


async def test_where_authenticity_is_only_logged_revocation_still_counts() -> None:
    only: dict[str, Any] = {"level": "audit", "override": {"revocation": "enforce"}}
    other_name = trusting(store("ca", ROOT), identities=["x509.subject: C=US, ST=WA, O=Other"])
    revoked = telling(Signed(ASKED), ocsp=ocsp_answer(ASKED, revoked=True))
    assert "revoked it" in await revoked.refusal(other_name, **only)
    good = telling(Signed(ASKED), ocsp=ocsp_answer(ASKED))
    assert (await good.proof(other_name, **only)).logged[0].startswith("authenticity: ")
    # A stranger's certificate is asked nobody about, and makes no outage of it.
    stranger = trusting(store("ca", OTHER_ROOT))
    assert await good.refusal(stranger, **only) == "nobody is asked about certificates that lead to no trusted one"
    plain = await Signed().proof(stranger, **only)
    assert [text.partition(":")[0] for text in plain.logged] == ["authenticity"]


async def test_n06_the_authority_of_a_timestamp_is_asked_about_whoever_signed() -> None:
    signed = Signed(party("Nobody"), stamp=stamped_by(LISTED_TSA))
    only: dict[str, Any] = {"level": "audit", "override": {"authenticTimestamp": "enforce"}}
    signed.registry.documents[CLOCK_CRL] = revocation_list(TSA_ROOT)
    assert (await signed.proof(STAMPED, **only)).signed_at == NOW
    signed.registry.documents[CLOCK_CRL] = revocation_list(TSA_ROOT, Entry(LISTED_TSA))
    assert "revoked it" in await signed.refusal(STAMPED, **only)


async def test_d01_requests_about_revocation_are_bounded_and_the_rest_is_no_outage() -> None:
    registry = FakeRegistry()
    digest = registry.push_image(PATH, "v1")
    many = [party(f"Signer {i}", BETWEEN, more=(responder_at(f"http://{i}.test/"),)) for i in range(20)]
    for one in many:
        sign_notation(registry, PATH, digest, one)
    proofs, reasons, causes = await judged(build(CA), claim_of(digest), registry)
    assert registry.asked["post"] == len(causes) == limits.MAX_REVOCATION_REQUESTS
    assert proofs == []
    assert len(reasons) == 4
    assert all(reason.endswith("more than 16 requests about revocation would be needed") for reason in reasons)


@pytest.mark.parametrize("form", ["stamped by anybody", "same authority, another name", "the same certificate"])
async def test_n08_other_signatures_do_not_use_up_what_a_good_one_needs(form: str) -> None:
    registry = FakeRegistry()
    registry.documents |= {
        CLOCK_CRL: revocation_list(TSA_ROOT),
        CRL: revocation_list(BETWEEN),
    }
    digest = registry.push_image(PATH, "v1")
    stamp = stamped_by(LISTED_TSA)
    for i in range(2 * limits.MAX_REVOCATION_REQUESTS):
        match form:
            case "stamped by anybody":
                other = party(f"Nobody {i}")
            case "same authority, another name":
                other = party(f"Other {i}", BETWEEN, more=(responder_at(f"http://{i}.test/"),))
            case _:
                other = Party(LISTED.certificate, SIGNER.private, BETWEEN)
        sign_notation(registry, PATH, digest, other, signed_at=NOW - i * SECOND, stamp=stamp)
    sign_notation(registry, PATH, digest, LISTED, stamp=stamp)
    named = {**STAMPED, "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Acme, CN=Listed"]}
    proofs, reasons, causes = await judged(build(named), claim_of(digest), registry)
    assert (len(proofs), len(reasons), causes) == (1, 2 * limits.MAX_REVOCATION_REQUESTS, [])
    assert (registry.asked["post"], registry.asked["get"]) == (0, 2)


async def test_d01_bytes_of_evidence_count_what_issuers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ocsp_answer(ASKED)
    signed = telling(Signed(ASKED), ocsp=answer)
    monkeypatch.setattr("webhook.formats._artifacts.Budget.takes", lambda budget, size: size != len(answer))
    assert "requests about revocation would be needed" in await signed.refusal(CA)


async def test_n05_a_cache_that_cannot_be_written_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none on any disk: everything is refused, and nothing is missed."""
    import builtins
    import os

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    signed = telling(Signed(LISTED), crl=revocation_list(BETWEEN))
    await signed.proof(CA)  # what is imported on first use is read from the disk
    for place, name in ((builtins, "open"), (os, "open"), (os, "mkdir")):
        monkeypatch.setattr(place, name, refuse)
    await signed.proof(CA)


# ── levels ───────────────────────────────────────────────────────────────────────────────────────────────────────────
WRONG: dict[str, tuple[dict[str, Any], dt.datetime]] = {
    "authenticity": ({"signer": party("Nobody")}, NOW),
    "expiry": ({"expiry": NOW}, NOW),
    "authentic timestamp": ({}, NOW + 2 * DAY),
    "revocation": ({"signer": ASKED}, NOW),
}
TABLE = {
    "strict": dict.fromkeys(WRONG, "enforce"),
    "permissive": {**dict.fromkeys(WRONG, "log"), "authenticity": "enforce"},
    "audit": dict.fromkeys(WRONG, "log"),
}
FIELDS = {
    "authenticity": "authenticity",
    "expiry": "expiry",
    "authentic timestamp": "authenticTimestamp",
    "revocation": "revocation",
}


@pytest.mark.parametrize("level", TABLE)
@pytest.mark.parametrize("wrong", WRONG)
async def test_each_level_enforces_what_the_specification_says(level: str, wrong: str) -> None:
    options, now = WRONG[wrong]
    signed = Signed(**options)
    for override in (None, "enforce", "log"):
        others: dict[str, Any] = {"level": level, **({"override": {FIELDS[wrong]: override}} if override else {})}
        if (override or TABLE[level][wrong]) == "enforce":
            await signed.refusal(CA, now, **others)
        else:
            proof = await signed.proof(CA, now, **others)
            assert [text.partition(":")[0] for text in proof.logged] == [wrong]


@pytest.mark.parametrize("level", TABLE)
async def test_integrity_is_enforced_at_every_level(level: str) -> None:
    other = party("Other", BETWEEN)
    assert "not made by its certificate's key" in await Signed(key=other.private).refusal(CA, level=level)

    def another(document: dict[str, Any]) -> None:
        document["targetArtifact"]["digest"] = f"sha256:{'0' * 64}"

    assert "about another image" in await Signed(edit_payload=another).refusal(CA, level=level)


# ── N-11: the payload ────────────────────────────────────────────────────────────────────────────────────────────────
@BOTH
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"digest": f"sha256:{'0' * 64}"}, "it is about another image"),
        ({"size": 1}, "payload.targetArtifact.size: 1, which is not the image's"),
        ({"size": "1"}, "payload.targetArtifact.size: expected int"),
        ({"size": True}, "payload.targetArtifact.size: expected int"),
        ({"mediaType": "application/vnd.oci.image.index.v1+json"}, "mediaType: .*, which is not the image's"),
        ({"annotations": {"team": 1}}, "expected str, got int"),
        ({"Digest": f"sha256:{'0' * 64}"}, "Digest and digest are one name to other readers"),
    ],
)
async def test_n11_the_payload_is_about_this_image_in_every_way(form: Form, change: dict[str, Any], why: str) -> None:
    signed = Signed(form=form, edit_payload=lambda document: document["targetArtifact"].update(change))
    assert re.search(why, await signed.refusal(CA))


@BOTH
@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b'{"targetArtifact":null}', b'{"targetArtifact":[]}'])
async def test_n11_a_payload_of_another_shape_under_a_good_signature_is_refused(form: Form, content: bytes) -> None:
    refusal = await Signed(form=form, signed=content).refusal(CA)
    assert re.search(r"payload|expected bytes, at least one", refusal)


@BOTH
async def test_n11_keys_twice_in_the_payload_are_refused(form: Form) -> None:
    twice = b'{"targetArtifact":{"digest":"sha256:0","digest":"sha256:1","size":1,"mediaType":"x"}}'
    assert "duplicate key digest" in await Signed(form=form, signed=twice).refusal(CA)
    other = b'{"targetArtifact":{},"TargetArtifact":{}}'
    assert "one name to other readers" in await Signed(form=form, signed=other).refusal(CA)


@BOTH
async def test_user_metadata_must_have_been_signed(form: Form) -> None:
    signed = Signed(form=form, annotations={"build": "7", "team": "blue"})
    await signed.proof(CA, annotations={"build": "7"})
    assert await signed.refusal(CA, annotations={"build": "8"}) == "user metadata build=8 is not signed"
    assert await signed.refusal(CA, annotations={"stage": ""}) == "user metadata stage= is not signed"
    assert "is not signed" in await Signed(form=form).refusal(CA, annotations={"build": "7"})


# ── N-12: policies ───────────────────────────────────────────────────────────────────────────────────────────────────
NAME = "x509.subject: C=US, ST=WA, O=Acme"
CERTS = store("ca", ROOT)


def stores_of(*counts: int) -> list[dict[str, str]]:
    """Stores with so many certificates each."""
    return [store("ca", *[authority(f"Root {i} {k}") for i in range(count)]) for k, count in enumerate(counts)]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (trusting(CERTS, identities=["*", NAME]), ".trustedIdentities: * stands alone"),
        (trusting(CERTS, identities=["*", "*"]), ".trustedIdentities: * stands alone"),
        (trusting(CERTS, identities=[NAME, f"{NAME}, CN=x"]), "one of them contains another"),
        (trusting(CERTS, identities=["x509.subject: C=US, ST=WA"]), "[0]: x509.subject: C=US, ST=WA: lacks O"),
        (trusting(CERTS, identities=["x509.issuer: C=US"]), "write x509.subject: C=…"),
        (trusting(CERTS, identities=[]), "length >= 1"),
        (trusting(CERTS, identities=[""]), "length >= 1"),
        (trusting(), "length >= 1"),
        (trusting(store("tsa", TSA_ROOT)), "none of type ca or signingAuthority"),
        (trusting(store("tsa", TSA), CERTS), ".trustStores[0].certs: no self-signed root"),
        (trusting({"type": "root", "certs": ROOT.pem}), "root is none of ca, signingAuthority, tsa"),
        (trusting({"type": "ca", "certs": "-----BEGIN PUBLIC KEY-----"}), ".trustStores[0].certs: no PEM certificate"),
        (trusting(*stores_of(11, 11, 11)), "more than 32 certificates in all"),
        (trusting(store("ca", SIGNER)), "neither an authority's nor self-signed; name it in trustedIdentities"),
        (trusting(store("signingAuthority", ROOT, SIGNER)), "neither an authority's nor self-signed"),
        (trusting(store("ca", party("Weak", key="P-192"))), ".trustStores[0].certs: curve secp192r1"),
        (trusting(CERTS, level="skip"), "skip is none of strict, permissive, audit"),
        (trusting(CERTS, level="Strict"), "Strict is none of"),
        (trusting(CERTS, override={"integrity": "log"}), "integrity: unknown field"),
        (trusting(CERTS, override={"expiry": "skip"}), "skip is none of enforce, log"),
        (trusting(CERTS, override={"authenticity": "skip"}), "skip is none of enforce, log"),
        (trusting(CERTS, override={"revocation": "ignore"}), "ignore is none of enforce, log, skip"),
        (trusting(CERTS, timestamp="always"), ".timestamp: needs a trust store of type tsa"),
        (trusting(CERTS, store("tsa", TSA_ROOT), timestamp="never"), "never is none of always, afterCertExpiry"),
    ],
)
def test_n12_policies_that_cannot_be_meant_are_refused(spec: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Invalid) as refused:
        build(spec)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    "spec",
    [
        trusting(CERTS),
        trusting(CERTS, identities=[NAME]),
        trusting(CERTS, identities=[f"{NAME}, CN=x", f"{NAME}, CN=y"]),
        trusting(CERTS, store("tsa", TSA_ROOT), timestamp="afterCertExpiry"),
        trusting(store("signingAuthority", ROOT), level="audit"),
        trusting(CERTS, CERTS, override={"revocation": "skip", "expiry": "log"}),
        trusting(*stores_of(11, 11, 10)),
    ],
)
def test_n12_policies_of_each_shape_are_accepted(spec: dict[str, Any]) -> None:
    assert build(spec) == build(spec)
    assert hash(build(spec)) == hash(build(spec))


def test_v01_a_policy_that_names_nobody_is_refused() -> None:
    """The schema wants one identity at least; what does not pass the schema is refused here."""
    spec = NotationSpec(trust_stores=(TrustStore(type="ca", certs=KeyRef(ROOT.pem)),), trusted_identities=())
    with pytest.raises(Invalid, match=r"\.trustedIdentities: empty, so nobody could have signed"):
        FORMATS["notation"].build(spec, {KeyRef(ROOT.pem): ROOT.pem.encode()})


def test_a_certificate_that_cannot_be_read_is_none_to_trust() -> None:
    more = (UnrecognizedExtension(ObjectIdentifier("2.5.29.99"), b"x"), False)
    der = authority("Root", more=(more,)).der.replace(b"\x55\x1d\x63", b"\x55\x1d\x0f")
    pem = load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()
    with pytest.raises(Invalid, match=r"\.trustStores\[1\]\.certs: no self-signed root"):
        build(trusting(CERTS, {"type": "tsa", "certs": pem}))
    below = load_der_x509_certificate(
        party("Below", ROOT, more=(more,)).der.replace(b"\x55\x1d\x63", b"\x55\x1d\x0f")
    ).public_bytes(Encoding.PEM)
    with pytest.raises(Invalid, match="neither an authority's nor self-signed"):
        build(trusting({"type": "ca", "certs": below.decode()}))


def test_a_private_key_among_certificates_is_not_repeated() -> None:
    with pytest.raises(Invalid, match="a private key") as refused:
        build(trusting({"type": "ca", "certs": "-----BEGIN PRIVATE KEY-----s3cr3t"}))
    assert "s3cr3t" not in str(refused.value)


def test_a_signer_reads_beside_the_image() -> None:
    claim = claim_of(Digest(f"sha256:{'0' * 64}"))
    assert build(CA).sources(claim) == (claim.subject.repository,)


def test_what_is_dangerous_is_said() -> None:
    assert build(CA).dangers() == (
        "notation: trustedIdentities * accepts every certificate below the trust stores' ones",
    )
    assert build(CA, level="audit").dangers() == (
        "notation: authenticity is only logged, so that anybody may have signed",
    )
    assert build(CA, override={"authenticity": "log"}).dangers() == build(CA, level="audit").dangers()
    assert build(trusting(CERTS, identities=[NAME])).dangers() == ()


def test_what_is_wanted_is_said_in_words() -> None:
    root = public_key(ROOT.certificate).fingerprint
    wanted = build(trusting(CERTS, identities=[NAME], annotations={"build": "7"}))
    assert wanted.wanted() == f"a certificate of {NAME} below {root[:23]}…, user metadata -m build=7"
    many = trusting(
        store("ca", ROOT, *[authority(f"Root {i}") for i in range(3)]),
        identities=[f"{NAME}, CN={i}" for i in range(4)],
    )
    assert build(many).wanted().count("or others") == 2
    tsa = public_key(TSA_ROOT.certificate).fingerprint
    assert build(STAMPED).fingerprints() == (root, tsa)


# ── the house ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_nothing_heavy_is_imported_before_a_policy_needs_it() -> None:
    script = (
        "import sys; import webhook.cli; from tests.policies import policy; policy(); "
        "heavy = {'asn1crypto', 'rfc3161_client', 'cryptography.x509.ocsp'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this very interpreter
    assert done.stdout == "[]\n"
