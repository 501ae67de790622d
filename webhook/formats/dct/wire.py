"""What Notary v1 writes: its JSON, the bytes that signatures are over, names of roles, times.

It is a TUF of its own, older than TUF 1.0: types are capitalised, nothing names a version of the specification. What is signed may
carry members we do not know; what decides is read strictly.
Sources: notary 0.7, `tuf/data`; The Update Framework, "Document formats"; http://wiki.laptop.org/go/Canonical_JSON.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, TypeVar

from msgspec import Meta, Struct, field

from webhook import limits
from webhook.parsing import Invalid, convert, quote, read_json

T = TypeVar("T", bound=Struct)

RELEASES: Final = "targets/releases"
"""The delegation that docker reads before the targets role itself."""

# Exactly representable by readers that hold every number as a float: two of them must not read two numbers.
_MAX_NUMBER: Final = 2**53
_COMPONENT: Final = re.compile(r"[a-z0-9_-]+")
_TIME: Final = re.compile(
    r"(?P<seconds>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?"
    r"(?:Z|(?P<sign>[+-])(?P<hours>[0-9]{2}):(?P<minutes>[0-9]{2}))"
)


class KeyValue(Struct):
    """A key's public part, in base64. A private part has no place in what is published."""

    public: str
    private: None = None


class Key(Struct):
    """A key as metadata lists it."""

    keytype: str
    keyval: KeyValue


class Role(Struct):
    """Which keys speak for a role, and how many of them are needed."""

    keyids: Annotated[list[str], Meta(min_length=1, max_length=limits.MAX_KEYS)]
    threshold: Annotated[int, Meta(ge=1)]


class DelegatedRole(Role, kw_only=True):
    """A role that targets metadata delegates to, for the targets whose names begin with one of `paths`."""

    name: str
    paths: list[str] = []


class FileMeta(Struct):
    """A file's length in bytes and its hashes in base64, by algorithm."""

    length: Annotated[int, Meta(ge=0)]
    hashes: dict[str, str]


class Signed(Struct, kw_only=True):
    """What all metadata has."""

    type: str = field(name="_type")
    version: Annotated[int, Meta(ge=1, le=_MAX_NUMBER)]
    expires: str


class Roles(Struct):
    """The roles that every root must speak about."""

    root: Role
    timestamp: Role
    snapshot: Role
    targets: Role


class Root(Signed):
    """Who speaks for which role."""

    keys: dict[str, Key]
    roles: Roles
    consistent_snapshot: bool | None = None


class Listing(Signed):
    """Timestamp and snapshot: which files there are, by role."""

    meta: dict[str, FileMeta]


class Delegations(Struct):
    """Whom targets metadata delegates to. Go writes nobody as null where it has read metadata older than delegations."""

    keys: dict[str, Key] | None = None
    roles: Annotated[list[DelegatedRole], Meta(max_length=limits.MAX_TUF_DELEGATIONS)] | None = None


class Targets(Signed):
    """What each tag means."""

    targets: dict[str, FileMeta]
    delegations: Delegations = field(default_factory=Delegations)


class Signature(Struct):
    """One signature; the key id chooses among a role's keys and proves nothing."""

    keyid: str
    method: str
    sig: str


class Document(Struct, forbid_unknown_fields=True):
    """Metadata and the signatures over its canonical form."""

    signed: dict[str, Any]
    signatures: list[Signature]


def read_document(untrusted: bytes, what: str, most: int = limits.MAX_JSON_ITEMS) -> Document:
    """The metadata in these bytes, unverified. Raises `Invalid`; the message begins with `what`."""
    document = convert(read_json(untrusted, what, most), Document, what)
    if len(document.signatures) > limits.MAX_SIGNATURES:
        raise Invalid(f"{what}.signatures: more than {limits.MAX_SIGNATURES}")
    return document


def read_signed(document: Document, kind: type[T], what: str) -> T:
    """What a document's signed part says. Raises `Invalid`."""
    return convert(document.signed, kind, f"{what}.signed")


def canonical(value: object, path: str) -> bytes:
    """The bytes that stand for a JSON value: sorted keys, no white space, text as it is but for quotes and backslashes.

    Not RFC 8785. Raises `Invalid` for numbers that are no integers, which have no form here, or that not every reader can hold.
    """
    pieces: list[str] = []
    _canonical(value, path, pieces)
    return "".join(pieces).encode()


def _canonical(value: object, path: str, pieces: list[str]) -> None:
    match value:
        case None:
            pieces.append("null")
        case bool():
            pieces.append("true" if value else "false")
        case int() if -_MAX_NUMBER <= value <= _MAX_NUMBER:
            pieces.append(str(value))
        case str():
            pieces.append(_text(value))
        case list():
            mark = "["
            for item in value:
                pieces.append(mark)
                _canonical(item, path, pieces)
                mark = ","
            pieces.append("]" if value else "[]")
        case dict():
            mark = "{"
            for key in sorted(value):
                pieces += mark, _text(key), ":"
                _canonical(value[key], path, pieces)
                mark = ","
            pieces.append("}" if value else "{}")
        case _:
            raise Invalid(f"{path}: a number that has no canonical form")


def _text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def is_role_path(name: str) -> bool:
    """Whether `name` is one or more components of a delegation's name, none of which could lead elsewhere in a URL (attack T-04).

    Source: notary, `tuf/data/roles.go`, `IsDelegation`.
    """
    return len(name) <= limits.MAX_NAME and all(_COMPONENT.fullmatch(component) for component in name.split("/"))


def parse_time(text: str, path: str) -> datetime:
    """An RFC 3339 time as Go writes it, with up to nine digits of a second; what is finer than microseconds is cut off.

    Raises `Invalid`.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise Invalid(f"{path}: {quote(text, 40)} is not a time of RFC 3339")
    try:
        local = datetime.fromisoformat(match["seconds"]).replace(
            microsecond=int((match["fraction"] or "").ljust(6, "0")[:6]), tzinfo=UTC
        )
        offset = timedelta(hours=int(match["hours"] or 0), minutes=int(match["minutes"] or 0))
        return local + offset if match["sign"] == "-" else local - offset
    except (ValueError, OverflowError) as e:
        raise Invalid(f"{path}: {quote(text, 40)} is not a time that there is") from e
