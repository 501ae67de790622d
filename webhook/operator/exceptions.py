"""The exceptions of the cluster, as the API server last told: what is put in force.

Kept apart from policies: what is wrong here lifts nothing, and never keeps a policy from being followed. Events and full lists are
ordered by resource versions, as there.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from webhook.memory.store import PolicyStore
from webhook.parsing import Invalid
from webhook.policy import exceptionparse
from webhook.policy.document import API_VERSION
from webhook.policy.exception import TrustException
from webhook.policy.schema import EXCEPTIONS
from webhook.verdict import ExceptionKey

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """An exception as it was written, and what became of it; None: it is broken, as `complaints` say. `uses`: as its status says."""

    document: Mapping[str, Any]
    version: int
    exception: TrustException | None
    uses: int = 0
    complaints: tuple[str, ...] = ()


class Exceptions:
    """Follows the cluster's exceptions into a store."""

    def __init__(self, store: PolicyStore) -> None:
        self._store = store
        self.known: dict[ExceptionKey, Known] = {}

    def seen(self, document: Mapping[str, Any]) -> None:
        """Brings an exception into force as the API server has it, unless something newer is known."""
        if self._take(document):
            self._bring(_key(document))

    def gone(self, document: Mapping[str, Any]) -> None:
        """Takes an exception out of force, unless it was made anew since."""
        key = _key(document)
        before = self.known.get(key)
        if before is not None and _version(document) >= before.version:
            del self.known[key]
            self._store.discard_exception(key)

    def listed(self, documents: Iterable[Mapping[str, Any]], version: str) -> None:
        """Brings a full list into force. `version`: of the list; what changed after it stays."""
        there = {_key(document): document for document in documents}
        for document in there.values():
            self._take(document)
        for key in [key for key, one in self.known.items() if key not in there and one.version <= int(version)]:
            del self.known[key]
        self._store.replace_exceptions(one.exception for one in self.known.values() if one.exception is not None)

    def _take(self, document: Mapping[str, Any]) -> bool:
        """Whether the document is news, which is then known."""
        key, version = _key(document), _version(document)
        before = self.known.get(key)
        if before is not None and version <= before.version:
            return False
        try:
            exception, uses = read(document)
        except Invalid as e:
            self.known[key] = Known(document, version, None, complaints=e.complaints)
            if before is None or before.complaints != e.complaints:
                _log.error("exception %s is broken and lifts nothing: %s", key, "; ".join(e.complaints))
        else:
            self.known[key] = Known(document, version, exception, uses)
        return True

    def _bring(self, key: ExceptionKey) -> None:
        exception = self.known[key].exception
        if exception is None:
            self._store.discard_exception(key)
        else:
            self._store.put_exception(exception)


def read(document: Mapping[str, Any]) -> tuple[TrustException, int]:
    """An exception as the API server has it, and how often it has been used. Raises `Invalid`."""
    exception = exceptionparse.parse_exception(
        _key(document), document.get("spec"), document["metadata"].get("uid", "")
    )
    return exception, exceptionparse.uses_of(document.get("status"))


def path_of(key: ExceptionKey) -> str:
    """Where the exception is on the API server."""
    return f"/apis/{API_VERSION}/namespaces/{key.namespace}/{EXCEPTIONS.plural}/{key.name}"


def _key(document: Mapping[str, Any]) -> ExceptionKey:
    metadata = document["metadata"]
    return ExceptionKey(metadata["namespace"], metadata["name"])


def _version(document: Mapping[str, Any]) -> int:
    return int(document["metadata"]["resourceVersion"])
