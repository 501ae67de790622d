"""What happens to a cluster: changes that must count at once on every replica, and everything that can be lost."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.e2e.laboratory import NAMESPACE, Lab
from tests.e2e.load import load
from tests.e2e.test_story import conditions, images, in_force, pod, refused, shop
from tests.e2e.tools import Failed, run, until

__all__ = ["images", "shop"]


@contextmanager
def each_replica(lab: Lab) -> Iterator[list[Callable[[str, str], dict[str, object]]]]:
    """For every replica a function that asks it, and nobody else, about an image in a namespace."""
    processes, ask = [], []
    try:
        for name in lab.replicas():
            process = subprocess.Popen(
                ["kubectl", "--context", lab.cluster.context, "-n", NAMESPACE, "port-forward", name, ":8443"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            processes.append(process)
            # "Forwarding from 127.0.0.1:34567 -> 8443": any free port.
            said = re.match(
                r"Forwarding from 127\.0\.0\.1:([0-9]+) ", process.stdout.readline() if process.stdout else ""
            )
            if said is None:
                raise Failed(f"no way to {name}")
            ask.append(asker(int(said[1])))
        yield ask
    finally:
        for process in processes:
            process.terminate()
            process.communicate()


def asker(port: int) -> Callable[[str, str], dict[str, object]]:
    def ask(image: str, namespace: str) -> dict[str, object]:
        request = {
            "uid": "e2e", "operation": "CREATE", "namespace": namespace, "name": "web",
            "kind": {"group": "", "version": "v1", "kind": "Pod"}, "object": pod(image),
        }  # fmt: skip
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        answer = run("curl", "-sk", "--noproxy", "*", "-H", "Content-Type: application/json", "-d", json.dumps(review),
                     f"https://127.0.0.1:{port}/validate", seconds=20)  # fmt: skip
        response: dict[str, object] = json.loads(answer)["response"]
        return response

    return ask


def takes_effect(
    ask: list[Callable[[str, str], dict[str, object]]], image: str, namespace: str, *, allowed: bool
) -> float:
    """Seconds until the last replica says so."""
    started = time.monotonic()
    for one in ask:
        until(lambda one=one: says(one(image, namespace), allowed), "every replica", 10, 0.05)  # type: ignore[misc]  # binds the loop's variable
    return time.monotonic() - started


def says(response: Mapping[str, object], allowed: bool) -> bool:
    assert response["allowed"] is allowed, response
    return True


def test_m04_f24_edits_rotation_and_deletion_count_on_every_replica_within_two_seconds(
    lab: Lab, namespace: str, images: dict[str, str]
) -> None:
    lab.public_key("release")
    lab.public_key("other")

    def put(key: str) -> None:
        made = lab.cluster.kubectl("create", "secret", "generic", "keys", f"--from-file=cosign.pub={lab.folder}/{key}.pub",
                                   "-n", namespace, "--dry-run=client", "-o", "yaml")  # fmt: skip
        lab.cluster.kubectl("apply", "-f", "-", stdin=made)

    put("release")
    by_secret = [{"name": "release", "cosign": {"key": "secret://keys#cosign.pub"}}]
    lab.cluster.apply(lab.policy("shop", namespace, signers=by_secret))
    in_force(lab, "tp", "shop", namespace)
    signed = images["signed"]
    with each_replica(lab) as ask:
        assert len(ask) == 3
        takes_effect(ask, signed, namespace, allowed=True)
        put("other")
        assert takes_effect(ask, signed, namespace, allowed=False) < 2.5
        put("release")
        assert takes_effect(ask, signed, namespace, allowed=True) < 2.5
        lab.cluster.apply(lab.policy("shop", namespace, key="other"))
        assert takes_effect(ask, signed, namespace, allowed=False) < 2.5
        lab.cluster.kubectl("delete", "tp", "shop", "-n", namespace)
        assert takes_effect(ask, signed, namespace, allowed=True) < 2.5


def test_f01_a_registry_that_is_down_is_told(lab: Lab, shop: str) -> None:
    image = lab.push(lab.public, "shop/late:v1")
    lab.sign(image, "release")
    lab.public.stop()
    try:
        assert "could not verify" in refused(lab, pod(image), shop)
    finally:
        lab.public.start()
    until(lambda: lab.cluster.try_out(pod(image), shop), "the registry back", 30)


def test_f29_a_leader_that_leaves_is_followed_by_another_and_nobody_notices(
    lab: Lab, shop: str, images: dict[str, str]
) -> None:
    leader = lab.cluster.get("lease", "trusted-images", "-n", NAMESPACE)["spec"]["holderIdentity"]
    with load(lab.cluster, shop, wanted=pod(images["signed"]), unwanted=pod(images["unsigned"])) as answers:
        lab.cluster.kubectl("delete", "pod", leader, "-n", NAMESPACE, "--wait=false")
        next_one = until(
            lambda: (name := lab.cluster.get("lease", "trusted-images", "-n", NAMESPACE)["spec"]["holderIdentity"]) not in {leader, ""} and name,
            "another leader", 60,
        )  # fmt: skip
        until(lambda: leader not in lab.replicas() and len(lab.replicas()) == 3, "three replicas", 90)
    assert answers.wrongly_refused == []
    assert answers.wrongly_admitted == []
    assert min(answers.admitted, answers.refused) > 10
    assert next_one in lab.replicas()
    lab.cluster.apply(lab.policy("shop", shop, message="changed"))
    until(
        lambda: lab.cluster.get("tp", "shop", "-n", shop)["status"]["observedGeneration"] == 2,
        "status by the next leader",
    )


def test_w09_f31_the_certificate_is_renewed_without_a_refusal(lab: Lab, shop: str, images: dict[str, str]) -> None:
    def served() -> str:
        data: str = lab.cluster.get("secret", "trusted-images-tls", "-n", NAMESPACE)["data"]["tls.crt"]
        return data

    before = served()
    with load(lab.cluster, shop, wanted=pod(images["signed"]), unwanted=pod(images["unsigned"])) as answers:
        lab.cluster.kubectl("delete", "secret", "trusted-images-tls", "-n", NAMESPACE)
        renewed = until(served, "a new certificate")
        # Until every replica serves it, and the next round of the leader is over.
        time.sleep(15)
    assert renewed != before
    assert answers.wrongly_refused == []
    assert answers.wrongly_admitted == []
    assert min(answers.admitted, answers.refused) > 100


def test_m11_a_changed_configuration_is_put_back(lab: Lab, shop: str, images: dict[str, str]) -> None:
    lab.cluster.kubectl("delete", "validatingwebhookconfiguration", "trusted-images")
    until(lambda: "no signature by" in refused(lab, pod(images["unsigned"]), shop), "the configuration made anew", 30)


def test_m11_an_address_in_place_of_our_service_is_taken_away(lab: Lab, shop: str, images: dict[str, str]) -> None:
    # Nobody is there: until it is put back each review fails, and is refused as such.
    other = [{"op": "replace", "path": "/webhooks/0/clientConfig", "value": {"url": "https://127.0.0.1:1/x"}}]
    lab.cluster.kubectl("patch", "validatingwebhookconfiguration", "trusted-images", "--type=json", "-p", json.dumps(other))  # fmt: skip

    def mended() -> bool:
        found = lab.cluster.get("validatingwebhookconfiguration", "trusted-images")["webhooks"]
        assert all(one["clientConfig"].get("service") and "url" not in one["clientConfig"] for one in found), found
        return True

    until(mended, "our Service in the configuration", 30)
    until(lambda: "no signature by" in refused(lab, pod(images["unsigned"]), shop), "reviews as before", 30)


def test_m11_what_cannot_be_put_back_is_said_by_every_policy_and_heals(
    lab: Lab, shop: str, images: dict[str, str]
) -> None:
    def on_duty(status: str) -> None:
        lab.cluster.kubectl("wait", "tp/shop", "-n", shop, f"--for=condition=OnDuty={status}", "--timeout=100s")

    def said() -> str:
        found = lab.cluster.get("tp", "shop", "-n", shop)["status"]["conditions"]
        return next(f"{one['reason']}: {one['message']}" for one in found if one["type"] == "OnDuty")

    on_duty("True")
    role = lab.cluster.get("clusterrole", "trusted-images")
    index = next(i for i, rule in enumerate(role["rules"]) if "validatingwebhookconfigurations" in rule["resources"] and "patch" in rule["verbs"])  # fmt: skip
    verbs = role["rules"][index]["verbs"]

    def allow(verbs: list[str]) -> None:
        patch = [{"op": "replace", "path": f"/rules/{index}/verbs", "value": verbs}]
        lab.cluster.kubectl("patch", "clusterrole", "trusted-images", "--type=json", "-p", json.dumps(patch))

    allow([verb for verb in verbs if verb != "patch"])
    try:
        weaker = [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]
        lab.cluster.kubectl("patch", "validatingwebhookconfiguration", "trusted-images", "--type=json", "-p", json.dumps(weaker))  # fmt: skip
        on_duty("False")
        assert said().startswith(
            "WebhookConfigurationWeakened: ValidatingWebhookConfiguration trusted-images is weakened: webhooks["
        )
        assert "].failurePolicy; it cannot be put back (PATCH " in said()
        assert conditions(lab, shop)["Ready"] == "InForce"
    finally:
        allow(verbs)
    on_duty("True")
    found = lab.cluster.get("validatingwebhookconfiguration", "trusted-images")
    assert {one["failurePolicy"] for one in found["webhooks"]} == {"Fail"}
    assert "no signature by" in refused(lab, pod(images["unsigned"]), shop)


def test_all_replicas_killed_fails_closed_and_heals(lab: Lab, shop: str, images: dict[str, str]) -> None:
    lab.cluster.kubectl("scale", "deployment", "trusted-images", "-n", NAMESPACE, "--replicas=0")
    # Those that are leaving still answer while they drain.
    ours = ("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=trusted-images")
    until(lambda: not lab.cluster.get(*ours)["items"], "no replica left", 90)
    assert "failed calling webhook" in refused(lab, pod(images["signed"]), shop)
    # What the cluster starts from waits for nobody: DNS is made anew, leases of nodes are in a namespace that is not judged.
    for exempt in ("kube-system", "kube-node-lease"):
        lab.cluster.try_out(pod(images["unsigned"]), exempt)
    dns = ("-n", "kube-system", "-l", "k8s-app=kube-dns")
    lab.cluster.kubectl("delete", "pods", *dns, "--wait=false")
    lab.cluster.kubectl("rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=90s")
    # So does our own namespace.
    lab.cluster.kubectl("scale", "deployment", "trusted-images", "-n", NAMESPACE, "--replicas=3")
    until(lambda: len(lab.replicas()) == 3, "three replicas", 90)
    until(lambda: lab.cluster.try_out(pod(images["signed"]), shop), "reviews answered", 30)
    assert "no signature by" in refused(lab, pod(images["unsigned"]), shop)
    assert conditions(lab, shop)["Ready"] == "InForce"


def test_f29_a_leader_that_dies_is_followed_by_another(lab: Lab) -> None:
    leader = lab.cluster.get("lease", "trusted-images", "-n", NAMESPACE)["spec"]["holderIdentity"]
    lab.cluster.kubectl("delete", "pod", leader, "-n", NAMESPACE, "--grace-period=0", "--force")
    until(
        lambda: lab.cluster.get("lease", "trusted-images", "-n", NAMESPACE)["spec"]["holderIdentity"] not in {leader, ""},
        "another leader", 60,
    )  # fmt: skip
    until(lambda: len(lab.replicas()) == 3, "three replicas", 90)


def test_f21_an_api_server_that_restarts_finds_us_as_before(lab: Lab, shop: str, images: dict[str, str]) -> None:
    node = ("docker", "exec", f"{lab.cluster.name}-control-plane")
    with load(lab.cluster, shop, wanted=pod(images["signed"]), unwanted=pod(images["unsigned"])) as answers:
        process = run(*node, "pgrep", "-x", "kube-apiserver").split()[0]
        run(*node, "kill", "-9", process)
        until(lambda: run(*node, "pgrep", "-x", "kube-apiserver").split() != [process], "another API server", 90)
        until(lambda: lab.cluster.try_out(pod(images["signed"]), shop), "reviews answered", 90)
        time.sleep(10)
    assert answers.wrongly_admitted == []
    # It was not there for some seconds, which is nobody's refusal.
    assert [text for text in answers.wrongly_refused if "webhook" in text] == []
    assert min(answers.admitted, answers.refused) > 10


def test_w02_a_restarted_node_heals_by_itself(lab: Lab, shop: str, images: dict[str, str]) -> None:
    # All of the cluster at once: nothing that it starts from may wait for us.
    run("docker", "restart", f"{lab.cluster.name}-control-plane", seconds=120)
    until(lambda: len(lab.replicas()) == 3, "three replicas after the restart", 180, 1)
    until(lambda: lab.cluster.try_out(pod(images["signed"]), shop), "reviews answered", 60)
    until(lambda: "no signature by" in refused(lab, pod(images["unsigned"]), shop), "and judged", 30)
