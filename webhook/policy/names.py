"""Distinguished names as policies write them, and as they are shown.

Source: RFC 4514, sections 2 and 3; Notary Project, trust-store-trust-policy.md, "Trusted Identities Constraints".
"""

import re
from collections.abc import Iterable
from typing import Final

from webhook import limits
from webhook.parsing import Invalid, quote

PREFIX: Final = "x509.subject:"

TYPES: Final = {
    "C": "2.5.4.6",
    "ST": "2.5.4.8",
    "L": "2.5.4.7",
    "STREET": "2.5.4.9",
    "POSTALCODE": "2.5.4.17",
    "O": "2.5.4.10",
    "OU": "2.5.4.11",
    "SERIALNUMBER": "2.5.4.5",
    "UID": "0.9.2342.19200300.100.1.1",
    "DC": "0.9.2342.19200300.100.1.25",
    "CN": "2.5.4.3",
}
_SHORT: Final = {oid: name for name, oid in TYPES.items()}
_ORDER: Final = {oid: place for place, oid in enumerate(_SHORT)}
_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,9})){1,15}")
_SPECIAL: Final = frozenset('",;+<>\\=# ')
_HEX: Final = re.compile(r"[0-9A-Fa-f]{2}")

Name = frozenset[tuple[str, str]]
"""Attribute types, as dotted object identifiers, and their values."""


def parse_name(text: str) -> Name:
    """The attributes in `x509.subject: CN=…, O=…`, in any order, at least one. Raises `Invalid`."""
    return frozenset(_attributes(text))


def parse_single_name(text: str) -> Name:
    """The same, where no type may stand twice: two readers could compare that differently. Raises `Invalid`."""
    name = _attributes(text)
    kinds = [kind for kind, _ in name]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise Invalid(f"{_SHORT.get(kind, kind)} stands twice")
    return frozenset(name)


def write_name(attributes: Iterable[tuple[str, str]]) -> str:
    """The name as a policy writes it, attributes in one order; printable ASCII, and different for different names."""
    ordered = sorted(attributes, key=lambda one: (_ORDER.get(one[0], len(_ORDER)), one))
    text = ", ".join(f"{_SHORT.get(kind, kind)}={_escaped(value)}" for kind, value in ordered)
    return quote(f"{PREFIX} {text}", limits.MAX_DISTINGUISHED_NAME)


def _attributes(text: str) -> list[tuple[str, str]]:
    """Types and values. Multi-valued parts, `#`-encodings and quotes are refused: other readers differ about them (CVE-2023-25656)."""
    if not text.startswith(PREFIX):
        raise Invalid(f"{quote(text, 80)}: write {PREFIX} C=…, ST=…, O=…")
    if len(text) > limits.MAX_DISTINGUISHED_NAME:
        raise Invalid(f"more than {limits.MAX_DISTINGUISHED_NAME} characters")
    name = []
    for part in _parts(text.removeprefix(PREFIX)):
        short, equals, value = part.partition("=")
        short = short.strip()
        kind = TYPES.get(short.upper(), short if _OID.fullmatch(short) else None)
        if not equals or kind is None:
            raise Invalid(
                f"{quote(part.strip(), 80)}: not TYPE=value with a type of {', '.join(TYPES)}, or an object identifier"
            )
        name.append((kind, _unescaped(value)))
    return name


def _parts(text: str) -> list[str]:
    """Split at the commas that are not escaped."""
    parts, begin, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == ",":
            parts.append(text[begin:at])
            begin = at + 1
        at += 1
    return [*parts, text[begin:]]


def _unescaped(value: str) -> str:
    """The value that is meant; spaces around it do not belong to it unless escaped."""
    value = value.lstrip(" ")
    stripped = value.rstrip(" ")
    # An escaped space at the end is part of the value, and so are all before it.
    if stripped.endswith("\\") and len(stripped) < len(value) and (len(stripped) - len(stripped.rstrip("\\"))) % 2:
        stripped += " "
    found, at = bytearray(), 0
    while at < len(stripped):
        character = stripped[at]
        if character == "\\":
            escaped = stripped[at + 1 : at + 2]
            pair = stripped[at + 1 : at + 3]
            if escaped and escaped in _SPECIAL:
                found += escaped.encode()
                at += 2
            elif _HEX.fullmatch(pair):
                found += bytes.fromhex(pair)
                at += 3
            else:
                raise Invalid(f"{quote(value, 80)}: a backslash before what needs none")
            continue
        if character in '"+;<>' or (character == "#" and at == 0):
            raise Invalid(f"{quote(value, 80)}: {character} must be escaped with a backslash")
        found += character.encode("utf-8", "surrogatepass")
        at += 1
    try:
        text = found.decode("utf-8")
    except UnicodeDecodeError as e:
        raise Invalid(f"{quote(value, 80)}: not UTF-8") from e
    if not text:
        raise Invalid("an attribute without a value")
    return text


def _escaped(value: str) -> str:
    text = "".join(f"\\{c}" if c in '",;+<>\\' else c if " " <= c <= "~" else _in_hex(c) for c in value)
    if text.startswith(("#", " ")):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if text.endswith(" ") and len(value) > 1 else text


def _in_hex(character: str) -> str:
    return "".join(f"\\{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
