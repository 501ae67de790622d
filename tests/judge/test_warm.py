"""What is found done when it is asked for: work behind the answers, Pods after their Deployment, questions of late (attack D-07)."""

import asyncio
import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fake.registry import FakeRegistry
from tests.fake.signing import key, sign_bundle
from tests.judge.test_judge import HOST
from tests.judge.test_outages import LAST, SIGNED, World, asked, down
from tests.policies import policy
from webhook import limits
from webhook.image import ImageReference
from webhook.judge import warm
from webhook.judge.warm import Warmer
from webhook.judge.workload import Question
from webhook.memory.store import PolicyStore
from webhook.trust import Resolved
from webhook.verdict import Answer, Ruling


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.pool.shutdown()


async def hurried(world: World, image: str, namespace: str = "shop") -> Answer:
    return await world.decider.answer(asked(image, namespace), asyncio.get_running_loop().time() + 0.05)


async def done(world: World) -> None:
    async with asyncio.timeout(5):
        while world.judge._behind:
            await asyncio.sleep(0.01)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Nothing is resolved before it is set."""
    gate, original = asyncio.Event(), FakeRegistry.resolve

    async def slow(self: FakeRegistry, image: ImageReference) -> Resolved:
        await gate.wait()
        return await original(self, image)

    monkeypatch.setattr(FakeRegistry, "resolve", slow)
    return gate


async def test_d07_what_was_not_ready_at_the_deadline_is_read_to_its_end(world: World, gate: asyncio.Event) -> None:
    world.signed()
    world.put(policy("shop/web", SIGNED, tags="allow"))
    assert (await hurried(world, f"{HOST}/app:v1")).code == 503
    gate.set()
    await done(world)
    # Its signatures, too, which nobody could look for before the tag was known.
    for what in ("resolve", "manifest", "blob", "referrers"):
        world.registry.fail(what, down)
    assert (await hurried(world, f"{HOST}/app:v1")).allowed


async def test_d07_what_goes_on_is_bounded_for_a_namespace_and_in_all(
    world: World, gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_BEHIND", 3)
    monkeypatch.setattr(limits, "MAX_BEHIND_PER_NAMESPACE", 2)
    world.put(policy("web", SIGNED, tags="allow"))
    for number, namespace in enumerate(["shop", "shop", "shop", "other", "other"]):
        await hurried(world, f"{HOST}/app:v{number}", namespace)
    assert sorted(world.judge._behind.values()) == ["other", "shop", "shop"]
    gate.set()
    await done(world)


async def test_d07_what_never_ends_is_let_go(
    world: World, gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FLIGHT_SECONDS", 0.1)
    world.put(policy("shop/web", SIGNED, tags="allow"))
    assert (await hurried(world, f"{HOST}/app:v1")).code == 503
    await done(world)
    assert not gate.is_set()


async def test_what_goes_on_behind_the_answers_ends_before_what_it_reads_with(
    world: World, gate: asyncio.Event, caplog: pytest.LogCaptureFixture
) -> None:
    world.put(policy("shop/web", SIGNED, tags="allow"))
    before = asyncio.all_tasks()
    assert (await hurried(world, f"{HOST}/app:v1")).code == 503
    assert asyncio.all_tasks() - before
    await world.decider.close()
    assert not gate.is_set()
    assert not asyncio.all_tasks() - before
    assert not caplog.records


async def test_so_does_a_check_of_evidence_that_several_wait_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.signed()
    world.put(policy("shop/web", SIGNED, tags="allow"))
    begun = asyncio.Event()

    async def never(self: FakeRegistry, *_: object, **__: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(FakeRegistry, "referrers", never)
    before = asyncio.all_tasks()
    assert (await hurried(world, f"{HOST}/app:v1")).code == 503
    assert begun.is_set()
    await world.decider.close()
    assert not asyncio.all_tasks() - before


async def test_a_deployment_warms_what_its_pods_take(world: World) -> None:
    digest = world.signed()
    world.put(policy("shop/web", SIGNED, **LAST))
    assert (await world.ask(f"{HOST}/app@{digest}", final=False, template=True)).allowed
    world.registry.asked.clear()
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed
    assert not world.registry.asked
    # And it is known after a restart that it was verified.
    world.outage()
    assert (await world.ask(f"{HOST}/app@{digest}")).allowed


# ── questions of late ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_m04_after_a_change_of_policy_the_pods_to_come_find_it_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "_LOOK_SECONDS", 0.01)
    digest = world.signed()
    sign_bundle(world.registry, "app", digest, key("b"))
    world.put(policy("shop/web", SIGNED, **LAST))
    image = f"{HOST}/app@{digest}"
    assert (await world.ask(image)).allowed
    following = asyncio.create_task(world.decider.follow_changes())
    await asyncio.sleep(0.05)
    before = len(world.records)
    world.put(policy("shop/web", {"signers": [{"name": "b", "cosign": {"key": key("b").pem}}]}, **LAST))
    async with asyncio.timeout(5):
        while len(world.records) == before:
            await asyncio.sleep(0.01)
    following.cancel()
    # The records of before are of another policy; these are of this one.
    world.outage()
    assert (await world.ask(image)).allowed
    world.now += dt.timedelta(hours=25)
    assert not (await world.ask(image)).allowed


def question(name: str, **fields: Any) -> Question:
    return asked(f"{HOST}/{name}:v1", **fields)


async def test_questions_of_late_are_bounded_and_the_last_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_RECENT", 3)
    warmer, heard = Warmer(PolicyStore()), list[Question]()

    async def ask(one: Question, _deadline: float) -> list[Ruling]:
        heard.append(one)
        raise ValueError("a bug")

    for name in ("a", "b", "c", "a", "d"):
        warmer.note(name, question(name))
    warmer.note("e", question("e", dry_run=True))
    assert await warmer.ask_again(ask) == 3
    assert heard == [question(name) for name in ("d", "a", "c")]


async def test_a_change_meanwhile_ends_the_round() -> None:
    store = PolicyStore()
    warmer = Warmer(store)

    async def ask(_one: Question, _deadline: float) -> list[Ruling]:
        store.put(policy("shop/web"))
        return []

    for name in ("a", "b", "c"):
        warmer.note(name, question(name))
    assert await warmer.ask_again(ask) == 1
