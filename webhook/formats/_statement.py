"""in-toto statements: which subject a signed sentence is about.

A model of our own because what real signers write fits no published one: cosign's signatures have subjects without a name,
its attestations are of version 0.1. Source: in-toto Attestation Framework, "Statement".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from webhook import limits
from webhook.image import Subject
from webhook.parsing import convert, quote, read_json
from webhook.trust import Rejected

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_TYPES: Final = frozenset({"https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1"})


class _Subject(Struct):
    digest: dict[str, str]
    name: str | None = None
    annotations: dict[str, str] | None = None


class _Statement(Struct, rename={"type": "_type", "predicate_type": "predicateType"}):
    type: str
    predicate_type: str
    subject: list[_Subject]


@dataclass(frozen=True, slots=True)
class Statement:
    """A verified statement about the image that was asked about. `name`: what it calls the image."""

    predicate_type: str
    name: str | None
    annotations: Mapping[str, str]


def read_statement(payload: bytes, about: Subject) -> Statement:
    """The statement in a payload whose signature was verified, if it is about this image.

    Raises `Invalid` if it is no statement, which under a good signature is a rejection too (attack C-05), and `Rejected` if it
    is about something else.
    """
    statement = convert(read_json(payload, "statement", limits.MAX_STATEMENT_ITEMS), _Statement, "statement")
    if statement.type not in _TYPES:
        raise Rejected(f"statement._type: {quote(statement.type, 80)} is not supported")
    if not 0 < len(statement.subject) <= limits.MAX_SUBJECTS:
        raise Rejected(f"statement.subject: {len(statement.subject)} subjects, expected 1 to {limits.MAX_SUBJECTS}")
    wanted = about.digest.removeprefix("sha256:")
    for subject in statement.subject:
        # Under its own algorithm's name only: the same hex as "sha512" would be a claim about other bytes.
        if subject.digest.get("sha256") == wanted:
            return Statement(statement.predicate_type, subject.name, subject.annotations or {})
    raise Rejected("it is about another image")
