"""`attestations[].where`: a condition on a statement that was verified.

Whatever prevents an answer (a missing field, types that do not fit, too much to do) is no answer, and satisfies nothing.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from webhook import limits
from webhook.image import Subject
from webhook.policy.cel import parser, values
from webhook.policy.cel.nodes import Scope
from webhook.policy.cel.parser import Expression
from webhook.policy.cel.values import Failure, Meter, TooCostly, Value
from webhook.trust import Rejected

VARIABLES: Final[parser.Variables] = {
    "predicate": None,
    "subject": frozenset({"name", "digest"}),
    "image": frozenset({"registry", "repository", "tag", "digest"}),
    "now": None,
}
"""What a condition may speak of."""


@dataclass(frozen=True, slots=True)
class Where:
    """A condition, compared by its text."""

    text: str
    expression: Expression = field(compare=False, repr=False)

    @property
    def looks_at_name(self) -> bool:
        """Whether it depends on the name under which the image is to run, tag and all."""
        return bool(self.expression.reads & {"image", "image.registry", "image.repository", "image.tag"})

    @property
    def looks_at_now(self) -> bool:
        """Whether the same statement may get another answer later."""
        return "now" in self.expression.reads

    def check(self, predicate: Value, subject: Mapping[str, Value], image: Subject, now: dt.datetime) -> None:
        """Returns if the condition is true. `subject` is the one of the statement's that is the image. Raises `Rejected`."""
        names: dict[str, Value] = {
            "predicate": predicate,
            "subject": dict(subject),
            "image": {
                "registry": image.repository.registry,
                "repository": image.repository.path,
                "digest": image.digest,
                **({} if image.tag is None else {"tag": image.tag}),
            },
            "now": values.from_datetime(now),
        }
        try:
            answer = self.expression.root.value(Scope(names, Meter(limits.WHERE_UNITS)))
        except Failure as e:
            raise Rejected(f"`where` has no answer: {e}") from e
        except TooCostly as e:
            raise Rejected("`where` has no answer: finding it costs more than one may") from e
        if answer is not True:
            said = "does not hold" if answer is False else f"is {values.name(answer)} and not true"
            raise Rejected(f"`where` {said}")


def parse_where(text: str) -> Where:
    """The condition in `text`. Raises `Invalid`, whose message begins with the place of the mistake."""
    return Where(text, parser.parse(text, VARIABLES))
