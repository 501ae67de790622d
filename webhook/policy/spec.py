"""The custom resources as their authors write them: the single source of the schema.

A field stands here only if it is enforced. What the signers hold is said by the formats' own structs (`trust.Format.spec`).
Every text and list is bounded here, so that the API server refuses what our parser would.
"""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from webhook import limits
from webhook.policy.outage import OutageAction
from webhook.trust import HardwareKind, KeyRef


class Rule(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A validation rule in CEL, for the API server. `field_path` is where it points, below the struct it stands in."""

    rule: str
    message: str
    field_path: str | None = None


Glob = Annotated[str, Meta(min_length=1, max_length=limits.MAX_GLOB)]
LabelText = Annotated[str, Meta(max_length=63)]
Globs = Annotated[list[Glob], Meta(max_length=limits.MAX_GLOBS)]


DigestText = Annotated[str, Meta(max_length=len("sha256:") + 64)]
Time = Annotated[datetime, Meta(tz=True)]
NameText = Annotated[str, Meta(max_length=63, extra_json_schema={"pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"})]
SpanText = Annotated[str, Meta(max_length=32, extra_json_schema={"pattern": "^([0-9]{1,6}(h|m|s|ms))+$"})]
BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class SelectorExpression(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of a label selector's `matchExpressions`."""

    RULES: ClassVar = (
        Rule(
            "self.operator in ['In', 'NotIn'] == (has(self.values) && size(self.values) > 0)",
            "In and NotIn need values, Exists and DoesNotExist have none",
            ".values",
        ),
    )

    key: Annotated[str, Meta(min_length=1, max_length=317, description="The label.")]
    operator: Annotated[Literal["In", "NotIn", "Exists", "DoesNotExist"], Meta(description="How it is compared.")]
    values: Annotated[
        list[LabelText], Meta(max_length=limits.MAX_GLOBS, description="With In and NotIn: the values.")
    ] = []


class LabelSelector(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A Kubernetes label selector."""

    match_labels: Annotated[
        dict[str, LabelText], Meta(max_length=limits.MAX_GLOBS, description="Labels and their values.")
    ] = {}
    match_expressions: Annotated[
        list[SelectorExpression], Meta(max_length=limits.MAX_GLOBS, description="Further conditions; all must hold.")
    ] = []


class NamespacesSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`namespaces`: which namespaces a ClusterTrustPolicy is for."""

    match: Annotated[Globs, Meta(description="Globs on the name; none: all namespaces.")] = []
    exclude: Annotated[Globs, Meta(description="Globs on the name; these are left out.")] = []
    selector: Annotated[LabelSelector | None, Meta(description="Labels the namespace must have.")] = None


class WorkloadsSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`workloads`: which Pods and containers a policy is for."""

    selector: Annotated[LabelSelector | None, Meta(description="Labels the Pod must have.")] = None
    service_accounts: Annotated[Globs, Meta(description="Globs on the service account's name; none: all.")] = []
    containers: (
        Annotated[
            list[Literal["main", "init", "ephemeral", "volume"]],
            Meta(max_length=4, description="Which kinds of containers, image volumes among them; default: all."),
        ]
        | None
    ) = None


class DelegationSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `delegate`: where a namespace's own policy stands in for the cluster's."""

    namespaces: Annotated[
        list[Glob], Meta(min_length=1, max_length=limits.MAX_GLOBS, description="Globs on the namespaces' names.")
    ]
    images: Annotated[
        list[Glob],
        Meta(
            min_length=1,
            max_length=limits.MAX_GLOBS,
            description="Globs on the images' normalised names; {namespace} in a path is the namespace's own name.",
        ),
    ]


class ValiditySpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`signers[].validity`: when the signatures of a signer count."""

    RULES: ClassVar = (
        Rule("has(self.notBefore) || has(self.notAfter)", "one of notBefore and notAfter is wanted"),
        Rule(
            "!has(self.notBefore) || !has(self.notAfter) || self.notBefore < self.notAfter",
            "no time lies between them",
            ".notAfter",
        ),
    )

    not_before: Annotated[Time | None, Meta(description="From then on (RFC 3339).")] = None
    not_after: Annotated[Time | None, Meta(description="Until then (RFC 3339).")] = None


class AttestationSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One of `attestations`."""

    RULES: ClassVar = (
        Rule(
            "!(self.name in ['any', 'all', 'and', 'or', 'of'])",
            "a word of `require` cannot be an attestation's name",
            ".name",
        ),
        Rule("!has(self.signedBy) || size(self.signedBy) > 0", "empty, so nobody could sign", ".signedBy"),
    )

    name: Annotated[NameText, Meta(description="What `require` calls it.")]
    type: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=limits.MAX_PREDICATE_TYPE,
            description="The predicate type: slsa-provenance, spdx, cyclonedx, vuln, openvex, test-result, or a URI.",
        ),
    ]
    signed_by: (
        Annotated[
            list[NameText],
            Meta(
                max_length=limits.MAX_SIGNERS,
                description="Which signers may have made it; default: any of those that can.",
            ),
        ]
        | None
    ) = None
    where: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=limits.MAX_WHERE,
                description="What must hold: CEL over predicate, subject, image and now.",
            ),
        ]
        | None
    ) = None
    max_age: Annotated[SpanText | None, Meta(description="How old it may be at most, such as 36h.")] = None


class FreshnessSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`freshness`."""

    max_signature_age: Annotated[
        SpanText, Meta(description="How old signatures may be at most, such as 720h, by a trusted time.")
    ]


class OnOutageSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`onOutage`."""

    RULES: ClassVar = (
        Rule(
            "!has(self.maxStale) || self.action == 'last-known-good'",
            "only last-known-good has an age",
            ".maxStale",
        ),
    )

    action: Annotated[
        OutageAction,
        Meta(
            description="What an image gets that cannot be verified because nobody can be asked. deny: nothing; warn: it is let in, with a warning; last-known-good: the same, if this digest was verified under this policy not long ago."
        ),
    ]
    max_stale: Annotated[
        SpanText | None,
        Meta(description="With last-known-good: how long ago, from 1h to 720h. 24h if nothing is said."),
    ] = None


class DenySpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`deny`: what is refused whatever else holds."""

    RULES: ClassVar = (
        Rule(
            "!has(self.digests) || self.digests.all(d, d.matches('^sha256:[a-f0-9]{64}$'))",
            "not a digest: sha256:<64 hex digits>",
            ".digests",
        ),
        Rule(
            "!has(self.keys) || "
            "self.keys.all(k, k.matches('^((SHA256|sha256):[A-Fa-f0-9]{64}|(GPG|gpg):[A-Fa-f0-9]{40})$'))",
            "not a fingerprint: SHA256:<64 hex digits>, or GPG:<40 hex digits>",
            ".keys",
        ),
        Rule(
            "!has(self.signers) || self.signers.all(s, s.matches('^(issuer=.+,subject=.+|x509[.]subject: .+)$'))",
            "not an identity: issuer=…,subject=…, or x509.subject: …",
            ".signers",
        ),
        Rule(
            "!has(self.certSerials) || self.certSerials.all(s, s.matches('^[A-Fa-f0-9:]+$'))",
            "not a serial number in hex",
            ".certSerials",
        ),
        Rule(
            "!has(self.signedAfter) || !has(self.signedBefore) || self.signedAfter < self.signedBefore",
            "no time lies between them",
            ".signedBefore",
        ),
    )

    digests: Annotated[
        list[DigestText],
        Meta(max_length=limits.MAX_DENIED, description="Digests of images, or of children of an index."),
    ] = []
    keys: Annotated[
        list[Annotated[str, Meta(max_length=71)]],
        Meta(
            max_length=limits.MAX_DENIED,
            description="Fingerprints of keys, SHA256:<hex>, or GPG:<hex> of primary keys, whose signatures do not count.",
        ),
    ] = []
    signers: Annotated[
        list[Annotated[str, Meta(max_length=limits.MAX_TEXT)]],
        Meta(
            max_length=limits.MAX_DENIED,
            description="Identities, issuer=…,subject=… or x509.subject: …, whose signatures do not count.",
        ),
    ] = []
    cert_serials: Annotated[
        list[Annotated[str, Meta(max_length=limits.MAX_SERIAL)]],
        Meta(
            max_length=limits.MAX_DENIED,
            description="Serial numbers, in hex, of certificates whose signatures do not count.",
        ),
    ] = []
    signed_after: Annotated[
        Time | None,
        Meta(description="Signatures made later do not count; with signedBefore, those made between the two."),
    ] = None
    signed_before: Annotated[
        Time | None,
        Meta(description="Signatures made earlier do not count; with signedAfter, those made between the two."),
    ] = None


class RefSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`signers[].ref`: no format, but a signer that another policy describes."""

    RULES: ClassVar = (
        Rule(
            "self.name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
            "policy/signer: a ClusterTrustPolicy and a signer of it",
            ".name",
        ),
    )

    name: Annotated[
        str, Meta(max_length=253 + 1 + 63, description="policy/signer: a ClusterTrustPolicy, and a signer of it.")
    ]


class RolloutSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`rollout`."""

    audit_for: Annotated[SpanText, Meta(description="How long the policy audits first, such as 168h.")]
    promote_when: Annotated[
        Literal["clean", "always"],
        Meta(
            description="clean: the policy's mode holds once nothing that runs would have been denied for so long; always: it holds after that time."
        ),
    ] = "clean"


class PolicySpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`spec` of a TrustPolicy or ClusterTrustPolicy."""

    RULES: ClassVar = (
        Rule(
            "has(self.signers) && size(self.signers) > 0 || has(self.deny)",
            "signers are required, unless the policy only has `deny`",
            ".signers",
        ),
        Rule(
            "!has(self.require) || has(self.signers) && size(self.signers) > 0",
            "there are no signers to name",
            ".require",
        ),
        Rule(
            "!has(self.attestations) || size(self.attestations) == 0 || has(self.signers) && size(self.signers) > 0",
            "there are no signers who could attest",
            ".attestations",
        ),
        Rule(
            "!has(self.attestations) || !has(self.signers)"
            " || self.attestations.all(a, !self.signers.exists(s, s.name == a.name))",
            "signers and attestations share their names",
            ".attestations",
        ),
        Rule(
            "!has(self.rollout) || !has(self.mode) || self.mode != 'audit'",
            "mode is audit already: name the mode that shall hold later",
            ".rollout",
        ),
    )

    images: Annotated[
        list[Glob],
        Meta(min_length=1, max_length=limits.MAX_GLOBS, description="Globs on the images' normalised names."),
    ]
    exclude: Annotated[Globs, Meta(description="Globs on names that the policy says nothing about.")] = []
    namespaces: Annotated[NamespacesSpec | None, Meta(description="ClusterTrustPolicy only: for which namespaces.")] = (
        None
    )
    workloads: Annotated[WorkloadsSpec | None, Meta(description="For which Pods and containers.")] = None
    fallback: Annotated[
        bool, Meta(description="ClusterTrustPolicy only: counts only for images that no other policy covers.")
    ] = False
    signers: Annotated[
        list[dict[str, Any]],
        Meta(max_length=limits.MAX_SIGNERS, description="Who may sign: a name, and exactly one signature format."),
    ] = []
    attestations: Annotated[
        list[AttestationSpec],
        Meta(
            max_length=limits.MAX_SIGNERS,
            description="Statements about the image that are demanded: of which type, by whom, and what they must say.",
            extra_json_schema=BY_NAME,
        ),
    ] = []
    require: (
        Annotated[
            str,
            Meta(
                max_length=limits.MAX_REQUIRE,
                description="Which signers and attestations are needed: names, any, all, and, or, N of (…). Default: any signer, and every attestation.",
            ),
        ]
        | None
    ) = None
    freshness: Annotated[FreshnessSpec | None, Meta(description="How old signatures may be.")] = None
    platforms: Annotated[
        Literal["index", "all", "any"],
        Meta(
            description="What must satisfy where an image is an index: the index itself, all images of platforms in it, or any of them."
        ),
    ] = "index"
    tags: Annotated[
        Literal["allow", "refuse", "pin"],
        Meta(
            description="Images named by tag. pin: the verified digest is written into Pods; refuse: by digest only; allow: with a warning, because a tag can move before the pull."
        ),
    ] = "pin"
    mode: Annotated[
        Literal["enforce", "warn", "audit"],
        Meta(description="What a denial does: refuse, warn, or only leave a trace in the audit log."),
    ] = "enforce"
    rollout: Annotated[
        RolloutSpec | None, Meta(description="Audit first; the mode holds later, and then for good.")
    ] = None
    on_drift: Annotated[
        Literal["report", "evict"],
        Meta(
            description="A container that runs another digest than the one that was verified. report: an Event, a metric and a report; evict: the Pod is evicted, too."
        ),
    ] = "report"
    on_outage: Annotated[
        OnOutageSpec | None,
        Meta(
            description="What follows where a registry, or whoever else keeps the evidence, cannot be asked. Never past what was read and does not satisfy, nor past `deny`. Default: deny."
        ),
    ] = None
    deny: Annotated[DenySpec | None, Meta(description="What is refused whatever else holds.")] = None
    delegate: Annotated[
        list[DelegationSpec],
        Meta(
            max_length=limits.MAX_DELEGATIONS,
            description="ClusterTrustPolicy only: where a TrustPolicy that covers an image stands in for this policy.",
        ),
    ] = []
    message: (
        Annotated[str, Meta(min_length=1, max_length=limits.MAX_TEXT, description="Shown to whoever is denied.")] | None
    ) = None


class HardwareSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`signers[].hardware`: where the signer's private keys must be."""

    attestation: Annotated[
        HardwareKind,
        Meta(
            description="yubikey-piv: the device attests that it generated the key. code-signing-oid: a certificate authority states it."
        ),
    ]
    roots: Annotated[
        KeyRef, Meta(max_length=limits.MAX_KEY_TEXT, description="Certificates that the evidence must lead to.")
    ]
    evidence: Annotated[
        KeyRef,
        Meta(
            max_length=limits.MAX_KEY_TEXT,
            description="Certificates about each of the signer's keys, and those between them and the roots.",
        ),
    ]
