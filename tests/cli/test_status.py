"""`kubectl trust status`: whether images are judged, by what, and what is wrong with it."""

import base64
import datetime as dt
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import Result

from tests.cli.test_commands import run
from tests.fake.apiserver import FakeAPIServer, api_server
from tests.fake.kubeconfig import write_kubeconfig
from tests.fake.pki import issue
from tests.operator.test_policies import SHOP, World
from webhook.background.consequences import Consequences
from webhook.background.drift import Drift
from webhook.image import Digest
from webhook.kube import KubeError
from webhook.observe.metrics import Metrics
from webhook.observe.running import RunningMetrics
from webhook.operator.certificates import next_data
from webhook.operator.installation import Installation
from webhook.operator.outages import OutageEvents
from webhook.operator.refusals import RefusalEvents
from webhook.operator.wanted import COLLECTIONS
from webhook.policy.afterwards import OnDrift
from webhook.policy.document import API_VERSION
from webhook.verdict import Borne, ObjectName, PolicyKey, Refusal, Ruling, Tolerance, Undecided

INSTALLATION = Installation(namespace="trusted-images")
DEPLOYMENT = "/apis/apps/v1/namespaces/trusted-images/deployments/trusted-images"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/trusted-images/leases/trusted-images"
VALIDATING = f"{COLLECTIONS['ValidatingWebhookConfiguration']}/trusted-images"
MUTATING = f"{COLLECTIONS['MutatingWebhookConfiguration']}/trusted-images"
POLICIES = f"/apis/{API_VERSION}/namespaces/shop/trustpolicies"
EXCEPTIONS = f"/apis/{API_VERSION}/namespaces/shop/trustexceptions"
SERVICE = {"name": "trusted-images", "namespace": "trusted-images"}


def installed(kind: str, *names: str) -> dict[str, Any]:
    """What the chart wants of one kind."""
    webhooks = [{"name": name, "failurePolicy": "Fail", "clientConfig": {"service": SERVICE}} for name in names]
    metadata = {"name": "trusted-images"}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "webhooks": webhooks,
    }


WANTED = installed("ValidatingWebhookConfiguration", "images.trusted-images.dev", "policies.trusted-images.dev")
WANTED_TO_PIN = installed("MutatingWebhookConfiguration", "pins.trusted-images.dev")


def now() -> dt.datetime:
    """The command asks the clock."""
    return dt.datetime.now(dt.UTC)


def configuration(bundle: bytes, wanted: Mapping[str, Any] = WANTED, **changes: Any) -> dict[str, Any]:
    """As it is in a cluster. `changes`: of its first webhook."""
    text = base64.b64encode(bundle).decode()
    webhooks = [{**one, "clientConfig": {**one["clientConfig"], "caBundle": text}} for one in wanted["webhooks"]]
    return {**wanted, "webhooks": [{**webhooks[0], **changes}, *webhooks[1:]]}


def put_wanted(server: FakeAPIServer, *wanted: Any) -> None:
    text = "---\n".join(f"{json.dumps(one)}\n" for one in wanted)
    server.put(INSTALLATION.configuration_path, {"data": {"configuration.yaml": text}})


def put_secret(server: FakeAPIServer, data: Mapping[str, bytes]) -> None:
    server.put(
        INSTALLATION.secret_path, {"data": {name: base64.b64encode(value).decode() for name, value in data.items()}}
    )


def made(at: dt.datetime) -> Mapping[str, bytes]:
    """What a Secret holds that was filled then."""
    data = next_data(None, INSTALLATION.names, at)
    assert data is not None
    return data


def published(server: FakeAPIServer) -> bytes:
    return base64.b64decode(server.objects[VALIDATING]["webhooks"][0]["clientConfig"]["caBundle"])


def conditions(**found: tuple[str, str, str]) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": s, "reason": r, "message": m} for kind, (s, r, m) in found.items()]}


def put_lease(server: FakeAPIServer, at: dt.datetime, holder: str = "trusted-images-0") -> None:
    server.put(LEASE, {"spec": {"holderIdentity": holder, "renewTime": at.isoformat()}})


def put_policy(server: FakeAPIServer, name: str = "web", status: Any = None, **spec: Any) -> None:
    document = {"metadata": {"name": name, "namespace": "shop"}, "spec": spec}
    server.put(f"{POLICIES}/{name}", document | ({"status": status} if status else {}))


VERDICTS = {
    "verdicts": {"allowed": 42, "denied": 0, "undecided": 0, "excused": 0},
    "preview": {"denied": 0, "undecided": 0},
}
READY = VERDICTS | conditions(Ready=("True", "InForce", "fine"), Expiring=("False", "NothingEndsSoon", "fine"))


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeAPIServer]:
    """A cluster in which all is well."""
    async with api_server() as found:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, found.url)))
        pod = {"spec": {"containers": [{"image": "ghcr.io/trusted-images/trusted-images:0.1.0"}]}}
        found.put(DEPLOYMENT, {"spec": {"replicas": 3, "template": pod}, "status": {"readyReplicas": 3}})
        put_lease(found, now())
        data = made(now())
        put_secret(found, data)
        put_wanted(found, WANTED_TO_PIN, WANTED)
        found.put(VALIDATING, configuration(data["ca.crt"]))
        found.put(MUTATING, configuration(data["ca.crt"], WANTED_TO_PIN))
        put_policy(found, status=READY)
        yield found


async def status(*words: str) -> tuple[Result, dict[str, list[tuple[str, str]]]]:
    """The result, and its lines by what they are about."""
    result = await run("status", *words, "-o", "json")
    lines: dict[str, list[tuple[str, str]]] = {}
    for line in json.loads(result.stdout)["lines"]:
        lines.setdefault(line["about"], []).append((line["state"], line["text"]))
    return result, lines


async def test_all_is_well(server: FakeAPIServer) -> None:
    result = await run("status")
    assert result.exit_code == 0, result.output
    words = [line.split() for line in result.output.splitlines()]
    assert [found[:2] for found in words] == [
        [about, "ok"]
        for about in (
            "replicas", "leader", "mutating", "validating", "certificate", "policies", "running", "exceptions", "drift", "outages", "refusals"
        )
    ]  # fmt: skip
    assert "3 of 3 ready, ghcr.io/trusted-images/trusted-images:0.1.0" in result.output
    assert "in place, fails closed, its authority until " in result.output
    assert {method for method, _ in server.asked} == {"GET"}
    assert "PRIVATE" not in result.output


async def test_replicas_and_a_leader_that_are_missing(server: FakeAPIServer) -> None:
    pod = server.objects[DEPLOYMENT]["spec"]
    server.put(DEPLOYMENT, {"spec": pod, "status": {"readyReplicas": 2}})
    result, lines = await status()
    assert (result.exit_code, lines["replicas"][0][0]) == (0, "note")
    server.put(DEPLOYMENT, {"spec": pod})
    put_lease(server, now() - dt.timedelta(minutes=5))
    result, lines = await status()
    assert result.exit_code == 1
    assert lines["replicas"][0] == ("wrong", "0 of 3 ready, ghcr.io/trusted-images/trusted-images:0.1.0")
    assert lines["leader"][0][0] == "wrong"
    server.remove(DEPLOYMENT)
    put_lease(server, now(), holder="")
    result, lines = await status()
    assert lines["replicas"][0] == (
        "wrong",
        "there is no Deployment trusted-images/trusted-images: is it installed elsewhere?",
    )
    assert lines["leader"][0][1].startswith("no replica leads")
    server.put(LEASE, {"spec": {"holderIdentity": "a", "renewTime": "yesterday"}})
    assert (await status())[1]["leader"][0][0] == "wrong"


async def test_m11_a_configuration_that_is_not_as_installed(server: FakeAPIServer) -> None:
    bundle = published(server)
    server.put(VALIDATING, configuration(bundle, failurePolicy="Ignore"))
    result, lines = await status()
    assert result.exit_code == 1
    where = "weakened: webhooks[images.trusted-images.dev].failurePolicy"
    assert lines["validating"] == [("wrong", f"trusted-images is not as it was installed: {where}")]
    assert lines["mutating"][0][0] == "ok"
    server.remove(VALIDATING)
    assert (await status())[1]["validating"][0][1].endswith("missing")
    server.remove(INSTALLATION.configuration_path)
    where = "ConfigMap trusted-images/trusted-images-webhook is missing"
    missing = ("wrong", f"trusted-images is missing, and nobody makes it: {where}")
    assert (await status())[1]["validating"] == [missing]


def nameless() -> dict[str, Any]:
    """One whose webhook has no name."""
    return {**WANTED, "webhooks": [{"failurePolicy": "Fail", "clientConfig": {"service": SERVICE}}]}


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (None, "is missing"),
        ("a: [", "is wrong: configuration.yaml, line "),
        (json.dumps(nameless()), "is wrong: configuration.yaml[0].webhooks[0].name: required"),
        (json.dumps({**WANTED, "webhooks": 7}), "is wrong: configuration.yaml[0].webhooks: "),
        (json.dumps({**WANTED, "metadata": []}), "is wrong: configuration.yaml[0].metadata: "),
        (json.dumps({**WANTED, "metadata": {"name": "other"}}), "is wrong: configuration.yaml[0].metadata.name: "),
        (json.dumps(WANTED_TO_PIN), "is wrong: configuration.yaml: ValidatingWebhookConfiguration: required"),
    ],
)
async def test_m11_what_is_in_place_is_shown_where_only_the_config_map_is_missing_or_wrong(
    server: FakeAPIServer, wanted: str | None, why: str
) -> None:
    if wanted is None:
        server.remove(INSTALLATION.configuration_path)
    else:
        server.put(INSTALLATION.configuration_path, {"data": {"configuration.yaml": wanted}})
    result, lines = await status()
    assert result.exit_code == 1
    assert not isinstance(result.exception, Exception)
    ((state, text),) = lines["validating"]
    where = f"ConfigMap trusted-images/trusted-images-webhook {why}"
    assert state == "wrong"
    assert text.startswith(f"in place, but nobody keeps it: {where}")
    assert "mutating" in lines
    assert "policies" in lines
    # Somebody else may have changed it meanwhile.
    server.put(VALIDATING, configuration(b"nonsense"))
    assert "API servers reach nobody" in (await status())[1]["validating"][0][1]


async def test_m11_authorities_of_somebody_else_are_told_for_each_webhook(server: FakeAPIServer) -> None:
    ours, foreign = published(server), issue("evil", ca=True, ends=now() + dt.timedelta(days=9)).pem
    for webhook in (0, 1):
        for bundle in (foreign, ours + foreign):
            found = configuration(ours)
            found["webhooks"][webhook]["clientConfig"]["caBundle"] = base64.b64encode(bundle).decode()
            server.put(VALIDATING, found)
            result, lines = await status()
            assert result.exit_code == 1
            name = WANTED["webhooks"][webhook]["name"]
            told = "it believes authorities that are not those of Secret trusted-images/trusted-images-tls: CN=evil"
            assert lines["validating"] == [("wrong", f"webhook {name}: {told}")]
    # One that was published before this Secret's is replaced by the leader, as one that serves may still need it.
    before = made(now() - dt.timedelta(days=1))["ca.crt"]
    server.put(VALIDATING, configuration(ours + before))
    assert (await status())[1]["validating"][0][0] == "ok"
    server.put(VALIDATING, configuration(before))
    told = "it lacks authorities of Secret trusted-images/trusted-images-tls: API servers may reach nobody"
    assert (await status())[1]["validating"] == [("wrong", f"webhook images.trusted-images.dev: {told}")]
    server.put(VALIDATING, configuration(b"nonsense"))
    assert "its authorities have ended or cannot be read" in (await status())[1]["validating"][0][1]


async def test_m11_a_secret_that_somebody_else_fills_says_alone_what_is_published(server: FakeAPIServer) -> None:
    data = {name: value for name, value in made(now()).items() if name != "ca.key"}
    put_secret(server, data)
    server.put(VALIDATING, configuration(data["ca.crt"]))
    assert (await status())[1]["validating"][0][0] == "ok"
    server.put(VALIDATING, configuration(data["ca.crt"] + made(now())["ca.crt"]))
    assert "it believes authorities that are not those" in (await status())[1]["validating"][0][1]
    put_secret(server, {"tls.crt": data["tls.crt"]})
    assert (await status())[1]["validating"][0][1].endswith("has no ca.crt to compare its authorities with")


async def test_m11_where_nobody_keeps_it_another_service_is_told(server: FakeAPIServer) -> None:
    bundle = published(server)
    server.remove(INSTALLATION.configuration_path)
    elsewhere = {"url": "https://127.0.0.1/x", "caBundle": base64.b64encode(bundle).decode()}
    server.put(VALIDATING, configuration(bundle, clientConfig=elsewhere))
    told = "it leads to something else than this installation"
    assert (await status())[1]["validating"] == [("wrong", f"webhook images.trusted-images.dev: {told}")]


@pytest.mark.parametrize(
    ("days", "state", "said"),
    [(357, "ok", "in place, fails closed, its authority until "), (364, "wrong", "in place, but its authority until ")],
)
async def test_w09_authorities_that_end_soon_are_told(server: FakeAPIServer, days: int, state: str, said: str) -> None:
    data = made(now() - dt.timedelta(days=days))
    put_secret(server, data)
    server.put(VALIDATING, configuration(data["ca.crt"]))
    server.put(MUTATING, configuration(data["ca.crt"], WANTED_TO_PIN))
    _, lines = await status()
    assert [lines[one][0][0] for one in ("mutating", "validating")] == [state, state]
    assert lines["validating"][0][1].startswith(said)


async def test_m11_what_the_user_may_not_read_beside_a_configuration_makes_it_unknown(server: FakeAPIServer) -> None:
    server.failing[INSTALLATION.secret_path] = KubeError("secrets is forbidden", 403)
    ((state, text),) = (await status())[1]["validating"]
    assert state == "unknown"
    assert "whether that is the replicas' is not known: " in text
    assert "secrets is forbidden" in text
    server.failing[INSTALLATION.configuration_path] = KubeError("configmaps is forbidden", 403)
    ((state, text),) = (await status())[1]["validating"]
    assert state == "unknown"
    assert "how it should be is not known: " in text
    assert "configmaps is forbidden" in text
    server.failing[VALIDATING] = KubeError("it is forbidden", 403)
    lines = (await status())[1]
    assert lines["validating"][0][0] == "unknown"
    assert lines["mutating"][0][1].startswith("in place")


async def test_f33_nothing_that_a_cluster_holds_ends_the_look(server: FakeAPIServer) -> None:
    server.put(DEPLOYMENT, {"spec": {"template": {"spec": {"containers": []}}}})
    put_policy(server, "odd", {"conditions": ["Ready"]})
    result, lines = await status()
    assert result.exit_code == 1
    said = "what the cluster holds there cannot be understood (IndexError: list index out of range)"
    assert lines["replicas"] == [("wrong", said)]
    assert lines["policies"][1][0] == "wrong"
    assert "cannot be understood" in lines["policies"][1][1]
    assert {"running", "exceptions", "drift", "outages", "refusals"} <= lines.keys()


async def test_one_that_was_installed_to_fail_open_is_told(server: FakeAPIServer) -> None:
    webhook, other = WANTED["webhooks"]
    put_wanted(server, WANTED_TO_PIN, {**WANTED, "webhooks": [{**webhook, "failurePolicy": "Ignore"}, other]})
    server.put(VALIDATING, configuration(published(server), failurePolicy="Ignore"))
    result, lines = await status()
    assert result.exit_code == 0
    ((state, text),) = lines["validating"]
    assert state == "note"
    assert text.startswith("in place, without an answer everything is admitted: images.trusted-images.dev, its ")


async def test_w09_a_certificate_that_ends_or_is_missing(server: FakeAPIServer) -> None:
    put_secret(server, {"tls.crt": made(now() - dt.timedelta(days=86))["tls.crt"]})
    result, lines = await status()
    assert (result.exit_code, lines["certificate"][0][0]) == (1, "wrong")
    server.put(INSTALLATION.secret_path, {"data": {}})
    assert (await status())[1]["certificate"][0][1].endswith("holds none")
    server.remove(INSTALLATION.secret_path)
    assert (await status())[1]["certificate"][0][1].startswith("there is no Secret")


async def test_policies_that_need_somebody_are_named(server: FakeAPIServer) -> None:
    put_policy(server, "late", mode="audit")
    put_policy(server, "broken", conditions(Ready=("False", "Invalid", "it denies what it covers: \x1b[2J")))
    soon = conditions(Ready=("True", "InForce", ""), Expiring=("True", "EndsSoon", "a root ends"))
    put_policy(server, "soon", soon | {"effectiveMode": "audit"}, mode="enforce", rollout={"auditFor": "1h"})
    over = conditions(Ready=("True", "InForce", ""), Expiring=("True", "Expired", "a root ended"))
    put_policy(server, "over", over)
    rotated = conditions(Ready=("True", "InForce", ""), Expiring=("True", "PartlyExpired", "its validity ended"))
    put_policy(server, "rotated", rotated)
    result, lines = await status()
    assert result.exit_code == 1
    first, *others = lines["policies"]
    assert first == ("ok", "6: 4 enforce, 2 audit")
    assert (
        "wrong",
        "policy shop/broken is not in force as written: Invalid: it denies what it covers: \\x1b[2J",
    ) in others
    assert ("wrong", "policy shop/over: Expired: a root ended") in others[:2]
    assert ("note", "policy shop/soon: EndsSoon: a root ends") in others
    assert ("note", "policy shop/rotated: PartlyExpired: its validity ended") in others
    assert ("unknown", "policy shop/late: nothing has been said about it yet") in others
    for i in range(40):
        put_policy(server, f"broken-{i}", conditions(Ready=("False", "Invalid", "x")))
    assert (await status())[1]["policies"][-1] == ("wrong", "and 25 more")


async def test_f25_keys_that_are_held_because_nobody_can_be_asked_are_told(server: FakeAPIServer) -> None:
    ready = ("True", "InForce", "")
    put_policy(server, "web", conditions(Ready=ready, SignersResolved=("True", "KeysRead", "all keys have been read")))
    assert "keys" not in (await status())[1]
    held = ("True", "KeysHeld", "pkcs11:object=release: its source cannot be asked")
    put_policy(server, "api", conditions(Ready=ready, SignersResolved=held))
    wanted = ("note", "policy shop/api: KeysHeld: pkcs11:object=release: its source cannot be asked")
    assert (await status())[1]["keys"] == [wanted]


async def test_without_policies_everything_is_admitted_and_that_is_said(server: FakeAPIServer) -> None:
    server.remove(f"{POLICIES}/web")
    result, lines = await status()
    assert result.exit_code == 0
    assert lines["policies"] == [("note", "there are none: every image is admitted, with a warning")]


async def test_exceptions_in_force_are_named(server: FakeAPIServer) -> None:
    for name, active in {
        "hotfix": ("True", "InForce", "approved by bob, until 2026-12-31T12:00:00Z"),
        "old": ("False", "Expired", "it lifts nothing"),
        "odd": ("False", "Invalid", "it lifts nothing: spec.images"),
    }.items():
        found = {"metadata": {"name": name, "namespace": "shop"}, "status": {**conditions(Active=active), "uses": 3}}
        server.put(f"{EXCEPTIONS}/{name}", found)
    result, lines = await status()
    assert result.exit_code == 1
    assert lines["exceptions"] == [
        ("ok", "3: 1 Expired, 1 InForce, 1 Invalid"),
        ("wrong", "exception shop/odd: Invalid: it lifts nothing: spec.images"),
        (
            "note",
            "exception shop/hotfix is in force, used 3 times: InForce: approved by bob, until 2026-12-31T12:00:00Z",
        ),
    ]


async def test_what_the_user_may_not_read_costs_only_its_own_line(server: FakeAPIServer) -> None:
    server.failing[INSTALLATION.secret_path] = KubeError("secrets is forbidden", 403)
    result, lines = await status()
    assert result.exit_code == 2
    assert lines["certificate"][0][0] == "unknown"
    assert "forbidden" in lines["certificate"][0][1]
    assert lines["policies"][0][0] == "ok"


async def test_without_an_answer_nothing_is_known(server: FakeAPIServer) -> None:
    server.down = True
    result = await run("status")
    assert (result.exit_code, "the API server gives no answer" in result.output) == (2, True)
    result = await run("status", "--namespace", "../x")
    assert (result.exit_code, "not the names of" in result.output) == (2, True)


async def test_f33_what_takes_the_api_server_too_long_costs_only_its_own_line(server: FakeAPIServer) -> None:
    server.failing["/api/v1/events"] = KubeError("too long", 504)
    result, lines = await status()
    assert result.exit_code == 2
    assert {about: lines[about][0][0] for about in ("policies", "exceptions", "drift", "outages", "refusals")} == {
        "policies": "ok", "exceptions": "ok", "drift": "unknown", "outages": "unknown", "refusals": "unknown",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (("False", "WebhookConfigurationWeakened", "it cannot be put back (403)"), "wrong"),
        (("Unknown", "WebhookConfigurationUnreadable", "cannot be seen"), "unknown"),
        (("True", "InPlace", "as installed"), None),
    ],
)
async def test_m11_what_the_leader_says_of_its_duty_is_told_once(
    server: FakeAPIServer, said: tuple[str, str, str], state: str | None
) -> None:
    for name, at in (("old", "2026-01-01T00:00:00Z"), ("web", "2026-01-01T00:00:09Z"), ("api", "2026-01-01T00:00:09Z")):
        found = conditions(Ready=("True", "InForce", ""), OnDuty=("True", "InPlace", "fine") if name == "old" else said)
        found["conditions"][1]["lastTransitionTime"] = at
        put_policy(server, name, found)
    _, lines = await status()
    expected = None if state is None else [(state, f"{said[1]}: {said[2]}")]
    assert lines.get("on duty") == expected


async def test_what_policies_say_of_what_runs_is_added_up_and_the_worst_are_named(server: FakeAPIServer) -> None:
    for i, (name, mode) in enumerate([("a", "enforce"), ("b", "audit"), ("c", "enforce"), ("d", "enforce")]):
        found = conditions(Ready=("True", "InForce", ""))
        verdicts: dict[str, Any] = {"allowed": 10, "denied": i + 1, "undecided": i == 0, "excused": 2}
        verdicts |= {"examples": [f"shop/pod-{name}: no signature\x1b[2J"]} if i else {}
        # Another Pod would be denied, were it made again.
        preview = {"denied": 1, "undecided": 0, "examples": ["shop/another: no signature"]}
        put_policy(server, name, found | {"verdicts": verdicts, "preview": preview}, mode=mode)
    _, lines = await status()
    assert lines["running"] == [
        ("note", "images, as each policy says: 82 allowed, 10 denied, 1 could not be verified, 8 excused"),
        ("note", "policy shop/d (enforce) denies 4 of them: shop/pod-d: no signature\\x1b[2J"),
        ("note", "policy shop/c (enforce) denies 3 of them: shop/pod-c: no signature\\x1b[2J"),
        ("note", "policy shop/b (audit) denies 2 of them: shop/pod-b: no signature\\x1b[2J"),
        ("note", "and 1 policies more"),
    ]
    for path in [path for path in server.objects if path.startswith(POLICIES)]:
        server.remove(path)
    put_policy(server, status=conditions(Ready=("True", "InForce", "")))
    assert (await status())[1]["running"][0][1].startswith("what runs has not been judged yet")


async def test_rollouts_that_wait_are_told_with_the_reason(server: FakeAPIServer) -> None:
    waits = ("False", "WouldDeny", "in audit: 3 images would be denied")
    put_policy(server, "waits", VERDICTS | conditions(Ready=("True", "InForce", ""), Effective=waits))
    put_policy(server, "over", VERDICTS | conditions(Ready=("True", "InForce", ""), Effective=("True", "Promoted", "")))
    result, lines = await status()
    assert result.exit_code == 0
    assert lines["rollouts"] == [("note", "policy shop/waits waits: WouldDeny: in audit: 3 images would be denied")]


def drift_of(name: str, follows: OnDrift = "report") -> Drift:
    where, image = "spec.containers[0].image", "ghcr.io/a/b:v1"
    policy = PolicyKey("shop", "web")
    return Drift(
        f"uid-{name}", "shop", name, where, image, Digest(f"sha256:{'0' * 64}"), policy, follows, "another image", "rs"
    )


def events(server: FakeAPIServer) -> dict[str, dict[str, Any]]:
    return {path: one for path, one in server.objects.items() if "/events/" in path}


async def test_r04_drift_of_the_last_hour_is_a_fault_unless_it_was_evicted(server: FakeAPIServer) -> None:
    told = Consequences(server, RunningMetrics(CollectorRegistry()), now)
    await told.follow([drift_of("web-1")])
    result, lines = await status()
    assert result.exit_code == 1
    text = "shop/web-1: spec.containers[0].image ghcr.io/a/b:v1: another image"
    assert lines["drift"] == [("wrong", f"1 in the last hour, the last: {text}")]
    await told.follow([drift_of("web-1"), drift_of("web-2", "evict")])
    _, lines = await status()
    assert lines["drift"][0] == ("wrong", f"1 in the last hour, the last: {text}")
    assert lines["drift"][1][1].startswith("1 evicted in the last hour, the last: shop/web-2: policy shop/web says")
    for path, event in events(server).items():
        if event["involvedObject"]["name"] == "web-1":
            old = now() - dt.timedelta(minutes=61)
            server.put(path, {**event, "lastTimestamp": old.isoformat()})
    result, lines = await status()
    assert (result.exit_code, [state for state, _ in lines["drift"]]) == (0, ["note"])


async def test_what_an_outage_let_in_is_told(server: FakeAPIServer) -> None:
    world = World()
    world.policies.seen(
        world.policy({"images": ["**"], "signers": [{"name": "a", "static": {"allow": True, "reason": "x"}}]})
    )
    told = OutageEvents(server, world.policies)
    for name in ("web-1", "web-2"):
        outcome = Undecided(("the registry is down",), outage=True)
        ruling = Ruling(("spec.containers[0].image",), "ghcr.io/a/b:v1", SHOP, outcome, tolerance=Tolerance(now()))
        await told.tell_of(Borne((ruling,), "shop", name, f"uid-{name}", now()))
    assert len(events(server)) == 3
    result, lines = await status()
    assert result.exit_code == 0
    ((state, text),) = lines["outages"]
    assert (state, text[:70]) == ("note", "2 let in by onOutage in the last hour, the last: shop/web-1: spec.cont")


async def test_refusals_are_told_by_what_they_are(server: FakeAPIServer) -> None:
    told = RefusalEvents(server, Metrics())
    about = ObjectName("apps/v1", "ReplicaSet", "web-5d")
    for i, read in enumerate([True, True, False]):
        at = now() - dt.timedelta(minutes=10 - i)
        await told.tell_of(Refusal("shop", about, f"Pod web-{i}…", "spec.containers[0].image web: no", read, at))
    result, lines = await status()
    assert result.exit_code == 0
    assert lines["refusals"] == [
        (
            "note",
            "2 in the last hour, not trusted, the last: shop/web-5d: Pod web-1…: spec.containers[0].image web: no",
        ),
        (
            "note",
            "1 in the last hour, could not be verified, the last: shop/web-5d: Pod web-2…: spec.containers[0].image web: no",
        ),
    ]
    assert ("GET", "/api/v1/events") in server.asked
    (_, event), *_ = events(server).items()
    for i in range(600):
        server.put(f"/api/v1/namespaces/shop/events/more-{i}", {**event, "metadata": {}})
    assert (await status())[1]["refusals"][0][1].startswith("500 or more in the last hour")
    # What is no time is none of the last hour.
    for path in events(server):
        server.put(path, {**event, "lastTimestamp": None})
    assert (await status())[1]["refusals"] == [("ok", "none in the last hour")]
