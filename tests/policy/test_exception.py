"""Exceptions: what may be written, what they cover, and until when (attacks M-07, V-01)."""

import datetime as dt
from typing import Any

import pytest

from tests import captures
from tests.policies import EXCEPTION, exception
from webhook import limits
from webhook.image import digest_of, parse_reference
from webhook.parsing import Invalid
from webhook.policy.exception import ImageMatch, TrustException
from webhook.policy.exceptionparse import parse_exception, parse_exception_document, warnings
from webhook.policy.policy import ContainerKind, Workload
from webhook.verdict import ExceptionKey, Excuse, PolicyKey

DIGEST = digest_of(b"image")
OTHER = digest_of(b"other")
WEB = PolicyKey("shop", "web")
WHO = Workload("shop", "default", {"app": "web"})
ENDS = dt.datetime(2026, 12, 31, 12, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)


def covers(
    one: TrustException,
    image: str = "ghcr.io/acme/web:v1",
    *,
    policy: PolicyKey = WEB,
    digest: Any = DIGEST,
    who: Workload = WHO,
    kind: ContainerKind = "main",
) -> bool:
    return one.covers(policy, parse_reference(image), digest, who, kind)


def complaints(spec: object) -> tuple[str, ...]:
    with pytest.raises(Invalid) as refused:
        parse_exception(ExceptionKey("shop", "hotfix"), spec)
    return refused.value.complaints


@pytest.mark.parametrize(
    ("images", "image", "digest", "covered"),
    [
        ([DIGEST], "ghcr.io/acme/web:v1", DIGEST, True),
        ([DIGEST], "elsewhere.io/x:v9", DIGEST, True),
        ([DIGEST], "ghcr.io/acme/web:v1", OTHER, False),
        ([DIGEST], "ghcr.io/acme/web:v1", None, False),
        ([OTHER, DIGEST], "ghcr.io/acme/web:v1", DIGEST, True),
        ([f"ghcr.io/acme/web@{DIGEST}"], "ghcr.io/acme/web:v1", DIGEST, True),
        # A tag beside a digest proves nothing, here neither.
        ([f"ghcr.io/acme/web:v1@{DIGEST}"], "ghcr.io/acme/web:v2", DIGEST, True),
        ([f"ghcr.io/acme/web@{DIGEST}"], "ghcr.io/acme/other:v1", DIGEST, False),
        ([f"ghcr.io/acme/web@{DIGEST}"], "ghcr.io/acme/web:v1", OTHER, False),
        ([f"ghcr.io/acme/*@{DIGEST}"], "ghcr.io/acme/other:v1", DIGEST, True),
        (["ghcr.io/acme/*"], "ghcr.io/acme/web:v1", None, True),
        (["ghcr.io/acme/web:*"], f"ghcr.io/acme/web@{OTHER}", OTHER, True),
        (["ghcr.io/acme/web:*"], "ghcr.io/acme/web-evil:v1", DIGEST, False),
        (["ghcr.io/acme/*@sha256:*"], "ghcr.io/acme/web:v1", DIGEST, False),
        (["ghcr.io/acme/*@sha256:*"], f"ghcr.io/acme/web:v1@{DIGEST}", DIGEST, True),
        (["nginx:*"], "docker.io/library/nginx:1.27", DIGEST, True),
    ],
)
def test_m07_it_covers_the_images_it_names(images: list[str], image: str, digest: Any, covered: bool) -> None:
    assert covers(exception(images=images), image, digest=digest) is covered


def test_m07_it_covers_its_policies_its_namespace_and_its_workloads() -> None:
    one = exception(policies=["web", "cluster/baseline"])
    assert covers(one)
    assert covers(one, policy=PolicyKey(None, "baseline"))
    for policy in (PolicyKey(None, "web"), PolicyKey("shop", "baseline"), PolicyKey("cluster", "baseline")):
        assert not covers(one, policy=policy)
    assert not covers(one, who=Workload("other", "default", {}))
    some = exception(
        workloads={"selector": {"matchLabels": {"app": "web"}}, "serviceAccounts": ["def*"], "containers": ["main"]}
    )
    assert covers(some)
    assert not covers(some, kind="init")
    assert not covers(some, who=Workload("shop", "robot", {"app": "web"}))
    assert not covers(some, who=Workload("shop", "default", {}))


@pytest.mark.parametrize(
    ("fields", "now", "state"),
    [
        ({}, ENDS - SECOND, "in_force"),
        ({}, ENDS, "expired"),
        ({}, ENDS + SECOND, "expired"),
        ({"expiresAt": "2026-12-31T13:00:00+02:00"}, ENDS - dt.timedelta(hours=1, seconds=1), "in_force"),
        ({"expiresAt": "2026-12-31T13:00:00+02:00"}, ENDS - dt.timedelta(hours=1), "expired"),
        ({"approvedBy": None}, ENDS - SECOND, "not_approved"),
        ({"approvedBy": None}, ENDS, "not_approved"),
    ],
)
def test_it_ends_at_its_second_and_needs_two_people(fields: dict[str, Any], now: dt.datetime, state: str) -> None:
    one = exception(**fields)
    assert one.state(now, used_up=False) == state
    assert one.state(now, used_up=True) == ("used_up" if state == "in_force" else state)
    assert (one.excuse(now) is not None) is (state == "in_force")


def test_whoever_asked_is_no_approver_however_the_value_was_made() -> None:
    one = TrustException(
        ExceptionKey("shop", "x"),
        frozenset({WEB}),
        (ImageMatch(None, DIGEST),),
        "r",
        "alice",
        ENDS,
        approved_by="alice",
    )
    assert one.lapse(captures.NOW) == "not_approved"
    assert one.excuse(captures.NOW) is None


def test_an_excuse_says_who_why_until_when() -> None:
    assert exception(maxUses=3).excuse(captures.NOW) == Excuse(
        ExceptionKey("shop", "hotfix"), "incident 4711", "alice", "bob", ENDS, counted=True
    )
    assert str(ExceptionKey("shop", "hotfix")) == "shop/hotfix"


def test_v01_nothing_named_is_not_everything() -> None:
    with pytest.raises(ValueError, match="nothing named"):
        ImageMatch(None, None)
    for policies, images in ((frozenset(), (ImageMatch(None, DIGEST),)), (frozenset({WEB}), ())):
        with pytest.raises(ValueError, match="an exception from nothing"):
            TrustException(ExceptionKey("shop", "x"), policies, images, "r", "alice", ENDS)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"images": ["ghcr.io/acme/web:v1"]},
         "spec.images[0]: ghcr.io/acme/web:v1: a tag can be moved; name it by digest (ghcr.io/acme/web:v1@sha256:…), or write a glob"),
        ({"images": ["ghcr.io/acme/web"]}, "spec.images[0]: ghcr.io/acme/web: a tag can be moved; name it by digest"),
        ({"images": ["ghcr.io/acme/web:v1.*"]}, "spec.images[0]: ghcr.io/acme/web:v1.*: a tag can be moved; leave it out"),
        ({"images": ["sha256:abc"]}, "spec.images[0]: sha256:abc: not a digest"),
        ({"images": ["sha256:*"]}, "spec.images[0]: sha256:*: not a digest"),
        ({"images": ["ghcr.io/a@sha256:abc"]}, "spec.images[0]: sha256:abc: not a digest"),
        ({"images": ["docker.io/*"]}, "spec.images[0]: docker.io/*: matches nothing"),
        ({"images": []}, "spec.images: expected array of length >= 1"),
        ({"images": [DIGEST] * (limits.MAX_EXCUSED + 1)}, f"spec.images: expected array of length <= {limits.MAX_EXCUSED}"),
        ({"images": None}, "spec.images: required"),
        ({"policies": []}, "spec.policies: expected array of length >= 1"),
        ({"policies": ["shop/web"]}, "spec.policies[0]: shop/web: not a policy"),
        ({"policies": ["cluster/"]}, "spec.policies[0]: cluster/: not a policy"),
        ({"policies": ["*"]}, "spec.policies[0]: *: not a policy"),
        ({"reason": ""}, "spec.reason: expected str of length >= 1"),
        ({"reason": None}, "spec.reason: required"),
        ({"requestedBy": None}, "spec.requestedBy: required"),
        ({"approvedBy": "alice"}, "spec.approvedBy: whoever asked for it cannot approve it"),
        ({"expiresAt": None}, "spec.expiresAt: required"),
        ({"expiresAt": "2026-12-31T12:00:00"}, "spec.expiresAt: expected datetime with a timezone component"),
        ({"expiresAt": "tomorrow"}, "spec.expiresAt: invalid RFC3339 encoded datetime"),
        ({"expiresAt": "2026-12-31"}, "spec.expiresAt: invalid RFC3339 encoded datetime"),
        ({"maxUses": 0}, "spec.maxUses: expected int >= 1"),
        ({"maxUses": True}, "spec.maxUses: expected int"),
        ({"maxUses": "3"}, "spec.maxUses: expected int"),
        ({"workloads": {"containers": []}}, "spec.workloads.containers: empty"),
        ({"workloads": {"serviceAccounts": ["A"]}}, "spec.workloads.serviceAccounts[0]: A: matches no name"),
        ({"notify": "x"}, "spec.notify: unknown field; known: approvedBy, "),
    ],
)  # fmt: skip
def test_m10_what_is_wrong_is_told_with_its_place(fields: dict[str, Any], complaint: str) -> None:
    written = {name: value for name, value in {**EXCEPTION, **fields}.items() if value is not None}
    (told,) = complaints(written)
    assert told.startswith(complaint)


def test_m10_everything_that_is_wrong_is_told_at_once() -> None:
    wrong = {
        **EXCEPTION,
        "policies": ["?"],
        "images": ["web:v1", "sha256:1"],
        "approvedBy": "alice",
        "maxUses": 0,
        "typo": 1,
    }
    assert [text.split(": ")[0] for text in complaints(wrong)] == [
        "spec.maxUses", "spec.typo", "spec.policies[0]", "spec.images[0]", "spec.images[1]", "spec.approvedBy",
    ]  # fmt: skip
    assert complaints("text") == ("spec: expected object, got str",)


def document(**fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "trusted-images.dev/v1alpha1", "kind": "TrustException",
        "metadata": {"name": "hotfix", "namespace": "shop", "uid": "u-1"}, "spec": EXCEPTION, **fields,
    }  # fmt: skip


def test_a_resource_is_read_with_its_uid_and_its_uses() -> None:
    found = parse_exception_document(document(status={"uses": 3, "active": True, "something": "new"}))
    assert (found.key, found.uid, found.uses) == (ExceptionKey("shop", "hotfix"), "u-1", 3)
    assert parse_exception_document(document(metadata={"name": "x"})).key == ExceptionKey("default", "x")
    assert parse_exception_document(document()).uses == 0


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"kind": "TrustPolicy"}, "kind: TrustPolicy, expected TrustException"),
        ({"apiVersion": "v1"}, "apiVersion: v1, expected trusted-images.dev/v1alpha1"),
        ({"metadata": {"name": "A"}}, "metadata.name: A is not a name of Kubernetes"),
        ({"metadata": {}}, ".metadata.name: required"),
        ({"metadata": {"name": "a", "uid": 1}}, "metadata.uid: expected str, got int"),
        ({"status": {"uses": -1}}, "status.uses: expected int >= 0"),
        ({"status": []}, "status: expected object, got array"),
    ],
)
def test_a_resource_that_is_none_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_exception_document(document(**fields))
    assert refused.value.complaints == (complaint,)


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"images": [DIGEST], "expiresAt": "2026-11-20T00:00:00Z"}, None),
        ({"images": [DIGEST], "expiresAt": "2026-11-20T00:00:00Z", "approvedBy": None}, "it lifts nothing yet: "),
        ({"images": [DIGEST], "expiresAt": "2020-01-01T00:00:00Z"}, "spec.expiresAt: is past"),
        ({"images": [DIGEST], "expiresAt": "2027-01-20T00:00:00Z"}, "spec.expiresAt: more than 30 days from now"),
        ({"images": ["ghcr.io/*/x:*"], "expiresAt": "2026-11-20T00:00:00Z"},
         "spec.images: ghcr.io/*/x also means what anybody will push there until it expires"),
    ],
)  # fmt: skip
def test_p09_what_is_dangerous_or_without_effect_is_said(fields: dict[str, Any], note: str | None) -> None:
    now = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    notes = warnings(exception(**fields), now)
    assert (notes == ()) if note is None else (len(notes) == 1 and notes[0].startswith(note))


def test_images_are_shown_as_they_count() -> None:
    (glob, digest, both) = exception(images=["ghcr.io/*/x:*", DIGEST, f"nginx:v1@{DIGEST}"]).images
    assert [str(one) for one in (glob, digest, both)] == ["ghcr.io/*/x", DIGEST, f"docker.io/library/nginx@{DIGEST}"]
