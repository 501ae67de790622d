"""The decider: nothing before the policies are there, each question under the snapshot it began with, and no answer given
again after anything it rests on has changed."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest

from tests import captures
from tests.fake.registries import ANONYMOUS, FakeKeychain, FakeRegistries
from tests.fake.registry import FakeRegistry
from tests.fake.signing import key, sign_bundle
from tests.policies import policy
from webhook import limits
from webhook.image import parse_reference
from webhook.judge.decide import Decider, FindNamespace
from webhook.judge.evaluate import Judge
from webhook.judge.pin import Pin
from webhook.judge.workload import Placed, Question
from webhook.memory.store import PolicyStore
from webhook.policy.policy import Workload
from webhook.trust import Rejected, Resolved, Unavailable
from webhook.verdict import Answer

IMAGE = Placed("spec.containers[0].image", "registry.test/app:v1", "main")
QUESTION = Question(Workload("shop", "default", {"app": "web"}), (), (IMAGE,))
WANTS_A = {"signers": [{"name": "a", "cosign": {"key": key("a").pem}}]}


@dataclass
class Recalls:
    """Counts the signers looked up in memory: one for an answer given again, one for each signer otherwise."""

    hits: int = 0
    misses: int = 0

    def verified(self, signer: str, finding: object) -> None: ...

    def recalled(self, *, hit: bool) -> None:
        self.hits, self.misses = self.hits + hit, self.misses + (not hit)


@dataclass
class World:
    """A decider over one signed image, with everything it rests on in reach."""

    registry: FakeRegistry
    registries: FakeRegistries
    decider: Decider
    store: PolicyStore
    judged: list[Question] = field(default_factory=list)
    keychain: FakeKeychain = ANONYMOUS
    clock: float = 1000.0

    async def ask(self, question: Question = QUESTION) -> Answer:
        return await self.decider.answer(question, asyncio.get_running_loop().time() + 5)

    async def warm(self, question: Question = QUESTION) -> None:
        """Asks until the answer is given again without being judged."""
        await self.ask(question)
        await self.ask(question)
        self.judged.clear()
        await self.ask(question)
        assert not self.judged


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    registry = FakeRegistry()
    registries = FakeRegistries(registry)
    sign_bundle(registry, "app", registry.push_image("app", "v1"), key("a"))
    with ThreadPoolExecutor(1) as pool:
        judge = Judge(registries, pool=pool, now=lambda: captures.NOW, observer=Recalls())
        store = PolicyStore()
        w = World(registry, registries, None, store)  # type: ignore[arg-type]  # made in the next line, from w itself
        w.decider = Decider(judge, store, lambda _: w.keychain, clock=lambda: w.clock)
        judging = judge.judge

        async def counted(question: Question, *args: object) -> object:
            w.judged.append(question)
            return await judging(question, *args)  # type: ignore[arg-type]  # passed on as they came

        monkeypatch.setattr(judge, "judge", counted)
        yield w


async def test_p08_nothing_is_admitted_before_the_policies_have_been_read(world: World) -> None:
    answer = await world.ask()
    assert (answer.allowed, answer.code) == (False, 503)
    world.store.set_ready()
    assert (await world.ask()).allowed


async def test_m04_a_policy_that_comes_meanwhile_counts_from_the_next_question_on(world: World) -> None:
    world.store.put(policy("shop/a", WANTS_A))
    world.store.set_ready()
    answering = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    world.store.put(policy("shop/b", {"signers": [{"name": "b", "cosign": {"key": key("b").pem}}]}))
    assert (await answering).allowed
    assert not (await world.ask()).allowed


class TestKeptAnswers:
    @pytest.fixture(autouse=True)
    def _ready(self, world: World) -> None:
        world.store.put(policy("shop/a", WANTS_A))
        world.store.set_ready()

    async def test_an_answer_from_memory_alone_is_given_again(self, world: World) -> None:
        await world.warm()
        assert (await world.ask()).allowed
        assert not world.judged

    async def test_what_had_to_be_fetched_is_judged_once_more(self, world: World) -> None:
        await world.ask()
        await world.ask()
        assert len(world.judged) == 2

    async def test_m04_a_changed_policy_counts_at_once(self, world: World) -> None:
        await world.warm()
        world.store.put(policy("shop/a", {"signers": [{"name": "b", "cosign": {"key": key("b").pem}}]}))
        assert not (await world.ask()).allowed

    async def test_m04_a_deny_list_counts_at_once(self, world: World) -> None:
        await world.warm()
        digest = world.registry.push_image("app", "v1")
        world.store.put(policy("shop/stop", {"deny": {"digests": [digest]}}))
        assert (await world.ask()).code == 403

    async def test_the_labels_of_a_namespace_count_at_once(self, world: World) -> None:
        world.store.put_namespace("shop", {})
        selects = {"namespaces": {"selector": {"matchLabels": {"tier": "gold"}}}}
        world.store.put(policy("gold", {**selects, "signers": [{"name": "b", "cosign": {"key": key("b").pem}}]}))
        await world.warm()
        assert (await world.ask()).allowed
        world.store.put_namespace("shop", {"tier": "gold"})
        assert not (await world.ask()).allowed

    async def test_m03_no_answer_outlives_the_tag_it_rests_on(self, world: World) -> None:
        await world.warm()
        world.clock += world.registries.seconds
        await world.ask()
        assert world.judged

    async def test_no_answer_outlives_the_finding_it_rests_on(self, world: World) -> None:
        world.registries.seconds = 10 * limits.PROOF_SECONDS
        await world.warm()
        world.clock += limits.PROOF_SECONDS
        await world.ask()
        assert world.judged

    async def test_m02_a_denial_is_kept_no_longer_than_the_search_for_signatures(self, world: World) -> None:
        world.registries.seconds = 10 * limits.PROOF_SECONDS
        unsigned = replace(QUESTION, images=(replace(IMAGE, image="registry.test/app:unsigned"),))
        world.registry.push_image("app", "unsigned", b"another")
        await world.warm(unsigned)
        world.clock += limits.MAX_DENIAL_SECONDS
        await world.ask(unsigned)
        assert world.judged

    async def test_m01_another_login_gets_no_answer_of_this_one(self, world: World) -> None:
        world.keychain = FakeKeychain("right")
        world.registries.locked["app"] = "right"
        await world.warm()
        world.keychain = FakeKeychain("wrong")
        assert not (await world.ask()).allowed

    async def test_m01_a_login_that_is_not_known_yet_is_waited_for(self, world: World) -> None:
        await world.warm()
        world.keychain = FakeKeychain(slow=True)
        await world.ask()
        assert world.judged

    async def test_an_outage_is_asked_again(self, world: World) -> None:
        world.keychain = FakeKeychain(broken=True)
        for _ in range(3):
            assert (await world.ask()).code == 503
        assert len(world.judged) == 3
        world.keychain = ANONYMOUS
        assert (await world.ask()).allowed

    @pytest.mark.parametrize(
        "other",
        [
            replace(QUESTION, who=replace(QUESTION.who, namespace="other")),
            replace(QUESTION, who=replace(QUESTION.who, service_account="robot")),
            replace(QUESTION, who=replace(QUESTION.who, labels={"app": "db"})),
            replace(QUESTION, pull_secrets=("robot",)),
            replace(QUESTION, images=(replace(IMAGE, image="registry.test/app:v2"),)),
            replace(QUESTION, images=(replace(IMAGE, kind="init"),)),
            replace(QUESTION, images=(replace(IMAGE, where="spec.containers[1].image"),)),
            replace(QUESTION, images=(IMAGE, replace(IMAGE, where="spec.containers[1].image"))),
            replace(QUESTION, template=True),
        ],
    )
    async def test_m01_a_question_that_differs_anywhere_is_another_question(
        self, world: World, other: Question
    ) -> None:
        await world.warm()
        await world.ask(other)
        assert world.judged == [other]

    async def test_s06_kept_answers_are_bounded(self, world: World) -> None:
        await world.warm()
        for i in range(limits.MAX_ANSWERS + 10):
            await world.ask(replace(QUESTION, who=replace(QUESTION.who, labels={"app": str(i)})))
        assert len(world.decider._answers) == limits.MAX_ANSWERS


class TestNamespaces:
    """A namespace made a moment ago may not have been told yet (attack W-05)."""

    @pytest.fixture
    def gold(self, world: World) -> World:
        selects = {"namespaces": {"selector": {"matchLabels": {"tier": "gold"}}}}
        world.store = PolicyStore()
        world.store.put(policy("gold", {**selects, **WANTS_A}))
        world.store.set_ready()
        return world

    def decider(self, world: World, find: FindNamespace | None) -> Decider:
        return Decider(world.decider._judge, world.store, lambda _: ANONYMOUS, find)

    async def test_w05_it_is_looked_for_once(self, gold: World) -> None:
        looked: list[str] = []

        async def find(name: str) -> None:
            looked.append(name)
            gold.store.put_namespace(name, {"tier": "gold"})

        gold.decider = self.decider(gold, find)
        for _ in range(3):
            assert (await gold.ask()).allowed
        assert looked == ["shop"]

    @pytest.mark.parametrize("failure", [Unavailable("down"), ValueError("unforeseen"), None])
    async def test_w05_one_that_cannot_be_found_is_undecided(self, gold: World, failure: Exception | None) -> None:
        async def find(_name: str) -> None:
            if failure is not None:
                raise failure

        gold.decider = self.decider(gold, find)
        assert (await gold.ask()).code == 503

    async def test_w05_one_that_is_not_found_in_time_is_undecided(
        self, gold: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "NAMESPACE_SECONDS", 0.01)

        async def find(_name: str) -> None:
            await asyncio.sleep(60)

        gold.decider = self.decider(gold, find)
        assert (await gold.ask()).code == 503


async def test_r01_digests_are_pinned_once_the_policies_are_there(world: World) -> None:
    deadline = asyncio.get_running_loop().time() + 5
    world.store.put(policy("shop/a", {**WANTS_A, "tags": "pin"}))
    assert await world.decider.pins(QUESTION, deadline) == ()
    world.store.set_ready()
    digest = world.registry.push_image("app", "v1")
    assert await world.decider.pins(QUESTION, deadline) == (
        Pin("/spec/containers/0/image", f"registry.test/app:v1@{digest}"),
    )
    assert await world.decider.pins(replace(QUESTION, template=True), deadline) == ()
    # The same decider answers /validate: once for the tag, once for what was written.
    final = replace(QUESTION, final=True)
    assert not (await world.ask(final)).allowed
    assert (await world.ask(replace(final, images=(replace(IMAGE, image=f"registry.test/app:v1@{digest}"),)))).allowed


async def test_what_a_name_means_is_told_to_whoever_may_know(world: World) -> None:
    world.registries.locked["app"] = "secret"
    image = parse_reference(IMAGE.image)
    refused = await world.decider.meaning(QUESTION, image)
    assert isinstance(refused, Rejected)
    world.keychain = FakeKeychain("secret")
    meant = await world.decider.meaning(QUESTION, image)
    assert isinstance(meant, Resolved)
    assert meant.digest == world.registry.tags["app", "v1"]
