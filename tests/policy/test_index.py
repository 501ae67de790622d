"""Which policies speak about an image: selection, precedence, and that the index finds what a search of all would."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.policies import policy
from webhook.image import parse_reference
from webhook.policy.index import Match, PolicyIndex
from webhook.policy.parse import broken_policy
from webhook.policy.policy import ContainerKind, Policy, Workload
from webhook.verdict import PolicyKey

DIGEST = "sha256:" + "ab" * 32


def match(
    policies: list[Policy],
    image: str = "ghcr.io/acme/web:v1",
    *,
    namespace: str = "shop",
    account: str = "default",
    labels: Mapping[str, str] | None = None,
    kind: ContainerKind = "main",
    of_namespace: Mapping[str, str] | None = None,
) -> Match:
    who = Workload(namespace, account, labels or {})
    return PolicyIndex.of(policies).match(parse_reference(image), who, kind, of_namespace)


def covering(*args: Any, **kwargs: Any) -> list[str]:
    return [str(found.key) for found in match(*args, **kwargs).covering]


def test_all_policies_that_match_count_in_a_fixed_order() -> None:
    policies = [policy("shop/b"), policy("z"), policy("shop/a"), policy("other/a"), policy("a")]
    assert covering(policies) == ["cluster/a", "cluster/z", "shop/a", "shop/b"]


def test_images_and_exclude() -> None:
    one = policy(
        "shop/a", images=["ghcr.io/acme/**", "nginx"], exclude=["ghcr.io/acme/lab/*", "ghcr.io/acme/web:dev-*"]
    )
    assert covering([one], "ghcr.io/acme/web") == ["shop/a"]
    assert covering([one], "nginx") == ["shop/a"]
    assert covering([one], "ghcr.io/other/web") == []
    assert covering([one], "ghcr.io/acme/lab/x") == []
    assert covering([one], "ghcr.io/acme/web:dev-1") == []
    # The tag beside a digest is nobody's word: it excludes nothing.
    assert covering([one], f"ghcr.io/acme/web:dev-1@{DIGEST}") == ["shop/a"]


def test_m09_a_tenants_policy_is_for_its_namespace_only() -> None:
    assert covering([policy("shop/a")], namespace="other") == []


def test_namespaces_by_name() -> None:
    one = policy("a", namespaces={"match": ["prod-*", "shop"], "exclude": ["prod-lab"]})
    found = [name for name in ("prod-a", "shop", "prod-lab", "dev", "shopx") if covering([one], namespace=name)]
    assert found == ["prod-a", "shop"]
    literal = policy("b", namespaces={"match": ["shop", "web"]})
    assert [name for name in ("shop", "web", "dev") if covering([literal], namespace=name)] == ["shop", "web"]


def test_namespaces_by_label_and_what_is_not_known_is_not_guessed() -> None:
    one = policy("a", namespaces={"selector": {"matchLabels": {"tier": "gold"}}})
    assert covering([one], of_namespace={"tier": "gold"}) == ["cluster/a"]
    assert match([one], of_namespace={"tier": "lead"}) == Match()
    unknown = match([one, policy("b")], of_namespace=None)
    assert [p.key.name for p in unknown.covering] == ["b"]
    assert [p.key.name for p in unknown.uncertain] == ["a"]


@pytest.mark.parametrize(
    ("expression", "labels", "selected"),
    [
        ({"key": "t", "operator": "In", "values": ["a", "b"]}, {"t": "a"}, True),
        ({"key": "t", "operator": "In", "values": ["a", "b"]}, {"t": "c"}, False),
        ({"key": "t", "operator": "In", "values": ["a", "b"]}, {}, False),
        ({"key": "t", "operator": "NotIn", "values": ["a"]}, {"t": "b"}, True),
        ({"key": "t", "operator": "NotIn", "values": ["a"]}, {"t": "a"}, False),
        ({"key": "t", "operator": "NotIn", "values": ["a"]}, {}, True),
        ({"key": "t", "operator": "Exists"}, {"t": ""}, True),
        ({"key": "t", "operator": "Exists"}, {}, False),
        ({"key": "t", "operator": "DoesNotExist"}, {"t": ""}, False),
        ({"key": "t", "operator": "DoesNotExist"}, {}, True),
    ],
)
def test_selectors_mean_what_they_mean_in_kubernetes(
    expression: dict[str, Any], labels: dict[str, str], selected: bool
) -> None:
    one = policy("shop/a", workloads={"selector": {"matchLabels": {"app": "x"}, "matchExpressions": [expression]}})
    assert bool(covering([one], labels={"app": "x", **labels})) is selected
    assert covering([one], labels=labels) == []


def test_workloads_by_service_account_and_kind_of_container() -> None:
    one = policy("shop/a", workloads={"serviceAccounts": ["web-*", "api"], "containers": ["init", "volume"]})
    assert covering([one], account="web-1", kind="init") == ["shop/a"]
    assert covering([one], account="api", kind="volume") == ["shop/a"]
    assert covering([one], account="api", kind="main") == []
    assert covering([one], account="apix", kind="init") == []
    assert covering([policy("shop/b", workloads={})], kind="ephemeral") == ["shop/b"]


def test_m09_a_fallback_gives_way_to_a_cluster_policy_and_never_to_a_tenants() -> None:
    fallback, strict = policy("base", fallback=True), policy("strict", images=["ghcr.io/acme/**"])
    assert covering([fallback]) == ["cluster/base"]
    assert covering([fallback, policy("shop/mine")]) == ["cluster/base", "shop/mine"]
    assert covering([fallback, strict]) == ["cluster/strict"]
    assert covering([fallback, strict], "nginx") == ["cluster/base"]
    assert covering([fallback, policy("base2", fallback=True)]) == ["cluster/base", "cluster/base2"]
    # One that only denies covers nothing, and one that may not apply replaces nothing.
    denies = policy("denies", spec={"deny": {"digests": [DIGEST]}})
    assert covering([fallback, denies]) == ["cluster/base"]
    perhaps = policy("perhaps", namespaces={"selector": {"matchLabels": {"a": "b"}}})
    assert covering([fallback, perhaps]) == ["cluster/base"]


def test_deny_lists_apply_whether_their_policy_covers_the_image_or_not() -> None:
    denies = policy("denies", spec={"deny": {"digests": [DIGEST]}})
    both = policy("shop/both", deny={"digests": [DIGEST]})
    found = match([denies, both, policy("shop/plain")])
    assert [str(p.key) for p in found.covering] == ["shop/both", "shop/plain"]
    assert [str(p.key) for p in found.denying] == ["cluster/denies", "shop/both"]


def test_a_broken_policy_covers() -> None:
    broken = broken_policy(PolicyKey("shop", "a"), {"images": ["ghcr.io/**"]}, ("x",))
    assert covering([broken]) == ["shop/a"]
    assert covering([broken], "nginx") == []


_GLOBS = st.sampled_from(
    ["**", "ghcr.io/**", "ghcr.io/acme/**", "ghcr.io/acme/web", "ghcr.io/ac*/web", "*.io/acme/*", "nginx", "docker.io/**",
     "ghcr.io/acme/web:v1", "localhost:5000/**", "localhost:5000/a"]
)  # fmt: skip
_IMAGES = st.sampled_from(
    ["ghcr.io/acme/web", "ghcr.io/acme/web:v1", "ghcr.io/acme/web/x", "ghcr.io/a", "nginx", "acme/web", "localhost:5000/a",
     "localhost:5000/a/b", "quay.io/acme/web"]
)  # fmt: skip
_NAMESPACES = st.sampled_from(["shop", "web", "prod-a"])


@st.composite
def _policies(draw: st.DrawFn) -> Policy:
    name = draw(st.sampled_from("abcd"))
    globs = draw(st.lists(_GLOBS, min_size=1, max_size=3))
    if draw(st.booleans()):
        return policy(f"{draw(_NAMESPACES)}/{name}", images=globs)
    names = draw(st.lists(st.sampled_from(["shop", "web", "prod-*"]), max_size=2))
    return policy(name, images=globs, namespaces={"match": names}, fallback=draw(st.booleans()))


@given(st.lists(_policies(), max_size=6), _IMAGES, _NAMESPACES, st.data())
def test_the_index_finds_what_a_search_of_all_policies_finds(
    policies: list[Policy], image: str, namespace: str, data: st.DataObject
) -> None:
    by_key = {p.key: p for p in policies}
    reference, who = parse_reference(image), Workload(namespace, "default", {})
    expected = [
        p
        for p in by_key.values()
        if any(glob.matches(reference) for glob in p.images)
        and p.key.namespace in {None, namespace}
        and (p.scope.namespaces is None or p.scope.namespaces.includes(namespace))
    ]
    if any(p.key.namespace is None and not p.scope.fallback for p in expected):
        expected = [p for p in expected if not p.scope.fallback]
    # Built at once, and built up and taken apart step by step: the same.
    index = PolicyIndex.of(())
    for extra in (*data.draw(st.lists(_policies(), max_size=3)), *policies):
        index = index.replacing(index.policies.get(extra.key), extra)
    for key in set(index.policies) - set(by_key):
        index = index.replacing(index.policies[key], None)
    for built in (index, PolicyIndex.of(policies)):
        assert set(built.match(reference, who, "main", {}).covering) == set(expected)
        assert built.policies == by_key


def test_what_is_taken_out_leaves_nothing_behind() -> None:
    one = policy("shop/a")
    index = PolicyIndex.of([one]).replacing(one, None)
    assert index._drawers == {}


DELEGATES: dict[str, Any] = {
    "delegate": [{"namespaces": ["shop", "team-*"], "images": ["ghcr.io/acme/{namespace}/**", "nginx:1.*"]}]
}


def test_m09_a_tenants_policy_stands_in_where_the_cluster_policy_says_so_and_nowhere_else() -> None:
    base, own, other = policy("base", **DELEGATES), policy("shop/own"), policy("also")
    assert covering([base, own], "ghcr.io/acme/shop/web:v1") == ["shop/own"]
    # Only those images, only those namespaces, only for that policy, and only where the tenant's covers the image.
    assert covering([base, own], "ghcr.io/acme/team-a/web:v1") == ["cluster/base", "shop/own"]
    assert covering([base, own], "ghcr.io/acme/shop:v1") == ["cluster/base", "shop/own"]
    assert covering([base, policy("dev/own")], "ghcr.io/acme/dev/web", namespace="dev") == ["cluster/base", "dev/own"]
    assert covering([base, own, other], "ghcr.io/acme/shop/web:v1") == ["cluster/also", "shop/own"]
    assert covering([base], "ghcr.io/acme/shop/web:v1") == ["cluster/base"]
    narrow = policy("shop/own", workloads={"containers": ["init"]})
    assert covering([base, narrow], "ghcr.io/acme/shop/web:v1") == ["cluster/base"]


def test_m09_a_delegated_tag_beside_a_digest_is_nobodys_word() -> None:
    base, own = policy("base", **DELEGATES), policy("shop/own", images=["**"])
    assert covering([base, own], "nginx:1.27") == ["shop/own"]
    assert covering([base, own], f"nginx:1.27@{DIGEST}") == ["cluster/base", "shop/own"]
    assert covering([base, own], "nginx:2.0") == ["cluster/base", "shop/own"]


def test_m09_what_is_delegated_still_denies_and_brings_no_fallback_back() -> None:
    base = policy("base", **DELEGATES, deny={"digests": [DIGEST]})
    policies = [base, policy("rest", images=["**"], fallback=True), policy("shop/own")]
    found = match(policies, "ghcr.io/acme/shop/web:v1")
    assert [str(one.key) for one in found.covering] == ["shop/own"]
    assert [str(one.key) for one in found.denying] == ["cluster/base"]
    lenient = policy("rest", images=["**"], fallback=True, **DELEGATES)
    assert covering([lenient, policy("shop/own")], "ghcr.io/acme/shop/web:v1") == ["shop/own"]
