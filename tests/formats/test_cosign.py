"""Cosign by key: the attacks on it, in both layouts, and what real signers wrote."""

import base64
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import captures
from tests.captures import IMAGE, INDEX, NOW
from tests.fake.pki import CODE_SIGNING, issue
from tests.fake.registry import OCI_MANIFEST, FakeRegistry, to_json
from tests.fake.signing import (
    SLSA,
    SigningKey,
    bundle,
    classic_layer,
    key,
    list_in_fallback,
    payload,
    push_signature_manifest,
    sign_bundle,
    sign_classic,
    statement,
)
from tests.formats.test_contract import claim_of, judged
from webhook import limits
from webhook.formats.cosign import FORMAT
from webhook.formats.cosign.signer import Cosign
from webhook.formats.cosign.spec import CosignSpec
from webhook.formats.cosign.wire import SIGNATURE_ARTIFACT
from webhook.image import Digest, Repository, Subject, digest_of
from webhook.parsing import Invalid, convert_all
from webhook.trust import Claim, Descriptor, KeyRef, Rejected, Unavailable, Unrelated, Untrusted

PATH = "shop/app"


def cosign(*keys: SigningKey | bytes, **options: Any) -> Cosign:
    pems = [k.pem if isinstance(k, SigningKey) else k.decode() for k in keys or (key("a"),)]
    spec = convert_all({"keys": pems, **options}, CosignSpec, "cosign")
    built = FORMAT.build(spec, {KeyRef(pem): pem.encode() for pem in pems})
    assert isinstance(built, Cosign)
    return built


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def image(registry: FakeRegistry) -> Digest:
    return registry.push_image(PATH, "v1")


async def identities(signer: Cosign, claim: Claim, registry: FakeRegistry) -> set[str]:
    return {proof.identity for proof in (await judged(signer, claim, registry))[0]}


# ── what real signers wrote ──────────────────────────────────────────────────────────────────────────────────────────
BY_COSIGN = [
    "cosign-v2-key-sigtag-notlog",
    "cosign-key-sigtag-notlog",
    "cosign-key-sigtag-rekor1",
    "cosign-key-bundle-notlog",
    "cosign-key-bundle-rekor1",
    "cosign-key-oci11-experimental",
]


@pytest.mark.parametrize("api", [True, False], ids=["referrers-api", "fallback-tag"])
@pytest.mark.parametrize("name", BY_COSIGN)
async def test_captures_by_cosign_are_accepted_by_their_key_and_no_other(name: str, api: bool) -> None:
    registry = FakeRegistry(referrers_api=api)
    registry.load(PATH, captures.path(name))
    claim = claim_of(IMAGE)
    proofs, _, causes = await judged(cosign(captures.key("cosign.pub")), claim, registry)
    assert (len(proofs), causes) == (1, [])
    proofs, reasons, _ = await judged(cosign(captures.key("other.pub")), claim, registry)
    assert proofs == set()
    assert all("unknown key" in reason or "not signed by a key" in reason for reason in reasons)


async def test_a_bundle_is_found_through_the_referrers_api_alone() -> None:
    registry = FakeRegistry()
    registry.load(PATH, captures.path("referrers-api"))
    assert len(await identities(cosign(captures.key("cosign.pub")), claim_of(IMAGE), registry)) == 1
    registry.referrers_api = False
    assert await identities(cosign(captures.key("cosign.pub")), claim_of(IMAGE), registry) == set()


async def test_skopeos_attachment_is_accepted_by_its_key_and_no_other() -> None:
    registry = FakeRegistry()
    registry.load(PATH, captures.path("skopeo-sigstore-attachment"))
    assert len(await identities(cosign(captures.key("skopeo.pub")), claim_of(IMAGE), registry)) == 1
    assert await identities(cosign(captures.key("cosign.pub")), claim_of(IMAGE), registry) == set()


@pytest.mark.parametrize("layout", ["bundle", "sigtag", "v2"])
@pytest.mark.parametrize("kind", ["p384", "p521", "rsa", "ed25519"])
async def test_every_kind_of_key_is_accepted_as_each_version_of_cosign_signs_with_it(kind: str, layout: str) -> None:
    folder = captures.path(f"cosign-key-{kind}-{layout}")
    registry = FakeRegistry(referrers_api=False)
    registry.load(PATH, folder)
    claim = claim_of(Digest(json.loads((folder / "tags.json").read_text())["v1"]))
    assert len(await identities(cosign(captures.key(f"{kind}.pub")), claim, registry)) == 1
    others = [captures.key(f"{other}.pub") for other in ("p384", "p521", "rsa", "ed25519") if other != kind]
    assert await identities(cosign(*others), claim, registry) == set()


@pytest.mark.parametrize("name", ["unsigned", "cosign-keyless-sigtag", "cosign-byo-bundle"])
async def test_what_no_key_signed_is_not_signed_by_a_key(name: str) -> None:
    registry = FakeRegistry()
    registry.load(PATH, captures.path(name))
    proofs, reasons, _ = await judged(cosign(captures.key("cosign.pub")), claim_of(IMAGE), registry)
    assert proofs == set()
    assert all("signed with a certificate" in reason for reason in reasons)


async def test_r06_index_and_children_are_signed_one_by_one() -> None:
    registry = FakeRegistry()
    registry.load(PATH, captures.path("cosign-key-index-recursive"))
    children = json.loads(registry.manifests[PATH, INDEX].body)["manifests"]
    for digest in (INDEX, *(child["digest"] for child in children)):
        assert len(await identities(cosign(captures.key("cosign.pub")), claim_of(digest), registry)) == 1
    assert await identities(cosign(captures.key("cosign.pub")), claim_of(IMAGE), registry) == set()


# ── the attacks ──────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_c04_an_attestation_by_the_same_key_is_no_signature(registry: FakeRegistry, image: Digest) -> None:
    sign_bundle(registry, PATH, image, key("a"), predicate_type=SLSA)
    proofs, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert proofs == set()
    assert reasons == [f"an attestation of type {SLSA}, not a signature"]
    attested = Claim(claim_of(image).subject, SLSA)
    assert await identities(cosign(), attested, registry) == {key("a").fingerprint}


async def test_c04_a_signature_is_no_attestation(registry: FakeRegistry, image: Digest) -> None:
    sign_bundle(registry, PATH, image, key("a"))
    sign_classic(registry, PATH, image, key("a"))
    proofs, reasons, _ = await judged(cosign(), Claim(claim_of(image).subject, SLSA), registry)
    assert proofs == set()
    assert sorted(reasons) == [
        "a signature, not of type https://slsa.dev/provenance/v1",
    ]
    # The `.sig` tag is not even asked for.
    signature = Untrusted("x", {"payload": b"{}", "signature": b"AA=="})
    with pytest.raises(Unrelated, match="a signature, not an attestation"):
        cosign().check(signature, Claim(claim_of(image).subject, SLSA), NOW)


async def test_c04_the_capture_that_cosign_itself_accepts_is_rejected() -> None:
    registry = FakeRegistry()
    registry.load(PATH, captures.path("cosign-key-attestation-only"))
    proofs, reasons, _ = await judged(cosign(captures.key("cosign.pub")), claim_of(IMAGE), registry)
    assert proofs == set()
    assert reasons == ["an attestation of type https://slsa.dev/provenance/v1, not a signature"]


async def test_c05_a_malformed_payload_under_a_good_signature_is_rejected(
    registry: FakeRegistry, image: Digest
) -> None:
    sign_classic(registry, PATH, image, key("a"), content=b"not json")
    sign_bundle(registry, PATH, image, key("a"), signed=b"not json")
    proofs, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert proofs == set()
    assert reasons == ["payload: not JSON in UTF-8", "statement: not JSON in UTF-8"]


@pytest.mark.parametrize(
    ("subjects", "reason"),
    [
        ([], "0 subjects"),
        (None, "statement.subject: expected array, got null"),
        ([None], r"statement.subject[0]: expected object, got null"),
        ([{}], "missing required field digest"),
        ([{"digest": {}}], "about another image"),
        ([{"digest": {"sha512": "DIGEST"}}], "about another image"),
        ([{"digest": {"sha256": f"sha256:{'0' * 64}"}}], "about another image"),
        ([{"digest": {"sha256": ""}}], "about another image"),
    ],
)
async def test_c06_subjects(registry: FakeRegistry, image: Digest, subjects: Any, reason: str) -> None:
    edited = json.loads(json.dumps(subjects).replace("DIGEST", image[7:]))
    sign_bundle(registry, PATH, image, key("a"), edit_statement=lambda s: s.update(subject=edited))
    proofs, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert proofs == set()
    assert reason in reasons[0]


async def test_c06_ours_may_be_the_last_of_many_subjects(registry: FakeRegistry, image: Digest) -> None:
    others = [{"name": f"n{i}", "digest": {"sha256": f"{i:064x}"}} for i in range(limits.MAX_SUBJECTS - 1)]
    sign_bundle(registry, PATH, image, key("a"), edit_statement=lambda s: s["subject"].__setitem__(slice(0, 0), others))
    assert await identities(cosign(), claim_of(image), registry) == {key("a").fingerprint}
    sign_bundle(
        registry,
        PATH,
        image,
        key("b"),
        edit_statement=lambda s: s["subject"].__setitem__(slice(0, 0), [*others, others[0]]),
    )
    _, reasons, _ = await judged(cosign(key("b")), claim_of(image), registry)
    assert "1001 subjects, expected 1 to 1000" in reasons[-1]


@pytest.mark.parametrize("count", [0, 2])
async def test_c12_anything_but_one_signature_is_rejected(registry: FakeRegistry, image: Digest, count: int) -> None:
    def repeat(document: dict[str, Any]) -> None:
        document["dsseEnvelope"]["signatures"] *= count

    sign_bundle(registry, PATH, image, key("a"), edit_bundle=repeat)
    proofs, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert proofs == set()
    assert reasons == [f"bundle.dsseEnvelope.signatures: {count}, expected exactly one"]


def test_c16_a_key_and_keys_in_one_signer_are_refused() -> None:
    spec = CosignSpec(key=KeyRef(key("a").pem), keys=(KeyRef(key("b").pem),))
    materials = {KeyRef(key(n).pem): key(n).pem.encode() for n in "ab"}
    with pytest.raises(Invalid, match="exactly one of key, keys, keyless and certificate"):
        FORMAT.build(spec, materials)
    with pytest.raises(Invalid, match="exactly one of key, keys, keyless and certificate"):
        FORMAT.build(CosignSpec(), {})
    with pytest.raises(Invalid, match="empty, so nobody could sign"):
        FORMAT.build(CosignSpec(keys=()), {})


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (
            lambda p: p["critical"]["image"].update({"docker-manifest-digest": f"sha256:{'0' * 64}"}),
            "about another image",
        ),
        (lambda p: p["critical"].update(type="atomic container signature"), "payload.critical.type: atomic container"),
        (lambda p: p["critical"].update(surprise=1), "unknown field surprise"),
        (lambda p: p["critical"]["image"].update(surprise=1), "unknown field surprise"),
        (lambda p: p["critical"]["identity"].update(surprise=1), "unknown field surprise"),
        (lambda p: p.pop("critical"), "missing required field critical"),
        (lambda p: p.update(optional=[]), "payload.optional"),
    ],
)
async def test_c18_the_payload_binds_the_image(
    registry: FakeRegistry, image: Digest, edit: Callable[[dict[str, Any]], None], reason: str
) -> None:
    sign_classic(registry, PATH, image, key("a"), edit_payload=edit)
    proofs, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert proofs == set()
    assert reason in reasons[0]


@pytest.mark.parametrize("optional", [None, {}, {"creator": "x", "timestamp": 1}])
async def test_c18_optional_may_be_anything_and_extra_members_are_ignored(
    registry: FakeRegistry, image: Digest, optional: Any
) -> None:
    sign_classic(registry, PATH, image, key("a"), edit_payload=lambda p: p.update(optional=optional, extra=[1]))
    assert await identities(cosign(), claim_of(image), registry) == {key("a").fingerprint}


@pytest.mark.parametrize(
    ("identity", "signed_name", "deployed", "accepted"),
    [
        ("digest", "registry.test/dev/app", "prod/app", True),
        ("repository", "registry.test/dev/app", "prod/app", False),
        ("repository", "registry.test/prod/app", "prod/app", True),
        ("repository", "registry.test/prod/app:v9", "prod/app", True),
        ("exact", "registry.test/prod/app", "prod/app", False),
        ("exact", "registry.test/prod/app:v1", "prod/app", True),
        ("exact", "registry.test/prod/app:v2", "prod/app", False),
        ("exact", "registry.test/dev/app:v1", "prod/app", False),
        ({"repository": "registry.test/dev/app"}, "registry.test/dev/app", "prod/app", True),
        ({"repository": "registry.test/dev/app"}, "registry.test/prod/app", "prod/app", False),
        ({"prefix": "registry.test/prod", "signedPrefix": "upstream.io/dev"}, "upstream.io/dev/app", "prod/app", True),
        (
            {"prefix": "registry.test/prod", "signedPrefix": "upstream.io/dev"},
            "upstream.io/dev/app:v1",
            "prod/app",
            True,
        ),
        (
            {"prefix": "registry.test/prod", "signedPrefix": "upstream.io/dev"},
            "upstream.io/dev/app:v2",
            "prod/app",
            False,
        ),
        (
            {"prefix": "registry.test/prod", "signedPrefix": "upstream.io/dev"},
            "registry.test/prod/app",
            "prod/app",
            False,
        ),
        ({"prefix": "registry.test/pro", "signedPrefix": "upstream.io/x"}, "upstream.io/xd/app", "prod/app", False),
        ({"prefix": "registry.test/pro", "signedPrefix": "upstream.io/x"}, "registry.test/prod/app", "prod/app", True),
        ({"prefix": "registry.test", "signedPrefix": "upstream.io"}, "upstream.io/prod/app", "prod/app", True),
        ("repository", "UPPER/case", "prod/app", False),
        ("repository", "no name", "prod/app", False),
    ],
)
async def test_c19_the_name_that_was_signed(identity: Any, signed_name: str, deployed: str, accepted: bool) -> None:
    registry = FakeRegistry()
    digest = registry.push_image(deployed, "v1")
    sign_classic(
        registry, deployed, digest, key("a"),
        edit_payload=lambda p: p["critical"]["identity"].update({"docker-reference": signed_name}),
    )  # fmt: skip
    proofs, reasons, _ = await judged(cosign(identity=identity), claim_of(digest, deployed), registry)
    assert bool(proofs) is accepted
    assert accepted or "which the policy's `identity` does not accept" in reasons[0] or "docker-reference" in reasons[0]


async def test_c19_a_bundle_names_no_image(registry: FakeRegistry, image: Digest) -> None:
    sign_bundle(registry, PATH, image, key("a"))
    _, reasons, _ = await judged(cosign(identity="repository"), claim_of(image), registry)
    assert reasons == ["it names no image, and the policy's `identity` demands a name"]


def test_c19_an_identity_is_one_rule() -> None:
    for wrong in ({}, {"prefix": "a.io"}, {"repository": "a.io/x", "prefix": "b.io", "signedPrefix": "c.io"}):
        with pytest.raises(Invalid, match="either `reference`, or `repository`, or `prefix` and `signedPrefix`"):
            cosign(identity=wrong)
    with pytest.raises(Invalid, match=r"\.identity: .*not a part of an image's path"):
        cosign(identity={"repository": "a.io/UPPER"})


def test_c19_prefixes_on_docker_hub_are_no_official_images() -> None:
    rule = cosign(identity={"prefix": "docker.io/acme", "signedPrefix": "library/x"}).identity
    assert (rule.prefix, rule.signed_prefix) == ("docker.io/acme", "docker.io/library/x")


def test_the_scope_has_the_tag_only_where_the_policy_looks_at_it() -> None:
    one, other = (Claim(Subject(Repository("r.io", "a"), IMAGE, tag)) for tag in ("v1", "v2"))
    assert cosign().scope(one) == cosign().scope(other)
    assert cosign(identity="exact").scope(one) != cosign(identity="exact").scope(other)


# ── places ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def broken_classic(registry: FakeRegistry, image: Digest) -> None:
    sign_classic(registry, PATH, image, key("evil"))


def broken_bundle(registry: FakeRegistry, image: Digest) -> None:
    sign_bundle(registry, PATH, image, key("a"), content=b'{"mediaType":')


def broken_fallback(registry: FakeRegistry, image: Digest) -> None:
    registry.push_manifest(PATH, b'{"manifests":3}', tag=image.replace(":", "-"))


def broken_sig_manifest(registry: FakeRegistry, image: Digest) -> None:
    registry.push_manifest(PATH, b'{"layers":null}', tag=f"{image.replace(':', '-')}.sig")


BREAKS = [broken_classic, broken_bundle, broken_fallback, broken_sig_manifest]
GOODS: list[Callable[[FakeRegistry, Digest], Any]] = [
    lambda r, d: sign_classic(r, PATH, d, key("a")),
    lambda r, d: sign_bundle(r, PATH, d, key("a")),
    lambda r, d: list_in_fallback(r, PATH, d, sign_bundle(r, PATH, d, key("a"))),
]


@pytest.mark.parametrize(("good", "broken"), list(itertools.product(GOODS, BREAKS)))
async def test_c20_one_bad_place_hides_no_good_signature(
    registry: FakeRegistry,
    image: Digest,
    good: Callable[[FakeRegistry, Digest], Any],
    broken: Callable[[FakeRegistry, Digest], None],
) -> None:
    broken(registry, image)
    assert await identities(cosign(), claim_of(image), registry) == set()
    if not (broken is broken_fallback and good is GOODS[2]) and not (
        broken is broken_sig_manifest and good is GOODS[0]
    ):
        good(registry, image)
        assert await identities(cosign(), claim_of(image), registry) == {key("a").fingerprint}


@pytest.mark.parametrize("place", ["manifest", "referrers", "blob"])
async def test_c20_a_place_that_cannot_be_read_hides_no_good_signature(
    registry: FakeRegistry, image: Digest, place: str
) -> None:
    sign_classic(registry, PATH, image, key("a"), annotations={"team": "blue"})
    sign_bundle(registry, PATH, image, key("a"))
    registry.fail(place, lambda: Unavailable("down"))
    proofs, _, causes = await judged(cosign(), claim_of(image), registry)
    assert "down" in causes
    # Only where the one place is needed for both kinds is nothing left.
    assert bool(proofs) is (place == "referrers")


async def test_c20_the_fallback_tag_is_read_although_there_is_the_api(registry: FakeRegistry, image: Digest) -> None:
    pushed = sign_bundle(registry, PATH, image, key("a"), fallback=True)
    manifest = registry.manifests.pop((PATH, pushed))
    other = registry.push_manifest(PATH, manifest.body.replace(b'"subject"', b'"subject" '), manifest.media_type)
    assert registry.list_referrers(PATH, image) != []
    del registry.manifests[PATH, other]
    registry.referrers_api = False
    registry.manifests[PATH, pushed] = manifest
    assert await identities(cosign(), claim_of(image), registry) == {key("a").fingerprint}


async def test_one_artifact_in_both_lists_is_read_once(registry: FakeRegistry, image: Digest) -> None:
    sign_bundle(registry, PATH, image, key("a"), fallback=True)
    await judged(cosign(), claim_of(image), registry)
    assert registry.asked["blob"] == 1


async def test_a_referrer_of_another_image_is_rejected(registry: FakeRegistry, image: Digest) -> None:
    other = registry.push_image(PATH, "v2", b"other")
    listed = sign_bundle(registry, PATH, other, key("a"))
    list_in_fallback(registry, PATH, image, listed)
    proofs, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert proofs == set()
    assert reasons == [f"referrer {listed[:19]}…: refers to another image"]


async def test_f11_a_referrer_that_is_listed_and_gone_is_named(registry: FakeRegistry, image: Digest) -> None:
    gone = f"sha256:{'7' * 64}"
    list_in_fallback(registry, PATH, image, gone)
    list_in_fallback(registry, PATH, image, "sha256:nonsense")
    _, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert reasons == [f"referrer {gone[:19]}…: listed, but not there"]


async def test_other_traditions_referrers_are_passed_over(registry: FakeRegistry, image: Digest) -> None:
    sign_bundle(
        registry,
        PATH,
        image,
        key("a"),
        edit_manifest=lambda m: m.update(artifactType="application/vnd.cncf.notary.signature"),
    )
    assert await judged(cosign(), claim_of(image), registry) == (set(), [], [])


async def test_a_bundle_artifact_has_one_layer(registry: FakeRegistry, image: Digest) -> None:
    sign_bundle(registry, PATH, image, key("a"), edit_manifest=lambda m: m["layers"].append(m["layers"][0]))
    _, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert "expected exactly one layer, a bundle" in reasons[0]


async def test_a_missing_blob_is_no_signature(registry: FakeRegistry, image: Digest) -> None:
    sign_bundle(registry, PATH, image, key("a"))
    registry.blobs.clear()
    _, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert "its content is not there" in reasons[0]


async def test_p10_signatures_elsewhere_only_where_the_policy_says(registry: FakeRegistry, image: Digest) -> None:
    sign_classic(registry, "signatures", image, key("a"))
    assert await identities(cosign(), claim_of(image), registry) == set()
    elsewhere = cosign(repository="registry.test/signatures")
    assert await identities(elsewhere, claim_of(image), registry) == {key("a").fingerprint}
    assert elsewhere.sources(claim_of(image)) == (Repository("registry.test", "signatures"),)
    with pytest.raises(Invalid, match=r"\.repository: "):
        cosign(repository="a.io/UPPER")


# ── what the policy asks for beside the key ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("sign", [sign_classic, sign_bundle])
async def test_annotations_must_have_been_signed(
    registry: FakeRegistry, image: Digest, sign: Callable[..., Any]
) -> None:
    sign(registry, PATH, image, key("a"), annotations={"team": "blue", "env": "prod"})
    assert await identities(cosign(annotations={"team": "blue"}), claim_of(image), registry)
    _, reasons, _ = await judged(cosign(annotations={"team": "red"}), claim_of(image), registry)
    assert reasons == ["annotation team is not red"]
    _, reasons, _ = await judged(cosign(annotations={"absent": "x"}), claim_of(image), registry)
    assert reasons == ["annotation absent is not x"]


async def test_any_of_several_keys_may_have_signed(registry: FakeRegistry, image: Digest) -> None:
    sign_classic(registry, PATH, image, key("b"))
    assert await identities(cosign(key("a"), key("b")), claim_of(image), registry) == {key("b").fingerprint}
    assert cosign(key("a"), key("b"), key("c"), key("d")).wanted().endswith(" or 1 more")
    assert cosign().dangers() == ()
    assert cosign(key("a"), key("b")).fingerprints() == (key("a").fingerprint, key("b").fingerprint)


async def test_a_log_entry_is_no_reason_to_refuse(registry: FakeRegistry, image: Digest) -> None:
    entry = {"logIndex": "1", "canonicalizedBody": "e30="}
    sign_bundle(
        registry, PATH, image, key("a"), edit_bundle=lambda b: b["verificationMaterial"].update(tlogEntries=[entry])
    )
    assert await identities(cosign(), claim_of(image), registry) == {key("a").fingerprint}


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("count", "accepted"), [(limits.MAX_LAYERS, True), (limits.MAX_LAYERS + 1, False)])
async def test_d01_layers(registry: FakeRegistry, image: Digest, count: int, accepted: bool) -> None:
    bad = classic_layer(registry, key("evil"), to_json(payload(PATH, image)))
    good = classic_layer(registry, key("a"), to_json(payload(PATH, image)))
    push_signature_manifest(registry, PATH, image, [*[bad] * (count - 1), good])
    proofs, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert bool(proofs) is accepted
    assert accepted or any("more than 100 signatures; the rest was not read" in reason for reason in reasons)


@pytest.mark.parametrize("full", ["the tag", "the list", "both"])
async def test_c20_d01_a_place_full_of_rubbish_hides_nothing_in_another(full: str) -> None:
    """Whoever may push could otherwise have an image denied that somebody else has signed."""
    registry = FakeRegistry()
    digest = registry.push_image(PATH, "v1")
    if full != "the list":
        for i in range(limits.MAX_LAYERS):
            sign_classic(registry, PATH, digest, key("z"), annotations={"i": i})
    if full != "the tag":
        for i in range(limits.MAX_REFERRERS):
            sign_bundle(registry, PATH, digest, key("z"), annotations={"i": str(i)})
    good = sign_bundle(registry, PATH, digest, key("a"), fallback=full != "the tag")
    if full != "the tag":
        # Only under the fallback tag, where it was pushed before the registry had the list.
        listed = registry.list_referrers

        def without(repository: str, subject: Digest) -> list[Descriptor]:
            return [one for one in listed(repository, subject) if one.digest != good]

        registry.list_referrers = without  # type: ignore[method-assign]
    proofs, reasons, _ = await judged(cosign(), claim_of(digest), registry)
    assert {proof.identity for proof in proofs} == {key("a").fingerprint}, reasons[-1]


async def test_d01_referrers_and_signatures(registry: FakeRegistry, image: Digest) -> None:
    for i in range(limits.MAX_REFERRERS):
        sign_bundle(registry, PATH, image, key("evil"), annotations={"i": str(i)})
    sign_bundle(registry, PATH, image, key("a"))
    proofs, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert proofs == set()
    assert reasons[-1] == "more than 100 referrers; the rest was not read"


async def test_d01_signatures_of_all_referrers_together(registry: FakeRegistry, image: Digest) -> None:
    """However many a referrer holds: one that cosign 2 wrote by the referrers API may hold a hundred."""
    bad = classic_layer(registry, key("evil"), to_json(payload(PATH, image)))
    config = {"mediaType": SIGNATURE_ARTIFACT, "size": 2, "digest": digest_of(b"{}")}
    full = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": [bad] * limits.MAX_LAYERS,
        "subject": {"mediaType": OCI_MANIFEST, "digest": image, "size": 1},
    }
    registry.push_manifest(PATH, full)
    sign_bundle(registry, PATH, image, key("a"))
    proofs, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert proofs == set()
    assert reasons[-1] == "more than 100 signatures; the rest was not read"


async def test_d01_bytes_of_all_that_one_place_holds_together(registry: FakeRegistry, image: Digest) -> None:
    layer = classic_layer(registry, key("evil"), b"x")
    push_signature_manifest(registry, PATH, image, [{**layer, "size": limits.MAX_PAYLOAD}] * 9)
    _, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert f"more than {limits.MAX_EVIDENCE} bytes of signatures in all" in reasons[-1]


@pytest.mark.parametrize(
    ("material", "reason"),
    [
        ({"tlogEntries": [{}] * (limits.MAX_LOG_ENTRIES + 1)}, "more than 32 log entries"),
        (
            {"timestampVerificationData": {"rfc3161Timestamps": [{}] * (limits.MAX_TIMESTAMPS + 1)}},
            "more than 32 timestamps",
        ),
    ],
)
async def test_d01_log_entries_and_timestamps(
    registry: FakeRegistry, image: Digest, material: dict[str, Any], reason: str
) -> None:
    sign_bundle(registry, PATH, image, key("a"), edit_bundle=lambda b: b["verificationMaterial"].update(material))
    _, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert reasons == [f"bundle: {reason}"]
    for value in material.values():
        (value if isinstance(value, list) else value["rfc3161Timestamps"]).pop()
    sign_bundle(registry, PATH, image, key("a"), edit_bundle=lambda b: b["verificationMaterial"].update(material))
    assert await identities(cosign(), claim_of(image), registry) == {key("a").fingerprint}


def leaf() -> dict[str, str]:
    """Somebody's certificate, as a bundle holds it."""
    return {"rawBytes": base64.b64encode(issue("release", purposes=[CODE_SIGNING]).der).decode()}


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda b: b.update(mediaType="application/x"), "bundle.mediaType: application/x is not supported"),
        (lambda b: b["verificationMaterial"].update(certificate={"rawBytes": "x"}), "certificate.rawBytes: not base64"),
        (lambda b: b["verificationMaterial"].update(certificate=leaf()), "either a public key or a certificate"),
        (lambda b: b.update(verificationMaterial={"certificate": leaf()}), "signed with a certificate"),
        (lambda b: b["verificationMaterial"].update(x509CertificateChain={}), "missing required field certificates"),
        (lambda b: b["verificationMaterial"].pop("publicKey"), "either a public key or a certificate"),
        (lambda b: b.pop("dsseEnvelope"), "either a public key or a certificate"),
        (lambda b: b["verificationMaterial"]["publicKey"].update(hint=key("z").hint), "signed by unknown key SHA256:"),
        (lambda b: b["verificationMaterial"]["publicKey"].update(hint="\x1b[31m"), r"signed by unknown key \x1b[31m"),
        (lambda b: b["verificationMaterial"]["publicKey"].update(hint="AAAA"), "signed by unknown key AAAA"),
        (
            lambda b: b["dsseEnvelope"].update(payloadType="text/plain"),
            "payloadType: expected application/vnd.in-toto+json",
        ),
        (lambda b: b["dsseEnvelope"]["signatures"][0].update(sig="AAAA"), "not signed by a key of this signer"),
        (lambda b: b["dsseEnvelope"]["signatures"][0].update(sig=""), "empty"),
        (lambda b: b["dsseEnvelope"]["signatures"][0].update(sig="AA=="), "not signed by a key of this signer"),
        (lambda b: b["dsseEnvelope"]["signatures"][0].update(sig="AB=="), "not base64 in its one form"),
        (lambda b: b["dsseEnvelope"]["signatures"][0].update(sig="A A="), "not base64"),
    ],
)
async def test_bundles_that_are_none(
    registry: FakeRegistry, image: Digest, edit: Callable[[dict[str, Any]], object], reason: str
) -> None:
    sign_bundle(registry, PATH, image, key("a"), edit_bundle=lambda b: (edit(b), None)[1])
    proofs, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert proofs == set()
    assert reason in reasons[0]


async def test_a_bundle_without_a_hint_is_tried_with_every_key(registry: FakeRegistry, image: Digest) -> None:
    sign_bundle(registry, PATH, image, key("b"), edit_bundle=lambda b: b["verificationMaterial"].update(publicKey={}))
    assert await identities(cosign(key("a"), key("b")), claim_of(image), registry) == {key("b").fingerprint}


async def test_a_statement_of_an_unknown_version_is_rejected(registry: FakeRegistry, image: Digest) -> None:
    sign_bundle(
        registry, PATH, image, key("a"), edit_statement=lambda s: s.update(_type="https://in-toto.io/Statement/v9")
    )
    _, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert "Statement/v9 is not supported" in reasons[0]


async def test_a_layer_that_is_no_signature_is_named(registry: FakeRegistry, image: Digest) -> None:
    good = classic_layer(registry, key("a"), to_json(payload(PATH, image)))
    push_signature_manifest(registry, PATH, image, [{**good, "mediaType": "text/plain"}, {**good, "annotations": None}])
    _, reasons, _ = await judged(cosign(), claim_of(image), registry)
    assert [reason.partition(": ")[2] for reason in reasons] == ["not a cosign signature"] * 2


async def test_the_payload_is_rebuilt_and_accepted_only_under_its_digest(registry: FakeRegistry, image: Digest) -> None:
    sign_classic(registry, PATH, image, key("a"))
    sign_classic(registry, PATH, image, key("a"), annotations={"team": "blue"})
    await judged(cosign(annotations={"team": "blue"}), claim_of(image), registry)
    assert registry.asked["blob"] == 0
    await judged(cosign(), claim_of(image), registry)
    assert registry.asked["blob"] == 1


async def test_docker_hubs_old_name_is_rebuilt_too() -> None:
    registry = FakeRegistry()
    digest = registry.push_image("library/x", "v1")
    sign_classic(
        registry, "library/x", digest, key("a"),
        edit_payload=lambda p: p["critical"]["identity"].update({"docker-reference": "index.docker.io/library/x"}),
    )  # fmt: skip
    claim = Claim(Subject(Repository("docker.io", "library/x"), digest, "v1"))
    assert await identities(cosign(identity="repository"), claim, registry) == {key("a").fingerprint}
    assert registry.asked["blob"] == 0


WRONG: list[Any] = [None, {}, [], "", 0, True, "wrong", -1, [None], {"a": 1}]

# Whatever these hold, a key signature does not rest on it.
_IGNORED = {
    "tlogEntries",
    "timestampVerificationData",
    "hint",
    "publicKey",
    "predicate",
    "annotations",
    "name",
    "optional",
}


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every member and item."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [place for name, value in items for place in ((*at, name), *places(value, (*at, name)))]


def replaced(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    changed = json.loads(json.dumps(document))
    node = changed
    for name in place[:-1]:
        node = node[name]
    node[place[-1]] = value
    return changed


def everything_wrong(document: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    return [(replaced(document, place, wrong), place) for place in places(document) for wrong in WRONG]


def check_all(documents: list[tuple[Any, Any]], evidence: Callable[[Any], Untrusted], digest: Digest) -> None:
    for document, place in documents:
        try:
            cosign().check(evidence(document), claim_of(digest), NOW)
        except (Rejected, Invalid):
            continue
        assert _IGNORED & set(map(str, place)), f"accepted with {place} replaced"


def test_c13_every_field_of_a_bundle_replaced(image: Digest) -> None:
    good = bundle(key("a"), to_json(statement(image)))
    good["verificationMaterial"]["tlogEntries"] = [{"logIndex": "1"}]
    good["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": "x"}]}
    check_all(everything_wrong(good), lambda d: Untrusted("x", {"bundle": to_json(d)}), image)


def test_c13_every_field_of_a_statement_replaced(image: Digest) -> None:
    documents = everything_wrong(statement(image, annotations={"a": "b"}))
    check_all(documents, lambda d: Untrusted("x", {"bundle": to_json(bundle(key("a"), to_json(d)))}), image)


def test_c13_every_field_of_a_payload_replaced(image: Digest) -> None:
    def evidence(document: Any) -> Untrusted:
        content = to_json(document)
        return Untrusted("x", {"payload": content, "signature": base64.b64encode(key("a").sign(content))})

    # With the default identity any text may stand where the name is; another type may not.
    documents = everything_wrong(payload(PATH, image, {"a": "b"}))
    named = [
        (d, p)
        for d, p in documents
        if not (
            p[-1] == "docker-reference"
            and isinstance(json.loads(json.dumps(d))["critical"]["identity"]["docker-reference"], str)
        )
    ]
    check_all(named, evidence, image)


@pytest.mark.parametrize("kind", ["classic", "bundle"])
async def test_c13_every_field_of_a_manifest_replaced(kind: str) -> None:
    for wrong_at in range(400):
        registry = FakeRegistry()
        image = registry.push_image(PATH, "v1")
        if kind == "classic":
            sign_classic(registry, PATH, image, key("a"), annotations={"x": "y"})
            digest = registry.tags[PATH, f"{image.replace(':', '-')}.sig"]
        else:
            digest = sign_bundle(registry, PATH, image, key("a"))
        good = json.loads(registry.manifests.pop((PATH, digest)).body)
        changes = everything_wrong(good)
        if wrong_at >= len(changes):
            break
        document, place = changes[wrong_at]
        changed = registry.push_manifest(
            PATH, document, OCI_MANIFEST, f"{image.replace(':', '-')}.sig" if kind == "classic" else None
        )
        if kind == "bundle":
            list_in_fallback(registry, PATH, image, changed)
            registry.referrers_api = False
        proofs, _, _ = await judged(cosign(), claim_of(image), registry)
        if proofs:
            # Only what says nothing about the signature may change.
            assert place[0] in {"schemaVersion", "mediaType", "config", "artifactType"} or place[-1] in {
                "mediaType",
                "size",
            }, place


GOOD_BUNDLE = to_json(bundle(key("a"), to_json(statement(IMAGE))))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_evidence_never_escapes_and_never_proves_something_else(data: st.DataObject) -> None:
    good = GOOD_BUNDLE
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 40)))
    mutated = good[:start] + data.draw(st.binary(max_size=20)) + good[end:]
    try:
        proof = cosign().check(Untrusted("x", {"bundle": mutated}), claim_of(IMAGE), NOW)
    except (Rejected, Invalid):
        return
    assert proof.identity == key("a").fingerprint
    assert json.loads(proof.statement or b"")["subject"][0]["digest"]["sha256"] == IMAGE[7:]
