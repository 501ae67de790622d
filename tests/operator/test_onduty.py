"""Every policy says whether anybody asks it: `OnDuty` tells what stands, where, and what helps, and nothing of what is put back (M-11, F-29)."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from tests.fake.apiserver import api_server
from tests.fake.kubeconfig import write_kubeconfig
from tests.operator.test_duty import Watched
from tests.operator.test_leader import CONFIGURATION, INSTALLATION, PINS, WANTED
from tests.operator.test_policies import INLINE
from webhook.kube import KubeError
from webhook.kube.client import Document, Method, connected
from webhook.observe.metrics import CONFIGURATIONS
from webhook.operator.duty import Duty
from webhook.operator.leader import Leader

POLICY = "/apis/trusted-images.dev/v1alpha1/namespaces/shop/trustpolicies/web"
FIELD = "ValidatingWebhookConfiguration trusted-images is weakened: webhooks[images.trusted-images.dev].failurePolicy"


class Asked(Watched):
    """With a policy, and looks as often as the leader has them."""

    def __init__(self) -> None:
        super().__init__()
        document = {"metadata": {"name": "web", "namespace": "shop", "generation": 3}, "spec": INLINE}
        self.policies.seen(self.kube.put(POLICY, document))

    async def look(self, seconds: float = 5, leader: Leader | None = None) -> tuple[str, str] | None:
        """The next look, and the round of statuses after it; what the policy says then."""
        self.now += dt.timedelta(seconds=seconds)
        who = leader or self.leader
        try:
            await who.keep_certificate()
        except KubeError as e:
            self.failed = e
        await self.say(who)
        return self.said

    async def say(self, leader: Leader | None = None) -> None:
        await (leader or self.leader).statuses.write()
        self.policies.seen(self.kube.objects[POLICY])

    def another(self) -> Leader:
        return Leader(self.kube, self.policies, INSTALLATION, lambda: self.now, self.reaches, self.duty())

    def condition(self, name: str = "OnDuty") -> dict[str, Any]:
        found = self.kube.objects[POLICY].get("status", {}).get("conditions", [])
        return next((one for one in found if one["type"] == name), {})

    @property
    def said(self) -> tuple[str, str] | None:
        found = self.condition()
        return (found["status"], found["reason"]) if found else None

    @property
    def message(self) -> str:
        text: str = self.condition()["message"]
        return text

    def statuses(self) -> int:
        """How many were written since the last time."""
        count = [path for _, path in self.kube.asked].count(f"{POLICY}/status")
        self.kube.asked.clear()
        return count

    def fight(self, manager: str = "gitops") -> None:
        """Another controller writes what it wants."""
        webhook = {**self.configuration["webhooks"][0], "failurePolicy": "Ignore"}
        times = [
            ("trusted-images", "2026-01-01T00:00:02Z"),
            (manager, "2026-01-01T00:00:01Z"),
            ("x", "2025-01-01T00:00:00Z"),
        ]
        fields = [{"manager": name, "time": time} for name, time in times]
        metadata = {**self.configuration["metadata"], "managedFields": fields}
        self.kube.put(CONFIGURATION, {**self.configuration, "metadata": metadata, "webhooks": [webhook]})


def gauge(lab: Watched) -> list[float | None]:
    """Of both configurations; None where it says nothing."""
    name = "trusted_images_configuration_in_place"
    return [lab.metrics.registry.get_sample_value(name, {"configuration": one}) for one in CONFIGURATIONS.values()]


IN_PLACE = ("True", "InPlace")
WEAKENED = ("False", "WebhookConfigurationWeakened")


@pytest.fixture
async def lab() -> Asked:
    """All is well, and said so."""
    lab = Asked()
    await lab.say()
    assert (lab.condition("Ready")["status"], lab.said) == ("True", None)
    await lab.settled()
    assert await lab.look() == IN_PLACE
    assert lab.statuses() == 2
    return lab


async def test_what_is_in_place_is_said_once_of_the_policy_as_it_is(lab: Asked) -> None:
    # `kubectl wait` wants the condition of this very generation.
    assert lab.condition()["observedGeneration"] == lab.kube.objects[POLICY]["metadata"]["generation"] == 3
    assert lab.message == "the webhook configurations are as they were installed"
    for _ in range(3):
        await lab.look()
    assert lab.statuses() == 0


async def test_m11_what_cannot_be_put_back_is_said_with_place_cause_and_fix(lab: Asked) -> None:
    lab.change(failurePolicy="Ignore")
    lab.kube.forbidden.add(("PATCH", CONFIGURATION))
    since = lab.condition()["lastTransitionTime"]
    assert [await lab.look() for _ in range(3)] == [IN_PLACE, IN_PLACE, WEAKENED]
    assert lab.message == (
        f"{FIELD}; it cannot be put back (PATCH {CONFIGURATION}: 403 forbidden): `helm upgrade` (Helm 4: with --force-conflicts) gives ClusterRole trusted-images its rights again"
    )
    assert lab.condition()["lastTransitionTime"] > since
    # Nothing was put back, and nothing says so.
    assert [(one["reason"], one["message"].partition(":")[0]) for one in lab.events()] == [
        ("WebhookConfigurationWeakened", "not on duty")
    ]
    assert lab.repairs("weakened") == 0
    # What is said of the policy itself stays.
    assert (lab.condition("Ready")["status"], lab.condition("Ready")["reason"]) == ("True", "InForce")
    lab.statuses()
    for _ in range(3):
        await lab.look()
    assert lab.statuses() == 0
    lab.kube.forbidden.clear()
    # Put back in this look, seen by the next.
    assert [await lab.look() for _ in range(2)] == [WEAKENED, IN_PLACE]
    assert lab.configuration["webhooks"][0]["failurePolicy"] == "Fail"


async def test_m11_what_is_put_back_is_said_in_no_status(lab: Asked) -> None:
    for _ in range(3):
        lab.change(failurePolicy="Ignore")
        assert [await lab.look() for _ in range(3)] == [IN_PLACE] * 3
        lab.kube.remove(CONFIGURATION)
        assert [await lab.look() for _ in range(3)] == [IN_PLACE] * 3
    assert lab.statuses() == 0


async def test_m11_a_second_writer_is_named_and_one_that_comes_again_is_believed_to_be_gone_after_a_minute(
    lab: Asked,
) -> None:
    async def fights() -> list[tuple[str, str] | None]:
        found = []
        for _ in range(4):
            lab.fight()
            found.append(await lab.look())
        return found

    assert await fights() == [IN_PLACE, IN_PLACE, WEAKENED, WEAKENED]
    assert lab.message == f"{FIELD}; it is put back, and changed again by gitops: stop that"
    assert await lab.look() == IN_PLACE
    # It was gone for less than a minute.
    lab.statuses()
    assert (await fights())[-1] == WEAKENED
    # Whoever has mended it and reads this is told why it is not True at once.
    assert lab.message.endswith(
        ": stop that. It has come again: believed to be over after 60 s in which no look shows it"
    )
    for _ in range(11):
        assert await lab.look() == WEAKENED
    assert await lab.look() == IN_PLACE
    assert lab.statuses() == 2
    # After a quiet hour it is as if nothing had been.
    await lab.look(3600)
    assert (await fights())[-1] == WEAKENED
    assert "come again" not in lab.message
    assert await lab.look() == IN_PLACE


async def test_m11_one_that_is_missing_or_stale(lab: Asked) -> None:
    lab.kube.forbidden.add(("PATCH", CONFIGURATION))
    client = {**lab.configuration["webhooks"][0]["clientConfig"], "caBundle": "b2xk"}
    lab.change(clientConfig=client)
    assert [await lab.look() for _ in range(3)][-1] == ("False", "WebhookConfigurationStale")
    assert (
        "names authorities of long ago: webhooks[images.trusted-images.dev].clientConfig.caBundle; it cannot"
        in lab.message
    )
    # Another fault is said when it stands.
    lab.kube.remove(CONFIGURATION)
    stale, missing = ("False", "WebhookConfigurationStale"), ("False", "WebhookConfigurationMissing")
    assert [await lab.look() for _ in range(3)] == [stale, stale, missing]
    assert lab.message.startswith("ValidatingWebhookConfiguration trusted-images is missing; it cannot be put back (")


async def test_texts_of_errors_that_differ_each_time_are_written_once(lab: Asked) -> None:
    lab.change(failurePolicy="Ignore")
    number = 0

    async def apply(path: str, _body: dict[str, Any]) -> dict[str, Any]:
        nonlocal number
        number += 1
        raise KubeError(f"PATCH {path}: 500 error {number}", 500)

    lab.kube.apply = apply  # type: ignore[method-assign, assignment]  # an API server that fails
    for _ in range(5):
        await lab.look()
    assert lab.said == WEAKENED
    assert lab.message == f"{FIELD}; it is not put back yet (PATCH {CONFIGURATION}: 500 error 3)"
    assert lab.statuses() == 1
    # Another cause is another text, when it stands.
    del lab.kube.apply
    lab.kube.forbidden.add(("PATCH", CONFIGURATION))
    for _ in range(3):
        await lab.look()
    assert "403 forbidden" in lab.message


async def test_f29_another_leader_leaves_what_was_said_until_it_has_looked(lab: Asked) -> None:
    lab.change(failurePolicy="Ignore")
    lab.kube.forbidden.add(("PATCH", CONFIGURATION))
    for _ in range(3):
        await lab.look()
    before = lab.condition()
    lab.leader.duty.resigned()
    assert lab.leader.duty.condition is None
    other = lab.another()
    lab.statuses()
    await lab.say(other)
    assert (lab.condition(), lab.statuses()) == (before, 0)
    # Nor is it forgotten when something else is written.
    document = lab.kube.objects[POLICY]
    changed = {**document, "metadata": {**document["metadata"], "generation": 4}}
    lab.policies.seen(lab.kube.put(POLICY, changed))
    await lab.say(other)
    assert lab.condition("Ready")["observedGeneration"] == 4
    assert lab.condition() == before
    lab.kube.forbidden.clear()
    # One look puts it back, the next one finds it there.
    assert [await lab.look(leader=other) for _ in range(2)] == [WEAKENED, IN_PLACE]
    assert lab.condition()["observedGeneration"] == 4


async def test_f29_another_leader_finds_what_stands_by_itself(lab: Asked) -> None:
    lab.change(failurePolicy="Ignore")
    lab.kube.forbidden.add(("PATCH", CONFIGURATION))
    other = lab.another()
    lab.kube.failing["/api/v1/namespaces/ti/events"] = KubeError("no Events now", 500)
    assert [await lab.look(leader=other) for _ in range(3)] == [IN_PLACE, IN_PLACE, WEAKENED]
    assert lab.events() == []


async def test_a_judgement_that_was_stopped_is_said(lab: Asked) -> None:
    written = lab.kube.objects[INSTALLATION.configuration_path]
    lab.kube.remove(INSTALLATION.configuration_path)
    lab.kube.remove(CONFIGURATION)
    assert [await lab.look() for _ in range(3)][-1] == ("False", "JudgementStopped")
    assert lab.message == (
        "all judgement is stopped; ValidatingWebhookConfiguration trusted-images is missing; "
        "ConfigMap ti/trusted-images-webhook is missing: `helm upgrade --install` writes it again"
    )
    assert [one["reason"] for one in lab.events()] == ["JudgementStopped"]
    lab.kube.put(INSTALLATION.configuration_path, written)
    # Missing until it is made, and that is no other fault within seconds.
    assert [await lab.look() for _ in range(2)] == [("False", "JudgementStopped"), IN_PLACE]


async def test_w11_what_is_made_for_the_first_time_is_nobodys_doing(caplog: pytest.LogCaptureFixture) -> None:
    lab = Asked()
    for _ in range(12):
        assert await lab.look() is None
    assert gauge(lab) == [0, 0]
    lab.answered()
    assert [await lab.look() for _ in range(2)] == [None, IN_PLACE]
    assert gauge(lab) == [1, 1]
    assert lab.events() == []
    assert "not on duty" not in caplog.text
    # Deleted afterwards, it is told; also by a leader that did not make it, when nothing comes of waiting.
    lab.answered(ready=False)
    for path in (PINS, CONFIGURATION):
        lab.kube.remove(path)
    other = lab.another()
    for _ in range(24):
        assert await lab.look(leader=other) == IN_PLACE
    assert await lab.look(leader=other) == ("False", "WebhookConfigurationMissing")
    assert "; it is made as soon as replicas answer" in lab.message


async def test_m11_what_waits_for_replicas_hides_nothing_that_is_wrong(lab: Asked) -> None:
    lab.answered(ready=False)
    lab.kube.remove(PINS)
    lab.change(failurePolicy="Ignore")
    lab.kube.forbidden.add(("PATCH", CONFIGURATION))
    other = lab.another()
    assert [await lab.look(leader=other) for _ in range(3)][-1] == ("False", "WebhookConfigurationMissing")
    assert f". {FIELD}; it cannot be put back" in lab.message


async def test_m11_what_is_judged_but_kept_by_nobody_is_not_said_to_be_stopped(lab: Asked) -> None:
    right = lab.kube.objects[INSTALLATION.configuration_path]
    assert gauge(lab) == [1, 1]
    lab.kube.remove(INSTALLATION.configuration_path)
    missing = ("False", "ConfigurationMissing")
    assert [await lab.look() for _ in range(3)] == [IN_PLACE, IN_PLACE, missing]
    asks = "API servers ask by the webhook configurations that are there, and what is changed in them stays so; "
    where = "ConfigMap ti/trusted-images-webhook"
    assert lab.message == f"{asks}{where} is missing: `helm upgrade --install` writes it again"
    # What it should be nobody knows: that is neither well nor wrong.
    assert gauge(lab) == [None, None]
    # Another fault in it, and what has changed since, is another text when it stands.
    lab.want("a: [")
    lab.change(failurePolicy="Ignore")
    lab.kube.remove(PINS)
    unusable = ("False", "ConfigurationUnusable")
    assert [await lab.look() for _ in range(3)] == [missing, missing, unusable]
    assert f"{asks}MutatingWebhookConfiguration trusted-images is missing; {FIELD.partition(':')[0]}; " in lab.message
    assert f"{where} cannot be used (configuration.yaml, line 2, column 1: " in lab.message
    assert lab.message.endswith("): delete it, and `helm upgrade --install` writes it again")
    assert gauge(lab) == [0, 0]
    lab.kube.remove(CONFIGURATION)
    assert [await lab.look() for _ in range(3)] == [unusable, unusable, ("False", "JudgementStopped")]
    lab.kube.put(INSTALLATION.configuration_path, right)
    assert [await lab.look() for _ in range(2)][-1] == IN_PLACE
    assert gauge(lab) == [1, 1]


async def test_one_that_was_installed_to_fail_open_is_on_duty(lab: Asked) -> None:
    lab.want({**WANTED, "webhooks": [{**WANTED["webhooks"][0], "failurePolicy": "Ignore"}]})
    assert [await lab.look() for _ in range(2)] == [IN_PLACE] * 2
    assert lab.message.endswith(
        "; without an answer everything is admitted, as was installed: "
        "MutatingWebhookConfiguration trusted-images, ValidatingWebhookConfiguration trusted-images"
    )


@pytest.mark.parametrize("path", [CONFIGURATION, INSTALLATION.secret_path, INSTALLATION.configuration_path])
async def test_m11_what_cannot_be_looked_at_is_not_said_to_be_well(lab: Asked, path: str) -> None:
    lab.kube.failing[path] = KubeError(f"GET {path}: 500 down", 500)
    # An API server that fails says nothing about it.
    assert [await lab.look() for _ in range(3)] == [IN_PLACE] * 3
    # What the gauge would say is what was true once: somebody may have weakened it since.
    assert None in gauge(lab)
    lab.kube.failing[path] = KubeError(f"GET {path}: 403 forbidden", 403)
    unknown = ("Unknown", "WebhookConfigurationUnreadable")
    assert [await lab.look() for _ in range(3)] == [IN_PLACE, IN_PLACE, unknown]
    assert f"(GET {path}: 403 forbidden): `helm upgrade` (Helm 4: with --force-conflicts) gives" in lab.message
    assert None in gauge(lab)
    lab.kube.failing.clear()
    assert await lab.look() == IN_PLACE
    assert gauge(lab) == [1, 1]


async def test_m11_one_that_cannot_be_put_back_keeps_no_other_from_it(lab: Asked) -> None:
    validating = {**WANTED, "webhooks": [{**WANTED["webhooks"][0], "failurePolicy": "Fail"}]}
    lab.want(validating)
    await lab.settled()
    assert await lab.look() == IN_PLACE
    for path in (PINS, CONFIGURATION):
        lab.kube.remove(path)
    lab.kube.forbidden.add(("PATCH", PINS))
    assert [await lab.look() for _ in range(3)][-1] == ("False", "WebhookConfigurationMissing")
    assert CONFIGURATION in lab.kube.objects
    assert lab.message.count(" is missing") == 1
    # Whoever deletes it again and again leaves no name.
    lab.kube.forbidden.clear()
    await lab.look()
    for _ in range(13):
        lab.kube.remove(PINS)
        await lab.look()
    assert lab.message.endswith("; it is put back, and changed again: the API server's audit log says by whom")
    lab.kube.forbidden.add(("PATCH", PINS))
    lab.kube.remove(PINS)
    # What was never there is not made before digests are written: it would refuse Pods for lack of them.
    lab.kube.remove(CONFIGURATION)
    other = lab.another()
    for _ in range(3):
        await lab.look(leader=other)
    assert CONFIGURATION not in lab.kube.objects
    assert "MutatingWebhookConfiguration trusted-images is missing; it cannot be put back" in lab.message
    assert (
        "ValidatingWebhookConfiguration trusted-images is missing; it is made as soon as the other is there"
        in lab.message
    )
    lab.kube.forbidden.clear()
    for _ in range(3):
        await lab.look(leader=other)
    assert lab.said == IN_PLACE
    assert CONFIGURATION in lab.kube.objects


async def test_without_an_authority_or_a_release_that_is_said() -> None:
    lab = Asked()
    lab.answered()
    for _ in range(4):
        await lab.look(leader=lab.leader)
    assert lab.said == IN_PLACE
    lab.change(failurePolicy="Ignore")
    lab.kube.remove("/apis/rbac.authorization.k8s.io/v1/clusterroles/trusted-images")
    for _ in range(3):
        await lab.look()
    assert lab.message == f"{FIELD}; the release is being removed"


async def test_m11_one_that_stays_so_whatever_is_written_is_said(lab: Asked) -> None:
    lab.change(failurePolicy="Ignore")
    real = lab.kube.request

    async def request(method: Method, path: str, **options: Any) -> Document:
        found = await real(method, path, **options)
        if method == "PATCH" and path == CONFIGURATION:
            found["webhooks"][0]["failurePolicy"] = "Ignore"
            return lab.kube.put(CONFIGURATION, found)
        return found

    lab.kube.request = request  # type: ignore[method-assign]  # what changes requests on their way
    assert [await lab.look() for _ in range(5)][-1] == WEAKENED
    assert lab.message.endswith("; it stays so whatever is written: something changes requests to the API server")
    lab.kube.asked.clear()
    await lab.look()
    assert lab.writes() == []


async def test_m11_the_same_over_http(lab: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with api_server() as server:
        file = write_kubeconfig(tmp_path, server.url)
        monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
        server.objects, server.forbidden, server._version = lab.kube.objects, lab.kube.forbidden, 10_000
        async with connected() as kube:
            duty = Duty(kube, INSTALLATION, lab.metrics)
            leader = Leader(kube, lab.policies, INSTALLATION, lambda: lab.now, lab.reaches, duty)
            lab.fight("kubectl-edit")
            lab.kube.forbidden.add(("PATCH", CONFIGURATION))
            assert [await lab.look(leader=leader) for _ in range(3)] == [IN_PLACE, IN_PLACE, WEAKENED]
            assert f"it cannot be put back (PATCH {CONFIGURATION}: 403 PATCH " in lab.message
            lab.kube.forbidden.clear()
            assert [await lab.look(leader=leader) for _ in range(2)] == [WEAKENED, IN_PLACE]
