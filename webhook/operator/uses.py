"""Uses of exceptions: counted in their status, where all replicas see the same number, and told to whoever should know.

A use with a bound is written before the Pod is admitted, on the condition that nobody wrote in between: of two replicas that take the
last one, one gets it. All else (a count without a bound, Events, the notification) follows behind the answer, as far as it can be done.
"""

import asyncio
import datetime as dt
import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from webhook import limits
from webhook.judge import explain
from webhook.kube import KubeError
from webhook.kube.client import Document, Kube
from webhook.moment import rfc3339
from webhook.observe.notify import Notifier
from webhook.operator.events import warning
from webhook.operator.exceptions import Exceptions, path_of, read
from webhook.parsing import Invalid
from webhook.policy.document import API_VERSION
from webhook.policy.exception import TrustException
from webhook.policy.exceptionparse import KIND, uses_of
from webhook.trust import Unavailable
from webhook.verdict import ExceptionKey, Use

_log = logging.getLogger(__name__)

_TRIES: Final = 8
_PAUSE_SECONDS: Final = 0.05
_COUNT_SECONDS: Final = 5.0

_Check = Callable[[Document, int], bool]
"""Whether a use may be added to this document, which has been used so often."""


class ClusterUses:
    """Implements `judge.decide.Uses` and `admission.server.Tell`. `exceptions`: what is known without asking."""

    def __init__(
        self, kube: Kube, exceptions: Exceptions, clock: Callable[[], dt.datetime], notifier: Notifier | None = None
    ) -> None:
        self._kube = kube
        self.exceptions = exceptions
        self._clock = clock
        self._notifier = notifier
        self._turns: WeakValueDictionary[ExceptionKey, asyncio.Lock] = WeakValueDictionary()
        self._written: dict[tuple[ExceptionKey, str], int] = {}
        self._owed: Counter[tuple[ExceptionKey, str]] = Counter()
        self._untold: asyncio.Queue[Use] = asyncio.Queue(limits.MAX_UNTOLD_USES)

    def uses(self, exception: TrustException) -> int:
        """How often it has been used, as far as this replica knows."""
        known = self.exceptions.known.get(exception.key)
        told = known.uses if known is not None and known.exception == exception else 0
        return max(told, self._written.get((exception.key, exception.uid), 0))

    def is_used_up(self, exception: TrustException) -> bool:
        """Whether none is left, as far as is known without waiting."""
        return exception.max_uses is not None and self.uses(exception) >= exception.max_uses

    async def spend(self, exception: TrustException, deadline: float) -> bool:
        """See `judge.decide.Uses`. An answer that is lost on the way back costs a use and admits nothing."""

        def check(document: Document, uses: int) -> bool:
            # Withdrawn or changed since the review began: it is not what the ruling rests on any more.
            if read(document)[0] != exception:
                raise Unavailable("it has been changed meanwhile")
            return exception.max_uses is None or uses < exception.max_uses

        turn = self._turns.setdefault(exception.key, asyncio.Lock())
        try:
            # One at a time in this replica, so that only other replicas can come between.
            async with asyncio.timeout_at(deadline), turn:
                return await self._add(exception.key, exception.uid, 1, check)
        except TimeoutError as e:
            raise Unavailable("no answer in time") from e
        except (KubeError, Invalid) as e:
            raise Unavailable(str(e)) from e

    async def _add(self, key: ExceptionKey, uid: str, count: int, check: _Check) -> bool:
        """Adds `count` uses where `check` admits it, which sees what is there now. Raises `Unavailable`, `KubeError` or `Invalid`."""
        path = path_of(key)
        for _ in range(_TRIES):
            found = await self._kube.get(path)
            if found is None or found["metadata"].get("uid", "") != uid:
                raise Unavailable("it is not there any more")
            uses = uses_of(found.get("status"))
            self._written[key, uid] = uses
            if not check(found, uses):
                return False
            metadata = {"uid": uid, "resourceVersion": found["metadata"]["resourceVersion"]}
            status: dict[str, Any] = {"uses": uses + count, "lastUsed": rfc3339(self._clock())}
            try:
                await self._kube.merge(f"{path}/status", {"metadata": metadata, "status": status})
            except KubeError as e:
                if not e.is_conflict:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS * random.random())  # noqa: S311 - it spreads attempts, and guards nothing
                continue
            self._written[key, uid] = uses + count
            return True
        raise Unavailable("others write to it all the time")

    # ── behind the answer ────────────────────────────────────────────────────────────────────────────────────────────
    def tell(self, use: Use) -> None:
        """Notes a use that has been; never waits. Where too many wait to be told, this one is only counted."""
        key = use.excuse.key
        known = self.exceptions.known.get(key)
        if not use.excuse.counted and known is not None and known.exception is not None:
            self._owed[key, known.exception.uid] += 1
        try:
            self._untold.put_nowait(use)
        except asyncio.QueueFull:
            _log.warning("a use of exception %s is told nobody: %d wait already", key, self._untold.qsize())

    async def work(self) -> None:
        """Counts and tells until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._count())
            tasks.create_task(self._tell())

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(_COUNT_SECONDS)
            await self.count_owed()

    async def count_owed(self) -> None:
        """Writes down what has been used without a bound since the last time; what cannot be written stays owed."""
        there = {(key, one.exception.uid) for key, one in self.exceptions.known.items() if one.exception is not None}
        for which in (self._owed.keys() | self._written.keys()) - there:
            self._owed.pop(which, None)
            self._written.pop(which, None)
        for which, count in list(self._owed.items()):
            try:
                await self._add(*which, count, lambda *_: True)
            except (KubeError, Invalid, Unavailable) as e:
                _log.info("uses of exception %s are not counted yet: %s", which[0], e)
                continue
            self._owed[which] -= count
            if not self._owed[which]:
                del self._owed[which]

    async def _tell(self) -> None:
        while True:
            await self.tell_of(await self._untold.get())

    async def tell_of(self, use: Use) -> None:
        """An Event on the exception and one on the Pod, and the notification; each as far as it can be done."""
        key = use.excuse.key
        known = self.exceptions.known.get(key)
        exception = {"apiVersion": API_VERSION, "kind": KIND, "name": key.name, "namespace": key.namespace}
        if known is not None:
            exception["uid"] = known.document["metadata"].get("uid", "")
        pod = {"apiVersion": "v1", "kind": "Pod", "name": use.name, "namespace": use.namespace, "uid": use.uid}
        lines = explain.denial([explain.sentence(ruling) for ruling in use.rulings])
        await self._post(exception, f"Pod {use.namespace}/{use.name}: {lines}", use.at)
        if use.name and use.uid:
            await self._post(pod, lines, use.at)
        if self._notifier is not None:
            await self._notifier.send(explain.notice(use))

    async def _post(self, about: Document, message: str, now: dt.datetime) -> None:
        try:
            await self._kube.create(*warning(about, "ExceptionUsed", message, now))
        except KubeError as e:
            _log.info(
                "an Event about %s %s/%s was not written: %s", about["kind"], about["namespace"], about["name"], e
            )
