"""The exception as its author writes it: the single source of its schema. A field stands here only if it is enforced."""

from datetime import datetime
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from webhook import limits
from webhook.policy.spec import Glob, Rule, WorkloadsSpec
from webhook.policy.statusspec import Condition, Count

UserName = Annotated[str, Meta(min_length=1, max_length=limits.MAX_USER_NAME)]
_UNCHANGED = " && ".join(
    [f"self.{name} == oldSelf.{name}" for name in ("policies", "images", "reason", "requestedBy", "expiresAt")]
    + [
        f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"
        for name in ("workloads", "maxUses")
    ]
)


class ExceptionSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`spec` of a TrustException."""

    RULES: ClassVar = (
        Rule(
            "!has(self.approvedBy) || self.approvedBy != self.requestedBy",
            "whoever asked for it cannot approve it",
            ".approvedBy",
        ),
        # Who writes is not seen here; that an approval is for what was approved, is.
        Rule(
            f"!has(self.approvedBy) || {_UNCHANGED}",
            "what is approved is not changed: take approvedBy out, and have it approved anew",
            ".approvedBy",
        ),
        Rule(
            "self.images.all(image, image.contains('*') || image.matches('(^|@)sha256:[a-f0-9]{64}$'))",
            "name each image by its digest, or write a glob",
            ".images",
        ),
    )

    policies: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=len("cluster/") + 253)]],
        Meta(
            min_length=1,
            max_length=limits.MAX_EXCUSED,
            description="What it is an exception from: a TrustPolicy of this namespace by its name, a ClusterTrustPolicy as cluster/name.",
        ),
    ]
    images: Annotated[
        list[Glob],
        Meta(
            min_length=1,
            max_length=limits.MAX_EXCUSED,
            description="Which images: sha256:…, name@sha256:…, or a glob on names, written with `*`.",
        ),
    ]
    workloads: Annotated[WorkloadsSpec | None, Meta(description="For which Pods and containers; default: all.")] = None
    reason: Annotated[str, Meta(min_length=1, max_length=limits.MAX_TEXT, description="Why; shown at each use.")]
    requested_by: Annotated[UserName, Meta(description="The user name of whoever writes it.")]
    approved_by: Annotated[
        UserName | None,
        Meta(description="The user name of somebody else, who sets it; until then the exception lifts nothing."),
    ] = None
    expires_at: Annotated[
        datetime, Meta(tz=True, description="From this time on it lifts nothing (RFC 3339, with its offset).")
    ]
    max_uses: Annotated[
        Annotated[int, Meta(ge=1, le=limits.MAX_USES)] | None,
        Meta(description="In how many Pods it lets images; default: any number."),
    ] = None


class RunningStatus(Struct, frozen=True, kw_only=True):
    """`status.running`: what runs, and could not be started again without the exception."""

    images: Annotated[Count, Meta(description="Images of running containers.")]
    examples: Annotated[
        list[Annotated[str, Meta(max_length=limits.MAX_EXAMPLE)]],
        Meta(max_length=limits.MAX_EXAMPLES, description="Some of the Pods."),
    ] = []


class ExceptionStatus(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`status`, written by the webhook."""

    observed_generation: Annotated[int | None, Meta(description="The generation that was judged.")] = None
    active: Annotated[bool, Meta(description="Whether it lifts anything now.")] = False
    uses: Annotated[
        int, Meta(ge=0, description="How many Pods it has let in; with maxUses, never fewer than there were.")
    ] = 0
    last_used: Annotated[datetime | None, Meta(description="When it let in the last one.")] = None
    running: Annotated[
        RunningStatus | None, Meta(description="What runs, and could not be started again without it.")
    ] = None
    conditions: Annotated[
        list[Condition],
        Meta(
            max_length=8,
            description="Whether it is in force, and if not, why: NotApproved, Expired, UsedUp or Invalid.",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []
