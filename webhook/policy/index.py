"""Which policies speak about an image, for the price of a few dictionary look-ups however many there are.

Every policy is filed under its namespace and the literal beginnings of its globs; an image is looked up under each beginning
of its own name. Only globs whose host has a wildcard are looked at one by one.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from webhook.image import ImageReference
from webhook.policy.policy import ContainerKind, Labels, Policy, Workload
from webhook.verdict import PolicyKey

_ANYWHERE: Final = ""


def _drawer(namespace: str, beginning: str) -> str:
    """Where policies for a namespace and a literal beginning are filed.

    An empty namespace: every one; an empty beginning: every image. One string, because there are as many as policies.
    """
    return f"{namespace} {beginning}"


_Filed = Policy | tuple[Policy, ...]
"""What lies in a drawer: most often one policy, and then without a tuple around it."""


@dataclass(frozen=True, slots=True)
class Match:
    """What speaks about one image.

    `covering`: all of them must be satisfied. `denying`: their deny lists apply, whether they cover it or not. `uncertain`:
    they select by labels of a namespace whose labels are not known, so nobody can tell.
    """

    covering: tuple[Policy, ...] = ()
    denying: tuple[Policy, ...] = ()
    uncertain: tuple[Policy, ...] = ()


NOTHING: Final = Match()


class PolicyIndex:
    """All policies in force. Never changed: `replacing` gives another one."""

    __slots__ = ("_drawers", "policies")

    def __init__(self, policies: Mapping[PolicyKey, Policy], drawers: dict[str, _Filed]) -> None:
        self.policies = policies
        self._drawers = drawers

    @classmethod
    def of(cls, policies: Iterable[Policy]) -> "PolicyIndex":
        """The index of these policies; the last of two with one key counts."""
        by_key = {policy.key: policy for policy in policies}
        drawers: dict[str, _Filed] = {}
        for policy in by_key.values():
            for drawer in _drawers(policy):
                _file(drawers, drawer, policy)
        return cls(by_key, drawers)

    def replacing(self, old: Policy | None, new: Policy | None) -> "PolicyIndex":
        """This index without `old` and with `new`; it costs what the two policies cost, and one flat copy."""
        policies, drawers = dict(self.policies), self._drawers.copy()
        if old is not None:
            policies.pop(old.key, None)
            for drawer in _drawers(old):
                for policy in _in(drawers.pop(drawer)):
                    if policy.key != old.key:
                        _file(drawers, drawer, policy)
        if new is not None:
            policies[new.key] = new
            for drawer in _drawers(new):
                _file(drawers, drawer, new)
        return PolicyIndex(policies, drawers)

    def match(self, image: ImageReference, who: Workload, kind: ContainerKind, labels: Labels | None) -> Match:
        """What speaks about this image in this kind of container. `labels` are the namespace's; None: not known."""
        found: dict[PolicyKey, Policy] = {}
        uncertain: list[Policy] = []
        for policy in self._filed(image, who.namespace):
            if policy.key in found or not _speaks_about(policy, image, who, kind):
                continue
            found[policy.key] = policy
            meant = policy.scope.namespaces
            selector = None if meant is None else meant.selector
            if selector is None:
                continue
            if labels is None:
                uncertain.append(policy)
            elif not selector.matches(labels):
                del found[policy.key]
        if not found:
            return NOTHING
        certain = sorted((policy for policy in found.values() if policy not in uncertain), key=_order)
        covering = tuple(policy for policy in certain if policy.covers_images)
        # A fallback gives way to another cluster policy and to nothing else: a namespaced one only ever adds (attack M-09).
        if any(policy.key.namespace is None and not policy.scope.fallback for policy in covering):
            covering = tuple(policy for policy in covering if not policy.scope.fallback)
        # Only here does a namespaced policy take something away, and only what the cluster policy itself hands over.
        if any(policy.key.namespace is not None for policy in covering):
            covering = tuple(policy for policy in covering if not policy.scope.delegates(who.namespace, image))
        return Match(covering, tuple(policy for policy in certain if policy.terms.deny), tuple(uncertain))

    def _filed(self, image: ImageReference, namespace: str) -> Iterator[Policy]:
        drawers = self._drawers
        repository = image.repository
        name = f"{repository.registry}/{repository.path}"
        end = len(repository.registry)
        yield from _in(drawers.get(_drawer(namespace, "")))
        yield from _in(drawers.get(_drawer(_ANYWHERE, "")))
        while True:
            beginning = name[:end]
            yield from _in(drawers.get(_drawer(namespace, beginning)))
            yield from _in(drawers.get(_drawer(_ANYWHERE, beginning)))
            if end == len(name):
                return
            end = name.find("/", end + 1)
            if end < 0:
                end = len(name)


def _in(drawer: _Filed | None) -> tuple[Policy, ...]:
    if drawer is None:
        return ()
    return drawer if isinstance(drawer, tuple) else (drawer,)


def _file(drawers: dict[str, _Filed], drawer: str, policy: Policy) -> None:
    there = drawers.get(drawer)
    drawers[drawer] = policy if there is None else (*_in(there), policy)


def _order(policy: Policy) -> tuple[str, str]:
    return policy.key.namespace or "", policy.key.name


def _drawers(policy: Policy) -> set[str]:
    """Where the policy is filed: each of its namespaces, as far as they can be named, with each beginning."""
    if policy.key.namespace is not None:
        namespaces = [policy.key.namespace]
    elif (match := policy.scope.namespaces and policy.scope.namespaces.match) and all(
        glob.is_literal for glob in match
    ):
        namespaces = [glob.pattern for glob in match]
    else:
        namespaces = [_ANYWHERE]
    return {_drawer(namespace, glob.literal or "") for namespace in namespaces for glob in policy.images}


def _speaks_about(policy: Policy, image: ImageReference, who: Workload, kind: ContainerKind) -> bool:
    """Everything but the labels of the namespace."""
    return (
        any(glob.matches(image) for glob in policy.images)
        and not any(glob.excludes(image) for glob in policy.exclude)
        and (policy.key.namespace is None or policy.key.namespace == who.namespace)
        and (policy.scope.namespaces is None or policy.scope.namespaces.includes(who.namespace))
        and policy.scope.workloads.includes(who, kind)
    )
