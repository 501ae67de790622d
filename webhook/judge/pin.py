"""Judgements → the digests that are written into a Pod. Pure.

A tag can move between the check and the pull; what is written here is what was verified, so that is what runs. Only images that a
policy with `tags: pin` has allowed, an exception has excused from it, or `onOutage` lets in by what they were, are touched, only in Pods, and only what an update brings: what stood there already runs already.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from webhook.judge.workload import Question
from webhook.verdict import Allowed, Judgement, Ruling

_INDEX: Final = re.compile(r"\[([0-9]+)\]")


@dataclass(frozen=True, slots=True)
class Pin:
    """One replacement: where (a JSON pointer, RFC 6901), and the whole reference with its digest."""

    pointer: str
    reference: str


def pins(question: Question, judgements: Sequence[Judgement]) -> tuple[Pin, ...]:
    """What to write into the Pod that asks; nothing for a template, which is somebody else's to write."""
    if question.template:
        return ()
    stood = {placed.where for placed in question.images if placed.stood}
    found = {
        place: f"{ruling.image}@{ruling.outcome.subject.digest}"
        for ruling in judgements
        if isinstance(ruling, Ruling) and ruling.pins and ruling.outcome.subject is not None
        if isinstance(ruling.outcome, Allowed) or ruling.excuse is not None or _was_verified(ruling)
        for place in ruling.places
        if place not in stood
    }
    return tuple(Pin(_pointer(place), reference) for place, reference in found.items())


def _was_verified(ruling: Ruling) -> bool:
    """Whether a record of before an outage stands for its digest."""
    return ruling.tolerance is not None and ruling.tolerance.verified_at is not None


def _pointer(place: str) -> str:
    """`spec.containers[0].image` as a JSON pointer; our places hold nothing that would have to be escaped."""
    return "/" + _INDEX.sub(r"/\1", place).replace(".", "/")
