"""Refusals → Events, beside the objects whose people will look for them. Behind the answer, and as far as it can be done.

A controller tries again and again, and each replica sees a part of it: the same sentence about the same object is told once in a
while, a namespace has so many Events a minute, and all of them together have a bound. What is not told is counted.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable
from typing import Final

import cachetools

from webhook import limits
from webhook.kube import KubeError
from webhook.kube.client import Kube
from webhook.observe.metrics import Metrics
from webhook.operator.events import warning
from webhook.verdict import ObjectName, Refusal

_log = logging.getLogger(__name__)

_REASONS: Final = {True: "ImageNotTrusted", False: "ImageNotVerified"}
_MINUTE: Final = 60.0


class RefusalEvents:
    """Implements `admission.server.TellRefusal`. `clock` is monotonic, in seconds."""

    def __init__(self, kube: Kube, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._metrics = metrics
        self._untold: asyncio.Queue[Refusal] = asyncio.Queue(limits.MAX_UNTOLD_REFUSALS)
        self._told: cachetools.TTLCache[Hashable, bool] = cachetools.TTLCache(
            limits.MAX_TOLD_REFUSALS, limits.SAME_EVENT_SECONDS, timer=clock
        )
        # Each count in a list of its own: writing it anew would begin its minute anew.
        self._counts: cachetools.TTLCache[str, list[int]] = cachetools.TTLCache(
            limits.MAX_NAMESPACES_TOLD, _MINUTE, timer=clock
        )
        self._all: cachetools.TTLCache[None, list[int]] = cachetools.TTLCache(1, _MINUTE, timer=clock)

    def tell(self, refusal: Refusal) -> None:
        """Notes a refusal, unless enough is told already; never waits."""
        same = (refusal.namespace, refusal.about, refusal.message)
        if same in self._told or not self._is_within_bounds(refusal.namespace):
            self._metrics.told("suppressed")
            return
        try:
            self._untold.put_nowait(refusal)
        except asyncio.QueueFull:
            self._metrics.told("suppressed")
            return
        self._told[same] = True

    def _is_within_bounds(self, namespace: str) -> bool:
        """Whether one more may be told in this minute, which is then counted."""
        here = self._counts.get(namespace) or self._counts.setdefault(namespace, [0])
        everywhere = self._all.get(None) or self._all.setdefault(None, [0])
        if here[0] >= limits.MAX_EVENTS_PER_NAMESPACE or everywhere[0] >= limits.MAX_EVENTS:
            return False
        here[0] += 1
        everywhere[0] += 1
        return True

    async def work(self) -> None:
        """Tells until cancelled."""
        while True:
            await self.tell_of(await self._untold.get())

    async def tell_of(self, refusal: Refusal) -> None:
        """One Event."""
        message = f"{refusal.what}: {refusal.message}"
        try:
            await self._kube.create(
                *warning(_involved(refusal.about, refusal.namespace), _REASONS[refusal.read], message, refusal.at)
            )
        except KubeError as e:
            self._metrics.told("failed")
            _log.info("an Event about %s in %s was not written: %s", refusal.about.kind, refusal.namespace, e)
        else:
            self._metrics.told("written")


def _involved(about: ObjectName, namespace: str) -> dict[str, str]:
    """As `involvedObject`: the API server wants the Event's own namespace in it, for a Namespace too."""
    named = {"apiVersion": about.api_version, "kind": about.kind, "name": about.name, "namespace": namespace}
    return named | ({"uid": about.uid} if about.uid else {})
