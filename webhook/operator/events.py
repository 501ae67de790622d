"""Events as Kubernetes has them: a sentence about an object, which people find beside it."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from webhook.kube.client import FIELD_MANAGER, Document
from webhook.moment import rfc3339

_MOST: Final = 1024
"""Characters of an Event's message that the API server accepts."""


def warning(about: Mapping[str, Any], reason: str, message: str, now: dt.datetime) -> tuple[str, Document]:
    """The path to POST to, and the Event. `about` is its involvedObject; one without a namespace is told of in `default`."""
    namespace = about.get("namespace") or "default"
    stamp = rfc3339(now)
    return f"/api/v1/namespaces/{namespace}/events", {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{about['name']}.", "namespace": namespace},
        "involvedObject": dict(about),
        "type": "Warning",
        "reason": reason,
        "message": message[:_MOST],
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
