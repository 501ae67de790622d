"""The leader's work on what runs, put together: follow, judge, tell."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from webhook.background.consequences import Consequences
from webhook.background.examine import Asked, Result
from webhook.background.excused import Excused, excused
from webhook.background.pods import Pod, Pods
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
from webhook.operator.standing import Standing
from webhook.verdict import ExceptionKey, PolicyKey

_log = logging.getLogger(__name__)

_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 30.0
_COUNT_SECONDS: Final = 10.0
_WRITE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Background:
    """What it needs. `every`: how often all that runs is judged again, whatever happens.

    `in_force` and `exceptions` give the policies and exceptions as they were written. `standing`: since when API servers have asked without a
    break; whoever looks says it.
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
    standing: Standing = field(default_factory=Standing)

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
        scope = Scope(self.kube, self.installation, self.standing)
        rescan = Rescan(pods, self.asked, self.store, scope, self.every, self.clock)
        consequences = Consequences(self.kube, self.metrics, self.clock)
        writers = (
            Verdicts(self.kube, self.in_force),
            Excused(self.kube, self.exceptions),
            Reports(self.kube, self.installation, lambda: self.store.snapshot.namespaces, self.clock),
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pods.follow(self.kube))
                tasks.create_task(rescan.work())
                tasks.create_task(_repeat(_SECONDS, lambda: consequences.follow(rescan.followed())))
                tasks.create_task(_repeat(_COUNT_SECONDS, lambda: self._count(rescan)))
                tasks.create_task(_repeat(_WRITE_SECONDS, lambda: self._write(rescan, *writers)))
        finally:
            self.metrics.clear()

    async def _count(self, rescan: Rescan) -> None:
        known, now = _known(rescan), self.clock()
        images = await asyncio.to_thread(images_by_state, *known)
        ends = await asyncio.to_thread(ends_of, *known, now)
        self.metrics.running(images, len(rescan.drifts), rescan.whole.timestamp() if rescan.whole else 0)
        self.metrics.ends(*ends)

    async def _write(self, rescan: Rescan, verdicts: Verdicts, by_exceptions: Excused, reports: Reports) -> None:
        """No report before everything has been judged once: half of it would look as if the rest were gone."""
        known, drifts, now, whole = _known(rescan), list(rescan.drifts.values()), self.clock(), rescan.whole is not None
        found, settled = await asyncio.to_thread(tallies, *known, now), partial(is_settled, rescan, now)
        await verdicts.write(found, rescan.denied_at, now, settled=settled, whole=whole)
        if whole:
            await by_exceptions.write(await asyncio.to_thread(excused, *known))
            await reports.write(await asyncio.to_thread(results_of, *known, drifts, now))


async def _repeat(seconds: float, once: Callable[[], Awaitable[None]]) -> None:
    """Until cancelled. An error of ours here must not end the term: what is known of each Pod would be lost with it."""
    while True:
        wait = seconds
        try:
            await once()
        except Exception:  # noqa: BLE001 - whatever it is: what runs is judged on
            _log.exception("telling what runs has failed, and is tried again")
            wait = max(seconds, _AGAIN_SECONDS)
        await asyncio.sleep(wait)


def _known(rescan: Rescan) -> tuple[dict[bytes, Result], dict[bytes, dict[str, Pod]]]:
    """What is known now, and the Pods of which it is true, for threads: of 50,000 kinds of Pods, counting takes seconds, and a loop must not stand still."""
    return dict(rescan.results), {sight: dict(pods) for sight, pods in rescan.pods.sights.items()}


def is_settled(rescan: Rescan, counted: datetime, key: PolicyKey) -> bool:
    """Whether all that a policy may speak about has been judged, and nothing was found since it was `counted` that it would deny."""
    denied = rescan.denied_at.get(key)
    return rescan.has_judged(key) and (denied is None or denied < counted)


def images_by_state(results: Mapping[bytes, Result], sights: Mapping[bytes, Mapping[str, Pod]]) -> Counter[str]:
    """How many images of running containers get what; of several policies the worst counts."""
    found: Counter[str] = Counter()
    for sight, result in results.items():
        count = len(sights.get(sight, ()))
        worst: dict[str, str] = {}
        for line in result.runs:
            state: str = "uncovered" if line.policy is None else line.ending
            worst[line.where] = max(worst.get(line.where, state), state, key=_ORDER.index)
        for state in worst.values():
            found[state] += count
    return found


def ends_of(
    results: Mapping[bytes, Result], sights: Mapping[bytes, Mapping[str, Pod]], now: datetime
) -> tuple[datetime | None, int]:
    """When the first of the images of running containers would be refused that is admitted now, and how many will be within `ALERTED`."""
    first: datetime | None = None
    count = 0
    for sight, result in results.items():
        soon, refused = set[str](), {line.where for line in result.written if line.is_refused}
        for line in result.written:
            if line.ends is None or line.ending != "allowed" or line.mode != "enforce" or line.where in refused:
                continue
            first = line.ends.at if first is None else min(first, line.ends.at)
            if line.ends.at - now < ALERTED:
                soon.add(line.where)
        count += len(soon) * len(sights.get(sight, ()))
    return first, count


_ORDER: Final = ("uncovered", "allowed", "excused", "undecided", "denied")
