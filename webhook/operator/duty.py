"""Whether API servers send us what they should: the webhook configurations that are there, compared with what was installed.

The leader puts back what somebody changed. That it had to is told: whoever can write these objects can switch all judgement off for the
seconds until then, and where it cannot be put back, for good (attack M-11).
"""

import datetime as dt
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from webhook.kube import KubeError
from webhook.kube.client import Document, Kube
from webhook.observe.metrics import CONFIGURATIONS, ConfigurationFault, Metrics
from webhook.operator.events import warning
from webhook.operator.installation import Installation

_log = logging.getLogger(__name__)

_AGAIN: Final = dt.timedelta(minutes=10)
"""How often the same is told, should somebody do it again and again."""
_DEFAULTS: Final[Mapping[str, tuple[object, ...]]] = {
    "objectSelector": ({}, None),
    "namespaceSelector": ({}, None),
    "matchConditions": ([], None),
    "matchLabels": ({}, None),
    "matchExpressions": ([], None),
    "failurePolicy": ("Fail", None),
    "scope": ("*",),
}
"""What narrows a webhook where the chart does not speak of it, and with which values it does not."""
_REASONS: Final[Mapping[ConfigurationFault, str]] = {
    "missing": "WebhookConfigurationMissing",
    "weakened": "WebhookConfigurationWeakened",
    "stale_authority": "WebhookConfigurationStale",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a configuration: in one word, and at which of its fields."""

    word: ConfigurationFault
    where: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.word.replace('_', ' ')}: {', '.join(self.where)}" if self.where else self.word


def fault_of(found: Document | None, wanted: Document) -> Fault | None:
    """What `found` lacks of `wanted`, the worst first; None if API servers send what they should, and reach us.

    What API servers add by themselves is no fault. Where `wanted` names no authorities, any count.
    """
    if found is None:
        return Fault("missing")
    there = {one.get("name"): one for one in found.get("webhooks") or ()}
    where: list[str] = []
    for one in wanted["webhooks"]:
        path = f"webhooks[{one['name']}]"
        where += [path] if one["name"] not in there else _differences(one, there[one["name"]], path)
    weak = tuple(path for path in where if not path.endswith(".caBundle"))
    if weak:
        return Fault("weakened", weak)
    return Fault("stale_authority", tuple(where)) if where else None


def _differences(wanted: Any, found: Any, path: str) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name, value in wanted.items():
            yield from _differences(value, found.get(name), f"{path}.{name}")
        for name, harmless in _DEFAULTS.items():
            if name in found and name not in wanted and found[name] not in harmless:
                yield f"{path}.{name}"
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for i, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from _differences(one, other, f"{path}[{i}]")
    elif wanted != found:
        yield path


@dataclass(slots=True)
class Duty:
    """Tells it: in the metrics, in the log, as an Event beside the ConfigMap that holds what is wanted."""

    kube: Kube
    installation: Installation
    metrics: Metrics
    _told: dict[tuple[str, str], dt.datetime] = field(default_factory=dict)

    def looked(self, kind: str, fault: Fault | None) -> None:
        """What a look at the configuration of this kind has shown."""
        self.metrics.in_place.labels(CONFIGURATIONS[kind]).set(fault is None)

    def stopped(self) -> None:
        """Nothing is wanted: judgement is switched off, or the release is going."""
        for configuration in CONFIGURATIONS.values():
            self.metrics.in_place.labels(configuration).set(0)

    def resigned(self) -> None:
        """Another replica looks after it from now on."""
        self.metrics.in_place.clear()

    async def changed(self, kind: str, name: str, fault: Fault, now: dt.datetime) -> None:
        """Somebody changed what we had put in place; it is about to be put back."""
        self.metrics.repairs.labels(fault.word).inc()
        _log.error("%s %s was changed by somebody else (%s); it is put back", kind, name, fault)
        told = self._told.get((kind, fault.word))
        if told is not None and now - told < _AGAIN:
            return
        self._told[kind, fault.word] = now
        installation = self.installation
        try:
            wanted = await self.kube.get(installation.configuration_path)
            about = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": installation.configuration,
                "namespace": installation.namespace,
                "uid": ((wanted or {}).get("metadata") or {}).get("uid", ""),
            }
            text = f"{kind} {name} was changed by somebody else ({fault}), and is put back: until then images were not judged as installed"
            await self.kube.create(*warning(about, _REASONS[fault.word], text, now))
        except KubeError as e:
            _log.info("an Event about %s %s was not written: %s", kind, name, e)
