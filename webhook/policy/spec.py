"""The custom resources as their authors write them: the single source of the schema.

A field stands here only if it is enforced. What the signers hold is said by the formats' own structs (`trust.Format.spec`).
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from webhook import limits

Glob = Annotated[str, Meta(min_length=1, max_length=limits.MAX_GLOB)]
Globs = Annotated[list[Glob], Meta(max_length=limits.MAX_GLOBS)]


class SelectorExpression(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of a label selector's `matchExpressions`."""

    key: Annotated[str, Meta(min_length=1, max_length=317, description="The label.")]
    operator: Annotated[Literal["In", "NotIn", "Exists", "DoesNotExist"], Meta(description="How it is compared.")]
    values: Annotated[list[str], Meta(max_length=limits.MAX_GLOBS, description="With In and NotIn: the values.")] = []


class LabelSelector(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A Kubernetes label selector."""

    match_labels: Annotated[
        dict[str, str], Meta(max_length=limits.MAX_GLOBS, description="Labels and their values.")
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
    containers: Annotated[
        list[Literal["main", "init", "ephemeral", "volume"]] | None,
        Meta(description="Which kinds of containers, image volumes among them; default: all."),
    ] = None


class DenySpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`deny`: what is refused whatever else holds."""

    digests: Annotated[
        list[str], Meta(max_length=limits.MAX_DENIED, description="Digests of images, or of children of an index.")
    ] = []
    keys: Annotated[
        list[str],
        Meta(
            max_length=limits.MAX_DENIED,
            description="Fingerprints of keys, SHA256:<hex>, whose signatures do not count.",
        ),
    ] = []


class PolicySpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`spec` of a TrustPolicy or ClusterTrustPolicy."""

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
    require: Annotated[
        str | None,
        Meta(description="Which signers are needed: names, any, all, and, or, N of (…). Default: any of them."),
    ] = None
    tags: Annotated[
        Literal["allow", "refuse"], Meta(description="Whether images may be named by tag; refuse: by digest only.")
    ] = "allow"
    mode: Annotated[
        Literal["enforce", "warn", "audit"],
        Meta(description="What a denial does: refuse, warn, or only leave a trace in the audit log."),
    ] = "enforce"
    deny: Annotated[DenySpec | None, Meta(description="What is refused whatever else holds.")] = None
    message: (
        Annotated[str, Meta(min_length=1, max_length=limits.MAX_TEXT, description="Shown to whoever is denied.")] | None
    ) = None
