"""A policy in its rollout audits, and from its end on is enforced: no answer outlives that moment."""

import asyncio
import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.fake.registries import ANONYMOUS, FakeRegistries
from tests.fake.registry import FakeRegistry
from tests.fake.signing import key, sign_bundle
from tests.judge.test_decide import IMAGE, QUESTION, WANTS_A, Recalls
from tests.policies import policy
from webhook.judge.decide import Decider
from webhook.judge.evaluate import Judge
from webhook.memory.store import PolicyStore
from webhook.policy.policy import Policy
from webhook.verdict import Answer

NOW = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)
END = NOW + dt.timedelta(seconds=5)


class World:
    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.now = NOW
        self.monotonic = 1000.0
        self.registry = FakeRegistry()
        self.store = PolicyStore()
        self.store.set_ready()
        judge = Judge(FakeRegistries(self.registry), pool=pool, now=lambda: self.now, observer=Recalls())
        self.decider = Decider(judge, self.store, lambda _: ANONYMOUS, clock=lambda: self.monotonic)

    def passes(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)
        self.monotonic += seconds

    async def ask(self) -> Answer:
        """Twice, so that the second one may be given from memory."""
        await self.decider.answer(QUESTION, asyncio.get_running_loop().time() + 5)
        return await self.decider.answer(QUESTION, asyncio.get_running_loop().time() + 5)


@pytest.fixture
def world() -> Iterator[World]:
    with ThreadPoolExecutor(1) as pool:
        yield World(pool)


def staged(**fields: Any) -> Policy:
    made = policy("shop/web", WANTS_A, rollout={"auditFor": "36h"}, **fields)
    return replace(made, terms=replace(made.terms, afterwards=replace(made.terms.afterwards, audit_until=END)))


async def test_a_denial_is_only_told_until_the_audit_ends_and_not_a_moment_longer(world: World) -> None:
    world.registry.push_image("app", "v1")
    world.store.put(staged())
    answer = await world.ask()
    assert answer.allowed
    assert "no signature" in answer.annotations["not-enforced"]
    world.passes(4.9)
    assert (await world.ask()).allowed
    world.passes(0.1)
    answer = await world.ask()
    assert (answer.allowed, answer.code) == (False, 403)


async def test_what_is_signed_is_admitted_before_and_after(world: World) -> None:
    sign_bundle(world.registry, "app", world.registry.push_image("app", "v1"), key("a"))
    world.store.put(staged())
    assert (await world.ask()).allowed
    world.passes(5)
    assert (await world.ask()).allowed


async def test_digests_are_written_into_pods_once_it_is_enforced(world: World) -> None:
    digest = world.registry.push_image("app", "v1")
    sign_bundle(world.registry, "app", digest, key("a"))
    world.store.put(staged(tags="pin"))
    deadline = asyncio.get_running_loop().time() + 5
    assert await world.decider.pins(QUESTION, deadline) == ()
    world.passes(5)
    (pin,) = await world.decider.pins(QUESTION, deadline)
    assert pin.reference == f"{IMAGE.image}@{digest}"


async def test_where_nobody_knows_yet_whether_it_applies_no_answer_outlives_its_audit_either(world: World) -> None:
    world.registry.push_image("app", "v1")
    made = policy("all", WANTS_A, rollout={"auditFor": "36h"}, namespaces={"selector": {"matchLabels": {"a": "b"}}})
    world.store.put(
        replace(made, terms=replace(made.terms, afterwards=replace(made.terms.afterwards, audit_until=END)))
    )
    assert (await world.ask()).allowed
    world.passes(5)
    answer = await world.ask()
    assert (answer.allowed, answer.code) == (False, 503)
