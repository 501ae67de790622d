"""What the leader writes: only differences, in the right order, and nothing of a release that is going (W-09, W-11, M-11)."""

import asyncio
import base64
import datetime as dt
import itertools
import json
from typing import Any

import pytest

from tests.keys.test_remote import Shelf
from tests.operator.test_policies import INLINE, SHOP, World
from tests.policies import KEY
from webhook.keys.kept import KeptKeys
from webhook.keys.remote import RemoteKeys
from webhook.kube import KubeError
from webhook.observe.metrics import Metrics
from webhook.operator.certificates import AUTHORITY_DAYS
from webhook.operator.configuration import withdraw, withdraw_with_namespace
from webhook.operator.duty import Duty
from webhook.operator.installation import Installation
from webhook.operator.leader import Leader
from webhook.operator.wanted import COLLECTIONS
from webhook.policy.document import API_VERSION
from webhook.policy.pkcs11uri import TokenKey
from webhook.trust import Unavailable

CONFIGURATION = f"{COLLECTIONS['ValidatingWebhookConfiguration']}/trusted-images"
PINS = f"{COLLECTIONS['MutatingWebhookConfiguration']}/trusted-images"
INSTALLATION = Installation(namespace="ti")
WANTED: dict[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "trusted-images"},
    "webhooks": [
        {
            "name": "images.trusted-images.dev",
            "clientConfig": {"service": {"name": "trusted-images", "namespace": "ti"}},
        }
    ],
}


def written(validating: dict[str, Any], mutating: dict[str, Any] | None = None) -> str:
    """Both configurations as the chart's ConfigMap has them; the mutating one with the same webhooks where nothing is said of it."""
    other = mutating or {**validating, "kind": "MutatingWebhookConfiguration"}
    return "---\n".join(json.dumps(one) + "\n" for one in (other, validating))


class Lab(World):
    """A leader, and the objects that the chart makes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self.reached = True
        self.leader = Leader(self.kube, self.policies, INSTALLATION, lambda: self.now, self.reaches, self.duty())
        self.kube.put("/apis/rbac.authorization.k8s.io/v1/clusterroles/trusted-images", {})
        self.want(WANTED)

    def duty(self) -> Duty:
        return Duty(self.kube, INSTALLATION, Metrics())

    def want(self, configuration: str | dict[str, Any]) -> None:
        """What the chart writes: text, or one configuration, beside which the other is."""
        text = configuration if isinstance(configuration, str) else written(configuration)
        self.kube.put(INSTALLATION.configuration_path, {"data": {"configuration.yaml": text}})

    async def reaches(self) -> bool:
        return self.reached

    async def settled(self) -> None:
        """Replicas answer, and have done so long enough for the configuration to be there."""
        self.answered()
        await self.leader.keep_certificate()
        self.now += dt.timedelta(seconds=5)
        await self.leader.keep_certificate()

    def answered(self, *, ready: bool = True) -> None:
        self.kube.put(
            "/apis/discovery.k8s.io/v1/namespaces/ti/endpointslices/a",
            {"endpoints": [{"conditions": {"ready": ready}}]},
        )

    @property
    def configuration(self) -> dict[str, Any]:
        return self.kube.objects[CONFIGURATION]

    def writes(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path in self.kube.asked if method != "GET"]


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def test_w11_there_is_no_configuration_before_a_replica_answers(lab: Lab) -> None:
    await lab.leader.keep_certificate()
    assert CONFIGURATION not in lab.kube.objects
    assert INSTALLATION.secret_path in lab.kube.objects
    lab.answered(ready=False)
    await lab.leader.keep_certificate()
    assert CONFIGURATION not in lab.kube.objects
    lab.answered()
    await lab.leader.keep_certificate()
    assert CONFIGURATION not in lab.kube.objects
    # Ready, and gone, and ready again: what counts is the last time.
    lab.now += dt.timedelta(seconds=4)
    lab.answered(ready=False)
    await lab.leader.keep_certificate()
    await lab.settled()
    authority = base64.b64decode(lab.configuration["webhooks"][0]["clientConfig"]["caBundle"])
    assert authority == base64.b64decode(lab.kube.objects[INSTALLATION.secret_path]["data"]["ca.crt"])
    (owner,) = lab.configuration["metadata"]["ownerReferences"]
    assert owner["kind"] == "ClusterRole"
    # The private keys go with the release, too.
    assert lab.kube.objects[INSTALLATION.secret_path]["metadata"]["ownerReferences"] == [owner]


async def test_w11_nodes_are_given_the_time_to_learn_the_way_to_the_first_replica(lab: Lab) -> None:
    await lab.leader.keep_certificate()
    lab.answered()
    for seconds in (0, 4.9):
        lab.now += dt.timedelta(seconds=seconds)
        await lab.leader.keep_certificate()
        assert CONFIGURATION not in lab.kube.objects
    lab.now += dt.timedelta(seconds=0.1)
    await lab.leader.keep_certificate()
    assert CONFIGURATION in lab.kube.objects


async def test_w11_replicas_that_the_service_only_lists_are_none(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.reached = False
    # Those of a release that was here before, say.
    for _ in range(2):
        await lab.settled()
        assert CONFIGURATION not in lab.kube.objects
    lab.reached = True
    await lab.leader.keep_certificate()
    assert CONFIGURATION not in lab.kube.objects
    lab.now += dt.timedelta(seconds=5)
    await lab.leader.keep_certificate()
    assert CONFIGURATION in lab.kube.objects
    assert "leads this one to none" not in caplog.text


async def test_w11_where_no_pod_reaches_itself_the_time_decides(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.reached = False
    await lab.settled()
    lab.now += dt.timedelta(seconds=24.9)
    await lab.leader.keep_certificate()
    assert CONFIGURATION not in lab.kube.objects
    lab.now += dt.timedelta(seconds=0.1)
    await lab.leader.keep_certificate()
    assert CONFIGURATION in lab.kube.objects
    assert "Service trusted-images leads this one to none" in caplog.text


async def test_w11_what_is_made_while_the_release_is_removed_is_taken_back(lab: Lab) -> None:
    real = lab.kube.apply

    async def apply(path: str, body: dict[str, Any]) -> dict[str, Any]:
        # Whoever removes the release has looked for the last time.
        lab.kube.objects.pop(INSTALLATION.configuration_path, None)
        return await real(path, body)

    lab.kube.apply = apply  # type: ignore[method-assign]  # what happens in between
    await lab.settled()
    assert ("PATCH", CONFIGURATION) in lab.writes()
    assert not {CONFIGURATION, PINS} & lab.kube.objects.keys()


async def test_w11_another_release_by_the_same_names_is_waited_for_anew(lab: Lab) -> None:
    await lab.settled()
    await withdraw(lab.kube, INSTALLATION, 0)
    # The leader of the first one is still there, and has not looked meanwhile.
    lab.want(WANTED)
    lab.kube.put("/apis/rbac.authorization.k8s.io/v1/clusterroles/trusted-images", {"metadata": {"uid": "another"}})
    await lab.leader.keep_certificate()
    assert CONFIGURATION not in lab.kube.objects
    await lab.settled()
    (owner,) = lab.configuration["metadata"]["ownerReferences"]
    assert owner["uid"] == "another"


async def test_w11_a_namespace_that_is_deleted_takes_the_configuration_with_it(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    await lab.settled()
    going = asyncio.Event()
    task = asyncio.create_task(withdraw_with_namespace(lab.kube, INSTALLATION, going, 0.01))
    await asyncio.sleep(0.05)
    assert CONFIGURATION in lab.kube.objects
    real, fails = lab.kube.delete, [KubeError("not now")]

    async def delete(path: str) -> None:
        if fails:
            raise fails.pop()
        await real(path)

    lab.kube.delete = delete  # type: ignore[method-assign]  # an API server that is busy
    going.set()
    await asyncio.wait_for(task, 5)
    assert CONFIGURATION not in lab.kube.objects
    assert "still there: not now" in caplog.text
    # Nor does the leader make it again while it is still there.
    await lab.leader.keep_certificate()
    assert CONFIGURATION not in lab.kube.objects


async def test_w11_what_is_made_again_is_taken_away_again(lab: Lab) -> None:
    await lab.settled()
    real, again = lab.kube.delete, [lab.configuration]

    async def delete(path: str) -> None:
        await real(path)
        if path == CONFIGURATION and again:
            lab.kube.put(path, again.pop())

    lab.kube.delete = delete  # type: ignore[method-assign]  # a leader that writes once more
    await withdraw(lab.kube, INSTALLATION, 0)
    assert CONFIGURATION not in lab.kube.objects
    # Somebody who does so for ever is named.
    lab.want(WANTED)
    lab.kube.put(CONFIGURATION, WANTED)
    again[:] = [WANTED] * 100
    with pytest.raises(KubeError, match="trusted-images was made again each time"):
        await withdraw(lab.kube, INSTALLATION, 0)


async def test_nothing_to_do_writes_nothing(lab: Lab) -> None:
    await lab.settled()
    await lab.leader.keep_certificate()
    lab.kube.asked.clear()
    await lab.leader.keep_certificate()
    assert lab.writes() == []


async def test_w09_the_authority_is_published_before_the_certificate_is_written(lab: Lab) -> None:
    await lab.settled()
    lab.kube.asked.clear()
    lab.kube.remove(INSTALLATION.secret_path)
    await lab.leader.keep_certificate()
    assert [path for _, path in lab.writes()] == [PINS, CONFIGURATION, "/api/v1/namespaces/ti/secrets"]
    # Both are published: replicas still serve what the lost one signed.
    assert base64.b64decode(lab.configuration["webhooks"][0]["clientConfig"]["caBundle"]).count(b"BEGIN CERT") == 2


async def test_w09_what_somebody_wrote_meanwhile_is_not_overwritten(lab: Lab) -> None:
    await lab.leader.keep_certificate()
    lab.now += dt.timedelta(days=AUTHORITY_DAYS)

    real = lab.kube.replace

    async def replace(path: str, body: dict[str, Any]) -> dict[str, Any]:
        lab.kube.put(path, {"data": {"tls.crt": ""}})
        return await real(path, body)

    lab.kube.replace = replace  # type: ignore[method-assign]  # what another leader would do
    with pytest.raises(KubeError) as refused:
        await lab.leader.keep_certificate()
    assert refused.value.is_conflict


async def test_m11_a_changed_or_deleted_configuration_is_put_back(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    await lab.settled()
    changed = {**lab.configuration, "webhooks": [{**lab.configuration["webhooks"][0], "failurePolicy": "Ignore"}]}
    lab.kube.put(CONFIGURATION, changed)
    await lab.leader.keep_certificate()
    assert "was changed by somebody else" in caplog.text
    assert [path for _, path in lab.writes()][-2:] == [CONFIGURATION, "/api/v1/namespaces/ti/events"]
    lab.kube.remove(CONFIGURATION)
    await lab.leader.keep_certificate()
    assert CONFIGURATION in lab.kube.objects


async def test_w11_a_release_that_is_going_gets_no_configuration(lab: Lab) -> None:
    await lab.settled()
    await withdraw(lab.kube, INSTALLATION, 0)
    assert CONFIGURATION not in lab.kube.objects
    await lab.leader.keep_certificate()
    assert CONFIGURATION not in lab.kube.objects
    await withdraw(lab.kube, INSTALLATION, 0)
    # Without the hook it is the role whose end says so.
    lab.want(WANTED)
    lab.kube.remove("/apis/rbac.authorization.k8s.io/v1/clusterroles/trusted-images")
    await lab.leader.keep_certificate()
    assert CONFIGURATION not in lab.kube.objects


async def test_w11_certificates_of_others_are_not_made_and_nothing_is_judged_before_their_authority_is_known(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.leader = Leader(
        lab.kube, lab.policies, Installation(namespace="ti", managed=False), lambda: lab.now, lab.reaches, lab.duty()
    )
    await lab.settled()
    for data in (None, {"tls.crt": "eA=="}, {"tls.crt": "eA==", "ca.crt": "%%"}):
        if data:
            lab.kube.put(INSTALLATION.secret_path, {"data": data})
        await lab.leader.keep_certificate()
        assert CONFIGURATION not in lab.kube.objects
    assert INSTALLATION.secret_path not in [path for _, path in lab.writes()]
    assert caplog.text.count("has no ca.crt to publish") == 1
    # As cert-manager writes it: the authority beside the pair.
    lab.kube.put(INSTALLATION.secret_path, {"data": {"tls.crt": "eA==", "ca.crt": "b2xk"}})
    await lab.leader.keep_certificate()
    assert lab.configuration["webhooks"][0]["clientConfig"]["caBundle"] == "b2xk"
    lab.kube.put(INSTALLATION.secret_path, {"data": {"tls.crt": "eA==", "ca.crt": "bmV3"}})
    await lab.leader.keep_certificate()
    assert lab.configuration["webhooks"][0]["clientConfig"]["caBundle"] == "bmV3"
    # An authority among the values counts before that in the Secret.
    (webhook,) = WANTED["webhooks"]
    given = {**webhook, "clientConfig": {**webhook["clientConfig"], "caBundle": "Z2l2ZW4="}}
    lab.want({**WANTED, "webhooks": [given]})
    await lab.leader.keep_certificate()
    assert lab.configuration["webhooks"][0]["clientConfig"]["caBundle"] == "Z2l2ZW4="


async def test_a_status_is_written_once_and_an_event_told_for_what_is_not_in_force(lab: Lab) -> None:
    path = "/apis/trusted-images.dev/v1alpha1/namespaces/shop/trustpolicies/web"
    broken = {"metadata": {"name": "web", "namespace": "shop", "generation": 1}, "spec": {**INLINE, "require": "b"}}
    lab.policies.seen(lab.kube.put(path, broken))
    for _ in range(2):
        await lab.leader.statuses.write()
    assert [path for _, path in lab.writes()] == [f"{path}/status", "/api/v1/namespaces/shop/events"]
    (event,) = (one for place, one in lab.kube.objects.items() if "/events/" in place)
    assert (event["reason"], event["involvedObject"]["name"]) == ("PolicyInvalid", "web")
    # The status comes back as an event of the object, and needs no answer.
    lab.policies.seen(lab.kube.objects[path])
    lab.kube.asked.clear()
    await lab.leader.statuses.write()
    assert lab.writes() == []
    lab.policies.seen(lab.kube.put(path, {**lab.kube.objects[path], "spec": INLINE}))
    await lab.leader.statuses.write()
    assert lab.kube.objects[path]["status"]["conditions"][0]["status"] == "True"
    assert sum("/events/" in place for place in lab.kube.objects) == 1


async def test_f33_a_status_that_cannot_be_written_stops_no_other(lab: Lab) -> None:
    root = "/apis/trusted-images.dev/v1alpha1/namespaces/shop/trustpolicies"
    for name in ("web", "also"):
        lab.policies.seen(
            lab.kube.put(f"{root}/{name}", {"metadata": {"name": name, "namespace": "shop"}, "spec": INLINE})
        )
    lab.kube.failing[f"{root}/web"] = KubeError("changed", 409)
    await lab.leader.statuses.write()
    assert "status" in lab.kube.objects[f"{root}/also"]
    assert "status" not in lab.kube.objects[f"{root}/web"]
    lab.kube.failing.clear()
    await lab.leader.statuses.write()
    assert "status" in lab.kube.objects[f"{root}/web"]
    assert SHOP in lab.policies.in_force


async def test_an_object_made_anew_does_not_get_the_status_of_the_one_before(lab: Lab) -> None:
    path = "/apis/trusted-images.dev/v1alpha1/namespaces/shop/trustpolicies/web"
    lab.policies.seen(lab.kube.put(path, {"metadata": {"name": "web", "namespace": "shop"}, "spec": INLINE}))
    lab.kube.put(path, {"metadata": {"name": "web", "namespace": "shop"}, "spec": {}})
    await lab.leader.statuses.write()
    assert "status" not in lab.kube.objects[path]


async def test_w11_digests_are_written_before_they_are_demanded_and_until_after(lab: Lab) -> None:
    # In whatever order they are written down.
    lab.want("---\n".join(reversed(written(WANTED).split("---\n"))))
    await lab.settled()
    made = [path for method, path in lab.writes() if method != "POST" and "webhookconfigurations" in path]
    assert made == [PINS, CONFIGURATION]
    assert lab.kube.objects[PINS]["webhooks"] == lab.configuration["webhooks"]
    lab.kube.asked.clear()
    await withdraw(lab.kube, INSTALLATION, 0)
    assert [path for method, path in lab.kube.asked if method == "DELETE"][1:] == [CONFIGURATION, PINS]


MUTATING = {**WANTED, "kind": "MutatingWebhookConfiguration"}
(WEBHOOK,) = WANTED["webhooks"]
SERVICE = WEBHOOK["clientConfig"]["service"]


def with_webhook(**changes: Any) -> str:
    """Both, with the validating one's webhook changed; None takes a field away."""
    webhook = {name: value for name, value in {**WEBHOOK, **changes}.items() if value is not None}
    return written({**WANTED, "webhooks": [webhook]}, MUTATING)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[", "configuration.yaml, line 2, column 1: "),
        ("text", "configuration.yaml[0]: expected object, got str"),
        ("", "configuration.yaml: MutatingWebhookConfiguration: required; "),
        (json.dumps(WANTED), "configuration.yaml: MutatingWebhookConfiguration: required"),
        (json.dumps(MUTATING), "configuration.yaml: ValidatingWebhookConfiguration: required"),
        (written(WANTED, WANTED), "configuration.yaml[1].kind: ValidatingWebhookConfiguration stands there twice"),
        (written(WANTED) + "---\n" + json.dumps(MUTATING), "configuration.yaml[2].kind: MutatingWebhookConfiguration stands there twice"),
        (written(WANTED) + "--- 7\n", "configuration.yaml[2]: expected object, got int"),
        (written({**WANTED, "kind": "Deployment"}, MUTATING), "configuration.yaml[1].kind: Deployment is none of "),
        (written({**WANTED, "apiVersion": "v1"}, MUTATING), "configuration.yaml[1].apiVersion: v1 is none of "),
        (written({**WANTED, "metadata": {}}, MUTATING), "configuration.yaml[1].metadata.name: required"),
        (written({**WANTED, "metadata": {"name": "other"}}, MUTATING), "configuration.yaml[1].metadata.name: other is not trusted-images"),
        (written({**WANTED, "webhooks": []}, MUTATING), "configuration.yaml[1].webhooks: empty"),
        (written({**WANTED, "webhooks": [WEBHOOK, WEBHOOK]}, MUTATING), "configuration.yaml[1].webhooks[1].name: images.trusted-images.dev stands there twice"),
        (with_webhook(name=None), "configuration.yaml[1].webhooks[0].name: required"),
        (with_webhook(name="images.example.com"), "configuration.yaml[1].webhooks[0].name: images.example.com does not end in .trusted-images.dev"),
        (with_webhook(clientConfig=None), "configuration.yaml[1].webhooks[0].clientConfig: required"),
        (with_webhook(clientConfig={"url": "https://evil.example"}), "configuration.yaml[1].webhooks[0].clientConfig.service: required"),
        (with_webhook(clientConfig={"service": SERVICE, "url": "https://evil.example"}), "configuration.yaml[1].webhooks[0].clientConfig.url: not accepted"),
        (with_webhook(clientConfig={"service": {**SERVICE, "name": "mine"}}), "configuration.yaml[1].webhooks[0].clientConfig.service: ti/mine is not ti/trusted-images"),
        (with_webhook(clientConfig={"service": {**SERVICE, "namespace": "x"}}), "configuration.yaml[1].webhooks[0].clientConfig.service: x/trusted-images is not ti/trusted-images"),
    ],
)  # fmt: skip
async def test_m11_of_what_is_not_what_the_chart_writes_nothing_is_made_and_the_place_is_told(
    lab: Lab, text: str, fault: str
) -> None:
    lab.want(text)
    await lab.settled()
    lab.now += dt.timedelta(seconds=10)
    await lab.leader.keep_certificate()
    assert not [path for path in lab.kube.objects if "webhookconfigurations" in path]
    condition = lab.leader.duty.condition
    assert condition is not None
    assert condition.reason == "JudgementStopped"
    assert f"; ConfigMap ti/trusted-images-webhook cannot be used ({fault}" in condition.message
    # The certificate is looked after meanwhile.
    assert INSTALLATION.secret_path in lab.kube.objects


async def test_m11_what_was_installed_stays_when_the_config_map_cannot_be_used(lab: Lab) -> None:
    await lab.settled()
    before = [lab.kube.objects[path] for path in (PINS, CONFIGURATION)]
    lab.want(with_webhook(name=None))
    lab.kube.asked.clear()
    for _ in range(3):
        lab.now += dt.timedelta(seconds=5)
        await lab.leader.keep_certificate()
    assert [lab.kube.objects[path] for path in (PINS, CONFIGURATION)] == before
    assert [path for method, path in lab.writes() if "webhookconfigurations" in path] == []
    condition = lab.leader.duty.condition
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "ConfigurationUnusable")
    # Nor does it keep anybody from removing the release.
    await withdraw(lab.kube, INSTALLATION, 0)
    assert not {CONFIGURATION, PINS} & lab.kube.objects.keys()


BY_TOKEN = {"images": ["**"], "signers": [{"name": "a", "cosign": {"key": "pkcs11:object=release"}}]}


async def test_f25_a_key_that_is_in_force_although_nobody_can_be_asked_is_told_in_the_status(lab: Lab) -> None:
    shelf, path = Shelf(seconds=0), f"/apis/{API_VERSION}/clustertrustpolicies/web"
    seconds = itertools.count()
    lab.policies._remote = RemoteKeys({TokenKey: shelf}, lambda: 100.0 * next(seconds), KeptKeys(lambda: lab.now))

    async def told() -> tuple[str, str]:
        await lab.policies.read_remote_keys()
        await lab.leader.statuses.write()
        condition = lab.kube.objects[path]["status"]["conditions"][1]
        assert (condition["type"], condition["status"]) == ("SignersResolved", "True")
        return condition["reason"], condition["message"]

    document = lab.policy(BY_TOKEN, namespace=None)
    lab.kube.put(path, document)
    lab.policies.seen(document)
    shelf.held[TokenKey(label="release")] = KEY.encode()
    assert await told() == ("KeysRead", "all keys have been read")
    shelf.held[TokenKey(label="release")] = Unavailable("no such token is present")
    lab.now += dt.timedelta(minutes=1)
    held = await told()
    read, since = "read at 2026-01-01T00:00:00Z", "cannot be asked since 2026-01-01T00:01:00Z"
    assert held == ("KeysHeld", f"pkcs11:object=release: {read}, its source {since}")
    # Once, for as long as nobody answers.
    lab.now += dt.timedelta(minutes=1)
    lab.kube.asked.clear()
    assert await told() == held
    assert not lab.writes()
    shelf.held[TokenKey(label="release")] = KEY.encode()
    assert await told() == ("KeysRead", "all keys have been read")
