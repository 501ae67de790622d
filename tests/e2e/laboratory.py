"""What the suite and the benchmarks on a cluster stand on: cluster, image, registries, keys, release."""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.authority import Authority
from tests.e2e.tools import Cluster, Failed, run, until

ROOT = Path(__file__).parents[2]
NAMESPACE = "trusted-images"
CLUSTER = os.environ.get("E2E_CLUSTER", "trusted-images-e2e")
IMAGE, NEXT_IMAGE = "trusted-images:e2e", "trusted-images:e2e-next"
MIRRORED = "docker.io/e2e"
"""What is fetched from the public registry in place of one that nobody here can reach."""
# user:right, as htpasswd -B writes it.
HTPASSWD = "user:$2b$05$abcdefghijklmnopqrstuu8xaCxxL82bnl.UY74PMksDxIJShppPC\n"


@contextlib.contextmanager
def given_or_made() -> Iterator[Cluster]:
    """The cluster named by E2E_CONTEXT, or one made for this run."""
    given = os.environ.get("E2E_CONTEXT")
    if given:
        yield Cluster(given)
        return
    config = os.environ.get("E2E_KIND_CONFIG", str(ROOT / "kind-config.yaml"))
    node = os.environ.get("E2E_NODE_IMAGE")
    # kubectl and Helm find it here, and the user's own file stays as it is.
    with tempfile.TemporaryDirectory(prefix="trusted-images-kube-") as folder:
        os.environ["KUBECONFIG"] = f"{folder}/config"
        if CLUSTER in run("kind", "get", "clusters").splitlines():
            raise Failed(
                f"there is a cluster {CLUSTER}; name it in E2E_CONTEXT, or another in E2E_CLUSTER, or delete it"
            )
        try:
            run("kind", "create", "cluster", "--name", CLUSTER, "--config", config, "--wait", "180s",
                *(("--image", node) if node else ()), seconds=400)  # fmt: skip
            yield Cluster(f"kind-{CLUSTER}")
        finally:
            run("kind", "delete", "cluster", "--name", CLUSTER)


@dataclass
class Registry:
    """A registry on the address of kind's network: one name for the machine, the nodes and the Pods."""

    host: str
    folder: Path
    private: bool = False
    authority: Authority | None = None
    """Whose certificate it serves; without one it speaks plain HTTP."""
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Serves what is in its folder."""
        http = f"addr: '{self.host}'"
        if self.authority is not None:
            for name, pem in zip(
                ("tls.crt", "tls.key"), self.authority.issue(self.host.partition(":")[0]), strict=True
            ):
                (self.folder / name).write_text(pem)
            http += f", tls: {{certificate: {self.folder}/tls.crt, key: {self.folder}/tls.key}}"
        auth = f"auth: {{htpasswd: {{realm: e2e, path: {self.folder}/htpasswd}}}}\n" if self.private else ""
        (self.folder / "htpasswd").write_text(HTPASSWD)
        config = self.folder / "config.yml"
        config.write_text(
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {self.folder}/data}}}}\nhttp: {{{http}}}\n{auth}"
        )
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
        until(lambda: run("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*", f"{self.url}/v2/")
              in {"200", "401"}, f"registry {self.host}")  # fmt: skip

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self.authority else 'http'}://{self.host}"

    def stop(self) -> None:
        """Ends it; its images stay."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


@dataclass
class Lab:
    """Everything that tests speak of."""

    cluster: Cluster
    folder: Path
    public: Registry
    private: Registry
    secured: Registry
    env: dict[str, str]
    digests: dict[str, str] = field(default_factory=dict)

    def public_key(self, name: str) -> str:
        """The PEM of a key pair, made when it is first asked for."""
        file = self.folder / f"{name}.pub"
        if not file.exists():
            run("cosign", "generate-key-pair", "--output-key-prefix", str(self.folder / name), env=self.env)
        return file.read_text()

    def push(self, registry: Registry, path: str) -> str:
        """An image that runs, its name with the digest; every path has a digest and a configuration of its own.

        Of manifests with one configuration, a node names any when it says what a container runs.
        """
        name = f"{registry.host}/{path}"
        run("crane", "push", "--insecure", str(self.folder / "pause.tar"), name, env=self.env)
        run("crane", "mutate", "--insecure", name, "-t", name, "--label", f"e2e={path}", env=self.env)
        digest = run("crane", "digest", "--insecure", name, env=self.env).strip()
        self.digests[path] = digest
        return f"{name.rpartition(':')[0]}@{digest}"

    def sign(self, image: str, key: str, *options: str) -> None:
        """Signs as users do; by default as cosign 3 does, with a bundle."""
        self.public_key(key)
        run("cosign", "sign", "--yes", "--key", str(self.folder / f"{key}.key"), "--allow-http-registry",
            "--tlog-upload=false", "--use-signing-config=false", *options, image, env=self.env)  # fmt: skip

    def policy(self, name: str, namespace: str, key: str = "release", **spec: Any) -> dict[str, Any]:
        """A policy with one key over everything on the registries, and on the one that is mirrored."""
        images = [*(f"{one.host}/**" for one in (self.public, self.private, self.secured)), f"{MIRRORED}/**"]
        whole = {"images": images, "signers": [{"name": key, "cosign": {"key": self.public_key(key)}}], **spec}
        return resource("TrustPolicy", name, namespace, whole)

    def replicas(self) -> list[str]:
        """The names of the Pods that are ready."""
        pods = self.cluster.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=trusted-images")["items"]
        return [
            pod["metadata"]["name"] for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
            and all(one["ready"] for one in pod["status"].get("containerStatuses") or [{"ready": False}])
        ]  # fmt: skip


def resource(kind: str, name: str, namespace: str | None, spec: dict[str, Any]) -> dict[str, Any]:
    """One of our custom resources."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "trusted-images.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def free_port(address: str) -> int:
    """A port nobody listens on, so that two runs on one machine do not meet."""
    with socket.create_server((address, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextlib.contextmanager
def laboratory(cluster: Cluster) -> Iterator[Lab]:
    """The release, installed as the README says, and two registries."""
    with tempfile.TemporaryDirectory(prefix="trusted-images-e2e-") as name:
        folder = Path(name)
        gateway = json.loads(run("docker", "network", "inspect", "kind"))[0]["IPAM"]["Config"]
        address = next(one["Gateway"] for one in gateway if "." in one.get("Gateway", ""))
        authority = Authority()
        (folder / "ca.pem").write_text(authority.pem)

        def made(kind: str, *, private: bool = False, authority: Authority | None = None) -> Registry:
            (folder / kind).mkdir()
            return Registry(f"{address}:{free_port(address)}", folder / kind, private, authority)

        registries = [made("public"), made("private", private=True), made("secured", authority=authority)]
        docker = folder / "docker"
        docker.mkdir()
        (docker / "config.json").write_text(
            json.dumps({"auths": {registries[1].host: {"username": "user", "password": "right"}}})
        )
        env = {**os.environ, "COSIGN_PASSWORD": "", "DOCKER_CONFIG": str(docker), "HOME": name, "NO_PROXY": address,
               "SSL_CERT_FILE": str(folder / "ca.pem")}  # fmt: skip
        lab = Lab(cluster, folder, registries[0], registries[1], registries[2], env)
        try:
            for registry in registries:
                tell_node(cluster, registry)
                registry.start()
            save_image(cluster, folder / "pause.tar")
            build(lab)
            install(lab)
            yield lab
        finally:
            if not os.environ.get("E2E_KEEP"):
                uninstall(lab)
            for registry in registries:
                registry.stop()


def tell_node(cluster: Cluster, registry: Registry) -> None:
    """Lets the node's runtime pull without TLS, or with an authority of ours; it reads the file at each pull."""
    place = f"/etc/containerd/certs.d/{registry.host}"
    hosts = f'server = "{registry.url}"\n[host."{registry.url}"]\n  capabilities = ["pull", "resolve"]\n'
    if registry.authority is not None:
        hosts += f'  ca = "{place}/ca.pem"\n'
        write_on_node(cluster, f"{place}/ca.pem", registry.authority.pem)
    write_on_node(cluster, f"{place}/hosts.toml", hosts)


def write_on_node(cluster: Cluster, path: str, text: str) -> None:
    """A file of the node."""
    script = f"mkdir -p '{path.rpartition('/')[0]}' && cat > '{path}'"
    run("docker", "exec", "-i", f"{cluster.name}-control-plane", "sh", "-c", script, stdin=text)


def save_image(cluster: Cluster, file: Path) -> None:
    """An image that runs and waits: the one that every node has."""
    node = f"{cluster.name}-control-plane"
    ctr = ["docker", "exec", node, "ctr", "-n", "k8s.io", "images"]
    pause = next(line for line in run(*ctr, "ls", "-q").splitlines() if "/pause:" in line)
    # A file at the top of the node, since its /tmp cannot be copied from. Written by ctr itself: through containerd's transfer service,
    # it may return before the end of the file is written.
    run(*ctr, "export", "--local", "/pause.tar", pause)
    run("docker", "cp", f"{node}:/pause.tar", str(file))


def build(lab: Lab) -> None:
    """The image, on the node; under a second tag, too, to upgrade to."""
    base = os.environ.get("E2E_BASE_IMAGE", "python:3.13-slim")
    run("make", "-C", str(ROOT), "image", f"IMAGE={IMAGE}", f"BASE_IMAGE={base}", seconds=600)
    run("docker", "tag", IMAGE, NEXT_IMAGE)
    run("kind", "load", "docker-image", IMAGE, NEXT_IMAGE, "--name", lab.cluster.name, seconds=300)


def values(lab: Lab, image: str = IMAGE) -> dict[str, Any]:
    """What a user of these registries writes."""
    repository, _, tag = image.partition(":")
    registries: list[dict[str, Any]] = [
        {
            "host": lab.public.host,
            "plainHTTP": True,
            "mirrors": [{"source": MIRRORED, "prefix": f"{lab.public.host}/hub"}],
        },
        {"host": lab.private.host, "plainHTTP": True},
        {"host": lab.secured.host, "ca": "/etc/trusted-images/ca/e2e.pem"},
    ]
    return {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "registries": {"registries": registries},
        # With other registries than a release before had, replicas are other ones: they would read a changed file within a minute or two.
        "podAnnotations": {"e2e/registry": lab.public.host},
        "certificateAuthorities": {"e2e.pem": (lab.folder / "ca.pem").read_text()},
    }


def install(lab: Lab, changed: Mapping[str, Any] | None = None, image: str = IMAGE) -> None:
    """Installs or upgrades; waits until reviews are judged."""
    file = lab.folder / "values.yaml"
    file.write_text(json.dumps({**values(lab, image), **(changed or {})}))
    lab.cluster.helm("upgrade", "--install", "trusted-images", str(ROOT / "charts" / "trusted-images"), "-n", NAMESPACE,
                     "--create-namespace", "-f", str(file), "--wait", "--timeout", "180s")  # fmt: skip
    until(lambda: lab.cluster.get("validatingwebhookconfiguration", "trusted-images"), "the webhook configuration")


def uninstall(lab: Lab) -> None:
    """Removes the release and what the suite made; nothing may be left that refuses anything."""
    with contextlib.suppress(Failed):
        lab.cluster.helm("uninstall", "trusted-images", "-n", NAMESPACE, "--wait", "--timeout", "120s")
    for kind in ("trustpolicies", "clustertrustpolicies", "trustexceptions"):
        lab.cluster.kubectl("delete", "crd", f"{kind}.trusted-images.dev", "--ignore-not-found")
    lab.cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")
