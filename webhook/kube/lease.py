"""Leadership by a Lease: who of the replicas writes. Nobody needs it to answer a review.

Our own few lines, because the client library's election imports models that cost more memory than everything else here.
Source: Kubernetes API, `coordination.k8s.io/v1` Lease; client-go, package leaderelection, for the order of the steps.
"""

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from webhook.kube import KubeError
from webhook.kube.client import Document, Kube

_log = logging.getLogger(__name__)

DURATION: Final = 15
"""Seconds for which a leader that does not renew stays the leader."""
RENEW: Final = 3.0
"""Seconds between two renewals, and between two attempts to become the leader."""
_GIVE_UP: Final = 10.0
"""Seconds without a renewal after which a leader stops: before others may start, whatever its clock says."""


class Lease:
    """One candidate for the Lease `namespace/name`. Only the others' *changes* are believed, not their clocks.

    `find_owner`: the reference to what the Lease goes with, when it is made.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        find_owner: Callable[[], Awaitable[Document | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._find_owner = find_owner
        self._clock = clock
        self._seen: object = None
        self._seen_at = 0.0

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` whenever this candidate leads, and cancels it when it no longer does; until cancelled itself."""
        while True:
            if not await self._try():
                await asyncio.sleep(RENEW)
                continue
            _log.info("%s leads", self._identity)
            working = asyncio.ensure_future(work())
            try:
                await self._renew_while(working)
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
            _log.info("%s leads no longer", self._identity)
            # Work that fails at once would otherwise be begun, and ask, as fast as the API server answers.
            await asyncio.sleep(RENEW)

    async def release(self) -> None:
        """Lets another replica lead at once, on the way out."""
        try:
            found = await self._kube.get(f"{self._collection}/{self._name}")
            if found is not None and found["spec"].get("holderIdentity") == self._identity:
                await self._write(found, holder="")
        except KubeError as e:
            _log.warning("the lease was not given back: %s", e)

    async def _renew_while(self, working: "asyncio.Future[None]") -> None:
        renewed = self._clock()
        while not working.done() and self._clock() - renewed < _GIVE_UP:
            await asyncio.wait([working], timeout=RENEW)
            if await self._try():
                renewed = self._clock()
            elif self._lost:
                return
        if working.done() and not working.cancelled() and working.exception() is not None:
            _log.error("what the leader does has failed, and begins anew", exc_info=working.exception())

    @property
    def _lost(self) -> bool:
        """Whether somebody else was seen to hold it."""
        return isinstance(self._seen, tuple) and self._seen[0] not in {self._identity, ""}

    async def _try(self) -> bool:
        """Whether this candidate holds the Lease now."""
        try:
            found = await self._kube.get(f"{self._collection}/{self._name}")
            if found is None:
                owner = await self._find_owner()
                metadata = {} if owner is None else {"ownerReferences": [owner]}
                await self._kube.create(self._collection, self._document(metadata, self._identity, transitions=0))
                return True
            spec = found["spec"]
            seen = (spec.get("holderIdentity") or "", spec.get("renewTime"))
            if seen != self._seen:
                self._seen, self._seen_at = seen, self._clock()
            free = seen[0] in {"", self._identity} or self._clock() - self._seen_at > DURATION
            if not free:
                return False
            written = await self._write(found, holder=self._identity)
            self._seen = (self._identity, written["spec"].get("renewTime"))
        except KubeError as e:
            if not e.is_conflict:
                _log.warning("the lease could not be renewed: %s", e)
            return False
        return True

    async def _write(self, found: Document, holder: str) -> Document:
        transitions = int(found["spec"].get("leaseTransitions") or 0)
        if found["spec"].get("holderIdentity") != holder:
            transitions += 1
        body = self._document(found["metadata"], holder, transitions)
        return await self._kube.replace(f"{self._collection}/{self._name}", body)

    def _document(self, metadata: Document, holder: str, transitions: int) -> Document:
        now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            # The resource version among it: whoever writes in between makes this a conflict.
            "metadata": {**metadata, "name": self._name},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": DURATION,
                "renewTime": now,
                "acquireTime": now,
                "leaseTransitions": transitions,
            },
        }
