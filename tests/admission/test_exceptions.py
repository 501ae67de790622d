"""Who may write an exception, and who may approve it: two people, by the word of the API server (attack M-07)."""

from pathlib import Path
from typing import Any

import pytest

from tests.policies import EXCEPTION
from tests.serving import serving
from webhook.image import digest_of

ASKED = {
    **{name: value for name, value in EXCEPTION.items() if name != "approvedBy"},
    "images": [digest_of(b"image")],
    "expiresAt": "2100-01-01T00:00:00Z",
}
APPROVED = {**ASKED, "approvedBy": "bob"}


def document(spec: Any, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "trusted-images.dev/v1alpha1", "kind": "TrustException",
        "metadata": {"name": "hotfix", "namespace": "shop", **metadata}, "spec": spec,
    }  # fmt: skip


def write(user: str | None, new: Any, old: Any = None, operation: str | None = None) -> dict[str, Any]:
    request = {
        "uid": "u-1",
        "kind": {"group": "trusted-images.dev", "version": "v1alpha1", "kind": "TrustException"},
        "operation": operation or ("UPDATE" if old is not None else "CREATE"),
        "namespace": "shop",
        "name": "hotfix",
        "object": None if new is None else document(new),
        "oldObject": None if old is None else document(old),
        **({} if user is None else {"userInfo": {"username": user, "groups": ["system:authenticated"]}}),
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


async def asked(folder: Path, review: dict[str, Any]) -> tuple[int, str, list[str]]:
    """The code, the message and the warnings."""
    async with serving(folder) as webhook:
        status, answer = await webhook.post(review, "/validate-policies")
    assert status == 200
    response = answer["response"]
    code = 200 if response["allowed"] else response["status"]["code"]
    return code, response.get("status", {}).get("message", ""), response.get("warnings", [])


@pytest.mark.parametrize(
    ("user", "new", "old", "refusal"),
    [
        # Written: by whoever asks, and approved by nobody yet.
        ("alice", ASKED, None, None),
        ("bob", ASKED, None, 'spec.requestedBy: must be whoever writes the exception; you are "bob"'),
        (None, ASKED, None, 'spec.requestedBy: must be whoever writes the exception; you are ""'),
        ("alice", APPROVED, None, "spec.approvedBy: what is new or changed is approved afterwards"),
        ("bob", APPROVED, None, 'spec.requestedBy: must be whoever writes the exception; you are "bob"'),
        # Approved: by somebody else, in person.
        ("bob", APPROVED, ASKED, None),
        ("alice", APPROVED, ASKED, 'spec.approvedBy: must be whoever approves; you are "alice"'),
        ("carol", APPROVED, ASKED, 'spec.approvedBy: must be whoever approves; you are "carol"'),
        ("carol", {**ASKED, "approvedBy": "carol"}, APPROVED, None),
        ("carol", APPROVED, {**ASKED, "approvedBy": "carol"}, 'spec.approvedBy: must be whoever approves; you are "carol"'),
        # Whoever may start Pods in the namespace may be any of its service accounts.
        ("system:serviceaccount:shop:ci", {**ASKED, "approvedBy": "system:serviceaccount:shop:ci"}, ASKED,
         'spec.approvedBy: "system:serviceaccount:shop:ci" is a service account of this very namespace'),
        ("system:serviceaccount:shop-2:ci", {**ASKED, "approvedBy": "system:serviceaccount:shop-2:ci"}, ASKED, None),
        ("system:serviceaccount:shop:ci", {**ASKED, "requestedBy": "system:serviceaccount:shop:ci"}, None, None),
        # One that was approved so before stays as it is.
        ("carol", {**ASKED, "approvedBy": "system:serviceaccount:shop:ci"},
         {**ASKED, "approvedBy": "system:serviceaccount:shop:ci"}, None),
        # Anybody may withdraw an approval, and change what says nothing.
        ("carol", ASKED, APPROVED, None),
        ("carol", APPROVED, APPROVED, None),
        # What was approved does not change.
        ("alice", {**APPROVED, "maxUses": 9}, APPROVED, "spec.approvedBy: what is new or changed is approved afterwards"),
        ("bob", {**APPROVED, "maxUses": 9}, APPROVED, 'spec.requestedBy: must be whoever writes the exception; you are "bob"'),
        ("alice", {**ASKED, "maxUses": 9}, APPROVED, None),
        ("bob", {**ASKED, "requestedBy": "bob", "maxUses": 9}, APPROVED, None),
        ("bob", {**APPROVED, "requestedBy": "carol"}, APPROVED, "spec.requestedBy: must be whoever writes"),
        ("mallory", {**APPROVED, "images": ["**"]}, APPROVED, "spec.requestedBy: must be whoever writes"),
    ],
)  # fmt: skip
async def test_m07_two_people_by_the_word_of_the_api_server(
    tmp_path: Path, user: str | None, new: Any, old: Any, refusal: str | None
) -> None:
    code, message, _ = await asked(tmp_path, write(user, new, old))
    assert code == (200 if refusal is None else 403)
    assert message.startswith(refusal or "")


async def test_m10_a_wrong_exception_cannot_be_written(tmp_path: Path) -> None:
    wrong = {**ASKED, "images": ["web:v1"], "approvedBy": "alice"}
    code, message, _ = await asked(tmp_path, write("alice", wrong))
    assert code == 422
    assert [line.split(": ")[0] for line in message.splitlines()] == ["spec.images[0]", "spec.approvedBy"]
    assert (await asked(tmp_path, write("alice", None)))[:2] == (422, "object: missing")
    assert (await asked(tmp_path, write("alice", "text")))[0] == 422
    text = write("alice", ASKED)
    text["request"]["object"] = "text"
    assert (await asked(tmp_path, text))[0] == 422


async def test_what_was_broken_before_can_be_labelled_mended_and_deleted(tmp_path: Path) -> None:
    broken = {**ASKED, "images": ["web:v1"]}
    assert (await asked(tmp_path, write("carol", broken, broken)))[0] == 200
    assert (await asked(tmp_path, write("alice", ASKED, broken)))[0] == 200
    assert (await asked(tmp_path, write("carol", None, broken, "DELETE")))[0] == 200
    # An old object that cannot be read is like none.
    for old in (None, "text", {"spec": "text"}):
        review = write("alice", APPROVED, ASKED)
        review["request"]["oldObject"] = old
        assert (await asked(tmp_path, review))[0] == 403
        review["request"]["object"] = document(ASKED)
        assert (await asked(tmp_path, review))[0] == 200


async def test_p09_what_has_no_effect_yet_or_much_of_it_is_said(tmp_path: Path) -> None:
    _, _, warned = await asked(tmp_path, write("alice", {**ASKED, "images": ["**"]}))
    assert [text.partition(":")[0] for text in warned] == ["it lifts nothing yet", "spec.expiresAt", "spec.images"]
    assert "kubectl patch trustexception hotfix -n shop" in warned[0]
    _, _, warned = await asked(tmp_path, write("bob", {**APPROVED, "expiresAt": "2020-01-01T00:00:00Z"},
                                               {**ASKED, "expiresAt": "2020-01-01T00:00:00Z"}))  # fmt: skip
    assert warned == ["spec.expiresAt: is past, so it lifts nothing"]
