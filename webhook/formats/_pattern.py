"""Regular expressions that policies hold against identities: the whole text or nothing, in time linear in its length.

The language is RE2's, which users of cosign and of Kubernetes know. Python's own would backtrack for seconds on what a certificate's
author chooses (attack D-05), and would match the beginning of a text unless told otherwise (attack P-02).
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from webhook import limits
from webhook.parsing import Invalid, quote

_NO_TEXT: Final = re.compile(
    r"\\[pP]\{[^}]*\}|\\[A-Za-z]|\\x\{[^}]*\}|\[(?:\\.|[^\]\\])*\]|\(\?[^:)]*[:)]|[.*+?(){}|^$\\]"
)
_ENOUGH_TEXT: Final = 3


@dataclass(frozen=True, slots=True)
class Pattern:
    """An expression that was read and found right."""

    text: str

    def matches(self, text: str) -> bool:
        """Whether the whole text is one of those meant; a text too long to be an identity is none."""
        return len(text) <= limits.MAX_IDENTITY and _compiled(self.text).fullmatch(text) is not None

    def matches_any(self, texts: Iterable[str]) -> bool:
        """Whether one of the texts is one of those meant."""
        return any(self.matches(text) for text in texts)

    @property
    def has_literal(self) -> bool:
        """Whether some text stands in it as it is, so that it is about somebody."""
        return sum(char.isalnum() for char in _NO_TEXT.sub("", self.text)) >= _ENOUGH_TEXT

    def __str__(self) -> str:
        return self.text


def parse_pattern(text: str, path: str) -> Pattern:
    """The expression in `text`. Raises `Invalid` beginning with `path`."""
    if not 0 < len(text) <= limits.MAX_PATTERN:
        raise Invalid(f"{path}: {len(text)} characters, expected 1 to {limits.MAX_PATTERN}")
    import re2

    try:
        _compiled(text)
    except (re2.error, UnicodeEncodeError) as e:
        raise Invalid(f"{path}: not a regular expression of RE2: {quote(e, 80)}") from e
    return Pattern(text)


@functools.lru_cache(maxsize=128)
def _compiled(text: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = limits.MAX_PATTERN_MEMORY
    return re2.compile(text, options)
