"""Exceptions in force: what they lift, what they never lift, and that every use is counted (attacks M-07, K-07, X-11, R-04)."""

import asyncio
import datetime as dt
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import captures
from tests.fake.registries import ANONYMOUS, FakeRegistries
from tests.fake.registry import FakeRegistry
from tests.fake.signing import key
from tests.judge import test_judge
from tests.judge.test_judge import HOST, Counter, World
from tests.policies import exception, policy
from webhook.image import Digest, digest_of
from webhook.judge.decide import Decider
from webhook.judge.enforce import Exceptions, enforced, settle, verdict_of
from webhook.judge.evaluate import Judge
from webhook.judge.explain import as_json, notice
from webhook.judge.pin import Pin, pins
from webhook.judge.workload import Placed, Question
from webhook.memory.store import PolicyStore
from webhook.memory.uses import UsesHere
from webhook.policy.exception import TrustException
from webhook.policy.parse import broken_policy
from webhook.policy.policy import Policy, Workload
from webhook.trust import Rejected, Unavailable
from webhook.verdict import Answer, Denied, ExceptionKey, PolicyKey, Ruling, Undecided, Use

WHO = Workload("shop", "default", {})
PLACE = "spec.containers[0].image"
HOTFIX = ExceptionKey("shop", "hotfix")


def cosign(name: str = "shop/web", *names: str, tags: Any = "allow", **fields: Any) -> Policy:
    """A policy with a cosign signer for each of the keys named, that takes tags as they are."""
    return test_judge.cosign(name, *names, tags=tags, **fields)


def asked(*images: str, final: bool = False, stood: Sequence[int] = (), **fields: Any) -> Question:
    placed = tuple(
        Placed(f"spec.containers[{i}].image", image, "main", f"c{i}", stood=i in stood)
        for i, image in enumerate(images)
    )
    return Question(WHO, (), placed, final=final, **fields)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.pool.shutdown()


async def rulings(
    world: World,
    policies: list[Policy],
    exceptions: Sequence[TrustException],
    question: Question,
    now: dt.datetime = captures.NOW,
    **known: Any,
) -> list[Ruling]:
    store = PolicyStore()
    store.replace_all(policies)
    store.put_namespace("shop", {})
    judged = await world.judge.judge(question, store.snapshot, ANONYMOUS, asyncio.get_running_loop().time() + 5)
    found = enforced(question, judged.judgements, Exceptions(tuple(exceptions), now, **known))
    return [ruling for ruling in found if isinstance(ruling, Ruling)]


async def verdict(world: World, policies: list[Policy], exceptions: Sequence[TrustException], *images: str) -> str:
    return verdict_of(await rulings(world, policies, exceptions, asked(*images)))


# ── what is lifted, and what is not ──────────────────────────────────────────────────────────────────────────────────


async def test_m07_what_a_policy_requires_is_lifted_and_nothing_beside_it(world: World) -> None:
    digest = world.signed("app")
    image = f"{HOST}/app:v1"
    one = exception(images=[digest])
    assert await verdict(world, [cosign()], [], image) == "denied"
    assert await verdict(world, [cosign()], [one], image) == "allowed"
    # Another image, another policy, another workload, another namespace, another time: each alone.
    other = world.signed("other")
    assert await verdict(world, [cosign()], [exception(images=[other])], image) == "denied"
    assert await verdict(world, [cosign()], [exception(images=[digest], policies=["also"])], image) == "denied"
    volumes = exception(images=[digest], workloads={"containers": ["volume"]})
    assert await verdict(world, [cosign()], [volumes], image) == "denied"
    assert await verdict(world, [cosign()], [exception("elsewhere/hotfix", images=[digest])], image) == "denied"
    assert verdict_of(await rulings(world, [cosign()], [one], asked(image), one.expires_at)) == "denied"
    late = one.expires_at - dt.timedelta(seconds=1)
    assert verdict_of(await rulings(world, [cosign()], [one], asked(image), late)) == "allowed"


async def test_m07_every_policy_that_refuses_needs_its_own_lifting(world: World) -> None:
    digest = world.signed("app")
    policies = [cosign(), cosign("baseline", "b")]
    web, both = (
        exception(images=[digest]),
        exception("shop/both", images=[digest], policies=["web", "cluster/baseline"]),
    )
    image = f"{HOST}/app:v1"
    assert await verdict(world, policies, [web], image) == "denied"
    assert await verdict(world, policies, [both], image) == "allowed"
    # Two that lift one each admit together what both policies refuse: that is their union.
    baseline = exception("shop/baseline", images=[digest], policies=["cluster/baseline"])
    assert await verdict(world, policies, [web, baseline], image) == "allowed"
    # And no more: each names another image, so nothing is lifted from both policies for either.
    other = exception("shop/baseline", images=[world.signed("other")], policies=["cluster/baseline"])
    assert await verdict(world, policies, [web, other], image) == "denied"
    assert await verdict(world, policies, [web, other], f"{HOST}/other:v1") == "denied"


async def test_an_outage_is_lifted_too(world: World) -> None:
    digest = world.signed("app", key("a"))
    world.registry.fail("resolve", lambda: Unavailable("down"))
    world.registry.fail("referrers", lambda: Unavailable("down"))
    image = f"{HOST}/app@{digest}"
    assert await verdict(world, [cosign()], [], image) == "undecided"
    assert await verdict(world, [cosign()], [exception(images=[digest])], image) == "allowed"
    # Of a tag nobody knows what it means now: only a glob says that anything will do.
    by_tag = f"{HOST}/app:v1"
    assert await verdict(world, [cosign()], [exception(images=[digest])], by_tag) == "undecided"
    assert await verdict(world, [cosign()], [exception(images=[f"{HOST}/app:*"])], by_tag) == "allowed"


EVERYTHING = exception(policies=["web", "deny", "cluster/deny"], images=["**"])


@pytest.mark.parametrize("names", ["tag", "digest"])
@pytest.mark.parametrize("of", ["shop/web", "shop/deny", "deny"])
async def test_m07_a_denied_digest_is_never_lifted(world: World, names: str, of: str) -> None:
    digest = world.signed("app")
    image = f"{HOST}/app:v1" if names == "tag" else f"{HOST}/app@{digest}"
    deny = {"deny": {"digests": [digest]}}
    twin = {"deny": {"digests": [digest_of(b"another")]}}

    def policies(fields: dict[str, Any]) -> list[Policy]:
        return [cosign(**fields)] if of == "shop/web" else [cosign(), policy(of, fields)]

    assert await verdict(world, policies(twin), [EVERYTHING], image) == "allowed"
    found = await rulings(world, policies(deny), [EVERYTHING], asked(image))
    assert verdict_of(found) == "denied"
    assert any("on the policy's deny list" in settle(asked(image), found).message for _ in found)


async def test_m07_what_could_not_be_compared_with_a_deny_list_is_not_lifted(world: World) -> None:
    world.signed("app", key("a"))
    deny = policy("shop/deny", {"deny": {"digests": [digest_of(b"another")]}})
    image = f"{HOST}/app:v1"
    world.registry.fail("resolve", lambda: Unavailable("down"))
    assert await verdict(world, [cosign()], [EVERYTHING], image) == "allowed"
    for policies in ([cosign(), deny], [cosign(deny={"digests": [digest_of(b"another")]})]):
        assert await verdict(world, policies, [EVERYTHING], image) == "undecided"
    # An index that nobody can read may hold a child that is denied.
    world.registry.failures.clear()
    world.registry.fail("resolve", lambda: Rejected("two readers see two things"))
    assert await verdict(world, [cosign()], [EVERYTHING], image) == "allowed"
    assert await verdict(world, [cosign(), deny], [EVERYTHING], image) == "denied"


async def test_m07_a_denied_key_is_not_lifted(world: World) -> None:
    world.signed("app", key("a"))
    denies = policy("shop/deny", {"deny": {"keys": [key("a").fingerprint]}})
    image = f"{HOST}/app:v1"
    assert await verdict(world, [cosign(), denies], [EVERYTHING], image) == "denied"
    # Signed by nobody, or by somebody who is not asked: no denied key makes it stand.
    other = policy("shop/deny", {"deny": {"keys": [key("b").fingerprint]}})
    world.signed("unsigned")
    assert await verdict(world, [cosign(), other], [EVERYTHING], f"{HOST}/unsigned:v1") == "allowed"
    # Nor is it lifted where nobody could see who has signed.
    world.signed("unread", key("a"))
    world.registry.fail("referrers", lambda: Unavailable("down"))
    assert await verdict(world, [cosign()], [EVERYTHING], f"{HOST}/unread:v1") == "allowed"
    assert await verdict(world, [cosign(), denies], [EVERYTHING], f"{HOST}/unread:v1") == "undecided"


async def test_m07_an_unknown_namespace_is_lifted_only_where_nothing_is_denied(world: World) -> None:
    world.signed("app")
    selects = {"namespaces": {"selector": {"matchLabels": {"a": "b"}}}}
    for fields, lifted in (({}, True), ({"deny": {"digests": [digest_of(b"x")]}}, False)):
        chosen = cosign("baseline", **selects, **fields)
        store = PolicyStore()
        store.replace_all([chosen])
        question = asked(f"{HOST}/app:v1")
        judged = await world.judge.judge(question, store.snapshot, ANONYMOUS, asyncio.get_running_loop().time() + 5)
        one = exception(policies=["cluster/baseline"])
        found = enforced(question, judged.judgements, Exceptions((one,), captures.NOW))
        assert (verdict_of(found) == "allowed") is lifted


async def test_r04_a_tag_is_not_lifted_where_only_digests_are_admitted(world: World) -> None:
    digest = world.signed("app")
    refuses = [cosign(tags="refuse")]
    (refused,) = await rulings(world, refuses, [EVERYTHING], asked(f"{HOST}/app:v1"))
    assert isinstance(refused.outcome, Denied)
    assert refused.notes == ("no exception lifts this",)
    assert await verdict(world, refuses, [EVERYTHING], f"{HOST}/app@{digest}") == "allowed"


async def test_a_broken_policy_is_not_lifted(world: World) -> None:
    world.signed("app")
    broken = broken_policy(PolicyKey("shop", "web"), {"deny": {"digests": 7}}, ("spec.deny.digests: wrong",))
    assert await verdict(world, [broken], [EVERYTHING], f"{HOST}/app:v1") == "denied"


async def test_what_is_no_reference_is_not_lifted(world: World) -> None:
    assert await verdict(world, [cosign()], [EVERYTHING], "UPPER") == "denied"


@pytest.mark.parametrize("mode", ["warn", "audit"])
async def test_where_nothing_is_refused_nothing_is_excused(world: World, mode: str) -> None:
    digest = world.signed("app")
    (ruling,) = await rulings(
        world, [cosign(mode=mode)], [exception(images=[digest])], asked(f"{HOST}/app:v1", final=True)
    )
    assert ruling.excuse is None
    assert settle(asked(f"{HOST}/app:v1", final=True), [ruling]).excused == {}


async def test_what_is_signed_needs_no_exception(world: World) -> None:
    digest = world.signed("app", key("a"))
    (ruling,) = await rulings(world, [cosign()], [exception(images=[digest])], asked(f"{HOST}/app:v1"))
    assert ruling.excuse is None


@settings(max_examples=60, deadline=None)
@given(
    denied=st.sets(st.integers(0, 3)),
    where=st.sampled_from(["web", "deny"]),
    lifted=st.lists(st.one_of(st.integers(0, 3), st.just("**")), min_size=1, max_size=4),
    names=st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=4),
    tags=st.sampled_from(["allow", "refuse", "pin"]),
    down=st.booleans(),
)
def test_m07_no_exception_ever_admits_a_denied_digest(
    denied: set[int], where: str, lifted: list[int | str], names: list[tuple[int, bool]], tags: str, down: bool
) -> None:
    world = World()
    digests: list[Digest] = [world.signed(f"app{i}") for i in range(4)]
    if down:
        world.registry.fail("resolve", lambda: Unavailable("down"))
    deny = {"digests": [digests[i] for i in denied]} if denied else None
    spec: dict[str, Any] = {"tags": tags} | ({"deny": deny} if deny and where == "web" else {})
    policies = [cosign(**spec), *([policy("shop/deny", {"deny": deny})] if deny and where == "deny" else [])]
    exceptions = [
        exception(f"shop/e{i}", policies=["web", "deny"], images=[one if isinstance(one, str) else digests[one]])
        for i, one in enumerate(lifted)
    ]
    images = [f"{HOST}/app{i}@{digests[i]}" if by_digest else f"{HOST}/app{i}:v1" for i, by_digest in names]
    question = asked(*images)
    try:
        found = asyncio.run(rulings(world, policies, exceptions, question))
    finally:
        world.pool.shutdown()
    if any(i in denied for i, _ in names):
        assert verdict_of(found) != "allowed"
    # And what is admitted is what some exception names.
    elif verdict_of(found) == "allowed":
        assert all("**" in lifted or i in lifted for i, _ in names)


# ── which one, and what is said ──────────────────────────────────────────────────────────────────────────────────────


async def test_one_without_a_bound_is_taken_before_one_with(world: World) -> None:
    digest = world.signed("app")
    counted, free = exception("shop/a", images=[digest], maxUses=1), exception("shop/b", images=[digest])
    question = asked(f"{HOST}/app:v1", final=True)
    (ruling,) = await rulings(world, [cosign()], [counted, free], question)
    assert ruling.excuse is not None
    assert ruling.excuse.key.name == "b"
    (ruling,) = await rulings(
        world, [cosign()], [counted, exception("shop/b", images=[digest], approvedBy=None)], question
    )
    assert ruling.excuse is not None
    assert ruling.excuse.key.name == "a"


async def test_an_exception_that_does_not_count_is_named_with_why(world: World) -> None:
    digest = world.signed("app")
    asks, late, used = (
        exception("shop/asks", images=[digest], approvedBy=None),
        exception("shop/late", images=[digest], expiresAt="2026-11-01T00:00:00+01:00"),
        exception("shop/used", images=[digest], maxUses=2),
    )
    question = asked(f"{HOST}/app:v1")
    found = await rulings(world, [cosign()], [asks, late, used], question, used_up={used.key})
    message = settle(question, found).message
    assert "Note: exception shop/asks is not approved: somebody other than alice has to set approvedBy" in message
    assert "Note: exception shop/late expired at 2026-10-31T23:00:00Z" in message
    assert "Note: exception shop/used is used up" in message
    # The twin that counts.
    assert verdict_of(await rulings(world, [cosign()], [asks, late, used], question)) == "allowed"


async def test_a_use_that_cannot_be_counted_is_no_verdict(world: World) -> None:
    digest = world.signed("app")
    one = exception(images=[digest], maxUses=1)
    question = asked(f"{HOST}/app:v1", final=True)
    found = await rulings(world, [cosign()], [one], question, uncounted={one.key: "the API server is down"})
    answer = settle(question, found)
    assert (answer.allowed, answer.code, answer.excused) == (False, 503, {})
    assert (
        "could not verify: a use of exception shop/hotfix cannot be counted: the API server is down" in answer.message
    )
    free = exception("shop/free", images=[digest])
    found = await rulings(world, [cosign()], [one, free], question, uncounted={one.key: "down"})
    assert settle(question, found).allowed


async def test_who_is_let_in_is_told_so_everywhere(world: World) -> None:
    digest = world.signed("app")
    question = asked(f"{HOST}/app:v1", final=True)
    found = await rulings(world, [cosign()], [exception(images=[digest])], question)
    answer = settle(question, found)
    said = (
        f"{PLACE} {HOST}/app:v1 ({digest[:19]}…): policy shop/web: let in by exception shop/hotfix until 2026-12-31T12:00:00Z,"
        ' approved by bob: incident 4711. Without it: no signature by "a"'
    )
    assert answer.allowed
    assert answer.warnings[0].startswith(said)
    assert answer.warnings[1].endswith("excused by tag, which can be moved before the node pulls it; use a digest")
    assert answer.annotations["verdict"] == "allowed"
    assert answer.annotations["exception"] == "shop/hotfix"
    assert answer.annotations["excused"].startswith(said)
    assert "signer" not in answer.annotations
    (entry,) = as_json(found, {f"{HOST}/app:v1": "allowed"})
    told = json.loads(json.dumps(entry["policies"]))[0]
    assert told["satisfied"] is False
    assert told["exception"] == {
        "name": "shop/hotfix", "reason": "incident 4711", "requestedBy": "alice", "approvedBy": "bob",
        "expiresAt": "2026-12-31T12:00:00Z",
    }  # fmt: skip
    ((excuse, used),) = answer.excused.items()
    sent = notice(Use(excuse, used, "shop", "web-1", "u", captures.NOW))
    assert json.dumps(sent)
    assert (sent["event"], sent["pod"], sent["images"], sent["digests"], sent["policies"]) == (
        "ExceptionUsed", "web-1", [f"{HOST}/app:v1"], [digest], ["shop/web"],
    )  # fmt: skip


# ── tags: pin ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_r04_what_is_excused_is_pinned_and_must_carry_its_digest(world: World) -> None:
    digest = world.signed("app")
    policies, one = [cosign(tags="pin")], exception(images=[digest])
    question = asked(f"{HOST}/app:v1")
    found = await rulings(world, policies, [one], question)
    assert pins(question, found) == (Pin("/spec/containers/0/image", f"{HOST}/app:v1@{digest}"),)
    assert not any("by tag" in text for text in settle(question, found).warnings)
    final = replace(question, final=True)
    (unpinned,) = await rulings(world, policies, [one], final)
    assert isinstance(unpinned.outcome, Denied)
    assert unpinned.outcome.reasons == (
        f"exception shop/hotfix lets it in, and its digest was not written into the Pod ({HOST}/app:v1@{digest})",
    )
    assert unpinned.excuse is None
    pinned = asked(f"{HOST}/app:v1@{digest}", final=True)
    assert settle(pinned, await rulings(world, policies, [one], pinned)).allowed


async def test_r04_what_nobody_could_resolve_cannot_be_pinned_and_runs_only_by_an_exception_for_the_tag(
    world: World,
) -> None:
    digest = world.signed("app")
    world.registry.fail("resolve", lambda: Unavailable("down"))
    question = asked(f"{HOST}/app:v1", final=True)
    for one, code in ((EVERYTHING, 200), (exception(images=[digest]), 503)):
        found = await rulings(world, [cosign(tags="pin")], [one], question)
        assert pins(question, found) == ()
        answer = settle(question, found)
        assert answer.code == code
        # The race is open, and that is said.
        assert any("by tag" in text for text in answer.warnings) is answer.allowed


# ── counting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Ledger:
    """Counts, and can be asked to fail, or to know less than there is."""

    left: dict[str, int] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    spent: list[str] = field(default_factory=list)
    knows: bool = True

    def is_used_up(self, one: TrustException) -> bool:
        return self.knows and self.left.get(one.key.name, 1) <= 0

    async def spend(self, one: TrustException, deadline: float) -> bool:
        name = one.key.name
        if name in self.failing:
            raise Unavailable("the API server is down")
        if self.left.get(name, 1) <= 0:
            return False
        self.left[name] = self.left.get(name, 1) - 1
        self.spent.append(name)
        return True


@dataclass
class Desk:
    """A decider with exceptions, over one unsigned image."""

    store: PolicyStore
    decider: Decider
    ledger: Ledger
    digest: Digest
    now: dt.datetime = captures.NOW

    async def ask(self, question: Question) -> Answer:
        return await self.decider.answer(question, asyncio.get_running_loop().time() + 5)

    def bring(self, *exceptions: TrustException) -> None:
        self.store.replace_exceptions(exceptions)


@pytest.fixture
def desk() -> Iterator[Desk]:
    registry = FakeRegistry()
    digest = registry.push_image("app", "v1")
    with ThreadPoolExecutor(1) as pool:
        store, ledger = PolicyStore(), Ledger()
        made = Desk(store, None, ledger, digest)  # type: ignore[arg-type]  # made in the next line, from itself
        judge = Judge(FakeRegistries(registry), pool=pool, now=lambda: made.now, observer=Counter())
        made.decider = Decider(judge, store, lambda _: ANONYMOUS, uses=ledger)
        store.put(cosign())
        store.put_namespace("shop", {})
        store.set_ready()
        yield made


POD = asked(f"{HOST}/app:v1", final=True)


async def test_a_pod_spends_one_use_of_each_exception_that_it_needs(desk: Desk) -> None:
    desk.bring(exception(images=[desk.digest], maxUses=2))
    twice = asked(f"{HOST}/app:v1", f"{HOST}/app:v1", final=True)
    answer = await desk.ask(twice)
    assert answer.allowed
    assert [str(excuse.key) for excuse in answer.excused] == ["shop/hotfix"]
    assert desk.ledger.spent == ["hotfix"]


@pytest.mark.parametrize(
    "question",
    [replace(POD, final=False, template=True), replace(POD, final=False), replace(POD, dry_run=True)],
    ids=["template", "mutate", "dry run"],
)
async def test_k07_x11_what_starts_nothing_spends_nothing(desk: Desk, question: Question) -> None:
    desk.bring(exception(images=[desk.digest], maxUses=1))
    answer = await desk.ask(question)
    assert (answer.allowed, answer.excused, desk.ledger.spent) == (True, {}, [])
    assert (await desk.ask(POD)).allowed
    assert desk.ledger.spent == ["hotfix"]
    desk.ledger.left["hotfix"] = 0
    # The same verdict as the Pod itself would get.
    assert (await desk.ask(question)).code == (await desk.ask(POD)).code == 403


async def test_the_command_line_and_the_pins_spend_nothing(desk: Desk) -> None:
    desk.bring(exception(images=[desk.digest], maxUses=1))
    deadline = asyncio.get_running_loop().time() + 5
    assert verdict_of(await desk.decider.judgements(POD, deadline)) == "allowed"
    assert await desk.decider.pins(replace(POD, final=False), deadline) == ()
    assert desk.ledger.spent == []
    desk.ledger.left["hotfix"] = 0
    assert verdict_of(await desk.decider.judgements(POD, deadline)) == "denied"


async def test_what_is_refused_all_the_same_spends_nothing(desk: Desk) -> None:
    desk.bring(exception(images=[desk.digest], maxUses=1))
    answer = await desk.ask(asked(f"{HOST}/app:v1", f"{HOST}/gone:v1", final=True))
    assert (answer.code, desk.ledger.spent) == (403, [])


async def test_what_stood_there_was_counted_before(desk: Desk) -> None:
    desk.bring(exception(images=[desk.digest], maxUses=1))
    desk.ledger.left["hotfix"] = 0
    update = asked(f"{HOST}/app:v1", final=True, stood=[0])
    answer = await desk.ask(update)
    assert (answer.allowed, answer.excused, desk.ledger.spent) == (True, {}, [])
    assert (await desk.ask(POD)).code == 403


async def test_a_use_that_somebody_else_took_meanwhile_is_learnt(desk: Desk) -> None:
    desk.ledger.knows = False
    desk.ledger.left["hotfix"] = 0
    desk.bring(exception(images=[desk.digest], maxUses=1))
    answer = await desk.ask(POD)
    assert answer.code == 403
    assert "Note: exception shop/hotfix is used up" in answer.message
    # Another one that lifts the same is asked next.
    desk.bring(exception(images=[desk.digest], maxUses=1), exception("shop/other", images=[desk.digest], maxUses=1))
    assert (await desk.ask(POD)).allowed
    assert desk.ledger.spent == ["other"]


async def test_a_use_that_cannot_be_written_is_not_taken(desk: Desk) -> None:
    desk.ledger.failing = {"hotfix"}
    desk.bring(exception(images=[desk.digest], maxUses=1))
    answer = await desk.ask(POD)
    assert (answer.allowed, answer.code) == (False, 503)
    assert "cannot be counted: the API server is down" in answer.message
    desk.ledger.failing.clear()
    assert (await desk.ask(POD)).allowed


async def test_one_that_ends_while_its_use_is_counted_lifts_nothing(desk: Desk) -> None:
    one = exception(images=[desk.digest], maxUses=1)
    desk.bring(one)
    spend = desk.ledger.spend

    async def slow(one: TrustException, deadline: float) -> bool:
        desk.now = one.expires_at
        return await spend(one, deadline)

    desk.ledger.spend = slow  # type: ignore[method-assign]  # an API server that takes its time
    assert (await desk.ask(POD)).code == 403


async def test_an_answer_that_rests_on_an_exception_is_not_kept(desk: Desk) -> None:
    one = exception(images=[desk.digest])
    desk.bring(one)
    for _ in range(3):
        assert (await desk.ask(POD)).allowed
    desk.now = one.expires_at
    assert (await desk.ask(POD)).code == 403
    desk.now = captures.NOW
    assert (await desk.ask(POD)).allowed
    desk.bring()
    assert (await desk.ask(POD)).code == 403


async def test_exceptions_of_others_leave_answers_kept(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.store.put_exception(exception("elsewhere/hotfix"))
    for _ in range(2):
        await desk.ask(POD)
    judged: list[Question] = []
    monkeypatch.setattr(desk.decider._judge, "judge", judged.append)
    assert (await desk.ask(POD)).code == 403
    assert not judged


# ── counts in this process, and the store ────────────────────────────────────────────────────────────────────────────


async def test_counts_in_this_process_end_at_the_bound() -> None:
    uses, one = UsesHere(), exception(maxUses=2)
    assert [await uses.spend(one, 0) for _ in range(3)] == [True, True, False]
    assert uses.is_used_up(one)
    # More may be let in after all; and nobody's count takes back what was used.
    assert not uses.is_used_up(exception(maxUses=3))
    uses.learn({one.key: 1})
    assert uses.is_used_up(one)
    uses.learn({one.key: 3})
    assert uses.is_used_up(exception(maxUses=3))
    free = exception("shop/free")
    assert not uses.is_used_up(free)
    assert await uses.spend(free, 0)


def test_the_store_holds_exceptions_by_namespace_and_changes_only_for_news() -> None:
    store = PolicyStore()
    a, b, c = exception("shop/b"), exception("shop/a"), exception("other/c")
    for one in (a, b, c):
        store.put_exception(one)
    assert store.snapshot.exceptions == {"shop": (b, a), "other": (c,)}
    before = store.snapshot
    store.put_exception(exception("shop/b"))
    store.replace_exceptions([c, b, a])
    store.discard_exception(ExceptionKey("shop", "none"))
    assert store.snapshot is before
    store.put_exception(exception("shop/b", approvedBy=None))
    assert store.snapshot.exceptions["shop"][1].approved_by is None
    store.discard_exception(c.key)
    # Reviews of a namespace without any are spared the question.
    assert set(store.snapshot.exceptions) == {"shop"}
    store.replace_exceptions([])
    assert store.snapshot.exceptions == {}
    assert before.exceptions["other"] == (c,)


def test_undecided_and_denied_say_whether_anything_lifts_them() -> None:
    assert not Denied(("x",)).final
    assert not Undecided(("x",)).final
