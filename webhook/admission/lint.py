"""Writes of our own resources: the same parse as when a policy is read, so that a broken one is refused with its path.

Pure. Key material behind a reference is not read here: whether a Secret exists is a fact of the moment, not of the policy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from webhook import keys, limits
from webhook.admission.exceptions import judge_write
from webhook.admission.review import Request, is_absent
from webhook.judge import explain
from webhook.keys import Key
from webhook.parsing import Invalid, quote
from webhook.policy import exceptionparse, parse
from webhook.policy.document import parse_document
from webhook.trust import Format, Unresolved
from webhook.verdict import Answer


@dataclass(frozen=True, slots=True)
class Lint:
    """Judges writes of policies and exceptions. `home` is the namespace where the webhook runs; `now` the wall clock."""

    formats: Mapping[str, Format[Any]]
    home: str
    now: Callable[[], datetime]

    def answer(self, request: Request) -> Answer:
        """Refused with every complaint at once (422), or admitted with warnings about what is dangerous."""
        if request.operation == "DELETE":
            return Answer(True, 200)
        if is_absent(request.object):
            return Answer(False, 422, "object: missing")
        if request.kind.kind == exceptionparse.KIND:
            return judge_write(request, self.now())
        try:
            document = parse_document(msgspec.json.decode(request.object))
            references = parse.key_references(document.spec, self.formats)
            materials = keys.resolve(references, document.key, self.home, _not_read)
            policy = parse.parse_policy(document.key, document.spec, materials, self.formats, self.home)
        except (Invalid, msgspec.DecodeError, RecursionError) as e:
            complaints = e.complaints if isinstance(e, Invalid) else (quote(e),)
            return Answer(False, 422, explain.denial(complaints))
        warnings = tuple(explain.warning(text) for text in parse.warnings(policy))
        return Answer(True, 200, warnings=warnings[: limits.MAX_WARNINGS])


def _not_read(key: Key) -> Unresolved:
    return Unresolved(f"{key} is read when the policy takes effect")
