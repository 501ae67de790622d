"""`pkcs11:` URIs: which public key or certificate on which token is meant. Pure; nothing is loaded or opened here.

Stricter than the specification where a reader that forgives would read another key than the author meant: an attribute that we
do not compare is refused, not passed over. Source: RFC 7512, sections 2.3 to 2.5.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from webhook.parsing import Invalid, quote

SCHEME: Final = "pkcs11:"

TokenObject = Literal["public", "cert"]
"""What is read: a public key, or a certificate. A private key never leaves its token and is never asked for."""

# RFC 7512 2.3: what may stand for itself in a value; all else is percent-encoded.
_UNRESERVED: Final = r"A-Za-z0-9\-._~"
_PATH_VALUE: Final = re.compile(rf"(?:[{_UNRESERVED}:\[\]@!$'()*+,=&]|%[0-9A-Fa-f]{{2}})*")
_QUERY_VALUE: Final = re.compile(rf"(?:[{_UNRESERVED}:\[\]@!$'()*+,=/?|]|%[0-9A-Fa-f]{{2}})*")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_VERSION: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3})?")
_PIN_FILE: Final = re.compile(r"file:(?://)?(?P<path>/[^/].*)")

TOKEN_ATTRIBUTES: Final = frozenset(
    {
        "token", "manufacturer", "serial", "model",
        "slot-id", "slot-manufacturer", "slot-description",
        "library-manufacturer", "library-description", "library-version",
    }
)  # fmt: skip
"""What a token, its slot and its library are chosen by."""
_OBJECT_ATTRIBUTES: Final = frozenset({"object", "id", "type"})
_QUERY_ATTRIBUTES: Final = frozenset({"module-path", "module-name", "pin-source"})


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A public key or certificate on a PKCS#11 token.

    `on` are the attributes that the token, its slot and its library must have, as pairs. `kind` None: the public key, or if there
    is none, that of the certificate. `pin_file` is where the PIN stands, if the token shows its public objects only after a login.
    """

    on: tuple[tuple[str, str], ...] = ()
    label: str | None = None
    id: bytes | None = None
    kind: TokenObject | None = None
    module_path: str | None = None
    module_name: str | None = None
    pin_file: str | None = None

    def __str__(self) -> str:
        named = [f"{name}={value}" for name, value in self.on]
        named += [f"object={self.label}"] if self.label is not None else []
        named += [f"id={self.id.hex()}"] if self.id is not None else []
        named += [f"type={self.kind}"] if self.kind is not None else []
        return f"{SCHEME}{quote(';'.join(named), 160)}"


def parse_pkcs11_uri(uri: str) -> TokenKey:
    """What a `pkcs11:` URI names. Raises `Invalid`; values are not repeated in it, because one may be a PIN."""
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    attributes = _attributes(path, ";", _PATH_VALUE)
    options = _attributes(query, "&", _QUERY_VALUE)
    if "pin-value" in options:
        raise Invalid("pkcs11: pin-value: a PIN in a policy is read by all who may read policies; use pin-source")
    for found, known in ((attributes, TOKEN_ATTRIBUTES | _OBJECT_ATTRIBUTES), (options, _QUERY_ATTRIBUTES)):
        for name in sorted(found.keys() - known):
            raise Invalid(f"pkcs11: {quote(name, 40)}: unknown attribute; known here: {', '.join(sorted(known))}")
    if not attributes:
        raise Invalid("pkcs11: names nothing; write pkcs11:token=LABEL;object=LABEL")
    texts = {name: _text(name, value) for name, value in attributes.items() if name != "id"}
    kind = texts.get("type")
    if kind is not None and kind not in {"public", "cert"}:
        raise Invalid("pkcs11: type: only public and cert are read")
    if not _NUMBER.fullmatch(texts.get("slot-id", "0")):
        raise Invalid("pkcs11: slot-id: not a number")
    if not _VERSION.fullmatch(texts.get("library-version", "0")):
        raise Invalid("pkcs11: library-version: not MAJOR.MINOR")
    if "module-path" in options and "module-name" in options:
        raise Invalid("pkcs11: module-path and module-name: one of them is enough")
    module_path = _text("module-path", options["module-path"]) if "module-path" in options else None
    if module_path is not None and not module_path.startswith("/"):
        raise Invalid("pkcs11: module-path: not absolute")
    return TokenKey(
        on=tuple(sorted((name, text) for name, text in texts.items() if name in TOKEN_ATTRIBUTES)),
        label=texts.get("object"),
        id=attributes.get("id"),
        kind=kind,  # type: ignore[arg-type]  # one of the two, as was checked above
        module_path=module_path,
        module_name=_text("module-name", options["module-name"]) if "module-name" in options else None,
        pin_file=_pin_file(options["pin-source"]) if "pin-source" in options else None,
    )


def _attributes(part: str, separator: str, allowed: "re.Pattern[str]") -> dict[str, bytes]:
    """The attributes in one part of a URI, decoded."""
    found: dict[str, bytes] = {}
    for written in part.split(separator) if part else ():
        name, equals, value = written.partition("=")
        if not equals or not name:
            raise Invalid(f"pkcs11: an attribute without a name and a value; write NAME=VALUE{separator}NAME=VALUE")
        if name in found:
            raise Invalid(f"pkcs11: {quote(name, 40)}: stands twice")
        if not allowed.fullmatch(value):
            raise Invalid(f"pkcs11: {quote(name, 40)}: has a character that must be percent-encoded")
        found[name] = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), value.encode())
        if not value:
            raise Invalid(f"pkcs11: {quote(name, 40)}: empty")
    return found


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as e:
        raise Invalid(f"pkcs11: {name}: not UTF-8") from e
    if "\0" in text:
        raise Invalid(f"pkcs11: {name}: has a zero byte")
    return text


def _pin_file(value: bytes) -> str:
    source = _text("pin-source", value)
    match = _PIN_FILE.fullmatch(source)
    if match is None:
        # RFC 7512 2.4 knows commands, too: a policy makes nobody run one.
        raise Invalid("pkcs11: pin-source: only a file is read; write pin-source=file:/DIRECTORY/NAME")
    return match["path"]
