"""The API server, read and written: the one place that knows its client library.

Only the library's transport is used (addresses, certificates, tokens that change): its models cost 100 MiB of memory.
"""


class KubeError(Exception):
    """The API server did not do what was asked. `status` is the HTTP status, 0 for no answer."""

    def __init__(self, what: str, status: int = 0) -> None:
        super().__init__(what)
        self.status = status

    @property
    def is_conflict(self) -> bool:
        """Somebody else wrote in between, or made it first."""
        return self.status == 409
