"""Docker Content Trust: what real notary wrote, and every attack on a repository of our own (attacks T, R-05; faults F18, F19)."""

import base64
import contextlib
import datetime as dt
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical

from tests import captures
from tests.captures import NOW
from tests.fake import notary
from tests.fake.notary import RELEASES, SERVER, NotaryRepository, certified, plain_key, root_key
from tests.fake.registry import FakeRegistry
from webhook import limits
from webhook.formats import FORMATS
from webhook.formats.dct.keys import common_names, key_id
from webhook.formats.dct.signer import Dct
from webhook.formats.dct.wire import Key, KeyValue, canonical, is_role_path, parse_time
from webhook.image import Digest, Repository, Subject, digest_of, parse_repository
from webhook.parsing import Invalid, convert_all
from webhook.policy.require import evaluate, parse_require
from webhook.trust import Claim, Evidence, Rejected, Unavailable, Untrusted
from webhook.verdict import Proof, Satisfied, Unsatisfied

PATH = "shop/app"
GUN = f"registry.test/{PATH}"
IMAGE, OTHER = digest_of(b"image"), digest_of(b"other")
ROLES = ("root", "timestamp", "snapshot", "targets", RELEASES)

Edit = Callable[[dict[str, Any]], None]


def repository(**changed: Any) -> NotaryRepository:
    """`v1` in targets, `v2` in targets/releases and targets/qa, all of them the one image."""
    targets = {"targets": {"v1": IMAGE}, RELEASES: {"v2": IMAGE}, "targets/qa": {"v2": IMAGE}}
    return NotaryRepository(GUN, **{"targets": targets, **changed})


def build(**spec: Any) -> Dct:
    row = FORMATS["dct"]
    spec = {"server": SERVER, "rootKeys": [root_key("root", GUN).public.pem], **spec}
    read = convert_all(spec, row.spec, "spec")
    signer = row.build(read, {reference: reference.encode() for _, reference in row.keys(read)})
    assert isinstance(signer, Dct)
    return signer


def claim(tag: str | None = "v1", digest: Digest = IMAGE, name: str = GUN, *, pinned: bool = False) -> Claim:
    return Claim(Subject(parse_repository(name), digest, tag, pinned))


async def found(signer: Dct, about: Claim, registry: FakeRegistry) -> Evidence:
    (evidence,) = [one async for one in signer.collect(about, registry)]
    return evidence


async def judge(
    made: NotaryRepository,
    about: Claim | None = None,
    signer: Dct | None = None,
    now: dt.datetime = NOW,
) -> Proof:
    """The proof, or whatever stands in its way, raised."""
    registry = FakeRegistry()
    made.publish(registry)
    return await judged(registry, about, signer, now)


async def accepts(made: NotaryRepository, *args: Any, **kwargs: Any) -> None:
    assert (await judge(made, *args, **kwargs)).format == "dct"


async def judged(
    registry: FakeRegistry, about: Claim | None = None, signer: Dct | None = None, now: dt.datetime = NOW
) -> Proof:
    signer, about = signer or build(), about or claim()
    evidence = await found(signer, about, registry)
    if isinstance(evidence, Rejected | Unavailable):
        raise evidence
    return signer.check(evidence, about, now)


async def refusal(made: NotaryRepository, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(Rejected) as refused:
        await judge(made, *args, **kwargs)
    return str(refused.value)


# ── what real notary wrote ───────────────────────────────────────────────────────────────────────────────────────────
CAPTURED = "127.0.0.1:5065/dct"


def captured() -> FakeRegistry:
    registry = FakeRegistry()
    notary.load_capture(registry, captures.path("dct"), CAPTURED)
    return registry


def of_capture(tag: str | None, digest: Digest = captures.IMAGE) -> Claim:
    return claim(tag, digest, CAPTURED)


@pytest.mark.parametrize(
    ("tag", "delegations", "role"),
    [
        ("v1", None, "targets"),
        ("v2", None, RELEASES),
        ("v2", ["releases", "alice"], "targets/releases and targets/alice"),
        (None, None, RELEASES),
        (None, ["alice"], "targets/alice"),
    ],
)
async def test_what_notary_signed_is_read(tag: str | None, delegations: list[str] | None, role: str) -> None:
    signer = build(rootKeys=[captures.key("dct.pem").decode()], **({"delegations": delegations} if delegations else {}))
    proof = await judged(captured(), of_capture(tag), signer)
    assert proof.identity == signer.fingerprints()[0]
    assert proof.origin == f"{role} in the trust data of {CAPTURED} on {SERVER}"
    assert proof.valid_until == dt.datetime(2026, 12, 8, 0, 37, 5, 361974, tzinfo=dt.UTC)
    assert [version.number for version in proof.versions][:4] == [2, 6, 7, 5]
    assert proof.keys[0] == proof.identity
    assert len(set(proof.keys)) == len(proof.keys) == 5


@pytest.mark.parametrize(
    ("key", "tag", "digest", "delegations", "why"),
    [
        ("dct.pem", "v1", OTHER, None, f"targets: tag v1 is signed for another image, {captures.IMAGE}"),
        ("dct.pem", "v3", captures.IMAGE, None, "targets/releases and targets: nothing signed for tag v3"),
        ("dct.pem", "v1", captures.IMAGE, ["releases"], "targets/releases: nothing signed for tag v1"),
        ("dct.pem", None, OTHER, None, "targets/releases and targets: no tag is signed for this image"),
        ("cosign.pub", "v1", captures.IMAGE, None, "1.root: not signed by a root key of the policy"),
    ],
)
async def test_what_notary_did_not_sign_is_rejected(
    key: str, tag: str | None, digest: Digest, delegations: list[str] | None, why: str
) -> None:
    spec = {"delegations": delegations} if delegations else {}
    signer = build(rootKeys=[captures.key(key).decode()], **spec)
    with pytest.raises(Rejected) as refused:
        await judged(captured(), of_capture(tag, digest), signer)
    assert str(refused.value) == why


async def test_the_key_of_the_root_s_certificate_is_the_same_anchor() -> None:
    pem = captures.key("dct.pem").decode()
    by_certificate = build(rootKeys=[pem])
    bare = by_certificate.root_keys[0]
    public = f"-----BEGIN PUBLIC KEY-----\n{base64.encodebytes(bare.spki).decode()}-----END PUBLIC KEY-----\n"
    assert build(rootKeys=[public]) == by_certificate


async def test_only_what_decides_is_asked_for_and_all_but_the_timestamp_by_hash() -> None:
    registry = FakeRegistry()
    made = repository().publish(registry)
    await judged(registry)
    asked = [method.rpartition("_trust/tuf/")[2] for method in registry.asked]
    assert registry.asked == {"get": 5}
    del asked
    urls: list[str] = []

    class Watched(FakeRegistry):
        async def get(self, url: str, limit: int, **options: Any) -> bytes | None:
            urls.append(url.removeprefix(f"{SERVER}/v2/{GUN}/_trust/tuf/"))
            assert options == {"ca": None, "about": Repository("registry.test", PATH)}
            return registry.documents.get(url)  # type: ignore[return-value]  # nothing here is a function

    await judged(Watched())
    hashes = {role: hashlib.sha256(content).hexdigest() for role, content in made.items()}
    by_hash = [f"{role}.{hashes[role]}.json" for role in ("snapshot", "root", "targets", RELEASES)]
    assert urls == ["timestamp.json", *by_hash]


# ── which role speaks for a tag ──────────────────────────────────────────────────────────────────────────────────────
async def test_t05_releases_comes_before_targets() -> None:
    both = {"targets": {"v1": OTHER}, RELEASES: {"v1": IMAGE}}
    assert (await judge(repository(targets=both))).origin.startswith("targets/releases in ")
    reversed_ = {"targets": {"v1": IMAGE}, RELEASES: {"v1": OTHER}}
    assert await refusal(repository(targets=reversed_)) == f"{RELEASES}: tag v1 is signed for another image, {OTHER}"


async def test_t05_all_delegations_that_are_named_must_have_signed_and_agree() -> None:
    signer = build(delegations=["releases", "qa"])
    proof = await judge(repository(), claim("v2"), signer)
    assert proof.origin.startswith("targets/releases and targets/qa in ")
    one = repository(targets={"targets": {"v2": IMAGE}, RELEASES: {"v2": IMAGE}, "targets/qa": {}})
    assert await refusal(one, claim("v2"), signer) == "targets/qa: nothing signed for tag v2"
    two = repository(targets={"targets": {}, RELEASES: {"v2": IMAGE}, "targets/qa": {"v2": OTHER}})
    for digest in (IMAGE, OTHER):
        assert "is signed for another image" in await refusal(two, claim("v2", digest), signer)
    absent = repository(targets={"targets": {"v2": IMAGE}, RELEASES: {"v2": IMAGE}})
    assert await refusal(absent, claim("v2"), signer) == "targets/qa: targets delegates to no such role"
    unlisted = repository(unlisted={"targets/qa"})
    assert await refusal(unlisted, claim("v2"), signer) == "targets/qa: has signed nothing yet"


async def test_t05_a_delegation_speaks_for_the_tags_it_was_given_only() -> None:
    signer = build(delegations=["qa"])
    await accepts(repository(paths={"targets/qa": ["rc-", "v"]}), claim("v2"), signer)
    for paths in (["rc-"], []):
        made = repository(paths={"targets/qa": paths})
        assert await refusal(made, claim("v2"), signer) == "targets/qa: nothing signed for tag v2"
    # What releases may not speak about, targets does.
    both = {"targets": {"v1": IMAGE}, RELEASES: {"v1": OTHER}}
    await accepts(repository(targets=both, paths={RELEASES: ["x"]}))


async def test_t05_a_delegation_of_a_delegation_gets_no_more_than_its_delegator_has() -> None:
    targets = {"targets": {}, "targets/team": {}, "targets/team/alice": {"v2": IMAGE}}
    signer = build(delegations=["team/alice"])
    proof = await judge(repository(targets=targets), claim("v2"), signer)
    assert proof.origin.startswith("targets/team/alice in ")
    wider = {"targets/team": ["v"], "targets/team/alice": [""]}
    narrower = {"targets/team": ["v"], "targets/team/alice": ["v2"]}
    nothing: dict[str, list[str]] = {"targets/team": [], "targets/team/alice": [""]}
    await accepts(repository(targets=targets, paths=narrower), claim("v2"), signer)
    for paths in (wider, nothing):
        made = repository(targets=targets, paths=paths)
        assert await refusal(made, claim("v2"), signer) == "targets/team/alice: nothing signed for tag v2"
    both = build(delegations=["team", "team/alice"])
    assert await refusal(repository(targets=targets), claim("v2"), both) == "targets/team: nothing signed for tag v2"


async def test_t05_a_delegation_is_checked_against_its_current_delegator() -> None:
    signer = build(delegations=["qa"])
    await accepts(repository(), claim("v2"), signer)
    # The keys of targets/qa were replaced, and what it signed before is still served.
    replaced = repository(keys={"targets/qa": [plain_key("new qa")]}, signing={"targets/qa": [plain_key("targets/qa")]})
    assert await refusal(replaced, claim("v2"), signer) == "targets/qa: signed by 0 of its keys, and 1 are needed"


async def test_t05_a_delegation_given_up_or_silent_says_nothing_and_one_that_is_broken_is_not_passed_over() -> None:
    both = {"targets": {"v1": IMAGE}, RELEASES: {"v1": OTHER}}

    for nobody in ({"keys": None, "roles": None}, {}):
        gives_up = {"targets": lambda said, nobody=nobody: said.update(delegations=nobody)}
        await accepts(repository(targets=both, edit=gives_up))
    await accepts(repository(targets=both, edit={"targets": lambda said: said.pop("delegations")}))
    without_keys = {"targets": lambda said: said["delegations"].pop("keys")}
    assert "is not listed" in await refusal(repository(targets=both, edit=without_keys))
    await accepts(repository(targets=both, unlisted={RELEASES}))
    assert "expired" in await refusal(repository(targets=both, expires={RELEASES: notary.in_time(-1)}))
    hidden = repository(targets=both, served={RELEASES: lambda _: None})
    assert f"there is no {RELEASES}" in await refusal(hidden)


async def test_t05_two_delegations_of_one_name_are_rejected() -> None:
    def twice(said: dict[str, Any]) -> None:
        said["delegations"]["roles"] += said["delegations"]["roles"][:1]

    assert await refusal(repository(edit={"targets": twice})) == "targets: delegates to one role twice"


async def test_r05_what_the_tag_was_signed_for_is_what_counts_and_not_the_registry_s_word() -> None:
    await accepts(repository(), claim("v1", IMAGE))
    why = await refusal(repository(), claim("v1", OTHER))
    assert why == f"targets: tag v1 is signed for another image, {IMAGE}"


async def test_r03_an_image_named_by_digest_must_be_what_some_tag_means() -> None:
    assert (await judge(repository(), claim(None))).origin.startswith(f"{RELEASES} in ")
    assert "no tag is signed for this image" in await refusal(repository(), claim(None, OTHER))
    # A tag beside a digest is a label that decides nothing (attack R-03).
    for tag in ("v1", "v9"):
        await accepts(repository(), claim(tag, pinned=True))
        assert "no tag is signed for this image" in await refusal(repository(), claim(tag, OTHER, pinned=True))
    assert "nothing signed for tag v9" in await refusal(repository(), claim("v9"))
    # What docker would not find under any tag is not found without one.
    shadowed = repository(targets={"targets": {"v1": IMAGE}, RELEASES: {"v1": OTHER}})
    assert "no tag is signed for this image" in await refusal(shadowed, claim(None))
    # Named delegations must agree on a tag for it.
    signer = build(delegations=["releases", "qa"])
    await accepts(repository(), claim(None), signer)
    apart = repository(targets={"targets": {}, RELEASES: {"a": IMAGE}, "targets/qa": {"b": IMAGE}})
    assert "no tag is signed for this image" in await refusal(apart, claim(None), signer)


async def test_a_target_without_the_hash_that_counts_means_nothing() -> None:
    def without(said: dict[str, Any]) -> None:
        said["targets"]["v1"]["hashes"] = {"sha512": notary.in_base64("0" * 128)}

    assert "nothing signed for tag v1" in await refusal(repository(edit={"targets": without}))

    def odd(said: dict[str, Any]) -> None:
        said["targets"]["v1"]["hashes"]["sha256"] = "no base64\x1b"

    assert "for another image, no base64\\x1b" in await refusal(repository(edit={"targets": odd}))


# ── the chain, link by link ──────────────────────────────────────────────────────────────────────────────────────────
def delegation_roles(said: dict[str, Any]) -> list[dict[str, Any]]:
    return [role for role in said["delegations"]["roles"] if role["name"] == RELEASES]


def invalid_json(made: NotaryRepository, role: str) -> None:
    made.raw[role] = lambda _: b'{"signed":'


def missing_file(made: NotaryRepository, role: str) -> None:
    made.served[role] = lambda _: None


def wrong_key(made: NotaryRepository, role: str) -> None:
    made.signing[role] = [certified(plain_key("stranger").private, GUN)]


def claimed_key(made: NotaryRepository, role: str) -> None:
    """Signed by a stranger under the id of the right key."""
    right, stranger = made.keys[role][0].id, plain_key("stranger", made.keys[role][0].kind.removesuffix("-x509"))
    made.signing[role] = [stranger]

    def claims(document: dict[str, Any]) -> None:
        document["signatures"][0]["keyid"] = right

    made.tamper[role] = claims


def wrong_hash(made: NotaryRepository, role: str) -> None:
    made.served[role] = lambda content: content + b" "


def too_few_signatures(made: NotaryRepository, role: str) -> None:
    second = root_key("second", GUN) if role == "root" else plain_key("second")
    made.keys[role], made.signing[role], made.thresholds[role] = [*made.keys[role], second], made.keys[role], 2


def no_signatures(made: NotaryRepository, role: str) -> None:
    made.signing[role] = []


def wrong_type(made: NotaryRepository, role: str) -> None:
    made.edit[role] = lambda said: said.update(_type="Mirrors")


def lower_case_type(made: NotaryRepository, role: str) -> None:
    made.edit[role] = lambda said: said.update(_type=said["_type"].lower())


def expired(made: NotaryRepository, role: str) -> None:
    made.expires[role] = notary.in_time(-0.001)


def no_keys(made: NotaryRepository, role: str) -> None:
    def empties(said: dict[str, Any]) -> None:
        roles = [said["roles"][role]] if "roles" in said else delegation_roles(said)
        roles[0]["keyids"] = []

    made.edit["targets" if "/" in role else "root"] = empties


def key_not_listed(made: NotaryRepository, role: str) -> None:
    def forgets(said: dict[str, Any]) -> None:
        listed = said["keys"] if "keys" in said else said["delegations"]["keys"]
        del listed[made.keys[role][0].id]

    made.edit["targets" if "/" in role else "root"] = forgets


def wrong_key_id(made: NotaryRepository, role: str) -> None:
    """The right key under an id of the publisher's choice."""
    keyid = made.keys[role][0].id

    def renames(said: dict[str, Any]) -> None:
        listed = said["keys"] if "keys" in said else said["delegations"]["keys"]
        listed["f" * 64] = listed.pop(keyid)
        roles = [said["roles"][role]] if "roles" in said else delegation_roles(said)
        roles[0]["keyids"] = ["f" * 64]

    made.edit["targets" if "/" in role else "root"] = renames

    def signs(document: dict[str, Any]) -> None:
        document["signatures"][0]["keyid"] = "f" * 64

    made.tamper[role] = signs


def checksum_missing(made: NotaryRepository, role: str) -> None:
    made.unlisted.add(role)


MUTATIONS: list[tuple[Callable[[NotaryRepository, str], None], str]] = [
    (invalid_json, "not JSON in UTF-8"),
    (missing_file, "there is no "),
    (wrong_key, "signed by 0 of its keys, and 1 are needed"),
    (claimed_key, "signed by 0 of its keys, and 1 are needed"),
    (wrong_hash, "not the bytes that are listed for it"),
    (too_few_signatures, "signed by 1 of its keys, and 2 are needed"),
    (no_signatures, "signed by 0 of its keys, and 1 are needed"),
    (wrong_type, "of type Mirrors"),
    (lower_case_type, "of type "),
    (expired, "expired"),
    (no_keys, "keyids"),
    (key_not_listed, "is not listed"),
    (wrong_key_id, "is not the hash of what it names"),
    (checksum_missing, "lists no |has signed nothing yet"),
]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("mutate", "why"), MUTATIONS, ids=lambda value: getattr(value, "__name__", ""))
async def test_t10_f18_each_role_with_each_fault_is_rejected(
    role: str, mutate: Callable[[NotaryRepository, str], None], why: str
) -> None:
    signer, about = build(delegations=["releases"]), claim("v2")
    await accepts(repository(), about, signer)
    made = repository()
    mutate(made, role)
    if role == "timestamp" and mutate in {wrong_hash, checksum_missing}:
        # Nobody lists the timestamp: its bytes are what its keys have signed, and that is all.
        await accepts(made, about, signer)
        return
    with pytest.raises(Rejected, match=why):
        await judge(made, about, signer)


@pytest.mark.parametrize("role", ["snapshot", "root", "targets", RELEASES])
@pytest.mark.parametrize("fault", ["length", "sha256", "sha512", "missing", "no sha256", "no sha256, checked"])
async def test_t10_every_byte_is_the_one_that_was_listed(role: str, fault: str) -> None:
    made = repository()
    lister = "timestamp" if role == "snapshot" else "snapshot"

    def lies(said: dict[str, Any]) -> None:
        meta = said["meta"][role]
        if fault == "length":
            meta["length"] += 1
        elif fault.startswith("no"):
            del meta["hashes"]["sha256"]
        elif fault == "missing":
            del said["meta"][role]
        else:
            meta["hashes"][fault] = base64.b64encode(b"\0" * (32 if fault == "sha256" else 64)).decode()

    signer, about = build(delegations=["releases"]), claim("v2")
    good = made.made()
    signer.check(Untrusted("x", good), about, NOW)
    made.edit[lister] = lies
    # Whatever was fetched and how, the check compares.
    with pytest.raises(Rejected, match=r"not the bytes that are listed|not listed with a SHA-256|has signed nothing"):
        signer.check(Untrusted("x", made.made()), about, NOW)
    with pytest.raises(Rejected):
        await judge(made, about, signer)


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", RELEASES])
def test_t10_a_part_that_is_missing_is_rejected_by_the_check_too(role: str) -> None:
    signer, parts = build(delegations=["releases"]), repository().made()
    signer.check(Untrusted("x", parts), claim("v2"), NOW)
    del parts[role]
    with pytest.raises(Rejected, match=f"^{role}: missing$"):
        signer.check(Untrusted("x", parts), claim("v2"), NOW)


@pytest.mark.parametrize("role", ROLES)
async def test_t06_metadata_that_has_expired_is_rejected_from_that_moment_on(role: str) -> None:
    signer, about = build(delegations=["releases"]), claim("v2")
    made = repository(expires={role: "2026-11-24T01:00:00Z"})
    end = dt.datetime(2026, 11, 24, 1, tzinfo=dt.UTC)
    proof = await judge(made, about, signer, end - dt.timedelta(microseconds=1))
    assert proof.valid_until == end
    # What a server signs again is no end.
    assert proof.ends is not None
    assert (proof.ends.at == end) is (role not in {"timestamp", "snapshot"})
    if role not in {"timestamp", "snapshot"}:
        assert proof.ends.what == f"{role} of {about.subject.repository}"
    for late in (end, end + dt.timedelta(seconds=1)):
        with pytest.raises(Rejected, match=f"^{role}: expired 2026-11-24T01:00:00Z$"):
            await judge(made, about, signer, late)


async def test_t02_a_threshold_counts_keys_and_not_signatures_or_ids() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    one, same = certified(private, "alice"), certified(private, "bob")
    bare = notary.NotaryKey("ecdsa", private)
    other = plain_key("other")

    async def with_keys(*listed: Any, signing: Any = None) -> str | Proof:
        made = repository(
            keys={"targets": list(listed)}, thresholds={"targets": 2}, signing={"targets": signing or listed}
        )
        try:
            return await judge(made)
        except Rejected as e:
            return str(e)

    assert isinstance(await with_keys(one, other), Proof)
    too_few = "targets: signed by 1 of its keys, and 2 are needed"
    assert await with_keys(one, same) == too_few
    assert await with_keys(one, bare) == too_few
    assert await with_keys(one, other, signing=[one, one]) == too_few
    assert await with_keys(one, one) == too_few


@pytest.mark.parametrize("threshold", [0, -1, True, 1.0, "1", None])
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", RELEASES])
async def test_t02_a_threshold_is_a_whole_number_from_one_on(role: str, threshold: object) -> None:
    def sets(said: dict[str, Any]) -> None:
        roles = [said["roles"][role]] if "roles" in said else delegation_roles(said)
        roles[0]["threshold"] = threshold

    made, delegator = repository(), "targets" if "/" in role else "root"
    if isinstance(threshold, float):
        made.tamper[delegator] = lambda document: sets(document["signed"])
    else:
        made.edit[delegator] = sets
    with pytest.raises((Rejected, Invalid), match=r"threshold|no canonical form"):
        await judge(made, claim("v2"), build(delegations=["releases"]))


async def test_t03_more_signatures_than_anybody_makes_are_rejected_unread() -> None:
    def pads(count: int) -> Edit:
        def edit(document: dict[str, Any]) -> None:
            extra = {"keyid": "0" * 64, "method": "ecdsa", "sig": "AA=="}
            document["signatures"] = [extra] * (count - 1) + document["signatures"]

        return edit

    for role in ROLES:
        signer, about = build(delegations=["releases"]), claim("v2")
        await accepts(repository(tamper={role: pads(limits.MAX_SIGNATURES)}), about, signer)
        with pytest.raises((Rejected, Invalid), match="signatures: more than 100"):
            await judge(repository(tamper={role: pads(limits.MAX_SIGNATURES + 1)}), about, signer)


def same(node: Any, path: tuple[str | int, ...], value: object) -> bool:
    """Whether this is what stands there already."""
    for step in path:
        node = node[step]
    return bool(node == value) and type(node) is type(value)


def fields(node: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path] * bool(path) + [deeper for key, value in inner for deeper in fields(value, (*path, key))]


@pytest.mark.parametrize("role", ROLES)
async def test_t03_c13_every_field_replaced_by_everything_is_rejected_and_crashes_nothing(role: str) -> None:
    signer, about, parts = build(delegations=["releases"]), claim("v2"), repository().made()
    for path in fields(json.loads(parts[role])):
        for value in (None, {}, [], "", 0, True, -1, 1.5, "x", [None], {"x": None}, "\ud800"):
            document = json.loads(parts[role])
            if same(document, path, value):
                continue
            node = document
            for step in path[:-1]:
                node = node[step]
            node[path[-1]] = value
            changed = {**parts, role: json.dumps(document).encode()}
            with pytest.raises(Rejected):
                signer.check(Untrusted("x", changed), about, NOW)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("signed", ["before", "after"])
async def test_t03_signed_nonsense_is_rejected_and_never_crashes(role: str, signed: str) -> None:
    """The same, but signed by the right keys and listed by hash: what a publisher gone bad could serve."""
    about, original = claim("v2"), json.loads(repository().made()[role])["signed"]
    signer = build(delegations=["releases"])
    for path in fields(original):
        for value in (None, {}, [], "", 0, True, -1, "x", [None], {"x": None}):
            if same(original, path, value):
                continue

            def replaces(said: dict[str, Any], path: Any = path, value: object = value) -> None:
                node: Any = said
                for step in path[:-1]:
                    node = node[step]
                node[path[-1]] = value

            made = repository(edit={role: replaces}) if signed == "before" else repository()
            if signed == "after":
                made.tamper[role] = lambda document, edit=replaces: edit(document["signed"])  # type: ignore[misc]  # binds
            try:
                proof = await judge(made, about, signer)
            except (Rejected, Invalid):
                continue
            # What decides nothing may say anything; what was signed otherwise never passes.
            assert signed == "before"
            assert isinstance(proof, Proof)


# ── the root ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_t08_a_root_by_another_key_is_rejected_although_all_of_it_is_in_order() -> None:
    stranger = repository(keys={"root": [root_key("stranger", GUN)]})
    assert await refusal(stranger) == "root: not signed by a root key of the policy"
    await accepts(stranger, signer=build(rootKeys=[stranger.root_pem]))
    # Either of two is enough.
    both = [root_key("root", GUN).public.pem, stranger.root_pem]
    assert (await judge(stranger, signer=build(rootKeys=both))).identity == root_key("stranger", GUN).public.fingerprint
    # Listed, and not signed by it.
    listed = repository(
        keys={"root": [root_key("stranger", GUN), root_key("root", GUN)]}, signing={"root": [root_key("stranger", GUN)]}
    )
    assert await refusal(listed) == "root: not signed by a root key of the policy"


def generations(*names: str) -> list[list[notary.NotaryKey]]:
    return [[root_key(name, GUN)] for name in names]


async def test_t08_a_rotated_root_is_followed_from_the_key_that_the_policy_names() -> None:
    made = notary.rotated(repository(), *generations("second", "third"))
    proof = await judge(made)
    assert proof.identity == root_key("root", GUN).public.fingerprint
    assert proof.versions[0].number == 3
    assert {root_key(name, GUN).public.fingerprint for name in ("second", "third")} <= set(proof.keys)
    for name in ("second", "third"):
        signer = build(rootKeys=[root_key(name, GUN).public.pem])
        assert (await judge(made, signer=signer)).identity == root_key(name, GUN).public.fingerprint


async def test_c07_root_keys_are_who_is_counted_whatever_else_they_share() -> None:
    """A repository's other keys are no signers: two root keys that it has passed through are two, as in ADR 13."""
    made = notary.rotated(repository(), *generations("second", "third"))
    proofs = {
        name: await judge(made, signer=build(rootKeys=[root_key(name, GUN).public.pem])) for name in ("root", "second")
    }
    expression = parse_require("2 of (root, second)", sorted(proofs))
    found = {name: Satisfied(frozenset({proof})) for name, proof in proofs.items()}
    assert isinstance(evaluate(expression, found), Satisfied)
    assert isinstance(evaluate(expression, {**found, "second": found["root"]}), Unsatisfied)


async def test_t08_old_roots_are_asked_for_only_as_far_as_needed() -> None:
    registry = FakeRegistry()
    notary.rotated(repository(), *generations("second", "third")).publish(registry)
    counts = []
    for name in ("root", "second", "third"):
        registry.asked.clear()
        await judged(registry, signer=build(rootKeys=[root_key(name, GUN).public.pem]))
        counts.append(registry.asked["get"])
    assert counts == [7, 6, 5]


async def test_t08_an_old_root_that_has_expired_still_leads_to_the_new_one() -> None:
    old = repository(expires={"root": notary.in_time(-100)})
    made = notary.rotated(old, *generations("second")).copy(expires={})
    await accepts(made)
    ended = certified(root_key("root", GUN).private, GUN, ends=NOW - dt.timedelta(seconds=1))
    await accepts(notary.rotated(repository(keys={"root": [ended]}), *generations("second")))
    assert "its certificate is valid from" in await refusal(repository(keys={"root": [ended]}))
    early = certified(root_key("root", GUN).private, GUN, begins=NOW + dt.timedelta(seconds=1))
    assert "its certificate is valid from" in await refusal(repository(keys={"root": [early]}))


async def test_t08_a_gap_in_the_rotation_is_rejected() -> None:
    made = notary.rotated(repository(), *generations("second", "third"))
    gap = made.copy(earlier_roots={1: made.earlier_roots[1]})
    assert "there is no 2.root" in await refusal(gap)
    # Nor does the check follow one, whatever was fetched.
    parts = {**gap.made(), "1.root": gap.earlier_roots[1]}
    with pytest.raises(Rejected, match=r"^root: version 3 after version 1$"):
        build().check(Untrusted("x", parts), claim(), NOW)
    twice = {**parts, "2.root": gap.earlier_roots[1]}
    with pytest.raises(Rejected, match=r"^2\.root: version 1 after version 1$"):
        build().check(Untrusted("x", twice), claim(), NOW)


async def test_t08_each_root_is_signed_by_the_one_before_and_by_itself() -> None:
    first = repository()
    unsigned_by_old = notary.rotated(first, *generations("second"))
    unsigned_by_old.signing["root"] = [root_key("second", GUN)]
    assert await refusal(unsigned_by_old) == "root: signed by 0 of its keys, and 1 are needed"
    unsigned_by_new = notary.rotated(first, *generations("second"))
    unsigned_by_new.signing["root"] = [root_key("root", GUN)]
    assert await refusal(unsigned_by_new) == "root: signed by 0 of its keys, and 1 are needed"


async def test_t08_d01_roots_are_gone_back_to_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ROOT_ROTATIONS", 3)
    names = ["second", "third", "fourth"]
    await accepts(notary.rotated(repository(), *generations(*names)))
    many = notary.rotated(repository(), *generations(*names, "fifth"))
    assert "more than 3 roots since" in await refusal(many)
    await accepts(many, signer=build(rootKeys=[root_key("second", GUN).public.pem]))


@pytest.mark.parametrize(
    "name", ["registry.test/shop/other", "docker.io/shop/app", "registry.test/shop/*", "registry.test/*", "*"]
)
async def test_t09_another_repository_s_trust_data_is_rejected(name: str) -> None:
    """The same publisher and the same key: only the certificate says which repository it is for."""
    made = repository(keys={"root": [certified(root_key("root", GUN).private, name)]})
    assert await refusal(made) == f"root: its certificate is for {name}, not for {GUN}"
    await accepts(repository())


async def test_t09_a_certificate_for_two_repositories_or_none_is_for_none() -> None:
    for names in ([], [""], [GUN, "registry.test/shop/other"]):
        made = repository(keys={"root": [certified(root_key("root", GUN).private, *names)]})
        assert f"not for {GUN}" in await refusal(made)


@pytest.mark.parametrize("value", [b"\x02", b"\x0c\x04\xff\xff\xff\xff"])
async def test_t09_c13_a_name_that_cannot_be_read_is_nobody_s(value: bytes) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificate

    private = root_key("root", GUN).private
    der = load_pem_x509_certificate(certified(private, "abcd").pem).public_bytes(Encoding.DER)
    at = der.rindex(b"\x06\x03U\x04\x03\x0c") + 5
    broken = load_der_x509_certificate(der[:at] + value + der[at + len(value) :]).public_bytes(Encoding.PEM)
    made = repository(keys={"root": [notary.NotaryKey("ecdsa-x509", private, broken)]})
    assert await refusal(made) == "root: its certificate's subject cannot be read"


async def test_t09_an_old_root_of_another_repository_leads_nowhere() -> None:
    other = NotaryRepository("registry.test/shop/other", {"targets": {"v1": IMAGE}})
    made = notary.rotated(repository(), *generations("second"))
    swapped = made.copy(earlier_roots={1: other.made()["root"]})
    assert await refusal(swapped) == f"1.root: its certificate is for {other.gun}, not for {GUN}"


async def test_t09_names_of_official_images_and_long_ones_are_compared_whole() -> None:
    official = NotaryRepository("docker.io/library/nginx", {"targets": {"v1": IMAGE}})
    signer = build(rootKeys=[official.root_pem])
    await accepts(official, claim(name="nginx"), signer)
    long = f"registry.test/{'deep/' * 30}app"
    deep = NotaryRepository(long, {"targets": {"v1": IMAGE}})
    await accepts(deep, claim(name=long), build(rootKeys=[deep.root_pem]))
    assert common_names_of(deep.keys["root"][0]) == (long,)


def common_names_of(key: notary.NotaryKey) -> tuple[str, ...]:
    from cryptography.x509 import load_pem_x509_certificate

    return common_names(load_pem_x509_certificate(key.pem))


async def test_t09_a_root_key_without_a_certificate_is_for_no_repository() -> None:
    bare = repository(keys={"root": [notary.NotaryKey("ecdsa", root_key("root", GUN).private)]})
    assert await refusal(bare) == "root: a key without a certificate"
    # Beside one that has a certificate it counts for nothing.
    pair = [root_key("root", GUN), plain_key("second")]
    await accepts(repository(keys={"root": pair}))
    assert "signed by 1 of its keys, and 2 are needed" in await refusal(
        repository(keys={"root": pair}, thresholds={"root": 2})
    )


# ── names, times, numbers ────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../x",
        "a/../b",
        "a//b",
        "/a",
        "a/",
        "",
        "%2e%2e",
        "a%2fb",
        "A",
        "a.b",
        "a b",
        "a\n",
        "ä",
        "a?x",
        "a#x",
        "x" * 256,
    ],
)
def test_t04_names_that_could_lead_elsewhere_are_refused_when_they_are_written(name: str) -> None:
    assert not is_role_path(name)
    with pytest.raises(Invalid, match=r"delegations\[0\]"):
        build(delegations=[name])
    assert build(delegations=["a_b-1/c"]).delegations == ("targets/a_b-1/c",)


async def test_t04_nothing_that_metadata_says_leads_to_another_url() -> None:
    traversal = {"targets": {"../../x": IMAGE, "v1": IMAGE}, RELEASES: {"../x": IMAGE}}
    registry = FakeRegistry()
    repository(targets=traversal).publish(registry)
    asked: list[str] = []

    class Watched(FakeRegistry):
        async def get(self, url: str, limit: int, **_options: Any) -> bytes | None:
            asked.append(url)
            return registry.documents.get(url)  # type: ignore[return-value]  # nothing here is a function

    await judged(Watched())
    assert all(url.startswith(f"{SERVER}/v2/{GUN}/_trust/tuf/") and ".." not in url for url in asked)

    def leads_away(said: dict[str, Any]) -> None:
        said["meta"]["snapshot"]["hashes"]["sha256"] = base64.b64encode(b"/../../../../evil").decode()

    assert "lists no snapshot" in await refusal(repository(edit={"timestamp": leads_away}))


@pytest.mark.parametrize("name", ["targets/../../evil", "releases", "", "targets", "targets/a/b", "targets/A", "root"])
async def test_t04_a_delegation_to_what_is_no_role_below_spoils_its_delegator(name: str) -> None:
    """As for notary itself, whoever it is that would be asked."""

    def adds(said: dict[str, Any]) -> None:
        said["delegations"]["roles"].append({**said["delegations"]["roles"][0], "name": name})

    assert (
        await refusal(repository(edit={"targets": adds})) == f"targets: delegates to {name}, which is no role below it"
    )


async def test_t07_a_role_s_name_costs_no_time() -> None:
    def renames(said: dict[str, Any]) -> None:
        said["delegations"]["roles"][0]["name"] = f"targets/{'ab' * 50_000}*"

    signer, about, parts = build(), claim(), repository(edit={"targets": renames}).made()
    spent = []
    for _ in range(5):
        began = time.thread_time()
        with pytest.raises(Rejected, match="which is no role below it"):
            signer.check(Untrusted("x", parts), about, NOW)
        assert not is_role_path("ab" * 50_000 + "*")
        spent.append(time.thread_time() - began)
    assert min(spent) < 0.05


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-12-08T00:37:05Z", dt.datetime(2026, 12, 8, 0, 37, 5, tzinfo=dt.UTC)),
        ("2026-12-08T00:37:05.3Z", dt.datetime(2026, 12, 8, 0, 37, 5, 300_000, tzinfo=dt.UTC)),
        ("2026-12-08T00:37:05.361974212Z", dt.datetime(2026, 12, 8, 0, 37, 5, 361_974, tzinfo=dt.UTC)),
        ("2026-12-08T00:37:05.999999999Z", dt.datetime(2026, 12, 8, 0, 37, 5, 999_999, tzinfo=dt.UTC)),
        ("2026-12-08T00:37:05+01:30", dt.datetime(2026, 12, 7, 23, 7, 5, tzinfo=dt.UTC)),
        ("2026-12-08T00:37:05-01:30", dt.datetime(2026, 12, 8, 2, 7, 5, tzinfo=dt.UTC)),
        ("9999-12-31T23:59:59Z", dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)),
        ("0001-01-01T00:00:00Z", dt.datetime(1, 1, 1, tzinfo=dt.UTC)),
    ],
)
def test_t11_times_have_one_meaning(text: str, expected: dt.datetime) -> None:
    assert parse_time(text, "x") == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "2026-12-08", "2026-12-08T00:37:05", "2026-12-08 00:37:05Z", "2026-12-08t00:37:05z", "2026-13-08T00:37:05Z",
        "2026-12-08T24:00:00Z", "2026-12-08T00:37:60Z", "2026-12-08T00:37:05.Z", "2026-12-08T00:37:05.1234567890Z",
        "9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+00:01", "10000-01-01T00:00:00Z", "٢026-12-08T00:37:05Z",
        "2026-12-08T00:37:05Z\n", " 2026-12-08T00:37:05Z", "-026-12-08T00:37:05Z", "2026-12-08T00:37:05+0130",
    ],
)  # fmt: skip
def test_t11_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"^x: .* is not a time"):
        parse_time(text, "x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
)


@given(JSON)
def test_the_canonical_form_is_the_one_that_another_library_writes(value: object) -> None:
    assert canonical(value, "x") == notary.canonical(value)


def test_the_canonical_form_leaves_text_as_it_is() -> None:
    value: Any = {"b": [1, -2, True, False, None, [], {}], "a": 'q"uote \\ \n\t\x01 ü <&> \u2028'}
    assert canonical(value, "x") == (
        '{"a":"q\\"uote \\\\ \n\t\x01 ü <&> \u2028","b":[1,-2,true,false,null,[],{}]}'.encode()
    )
    # Sorted by code points, which is also the order of their bytes.
    assert canonical({"\U0001f600": 1, "\uffff": 2, "a": 3}, "x") == '{"a":3,"\uffff":2,"\U0001f600":1}'.encode()


@pytest.mark.parametrize("value", [1.0, 1.5, 2**53 + 1, -(2**53) - 1])
def test_numbers_that_two_readers_could_hold_differently_have_no_canonical_form(value: object) -> None:
    with pytest.raises(Invalid, match=r"^x: a number that has no canonical form$"):
        canonical({"a": [value]}, "x")
    with pytest.raises(FormatError):
        encode_canonical({"a": 1.5})
    assert canonical(2**53, "x") == b"9007199254740992"


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", ["ecdsa", "ed25519", "rsa"])
async def test_every_kind_of_key_that_notary_has_is_read(kind: str) -> None:
    key = plain_key(f"a {kind} key", kind)
    await accepts(repository(keys={role: [key] for role in ("timestamp", "snapshot", "targets")}))
    if kind != "ed25519":
        for role in ("root", "targets"):
            await accepts(
                made := repository(keys={role: [certified(key.private, GUN)]}),
                signer=build(rootKeys=[made.root_pem]),
            )


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
async def test_larger_curves_sign_the_same_hash(curve: ec.EllipticCurve) -> None:
    key = notary.NotaryKey("ecdsa", ec.generate_private_key(curve))
    await accepts(repository(keys={"targets": [key]}))


def signature_edit(**changed: Any) -> Edit:
    return lambda document: document["signatures"][0].update(changed)


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("ecdsa", {"method": "eddsa"}),
        ("ecdsa", {"method": "rsapss"}),
        ("ecdsa", {"method": ""}),
        ("ed25519", {"method": "ecdsa"}),
        ("rsa", {"method": "rsapkcs1v15"}),
        ("rsa", {"method": "pycrypto-pkcs#1 pss"}),
        ("ecdsa", {"sig": base64.b64encode(b"\0" * 64).decode()}),
        ("ecdsa", {"sig": base64.b64encode(b"\1" * 63).decode()}),
        ("ecdsa", {"sig": base64.b64encode(b"\1" * 72).decode()}),
        ("ed25519", {"sig": base64.b64encode(b"\0" * 64).decode()}),
        ("rsa", {"sig": base64.b64encode(b"\1" * 256).decode()}),
    ],
)
async def test_c13_the_method_follows_from_the_key_and_a_signature_has_one_form(
    kind: str, changed: dict[str, str]
) -> None:
    keys = {"targets": [plain_key(f"a {kind} key", kind)]}
    await accepts(repository(keys=keys))
    made = repository(keys=keys, tamper={"targets": signature_edit(**changed)})
    assert await refusal(made) == "targets: signed by 0 of its keys, and 1 are needed"


async def test_a_der_signature_is_not_raw_and_text_that_is_no_base64_is_refused() -> None:
    private = plain_key("targets").private
    assert isinstance(private, ec.EllipticCurvePrivateKey)

    def der(document: dict[str, Any]) -> None:
        signed = notary.canonical(document["signed"])
        document["signatures"][0]["sig"] = base64.b64encode(plain_key("targets").public.sign(signed)).decode()

    assert "signed by 0 of its keys" in await refusal(repository(tamper={"targets": der}))
    made = repository(tamper={"targets": signature_edit(sig="\n")})
    assert await refusal(made) == "targets.signatures[0].sig: not base64"
    # Old clients wrote capitals.
    await accepts(repository(tamper={"targets": signature_edit(method="ECDSA")}))


def listed_key(keytype: str, public: bytes) -> dict[str, Any]:
    return {"keytype": keytype, "keyval": {"private": None, "public": base64.b64encode(public).decode()}}


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        (listed_key("dsa", b"x"), "type dsa; known: ecdsa, "),
        (listed_key("ecdsa", b"x"), "not a key that can be read"),
        (listed_key("ed25519", b"x" * 31), "not a key that can be read"),
        (listed_key("ecdsa-x509", b"x"), "no PEM certificate"),
        (listed_key("rsa", plain_key("targets").public.spki), "not of the type that it says, rsa"),
        (listed_key("ed25519", plain_key("targets").public.spki), "not a key that can be read"),
        (listed_key("ecdsa", plain_key("a rsa key", "rsa").public.spki), "not of the type that it says, ecdsa"),
        (listed_key("rsa-x509", root_key("root", GUN).pem), "not of the type that it says, rsa-x509"),
        (listed_key("ecdsa", notary.NotaryKey("ecdsa", ec.generate_private_key(ec.SECP256K1())).public.spki), "curve secp256k1"),
    ],
)  # fmt: skip
async def test_d10_keys_that_no_policy_may_trust_count_for_nothing(listed: dict[str, Any], why: str) -> None:
    keyid = hashlib.sha256(notary.canonical(listed)).hexdigest()

    def adds(said: dict[str, Any]) -> None:
        said["keys"][keyid] = listed
        said["roles"]["targets"]["keyids"] = [keyid]

    assert why in await refusal(repository(edit={"root": adds}))


async def test_s08_a_private_key_among_what_is_published_is_refused() -> None:
    def leaks(said: dict[str, Any]) -> None:
        next(iter(said["keys"].values()))["keyval"]["private"] = "czNjcjN0LUNBTkFSWQ=="

    why = await refusal(repository(edit={"root": leaks}))
    assert "private" in why
    assert "czNjcjN0" not in why


def test_the_id_of_a_key_is_computed_as_notary_does() -> None:
    for listed in json.loads(captures.path("dct/root.json").read_bytes())["signed"]["keys"].items():
        keyid, key = listed
        assert key_id(Key(key["keytype"], KeyValue(key["keyval"]["public"]))) == keyid


# ── what cannot be read, and what is too much ────────────────────────────────────────────────────────────────────────
async def test_f19_a_server_that_is_down_is_an_outage_and_one_that_knows_nothing_is_a_denial() -> None:
    registry = FakeRegistry()
    repository().publish(registry)
    registry.fail("get", lambda: Unavailable("notary.test: connection refused"))
    assert str(await found(build(), claim(), registry)) == "notary.test: connection refused"
    assert isinstance(await found(build(), claim(), registry), Unavailable)
    nothing = await found(build(), claim(), FakeRegistry())
    assert isinstance(nothing, Rejected)
    assert str(nothing) == f"there is no trust data of {GUN} on {SERVER}"
    # Another repository's data under this one's name: see T-09.
    other = NotaryRepository("registry.test/shop/other", {"targets": {"v1": IMAGE}})
    served = FakeRegistry()
    other.publish(served)
    served.documents = {url.replace(other.gun, GUN): content for url, content in served.documents.items()}
    with pytest.raises(Rejected, match=f"its certificate is for {other.gun}, not for {GUN}"):
        await judged(served)


@pytest.mark.parametrize("what", ["snapshot", "root", "targets"])
async def test_f19_an_outage_in_the_middle_is_an_outage(what: str) -> None:
    registry = FakeRegistry()
    content = repository().publish(registry)[what]
    url = f"{SERVER}/v2/{GUN}/_trust/tuf/{what}.{hashlib.sha256(content).hexdigest()}.json"
    registry.fail(f"get {url}", lambda: Unavailable("notary.test: answers 502"))
    assert isinstance(await found(build(), claim(), registry), Unavailable)


@pytest.mark.parametrize(
    ("role", "limit"),
    [
        ("timestamp", limits.MAX_TUF_TIMESTAMP),
        ("snapshot", limits.MAX_TUF_SNAPSHOT),
        ("root", limits.MAX_TUF_ROOT),
        ("targets", limits.MAX_TUF_TARGETS),
        (RELEASES, limits.MAX_TUF_TARGETS),
    ],
)
async def test_d01_each_role_s_metadata_is_bounded_in_bytes(role: str, limit: int) -> None:
    def padded(size: int) -> NotaryRepository:
        return repository(raw={role: lambda content: content + b" " * (size - len(content))})

    signer, about = build(delegations=["releases"]), claim("v2")
    await accepts(padded(limit), about, signer)
    assert f"more than {limit} bytes" in await refusal(padded(limit + 1), about, signer)


async def test_d01_all_of_it_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    total = sum(len(content) for role, content in repository().made().items() if role != "targets/qa")

    def bounded(most: int) -> None:
        from webhook.formats._artifacts import Budget

        monkeypatch.setattr(Budget.__init__, "__defaults__", (limits.MAX_SIGNATURES, most))

    bounded(total + 10)
    await accepts(repository())
    bounded(total - 10)
    assert "bytes in all" in await refusal(repository())


async def test_d01_many_tags_are_read_and_many_delegations_are_not() -> None:
    tags = {f"v{i}": OTHER for i in range(20_000)}
    await accepts(repository(targets={"targets": {**tags, "v1": IMAGE}}))
    names: dict[str, dict[str, str]] = {f"targets/d{i}": {} for i in range(limits.MAX_TUF_DELEGATIONS)}
    await accepts(repository(targets={"targets": {"v1": IMAGE}, **names}))
    why = await refusal(repository(targets={"targets": {"v1": IMAGE}, **names, RELEASES: {}}))
    assert "delegations.roles" in why


async def test_d04_json_that_is_too_dense_or_written_twice_is_rejected() -> None:
    dense = repository(edit={"targets": lambda said: said.update(custom=[[]] * (limits.MAX_TUF_VALUES // 2 + 1))})
    assert "targets: more than 200000 values" in await refusal(dense)
    twice = repository(raw={"targets": lambda content: content.replace(b'"version":1', b'"version":1,"version":1')})
    assert "targets: duplicate key version" in await refusal(twice)


async def test_signed_members_that_we_do_not_know_do_no_harm_and_unsigned_ones_are_refused() -> None:
    await accepts(repository(edit={role: lambda said: said.update(custom={"x": 1}) for role in ROLES}))
    made = repository(tamper={"targets": lambda document: document.update(x=1)})
    assert "targets: object contains unknown field x" in await refusal(made)
    hostile = repository(tamper={"targets": lambda document: document.update({"\x1b[31m" + "x" * 5_000: 1})})
    why = await refusal(hostile)
    assert "unknown field \\x1b[31mxxx" in why
    assert len(why) < 2 * limits.MAX_TEXT


# ── the signer as a value, and what policies write ───────────────────────────────────────────────────────────────────
def test_the_scope_has_the_tag_and_logins_are_the_repository_s() -> None:
    signer = build()
    assert signer.scope(claim("v1")) != signer.scope(claim("v2"))
    assert signer.scope(claim("v1")) != signer.scope(claim(None))
    assert signer.scope(claim("v1", pinned=True)) == signer.scope(claim(None))
    assert signer.sources(claim()) == (Repository("registry.test", PATH),)
    assert signer.dangers() == ()


async def test_c04_trust_data_is_no_attestation_and_c14_nothing_is_proven_without_a_digest() -> None:
    parts = repository().made()
    attested = Claim(claim().subject, "https://slsa.dev/provenance/v1")
    with pytest.raises(Rejected, match=r"^trust data, not an attestation$"):
        build().check(Untrusted("x", parts), attested, NOW)
    with pytest.raises(Invalid, match="not a digest"):
        build().check(Untrusted("x", parts), claim(digest=Digest("sha256:")), NOW)


def test_what_is_wanted_is_said_in_words() -> None:
    fingerprint = root_key("root", GUN).public.fingerprint
    assert build().wanted() == f"Docker Content Trust on {SERVER}, root key {fingerprint[:23]}…"
    pems = [root_key(f"r{i}", GUN).public.pem for i in range(5)]
    signer = build(rootKeys=pems, delegations=["releases", "qa"])
    assert " or 2 more, by targets/releases and targets/qa" in signer.wanted()
    assert len(signer.fingerprints()) == 5


def test_equal_demands_are_equal_values_however_they_are_written() -> None:
    ca = captures.key("dct.pem").decode()
    assert build(server=f"{SERVER}/", ca=ca) == build(ca=f"my authority\n{ca}")
    assert build(delegations=["qa", "qa"]) == build(delegations=["qa"])
    assert build().ca is None


PEM = root_key("root", GUN).public.pem
CERTIFICATE = root_key("root", GUN).pem.decode()


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"server": "notary.test"}, ".server: notary.test is not a URL like https://notary.example"),
        ({"server": "ftp://notary.test"}, ".server: ftp://notary.test is not a URL"),
        ({"server": "https://user:pass@notary.test"}, ".server: "),
        ({"server": "https://notary.test?x=1"}, ".server: "),
        ({"server": "https://notary.test/a/../b"}, ".server: "),
        ({"server": "https://notary.test/."}, ".server: "),
        ({"server": "https://notary.test\n"}, ".server: "),
        ({"server": "https://notary.test:0"}, ".server: notary.test:0: not a port"),
        ({"server": "https://127.1"}, ".server: 127.1: an address that is not written in full"),
        ({"rootKeys": []}, ".rootKeys: empty, so nobody could have signed"),
        ({"rootKeys": [PEM, "no key"]}, ".rootKeys[1]: no PEM public key"),
        ({"rootKeys": [CERTIFICATE + PEM]}, ".rootKeys[0]: public keys and certificates in one string"),
        ({"rootKeys": [CERTIFICATE.replace("M", "N", 1)]}, ".rootKeys[0]: not a certificate that can be read"),
        ({"rootKeys": [certified(ec.generate_private_key(ec.SECP256K1()), GUN).pem.decode()]}, ".rootKeys[0]: curve secp256k1"),
        ({"delegations": []}, ".delegations: empty, so nobody would have to sign"),
        ({"delegations": ["targets/releases"]}, ".delegations[0]: targets/releases: write it without `targets/`"),
        ({"delegations": ["targets"]}, ".delegations[0]: targets: write it without `targets/`"),
        ({"delegations": ["releases", "B"]}, ".delegations[1]: B is not a delegation's name"),
        ({"ca": PEM}, ".ca: no PEM certificate"),
        ({"server": "http://notary.test", "ca": CERTIFICATE}, ".ca: without meaning beside a server without TLS"),
    ],
)  # fmt: skip
def test_v01_what_makes_no_sense_is_refused_when_it_is_written(spec: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Invalid) as refused:
        build(**spec)
    (found_complaint,) = refused.value.complaints
    assert found_complaint.startswith(complaint)


def test_servers_are_kept_as_they_are_asked() -> None:
    assert build(server="https://Notary.Test:4443/base/").server == "https://notary.test:4443/base"
    assert build(server="http://[::1]:4443").server == "http://[::1]:4443"


def test_all_complaints_come_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        build(server="x", rootKeys=["y"], delegations=["Z"], ca="z")
    paths = [complaint.partition(":")[0] for complaint in refused.value.complaints]
    assert paths == [".rootKeys[0]", ".server", ".delegations[0]", ".ca"]


def test_key_references_are_listed_with_their_paths() -> None:
    row = FORMATS["dct"]
    spec = convert_all(
        {"server": SERVER, "rootKeys": ["secret://a#b", "secret://c#d"], "ca": "configmap://e#f"}, row.spec, ""
    )
    assert [path for path, _ in row.keys(spec)] == [".rootKeys[0]", ".rootKeys[1]", ".ca"]


GOOD = repository().made()


@given(st.sampled_from(ROLES), st.binary(max_size=200), st.integers(0, 3_000), st.integers(0, 200))
def test_c13_whatever_stands_where_metadata_should_no_other_error_escapes(
    role: str, noise: bytes, at: int, cut: int
) -> None:
    content = GOOD[role]
    for changed in (noise, content[:at] + noise + content[at + cut :]):
        with contextlib.suppress(Rejected):
            proof = build(delegations=["releases"]).check(Untrusted("x", {**GOOD, role: changed}), claim("v2"), NOW)
            # Only white space may differ, and only where nobody lists the bytes.
            assert json.loads(changed) == json.loads(content), proof


def test_nothing_heavy_is_loaded_before_a_policy_needs_it() -> None:
    heavy = "{'cryptography', 'asn1crypto', 'securesystemslib'}"
    program = (
        f"import sys, webhook.formats; sys.exit(bool({heavy} & {{name.partition('.')[0] for name in sys.modules}}))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0  # noqa: S603 - ourselves
