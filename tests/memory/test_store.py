"""The store: whole snapshots, never half of a change."""

from webhook.memory.store import PolicyStore
from webhook.policy.parse import broken_policy
from webhook.verdict import PolicyKey

A = PolicyKey("shop", "a")
B = PolicyKey(None, "b")


def test_a_review_keeps_the_snapshot_it_began_with() -> None:
    store = PolicyStore()
    before = store.snapshot
    store.put(broken_policy(A, {}, ("x",)))
    assert not before.index.policies
    assert set(store.snapshot.index.policies) == {A}
    assert store.snapshot is not before


def test_policies_come_are_replaced_and_go() -> None:
    store = PolicyStore()
    store.put(broken_policy(A, {}, ("x",)))
    newer = broken_policy(A, {}, ("y",))
    store.put(newer)
    store.put(broken_policy(B, {}, ("z",)))
    assert store.snapshot.index.policies[A] is newer
    store.discard(A)
    store.discard(A)
    assert set(store.snapshot.index.policies) == {B}
    store.replace_all([newer])
    assert set(store.snapshot.index.policies) == {A}


def test_nothing_is_ready_before_the_first_full_list() -> None:
    store = PolicyStore()
    store.put(broken_policy(A, {}, ("x",)))
    assert not store.is_ready
    store.set_ready()
    assert store.is_ready


def test_w03_the_name_label_of_a_namespace_cannot_be_claimed_by_a_label() -> None:
    store = PolicyStore()
    assert store.snapshot.namespace_labels("shop") is None
    store.put_namespace("shop", {"kubernetes.io/metadata.name": "kube-system", "team": "a"})
    assert store.snapshot.namespace_labels("shop") == {"kubernetes.io/metadata.name": "shop", "team": "a"}
    store.discard_namespace("shop")
    store.discard_namespace("shop")
    assert store.snapshot.namespace_labels("shop") is None
