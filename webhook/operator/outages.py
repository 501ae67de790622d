"""What outages let in, told to whoever should know: an Event on the Pod, and one on the policy that bore with it.

Behind the answers and bounded: an outage is when everything is let in at once, and the API server is not to suffer from it, too.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

import cachetools

from webhook import limits
from webhook.judge import explain
from webhook.kube import KubeError
from webhook.kube.client import Document, Kube
from webhook.operator.events import warning
from webhook.operator.policies import Policies
from webhook.policy.document import API_VERSION
from webhook.verdict import Borne, PolicyKey, Ruling

_log = logging.getLogger(__name__)

_REASON: Final = "AdmittedInOutage"
_AGAIN_SECONDS: Final = 600.0
"""Until a policy is told of the same image again; each Pod hears of it once."""
_TOLD: Final = 2_000


class OutageEvents:
    """Tells. `policies`: those in force, for what an Event has to say about one."""

    def __init__(self, kube: Kube, policies: Policies, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._policies = policies
        self._untold: asyncio.Queue[Borne] = asyncio.Queue(limits.MAX_UNTOLD_USES)
        self._told: cachetools.TTLCache[tuple[PolicyKey | None, str], bool] = cachetools.TTLCache(
            _TOLD, _AGAIN_SECONDS, timer=clock
        )

    def tell(self, borne: Borne) -> None:
        """Notes it; never waits. Where too many wait to be told, this one is only counted and logged."""
        try:
            self._untold.put_nowait(borne)
        except asyncio.QueueFull:
            _log.warning("Pod %s/%s, let in during an outage, is told nobody", borne.namespace, borne.name)

    async def work(self) -> None:
        """Tells until cancelled."""
        while True:
            await self.tell_of(await self._untold.get())

    async def tell_of(self, borne: Borne) -> None:
        """An Event on the Pod, and on each policy that has not been told of the image lately; each as far as it can be done."""
        if borne.name and borne.uid:
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": borne.name,
                "namespace": borne.namespace,
                "uid": borne.uid,
            }
            lines = explain.denial([explain.sentence(ruling) for ruling in borne.rulings])
            await self._post(pod, lines, borne)
        for ruling in borne.rulings:
            if (ruling.policy, ruling.image) not in self._told:
                self._told[ruling.policy, ruling.image] = True
                about = self._about(ruling)
                if about is not None:
                    message = f"Pod {borne.namespace}/{borne.name}: {explain.sentence(ruling)}"
                    await self._post(about, message, borne)

    def _about(self, ruling: Ruling) -> Document | None:
        known = None if ruling.policy is None else self._policies.in_force.get(ruling.policy)
        if known is None:
            return None
        key = known.written.key
        return {
            "apiVersion": API_VERSION,
            "kind": "TrustPolicy" if key.namespace else "ClusterTrustPolicy",
            "name": key.name,
            "namespace": key.namespace,
            "uid": known.document["metadata"].get("uid", ""),
        }

    async def _post(self, about: Document, message: str, borne: Borne) -> None:
        try:
            await self._kube.create(*warning(about, _REASON, message, borne.at))
        except KubeError as e:
            _log.info("an Event about %s %s was not written: %s", about["kind"], about["name"], e)
