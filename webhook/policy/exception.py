"""Exceptions as values: who lets which image past which policy, why, and until when. Time is an argument.

An exception lifts what a policy requires. What a deny list says, or could not be asked, is final before an exception is asked
(`verdict.Denied.final`), so nothing here has to know of it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from webhook.image import Digest, ImageReference
from webhook.policy.globs import ImageGlob
from webhook.policy.policy import ALL_WORKLOADS, ContainerKind, Workload, WorkloadMatch
from webhook.verdict import ExceptionKey, Excuse, PolicyKey

Lapse = Literal["not_approved", "expired"]
"""Why an exception lifts nothing, as far as it says so itself."""

State = Literal["in_force", "not_approved", "expired", "used_up"]


@dataclass(frozen=True, slots=True)
class ImageMatch:
    """Images by the digest that would run, by their names, or by both."""

    glob: ImageGlob | None
    digest: Digest | None

    def __post_init__(self) -> None:
        if self.glob is None and self.digest is None:
            raise ValueError("nothing named is not every image")

    def matches(self, image: ImageReference, digest: Digest | None) -> bool:
        """Whether the image is one of those meant. `digest`: what would run; None: nobody knows, so no digest matches."""
        # As an exclusion matches: for certain, whatever tag stands beside a digest.
        return (self.digest is None or self.digest == digest) and (self.glob is None or self.glob.excludes(image))

    @property
    def is_glob(self) -> bool:
        """Whether it means images that nobody has pushed yet."""
        return self.digest is None

    def __str__(self) -> str:
        return "@".join(str(part) for part in (self.glob, self.digest) if part is not None)


@dataclass(frozen=True, slots=True)
class TrustException:
    """A TrustException. `uid` is that of the object, so that one made anew is another exception; empty for one from a file.

    `expires_at` is aware, and the first moment at which it lifts nothing. `max_uses`: in how many Pods it lets images; None: any number.
    """

    key: ExceptionKey
    policies: frozenset[PolicyKey]
    images: tuple[ImageMatch, ...]
    reason: str
    requested_by: str
    expires_at: datetime
    approved_by: str | None = None
    workloads: WorkloadMatch = ALL_WORKLOADS
    max_uses: int | None = None
    uid: str = ""

    def __post_init__(self) -> None:
        if not self.policies or not self.images:
            raise ValueError("an exception from nothing is not one from everything")

    def covers(
        self, policy: PolicyKey, image: ImageReference, digest: Digest | None, who: Workload, kind: ContainerKind
    ) -> bool:
        """Whether it speaks about this image, under this policy, in this kind of container of this workload."""
        return (
            policy in self.policies
            and who.namespace == self.key.namespace
            and self.workloads.includes(who, kind)
            and any(one.matches(image, digest) for one in self.images)
        )

    def lapse(self, now: datetime) -> Lapse | None:
        """Why it lifts nothing, if so. Whoever asked for it cannot be the one who approves."""
        if self.approved_by is None or self.approved_by == self.requested_by:
            return "not_approved"
        return "expired" if now >= self.expires_at else None

    def state(self, now: datetime, *, used_up: bool) -> State:
        """One word for people and metrics; `used_up`: what others have counted."""
        return self.lapse(now) or ("used_up" if used_up else "in_force")

    def excuse(self, now: datetime) -> Excuse | None:
        """What a ruling that it lifts carries from then on; None: it lifts nothing at this time."""
        if self.approved_by is None or self.lapse(now) is not None:
            return None
        return Excuse(
            self.key, self.reason, self.requested_by, self.approved_by, self.expires_at, self.max_uses is not None
        )
