"""Text → tokens, each with the place where it begins. Source: CEL language definition, "Syntax"."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from webhook.parsing import Invalid, quote

Kind = Literal["name", "integer", "double", "text", "mark", "end"]

_TOKEN: Final = re.compile(
    r"""
    (?P<space>[ \t\r\n\f]+|//[^\n]*)
  | (?P<double>(?:[0-9]+\.[0-9]+|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
  | (?P<integer>0[xX][0-9a-fA-F]+|[0-9]+)
  | (?P<raw>[rR](?:'[^'\r\n]*'|"[^"\r\n]*"))
  | (?P<text>'(?:[^'\\\r\n]|\\.)*'|"(?:[^"\\\r\n]|\\.)*")
  | (?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
  | (?P<mark>&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(
    r"\\(?:[xX](?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|(?P<octal>[0-3][0-7]{2})|(?P<one>.))"
)
_ONE: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "?": "?",
    '"': '"',
    "'": "'",
    "`": "`",
}


@dataclass(frozen=True, slots=True)
class Token:
    """One token. `text` is as it was written, and of a text what it stands for. `at` is where it begins, for people."""

    kind: Kind
    text: str
    at: str


def place(text: str, offset: int) -> str:
    """Where a character is: `column 7`, and the line too where there are several. Both are counted from 1."""
    line = text.count("\n", 0, offset) + 1
    column = offset - text.rfind("\n", 0, offset)
    return f"line {line}, column {column}" if "\n" in text.rstrip() else f"column {column}"


def tokens(text: str) -> Iterator[Token]:
    """Every token of `text`, and last its end. Raises `Invalid`, whose message begins with the place."""
    offset = 0
    while offset < len(text):
        at = place(text, offset)
        match = _TOKEN.match(text, offset)
        if match is None:
            what = "a text that does not end" if text[offset] in "'\"" else f"{quote(text[offset])} begins nothing"
            raise Invalid(f"{at}: {what}")
        written = match[0]
        offset = match.end()
        match match.lastgroup:
            case "raw":
                yield Token("text", written[2:-1], at)
            case "text":
                yield Token("text", _ESCAPE.sub(lambda match, at=at: _escaped(match, at), written[1:-1]), at)  # type: ignore[misc]  # a default binds the loop's variable
            case "name" | "integer" | "double" | "mark" as kind:
                _refuse_joined(text[offset : offset + 1], kind, at)
                yield Token(kind, written, at)
    yield Token("end", "", place(text, len(text.rstrip())))


def _refuse_joined(following: str, kind: Kind, at: str) -> None:
    """`1u` and `b'x'` mean something to other readers, which does not exist here."""
    if kind in {"integer", "double"} and (following.isalnum() or following == "_"):
        raise Invalid(f"{at}: not a number; there are no unsigned ones")
    if kind == "name" and following in {"'", '"'}:
        raise Invalid(f"{at}: an unknown kind of text; there are no bytes")


def _escaped(match: re.Match[str], at: str) -> str:
    if match["one"] is not None:
        if match["one"] not in _ONE:
            raise Invalid(f"{at}: {quote(match[0])} is no escape")
        return _ONE[match["one"]]
    code = int(match["octal"], 8) if match["octal"] else int(match["x"] or match["u"] or match["long"], 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise Invalid(f"{at}: {quote(match[0])} is no character")
    return chr(code)
