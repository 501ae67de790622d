"""Contracts between those who judge evidence and those who fetch it.

Declared on the ground floor so that a signature format needs no HTTP library: `registry.client` implements `Registry`, the
formats implement `Signer`, and neither knows the other.
"""

from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Generic, Literal, NewType, Protocol, TypeVar

import msgspec

from webhook.image import Digest, ImageReference, Repository, Subject
from webhook.verdict import Proof, Version

BY_REGISTRIES: Final = "under `registries` (the chart's value, or the file of --registries)"
"""Where the operator says how registries are reached. A cause that ends with it lasts until somebody has written it there."""

NOT_IN_FILES: Final = "not found in the policy files"
"""How a cause ends that lasts until somebody has put what is missing into the files that policies are read from."""


class Rejected(Exception):
    """The evidence was read in full, and it does not satisfy. `versions`: of metadata in it that is genuine all the same."""

    def __init__(self, reason: str, versions: tuple[Version, ...] = ()) -> None:
        super().__init__(reason)
        self.versions = versions


class Unrelated(Rejected):
    """It is something else than what was asked for, and nothing about it is wrong: told only where there is nothing better to tell."""


class Unavailable(Exception):
    """No judgement was possible: a timeout, an outage, a login refused. `retry_after` in seconds, where the peer said."""

    def __init__(self, cause: str, retry_after: float | None = None) -> None:
        super().__init__(cause)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Untrusted:
    """Bytes that somebody published next to a subject. `origin` says where, for people; `parts` are named by the format."""

    origin: str
    parts: Mapping[str, bytes]


Evidence = Untrusted | Rejected | Unavailable
"""One thing found: evidence to check, something that cannot be evidence and why, or a place that could not be read."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What evidence must state: this subject, and this predicate type. None: a plain signature, never an attestation."""

    subject: Subject
    predicate_type: str | None = None


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer into a registry, as some manifest wrote it: nothing but the digest is binding. `size` in bytes."""

    digest: Digest
    media_type: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest's or index's bytes, hashed by us, and the media type it was served as, which the body confirms."""

    digest: Digest
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Platform:
    """An image in an index, for one platform. `name` is what the index says (`linux/arm64/v8`), and nobody's word."""

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference means now: a digest, and for an index the digests of its children (else none).

    `is_nested`: some child is an index itself, whose children are not among them. `platforms`: those children that a node could
    choose to run; None where the reference means no index.
    """

    digest: Digest
    children: tuple[Digest, ...] = ()
    is_nested: bool = False
    platforms: tuple[Platform, ...] | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """A login for one registry. Compared by value, because what one credential fetched another does not inherit.

    `identity_token`: the password is an OAuth2 refresh token and goes to the token endpoint only.
    """

    username: str
    password: str = field(repr=False)
    identity_token: bool = False


Access = tuple[Credential, ...]
"""Logins to try in this order, best match first; empty for anonymous access. Part of every cache key."""


class Keychain(Protocol):
    """Whose credentials open a repository: a Pod's, or a user's."""

    def known(self, repository: Repository) -> Access | None:
        """What `access` would return, if that needs no waiting; else None. For the warm path."""
        ...

    async def access(self, repository: Repository) -> Access:
        """The logins for `repository`. Raises `Unavailable` if they cannot be read."""
        ...


class Registry(Protocol):
    """What formats may ask of a registry, under one keychain.

    Bounded in bytes, count and seconds. What is asked for by digest is hashed before it is returned. Absence (404) is None or
    an empty sequence; whatever prevents an answer is `Unavailable`; bytes that break a rule are `Rejected`.
    """

    async def resolve(self, image: ImageReference) -> Resolved:
        """The digest of `image`, from its bytes. Raises `Rejected` if there is no such image, or it is ambiguous."""
        ...

    async def manifest(self, repository: Repository, reference: str) -> Manifest | None:
        """The manifest or index that a tag or digest names."""
        ...

    async def blob(self, repository: Repository, blob: Descriptor, limit: int) -> bytes | None:
        """A blob's bytes, at most `limit`; digest and size are those of the descriptor."""
        ...

    async def referrers(self, subject: Subject) -> Sequence[Descriptor] | None:
        """The referrers API's list for `subject`, all pages; None where the registry has no such API.

        Descriptors carry no artifact type: lists are known to hold wrong ones, so read it from the manifest.
        """
        ...

    async def signatures(self, subject: Subject) -> bytes | None:
        """The list of signatures that a registry with the signature extension keeps beside an image, as it wrote it.

        At most `MAX_SIGNATURE_LIST` bytes, hashed by nobody; None where the registry has no such extension.
        """
        ...

    async def get(
        self,
        url: str,
        limit: int,
        *,
        insecure_http: bool = False,
        ca: bytes | None = None,
        about: Repository | None = None,
        seconds: float | None = None,
    ) -> bytes | None:
        """What lies at a URL that is no part of a registry: a lookaside store, a notary server, a revocation list.

        At most `limit` bytes, hashed by nobody. Plain HTTP is refused unless the operator allows it for the host, or
        `insecure_http`: for what is signed itself. `ca`: PEM certificates, one of which must stand behind the host's, in place of
        all others. `about`: the repository that a service wants to give a token for; its logins are shown to its own host only, and
        nobody's otherwise. `seconds`: how long it may take, if less than usual.
        """
        ...

    async def post(
        self,
        url: str,
        body: bytes,
        media_type: str,
        limit: int,
        *,
        insecure_http: bool = False,
        seconds: float | None = None,
    ) -> bytes | None:
        """What a service answers to `body`, under the same rules: an OCSP responder."""
        ...

    async def attachments(self, subject: Subject, tag: str) -> "Attachments":
        """What a tag beside the image names, and the image's referrers, asked for at once. Raises nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Attachments:
    """Two places where signatures lie, each with its own ending: one that cannot be read must not hide the other."""

    tagged: Manifest | Rejected | Unavailable | None
    referrers: Sequence[Descriptor] | Rejected | Unavailable | None


class Signer(Protocol):
    """A demand of a policy: one format and its trust anchors. Frozen and hashable, without its name in the policy."""

    def scope(self, claim: Claim) -> Hashable:
        """The parts of `claim` that a judgement rests on, always with the digest: equal scopes, equal findings."""
        ...

    def sources(self, claim: Claim) -> tuple[Repository, ...]:
        """The repositories that evidence is read from; what opens them is part of the cache key."""
        ...

    def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
        """Fetches what may be evidence, cheapest first, and judges nothing. Ends early when the caller stops reading."""
        ...

    def check(self, evidence: Untrusted, claim: Claim, now: datetime) -> Proof:
        """Judges one piece of evidence and touches nothing.

        Raises `Rejected` or `parsing.Invalid`; `Unavailable` only for evidence that is good but for something that others should
        have said and could not be asked: nothing that a publisher writes may lead there.
        """
        ...

    def dangers(self) -> tuple[str, ...]:
        """What is allowed and yet dangerous about this demand; shown to whoever writes it."""
        ...

    def fingerprints(self) -> tuple[str, ...]:
        """The keys it trusts, as `Proof.identity` calls them, for people who compare them."""
        ...

    def wanted(self) -> str:
        """Whose signature is wanted, in words that follow "signed by", for messages and fixes."""
        ...


KeyRef = NewType("KeyRef", str)
"""Key material as a policy names it: a PEM, or a reference such as `secret://ns/name#key`. See `policy.keyref`."""


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Key material that could not be had, and why. Its signer is undecided."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoSuchKey(Unresolved):
    """The same by the word of the key's source, which was asked and has none that is meant. Nothing that only went wrong here is that."""


HardwareKind = Literal["yubikey-piv", "code-signing-oid"]
"""How it is shown that a key is in hardware: by the device's own word, or by its authority's."""


@dataclass(frozen=True, slots=True)
class HardwareEvidence:
    """What a policy brings to show that a signer's keys are in hardware: which kind, the pinned roots, the certificates; PEM."""

    attestation: HardwareKind
    roots: bytes
    evidence: bytes


@dataclass(frozen=True, slots=True)
class Device:
    """Who vouches that a private key is in hardware, and from when until when (aware).

    `key` is the fingerprint of its public key. `state`: the device itself has *proven* it, or an authority has *claimed* it. `about`:
    which device, in words.
    """

    key: str
    state: Literal["proven", "claimed"]
    about: str
    valid_from: datetime
    valid_until: datetime


Materials = Mapping[KeyRef, bytes | Unresolved]
"""What each key reference of a policy stands for."""

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Format(Generic[S]):
    """One row of the table of formats: `signers[].<name>` in a policy, read as `spec`, becomes a signer.

    `about` says in one sentence, for people who write policies, what such a signer stands for.
    `keys` lists the key references in `spec` with their paths below it (`.keys[1]`). `build` gets all of them resolved; it
    raises `parsing.Invalid`, each complaint beginning with such a path. `examine` does so with what can be told while the keys
    have not been read, and gives what is dangerous about it (`Signer.dangers`). `hold` makes of a signer one that counts only by keys
    which the evidence shows to be in hardware, and says where they are; it raises the same, with paths below `hardware`. None: the
    identities that these signers prove are no keys. `attests`: its signers can make attestations, too. `signs`: what satisfies it is a signature,
    which has an age. `never`: whether no image whatever can satisfy it, so that none has to be seen.
    """

    name: str
    about: str
    spec: type[S]
    keys: Callable[[S], Iterable[tuple[str, KeyRef]]]
    build: Callable[[S, Mapping[KeyRef, bytes]], Signer]
    examine: Callable[[S], tuple[str, ...]] = lambda _: ()
    hold: Callable[[Signer, HardwareEvidence], tuple[Signer, tuple[Device, ...]]] | None = None
    attests: bool = False
    signs: bool = True
    never: Callable[[S], bool] = lambda _: False


def format_of(signer: Signer) -> str:
    """The name of a signer's format; of one around another, that of the inner one."""
    inner = getattr(signer, "signer", None)
    return type(signer).__name__.lower() if inner is None else format_of(inner)
