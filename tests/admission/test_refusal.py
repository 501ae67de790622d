"""What is told of a refused review: beside something that is there, and nothing that the refused object could forge (X-11, W-10, D-09)."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import captures
from tests.admission.test_review import review
from tests.serving import serving
from webhook import limits
from webhook.admission.refusal import refusal_of
from webhook.admission.review import parse_review
from webhook.judge.workload import Question
from webhook.verdict import Answer, ObjectName, Refusal

DENIED = Answer(False, 403, "spec.containers[0].image web:v1: policy shop/shop: no signature")
NAMESPACE = ObjectName("v1", "Namespace", "shop")
SET = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d", "uid": "abc-1", "controller": True}


def told(answer: Answer = DENIED, metadata: Any = None, **request: Any) -> Refusal | None:

    document = review(**request)
    if metadata is not None:
        document["request"]["object"]["metadata"] = metadata
    return refusal_of(parse_review(json.dumps(document).encode()).request, answer, captures.NOW)


def about(metadata: Any, **request: Any) -> ObjectName:
    found = told(metadata=metadata, **request)
    assert found is not None
    return found.about


def test_a_refused_pod_is_told_beside_its_controller() -> None:
    found = told(
        metadata={"generateName": "web-5d-", "ownerReferences": [{**SET, "controller": None, "name": "no"}, SET]},
        name="",
    )
    assert found == Refusal(
        "shop", ObjectName("apps/v1", "ReplicaSet", "web-5d", "abc-1"), "Pod web-5d-…", DENIED.message,
        read=True, at=captures.NOW,
    )  # fmt: skip


def test_what_has_no_controller_is_told_beside_its_namespace_and_what_was_there_beside_itself() -> None:
    assert about({"name": "web"}) == NAMESPACE
    assert about({"name": "web", "ownerReferences": [{**SET, "controller": False}]}) == NAMESPACE
    there = {"name": "web", "uid": "u", "ownerReferences": [SET]}
    assert about(there, kind="Deployment", operation="UPDATE") == ObjectName("apps/v1", "Deployment", "web", "u")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../../kube-system/x"}, {"name": "a\nb"}, {"name": "a" * 300}, {"name": ""}, {"kind": "Replica Set"}, {"kind": ""},
        {"apiVersion": "apps/v1/x"}, {"apiVersion": ""}, {"uid": "a/b"}, {"uid": "a" * 64},
    ],
)  # fmt: skip
def test_s07_a_reference_that_names_no_object_is_not_followed(wrong: dict[str, str]) -> None:
    assert about({"name": "web", "ownerReferences": [{**SET, **wrong}]}) == NAMESPACE
    assert about({"name": "web", "ownerReferences": [SET]}) != NAMESPACE


@pytest.mark.parametrize(
    "metadata", [{"name": 7}, {"ownerReferences": "x"}, "text", {"name": None, "ownerReferences": None}]
)
def test_metadata_that_cannot_be_read_costs_the_owner_and_not_the_event(metadata: Any) -> None:
    assert about(metadata) == NAMESPACE


def test_x11_dry_runs_and_what_is_admitted_are_not_told() -> None:
    assert told() is not None
    assert told(dryRun=True) is None
    assert told(Answer(True, 200)) is None
    # An error of ours is no verdict about an image.
    assert told(Answer(False, 500, "an internal error")) is None
    assert told(namespace="") is None
    assert told(namespace="../x") is None


def test_what_could_not_be_verified_is_told_apart() -> None:
    found = told(Answer(False, 503, "could not verify"))
    assert found is not None
    assert not found.read


def test_s08_a_name_cannot_forge_lines_and_is_cut() -> None:
    found = told(metadata={"name": "a\nForged: " + "b" * 1000})
    assert found is not None
    assert "\n" not in found.what
    assert len(found.what) == limits.MAX_DENIAL_NAME


async def test_w10_the_server_tells_refusals_and_no_dry_run(tmp_path: Path) -> None:
    async def deny(_question: Question, _deadline: float) -> Answer:
        return DENIED

    heard: list[Refusal] = []
    async with serving(tmp_path, deny, tell_refusal=heard.append) as webhook:
        await webhook.post(review(dryRun=True))
        assert not heard
        await webhook.post(review())
        assert [(one.about, one.message) for one in heard] == [(NAMESPACE, DENIED.message)]
    async with serving(tmp_path, tell_refusal=heard.append) as webhook:
        await webhook.post(review())
        assert len(heard) == 1
