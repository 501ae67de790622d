"""What the webhook costs where its users have it: on the kind cluster that E2E_CONTEXT names, with a really signed image.

Pods and Deployments are created by dry-run, in turns in a namespace that is judged and in one that is exempt, so that the machine's
moods meet both.
"""

import asyncio
import contextlib
import datetime as dt
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.report import Figure
from tests.e2e.laboratory import NAMESPACE, Lab, given_or_made, laboratory, resource
from tests.e2e.tools import missing, run, until
from webhook.policy.document import API_VERSION

if TYPE_CHECKING:
    from webhook.kube.client import Kube

_EXEMPT: Final = "kube-system"
_POLICIES: Final = f"/apis/{API_VERSION}/clustertrustpolicies"
_LABEL: Final = "bench.trusted-images.dev/made"
_AT_ONCE: Final = 20
"""Policies written at a time."""


def is_there() -> bool:
    """Whether a cluster is named. Raises SystemExit if one is, and a command that is needed is not found."""
    if "E2E_CONTEXT" not in os.environ:
        return False
    if absent := missing():
        raise SystemExit(f"E2E_CONTEXT names a cluster, and {', '.join(absent)} is not there (tests/e2e/README.md)")
    return True


@contextlib.contextmanager
def installed() -> Iterator[Lab]:
    """The release, and a namespace `bench` with one image and one policy that covers it."""
    with given_or_made() as cluster, laboratory(cluster) as lab, tempfile.TemporaryDirectory() as folder:
        # Our client takes the current context of the file that the environment named when it was imported.
        file = Path(folder) / "kubeconfig"
        file.write_text(cluster.kubectl("config", "view", "--minify", "--flatten", "--raw"))
        os.environ["KUBECONFIG"] = str(file)
        cluster.kubectl("create", "namespace", "bench")
        try:
            cluster.apply(lab.policy("bench", "bench"))
            cluster.kubectl("wait", "tp", "bench", "-n", "bench", "--for=condition=Ready", "--timeout=30s")
            yield lab
        finally:
            cluster.kubectl("delete", "namespace", "bench", "--wait=false")


def added(lab: Lab, count: int) -> list[Figure]:
    """What the webhook adds to creating Pods and Deployments of an image that it has judged before."""
    image = lab.push(lab.public, "bench/app:v1")
    lab.sign(image, "release")
    return asyncio.run(_added(image, count))


async def _added(image: str, count: int) -> list[Figure]:
    from webhook.kube.client import connected

    judged: list[float] = []
    exempt: list[float] = []
    async with connected() as kube:
        for where in ("bench", _EXEMPT):
            for _ in range(10):
                await _create(kube, where, _pod(image))
        for _ in range(count):
            judged.append(await _create(kube, "bench", _pod(image)))
            exempt.append(await _create(kube, _EXEMPT, _pod(image)))
        pods = await _together(kube, _pod(image), 50)
        deployments = await _together(kube, _deployment(image), 100)

    def more(percent: int) -> float:
        a, b = (statistics.quantiles(one, n=100)[percent - 1] for one in (judged, exempt))
        return (a - b) * 1e3

    return [
        Figure("Pod creation without the webhook, p50", statistics.median(exempt) * 1e3, None, "ms"),
        Figure("added by the webhook, p50", more(50), 2, "ms"),
        Figure("added by the webhook, p95", more(95), 5, "ms"),
        Figure("added by the webhook, p99", more(99), None, "ms"),
        Figure("50 Pods at once, beside the time without", pods, 2, "times"),
        Figure("100 Deployments at once, beside the time without", deployments, 2, "times"),
    ]


async def _together(kube: "Kube", document: dict[str, Any], count: int) -> float:
    """How many times as long it takes where it is judged."""
    took = {"bench": 0.0, _EXEMPT: 0.0}
    for times in range(4):
        for where in took:
            started = time.perf_counter()
            await asyncio.gather(*(_create(kube, where, document) for _ in range(count)))
            # In the first round connections are made.
            took[where] += time.perf_counter() - started if times else 0.0
    return took["bench"] / took[_EXEMPT]


async def _create(kube: "Kube", namespace: str, document: dict[str, Any]) -> float:
    root = "/api/v1" if document["kind"] == "Pod" else "/apis/apps/v1"
    path = f"{root}/namespaces/{namespace}/{document['kind'].lower()}s"
    started = time.perf_counter()
    await kube.request("POST", path, body=document, query={"dryRun": "All"})
    return time.perf_counter() - started


def _pod(image: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "image": image}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "bench-"}, "spec": spec}


def _deployment(image: str) -> dict[str, Any]:
    labels = {"app": "bench"}
    template = {"metadata": {"labels": labels}, "spec": _pod(image)["spec"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"generateName": "bench-"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def replicas(lab: Lab) -> list[Figure]:
    """The resident memory of each replica."""
    return [Figure(f"resident memory of {name}", _resident(lab, name), 110, "MiB") for name in sorted(lab.replicas())]


def started(lab: Lab, count: int, target: float) -> list[Figure]:
    """A replica's start with so many policies, and its memory after that."""
    asyncio.run(_write(lab.public_key("release"), count))
    try:
        last = lambda: lab.cluster.get("ctp", f"bench-{count - 1}").get("status")  # noqa: E731 - asked until it is there
        # Until the leader has nothing more to write about them, which would go on beside the start.
        until(last, "the status of the last policy", 600, 1)
        before = set(lab.replicas())
        lab.cluster.kubectl("delete", "pod", min(before), "-n", NAMESPACE)
        (name,) = until(lambda: set(lab.replicas()) - before, "another replica", 120)
        return [
            Figure(f"{count:,} policies, a replica ready in", _seconds_to_ready(lab, name), target, "s"),
            Figure(f"{count:,} policies, its resident memory", _resident(lab, name), 110, "MiB"),
        ]
    finally:
        # The API server gives up after a minute, and goes on when it is asked again.
        all_of_them = f"{_POLICIES}?labelSelector={_LABEL}%3Dyes"
        until(lambda: lab.cluster.kubectl("delete", "--raw", all_of_them, seconds=100), "their removal", 900)


async def _write(key: str, count: int) -> None:
    from webhook.kube.client import connected

    turn = asyncio.Semaphore(_AT_ONCE)
    async with connected() as kube:

        async def write(number: int) -> None:
            spec = {"images": [f"registry-{number % 100}.example/team-{number}/**"],
                    "signers": [{"name": "release", "cosign": {"key": key}}]}  # fmt: skip
            body = resource("ClusterTrustPolicy", f"bench-{number}", None, spec)
            body["metadata"]["labels"] = {_LABEL: "yes"}
            async with turn:
                await kube.create(_POLICIES, body)

        await asyncio.gather(*(write(number) for number in range(count)))


def _seconds_to_ready(lab: Lab, name: str) -> float:
    """From the process's start, as its kernel has it, to the later of what makes it ready, as its log has it."""
    # The node's clock, the seconds since it was booted, and the hundredths of a second after which the process was begun.
    clock = _on_node(lab, "sh", "-c", f"date +%s.%N; cat /proc/uptime /proc/{_process(lab, name)}/stat").split("\n")
    began = float(clock[0]) - float(clock[1].split()[0]) + int(clock[2].rpartition(")")[2].split()[19]) / 100
    lines = [json.loads(line) for line in lab.cluster.kubectl("logs", name, "-n", NAMESPACE).splitlines()]
    times = [
        dt.datetime.fromisoformat(line["time"]) for line in lines
        if str(line.get("event", "")).startswith("serving on") or str(line.get("event", "")).endswith("are in force")
    ]  # fmt: skip
    return max(times).timestamp() - began


def _resident(lab: Lab, name: str) -> float:
    """MiB of the process in the container."""
    status = _on_node(lab, "cat", f"/proc/{_process(lab, name)}/status")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kilobytes) / 1024


def _process(lab: Lab, name: str) -> int:
    """The number on the node of the container's process."""
    status = lab.cluster.get("pod", name, "-n", NAMESPACE)["status"]["containerStatuses"][0]
    container = status["containerID"].rpartition("/")[2]
    tasks = _on_node(lab, "ctr", "-n", "k8s.io", "tasks", "ls")
    return next(int(line.split()[1]) for line in tasks.splitlines() if line.startswith(container))


def _on_node(lab: Lab, *words: str) -> str:
    return run("docker", "exec", f"{lab.cluster.name}-control-plane", *words)
