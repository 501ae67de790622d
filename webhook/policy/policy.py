"""Policies as values: equal content, equal policy. Made by `parse`, read by `index` and the judge."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, assert_never

from webhook.image import Digest, ImageReference
from webhook.policy.globs import ImageGlob, NameGlob, NamespacedGlob
from webhook.policy.require import Expr
from webhook.trust import Device, Signer, Unresolved
from webhook.verdict import Mode, PolicyKey

ContainerKind = Literal["main", "init", "ephemeral", "volume"]
"""Where in a Pod an image stands."""

CONTAINER_KINDS: Final[frozenset[ContainerKind]] = frozenset({"main", "init", "ephemeral", "volume"})

TagRule = Literal["allow", "refuse", "pin"]
"""Whether an image may be named by tag alone; `pin`: in a Pod that is about to run, the digest stands beside it."""

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Workload:
    """Who wants to run images: all that policies select by."""

    namespace: str
    service_account: str
    labels: Labels = field(hash=False)


@dataclass(frozen=True, slots=True)
class Expression:
    """One of a selector's `matchExpressions`."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: frozenset[str]

    def matches(self, labels: Labels) -> bool:
        """As Kubernetes reads it: `NotIn` and `DoesNotExist` hold where the label is missing."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
            case _:
                assert_never(self.operator)


@dataclass(frozen=True, slots=True)
class Selector:
    """A Kubernetes label selector; all of it must hold."""

    labels: frozenset[tuple[str, str]]
    expressions: tuple[Expression, ...]

    def matches(self, labels: Labels) -> bool:
        """Whether an object with these labels is selected."""
        return all(labels.get(key) == value for key, value in self.labels) and all(
            expression.matches(labels) for expression in self.expressions
        )


@dataclass(frozen=True, slots=True)
class NamespaceMatch:
    """The namespaces a cluster policy is for; empty `match`: all."""

    match: tuple[NameGlob, ...] = ()
    exclude: tuple[NameGlob, ...] = ()
    selector: Selector | None = None

    def includes(self, name: str) -> bool:
        """Whether the name is one of those meant, labels left aside."""
        wanted = not self.match or any(glob.matches(name) for glob in self.match)
        return wanted and not any(glob.matches(name) for glob in self.exclude)


@dataclass(frozen=True, slots=True)
class WorkloadMatch:
    """The workloads and containers a policy is for; empty `service_accounts`: all."""

    selector: Selector | None = None
    service_accounts: tuple[NameGlob, ...] = ()
    containers: frozenset[ContainerKind] = CONTAINER_KINDS

    def includes(self, who: Workload, kind: ContainerKind) -> bool:
        """Whether an image in this kind of container of this workload is meant."""
        return (
            kind in self.containers
            and (not self.service_accounts or any(glob.matches(who.service_account) for glob in self.service_accounts))
            and (self.selector is None or self.selector.matches(who.labels))
        )


ALL_WORKLOADS: Final = WorkloadMatch()


@dataclass(frozen=True, slots=True)
class Delegation:
    """Where a namespaced policy that covers an image stands in for the cluster policy."""

    namespaces: tuple[NameGlob, ...]
    images: tuple[NamespacedGlob, ...]

    def includes(self, namespace: str, image: ImageReference) -> bool:
        """Whether that namespace may decide about that image."""
        return any(glob.matches(namespace) for glob in self.namespaces) and any(
            glob.within(namespace).excludes(image) for glob in self.images
        )


@dataclass(frozen=True, slots=True)
class SignerRef:
    """A signer of a ClusterTrustPolicy, as another policy refers to it."""

    policy: str
    signer: str

    def __str__(self) -> str:
        return f"{self.policy}/{self.signer}"


@dataclass(frozen=True, slots=True)
class NamedSigner:
    """A signer and what `require` calls it. `devices` hold its keys, if the policy demands that.

    `ref`: it is another policy's, and `signer` what that policy said when the two were last seen side by side (`references`).
    `dangers`: of a signer whose keys could not be read, what is dangerous about it all the same.
    """

    name: str
    signer: Signer | Unresolved
    devices: tuple[Device, ...] = ()
    ref: SignerRef | None = None
    dangers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DenyList:
    """What is refused whatever else holds. `keys` are identities as proofs carry them."""

    digests: frozenset[Digest] = frozenset()
    keys: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.digests or self.keys)

    @property
    def names_signers(self) -> bool:
        """Whether something on it can be told from evidence alone, so that nothing is lifted that could not be read."""
        return bool(self.keys)


NO_DENIALS: Final = DenyList()


@dataclass(frozen=True, slots=True)
class Policy:
    """A TrustPolicy or ClusterTrustPolicy.

    `require` is None for a policy that only denies. `faults`: it is broken, and denies what it covers.
    """

    key: PolicyKey
    images: tuple[ImageGlob, ...]
    exclude: tuple[ImageGlob, ...] = ()
    namespaces: NamespaceMatch | None = None
    workloads: WorkloadMatch = ALL_WORKLOADS
    fallback: bool = False
    delegate: tuple[Delegation, ...] = ()
    signers: tuple[NamedSigner, ...] = ()
    require: Expr | None = None
    tags: TagRule = "allow"
    mode: Mode = "enforce"
    deny: DenyList = NO_DENIALS
    message: str | None = None
    faults: tuple[str, ...] = ()

    def delegates(self, namespace: str, image: ImageReference) -> bool:
        """Whether a policy of that namespace that covers the image stands in for this one."""
        return any(delegation.includes(namespace, image) for delegation in self.delegate)

    @property
    def refers(self) -> bool:
        """Whether some signer of it is another policy's."""
        return any(named.ref is not None for named in self.signers)

    @property
    def covers_images(self) -> bool:
        """Whether it demands something of the images it names; a policy that only denies does not."""
        return bool(self.signers or self.faults)
