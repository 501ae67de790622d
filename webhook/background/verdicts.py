"""What policies say of all that runs → counts, and what they would deny: `verdicts`, `preview` and `ending` of their status. Pure, but for the writer."""

import heapq
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from webhook import limits
from webhook.background.examine import Result
from webhook.background.lines import Line
from webhook.background.pods import Pod
from webhook.kube import KubeError
from webhook.kube.client import Kube
from webhook.kube.writes import Writes
from webhook.moment import rfc3339
from webhook.operator.policies import InForce
from webhook.operator.radar import SOON
from webhook.operator.rollout import promotable
from webhook.policy.afterwards import NEVER
from webhook.policy.document import API_VERSION
from webhook.policy.schema import RESOURCES
from webhook.policy.statusspec import EndingStatus
from webhook.verdict import End, PolicyKey

_log = logging.getLogger(__name__)

_PLURALS: Final = {resource.namespaced: resource.plural for resource in RESOURCES}
_ENDINGS: Final = ("allowed", "denied", "undecided", "excused")
_ENDING_STAYS: Final = timedelta(days=1)
"""How long it is told what ends soon after the last of it has gone: the Pods of a CronJob come back, and a condition that came and went with each run
would be an Event each time."""


@dataclass(slots=True)
class Tally:
    """What one policy says. `runs`: images of running containers by ending; `written`: the same, if their Pods were made again."""

    runs: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    """Of what would not be admitted: a reason, by the Pod; more than are shown."""
    running: dict[tuple[str, str], str] = field(default_factory=dict)
    """Of what runs and is denied, or could not be verified: a reason, by the ending and the Pod; those that are shown, what is denied first."""
    ending: Counter[tuple[End, str]] = field(default_factory=Counter)
    """Of what is admitted and soon will not be: images, by what ends and one of the Pods."""

    def add_running(self, line: Line, pods: Mapping[str, Pod]) -> None:
        """One line about images as they run."""
        self.runs[line.ending] += len(pods)
        if line.ending in {"denied", "undecided"}:
            self.running[line.ending, _first_of(pods)] = line.text
            if len(self.running) > limits.MAX_EXAMPLES:
                del self.running[max(self.running)]

    def add(self, line: Line, pods: Mapping[str, Pod], now: datetime) -> None:
        """One line about images as they are written."""
        self.written[line.ending] += len(pods)
        ends_soon = line.ending == "allowed" and line.ends is not None and line.ends.at - now < SOON
        if ends_soon or line.ending in {"denied", "undecided"}:
            name = _first_of(pods)
            if ends_soon and line.ends is not None:
                self.ending[line.ends, name] += len(pods)
            else:
                self.examples[name] = line.text

    def status(self) -> dict[str, Any]:
        """The part of the policy's status that this is."""
        shown = [f"{name}: {text}" for name, text in sorted(self.examples.items())[: limits.MAX_EXAMPLES]]
        return {
            "verdicts": {
                **{ending: self.runs[ending] for ending in _ENDINGS},
                "examples": [
                    f"{name}: {text}"[: limits.MAX_EXAMPLE] for (_, name), text in sorted(self.running.items())
                ],
            },
            "preview": {
                "denied": self.written["denied"],
                "undecided": self.written["undecided"],
                "examples": [text[: limits.MAX_EXAMPLE] for text in shown],
            },
            "ending": self._ending(),
        }

    def _ending(self) -> dict[str, Any] | None:
        """None, where nothing ends soon: then there is no such part. It says times and no spans, so that it stays as it is."""
        if not self.ending:
            return None
        first = heapq.nsmallest(limits.MAX_EXAMPLES, self.ending)
        shown = [f"{name}: until {rfc3339(end.at)}: {end.what}" for end, name in first]
        return {
            "images": self.ending.total(),
            "first": rfc3339(first[0][0].at),
            "examples": [text[: limits.MAX_EXAMPLE] for text in shown],
        }


def _first_of(pods: Mapping[str, Pod]) -> str:
    """One of the Pods of a kind, always the same."""
    pod = min(pods.values(), key=lambda pod: pod.name)
    return f"{pod.namespace}/{pod.name}"


def tallies(
    results: Mapping[bytes, Result], sights: Mapping[bytes, Mapping[str, Pod]], now: datetime
) -> dict[PolicyKey, Tally]:
    """What each policy says that says anything."""
    found: dict[PolicyKey, Tally] = {}
    for sight, result in results.items():
        pods = sights.get(sight)
        if not pods:
            continue
        for line in result.runs:
            if line.policy is not None:
                found.setdefault(line.policy, Tally()).add_running(line, pods)
        for line in result.written:
            if line.policy is not None:
                found.setdefault(line.policy, Tally()).add(line, pods, now)
    return found


@dataclass(slots=True)
class Verdicts:
    """Writes them. `in_force` gives the policies as they were written."""

    kube: Kube
    in_force: Callable[[], Mapping[PolicyKey, InForce]]
    writes: Writes = field(default_factory=Writes)
    _written: dict[PolicyKey, dict[str, Any]] = field(default_factory=dict)
    _failed: set[PolicyKey] = field(default_factory=set)
    """Whose last write has failed: they come last."""
    _ending: dict[PolicyKey, datetime] = field(default_factory=dict)
    """Of which something that ends soon is told: when it was there for the last time."""
    _begun: bool = False

    async def write(
        self,
        found: Mapping[PolicyKey, Tally],
        denied_at: Mapping[PolicyKey, datetime],
        now: datetime,
        *,
        settled: Callable[[PolicyKey], bool],
        whole: bool,
    ) -> None:
        """Writes what differs, some of it at a time: first of those policies of which nothing has been written yet.

        `denied_at`: when a policy would have denied something for the last time. `settled`: whether all that a policy may speak about has been
        judged under what is in force, so that it may be promoted if its rollout is over. `whole`: everything has
        been judged once; until then nothing is written of policies that are not settled: half of it would look as if the rest were gone.
        """
        in_force, due = self.in_force(), dict[PolicyKey, dict[str, Any]]()
        if not self._begun:
            # A leader before this one may have counted what nothing is left of.
            self._begun = True
            for key, policy in in_force.items():
                before = policy.document.get("status") or {}
                if "verdicts" in before:
                    self._written[key] = {name: before.get(name) for name in ("verdicts", "preview", "ending")}
        for key in filter(lambda key: whole or settled(key), self._due(found, in_force)):
            known = in_force.get(key)
            if known is None:
                self._written.pop(key, None)
                self._ending.pop(key, None)
                continue
            wanted = found.get(key, Tally()).status()
            wanted["ending"] = self._still_ending(key, wanted["ending"], now)
            if known.policy.terms.afterwards.audit_until == NEVER:
                wanted |= self._rollout(key, known, wanted, denied_at.get(key), now, settled=settled(key))
            if self._written.get(key) != wanted:
                due[key] = wanted
        first = sorted(due, key=lambda key: (key in self._failed, key in self._written))[: limits.MAX_VERDICTS]
        self._failed &= due.keys()
        # As they are now: what is in force goes on changing while they are written.
        writing = {key: in_force[key] for key in first}
        self._failed.update(await self.writes.each(first, lambda key: self._write(key, writing[key], due[key])))

    def _still_ending(self, key: PolicyKey, ending: dict[str, Any] | None, now: datetime) -> dict[str, Any] | None:
        """What is told to end soon: what does, or what did within a day and has not ended yet."""
        if ending is not None:
            self._ending[key] = now
            return ending
        told = (self._written.get(key) or {}).get("ending")
        if told is not None and _first(told) > now and now - self._ending.setdefault(key, now) < _ENDING_STAYS:
            stays: dict[str, Any] = told
            return stays
        self._ending.pop(key, None)
        return None

    async def _write(self, key: PolicyKey, known: InForce, wanted: dict[str, Any]) -> None:
        try:
            await self._patch(key, known, wanted)
        except KubeError as e:
            _log.info("what policy %s says of what runs was not written: %s", key, e)
            raise
        if "rollout" in wanted:
            _log.info("policy %s is promoted: nothing would be denied", key)
        self._written[key] = wanted
        self._failed.discard(key)

    def _due(self, found: Mapping[PolicyKey, Tally], in_force: Mapping[PolicyKey, InForce]) -> list[PolicyKey]:
        """The policies of which something is, was or will be written."""
        waiting = [key for key, known in in_force.items() if known.policy.terms.afterwards.audit_until == NEVER]
        return list(dict.fromkeys([*found, *self._written, *waiting]))

    def _rollout(
        self,
        key: PolicyKey,
        known: InForce,
        status: dict[str, Any],
        denied: datetime | None,
        now: datetime,
        *,
        settled: bool,
    ) -> dict[str, Any]:
        """What the status of a policy says that waits until nothing would be denied: since when that is so, and that it is over."""
        document = known.document
        before = (self._written.get(key) or document.get("status") or {}).get("preview") or {}
        last = before.get("lastDenied")
        preview = dict(status["preview"])
        if not preview["denied"] and not preview["undecided"]:
            # What came and went between two rounds counts as well.
            if before.get("denied") or before.get("undecided"):
                last = rfc3339(now)
            elif denied is not None and (last is None or rfc3339(denied) > last):
                last = rfc3339(denied)
        if last is not None:
            preview["lastDenied"] = last
        found: dict[str, Any] = {"preview": preview}
        seen = {"metadata": document["metadata"], "status": {**status, **found}}
        if settled and promotable(known.policy, seen, now):
            found["rollout"] = {"promotedAt": rfc3339(now)}
        return found

    async def _patch(self, key: PolicyKey, known: InForce, status: Mapping[str, Any]) -> None:
        place = f"/namespaces/{key.namespace}" if key.namespace else ""
        path = f"/apis/{API_VERSION}{place}/{_PLURALS[key.namespace is not None]}/{key.name}/status"
        identity = {"uid": known.document["metadata"].get("uid")}
        await self.kube.merge(path, {"metadata": identity, "status": dict(status)})


def _first(told: object) -> datetime:
    """When the first ends of what a status tells; long ago, if it is none of ours."""
    try:
        return msgspec.convert(told, EndingStatus).first
    except msgspec.ValidationError:
        # Whoever may write a status may write anything there.
        return datetime.min.replace(tzinfo=UTC)
