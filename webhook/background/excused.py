"""What runs by exceptions → whom the end of each would break: `running` of their status. Pure, but for the writer."""

import heapq
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from webhook import limits
from webhook.background.examine import Result
from webhook.background.pods import Pod
from webhook.kube import KubeError
from webhook.kube.client import Kube
from webhook.operator.exceptions import Known, path_of
from webhook.verdict import ExceptionKey

_log = logging.getLogger(__name__)


def excused(
    results: Mapping[bytes, Result], sights: Mapping[bytes, Mapping[str, Pod]]
) -> dict[ExceptionKey, dict[str, Any]]:
    """By exception, the part of its status that says what runs and would not be admitted without it."""
    found: dict[ExceptionKey, Counter[str]] = {}
    for sight, result in results.items():
        pods = sights.get(sight)
        if not pods or all(line.excuse is None for line in result.written):
            continue
        # Under several policies an image is one image; and what another of them refuses does not wait for this.
        refused = {line.where for line in result.written if line.is_refused}
        places = {(line.excuse, line.where) for line in result.written if line.where not in refused}
        name = min(pod.name for pod in pods.values())
        for key, _ in places:
            if key is not None:
                found.setdefault(key, Counter())[name] += len(pods)
    return {
        key: {"images": names.total(), "examples": heapq.nsmallest(limits.MAX_EXAMPLES, names)}
        for key, names in found.items()
    }


@dataclass(frozen=True, slots=True)
class Excused:
    """Writes it. `known` gives the exceptions as they were written."""

    kube: Kube
    known: Callable[[], Mapping[ExceptionKey, Known]]

    async def write(self, found: Mapping[ExceptionKey, dict[str, Any]]) -> None:
        """Writes what differs, some of it at a time. Nothing of what cannot be read: what its status says is not known."""
        left = limits.MAX_WRITES
        for key, known in list(self.known().items()):
            wanted = found.get(key)
            if known.exception is None or (known.document.get("status") or {}).get("running") == wanted:
                continue
            if left == 0:
                return
            left -= 1
            identity = {"uid": known.document["metadata"].get("uid")}
            try:
                await self.kube.merge(f"{path_of(key)}/status", {"metadata": identity, "status": {"running": wanted}})
            except KubeError as e:
                _log.info("what runs by exception %s was not written: %s", key, e)
