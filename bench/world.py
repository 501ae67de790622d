"""What the benchmarks measure against: a counting registry with a really signed image, policies, and reviews."""

import json
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from aiohttp import web

from webhook.cli.embedded import EmbeddedRegistry
from webhook.formats import FORMATS
from webhook.policy.parse import parse_policy
from webhook.policy.policy import Policy
from webhook.trust import KeyRef
from webhook.verdict import PolicyKey

CAPTURES = Path(str(resources.files("webhook.cli"))) / "captures"
CLASSIC = CAPTURES / "cosign-v2-key-sigtag-notlog"
BUNDLE = CAPTURES / "referrers-api"
KEY = (CAPTURES / "cosign.pub").read_text()


class CountingRegistry(EmbeddedRegistry):
    """Counts what it is asked."""

    count = 0

    async def handle(self, request: web.Request) -> web.Response:
        """The embedded registry's answer."""
        self.count += 1
        return await super().handle(request)


def policy(host: str, name: str = "shop", images: Iterable[str] | None = None) -> Policy:
    """A policy with the key that signed the captures."""
    key = KeyRef(KEY)
    spec = {
        "images": list(images or [f"{host}/shop/**"]),
        "signers": [{"name": "release", "cosign": {"key": key}}],
    }
    return parse_policy(PolicyKey("shop", name), spec, {key: KEY.encode()}, FORMATS, "trusted-images")


def other_policies(count: int) -> Iterable[Policy]:
    """Policies about other images, in this and in other namespaces."""
    key = KeyRef(KEY)
    for i in range(count):
        spec = {
            "images": [f"registry-{i % 100}.example/team-{i}/**"],
            "signers": [{"name": "release", "cosign": {"key": key}}],
        }
        namespace = "shop" if i % 2 else f"team-{i}"
        yield parse_policy(PolicyKey(namespace, f"p{i}"), spec, {key: KEY.encode()}, FORMATS, "trusted-images")


def deployment_review(images: Iterable[str], fields: Callable[[int], dict[str, Any]] = lambda _: {}) -> bytes:
    """A review of a Deployment of the usual size, about 5 KiB, as API servers send them."""
    containers = [
        {
            "name": f"app-{i}",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "env": [{"name": f"SETTING_{n}", "value": "x" * 40} for n in range(20)],
            "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "terminationMessagePath": "/dev/termination-log",
            **fields(i),
        }
        for i, image in enumerate(images)
    ]
    managed = {f"f:field-{n}": {".": {}, "f:value": {}} for n in range(60)}
    metadata = {"name": "web", "namespace": "shop", "labels": {"app": "web"}, "managedFields": [{"fieldsV1": managed}]}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers, "restartPolicy": "Always"}}
    return json.dumps(
        {
            "kind": "AdmissionReview",
            "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
                "name": "web",
                "namespace": "shop",
                "operation": "CREATE",
                "userInfo": {"username": "admin", "groups": ["system:authenticated"]},
                "object": {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
                           "spec": {"replicas": 3, "template": template}},
                "oldObject": None,
                "dryRun": False,
            },
        }
    ).encode()  # fmt: skip
