"""What runs, as reports that other tools show: one for each namespace. Documents are made by a pure part.

`openreports.io` where its definition is there, else `wgpolicyk8s.io`; without either none are written, and that is said once.
Source: OpenReports API v1alpha1, `report_types.go`; Kubernetes Policy WG, PolicyReport v1alpha2.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec import json

from webhook import limits
from webhook.background.drift import Drift
from webhook.background.examine import Result
from webhook.background.lines import Line
from webhook.background.pods import Pod
from webhook.kube import KubeError
from webhook.kube.client import Document, Kube
from webhook.moment import rfc3339
from webhook.operator.installation import Installation
from webhook.operator.owned import owner_of
from webhook.operator.radar import SOON
from webhook.verdict import End

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 60.0
_SOURCE: Final = "trusted-images"
_CATEGORY: Final = "Supply chain"
_SEVERITIES: Final = {"fail": "high", "warn": "medium", "error": "medium", "skip": "low", "pass": "info"}
_ORDER: Final = ("fail", "error", "warn", "skip", "pass")


@dataclass(frozen=True, slots=True)
class Api:
    """One of the kinds of reports. `names_source`: the report itself says who made it."""

    group: str
    version: str
    plural: str
    kind: str
    names_source: bool

    def path(self, namespace: str, name: str) -> str:
        """Where a report is."""
        return f"/apis/{self.group}/{self.version}/namespaces/{namespace}/{self.plural}/{name}"


APIS: Final = (
    Api("openreports.io", "v1alpha1", "reports", "Report", True),
    Api("wgpolicyk8s.io", "v1alpha2", "policyreports", "PolicyReport", False),
)
"""In the order in which they are preferred."""


def results_of(
    results: Mapping[bytes, Result], sights: Mapping[bytes, Mapping[str, Pod]], drifts: Iterable[Drift], now: datetime
) -> dict[str, list[Document]]:
    """By namespace, what its report says: one result for each policy, image and ending, with the Pods it is about.

    With `endsAt` and `ends` where it ends soon, counted from `now`.
    """
    found: dict[tuple[str, str, str, str, str], tuple[Line, list[Pod]]] = {}
    ends: dict[tuple[str, str, str, str, str], End] = {}
    for sight, result in results.items():
        pods = sights.get(sight)
        if not pods:
            continue
        namespace = next(iter(pods.values())).namespace
        for line in result.runs:
            if line.policy is not None:
                key = (namespace, str(line.policy), line.image, _result(line), line.text)
                found.setdefault(key, (line, []))[1].extend(pods.values())
                if line.ends is not None and line.ends.at - now < SOON:
                    ends[key] = min(line.ends, ends.get(key, line.ends))
    by_namespace: dict[str, list[Document]] = {}
    for key, (line, of_line) in found.items():
        namespace, policy, image, ending, _ = key
        about = {"image": image, "mode": line.mode, "pods": str(len(of_line))}
        if key in ends:
            about |= {"endsAt": rfc3339(ends[key].at), "ends": ends[key].what}
        shown = _entry(policy, "image", ending, line.text or "it satisfies the policy", about)
        shown["resources"] = [_pod(pod.namespace, pod.name, pod.uid) for pod in _first(of_line)]
        by_namespace.setdefault(namespace, []).append(shown)
    for drift in drifts:
        about = {"image": drift.image, "running": drift.running, "pods": "1"}
        text = f"{drift.where}: {drift.text}"[: limits.MAX_REPORTED_TEXT]
        shown = _entry(str(drift.policy), "drift", "fail", text, about)
        shown |= {"severity": "critical", "resources": [_pod(drift.namespace, drift.name, drift.uid)]}
        by_namespace.setdefault(drift.namespace, []).append(shown)
    for entries in by_namespace.values():
        entries.sort(key=lambda one: (_ORDER.index(one["result"]), one["policy"], one["properties"]["image"]))
    return by_namespace


def report(
    api: Api, namespace: str, name: str, entries: list[Document], owner: Document | None, now: datetime
) -> Document:
    """The report of a namespace, bounded."""
    counts = Counter(one["result"] for one in entries)
    stamp = {"seconds": int(now.timestamp()), "nanos": 0}
    metadata: Document = {
        "name": name,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/managed-by": _SOURCE},
    }
    # It goes when the release goes.
    metadata |= {} if owner is None else {"ownerReferences": [owner]}
    return {
        "apiVersion": f"{api.group}/{api.version}",
        "kind": api.kind,
        "metadata": metadata,
        **({"source": _SOURCE} if api.names_source else {}),
        "summary": {result: counts[result] for result in _ORDER},
        "results": [{**one, "timestamp": stamp} for one in entries[: limits.MAX_REPORTED]],
    }


def _result(line: Line) -> str:
    match line.ending:
        case "allowed":
            return "pass"
        case "excused":
            return "skip"
        case "undecided":
            return "error"
        case "denied":
            return "fail" if line.mode == "enforce" else "warn"


def _entry(policy: str, rule: str, result: str, text: str, about: Mapping[str, str]) -> Document:
    return {
        "source": _SOURCE,
        "policy": policy,
        "rule": rule,
        "category": _CATEGORY,
        "severity": _SEVERITIES[result],
        "result": result,
        "scored": result != "warn",
        "message": text,
        "properties": dict(about),
    }


def _pod(namespace: str, name: str, uid: str) -> Document:
    return {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid}


def _first(pods: Iterable[Pod]) -> list[Pod]:
    return sorted(pods, key=lambda pod: pod.name)[: limits.MAX_REPORTED_PODS]


@dataclass(slots=True)
class Reports:
    """Writes them. `namespaces` gives the names of those that there are."""

    kube: Kube
    installation: Installation
    namespaces: Callable[[], Iterable[str]]
    clock: Callable[[], datetime]
    api: Api | None = None
    _looked: float = -_LOOK_SECONDS
    _said: bool = False
    _written: dict[str, bytes] = field(default_factory=dict)
    """A hash of what was written, by namespace; empty: there may be one by a leader before this one."""

    async def write(self, found: Mapping[str, list[Document]]) -> None:
        """Writes what differs and takes away what nothing is left of, some of it at a time."""
        try:
            await self._look()
            if self.api is not None:
                await self._write_all(self.api, found)
        except KubeError as e:
            _log.warning("reports are not written: %s", e)

    async def _look(self) -> None:
        """Looks now and then which kind of reports there is."""
        now = self.clock().timestamp()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        there = None
        for api in APIS:
            described = await self.kube.get(f"/apis/{api.group}/{api.version}") or {}
            if any(one.get("name") == api.plural for one in described.get("resources") or ()):
                there = api
                break
        if there != self.api:
            self.api = there
            self._written = dict.fromkeys(self.namespaces(), b"") if there else {}
        if there is None and not self._said:
            _log.info("no reports are written: the cluster has neither %s", " nor ".join(a.group for a in APIS))
        self._said = there is None

    async def _write_all(self, api: Api, found: Mapping[str, list[Document]]) -> None:
        left, name = limits.MAX_WRITES, self.installation.service
        owner: Document | None = None
        for namespace in dict.fromkeys([*found, *self._written]):
            entries = found.get(namespace)
            digest = hashlib.sha256(json.encode(entries)).digest() if entries else None
            if digest == self._written.get(namespace):
                continue
            if left == 0:
                return
            left -= 1
            if entries is None or digest is None:
                await self.kube.delete(api.path(namespace, name))
                del self._written[namespace]
                continue
            owner = owner or await owner_of(self.kube, self.installation)
            document = report(api, namespace, name, entries, owner, self.clock())
            try:
                await self.kube.apply(api.path(namespace, name), document)
            except KubeError as e:
                # The namespace may be going; the others have theirs.
                _log.info("the report of namespace %s was not written: %s", namespace, e)
                continue
            self._written[namespace] = digest
