"""What runs is judged again when it must be, once for each kind of Pod, and no faster than registries bear (M-04, F-03, F-40)."""

import asyncio
import datetime as dt
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.background import laboratory
from tests.background.laboratory import HOST, Lab
from tests.fake.signing import key
from tests.policies import exception
from webhook import limits
from webhook.background import rescan as module
from webhook.background import work
from webhook.background.excused import Excused
from webhook.background.pods import Pods
from webhook.background.reports import Reports
from webhook.background.verdicts import Verdicts
from webhook.background.work import Background, is_settled
from webhook.judge.workload import Question
from webhook.trust import Unavailable
from webhook.verdict import Allowed, End, Judgement, PolicyKey, Ruling


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    with laboratory.lab() as made:
        asked: list[Question] = []
        judgements = made.decider.judgements

        async def counted(question: Question, deadline: float) -> Any:
            asked.append(question)
            return await judgements(question, deadline)

        monkeypatch.setattr(made.decider, "judgements", counted)
        made.asked = asked  # type: ignore[attr-defined]  # for these tests
        yield made


def asked(lab: Lab) -> list[Question]:
    """The questions since the last time."""
    found: list[Question] = lab.asked  # type: ignore[attr-defined]  # see above
    taken = list(found)
    found.clear()
    return taken


async def test_pods_of_one_kind_are_judged_once(lab: Lab) -> None:
    lab.policy()
    digest = lab.image(key("a"))
    for i in range(200):
        lab.pod(running=digest, name=f"web-{i}")
    await lab.step()
    # As it runs, and as it is written.
    assert [question.images[0].image for question in asked(lab)] == [f"{HOST}/app:v1@{digest}", f"{HOST}/app:v1"]
    assert lab.states() == {"allowed": 200}
    await lab.step()
    assert asked(lab) == []


async def test_f32_what_is_the_same_in_many_pods_is_kept_once(lab: Lab) -> None:
    lab.policy()
    digests = [lab.image(key("a"), content=str(i).encode()) for i in range(2)]
    for i, digest in enumerate(digests):
        for name in (f"web-{i}", f"web-{i}-more"):
            # Equal, and not the same, as they come from the API server.
            namespace, owner = (bytes(text, "ascii").decode() for text in ("shop", "replicas"))
            lab.pod(f"{HOST}/app@{digest}", digest, name=name, namespace=namespace, owner=owner)
    await lab.step()
    # Of each of these objects there is one, however many are equal.
    assert len({id(line.where) for result in lab.rescan.results.values() for line in result.runs}) == 1
    assert len({id(pod.namespace) for pod in lab.pods.by_uid.values()}) == 1
    for sight, result in lab.rescan.results.items():
        assert [id(line) for line in result.runs] == [id(line) for line in result.written]
        assert len({id(pod.owner) for pod in lab.pods.sights[sight].values()}) == 1


async def test_m04_a_changed_policy_is_asked_about_at_once_where_it_speaks(lab: Lab) -> None:
    lab.store.put_namespace("pay", {})
    digest = lab.image(key("a"))
    for namespace in ("shop", "pay"):
        lab.pod(running=digest, namespace=namespace, name=namespace)
    await lab.step()
    asked(lab)
    lab.policy("shop/web")
    await lab.step()
    assert {question.who.namespace for question in asked(lab)} == {"shop"}
    lab.policy("all")
    await lab.step()
    assert {question.who.namespace for question in asked(lab)} == {"shop", "pay"}
    lab.store.discard(lab.policy("shop/web").key)
    await lab.step()
    assert {question.who.namespace for question in asked(lab)} == {"shop"}


async def test_m04_so_are_labels_of_a_namespace_and_exceptions(lab: Lab) -> None:
    lab.store.put_namespace("pay", {})
    lab.policy()
    digest = lab.image()
    for namespace in ("shop", "pay"):
        lab.pod(running=digest, namespace=namespace, name=namespace)
    await lab.step()
    assert lab.endings("shop") == ["denied"]
    asked(lab)
    lab.store.put_namespace("pay", {"tier": "gold"})
    await lab.step()
    assert {question.who.namespace for question in asked(lab)} == {"pay"}
    lab.store.put_exception(exception("shop/hotfix", policies=["web"]))
    await lab.step()
    assert {question.who.namespace for question in asked(lab)} == {"shop"}
    assert lab.endings("shop") == ["excused"]


async def test_an_exception_that_is_used_up_still_excuses_what_it_let_in(lab: Lab) -> None:
    lab.policy()
    lab.store.put_exception(exception("shop/hotfix", policies=["web"], maxUses=1))
    await lab.decider._uses.spend(exception("shop/hotfix", policies=["web"], maxUses=1), 0)
    lab.pod(running=lab.image())
    await lab.step()
    (result,) = lab.rescan.results.values()
    assert [line.ending for line in result.runs] == ["excused"]
    # Another Pod of the kind would not be let in.
    assert [line.ending for line in result.written] == ["denied"]


async def test_k07_nothing_is_spent_or_kept_by_looking(lab: Lab) -> None:
    lab.policy()
    one = exception("shop/hotfix", policies=["web"], maxUses=1)
    lab.store.put_exception(one)
    lab.pod(running=lab.image())
    await lab.step()
    assert not lab.decider._uses.is_used_up(one)
    assert lab.rescan.results


async def test_a_denied_digest_is_looked_for_first(lab: Lab) -> None:
    lab.policy("all")
    digests = [lab.image(key("a"), tag=f"v{i}", content=str(i).encode()) for i in range(20)]
    for i, digest in enumerate(digests):
        lab.pod(f"{HOST}/app@{digest}", digest, name=f"web-{i}")
    await lab.step()
    asked(lab)
    lab.policy("never", deny={"digests": [digests[-1]]})
    await lab.step()
    assert asked(lab)[0].images[0].image == f"{HOST}/app@{digests[-1]}"
    assert lab.endings("web-19") == ["allowed", "denied"]


async def test_everything_is_judged_again_now_and_then(lab: Lab) -> None:
    lab.policy()
    lab.pod(running=lab.image(key("a")))
    await lab.step()
    assert lab.rescan.whole == lab.now
    asked(lab)
    lab.passes(12 * 3600 - 1)
    await lab.step()
    assert asked(lab) == []
    lab.passes(1)
    await lab.step()
    assert len(asked(lab)) == 2
    assert lab.rescan.whole == lab.now


async def test_f40_whoever_writes_has_a_turn_before_everything_is_judged(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STEP", 3)
    for i in range(5):
        lab.pod(running=lab.image(content=str(i).encode()), name=f"web-{i}")
    await lab.step()
    assert len(lab.rescan.results) == 3
    assert lab.rescan.whole is None
    assert not lab.is_up_to_date
    await lab.step()
    assert len(lab.rescan.results) == 5
    assert lab.is_up_to_date


async def test_f03_where_something_is_fetched_there_is_a_pause(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(limits, "RESCAN_PAUSE", 0.0)
    monkeypatch.setattr(limits, "RESCAN_BREATH", 2)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    lab.policy()
    for i in range(4):
        lab.pod(running=lab.image(key("a"), content=str(i).encode()), name=f"web-{i}")
    await lab.step()
    # Each of them takes longer than nothing.
    assert len(pauses) == 4
    pauses.clear()
    monkeypatch.setattr(limits, "RESCAN_PAUSE", 600.0)
    lab.policy("shop/more")
    await lab.step()
    assert pauses == [300.0, 300.0]


async def test_what_could_not_be_verified_is_tried_again_later(lab: Lab) -> None:
    lab.policy()
    digest = lab.image(key("a"))
    lab.registry.fail("resolve", lambda: Unavailable("down"))
    lab.pod(running=digest)
    await lab.step()
    asked(lab)
    await lab.step()
    assert asked(lab) == []
    lab.registry.failures.clear()
    lab.passes(limits.RESCAN_AGAIN_SECONDS)
    await lab.step()
    assert lab.endings() == ["allowed"]


async def test_what_ends_is_forgotten(lab: Lab) -> None:
    lab.policy()
    lab.registry.fail("resolve", lambda: Unavailable("down"))
    pod = lab.pod(running=lab.image())
    await lab.step()
    assert lab.rescan.results
    lab.pods.gone(pod)
    await lab.step()
    assert not lab.rescan.results
    assert not lab.rescan._again


async def test_nothing_is_judged_before_the_policies_and_the_pods_are_known(lab: Lab) -> None:
    lab.pod(running=lab.image())
    lab.pods.listed = False
    await lab.step()
    lab.pods.listed, lab.store.is_ready = True, False
    await lab.step()
    assert asked(lab) == []
    lab.store.is_ready = True
    await lab.step()
    assert len(asked(lab)) == 2
    assert lab.states() == {"uncovered": 1}


async def test_of_several_policies_the_worst_counts(lab: Lab) -> None:
    lab.policy()
    lab.policy("all", signers=[{"name": "b", "cosign": {"key": key("b").pem}}])
    lab.pod(running=lab.image(key("a")))
    await lab.step()
    assert sorted(lab.endings()) == ["allowed", "denied"]
    assert lab.states() == {"denied": 1}


async def test_f29_the_leader_s_work_ends_with_its_term_and_its_figures_with_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_COUNT_SECONDS", 0.01)
    lab.policy()
    lab.pod(running=lab.image(key("a")))
    background = at_work(lab)
    working = asyncio.create_task(background.work())

    def allowed() -> float:
        return float(lab.metrics._images.labels("allowed")._value.get())

    async with asyncio.timeout(10):
        while not (allowed() and lab.metrics._rescanned._value.get() == lab.now.timestamp()):
            await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert allowed() == 0
    assert lab.metrics._rescanned._value.get() == 0


async def test_f37_what_runs_is_counted_while_the_event_loop_goes_on(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.policy()
    pods = [lab.pod(running=lab.image(key("a")), name=f"web-{i}") for i in range(3)]
    seen: dict[str, int] = {}

    def beside(name: str, count: Callable[..., Any]) -> Callable[..., Any]:
        def counting(results: Any, sights: Any, *more: Any) -> Any:
            assert threading.current_thread() is not threading.main_thread()
            # Pods come and go meanwhile, and what is counted stays as it is.
            loop.call_soon_threadsafe(lab.pods.gone, pods[0])
            seen.setdefault(name, sum(len(pods) for pods in sights.values()))
            return count(results, sights, *more)

        return counting

    loop = asyncio.get_running_loop()
    names = ("images_by_state", "ends_of", "tallies", "excused", "results_of")
    for name in names:
        monkeypatch.setattr(work, name, beside(name, getattr(work, name)))
    await lab.step()
    background = at_work(lab)
    writers = (
        Verdicts(lab.kube, dict),
        Excused(lab.kube, dict),
        Reports(lab.kube, laboratory.INSTALLATION, dict, lab.clock),
    )
    await background._count(lab.rescan)
    assert lab.metrics._images.labels("allowed")._value.get() == 3
    await background._write(lab.rescan, *writers)
    assert seen == dict.fromkeys(names, 2) | {"images_by_state": 3, "ends_of": 3}


async def test_nothing_is_promoted_by_counts_that_are_older_than_a_denial(lab: Lab) -> None:
    policy = lab.policy()
    lab.pod(running=lab.image(key("a")), name="good")
    await lab.step()
    counted = lab.now
    assert is_settled(lab.rescan, counted, policy.key)
    lab.passes(1)
    lab.pod(running=lab.image(content=b"bad"), name="bad")
    assert not is_settled(lab.rescan, counted, policy.key)
    await lab.step()
    # All has been judged, and what was counted knows nothing of it.
    assert lab.rescan.has_judged(policy.key)
    assert not is_settled(lab.rescan, counted, policy.key)
    assert not is_settled(lab.rescan, lab.now, policy.key)
    lab.passes(1)
    assert is_settled(lab.rescan, lab.now, policy.key)


def at_work(lab: Lab) -> Background:
    """All of the leader's look at what runs."""
    return Background(
        lab.kube, lab.store, lab.decider, laboratory.INSTALLATION, lab.metrics, dt.timedelta(hours=1), lambda: lab.now,
        dict, dict,
    )  # fmt: skip


async def test_f29_an_error_of_ours_does_not_end_the_leader(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(work, "_AGAIN_SECONDS", 0.01)
    terms = 0

    async def follow(*_: object) -> None:
        nonlocal terms
        terms += 1
        raise RuntimeError("a bug")

    monkeypatch.setattr(Pods, "follow", follow)
    background = at_work(lab)
    working = asyncio.create_task(background.work())
    async with asyncio.timeout(10):
        while terms < 2:
            await asyncio.sleep(0.01)
    assert not working.done()
    assert "begins anew" in caplog.text
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


@pytest.mark.parametrize("name", ["images_by_state", "ends_of", "tallies", "excused", "results_of"])
async def test_f29_an_error_of_ours_in_telling_what_runs_ends_no_term(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    for seconds in ("_AGAIN_SECONDS", "_COUNT_SECONDS", "_WRITE_SECONDS"):
        monkeypatch.setattr(work, seconds, 0.01)
    terms = failed = 0
    follow = Pods.follow

    async def following(pods: Pods, kube: Any) -> None:
        nonlocal terms
        terms += 1
        await follow(pods, kube)

    def failing(*_: object) -> None:
        nonlocal failed
        failed += 1
        raise RuntimeError("a bug")

    monkeypatch.setattr(Pods, "follow", following)
    monkeypatch.setattr(work, name, failing)
    lab.policy()
    lab.pod(running=lab.image(key("a")))
    background = at_work(lab)
    working = asyncio.create_task(background.work())
    async with asyncio.timeout(10):
        while failed < 3:
            await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert terms == 1
    assert "telling what runs has failed" in caplog.text


async def test_f29_an_error_of_ours_with_one_pod_costs_that_pod_only(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab.policy(onDrift="evict")
    lab.policy("all")
    lab.store.put_namespace("evil", {})
    lab.policy("evil/web", images=["**/other"], onDrift="evict")
    await lab.step()
    lab.passes()
    moved = lab.image(content=b"evil")
    lab.kube.budget = False
    lab.pod(running=moved, name="evil-0", namespace="evil")
    await lab.step()
    assert [drift.name for drift in lab.rescan.drifts.values()] == ["evil-0"]
    judgements = lab.decider.judgements

    async def failing(question: Question, deadline: float) -> Any:
        if question.who.namespace == "evil":
            raise RuntimeError("a bug")
        return await judgements(question, deadline)

    with monkeypatch.context() as bug:
        bug.setattr(lab.decider, "judgements", failing)
        lab.pod(f"{HOST}/app:v2", lab.image(key("a"), tag="v2"), name="evil-1", namespace="evil")
        lab.store.put_namespace("evil", {"tier": "gold"})
        lab.pod(running=lab.image(key("a")), name="good")
        await lab.step()
        # Everybody else is judged; of whom it concerns nothing is known any more, so nobody is evicted for it.
        assert lab.endings("good") == ["allowed", "allowed"]
        assert lab.states() == {"allowed": 1}
        assert lab.rescan.drifts == {}
        assert lab.is_up_to_date
        # And nothing is promoted over it.
        judged = {str(key): lab.rescan.has_judged(key) for key in lab.store.snapshot.index.policies}
        assert judged == {"shop/web": True, "evil/web": False, "cluster/all": False}
        for _ in range(3):
            lab.passes(limits.MAX_RESCAN_AGAIN_SECONDS)
            await lab.step()
        (told,) = [one for one in caplog.records if one.levelname == "ERROR"]
        assert told.getMessage() == "namespace evil: some of what runs there cannot be judged"
        assert "RuntimeError: a bug" in caplog.text
    lab.passes(limits.MAX_RESCAN_AGAIN_SECONDS)
    await lab.step()
    assert lab.states() == {"allowed": 2, "denied": 1}
    assert [drift.name for drift in lab.rescan.drifts.values()] == ["evil-0"]
    assert all(lab.rescan.has_judged(key) for key in lab.store.snapshot.index.policies)
    assert not lab.rescan._failed
    assert not lab.rescan._tries


async def test_f29_what_ended_while_an_error_of_ours_hit_it_is_forgotten(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.policy()
    pod = lab.pod(running=lab.image(key("a")))

    async def failing(question: Question, deadline: float) -> Any:
        lab.pods.gone(pod)
        raise RuntimeError("a bug")

    monkeypatch.setattr(lab.decider, "judgements", failing)
    await lab.step()
    assert (lab.rescan.results, lab.rescan._failed, lab.rescan._again) == ({}, {}, {})
    assert lab.rescan.has_judged(PolicyKey("shop", "web"))


class Slow:
    """Judging what is asked in some namespaces ends when it is said to; `most` counts what was judged at once there, and in all."""

    def __init__(self, lab: Lab, monkeypatch: pytest.MonkeyPatch, *namespaces: str) -> None:
        self.over = asyncio.Event()
        self.now: list[str] = []
        self.most: dict[str, int] = {"": 0}
        judgements, once = lab.decider.judgements, lab.step
        hanging: set[object] = set()
        # What one waits for here is waited for in a step, too.
        monkeypatch.setattr(module, "_TICK_SECONDS", 0.02)

        async def step() -> None:
            await once()
            for _ in range(200):
                # On a machine under load others take longer than that.
                if len(lab.rescan._tasks) <= len(hanging):
                    break
                await once()

        async def slowly(question: Question, deadline: float) -> Any:
            name = question.who.namespace
            self.now.append(name)
            self.most[""] = max(self.most[""], len(self.now))
            self.most[name] = max(self.most.get(name, 0), self.now.count(name))
            try:
                if name in namespaces:
                    hanging.add(asyncio.current_task())
                    await self.over.wait()
                    hanging.discard(asyncio.current_task())
                return await judgements(question, deadline)
            finally:
                hanging.discard(asyncio.current_task())
                self.now.remove(name)

        monkeypatch.setattr(lab.decider, "judgements", slowly)
        monkeypatch.setattr(lab, "step", step)


async def test_m04_a_slow_registry_keeps_no_other_namespace_waiting(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(lab, monkeypatch, "evil")
    lab.policy("all")
    lab.store.put_namespace("evil", {})
    for i in range(10):
        digest = lab.image(key("a"), content=str(i).encode())
        lab.pod(running=digest, name=f"evil-{i}", namespace="evil")
        lab.pod(running=digest, name=f"web-{i}")
    async with asyncio.timeout(10):
        while lab.states() != {"allowed": 10}:
            await lab.step()
        # One that comes later does not wait either, and it is not told that everything was judged.
        lab.pod(running=lab.image(content=b"late"), name="late")
        while lab.states() != {"allowed": 10, "denied": 1}:
            await lab.step()
        assert lab.endings("late") == ["denied"]
        assert lab.rescan.whole is None
        assert lab.rescan.has_judged(PolicyKey("shop", "web"))
        assert not lab.rescan.has_judged(PolicyKey("evil", "web"))
        assert not lab.rescan.has_judged(PolicyKey(None, "all"))
        assert slow.most["evil"] == limits.RESCAN_AT_ONCE_IN_NAMESPACE
        slow.over.set()
        while not lab.is_up_to_date:
            await lab.step()
    assert lab.states() == {"allowed": 20, "denied": 1}
    assert lab.rescan.has_judged(PolicyKey(None, "all"))
    assert lab.rescan.whole == lab.now


async def test_f40_so_many_are_judged_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"n{i}" for i in range(10)]
    slow = Slow(lab, monkeypatch, *names)
    lab.policy("all")
    digest = lab.image(key("a"))
    for name in names:
        lab.store.put_namespace(name, {})
        lab.pod(running=digest, name=name, namespace=name)
    await lab.step()
    assert slow.most[""] == limits.RESCAN_AT_ONCE
    slow.over.set()
    async with asyncio.timeout(10):
        while not lab.is_up_to_date:
            await lab.step()
    assert lab.states() == {"allowed": 10}


async def hang(lab: Lab, monkeypatch: pytest.MonkeyPatch, count: int, of_each: int = 2) -> tuple[Slow, list[str]]:
    """So many namespaces whose registries hang, and for how long is counted by hand."""
    names = [f"evil-{i}" for i in range(count)]
    monkeypatch.setattr(limits, "RESCAN_PAUSE", 0.0)
    slow = Slow(lab, monkeypatch, *names)
    lab.policy("all")
    lab.rescan.ticks = lab.seconds
    for name in names:
        lab.store.put_namespace(name, {})
        for i in range(of_each):
            lab.pod(running=lab.image(key("a"), content=str(i).encode()), name=f"{name}-{i}", namespace=name)
    while len(slow.now) < limits.RESCAN_AT_ONCE:
        await lab.step()
    return slow, names


async def steps(lab: Lab, until: Callable[[], bool]) -> None:
    """As many as it takes, and no time passes meanwhile but what is told."""
    async with asyncio.timeout(20):
        while not until():
            await lab.step()


async def test_m04_registries_that_hang_keep_no_other_namespace_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, _ = await hang(lab, monkeypatch, 4)
    lab.pod(running=lab.image(key("a")), name="web")
    await lab.step()
    # There is no place left for it, yet.
    assert "shop" not in slow.most
    assert not lab.rescan.has_judged(PolicyKey("shop", "web"))
    lab.passes(limits.RESCAN_SLOW_SECONDS)
    await steps(lab, lambda: lab.rescan.has_judged(PolicyKey("shop", "web")))
    assert lab.endings() == ["allowed"]
    assert len(slow.now) == 8
    # The same that come later: more and more of them.
    for i in range(20):
        lab.pod(running=lab.image(key("a"), content=str(i).encode()), name=f"late-{i}")
    await steps(lab, lambda: lab.rescan.has_judged(PolicyKey("shop", "web")))
    assert lab.states() == {"allowed": 21}
    slow.over.set()
    await steps(lab, lambda: lab.is_up_to_date)
    assert lab.states() == {"allowed": 29}


async def test_f40_however_many_hang_so_many_are_open_and_others_go_on(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, names = await hang(lab, monkeypatch, 40)
    for _ in range(20):
        lab.passes(limits.RESCAN_SLOW_SECONDS)
        for _ in range(4):
            await lab.step()
    assert slow.most[""] <= limits.RESCAN_AT_ONCE + limits.RESCAN_AT_ONCE_ASIDE
    assert len(slow.now) == limits.RESCAN_AT_ONCE_ASIDE
    assert set(names) == lab.rescan._slow
    for i in range(20):
        lab.pod(running=lab.image(key("a"), content=str(i).encode()), name=f"web-{i}")
    await steps(lab, lambda: lab.rescan.has_judged(PolicyKey("shop", "web")))
    assert lab.states() == {"allowed": 20}
    assert slow.most[""] <= limits.RESCAN_AT_ONCE + limits.RESCAN_AT_ONCE_ASIDE
    # Nothing was lost of what was ended meanwhile.
    slow.over.set()
    await steps(lab, lambda: lab.is_up_to_date)
    assert lab.states() == {"allowed": 20 + 2 * len(names)}
    # Of those that are known to be slow no more are begun than may be aside.
    slow.over.clear()
    lab.rescan._slow.update(names)
    lab.policy("more")
    for _ in range(4):
        await lab.step()
    assert len(slow.now) == limits.RESCAN_AT_ONCE_ASIDE
    await steps(lab, lambda: lab.rescan.has_judged(PolicyKey("shop", "web")))
    slow.over.set()
    await steps(lab, lambda: lab.is_up_to_date)


async def test_m04_a_digest_that_is_denied_from_now_on_does_not_wait_behind_what_hangs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, names = await hang(lab, monkeypatch, 30)
    digest = lab.image(key("a"), content=b"0")
    for _ in range(10):
        lab.passes(limits.RESCAN_SLOW_SECONDS)
        for _ in range(4):
            await lab.step()
    assert len(slow.now) == limits.RESCAN_AT_ONCE_ASIDE
    waits = next(name for name in names if name not in slow.now)
    lab.policy("never", deny={"digests": [digest]})
    await steps(lab, lambda: waits in slow.now)
    assert len(slow.now) <= limits.RESCAN_AT_ONCE + limits.RESCAN_AT_ONCE_ASIDE
    slow.over.set()
    await steps(lab, lambda: lab.is_up_to_date)


async def test_m04_a_namespace_is_slow_until_something_of_it_ends_in_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, _ = await hang(lab, monkeypatch, 4)
    lab.passes(limits.RESCAN_SLOW_SECONDS)
    await steps(lab, lambda: len(lab.rescan._slow) == 4)
    slow.over.set()
    await steps(lab, lambda: lab.is_up_to_date)
    assert len(lab.rescan._slow) == 4
    lab.pod(running=lab.image(key("a"), content=b"more"), name="more", namespace="evil-0")
    await steps(lab, lambda: lab.is_up_to_date)
    assert lab.rescan._slow == {"evil-1", "evil-2", "evil-3"}
    # And no longer than there is something of it.
    for pod in list(lab.pods.by_uid.values()):
        lab.pods.gone({"metadata": {"uid": pod.uid}})
    await lab.step()
    assert not lab.rescan._slow


async def test_m04_what_is_tried_again_and_again_puts_off_no_round(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESCAN_PAUSE", 0.0)
    monkeypatch.setattr(limits, "RESCAN_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(module, "_STEP", 20)
    lab.store.put_namespace("evil", {})
    lab.policy()
    lab.policy("evil/web")
    lab.registry.fail("resolve", lambda: Unavailable("down"))
    digest = lab.image(key("a"), path="other")

    def start(i: int) -> None:
        lab.pod(f"{HOST}/other:v{i}", f"{HOST}/other@{digest}", name=f"evil-{i}", namespace="evil")

    for i in range(50):
        start(i)
    began = lab.now
    await lab.step()
    # Not before all of it has been judged once.
    assert lab.rescan.whole != began
    later = iter(range(50, 60))
    while lab.rescan.whole != began:
        lab.passes()
        start(next(later))
        # Nor does it begin anew because somebody changes what everybody is judged by.
        lab.policy("all", message=lab.now.isoformat())
        await lab.step()
    assert lab.rescan.whole == began
    # It goes on; what waits for it is promoted no sooner.
    assert not lab.is_up_to_date
    assert not lab.rescan.has_judged(PolicyKey("evil", "web"))
    assert not lab.rescan.has_judged(PolicyKey(None, "all"))
    assert lab.rescan.has_judged(PolicyKey("shop", "web"))
    # And there is a next one.
    lab.passes(lab.rescan.every.total_seconds())
    began = lab.now
    for _ in range(20):
        await lab.step()
        lab.passes()
    assert lab.rescan.whole == began


async def test_m04_a_round_ends_though_there_is_always_something_to_judge(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RESCAN_PAUSE", 0.0)
    monkeypatch.setattr(limits, "RESCAN_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(module, "_STEP", 5)
    lab.policy()
    lab.registry.fail("resolve", lambda: Unavailable("down"))
    lab.pod(running=lab.image(key("a")))
    whole: list[dt.datetime | None] = []
    judgements = lab.decider.judgements

    async def looking(question: Question, deadline: float) -> Any:
        whole.append(lab.rescan.whole)
        return await judgements(question, deadline)

    monkeypatch.setattr(lab.decider, "judgements", looking)
    await lab.step()
    # Not only when the step is over.
    assert whole == [None, None] + [lab.now] * 8


async def test_what_was_begun_before_a_round_is_judged_again_in_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(lab, monkeypatch, "evil")
    slow.over.set()
    lab.store.put_namespace("evil", {})
    lab.policy("all")
    lab.pod(running=lab.image(key("a")))
    await steps(lab, lambda: lab.is_up_to_date)
    before = lab.rescan.whole
    assert before == lab.now
    slow.over.clear()
    evil = lab.pod(running=lab.image(key("a"), content=b"evil"), name="evil", namespace="evil")
    await lab.step()
    lab.passes(lab.rescan.every.total_seconds())
    await lab.step()
    slow.over.set()
    await asyncio.wait(lab.rescan._tasks)
    slow.over.clear()
    await lab.step()
    assert slow.now == ["evil"]
    assert lab.rescan.whole == before
    # What ends meanwhile is not waited for.
    lab.pods.gone(evil)
    await lab.step()
    assert lab.rescan.whole == lab.now
    slow.over.set()
    await steps(lab, lambda: lab.is_up_to_date)


async def test_a_cluster_policy_waits_for_those_namespaces_that_it_speaks_about(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(lab, monkeypatch, "evil")
    lab.store.put_namespace("evil", {"tier": "gold"})
    lab.store.put_namespace("shop", {"tier": "silver"})
    scopes: dict[str, Any] = {
        "all": None,
        "named": {"match": ["shop"]},
        "globbed": {"match": ["sh*"]},
        "but": {"exclude": ["evil"]},
        "labelled": {"selector": {"matchLabels": {"tier": "silver"}}},
        "evil": {"match": ["evil"]},
        "gold": {"selector": {"matchLabels": {"tier": "gold"}}},
    }
    for name, scope in scopes.items():
        lab.policy(name, **({} if scope is None else {"namespaces": scope}))
    digest = lab.image(key("a"))
    lab.pod(running=digest, name="evil", namespace="evil")
    lab.pod(running=digest)
    judged = {"named", "globbed", "but", "labelled"}

    def settled() -> set[str]:
        return {name for name in scopes if lab.rescan.has_judged(PolicyKey(None, name))}

    # Never before its own have been judged.
    assert settled() == set()
    await steps(lab, lambda: lab.rescan.has_judged(PolicyKey(None, "named")))
    assert settled() == judged
    lab.pod(running=lab.image(key("a"), content=b"more"), name="more")
    assert settled() == set()
    await steps(lab, lambda: lab.rescan.has_judged(PolicyKey("shop", "web")))
    assert settled() == judged
    # Where many are waited for, all of them are.
    monkeypatch.setattr(limits, "MAX_WAITED_FOR", 0)
    assert settled() == set()
    monkeypatch.setattr(limits, "MAX_WAITED_FOR", 200)
    # One that leaves no namespace out, or by labels that are not known, may speak about it.
    lab.store.discard_namespace("evil")
    await lab.step()
    assert settled() == {"named", "globbed", "but"}
    slow.over.set()
    await steps(lab, lambda: lab.rescan.results != {} and not lab.rescan._tasks)
    # It has been judged by nobody, so it is waited for.
    assert settled() == {"named", "globbed", "but"}
    lab.store.put_namespace("evil", {"tier": "silver"})
    await steps(lab, lambda: lab.is_up_to_date)
    assert settled() == set(scopes)


async def test_w02_a_promotion_does_not_wait_for_namespaces_that_admission_leaves_out(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.store.put_namespace("kube-system", {"kubernetes.io/metadata.name": "kube-system"})
    lab.policy("all")
    await lab.step()
    lab.rescan._queue.add("kube-system", b"one")
    assert lab.rescan.has_judged(PolicyKey(None, "all"))
    lab.rescan._queue.add("shop", b"one")
    assert not lab.rescan.has_judged(PolicyKey(None, "all"))


async def test_m04_what_changes_while_it_is_judged_is_judged_again_afterwards(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(lab, monkeypatch, "shop")
    lab.policy()
    lab.pod(running=lab.image(key("a")))
    await lab.step()
    lab.policy(deny={"keys": [key("a").fingerprint]})
    await lab.step()
    assert slow.now == ["shop"]
    slow.over.set()
    async with asyncio.timeout(10):
        while not lab.is_up_to_date:
            await lab.step()
    assert lab.endings() == ["denied"]


async def test_f29_what_is_being_judged_ends_with_the_term(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(lab, monkeypatch, "shop")
    lab.policy()
    lab.pod(running=lab.image(key("a")))
    working = asyncio.create_task(lab.rescan.work())
    async with asyncio.timeout(10):
        while not slow.now:
            await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert slow.now == []


async def test_what_starts_and_what_is_judged_again_take_turns(lab: Lab) -> None:
    lab.policy()
    digests = [lab.image(key("a"), content=str(i).encode()) for i in range(3)]
    for digest in digests:
        lab.pod(f"{HOST}/app@{digest}", digest, name=digest[7:15])
    await lab.step()
    lab.policy("shop/more")
    for i in range(3, 6):
        digest = lab.image(key("a"), content=str(i).encode())
        digests.append(digest)
        lab.pod(f"{HOST}/app@{digest}", digest, name=digest[7:15])
    asked(lab)
    await lab.step()
    order = dict.fromkeys(question.images[0].image.partition("@")[2] in digests[3:] for question in asked(lab)[:4])
    assert set(order) == {True, False}


async def test_m04_what_cannot_be_verified_is_tried_ever_more_seldom(lab: Lab) -> None:
    lab.policy()
    lab.registry.fail("resolve", lambda: Unavailable("down"))
    lab.pod(running=lab.image(key("a")))
    times = []
    for minute in range(4 * 60):
        asked(lab)
        await lab.step()
        times += [minute] if asked(lab) else []
        lab.passes()
    assert times == [0, 2, 6, 14, 30, 62, 122, 182]
    # What could be verified in between begins anew.
    lab.registry.failures.clear()
    lab.passes(limits.MAX_RESCAN_AGAIN_SECONDS)
    await lab.step()
    assert lab.endings() == ["allowed"]
    assert not lab.rescan._tries


async def test_f31_what_rests_on_a_revocation_list_is_judged_again_before_that_ends_and_after(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = dt.timedelta(hours=1)
    lab.policy()
    lab.pod(running=lab.image(key("a")))
    judgements, began, asked = lab.decider.judgements, lab.now, list[float]()
    ends = lab.now + 9 * hour

    def resting(one: Judgement) -> Judgement:
        assert isinstance(one, Ruling)
        assert isinstance(one.outcome, Allowed)
        proofs = frozenset(replace(proof, lists=(End(ends, "http://crl/"),)) for proof in one.outcome.proofs)
        return replace(one, outcome=replace(one.outcome, proofs=proofs))

    async def listed(question: Question, deadline: float) -> Any:
        asked.append(round((lab.now - began) / hour))
        return [resting(one) for one in await judgements(question, deadline)]

    monkeypatch.setattr(lab.decider, "judgements", listed)
    for i in range(12):
        if i == 6:
            # Its issuer has made another.
            ends += 240 * hour
        await lab.step()
        lab.passes(3600)
    assert sorted(set(asked)) == [0, 2, 3, 4, 5, 6]
    # One that nobody renews is looked for until it is over.
    ends = lab.now + 2 * hour
    lab.store.put_namespace("shop", {"tier": "gold"})
    asked.clear()
    for _ in range(6):
        await lab.step()
        lab.passes(3601)
    assert sorted(set(asked)) == [12, 13, 14]
