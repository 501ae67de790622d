"""What the benchmarks measure with: signed images, policies, and reviews."""

import json
from collections.abc import Iterable
from typing import Any

from tests.fake.registry import FakeRegistry, to_json
from tests.fake.signing import key, sign_bundle, sign_classic, statement
from tests.fake.sigstore import ISSUER, SUBJECT, Sigstore
from webhook.formats import FORMATS
from webhook.policy.parse import parse_policy
from webhook.policy.policy import Policy
from webhook.trust import KeyRef
from webhook.verdict import PolicyKey

SIGNER = key("bench")
KEY = SIGNER.pem


def sign(registry: FakeRegistry, host: str) -> None:
    """Puts `shop/app`, signed as cosign 2 does, and `shop/bundle`, signed as cosign 3 does, into the registry."""
    name = f"{host}/shop/app"
    digest = registry.push_image("shop/app", "v1", b"app")
    sign_classic(
        registry, "shop/app", digest, SIGNER,
        edit_payload=lambda payload: payload["critical"]["identity"].update({"docker-reference": name}),
    )  # fmt: skip
    sign_bundle(registry, "shop/bundle", registry.push_image("shop/bundle", "v1", b"bundle"), SIGNER)


def sign_keyless(registry: FakeRegistry) -> Policy:
    """Puts `keyless/bundle`, signed as cosign 3 does under a sigstore of its own, into the registry; and the policy that wants it."""
    instance = Sigstore()
    digest = registry.push_image("keyless/bundle", "v1", b"keyless")
    sign_bundle(
        registry, "keyless/bundle", digest, SIGNER, content=to_json(instance.bundle(to_json(statement(digest))))
    )
    root = KeyRef(instance.trusted_root())
    by = {"keyless": {"issuer": ISSUER, "subject": SUBJECT}, "trustRoot": root}
    spec = {"images": ["**/keyless/**"], "signers": [{"name": "ci", "cosign": by}]}
    return parse_policy(PolicyKey("shop", "keyless"), spec, {root: root.encode()}, FORMATS, "trusted-images")


def policy(host: str, name: str = "shop") -> Policy:
    """A policy with the key that signed the images."""
    return _policy("shop", name, f"{host}/shop/**")


def _policy(namespace: str, name: str, glob: str) -> Policy:
    reference = KeyRef(KEY)
    spec = {"images": [glob], "signers": [{"name": "release", "cosign": {"key": reference}}]}
    return parse_policy(PolicyKey(namespace, name), spec, {reference: KEY.encode()}, FORMATS, "trusted-images")


def other_policies(count: int) -> Iterable[Policy]:
    """Policies about other images, in this and in other namespaces."""
    for i in range(count):
        yield _policy("shop" if i % 2 else f"team-{i}", f"p{i}", f"registry-{i % 100}.example/team-{i}/**")


def deployment_review(images: Iterable[str]) -> bytes:
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
        }
        for i, image in enumerate(images)
    ]
    managed: dict[str, Any] = {f"f:field-{n}": {".": {}, "f:value": {}} for n in range(60)}
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
