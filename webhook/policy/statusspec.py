"""What is said of a policy in its `status`, which the webhook writes: the single source of its schema."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from webhook import limits
from webhook.policy.spec import BY_NAME, Time

Count = Annotated[int, Meta(ge=0)]


class Condition(Struct, frozen=True, kw_only=True, rename="camel"):
    """metav1.Condition."""

    type: Annotated[
        str,
        Meta(
            max_length=316, description="Ready, SignersResolved, Expiring, Effective or OnDuty; Active of an exception."
        ),
    ]
    status: Annotated[Literal["True", "False", "Unknown"], Meta(description="Whether it holds.")]
    reason: Annotated[str, Meta(max_length=1024, description="Why, in one CamelCase word.")]
    message: Annotated[str, Meta(max_length=32768, description="Why, for people.")]
    last_transition_time: Annotated[datetime, Meta(description="When the status last changed.")]
    observed_generation: Annotated[int | None, Meta(description="The generation that was judged.")] = None


class SignerStatus(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One of `status.signers`."""

    name: Annotated[str, Meta(max_length=63, description="The signer.")]
    format: Annotated[str, Meta(max_length=63, description="Its signature format.")] = ""
    fingerprints: Annotated[
        list[Annotated[str, Meta(max_length=71)]],
        Meta(max_length=limits.MAX_KEYS, description="The keys in force, SHA256:<hex> or GPG:<hex>."),
    ] = []
    hardware: Annotated[
        Literal["proven", "claimed", "no"],
        Meta(
            description="Whether its keys are in hardware: proven by the devices, claimed by an authority, or nothing shows it."
        ),
    ] = "no"
    devices: Annotated[
        list[Annotated[str, Meta(max_length=limits.MAX_TEXT)]],
        Meta(max_length=limits.MAX_KEYS, description="Which devices, as the evidence says."),
    ] = []
    last_error: (
        Annotated[str, Meta(max_length=limits.MAX_TEXT, description="Why its keys could not be read, if so.")] | None
    ) = None


class AttestationStatus(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One of `status.attestations`."""

    name: Annotated[str, Meta(max_length=63, description="The attestation.")]
    predicate_types: Annotated[
        list[Annotated[str, Meta(max_length=limits.MAX_PREDICATE_TYPE)]],
        Meta(max_length=16, description="The predicate types that count."),
    ] = []
    fingerprints: Annotated[
        list[Annotated[str, Meta(max_length=71)]],
        Meta(
            max_length=limits.MAX_SIGNERS * limits.MAX_KEYS,
            description="The keys that may have signed it, SHA256:<hex>.",
        ),
    ] = []
    last_error: (
        Annotated[str, Meta(max_length=limits.MAX_TEXT, description="Why some keys could not be read, if so.")] | None
    ) = None


class VerdictCounts(Struct, frozen=True, kw_only=True):
    """`status.verdicts`: images of running containers, by what the policy says of them."""

    allowed: Annotated[Count, Meta(description="They satisfy it.")] = 0
    denied: Annotated[Count, Meta(description="They do not.")] = 0
    undecided: Annotated[Count, Meta(description="They could not be verified.")] = 0
    excused: Annotated[Count, Meta(description="An exception lets them past.")] = 0
    examples: Annotated[
        list[Annotated[str, Meta(max_length=limits.MAX_EXAMPLE)]],
        Meta(
            max_length=limits.MAX_EXAMPLES,
            description="Some that are denied, then some that could not be verified: a Pod, and the reason.",
        ),
    ] = []


class Preview(Struct, frozen=True, kw_only=True, rename="camel"):
    """`status.preview`: what would become of running Pods if they were made again."""

    denied: Annotated[Count, Meta(description="Images that the policy would deny, whatever its mode.")] = 0
    undecided: Annotated[Count, Meta(description="Images that could not be verified.")] = 0
    examples: Annotated[
        list[Annotated[str, Meta(max_length=limits.MAX_EXAMPLE)]],
        Meta(max_length=limits.MAX_EXAMPLES, description="Some of them: a Pod, and the reason."),
    ] = []
    last_denied: Annotated[
        Time | None,
        Meta(
            description="With a rollout: when something would have been denied, or could not be verified, for the last time."
        ),
    ] = None


class EndingStatus(Struct, frozen=True, kw_only=True):
    """`status.ending`: what runs, satisfies the policy and soon will not, by what was read of its signatures."""

    images: Annotated[Count, Meta(description="Images of running containers.")]
    first: Annotated[Time, Meta(description="When the first of them could not be started again.")]
    examples: Annotated[
        list[Annotated[str, Meta(max_length=limits.MAX_EXAMPLE)]],
        Meta(max_length=limits.MAX_EXAMPLES, description="The first of them: a Pod, until when, and what ends then."),
    ] = []


class RolloutStatus(Struct, frozen=True, kw_only=True, rename="camel"):
    """`status.rollout`."""

    promoted_at: Annotated[Time | None, Meta(description="Since when the policy's mode holds.")] = None


class PolicyStatus(Struct, frozen=True, kw_only=True, rename="camel"):
    """`status`, written by the webhook."""

    observed_generation: Annotated[int | None, Meta(description="The generation that was judged.")] = None
    conditions: Annotated[
        list[Condition],
        Meta(
            max_length=8,
            description="Whether the policy is in force, all its keys could be read, and API servers ask by it.",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []
    signers: Annotated[
        list[SignerStatus],
        Meta(
            max_length=limits.MAX_SIGNERS,
            description="What each signer stands for.",
            extra_json_schema=BY_NAME,
        ),
    ] = []
    attestations: Annotated[
        list[AttestationStatus],
        Meta(
            max_length=limits.MAX_SIGNERS,
            description="What each attestation stands for.",
            extra_json_schema=BY_NAME,
        ),
    ] = []
    verdicts: Annotated[
        VerdictCounts | None, Meta(description="Images of running containers, by what the policy says of them.")
    ] = None
    preview: Annotated[
        Preview | None, Meta(description="What the policy would deny now, were running Pods made again.")
    ] = None
    ending: Annotated[
        EndingStatus | None,
        Meta(description="What of all that runs satisfies the policy, and within 30 days could not be started again."),
    ] = None
    effective_mode: Annotated[
        Literal["enforce", "warn", "audit"] | None,
        Meta(description="The mode that holds now: during a rollout audit, whatever spec.mode is."),
    ] = None
    rollout: Annotated[RolloutStatus | None, Meta(description="How far the rollout is.")] = None
