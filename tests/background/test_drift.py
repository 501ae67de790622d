"""What runs is compared with what was verified (attacks R-04, R-06, R-09; W-02 for what is left out)."""

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.background import laboratory
from tests.background.laboratory import CONFIGURATION, HOST, Lab
from tests.fake.registry import EMPTY_CONFIG
from tests.fake.signing import key, sign_bundle
from tests.policies import exception, policy
from webhook import limits
from webhook.background.beside import Beside
from webhook.background.contents import contents_of
from webhook.background.drift import has_drifted
from webhook.image import Digest
from webhook.kube import KubeError
from webhook.memory.store import PolicyStore
from webhook.policy.exception import TrustException
from webhook.trust import Unavailable
from webhook.verdict import PolicyKey

OTHER = Digest(f"sha256:{'7' * 64}")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with laboratory.lab() as made:
        yield made


def excepting(lab: Lab, **fields: Any) -> TrustException:
    """An exception for what the lab's images are called, in force from now on."""
    expires = (lab.now + dt.timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    made = exception(
        **{
            "expiresAt": expires,
            **fields,
        }
    )
    lab.store.put_exception(made)
    return made


async def test_r04_a_tag_that_moved_between_admission_and_start_is_told(lab: Lab) -> None:
    lab.policy()
    await lab.step()
    lab.passes()
    signed = lab.image(key("a"))
    lab.pod(running=signed, name="good")
    moved = lab.image(content=b"evil")
    lab.pod(running=moved, name="bad")
    await lab.step()
    (drift,) = lab.rescan.drifts.values()
    assert (drift.name, drift.running) == ("bad", moved)
    assert "which was not verified" in drift.text
    (event,) = [one for place, one in lab.kube.objects.items() if "/events/" in place]
    assert (event["reason"], event["involvedObject"]["name"]) == ("ImageDrifted", "bad")
    assert lab.kube.evicted == []
    # Told once, however often one looks.
    await lab.step()
    assert lab.kube.reasons() == ["ImageDrifted"]


async def test_r04_it_is_evicted_where_the_policy_says_so(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    lab.pod(running=lab.image(key("a")), name="good")
    lab.pod(running=lab.image(content=b"evil"), name="bad")
    await lab.step()
    assert lab.kube.evicted == ["bad"]
    assert lab.kube.reasons() == ["ImageDrifted", "ImageEvicted"]
    await lab.step()
    assert not lab.rescan.drifts


async def test_r04_whoever_switches_eviction_on_evicts_what_has_drifted_before(lab: Lab) -> None:
    lab.policy()
    await lab.step()
    lab.passes()
    lab.pod(running=lab.image(content=b"evil"))
    await lab.step()
    assert lab.kube.evicted == []
    lab.policy(onDrift="evict")
    await lab.step()
    assert lab.kube.evicted == ["web"]
    assert lab.kube.reasons() == ["ImageDrifted", "ImageEvicted"]


async def test_r04_a_disruption_budget_holds_and_the_eviction_is_asked_for_again(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    lab.pod(running=lab.image(content=b"evil"))
    lab.kube.budget = False
    await lab.step()
    await lab.step()
    assert sum(path.endswith("/eviction") for _, path in lab.kube.asked) == 1
    lab.kube.budget = True
    lab.passes(limits.EVICT_AGAIN_SECONDS)
    await lab.step()
    assert lab.kube.evicted == ["web"]


async def test_r04_another_pod_of_that_name_is_not_evicted(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    lab.pod(running=lab.image(content=b"evil"))
    lab.kube.objects["/api/v1/namespaces/shop/pods/web"]["metadata"]["uid"] = "another"
    await lab.step()
    assert lab.kube.evicted == []


async def test_r04_so_many_are_evicted_at_a_time(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    moved = lab.image(content=b"evil")
    for i in range(limits.MAX_EVICTIONS + 5):
        lab.pod(running=moved, name=f"web-{i}")
    await lab.step()
    assert len(lab.kube.evicted) == limits.MAX_EVICTIONS
    await lab.step()
    assert len(lab.kube.evicted) == limits.MAX_EVICTIONS + 5


async def test_f33_what_cannot_be_evicted_stops_no_other(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    moved = lab.image(content=b"evil")
    lab.kube.failing["/api/v1/namespaces/shop/events"] = KubeError("forbidden", 403)
    for name in ("one", "two"):
        lab.pod(running=moved, name=name)
    await lab.step()
    assert sorted(lab.kube.evicted) == ["one", "two"]


async def test_a_policy_that_comes_later_evicts_nothing_that_runs(lab: Lab) -> None:
    lab.pod(running=lab.image(content=b"old"))
    lab.passes()
    lab.policy(onDrift="evict")
    await lab.step()
    assert lab.endings() == ["denied"]
    assert not lab.rescan.drifts
    # Nor does one that comes in the moment in which a replica may not have heard of it.
    lab.passes(limits.DRIFT_MARGIN)
    lab.pod(running=lab.image(content=b"new"), name="early")
    await lab.step()
    assert not lab.rescan.drifts
    lab.passes(1)
    lab.pod(running=lab.image(content=b"newer"), name="late")
    await lab.step()
    assert [drift.name for drift in lab.rescan.drifts.values()] == ["late"]


async def test_what_was_in_order_when_it_started_has_not_drifted_when_its_key_goes(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    lab.pod(running=lab.image(key("a")))
    await lab.step()
    lab.policy(onDrift="evict", deny={"keys": [key("a").fingerprint]})
    lab.passes()
    await lab.step()
    assert lab.endings() == ["denied"]
    assert not lab.rescan.drifts


async def test_r04_a_container_that_restarts_as_something_else_has_drifted_however_old_its_pod(lab: Lab) -> None:
    lab.pod(running=lab.image(key("a")))
    lab.passes()
    lab.policy()
    await lab.step()
    assert lab.endings() == ["allowed"]
    lab.passes()
    lab.pod(running=lab.image(content=b"evil"))
    await lab.step()
    assert [drift.name for drift in lab.rescan.drifts.values()] == ["web"]


async def test_r04_a_tag_that_moves_to_another_signed_image_is_no_drift(lab: Lab) -> None:
    lab.policy()
    await lab.step()
    lab.passes()
    lab.pod(running=lab.image(key("a")))
    await lab.step()
    lab.pod(running=lab.image(key("a"), content=b"two"))
    await lab.step()
    assert lab.endings() == ["allowed"]
    assert not lab.rescan.drifts


async def test_r03_a_node_that_runs_another_digest_than_was_written_has_drifted(lab: Lab) -> None:
    signed = lab.image(key("a"))
    lab.pod(f"{HOST}/app@{signed}", lab.image(content=b"evil"))
    lab.pod(f"{HOST}/app@{signed}", signed, name="good")
    lab.passes()
    # However old the Pod and however new the policy.
    lab.policy()
    await lab.step()
    (drift,) = lab.rescan.drifts.values()
    assert drift.name == "web"
    assert f"{signed} was written" in drift.text


@pytest.mark.parametrize("by_digest", [True, False])
async def test_r06_a_node_may_say_which_image_of_an_index_it_runs(lab: Lab, by_digest: bool) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    child, stranger = (lab.registry.push_image("app", tag, tag.encode()) for tag in ("amd64", "arm64"))
    index = lab.registry.push_index("app", "v1", [child])
    sign_bundle(lab.registry, "app", index, key("a"))
    written = f"{HOST}/app@{index}" if by_digest else f"{HOST}/app:v1"
    lab.pod(written, child)
    lab.pod(written, stranger, name="bad")
    await lab.step()
    assert lab.endings() == ["allowed"]
    assert lab.kube.evicted == ["bad"]


async def test_r06_what_cannot_be_looked_up_is_not_held_against_a_node(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    child = lab.registry.push_image("app", "amd64", b"amd64")
    index = lab.registry.push_index("app", "v1", [child])
    sign_bundle(lab.registry, "app", index, key("a"))
    lab.registry.fail("resolve", lambda: Unavailable("down"))
    lab.pod(f"{HOST}/app@{index}", child)
    await lab.step()
    assert lab.endings() == ["undecided"]
    assert not lab.rescan.drifts
    # And is looked up again.
    lab.registry.failures.clear()
    lab.passes(limits.RESCAN_AGAIN_SECONDS)
    await lab.step()
    assert lab.endings() == ["allowed"]


async def test_r09_a_node_that_names_no_digest_is_neither_good_nor_bad(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    lab.image()
    lab.pod(running=f"docker://{OTHER}")
    await lab.step()
    assert not lab.rescan.results
    assert not lab.rescan.drifts


@pytest.mark.parametrize("mode", ["warn", "audit"])
async def test_a_policy_that_refuses_nothing_evicts_nothing(lab: Lab, mode: str) -> None:
    lab.policy(onDrift="evict", mode=mode)
    await lab.step()
    lab.passes()
    lab.pod(running=lab.image(content=b"evil"))
    await lab.step()
    assert lab.endings() == ["denied"]
    assert not lab.rescan.drifts


async def test_a_new_leader_does_not_accuse_by_what_it_has_not_seen(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    lab.pod(running=lab.image(content=b"evil"))
    lab.passes()
    lab.lead()
    lab.pod(running=lab.image(content=b"evil"))
    await lab.step()
    assert lab.endings() == ["denied"]
    assert not lab.rescan.drifts


async def test_w02_namespaces_that_admission_leaves_out_are_left_alone(lab: Lab) -> None:
    lab.store.put_namespace("kube-system", {})
    lab.policy("all", onDrift="evict")
    await lab.step()
    lab.passes()
    moved = lab.image(content=b"evil")
    lab.pod(running=moved, namespace="kube-system", name="dns")
    lab.pod(running=moved, name="web")
    await lab.step()
    assert lab.kube.evicted == ["web"]


async def test_w02_nothing_is_judged_before_it_is_known_what_admission_judges(lab: Lab) -> None:
    configuration = lab.kube.objects.pop(CONFIGURATION)
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    lab.pod(running=lab.image(content=b"evil"))
    await lab.step()
    assert not lab.rescan.results
    lab.kube.put(CONFIGURATION, configuration)
    await lab.step()
    # Nobody may have judged it when it was admitted, so it is not what was verified then that has changed.
    assert lab.endings() == ["denied"]
    assert not lab.rescan.drifts
    # What was known stays known while the configuration is away.
    lab.kube.remove(CONFIGURATION)
    lab.passes()
    lab.pod(running=lab.image(content=b"worse"), name="unseen")
    await lab.step()
    assert lab.endings("unseen") == ["denied"]
    assert not lab.rescan.drifts


@pytest.mark.parametrize("change", ["missing", "made anew", "weakened"])
async def test_m11_what_came_in_while_nobody_was_asked_is_not_evicted(lab: Lab, change: str) -> None:
    lab.policy(onDrift="evict")
    signed, evil = lab.image(key("a"), tag="v2"), lab.image(content=b"evil")
    await lab.step()
    lab.passes()
    lab.look()
    lab.passes(2)
    # Two seconds after the last look: nobody here knows yet that anything is wrong.
    configuration = lab.kube.objects[CONFIGURATION]
    lab.kube.remove(CONFIGURATION)
    lab.pod(running=evil, name="gap")
    lab.pod(f"{HOST}/app@{signed}", evil, name="stranger")
    await lab.rescan.step()
    assert [one.name for one in lab.rescan.drifts.values()] == ["stranger"]
    if change != "missing":
        # Back before the next look, which sees by the version of the object that something was.
        metadata = dict(configuration["metadata"])
        if change == "made anew":
            del metadata["uid"]
        lab.kube.put(CONFIGURATION, {**configuration, "metadata": metadata})
    lab.passes(3)
    await lab.step()
    lab.kube.put(CONFIGURATION, configuration)
    for _ in range(20):
        lab.passes(5)
        await lab.step()
    assert lab.endings("gap") == ["denied"]
    assert lab.kube.evicted == ["stranger"]
    # What comes later was admitted by the policy alone again.
    lab.pod(running=evil, name="late")
    await lab.step()
    assert lab.kube.evicted == ["stranger", "late"]


async def test_m11_nobody_is_accused_before_it_was_looked_whether_all_was_in_place(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    lab.look()
    lab.passes(2)
    lab.pod(running=lab.image(content=b"evil"))
    await lab.rescan.step()
    assert not lab.rescan.drifts
    lab.passes(3)
    lab.look()
    lab.passes(3)
    await lab.rescan.step()
    assert [one.name for one in lab.rescan.drifts.values()] == ["web"]


@pytest.mark.parametrize(("action", "evicted"), [("warn", []), ("deny", ["web"]), ("last-known-good", ["web"])])
async def test_v03_what_an_outage_may_have_let_in_is_not_evicted_when_it_is_over(
    lab: Lab, action: str, evicted: list[str]
) -> None:
    lab.policy(onDrift="evict", tags="allow", onOutage={"action": action})
    await lab.step()
    lab.passes()
    unsigned = lab.image(content=b"evil")
    for what in ("resolve", "manifest", "referrers"):
        lab.registry.fail(what, lambda: Unavailable("down"))
    lab.pod(running=unsigned)
    await lab.step()
    assert lab.endings() == ["undecided"]
    lab.registry.failures.clear()
    lab.passes(limits.RESCAN_AGAIN_SECONDS)
    await lab.rescan.step()
    assert lab.endings() == ["denied"]
    await lab.step()
    # Only `warn` admits by tag what nobody has verified.
    assert lab.kube.evicted == evicted
    # What runs beside a written digest was not what was let in, and what has restarted as something else neither.
    signed = lab.image(key("a"))
    lab.pod(f"{HOST}/app@{signed}", unsigned, name="stranger")
    lab.pod(running=signed, name="moved")
    await lab.step()
    lab.passes()
    lab.pod(running=unsigned, name="moved")
    await lab.step()
    assert lab.kube.evicted == [*evicted, "stranger", "moved"]


@pytest.mark.parametrize("how", ["deleted", "expired", "narrowed"])
async def test_r04_what_an_exception_let_in_is_not_evicted_when_that_is_over(lab: Lab, how: str) -> None:
    lab.policy(onDrift="evict", tags="allow")
    lab.policy("pay/web", onDrift="evict", tags="allow")
    lab.store.put_namespace("pay", {})
    await lab.step()
    lab.passes()
    unsigned = lab.image(content=b"evil")
    excused = excepting(lab)
    await lab.step()
    # Admitted by the exception, and started when that is gone.
    lab.pod(name="pending")
    lab.pod(name="elsewhere", namespace="pay")
    await lab.step()
    lab.passes()
    match how:
        case "deleted":
            lab.store.discard_exception(excused.key)
        case "expired":
            lab.passes(3600)
        case _:
            excepting(lab, approvedBy=None)
    await lab.step()
    for name, namespace in (("pending", "shop"), ("elsewhere", "pay")):
        lab.pod(name=name, namespace=namespace, running=unsigned)
    await lab.step()
    assert lab.endings("pending") == ["denied"]
    assert lab.kube.evicted == ["elsewhere"]
    # Who comes after it was not let in by it.
    lab.passes()
    lab.pod(running=unsigned, name="late")
    await lab.step()
    assert lab.kube.evicted == ["elsewhere", "late"]


@pytest.mark.parametrize("fields", [{"approvedBy": None}, {"policies": ["other"]}])
async def test_r04_an_exception_that_lifts_nothing_here_keeps_nothing_from_being_told(
    lab: Lab, fields: dict[str, Any]
) -> None:
    lab.policy(onDrift="evict", tags="allow")
    await lab.step()
    lab.passes()
    excepting(lab, **fields)
    lab.pod(running=lab.image(content=b"evil"))
    await lab.step()
    assert lab.kube.evicted == ["web"]


def test_r04_what_is_forgotten_of_exceptions_counts_as_everybody_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PAST_EXCUSES", 2)
    store, beside, web = PolicyStore(), Beside(), policy("shop/web").key
    now = laboratory.START.timestamp()
    for i in range(4):
        made = exception(f"n{i}/hotfix", expiresAt="2027-01-01T00:00:00Z")
        store.put_exception(made)
        before = store.snapshot
        assert beside.until(before, f"n{i}", PolicyKey(f"n{i}", "web"), now + i) == now + i
        store.discard_exception(made.key)
        beside.changed(before, store.snapshot, lambda _: True, now + i)
    assert len(beside._excused) == 2
    assert beside.until(store.snapshot, "n3", PolicyKey("n3", "web"), now + 9) == now + 3
    assert beside.until(store.snapshot, "unknown", web, now + 9) == now + 1


@pytest.mark.parametrize("by", ["policy", "configuration"])
async def test_w02_a_namespace_that_had_other_labels_may_have_been_left_out(lab: Lab, by: str) -> None:
    selector = {"matchLabels": {"judged": "yes"}}
    if by == "policy":
        lab.policy("all", onDrift="evict", namespaces={"selector": selector})
    else:
        lab.policy("all", onDrift="evict")
        webhook = {"name": "images.trusted-images.dev", "namespaceSelector": selector}
        lab.kube.put(CONFIGURATION, {**lab.kube.objects[CONFIGURATION], "webhooks": [webhook]})
        for _ in range(2):
            lab.look()
    evil = lab.image(content=b"evil")
    await lab.step()
    lab.passes()
    lab.pod(name="early")
    await lab.step()
    lab.passes()
    lab.store.put_namespace("shop", {"judged": "yes"})
    lab.pod(running=evil, name="early")
    await lab.step()
    assert lab.endings("early") == ["denied"]
    assert lab.kube.evicted == []
    lab.passes()
    # What means nothing to anybody changes nothing.
    lab.store.put_namespace("shop", {"judged": "yes", "tier": "gold"})
    lab.pod(running=evil, name="late")
    await lab.step()
    assert lab.kube.evicted == ["late"]


async def test_m09_a_fallback_has_not_admitted_what_another_policy_spoke_about_then(lab: Lab) -> None:
    evil = lab.image(content=b"evil")
    lab.policy("rest", onDrift="evict", fallback=True)
    lab.store.put(policy("first", {"signers": [{"name": "ours", "static": {"allow": True, "reason": "ours"}}]}))
    await lab.step()
    lab.passes()
    lab.pod(name="early")
    await lab.step()
    lab.passes()
    lab.store.discard(PolicyKey(None, "first"))
    lab.pod(running=evil, name="early")
    await lab.step()
    assert lab.endings("early") == ["denied"]
    assert lab.kube.evicted == []
    lab.passes()
    lab.pod(running=evil, name="late")
    await lab.step()
    assert lab.kube.evicted == ["late"]


async def test_r04_who_was_deleted_is_judged_while_it_runs_and_never_evicted(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    good, evil = lab.image(key("a")), lab.image(content=b"evil")
    lab.kube.budget = False

    def deleted(name: str, running: Digest, *, runs: bool = True) -> None:
        lab.kube.objects[f"/api/v1/namespaces/shop/pods/{name}"]["metadata"]["deletionTimestamp"] = (
            "2026-11-01T13:00:00Z"
        )
        state = {"running": {"startedAt": "2026-11-01T12:00:00Z"}} if runs else {"terminated": {"exitCode": 0}}
        image_id = f"{HOST}/app@{running}"
        lab.pod(running=running, name=name, containerStatuses=[{"name": "main", "imageID": image_id, "state": state}])

    lab.pod(running=good)
    lab.pod(running=evil, name="bad")
    await lab.step()
    assert len(lab.rescan.drifts) == 1
    lab.kube.budget = True
    deleted("web", good)
    deleted("bad", evil)
    lab.passes(limits.EVICT_AGAIN_SECONDS)
    await lab.step()
    assert [one.name for one in lab.rescan.drifts.values()] == ["bad"]
    assert lab.kube.evicted == []
    # It runs on for as long as it is given, whatever is said of it by then.
    lab.policy(onDrift="evict", deny={"digests": [good]})
    lab.passes()
    await lab.step()
    assert lab.endings() == ["denied"]
    assert lab.states() == {"denied": 2}
    assert lab.kube.evicted == []
    for name, running in (("web", good), ("bad", evil)):
        deleted(name, running, runs=False)
    assert not lab.pods.by_uid


@pytest.mark.parametrize("how", ["another image", "other labels"])
async def test_m11_nothing_is_inferred_from_the_age_of_a_pod_that_was_changed_since(lab: Lab, how: str) -> None:
    lab.policy(onDrift="evict")
    evil = lab.image(content=b"evil")
    await lab.step()
    lab.passes()
    image = f"{HOST}/app:v0" if how == "another image" else f"{HOST}/app:v1"
    lab.pod(image)
    await lab.step()
    # Admitted at a time of which the age of the Pod says nothing.
    if how == "other labels":
        lab.kube.objects["/api/v1/namespaces/shop/pods/web"]["metadata"]["labels"] = {"app": "web"}
    lab.pod(running=evil)
    lab.pod(running=evil, name="bad")
    await lab.step()
    assert lab.endings() == ["denied"]
    assert lab.kube.evicted == ["bad"]


@pytest.mark.parametrize(
    ("good", "created", "seen", "since", "drifted"),
    [
        (None, 100.0, 100.0, 50.0, True),
        (None, 100.0, 100.0, 95.0, False),
        (None, 100.0, 100.0, 90.0, False),
        (None, 100.0, 500.0, 300.0, False),
        (OTHER, 100.0, 500.0, 300.0, True),
        (OTHER, 100.0, 500.0, 495.0, False),
    ],
)
def test_who_is_younger_than_the_policy_was_admitted_by_it(
    good: Digest | None, created: float, seen: float, since: float, drifted: bool
) -> None:
    running = Digest(f"sha256:{'1' * 64}")
    assert has_drifted(running, good, created=created, seen=seen, since=since) is drifted
    assert not has_drifted(running, running, created=created, seen=seen, since=since)


def twin(lab: Lab, digest: Digest, path: str) -> Digest:
    """The same image, its manifest written with other white space and pushed elsewhere."""
    body = json.dumps(json.loads(lab.registry.manifests["app", digest].body), indent=3).encode()
    found = lab.registry.push_manifest(path, body)
    assert found != digest
    return found


@pytest.mark.parametrize("written", ["digest", "tag", "index"])
@pytest.mark.parametrize("path", ["evil/twin", "app"])
async def test_r04_the_same_image_under_another_digest_is_never_evicted(lab: Lab, written: str, path: str) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    signed = lab.image(key("a"))
    image = {"digest": f"{HOST}/app@{signed}", "tag": f"{HOST}/app:v1", "index": ""}[written]
    if written == "index":
        index = lab.registry.push_index("app", "v1", [signed, lab.registry.push_image("app", "arm64", b"arm64")])
        sign_bundle(lab.registry, "app", index, key("a"))
        image = f"{HOST}/app@{index}"
    lab.pod(image, f"{HOST}/{path}@{twin(lab, signed, path)}")
    lab.pod(image, lab.registry.push_image("app", "evil", b"evil"), name="bad")
    await lab.step()
    assert lab.kube.evicted == ["bad"]
    assert not [one for one in lab.rescan.drifts.values() if one.name == "web"]


async def test_r04_it_is_the_same_as_what_ran_before_wherever_the_tag_leads_now(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    signed = lab.image(key("a"))
    lab.pod(running=signed)
    lab.pod(running=signed, name="bad")
    await lab.step()
    evil = lab.image(content=b"evil")
    lab.passes()
    lab.pod(running=twin(lab, signed, "app"))
    lab.pod(running=evil, name="bad")
    await lab.step()
    assert lab.kube.evicted == ["bad"]


@pytest.mark.parametrize("unread", ["running", "written"])
async def test_r04_what_cannot_be_read_is_never_evicted_and_looked_at_again(
    lab: Lab, unread: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    signed, evil = lab.image(key("a")), lab.image(content=b"evil")
    lab.pod(f"{HOST}/app@{signed}", evil)
    lab.registry.fail(f"manifest {evil if unread == 'running' else signed}", lambda: Unavailable("down"))
    await lab.step()
    assert lab.kube.evicted == []
    assert "cannot be said" in caplog.text
    lab.registry.failures.clear()
    lab.passes(limits.RESCAN_AGAIN_SECONDS)
    await lab.step()
    assert lab.kube.evicted == ["web"]


async def test_r04_artifacts_share_a_configuration_and_are_not_one_image_for_it(lab: Lab) -> None:
    first, second = (
        lab.registry.manifests[
            "app", lab.registry.push_manifest("app", {"schemaVersion": 2, "config": EMPTY_CONFIG, "layers": [n]})
        ]
        for n in (1, 2)
    )
    assert contents_of(first) is contents_of(second) is None
    assert contents_of(lab.registry.manifests["app", lab.image()]) is not None


@pytest.mark.parametrize("by", ["digest", "index"])
async def test_r04_what_runs_as_it_was_written_has_not_drifted_whatever_is_said_of_it_now(lab: Lab, by: str) -> None:
    lab.policy(onDrift="evict")
    await lab.step()
    lab.passes()
    # Nobody has signed it: an exception that has ended, or an outage, has let it in.
    unsigned = lab.image()
    written = lab.registry.push_index("app", "v1", [unsigned]) if by == "index" else unsigned
    lab.pod(f"{HOST}/app@{written}", unsigned)
    lab.registry.fail(f"manifest {unsigned}", lambda: Unavailable("down"))
    await lab.step()
    # Nothing has to be read for that, so nothing is left open.
    assert not lab.rescan.drifts
    assert not lab.rescan._again
    lab.registry.failures.clear()
    lab.pod(f"{HOST}/app@{written}", lab.image(content=b"evil"), name="bad")
    await lab.step()
    assert lab.endings() == ["denied"]
    assert lab.kube.evicted == ["bad"]


async def test_r04_pods_of_one_controller_are_evicted_ever_more_slowly(lab: Lab) -> None:
    lab.policy(onDrift="evict")
    lab.policy("pay/web", onDrift="evict")
    lab.store.put_namespace("pay", {})
    await lab.step()
    lab.passes()
    moved = lab.image(content=b"evil")
    lab.pod(running=moved, name="other", owner="another")
    # Whoever writes a Pod writes its owner, too: that slows down nobody elsewhere.
    lab.pod(running=moved, name="elsewhere", namespace="pay", owner="replicas")
    began, times = lab.seconds(), []
    for i in range(4 * 60):
        if not any(pod.owner == "replicas" and pod.namespace == "shop" for pod in lab.pods.by_uid.values()):
            lab.pod(running=moved, name=f"web-{i}", owner="replicas")
        before = len(lab.kube.evicted)
        await lab.step()
        times += [(lab.seconds() - began) // 60] * sum(name.startswith("web") for name in lab.kube.evicted[before:])
        lab.passes()
    assert times == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert {"other", "elsewhere"} < set(lab.kube.evicted)
    # After an hour without any it begins anew.
    lab.pods.gone({"metadata": {"uid": next(iter(lab.pods.by_uid))}})
    await lab.step()
    lab.passes(2 * limits.MAX_EVICT_OWNER_SECONDS)
    for name, evicted in (("late", True), ("later", False)):
        lab.pod(running=moved, name=name, owner="replicas")
        await lab.step()
        assert (name in lab.kube.evicted) is evicted
    lab.passes(limits.EVICT_OWNER_SECONDS)
    await lab.step()
    assert "later" in lab.kube.evicted
