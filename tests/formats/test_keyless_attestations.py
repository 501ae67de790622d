"""Attestations on the `.att` tag by identity: what cosign wrote, and the attacks on certificate and log (C-01, C-04, C-17)."""

import datetime as dt
import json
from collections.abc import Callable

import pytest

from tests import captures
from tests.captures import IMAGE
from tests.fake import sigstore
from tests.fake.pki import NOW
from tests.fake.registry import FakeRegistry, to_json
from tests.fake.signing import SIGN, SLSA, attestation, key
from tests.fake.sigstore import ISSUER, SUBJECT, Json, Made, Sigstore
from tests.formats.test_contract import claim_of, judged
from tests.formats.test_keyless import CLAIM, DIGEST, build, keyless, proof, refused
from webhook.trust import Claim, Untrusted

ATTESTED = Claim(CLAIM.subject, SLSA)
STATEMENT = to_json(attestation(DIGEST, SLSA, {"builder": {"id": "https://ci.example"}}))
NAMES = {"certificate": "dev.sigstore.cosign/certificate", "entry": "dev.sigstore.cosign/bundle"}


def tagged(made: tuple[Json, dict[str, str]]) -> Untrusted:
    envelope, annotations = made
    beside = {name: annotations[long].encode() for name, long in NAMES.items() if long in annotations}
    return Untrusted("a layer", {"envelope": to_json(envelope), **beside})


@pytest.fixture(scope="module")
def instance() -> Sigstore:
    return Sigstore()


@pytest.mark.parametrize("body", [sigstore.dsse, sigstore.intoto])
def test_an_attestation_by_identity(instance: Sigstore, body: Callable[[Made], Json]) -> None:
    made = proof(keyless(instance), tagged(instance.attestation(STATEMENT, body=body)), ATTESTED)
    assert (made.identity, made.signed_at) == (f"issuer={ISSUER},subject={SUBJECT}", NOW)
    assert (made.statement, made.log_index) == (STATEMENT, len(instance.log.leaves) - 1)
    assert made.serial
    another = keyless(instance, keyless={"issuer": ISSUER, "subject": "mallory@acme.test"})
    assert "another" in refused(another, tagged(instance.attestation(STATEMENT, body=body)), ATTESTED)


def test_c01_an_entry_of_something_else_is_none(instance: Sigstore) -> None:
    good = instance.attestation(STATEMENT)
    other = instance.attestation(to_json(attestation(DIGEST, SLSA, {"builder": {"id": "https://elsewhere.example"}})))
    swapped = good[0], {**good[1], NAMES["entry"]: other[1][NAMES["entry"]]}
    assert refused(keyless(instance), tagged(swapped), ATTESTED) == "log entry: of something else that was signed"
    # The certificate and the entry of somebody else's signature over the same.
    by_another = good[0], instance.attestation(STATEMENT, signer=key("b"))[1]
    assert "not signed by" in refused(keyless(instance), tagged(by_another), ATTESTED)
    proof(keyless(instance), tagged(good), ATTESTED)


def test_c17_without_a_log_nobody_knows_when_it_was_signed(instance: Sigstore) -> None:
    assert refused(keyless(instance), tagged(instance.attestation(STATEMENT, logged=False)), ATTESTED) == (
        "no log entry, which the policy demands"
    )
    late = instance.certify(key("keyless"), NOW + dt.timedelta(days=1))
    assert "not valid" in refused(
        keyless(instance), tagged(instance.attestation(STATEMENT, certificate=late)), ATTESTED
    )


def test_c04_what_lies_there_is_no_signature_whatever_it_states(instance: Sigstore) -> None:
    signature = tagged(instance.attestation(to_json(attestation(DIGEST, SIGN))))
    assert refused(keyless(instance), signature) == "an attestation, not a signature"
    assert refused(keyless(instance), signature, ATTESTED) == f"a signature, not of type {SLSA}"


@pytest.mark.parametrize("name", ["cosign-v2-keyless-attestation-att", "cosign-keyless-attestation-att"])
async def test_captures_by_cosign_are_accepted_by_their_identity_and_no_other(name: str) -> None:
    registry = FakeRegistry(referrers_api=False)
    registry.load("shop/app", captures.path(name))
    root = captures.key("attest_trusted_root.json").decode()
    who = {"issuer": "https://accounts.acme.test", "subject": "dev@acme.test"}
    claim = Claim(claim_of(IMAGE).subject, SLSA)
    (made,), reasons, causes = await judged(build(keyless=who, trustRoot=root), claim, registry)
    assert (reasons, causes) == ([], [])
    assert made.identity == "issuer=https://accounts.acme.test,subject=dev@acme.test"
    assert made.signed_at is not None
    assert made.signed_at.date() == dt.date(2026, 11, 25)
    assert made.log_index is not None
    assert json.loads(made.statement or b"")["predicate"]["runDetails"]["builder"]
    another = {**who, "subject": "mallory@acme.test"}
    assert (await judged(build(keyless=another, trustRoot=root), claim, registry))[0] == set()
    elsewhere = captures.key("trusted_root.json").decode()
    assert (await judged(build(keyless=who, trustRoot=elsewhere), claim, registry))[0] == set()
    assert (await judged(build(keyless=who, trustRoot=root), claim_of(IMAGE), registry))[0] == set()
