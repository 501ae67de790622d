"""AdmissionReview → what is asked, and an answer → AdmissionReview.

Pure, and the first thing that untrusted bytes meet. Two kinds of fault are kept apart: a body that is no AdmissionReview has
no uid to answer to and becomes an HTTP error; an object inside it that cannot be judged is a denial like any other.
Source: Kubernetes, "Dynamic Admission Control", `admission.k8s.io/v1`.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec
from msgspec import Struct

from webhook.judge.pin import Pin
from webhook.judge.workload import Question, read_question
from webhook.parsing import Invalid, quote
from webhook.verdict import Answer

API_VERSION: Final = "admission.k8s.io/v1"
Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


class GroupVersionKind(Struct, gc=False):
    """`request.kind`."""

    kind: str
    group: str = ""
    version: str = ""


class UserInfo(Struct, frozen=True, gc=False):
    """`request.userInfo`: who writes. Looked at where exceptions are written, and nowhere else."""

    username: str = ""


class Request(Struct, rename="camel", gc=False):
    """`request`, less everything that decides nothing here."""

    uid: str
    kind: GroupVersionKind
    operation: Operation
    namespace: str = ""
    name: str = ""
    sub_resource: str = ""
    dry_run: bool | None = None
    user_info: UserInfo = UserInfo()
    object: msgspec.Raw = msgspec.Raw()
    old_object: msgspec.Raw = msgspec.Raw()


class AdmissionReview(Struct, rename="camel", gc=False):
    """The envelope."""

    api_version: str = ""
    kind: str = ""
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class Malformed:
    """The object cannot be judged, so it is denied; `reason` begins with the path."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unjudged:
    """Nothing that runs an image is created or changed: admitted, for this reason."""

    reason: Literal["deletion", "no image", "unchanged"]


@dataclass(frozen=True, slots=True)
class Review:
    """One request of the API server, and what is asked by it."""

    request: Request
    asked: Question | Malformed | Unjudged


_decode = msgspec.json.Decoder(AdmissionReview).decode


def read_request(body: bytes) -> Request:
    """The request in an AdmissionReview. Raises `Invalid` if `body` is none, or is of another version than v1."""
    try:
        review = _decode(body)
    except (msgspec.DecodeError, RecursionError) as e:
        raise Invalid(f"AdmissionReview: {quote(e)}") from e
    if review.kind != "AdmissionReview" or review.api_version != API_VERSION:
        raise Invalid(f"AdmissionReview: expected {API_VERSION}, got {quote(review.api_version)} {quote(review.kind)}")
    if review.request is None or not review.request.uid:
        raise Invalid("AdmissionReview.request: missing")
    return review.request


def parse_review(body: bytes, *, final: bool = True) -> Review:
    """What an AdmissionReview asks. Raises `Invalid` if `body` is no AdmissionReview of v1.

    `final`: it is asked after every webhook that may change the object, so a Pod is as a node will run it.
    """
    request = read_request(body)
    asked: Question | Malformed | Unjudged
    try:
        asked = _asked(request)
        if final and isinstance(asked, Question) and not asked.template:
            asked = replace(asked, final=True, dry_run=bool(request.dry_run))
    except Invalid as e:
        asked = Malformed(str(e))
    return Review(request, asked)


class _Metadata(Struct, frozen=True, gc=False):
    name: str = ""
    uid: str = ""


class _Named(Struct, gc=False):
    metadata: _Metadata = _Metadata()


_decode_named = msgspec.json.Decoder(_Named).decode


def read_name(request: Request) -> tuple[str, str]:
    """Name and uid of the object, as far as it has them by now: for those who are told of it. Nothing is decided by them."""
    try:
        metadata = _decode_named(request.object).metadata
    except (msgspec.DecodeError, RecursionError):
        return request.name, ""
    return metadata.name or request.name, metadata.uid


def is_absent(document: msgspec.Raw) -> bool:
    """Whether an object of a request is missing or `null`."""
    return bytes(memoryview(document)[:64]).strip() in {b"", b"null"}


def _asked(request: Request) -> Question | Unjudged:
    if request.operation == "DELETE":
        return Unjudged("deletion")
    if is_absent(request.object):
        raise Invalid("object: missing, so there is nothing to judge")
    question = _question(request, request.object)
    if question is None:
        return Unjudged("no image")
    if not request.namespace:
        raise Invalid("namespace: missing, so no policy can be chosen")
    # The one use of the old object (attack W-07): to see that nothing new is asked. An old object that cannot be read
    # proves nothing.
    if request.operation == "UPDATE" and not is_absent(request.old_object):
        old = _question_or_none(request, request.old_object)
        if old is not None and question.repeats(old):
            return Unjudged("unchanged")
        if old is not None:
            question = question.after(old)
    return question


def _question(request: Request, untrusted: msgspec.Raw) -> Question | None:
    kind = request.kind
    return read_question(kind.group, kind.kind, untrusted, request.namespace)


def _question_or_none(request: Request, untrusted: msgspec.Raw) -> Question | None:
    try:
        return _question(request, untrusted)
    except Invalid:
        return None


class _Status(Struct, gc=False):
    code: int
    message: str
    reason: str
    status: str = "Failure"


class _Response(Struct, rename="camel", omit_defaults=True, gc=False):
    uid: str
    allowed: bool
    status: _Status | None = None
    warnings: tuple[str, ...] = ()
    audit_annotations: dict[str, str] = {}
    patch_type: str | None = None
    patch: str | None = None


class _Operation(Struct, gc=False):
    path: str
    value: str
    op: str = "replace"


class _Rendered(Struct, rename="camel", gc=False):
    response: _Response
    api_version: str = API_VERSION
    kind: str = "AdmissionReview"


_REASONS: Final = {403: "Forbidden", 422: "Invalid", 500: "InternalError", 503: "ServiceUnavailable"}
_encode = msgspec.json.Encoder().encode


def render(uid: str, answer: Answer) -> bytes:
    """The AdmissionReview that carries `answer`; equal answers give equal bytes.

    Source: metav1.Status, "reason" (CamelCase words that go with HTTP codes).
    """
    status = None
    if not answer.allowed:
        status = _Status(code=answer.code, message=answer.message, reason=_REASONS.get(answer.code, "Forbidden"))
    return _encode(_Rendered(_Response(uid, answer.allowed, status, answer.warnings, dict(answer.annotations))))


def render_patch(uid: str, patch: Sequence[Pin]) -> bytes:
    """The AdmissionReview that admits and changes the object; without changes it only admits.

    Source: Kubernetes, "Dynamic Admission Control", "patchType"; RFC 6902.
    """
    if not patch:
        return _encode(_Rendered(_Response(uid, allowed=True)))
    operations = base64.b64encode(
        _encode([_Operation(path=pin.pointer, value=pin.reference) for pin in patch])
    ).decode()
    return _encode(_Rendered(_Response(uid, allowed=True, patch_type="JSONPatch", patch=operations)))
