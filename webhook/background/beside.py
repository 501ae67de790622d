"""What beside a policy may have let something in, and until when: exceptions, and other labels of the namespace. Pure; time is an argument."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from webhook import limits
from webhook.memory.store import Snapshot
from webhook.policy.exception import TrustException
from webhook.policy.policy import Labels
from webhook.verdict import PolicyKey


@dataclass(slots=True)
class Beside:
    """As the leader has seen it in its term. Seconds since the epoch."""

    _excused: dict[tuple[str, PolicyKey], float] = field(default_factory=dict)
    """Until when there was an exception that is not there any more, by namespace and policy; whose was there last stands last."""
    _labelled: dict[str, float] = field(default_factory=dict)
    """When a namespace got labels by which something else is judged there than before."""
    _floor: float = -math.inf
    """The latest of what had no place any more: as good as everybody's."""

    def changed(self, before: Snapshot, after: Snapshot, includes: Callable[[Labels], bool], now: float) -> None:
        """Notes what was in force and is not any more. `includes`: whether admission judges what is in a namespace with such labels."""
        if before.exceptions is not after.exceptions:
            for namespace, known in before.exceptions.items():
                there = after.exceptions.get(namespace, ())
                if there is not known:
                    self._went(namespace, [one for one in known if one not in there], now)
        if before.namespaces is not after.namespaces:
            for namespace, labels in after.namespaces.items():
                old = before.namespaces.get(namespace)
                if (
                    old is not None
                    and old != labels
                    and (includes(old) != includes(labels) or _meant(after, old, labels))
                ):
                    self._labelled[namespace] = now
            for namespace in self._labelled.keys() - after.namespaces.keys():
                del self._labelled[namespace]

    def until(self, snapshot: Snapshot, namespace: str, policy: PolicyKey, now: float) -> float:
        """Up to when something else than the policy may have let something into a namespace."""
        known = snapshot.exceptions.get(namespace, ())
        there = (_end(one, now) for one in known if policy in one.policies)
        gone = self._excused.get((namespace, policy), -math.inf)
        return max(*there, gone, self._labelled.get(namespace, -math.inf), self._floor)

    def _went(self, namespace: str, exceptions: Iterable[TrustException], now: float) -> None:
        for one in exceptions:
            end = _end(one, now)
            if end == -math.inf:
                continue
            for policy in one.policies:
                before = self._excused.pop((namespace, policy), -math.inf)
                self._excused[namespace, policy] = max(before, end)
        while len(self._excused) > limits.MAX_PAST_EXCUSES:
            self._floor = max(self._floor, self._excused.pop(next(iter(self._excused))))


def _meant(snapshot: Snapshot, old: Labels, new: Labels) -> bool:
    """Whether some policy means only one of these."""
    scopes = (policy.scope.namespaces for policy in snapshot.index.policies.values())
    selectors = (meant.selector for meant in scopes if meant is not None and meant.selector is not None)
    return any(selector.matches(old) != selector.matches(new) for selector in selectors)


def _end(exception: TrustException, now: float) -> float:
    """Until when it has let something in, as it is now: without an approval it never has."""
    if exception.approved_by is None or exception.approved_by == exception.requested_by:
        return -math.inf
    return min(now, exception.expires_at.timestamp())
