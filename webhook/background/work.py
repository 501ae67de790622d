"""The leader's work on what runs, put together: follow, judge, tell."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from webhook.background.consequences import Consequences
from webhook.background.examine import Asked
from webhook.background.excused import Excused, excused
from webhook.background.pods import Pods
from webhook.background.reports import Reports, results_of
from webhook.background.rescan import Rescan
from webhook.background.scope import Scope
from webhook.background.verdicts import Verdicts, tallies
from webhook.kube.client import Kube
from webhook.memory.store import PolicyStore
from webhook.observe.running import RunningMetrics
from webhook.operator.exceptions import Known
from webhook.operator.installation import Installation
from webhook.operator.policies import InForce
from webhook.operator.radar import ALERTED
from webhook.verdict import ExceptionKey, PolicyKey

_log = logging.getLogger(__name__)

_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 30.0
_WRITE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Background:
    """What it needs. `every`: how often all that runs is judged again, whatever happens.

    `in_force` and `exceptions` give the policies and exceptions as they were written.
    """

    kube: Kube
    store: PolicyStore
    asked: Asked
    installation: Installation
    metrics: RunningMetrics
    every: timedelta
    clock: Callable[[], datetime]
    in_force: Callable[[], Mapping[PolicyKey, InForce]]
    exceptions: Callable[[], Mapping[ExceptionKey, Known]]

    async def work(self) -> None:
        """Until cancelled, which is when another replica leads. An error of ours here must not end the leader's other work."""
        while True:
            try:
                await self._term()
            except Exception:  # noqa: BLE001 - whatever it is: certificates and statuses go on
                _log.exception("comparing what runs has failed, and begins anew")
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _term(self) -> None:
        """Begins with nothing: what a former leader saw is too old to accuse by."""
        pods = Pods(lambda: self.clock().timestamp())
        scope = Scope(self.kube, self.installation)
        rescan = Rescan(pods, self.asked, self.store, scope, self.every, self.clock)
        consequences = Consequences(self.kube, self.metrics, self.clock)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pods.follow(self.kube))
                tasks.create_task(rescan.work())
                tasks.create_task(self._tell(rescan, consequences))
                tasks.create_task(self._write(rescan))
        finally:
            self.metrics.clear()

    async def _tell(self, rescan: Rescan, consequences: Consequences) -> None:
        while True:
            self.metrics.running(
                images_by_state(rescan), len(rescan.drifts), rescan.whole.timestamp() if rescan.whole else 0
            )
            self.metrics.ends(*ends_of(rescan, self.clock()))
            await consequences.follow(list(rescan.drifts.values()))
            await asyncio.sleep(_SECONDS)

    async def _write(self, rescan: Rescan) -> None:
        """No report before everything has been judged once: half of it would look as if the rest were gone."""
        verdicts, by_exceptions = Verdicts(self.kube, self.in_force), Excused(self.kube, self.exceptions)
        reports = Reports(self.kube, self.installation, lambda: self.store.snapshot.namespaces, self.clock)
        while True:
            sights, whole = rescan.pods.sights, rescan.whole is not None
            await verdicts.write(
                tallies(rescan.results, sights, self.clock()),
                rescan.denied_at,
                self.clock(),
                settled=rescan.has_judged,
                whole=whole,
            )
            if whole:
                await by_exceptions.write(excused(rescan.results, sights))
                await reports.write(results_of(rescan.results, sights, rescan.drifts.values(), self.clock()))
            await asyncio.sleep(_WRITE_SECONDS)


def images_by_state(rescan: Rescan) -> Counter[str]:
    """How many images of running containers get what; of several policies the worst counts."""
    found: Counter[str] = Counter()
    for sight, result in rescan.results.items():
        count = len(rescan.pods.sights.get(sight, ()))
        worst: dict[str, str] = {}
        for line in result.runs:
            state: str = "uncovered" if line.policy is None else line.ending
            worst[line.where] = max(worst.get(line.where, state), state, key=_ORDER.index)
        for state in worst.values():
            found[state] += count
    return found


def ends_of(rescan: Rescan, now: datetime) -> tuple[datetime | None, int]:
    """When the first of the images of running containers would be refused that is admitted now, and how many will be within `ALERTED`."""
    first: datetime | None = None
    count = 0
    for sight, result in rescan.results.items():
        soon, refused = set[str](), {line.where for line in result.written if line.is_refused}
        for line in result.written:
            if line.ends is None or line.ending != "allowed" or line.mode != "enforce" or line.where in refused:
                continue
            first = line.ends.at if first is None else min(first, line.ends.at)
            if line.ends.at - now < ALERTED:
                soon.add(line.where)
        count += len(soon) * len(rescan.pods.sights.get(sight, ()))
    return first, count


_ORDER: Final = ("uncovered", "allowed", "excused", "undecided", "denied")
