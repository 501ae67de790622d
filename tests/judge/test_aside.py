"""The words for policies that do not count agree with the index, which decides it."""

import pytest

from tests.policies import policy
from webhook.image import parse_reference
from webhook.judge.aside import set_aside
from webhook.policy.index import PolicyIndex
from webhook.policy.policy import ContainerKind, Policy, Workload

IMAGE = parse_reference("ghcr.io/acme/web:v1")
DENIES = {"deny": {"digests": ["sha256:" + "a" * 64]}}
BASE = policy("base")
OWN = policy("shop/own")


def why(*policies: Policy, kind: ContainerKind = "main", labels: dict[str, str] | None = None) -> dict[str, str]:
    """What is set aside, after the index has said which count."""
    who = Workload("shop", "default", {"app": "web"})
    known = {"kubernetes.io/metadata.name": "shop"} if labels is None else labels
    match = PolicyIndex.of(policies).match(IMAGE, who, kind, known)
    counted = {one.key for one in (*match.covering, *match.uncertain)}
    return {str(key): text for key, text in set_aside(policies, counted, IMAGE, who, kind, known).items()}


@pytest.mark.parametrize(
    ("one", "others", "text"),
    [
        (policy("shop/a", exclude=["ghcr.io/acme/web"]), (), "its `exclude` leaves this image out"),
        (policy("a", namespaces={"exclude": ["shop"]}), (), "it is not for namespace shop"),
        (policy("a", namespaces={"selector": {"matchLabels": {"tier": "gold"}}}), (), "it selects namespaces by labels that shop does not have"),
        (policy("shop/a", workloads={"containers": ["init"]}), (), "it is not for images of this kind (main)"),
        (policy("shop/a", workloads={"serviceAccounts": ["ci"]}), (), "it is not for this workload: its labels or its service account are others"),
        (policy("shop/a", {"images": ["**"], **DENIES}), (), "it only denies, and nothing of what it denies was found"),
        (policy("a", delegate=[{"namespaces": ["shop"], "images": ["ghcr.io/acme/**"]}]), (OWN,), "it leaves this image to the policies of namespace shop"),
        (policy("a", fallback=True), (BASE,), "it is a fallback, and another cluster policy covers this image"),
    ],
)  # fmt: skip
def test_why_a_policy_that_names_the_image_does_not_count(one: Policy, others: tuple[Policy, ...], text: str) -> None:
    assert why(one, *others) == {str(one.key): text}


def test_what_counts_is_not_set_aside_and_what_names_other_images_is_not_told() -> None:
    assert why(
        BASE, OWN, policy("fallback", fallback=True), policy("other", images=["quay.io/**"]), policy("elsewhere/x")
    ) == {"cluster/fallback": "it is a fallback, and another cluster policy covers this image"}
    assert why(policy("fallback", fallback=True), OWN) == {}
    gold = policy("a", namespaces={"selector": {"matchLabels": {"tier": "gold"}}})
    assert why(gold, labels={"tier": "gold"}) == {}
