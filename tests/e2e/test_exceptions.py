"""Exceptions on a cluster: two people, a bound that holds across replicas, and an end (docs/exceptions.md, as it is written there)."""

import datetime as dt
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.laboratory import Lab, resource
from tests.e2e.test_story import images, pod, refused, shop
from tests.e2e.tools import Failed, until

__all__ = ["images", "shop"]


def asked(namespace: str, image: str, seconds: float = 3600, **spec: Any) -> dict[str, Any]:
    """An exception from the policy `shop` for one digest, as alice asks for it."""
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    whole = {
        "policies": ["shop"],
        "images": [image.partition("@")[2]],
        "reason": "incident 4711",
        "requestedBy": "alice",
        "expiresAt": ends.isoformat(timespec="seconds").replace("+00:00", "Z"),
        **spec,
    }
    return resource("TrustException", "hotfix", namespace, whole)


def as_user(lab: Lab, user: str, *words: str, stdin: str | None = None) -> str:
    """What kubectl prints for somebody who may do everything, under a name of their own."""
    return lab.cluster.kubectl(*words, f"--as={user}", "--as-group=system:masters", stdin=stdin)


def approve(lab: Lab, user: str, namespace: str) -> str:
    patch = json.dumps({"spec": {"approvedBy": user}})
    return as_user(lab, user, "patch", "te", "hotfix", "-n", namespace, "--type=merge", "-p", patch)


def in_force(lab: Lab, namespace: str, document: dict[str, Any]) -> None:
    """Written by alice, approved by bob, and known to the leader; the other replicas hear of it in the same moment."""
    as_user(lab, "alice", "apply", "-f", "-", stdin=json.dumps(document))
    approve(lab, "bob", namespace)
    lab.cluster.kubectl("wait", "te", "hotfix", "-n", namespace, "--for=condition=Active", "--timeout=30s")


def status(lab: Lab, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = lab.cluster.get("te", "hotfix", "-n", namespace).get("status") or {}
    return found


def test_two_people_let_an_image_in_and_it_is_told(lab: Lab, shop: str, images: dict[str, str]) -> None:
    image = images["unsigned"]
    document = asked(shop, image)
    with pytest.raises(Failed, match=r'spec\.requestedBy: must be whoever writes the exception; you are "bob"'):
        as_user(lab, "bob", "apply", "-f", "-", stdin=json.dumps(document))
    early = {**document, "spec": {**document["spec"], "approvedBy": "bob"}}
    with pytest.raises(Failed, match=r"spec\.approvedBy: what is new or changed is approved afterwards"):
        as_user(lab, "alice", "apply", "-f", "-", stdin=json.dumps(early))
    as_user(lab, "alice", "apply", "-f", "-", stdin=json.dumps(document))
    until(lambda: "is not approved" in refused(lab, pod(image), shop), "the note that it is not approved")
    with pytest.raises(Failed, match="whoever asked for it cannot approve it"):
        approve(lab, "alice", shop)
    approve(lab, "bob", shop)
    until(lambda: lab.cluster.try_out(pod(image), shop), "the exception in force")
    # What was approved does not change; and one that nobody approved lifts nothing.
    with pytest.raises(Failed, match="what is approved is not changed"):
        as_user(lab, "alice", "patch", "te", "hotfix", "-n", shop, "--type=merge", "-p", '{"spec": {"images": ["**"]}}')
    said = lab.cluster.warnings("create", "-n", shop, "-f", "-", stdin=json.dumps(pod(image)))
    assert f"let in by exception {shop}/hotfix until" in said
    lab.cluster.kubectl("wait", "pod", "web", "-n", shop, "--for=condition=Ready", "--timeout=60s")
    until(lambda: status(lab, shop).get("uses") == 1, "the use that is counted")
    until(
        lambda: {"Pod", "TrustException"} <= {
            event["involvedObject"]["kind"]
            for event in lab.cluster.get("events", "-n", shop)["items"]
            if event["reason"] == "ExceptionUsed"
        },
        "the Events",
    )  # fmt: skip
    assert "hotfix" in lab.cluster.kubectl("get", "trust", "-n", shop)
    # The other images of the namespace are judged as before.
    assert "no signature by" in refused(lab, pod(images["other"], "other"), shop)


def test_the_last_use_is_taken_once_whichever_replica_is_asked(lab: Lab, shop: str, images: dict[str, str]) -> None:
    image = images["unsigned"]
    in_force(lab, shop, asked(shop, image, maxUses=3))
    # Every replica has heard of the approval by then, whichever is asked.
    time.sleep(3)
    lab.cluster.try_out(pod(image), shop)
    assert status(lab, shop).get("uses", 0) == 0

    def create(number: int) -> bool:
        try:
            lab.cluster.kubectl("create", "-n", shop, "-f", "-", stdin=json.dumps(pod(image, f"web-{number}")))
        except Failed as e:
            assert "is used up" in str(e) or "cannot be counted" in str(e), str(e)
            return False
        return True

    with ThreadPoolExecutor(8) as at_once:
        assert sum(at_once.map(create, range(8))) == 3
    assert status(lab, shop)["uses"] == 3
    until(lambda: status(lab, shop)["conditions"][0]["reason"] == "UsedUp", "the status of one that is used up")
    assert "is used up" in refused(lab, pod(image, "late"), shop)


def test_it_ends_at_its_time(lab: Lab, shop: str, images: dict[str, str]) -> None:
    image = images["unsigned"]
    in_force(lab, shop, asked(shop, image, seconds=30))
    until(lambda: lab.cluster.try_out(pod(image), shop), "the exception in force", 20)
    until(lambda: "expired at" in refused(lab, pod(image), shop), "the end of the exception", 60)
    until(lambda: status(lab, shop)["conditions"][0]["reason"] == "Expired", "the status of one that has expired")


def test_a_denied_digest_is_not_let_in(lab: Lab, shop: str, images: dict[str, str]) -> None:
    image = images["unsigned"]
    in_force(lab, shop, asked(shop, image))
    until(lambda: lab.cluster.try_out(pod(image), shop), "the exception in force")
    lab.cluster.apply(
        resource("TrustPolicy", "never", shop, {"images": ["**"], "deny": {"digests": [image.partition("@")[2]]}})
    )
    until(lambda: "on the policy's deny list" in refused(lab, pod(image), shop), "the deny list in force")
