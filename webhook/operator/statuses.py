"""The statuses of policies, written where they are not what they should be: a few at a time, whom nobody has told anything first."""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from webhook import limits
from webhook.kube.client import Document, Kube
from webhook.kube.writes import Writes
from webhook.operator.events import warning
from webhook.operator.onduty import OnDuty
from webhook.operator.policies import InForce, Policies
from webhook.operator.status import next_change, status_of
from webhook.policy.document import API_VERSION
from webhook.policy.schema import RESOURCES
from webhook.verdict import PolicyKey

_log = logging.getLogger(__name__)

_FAULTY: Final = dt.timedelta(minutes=10)
"""Until a status that made an error of ours is looked at again, should nobody change the policy."""
_PLURALS: Final = {resource.namespaced: resource for resource in RESOURCES}


@dataclass(frozen=True, slots=True)
class _Said:
    """What a status was right for: the policy as it was known, and what API servers do; `until` it changes by itself."""

    known: InForce
    on_duty: OnDuty | None
    until: dt.datetime

    def holds(self, known: InForce, on_duty: OnDuty | None, now: dt.datetime) -> bool:
        """Whether it still is."""
        # Mostly it is the very same, which costs nothing to see; one that refers to others is put together each time.
        same = self.known is known or self.known == known
        return same and self.on_duty == on_duty and now < self.until


@dataclass(slots=True)
class Statuses:
    """Writes them. What it knows it could read again."""

    kube: Kube
    policies: Policies
    clock: Callable[[], dt.datetime]
    on_duty: Callable[[], OnDuty | None] = lambda: None
    """Whether API servers ask us, as far as that is known."""
    writes: Writes = field(default_factory=Writes)
    _said: dict[PolicyKey, _Said] = field(default_factory=dict)
    _due: dict[PolicyKey, int] = field(default_factory=dict)
    """Whose status is to be written, and who comes first: 0 of whom nothing has been said, 2 whose write has failed."""

    async def write(self) -> None:
        """Writes some of those that are to be written: what is left waits for the next round, and for whoever comes before it."""
        await self._look()
        first = sorted(self._due, key=self._due.__getitem__)[: limits.MAX_STATUSES]
        for key, error in (await self.writes.each(first, self._write)).items():
            # Deleted or changed in between; the next round sees what is there then.
            _log.info("the status of %s was not written: %s", key, error)
            self._due[key] = 2

    async def _look(self) -> None:
        """Finds out which are to be written."""
        now, on_duty, in_force = self.clock(), self.on_duty(), self.policies.in_force
        for gone in [key for key in self._said if key not in in_force]:
            del self._said[gone]
        for i, key in enumerate(list(in_force)):
            if i % limits.STATUS_BREATH == 0:
                await asyncio.sleep(0)
            known, said = self.policies.standing_of(key), self._said.get(key)
            if known is None or key in self._due or (said is not None and said.holds(known, on_duty, now)):
                continue
            try:
                self._look_at(key, known, on_duty, now)
            except Exception:  # noqa: BLE001 - whoever may write one policy must not end what is done for all
                _log.exception("what the status of %s should be cannot be told", key)
                self._said[key] = _Said(known, on_duty, now + _FAULTY)

    def _look_at(self, key: PolicyKey, known: InForce, on_duty: OnDuty | None, now: dt.datetime) -> None:
        document = known.document
        before = document.get("status") or {}
        if _differs(before, status_of(known, now, on_duty)):
            self._due[key] = 1 if before.get("conditions") else 0
        else:
            self._said[key] = _Said(known, on_duty, next_change(known, document, now))

    async def _write(self, key: PolicyKey) -> None:
        # As it is now: it may have waited.
        known, on_duty, now = self.policies.standing_of(key), self.on_duty(), self.clock()
        if known is not None:
            document = known.document
            await self._write_one(key, known, document, status_of(known, now, on_duty))
            self._said[key] = _Said(known, on_duty, next_change(known, document, now))
        self._due.pop(key, None)

    async def _write_one(self, key: PolicyKey, known: InForce, document: Mapping[str, Any], wanted: Document) -> None:
        before = document.get("status") or {}
        if not _differs(before, wanted):
            return
        resource = _PLURALS[key.namespace is not None]
        place = f"/namespaces/{key.namespace}" if key.namespace else ""
        path = f"/apis/{API_VERSION}{place}/{resource.plural}/{key.name}"
        # Only for the very object that was judged: one of the same name made since has a status of its own.
        identity = {"uid": document["metadata"].get("uid")}
        await self.kube.merge(f"{path}/status", {"metadata": identity, "status": wanted})
        about = {
            "apiVersion": API_VERSION,
            "kind": resource.kind,
            "name": key.name,
            "namespace": key.namespace,
            **identity,
        }
        # Another reason is another fault.
        is_new = _condition("Ready", before).get("reason") != _condition("Ready", wanted)["reason"]
        if is_new and known.state != "in_force":
            await self._tell(about, "Ready", wanted)
        if _condition("Expiring", before).get("status") != _condition("Expiring", wanted)["status"] == "True":
            await self._tell(about, "Expiring", wanted)

    async def _tell(self, about: Document, condition: str, status: Mapping[str, Any]) -> None:
        """An Event about a policy that is not in force as it was written, or rests on what ends."""
        found = _condition(condition, status)
        await self.kube.create(*warning(about, f"Policy{found['reason']}", found["message"], self.clock()))


def _differs(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether something is to be written; what is said of what runs is written by others."""
    return any(before.get(name) != value for name, value in wanted.items())


def _condition(name: str, status: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions") or () if one.get("type") == name), {})
