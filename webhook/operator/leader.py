"""What only the leader does: write status and Events, keep the certificate valid, keep the webhook configurations as they were installed.

Each of them reads, computes what should be, and writes only a difference; whatever fails is tried again in a few seconds.
"""

import asyncio
import base64
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from webhook.kube import KubeError
from webhook.kube.client import Document, Kube
from webhook.operator.certificates import Data, next_data
from webhook.operator.configuration import Configurations, owner_of
from webhook.operator.duty import Duty
from webhook.operator.events import warning
from webhook.operator.installation import Installation
from webhook.operator.policies import InForce, Policies
from webhook.operator.status import hardware_of, status_of
from webhook.policy.document import API_VERSION
from webhook.policy.schema import RESOURCES
from webhook.verdict import PolicyKey

_log = logging.getLogger(__name__)

_SECONDS: Final = 2.0
_CERTIFICATE_SECONDS: Final = 5.0
_SETTLING_SECONDS: Final = 1.0
_PLURALS: Final = {resource.namespaced: resource for resource in RESOURCES}

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
    duty: Duty | None = None
    _written: dict[PolicyKey, object] = field(default_factory=dict)
    _configurations: Configurations = field(init=False)

    def __post_init__(self) -> None:
        self._configurations = Configurations(self.kube, self.installation, self.reaches, self.duty)

    async def work(self) -> None:
        """Until cancelled, which is when another replica leads."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_again(self.write_statuses, lambda: _SECONDS))
                tasks.create_task(_again(self.keep_certificate, self._until_certificate))
        finally:
            if self.duty is not None:
                self.duty.resigned()

    def _until_certificate(self) -> float:
        return _SETTLING_SECONDS if self._configurations.is_settling else _CERTIFICATE_SECONDS

    # ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────
    async def write_statuses(self) -> None:
        """Writes the status of every policy whose status is not what it should be."""
        for key, known in self.policies.standing().items():
            try:
                await self._write_status(key, known)
            except KubeError as e:
                # Deleted or changed in between; the next round sees what is there then.
                _log.info("the status of %s was not written: %s", key, e)

    async def _write_status(self, key: PolicyKey, known: InForce) -> None:
        now = self.clock()
        # What it rests on ends without anybody changing anything.
        ending = [(one, one.phase(now)) for one in known.ends]
        hardware = [hardware_of(named, now) for named in known.policy.signers]
        state = (known.version, known.policy, hardware, ending, known.held, known.policy.terms.mode_at(now))
        if self._written.get(key) == state:
            return
        wanted = status_of(known, now)
        before = known.document.get("status") or {}
        # What is said of what runs is written by others.
        if any(before.get(name) != value for name, value in wanted.items()):
            resource = _PLURALS[key.namespace is not None]
            place = f"/namespaces/{key.namespace}" if key.namespace else ""
            path = f"/apis/{API_VERSION}{place}/{resource.plural}/{key.name}"
            # Only for the very object that was judged: one of the same name made since has a status of its own.
            identity = {"uid": known.document["metadata"].get("uid")}
            await self.kube.merge(f"{path}/status", {"metadata": identity, "status": wanted})
            about = {
                "apiVersion": API_VERSION,
                "kind": resource.kind,
                "name": key.name,
                "namespace": key.namespace,
                **identity,
            }
            # Another reason is another fault.
            if _reason_of("Ready", before) != _reason_of("Ready", wanted) and known.state != "in_force":
                await self._tell(about, "Ready", wanted)
            if _status_of("Expiring", before) != _status_of("Expiring", wanted) == "True":
                await self._tell(about, "Expiring", wanted)
        self._written[key] = state

    async def _tell(self, about: Mapping[str, Any], condition: str, status: Mapping[str, Any]) -> None:
        """An Event about a policy that is not in force as it was written, or rests on what ends."""
        found = next(one for one in status["conditions"] if one["type"] == condition)
        await self.kube.create(*warning(about, f"Policy{found['reason']}", found["message"], self.clock()))

    # ── certificate and configuration ────────────────────────────────────────────────────────────────────────────────
    async def keep_certificate(self) -> None:
        """Publishes the authorities first, and only then the certificate that one of them signed."""
        installation, now = self.installation, self.clock()
        secret = await self.kube.get(installation.secret_path)
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
        await asyncio.sleep(pause())


def _status_of(condition: str, status: Mapping[str, Any]) -> object:
    return _condition(condition, status).get("status")


def _reason_of(condition: str, status: Mapping[str, Any]) -> object:
    return _condition(condition, status).get("reason")


def _condition(condition: str, status: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions") or () if one.get("type") == condition), {})


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
