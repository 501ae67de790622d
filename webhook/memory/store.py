"""The policies and exceptions in force, as one immutable snapshot that is replaced as a whole.

A review ends under the snapshot it began with, so it can never see half of a change.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from webhook.policy import references
from webhook.policy.exception import TrustException
from webhook.policy.index import PolicyIndex
from webhook.policy.policy import Labels, Policy
from webhook.verdict import ExceptionKey, PolicyKey

_NAME_LABEL = "kubernetes.io/metadata.name"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Policies, the labels of namespaces, and the exceptions of each namespace that has any, at one moment."""

    index: PolicyIndex
    namespaces: Mapping[str, Labels] = field(default_factory=dict)
    exceptions: Mapping[str, tuple[TrustException, ...]] = field(default_factory=dict)

    def namespace_labels(self, name: str) -> Labels | None:
        """The labels of a namespace; None if they are not known."""
        return self.namespaces.get(name)


class PolicyStore:
    """Holds the snapshot; what changes nothing leaves it as it is, and so everything that rests on it.

    Not ready until the first full list of policies has been put in.
    """

    def __init__(self) -> None:
        self.snapshot = Snapshot(PolicyIndex.of(()))
        self.is_ready = False

    def set_ready(self) -> None:
        """Says that every policy there is has been put in."""
        self.is_ready = True

    def put(self, policy: Policy) -> None:
        """Brings a policy into force, in place of the one with the same key."""
        self._follow(policy.key, {**self.snapshot.index.policies, policy.key: policy})

    def discard(self, key: PolicyKey) -> None:
        """Takes a policy out of force."""
        policies = self.snapshot.index.policies
        self._follow(key, {known: policy for known, policy in policies.items() if known != key})

    def _follow(self, changed: PolicyKey, policies: Mapping[PolicyKey, Policy]) -> None:
        """Makes these the policies in force, of which only `changed` is another; those that refer to it change with it."""
        index = self.snapshot.index
        for key in references.touched_by(changed, policies):
            old = index.policies.get(key)
            new = references.linked(policies[key], policies) if key in policies else None
            if old != new:
                index = index.replacing(old, new)
        if index is not self.snapshot.index:
            self._replace_index(index)

    def replace_all(self, policies: Iterable[Policy]) -> None:
        """Brings exactly these policies into force."""
        by_key = {policy.key: policy for policy in policies}
        index = PolicyIndex.of(references.linked(policy, by_key) for policy in by_key.values())
        if index.policies != self.snapshot.index.policies:
            self._replace_index(index)

    def put_namespace(self, name: str, labels: Labels) -> None:
        """Remembers the labels of a namespace. Its name is a label that nobody can change."""
        known = {**labels, _NAME_LABEL: name}
        if self.snapshot.namespaces.get(name) != known:
            self._replace_namespaces({**self.snapshot.namespaces, name: known})

    def replace_namespaces(self, namespaces: Mapping[str, Labels]) -> None:
        """Remembers exactly these namespaces."""
        known = {name: {**labels, _NAME_LABEL: name} for name, labels in namespaces.items()}
        if known != self.snapshot.namespaces:
            self._replace_namespaces(known)

    def discard_namespace(self, name: str) -> None:
        """Forgets a namespace."""
        if name not in self.snapshot.namespaces:
            return
        self._replace_namespaces(_without(self.snapshot.namespaces, name))

    def put_exception(self, exception: TrustException) -> None:
        """Brings an exception into force, as far as it is, in place of the one with the same key."""
        known = self._exceptions(exception.key.namespace)
        if known.get(exception.key) != exception:
            self._put_exceptions(exception.key.namespace, {**known, exception.key: exception})

    def discard_exception(self, key: ExceptionKey) -> None:
        """Takes an exception out of force."""
        known = self._exceptions(key.namespace)
        if key in known:
            del known[key]
            self._put_exceptions(key.namespace, known)

    def replace_exceptions(self, exceptions: Iterable[TrustException]) -> None:
        """Brings exactly these exceptions into force."""
        found: dict[str, dict[ExceptionKey, TrustException]] = {}
        for exception in exceptions:
            found.setdefault(exception.key.namespace, {})[exception.key] = exception
        ordered = {namespace: _ordered(of_namespace) for namespace, of_namespace in found.items()}
        if ordered != self.snapshot.exceptions:
            self.snapshot = replace(self.snapshot, exceptions=ordered)

    def _exceptions(self, namespace: str) -> dict[ExceptionKey, TrustException]:
        return {one.key: one for one in self.snapshot.exceptions.get(namespace, ())}

    def _put_exceptions(self, namespace: str, exceptions: Mapping[ExceptionKey, TrustException]) -> None:
        others = _without(self.snapshot.exceptions, namespace)
        # A namespace without any is left out, so that its reviews are spared the question.
        known = {**others, namespace: _ordered(exceptions)} if exceptions else others
        self.snapshot = replace(self.snapshot, exceptions=known)

    def _replace_index(self, index: PolicyIndex) -> None:
        self.snapshot = replace(self.snapshot, index=index)

    def _replace_namespaces(self, namespaces: Mapping[str, Labels]) -> None:
        self.snapshot = replace(self.snapshot, namespaces=namespaces)


def _without(mapping: Mapping[str, T], name: str) -> dict[str, T]:
    return {known: value for known, value in mapping.items() if known != name}


def _ordered(exceptions: Mapping[ExceptionKey, TrustException]) -> tuple[TrustException, ...]:
    return tuple(sorted(exceptions.values(), key=lambda one: one.key.name))
