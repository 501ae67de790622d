"""The namespaces that admission judges: what it leaves out is not compared either, or a cluster's own Pods could be evicted."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from webhook.kube import KubeError
from webhook.kube.client import Kube
from webhook.operator.installation import Installation
from webhook.operator.standing import Standing
from webhook.operator.wanted import COLLECTIONS
from webhook.parsing import Invalid, convert
from webhook.policy.policy import Expression, Labels, Selector
from webhook.policy.spec import LabelSelector

_log = logging.getLogger(__name__)

_WEBHOOK: Final = "images.trusted-images.dev"


class Scope:
    """As the webhook configuration in the cluster says it; until that has been read once, nothing is judged."""

    def __init__(self, kube: Kube, installation: Installation, standing: Standing) -> None:
        self._kube = kube
        self._path = f"{COLLECTIONS['ValidatingWebhookConfiguration']}/{installation.service}"
        self.selector: Selector | None = None
        self.standing = standing
        """Since when it is there: Pods older than that may have been judged by nobody."""

    def includes(self, labels: Labels | None) -> bool:
        """Whether Pods in a namespace with these labels are judged; None: they are not known."""
        return self.selector is not None and labels is not None and self.selector.matches(labels)

    async def read(self) -> bool:
        """Reads it; whether other namespaces are judged than before. What is not there, or cannot be read, changes that not."""
        try:
            selector = _selector(await self._kube.get(self._path))
        except (KubeError, Invalid) as e:
            _log.info("which namespaces are judged could not be read: %s", e)
            return False
        if selector is None:
            return False
        changed = selector != self.selector
        self.selector = selector
        return changed


def _selector(configuration: Mapping[str, Any] | None) -> Selector | None:
    for webhook in (configuration or {}).get("webhooks") or ():
        if webhook.get("name") == _WEBHOOK:
            found = convert(webhook.get("namespaceSelector") or {}, LabelSelector, "namespaceSelector")
            expressions = tuple(Expression(e.key, e.operator, frozenset(e.values)) for e in found.match_expressions)
            return Selector(frozenset(found.match_labels.items()), expressions)
    return None
