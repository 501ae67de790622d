"""What became of an exception → its status; the leader writes it. How often it was used, whoever admits writes (`uses`)."""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from webhook import limits
from webhook.kube import KubeError
from webhook.kube.client import Kube
from webhook.moment import rfc3339
from webhook.operator.exceptions import Exceptions, Known, path_of
from webhook.policy.exceptionspec import RunningStatus
from webhook.verdict import ExceptionKey, PolicyKey

_log = logging.getLogger(__name__)

_SECONDS: Final = 2.0
_REASONS: Final = {
    "in_force": "InForce", "not_approved": "NotApproved", "expired": "Expired", "used_up": "UsedUp", "broken": "Invalid",
}  # fmt: skip


def state_of(known: Known, now: dt.datetime) -> str:
    """One word for metrics: `broken`, or what the exception says of itself."""
    exception = known.exception
    if exception is None:
        return "broken"
    return exception.state(now, used_up=exception.max_uses is not None and known.uses >= exception.max_uses)


def status_of(known: Known, policies: Collection[PolicyKey], now: dt.datetime) -> dict[str, Any]:
    """The leader's part of `status`; the condition keeps the time of its last change. `policies`: those that there are."""
    state = state_of(known, now)
    active = state == "in_force"
    condition: dict[str, Any] = {
        "type": "Active",
        "status": "True" if active else "False",
        "reason": _REASONS[state],
        "message": _message(known, state, policies)[: limits.MAX_STATUS],
    }
    old: dict[str, Any] = next(
        (one for one in _status(known).get("conditions") or () if one.get("type") == "Active"), {}
    )
    same = old.get("status") == condition["status"]
    condition["lastTransitionTime"] = old.get("lastTransitionTime", rfc3339(now)) if same else rfc3339(now)
    status: dict[str, Any] = {"active": active, "conditions": [condition]}
    generation = known.document["metadata"].get("generation")
    if generation is not None:
        condition["observedGeneration"] = status["observedGeneration"] = generation
    return status


def _status(known: Known) -> dict[str, Any]:
    status = known.document.get("status")
    return status if isinstance(status, dict) else {}


def _message(known: Known, state: str, policies: Collection[PolicyKey]) -> str:
    exception = known.exception
    if exception is None:
        return f"it lifts nothing: {'; '.join(known.complaints)}"
    until = rfc3339(exception.expires_at)
    text = {
        "in_force": f"approved by {exception.approved_by}, until {until}",
        "not_approved": f"it lifts nothing until somebody other than {exception.requested_by} sets approvedBy",
        "expired": f"it lifts nothing since {until}",
        "used_up": f"it has let in {known.uses} Pods of {exception.max_uses}",
    }[state]
    if state == "in_force":
        text += _running(known)
    missing = sorted(str(key) for key in exception.policies if key not in policies)
    return text + (f"; there is no policy {', '.join(missing)}" if missing else "")


def _running(known: Known) -> str:
    """Whom its end would break."""
    # It was read with the exception, or this would be none.
    found = msgspec.convert(_status(known).get("running"), RunningStatus | None)
    if found is None:
        return ""
    more = ", …" if found.images > len(found.examples) else ""
    return f"; {found.images} images of running containers could not be started again without it: {', '.join(found.examples)}{more}"


@dataclass(slots=True)
class ExceptionStatuses:
    """Writes them. `policies` gives those in force."""

    kube: Kube
    exceptions: Exceptions
    policies: Callable[[], Collection[PolicyKey]]
    clock: Callable[[], dt.datetime]
    _written: dict[ExceptionKey, object] = field(default_factory=dict)

    async def work(self) -> None:
        """Until cancelled, which is when another replica leads."""
        while True:
            await self.write()
            await asyncio.sleep(_SECONDS)

    async def write(self) -> None:
        """Writes the status of every exception whose status is not what it should be by now: they end by time alone."""
        for key, known in list(self.exceptions.known.items()):
            try:
                await self._write(key, known)
            except KubeError as e:
                _log.info("the status of exception %s was not written: %s", key, e)
            except Exception:  # noqa: BLE001 - whoever may write one exception must not end what is done for all
                _log.exception("the status of exception %s was not written", key)
        for key in self._written.keys() - self.exceptions.known.keys():
            del self._written[key]

    async def _write(self, key: ExceptionKey, known: Known) -> None:
        wanted = status_of(known, self.policies(), self.clock())
        state = (known.version, wanted["conditions"][0]["reason"], wanted["conditions"][0]["message"])
        if self._written.get(key) == state:
            return
        before = _status(known)
        if any(before.get(name) != value for name, value in wanted.items()):
            identity = {"uid": known.document["metadata"].get("uid")}
            await self.kube.merge(f"{path_of(key)}/status", {"metadata": identity, "status": wanted})
        self._written[key] = state
