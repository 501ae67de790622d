"""Distinguished names: which signers a policy trusts, and what a certificate calls its owner.

Source: Notary Project, trust-store-trust-policy.md, "Trusted Identities Constraints"; RFC 4514, sections 2 and 3.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from webhook import limits
from webhook.formats import _x509
from webhook.parsing import Invalid, quote
from webhook.trust import Rejected

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.x509 import Certificate

ANYBODY: Final = "*"
PREFIX: Final = "x509.subject:"

_TYPES: Final = {
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
_SHORT: Final = {oid: name for name, oid in _TYPES.items()}
_ORDER: Final = {oid: place for place, oid in enumerate(_SHORT)}
_MANDATORY: Final = ("C", "ST", "O")
_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,9})){1,15}")
_SPECIAL: Final = frozenset('",;+<>\\=# ')
_HEX: Final = re.compile(r"[0-9A-Fa-f]{2}")

Name = frozenset[tuple[str, str]]
"""Attribute types, as dotted object identifiers, and their values: one of each type."""


def parse_identity(text: str) -> Name | None:
    """A trusted identity of a policy: `x509.subject: C=US, ST=WA, O=Acme`; None for `*`, anybody. Raises `Invalid`."""
    if text == ANYBODY:
        return None
    if not text.startswith(PREFIX):
        raise Invalid(f"{quote(text, 80)}: write {PREFIX} C=…, ST=…, O=…, or *")
    if len(text) > limits.MAX_DISTINGUISHED_NAME:
        raise Invalid(f"more than {limits.MAX_DISTINGUISHED_NAME} characters")
    name = _parse(text.removeprefix(PREFIX))
    missing = [short for short in _MANDATORY if _TYPES[short] not in name]
    if missing:
        raise Invalid(f"{quote(text, 80)}: lacks {', '.join(missing)}; C, ST and O are mandatory")
    return frozenset(name.items())


def overlap(identities: Iterable[Name]) -> bool:
    """Whether one of the names contains another, so that whoever has the longer one is named twice."""
    names = list(identities)
    return any(one <= other for i, one in enumerate(names) for j, other in enumerate(names) if i != j)


def subject_of(certificate: "Certificate") -> Name:
    """The subject of a certificate, as trusted identities are compared with it. Raises `Rejected` for one that is ambiguous.

    Two attributes of one type, or several in one part, are names that two readers could compare differently.
    """
    attributes = _attributes(certificate)
    if len({kind for kind, _ in attributes}) != len(attributes) or len(certificate.subject.rdns) != len(attributes):
        raise Rejected("its certificate's subject has two attributes of one kind, or several in one part")
    return frozenset(attributes)


def describe(certificate: "Certificate") -> str:
    """The subject as a trusted identity is written, attributes in one order; printable, and different for different subjects."""
    attributes = sorted(_attributes(certificate), key=lambda one: (_ORDER.get(one[0], len(_ORDER)), one))
    text = ", ".join(f"{_SHORT.get(kind, kind)}={_escaped(value)}" for kind, value in attributes)
    return quote(f"{PREFIX} {text}", limits.MAX_DISTINGUISHED_NAME)


def _attributes(certificate: "Certificate") -> list[tuple[str, str]]:
    try:
        found = [
            (attribute.oid.dotted_string, attribute.value) for part in certificate.subject.rdns for attribute in part
        ]
    except _x509.unreadable() as e:
        raise Rejected("its certificate's subject cannot be read") from e
    # A bit string is no text, and no policy could name it.
    return [(kind, value if isinstance(value, str) else f"#{value.hex()}") for kind, value in found]


def _parse(text: str) -> Mapping[str, str]:
    """Attributes by type. Multi-valued parts, `#`-encodings and quotes are refused: other readers differ about them (CVE-2023-25656)."""
    name: dict[str, str] = {}
    for part in _parts(text):
        short, equals, value = part.partition("=")
        short = short.strip()
        kind = _TYPES.get(short.upper(), short if _OID.fullmatch(short) else None)
        if not equals or kind is None:
            raise Invalid(
                f"{quote(part, 80)}: not TYPE=value with a type of {', '.join(_TYPES)}, or an object identifier"
            )
        if kind in name:
            raise Invalid(f"{short} stands twice")
        name[kind] = _unescaped(value)
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
    text = "".join(f"\\{character}" if character in '",;+<>\\' else character for character in value)
    if text.startswith(("#", " ")):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if text.endswith(" ") and len(value) > 1 else text
