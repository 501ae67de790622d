"""What only the leader does: write status and Events, keep the certificate valid, keep the webhook configurations as they were installed.

Each of them reads, computes what should be, and writes only a difference; whatever fails is tried again in a few seconds.
"""

import asyncio
import base64
import datetime as dt
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from webhook.kube import KubeError
from webhook.kube.client import Document, Kube
from webhook.operator.certificates import Data, next_data
from webhook.operator.configuration import Configurations
from webhook.operator.duty import Duty
from webhook.operator.installation import Installation
from webhook.operator.owned import owner_of
from webhook.operator.policies import Policies
from webhook.operator.statuses import Statuses

_log = logging.getLogger(__name__)

_SECONDS: Final = 2.0
_CERTIFICATE_SECONDS: Final = 5.0
_SETTLING_SECONDS: Final = 1.0

Clock = Callable[[], dt.datetime]


@dataclass(slots=True)
class Leader:
    """The leader's work. Everything it knows it could read again: another leader goes on where this one stopped."""

    kube: Kube
    policies: Policies
    installation: Installation
    clock: Clock
    reaches: Callable[[], Awaitable[bool]]
    """Whether a connection to our Service reaches a replica."""
    duty: Duty
    statuses: Statuses = field(init=False)
    _configurations: Configurations = field(init=False)

    def __post_init__(self) -> None:
        self.statuses = Statuses(self.kube, self.policies, self.clock, lambda: self.duty.condition)
        self._configurations = Configurations(self.kube, self.installation, self.reaches, self.duty)

    async def work(self) -> None:
        """Until cancelled, which is when another replica leads."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_again(self.statuses.write, lambda: _SECONDS))
                tasks.create_task(_again(self.keep_certificate, self._until_certificate))
        finally:
            self.duty.resigned()

    def _until_certificate(self) -> float:
        return _SETTLING_SECONDS if self._configurations.is_settling else _CERTIFICATE_SECONDS

    # ── certificate and configuration ────────────────────────────────────────────────────────────────────────────────
    async def keep_certificate(self) -> None:
        """Publishes the authorities first, and only then the certificate that one of them signed."""
        installation, now = self.installation, self.clock()
        try:
            secret = await self.kube.get(installation.secret_path)
        except KubeError as e:
            await self.duty.cut_short(now, e)
            raise
        held = _decoded(secret)
        if not installation.managed:
            await self._configurations.keep(held, now)
            return
        wanted = next_data(held, installation.names, now)
        await self._configurations.keep(held if wanted is None else wanted, now)
        if wanted is not None:
            await self._write_secret(secret, wanted)

    async def _write_secret(self, found: Document | None, data: Data) -> None:
        installation = self.installation
        metadata: Document = {"name": installation.secret, "namespace": installation.namespace}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": metadata,
            "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
        }
        if found is None:
            # Private keys do not stay behind when the release goes.
            owner = await owner_of(self.kube, installation)
            metadata |= {} if owner is None else {"ownerReferences": [owner]}
            await self.kube.create(f"/api/v1/namespaces/{installation.namespace}/secrets", body)
        else:
            # Its resource version among the metadata: what somebody wrote in between is not overwritten.
            await self.kube.replace(
                installation.secret_path, {**body, "type": found.get("type", "Opaque"), "metadata": found["metadata"]}
            )
        _log.info("a new serving certificate is in Secret %s/%s", installation.namespace, installation.secret)


async def _again(step: Callable[[], Awaitable[None]], pause: Callable[[], float]) -> None:
    while True:
        try:
            await step()
        except KubeError as e:
            if not e.is_conflict:
                _log.warning("tried again in %.0f s: %s", pause(), e)
        except Exception:  # noqa: BLE001 - the certificate and the configurations must not end with what is wrong elsewhere
            _log.exception("tried again in %.0f s", pause())
        await asyncio.sleep(pause())


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
