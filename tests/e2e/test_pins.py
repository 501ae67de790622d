"""`tags: pin` on a cluster: what was verified is what runs, whoever moves the tag, and nothing that somebody else keeps is rewritten."""

import base64
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.laboratory import Lab
from tests.e2e.test_story import in_force, pod, refused, workload
from tests.e2e.tools import run, until


@pytest.fixture
def pinned(lab: Lab, namespace: str) -> str:
    """A namespace in which tags are pinned, in force."""
    lab.cluster.apply(lab.policy("shop", namespace, tags="pin"))
    in_force(lab, "tp", "shop", namespace)
    return namespace


def release(lab: Lab, path: str) -> tuple[str, str]:
    """A signed image by its tag, and what a Pod with this tag has to say in the end."""
    image = lab.push(lab.public, f"{path}:v1")
    lab.sign(image, "release")
    name, _, digest = image.partition("@")
    return f"{name}:v1", f"{name}:v1@{digest}"


def images_of(document: dict[str, Any]) -> list[str]:
    return [one["image"] for one in document["spec"]["containers"]]


def test_r04_a_deployment_keeps_its_tag_and_its_pods_get_the_digest(lab: Lab, pinned: str) -> None:
    tag, whole = release(lab, "pins/deployed")
    lab.cluster.kubectl("create", "-n", pinned, "-f", "-", stdin=json.dumps(workload("Deployment", tag)))
    lab.cluster.kubectl("rollout", "status", "deployment/web", "-n", pinned, "--timeout=90s")
    [made] = lab.cluster.get("pods", "-n", pinned)["items"]
    assert images_of(made) == [whole]
    for kind in ("deployment", "replicaset"):
        [kept] = lab.cluster.get(kind, "-n", pinned)["items"]
        assert images_of(kept["spec"]["template"]) == [tag]
        assert kept["metadata"]["generation"] == 1


def test_k06_what_is_pinned_stays_as_it_is(lab: Lab, pinned: str) -> None:
    tag, whole = release(lab, "pins/kept")
    for written in (tag, whole):
        made = json.loads(lab.cluster.kubectl("create", "-n", pinned, "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod(written))))  # fmt: skip
        assert images_of(made) == [whole]
    lab.cluster.kubectl("create", "-n", pinned, "-f", "-", stdin=json.dumps(pod(tag)))
    lab.cluster.kubectl("wait", "pod", "web", "-n", pinned, "--for=condition=Ready", "--timeout=60s")
    # Updates of a Pod that runs touch nothing, whoever has moved the tag meanwhile.
    lab.push(lab.public, "pins/kept:v1")
    lab.cluster.kubectl("label", "pod", "web", "-n", pinned, "team=blue")
    lab.cluster.kubectl("annotate", "pod", "web", "-n", pinned, "team=blue")
    assert images_of(lab.cluster.get("pod", "web", "-n", pinned)) == [whole]
    # What an update brings is pinned like what was there from the beginning.
    helper, pinned_helper = release(lab, "pins/helper")
    lab.cluster.kubectl("debug", "web", "-n", pinned, f"--image={helper}", "--attach=false")
    spec = lab.cluster.get("pod", "web", "-n", pinned)["spec"]
    assert [one["image"] for one in spec["ephemeralContainers"]] == [pinned_helper]


def test_r04_a_tag_that_moves_before_the_start_leads_nowhere_else(lab: Lab, pinned: str) -> None:
    tag, whole = release(lab, "pins/moved")
    # The scheduler waits for us, and with it the node.
    waiting = pod(tag, schedulingGates=[{"name": "e2e/wait"}])
    lab.cluster.kubectl("create", "-n", pinned, "-f", "-", stdin=json.dumps(waiting))
    evil = lab.push(lab.public, "pins/evil:v1")
    run("crane", "copy", "--insecure", evil, tag, env=lab.env)
    assert run("crane", "digest", "--insecure", tag, env=lab.env).strip() == evil.partition("@")[2]
    lab.cluster.kubectl("patch", "pod", "web", "-n", pinned, "--type=json", "-p", '[{"op": "remove", "path": "/spec/schedulingGates"}]')  # fmt: skip
    lab.cluster.kubectl("wait", "pod", "web", "-n", pinned, "--for=condition=Ready", "--timeout=60s")
    runs = lab.cluster.get("pod", "web", "-n", pinned)
    assert images_of(runs) == [whole]
    assert runs["status"]["containerStatuses"][0]["imageID"].endswith(whole.partition("@")[2])
    # Whoever comes now, by the same tag, comes too late.
    text = until(lambda: refused(lab, pod(tag, "late"), pinned), "the tag asked for again", 40)
    assert 'no signature by "release"' in text
    assert f"({evil.partition('@')[2][:19]}…)" in text


class _Stripper(http.server.BaseHTTPRequestHandler):
    """A mutating webhook of somebody else that does not like digests."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        patch = [
            {"op": "replace", "path": f"/spec/containers/{i}/image", "value": image.partition("@")[0]}
            for i, image in enumerate(images_of(request["object"]))
        ]
        response = {
            "uid": request["uid"], "allowed": True, "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }  # fmt: skip
        answer = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def stripper(lab: Lab, pinned: str, tmp_path: Path) -> Iterator[None]:
    """That webhook, for one namespace, called after ours, and once more after ours was called again."""
    address = lab.public.host.partition(":")[0]
    authority = lab.secured.authority
    assert authority is not None
    for name, pem in zip(("tls.crt", "tls.key"), authority.issue(address), strict=True):
        (tmp_path / name).write_text(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    server = http.server.ThreadingHTTPServer((address, 0), _Stripper)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    webhook = {
        "name": "strip.e2e.test",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "reinvocationPolicy": "IfNeeded",
        "timeoutSeconds": 5,
        "clientConfig": {
            "url": f"https://{address}:{server.server_port}/",
            "caBundle": base64.b64encode(authority.pem.encode()).decode(),
        },
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": pinned}},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
    }
    # By name they are called in this order.
    metadata = {"name": f"zz-{pinned}"}
    try:
        lab.cluster.apply({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": metadata, "webhooks": [webhook],
        })  # fmt: skip
        yield
    finally:
        lab.cluster.kubectl("delete", "mutatingwebhookconfiguration", metadata["name"], "--ignore-not-found")
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.usefixtures("stripper")
def test_r04_a_digest_that_another_webhook_takes_away_is_missed(lab: Lab, pinned: str) -> None:
    tag, whole = release(lab, "pins/stripped")
    text = until(lambda: refused(lab, pod(tag), pinned), "the other webhook called", 30)
    assert f"it is signed, and its digest was not written into the Pod ({whole})" in text
    assert "digest was not written into the Pod" in refused(lab, pod(whole), pinned)
