"""Strict reading of bytes that somebody else wrote, with the path to what is wrong.

It stands apart because a parser that forgives is how two readers come to see two different things in the same bytes. No
policy and no format belongs here.
"""

import functools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from webhook import limits

T = TypeVar("T")

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class Invalid(ValueError):
    """Input does not fit its format. Every complaint begins with the path of the fault."""

    def __init__(self, *complaints: str) -> None:
        super().__init__(*complaints)
        self.complaints = complaints

    def __str__(self) -> str:
        return "; ".join(self.complaints)


class _Strict:
    """The hooks of the library's parser, which refuse what it would let pass."""

    def __init__(self, what: str) -> None:
        self._what = what

    def pairs(self, members: list[tuple[str, object]]) -> dict[str, object]:
        document = dict(members)
        if len(document) != len(members):
            raise Invalid(f"{self._what}: duplicate key {quote(_twice(members))}")
        return document

    def integer(self, digits: str) -> int:
        if len(digits.lstrip("-")) > limits.MAX_DIGITS:
            raise Invalid(f"{self._what}: an integer of more than {limits.MAX_DIGITS} digits")
        return int(digits)

    def number(self, text: str) -> float:
        value = float(text)
        if math.isinf(value):
            raise Invalid(f"{self._what}: a number too large to be kept")
        return value

    def constant(self, name: str) -> NoReturn:
        raise Invalid(f"{self._what}: {name} is not JSON")


def read_json(data: bytes, what: str, most: int = limits.MAX_JSON_ITEMS) -> object:
    """The JSON document in `data`, refusing all that two readers could understand differently.

    Refused are duplicate keys, NaN and infinities, integers of more than `MAX_DIGITS` digits, nesting deeper than
    `MAX_JSON_DEPTH`, more than `most` values, halves of surrogate pairs, and anything that is not UTF-8. `what` names the document and begins the message.

    Raises `Invalid`.
    """
    # Counted before anything is built: a few megabytes of brackets cost seconds of time and a multiple of memory.
    if data.count(b",") + data.count(b"[") + data.count(b"{") > most:
        raise Invalid(f"{what}: more than {most} values")
    strict = _Strict(what)
    try:
        document: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=strict.pairs,
            parse_int=strict.integer,
            parse_float=strict.number,
            parse_constant=strict.constant,
        )
    except Invalid:
        raise
    except RecursionError as e:
        raise Invalid(f"{what}: nested deeper than {limits.MAX_JSON_DEPTH}") from e
    except ValueError as e:
        raise Invalid(f"{what}: not JSON in UTF-8") from e
    _refuse_depth(document, what)
    if _SURROGATE.search(data):
        _refuse_halves(document, what)
    return document


def _twice(members: Iterable[tuple[str, object]]) -> str:
    """The first key that stands there more than once."""
    return next(key for key, count in Counter(key for key, _ in members).items() if count > 1)


def _refuse_halves(document: object, what: str) -> None:
    """Half a surrogate pair is no text: some readers put something else in its place, others fail on it later."""
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        raise Invalid(f"{what}: text that is not Unicode") from e


def _refuse_depth(document: object, what: str) -> None:
    level: list[object] = [document]
    for _ in range(limits.MAX_JSON_DEPTH + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise Invalid(f"{what}: nested deeper than {limits.MAX_JSON_DEPTH}")


def _children(node: object) -> Iterable[object]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def convert(data: object, kind: type[T], path: str) -> T:
    """`data` as a `kind`, strictly: no number for a string, no `true` for 1. The message begins with `path`.

    Raises `Invalid` with the first fault. For configuration written by people, see `convert_all`.
    """
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as e:
        raise Invalid(_message(e, path)) from e
    except RecursionError as e:
        raise Invalid(f"{path}: nested too deeply") from e


def _message(error: msgspec.ValidationError, path: str) -> str:
    text, _, where = str(error).partition(" - at `$")
    # That a field may be left out is not news to whoever wrote something there; and a field's name may be anybody's text.
    text = quote(text.replace("`", "").replace(" | null", ""), limits.MAX_TEXT)
    return f"{path}{where.removesuffix('`')}: {text[:1].lower()}{text[1:]}"


def is_a(data: object, kind: Any) -> bool:
    """Whether `data` is a `kind`."""
    try:
        msgspec.convert(data, kind)
    except msgspec.ValidationError:
        return False
    return True


def convert_all(data: object, kind: type[T], path: str) -> T:
    """`data` as the struct `kind`, with every complaint at once: people who write policies fix all of them in one go.

    Fields that the struct forbids are refused by name, with the known ones listed.

    Raises `Invalid` with all faults.
    """
    complaints: list[str] = []
    _complain(data, kind, path, complaints)
    if complaints:
        raise Invalid(*complaints[: limits.MAX_COMPLAINTS])
    return convert(data, kind, path)


def _complain(data: object, kind: Any, path: str, complaints: list[str]) -> None:
    """Adds every fault of `data` as a `kind`, each at the innermost place that has it; at some number it is enough."""
    if len(complaints) >= limits.MAX_COMPLAINTS:
        return
    try:
        msgspec.convert(data, kind)
    except msgspec.ValidationError as e:
        found = len(complaints)
        inner = _without_none(kind)
        if isinstance(data, dict) and isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            _complain_of_members(data, inner, path, complaints)
        elif isinstance(data, list) and get_origin(inner) in {list, tuple}:
            for i, item in enumerate(data):
                _complain(item, get_args(inner)[0], f"{path}[{i}]", complaints)
        elif isinstance(data, dict) and get_origin(inner) is dict:
            for key, value in data.items():
                _complain(value, get_args(inner)[1], f"{path}[{quote(key, 80)}]", complaints)
        elif get_origin(inner) is Literal:
            complaints.append(f"{path}: {quote(data, 80)} is none of {', '.join(get_args(inner))}")
        if len(complaints) == found:
            complaints.append(_message(e, path))


def _complain_of_members(
    data: dict[object, object], kind: type[msgspec.Struct], path: str, complaints: list[str]
) -> None:
    hints = _hints(kind)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key, value in data.items():
        if key in fields:
            _complain(value, hints[fields[str(key)].name], f"{path}.{key}", complaints)
        elif kind.__struct_config__.forbid_unknown_fields:
            complaints.append(f"{path}.{quote(key)}: unknown field; known: {', '.join(sorted(fields))}")
    complaints.extend(
        f"{path}.{name}: required" for name, field in fields.items() if field.required and name not in data
    )


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of a struct's fields; there are a few dozen structs."""
    return get_type_hints(kind, include_extras=True)


def _without_none(kind: Any) -> Any:
    """`X` of `Annotated[X, …]` and of `X | None`."""
    if get_origin(kind) is Annotated:
        return _without_none(get_args(kind)[0])
    if get_origin(kind) in {Union, UnionType}:
        kinds = [arg for arg in get_args(kind) if arg is not NoneType]
        return _without_none(kinds[0]) if len(kinds) == 1 else kind
    return kind


def quote(untrusted: object, most: int = limits.MAX_QUOTE) -> str:
    """Text from outside as a message may show it: printable ASCII, the rest escaped, cut at `most` characters.

    A terminal, a log line and a label all survive it. It says nothing about whether the text is true.
    """
    text = str(untrusted)[: most + 1]
    shown = "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"
