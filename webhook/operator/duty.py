"""Whether API servers send us what they should: the webhook configurations that are there, compared with what was installed.

The leader puts back what somebody changed. That it had to is told: whoever can write these objects can switch all judgement off for the
seconds until then, and where it cannot be put back, for good (attack M-11).
"""

import datetime as dt
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from webhook import limits
from webhook.kube import KubeError
from webhook.kube.client import FIELD_MANAGER, Document, Kube
from webhook.observe.metrics import CONFIGURATIONS, ConfigurationFault, Metrics
from webhook.operator.events import warning
from webhook.operator.installation import Installation
from webhook.operator.onduty import FIRST, STANDS, Looks, OnDuty, Trouble
from webhook.operator.standing import Standing
from webhook.parsing import Invalid, quote

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
"""By what is wrong, the worst first."""
_WORDS: Final[Mapping[ConfigurationFault, str]] = {
    "missing": "is missing", "weakened": "is weakened", "stale_authority": "names authorities of long ago",
}  # fmt: skip
_RIGHTS: Final = "`helm upgrade` (Helm 4: with --force-conflicts)"
"""What helps where rights were cut: Helm 4 leaves what somebody else has written unless it is forced to."""
_SHOWN: Final = 5
"""Fields that a condition names."""


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
class _Seen:
    """What the look that is under way has shown of one configuration."""

    title: str
    fault: Fault | None = None
    writer: str = ""
    fails_open: bool = False
    version: tuple[str, str, str] = ("", "", "")
    hindrance: tuple[str, str] | None = None
    """Why it is not put back: in one word, and in a sentence."""
    is_first: bool = False
    """Whether it is not there because it has not been made yet, as far as is known."""

    def trouble(self) -> Trouble | None:
        """What is to be told, and what helps."""
        if self.fault is None:
            return None
        where = ", ".join(self.fault.where[:_SHOWN]) + (", …" if len(self.fault.where) > _SHOWN else "")
        what = f"{self.title} {_WORDS[self.fault.word]}{f': {where}' if where else ''}"
        by = f" by {self.writer}: stop that" if self.writer else ": the API server's audit log says by whom"
        word, why = self.hindrance or ("", f"it is put back, and changed again{by}")
        return Trouble(_REASONS[self.fault.word], f"{what}; {why}", word, stands=FIRST if self.is_first else STANDS)


@dataclass(slots=True)
class Duty:
    """Tells it: in the metrics, in the log, as an Event beside the ConfigMap that holds what is wanted, and in policies' status.

    One look begins with `begun` and ends with `ended`.
    """

    kube: Kube
    installation: Installation
    metrics: Metrics
    standing: Standing = field(default_factory=Standing)
    """What follows from the looks for whoever infers from what runs."""
    _told: dict[tuple[str, str], dt.datetime] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _looks: Looks = field(default_factory=Looks)

    @property
    def condition(self) -> OnDuty | None:
        """Whether we are asked, as far as that is known."""
        return self._looks.condition

    def begun(self) -> None:
        """A look begins."""
        self._seen = {}

    def looked(self, written: Document, found: Document | None, fault: Fault | None) -> None:
        """What a look at a configuration has shown; `written` is what is wanted there."""
        kind = written["kind"]
        self._show(kind, fault is None)
        self._seen[kind] = _Seen(
            f"{kind} {written['metadata']['name']}",
            fault,
            _writer_of(found),
            any(one.get("failurePolicy") == "Ignore" for one in written["webhooks"]),
            _version_of(kind, found),
        )

    def hindered(self, kind: str, word: str, why: str, *, is_first: bool = False) -> None:
        """A configuration of this kind is not put back; `is_first`: or not made yet."""
        if kind in self._seen:
            self._seen[kind].hindrance = (word, why)
            self._seen[kind].is_first = is_first

    def failed(self, kind: str, error: KubeError) -> None:
        """The API server does not let us put it back."""
        if error.is_forbidden:
            right = f"{_RIGHTS} gives ClusterRole {self.installation.owner} its rights again"
            self.hindered(kind, "forbidden", f"it cannot be put back ({error}): {right}")
        else:
            self.hindered(kind, "failing", f"it is not put back yet ({error})")

    async def ended(self, now: dt.datetime, error: KubeError | None = None) -> None:
        """The look is over, which began `now`. `error`: it was cut short, so that what it has not shown is not known."""
        if error is not None:
            for kind in CONFIGURATIONS.keys() - self._seen.keys():
                self._show(kind, None)
        seen = list(self._seen.values())
        if any(one.fault is not None or one.fails_open for one in seen):
            self.standing.broken()
        elif error is None and seen:
            self.standing.well(frozenset(one.version for one in seen), now.timestamp())
        troubles = [trouble for trouble in (one.trouble() for one in self._seen.values()) if trouble is not None]
        if troubles:
            order = list(_REASONS.values())
            await self._ill(sorted(troubles, key=lambda one: order.index(one.reason)), now)
        elif error is None and self._seen:
            self._looks.well(_in_place(self._seen), now)
        elif error is not None and error.is_forbidden:
            text = f"whether API servers ask us cannot be seen ({error}): {_RIGHTS} gives the rights again"
            await self._ill([Trouble("WebhookConfigurationUnreadable", text, status="Unknown")], now)

    async def cut_short(self, now: dt.datetime, error: KubeError) -> None:
        """There was no look: what it needs could not be read."""
        self.begun()
        await self.ended(now, error)

    async def unkept(self, faults: Mapping[str, Fault | None], wrong: Invalid | None, now: dt.datetime) -> None:
        """Nobody keeps what is there. `faults`: as far as it is known what was there; `wrong`: what the ConfigMap has, if it is there."""
        self.standing.broken()
        for kind, fault in faults.items():
            # Of one that is there nobody knows what it should be.
            self._show(kind, None if fault is None else False)
        await self._ill([trouble_of_unkept(faults, wrong, self.installation)], now)

    def _show(self, kind: str, in_place: bool | None) -> None:
        """In the gauge; None while that is not known."""
        if in_place is None:
            self.metrics.in_place.remove(CONFIGURATIONS[kind])
        else:
            self.metrics.in_place.labels(CONFIGURATIONS[kind]).set(in_place)

    async def _ill(self, troubles: Sequence[Trouble], now: dt.datetime) -> None:
        """What stands is told once, beside what says so as long as it does."""
        if self._looks.ill(troubles, now) and self.condition is not None:
            _log.error("not on duty: %s: %s", self.condition.reason, self.condition.message)
            await self._post(self.condition.reason, f"not on duty: {self.condition.message}", now)

    def resigned(self) -> None:
        """Another replica looks after it from now on."""
        self.metrics.in_place.clear()
        self._looks = Looks()
        self.standing.broken()

    async def changed(self, kind: str, name: str, fault: Fault, now: dt.datetime) -> None:
        """Somebody changed what we had put in place; it was put back."""
        self.metrics.repairs.labels(fault.word).inc()
        _log.error("%s %s was changed by somebody else (%s); it was put back", kind, name, fault)
        told = self._told.get((kind, fault.word))
        if told is not None and now - told < _AGAIN:
            return
        self._told[kind, fault.word] = now
        text = f"{kind} {name} was changed by somebody else ({fault}), and was put back: until then images were not judged as installed"
        await self._post(_REASONS[fault.word], text, now)

    async def _post(self, reason: str, text: str, now: dt.datetime) -> None:
        """An Event beside the ConfigMap that holds what is wanted."""
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
            await self.kube.create(*warning(about, reason, text, now))
        except KubeError as e:
            _log.info("the Event %s was not written: %s", reason, e)


def trouble_of_unkept(faults: Mapping[str, Fault | None], wrong: Invalid | None, installation: Installation) -> Trouble:
    """What to tell where no ConfigMap says what is wanted, or one that cannot be used (`wrong`): it is not always that nobody judges."""
    name = installation.service
    what = [f"{kind} {name} {_WORDS[fault.word]}" for kind, fault in faults.items() if fault is not None]
    stopped = faults["ValidatingWebhookConfiguration"] == Fault("missing")
    state = (
        "all judgement is stopped"
        if stopped
        else "API servers ask by the webhook configurations that are there, and what is changed in them stays so"
    )
    where = f"ConfigMap {installation.namespace}/{installation.configuration}"
    cause = (
        f"{where} is missing: `helm upgrade --install` writes it again"
        if wrong is None
        else f"{where} cannot be used ({quote(wrong, limits.MAX_TEXT)}): delete it, and `helm upgrade --install` writes it again"
    )
    reason = "JudgementStopped" if stopped else "ConfigurationMissing" if wrong is None else "ConfigurationUnusable"
    return Trouble(reason, "; ".join([state, *what, cause]), "; ".join([*what, str(wrong)]))


def _in_place(seen: Mapping[str, _Seen]) -> str:
    open_ = [one.title for one in seen.values() if one.fails_open]
    note = f"; without an answer everything is admitted, as was installed: {', '.join(open_)}" if open_ else ""
    return f"the webhook configurations are as they were installed{note}"


def _version_of(kind: str, found: Document | None) -> tuple[str, str, str]:
    """Another one after each change, and where it was made anew."""
    metadata = (found or {}).get("metadata") or {}
    return kind, str(metadata.get("uid", "")), str(metadata.get("resourceVersion", ""))


def _writer_of(found: Document | None) -> str:
    """Who other than us has written last, as far as the API server says."""
    fields = ((found or {}).get("metadata") or {}).get("managedFields") or ()
    others = [(str(one.get("time", "")), str(one.get("manager", ""))) for one in fields]
    _, writer = max((one for one in others if one[1] != FIELD_MANAGER), default=("", ""))
    return quote(writer, 80)
