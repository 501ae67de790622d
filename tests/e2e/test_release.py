"""A release over its life: upgraded, rolled back, removed, installed again, with another source of certificates. Nobody is refused by that."""

import base64
import json

import pytest

from tests.e2e.authority import Authority
from tests.e2e.laboratory import IMAGE, NAMESPACE, NEXT_IMAGE, Lab, install
from tests.e2e.load import load
from tests.e2e.test_story import images, pod, refused, shop
from tests.e2e.tools import Failed, until

__all__ = ["images", "shop"]


def running(lab: Lab) -> set[str]:
    """The images of the replicas that are not leaving."""
    pods = lab.cluster.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=trusted-images")["items"]
    return {one["spec"]["containers"][0]["image"] for one in pods if "deletionTimestamp" not in one["metadata"]}


def test_f28_an_upgrade_and_its_rollback_under_load_refuse_nothing_signed_and_admit_nothing_unsigned(
    lab: Lab, shop: str, images: dict[str, str]
) -> None:
    before = set(lab.replicas())
    with load(lab.cluster, shop, wanted=pod(images["signed"]), unwanted=pod(images["unsigned"])) as answers:
        install(lab, {"podAnnotations": {"e2e": "next"}}, NEXT_IMAGE)
        assert running(lab) == {NEXT_IMAGE}
        lab.cluster.helm("rollback", "trusted-images", "-n", NAMESPACE, "--wait", "--timeout", "180s")
        assert running(lab) == {IMAGE}
    assert before.isdisjoint(lab.replicas())
    assert answers.wrongly_refused == []
    assert answers.wrongly_admitted == []
    assert min(answers.admitted, answers.refused) > 300


def test_f27_a_replica_that_is_killed_lets_nothing_unsigned_in(lab: Lab, shop: str, images: dict[str, str]) -> None:
    with load(lab.cluster, shop, wanted=None, unwanted=pod(images["unsigned"])) as answers:
        for name in lab.replicas()[:2]:
            lab.cluster.kubectl("delete", "pod", name, "-n", NAMESPACE, "--grace-period=0", "--force")
        until(lambda: len(lab.replicas()) == 3, "three replicas", 90)
    # Reviews under way at that moment may have been refused without a judgement; none was admitted.
    assert answers.wrongly_admitted == []
    assert answers.refused > 50


def test_w11_removing_and_installing_refuse_nobody_and_leave_nothing_that_refuses(
    lab: Lab, shop: str, images: dict[str, str]
) -> None:
    with load(lab.cluster, shop, wanted=pod(images["signed"]), unwanted=None) as answers:
        lab.cluster.helm("uninstall", "trusted-images", "-n", NAMESPACE, "--wait", "--timeout", "120s")
        with pytest.raises(Failed, match="not found"):
            lab.cluster.get("validatingwebhookconfiguration", "trusted-images")
        lab.cluster.try_out(pod(images["unsigned"]), shop)
        # The policies stay, and are in force again when the release is.
        install(lab)
        until(lambda: "no signature by" in refused(lab, pod(images["unsigned"]), shop), "policies in force again", 30)
    assert answers.wrongly_refused == []
    assert answers.admitted > 100


def test_w11_deleting_the_namespace_refuses_nobody(lab: Lab, shop: str, images: dict[str, str]) -> None:
    try:
        with load(lab.cluster, shop, wanted=pod(images["signed"]), unwanted=None) as answers:
            lab.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=true", seconds=120)
            with pytest.raises(Failed, match="not found"):
                lab.cluster.get("validatingwebhookconfiguration", "trusted-images")
            lab.cluster.try_out(pod(images["unsigned"]), shop)
    finally:
        # What stands in no namespace is still there, and taken over.
        install(lab)
    until(lambda: "no signature by" in refused(lab, pod(images["unsigned"]), shop), "policies in force again", 30)
    assert answers.wrongly_refused == []
    assert answers.admitted > 50


def test_w09_w11_a_certificate_of_ones_own_is_served_and_replaced_without_a_refusal(
    lab: Lab, shop: str, images: dict[str, str]
) -> None:
    authority = Authority()

    def put() -> str:
        certificate, key = authority.issue(f"trusted-images.{NAMESPACE}.svc")
        data = {"tls.crt": certificate, "tls.key": key, "ca.crt": authority.pem}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own", "namespace": NAMESPACE}}
        lab.cluster.kubectl("apply", "-f", "-", stdin=json.dumps({**secret, "stringData": data}))
        return certificate

    lab.cluster.helm("uninstall", "trusted-images", "-n", NAMESPACE, "--wait", "--timeout", "120s")
    put()
    try:
        install(lab, {"certificates": {"source": "secret", "secretName": "own"}})
        until(lambda: "no signature by" in refused(lab, pod(images["unsigned"]), shop), "reviews judged", 30)
        configuration = lab.cluster.get("validatingwebhookconfiguration", "trusted-images")
        for webhook in configuration["webhooks"]:
            assert base64.b64decode(webhook["clientConfig"]["caBundle"]).decode() == authority.pem
        with load(lab.cluster, shop, wanted=pod(images["signed"]), unwanted=pod(images["unsigned"])) as answers:
            put()
            until(
                lambda: all(reloaded(lab, name) for name in lab.replicas()), "every replica serves the new one", 30, 1
            )
        assert answers.wrongly_refused == []
        assert answers.wrongly_admitted == []
        assert min(answers.admitted, answers.refused) > 10
        # It is nobody else's to make: the Secret of our own making is not there.
        with pytest.raises(Failed, match="not found"):
            lab.cluster.get("secret", "trusted-images-tls", "-n", NAMESPACE)
    finally:
        lab.cluster.helm("uninstall", "trusted-images", "-n", NAMESPACE, "--wait", "--timeout", "120s")
        lab.cluster.kubectl("delete", "secret", "own", "-n", NAMESPACE)
        install(lab)


def reloaded(lab: Lab, name: str) -> bool:
    return "a new certificate is served" in lab.cluster.kubectl("logs", name, "-n", NAMESPACE)
