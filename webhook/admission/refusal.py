"""A refused review → what people are told of it, at an object that they can look at.

What was refused is not there, so it is told beside its owner: a ReplicaSet's Pods are refused where nobody sees it. Owners are read for
this alone; they grant nothing and decide nothing.
"""

import re
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from webhook import limits
from webhook.admission.review import Request
from webhook.kube import is_name
from webhook.parsing import quote
from webhook.verdict import Answer, ObjectName, Refusal

_KIND: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}")
_API_VERSION: Final = re.compile(r"(?:[a-z0-9.-]{1,253}/)?[a-z0-9]{1,63}")
_UID: Final = re.compile(r"[A-Za-z0-9-]{0,63}")
_TOLD: Final = frozenset({403, 503})
"""What is told: refusals, and what could not be verified. Errors of our own are in the log and in the metrics."""


class _Owner(Struct, rename={"api_version": "apiVersion"}, gc=False):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class _Metadata(Struct, rename="camel", gc=False):
    name: str | None = None
    generate_name: str | None = None
    uid: str | None = None
    owner_references: list[_Owner] | None = None


class _Object(Struct, gc=False):
    metadata: _Metadata | None = None


_decode = msgspec.json.Decoder(_Object).decode


def refusal_of(request: Request, answer: Answer, now: datetime) -> Refusal | None:
    """What is to be told; None of what was admitted, is a dry run, or has no namespace whose people could be told."""
    if answer.allowed or request.dry_run or answer.code not in _TOLD or not is_name(request.namespace):
        return None
    try:
        metadata = _decode(request.object).metadata or _Metadata()
    except (msgspec.DecodeError, RecursionError):
        metadata = _Metadata()
    name = metadata.name or request.name
    # The rest of a name that is generated comes later.
    called, rest = (name, "") if name else (metadata.generate_name or "", "…" if metadata.generate_name else "")
    return Refusal(
        request.namespace,
        _about(request, metadata, name),
        quote(f"{request.kind.kind} {called}".strip(), limits.MAX_DENIAL_NAME) + rest,
        answer.message,
        answer.code == 403,
        now,
    )


def _about(request: Request, metadata: _Metadata, name: str) -> ObjectName:
    """The object itself where it was there before, else its controller, else the namespace."""
    kind = request.kind
    itself = ObjectName(f"{kind.group}/{kind.version}".strip("/"), kind.kind, name, metadata.uid or "")
    owner = next((one for one in metadata.owner_references or () if one.controller), None)
    controller = None if owner is None else ObjectName(owner.api_version, owner.kind, owner.name, owner.uid)
    for candidate in (itself if request.operation == "UPDATE" else None, controller):
        if candidate is not None and _is_sound(candidate):
            return candidate
    return ObjectName("v1", "Namespace", request.namespace)


def _is_sound(named: ObjectName) -> bool:
    """Whether an API server takes an Event about it: what is refused has not been validated by anybody."""
    return bool(
        is_name(named.name)
        and _KIND.fullmatch(named.kind)
        and _API_VERSION.fullmatch(named.api_version)
        and _UID.fullmatch(named.uid)
    )
