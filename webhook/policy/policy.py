"""Policies as values: equal content, equal policy. Made by `parse`, read by `index` and the judge."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, assert_never

from webhook.image import Digest, ImageReference
from webhook.policy import afterwards
from webhook.policy.afterwards import Afterwards
from webhook.policy.attestation import Attested
from webhook.policy.globs import ImageGlob, NameGlob, NamespacedGlob
from webhook.policy.names import Name
from webhook.policy.outage import DENY, OnOutage
from webhook.policy.require import Expr, names
from webhook.policy.where import Where
from webhook.policy.window import Windowed
from webhook.trust import Device, Signer, Unresolved
from webhook.verdict import Mode, PolicyKey, Proof

ContainerKind = Literal["main", "init", "ephemeral", "volume"]
"""Where in a Pod an image stands."""

CONTAINER_KINDS: Final[frozenset[ContainerKind]] = frozenset({"main", "init", "ephemeral", "volume"})

TagRule = Literal["allow", "refuse", "pin"]
"""Whether an image may be named by tag alone; `pin`: in a Pod that is about to run, the digest stands beside it."""

Platforms = Literal["index", "all", "any"]
"""What must satisfy where an image is an index: itself, or all or any of the images of platforms in it."""

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
    `attests`: it can make attestations, too. `signs`: what satisfies it is a signature, which has an age. `never`: no image can satisfy it.
    """

    name: str
    signer: Signer | Unresolved
    devices: tuple[Device, ...] = ()
    ref: SignerRef | None = None
    dangers: tuple[str, ...] = ()
    attests: bool = False
    signs: bool = True
    never: bool = False

    @property
    def unread(self) -> str | None:
        """Why it is not known what it stands for; None if it is."""
        if not isinstance(self.signer, Unresolved):
            return None
        what = "its key could not be read" if self.ref is None else f"it is signer {self.ref}"
        return f"{what}: {self.signer.reason}"


@dataclass(frozen=True, slots=True)
class WantedAttestation:
    """One of `attestations`, as it was written; `attested` says what it comes to. `signed_by` None: whoever can attest."""

    name: str
    predicate_types: tuple[str, ...]
    called: str
    signed_by: tuple[str, ...] | None = None
    where: Where | None = None
    max_age: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What one name of `require` stands for. `unread`: why that is not known. `never`: no image can satisfy it."""

    name: str
    signer: Signer | Unresolved
    is_attestation: bool = False
    unread: str | None = None
    never: bool = False


_DECREE: Final = "static"


@dataclass(frozen=True, slots=True)
class DenyList:
    """What is refused whatever else holds. `identities` and `serials` are as proofs carry them.

    `subjects`: whoever's name contains one of these.
    """

    digests: frozenset[Digest] = frozenset()
    identities: frozenset[str] = frozenset()
    serials: frozenset[str] = frozenset()
    signed_after: datetime | None = None
    signed_before: datetime | None = None
    subjects: frozenset[Name] = frozenset()

    @property
    def has_times(self) -> bool:
        """Whether it refuses signatures by when they were made."""
        return self.signed_after is not None or self.signed_before is not None

    @property
    def names_signers(self) -> bool:
        """Whether something on it can be told from evidence alone, so that nothing is lifted that could not be read."""
        return bool(self.identities or self.serials or self.subjects) or self.has_times

    def __bool__(self) -> bool:
        return bool(self.digests) or self.names_signers

    def refuses(self, proof: Proof, now: datetime) -> str | None:
        """How the signature behind a proof was made that it does not count, in words; None if it does count."""
        # A denied key of an authority takes all that it vouches for with it.
        denied = sorted({proof.identity, *proof.keys} & self.identities)
        if denied:
            return f"by {', '.join(denied)}"
        if any(subject <= proof.subject for subject in self.subjects):
            return f"by {proof.identity}"
        if proof.serial is not None and proof.serial in self.serials:
            return f"with certificate {proof.serial}"
        # A decree is no signature: it was not made at any time.
        if self.has_times and proof.format != _DECREE and self._is_time_refused(proof.signed_at, now):
            return f"at {proof.signed_at.isoformat() if proof.signed_at else 'an unknown time'}"
        return None

    def _is_time_refused(self, signed_at: datetime | None, now: datetime) -> bool:
        """Between the two. Without a trusted time a signature may have been made whenever its maker says, up to now."""
        if signed_at is None:
            return self.signed_after is None or now > self.signed_after
        is_after = self.signed_after is None or signed_at > self.signed_after
        return is_after and (self.signed_before is None or signed_at < self.signed_before)


NO_DENIALS: Final = DenyList()


def attested(wanted: WantedAttestation, signers: Sequence[NamedSigner]) -> Attested | Unresolved:
    """What an attestation comes to with the signers as they are known. How old theirs may be is its own affair."""
    by = [named for named in signers if wanted.signed_by is None or named.name in wanted.signed_by]
    unread = tuple(f'signer "{named.name}": {named.unread}' for named in by if named.unread is not None)
    able = tuple(named.signer for named in by if named.attests and not isinstance(named.signer, Unresolved))
    if not able:
        return Unresolved("; ".join(unread) or "none of its signers can attest")
    return Attested(able, wanted.predicate_types, wanted.called, wanted.where, wanted.max_age, unread)


# Thousands of policies that demand the same hold it once.
@functools.lru_cache(maxsize=1024)
def _demands(
    signers: tuple[NamedSigner, ...],
    attestations: tuple[WantedAttestation, ...],
    max_age: timedelta | None,
    required: frozenset[str],
) -> tuple[tuple[Demand, ...], tuple[Demand, ...]]:
    """What signers and attestations come to, and those of them that are required."""
    demands = [Demand(named.name, _young(named, max_age), unread=named.unread, never=named.never) for named in signers]
    for one in attestations:
        found = attested(one, signers)
        unread = found.reason if isinstance(found, Unresolved) else None
        demands.append(Demand(one.name, found, is_attestation=True, unread=unread))
    return tuple(demands), tuple(demand for demand in demands if demand.name in required)


def _young(named: NamedSigner, max_age: timedelta | None) -> Signer | Unresolved:
    """A signer whose signatures are not too old. A decree has no age."""
    if max_age is None or not named.signs or isinstance(named.signer, Unresolved):
        return named.signer
    return Windowed(named.signer, max_age=max_age)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a policy is for, images left aside, and where it stands among others. Most are for everybody, and share one."""

    namespaces: NamespaceMatch | None = None
    workloads: WorkloadMatch = ALL_WORKLOADS
    fallback: bool = False
    delegate: tuple[Delegation, ...] = ()

    def delegates(self, namespace: str, image: ImageReference) -> bool:
        """Whether a policy of that namespace that covers the image stands in for this one."""
        return any(delegation.includes(namespace, image) for delegation in self.delegate)


EVERYBODY: Final = Scope()


@dataclass(frozen=True, slots=True)
class Terms:
    """How a policy is meant, signers left aside. Most say nothing of it, and share one."""

    max_signature_age: timedelta | None = None
    platforms: Platforms = "index"
    tags: TagRule = "pin"
    mode: Mode = "enforce"
    deny: DenyList = NO_DENIALS
    message: str | None = None
    afterwards: Afterwards = afterwards.DEFAULT
    on_outage: OnOutage = DENY

    def mode_at(self, now: datetime) -> Mode:
        """What a denial does at that time: while its audit lasts, nothing."""
        until = self.afterwards.audit_until
        return self.mode if until is None or now >= until else "audit"


USUAL: Final = Terms()


@dataclass(frozen=True, slots=True)
class Policy:
    """A TrustPolicy or ClusterTrustPolicy.

    `require` is None for a policy that only denies. `faults`: it is broken, and denies what it covers. `demands` is what its signers
    and attestations come to, `wanted` those of them that `require` names: nothing else is asked for.
    """

    key: PolicyKey
    images: tuple[ImageGlob, ...]
    exclude: tuple[ImageGlob, ...] = ()
    scope: Scope = EVERYBODY
    signers: tuple[NamedSigner, ...] = ()
    attestations: tuple[WantedAttestation, ...] = ()
    require: Expr | None = None
    terms: Terms = USUAL
    faults: tuple[str, ...] = ()
    demands: tuple[Demand, ...] = field(init=False, compare=False, repr=False)
    wanted: tuple[Demand, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        required = frozenset() if self.require is None else names(self.require)
        demands, wanted = _demands(self.signers, self.attestations, self.terms.max_signature_age, required)
        object.__setattr__(self, "demands", demands)
        object.__setattr__(self, "wanted", wanted)

    @property
    def refers(self) -> bool:
        """Whether some signer of it is another policy's."""
        return any(named.ref is not None for named in self.signers)

    @property
    def covers_images(self) -> bool:
        """Whether it demands something of the images it names; a policy that only denies does not."""
        return bool(self.signers or self.faults)
