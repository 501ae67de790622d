"""The judge over Docker Content Trust: old states played back, denied keys, identities counted (attacks T-01, C-07; fault F18)."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fake.notary import RELEASES, SERVER, NotaryRepository, plain_key, root_key
from tests.fake.signing import key, sign_bundle
from tests.judge.test_judge import HOST, World
from tests.policies import policy
from webhook.image import Digest
from webhook.policy.policy import Policy
from webhook.verdict import Allowed, Denied, Outcome, Undecided

GUN = f"{HOST}/app"
ROLES = ("root", "timestamp", "snapshot", "targets", RELEASES)
TAGS = ("v1", "v2", "v3")


class NotaryWorld(World):
    """Tags of one image, and what a notary server says about them."""

    def __init__(self) -> None:
        super().__init__()
        self.image: Digest = self.registry.push_image("app", "v0")
        for tag in TAGS:
            self.registry.tags["app", tag] = self.image

    def repository(self, *tags: str, **changed: Any) -> NotaryRepository:
        return NotaryRepository(GUN, {"targets": {}, RELEASES: dict.fromkeys(tags or TAGS, self.image)}, **changed)

    def publish(self, *tags: str, **changed: Any) -> None:
        self.repository(*tags, **changed).publish(self.registry)

    async def ask_for(self, tag: str, *policies: Policy) -> Outcome:
        return await self.outcome([*(policies or (legacy(),))], f"{GUN}:{tag}")


def legacy(root: str = "root", **spec: Any) -> Policy:
    dct = {"server": SERVER, "rootKeys": [root_key(root, GUN).public.pem], **spec}
    return policy("shop/web", {"signers": [{"name": "legacy", "dct": dct}]})


@pytest.fixture
def world() -> Iterator[NotaryWorld]:
    made = NotaryWorld()
    yield made
    made.pool.shutdown()


def versions(number: int) -> dict[str, int]:
    return dict.fromkeys(ROLES, number)


@pytest.mark.parametrize("role", ROLES)
async def test_t01_f18_a_role_older_than_was_seen_is_an_old_state(world: NotaryWorld, role: str) -> None:
    world.publish(versions=versions(5))
    assert isinstance(await world.ask_for("v1"), Allowed)
    old = {**versions(5), role: 4}
    # An older root comes with the ones before it, or its number alone would give it away.
    world.publish(versions=old)
    outcome = await world.ask_for("v2")
    assert isinstance(outcome, Denied)
    assert f"an old state, played back: {role} of {GUN} is version 4, and version 5 has been seen" in outcome.reasons[0]
    world.publish(versions=versions(5))
    assert isinstance(await world.ask_for("v3"), Allowed)


async def test_t01_what_was_denied_is_learnt_from_too(world: NotaryWorld) -> None:
    world.publish("v3", versions=versions(5))
    outcome = await world.ask_for("v1")
    assert isinstance(outcome, Denied)
    assert "nothing signed for tag v1" in outcome.reasons[0]
    # The state before, in which there was such a tag.
    world.publish("v2", versions=versions(4))
    assert "an old state, played back" in str(await world.ask_for("v2"))
    world.publish("v3", versions=versions(6))
    assert isinstance(await world.ask_for("v3"), Allowed)


async def test_t01_a_replica_that_has_just_started_remembers_nothing(world: NotaryWorld) -> None:
    """The limit that the pages state: it believes the first genuine state that has not expired."""
    world.publish("v2", versions=versions(4))
    assert isinstance(await world.ask_for("v2"), Allowed)


async def test_t01_nobody_else_s_root_key_runs_the_numbers_up(world: NotaryWorld) -> None:
    world.publish(versions=versions(1000), keys={"root": [root_key("tenant", GUN)]})
    assert isinstance(await world.ask_for("v1", legacy("tenant")), Allowed)
    world.publish(versions=versions(1))
    assert isinstance(await world.ask_for("v1"), Allowed)


async def test_t01_new_keys_of_a_role_start_to_count_anew(world: NotaryWorld) -> None:
    world.publish(versions={**versions(1), "snapshot": 10_000, "timestamp": 10_000})
    assert isinstance(await world.ask_for("v1"), Allowed)
    fresh = {role: [plain_key(f"new {role}")] for role in ("snapshot", "timestamp")}
    world.publish(versions={**versions(1), "root": 2}, keys=fresh)
    outcome = await world.ask_for("v2")
    # The root is version 2 of a chain whose first one the policy's key has signed.
    assert isinstance(outcome, Allowed)


async def test_t01_an_outage_is_no_old_state(world: NotaryWorld) -> None:
    assert isinstance(await world.ask_for("v1"), Denied)
    world.publish()
    world.registry.fail("get", TimeoutError)
    assert isinstance(await world.ask_for("v2"), Undecided)


@pytest.mark.parametrize("denied", ["root", *ROLES[1:]])
async def test_a_denied_key_takes_away_all_that_rests_on_it(world: NotaryWorld, denied: str) -> None:
    repository = world.repository()
    repository.publish(world.registry)
    fingerprint = repository.keys[denied][0].public.fingerprint
    denies = policy("denies", {"deny": {"keys": [fingerprint]}})
    rulings = await world.rulings([legacy(), denies], f"{GUN}:v1")
    assert [type(ruling.outcome) for ruling in rulings if ruling.policy and ruling.policy.namespace] == [Allowed]
    (denial,) = (ruling.outcome for ruling in rulings if ruling.policy and not ruling.policy.namespace)
    assert isinstance(denial, Denied)
    assert denial.reasons == (f"signed by {fingerprint}, which is on the policy's deny list",)
    other = policy("denies", {"deny": {"keys": [key("a").fingerprint]}})
    assert {type(ruling.outcome) for ruling in await world.rulings([legacy(), other], f"{GUN}:v1")} == {Allowed}


async def test_c07_delegations_of_one_root_key_are_one_identity(world: NotaryWorld) -> None:
    """Whoever holds the root's keys can make delegations as they like."""
    targets = {"targets": {}, RELEASES: {"v1": world.image}, "targets/qa": {"v1": world.image}}
    NotaryRepository(GUN, targets).publish(world.registry)
    sign_bundle(world.registry, "app", world.image, key("a"))
    dct = {"server": SERVER, "rootKeys": [root_key("root", GUN).public.pem]}
    signers = [
        {"name": "releases", "dct": {**dct, "delegations": ["releases"]}},
        {"name": "qa", "dct": {**dct, "delegations": ["qa"]}},
        {"name": "release", "cosign": {"key": key("a").pem}},
    ]
    one = policy("shop/web", {"signers": signers, "require": "2 of (releases, qa)"})
    assert isinstance(await world.ask_for("v1", one), Denied)
    for expression in ("2 of (releases, release)", "releases and qa"):
        both = policy("shop/web", {"signers": signers, "require": expression})
        assert isinstance(await world.ask_for("v1", both), Allowed)


async def test_r05_the_registry_s_word_for_a_tag_is_not_the_signer_s(world: NotaryWorld) -> None:
    world.publish()
    moved = world.registry.push_image("app", "v2", b"moved")
    outcome = await world.ask_for("v2")
    assert isinstance(outcome, Denied)
    assert f"{RELEASES}: tag v2 is signed for another image, {world.image}" in outcome.reasons[0]
    assert outcome.fix is not None
    assert outcome.fix.startswith(f'sign {GUN}@{moved} with "legacy" (Docker Content Trust on {SERVER}, root key ')
    assert isinstance(await world.ask_for("v1"), Allowed)
