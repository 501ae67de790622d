"""Policies as people write them: what is right becomes a value, what is wrong all complaints with their paths (M-10)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.policies import KEY, SIGNED, inline, policy
from webhook.formats import FORMATS
from webhook.image import parse_digest
from webhook.parsing import Invalid
from webhook.policy.document import API_VERSION, parse_document
from webhook.policy.globs import EVERYTHING
from webhook.policy.parse import broken_policy, key_references, parse_policy, warnings
from webhook.policy.policy import ALL_WORKLOADS, NO_DENIALS, Policy, Selector
from webhook.trust import KeyRef, Unresolved
from webhook.verdict import PolicyKey

DIGEST = parse_digest("sha256:" + "ab" * 32)
PRINT = "SHA256:" + "ab" * 32


def complaints(spec: object, name: str = "shop/web") -> list[str]:
    namespace, slash, last = name.rpartition("/")
    with pytest.raises(Invalid) as refused:
        parse_policy(PolicyKey(namespace if slash else None, last), spec, inline(spec), FORMATS, "trusted-images")
    return list(refused.value.complaints)


def test_the_short_policy_means_what_it_says() -> None:
    read = policy()
    assert (read.key, read.terms.mode, read.terms.tags, read.scope.fallback) == (
        PolicyKey("shop", "web"),
        "enforce",
        "pin",
        False,
    )
    assert read.images == (EVERYTHING,)
    assert read.scope.workloads is ALL_WORKLOADS
    assert str(read.require) == "release"
    assert read.covers_images
    assert hash(read) == hash(policy())


def test_every_field_reaches_the_policy() -> None:
    read = policy(
        "all",
        f"""
        images: [ghcr.io/acme/**]
        exclude: [ghcr.io/acme/sandbox/**]
        namespaces:
          match: [prod-*]
          exclude: [prod-lab]
          selector: {{matchLabels: {{tier: gold}}, matchExpressions: [{{key: team, operator: In, values: [a]}}]}}
        workloads:
          selector: {{matchLabels: {{app: web}}}}
          serviceAccounts: [web-*]
          containers: [main, volume]
        fallback: true
        signers:
          - {{name: first, static: {{allow: true, reason: frozen, digests: ["{DIGEST}"]}}}}
          - {{name: second, static: {{allow: false, reason: nobody}}}}
        require: first and second
        tags: refuse
        mode: warn
        deny: {{digests: ["{DIGEST}"], keys: ["sha256:{"AB" * 32}"]}}
        message: ask the platform team
        """,
    )
    assert [str(glob) for glob in (*read.images, *read.exclude)] == ["ghcr.io/acme/**", "ghcr.io/acme/sandbox/**"]
    assert read.scope.namespaces is not None
    assert read.scope.namespaces.includes("prod-a")
    assert not read.scope.namespaces.includes("prod-lab")
    assert isinstance(read.scope.namespaces.selector, Selector)
    assert read.scope.workloads.containers == {"main", "volume"}
    assert [str(glob) for glob in read.scope.workloads.service_accounts] == ["web-*"]
    assert read.scope.fallback
    assert str(read.require) == "(first and second)"
    assert (read.terms.tags, read.terms.mode, read.terms.message) == ("refuse", "warn", "ask the platform team")
    assert (read.terms.deny.digests, read.terms.deny.identities) == (frozenset({DIGEST}), frozenset({PRINT}))
    by_gpg = policy(spec={"deny": {"keys": ["gpg:" + "aB" * 20]}})
    assert by_gpg.terms.deny.identities == {"GPG:" + "AB" * 20}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, ["spec.images: required", "spec.signers: required, unless the policy only has `deny`"]),
        (None, ["spec: expected object, got null"]),
        (
            {"images": ["docker.io/*"], "bar": 1, "mode": "dryrun", "require": "a and b", "signers": [{"name": "a", "static": {"allow": 1}}]},
            [
                "spec.bar: unknown field",
                "spec.mode: dryrun is none of enforce, warn, audit",
                "spec.signers[0].static.allow: expected bool, got int",
                "spec.signers[0].static.reason: required",
                'spec.require: column 7: unknown name "b"',
                "spec.images[0]: docker.io/*: matches nothing",
            ],
        ),
        ({"images": ["**"], "signers": 1}, ["spec.signers: expected array, got int"]),
        (
            {**SIGNED, "images": ["**"], "workloads": {"selector": {"matchLabels": {"a": 1}}}},
            ["spec.workloads.selector.matchLabels[a]: expected str, got int"],
        ),
        ({"images": ["**"], "deny": 1}, ["spec.deny: expected object, got int"]),
        ({**SIGNED, "images": []}, ["spec.images: expected array of length >= 1"]),
        ({**SIGNED, "images": ["docker.io/*"]}, ["spec.images[0]: docker.io/*: matches nothing"]),
        ({**SIGNED, "images": ["**"], "exclude": ["*/x"]}, ["spec.exclude[0]: */x: `*` is one label of a host"]),
        ({**SIGNED, "images": ["**"], "imagez": 1}, ["spec.imagez: unknown field; known: attestations, delegate, deny"]),
        ({**SIGNED, "images": ["**"], "mode": "dryrun"}, ["spec.mode: dryrun is none of enforce, warn, audit"]),
        ({**SIGNED, "images": ["**"], "tags": True}, ["spec.tags: True is none of allow, refuse"]),
        ({**SIGNED, "images": ["**"], "message": ""}, ["spec.message: expected str of length >= 1"]),
        ({**SIGNED, "images": ["**"], "fallback": True}, ["spec.fallback: only a ClusterTrustPolicy has it"]),
        (
            {**SIGNED, "images": ["**"], "delegate": [{"namespaces": ["a"], "images": ["b"]}]},
            ["spec.delegate: only a ClusterTrustPolicy has it"],
        ),
        (
            {**SIGNED, "images": ["**"], "delegate": [{"namespaces": ["A"], "images": ["{namespace}.io/**", "x//y"]}]},
            [
                "spec.delegate: only a ClusterTrustPolicy has it",
                "spec.delegate[0].namespaces[0]: A: matches no name",
                "spec.delegate[0].images[0]: {namespace}.io/**: {namespace} may stand in the path alone",
                "spec.delegate[0].images[1]: x//y: an empty part matches no part of a path",
            ],
        ),
        (
            {**SIGNED, "images": ["**"], "delegate": [{"namespaces": [], "images": []}]},
            [
                "spec.delegate[0].namespaces: expected array of length >= 1",
                "spec.delegate[0].images: expected array of length >= 1",
            ],
        ),
        (
            {"images": ["**"], "signers": [{"name": "a", "ref": {"name": "base/a"}, "hardware": {}}]},
            ["spec.signers[0].hardware: the policy that is referred to says where its keys are"],
        ),
        ({**SIGNED, "images": ["**"], "namespaces": {}}, ["spec.namespaces: only a ClusterTrustPolicy has it"]),
        ({"images": ["**"]}, ["spec.signers: required, unless the policy only has `deny`"]),
        ({"images": ["**"], "deny": {}}, ["spec.deny: empty, and there are no signers"]),
        (
            {"images": ["**"], "deny": {"digests": [DIGEST]}, "require": "a"},
            ["spec.require: there are no signers that it could name"],
        ),
        ({"images": ["**"], "signers": [], "require": "any"}, ["spec.signers: required", "spec.require: there are no"]),
        ({**SIGNED, "images": ["**"], "require": "releas"}, ['spec.require: column 1: unknown name "releas"']),
        ({**SIGNED, "images": ["**"], "deny": {"digests": ["x"]}}, ["spec.deny.digests[0]: x: not a digest"]),
        ({**SIGNED, "images": ["**"], "deny": {"keys": ["x"]}}, ["spec.deny.keys[0]: x: not a fingerprint"]),
        ({**SIGNED, "images": ["**"], "workloads": {"containers": []}}, ["spec.workloads.containers: empty"]),
        (
            {**SIGNED, "images": ["**"], "workloads": {"serviceAccounts": ["A"]}},
            ["spec.workloads.serviceAccounts[0]: A: matches no name"],
        ),
        (
            {
                **SIGNED,
                "images": ["**"],
                "workloads": {
                    "selector": {
                        "matchExpressions": [
                            {"key": "a", "operator": "In"},
                            {"key": "a", "operator": "Exists", "values": ["x"]},
                        ]
                    }
                },
            },
            [
                "spec.workloads.selector.matchExpressions[0].values: In needs values",
                "spec.workloads.selector.matchExpressions[1].values: Exists has no values",
            ],
        ),
        (
            {"images": ["**"], "signers": [{"static": {"allow": True, "reason": "x"}}]},
            ["spec.signers[0].name: required"],
        ),
        (
            {"images": ["**"], "signers": [{"name": name, "static": {"allow": True, "reason": "x"}} for name in
             ("any", "12", "A", "a", "a")]},
            ["spec.signers[0].name: any", "spec.signers[1].name: 12", "spec.signers[2].name: A",
             "spec.signers[4].name: a is another's name; signers and attestations share them"],
        ),
        (
            {"images": ["**"], "signers": [{"name": "a"}]},
            [f"spec.signers[0]: exactly one signature format is wanted: {', '.join(FORMATS)}, ref"],
        ),
        (
            {"images": ["**"], "signers": [{"name": "a", "cosign": {}, "static": {}}]},
            ["spec.signers[0]: cosign and static, exactly one signature format is wanted"],
        ),
        (
            {"images": ["**"], "signers": [{"name": "a", "cosing": {"key": KEY}, "static": {"allow": 1}}]},
            [
                f"spec.signers[0].cosing: unknown field; known: name, validity, hardware, {', '.join(FORMATS)}, ref",
                "spec.signers[0].static.allow: expected bool, got int",
                "spec.signers[0].static.reason: required",
            ],
        ),
        (
            {"images": ["**"], "signers": [{"name": "a", "cosign": {"key": "secret://b/c#d"}}]},
            ["spec.signers[0].cosign.key: namespace b: a policy of this kind reads its own namespace only (shop)"],
        ),
        (
            {"images": ["**"], "signers": [{"name": "a", "cosign": {"keys": [KEY, "awskms:///alias/x"]}}]},
            ["spec.signers[0].cosign.keys[1]: awskms: key references are not supported yet"],
        ),
        (
            {"images": ["*/x"], "signers": [{"name": "a", "cosign": None}], "mode": "warn", "require": "b"},
            ["spec.signers[0].cosign: expected", 'spec.require: column 1: unknown name "b"', "spec.images[0]: */x"],
        ),
    ],
)  # fmt: skip
def test_m10_every_mistake_is_told_with_its_place(spec: object, wanted: list[str]) -> None:
    found = complaints(spec)
    assert len(found) == len(wanted)
    for complaint, beginning in zip(found, wanted, strict=True):
        assert complaint.startswith(beginning)


def test_m10_a_private_key_in_a_policy_is_refused_and_never_repeated() -> None:
    secret = "-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0c2VjcmV0\n-----END EC PRIVATE KEY-----\n"
    spec = {"images": ["**"], "signers": [{"name": "a", "cosign": {"key": secret}}]}
    (complaint,) = complaints(spec)
    assert "a private key; give the public key, and consider the private one lost" in complaint
    assert "c2VjcmV0" not in complaint


def test_a_key_that_cannot_be_had_now_leaves_its_signer_unresolved_and_the_policy_whole() -> None:
    read = policy(spec={"signers": [{"name": "a", "cosign": {"keys": ["secret://gone#x", KEY]}}]},
                  materials={KeyRef("secret://gone#x"): Unresolved("no Secret shop/gone")})  # fmt: skip
    assert read.signers[0].signer == Unresolved("no Secret shop/gone")
    assert warnings(read) == ()
    unread = policy(spec={"signers": [{"name": "a", "cosign": {"key": "secret://gone#x"}}]})
    assert unread.signers[0].signer == Unresolved("not read")


ACME_ROOT = {"type": "ca", "certs": "configmap://acme-root#root.pem"}


def test_who_may_sign_is_told_before_the_keys_are_read() -> None:
    anybody = {"trustStores": [ACME_ROOT], "trustedIdentities": ["*"], "level": "audit"}
    read = policy(spec={"signers": [{"name": "a", "notation": anybody}]})
    assert isinstance(read.signers[0].signer, Unresolved)
    assert warnings(read) == ('signer "a": notation: authenticity is only logged, so that anybody may have signed',)
    somebody = {**anybody, "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Acme"], "level": "strict"}
    assert warnings(policy(spec={"signers": [{"name": "a", "notation": somebody}]})) == ()


@pytest.mark.parametrize(
    ("signer", "where"),
    [
        ({"notation": {"trustStores": [ACME_ROOT], "trustedIdentities": ["garbage"]}}, "notation.trustedIdentities[0]"),
        ({"gpg": {"keys": "secret://a#b", "lookaside": "https://u:p@a.io/../x"}}, "gpg.lookaside"),
        ({"dct": {"server": "notaurl", "rootKeys": ["secret://a#b"]}}, "dct.server"),
    ],
)
def test_what_is_written_wrongly_is_refused_before_the_keys_are_read(signer: dict[str, Any], where: str) -> None:
    with pytest.raises(Invalid) as refused:
        policy(spec={"signers": [{"name": "a", **signer}]})
    assert [complaint.partition(": ")[0] for complaint in refused.value.complaints] == [f"spec.signers[0].{where}"]


def test_key_references_are_found_in_what_is_readable() -> None:
    assert key_references({"signers": [{"name": "a", "cosign": {"keys": ["x", "y"]}}]}, FORMATS) == {"x", "y"}
    unreadable: list[object] = [
        None, [], {}, {"signers": 1}, {"signers": [1]}, {"signers": [{"cosign": 1}]}, {"signers": [{"cosign": None}]}
    ]  # fmt: skip
    for spec in unreadable:
        assert key_references(spec, FORMATS) == frozenset()


def document(**changes: Any) -> dict[str, Any]:
    whole = {"apiVersion": API_VERSION, "kind": "TrustPolicy", "metadata": {"name": "a", "namespace": "b"}, "spec": {}}
    return {**whole, **changes}


def test_documents_are_recognised() -> None:
    assert parse_document(document()).key == PolicyKey("b", "a")
    assert parse_document(document(metadata={"name": "a"})).key == PolicyKey("default", "a")
    assert parse_document(document(kind="ClusterTrustPolicy", metadata={"name": "a", "uid": "x"})).key == PolicyKey(
        None, "a"
    )
    assert parse_document(document(status={"anything": 1})).spec == {}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"apiVersion": "v1"}, "apiVersion: v1, expected trusted-images.dev/v1alpha1"),
        ({"kind": "Pod"}, "kind: Pod, expected TrustPolicy or ClusterTrustPolicy"),
        ({"metadata": {"name": "A"}}, "metadata.name: A is not a name of Kubernetes"),
        ({"metadata": {"name": "a", "namespace": "../b"}}, "metadata.namespace: ../b is not a name of Kubernetes"),
        ({"kind": "ClusterTrustPolicy"}, "metadata.namespace: a ClusterTrustPolicy stands in no namespace"),
        ({"data": 1}, ".data: unknown field"),
    ],
)
def test_documents_that_are_something_else_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_document(document(**changes))
    assert str(refused.value).startswith(complaint)


def test_a_broken_policy_covers_what_it_can_be_read_to_cover() -> None:
    spec = {
        "images": ["ghcr.io/acme/**"],
        "exclude": ["ghcr.io/acme/x"],
        "namespaces": {"match": ["prod-*"]},
        "workloads": {"containers": ["main"]},
        "fallback": True,
        "mode": "warn",
        "deny": {"digests": [DIGEST]},
        "signers": 7,
    }
    broken = broken_policy(PolicyKey(None, "a"), spec, ("spec.signers: wrong",))
    assert broken.covers_images
    assert broken.faults == ("spec.signers: wrong",)
    assert [str(glob) for glob in (*broken.images, *broken.exclude)] == ["ghcr.io/acme/**", "ghcr.io/acme/x"]
    assert broken.scope.namespaces is not None
    assert broken.scope.namespaces.includes("prod-a")
    assert broken.scope.workloads.containers == {"main"}
    assert (broken.scope.fallback, broken.terms.mode, broken.terms.deny.digests) == (True, "warn", frozenset({DIGEST}))


@pytest.mark.parametrize(
    "spec",
    [
        None,
        "text",
        [],
        {"images": "x", "exclude": 1, "namespaces": 2, "workloads": 3, "mode": 4, "deny": 5, "fallback": 6},
        {
            "images": ["ghcr.io/a", "docker.io/*"],
            "exclude": ["**", "*/x"],
            "namespaces": {"match": ["A"]},
            "workloads": {"serviceAccounts": ["A"]},
            "mode": "never",
            "deny": {"digests": ["x"]},
            "fallback": "true",
        },
        {"images": [], "namespaces": {"match": [1]}},
    ],
)
def test_what_cannot_be_read_of_a_broken_policy_is_taken_at_its_widest(spec: object) -> None:
    broken = broken_policy(PolicyKey(None, "a"), spec, ("x",))
    assert (broken.images, broken.exclude, broken.scope.namespaces) == ((EVERYTHING,), (), None)
    assert (broken.scope.workloads, broken.terms.mode, broken.scope.fallback, broken.terms.deny) == (
        ALL_WORKLOADS,
        "enforce",
        False,
        NO_DENIALS,
    )


def _warned(read: Policy) -> list[str]:
    return [warning.partition(":")[0] for warning in warnings(read)]


def test_p01_no_list_of_globs_takes_one_that_matches_nothing() -> None:
    spec = {
        **SIGNED,
        "images": ["ghcr.io/acme/.*"],
        "exclude": ["ghcr.io/acme/*_"],
        "delegate": [{"namespaces": ["a"], "images": ["ghcr.io/{namespace}/.*"]}],
    }
    with pytest.raises(Invalid) as refused:
        parse_policy(PolicyKey(None, "web"), spec, inline(spec), FORMATS, "trusted-images")
    assert [complaint.rpartition(": ")[0] for complaint in refused.value.complaints] == [
        "spec.images[0]: ghcr.io/acme/.*: .* matches no part of a path",
        "spec.exclude[0]: ghcr.io/acme/*_",
        "spec.delegate[0].images[0]: ghcr.io/{namespace}/.*: .* matches no part of a path",
    ]
    assert broken_policy(PolicyKey(None, "web"), spec, refused.value.complaints).covers_images


def test_p09_what_is_allowed_and_yet_dangerous_is_warned_about() -> None:
    assert warnings(policy(images=["ghcr.io/acme/**"])) == ()
    assert _warned(policy(exclude=["**"])) == ["spec.exclude"]
    assert _warned(policy(images=[f"**/x{i}" for i in range(5)])) == ["spec.images"]
    assert _warned(policy(images=["ghcr.io/a:v1"])) == ["spec.images"]
    assert _warned(policy(images=["*", "ghcr.io"], exclude=["acme/*"])) == [
        "spec.images",
        "spec.images",
        "spec.exclude",
    ]
    assert _warned(policy(spec={"deny": {"digests": [DIGEST]}})) == ["spec.signers"]
    assert _warned(policy(spec={"signers": [{"name": "a", "static": {"allow": True, "reason": "x"}}]})) == [
        'signer "a"'
    ]


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "**", "a", "any", KEY, "secret://a#b", DIGEST]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["images", "exclude", "signers", "name", "cosign", "key", "keys", "static", "allow", "reason", "digests",
             "require", "deny", "namespaces", "match", "selector", "matchLabels", "workloads", "mode", "annotations"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(_JUNK)
def test_no_specification_breaks_the_reader(spec: object) -> None:
    for name in (PolicyKey("shop", "a"), PolicyKey(None, "a")):
        try:
            read = parse_policy(name, spec, inline(spec), FORMATS, "trusted-images")
        except Invalid as refused:
            assert refused.complaints
            assert broken_policy(name, spec, refused.complaints).covers_images
        else:
            assert read.signers or read.terms.deny
