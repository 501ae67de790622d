"""What `kubectl trust status` prints: lines, and what they are made of."""

import datetime as dt
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from webhook.parsing import quote

if TYPE_CHECKING:
    from webhook.kube.client import Document

SHOWN: Final = 20
"""Policies, or exceptions, that are named; the others are counted."""
_TEXT: Final = 400


class State(enum.StrEnum):
    """What is to be thought of a line. `note`: well, and worth knowing."""

    ok = "ok"
    note = "note"
    wrong = "wrong"
    unknown = "unknown"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    about: str
    state: State
    text: str


def not_understood(about: str, error: Exception) -> Line:
    """What is there is not what belongs there: whoever writes in a cluster can write what nobody has foreseen."""
    what = f"{type(error).__name__}: {shown(error)}"
    return Line(about, State.wrong, f"what the cluster holds there cannot be understood ({what})")


def guarded(about: str, lines: Iterable[Line]) -> Iterator[Line]:
    """The lines, and one in place of those that cannot be made."""
    try:
        yield from lines
    except Exception as e:  # noqa: BLE001 - whoever may write one object must not hide all others
        yield not_understood(about, e)


def bounded(
    about: str, documents: "Sequence[Document]", describe: "Callable[[Document], Line | None]"
) -> Iterator[Line]:
    """What is to be said about each, the worst first, and no more than a screen of it."""

    def described(document: "Document") -> Line | None:
        try:
            return describe(document)
        except Exception as e:  # noqa: BLE001 - whoever may write one object must not hide all others
            return not_understood(about, e)

    lines = sorted(filter(None, map(described, documents)), key=lambda line: line.state is not State.wrong)
    yield from lines[:SHOWN]
    if more := lines[SHOWN:]:
        state = State.wrong if any(line.state is State.wrong for line in more) else State.note
        yield Line(about, state, f"and {len(more)} more")


def title(document: "Document") -> str:
    """Where an object is."""
    metadata = document["metadata"]
    return f"{metadata.get('namespace', 'cluster')}/{metadata['name']}"


def conditions(document: "Document") -> Mapping[str, Mapping[str, Any]]:
    """By type."""
    return {one.get("type", ""): one for one in (document.get("status") or {}).get("conditions") or ()}


def shown(untrusted: object, most: int = _TEXT) -> str:
    """Text as a terminal may show it, with the `…` that our own messages are cut by."""
    return quote(untrusted, most).replace("\\u2026", "…")


def text_of(condition: Mapping[str, Any]) -> str:
    """Its reason and message."""
    return f"{shown(condition.get('reason', ''))}: {shown(condition.get('message', ''))}"


def time_of(text: object) -> dt.datetime:
    """As the API server writes times; long ago if it is none."""
    try:
        found = dt.datetime.fromisoformat(str(text))
    except ValueError:
        return LONG_AGO
    return found if found.tzinfo is not None else LONG_AGO


LONG_AGO: Final = dt.datetime.fromtimestamp(0, dt.UTC)
