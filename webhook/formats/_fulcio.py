"""Whom a certificate of sigstore's authority is about: the issuer of the token that was shown, the subject, and what the token said more.

Read from the certificate's extensions and never out of the text of another one. Sources: Fulcio, docs/oid-info.md and
docs/certificate-specification.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from webhook import limits
from webhook.formats._x509 import extensions_of
from webhook.parsing import quote
from webhook.trust import Rejected

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, GeneralName

_ARC: Final = "1.3.6.1.4.1.57264.1."
_ISSUER_RAW: Final = f"{_ARC}1"
_USERNAME: Final = f"{_ARC}7"
_ISSUER: Final = f"{_ARC}8"

RUNNER: Final = "runner environment"
REPOSITORY: Final = "source repository"
REF: Final = "source repository ref"
TRIGGER: Final = "build trigger"
ENVIRONMENT: Final = "deployment environment"
_NAMES: Final[Mapping[str, str]] = {
    f"{_ARC}11": RUNNER,
    f"{_ARC}12": REPOSITORY,
    f"{_ARC}14": REF,
    f"{_ARC}20": TRIGGER,
    f"{_ARC}23": ENVIRONMENT,
}


@dataclass(frozen=True, slots=True)
class Certified:
    """What a certificate says. `said`: further claims of the token, by the names above; what it does not say is missing."""

    issuer: str
    subject: str
    said: Mapping[str, str]

    def __str__(self) -> str:
        return f"issuer={quote(self.issuer, limits.MAX_IDENTITY * 10)},subject={quote(self.subject, limits.MAX_IDENTITY * 10)}"


def read_certified(leaf: "Certificate") -> Certified:
    """What `leaf` says. Raises `Rejected` if it does not say it in exactly one way (attack C-21)."""
    from cryptography.x509 import ExtensionNotFound, SubjectAlternativeName, UnrecognizedExtension

    extensions = extensions_of(leaf)
    try:
        names = list(extensions.get_extension_for_class(SubjectAlternativeName).value)
    except ExtensionNotFound as e:
        raise Rejected("its certificate names no subject") from e
    if len(names) != 1:
        raise Rejected(f"its certificate names {len(names)} subjects, expected exactly one")
    written = {
        extension.oid.dotted_string: extension.value.value
        for extension in extensions
        if isinstance(extension.value, UnrecognizedExtension)
    }
    said = {name: _text(written[oid]) for oid, name in _NAMES.items() if oid in written}
    return Certified(_issuer(written), _subject(names[0]), said)


def _issuer(written: Mapping[str, bytes]) -> str:
    issuers = set()
    if _ISSUER in written:
        issuers.add(_text(written[_ISSUER]))
    if _ISSUER_RAW in written:
        # The older form holds the text without any encoding.
        issuers.add(_bounded(written[_ISSUER_RAW]))
    if len(issuers) != 1:
        raise Rejected("its certificate names two different issuers" if issuers else "its certificate names no issuer")
    return issuers.pop()


def _subject(name: "GeneralName") -> str:
    from cryptography.x509 import OtherName, RFC822Name, UniformResourceIdentifier

    if isinstance(name, RFC822Name | UniformResourceIdentifier):
        return _bounded(name.value.encode())
    if isinstance(name, OtherName) and name.type_id.dotted_string == _USERNAME:
        return _text(name.value)
    raise Rejected("its certificate names a subject of a kind that is not supported")


def _text(der: bytes) -> str:
    """A UTF8String in DER."""
    from asn1crypto.core import UTF8String

    try:
        content: bytes = UTF8String.load(der, strict=True).contents
    except ValueError as e:
        raise Rejected("its certificate has an extension that cannot be read") from e
    return _bounded(content)


def _bounded(content: bytes) -> str:
    if not 0 < len(content) <= limits.MAX_IDENTITY:
        raise Rejected(f"its certificate has a text of {len(content)} bytes, expected 1 to {limits.MAX_IDENTITY}")
    try:
        return content.decode()
    except UnicodeDecodeError as e:
        raise Rejected("its certificate has a text that is not UTF-8") from e
