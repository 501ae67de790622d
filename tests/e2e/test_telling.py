"""What a cluster's people are told: Events beside owners, a configuration that somebody weakened, `why` and `status`."""

import json
import subprocess
from typing import Any

from tests.e2e.laboratory import NAMESPACE, Lab
from tests.e2e.test_story import images, in_force, shop
from tests.e2e.tools import until
from tests.process import PROGRAM

__all__ = ["images", "shop"]

CONFIGURATION = "validatingwebhookconfiguration"


def events(lab: Lab, namespace: str, reason: str) -> list[dict[str, Any]]:
    found = lab.cluster.get("events", "-n", namespace, "--field-selector", f"reason={reason}")["items"]
    assert found, reason
    return list(found)


def test_what_a_replica_set_is_refused_stands_beside_it(lab: Lab, namespace: str, images: dict[str, str]) -> None:
    lab.cluster.kubectl("create", "deployment", "web", f"--image={images['unsigned']}", "-n", namespace)
    lab.cluster.kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=90s")
    lab.cluster.apply(lab.policy("shop", namespace))
    in_force(lab, "tp", "shop", namespace)
    lab.cluster.kubectl("delete", "pod", "-l", "app=web", "-n", namespace, "--grace-period=1")
    found = until(lambda: events(lab, namespace, "ImageNotTrusted"), "the Event about a refusal", 60)
    assert {one["involvedObject"]["kind"] for one in found} == {"ReplicaSet"}
    assert f'policy {namespace}/shop: no signature by "release"' in found[0]["message"]
    assert "ImageNotTrusted" in lab.cluster.kubectl("describe", "replicaset", "-l", "app=web", "-n", namespace)


def test_m11_conditions_that_somebody_adds_are_taken_away_and_told(lab: Lab) -> None:
    patch = [{"op": "add", "path": "/webhooks/0/matchConditions", "value": [{"name": "never", "expression": "false"}]}]
    lab.cluster.kubectl("patch", CONFIGURATION, "trusted-images", "--type=json", "-p", json.dumps(patch))

    def mended() -> bool:
        webhooks = lab.cluster.get(CONFIGURATION, "trusted-images")["webhooks"]
        assert not any(one.get("matchConditions") for one in webhooks), "it is still there"
        return True

    until(mended, "the configuration as it was installed", 30)
    found = until(lambda: events(lab, NAMESPACE, "WebhookConfigurationWeakened"), "the Event about it", 30)
    assert "matchConditions" in found[-1]["message"]


def trust(lab: Lab, *words: str) -> tuple[int, Any]:
    ran = subprocess.run(
        [PROGRAM, *words, "--context", lab.cluster.context, "-o", "json"],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert ran.stdout, ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def test_status_sees_that_all_is_in_place(lab: Lab) -> None:
    def in_place() -> dict[str, str]:
        _, said = trust(lab, "status")
        states = {line["about"]: line["state"] for line in reversed(said["lines"])}
        looked = {about: states.get(about) for about in ("replicas", "leader", "validating", "mutating", "certificate")}
        assert set(looked.values()) == {"ok"}, said
        return states

    until(in_place, "an installation in which all is well", 60, 1)


def test_why_says_what_admission_says(lab: Lab, shop: str, images: dict[str, str]) -> None:
    code, said = trust(lab, "why", images["unsigned"], "-n", shop, "--plain-http")
    (entry,) = said["images"]
    assert (code, entry["verdict"], entry["decidedBy"]) == (1, "denied", [f"{shop}/shop"])
    assert entry["fixes"][0].startswith("sign ")
    code, said = trust(lab, "why", images["signed"], "-n", shop, "--plain-http")
    assert (code, said["images"][0]["verdict"]) == (0, "allowed")
