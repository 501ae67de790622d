"""Specification → an exception, or every complaint about it at once. One that is broken lifts nothing."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from webhook import limits
from webhook.image import parse_digest
from webhook.parsing import Invalid, convert, convert_all, is_a, quote
from webhook.policy.document import parse_header
from webhook.policy.exception import ImageMatch, TrustException
from webhook.policy.exceptionspec import ExceptionSpec, ExceptionStatus
from webhook.policy.globs import ImageGlob, parse_image_glob
from webhook.policy.parse import parse_workloads
from webhook.verdict import ExceptionKey, PolicyKey

KIND: Final = "TrustException"
_POLICY: Final = re.compile(r"(?P<cluster>cluster/)?(?P<name>[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)")
_LONG: Final = timedelta(days=30)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ExceptionDocument:
    """A custom resource: which exception, its specification as it was written, and how often it has been used."""

    key: ExceptionKey
    spec: object
    uid: str
    uses: int


class _Identity(msgspec.Struct):
    uid: str = ""


def parse_exception_document(untrusted: object) -> ExceptionDocument:
    """The exception that a custom resource is. Raises `Invalid`; the specification is not looked at yet."""
    header = parse_header(untrusted, (KIND,))
    identity = convert(header.metadata, _Identity, "metadata")
    return ExceptionDocument(
        ExceptionKey(header.namespace or "default", header.name), header.spec, identity.uid, uses_of(header.status)
    )


def uses_of(status: object) -> int:
    """How often it has been used, as its status says. Raises `Invalid`."""
    return 0 if status is None else convert(status, ExceptionStatus, "status").uses


def parse_exception(key: ExceptionKey, spec: object, uid: str = "") -> TrustException:
    """The exception that `spec` writes. Raises `Invalid` with every complaint, each with its path."""
    complaints: list[str] = []
    try:
        convert_all(spec, ExceptionSpec, "spec")
    except Invalid as e:
        complaints += e.complaints
    written = _Written(spec if isinstance(spec, dict) else {}, complaints)
    policies = written.each("policies", lambda text: _policy(text, key.namespace))
    images = written.each("images", _image)
    workloads = parse_workloads(written.field("workloads"), complaints)
    if written.field("approvedBy") is not None and written.field("approvedBy") == written.field("requestedBy"):
        complaints.append("spec.approvedBy: whoever asked for it cannot approve it")
    if complaints:
        raise Invalid(*complaints[: limits.MAX_COMPLAINTS])
    read = convert(spec, ExceptionSpec, "spec")
    return TrustException(
        key=key,
        policies=frozenset(policies),
        images=tuple(images),
        workloads=workloads,
        reason=read.reason,
        requested_by=read.requested_by,
        approved_by=read.approved_by,
        expires_at=read.expires_at,
        max_uses=read.max_uses,
        uid=uid,
    )


@dataclass(frozen=True, slots=True)
class _Written:
    """The fields that have their form: the others have been complained about."""

    spec: Mapping[str, Any]
    complaints: list[str]

    def field(self, name: str) -> Any:
        kind = next(field.type for field in msgspec.structs.fields(ExceptionSpec) if field.encode_name == name)
        value = self.spec.get(name)
        if value is None or not is_a(value, kind):
            return None
        return msgspec.convert(value, kind)

    def each(self, name: str, read: Callable[[str], T]) -> Sequence[T]:
        found = []
        for i, text in enumerate(self.field(name) or ()):
            try:
                found.append(read(text))
            except Invalid as e:
                self.complaints.extend(f"spec.{name}[{i}]: {complaint}" for complaint in e.complaints)
        return found


def _policy(text: str, namespace: str) -> PolicyKey:
    match = _POLICY.fullmatch(text)
    if match is None:
        raise Invalid(
            f"{quote(text, 80)}: not a policy (the name of a TrustPolicy, or cluster/ and that of the other kind)"
        )
    return PolicyKey(None if match["cluster"] else namespace, match["name"])


def _image(text: str) -> ImageMatch:
    """A digest, a name with its digest, or a glob. A tag says nothing about what runs, and stands beside a digest for people."""
    if text.startswith("sha256:"):
        return ImageMatch(None, parse_digest(text))
    name, at, digest = text.partition("@")
    glob = parse_image_glob(text)
    if at and "*" not in digest:
        return ImageMatch(ImageGlob(glob.host, glob.path, None, None), parse_digest(digest))
    if "*" not in text:
        raise Invalid(
            f"{quote(text, 80)}: a tag can be moved; name it by digest ({quote(name, 80)}@sha256:…), or write a glob"
        )
    if glob.tag not in {None, "*"}:
        raise Invalid(f"{quote(text, 80)}: a tag can be moved; leave it out of the glob, or name images by digest")
    return ImageMatch(ImageGlob(glob.host, glob.path, None, glob.digest), None)


def warnings(exception: TrustException, now: datetime) -> tuple[str, ...]:
    """What is allowed and yet dangerous, or has no effect yet."""
    notes = []
    match exception.lapse(now):
        case "not_approved":
            notes.append(
                "it lifts nothing yet: somebody else has to approve it, kubectl patch trustexception"
                f" {exception.key.name} -n {exception.key.namespace} --type=merge"
                """ -p '{"metadata":{"resourceVersion":"AS READ"},"spec":{"approvedBy":"THEIR USER NAME"}}'"""
            )
        case "expired":
            notes.append("spec.expiresAt: is past, so it lifts nothing")
    if exception.expires_at - now > _LONG:
        notes.append(f"spec.expiresAt: more than {_LONG.days} days from now; what lasts so long is a policy")
    notes += [
        f"spec.images: {one} also means what anybody will push there until it expires"
        for one in exception.images
        if one.is_glob
    ]
    return tuple(notes)
