"""What runs on a cluster, compared with what was verified, counted and reported (docs/after-admission.md)."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.laboratory import Lab
from tests.e2e.test_story import in_force, pod
from tests.e2e.tools import run, until

REPORTS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "policyreports.wgpolicyk8s.io"},
    "spec": {
        "group": "wgpolicyk8s.io",
        "scope": "Namespaced",
        "names": {"kind": "PolicyReport", "plural": "policyreports", "singular": "policyreport"},
        "versions": [
            {
                "name": "v1alpha2",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
"""As much of the definition as an API server needs in order to keep reports."""


@pytest.fixture(scope="module")
def reports(lab: Lab) -> Iterator[None]:
    """A cluster that knows reports."""
    lab.cluster.apply(REPORTS)
    yield
    lab.cluster.kubectl("delete", "crd", REPORTS["metadata"]["name"], "--ignore-not-found")


def policy(lab: Lab, namespace: str, **spec: Any) -> None:
    """In force on every replica, and for so long that the Pods made from now on are known to have been admitted by it."""
    lab.cluster.apply(lab.policy("shop", namespace, tags="allow", **spec))
    in_force(lab, "tp", "shop", namespace)
    time.sleep(15)


def exchanged(lab: Lab, namespace: str, name: str) -> str:
    """A Pod that was admitted by a signed tag, which was moved before the node pulled it. The digest that it runs."""
    signed = lab.push(lab.public, f"after/{namespace}-{name}:v1")
    lab.sign(signed, "release")
    image = f"{signed.partition('@')[0]}:v1"
    waiting = pod(image, name, schedulingGates=[{"name": "e2e/wait"}])
    lab.cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(waiting))
    evil = lab.push(lab.public, f"after/{namespace}-{name}:evil")
    run("crane", "tag", "--insecure", evil, "v1", env=lab.env)
    lab.cluster.kubectl("patch", "pod", name, "-n", namespace, "--type=json", "-p",
                        '[{"op": "remove", "path": "/spec/schedulingGates"}]')  # fmt: skip
    return evil.partition("@")[2]


def told(lab: Lab, namespace: str, reason: str) -> list[str]:
    """What Events with this reason say."""
    return [one["message"] for one in lab.cluster.get("events", "-n", namespace)["items"] if one["reason"] == reason]


def report(lab: Lab, namespace: str) -> dict[tuple[str, str], int]:
    """How many results the namespace's report has of each rule and result."""
    found: dict[tuple[str, str], int] = {}
    for one in lab.cluster.get("policyreport", "trusted-images", "-n", namespace)["results"]:
        found[one["rule"], one["result"]] = found.get((one["rule"], one["result"]), 0) + 1
    return found


def test_r04_a_tag_that_moved_before_the_pull_is_told_counted_and_reported(
    lab: Lab, namespace: str, reports: None
) -> None:
    policy(lab, namespace)
    running = exchanged(lab, namespace, "web")
    (message,) = until(lambda: told(lab, namespace, "ImageDrifted"), "the Event", 90)
    assert f"it runs {running}, which was not verified" in message
    assert lab.cluster.get("pod", "web", "-n", namespace)["status"]["phase"] == "Running"
    until(lambda: report(lab, namespace) == {("image", "fail"): 1, ("drift", "fail"): 1}, "the report", 120)
    status = until(lambda: lab.cluster.get("tp", "shop", "-n", namespace)["status"].get("verdicts"), "the counts", 60)
    assert status["denied"] == 1


def test_r04_it_is_evicted_where_the_policy_says_so_and_others_stay(lab: Lab, namespace: str) -> None:
    policy(lab, namespace, onDrift="evict")
    good = lab.push(lab.public, f"after/{namespace}-good:v1")
    lab.sign(good, "release")
    name = f"{good.partition('@')[0]}:v1"
    lab.cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(pod(name, "good")))
    exchanged(lab, namespace, "web")
    until(lambda: told(lab, namespace, "ImageEvicted"), "the eviction", 90)
    until(lambda: [one["metadata"]["name"] for one in lab.cluster.get("pods", "-n", namespace)["items"]] == ["good"],
          "the end of the Pod", 90)  # fmt: skip
    assert len(told(lab, namespace, "ImageDrifted")) == 1


def twin(lab: Lab, image: str) -> str:
    """The same image, its manifest written with other white space and pushed beside it. The digest that nobody has signed."""
    name, _, digest = image.partition("@")
    host, _, path = name.partition("/")
    manifest = json.loads(run("crane", "manifest", "--insecure", image, env=lab.env))
    file = lab.folder / "twin.json"
    file.write_text(json.dumps(manifest, indent=3), "utf-8")
    run("curl", "-sSf", "--noproxy", "*", "-X", "PUT", "-H", f"Content-Type: {manifest['mediaType']}",
        "--data-binary", f"@{file}", f"{lab.public.url}/v2/{path}/manifests/twin")  # fmt: skip
    found = run("crane", "digest", "--insecure", f"{host}/{path}:twin", env=lab.env).strip()
    assert found != digest
    return found


def test_r04_a_node_that_names_another_manifest_of_a_signed_image_is_not_held_against_it(
    lab: Lab, namespace: str, reports: None
) -> None:
    policy(lab, namespace, onDrift="evict")
    image = lab.push(lab.public, f"after/{namespace}:v1")
    lab.sign(image, "release")
    other = f"{image.partition('@')[0]}@{twin(lab, image)}"
    # The node has met the other one first, where nobody judges it.
    lab.cluster.kubectl("create", "-n", "default", "-f", "-", stdin=json.dumps(pod(other, namespace)))
    try:
        lab.cluster.kubectl("wait", "pod", namespace, "-n", "default", "--for=condition=Ready", "--timeout=60s")
        lab.cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(pod(image)))
        lab.cluster.kubectl("wait", "pod", "web", "-n", namespace, "--for=condition=Ready", "--timeout=60s")
        until(lambda: report(lab, namespace) == {("image", "pass"): 1}, "the report of what is in order", 120)
        status = until(lambda: lab.cluster.get("tp", "shop", "-n", namespace)["status"].get("verdicts"), "counts", 60)
        assert (status["allowed"], status["denied"]) == (1, 0)
        assert told(lab, namespace, "ImageDrifted") == []
    finally:
        lab.cluster.kubectl("delete", "pod", namespace, "-n", "default", "--wait=false")


def test_m04_what_runs_is_judged_again_when_it_is_denied_and_is_not_evicted_for_it(
    lab: Lab, namespace: str, reports: None
) -> None:
    policy(lab, namespace, onDrift="evict")
    image = lab.push(lab.public, f"after/{namespace}:v1")
    lab.sign(image, "release")
    lab.cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(pod(image)))
    lab.cluster.kubectl("wait", "pod", "web", "-n", namespace, "--for=condition=Ready", "--timeout=60s")
    until(lambda: report(lab, namespace) == {("image", "pass"): 1}, "the report of what is in order", 120)
    digest = image.partition("@")[2]
    lab.cluster.apply(lab.policy("shop", namespace, tags="allow", onDrift="evict", deny={"digests": [digest]}))
    until(lambda: report(lab, namespace) == {("image", "fail"): 1}, "the report of what is denied", 60)
    preview = lab.cluster.get("tp", "shop", "-n", namespace)["status"]["preview"]
    assert preview["denied"] == 1
    assert "is on the policy's deny list" in preview["examples"][0]
    assert lab.cluster.get("pod", "web", "-n", namespace)["status"]["phase"] == "Running"
    assert told(lab, namespace, "ImageDrifted") == []


def test_f17_what_could_soon_not_be_started_again_is_told_with_its_pods(lab: Lab, namespace: str) -> None:
    ends = (datetime.now(UTC) + timedelta(days=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    release = {"name": "release", "cosign": {"key": lab.public_key("release")}, "validity": {"notAfter": ends}}
    policy(lab, namespace, signers=[release])
    image = lab.push(lab.public, f"after/{namespace}:v1")
    lab.sign(image, "release")
    lab.cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(pod(image)))
    lab.cluster.kubectl("wait", "pod", "web", "-n", namespace, "--for=condition=Ready", "--timeout=60s")

    def told_of() -> str:
        status = lab.cluster.get("tp", "shop", "-n", namespace)["status"]
        ending = status.get("ending")
        assert ending, status
        assert ending["first"] == ends
        (example,) = ending["examples"]
        (expiring,) = [one for one in status["conditions"] if one["type"] == "Expiring"]
        assert example in expiring["message"], expiring
        return str(example)

    assert until(told_of, "what ends, and whose", 90) == f"{namespace}/web: until {ends}: the validity of its signer"
