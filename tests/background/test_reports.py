"""What runs, told: counts and previews in the policies' status, and reports (K-17, D-09, F-33)."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.background.laboratory import HOST, INSTALLATION, START, Lab
from tests.fake.signing import key
from tests.operator.test_policies import INLINE
from tests.operator.test_policies import World as Policies
from tests.policies import exception
from webhook import limits
from webhook.background.lines import Ending, Line
from webhook.background.pods import Pod
from webhook.background.reports import APIS, Reports, report, results_of
from webhook.background.verdicts import Tally, Verdicts, tallies
from webhook.kube import KubeError
from webhook.kube.client import Document
from webhook.kube.writes import Writes
from webhook.trust import Unavailable
from webhook.verdict import PolicyKey

OPEN, WORKING_GROUP = APIS
WEB, ALL = PolicyKey("shop", "web"), PolicyKey(None, "all")


class Told(Lab):
    """With a writer of reports and one of statuses."""

    def lead(self) -> None:
        """A new term begins."""
        super().lead()
        self.reports = Reports(self.kube, INSTALLATION, lambda: self.store.snapshot.namespaces, self.clock)
        self.verdicts = Verdicts(self.kube, lambda: self.written.policies.in_force)

    written: Policies

    async def tell(self) -> None:
        """What has been found by now."""
        await self.step()
        sights = self.pods.sights
        await self.verdicts.write(
            tallies(self.rescan.results, sights, self.now),
            self.rescan.denied_at,
            self.now,
            settled=self.rescan.has_judged,
            whole=self.rescan.whole is not None,
        )
        await self.reports.write(results_of(self.rescan.results, sights, self.rescan.drifts.values(), self.now))

    def serves(self, *apis: Any) -> None:
        """Which kinds of reports the cluster has."""
        for api in APIS:
            self.kube.objects.pop(f"/apis/{api.group}/{api.version}", None)
        for api in apis:
            self.kube.put(f"/apis/{api.group}/{api.version}", {"resources": [{"name": api.plural}]})

    def report(self, api: Any = OPEN, namespace: str = "shop") -> Document | None:
        return self.kube.objects.get(api.path(namespace, "trusted-images"))

    def in_cluster(self, name: str = "web", status: Document | None = None) -> str:
        """A policy as the API server has it, known to the leader."""
        path = f"/apis/trusted-images.dev/v1alpha1/namespaces/shop/trustpolicies/{name}"
        document = {"metadata": {"name": name, "namespace": "shop"}, "spec": INLINE}
        self.written.policies.seen(self.kube.put(path, document | ({"status": status} if status else {})))
        return path


@pytest.fixture
def lab() -> Iterator[Told]:
    with ThreadPoolExecutor(1) as pool:
        made = Told(pool)
        made.written = Policies()
        made.kube.put("/apis/rbac.authorization.k8s.io/v1/clusterroles/trusted-images", {})
        yield made


def results(report: Document | None) -> list[tuple[str, str, str]]:
    assert report is not None
    return [(one["policy"], one["rule"], one["result"]) for one in report["results"]]


@pytest.mark.parametrize("api", APIS)
async def test_each_policy_and_image_is_a_result_with_its_pods(lab: Told, api: Any) -> None:
    lab.serves(api)
    lab.policy()
    lab.policy("all", mode="audit", signers=[{"name": "b", "cosign": {"key": key("b").pem}}])
    digest = lab.image(key("a"))
    for i in range(limits.MAX_REPORTED_PODS + 2):
        lab.pod(running=digest, name=f"web-{i:02}")
    await lab.tell()
    document = lab.report(api)
    assert document is not None
    assert (document["apiVersion"], document["kind"]) == (f"{api.group}/{api.version}", api.kind)
    assert ("source" in document) is api.names_source
    assert results(document) == [("cluster/all", "image", "warn"), ("shop/web", "image", "pass")]
    assert document["summary"] == {"pass": 1, "fail": 0, "warn": 1, "error": 0, "skip": 0}
    (denied, allowed) = document["results"]
    assert denied["message"].startswith(
        f"spec.containers[0].image {HOST}/app:v1@{digest}: policy cluster/all: no signature"
    )
    assert denied["scored"] is False
    assert denied["properties"] == {"image": f"{HOST}/app:v1@{digest}", "mode": "audit", "pods": "12"}
    assert [one["name"] for one in denied["resources"]] == [f"web-{i:02}" for i in range(limits.MAX_REPORTED_PODS)]
    assert allowed["timestamp"] == {"seconds": int(lab.now.timestamp()), "nanos": 0}
    (owner,) = document["metadata"]["ownerReferences"]
    assert owner["kind"] == "ClusterRole"


async def test_the_newer_kind_is_preferred_and_without_any_that_is_said_once(
    lab: Told, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    lab.policy()
    lab.pod(running=lab.image(key("a")))
    for _ in range(3):
        await lab.tell()
        lab.passes(300)
    assert caplog.text.count("no reports are written") == 1
    lab.serves(OPEN, WORKING_GROUP)
    await lab.tell()
    assert lab.report(OPEN)
    assert not lab.report(WORKING_GROUP)
    # Its definition may go, and another come.
    lab.serves(WORKING_GROUP)
    lab.passes(300)
    await lab.tell()
    assert lab.report(WORKING_GROUP)


async def test_each_ending_has_its_word(lab: Told) -> None:
    lab.serves(OPEN)
    lab.policy(onDrift="report")
    await lab.tell()
    lab.passes()
    good = lab.image(key("a"))
    lab.pod(running=good, name="good")
    lab.pod(running=lab.image(content=b"evil"), name="bad")
    await lab.tell()
    lab.registry.fail("referrers", lambda: Unavailable("down"))
    lab.pod(running=lab.image(content=b"new"), name="unread")
    await lab.tell()
    said = results(lab.report())
    assert {(rule, result) for _, rule, result in said} == {
        ("drift", "fail"), ("image", "fail"), ("image", "error"), ("image", "pass"),
    }  # fmt: skip
    assert [result for _, _, result in said] == sorted(
        (result for _, _, result in said), key=["fail", "error", "pass"].index
    )
    drift = next(one for one in (lab.report() or {})["results"] if one["rule"] == "drift")
    assert (drift["severity"], drift["resources"][0]["name"]) == ("critical", "bad")
    lab.store.put_exception(exception("shop/hotfix", policies=["web"]))
    await lab.tell()
    assert "skip" in {result for _, _, result in results(lab.report())}


async def test_nothing_new_writes_nothing_and_nothing_left_takes_it_away(lab: Told) -> None:
    lab.serves(OPEN)
    lab.policy()
    pod = lab.pod(running=lab.image(key("a")))
    await lab.tell()
    lab.kube.asked.clear()
    lab.passes()
    await lab.tell()
    assert [path for method, path in lab.kube.asked if method != "GET"] == []
    lab.pods.gone(pod)
    await lab.tell()
    assert lab.report() is None
    lab.kube.asked.clear()
    await lab.tell()
    assert [path for method, path in lab.kube.asked if method != "GET"] == []


async def test_f29_what_a_former_leader_reported_of_what_is_gone_is_taken_away(lab: Told) -> None:
    lab.serves(OPEN)
    lab.kube.put(OPEN.path("shop", "trusted-images"), {"results": []})
    lab.kube.put(OPEN.path("shop", "somebody-elses"), {"results": []})
    await lab.tell()
    assert lab.report() is None
    assert OPEN.path("shop", "somebody-elses") in lab.kube.objects


async def test_f33_a_report_that_cannot_be_written_stops_no_other(lab: Told) -> None:
    lab.serves(OPEN)
    lab.store.put_namespace("pay", {})
    lab.policy("all")
    digest = lab.image(key("a"))
    for namespace in ("shop", "pay"):
        lab.pod(running=digest, namespace=namespace, name=namespace)
    lab.kube.failing[OPEN.path("shop", "")] = KubeError("the namespace is going", 403)
    await lab.tell()
    assert lab.report(namespace="pay")
    assert not lab.report(namespace="shop")
    lab.kube.failing.clear()
    await lab.tell()
    assert lab.report(namespace="shop")
    lab.kube.failing["/apis"] = KubeError("down")
    lab.passes(300)
    await lab.reports.write({})


async def test_d01_a_report_is_bounded_and_tells_the_worst_first(lab: Told) -> None:
    entries = [{"result": "pass", "message": "x" * 512, "policy": "p"} for _ in range(1000)]
    made = report(OPEN, "shop", "trusted-images", entries, None, lab.now)
    assert len(made["results"]) == limits.MAX_REPORTED
    assert made["summary"]["pass"] == 1000
    lab.policy()
    for i in range(limits.MAX_REPORTED + 5):
        digest = f"sha256:{i:064x}"
        lab.pod(f"{HOST}/app@{digest}", digest, name=f"{'long' * 60}-{i}")
    lab.pod(running=lab.image(key("a")), name="good")
    while not (lab.rescan.whole and lab.is_up_to_date):
        await lab.step()
    (entries,) = results_of(lab.rescan.results, lab.pods.sights, (), lab.now).values()
    assert [one["result"] for one in entries[:-1]] == ["fail"] * (limits.MAX_REPORTED + 5)
    assert entries[-1]["result"] == "pass"
    whole = report(OPEN, "shop", "trusted-images", entries, None, lab.now)
    assert len(json.dumps(whole)) < 1_000_000


async def test_f40_so_many_are_written_at_a_time(lab: Told) -> None:
    lab.serves(OPEN)
    lab.policy("all")
    digest = lab.image(key("a"))
    count = limits.MAX_WRITES + 3
    for i in range(count):
        lab.store.put_namespace(f"n{i}", {})
        lab.pod(running=digest, namespace=f"n{i}", name="web")
    await lab.tell()
    written = [place for place in lab.kube.objects if "/reports/" in place]
    assert len(written) == limits.MAX_WRITES
    await lab.tell()
    await lab.tell()
    assert len([place for place in lab.kube.objects if "/reports/" in place]) == count


# ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_policy_s_status_counts_what_runs_and_previews_what_would_be_denied(lab: Told) -> None:
    lab.policy()
    path = lab.in_cluster()
    good = lab.image(key("a"))
    for name in ("one", "two"):
        lab.pod(running=good, name=name)
    lab.image(content=b"moved")
    await lab.tell()
    status = lab.kube.objects[path]["status"]
    # What runs is in order; made again, the Pods would run what the tag means now.
    assert status["verdicts"] == {"allowed": 2, "denied": 0, "undecided": 0, "excused": 0, "examples": []}
    assert (status["preview"]["denied"], status["preview"]["undecided"]) == (2, 0)
    (example,) = status["preview"]["examples"]
    assert example.startswith(f"shop/one: spec.containers[0].image {HOST}/app:v1 (sha256:")
    assert len(example) <= limits.MAX_EXAMPLE


async def test_r04_what_is_denied_as_it_runs_has_examples_of_its_own(lab: Told) -> None:
    lab.policy()
    path = lab.in_cluster()
    bad, good = lab.image(tag="bad", content=b"bad"), lab.image(key("a"))
    lab.pod(running=good, name="a-moved")
    lab.image(content=b"moved")
    # What it is called by is signed by now: made again, it would be admitted.
    lab.pod(f"{HOST}/app:bad", bad, name="z-runs")
    lab.image(key("a"), tag="bad", content=b"good")
    await lab.tell()
    status = lab.kube.objects[path]["status"]
    (runs,), (would,) = status["verdicts"]["examples"], status["preview"]["examples"]
    assert (status["verdicts"]["denied"], status["preview"]["denied"]) == (1, 1)
    assert runs.startswith("shop/z-runs: ")
    assert would.startswith("shop/a-moved: ")
    for i in range(limits.MAX_EXAMPLES + 2):
        lab.pod(f"{HOST}/app:bad{'x' * i}", bad, name=f"more-{i}")
    await lab.tell()
    examples = lab.kube.objects[path]["status"]["verdicts"]["examples"]
    assert len(examples) == limits.MAX_EXAMPLES
    assert max(map(len, examples)) <= limits.MAX_EXAMPLE


def test_what_is_denied_is_shown_before_what_could_not_be_verified() -> None:
    tally, pods = Tally(), {"uid": Pod("shop", "web", "uid", 0.0, 0.0, b"", "")}
    endings: tuple[Ending, ...] = ("undecided", "allowed", "denied")
    for ending in endings:
        tally.add_running(Line("spec", "a", PolicyKey("shop", "web"), ending, text=f"it is {ending}"), pods)
    assert tally.status()["verdicts"]["examples"] == ["shop/web: it is denied", "shop/web: it is undecided"]


async def test_a_preview_is_told_while_a_policy_is_in_audit(lab: Told) -> None:
    lab.policy(mode="audit")
    path = lab.in_cluster()
    lab.pod(running=lab.image())
    await lab.tell()
    assert lab.kube.objects[path]["status"]["preview"]["denied"] == 1
    assert lab.kube.objects[path]["status"]["verdicts"]["denied"] == 1


async def test_tags_that_a_policy_refuses_would_be_denied_though_what_runs_is_signed(lab: Told) -> None:
    lab.policy(tags="refuse")
    path = lab.in_cluster()
    lab.pod(running=lab.image(key("a")))
    await lab.tell()
    assert lab.kube.objects[path]["status"]["verdicts"]["allowed"] == 1
    assert lab.kube.objects[path]["status"]["preview"]["denied"] == 1


async def test_the_leader_s_own_part_of_the_status_is_left_alone_and_leaves_this_alone(lab: Told) -> None:
    from webhook.observe.metrics import Metrics
    from webhook.operator.duty import Duty
    from webhook.operator.leader import Leader

    async def reaches() -> bool:
        return True

    lab.policy()
    path = lab.in_cluster()
    lab.pod(running=lab.image(key("a")))
    leader = Leader(
        lab.kube, lab.written.policies, INSTALLATION, lambda: lab.now, reaches, Duty(lab.kube, INSTALLATION, Metrics())
    )
    await leader.statuses.write()
    lab.written.policies.seen(lab.kube.objects[path])
    await lab.tell()
    lab.written.policies.seen(lab.kube.objects[path])
    assert {"conditions", "verdicts", "preview"} <= lab.kube.objects[path]["status"].keys()
    lab.kube.asked.clear()
    await leader.statuses.write()
    await lab.tell()
    assert [path for method, path in lab.kube.asked if method != "GET"] == []


async def test_f29_counts_of_a_former_leader_are_set_right(lab: Told) -> None:
    before = {"verdicts": {"allowed": 7}, "preview": {"denied": 7}}
    path = lab.in_cluster(status=before)
    quiet = lab.in_cluster("quiet")
    await lab.tell()
    assert lab.kube.objects[path]["status"]["verdicts"]["allowed"] == 0
    assert lab.kube.objects[path]["status"]["preview"]["denied"] == 0
    # Of what nothing was said, and nothing is to be said, nothing is written.
    assert "status" not in lab.kube.objects[quiet]


async def test_f33_a_status_that_cannot_be_written_is_written_later(lab: Told) -> None:
    lab.policy()
    path = lab.in_cluster()
    lab.pod(running=lab.image(key("a")))
    lab.kube.failing[path] = KubeError("changed", 409)
    await lab.tell()
    assert "status" not in lab.kube.objects[path]
    lab.kube.failing.clear()
    await lab.tell()
    assert lab.kube.objects[path]["status"]["verdicts"]["allowed"] == 1
    lab.written.policies.gone({**lab.kube.objects[path]})
    await lab.tell()
    assert not lab.verdicts._written


def test_what_has_gone_meanwhile_is_not_counted() -> None:
    from webhook.background.examine import Result

    assert tallies({b"x": Result((), ())}, {}, START) == {}
    assert results_of({b"x": Result((), ())}, {}, (), START) == {}


async def test_f33_so_many_policies_are_written_at_a_time_the_new_ones_first_and_what_fails_last(
    lab: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_VERDICTS", 3)

    def told() -> list[str]:
        found = [path.split("/")[-2] for method, path in lab.kube.asked if method == "PATCH"]
        lab.kube.asked.clear()
        return found

    names = [f"p{i}" for i in range(5)]
    paths = {name: lab.in_cluster(name) for name in names}
    for name in names:
        lab.policy(f"shop/{name}")
    lab.pod(running=lab.image(key("a")), name="one")
    lab.kube.failing[paths["p0"]] = KubeError("500 internal error", 500)
    await lab.tell()
    assert told() == ["p0", "p1", "p2"]
    await lab.tell()
    assert told() == ["p3", "p4", "p0"]
    # All have something new to say, and one of them the first.
    lab.kube.failing.clear()
    lab.pod(running=lab.image(key("a")), name="two")
    await lab.tell()
    assert told() == ["p1", "p2", "p3"]
    await lab.tell()
    assert told() == ["p4", "p0"]
    assert lab.kube.objects[paths["p0"]]["status"]["verdicts"]["allowed"] == 2


async def test_f33_a_policy_that_is_deleted_while_verdicts_are_written_stops_no_other(
    lab: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"p{i:02}" for i in range(limits.MAX_WRITES_AT_ONCE + 4)]
    paths = {name: lab.in_cluster(name) for name in names}
    for name in names:
        lab.policy(f"shop/{name}")
    lab.pod(running=lab.image(key("a")))
    await lab.step()
    merge, gone = lab.kube.merge, paths[names[-1]]

    async def slowly(path: str, body: Document) -> Document:
        await asyncio.sleep(0)
        if gone in lab.kube.objects:
            lab.written.policies.gone(lab.kube.objects[gone])
            lab.kube.remove(gone)
        if path.startswith(gone):
            raise KubeError("not found", 404)
        return await merge(path, body)

    monkeypatch.setattr(lab.kube, "merge", slowly)
    await lab.tell()
    counted = [name for name, path in paths.items() if "verdicts" in lab.kube.objects.get(path, {}).get("status", {})]
    assert counted == names[:-1]
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []


async def test_f33_an_api_server_that_says_429_gets_no_verdicts_for_a_while(lab: Told) -> None:
    seconds = [0.0]
    lab.verdicts.writes = Writes(lambda: seconds[0])
    lab.policy()
    path = lab.in_cluster()
    lab.pod(running=lab.image(key("a")))
    lab.kube.failing[path] = KubeError("429 too many requests", 429, 20)
    await lab.tell()
    lab.kube.failing.clear()
    for seconds[0], count in ((19.0, 0), (20.0, 1)):
        lab.kube.asked.clear()
        await lab.tell()
        assert [one for one, _ in lab.kube.asked].count("PATCH") == count
