"""What was found, what follows from it, and what is said: three vocabularies, one per level, never mixed.

    one name in `require`      Finding = Satisfied | Unsatisfied | Unknown
    one image, one policy      Outcome = Allowed | Denied | Undecided
    one question               Answer

Every `match` over them ends in `assert_never`, so that a new ending cannot be forgotten.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from webhook.image import Subject


@dataclass(frozen=True, slots=True)
class Version:
    """How new a piece of signed metadata is: its `number` only grows, so a lower one is an old state, played back.

    `of` is the hash of what it is a version of, the keys that vouch for it included: nobody else's numbers are compared with
    it. `what` says it for people.
    """

    of: bytes
    what: str
    number: int


@dataclass(frozen=True, slots=True, order=True)
class End:
    """From a time on (aware) something counts no longer, and nothing that is fetched anew mends it. `what` ends, in words."""

    at: datetime
    what: str


def first_end(ends: Iterable[End | None]) -> End | None:
    """The first of them; None: nothing ends."""
    return min((end for end in ends if end is not None), default=None)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a successful check makes, and nothing else does.

    `identity` is who signed, as proven: `SHA256:` and the fingerprint of a key's SPKI, `GPG:` and that of a primary key, or what a
    certificate says. `origin` is where the evidence was, for people. `signed_at` is trusted time only, aware. `statement` is the verified
    in-toto statement, if any. `valid_until`: from this time on the same evidence might not prove it again (None: it always would).
    `serial`: of the signer's certificate, lower-case hex without leading zeros. `log_index`: of the verified entry in its transparency
    log. `keys`: fingerprints of the keys that it rests on, the signer's own first; denying one of them takes it away. `logged`:
    what is wrong with it, and is told but not enforced because the policy says so. `versions`: of the metadata it rests on.
    `predicate_type`: of the attestation that it is a proof of; None for a signature. `subject`: the attributes that the signer's
    certificate names its owner by, types as object identifiers, where they are who signed (see `policy.names`). `ends`: what of it ends
    for good, whatever others renew; None: nothing does. Never before `valid_until`. `lists`: the revocation lists that it rests on, and
    until when each of them holds.
    """

    format: str
    identity: str
    origin: str
    signed_at: datetime | None = None
    statement: bytes | None = None
    valid_until: datetime | None = None
    serial: str | None = None
    log_index: int | None = None
    keys: tuple[str, ...] = ()
    logged: tuple[str, ...] = ()
    versions: tuple[Version, ...] = ()
    predicate_type: str | None = None
    subject: frozenset[tuple[str, str]] = frozenset()
    ends: End | None = None
    lists: tuple[End, ...] = ()

    def ending(self, ends: Iterable[End | None]) -> "Proof":
        """The same, which ends with whatever ends first."""
        end = first_end(ends)
        if end is None:
            return self
        until = end.at if self.valid_until is None else min(self.valid_until, end.at)
        return replace(self, valid_until=until, ends=first_end((self.ends, end)))


@dataclass(frozen=True, slots=True)
class Satisfied:
    """Somebody that the name stands for has signed. `causes`: what could not be read and might have shown more."""

    proofs: frozenset[Proof]
    causes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.proofs:
            raise ValueError("nothing proven is not satisfied")


@dataclass(frozen=True, slots=True)
class Unsatisfied:
    """All evidence was read, and none of it satisfies. `absent`: there was none."""

    reasons: tuple[str, ...]
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """Some evidence could not be read, and what was read does not satisfy."""

    causes: tuple[str, ...]


Finding = Satisfied | Unsatisfied | Unknown


@dataclass(frozen=True, slots=True)
class Allowed:
    """The image meets the policy, by these proofs.

    `ends`: with what it would cease to, by what was read; what was not read may prove it for longer. None: nothing that is known.
    """

    subject: Subject
    proofs: frozenset[Proof]
    ends: End | None = None

    def __post_init__(self) -> None:
        if not self.proofs:
            raise ValueError("nothing proven is not allowed")


@dataclass(frozen=True, slots=True)
class Denied:
    """The evidence was read and does not satisfy. `fix`: what to do, for people.

    `final`: nothing lifts it, no exception either. So is what a deny list says, what could not be compared with one, what only a digest can
    answer, and what a policy says that cannot be read.
    """

    reasons: tuple[str, ...]
    final: bool = False
    subject: Subject | None = None
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Undecided:
    """The evidence could not be read. Never an admission by itself, and never remembered.

    `final`: what a deny list would say is not known, so nothing lifts it. `outage`: it is others who could not be asked, so that the
    policy's `onOutage` says what follows; false where the key of a policy is missing, or it is not known whether the policy applies.
    `late`: it was still being read or checked when the answer was due, and how much there is of it a publisher chooses.
    """

    causes: tuple[str, ...]
    subject: Subject | None = None
    final: bool = False
    outage: bool = False
    late: bool = False


Outcome = Allowed | Denied | Undecided


@dataclass(frozen=True, slots=True)
class PolicyKey:
    """Which policy. `namespace` is None for a ClusterTrustPolicy."""

    namespace: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.namespace or 'cluster'}/{self.name}"


@dataclass(frozen=True, slots=True)
class ExceptionKey:
    """Which TrustException."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Excuse:
    """What lets an image past a policy that refuses it: a TrustException in force. `counted`: its uses are bounded."""

    key: ExceptionKey
    reason: str
    requested_by: str
    approved_by: str
    expires_at: datetime
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What lets an image past a policy that could not verify it: the policy's own `onOutage`.

    `verified_at`: when this very digest was verified under this very policy; None: never that anybody knew, and it is let in all the same.
    """

    verified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NamedFinding:
    """One name of `require` and what was found, for people and for `-o json`."""

    name: str
    finding: Finding
    is_attestation: bool = False


Mode = Literal["enforce", "warn", "audit"]
"""What a policy's denial does: refuse, warn, or only leave a trace."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """One image under one policy, with all that enforcing and explaining it need.

    `places` are the paths that name the image (`spec.containers[0].image`). `policy` is None where the text is no reference,
    so that no policy, and no mode, applies: it is enforced. `by_tag`: no digest is written. `pins`: the policy wants it written into the
    Pod that runs the image; otherwise the tag may move before the pull. `excuse`: what lets the image past the policy although the
    outcome does not, and `tolerance` what lets past what could not be verified; only enforcement sets them. `notes`: what else enforcement
    found, for people.
    """

    places: tuple[str, ...]
    image: str
    policy: PolicyKey | None
    outcome: Outcome
    mode: Mode = "enforce"
    message: str | None = None
    findings: tuple[NamedFinding, ...] = ()
    by_tag: bool = False
    pins: bool = False
    excuse: Excuse | None = None
    notes: tuple[str, ...] = ()
    tolerance: Tolerance | None = None


@dataclass(frozen=True, slots=True)
class Uncovered:
    """No policy speaks about the image. A type of its own, so that it can never be mistaken for `Allowed`."""

    places: tuple[str, ...]
    image: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """A template's image that is empty: no image yet. The Pods made from it are judged, and there it is denied."""

    places: tuple[str, ...]


Judgement = Ruling | Uncovered | Deferred
"""What the judge says about one image: a ruling for each policy, or that there is none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question gets back. `code` is the HTTP status in the AdmissionReview: 200, 403, 500 or 503.

    `excused`: of an admitted Pod, what exceptions let in, as far as it is new. Each of these exceptions has been used.
    `tolerated`: of the same, what could not be verified and was let in by `onOutage`. `mode`: of the policies that would have refused
    what is admitted, the strictest; `enforce` where there are none.
    """

    allowed: bool
    code: int
    message: str = ""
    warnings: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    excused: Mapping[Excuse, tuple[Ruling, ...]] = field(default_factory=dict)
    tolerated: tuple[Ruling, ...] = ()
    mode: Mode = "enforce"


@dataclass(frozen=True, slots=True)
class Use:
    """One Pod that an exception let in: which, because of which rulings, and when. `uid` and `name` may not be known yet."""

    excuse: Excuse
    rulings: tuple[Ruling, ...]
    namespace: str
    name: str
    uid: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Borne:
    """One Pod that `onOutage` let in: because of which rulings, and when. `uid` and `name` may not be known yet."""

    rulings: tuple[Ruling, ...]
    namespace: str
    name: str
    uid: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ObjectName:
    """An object of the cluster as Events name it; without a uid it is named and not followed."""

    api_version: str
    kind: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One review that was refused, and what people will look at to learn why: `about` is there, unlike what was refused.

    `what`: the refused object, in words. `read`: the evidence was read; otherwise it could not be verified.
    """

    namespace: str
    about: ObjectName
    what: str
    message: str
    read: bool
    at: datetime
