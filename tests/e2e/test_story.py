"""What users do, and what they read (the story of the README)."""

import json
import re
from typing import Any

import pytest

from tests.e2e.laboratory import NAMESPACE, Lab, resource
from tests.e2e.tools import Failed, until


@pytest.fixture(scope="session")
def images(lab: Lab) -> dict[str, str]:
    """The images of the suite by name: signed in both styles, unsigned, private."""
    made = {name: lab.push(lab.public, f"shop/{name}:v1") for name in ("signed", "classic", "unsigned", "other")}
    lab.sign(made["signed"], "release")
    lab.sign(made["classic"], "release", "--new-bundle-format=false")
    lab.sign(made["other"], "other")
    made["private"] = lab.push(lab.private, "shop/private:v1")
    lab.sign(made["private"], "release")
    return made


@pytest.fixture
def shop(lab: Lab, namespace: str, images: dict[str, str]) -> str:
    """A namespace with the policy of the README, in force on every replica."""
    lab.cluster.apply(lab.policy("shop", namespace))
    in_force(lab, "tp", "shop", namespace)
    return namespace


def in_force(lab: Lab, kind: str, name: str, namespace: str | None = None) -> None:
    where = ("-n", namespace) if namespace else ()
    lab.cluster.kubectl("wait", kind, name, *where, "--for=condition=Ready", "--timeout=30s")


def pod(image: str, name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": image}], **spec},
    }


def workload(kind: str, image: str) -> dict[str, Any]:
    labels = {"app": "web"}
    template: dict[str, Any] = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }
    job = {"template": {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}}
    version = {
        "Pod": "v1",
        "PodTemplate": "v1",
        "ReplicationController": "v1",
        "Job": "batch/v1",
        "CronJob": "batch/v1",
    }.get(kind, "apps/v1")
    body: dict[str, Any] = {"apiVersion": version, "kind": kind, "metadata": {"name": "web"}}
    match kind:
        case "Pod":
            return pod(image)
        case "PodTemplate":
            return {**body, "template": template}
        case "ReplicationController":
            return {**body, "spec": {"selector": labels, "template": template}}
        case "Job":
            return {**body, "spec": job}
        case "CronJob":
            return {**body, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job}}}
        case "StatefulSet":
            return {**body, "spec": {"selector": {"matchLabels": labels}, "serviceName": "web", "template": template}}
    return {**body, "spec": {"selector": {"matchLabels": labels}, "template": template}}


def refused(lab: Lab, document: dict[str, Any], namespace: str) -> str:
    """The denial. AssertionError, which `until` waits out, if there is none."""
    try:
        lab.cluster.try_out(document, namespace)
    except Failed as e:
        return str(e)
    raise AssertionError("it was admitted")


def test_an_unsigned_deployment_is_refused_with_place_image_digest_cause_and_fix(
    lab: Lab, shop: str, images: dict[str, str]
) -> None:
    name = images["unsigned"].partition("@")[0] + ":v1"
    with pytest.raises(Failed) as caught:
        lab.cluster.kubectl("create", "deployment", "web", f"--image={name}", "-n", shop)
    text = str(caught.value)
    digest = images["unsigned"].partition("@")[2]
    assert f"spec.template.spec.containers[0].image {name} ({digest[:19]}…)" in text
    assert f'policy {shop}/shop: no signature by "release" (it carries no signature)' in text
    assert f"Fix: sign {images['unsigned']} with" in text


@pytest.mark.parametrize("style", ["signed", "classic"])
def test_a_signed_deployment_runs(lab: Lab, shop: str, images: dict[str, str], style: str) -> None:
    lab.cluster.kubectl("create", "deployment", style, f"--image={images[style]}", "-n", shop)
    lab.cluster.kubectl("rollout", "status", f"deployment/{style}", "-n", shop, "--timeout=90s")


@pytest.mark.parametrize(
    "kind",
    [
        "Pod",
        "Deployment",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "ReplicationController",
        "Job",
        "CronJob",
        "PodTemplate",
    ],
)
def test_every_kind_is_judged(lab: Lab, shop: str, images: dict[str, str], kind: str) -> None:
    assert "no signature by" in refused(lab, workload(kind, images["unsigned"]), shop)
    lab.cluster.try_out(workload(kind, images["signed"]), shop)


def test_kubectl_debug_is_judged(lab: Lab, shop: str, images: dict[str, str]) -> None:
    lab.cluster.kubectl("create", "-n", shop, "-f", "-", stdin=json.dumps(pod(images["signed"])))
    with pytest.raises(Failed, match=r"spec\.ephemeralContainers\[0\]\.image .*no signature by"):
        lab.cluster.kubectl("debug", "web", "-n", shop, f"--image={images['unsigned']}", "--attach=false")
    lab.cluster.kubectl("debug", "web", "-n", shop, f"--image={images['classic']}", "--attach=false")


def test_an_image_volume_is_judged(lab: Lab, shop: str, images: dict[str, str]) -> None:
    volume = {"name": "data", "image": {"reference": images["unsigned"]}}
    assert "spec.volumes[0].image.reference" in refused(lab, pod(images["signed"], volumes=[volume]), shop)


@pytest.mark.parametrize(("mode", "told"), [("warn", True), ("audit", False)])
def test_warn_and_audit_admit(lab: Lab, namespace: str, images: dict[str, str], mode: str, told: bool) -> None:
    lab.cluster.apply(lab.policy("shop", namespace, mode=mode))
    in_force(lab, "tp", "shop", namespace)
    said = lab.cluster.warnings("run", "web", f"--image={images['unsigned']}", "-n", namespace, "--dry-run=server")
    assert ("no signature by" in said) is told


def test_cluster_and_namespaced_policies_add_and_a_fallback_denies_the_rest(
    lab: Lab, shop: str, images: dict[str, str]
) -> None:
    only_here = {"namespaces": {"match": [shop]}}
    both = resource("ClusterTrustPolicy", f"{shop}-also", None, {
        "images": [f"{lab.public.host}/**"], **only_here,
        "signers": [{"name": "other", "cosign": {"key": lab.public_key("other")}}],
    })  # fmt: skip
    rest = resource("ClusterTrustPolicy", f"{shop}-rest", None, {
        "images": ["**"], "fallback": True, **only_here, "message": "Ask #platform.",
        "signers": [{"name": "nobody", "static": {"allow": False, "reason": "no policy allows this image"}}],
    })  # fmt: skip
    try:
        lab.cluster.apply(both, rest)
        for name in (f"{shop}-also", f"{shop}-rest"):
            in_force(lab, "ctp", name)
        assert f"policy cluster/{shop}-also" in refused(lab, pod(images["signed"]), shop)
        lab.sign(images["classic"], "other")
        until(lambda: lab.cluster.try_out(pod(images["classic"]), shop), "both policies satisfied", 40)
        assert "Ask #platform." in refused(lab, pod("elsewhere.invalid/x@" + lab.digests["shop/signed:v1"]), shop)
    finally:
        lab.cluster.kubectl("delete", "ctp", f"{shop}-also", f"{shop}-rest", "--ignore-not-found")


@pytest.mark.parametrize("of", ["pod", "account"])
def test_a_private_image_is_opened_by_the_pods_and_the_accounts_pull_secret(
    lab: Lab, shop: str, images: dict[str, str], of: str
) -> None:
    assert "could not verify" in refused(lab, pod(images["private"]), shop)
    lab.cluster.kubectl("create", "secret", "docker-registry", "login", "-n", shop, f"--docker-server={lab.private.host}",
                        "--docker-username=user", "--docker-password=right")  # fmt: skip
    if of == "pod":
        lab.cluster.try_out(pod(images["private"], imagePullSecrets=[{"name": "login"}]), shop)
    else:
        lab.cluster.kubectl(
            "patch", "serviceaccount", "default", "-n", shop, "-p", '{"imagePullSecrets": [{"name": "login"}]}'
        )
        until(lambda: lab.cluster.try_out(pod(images["private"]), shop), "the account's login", 60)


def test_a_wrong_policy_cannot_be_written(lab: Lab, namespace: str) -> None:
    wrong = lab.policy("wrong", namespace, require="release and relaese")
    with pytest.raises(Failed, match=r'spec\.require: column 13: unknown name "relaese"'):
        lab.cluster.apply(wrong)
    with pytest.raises(Failed, match=r"spec\.mode: Unsupported value"):
        lab.cluster.apply(lab.policy("wrong", namespace, mode="enfroce"))


def test_a_policy_whose_secret_is_missing_says_so_and_heals(lab: Lab, namespace: str, images: dict[str, str]) -> None:
    by_secret = lab.policy(
        "shop", namespace, signers=[{"name": "release", "cosign": {"key": "secret://keys#cosign.pub"}}]
    )
    lab.cluster.apply(by_secret)
    until(lambda: conditions(lab, namespace).get("Ready") == "SignersUnresolved", "the status of an unresolved policy")
    assert "could not verify" in refused(lab, pod(images["signed"]), namespace)
    lab.public_key("release")
    lab.cluster.kubectl(
        "create", "secret", "generic", "keys", "-n", namespace, f"--from-file=cosign.pub={lab.folder}/release.pub"
    )
    in_force(lab, "tp", "shop", namespace)
    lab.cluster.try_out(pod(images["signed"]), namespace)
    status = lab.cluster.get("tp", "shop", "-n", namespace)["status"]
    assert re.fullmatch(r"SHA256:[0-9a-f]{64}", status["signers"][0]["fingerprints"][0])
    events = lab.cluster.kubectl("get", "events", "-n", namespace)
    assert "PolicySignersUnresolved" in events


def test_f23_garbage_for_a_key_denies_touches_no_other_policy_and_heals(
    lab: Lab, shop: str, namespace: str, images: dict[str, str]
) -> None:
    assert shop == namespace
    broken = f"{namespace}-broken"
    lab.cluster.kubectl("create", "namespace", broken)
    try:
        lab.cluster.kubectl("create", "secret", "generic", "keys", "-n", broken, "--from-literal=cosign.pub=garbage")
        by_secret = [{"name": "release", "cosign": {"key": "secret://keys#cosign.pub"}}]
        lab.cluster.apply(lab.policy("shop", broken, signers=by_secret))
        until(lambda: conditions(lab, broken).get("Ready") == "Invalid", "the status of a broken policy")
        assert "spec.signers[0].cosign.key" in refused(lab, pod(images["signed"]), broken)
        lab.cluster.try_out(pod(images["signed"]), shop)
        assert 'trusted_images_policies{state="broken"} 1.0' in metrics(lab)
        lab.public_key("release")
        made = lab.cluster.kubectl("create", "secret", "generic", "keys", f"--from-file=cosign.pub={lab.folder}/release.pub",
                                   "-n", broken, "--dry-run=client", "-o", "yaml")  # fmt: skip
        lab.cluster.kubectl("apply", "-f", "-", stdin=made)
        in_force(lab, "tp", "shop", broken)
        lab.cluster.try_out(pod(images["signed"]), broken)
        until(lambda: 'trusted_images_policies{state="broken"} 0.0' in metrics(lab), "the metric")
    finally:
        lab.cluster.kubectl("delete", "namespace", broken, "--wait=false")


def test_m04_labels_of_namespaces_count_from_the_next_review_on(
    lab: Lab, namespace: str, images: dict[str, str]
) -> None:
    name = f"{namespace}-gold"
    gold = resource("ClusterTrustPolicy", name, None, {
        "images": ["**"], "namespaces": {"selector": {"matchLabels": {"e2e": namespace}}},
        "signers": [{"name": "nobody", "static": {"allow": False, "reason": "gold takes nothing"}}],
    })  # fmt: skip
    try:
        lab.cluster.apply(gold)
        in_force(lab, "ctp", name)
        lab.cluster.try_out(pod(images["signed"]), namespace)
        lab.cluster.kubectl("label", "namespace", namespace, f"e2e={namespace}")
        until(lambda: "gold takes nothing" in refused(lab, pod(images["signed"]), namespace), "the label", 10, 0.05)
        lab.cluster.kubectl("label", "namespace", namespace, "e2e-")
        until(lambda: lab.cluster.try_out(pod(images["signed"]), namespace), "no label", 10, 0.05)
    finally:
        lab.cluster.kubectl("delete", "ctp", name, "--ignore-not-found")


def metrics(lab: Lab) -> str:
    """Of one replica, as Prometheus reads them."""
    return lab.cluster.kubectl(
        "get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{lab.replicas()[0]}:8080/proxy/metrics"
    )


def conditions(lab: Lab, namespace: str) -> dict[str, str]:
    status = lab.cluster.get("tp", "shop", "-n", namespace).get("status") or {}
    return {one["type"]: one["reason"] for one in status.get("conditions") or ()}


def test_helm_test(lab: Lab) -> None:
    assert "Succeeded" in lab.cluster.helm("test", "trusted-images", "-n", NAMESPACE, "--timeout", "90s")
