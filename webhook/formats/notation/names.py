"""Distinguished names: which signers a policy trusts, and what a certificate calls its owner.

Source: Notary Project, trust-store-trust-policy.md, "Trusted Identities Constraints"; RFC 4514, sections 2 and 3.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from webhook.formats import _x509
from webhook.parsing import Invalid, quote
from webhook.policy.names import PREFIX, TYPES, Name, parse_single_name, write_name
from webhook.trust import Rejected

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.x509 import Certificate

ANYBODY: Final = "*"

_MANDATORY: Final = ("C", "ST", "O")


def parse_identity(text: str) -> Name | None:
    """A trusted identity of a policy: `x509.subject: C=US, ST=WA, O=Acme`; None for `*`, anybody. Raises `Invalid`."""
    if text == ANYBODY:
        return None
    if not text.startswith(PREFIX):
        raise Invalid(f"{quote(text, 80)}: write {PREFIX} C=…, ST=…, O=…, or *")
    name = parse_single_name(text)
    kinds = {kind for kind, _ in name}
    missing = [short for short in _MANDATORY if TYPES[short] not in kinds]
    if missing:
        raise Invalid(f"{quote(text, 80)}: lacks {', '.join(missing)}; C, ST and O are mandatory")
    return name


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
    return write_name(_attributes(certificate))


def claimed(certificate: "Certificate") -> Name:
    """All attributes of the subject, as a deny list is compared with them: whoever has several of one kind has each of them."""
    return frozenset(_attributes(certificate))


def _attributes(certificate: "Certificate") -> list[tuple[str, str]]:
    try:
        found = [
            (attribute.oid.dotted_string, attribute.value) for part in certificate.subject.rdns for attribute in part
        ]
    except _x509.unreadable() as e:
        raise Rejected("its certificate's subject cannot be read") from e
    # A bit string is no text, and no policy could name it.
    return [(kind, value if isinstance(value, str) else f"#{value.hex()}") for kind, value in found]
