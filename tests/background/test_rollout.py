"""`rollout`: audit first, then for good; decided alike by whoever looks (policy.md, F-29)."""

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.background.test_drift import twin
from tests.background.test_reports import Told
from tests.background.test_rescan import Slow
from tests.fake.kube import FakeKube
from tests.fake.signing import key
from tests.operator.test_policies import INLINE
from tests.operator.test_policies import World as Replica
from webhook.formats import FORMATS
from webhook.keys.cluster import ClusterKeys
from webhook.keys.remote import RemoteKeys
from webhook.kube.client import Document
from webhook.memory.store import PolicyStore
from webhook.operator.policies import Policies
from webhook.operator.rollout import clean_since, effective, staged
from webhook.operator.statuses import Statuses
from webhook.policy.afterwards import NEVER
from webhook.verdict import PolicyKey

WEB = PolicyKey("shop", "web")
PATH = "/apis/trusted-images.dev/v1alpha1/namespaces/shop/trustpolicies/web"
DAY = dt.timedelta(days=1)
SPEC: dict[str, Any] = {"images": ["**"], "signers": [{"name": "a", "cosign": {"key": key("a").pem}}]}


class Staging(Told):
    """A leader whose policies come from the API server, and a policy there."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__(pool)
        self.written = Replica()
        self.written.policies = self.replica(self.store)

    def replica(self, store: PolicyStore | None = None) -> Policies:
        """Another replica, which has just started."""
        kube = FakeKube()
        return Policies(store or PolicyStore(), ClusterKeys(kube), RemoteKeys({}), FORMATS, "ti", _nothing, self.clock)

    def write(self, **spec: Any) -> Document:
        """The policy is written, or written again."""
        created = self.now.isoformat().replace("+00:00", "Z")
        before = self.kube.objects.get(PATH, {})
        metadata = before.get("metadata", {"creationTimestamp": created, "namespace": "shop", "name": "web"})
        status = {"status": before["status"]} if "status" in before else {}
        self.kube.put(PATH, {"metadata": metadata, "spec": {**SPEC, **spec}, **status})
        return self.heard()

    def heard(self, *others: Policies) -> Document:
        """What the API server has is told to this replica, and to others."""
        document = self.kube.objects[PATH]
        for policies in (self.written.policies, *others):
            policies.seen(document)
        return document

    async def day(self, *others: Policies, days: float = 1) -> Document:
        """Time passes, and everybody does what is to be done."""
        self.now += DAY * days

        for _ in range(2):
            await self.tell()
            self.heard(*others)
            await Statuses(self.kube, self.written.policies, self.clock).write()
            self.heard(*others)
        status: Document = self.kube.objects[PATH].get("status", {})
        return status

    def mode(self, policies: Policies | None = None) -> str:
        """What holds now, on this replica or another."""
        return (policies or self.written.policies).in_force[WEB].policy.terms.mode_at(self.now)


def _nothing() -> None:
    """Nobody is told."""


def condition(status: Document) -> tuple[str, str, str]:
    (found,) = [one for one in status["conditions"] if one["type"] == "Effective"]
    return found["status"], found["reason"], found["message"]


@pytest.fixture
def lab() -> Iterator[Staging]:
    with ThreadPoolExecutor(1) as pool:
        made = Staging(pool)
        yield made


async def test_always_ends_by_time_alone_on_every_replica_and_without_a_leader(lab: Staging) -> None:
    lab.write(rollout={"auditFor": "48h", "promoteWhen": "always"})
    late = lab.replica()
    lab.heard(late)
    for days, mode in ((0, "audit"), (1.99, "audit"), (0.01, "enforce"), (10, "enforce")):
        lab.now += DAY * days
        assert lab.mode() == lab.mode(late) == mode
    lab.now -= DAY * 11
    status = await lab.day(days=0)
    assert status["effectiveMode"] == "audit"
    assert condition(status)[:2] == ("False", "AuditFirst")
    assert "in audit until 2026-11-03T12:00:00Z, then in mode enforce" in condition(status)[2]
    status = await lab.day(days=2)
    assert status["effectiveMode"] == "enforce"
    assert condition(status) == ("True", "Promoted", "in mode enforce since 2026-11-03T12:00:00Z")


async def test_clean_ends_after_a_time_in_which_nothing_would_have_been_denied(lab: Staging) -> None:
    lab.write(rollout={"auditFor": "48h"})
    lab.pod(running=lab.image(key("a")))
    status = await lab.day()
    assert (lab.mode(), status["effectiveMode"]) == ("audit", "audit")
    assert condition(status)[:2] == ("False", "AuditFirst")
    assert "if nothing would be denied until then" in condition(status)[2]
    status = await lab.day()
    assert (lab.mode(), status["effectiveMode"]) == ("enforce", "enforce")
    assert condition(status)[:2] == ("True", "Promoted")
    # Whoever comes later reads it.
    late = lab.replica()
    lab.heard(late)
    assert lab.mode(late) == "enforce"


async def test_r04_a_twin_of_what_is_signed_holds_up_no_promotion(lab: Staging) -> None:
    lab.write(rollout={"auditFor": "48h"})
    lab.pod(running=twin(lab, lab.image(key("a")), "app"))
    await lab.day()
    assert lab.mode() == "audit"
    assert "lastDenied" not in (await lab.day())["preview"]
    assert lab.mode() == "enforce"


async def test_clean_waits_while_something_would_be_denied_and_says_what(lab: Staging) -> None:
    lab.write(rollout={"auditFor": "48h"})
    bad = lab.pod(running=lab.image())
    status = await lab.day()
    for _ in range(4):
        status = await lab.day()
        assert (lab.mode(), status["effectiveMode"]) == ("audit", "audit")
    assert condition(status)[:2] == ("False", "WouldDeny")
    assert "1 images would be denied" in condition(status)[2]
    assert status["preview"]["examples"]
    # It goes; from then on the time counts, and no earlier.
    lab.kube.remove("/api/v1/namespaces/shop/pods/web")
    lab.pods.gone(bad)
    status = await lab.day(days=0)
    assert status["preview"]["lastDenied"] == "2026-11-06T12:00:00Z"
    await lab.day(days=1.9)
    assert lab.mode() == "audit"
    await lab.day(days=0.1)
    assert lab.mode() == "enforce"


async def test_what_came_and_went_between_two_looks_counts(lab: Staging) -> None:
    lab.write(rollout={"auditFor": "48h"})
    await lab.day()
    job = lab.pod(running=lab.image())
    await lab.step()
    lab.pods.gone(job)
    status = await lab.day()
    assert status["preview"]["denied"] == 0
    assert status["preview"]["lastDenied"] == "2026-11-02T12:00:00Z"
    assert lab.mode() == "audit"
    await lab.day()
    assert lab.mode() == "enforce"


async def test_what_could_not_be_verified_is_not_clean(lab: Staging) -> None:
    from webhook.trust import Unavailable

    lab.write(rollout={"auditFor": "24h"})
    lab.pod(running=lab.image(key("a")))
    lab.registry.fail("resolve", lambda: Unavailable("down"))
    status = await lab.day(days=3)
    assert lab.mode() == "audit"
    assert "1 could not be verified" in condition(status)[2]


async def test_nothing_is_promoted_before_everything_has_been_judged(lab: Staging) -> None:
    lab.write(rollout={"auditFor": "24h"})
    lab.pods.listed = False
    status = await lab.day(days=3)
    # The leader has judged nothing: an empty result is not a clean one.
    assert lab.mode() == "audit"
    assert condition(status)[1] in {"NotJudgedYet", "AuditFirst"}
    assert "rollout" not in status


async def test_f29_without_a_leader_nothing_is_promoted_and_nothing_falls_back(lab: Staging) -> None:
    lab.write(rollout={"auditFor": "24h"})
    lab.now += DAY * 30
    assert lab.mode() == "audit"
    await lab.day()
    assert lab.mode() == "enforce"
    lab.now += DAY * 30
    assert lab.mode() == "enforce"


async def test_m11_an_emptied_status_takes_nobody_back_to_audit_and_is_written_again(lab: Staging) -> None:
    lab.write(rollout={"auditFor": "24h"})
    status = await lab.day(days=2)
    promoted = status["rollout"]["promotedAt"]
    lab.kube.put(PATH, {**lab.kube.objects[PATH], "status": {}})
    lab.heard()
    assert lab.mode() == "enforce"
    status = await lab.day(days=0)
    assert status["rollout"]["promotedAt"] == promoted
    late = lab.replica()
    lab.heard(late)
    assert lab.mode(late) == "enforce"


@pytest.mark.parametrize(
    "edit",
    [
        {"rollout": {"auditFor": "999h"}},
        {"rollout": {"auditFor": "999h", "promoteWhen": "always"}},
        {"rollout": {"auditFor": "24h"}, "message": "other"},
        {},
    ],
)
async def test_what_is_enforced_stays_so_when_the_policy_is_edited(lab: Staging, edit: dict[str, Any]) -> None:
    lab.write(rollout={"auditFor": "24h"})
    await lab.day(days=2)
    lab.write(**edit)
    assert lab.mode() == "enforce"
    await lab.day(days=0)
    late = lab.replica()
    lab.heard(late)
    assert lab.mode(late) == "enforce"


async def test_a_rollout_that_an_enforced_policy_is_given_changes_nothing_and_an_audited_one_waits(
    lab: Staging,
) -> None:
    lab.write()
    assert lab.mode() == "enforce"
    lab.write(rollout={"auditFor": "24h"})
    assert lab.mode() == "enforce"
    await lab.day(days=0)
    late = lab.replica()
    lab.heard(late)
    assert lab.mode(late) == "enforce"
    lab.write(mode="audit")
    assert lab.mode() == "audit"
    status = await lab.day(days=0)
    assert "rollout" not in status
    lab.write(rollout={"auditFor": "24h"})
    late = lab.replica()
    lab.heard(late)
    assert lab.mode() == lab.mode(late) == "audit"


async def test_an_object_made_anew_begins_anew(lab: Staging) -> None:
    lab.write(rollout={"auditFor": "24h"})
    await lab.day(days=2)
    assert lab.mode() == "enforce"
    lab.kube.remove(PATH)
    lab.write(rollout={"auditFor": "24h"})
    assert lab.mode() == "audit"


async def test_drift_is_judged_from_the_promotion_on(lab: Staging) -> None:
    lab.write(rollout={"auditFor": "24h", "promoteWhen": "always"})
    await lab.day(days=0)
    lab.now += DAY * 0.5
    lab.pod(running=lab.image(), name="before")
    await lab.tell()
    lab.now += DAY
    await lab.tell()
    # Enforced by now, and judged so without anybody changing anything; but it was admitted by an audit.
    (result,) = lab.rescan.results.values()
    assert {line.mode for line in result.runs} == {"enforce"}
    assert not lab.rescan.drifts
    lab.pod(running=lab.image(content=b"evil"), name="after")
    await lab.tell()
    assert [drift.name for drift in lab.rescan.drifts.values()] == ["after"]


@pytest.mark.parametrize("said", [None, 7, {}, {"promotedAt": "soon"}, {"promotedAt": "2026-11-01T12:00:00"}, []])
def test_what_is_no_promotion_promotes_nothing(lab: Staging, said: object) -> None:
    document = lab.write(rollout={"auditFor": "24h"})
    policy = lab.written.policies.in_force[WEB].policy
    assert (
        staged(policy, {**document, "status": {"rollout": said}}, None, lab.now).terms.afterwards.audit_until == NEVER
    )
    assert staged(policy, {**document, "status": said}, None, lab.now).terms.afterwards.audit_until == NEVER


def test_a_policy_that_waits_for_nothing_says_nothing_about_it(lab: Staging) -> None:
    document = lab.write()
    assert effective(lab.written.policies.in_force[WEB].policy, document, lab.now) is None
    assert clean_since({"metadata": {}, "status": {"preview": {"denied": 0}}}) is None
    # An object that no API server has made is waited for by nobody.
    replica = lab.replica()
    replica.seen(
        {
            "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "1"},
            "spec": {**INLINE, "rollout": {"auditFor": "24h", "promoteWhen": "always"}},
        }
    )
    assert lab.mode(replica) == "enforce"


async def test_m04_a_promotion_waits_for_nothing_that_runs_elsewhere(
    lab: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write(rollout={"auditFor": "24h"})
    lab.policy("evil/other")
    lab.store.put_namespace("evil", {})
    lab.pod(running=lab.image(key("a")))
    slow = Slow(lab, monkeypatch, "evil")
    lab.pod(running=lab.image(content=b"slow", tag="v2"), name="slow", namespace="evil")
    status = await lab.day(days=2)
    assert slow.now == ["evil"]
    assert (lab.mode(), status["effectiveMode"]) == ("enforce", "enforce")
    slow.over.set()


async def test_m04_a_promotion_that_waits_for_its_own_pods_says_so(
    lab: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write(rollout={"auditFor": "24h"})
    lab.pod(running=lab.image(key("a")))
    await lab.day(days=0)
    slow = Slow(lab, monkeypatch, "shop")
    lab.pod(running=lab.image(key("a"), content=b"slow"), name="slow")
    status = await lab.day(days=2)
    assert (lab.mode(), status["effectiveMode"]) == ("audit", "audit")
    assert condition(status) == (
        "False", "NotJudgedYet", "in audit: its time is over, and some of what runs has not been judged yet",
    )  # fmt: skip
    slow.over.set()
    await lab.day(days=0)
    assert lab.mode() == "enforce"
