"""Judgements about what runs → lines: one for each image and policy, with as little as counts, reports and drift need. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, assert_never

from webhook import limits
from webhook.judge import explain
from webhook.verdict import Allowed, Denied, End, ExceptionKey, Judgement, Mode, PolicyKey, Ruling, Uncovered, Undecided

Ending = Literal["allowed", "denied", "undecided", "excused"]
"""What became of an image under a policy; `excused`: an exception lets it past."""


@dataclass(frozen=True, slots=True)
class Line:
    """One image under one policy. `policy` None: no policy speaks about it, and `ending` means nothing. `text`: why, unless it is allowed.

    `ends`: with what it would not be admitted any more, though it is now; None: with nothing that is known. `excuse`: the exception
    that lets it past.
    """

    where: str
    image: str
    policy: PolicyKey | None
    ending: Ending
    mode: Mode = "enforce"
    text: str = ""
    ends: End | None = None
    excuse: ExceptionKey | None = None

    @property
    def is_refused(self) -> bool:
        """Whether admission would refuse it."""
        return self.mode == "enforce" and self.ending in {"denied", "undecided"}


def lines_of(judgements: Iterable[Judgement]) -> tuple[Line, ...]:
    """A line for each place and policy. What is no ruling of a policy (a text that is no reference) does not run, and is left out."""
    return tuple(_lines(judgements))


def _lines(judgements: Iterable[Judgement]) -> Iterator[Line]:
    for one in judgements:
        if isinstance(one, Uncovered):
            for place in one.places:
                yield Line(place, one.image, None, "allowed")
        elif isinstance(one, Ruling) and one.policy is not None:
            ending = _ending(one)
            text = "" if ending == "allowed" else explain.sentence(one)[: limits.MAX_REPORTED_TEXT]
            for place in one.places:
                excuse = None if one.excuse is None else one.excuse.key
                yield Line(place, one.image, one.policy, ending, one.mode, text, _end(one), excuse)


def _end(ruling: Ruling) -> End | None:
    if ruling.excuse is not None:
        return End(ruling.excuse.expires_at, f"exception {ruling.excuse.key}")
    return ruling.outcome.ends if isinstance(ruling.outcome, Allowed) else None


def _ending(ruling: Ruling) -> Ending:
    if ruling.excuse is not None:
        return "excused"
    match ruling.outcome:
        case Allowed():
            return "allowed"
        case Denied():
            return "denied"
        case Undecided():
            return "undecided"
        case _:
            assert_never(ruling.outcome)
