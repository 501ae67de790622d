"""The decider: nothing before the policies are there, and each question under the snapshot it began with."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import captures
from tests.fake.registries import ANONYMOUS, FakeRegistries
from tests.fake.registry import FakeRegistry
from tests.fake.signing import key, sign_bundle
from tests.policies import policy
from webhook.judge.decide import Decider
from webhook.judge.evaluate import Judge
from webhook.judge.workload import Placed, Question
from webhook.memory.store import PolicyStore
from webhook.policy.policy import Workload

QUESTION = Question(
    Workload("shop", "default", {}), (), (Placed("spec.containers[0].image", "registry.test/app:v1", "main"),)
)


class Silent:
    def verified(self, signer: str, finding: object) -> None: ...

    def recalled(self, *, hit: bool) -> None: ...


@pytest.fixture
def decider() -> Iterator[Decider]:
    registry = FakeRegistry()
    digest = registry.push_image("app", "v1")
    sign_bundle(registry, "app", digest, key("a"))
    with ThreadPoolExecutor(1) as pool:
        judge = Judge(FakeRegistries(registry), pool=pool, now=lambda: captures.NOW, observer=Silent())
        yield Decider(judge, PolicyStore(), lambda _: ANONYMOUS)


async def test_m03_nothing_is_admitted_before_the_policies_have_been_read(decider: Decider) -> None:
    deadline = asyncio.get_running_loop().time() + 5
    answer = await decider.answer(QUESTION, deadline)
    assert (answer.allowed, answer.code) == (False, 503)
    decider.store.set_ready()
    assert (await decider.answer(QUESTION, deadline)).allowed


async def test_m02_a_policy_that_comes_meanwhile_counts_from_the_next_question_on(decider: Decider) -> None:
    decider.store.put(policy("shop/a", {"signers": [{"name": "a", "cosign": {"key": key("a").pem}}]}))
    decider.store.set_ready()
    deadline = asyncio.get_running_loop().time() + 5
    answering = asyncio.create_task(decider.answer(QUESTION, deadline))
    await asyncio.sleep(0)
    decider.store.put(policy("shop/b", {"signers": [{"name": "b", "cosign": {"key": key("b").pem}}]}))
    assert (await answering).allowed
    assert not (await decider.answer(QUESTION, deadline)).allowed
