"""A registry that is down, and all replicas restarted meanwhile (docs/outages.md, as it is written there)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.laboratory import NAMESPACE, Lab
from tests.e2e.test_story import images, in_force, pod, refused
from tests.e2e.tools import until

__all__ = ["images"]


@contextmanager
def outage(lab: Lab) -> Iterator[None]:
    """The registry is gone, and nothing is left in any replica's memory."""
    lab.public.stop()
    before = everyone(lab)
    try:
        lab.cluster.kubectl("rollout", "restart", "deployment/trusted-images", "-n", NAMESPACE)
        lab.cluster.kubectl(
            "rollout", "status", "deployment/trusted-images", "-n", NAMESPACE, "--timeout=180s", seconds=200
        )
        # Those that leave answer to the last, from what they remember.
        until(lambda: before.isdisjoint(everyone(lab)), "the end of the replicas before", 60)
        yield
    finally:
        lab.public.start()


def everyone(lab: Lab) -> set[str]:
    """The replicas, those that leave among them."""
    pods = lab.cluster.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=trusted-images")["items"]
    return {one["metadata"]["name"] for one in pods}


def create(lab: Lab, namespace: str, image: str, name: str) -> str:
    """Creates a Pod that stays; returns the warnings. What is tried out by a dry run leaves no record."""
    return lab.cluster.warnings("create", "-n", namespace, "-f", "-", stdin=json.dumps(pod(image, name)))


def recorded(lab: Lab, image: str) -> int:
    """How often its digest is in the records: once for each name that it was verified under."""
    digest = image.partition("@")[2]
    found = lab.cluster.get("configmaps", "-n", NAMESPACE)["items"]
    return sum((one.get("data") or {}).get("records", "").count(digest) for one in found)


def told(lab: Lab, namespace: str) -> set[str]:
    """The kinds of objects with an Event about an outage."""
    events = lab.cluster.get("events", "-n", namespace)["items"]
    return {one["involvedObject"]["kind"] for one in events if one["reason"] == "AdmittedInOutage"}


def test_f01_what_was_verified_starts_after_all_replicas_restarted_and_nothing_else(
    lab: Lab, namespace: str, images: dict[str, str]
) -> None:
    known, tagged = images["signed"], f"{lab.public.host}/shop/pinned:v1"
    pinned = lab.push(lab.public, "shop/pinned:v1")
    lab.sign(pinned, "release")
    spec: dict[str, Any] = {"tags": "pin", "onOutage": {"action": "last-known-good", "maxStale": "2h"}}
    lab.cluster.apply(lab.policy("shop", namespace, **spec))
    in_force(lab, "tp", "shop", namespace)
    until(lambda: "no signature by" in refused(lab, pod(images["unsigned"]), namespace), "the policy in force")
    assert create(lab, namespace, known, "before") == ""
    create(lab, namespace, tagged, "pinned-before")
    lab.cluster.kubectl("wait", "pod", "--all", "-n", namespace, "--for=condition=Ready", "--timeout=60s")
    # By the tag, too, which maybe another replica was asked about than about the digest.
    until(lambda: recorded(lab, known) and recorded(lab, pinned) >= 2, "the records", 60)
    with outage(lab):
        said = create(lab, namespace, known, "during")
        assert "let in by onOutage: last-known-good, verified at" in said
        assert create(lab, namespace, tagged, "pinned-during")
        written = lab.cluster.get("pod", "pinned-during", "-n", namespace)["spec"]["containers"][0]["image"]
        assert written == f"{tagged}@{pinned.partition('@')[2]}"
        # They lie on the node, and run.
        lab.cluster.kubectl("wait", "pod", "--all", "-n", namespace, "--for=condition=Ready", "--timeout=60s")
        text = refused(lab, pod(images["classic"], "never-seen"), namespace)
        assert "could not verify" in text
        assert "not verified under this policy within 2h" in text
        until(lambda: {"Pod", "TrustPolicy"} <= told(lab, namespace), "the Events")
        # Its digest is denied: that beats every record.
        deny = {"digests": [known.partition("@")[2]]}
        lab.cluster.apply(lab.policy("shop", namespace, **spec, deny=deny))
        until(lambda: "is on the policy's deny list" in refused(lab, pod(known, "denied"), namespace), "the denial")
        # Another key is another policy.
        lab.cluster.apply(lab.policy("shop", namespace, key="other", **spec))
        until(lambda: "could not verify" in refused(lab, pod(known, "other-key"), namespace), "the other key")
    lab.cluster.apply(lab.policy("shop", namespace, **spec))
    until(lambda: "no signature by" in refused(lab, pod(images["other"]), namespace), "the registry's return")
    assert create(lab, namespace, known, "after") == ""


def test_v02_warn_admits_what_nobody_could_read_and_denies_again_afterwards(
    lab: Lab, namespace: str, images: dict[str, str]
) -> None:
    lab.cluster.apply(lab.policy("shop", namespace, onOutage={"action": "warn"}))
    in_force(lab, "tp", "shop", namespace)
    until(lambda: "no signature by" in refused(lab, pod(images["unsigned"]), namespace), "the policy in force")
    with outage(lab):
        said = create(lab, namespace, images["unsigned"], "unread")
        assert "let in unverified by onOutage: warn: could not verify" in said
        until(lambda: {"Pod", "TrustPolicy"} <= told(lab, namespace), "the Events")
    until(lambda: "no signature by" in refused(lab, pod(images["unsigned"], "again"), namespace), "the denial")


def test_an_outage_refuses_where_the_policy_says_nothing(lab: Lab, namespace: str, images: dict[str, str]) -> None:
    lab.cluster.apply(lab.policy("shop", namespace))
    in_force(lab, "tp", "shop", namespace)
    until(lambda: "no signature by" in refused(lab, pod(images["unsigned"]), namespace), "the policy in force")
    assert create(lab, namespace, images["signed"], "before") == ""
    with outage(lab):
        assert "could not verify" in refused(lab, pod(images["signed"], "during"), namespace)
