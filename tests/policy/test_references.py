"""References to other policies' signers: what they lead to, and that they lead to nothing else."""

import datetime as dt
from typing import Any

import pytest

from tests.policies import KEY, OTHER_KEY, policy
from webhook import limits
from webhook.formats.cosign.signer import Cosign
from webhook.memory.store import PolicyStore
from webhook.parsing import Invalid
from webhook.policy.attestation import Attested
from webhook.policy.parse import broken_policy
from webhook.policy.policy import NamedSigner, Policy
from webhook.policy.references import linked
from webhook.policy.window import Windowed
from webhook.trust import KeyRef, Unresolved
from webhook.verdict import PolicyKey


def refers(to: str, name: str = "shop/web", **fields: Any) -> Policy:
    return policy(name, {"signers": [{"name": "release", "ref": {"name": to}}]}, **fields)


def cluster(name: str = "base", key: str = KEY, signer: str = "release") -> Policy:
    return policy(name, {"signers": [{"name": signer, "cosign": {"key": key}}]})


def followed(one: Policy, *others: Policy) -> NamedSigner:
    [named] = linked(one, {other.key: other for other in (one, *others)}).signers
    return named


def test_a_reference_gives_the_signer_it_leads_to() -> None:
    named = followed(refers("base/release"), cluster())
    assert isinstance(named.signer, Cosign)
    assert named.signer == cluster().signers[0].signer
    assert (named.name, str(named.ref)) == ("release", "base/release")
    # A cluster policy may refer, too, and to what refers itself.
    chained = followed(refers("middle/release"), refers("base/release", "middle"), cluster())
    assert chained.signer == named.signer


def test_a_policy_without_references_is_left_as_it_is() -> None:
    one = cluster("shop/web")
    assert linked(one, {}) is one
    same = linked(refers("base/release"), {cluster().key: cluster()})
    assert linked(same, {cluster().key: cluster()}) is same


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ([], "there is no ClusterTrustPolicy base"),
        # One of a namespace, even of the same name, is none.
        ([cluster("shop/base")], "there is no ClusterTrustPolicy base"),
        ([cluster(signer="other")], "ClusterTrustPolicy base has no signer release"),
        ([policy("base", {"deny": {"digests": []}, "signers": [{"name": "x", "cosign": {"key": KEY}}]})], "ClusterTrustPolicy base has no signer release"),
        ([broken_policy(PolicyKey(None, "base"), {}, ("x",))], "ClusterTrustPolicy base is broken"),
        ([refers("base/release", "base")], "it refers to itself: base/release → base/release"),
        (
            [refers("next/release", "base"), refers("base/release", "next")],
            "it refers to itself: base/release → next/release → base/release",
        ),
        ([refers("gone/release", "base")], "there is no ClusterTrustPolicy gone"),
        (
            [policy("base", {"signers": [{"name": "release", "cosign": {"key": "secret://k#cosign.pub"}}]}, {KeyRef("secret://k#cosign.pub"): Unresolved("Secret k not found")})],
            "Secret k not found",
        ),
    ],
)  # fmt: skip
def test_v01_f25_a_reference_that_leads_nowhere_is_undecided_with_the_reason(others: list[Policy], reason: str) -> None:
    assert followed(refers("base/release"), *others).signer == Unresolved(reason)


def test_d01_a_reference_leads_through_so_many_policies_and_no_more() -> None:
    def chain(length: int) -> list[Policy]:
        return [refers(f"p{i + 1}/release", f"p{i}") for i in range(1, length)] + [cluster(f"p{length}")]

    assert isinstance(followed(refers("p1/release"), *chain(limits.MAX_REFERENCES)).signer, Cosign)
    too_long = followed(refers("p1/release"), *chain(limits.MAX_REFERENCES + 1))
    assert too_long.signer == Unresolved("it leads through more than 8 references")


@pytest.mark.parametrize(
    ("signer", "complaint"),
    [
        ({"ref": {"name": "base"}}, r"spec\.signers\[0\]\.ref\.name: base: write POLICY/SIGNER"),
        ({"ref": {"name": "/release"}}, "write POLICY/SIGNER"),
        ({"ref": {"name": "base/"}}, "write POLICY/SIGNER"),
        ({"ref": {"name": "a/b/c"}}, "write POLICY/SIGNER"),
        ({"ref": {"name": "Base/release"}}, "write POLICY/SIGNER"),
        ({"ref": {"name": "base/Release"}}, "write POLICY/SIGNER"),
        ({"ref": {}}, r"spec\.signers\[0\]\.ref\.name: required"),
        ({"ref": "base/release"}, r"spec\.signers\[0\]\.ref: expected object, got str"),
        ({"ref": {"name": "base/release", "namespace": "x"}}, r"spec\.signers\[0\]\.ref\.namespace: unknown field"),
        ({"ref": {"name": "base/release"}, "cosign": {"key": KEY}}, "cosign and ref, exactly one signature format"),
    ],
)
def test_m10_a_reference_that_is_wrong_is_refused(signer: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        policy(spec={"signers": [{"name": "release", **signer}]})
    with pytest.raises(Invalid, match=r"signers\[0\]\.name: required"):
        policy(spec={"signers": [{"ref": {"name": "base/release"}}]})


# ── in force ─────────────────────────────────────────────────────────────────────────────────────────────────────────
WEB, BASE = PolicyKey("shop", "web"), PolicyKey(None, "base")


def in_force(store: PolicyStore, key: PolicyKey = WEB) -> object:
    return store.snapshot.index.policies[key].signers[0].signer


def signer_of(one: Policy) -> object:
    return one.signers[0].signer


def test_m04_a_reference_follows_its_policy_within_the_same_snapshot() -> None:
    store = PolicyStore()
    store.put(refers("base/release"))
    assert in_force(store) == Unresolved("there is no ClusterTrustPolicy base")
    for written, expected in [
        (cluster(), signer_of(cluster())),
        (cluster(key=OTHER_KEY), signer_of(cluster(key=OTHER_KEY))),
        (cluster(signer="other"), Unresolved("ClusterTrustPolicy base has no signer release")),
        (broken_policy(BASE, {}, ("x",)), Unresolved("ClusterTrustPolicy base is broken")),
        (cluster(), signer_of(cluster())),
    ]:
        before = store.snapshot
        seen_before = in_force(store)
        store.put(written)
        assert in_force(store) == expected
        # A review that began before sees neither change.
        assert before.index.policies[WEB].signers[0].signer == seen_before
        assert store.snapshot is not before
    store.discard(BASE)
    assert in_force(store) == Unresolved("there is no ClusterTrustPolicy base")


def test_m04_a_change_goes_through_every_policy_in_between() -> None:
    store = PolicyStore()
    store.replace_all([refers("middle/release"), refers("base/release", "middle"), cluster()])
    assert in_force(store) == signer_of(cluster())
    store.put(cluster(key=OTHER_KEY))
    assert in_force(store) == in_force(store, PolicyKey(None, "middle")) == signer_of(cluster(key=OTHER_KEY))
    store.discard(PolicyKey(None, "middle"))
    assert in_force(store) == Unresolved("there is no ClusterTrustPolicy middle")


def test_what_changes_nothing_leaves_the_snapshot() -> None:
    store = PolicyStore()
    store.replace_all([refers("base/release"), cluster()])
    before = store.snapshot
    store.put(refers("base/release"))
    store.put(cluster())
    store.replace_all([refers("base/release"), cluster()])
    store.discard(PolicyKey(None, "other"))
    assert store.snapshot is before
    # Policies of namespaces cannot be referred to, so that one of them touches no other.
    store.put(cluster("shop/base"))
    assert store.snapshot.index.policies[WEB] is before.index.policies[WEB]


def test_m09_a_reference_widens_nothing() -> None:
    """It is the signer, word for word: nothing of the policy that has it comes along."""
    base = policy("base", {"signers": [{"name": "release", "cosign": {"key": KEY}}], "mode": "audit", "tags": "refuse"})
    web = linked(refers("base/release"), {BASE: base})
    alone = policy("shop/web", {"signers": [{"name": "release", "cosign": {"key": KEY}}]})
    assert web.signers[0].signer == alone.signers[0].signer
    assert (web.require, web.terms.mode, web.terms.tags, web.images) == (
        alone.require,
        alone.terms.mode,
        alone.terms.tags,
        alone.images,
    )


def test_m09_what_belongs_to_the_signer_comes_along_and_what_belongs_to_its_policy_does_not() -> None:
    bounded = {"name": "release", "cosign": {"key": KEY}, "validity": {"notAfter": "2027-01-01T00:00:00Z"}}
    base = policy("base", {"signers": [bounded], "freshness": {"maxSignatureAge": "1h"}})
    web = linked(refers("base/release"), {BASE: base})
    assert web.demands[0].signer == base.signers[0].signer
    assert isinstance(web.demands[0].signer, Windowed)
    # The policy that refers has an age of its own.
    young = linked(refers("base/release", freshness={"maxSignatureAge": "2h"}), {BASE: base})
    inner = base.signers[0].signer
    assert not isinstance(inner, Unresolved)
    assert young.demands[0].signer == Windowed(inner, max_age=dt.timedelta(hours=2))


def test_a_signer_that_is_referred_to_may_attest() -> None:
    wanted = {"name": "scan", "type": "vuln"}
    for asked in (wanted, {**wanted, "signedBy": ["release"]}):
        unlinked = refers("base/release", attestations=[asked])
        assert unlinked.demands[1].unread == 'signer "release": it is signer base/release: not looked up yet'
        web = linked(unlinked, {BASE: cluster()})
        attested = web.demands[1].signer
        assert isinstance(attested, Attested)
        assert attested.by == (cluster().signers[0].signer,)
        gone = linked(web, {})
        assert (
            gone.demands[1].unread == 'signer "release": it is signer base/release: there is no ClusterTrustPolicy base'
        )


def test_v01_a_reference_to_what_cannot_attest_is_undecided() -> None:
    decree = policy("base", {"signers": [{"name": "release", "static": {"allow": True, "reason": "why"}}]})
    web = linked(refers("base/release", attestations=[{"name": "scan", "type": "vuln"}]), {BASE: decree})
    assert web.demands[1].signer == Unresolved("none of its signers can attest")
    # What it is, and that it has no age, comes along.
    young = linked(refers("base/release", freshness={"maxSignatureAge": "2h"}), {BASE: decree})
    assert young.demands[0].signer == decree.signers[0].signer
