"""What follows from drift: an Event on the Pod, and an eviction where the policy says so.

Evictions go through the Eviction API, so that disruption budgets hold; what one refuses is asked for again. The Pod is named with its uid:
another one of the same name is not touched. Pods of one controller are evicted one by one, and ever more slowly: what its new Pods run again is not mended
by evicting them.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from webhook import limits
from webhook.background.drift import Drift
from webhook.kube import KubeError
from webhook.kube.client import Kube
from webhook.observe.running import RunningMetrics
from webhook.operator.events import warning
from webhook.parsing import quote

_log = logging.getLogger(__name__)

_REFUSED: Final = 429
"""What the API server answers where a disruption budget leaves no room."""
_OVER: Final = frozenset({404, 409})
"""The Pod is gone, or another one has its name."""


@dataclass(frozen=True, slots=True)
class _Pause:
    """How long no Pod of an owner is evicted after one was. Seconds; `until` since the epoch."""

    seconds: float
    until: float


@dataclass(slots=True)
class Consequences:
    """Tells of each drift once, and evicts as often as it takes."""

    kube: Kube
    metrics: RunningMetrics
    clock: Callable[[], datetime]
    _told: set[tuple[str, str, str]] = field(default_factory=set)
    _tried: dict[str, float] = field(default_factory=dict)
    _owners: dict[tuple[str, str], _Pause] = field(default_factory=dict)
    """By namespace and owner."""

    async def follow(self, drifts: Iterable[Drift]) -> None:
        """What is to be done now about all drift that there is."""
        there = list(drifts)
        self._told &= {(one.uid, one.where, one.running) for one in there}
        uids = {one.uid for one in there}
        for uid in self._tried.keys() - uids:
            del self._tried[uid]
        for one in there:
            if (one.uid, one.where, one.running) not in self._told:
                self._told.add((one.uid, one.where, one.running))
                self.metrics.drifted()
                await self._tell(
                    one, "ImageDrifted", f"{one.where} {quote(one.image, limits.MAX_REFERENCE)}: {one.text}"
                )
        await self._evict({one.uid: one for one in there if one.follows == "evict"}.values())

    async def _evict(self, drifts: Iterable[Drift]) -> None:
        now, left = self.clock().timestamp(), limits.MAX_EVICTIONS
        for owner in [
            owner for owner, one in self._owners.items() if now >= one.until + limits.MAX_EVICT_OWNER_SECONDS
        ]:
            del self._owners[owner]
        for one in drifts:
            if left == 0:
                return
            if now - self._tried.get(one.uid, -limits.EVICT_AGAIN_SECONDS) < limits.EVICT_AGAIN_SECONDS:
                continue
            pause = self._owners.get((one.namespace, one.owner))
            if pause is not None and now < pause.until:
                continue
            left -= 1
            self._tried[one.uid] = now
            await self._evict_one(one)

    async def _evict_one(self, drift: Drift) -> None:
        path = f"/api/v1/namespaces/{drift.namespace}/pods/{drift.name}"
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": drift.name, "namespace": drift.namespace},
            "deleteOptions": {"preconditions": {"uid": drift.uid}},
        }
        try:
            await self.kube.create(f"{path}/eviction", body)
        except KubeError as e:
            if e.status in _OVER:
                return
            refused = e.status == _REFUSED
            self.metrics.evicted("refused" if refused else "failed")
            _log.log(
                logging.INFO if refused else logging.WARNING,
                "%s/%s is not evicted yet: %s",
                drift.namespace,
                drift.name,
                e,
            )
            return
        self.metrics.evicted("evicted")
        owner, now = (drift.namespace, drift.owner), self.clock().timestamp()
        before = self._owners.get(owner)
        seconds = (
            limits.EVICT_OWNER_SECONDS if before is None else min(2 * before.seconds, limits.MAX_EVICT_OWNER_SECONDS)
        )
        self._owners[owner] = _Pause(seconds, now + seconds)
        await self._tell(
            drift, "ImageEvicted", f"policy {drift.policy} says onDrift: evict. {drift.where}: {drift.text}"
        )

    async def _tell(self, drift: Drift, reason: str, message: str) -> None:
        _log.warning("Pod %s/%s: %s", drift.namespace, drift.name, message)
        pod = {"apiVersion": "v1", "kind": "Pod", "name": drift.name, "namespace": drift.namespace, "uid": drift.uid}
        try:
            await self.kube.create(*warning(pod, reason, message, self.clock()))
        except KubeError as e:
            _log.info("an Event about Pod %s/%s was not written: %s", drift.namespace, drift.name, e)
