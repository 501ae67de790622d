"""The webhook configurations: made when a replica answers, kept as the chart wrote them down, taken away before the last one goes.

Two of them, in this order where they are made: one writes digests into Pods, one judges. Taken away in the other: Pods whose digests
nobody writes any more must not be refused for it.
"""

import asyncio
import base64
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from webhook.kube import KubeError
from webhook.kube.client import Document, Kube
from webhook.operator.certificates import Data, bundle
from webhook.operator.duty import Duty, Fault, fault_of
from webhook.operator.installation import Installation
from webhook.operator.owned import owner_of
from webhook.operator.wanted import configurations_in, paths_of
from webhook.parsing import Invalid

_log = logging.getLogger(__name__)

_SETTLED: Final = dt.timedelta(seconds=5)
"""From the first connection to a replica on, until every node leads to one: they are told one after the other, and refuse before."""
_UNREACHED: Final = dt.timedelta(seconds=30)
"""Ready for so long, replicas are believed to be reachable although this one reaches none: not every network leads a Pod to itself."""
_LOOKS: Final = 5
"""How often somebody may make again what is taken away."""


@dataclass(slots=True)
class Configurations:
    """Those of one installation. What it knows it could read again."""

    kube: Kube
    installation: Installation
    reaches: Callable[[], Awaitable[bool]]
    """Whether a connection to the Service reaches a replica."""
    duty: Duty
    _applied: dict[str, tuple[str, Document]] = field(default_factory=dict)
    _owner: Document | None = None
    _answered_since: dt.datetime | None = None
    _reached_since: dt.datetime | None = None
    _said: str = ""

    async def keep(self, data: Data | None, now: dt.datetime) -> None:
        """Makes them what the chart wrote down, with the authorities of now.

        They are made when a replica can answer and not before: whoever installs us must not be unable to start Pods meanwhile. Without
        the ConfigMap nothing is made: that is how a release that is being removed says so.
        """
        self.duty.begun()
        try:
            await self._keep(data, now)
        except KubeError as e:
            await self.duty.ended(now, e)
            raise
        await self.duty.ended(now)

    async def _keep(self, data: Data | None, now: dt.datetime) -> None:
        await self._follow_owner()
        try:
            wanted = configurations_in(await self.kube.get(self.installation.configuration_path), self.installation)
        except Invalid as e:
            # Nothing of it: what is in place was installed by somebody, and this by nobody knows whom.
            await self._leave(e, now)
            return
        if not wanted:
            await self._leave(None, now)
        failed: KubeError | None = None
        make = True
        for path, written in wanted:
            # What was there is put back, whatever is wrong with the other: only what is made has to wait for it.
            try:
                make = await self._keep_one(path, written, data, now, make=make) and make
            except KubeError as e:
                make = False
                failed = failed or e
                self.duty.failed(written["kind"], e)
        if failed is not None:
            raise failed

    async def _leave(self, wrong: Invalid | None, now: dt.datetime) -> None:
        """Looks at what nobody keeps."""
        faults: dict[str, Fault | None] = {}
        for kind, path in paths_of(self.installation).items():
            found = await self.kube.get(path)
            _, last = self._applied.get(path, (None, None))
            faults[kind] = fault_of(found, last or {"webhooks": []})
        await self.duty.unkept(faults, wrong, now)

    async def _keep_one(self, path: str, written: Document, data: Data | None, now: dt.datetime, *, make: bool) -> bool:
        """False if it is not there yet, nor to be made by now. `make`: it may be made where it has not been yet."""
        found = await self.kube.get(path)
        # Until its authorities are known below, any will do.
        self.duty.looked(written, found, fault_of(found, written))
        # One that was there and is gone was taken by somebody: no node has to learn the way.
        is_first = found is None and path not in self._applied
        if is_first and not (make and await self._is_settled(now)):
            until = "replicas answer" if make else "the other is there"
            self.duty.hindered(written["kind"], "waiting", f"it is made as soon as {until}", is_first=True)
            return False
        desired = self._desired(written, found, data, now)
        if desired is not None:
            await self._make_so(path, found, desired, now)
        elif self._owner is None:
            self.duty.hindered(written["kind"], "going", "the release is being removed")
        else:
            secret = f"{self.installation.namespace}/{self.installation.secret}"
            why = f"Secret {secret} has no ca.crt to publish"
            self.duty.hindered(written["kind"], "authority", why, is_first=is_first)
        return True

    async def _follow_owner(self) -> None:
        """Finds the release that they belong to. What is known of one that was here before says nothing about this one."""
        owner = await owner_of(self.kube, self.installation)
        if owner != self._owner:
            self._owner = owner
            self._applied.clear()
            self._answered_since = self._reached_since = None

    @property
    def is_settling(self) -> bool:
        """Whether replicas answer and the time runs until something is made."""
        return self._answered_since is not None and not self._applied

    async def _take_back_if_going(self, path: str) -> None:
        """Whoever removes the release may have done so between our reading and our writing, and would be refused everything."""
        if await self.kube.get(self.installation.configuration_path) is None:
            await self.kube.delete(path)

    async def _make_so(self, path: str, found: Document | None, desired: Document, now: dt.datetime) -> None:
        """Writes what differs; and says, if it stood there as it should until somebody changed it, that it was put back."""
        fault, kind = fault_of(found, desired), desired["kind"]
        self.duty.looked(desired, found, fault)
        _, last = self._applied.get(path, (None, None))
        if await self._apply(path, found, desired):
            await self._take_back_if_going(path)
            if found is None and last is None:
                # It was made, and not put back: what counts is how it is now.
                made = await self.kube.get(path)
                self.duty.looked(desired, made, fault_of(made, desired))
            if fault is not None and last == desired:
                await self.duty.changed(kind, desired["metadata"]["name"], fault, now)
        elif fault is not None:
            self.duty.hindered(
                kind, "kept", "it stays so whatever is written: something changes requests to the API server"
            )

    async def _apply(self, path: str, found: Document | None, desired: Document) -> bool:
        """Whether something was to be written."""
        version, last = self._applied.get(path, (None, None))
        if found is not None and (version, last) == (found["metadata"]["resourceVersion"], desired):
            return False
        if found is not None and last == desired:
            _log.warning("%s was changed by somebody else; it is put back", path)
        try:
            applied = await self.kube.apply(path, desired)
        except KubeError as e:
            if found is None or not e.is_invalid:
                raise
            # What somebody else wrote does not go together with ours: a `url`, which stays beside our `service` when it is applied.
            await self.kube.merge(path, {"webhooks": desired["webhooks"]})
            applied = await self.kube.apply(path, desired)
        if fault_of(applied, desired) is not None:
            # What others have added stays theirs when it is applied, a condition of their own for example; the list as a whole is not.
            applied = await self.kube.merge(path, {"webhooks": desired["webhooks"]})
        self._applied[path] = (applied["metadata"]["resourceVersion"], desired)
        return True

    def _desired(
        self, written: Document, found: Document | None, data: Data | None, now: dt.datetime
    ) -> Document | None:
        """None while there is no authority to publish, or the release is being removed."""
        if self._owner is None:
            return None
        metadata = {**written["metadata"], "ownerReferences": [self._owner]}
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
        """Whether replicas have answered for so long that every node leads to one.

        That they are ready is not enough: the Service may still list those of a release that was here before, and nodes may be slow.
        """
        if not await self._is_answered():
            self._answered_since = self._reached_since = None
            return False
        self._answered_since = self._answered_since or now
        self._reached_since = (self._reached_since or now) if await self.reaches() else None
        if self._reached_since is not None:
            return now - self._reached_since >= _SETTLED
        if now - self._answered_since < _UNREACHED:
            return False
        self._say_once(f"replicas are ready, but Service {self.installation.service} leads this one to none")
        return True

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


async def withdraw(kube: Kube, installation: Installation, pause: float = 1.0) -> None:
    """Takes the webhook configurations away, and with them all judgement: the first step of removing a release.

    Looks again until none has been there for `pause` seconds: a leader that had read what is wanted before may write it once more, and
    takes that back.
    """
    # First what tells the leader to make them again.
    await kube.delete(installation.configuration_path)
    left = list(reversed(paths_of(installation).values()))
    for _ in range(_LOOKS):
        for path in left:
            await kube.delete(path)
        await asyncio.sleep(pause)
        left = [path for path in left if await kube.get(path) is not None]
        if not left:
            return
    raise KubeError(f"{left[0]} was made again each time it was taken away: look who does that, and take it away")


async def withdraw_with_namespace(
    kube: Kube, installation: Installation, going: asyncio.Event, pause: float = 1.0
) -> None:
    """Does so when our namespace is being deleted, which takes every replica and would leave what has none of its own.

    The API server waits some seconds before it deletes what is in a namespace: until then we are still allowed to.
    """
    await going.wait()
    _log.warning("namespace %s is being deleted, and nothing is judged any more", installation.namespace)
    while True:
        try:
            return await withdraw(kube, installation, pause)
        except KubeError as e:
            _log.error("the webhook configurations are still there: %s", e)
            await asyncio.sleep(pause)


def _published(configuration: Document | None) -> bytes:
    """The authorities that a configuration has now."""
    webhooks: Sequence[Document] = (configuration or {}).get("webhooks") or ()
    for webhook in webhooks:
        try:
            return base64.b64decode(webhook["clientConfig"].get("caBundle") or "")
        except ValueError:
            continue
    return b""
