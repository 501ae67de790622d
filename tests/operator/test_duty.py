"""A webhook that is not asked refuses nothing: what is wrong with its configuration is told, and put back (attack M-11)."""

import contextlib
import copy
import datetime as dt
import math
from typing import Any

import pytest

from tests.operator.test_leader import CONFIGURATION, INSTALLATION, WANTED, Lab
from webhook.kube import KubeError
from webhook.observe.metrics import Metrics
from webhook.operator.duty import Duty, Fault, fault_of

RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"]}
SELECTOR = {
    "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}]
}
WEBHOOK: dict[str, Any] = {
    "name": "images.trusted-images.dev",
    "clientConfig": {"service": {"name": "trusted-images", "namespace": "ti", "path": "/validate"}, "caBundle": "bmV3"},
    "failurePolicy": "Fail",
    "namespaceSelector": SELECTOR,
    "rules": [RULE],
}
INSTALLED = {**WANTED, "webhooks": [WEBHOOK]}


def there(**changes: Any) -> dict[str, Any]:
    """The configuration as an API server gives it back, with defaults of its own, and with changes."""
    found = copy.deepcopy(INSTALLED)
    webhook = found["webhooks"][0]
    webhook |= {"matchPolicy": "Equivalent", "objectSelector": {}, "timeoutSeconds": 10}
    webhook["clientConfig"]["service"]["port"] = 443
    webhook["rules"][0]["scope"] = "*"
    webhook |= changes
    return found


def test_what_an_api_server_adds_by_itself_is_no_fault() -> None:
    assert fault_of(there(), INSTALLED) is None
    assert fault_of(there(matchConditions=[], sideEffects="None"), INSTALLED) is None
    # Where nothing is known of the authorities, any will do.
    wanted = {**INSTALLED, "webhooks": [{**WEBHOOK, "clientConfig": {"service": WEBHOOK["clientConfig"]["service"]}}]}
    assert fault_of(there(), wanted) is None


AT = "webhooks[images.trusted-images.dev]"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"failurePolicy": "Ignore"}, ".failurePolicy"),
        ({"namespaceSelector": {}}, ".namespaceSelector.matchExpressions"),
        ({"namespaceSelector": None}, ".namespaceSelector"),
        ({"namespaceSelector": {**SELECTOR, "matchLabels": {"a": "b"}}}, ".namespaceSelector.matchLabels"),
        ({"objectSelector": {"matchLabels": {"judge": "me"}}}, ".objectSelector"),
        ({"matchConditions": [{"name": "never", "expression": "false"}]}, ".matchConditions"),
        ({"rules": []}, ".rules"),
        ({"rules": [{**RULE, "operations": ["CREATE"]}]}, ".rules[0].operations"),
        ({"rules": [{**RULE, "scope": "Cluster"}]}, ".rules[0].scope"),
        ({"clientConfig": {**WEBHOOK["clientConfig"], "service": {"name": "mine", "namespace": "ti", "path": "/validate"}}}, ".clientConfig.service.name"),
        ({"clientConfig": {"url": "https://evil.example", "caBundle": "bmV3"}}, ".clientConfig.service"),
        ({"name": "another"}, ""),
    ],
)  # fmt: skip
def test_m11_what_makes_api_servers_ask_less_is_weakened(changes: dict[str, Any], where: str) -> None:
    assert fault_of(there(**changes), INSTALLED) == Fault("weakened", (AT + where,))


def test_m11_missing_and_stale_are_told_apart_and_the_worst_is_told() -> None:
    assert fault_of(None, INSTALLED) == Fault("missing")
    stale = {**WEBHOOK["clientConfig"], "caBundle": "b2xk"}
    assert fault_of(there(clientConfig=stale), INSTALLED) == Fault("stale_authority", (f"{AT}.clientConfig.caBundle",))
    both = fault_of(there(clientConfig=stale, failurePolicy="Ignore"), INSTALLED)
    assert both == Fault("weakened", (f"{AT}.failurePolicy",))
    assert str(both) == f"weakened: {AT}.failurePolicy"
    assert fault_of({}, INSTALLED) == Fault("weakened", (AT,))


class Watched(Lab):
    """A leader that tells."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        super().__init__()
        self.want({**WANTED, "webhooks": [{**WANTED["webhooks"][0], "failurePolicy": "Fail", "rules": [RULE]}]})

    def duty(self) -> Duty:
        return Duty(self.kube, INSTALLATION, self.metrics)

    @property
    def in_place(self) -> float | None:
        labels = {"configuration": "validating"}
        return self.metrics.registry.get_sample_value("trusted_images_configuration_in_place", labels)

    def repairs(self, fault: str) -> float | None:
        return self.metrics.registry.get_sample_value("trusted_images_configuration_repairs_total", {"fault": fault})

    def change(self, **changes: Any) -> None:
        self.kube.put(
            CONFIGURATION, {**self.configuration, "webhooks": [{**self.configuration["webhooks"][0], **changes}]}
        )

    def events(self) -> list[dict[str, Any]]:
        return [one for path, one in self.kube.objects.items() if "/events/" in path]


@pytest.fixture
def lab() -> Watched:
    return Watched()


async def test_m11_a_weakened_configuration_is_told_and_put_back(lab: Watched) -> None:
    await lab.leader.keep_certificate()
    assert lab.in_place == 0
    await lab.settled()
    await lab.leader.keep_certificate()
    assert (lab.in_place, lab.events()) == (1, [])
    lab.change(failurePolicy="Ignore")
    await lab.leader.keep_certificate()
    assert lab.configuration["webhooks"][0]["failurePolicy"] == "Fail"
    (event,) = lab.events()
    assert (event["reason"], event["involvedObject"]["name"]) == (
        "WebhookConfigurationWeakened",
        "trusted-images-webhook",
    )
    assert event["involvedObject"]["uid"] == lab.kube.objects[INSTALLATION.configuration_path]["metadata"]["uid"]
    assert event["metadata"]["namespace"] == "ti"
    assert "weakened: webhooks[images.trusted-images.dev].failurePolicy" in event["message"]
    assert lab.repairs("weakened") == 1
    await lab.leader.keep_certificate()
    assert lab.in_place == 1


async def test_m11_whoever_does_it_again_and_again_is_counted_and_told_once_in_a_while(lab: Watched) -> None:
    await lab.settled()
    for _ in range(3):
        lab.change(failurePolicy="Ignore")
        await lab.leader.keep_certificate()
    assert (lab.repairs("weakened"), len(lab.events())) == (3, 1)
    lab.kube.remove(CONFIGURATION)
    await lab.leader.keep_certificate()
    client = lab.configuration["webhooks"][0]["clientConfig"]
    lab.change(clientConfig={**client, "caBundle": "b2xk"})
    await lab.leader.keep_certificate()
    reasons = [one["reason"] for one in lab.events()]
    assert reasons[1:] == ["WebhookConfigurationMissing", "WebhookConfigurationStale"]
    await lab.leader.keep_certificate()
    lab.now += dt.timedelta(minutes=10)
    lab.change(failurePolicy="Ignore")
    await lab.leader.keep_certificate()
    assert len(lab.events()) == 4


async def test_m11_what_cannot_be_put_back_stays_told(lab: Watched) -> None:
    await lab.settled()
    lab.change(failurePolicy="Ignore")
    lab.kube.forbidden.add(("PATCH", CONFIGURATION))
    lab.kube.failing["/api/v1/namespaces/ti/events"] = KubeError("down")
    for _ in range(2):
        with pytest.raises(KubeError, match="403"):
            await lab.leader.keep_certificate()
        assert lab.in_place == 0
    lab.kube.forbidden.clear()
    await lab.leader.keep_certificate()
    await lab.leader.keep_certificate()
    assert lab.in_place == 1


async def test_m11_what_somebody_added_is_taken_away_too(lab: Watched) -> None:
    await lab.settled()
    lab.change(matchConditions=[{"name": "never", "expression": "false"}])
    await lab.leader.keep_certificate()
    assert "matchConditions" not in lab.configuration["webhooks"][0]
    lab.kube.asked.clear()
    await lab.leader.keep_certificate()
    assert lab.in_place == 1
    assert lab.writes() == []


async def test_m11_an_address_in_place_of_our_service_is_taken_away(lab: Watched) -> None:
    await lab.settled()
    before = lab.configuration["webhooks"]
    # Server-side apply alone is refused from now on: it would leave both there.
    lab.change(clientConfig={"url": "https://evil.example/x", "caBundle": "bWluZQ=="})
    with pytest.raises(KubeError, match="exactly one of url or service"):
        await lab.kube.apply(CONFIGURATION, {"webhooks": before})
    await lab.leader.keep_certificate()
    assert lab.configuration["webhooks"] == before
    assert lab.repairs("weakened") == 1
    lab.kube.asked.clear()
    await lab.leader.keep_certificate()
    assert (lab.in_place, lab.writes()) == (1, [])


async def test_our_own_changes_are_no_fault(lab: Watched) -> None:
    await lab.settled()
    lab.want({**WANTED, "webhooks": [{**WANTED["webhooks"][0], "failurePolicy": "Fail", "timeoutSeconds": 5}]})
    await lab.leader.keep_certificate()
    assert lab.configuration["webhooks"][0]["timeoutSeconds"] == 5
    # Labels that somebody adds make API servers ask no less.
    lab.kube.put(
        CONFIGURATION, {**lab.configuration, "metadata": {**lab.configuration["metadata"], "labels": {"a": "b"}}}
    )
    await lab.leader.keep_certificate()
    assert lab.events() == []
    assert [lab.repairs(fault) for fault in ("missing", "weakened", "stale_authority")] == [0, 0, 0]


async def test_a_judgement_that_was_stopped_is_told_as_long_as_it_is(lab: Watched) -> None:
    await lab.settled()
    await lab.leader.keep_certificate()
    assert lab.in_place == 1
    lab.kube.remove(INSTALLATION.configuration_path)
    lab.kube.remove(CONFIGURATION)
    await lab.leader.keep_certificate()
    assert lab.in_place == 0
    assert lab.events() == []
    # Who leads no longer says nothing any more, rather than what was true once.
    lab.leader.duty.resigned()
    assert lab.in_place is None


@pytest.mark.parametrize("change", ["missing", "weakened", "changed and back", "switched off", "another leads"])
async def test_m11_since_when_all_is_in_place_begins_anew_with_everything_that_was_wrong(
    lab: Watched, change: str
) -> None:
    standing = lab.leader.duty.standing

    async def look() -> float:
        lab.now += dt.timedelta(seconds=5)
        with contextlib.suppress(KubeError):
            await lab.leader.keep_certificate()
        return standing.since

    await lab.settled()
    assert standing.since == math.inf
    # What a look has found is known to have been so from the next one on.
    looks = [await look() for _ in range(4)]
    began = looks[-1]
    assert began in {(lab.now - dt.timedelta(seconds=seconds)).timestamp() for seconds in (0, 5, 10, 15)}
    assert standing.until == lab.now.timestamp()
    # What could not be seen was not seen, and as the object is the same afterwards, nothing was.
    lab.kube.failing[CONFIGURATION] = KubeError("gone away", 503)
    assert await look() == began
    assert standing.until < lab.now.timestamp()
    lab.kube.failing.clear()
    assert await look() == began
    assert standing.until == lab.now.timestamp()
    wanted = lab.kube.objects[INSTALLATION.configuration_path]
    match change:
        case "missing":
            lab.kube.remove(CONFIGURATION)
        case "weakened":
            lab.change(failurePolicy="Ignore")
        case "changed and back":
            lab.change()
        case "switched off":
            lab.kube.remove(INSTALLATION.configuration_path)
        case _:
            lab.leader.duty.resigned()
            assert standing.since == math.inf
    assert await look() == math.inf
    if change == "switched off":
        assert await look() == math.inf
        lab.kube.put(INSTALLATION.configuration_path, wanted)
    again = lab.now
    while await look() == math.inf:
        assert lab.now - again < dt.timedelta(seconds=30)
    assert standing.since > again.timestamp()


async def test_m11_where_everything_is_admitted_without_an_answer_nothing_is_known_of_what_was_admitted(
    lab: Watched,
) -> None:
    lab.want({**WANTED, "webhooks": [{**WANTED["webhooks"][0], "failurePolicy": "Ignore"}]})
    await lab.settled()
    for _ in range(4):
        await lab.leader.keep_certificate()
        lab.now += dt.timedelta(seconds=5)
    assert lab.in_place == 1
    assert lab.leader.duty.standing.since == math.inf
