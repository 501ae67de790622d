"""Outages: what `onOutage` lets in, and all that it never lets in (attacks V-02, V-03, M-01, M-05, K-07; faults F-01, F-25)."""

import asyncio
import dataclasses
import datetime as dt
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import captures
from tests.fake.registries import ANONYMOUS, FakeKeychain, FakeRegistries
from tests.fake.registry import FakeRegistry
from tests.fake.signing import key, sign_bundle
from tests.judge.test_judge import HOST, Counter
from tests.policies import exception, policy
from webhook import limits
from webhook.formats.cosign.signer import Cosign
from webhook.image import Digest, Repository, Subject, digest_of
from webhook.judge.decide import Decider
from webhook.judge.enforce import Outages, enforced, settle, verdict_of
from webhook.judge.evaluate import Judge, Judged
from webhook.judge.explain import as_json, sentence
from webhook.judge.knowngood import KnownGood
from webhook.judge.pin import Pin
from webhook.judge.workload import Placed, Question
from webhook.memory.records import Record, Records
from webhook.memory.store import PolicyStore
from webhook.policy.policy import Policy, Workload
from webhook.trust import KeyRef, Unavailable, Unresolved
from webhook.verdict import Allowed, Answer, Denied, Mode, Outcome, Proof, Ruling, Undecided

SIGNED: dict[str, Any] = {"signers": [{"name": "a", "cosign": {"key": key("a").pem}}]}
STALE = dt.timedelta(hours=24)
LAST: dict[str, Any] = {"onOutage": {"action": "last-known-good", "maxStale": "24h"}}
WARN: dict[str, Any] = {"onOutage": {"action": "warn"}}
OTHER: dict[str, Any] = {"signers": [{"name": "c", "cosign": {"key": key("c").pem}}]}
NOTHING: tuple[dict[str, Any], ...] = ({}, {"onOutage": {"action": "deny"}})
PLACE = "spec.containers[0].image"


def down() -> Unavailable:
    return Unavailable("the registry is down")


class World:
    """A cluster with one registry; `restart` leaves of a replica only what is kept of its records."""

    def __init__(self) -> None:
        self.registry = FakeRegistry()
        self.now = captures.NOW
        self.pool = ThreadPoolExecutor(2)
        self.store = PolicyStore()
        self.store.put_namespace("shop", {})
        self.store.put_namespace("other", {})
        self.store.set_ready()
        self.records = Records()
        self.keychain: FakeKeychain = ANONYMOUS
        self.restart()

    def restart(self) -> None:
        self.registries = FakeRegistries(self.registry)
        self.judge = Judge(self.registries, pool=self.pool, now=lambda: self.now, observer=Counter())
        self.known_good = KnownGood(self.records)
        self.decider = Decider(self.judge, self.store, lambda _: self.keychain, known_good=self.known_good)

    def outage(self) -> None:
        """Every replica starts anew, and no registry answers."""
        self.restart()
        for what in ("resolve", "manifest", "blob", "referrers"):
            self.registry.fail(what, down)

    def put(self, *policies: Policy) -> None:
        self.store.replace_all(policies)

    def signed(self, path: str = "app", tag: str = "v1", *, by: str = "a") -> Digest:
        digest = self.registry.push_image(path, tag, f"{path}{tag}".encode())
        sign_bundle(self.registry, path, digest, key(by))
        return digest

    async def ask(self, image: str, namespace: str = "shop", **fields: Any) -> Answer:
        return await self.decider.answer(asked(image, namespace, **fields), asyncio.get_running_loop().time() + 5)


def asked(image: str, namespace: str = "shop", *, final: bool = True, **fields: Any) -> Question:
    return Question(Workload(namespace, "default", {}), (), (Placed(PLACE, image, "main"),), final=final, **fields)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.pool.shutdown()


# ── last-known-good ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_f01_what_was_verified_before_all_replicas_restarted_starts_and_nothing_else(world: World) -> None:
    digest, other = world.signed(), world.signed("other")
    world.put(policy("shop/web", SIGNED, **LAST))
    assert (await world.ask(f"{HOST}/app@{digest}")).warnings == ()
    world.outage()
    world.now += dt.timedelta(hours=23)
    answer = await world.ask(f"{HOST}/app@{digest}")
    assert (answer.allowed, answer.code) == (True, 200)
    said = (
        f"{PLACE} {HOST}/app@{digest}: policy shop/web: let in by onOutage: last-known-good, verified at"
        " 2026-11-24T00:38:00Z: could not verify: the registry is down. A retry may help"
    )
    assert answer.annotations["outage"] == said
    assert answer.warnings[0][:200] == said[:200]
    assert [ruling.places for ruling in answer.tolerated] == [(PLACE,)]
    refused = await world.ask(f"{HOST}/other@{other}")
    assert (refused.allowed, refused.code, refused.tolerated) == (False, 503, ())
    assert "Note: not verified under this policy within 24h" in refused.message
    world.now += dt.timedelta(hours=1, seconds=1)
    assert (await world.ask(f"{HOST}/app@{digest}")).code == 503


async def test_f01_without_the_field_an_outage_refuses_what_was_verified(world: World) -> None:
    digest = world.signed()
    for written in NOTHING:
        world.put(policy("shop/web", SIGNED, **written))
        world.registry.failures.clear()
        assert (await world.ask(f"{HOST}/app@{digest}")).allowed
        world.outage()
        answer = await world.ask(f"{HOST}/app@{digest}")
        assert (answer.allowed, answer.code) == (False, 503)
    # Of policies that do not ask for it nothing is remembered.
    assert len(world.records) == 0


async def test_m04_a_changed_policy_or_key_knows_nothing_of_what_another_verified(world: World) -> None:
    digest = world.signed()
    sign_bundle(world.registry, "app", digest, key("b"))
    world.put(policy("shop/web", SIGNED, **LAST))
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    world.outage()
    other_key = {"signers": [{"name": "a", "cosign": {"key": key("b").pem}}]}
    for changed in (
        policy("shop/web", other_key, **LAST),
        policy("shop/web", {**SIGNED, "freshness": {"maxSignatureAge": "24h"}}, **LAST),
        policy("shop/renamed", SIGNED, **LAST),
        policy("web", SIGNED, **LAST),
    ):
        world.put(changed)
        assert (await world.ask(f"{HOST}/app@{digest}")).code == 503
    # How a verdict is told or carried out is no other verdict.
    world.put(policy("shop/web", SIGNED, message="ask us", onOutage={"action": "last-known-good", "maxStale": "2h"}))
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed


async def test_m01_a_record_is_of_its_namespace_and_its_name(world: World) -> None:
    digest = world.signed()
    world.put(policy("web", SIGNED, **LAST))
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    world.outage()
    assert (await world.ask(f"{HOST}/app@{digest}", "other")).code == 503
    assert (await world.ask(f"{HOST}/copy/app@{digest}")).code == 503
    assert (await world.ask(f"{HOST}/app@{digest_of(b'x')}")).code == 503
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed


async def test_v02_every_policy_must_bear_with_it(world: World) -> None:
    digest = world.signed()
    strict = policy("strict", SIGNED)
    world.put(policy("shop/web", SIGNED, **LAST), strict)
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    world.outage()
    answer = await world.ask(f"{HOST}/app@{digest}")
    assert (answer.code, answer.tolerated) == (503, ())
    world.put(policy("shop/web", SIGNED, **LAST))
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed


async def test_a_denial_puts_an_end_to_what_was_good(world: World) -> None:
    digest = world.signed()
    wanted = policy("shop/web", SIGNED, **LAST)
    world.put(wanted)
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    world.restart()
    # Its signature was withdrawn.
    world.registry.referrers_api = True
    kept, world.registry.list_referrers = world.registry.list_referrers, lambda *_: []  # type: ignore[method-assign]
    assert (await world.ask(f"{HOST}/app@{digest}")).code == 403
    world.outage()
    assert (await world.ask(f"{HOST}/app@{digest}")).code == 503
    # What is verified anew is good again.
    world.registry.failures.clear()
    world.registry.list_referrers = kept  # type: ignore[method-assign]
    world.restart()
    world.now += dt.timedelta(minutes=1)
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    world.outage()
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed


async def test_v03_what_was_read_and_does_not_satisfy_is_denied_although_the_image_cannot_be_seen(world: World) -> None:
    digest = world.signed(by="b")
    image = f"{HOST}/app@{digest}"
    for written in (WARN, LAST):
        world.put(policy("shop/web", SIGNED, **written))
        world.registry.failures.clear()
        world.restart()
        assert (await world.ask(image)).code == 403
        # The signatures are remembered, and the image has to be looked up anew.
        world.registries.remembered.clear()
        world.registry.fail("resolve", down)
        assert (await world.ask(image)).code == 403
        # Another policy makes us ask, and nobody answers.
        world.put(policy("shop/web", SIGNED, **written), policy("shop/b", OTHER, **written))
        assert (await world.ask(image)).code == 403


async def test_what_time_alone_denies_is_not_known_to_be_good(world: World) -> None:
    digest = world.signed()
    ends = (captures.NOW + dt.timedelta(hours=2)).isoformat()
    signer = {"name": "a", "cosign": {"key": key("a").pem}, "validity": {"notAfter": ends}}
    world.put(policy("shop/web", {"signers": [signer]}, **LAST))
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    world.outage()
    world.now += dt.timedelta(minutes=119)
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    world.now += dt.timedelta(minutes=1)
    assert (await world.ask(f"{HOST}/app@{digest}")).code == 503


async def test_deny_beats_every_record(world: World) -> None:
    digest = world.signed()
    wanted = policy("shop/web", SIGNED, **LAST)
    world.put(wanted)
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    world.outage()
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    for deny in (
        {"digests": [digest]},
        # What could not be compared with a deny list is not let in either: it is an index, perhaps, that holds what is denied.
        {"digests": [digest_of(b"x")]},
        {"keys": [key("a").fingerprint]},
        {"keys": [key("b").fingerprint]},
        {"signedBefore": "2026-01-01T00:00:00Z"},
    ):
        for written in (LAST, WARN):
            world.put(wanted, policy("stop", {"deny": deny}))
            assert not (await world.ask(f"{HOST}/app@{digest}")).allowed, deny
            world.put(policy("shop/web", SIGNED, deny=deny, **written))
            assert not (await world.ask(f"{HOST}/app@{digest}")).allowed, deny


async def test_k07_a_dry_run_leaves_no_record_and_the_pod_after_it_does(world: World) -> None:
    digest = world.signed()
    world.put(policy("shop/web", SIGNED, **LAST))
    for _ in range(3):
        assert (await world.ask(f"{HOST}/app@{digest}", dry_run=True)).allowed
    assert len(world.records) == 0
    # It was answered from what the dry run left in memory, which may be an hour old.
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    assert len(world.records) == 1
    world.outage()
    world.now += dt.timedelta(hours=23)
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    dry = await world.ask(f"{HOST}/app@{digest}", dry_run=True)
    assert (dry.allowed, dry.tolerated) == (True, ())
    world.now += dt.timedelta(seconds=1)
    assert (await world.ask(f"{HOST}/app@{digest}")).code == 503


async def test_what_is_asked_about_again_within_the_hour_is_not_written_down_again(world: World) -> None:
    digest = world.signed()
    world.put(policy("shop/web", SIGNED, **LAST))
    for minutes in (0, 30, 59, 61):
        world.now = captures.NOW + dt.timedelta(minutes=minutes)
        world.restart()
        assert (await world.ask(f"{HOST}/app@{digest}")).allowed
        assert bool(world.records.changed()) is (minutes in {0, 61})
        for shard in world.records.changed():
            world.records.kept(shard)


async def test_modes_that_only_tell_are_not_touched(world: World) -> None:
    digest = world.signed()
    for mode in ("warn", "audit"):
        for written in (LAST, WARN):
            world.put(policy("shop/web", SIGNED, mode=mode, **written))
            world.outage()
            answer = await world.ask(f"{HOST}/app@{digest}")
            assert (answer.allowed, answer.tolerated) == (True, ())
            assert "let in by" not in str(answer)


async def test_an_exception_is_not_spent_where_the_record_is_enough(world: World) -> None:
    digest = world.signed()
    world.put(policy("shop/web", SIGNED, **LAST))
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    world.store.put_exception(exception(maxUses=1))
    world.outage()
    for _ in range(3):
        answer = await world.ask(f"{HOST}/app@{digest}")
        assert (answer.allowed, len(answer.tolerated), answer.excused) == (True, 1, {})
    other = await world.ask(f"{HOST}/other@{digest}")
    assert (other.allowed, other.tolerated, len(other.excused)) == (True, (), 1)


async def test_a_use_that_cannot_be_counted_is_no_outage(world: World) -> None:
    class Broken:
        def is_used_up(self, _: object) -> bool:
            return False

        async def spend(self, *_: object) -> bool:
            raise Unavailable("the API server is down")

    digest = world.signed(by="b")
    world.put(policy("shop/web", SIGNED, **WARN))
    world.store.put_exception(exception(maxUses=1))
    decider = Decider(world.judge, world.store, lambda _: ANONYMOUS, uses=Broken())
    answer = await decider.answer(asked(f"{HOST}/app@{digest}"), asyncio.get_running_loop().time() + 5)
    # The image was read, and does not satisfy.
    assert (answer.allowed, answer.code, answer.tolerated) == (False, 503, ())


# ── tags ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_tag_that_cannot_be_looked_up_has_no_last_known_good(world: World) -> None:
    digest = world.signed()
    world.put(policy("shop/web", SIGNED, tags="allow", **LAST))
    assert (await world.ask(f"{HOST}/app:v1")).allowed
    world.outage()
    for final in (True, False):
        answer = await world.ask(f"{HOST}/app:v1", final=final)
        assert answer.code == 503
        assert "Note: what a tag means now is not known, so only a digest has a last known good" in answer.message
    # The digest itself was verified: these signatures name no tag.
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed


async def test_a_tag_whose_digest_is_known_has_one(world: World) -> None:
    world.signed()
    world.put(policy("shop/web", SIGNED, tags="allow", **LAST))
    assert (await world.ask(f"{HOST}/app:v1")).allowed
    world.restart()
    # The registry answers, and what keeps the signatures does not.
    world.registry.fail("referrers", down)
    world.registry.fail("blob", down)
    answer = await world.ask(f"{HOST}/app:v1")
    assert (answer.allowed, len(answer.tolerated)) == (True, 1)
    world.registry.push_image("app", "v1", b"another")
    world.restart()
    assert (await world.ask(f"{HOST}/app:v1")).code == 503


@pytest.mark.parametrize("tags", ["allow", "pin"])
@pytest.mark.parametrize(
    ("verified", "asked_for"),
    [(":v1", "@"), (":v1", ":v1@"), (":v1", ":v9@"), ("@", ":v9@"), (":v9@", "@"), (":v9@", ":v1@")],
)
async def test_f01_what_was_verified_by_a_name_is_known_by_its_digest_under_every_tag(
    world: World, tags: str, verified: str, asked_for: str
) -> None:
    digest = world.signed()
    world.put(policy("shop/web", SIGNED, tags=tags, **LAST))

    def image(how: str) -> str:
        return f"{HOST}/app{how}" + (digest if how.endswith("@") else "")

    await world.decider.judgements(asked(image(verified)), asyncio.get_running_loop().time() + 5)
    world.outage()
    assert (await world.ask(image(asked_for))).allowed
    # Another repository's is another name, and what the tag means now is known to nobody.
    assert (await world.ask(f"{HOST}/copy{asked_for}" + (digest if asked_for.endswith("@") else ""))).code == 503
    assert (await world.ask(image(":v1"))).code == 503


async def test_a_denial_by_tag_puts_an_end_to_what_was_good_by_digest_too(world: World) -> None:
    digest = world.signed()
    world.put(policy("shop/web", SIGNED, tags="allow", **LAST))
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    world.restart()
    world.registry.referrers_api = True
    world.registry.list_referrers = lambda *_: []  # type: ignore[method-assign]  # a registry that lists none
    world.now += dt.timedelta(minutes=1)
    assert (await world.ask(f"{HOST}/app:v1")).code == 403
    world.outage()
    assert (await world.ask(f"{HOST}/app@{digest}")).code == 503


async def test_a_tag_that_is_refused_for_being_one_says_nothing_about_the_digest(world: World) -> None:
    digest = world.signed()
    world.put(policy("shop/web", SIGNED, tags="refuse", **LAST))
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    world.now += dt.timedelta(minutes=1)
    assert (await world.ask(f"{HOST}/app:v1")).code == 403
    world.outage()
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed


@pytest.mark.parametrize(
    ("identity", "verified", "known", "unknown"),
    [
        ("digest", ":v1", ("@", ":v9@"), ()),
        ("repository", ":v1", ("@", ":v9@"), ()),
        # The tag had to be the signed one; where a digest is written, it need not.
        ("repoDigestOrExact", ":v1", (), ("@", ":v1@")),
        ("repoDigestOrExact", "@", (":v9@",), ()),
        ("exact", ":v1", (), ("@", ":v9@")),
        ("exact", ":v1@", (":v1@",), ("@", ":v9@")),
    ],
)
def test_r03_where_the_signature_is_judged_by_the_tag_it_stands_in_the_name(
    identity: str, verified: str, known: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    spec = {"signers": [{"name": "a", "cosign": {"key": key("a").pem, "identity": identity}}]}
    under = policy("shop/web", spec, tags="allow", **LAST)
    good, digest = KnownGood(), digest_of(b"app")

    def ruling(how: str, outcome: Outcome) -> Ruling:
        image = f"{HOST}/app{how}" + (digest if how.endswith("@") else "")
        return Ruling((PLACE,), image, under.key, outcome, by_tag=not how.endswith("@"))

    subject = Subject(Repository(HOST, "app"), digest, None)
    question = asked(f"{HOST}/app{verified}")
    good.learn(
        question,
        [(ruling(verified, Allowed(subject, frozenset({Proof("cosign", "SHA256:aa", "x")}))), under)],
        Judged(()),
        captures.NOW,
    )
    for how, expected in [*((how, True) for how in (verified, *known)), *((how, False) for how in unknown)]:
        found = good.find(ruling(how, Undecided(("down",), subject)), under, "shop", captures.NOW)
        assert (found is not None) is expected, how


async def pinned(world: World, image: str) -> tuple[Pin, ...]:
    return await world.decider.pins(asked(image, final=False), asyncio.get_running_loop().time() + 5)


async def test_r04_where_tags_are_pinned_the_pod_gets_the_digest_that_was_verified(world: World) -> None:
    digest = world.signed()
    world.put(policy("shop/web", SIGNED, tags="pin", **LAST))
    (pin,) = await pinned(world, f"{HOST}/app:v1")
    assert (await world.ask(pin.reference)).allowed
    world.outage()
    assert await pinned(world, f"{HOST}/app:v1") == (pin,)
    assert pin.reference == f"{HOST}/app:v1@{digest}"
    assert (await world.ask(pin.reference)).allowed
    # Whoever comes past the pinning gets nothing by the tag.
    assert (await world.ask(f"{HOST}/app:v1")).code == 503
    # A Deployment is told so at once, and its Pods are judged.
    template = await world.ask(f"{HOST}/app:v1", final=False, template=True)
    assert (template.allowed, template.tolerated) == (True, ())
    assert "let in by onOutage: last-known-good" in template.warnings[0]
    assert await pinned(world, f"{HOST}/other:v1") == ()


async def test_a_tag_that_moved_is_pinned_to_what_it_was_last_and_not_at_all_if_that_was_denied(world: World) -> None:
    world.put(policy("shop/web", SIGNED, tags="pin", **LAST))
    world.signed()
    await pinned(world, f"{HOST}/app:v1")
    world.now += dt.timedelta(minutes=1)
    world.restart()
    newer = world.registry.push_image("app", "v1", b"newer")
    sign_bundle(world.registry, "app", newer, key("a"))
    (pin,) = await pinned(world, f"{HOST}/app:v1")
    world.outage()
    assert await pinned(world, f"{HOST}/app:v1") == (pin,)
    assert pin.reference.endswith(newer)
    world.registry.failures.clear()
    world.restart()
    world.registry.push_image("app", "v1", b"unsigned")
    world.now += dt.timedelta(minutes=1)
    assert await pinned(world, f"{HOST}/app:v1") == ()
    world.outage()
    assert await pinned(world, f"{HOST}/app:v1") == ()


# ── warn ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tags", ["allow", "pin"])
async def test_warn_lets_in_what_nobody_could_read_and_says_so(world: World, tags: str) -> None:
    digest = world.signed(by="b")
    world.put(policy("shop/web", SIGNED, tags=tags, **WARN))
    world.outage()
    for image in (f"{HOST}/app@{digest}", f"{HOST}/app:v1"):
        answer = await world.ask(image)
        assert (answer.allowed, len(answer.tolerated)) == (True, 1)
        assert answer.warnings[0].startswith(
            f"{PLACE} {image}: policy shop/web: let in unverified by onOutage: warn: could"
        )
    assert await pinned(world, f"{HOST}/app:v1") == ()
    world.registry.failures.clear()
    world.restart()
    assert (await world.ask(f"{HOST}/app@{digest}")).code == 403


async def test_v02_a_crash_is_no_outage(world: World) -> None:
    digest = world.signed()
    world.put(policy("shop/web", SIGNED, **WARN))
    world.registry.fail("blob", lambda: KeyError("a bug"))
    answer = await world.ask(f"{HOST}/app@{digest}")
    assert (answer.allowed, answer.code) == (False, 403)


async def test_f25_a_key_that_is_missing_is_no_outage(world: World) -> None:
    digest = world.signed()
    spec = {"signers": [{"name": "k", "cosign": {"key": "secret://gone#x"}}]}
    missing = {KeyRef("secret://gone#x"): Unresolved("Secret shop/gone does not exist")}
    both = {"signers": [*spec["signers"], *SIGNED["signers"]]}
    image = f"{HOST}/app@{digest}"
    for fails in (False, True):
        if fails:
            world.outage()
        world.put(policy("shop/web", spec, missing, **WARN))
        answer = await world.ask(image)
        assert (answer.allowed, answer.code) == (False, 503)
        world.put(policy("shop/web", both, missing, require="k and a", **WARN))
        assert (await world.ask(image)).code == 503
        # Whoever is needed besides could not be asked, which is one.
        world.put(policy("shop/web", both, missing, **WARN))
        answer = await world.ask(image)
        assert (answer.allowed, bool(answer.tolerated)) == (True, fails)


@pytest.mark.parametrize(("platforms", "admitted"), [("all", False), ("any", True)])
async def test_f25_it_is_none_for_the_images_of_an_index_either(world: World, platforms: str, admitted: bool) -> None:
    children = [world.registry.push_image("app", name, name.encode()) for name in ("x", "y")]
    index = world.registry.push_index("app", "v1", children)
    sign_bundle(world.registry, "app", children[0], key("b"))
    world.put(policy("shop/web", SIGNED, platforms=platforms, **WARN))
    original = FakeRegistry.attachments

    async def attachments(self: FakeRegistry, subject: Subject, tag: str) -> Any:
        if subject.digest == children[1]:
            raise down()
        return await original(self, subject, tag)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeRegistry, "attachments", attachments)
        answer = await world.ask(f"{HOST}/app@{index}")
    # One of them was read, and is not signed: where all must be, that decides it.
    assert answer.allowed is admitted


async def test_w05_whether_a_policy_applies_is_not_an_outages_affair(world: World) -> None:
    digest = world.signed()
    selects: dict[str, Any] = {"namespaces": {"selector": {"matchLabels": {"tier": "gold"}}}}
    for written in (WARN, LAST):
        world.put(policy("gold", SIGNED, **selects, **written))
        assert (await world.ask(f"{HOST}/app@{digest}", "nowhere")).code == 503


async def test_d07_what_was_not_read_in_time_is_no_outage_for_warn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = world.signed()

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(FakeRegistry, "resolve", never)
    question = asked(f"{HOST}/app@{digest}")
    note = "Note: onOutage: warn waits for what is slow; a retry goes on where this ended"
    for written, noted in ((WARN, True), (LAST, False), (NOTHING[0], False)):
        world.put(policy("shop/web", SIGNED, **written))
        answer = await world.decider.answer(question, asyncio.get_running_loop().time() + 0.05)
        assert (answer.code, note in answer.message) == (503, noted)
    denies = policy("shop/no", {"deny": {"digests": [digest_of(b"x")]}})
    world.put(policy("shop/web", SIGNED, **WARN), denies)
    answer = await world.decider.answer(question, asyncio.get_running_loop().time() + 0.05)
    assert answer.code == 503


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Checking signatures waits until it is set."""
    gate, original = threading.Event(), Cosign.check

    def check(self: Any, *args: Any) -> Any:
        gate.wait(10)
        return original(self, *args)

    monkeypatch.setattr(Cosign, "check", check)
    yield gate
    gate.set()


async def test_d07_v02_what_a_publisher_makes_slow_to_check_reaches_no_warn(
    world: World, slow: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = world.signed(by="b")
    world.put(policy("shop/web", SIGNED, **WARN))
    question = asked(f"{HOST}/app@{digest}")

    async def hurried(seconds: float) -> Answer:
        return await world.decider.answer(question, asyncio.get_running_loop().time() + seconds)

    assert (await hurried(0.05)).code == 503
    # Nor when what goes on behind the answer is let go while somebody waits for it.
    world.restart()
    monkeypatch.setattr(limits, "FLIGHT_SECONDS", 0.2)
    answer = await hurried(5)
    assert (answer.code, answer.tolerated) == (503, ())
    assert "it could not be read in time" in answer.message
    # A registry that is silent besides is one, and what is read at last is judged.
    monkeypatch.setattr(limits, "FLIGHT_SECONDS", 30)
    slow.set()
    world.restart()
    assert (await hurried(5)).code == 403


async def test_d07_last_known_good_bears_with_what_is_slow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = world.signed()
    world.put(policy("shop/web", SIGNED, **LAST))
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    world.restart()

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(FakeRegistry, "attachments", never)
    answer = await world.decider.answer(asked(f"{HOST}/app@{digest}"), asyncio.get_running_loop().time() + 0.05)
    assert (answer.allowed, len(answer.tolerated)) == (True, 1)


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────

DIGEST = digest_of(b"image")
SUBJECT = Subject(Repository("registry.test", "app"), DIGEST, None, pinned=True)
PROOFS = frozenset({Proof("cosign", "SHA256:aa", "x")})
OUTCOMES: dict[str, Outcome] = {
    "allowed": Allowed(SUBJECT, PROOFS),
    "denied": Denied(("no",), subject=SUBJECT),
    "denied for good": Denied(("no",), True, SUBJECT),
    "outage": Undecided(("down",), SUBJECT, outage=True),
    "outage, deny list not compared": Undecided(("down",), SUBJECT, final=True, outage=True),
    "late": Undecided(("late",), SUBJECT, outage=True, late=True),
    "no key": Undecided(("gone",), SUBJECT),
}
ACTIONS: dict[str, dict[str, Any]] = {"none": {}, "deny": {"onOutage": {"action": "deny"}}, "warn": WARN, "last": LAST}
NOW = captures.NOW
RECORDS: dict[str, Callable[[], tuple[Record, str, Digest, str] | None]] = {
    "none": lambda: None,
    "young": lambda: (Record(NOW - STALE), "shop/web", DIGEST, "shop"),
    "old": lambda: (Record(NOW - STALE - dt.timedelta(seconds=1)), "shop/web", DIGEST, "shop"),
    "ended": lambda: (Record(NOW, NOW), "shop/web", DIGEST, "shop"),
    "denied": lambda: (Record(NOW, good=False), "shop/web", DIGEST, "shop"),
    "of another policy": lambda: (Record(NOW), "shop/other", DIGEST, "shop"),
    "of another digest": lambda: (Record(NOW), "shop/web", digest_of(b"x"), "shop"),
    "of another namespace": lambda: (Record(NOW), "shop/web", DIGEST, "other"),
}
MODES: tuple[Mode, ...] = ("enforce", "warn", "audit")


def ruled(outcome: Outcome, wanted: Policy, *, digest: Digest = DIGEST) -> Ruling:
    return Ruling((PLACE,), f"registry.test/app@{digest}", wanted.key, outcome, wanted.terms.mode)


def remembered(record: tuple[Record, str, Digest, str] | None) -> KnownGood:
    """What a replica knows that verified this, as it comes by it itself or from another's text."""
    known_good = KnownGood()
    if record is not None:
        found, name, digest, namespace = record
        wanted = policy(name, SIGNED, **LAST)
        proof = dataclasses.replace(next(iter(PROOFS)), valid_until=found.until)
        subject = dataclasses.replace(SUBJECT, digest=digest)
        good = ruled(Allowed(subject, frozenset({proof})), wanted, digest=digest)
        question = asked(good.image, namespace)
        known_good.learn(question, [(good, wanted)], Judged((good,)), found.at)
        if not found.good:
            bad = ruled(Denied(("no",), subject=subject), wanted, digest=digest)
            known_good.learn(question, [(bad, wanted)], Judged((bad,)), found.at)
    return known_good


@pytest.mark.parametrize(
    ("action", "outcome", "record", "mode"), list(itertools.product(ACTIONS, OUTCOMES, RECORDS, MODES))
)
def test_v05_the_table_of_outages(action: str, outcome: str, record: str, mode: Mode) -> None:
    wanted = policy("shop/web", SIGNED, mode=mode, **ACTIONS[action])
    ruling = ruled(OUTCOMES[outcome], wanted)
    question = asked(ruling.image)
    outages = Outages({wanted.key: wanted}, remembered(RECORDS[record]()), NOW)
    counted = enforced(question, [ruling], outages=outages)
    answer = settle(question, counted)
    warned = (action, outcome) == ("warn", "outage")
    remembers = (action, record) == ("last", "young") and outcome in {"outage", "late"}
    borne = mode == "enforce" and (warned or remembers)
    before = {200: "allowed", 403: "denied", 503: "undecided"}
    code = settle(question, [ruling]).code
    assert answer.code == (200 if borne else code)
    assert verdict_of(counted) == before[answer.code]
    assert bool(answer.tolerated) is borne
    assert ("outage" in answer.annotations) is borne
    assert any("onOutage" in text for text in answer.warnings) is borne
    (entry,) = as_json(counted, {ruling.image: "allowed"})
    said = json.loads(json.dumps(entry))["policies"][0]["outage"]
    assert (said is not None) is borne
    if borne:
        verified_at = "2026-11-23T00:38:00Z" if action == "last" else None
        assert said == {"action": "warn" if action == "warn" else "last-known-good", "verifiedAt": verified_at}


names = st.sampled_from(["shop/a", "shop/b", "c"])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(names, st.sampled_from(sorted(ACTIONS)), st.sampled_from(sorted(OUTCOMES))), min_size=1, max_size=4
    )
)
def test_v05_nothing_but_an_outage_is_ever_let_in(said: list[tuple[str, str, str]]) -> None:
    """Whatever policies say and whatever is known: a refusal that rests on anything but an outage stays one."""
    policies = {policy(name).key: policy(name, SIGNED, **ACTIONS[action]) for name, action, _ in said}
    rulings = [ruled(OUTCOMES[outcome], policies[policy(name).key]) for name, _, outcome in said]
    known_good = KnownGood()
    question = asked(rulings[0].image)
    for wanted in policies.values():
        good = ruled(Allowed(SUBJECT, PROOFS), wanted)
        known_good.learn(question, [(good, wanted)], Judged((good,)), NOW)
    answer = settle(question, enforced(question, rulings, outages=Outages(policies, known_good, NOW)))
    stubborn = [
        outcome != "allowed"
        and (outcome, policies[ruling.policy].terms.on_outage.action)
        not in {("outage", "warn"), ("outage", "last-known-good"), ("late", "last-known-good")}
        for ruling, (_, _, outcome) in zip(rulings, said, strict=True)
        if ruling.policy is not None
    ]
    assert answer.allowed is not any(stubborn)


async def test_f30_what_ends_ends_by_the_clock_on_the_wall_wherever_that_jumps(world: World) -> None:
    """Deadlines go by another clock: a jump ends no review."""
    digest = world.signed()
    ends = {"notAfter": (world.now + dt.timedelta(minutes=30)).isoformat()}
    world.put(policy("shop/web", {"signers": [{**SIGNED["signers"][0], "validity": ends}]}))
    image = f"{HOST}/app@{digest}"
    for hours, allowed in ((0, True), (-1, True), (1, False), (0, True), (24 * 365, False)):
        world.now = captures.NOW + dt.timedelta(hours=hours)
        world.restart()
        assert (await world.ask(image)).allowed is allowed, hours


def test_a_ruling_of_no_policy_is_nobodys_to_bear_with() -> None:
    ruling = Ruling((PLACE,), "x", None, Undecided(("down",), outage=True))
    outages = Outages({}, KnownGood(), NOW)
    (counted,) = enforced(asked("x"), [ruling], outages=outages)
    assert counted == ruling


def test_a_policy_without_an_identity_has_no_last_known_good(caplog: pytest.LogCaptureFixture) -> None:
    wanted = dataclasses.replace(policy("shop/web", SIGNED, **LAST), exclude=(1.5,))  # type: ignore[arg-type]
    known_good = KnownGood()
    good = ruled(Allowed(SUBJECT, PROOFS), wanted)
    known_good.learn(asked(good.image), [(good, wanted)], Judged((good,)), NOW)
    assert len(known_good.records) == 0
    assert known_good.find(ruled(OUTCOMES["outage"], wanted), wanted, "shop", NOW) is None
    assert caplog.text.count("policy shop/web has no identity") == 1


def test_what_has_no_digest_is_not_remembered() -> None:
    wanted = policy("shop/web", SIGNED, **LAST)
    known_good = KnownGood(Records(limits.MAX_RECORDS))
    for outcome in (Denied(("no",)), OUTCOMES["outage"]):
        ruling = ruled(outcome, wanted)
        known_good.learn(asked(ruling.image), [(ruling, wanted)], Judged((ruling,)), NOW)
    assert len(known_good.records) == 0


def test_a_cause_that_several_signers_met_is_told_once() -> None:
    ruling = Ruling((PLACE,), f"{HOST}/app:v1", policy("web", SIGNED).key, Undecided(("down", "slow", "down", "down")))
    assert sentence(ruling).endswith("could not verify: down; slow. A retry may help")
