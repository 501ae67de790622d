"""What only the leader does: write status and Events, keep the certificate valid, keep the webhook configuration as it was installed.

Each of them reads, computes what should be, and writes only a difference; whatever fails is tried again in a few seconds.
"""

import asyncio
import base64
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from webhook.kube import KubeError
from webhook.kube.client import FIELD_MANAGER, Document, Kube
from webhook.operator.certificates import Data, bundle, next_data
from webhook.operator.policies import InForce, Policies
from webhook.operator.status import status_of
from webhook.parsing import Invalid
from webhook.policy.parse import API_VERSION
from webhook.policy.schema import RESOURCES
from webhook.verdict import PolicyKey
from webhook.yamltext import read_yaml

_log = logging.getLogger(__name__)

_SECONDS: Final = 2.0
_CERTIFICATE_SECONDS: Final = 5.0
_PLURALS: Final = {resource.namespaced: resource for resource in RESOURCES}
CONFIGURATIONS: Final = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
_INJECTED: Final = "cert-manager.io/inject-ca-from"

Clock = Callable[[], dt.datetime]


@dataclass(frozen=True, slots=True)
class Installation:
    """What the chart has made, by name.

    `configuration`: a ConfigMap with the webhook configuration as the chart wants it, without its authorities. `owner`: a ClusterRole that
    goes with the release, so that the webhook configuration goes with it, too. `managed`: the certificate is ours to make; otherwise its
    Secret is somebody else's.
    """

    namespace: str
    service: str = "trusted-images"
    secret: str = "trusted-images-tls"  # noqa: S105 - the name of a Secret
    configuration: str = "trusted-images-webhook"
    owner: str = "trusted-images"
    managed: bool = True

    @property
    def names(self) -> list[str]:
        """The names under which API servers call us."""
        return [f"{self.service}.{self.namespace}.svc", f"{self.service}.{self.namespace}.svc.cluster.local"]

    @property
    def secret_path(self) -> str:
        """Of the Secret with the certificate."""
        return f"/api/v1/namespaces/{self.namespace}/secrets/{self.secret}"

    @property
    def configuration_path(self) -> str:
        """Of the ConfigMap with the webhook configuration that is wanted."""
        return f"/api/v1/namespaces/{self.namespace}/configmaps/{self.configuration}"


@dataclass(slots=True)
class Leader:
    """The leader's work. Everything it knows it could read again: another leader goes on where this one stopped."""

    kube: Kube
    policies: Policies
    installation: Installation
    clock: Clock
    _written: dict[PolicyKey, tuple[int, object]] = field(default_factory=dict)
    _applied: tuple[str, Document] | None = None

    async def work(self) -> None:
        """Until cancelled, which is when another replica leads."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_again(self.write_statuses, _SECONDS))
            tasks.create_task(_again(self.keep_certificate, _CERTIFICATE_SECONDS))

    # ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────
    async def write_statuses(self) -> None:
        """Writes the status of every policy whose status is not what it should be."""
        for key, known in list(self.policies.in_force.items()):
            try:
                await self._write_status(key, known)
            except KubeError as e:
                # Deleted or changed in between; the next round sees what is there then.
                _log.info("the status of %s was not written: %s", key, e)

    async def _write_status(self, key: PolicyKey, known: InForce) -> None:
        state = (known.version, known.policy)
        if self._written.get(key) == state:
            return
        wanted = status_of(known, self.clock())
        before = known.document.get("status") or {}
        if before != wanted:
            resource = _PLURALS[key.namespace is not None]
            place = f"/namespaces/{key.namespace}" if key.namespace else ""
            path = f"/apis/{API_VERSION}{place}/{resource.plural}/{key.name}"
            # Only for the very object that was judged: one of the same name made since has a status of its own.
            identity = {"uid": known.document["metadata"].get("uid")}
            await self.kube.merge(f"{path}/status", {"metadata": identity, "status": wanted})
            if _ready(before) != _ready(wanted) and known.state != "in_force":
                await self._tell(key, resource.kind, known, wanted)
        self._written[key] = state

    async def _tell(self, key: PolicyKey, kind: str, known: InForce, status: Mapping[str, Any]) -> None:
        """An Event about a policy that is not in force as it was written."""
        ready = status["conditions"][0]
        stamp = self.clock().isoformat(timespec="seconds").replace("+00:00", "Z")
        namespace = key.namespace or "default"
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{key.name}.", "namespace": namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": kind,
                "name": key.name,
                "namespace": key.namespace,
                "uid": known.document["metadata"].get("uid"),
            },
            "type": "Warning",
            "reason": f"Policy{ready['reason']}",
            "message": ready["message"][:1024],
            "source": {"component": FIELD_MANAGER},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        await self.kube.create(f"/api/v1/namespaces/{namespace}/events", event)

    # ── certificate and configuration ────────────────────────────────────────────────────────────────────────────────
    async def keep_certificate(self) -> None:
        """Publishes the authorities first, and only then the certificate that one of them signed."""
        installation, now = self.installation, self.clock()
        secret = await self.kube.get(installation.secret_path)
        held = _decoded(secret)
        if not installation.managed:
            await self._keep_configuration(held, now)
            return
        wanted = next_data(held, installation.names, now)
        await self._keep_configuration(held if wanted is None else wanted, now)
        if wanted is not None:
            await self._write_secret(secret, wanted)

    async def _write_secret(self, found: Document | None, data: Data) -> None:
        installation = self.installation
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {"name": installation.secret, "namespace": installation.namespace},
            "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
        }
        if found is None:
            await self.kube.create(f"/api/v1/namespaces/{installation.namespace}/secrets", body)
        else:
            # Its resource version among the metadata: what somebody wrote in between is not overwritten.
            await self.kube.replace(
                installation.secret_path, {**body, "type": found.get("type", "Opaque"), "metadata": found["metadata"]}
            )
        _log.info("a new serving certificate is in Secret %s/%s", installation.namespace, installation.secret)

    async def _keep_configuration(self, data: Data | None, now: dt.datetime) -> None:
        """The webhook configuration, as the chart wrote it down, with the authorities of now.

        It is made when a replica can answer and not before: whoever installs us must not be unable to start Pods meanwhile. Without
        the ConfigMap nothing is made: that is how a release that is being removed says so.
        """
        written = _written(await self.kube.get(self.installation.configuration_path))
        if written is None:
            return
        name = written["metadata"]["name"]
        path = f"{CONFIGURATIONS}/{name}"
        found = await self.kube.get(path)
        if found is None and not await self._is_answered():
            return
        desired = await self._desired(written, found, data, now)
        if desired is None:
            return
        if found is not None and self._applied == (found["metadata"]["resourceVersion"], desired):
            return
        if found is not None and self._applied is not None and self._applied[1] == desired:
            _log.warning("the webhook configuration %s was changed by somebody else; it is put back", name)
        applied = await self.kube.apply(path, desired)
        self._applied = (applied["metadata"]["resourceVersion"], desired)

    async def _desired(
        self, written: Document, found: Document | None, data: Data | None, now: dt.datetime
    ) -> Document | None:
        """None while there is no authority to publish, or the release is being removed."""
        role = await self.kube.get(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{self.installation.owner}")
        if role is None or "deletionTimestamp" in role["metadata"]:
            return None
        metadata = dict(written["metadata"])
        metadata["ownerReferences"] = [
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "name": self.installation.owner,
                "uid": role["metadata"]["uid"],
            }
        ]
        webhooks = [dict(webhook) for webhook in written["webhooks"]]
        injected = _INJECTED in (metadata.get("annotations") or {})
        given = all("caBundle" in webhook["clientConfig"] for webhook in webhooks)
        if not injected and not given:
            if data is None or "ca.crt" not in data:
                return None
            authorities = data["ca.crt"]
            if self.installation.managed:
                authorities = bundle(data, _published(found), now)
            for webhook in webhooks:
                webhook["clientConfig"] = {
                    **webhook["clientConfig"],
                    "caBundle": base64.b64encode(authorities).decode(),
                }
        return {**written, "metadata": metadata, "webhooks": webhooks}

    async def _is_answered(self) -> bool:
        """Whether a replica is ready, as the Service sees it."""
        slices = await self.kube.request(
            "GET",
            f"/apis/discovery.k8s.io/v1/namespaces/{self.installation.namespace}/endpointslices",
            query={"labelSelector": f"kubernetes.io/service-name={self.installation.service}"},
        )
        return any(
            (endpoint.get("conditions") or {}).get("ready")
            for one in slices.get("items") or ()
            for endpoint in one.get("endpoints") or ()
        )


async def _again(step: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        try:
            await step()
        except KubeError as e:
            if not e.is_conflict:
                _log.warning("tried again in %.0f s: %s", seconds, e)
        await asyncio.sleep(seconds)


def _written(config_map: Document | None) -> Document | None:
    """The webhook configuration in the chart's ConfigMap; None if there is none, or it is none."""
    text = ((config_map or {}).get("data") or {}).get("configuration.yaml")
    if text is None:
        return None
    try:
        (document,) = read_yaml(text.encode(), "configuration.yaml")
    except (Invalid, ValueError) as e:
        _log.error("the webhook configuration in the ConfigMap cannot be read: %s", e)
        return None
    return document if isinstance(document, dict) else None


async def withdraw(kube: Kube, installation: Installation) -> None:
    """Takes the webhook configuration away, and with it all judgement: the first step of removing a release."""
    written = _written(await kube.get(installation.configuration_path))
    # First what tells the leader to make it again.
    await kube.delete(installation.configuration_path)
    if written is not None:
        await kube.delete(f"{CONFIGURATIONS}/{written['metadata']['name']}")


def _ready(status: Mapping[str, Any]) -> object:
    return next((one.get("status") for one in status.get("conditions") or () if one.get("type") == "Ready"), None)


def _decoded(secret: Document | None) -> Data | None:
    """The entries of a Secret as far as they are base64; what is not is as good as missing, and made anew."""
    if secret is None:
        return None
    found = {}
    for name, value in (secret.get("data") or {}).items():
        try:
            found[name] = base64.b64decode(value, validate=True)
        except ValueError:
            continue
    return found


def _published(configuration: Document | None) -> bytes:
    webhooks: Sequence[Document] = (configuration or {}).get("webhooks") or ()
    for webhook in webhooks:
        try:
            return base64.b64decode(webhook["clientConfig"].get("caBundle") or "")
        except ValueError:
            continue
    return b""
