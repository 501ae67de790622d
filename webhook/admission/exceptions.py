"""Writes of exceptions: what is wrong in them, and who says who asked and who approved.

An exception counts by the word of two people. The API server knows who writes, so here, and nowhere else, their names are
compared with it: whoever writes one stands in `requestedBy`, whoever approves it in `approvedBy`, and what was approved does not change.
Pure.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from webhook import limits
from webhook.admission.review import Request, is_absent
from webhook.judge import explain
from webhook.parsing import Invalid, quote
from webhook.policy import exceptionparse
from webhook.verdict import Answer

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def judge_write(request: Request, now: datetime) -> Answer:
    """Refused with every complaint at once (422), refused because of who writes (403), or admitted with warnings."""
    try:
        document = exceptionparse.parse_exception_document(msgspec.json.decode(request.object))
        old = _spec(request.old_object) if request.operation == "UPDATE" else {}
        new = document.spec
        if request.operation == "UPDATE" and _encode(old) == _encode(new):
            # Labels and the like: what was broken before may still be cleaned up.
            return Answer(True, 200)
        exception = exceptionparse.parse_exception(document.key, new)
    except (Invalid, msgspec.DecodeError, RecursionError) as e:
        complaints = e.complaints if isinstance(e, Invalid) else (quote(e),)
        return Answer(False, 422, explain.denial(complaints))
    refusal = _refusal(request.user_info.username, document.key.namespace, old, new if isinstance(new, dict) else {})
    if refusal is not None:
        return Answer(False, 403, refusal)
    warnings = tuple(explain.warning(text) for text in exceptionparse.warnings(exception, now))
    return Answer(True, 200, warnings=warnings[: limits.MAX_WARNINGS])


def _spec(untrusted: msgspec.Raw) -> Mapping[str, Any]:
    """The specification that stood there; an empty one, which is like none, where it cannot be read."""
    if is_absent(untrusted):
        return {}
    document = msgspec.json.decode(untrusted)
    spec = document.get("spec") if isinstance(document, dict) else None
    return spec if isinstance(spec, dict) else {}


def _refusal(writer: str, namespace: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Why this writer may not write this; None: they may. A creation is a change of everything."""
    name = quote(writer, limits.MAX_USER_NAME)
    approver = new.get("approvedBy")
    if _encode(_asked(old)) != _encode(_asked(new)):
        if new.get("requestedBy") != writer:
            return f'spec.requestedBy: must be whoever writes the exception; you are "{name}"'
        if approver is not None:
            return "spec.approvedBy: what is new or changed is approved afterwards, by somebody else; leave it out"
    elif approver is not None and approver != old.get("approvedBy"):
        if approver != writer:
            return f'spec.approvedBy: must be whoever approves; you are "{name}"'
        if approver.startswith(f"system:serviceaccount:{namespace}:"):
            # Whoever may start Pods here may act as any of its accounts, and would approve what they asked for themselves.
            return (
                f'spec.approvedBy: "{name}" is a service account of this very namespace, which whoever asks may act as'
            )
    return None


def _asked(spec: Mapping[str, Any]) -> dict[str, Any]:
    """All but the approval: what is approved."""
    return {name: value for name, value in spec.items() if name != "approvedBy"}
