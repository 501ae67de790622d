"""Policies that name an image and have nothing to say about it, and why not: for people who expected them to.

The index decides which count. Here are only the words for it, in the order in which the index asks; a test holds the two together.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from webhook.image import ImageReference
from webhook.policy.policy import ContainerKind, Labels, Policy, Workload
from webhook.verdict import PolicyKey


def set_aside(
    policies: Iterable[Policy],
    counted: AbstractSet[PolicyKey],
    image: ImageReference,
    who: Workload,
    kind: ContainerKind,
    labels: Labels | None,
) -> dict[PolicyKey, str]:
    """Why each policy whose `images` name the image is not among those `counted`. `labels`: the namespace's; None: not known."""
    return {
        policy.key: _why_not(policy, image, who, kind, labels)
        for policy in policies
        if policy.key not in counted
        and policy.key.namespace in {None, who.namespace}
        and any(glob.matches(image) for glob in policy.images)
    }


def _why_not(policy: Policy, image: ImageReference, who: Workload, kind: ContainerKind, labels: Labels | None) -> str:
    scope = policy.scope
    meant = scope.namespaces
    if any(glob.excludes(image) for glob in policy.exclude):
        return "its `exclude` leaves this image out"
    if meant is not None and not meant.includes(who.namespace):
        return f"it is not for namespace {who.namespace}"
    if meant is not None and meant.selector is not None and labels is not None and not meant.selector.matches(labels):
        return f"it selects namespaces by labels that {who.namespace} does not have"
    if kind not in scope.workloads.containers:
        return f"it is not for images of this kind ({kind})"
    if not scope.workloads.includes(who, kind):
        return "it is not for this workload: its labels or its service account are others"
    if not policy.covers_images:
        return "it only denies, and nothing of what it denies was found"
    if scope.delegates(who.namespace, image):
        return f"it leaves this image to the policies of namespace {who.namespace}"
    return "it is a fallback, and another cluster policy covers this image"
