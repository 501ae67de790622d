"""What runs and will end is told before it does: in the policy's status and condition, in reports and in metrics (fault F-17)."""

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.background.laboratory import HOST, START
from tests.background.test_reports import OPEN
from tests.background.test_rollout import PATH, WEB, Staging
from tests.fake.notation import Party, authority, party, sign_notation, stamped_by, store, trusting
from tests.fake.registries import ANONYMOUS
from tests.fake.signing import key, sign_bundle
from tests.formats.test_notation import STAMPING
from tests.policies import EXCEPTION, exception, policy
from webhook import limits
from webhook.background.examine import Result
from webhook.background.excused import Excused, excused
from webhook.background.lines import Line
from webhook.background.pods import Pod
from webhook.background.verdicts import tallies
from webhook.background.work import ends_of
from webhook.image import Digest
from webhook.judge.decide import Decider
from webhook.judge.evaluate import Judge
from webhook.kube import KubeError
from webhook.kube.client import Document
from webhook.moment import rfc3339
from webhook.observe.running import RunningMetrics
from webhook.operator.exceptions import Exceptions, path_of
from webhook.operator.exceptionstatus import ExceptionStatuses
from webhook.operator.radar import ALERTED, SOON
from webhook.trust import Unavailable
from webhook.verdict import End, ExceptionKey, PolicyKey

DAY = dt.timedelta(days=1)
LONG: dict[str, Any] = {"begins": START - DAY, "ends": START + 3000 * DAY}
ROOT = authority("Root", **LONG)
TSA_ROOT = authority("TSA Root", **LONG)
TSA = party("TSA", TSA_ROOT, STAMPING, **LONG)
ENDS = START + 40 * DAY
SIGNER = party("Signer", ROOT, begins=START - DAY, ends=ENDS)
SIGNERS: list[dict[str, Any]] = [
    {"name": "release", "notation": trusting(store("ca", ROOT), store("tsa", TSA_ROOT), timestamp="afterCertExpiry")}
]
TOLD = f"until {rfc3339(ENDS)}: certificate {SIGNER.certificate.subject.rfc4514_string()}"


class Ending(Staging):
    """A leader, and images that are signed by certificates."""

    def signed(self, signer: Party = SIGNER, path: str = "app", *, stamped: bool = False) -> Digest:
        digest = self.image(path=path, content=path.encode())
        options: dict[str, Any] = {"stamp": stamped_by(TSA, self.now)} if stamped else {}
        sign_notation(self.registry, path, digest, signer, signed_at=self.now, **options)
        return digest

    def forget(self, pool: ThreadPoolExecutor) -> None:
        """What is remembered of signatures, which lasts as long as real time does."""
        self.judge = Judge(self.registries, pool=pool, now=self.clock, observer=self.judge._observer)
        self.rescan.asked = self.decider = Decider(self.judge, self.store, lambda _: ANONYMOUS)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.fixture
def lab(pool: ThreadPoolExecutor) -> Ending:
    made = Ending(pool)
    made.kube.put("/apis/rbac.authorization.k8s.io/v1/clusterroles/trusted-images", {})
    return made


def expiring(status: Document) -> tuple[str, str, str]:
    (found,) = [one for one in status["conditions"] if one["type"] == "Expiring"]
    return found["status"], found["reason"], found["message"]


async def test_f17_what_runs_and_could_soon_not_be_started_again_is_told_with_its_pods(
    lab: Ending, pool: ThreadPoolExecutor
) -> None:
    lab.write(signers=SIGNERS)
    digest = lab.signed()
    for name in ("web-b", "web-a"):
        lab.pod(running=digest, name=name)
    lab.pod(image=f"{HOST}/other:v1", running=lab.signed(path="other", stamped=True), name="stamped")
    status = await lab.day(days=0)
    assert status["verdicts"]["allowed"] == 3
    assert "ending" not in status
    assert expiring(status)[:2] == ("False", "NothingEndsSoon")
    # Nobody does anything; the month begins. What has a trusted time does not end.
    status = await lab.day(days=10.5)
    assert status["ending"] == {"images": 2, "first": rfc3339(ENDS), "examples": [f"shop/web-a: {TOLD}"]}
    assert expiring(status) == (
        "True",
        "RunningEndsSoon",
        f"2 images of running containers could not be started again from {rfc3339(ENDS)} on: shop/web-a: {TOLD}; …",
    )
    assert lab.kube.reasons() == ["PolicyRunningEndsSoon"]
    # While nothing changes nothing is written.
    lab.kube.asked.clear()
    for _ in range(4):
        await lab.day(days=1)
    assert [asked for asked in lab.kube.asked if asked[0] != "GET"] == []
    # It is signed again by a certificate that lasts: whichever signature is found first, the last one counts.
    sign_notation(lab.registry, "app", digest, party("Next", ROOT, **LONG), signed_at=lab.now)
    lab.forget(pool)
    status = await lab.day()
    assert "ending" not in status
    assert expiring(status)[:2] == ("False", "NothingEndsSoon")
    assert status["verdicts"] == {"allowed": 3, "denied": 0, "undecided": 0, "excused": 0, "examples": []}


@pytest.mark.parametrize("require", ["release or other", "other or release"])
async def test_another_signer_that_would_be_enough_is_looked_for_before_an_end_is_told(
    lab: Ending, pool: ThreadPoolExecutor, require: str
) -> None:
    lab.write(signers=[*SIGNERS, {"name": "other", "cosign": {"key": key("a").pem}}], require=require)
    digest = lab.signed()
    lab.pod(running=digest)
    status = await lab.day(days=11)
    assert status["ending"]["images"] == 1
    sign_bundle(lab.registry, "app", digest, key("a"))
    lab.forget(pool)
    status = await lab.day()
    assert "ending" not in status


async def test_f17_when_something_has_ended_what_rests_on_it_is_judged_at_once(
    lab: Ending, pool: ThreadPoolExecutor
) -> None:
    lab.write(signers=SIGNERS)
    lab.pod(running=lab.signed())
    await lab.day(days=39.8)
    assert lab.endings() == ["allowed"]
    lab.forget(pool)
    # Long before the next of its rounds.
    assert lab.rescan.whole is not None
    assert ENDS - lab.rescan.whole < lab.rescan.every / 2
    lab.now = ENDS
    await lab.day(days=0)
    assert lab.endings() == ["allowed"]
    lab.now = ENDS + dt.timedelta(seconds=1)
    status = await lab.day(days=0)
    assert lab.endings() == ["denied"]
    assert status["preview"]["denied"] == 1
    assert "ending" not in status


async def test_f17_what_cannot_be_verified_beside_it_does_not_put_that_off(
    lab: Ending, pool: ThreadPoolExecutor
) -> None:
    lab.write(signers=SIGNERS)
    lab.policy("shop/other")
    digest = lab.signed()
    lab.registry.fail(f"manifest {digest.replace(':', '-')}.sig", lambda: Unavailable("down"))
    lab.pod(running=digest)
    lab.now = ENDS - dt.timedelta(seconds=30)
    await lab.day(days=0)
    assert sorted(lab.endings()) == ["allowed", "undecided"]
    lab.forget(pool)
    assert limits.RESCAN_AGAIN_SECONDS > 31
    lab.now = ENDS + dt.timedelta(seconds=1)
    await lab.day(days=0)
    assert sorted(lab.endings()) == ["denied", "undecided"]


@pytest.mark.parametrize("zone", ["Z", "-14:00"])
async def test_f17_what_is_to_last_for_ever_ends_nobody_s_work(lab: Ending, zone: str) -> None:
    # The last second there is; how a certificate says that it has no end (RFC 5280, 4.1.2.5).
    last = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    root = authority("Forever", begins=START - DAY, ends=last)
    stores = trusting(store("ca", root), store("tsa", TSA_ROOT), timestamp="afterCertExpiry")
    named = {"name": "valid", "cosign": {"key": key("a").pem}, "validity": {"notAfter": f"9999-12-31T23:59:59{zone}"}}
    lab.store.put(policy("shop/web", {"signers": [{"name": "release", "notation": stores}, named], "require": "any"}))
    lab.pod(running=lab.signed(party("Forever signer", root, begins=START - DAY, ends=last)), name="certificate")
    lab.pod(f"{HOST}/valid:v1", lab.image(key("a"), path="valid"), name="valid")
    until = exception("shop/hotfix", policies=["web"], expiresAt=f"9999-12-31T23:59:59{zone}")
    lab.store.put_exception(until)
    lab.pod(f"{HOST}/bad:v1", lab.image(path="bad"), name="bad")
    await lab.step()
    assert [lab.endings(name) for name in ("certificate", "valid", "bad")] == [["allowed"], ["allowed"], ["excused"]]
    ends = {line.ends.at for result in lab.rescan.results.values() for line in result.runs if line.ends is not None}
    assert {end.year for end in ends} == {9999}
    # Nothing of it is looked at again before the next round.
    assert lab.rescan._again == {}
    assert lab.is_up_to_date


async def test_what_rests_on_a_root_that_ends_is_not_said_to_end_with_it(lab: Ending) -> None:
    root = authority("Short Root", begins=START - DAY, ends=START + 20 * DAY)
    stores = trusting(store("ca", root), store("tsa", TSA_ROOT), timestamp="afterCertExpiry")
    lab.write(signers=[{"name": "release", "notation": stores}])
    status = await lab.day(days=0)
    said = f'signer "release": certificate {root.certificate.subject.rfc4514_string()} ends at 2026-11-21T12:00:00Z'
    assert expiring(status) == ("True", "EndsSoon", f"{said}. Concerned: **")
    signer = party("Signer", root, begins=START - DAY, ends=START + 15 * DAY)
    pod = lab.pod(running=lab.signed(signer, stamped=True))
    status = await lab.day(days=0)
    told = "Of what runs nothing is known to end with it: what was signed at a trusted time stays"
    assert expiring(status)[2] == f"{said}. Concerned: **. {told}"
    # Without a trusted time it does end, and with the first certificate of its chain.
    lab.pod(image=f"{HOST}/bare:v1", running=lab.signed(signer, "bare"), name="bare")
    status = await lab.day(days=0)
    assert pod["metadata"]["name"] not in str(status["ending"])
    assert status["ending"]["first"] == "2026-11-16T12:00:00Z"
    status_, reason, message = expiring(status)
    assert (status_, reason) == ("True", "EndsSoon")
    assert message.startswith(f"{said}. Concerned: **. 1 images of running containers could not be started again from ")


async def test_f29_what_a_former_leader_said_to_end_is_set_right(lab: Ending) -> None:
    lab.write(signers=SIGNERS)
    old = {"verdicts": {"allowed": 1}, "preview": {}, "ending": {"images": 3, "first": "2026-11-20T00:00:00Z"}}
    document = lab.kube.objects[PATH]
    lab.kube.put(PATH, {**document, "status": old})
    lab.heard()
    # It may come back: of when it went nobody knows.
    status = await lab.day(days=0)
    assert status["ending"] == old["ending"]
    status = await lab.day(days=1)
    assert "ending" not in status
    assert expiring(status)[0] == "False"


async def test_f17_what_comes_and_goes_and_ends_soon_is_told_once(lab: Ending) -> None:
    """A CronJob's Pods run now and then."""
    lab.write(signers=SIGNERS)
    digest = lab.signed()
    lab.now = ENDS - 20 * DAY
    told: Any = None
    for _ in range(12):
        job = lab.pod(running=digest, name="job")
        status = await lab.day(days=0)
        told, said = status["ending"], expiring(status)
        assert told["images"] == 1
        lab.now += DAY / 24
        lab.pods.gone(job)
        lab.kube.remove("/api/v1/namespaces/shop/pods/job")
        status = await lab.day(days=0)
        assert (status["ending"], expiring(status)) == (told, said)
        assert status["verdicts"]["allowed"] == 0
        lab.now += DAY / 2
    assert lab.kube.reasons() == ["PolicyRunningEndsSoon"]
    # It has run for the last time, and a day is over.
    status = await lab.day(days=0.4)
    assert status["ending"] == told
    status = await lab.day(days=0.1)
    assert "ending" not in status
    assert expiring(status)[:2] == ("False", "NothingEndsSoon")
    lab.pod(running=digest, name="job")
    await lab.day(days=0)
    assert lab.kube.reasons() == ["PolicyRunningEndsSoon"] * 2


async def test_f17_what_has_ended_is_not_told_to_end_soon_though_it_has_gone(lab: Ending) -> None:
    lab.write(signers=SIGNERS)
    lab.now = ENDS - DAY / 2
    job = lab.pod(running=lab.signed(), name="job")
    assert "ending" in await lab.day(days=0)
    lab.pods.gone(job)
    assert "ending" in await lab.day(days=0.4)
    assert "ending" not in await lab.day(days=0.1)


@pytest.mark.parametrize("told", [{"images": 3}, {"images": 3, "first": "soon"}, "soon", 7])
async def test_d01_what_somebody_else_has_said_to_end_is_taken_away_at_once(lab: Ending, told: object) -> None:
    lab.write(signers=SIGNERS)
    old = {"verdicts": {"allowed": 1}, "preview": {}, "ending": told}
    lab.kube.put(PATH, {**lab.kube.objects[PATH], "status": old})
    lab.heard()
    assert "ending" not in await lab.day(days=0)


async def test_a_report_says_when_it_ends_and_what_an_exception_lets_past_ends_with_it(lab: Ending) -> None:
    lab.serves(OPEN)
    lab.write(signers=SIGNERS)
    lab.pod(running=lab.signed())
    await lab.day(days=0)
    (told,) = (lab.report() or {})["results"]
    assert "endsAt" not in told["properties"]
    await lab.day(days=11)
    (told,) = (lab.report() or {})["results"]
    assert told["properties"]["endsAt"] == rfc3339(ENDS)
    assert told["properties"]["ends"] == TOLD.partition(": ")[2]
    at = lab.now + 5 * DAY
    lab.store.put_exception(exception("shop/hotfix", policies=["web"], expiresAt=at.isoformat()))
    lab.pod(image=f"{HOST}/bad:v1", running=lab.image(path="bad"), name="bad")
    status = await lab.day(days=0)
    excused = next(one for one in (lab.report() or {})["results"] if one["result"] == "skip")
    assert excused["properties"]["endsAt"] == rfc3339(at)
    assert excused["properties"]["ends"] == "exception shop/hotfix"
    # It was made to end, and is no fault of the policy's.
    assert status["ending"]["images"] == 1


async def test_an_exception_says_what_runs_and_could_not_be_started_again_without_it(lab: Ending) -> None:
    exceptions = Exceptions(lab.store)
    writer = Excused(lab.kube, lambda: exceptions.known)
    statuses = ExceptionStatuses(lab.kube, exceptions, lambda: [WEB, PolicyKey(None, "base")], lab.clock)

    async def told() -> tuple[dict[str, Any] | None, str]:
        await lab.day(days=0)
        for _ in range(2):
            await writer.write(excused(lab.rescan.results, lab.pods.sights))
            exceptions.seen(lab.kube.objects[place])
            await statuses.write()
            exceptions.seen(lab.kube.objects[place])
        status = lab.kube.objects[place]["status"]
        return status.get("running"), status["conditions"][0]["message"]

    place = path_of(ExceptionKey("shop", "hotfix"))
    spec = {**EXCEPTION, "expiresAt": (lab.now + 5 * DAY).isoformat(), "images": [f"{HOST}/bad*"]}
    exceptions.seen(lab.kube.put(place, {"metadata": {"name": "hotfix", "namespace": "shop"}, "spec": spec}))
    lab.write(signers=SIGNERS)
    lab.store.put(policy("base", {"signers": SIGNERS}))
    lab.pod(running=lab.signed())
    until = "approved by bob, until 2026-11-06T12:00:00Z"
    assert await told() == (None, until)
    bad, worse = lab.image(path="bad"), lab.image(path="bad-too")
    for i in range(limits.MAX_EXAMPLES + 2):
        lab.pod(image=f"{HOST}/bad:v1", running=bad, name=f"bad-{i}")
    assert await told() == (None, until), "another policy refuses it all the same"
    exceptions.seen(
        lab.kube.put(
            place,
            {
                "metadata": {"name": "hotfix", "namespace": "shop"},
                "spec": {**spec, "policies": ["web", "cluster/base"]},
            },
        )
    )
    running, message = await told()
    assert running == {"images": limits.MAX_EXAMPLES + 2, "examples": ["bad-0"]}
    assert message == f"{until}; 7 images of running containers could not be started again without it: bad-0, …"
    lab.pod(image=f"{HOST}/bad-too:v1", running=worse, name="worse")
    running, message = await told()
    assert running == {"images": limits.MAX_EXAMPLES + 3, "examples": ["bad-0", "worse"]}
    # While nothing changes nothing is written.
    lab.kube.asked.clear()
    await told()
    assert [path for method, path in lab.kube.asked if method != "GET" and path.startswith(place)] == []
    for i in range(limits.MAX_EXAMPLES + 2):
        lab.kube.remove(f"/api/v1/namespaces/shop/pods/bad-{i}")
    lab.kube.remove("/api/v1/namespaces/shop/pods/worse")
    await lab.step()
    assert await told() == (None, until)


async def test_f33_an_exception_whose_status_cannot_be_written_stops_no_other(
    lab: Ending, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    exceptions = Exceptions(lab.store)
    spec = {**EXCEPTION, "expiresAt": (lab.now + 5 * DAY).isoformat()}
    names = [f"e-{i:02}" for i in range(limits.MAX_WRITES + 2)]
    for name in names:
        place = path_of(ExceptionKey("shop", name))
        exceptions.seen(lab.kube.put(place, {"metadata": {"name": name, "namespace": "shop"}, "spec": spec}))
    broken = path_of(ExceptionKey("shop", "broken"))
    exceptions.seen(lab.kube.put(broken, {"metadata": {"name": "broken", "namespace": "shop"}, "spec": {}}))
    lab.kube.failing[path_of(ExceptionKey("shop", "e-00"))] = KubeError("down")
    found = {ExceptionKey("shop", name): {"images": 1, "examples": ["x"]} for name in [*names, "broken"]}
    await Excused(lab.kube, lambda: exceptions.known).write(found)
    written = [name for name in names if "status" in lab.kube.objects[path_of(ExceptionKey("shop", name))]]
    assert written == names[1 : limits.MAX_WRITES]
    assert "what runs by exception shop/e-00 was not written: down" in caplog.text
    assert "status" not in lab.kube.objects[broken]


async def test_the_leader_s_figures_are_of_what_would_be_refused(lab: Ending) -> None:
    lab.write(signers=SIGNERS)
    lab.store.put(policy("audited", {"signers": SIGNERS}, mode="audit", images=[f"{HOST}/other"]))
    lab.pod(
        image=f"{HOST}/other:v1", running=lab.signed(party("Soon", ROOT, begins=START - DAY, ends=START + DAY), "other")
    )
    lab.write(signers=SIGNERS, exclude=[f"{HOST}/other"])
    await lab.day(days=0)
    known = lab.rescan.results, lab.pods.sights
    # It is only audited.
    assert ends_of(*known, lab.now) == (None, 0)
    digest = lab.signed()
    for name in ("web-a", "web-b"):
        lab.pod(running=digest, name=name)
    await lab.day(days=0)
    assert ends_of(*known, lab.now) == (ENDS, 0)
    assert ends_of(*known, ENDS - ALERTED) == (ENDS, 0)
    assert ends_of(*known, ENDS - ALERTED + dt.timedelta(seconds=1)) == (ENDS, 2)
    # What another policy refuses ends no more.
    lab.store.put(policy("strict", {"signers": [{"name": "b", "cosign": {"key": key("b").pem}}]}))
    await lab.day(days=0)
    assert ends_of(*known, ENDS - ALERTED + dt.timedelta(seconds=1)) == (None, 0)


def test_f29_the_figures_of_a_leader_that_leads_no_more_are_taken_back() -> None:
    registry = CollectorRegistry()
    metrics = RunningMetrics(registry)
    metrics.ends(ENDS, 7)
    assert (metrics.first_end, registry.get_sample_value("trusted_images_ending_images")) == (ENDS, 7)
    metrics.clear()
    assert (metrics.first_end, registry.get_sample_value("trusted_images_ending_images")) == (None, 0)


def test_d01_what_is_told_is_bounded_and_the_first_come_first() -> None:
    def ending(i: int) -> tuple[Result, dict[str, Pod]]:
        pod = Pod("shop", f"web-{i:04}", f"uid-{i}", 0.0, 0.0, b"", "")
        line = Line("x", "y", WEB, "allowed", ends=End(START + (i % 20) * DAY, "z" * 1000))
        return Result((), (line,)), {pod.uid: pod}

    kinds = {b"%d" % i: ending(i) for i in range(3000)}
    results = {sight: result for sight, (result, _) in kinds.items()}
    tally = tallies(results, {sight: pods for sight, (_, pods) in kinds.items()}, START)[WEB]
    told = tally.status()["ending"]
    assert (told["images"], told["first"]) == (3000, rfc3339(START))
    assert [text.partition(":")[0] for text in told["examples"]] == [f"shop/web-{i:04}" for i in range(0, 100, 20)]
    assert max(map(len, told["examples"])) == limits.MAX_EXAMPLE
    # What ends later than soon is not told.
    assert tallies(results, {sight: pods for sight, (_, pods) in kinds.items()}, START - SOON)[WEB].ending.total() == 0
