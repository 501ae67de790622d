"""The policies in force, as one immutable snapshot that is replaced as a whole.

A review ends under the snapshot it began with, so it can never see half of a change.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from webhook.policy import references
from webhook.policy.index import PolicyIndex
from webhook.policy.policy import Labels, Policy
from webhook.verdict import PolicyKey

_NAME_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Policies and the labels of namespaces at one moment."""

    index: PolicyIndex
    namespaces: Mapping[str, Labels] = field(default_factory=dict)

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
            self._replace(index, self.snapshot.namespaces)

    def replace_all(self, policies: Iterable[Policy]) -> None:
        """Brings exactly these policies into force."""
        by_key = {policy.key: policy for policy in policies}
        index = PolicyIndex.of(references.linked(policy, by_key) for policy in by_key.values())
        if index.policies != self.snapshot.index.policies:
            self._replace(index, self.snapshot.namespaces)

    def put_namespace(self, name: str, labels: Labels) -> None:
        """Remembers the labels of a namespace. Its name is a label that nobody can change."""
        known = {**labels, _NAME_LABEL: name}
        if self.snapshot.namespaces.get(name) != known:
            self._replace(self.snapshot.index, {**self.snapshot.namespaces, name: known})

    def replace_namespaces(self, namespaces: Mapping[str, Labels]) -> None:
        """Remembers exactly these namespaces."""
        known = {name: {**labels, _NAME_LABEL: name} for name, labels in namespaces.items()}
        if known != self.snapshot.namespaces:
            self._replace(self.snapshot.index, known)

    def discard_namespace(self, name: str) -> None:
        """Forgets a namespace."""
        if name not in self.snapshot.namespaces:
            return
        left = {known: labels for known, labels in self.snapshot.namespaces.items() if known != name}
        self._replace(self.snapshot.index, left)

    def _replace(self, index: PolicyIndex, namespaces: Mapping[str, Labels]) -> None:
        self.snapshot = Snapshot(index, namespaces)
