"""The webhook configurations: made when a replica answers, kept as the chart wrote them down, taken away before the last one goes.

Two of them, in this order where they are made: one writes digests into Pods, one judges. Taken away in the other: Pods whose digests
nobody writes any more must not be refused for it.
"""

import base64
import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from webhook.kube.client import Document, Kube
from webhook.operator.certificates import Data, bundle
from webhook.operator.installation import Installation
from webhook.parsing import Invalid
from webhook.yamltext import read_yaml

_log = logging.getLogger(__name__)

_SETTLED: Final = dt.timedelta(seconds=5)
"""From the first ready replica on, until every node leads to it: they are told one after the other, and refuse connections before."""
_API: Final = "/apis/admissionregistration.k8s.io/v1"
COLLECTIONS: Final[Mapping[str, str]] = {
    "MutatingWebhookConfiguration": f"{_API}/mutatingwebhookconfigurations",
    "ValidatingWebhookConfiguration": f"{_API}/validatingwebhookconfigurations",
}
"""Where each kind of configuration is, in the order in which they are made."""


@dataclass(slots=True)
class Configurations:
    """Those of one installation. What it knows it could read again."""

    kube: Kube
    installation: Installation
    _applied: dict[str, tuple[str, Document]] = field(default_factory=dict)
    _answered_since: dt.datetime | None = None
    _said: str = ""

    async def keep(self, data: Data | None, now: dt.datetime) -> None:
        """Makes them what the chart wrote down, with the authorities of now.

        They are made when a replica can answer and not before: whoever installs us must not be unable to start Pods meanwhile. Without
        the ConfigMap nothing is made: that is how a release that is being removed says so.
        """
        for path, written in _written(await self.kube.get(self.installation.configuration_path)):
            found = await self.kube.get(path)
            # One that was there and is gone was taken by somebody: no node has to learn the way.
            if found is None and path not in self._applied and not await self._is_settled(now):
                return
            desired = await self._desired(written, found, data, now)
            if desired is not None:
                await self._apply(path, found, desired)

    async def _apply(self, path: str, found: Document | None, desired: Document) -> None:
        version, last = self._applied.get(path, (None, None))
        if found is not None and (version, last) == (found["metadata"]["resourceVersion"], desired):
            return
        if found is not None and last == desired:
            _log.warning("%s was changed by somebody else; it is put back", path)
        applied = await self.kube.apply(path, desired)
        self._applied[path] = (applied["metadata"]["resourceVersion"], desired)

    async def _desired(
        self, written: Document, found: Document | None, data: Data | None, now: dt.datetime
    ) -> Document | None:
        """None while there is no authority to publish, or the release is being removed."""
        owner = await owner_of(self.kube, self.installation)
        if owner is None:
            return None
        metadata = {**written["metadata"], "ownerReferences": [owner]}
        webhooks = [dict(webhook) for webhook in written["webhooks"]]
        if not all("caBundle" in webhook["clientConfig"] for webhook in webhooks):
            # Without an authority the API server could reach nobody, and would refuse everything.
            if data is None or "ca.crt" not in data:
                self._say_once(f"nothing is judged: Secret {self.installation.secret} has no ca.crt to publish")
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

    async def _is_settled(self, now: dt.datetime) -> bool:
        """Whether a replica has been ready for so long that every node leads to it."""
        if not await self._is_answered():
            self._answered_since = None
            return False
        self._answered_since = self._answered_since or now
        return now - self._answered_since >= _SETTLED

    def _say_once(self, what: str) -> None:
        """Tells what lasts, without repeating it every few seconds."""
        if what != self._said:
            self._said = what
            _log.warning("%s", what)

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


async def owner_of(kube: Kube, installation: Installation) -> Document | None:
    """The reference that makes an object go when the release goes; None when that is going, or gone."""
    role = await kube.get(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{installation.owner}")
    if role is None or "deletionTimestamp" in role["metadata"]:
        return None
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "name": installation.owner,
        "uid": role["metadata"]["uid"],
    }


def _written(config_map: Document | None) -> list[tuple[str, Document]]:
    """The configurations in the chart's ConfigMap with their paths, in the order in which they are made; none if it is wrong."""
    text = ((config_map or {}).get("data") or {}).get("configuration.yaml")
    if text is None:
        return []
    try:
        documents = read_yaml(text.encode(), "configuration.yaml")
    except Invalid as e:
        _log.error("the webhook configurations in the ConfigMap cannot be read: %s", e)
        return []
    by_kind = {document.get("kind"): document for document in documents if isinstance(document, dict)}
    if len(by_kind) < len(documents) or not by_kind.keys() <= COLLECTIONS.keys():
        _log.error("the webhook configurations in the ConfigMap are not one of each kind: %s", ", ".join(COLLECTIONS))
        return []
    return [
        (f"{collection}/{by_kind[kind]['metadata']['name']}", by_kind[kind])
        for kind, collection in COLLECTIONS.items()
        if kind in by_kind
    ]


async def withdraw(kube: Kube, installation: Installation) -> None:
    """Takes the webhook configurations away, and with them all judgement: the first step of removing a release."""
    written = _written(await kube.get(installation.configuration_path))
    # First what tells the leader to make them again.
    await kube.delete(installation.configuration_path)
    for path, _ in reversed(written):
        await kube.delete(path)


def _published(configuration: Document | None) -> bytes:
    """The authorities that a configuration has now."""
    webhooks: Sequence[Document] = (configuration or {}).get("webhooks") or ()
    for webhook in webhooks:
        try:
            return base64.b64decode(webhook["clientConfig"].get("caBundle") or "")
        except ValueError:
            continue
    return b""
