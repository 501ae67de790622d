"""What is in force → the status of the resource. Pure; the leader writes it."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from webhook import limits
from webhook.moment import later, rfc3339
from webhook.operator import radar
from webhook.operator.onduty import OnDuty
from webhook.operator.policies import InForce
from webhook.operator.rollout import clean_since, effective
from webhook.policy import parse
from webhook.policy.afterwards import NEVER
from webhook.policy.policy import NamedSigner, attested
from webhook.trust import Unresolved, format_of

_READY: Final = {"broken": "Invalid", "unresolved": "SignersUnresolved", "in_force": "InForce"}


def status_of(known: InForce, now: dt.datetime, on_duty: OnDuty | None = None) -> dict[str, Any]:
    """The whole of `status`; a condition keeps the time of its last change as long as it does not change.

    `on_duty`: whether API servers ask us; while that is not known, what was said of it last stays.
    """
    document = known.document
    generation = document["metadata"].get("generation")
    unresolved = [
        f'signer "{signer.name}": {signer.signer.reason}'
        for signer in known.policy.signers
        if isinstance(signer.signer, Unresolved)
    ]
    warnings = parse.warnings(known.policy) if not known.complaints else ()
    what = "; ".join(known.complaints or unresolved or warnings) or "every signer is known"
    if known.complaints:
        what = f"it denies what it covers: {what}"
    held = [
        f"{key}: read at {rfc3339(one.read_at)}, its source cannot be asked since {rfc3339(one.since)}"
        for key, one in known.held
    ]
    resolved = "Unknown" if known.complaints else "False" if unresolved else "True"
    conditions = [
        _condition("Ready", "True" if known.state == "in_force" else "False", _READY[known.state], what),
        _condition(
            "SignersResolved",
            resolved,
            {"Unknown": "Invalid", "False": "KeysNotRead", "True": "KeysHeld" if held else "KeysRead"}[resolved],
            "; ".join(unresolved + held)
            or ("the policy cannot be read" if known.complaints else "all keys have been read"),
        ),
        _condition("Expiring", *_expiring(known, document, now)),
    ]
    waits = effective(known.policy, document, now)
    if waits is not None:
        conditions.append(_condition("Effective", *waits))
    if on_duty is not None:
        conditions.append(_condition("OnDuty", on_duty.status, on_duty.reason, on_duty.message))
    before = {one.get("type"): one for one in (document.get("status") or {}).get("conditions") or ()}
    stamp = rfc3339(now)
    for condition in conditions:
        old = before.get(condition["type"], {})
        same = old.get("status") == condition["status"]
        condition["lastTransitionTime"] = old.get("lastTransitionTime", stamp) if same else stamp
        if generation is not None:
            condition["observedGeneration"] = generation
    if on_duty is None and "OnDuty" in before:
        conditions.append(before["OnDuty"])
    status: dict[str, Any] = {
        "conditions": conditions,
        "signers": _signers(known, now),
        "attestations": _attestations(known),
        "effectiveMode": known.policy.terms.mode_at(now),
    }
    until = known.policy.terms.afterwards.audit_until
    if until is not None and known.policy.terms.afterwards.rollout is not None and until <= now:
        # Written down, so that it holds for replicas that have not seen it.
        status["rollout"] = {"promotedAt": rfc3339(until)}
    elif known.policy.terms.mode == "audit" and "rollout" in (document.get("status") or {}):
        # Somebody has taken it back; what it is enforced by next is another rollout.
        status["rollout"] = None
    return status if generation is None else {"observedGeneration": generation, **status}


def next_change(known: InForce, document: Mapping[str, Any], now: dt.datetime) -> dt.datetime:
    """When `status_of` says something else next, although nobody has changed anything; the end of time if never."""
    times = [time for one in known.ends for time in (later(one.ending.at, -radar.SOON), one.ending.at)]
    times += [
        time for named in known.policy.signers for one in named.devices for time in (one.valid_from, one.valid_until)
    ]
    rollout, until = known.policy.terms.afterwards.rollout, known.policy.terms.afterwards.audit_until
    since = clean_since(document) if rollout is not None and until == NEVER else None
    if rollout is not None and since is not None:
        times.append(later(since, rollout.audit_for))
    elif until is not None:
        times.append(until)
    return min((time for time in times if time > now), default=NEVER)


def _expiring(known: InForce, document: Mapping[str, Any], now: dt.datetime) -> tuple[str, str, str]:
    if known.complaints:
        return "Unknown", "Invalid", "the policy cannot be read"
    ends = sorted(known.ends, key=lambda one: one.ending.at)
    status = document.get("status") or {}
    return radar.condition(ends, document["spec"].get("images"), now, known.policy.require, status)


def _condition(kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message[: limits.MAX_STATUS]}


def hardware_of(named: NamedSigner, now: dt.datetime) -> str:
    """Whether a signer's keys are in hardware: as far as all of them are, and while the evidence is valid."""
    states = {d.state if d.valid_from <= now < d.valid_until else "no" for d in named.devices} or {"no"}
    return next(state for state in ("no", "claimed", "proven") if state in states)


def _devices(named: NamedSigner, now: dt.datetime) -> dict[str, Any]:
    """Where a signer's keys are, if its policy asks for that."""
    if not named.devices:
        return {}
    ended = {"lastError": "its hardware evidence is not valid now"} if hardware_of(named, now) == "no" else {}
    return {"devices": [device.about[: limits.MAX_TEXT] for device in named.devices], **ended}


def _attestations(known: InForce) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for wanted in known.policy.attestations:
        entry: dict[str, Any] = {"name": wanted.name, "predicateTypes": list(wanted.predicate_types)}
        found_by = attested(wanted, known.policy.signers)
        if isinstance(found_by, Unresolved):
            entry["lastError"] = found_by.reason[: limits.MAX_TEXT]
        else:
            entry["fingerprints"] = list(found_by.fingerprints())
            if found_by.unresolved:
                entry["lastError"] = "; ".join(found_by.unresolved)[: limits.MAX_TEXT]
        found.append(entry)
    return found


def _signers(known: InForce, now: dt.datetime) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for named in known.policy.signers:
        signer = named.signer
        if isinstance(signer, Unresolved):
            found.append({"name": named.name, "lastError": signer.reason[: limits.MAX_TEXT]})
        else:
            found.append(
                {
                    "name": named.name,
                    "format": format_of(signer),
                    "fingerprints": list(signer.fingerprints()),
                    "hardware": hardware_of(named, now),
                }
                | _devices(named, now)
            )
    return found
