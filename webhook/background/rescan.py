"""What runs, judged again: when it starts, when what it is judged by changes, and now and then. The leader's work.

Pods of one kind are judged once. A few kinds at the same time, fewer in one namespace, and with a pause wherever something had to be fetched:
registries are asked no faster because there is more to ask. What takes long is set aside, and its namespace has other places from then on: nobody waits
for the slow registry of somebody else, however many are slow.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from webhook import limits
from webhook.background.beside import Beside
from webhook.background.comparison import Admitting, Comparison
from webhook.background.drift import Drift
from webhook.background.examine import Asked, Examined, Examiner, Result
from webhook.background.pods import Pod, Pods, Sight
from webhook.background.scope import Scope
from webhook.background.waiting import Waiting
from webhook.image import Digest
from webhook.memory.store import PolicyStore, Snapshot
from webhook.moment import later
from webhook.policy.policy import Policy
from webhook.verdict import PolicyKey

_log = logging.getLogger(__name__)

_TICK_SECONDS: Final = 1.0
_EARLY_SECONDS: Final = 6.0
"""A little more than between two looks at the webhook configurations."""
_SCOPE_SECONDS: Final = 30.0
_AFTER_END: Final = timedelta(seconds=1)
"""At the very end most things still hold."""
_LIST_AHEAD: Final = timedelta(hours=7)
"""Before a revocation list ends, what rests on it is judged again, by the newer one if there is one. Six hours before its end is an alert."""
_LIST_AGAIN: Final = timedelta(hours=1)
"""And then as often as a proof is made anew, as long as there is none."""
_STEP: Final = 200
"""Kinds of Pods judged before whoever writes about them has a turn."""


@dataclass(slots=True)
class _InForce:
    """A policy, and since when it has been what it is."""

    policy: Policy
    since: float


@dataclass(slots=True)
class _Work:
    """A kind of Pods that is being judged, and since when. `aside`: it has none of the places that others wait for. `round`: during which it was begun."""

    namespace: str
    sight: bytes
    began: float
    aside: bool
    round: datetime | None


@dataclass(slots=True)
class Rescan:
    """Judges what runs. `every`: how often, whatever happens. `clock`: the wall clock, aware; `ticks`: one that only grows, in seconds."""

    pods: Pods
    asked: Asked
    store: PolicyStore
    scope: Scope
    every: timedelta
    clock: Callable[[], datetime]
    ticks: Callable[[], float] = time.monotonic
    results: dict[bytes, Result] = field(default_factory=dict)
    drifts: dict[tuple[str, str], Drift] = field(default_factory=dict)
    """By the Pod's uid and the place in it."""
    whole: datetime | None = None
    """When the last round began that is over: all that ran by then has been judged since."""
    denied_at: dict[PolicyKey, datetime] = field(default_factory=dict)
    """When something that a policy would not admit was judged for the last time."""
    _first: Waiting = field(default_factory=Waiting)
    _fresh: Waiting = field(default_factory=Waiting)
    _queue: Waiting = field(default_factory=Waiting)
    _turn: int = 0
    _busy: dict[str, set[bytes]] = field(default_factory=dict)
    """What is being judged now, by namespace."""
    _tasks: dict[asyncio.Task[bool], _Work] = field(default_factory=dict)
    """The same, by the task; which gives whether something had to be fetched."""
    _slow: set[str] = field(default_factory=set)
    """Namespaces of which something took long, and nothing has ended sooner since."""
    _unlabelled: set[str] = field(default_factory=set)
    """Namespaces whose Pods were not judged, because its labels are not known."""
    _again: dict[bytes, float] = field(default_factory=dict)
    _failed: dict[bytes, str] = field(default_factory=dict)
    """What could not be judged because of an error of ours, and its namespace."""
    _tries: dict[bytes, float] = field(default_factory=dict)
    """How long what could not be verified was not tried again, the last time. Seconds."""
    _snapshot: Snapshot | None = None
    _beside: Beside = field(default_factory=Beside)
    _in_force: dict[PolicyKey, _InForce] = field(default_factory=dict)
    _others_since: float = -math.inf
    """Since when no policy was written or taken away: a fallback speaks where others do not."""
    _began: float | None = None
    _scope_read: float = 0.0
    _round_began: datetime | None = None
    _round: set[bytes] = field(default_factory=set)
    """What has not been judged in it yet. What is tried again, or starts meanwhile, puts off its end no longer: somebody's registry could, for ever."""
    _promotion: float = math.inf
    """When the audit of some policy ends."""

    async def work(self) -> None:
        """Until cancelled, which is when another replica leads."""
        try:
            while True:
                await self.step()
                self.pods.news.clear()
                # Not `wait_for`, which on Python 3.11 can lose a cancellation that comes together with news.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_SECONDS):
                        await self.pods.news.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def step(self) -> None:
        """Judges all that is due, but for what takes long: that goes on, and the rest does not wait for it."""
        if not self.pods.listed or not self.store.is_ready:
            return
        await self._look_around()
        begun = judged = 0
        while True:
            self._notice()
            while begun < _STEP and self._begin():
                begun += 1
            if not self._tasks:
                break
            done, _ = await asyncio.wait(self._tasks, timeout=_TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not self._set_aside() and not done:
                break
            for task in done:
                judged += 1
                if self._ended(task):
                    await asyncio.sleep(limits.RESCAN_PAUSE)
                elif judged % limits.RESCAN_BREATH == 0:
                    await asyncio.sleep(limits.RESCAN_PAUSE / 2)
            self._end_round()
        self._forget()
        self._end_round()

    def followed(self) -> list[Drift]:
        """All drift, with what follows from it now: who was deleted already is not evicted."""
        pods = self.pods.by_uid
        leaving = {uid for uid, _ in self.drifts if uid in pods and pods[uid].is_leaving}
        return [replace(one, follows="report") if one.uid in leaving else one for one in self.drifts.values()]

    @property
    def _is_current(self) -> bool:
        return self._snapshot is self.store.snapshot and not self.pods.fresh

    def has_judged(self, key: PolicyKey) -> bool:
        """Whether everything that a policy may speak about has been judged under what is in force."""
        if self._began is None or self.scope.selector is None or not self._is_current:
            return False
        waiting = [lane.namespaces for lane in (self._first, self._fresh, self._queue)]
        waiting += [self._busy.keys(), self._unlabelled, set(self._failed.values())]
        if key.namespace is not None:
            return not any(key.namespace in names for names in waiting)
        policy = self.store.snapshot.index.policies.get(key)
        if policy is None or sum(map(len, waiting)) > limits.MAX_WAITED_FOR:
            return not any(waiting)
        return not any(self._may_speak(policy, name) for names in waiting for name in names)

    def _may_speak(self, policy: Policy, namespace: str) -> bool:
        """Whether a cluster policy may speak about what runs in a namespace. Of one whose labels are not known it may."""
        meant = policy.scope.namespaces
        if meant is not None and not meant.includes(namespace):
            return False
        labels = self.store.snapshot.namespace_labels(namespace)
        if labels is None:
            return True
        selector = None if meant is None else meant.selector
        return self.scope.includes(labels) and (selector is None or selector.matches(labels))

    # ── what is due ──────────────────────────────────────────────────────────────────────────────────────────────────
    async def _look_around(self) -> None:
        now = self.clock().timestamp()
        if now - self._scope_read >= _SCOPE_SECONDS or self.scope.selector is None:
            self._scope_read = now
            if await self.scope.read():
                self._all()

    def _notice(self) -> None:
        """Compares what is in force with what was, and lines up what that may touch, and what has started."""
        for sight in self.pods.fresh:
            self._fresh.add(_namespace(self.pods.sights[sight]), sight)
        self.pods.fresh.clear()
        snapshot, before, now = self.store.snapshot, self._snapshot, self.clock()
        if self._began is None:
            self._began = now.timestamp()
        if snapshot is not before:
            self._snapshot = snapshot
            self._age(snapshot, now.timestamp())
            if before is not None:
                self._beside.changed(before, snapshot, self.scope.includes, now.timestamp())
            touched = _touched(before, snapshot)
            if touched is None:
                self._all()
            else:
                self._line_up(sight for sight, pods in self.pods.sights.items() if _namespace(pods) in touched)
            self._hurry(before, snapshot)
        elif now.timestamp() >= self._promotion:
            self._age(snapshot, now.timestamp())
            self._all()
        elif self.whole is not None and now - self.whole >= self.every and self._round_began is None:
            self._all()
        for sight in [sight for sight, at in self._again.items() if at <= now.timestamp()]:
            del self._again[sight]
            self._line_up([sight])

    def _age(self, snapshot: Snapshot, now: float) -> None:
        """Notes since when each policy has been what it is."""
        policies = snapshot.index.policies
        for key, policy in policies.items():
            known = self._in_force.get(key)
            if known is None or not _demands_the_same(known.policy, policy):
                self._in_force[key] = _InForce(policy, now)
                self._others_since = now
            else:
                known.policy = policy
        for key in self._in_force.keys() - policies.keys():
            del self._in_force[key]
            self._others_since = now
            self.denied_at.pop(key, None)
        ends = (_ends(policy) for policy in policies.values())
        self._promotion = min((end for end in ends if end > now), default=math.inf)

    def _all(self) -> None:
        """A round begins, unless one is under way: that ends when what it began with has been judged, though all is judged anew now."""
        if self._round_began is None:
            self._round_began = self.clock()
            self._round = set(self.pods.sights)
        self._line_up(self.pods.sights)

    def _end_round(self) -> None:
        """If all that it began with has been judged: also where so much goes on to be judged that a step is long."""
        if self._round_began is not None and not self._round:
            self.whole, self._round_began = self._round_began, None

    def _line_up(self, sights: Iterable[bytes]) -> None:
        for sight in sights:
            pods = self.pods.sights.get(sight)
            if pods:
                self._queue.add(_namespace(pods), sight)

    def _hurry(self, before: Snapshot | None, after: Snapshot) -> None:
        """A digest that is denied from now on is looked for before everything else."""
        denied = _denied(after) - (frozenset() if before is None else _denied(before))
        if denied:
            texts = [digest.encode() for digest in denied]
            for namespace, sight in self._queue:
                if any(text in sight for text in texts):
                    self._first.add(namespace, sight)

    def _next(self) -> _Work | None:
        """What is judged next: what is denied from now on, then by turns what has just started and what was judged once."""
        aside = sum(work.aside for work in self._tasks.values())
        quick = len(self._tasks) - aside < limits.RESCAN_AT_ONCE
        slow = aside < limits.RESCAN_AT_ONCE_ASIDE

        def at_once(_: str) -> bool:
            return quick

        def has_room(namespace: str) -> bool:
            return slow if namespace in self._slow else quick

        self._turn += 1
        turns = (self._fresh, self._queue) if self._turn % 2 else (self._queue, self._fresh)
        for waiting, may in ((self._first, at_once), *((one, has_room) for one in turns)):
            while (found := waiting.take(self._busy, may)) is not None:
                for other in (self._first, self._fresh, self._queue):
                    other.discard(*found)
                if found[1] in self.pods.sights:
                    namespace, sight = found
                    is_aside = may is has_room and namespace in self._slow
                    return _Work(namespace, sight, self.ticks(), is_aside, self._round_began)
        return None

    def _begin(self) -> bool:
        """Begins to judge what is next, if anything may be."""
        work = self._next()
        if work is None:
            return False
        self._busy.setdefault(work.namespace, set()).add(work.sight)
        self._tasks[asyncio.create_task(self._timed(work.sight))] = work
        return True

    def _set_aside(self) -> bool:
        """Gives the places of what takes long to others; whether there was any. Where too much is aside already, it is ended."""
        now = self.ticks()
        aside = sum(work.aside for work in self._tasks.values())
        found = False
        for task, work in self._tasks.items():
            if now - work.began < limits.RESCAN_SLOW_SECONDS or task.done() or task.cancelling():
                continue
            self._slow.add(work.namespace)
            if work.aside:
                continue
            found = True
            if aside < limits.RESCAN_AT_ONCE_ASIDE:
                work.aside = True
                aside += 1
            else:
                task.cancel()
        return found

    async def _timed(self, sight: bytes) -> bool:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._judge(sight)
        return loop.time() - began > limits.RESCAN_PAUSE / 10

    def _ended(self, task: asyncio.Task[bool]) -> bool:
        """Makes room for another; whether something had to be fetched."""
        work = self._tasks.pop(task)
        self._busy[work.namespace].discard(work.sight)
        if not self._busy[work.namespace]:
            del self._busy[work.namespace]
        if task.cancelled():
            self._line_up([work.sight])
            return True
        if work.round == self._round_began:
            self._round.discard(work.sight)
        if self.ticks() - work.began < limits.RESCAN_SLOW_SECONDS:
            self._slow.discard(work.namespace)
        error = task.exception()
        if error is not None:
            self._give_up(work, error)
            return True
        self._failed.pop(work.sight, None)
        return task.result()

    def _give_up(self, work: _Work, error: BaseException) -> None:
        """An error of ours with some Pods is told once for their namespace, and costs nobody else anything.

        What was known of them is not known any more: nobody is evicted for it.
        """
        if work.namespace not in self._failed.values():
            _log.error("namespace %s: some of what runs there cannot be judged", work.namespace, exc_info=error)
        self.results.pop(work.sight, None)
        pods = self.pods.sights.get(work.sight)
        if pods is None:
            return
        self._failed[work.sight] = work.namespace
        for key in [key for key in self.drifts if key[0] in pods]:
            del self.drifts[key]
        self._try_again(work.sight)

    def _try_again(self, sight: bytes) -> None:
        """Later, and each time later still."""
        before = self._tries.get(sight)
        wait = limits.RESCAN_AGAIN_SECONDS if before is None else min(2 * before, limits.MAX_RESCAN_AGAIN_SECONDS)
        self._tries[sight] = wait
        # Should something of it end before then, it is judged then.
        self._again[sight] = min(self.clock().timestamp() + wait, self._again.get(sight, math.inf))

    def _look_when_it_ends(self, sight: bytes, found: Examined) -> None:
        """Judges it again when something of it has ended, unless that is done anyhow by then; and some hours before, what can be renewed."""
        now, lines = self.clock(), (*found.result.runs, *found.result.written)
        ends = [later(line.ends.at, _AFTER_END) for line in lines if line.ends is not None]
        if found.list_ends is not None:
            ahead, over = later(found.list_ends, -_LIST_AHEAD), later(found.list_ends, _AFTER_END)
            ends += [ahead, over, *([now + _LIST_AGAIN] if ahead <= now < over else ())]
        soon = [end.timestamp() for end in ends if now < end < now + self.every]
        if soon:
            self._again[sight] = min([*soon, self._again.get(sight, math.inf)])

    def _forget(self) -> None:
        """Drops what is known of what has ended."""
        self._round.intersection_update(self.pods.sights)
        for sight in self.results.keys() - self.pods.sights.keys():
            del self.results[sight]
        known: dict[bytes, Any]
        for known in (self._again, self._tries, self._failed):
            for sight in known.keys() - self.pods.sights.keys():
                del known[sight]
        for key in [key for key in self.drifts if key[0] not in self.pods.by_uid]:
            del self.drifts[key]
        if self._slow or self._unlabelled:
            there = {_namespace(pods) for pods in self.pods.sights.values()}
            self._slow &= there
            self._unlabelled &= there

    # ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _judge(self, packed: bytes) -> None:
        sight = Sight.unpack(packed)
        labels = self.store.snapshot.namespace_labels(sight.question.who.namespace)
        if labels is None:
            self._unlabelled.add(sight.question.who.namespace)
        else:
            self._unlabelled.discard(sight.question.who.namespace)
        if not self.scope.includes(labels) or not any(sight.running):
            self.results.pop(packed, None)
            return
        found = await Examiner(self.asked, self.clock).examine(sight)
        result = found.result
        self.results[packed] = result
        for line in (*result.runs, *result.written):
            if line.policy in self._in_force and line.ending in {"denied", "undecided"}:
                self.denied_at[line.policy] = self.clock()
        self._look_when_it_ends(packed, found)
        comparison = Comparison(self.asked, sight, found, partial(self._admitting, sight.question.who.namespace))
        for pod in list(self.pods.sights.get(packed, {}).values()):
            async for where, drift in comparison.drifts(pod):
                if drift is None:
                    self.drifts.pop((pod.uid, where), None)
                else:
                    self.drifts[pod.uid, where] = drift
            pod.good = comparison.good(pod)
        self._look_later(packed, comparison)

    def _look_later(self, packed: bytes, comparison: Comparison) -> None:
        """Judges it again soon, if something could not be read, or is not known yet."""
        sight, found = comparison.sight, comparison.found
        if comparison.is_early:
            self._again[packed] = min(self.clock().timestamp() + _EARLY_SECONDS, self._again.get(packed, math.inf))
        unread = found.unread | comparison.unread
        if unread or not found.result.is_settled:
            self._try_again(packed)
        else:
            self._tries.pop(packed, None)
        if unread:
            _log.info(
                "namespace %s: whether %s was exchanged cannot be said, its manifest cannot be read",
                sight.question.who.namespace,
                ", ".join(sorted(unread)),
            )

    def _admitting(self, namespace: str, key: PolicyKey) -> Admitting | None:
        known = self._in_force.get(key)
        if known is None:
            return None
        standing = self.scope.standing
        beside = self._beside.until(self.store.snapshot, namespace, key, self.clock().timestamp())
        since = max(known.since, self._began or 0.0, standing.since, _ends(known.policy), beside)
        if known.policy.scope.fallback:
            since = max(since, self._others_since)
        terms = known.policy.terms
        return Admitting(since, standing.until, terms.on_outage.action != "warn", terms.afterwards.on_drift)


def _ends(policy: Policy) -> float:
    """When its audit ends, or has ended; 0 for a policy that has none."""
    until = policy.terms.afterwards.audit_until
    return 0.0 if until is None else max(0.0, until.timestamp())


def _demands_the_same(one: Policy, other: Policy) -> bool:
    """Whether what one has admitted the other would have admitted: they differ in what follows drift at most."""
    return one is other or replace(one, terms=replace(one.terms, afterwards=other.terms.afterwards)) == other


def _namespace(pods: Mapping[str, Pod]) -> str:
    return next(iter(pods.values())).namespace


def _denied(snapshot: Snapshot) -> frozenset[Digest]:
    return frozenset().union(*(policy.terms.deny.digests for policy in snapshot.index.policies.values()))


def _touched(before: Snapshot | None, after: Snapshot) -> frozenset[str] | None:
    """The namespaces in which something may be judged otherwise; None: in all of them."""
    if before is None:
        return None
    names: set[str] = set()
    if before.index is not after.index:
        old, new = before.index.policies, after.index.policies
        for key in old.keys() | new.keys():
            if old.get(key) is new.get(key):
                continue
            if key.namespace is None:
                return None
            names.add(key.namespace)
    for was, now in ((before.namespaces, after.namespaces), (before.exceptions, after.exceptions)):
        if was is not now:
            names |= {name for name in was.keys() | now.keys() if was.get(name) != now.get(name)}
    return frozenset(names)
