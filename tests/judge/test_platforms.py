"""What must satisfy where an image is an index: itself, or the images of platforms in it (attacks R-06, V-01, V-04)."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests import captures
from tests.captures import INDEX
from tests.fake.registry import OCI_INDEX, FakeRegistry
from tests.fake.signing import SigningKey, attest, key, sign_bundle
from tests.judge.test_judge import HOST, World
from tests.policies import policy
from webhook import limits
from webhook.image import Digest
from webhook.policy.policy import Policy
from webhook.trust import Platform, Unavailable
from webhook.verdict import Allowed, Denied, Undecided

APP = f"{HOST}/app:v1"
UNKNOWN = {"os": "unknown", "architecture": "unknown"}


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.pool.shutdown()


def judging(platforms: str, *names: str, **fields: Any) -> Policy:
    signers = [{"name": n, "cosign": {"key": key(n).pem}} for n in names or ("a",)]
    return policy("shop/web", {"signers": signers, "platforms": platforms, **fields})


class MultiArch:
    """An index of two images, on `app:v1`."""

    def __init__(self, registry: FakeRegistry, platforms: Sequence[dict[str, str] | None] = ()) -> None:
        self.registry = registry
        self.children = [registry.push_image("app", f"child{i}", b"%d" % i) for i in range(len(platforms) or 2)]
        self.index = registry.push_index("app", "v1", self.children, platforms)

    def sign(self, *what: int | str, by: SigningKey | None = None) -> None:
        for one in what:
            digest = self.index if isinstance(one, str) else self.children[one]
            sign_bundle(self.registry, "app", digest, by or key("a"))


@pytest.mark.parametrize(
    ("signed", "admitted"),
    [
        (("index",), {"index"}),
        ((0,), {"any"}),
        ((1,), {"any"}),
        ((0, 1), {"all", "any"}),
        (("index", 0), {"index", "any"}),
        (("index", 0, 1), {"index", "all", "any"}),
        ((), set()),
    ],
)
@pytest.mark.parametrize("platforms", ["index", "all", "any"])
async def test_r06_what_of_an_index_must_be_signed(
    world: World, signed: tuple[int | str, ...], admitted: set[str], platforms: str
) -> None:
    made = MultiArch(world.registry)
    made.sign(*signed)
    for image in (APP, f"{HOST}/app@{made.index}"):
        outcome = await world.outcome([judging(platforms)], image)
        assert isinstance(outcome, Allowed if platforms in admitted else Denied)
        assert outcome.subject is not None
        assert outcome.subject.digest == made.index


@pytest.mark.parametrize("platforms", ["index", "all", "any"])
async def test_r06_an_image_that_is_no_index_is_judged_itself(world: World, platforms: str) -> None:
    made = MultiArch(world.registry)
    made.sign("index", 1)
    # The child by its own digest: that the index is signed says nothing of it.
    assert isinstance(await world.outcome([judging(platforms)], f"{HOST}/app@{made.children[0]}"), Denied)
    assert isinstance(await world.outcome([judging(platforms)], f"{HOST}/app@{made.children[1]}"), Allowed)


async def test_r06_every_child_counts_though_two_are_of_one_platform(world: World) -> None:
    amd64 = {"os": "linux", "architecture": "amd64"}
    made = MultiArch(world.registry, [amd64, amd64])
    made.sign(0)
    denied = await world.outcome([judging("all")], APP)
    assert isinstance(denied, Denied)
    assert denied.reasons == (f'linux/amd64 ({made.children[1][:19]}…): no signature by "a" (it carries no signature)',)
    assert denied.fix == (
        f'sign every image of a platform in {HOST}/app@{made.index} with "a" (key {key("a").fingerprint[:23]}…)'
    )
    made.sign(1)
    assert isinstance(await fresh(world).outcome([judging("all")], APP), Allowed)


def fresh(world: World) -> World:
    """The same registry, and a judge that remembers nothing."""
    made = World()
    made.registry.manifests = world.registry.manifests
    made.registry.tags, made.registry.blobs = world.registry.tags, world.registry.blobs
    return made


@pytest.mark.parametrize("platforms", ["all", "any"])
async def test_r06_an_index_of_indexes_is_denied(world: World, platforms: str) -> None:
    made = MultiArch(world.registry)
    made.sign("index", 0, 1)
    world.registry.push_index("app", "v2", [made.children[0], made.index])
    denied = await world.outcome([judging(platforms)], f"{HOST}/app:v2")
    assert isinstance(denied, Denied)
    assert denied.reasons == ("an index of indexes, whose images cannot be judged one by one",)
    assert isinstance(await world.outcome([judging(platforms)], APP), Allowed)


@pytest.mark.parametrize("platforms", ["all", "any"])
async def test_v01_an_index_of_no_platform_is_denied(world: World, platforms: str) -> None:
    attestations = MultiArch(world.registry, [UNKNOWN])
    attestations.sign("index", 0)
    empty = world.registry.push_manifest(
        "app", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, OCI_INDEX, "empty"
    )
    sign_bundle(world.registry, "app", empty, key("a"))
    for image in (APP, f"{HOST}/app:empty"):
        denied = await world.outcome([judging(platforms)], image)
        assert isinstance(denied, Denied)
        assert denied.reasons == ("an index without an image of any platform",)
        assert isinstance(await world.outcome([judging("index")], image), Allowed)


async def test_r06_buildkits_attestations_in_an_index_need_no_signature(world: World) -> None:
    linux = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    made = MultiArch(world.registry, [linux, UNKNOWN])
    made.sign(0)
    assert isinstance(await world.outcome([judging("all")], APP), Allowed)
    # Signing those alone is not enough for anything.
    other = MultiArch(fresh(world).registry, [linux, UNKNOWN])
    assert other.index == made.index


@pytest.mark.parametrize(
    "platform",
    [
        None,
        {},
        {"os": "unknown"},
        {"architecture": "unknown"},
        {"os": "Unknown", "architecture": "unknown"},
        {"os": "unknown", "architecture": "amd64"},
        {"os": "linux", "architecture": "unknown"},
    ],
)
async def test_r06_whatever_a_node_might_choose_must_be_signed(world: World, platform: dict[str, str] | None) -> None:
    made = MultiArch(world.registry, [{"os": "linux", "architecture": "amd64"}, platform])
    made.sign(0)
    assert isinstance(await world.outcome([judging("all")], APP), Denied)
    made.sign(1)
    assert isinstance(await fresh(world).outcome([judging("all")], APP), Allowed)


async def test_r06_a_signed_attestation_in_an_index_makes_no_image_trusted(world: World) -> None:
    made = MultiArch(world.registry, [{"os": "linux", "architecture": "amd64"}, UNKNOWN])
    made.sign(1)
    assert isinstance(await world.outcome([judging("any")], APP), Denied)


async def test_each_image_satisfies_the_whole_of_require(world: World) -> None:
    made = MultiArch(world.registry)
    made.sign(0, by=key("a"))
    made.sign(1, by=key("b"))
    both = ("a", "b")
    assert isinstance(await world.outcome([judging("all", *both, require="a or b")], APP), Allowed)
    # One signer each is not both of each, nor two identities for one image.
    for require in ("a and b", "2 of (a, b)"):
        for platforms in ("all", "any"):
            assert isinstance(await world.outcome([judging(platforms, *both, require=require)], APP), Denied)
    made.sign(0, by=key("b"))
    again = fresh(world)
    assert isinstance(await again.outcome([judging("any", *both, require="a and b")], APP), Allowed)
    assert isinstance(await again.outcome([judging("all", *both, require="a and b")], APP), Denied)


async def test_attestations_are_those_of_the_images(world: World) -> None:
    made = MultiArch(world.registry)
    provenance = [{"name": "provenance", "type": "slsa-provenance"}]
    asked = judging("all", attestations=provenance, require="provenance")
    attest(world.registry, "app", made.index, key("a"))
    attest(world.registry, "app", made.children[0], key("a"))
    assert isinstance(await world.outcome([asked], APP), Denied)
    attest(world.registry, "app", made.children[1], key("a"))
    assert isinstance(await fresh(world).outcome([asked], APP), Allowed)


async def test_v04_an_outage_of_one_image_hides_neither_another_nor_a_certain_no(world: World) -> None:
    made = MultiArch(world.registry)
    made.sign(0)
    world.registry.fail(f"referrers {made.children[1]}", lambda: Unavailable("registry.test: 503"))
    undecided = await world.outcome([judging("all")], APP)
    assert isinstance(undecided, Undecided)
    assert undecided.causes == (f'linux/arch1 ({made.children[1][:19]}…): signer "a": registry.test: 503',)
    assert isinstance(await world.outcome([judging("any")], APP), Allowed)
    # What certainly is not signed denies, whatever the other would have been.
    assert isinstance(await world.outcome([judging("all", "b")], APP), Denied)
    world.registry.fail("resolve", lambda: Unavailable("registry.test: 500"))
    assert isinstance(await fresh_outage(world).outcome([judging("all")], f"{HOST}/app@{made.index}"), Undecided)


def fresh_outage(world: World) -> World:
    made = fresh(world)
    made.registry.failures = world.registry.failures
    return made


async def test_p07_two_policies_may_judge_an_index_differently(world: World) -> None:
    made = MultiArch(world.registry)
    made.sign("index", by=key("a"))
    made.sign(0, 1, by=key("b"))
    whole = policy("shop/whole", {"signers": [{"name": "a", "cosign": {"key": key("a").pem}}]})
    each = policy("shop/each", {"signers": [{"name": "b", "cosign": {"key": key("b").pem}}], "platforms": "all"})
    outcomes = {str(r.policy): type(r.outcome) for r in await world.rulings([whole, each], APP)}
    assert outcomes == {"shop/whole": Allowed, "shop/each": Allowed}
    swapped = policy("shop/swapped", {"signers": [{"name": "b", "cosign": {"key": key("b").pem}}]})
    (ruling,) = await world.rulings([swapped], APP)
    assert isinstance(ruling.outcome, Denied)


async def test_what_is_known_is_not_asked_again(world: World) -> None:
    made = MultiArch(world.registry)
    made.sign(0, 1)
    assert isinstance(await world.outcome([judging("all")], APP), Allowed)
    world.registry.asked.clear()
    assert isinstance(await world.outcome([judging("all")], APP), Allowed)
    assert not world.registry.asked


async def test_d01_as_many_platforms_as_an_index_may_have_are_judged(world: World) -> None:
    platforms: list[dict[str, str] | None] = [
        {"os": "linux", "architecture": f"a{i}"} for i in range(limits.MAX_CHILDREN)
    ]
    made = MultiArch(world.registry, platforms)
    denied = await world.outcome([judging("all")], APP)
    assert isinstance(denied, Denied)
    assert len(str(denied)) < 4_000
    made.sign(*range(limits.MAX_CHILDREN))
    assert isinstance(await fresh(world).outcome([judging("all")], APP), Allowed)


async def test_what_is_told_of_each_signer_is_of_all_images(world: World) -> None:
    made = MultiArch(world.registry)
    made.sign(0)
    (ruling,) = await world.rulings([judging("all", "a", "b")], APP)
    assert [(named.name, type(named.finding).__name__) for named in ruling.findings] == [
        ("a", "Unsatisfied"),
        ("b", "Unsatisfied"),
    ]
    assert f"({made.children[1][:19]}…)" in str(ruling.findings[0].finding)
    (ruling,) = await world.rulings([judging("any", "a", "b")], APP)
    assert type(ruling.findings[0].finding).__name__ == "Satisfied"


async def test_the_capture_of_a_recursively_signed_index_satisfies_every_choice(world: World) -> None:
    world.registry.load("app", captures.path("cosign-key-index-recursive"))
    signers = [{"name": "ci", "cosign": {"key": captures.key("cosign.pub").decode()}}]
    for platforms in ("index", "all", "any"):
        asked = policy("shop/web", {"signers": signers, "platforms": platforms})
        assert isinstance(await world.outcome([asked], f"{HOST}/app@{INDEX}"), Allowed)


async def test_two_names_of_one_image_are_one(world: World) -> None:
    child = world.registry.push_image("app", "child", b"0")
    world.registry.push_index(
        "app", "v1", [child, child], [{"os": "linux", "architecture": a} for a in ("amd64", "x86_64")]
    )
    assert isinstance(await world.outcome([judging("all")], APP), Denied)
    sign_bundle(world.registry, "app", child, key("a"))
    assert isinstance(await fresh(world).outcome([judging("all")], APP), Allowed)


def test_platforms_are_values() -> None:
    digests = [Digest(f"sha256:{i}" + "0" * 63) for i in range(2)]
    made = {Platform(name, digest) for name, digest in itertools.product(("a", "b"), digests)}
    assert len(made) == 4
