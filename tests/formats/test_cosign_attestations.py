"""Cosign's attestations: the `.att` tag and bundles, what real signers wrote, and the attacks on both (C-04, C-05, C-06, C-12, C-13)."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests import captures
from tests.captures import IMAGE, NOW
from tests.fake.registry import FakeRegistry, to_json
from tests.fake.signing import (
    ENVELOPE,
    SIGN,
    SLSA,
    attest,
    attest_tagged,
    key,
    push_signature_manifest,
    sign_bundle,
    sign_classic,
)
from tests.fake.sigstore import Sigstore, pem
from tests.formats.test_contract import claim_of, judged
from tests.formats.test_cosign import PATH, cosign, identities
from webhook import limits
from webhook.image import Digest
from webhook.policy.predicates import SHORT_NAMES
from webhook.trust import Claim, Rejected, Unavailable, Unrelated, Untrusted

SPDX = "https://spdx.dev/Document"
Attest = Callable[..., object]
LAYOUTS = pytest.mark.parametrize("publish", [attest, attest_tagged], ids=["bundle", "tag"])


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def image(registry: FakeRegistry) -> Digest:
    return registry.push_image(PATH, "v1")


def attested(image: Digest, predicate_type: str = SLSA) -> Claim:
    return Claim(claim_of(image).subject, predicate_type)


# ── what real signers wrote ──────────────────────────────────────────────────────────────────────────────────────────
BY_COSIGN = ["cosign-attestations-bundle", "cosign-attestations-att", "cosign-v2-attestations-att"]


@pytest.mark.parametrize("name", BY_COSIGN)
@pytest.mark.parametrize("short", SHORT_NAMES)
async def test_each_type_that_cosign_writes_has_its_short_name(name: str, short: str) -> None:
    registry = FakeRegistry(referrers_api=False)
    registry.load(PATH, captures.path(name))
    found = []
    for predicate_type in SHORT_NAMES[short]:
        claim = attested(IMAGE, predicate_type)
        proofs, _, causes = await judged(cosign(captures.key("attest.pub")), claim, registry)
        assert causes == []
        found += [json.loads(proof.statement or b"") for proof in proofs]
        assert (await judged(cosign(captures.key("other.pub")), claim, registry))[0] == set()
    # Provenance was attested in both of its versions; cosign 2 was asked twice for the older one, as the type it calls default.
    expected = {"slsa-provenance": 3 if name.startswith("cosign-v2") else 2}.get(short, 1)
    assert len(found) == expected
    assert {statement["_type"] for statement in found} == {"https://in-toto.io/Statement/v0.1"}


async def test_captured_attestations_are_no_signatures() -> None:
    registry = FakeRegistry(referrers_api=False)
    for name in BY_COSIGN:
        registry.load(PATH, captures.path(name))
    assert await identities(cosign(captures.key("attest.pub")), claim_of(IMAGE), registry) == set()


@pytest.mark.parametrize(
    ("predicate_type", "predicate"),
    [(SPDX, str), ("https://cosign.sigstore.dev/attestation/v1", dict)],
    ids=["spdx as tag-value text", "custom"],
)
async def test_predicates_that_are_no_documents(predicate_type: str, predicate: type) -> None:
    registry = FakeRegistry(referrers_api=False)
    registry.load(PATH, captures.path("cosign-attestations-odd"))
    proofs, _, _ = await judged(cosign(captures.key("attest.pub")), attested(IMAGE, predicate_type), registry)
    assert [type(json.loads(proof.statement or b"")["predicate"]) for proof in proofs] == [predicate]


# ── where they are looked for ────────────────────────────────────────────────────────────────────────────────────────
@LAYOUTS
async def test_an_attestation_is_found_in_every_layout(registry: FakeRegistry, image: Digest, publish: Attest) -> None:
    publish(registry, PATH, image, key("a"))
    proofs, reasons, causes = await judged(cosign(), attested(image), registry)
    assert ([proof.identity for proof in proofs], reasons, causes) == ([key("a").fingerprint], [], [])
    assert await identities(cosign(key("b")), attested(image), registry) == set()


async def test_the_tag_of_attestations_is_asked_for_only_where_one_is_demanded(
    registry: FakeRegistry, image: Digest
) -> None:
    sign_classic(registry, PATH, image, key("a"))
    attest_tagged(registry, PATH, image, key("a"))
    tag = image.replace(":", "-")
    registry.fail(f"manifest {tag}.att", lambda: AssertionError("asked for attestations"))
    assert len(await identities(cosign(), claim_of(image), registry)) == 1
    registry.failures.clear()
    registry.fail(f"manifest {tag}.sig", lambda: AssertionError("asked for signatures"))
    assert len(await identities(cosign(), attested(image), registry)) == 1


async def test_an_attestation_takes_as_many_requests_as_a_signature(registry: FakeRegistry, image: Digest) -> None:
    attest_tagged(registry, PATH, image, key("a"))
    async for evidence in cosign().collect(attested(image), registry):
        assert isinstance(evidence, Untrusted)
        break
    # The tag and the referrers at once, then the envelope itself.
    assert registry.asked == {"manifest": 1, "referrers": 1, "blob": 1}


async def test_c20_a_bad_attestation_hides_no_good_one(registry: FakeRegistry, image: Digest) -> None:
    attest_tagged(registry, PATH, image, key("a"), edit_envelope=lambda e: e.update(signatures=[]))
    attest_tagged(registry, PATH, image, key("b"))
    attest_tagged(registry, PATH, image, key("a"), edit_layer=lambda layer: layer.update(digest=f"sha256:{'0' * 64}"))
    attest_tagged(registry, PATH, image, key("a"), edit_layer=lambda layer: layer.update(mediaType="text/plain"))
    attest_tagged(registry, PATH, image, key("a"))
    proofs, reasons, _ = await judged(cosign(), attested(image), registry)
    assert len(proofs) == 1
    assert [reason.partition("….att ")[2] or reason for reason in reasons] == [
        "envelope.signatures: 0, expected exactly one",
        "not signed by a key of this signer",
        "layer 2: its content is not there",
        "layer 3: not an attestation",
    ]


async def test_c20_a_place_that_cannot_be_read_hides_no_other(registry: FakeRegistry, image: Digest) -> None:
    attest(registry, PATH, image, key("a"))
    registry.fail(f"manifest {image.replace(':', '-')}.att", lambda: Unavailable("registry.test: 503"))
    proofs, _, causes = await judged(cosign(), attested(image), registry)
    assert (len(proofs), causes) == (1, ["registry.test: 503"])
    registry.push_manifest(PATH, {"layers": 1}, tag=f"{image.replace(':', '-')}.att")
    registry.failures.clear()
    proofs, reasons, _ = await judged(cosign(), attested(image), registry)
    assert len(proofs) == 1
    assert "….att.layers: expected array" in reasons[0]


async def test_d01_attestations_are_bounded_in_number(registry: FakeRegistry, image: Digest) -> None:
    layer = {"mediaType": "text/plain", "size": 1, "digest": f"sha256:{'0' * 64}"}
    for count in (limits.MAX_LAYERS, limits.MAX_LAYERS + 1):
        push_signature_manifest(registry, PATH, image, [layer] * count, ".att")
        _, reasons, _ = await judged(cosign(), attested(image), registry)
        assert ("more than 100 attestations; the rest was not read" in reasons[-1]) is (count > limits.MAX_LAYERS)


async def test_d01_an_oversized_attestation_is_rejected_before_it_is_read(
    registry: FakeRegistry, image: Digest
) -> None:
    attest_tagged(registry, PATH, image, key("a"), edit_layer=lambda layer: layer.update(size=limits.MAX_BLOB + 1))
    proofs, reasons, _ = await judged(cosign(), attested(image), registry)
    assert proofs == set()
    assert f"{limits.MAX_BLOB + 1} bytes, more than" in reasons[0]
    assert registry.asked["blob"] == 0


@LAYOUTS
async def test_d04_a_verified_statement_may_be_long_and_not_longer(
    registry: FakeRegistry, image: Digest, publish: Attest
) -> None:
    # Two lists beside the items: the subjects, and this one; the statement's members have five commas and braces more.
    publish(registry, PATH, image, key("a"), SPDX, [1] * (limits.MAX_STATEMENT_ITEMS - 10))
    assert len(await identities(cosign(), attested(image, SPDX), registry)) == 1
    publish(registry, PATH, image, key("b"), SPDX, [1] * (limits.MAX_STATEMENT_ITEMS + 1))
    proofs, reasons, _ = await judged(cosign(key("b")), attested(image, SPDX), registry)
    assert proofs == set()
    assert f"statement: more than {limits.MAX_STATEMENT_ITEMS} values" in reasons


# ── the attacks ──────────────────────────────────────────────────────────────────────────────────────────────────────
@LAYOUTS
async def test_c04_an_attestation_of_another_type_is_not_the_wanted_one(
    registry: FakeRegistry, image: Digest, publish: Attest
) -> None:
    publish(registry, PATH, image, key("a"), SPDX)
    proofs, reasons, _ = await judged(cosign(), attested(image), registry)
    assert proofs == set()
    assert reasons == [f"of type {SPDX}, not of type {SLSA}"]
    # What the layer's or the manifest's annotations say of the type is nobody's word.
    publish(registry, PATH, image, key("a"), SLSA, edit=lambda s: s.update(predicateType=SPDX))
    assert await identities(cosign(), attested(image), registry) == set()
    assert len(await identities(cosign(), attested(image, SPDX), registry)) == 1


@LAYOUTS
async def test_c04_an_attestation_is_no_signature_in_any_layout(
    registry: FakeRegistry, image: Digest, publish: Attest
) -> None:
    publish(registry, PATH, image, key("a"))
    assert await identities(cosign(), claim_of(image), registry) == set()


async def test_c04_an_envelope_without_a_bundle_is_no_signature_whatever_it_states(
    registry: FakeRegistry, image: Digest
) -> None:
    attest_tagged(registry, PATH, image, key("a"), SIGN)
    (evidence,) = [e async for e in cosign().collect(attested(image), registry) if isinstance(e, Untrusted)]
    with pytest.raises(Unrelated, match="an attestation, not a signature"):
        cosign().check(evidence, claim_of(image), NOW)
    with pytest.raises(Unrelated, match=f"a signature, not of type {SLSA}"):
        cosign().check(evidence, attested(image), NOW)
    # Its twin in a bundle is one.
    sign_bundle(registry, PATH, image, key("a"))
    assert len(await identities(cosign(), claim_of(image), registry)) == 1


@LAYOUTS
async def test_c05_a_malformed_statement_under_a_good_signature_is_rejected(
    registry: FakeRegistry, image: Digest, publish: Attest
) -> None:
    publish(registry, PATH, image, key("a"), edit=lambda s: s.pop("predicateType"))
    publish(registry, PATH, image, key("a"), edit=lambda s: s.update(_type="https://in-toto.io/Statement/v9"))
    proofs, reasons, _ = await judged(cosign(), attested(image), registry)
    assert proofs == set()
    assert sorted(reasons) == [
        "statement._type: https://in-toto.io/Statement/v9 is not supported",
        "statement: object missing required field predicateType",
    ]


@LAYOUTS
async def test_c06_an_attestation_of_another_image_is_rejected(
    registry: FakeRegistry, image: Digest, publish: Attest
) -> None:
    other = registry.push_image(PATH, "v2", b"other")
    publish(registry, PATH, image, key("a"), edit=lambda s: s["subject"][0]["digest"].update(sha256=other[7:]))
    proofs, reasons, _ = await judged(cosign(), attested(image), registry)
    assert (proofs, reasons) == (set(), ["it is about another image"])
    publish(
        registry,
        PATH,
        image,
        key("a"),
        edit=lambda s: s["subject"].insert(0, {"name": "x", "digest": {"sha256": other[7:]}}),
    )
    assert len(await identities(cosign(), attested(image), registry)) == 1


@LAYOUTS
async def test_c12_exactly_one_signature(registry: FakeRegistry, image: Digest, publish: Attest) -> None:
    def twice(document: dict[str, Any]) -> None:
        envelope = document.get("dsseEnvelope", document)
        envelope["signatures"] *= 2

    publish(registry, PATH, image, key("a"), **{"edit_bundle" if publish is attest else "edit_envelope": twice})
    proofs, reasons, _ = await judged(cosign(), attested(image), registry)
    assert proofs == set()
    assert "2, expected exactly one" in reasons[0]


async def test_c13_every_field_of_an_envelope_replaced_by_everything(registry: FakeRegistry, image: Digest) -> None:
    attest_tagged(registry, PATH, image, key("a"))
    (evidence,) = [e async for e in cosign().collect(attested(image), registry) if isinstance(e, Untrusted)]
    whole = json.loads(evidence.parts["envelope"])
    strange: list[Any] = [None, {}, [], "", 0, True, "AA==", [None], {"a": 1}]
    places: list[tuple[Any, Any]] = [(whole, field) for field in whole]
    places += [(whole["signatures"], 0), (whole["signatures"][0], "sig")]
    for holder, field in places:
        good = holder[field]
        for value in strange:
            holder[field] = value
            with pytest.raises((Rejected, ValueError)):
                cosign().check(Untrusted("x", {"envelope": to_json(whole)}), attested(image), NOW)
        holder[field] = good
    assert cosign().check(Untrusted("x", {"envelope": to_json(whole)}), attested(image), NOW).predicate_type is None
    for content in (b"", b"null", b"[]", b"1", b'{"payload":', b"\xff"):
        with pytest.raises(ValueError, match="envelope"):
            cosign().check(Untrusted("x", {"envelope": content}), attested(image), NOW)


async def test_an_envelope_by_a_certificate_is_not_by_a_key(registry: FakeRegistry, image: Digest) -> None:
    for text, reason in (
        (pem(Sigstore().certify(key("a"))), "signed with a certificate, and the policy names a key"),
        ("-----BEGIN CERTIFICATE-----", "certificate: not a certificate that can be read"),
    ):
        written = {"dev.sigstore.cosign/certificate": text}
        attest_tagged(registry, PATH, image, key("a"), edit_layer=lambda layer: layer.update(annotations=written))  # noqa: B023 - used at once
        proofs, reasons, causes = await judged(cosign(), attested(image), registry)
        assert (proofs, causes) == (set(), [])
        assert reasons[-1].startswith(reason)


@LAYOUTS
async def test_c19_the_name_in_an_attestation_counts_where_the_policy_says_so(
    registry: FakeRegistry, image: Digest, publish: Attest
) -> None:
    publish(registry, PATH, image, key("a"))
    assert len(await identities(cosign(identity="repository"), attested(image), registry)) == 1
    publish(registry, PATH, image, key("b"), edit=lambda s: s["subject"][0].update(name="registry.test/other"))
    proofs, reasons, _ = await judged(cosign(key("b"), identity="repository"), attested(image), registry)
    assert proofs == set()
    assert "it was made for registry.test/other, which the policy's `identity` does not accept" in reasons
    publish(registry, PATH, image, key("c"), edit=lambda s: s["subject"][0].pop("name"))
    proofs, reasons, _ = await judged(cosign(key("c"), identity="repository"), attested(image), registry)
    assert proofs == set()
    assert "it names no image, and the policy's `identity` demands a name" in reasons
    assert len(await identities(cosign(key("c")), attested(image), registry)) == 1


def test_the_media_type_is_that_of_the_specification() -> None:
    assert ENVELOPE == "application/vnd.dsse.envelope.v1+json"
