"""What `kubectl trust status` says of the last hour, by our Events: what drifted, what an outage let in, what was refused."""

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from webhook.cli.statuslines import Line, State, shown, time_of

if TYPE_CHECKING:
    from webhook.kube.client import Document, Kube
    from webhook.operator.installation import Installation

_LATELY: Final = dt.timedelta(hours=1)
"""For how long API servers keep Events, unless they are told otherwise (`--event-ttl`)."""
_READ: Final = 500
"""Events of one reason that are asked for; more are not counted."""
_TEXT: Final = 200


async def drift(kube: "Kube", _installation: "Installation", now: dt.datetime) -> AsyncIterator[Line]:
    """What ran and was not what was verified, and what was evicted for it."""
    drifted, evicted = await _lately(kube, "ImageDrifted", now), await _lately(kube, "ImageEvicted", now)
    gone = {_uid(one) for one in evicted}
    if left := [one for one in drifted if _uid(one) not in gone]:
        yield Line("drift", State.wrong, f"{_count(left)} in the last hour, the last: {_last(left)}")
    if evicted:
        yield Line("drift", State.note, f"{_count(evicted)} evicted in the last hour, the last: {_last(evicted)}")
    if not left and not evicted:
        yield Line("drift", State.ok, "none in the last hour")


async def outages(kube: "Kube", _installation: "Installation", now: dt.datetime) -> AsyncIterator[Line]:
    """What was let in although it could not be verified."""
    found = await _lately(kube, "AdmittedInOutage", now)
    # Policies are told as well, less often; Pods without a name yet are not.
    found = [one for one in found if (one.get("involvedObject") or {}).get("kind") == "Pod"] or found
    if found:
        yield Line(
            "outages", State.note, f"{_count(found)} let in by onOutage in the last hour, the last: {_last(found)}"
        )
    else:
        yield Line("outages", State.ok, "nothing was let in by onOutage in the last hour")


async def refusals(kube: "Kube", _installation: "Installation", now: dt.datetime) -> AsyncIterator[Line]:
    """What was refused, as far as Events tell of it."""
    untrusted, unverified = await _lately(kube, "ImageNotTrusted", now), await _lately(kube, "ImageNotVerified", now)
    for found, what in ((untrusted, "not trusted"), (unverified, "could not be verified")):
        if found:
            yield Line("refusals", State.note, f"{_count(found)} in the last hour, {what}, the last: {_last(found)}")
    if not untrusted and not unverified:
        yield Line("refusals", State.ok, "none in the last hour")


async def _lately(kube: "Kube", reason: str, now: dt.datetime) -> "list[Document]":
    """The Events of one reason, the last one first. Raises `KubeError`."""
    query = {"fieldSelector": f"reason={reason}", "limit": str(_READ)}
    found = (await kube.request("GET", "/api/v1/events", query=query)).get("items") or []
    times = [(time_of(one.get("lastTimestamp")), one) for one in found]
    return [one for at, one in sorted(times, key=lambda pair: pair[0], reverse=True) if now - at <= _LATELY]


def _uid(event: "Document") -> object:
    return (event.get("involvedObject") or {}).get("uid")


def _count(found: "Sequence[Document]") -> str:
    return f"{_READ} or more" if len(found) >= _READ else str(len(found))


def _last(found: "Sequence[Document]") -> str:
    about = found[0].get("involvedObject") or {}
    where = "/".join(str(about[name]) for name in ("namespace", "name") if about.get(name))
    return f"{shown(where)}: {shown(found[0].get('message', ''), _TEXT)}"
