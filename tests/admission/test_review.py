"""AdmissionReviews: what is asked, and the answer's bytes (attacks X-07 to X-15, W-07)."""

import json
from typing import Any

import pytest

from tests.judge.test_workload import POD_SPEC, wrapped
from webhook.admission.review import Malformed, Unjudged, parse_review, render
from webhook.judge.workload import KINDS, Question
from webhook.parsing import Invalid
from webhook.verdict import Answer


def review(kind: str = "Pod", spec: Any = POD_SPEC, **request: Any) -> dict[str, Any]:
    group = next((g for g, k in KINDS if k == kind), "")
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": group, "version": "v1", "kind": kind},
            "resource": {"group": group, "version": "v1", "resource": f"{kind.lower()}s"},
            "operation": "CREATE",
            "namespace": "shop",
            "name": "web",
            "userInfo": {"username": "kubernetes-admin"},
            "object": wrapped(kind, spec),
            "oldObject": None,
            "options": {},
            **request,
        },
    }


def asked(document: Any) -> Question | Malformed | Unjudged:
    return parse_review(json.dumps(document).encode()).asked


@pytest.mark.parametrize("kind", sorted({kind for _, kind in KINDS}))
def test_x01_x02_every_kind_is_asked_about(kind: str) -> None:
    question = asked(review(kind))
    assert isinstance(question, Question)
    assert len(question.images) == 5
    assert question.who.namespace == "shop"


def test_what_the_answer_and_the_log_need_is_kept() -> None:
    read = parse_review(json.dumps(review(dryRun=True)).encode()).request
    assert (read.uid, read.operation, read.namespace, read.kind.kind, read.name, read.dry_run) == (
        "u-1", "CREATE", "shop", "Pod", "web", True,
    )  # fmt: skip
    assert not parse_review(json.dumps(review(dryRun=None)).encode()).request.dry_run


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {}}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "Pod"}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": null}',
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        *(
            json.dumps(review(**changes)).encode()
            for changes in ({"uid": ""}, {"uid": 1}, {"operation": "PATCH"}, {"namespace": 1})
        ),
    ],
)
def test_x15_what_is_no_review_of_v1_is_no_review(body: bytes) -> None:
    with pytest.raises(Invalid, match="AdmissionReview"):
        parse_review(body)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (review(object=None), "object: missing"),
        (review(operation="UPDATE", object=None, oldObject=wrapped("Pod", POD_SPEC)), "object: missing"),
        (review(object={}), "spec: missing"),
        (review(object=[]), "Pod: "),
        (review(spec={"containers": []}), "spec.containers: empty"),
        (review(namespace=""), "namespace: missing"),
        (review("Deployment", object=wrapped("Pod", POD_SPEC)), "spec.template.spec: missing"),
        (review(kind="Unknown", object={"spec": POD_SPEC}), "Unknown holds containers"),
    ],
)
def test_x09_what_cannot_be_judged_is_denied(document: Any, why: str) -> None:
    found = asked(document)
    assert isinstance(found, Malformed)
    assert found.reason.startswith(why)


def test_x05_what_runs_no_image_is_admitted() -> None:
    assert asked(review("ConfigMap", object={"data": {}})) == Unjudged("no image")
    assert asked(review("Pod", operation="DELETE", object=None, oldObject=wrapped("Pod", POD_SPEC))) == Unjudged(
        "deletion"
    )
    scale = review("Scale", operation="UPDATE", subResource="scale", object={"spec": {"replicas": 3}})
    assert asked(scale) == Unjudged("no image")


def test_w07_an_update_that_changes_no_image_is_not_judged_again() -> None:
    same = review("Deployment", operation="UPDATE", oldObject=wrapped("Deployment", POD_SPEC))
    assert asked(same) == Unjudged("unchanged")
    other = {**POD_SPEC, "containers": [{"name": "a", "image": "other:1"}]}
    assert isinstance(
        asked(review("Deployment", spec=other, operation="UPDATE", oldObject=wrapped("Deployment", POD_SPEC))), Question
    )


@pytest.mark.parametrize(
    "old", [None, {}, [], "x", {"spec": {"containers": []}}, {"metadata": {}, "spec": {"containers": [{"image": 7}]}}]
)
def test_w07_an_old_object_that_proves_nothing_changes_nothing(old: Any) -> None:
    assert isinstance(asked(review(operation="UPDATE", oldObject=old)), Question)


def test_w07_the_old_object_counts_in_an_update_only() -> None:
    assert isinstance(asked(review(operation="CREATE", oldObject=wrapped("Pod", POD_SPEC))), Question)


def test_x03_an_ephemeral_container_is_judged_although_the_rest_stood_before() -> None:
    before = {**POD_SPEC, "ephemeralContainers": []}
    added = review(operation="UPDATE", subResource="ephemeralcontainers", oldObject=wrapped("Pod", before))
    assert isinstance(asked(added), Question)


def test_an_answer_is_a_review_with_the_same_uid() -> None:
    assert json.loads(render("u-1", Answer(True, 200))) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": True},
    }


@pytest.mark.parametrize(
    ("code", "reason"),
    [(403, "Forbidden"), (422, "Invalid"), (500, "InternalError"), (503, "ServiceUnavailable"), (418, "Forbidden")],
)
def test_a_refusal_carries_its_status(code: int, reason: str) -> None:
    answer = Answer(False, code, "because", ("careful",), {"verdict": "denied"})
    assert json.loads(render("u-1", answer))["response"] == {
        "uid": "u-1",
        "allowed": False,
        "status": {"code": code, "message": "because", "reason": reason, "status": "Failure"},
        "warnings": ["careful"],
        "auditAnnotations": {"verdict": "denied"},
    }


# ── what the object says of itself ───────────────────────────────────────────────────────────────────────────────────
def pod(image: str = "main:0", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", **metadata}, "spec": {"containers": [{"name": "a", "image": image}]}}


@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "approved", "uid": "1", "controller": True}]},
        {"annotations": {"kubernetes.io/config.mirror": "0123", "kubernetes.io/config.source": "file"}},
        {"annotations": {"trusted-images/verified": "true", "policy": "cluster/base", "signer": "SHA256:00"}},
        {"managedFields": [{"manager": "trusted-images", "operation": "Update"}]},
        {"deletionTimestamp": "2026-11-01T00:00:00Z", "finalizers": ["example.com/wait"]},
        {"generateName": "web-", "name": None},
        {"name": "x" * 5000},
    ],
    ids=["owner", "mirror", "result", "manager", "deletion", "generated", "long"],
)  # fmt: skip
def test_x06_x07_x08_x10_x11_nothing_that_an_object_says_of_itself_earns_trust(metadata: dict[str, Any]) -> None:
    plain = asked(review(object=pod()))
    assert isinstance(plain, Question)
    assert asked(review(object=pod(**metadata))) == plain


def test_x06_an_object_under_deletion_may_bring_no_new_image() -> None:
    leaving = {"deletionTimestamp": "2026-11-01T00:00:00Z", "finalizers": ["example.com/wait"]}
    new = review(operation="UPDATE", object=pod("new:1", **leaving), oldObject=pod("old:1", **leaving))
    assert isinstance(asked(new), Question)
    same = review(operation="UPDATE", object=pod("old:1", **leaving, labels=None), oldObject=pod("old:1", **leaving))
    assert asked(same) == Unjudged("unchanged")
