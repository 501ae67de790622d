"""The API server, read and written: the one place that knows its client library.

Only the library's transport is used (addresses, certificates, tokens that change): its models cost 100 MiB of memory.
"""

import re
from typing import Final


class KubeError(Exception):
    """The API server did not do what was asked. `status` is the HTTP status, 0 for no answer.

    `retry_after`: seconds for which it asks to be left alone, bounded; None where it does not.
    """

    def __init__(self, what: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.status = status
        self.retry_after = retry_after

    @property
    def is_conflict(self) -> bool:
        """Somebody else wrote in between, or made it first."""
        return self.status == 409

    @property
    def is_forbidden(self) -> bool:
        """Whoever asks has not the right to, or is not known."""
        return self.status in {401, 403}

    @property
    def is_invalid(self) -> bool:
        """What the object would be is none that the API server keeps."""
        return self.status == 422

    @property
    def is_busy(self) -> bool:
        """The API server has too much to do, or gives no answer: asking it more makes it worse."""
        return self.status in {0, 429} or self.retry_after is not None


_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


def is_name(text: str) -> bool:
    """Whether `text` can name an object.

    What a review says is written by anybody, and becomes a part of a path that our own identity asks for: `../../kube-system/secrets/x`
    must not (attack S-07).
    """
    return _NAME.fullmatch(text) is not None and ".." not in text
