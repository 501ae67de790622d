"""From when on a policy with `rollout` is enforced: the same on every replica, from what the API server says of it. Pure.

What was enforced once stays enforced, as long as the object lives: neither a status that somebody has emptied nor an edit of `rollout` takes
a policy back to audit. Only `mode` does, which says so.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from webhook.moment import in_utc, later, rfc3339
from webhook.parsing import Invalid, convert
from webhook.policy.afterwards import NEVER, Rollout
from webhook.policy.policy import Policy

_CLEAN: Final = "clean"


def staged(policy: Policy, document: Mapping[str, Any], before: Policy | None, now: datetime) -> Policy:
    """The policy with the end of its audit. `before`: what the same object was until now, if it is known."""
    rollout = policy.terms.afterwards.rollout
    if rollout is None:
        return policy
    created = _time(document["metadata"].get("creationTimestamp"))
    until = _until(rollout, created, document.get("status"))
    if before is not None and before.terms.mode_at(now) == before.terms.mode == "enforce" and not before.faults:
        # In force until now: from the moment on that was known, or from the beginning.
        until = min(until, before.terms.afterwards.audit_until or created or now)
    if until == policy.terms.afterwards.audit_until:
        return policy
    return replace(policy, terms=replace(policy.terms, afterwards=replace(policy.terms.afterwards, audit_until=until)))


def _until(rollout: Rollout, created: datetime | None, status: object) -> datetime:
    said = status.get("rollout") if isinstance(status, dict) else None
    promoted = _time(said.get("promotedAt")) if isinstance(said, dict) else None
    if promoted is not None:
        return promoted
    if rollout.promote_when == _CLEAN:
        return NEVER
    # An object without a time of creation is none of an API server's: nobody waits for it.
    return datetime.min.replace(tzinfo=NEVER.tzinfo) if created is None else later(created, rollout.audit_for)


def _time(text: object) -> datetime | None:
    try:
        found = convert(text, datetime, "")
    except Invalid:
        return None
    return None if found.tzinfo is None else in_utc(found)


def clean_since(document: Mapping[str, Any]) -> datetime | None:
    """Since when nothing is known that the policy would have denied, as its status says; None while something is, or nothing has been judged."""
    preview = (document.get("status") or {}).get("preview")
    if not isinstance(preview, dict) or preview.get("denied") or preview.get("undecided"):
        return None
    created = _time(document["metadata"].get("creationTimestamp"))
    denied = _time(preview.get("lastDenied"))
    return max((time for time in (created, denied) if time is not None), default=None)


def promotable(policy: Policy, document: Mapping[str, Any], now: datetime) -> bool:
    """Whether a policy that waits until nothing would be denied has waited for long enough."""
    rollout, since = policy.terms.afterwards.rollout, clean_since(document)
    waits = rollout is not None and policy.terms.afterwards.audit_until == NEVER
    return waits and rollout is not None and since is not None and now - since >= rollout.audit_for


def effective(policy: Policy, document: Mapping[str, Any], now: datetime) -> tuple[str, str, str] | None:
    """Status, reason and message of the condition `Effective`; None for a policy that does not wait for anything."""
    rollout, until = policy.terms.afterwards.rollout, policy.terms.afterwards.audit_until
    if rollout is None or until is None:
        return None
    if until <= now:
        return "True", "Promoted", f"in mode {policy.terms.mode} since {rfc3339(until)}"
    if until != NEVER:
        return "False", "AuditFirst", f"in audit until {rfc3339(until)}, then in mode {policy.terms.mode}"
    preview = (document.get("status") or {}).get("preview") or {}
    since = clean_since(document)
    if since is None:
        if not preview:
            return "False", "NotJudgedYet", "in audit: what runs has not been judged yet"
        counts = f"{preview.get('denied') or 0} images would be denied, {preview.get('undecided') or 0} could not be verified"
        return "False", "WouldDeny", f"in audit: {counts}; examples stand in status.preview"
    end = later(since, rollout.audit_for)
    if end <= now:
        return "False", "NotJudgedYet", "in audit: its time is over, and some of what runs has not been judged yet"
    return (
        "False",
        "AuditFirst",
        f"in audit until {rfc3339(end)}, then in mode {policy.terms.mode}, if nothing would be denied until then",
    )
