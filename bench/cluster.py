"""`python -m bench.cluster`: what the webhook adds to creating a Pod, on the cluster of the current kubeconfig.

Pods are created by dry-run, in turns in a namespace that is judged and in one that is exempt, so that the machine's moods meet both. With
IMAGE, an image that a policy of NAMESPACE covers, it is the warm path that is measured; without, that of an image nobody covers.
"""

import argparse
import asyncio
import statistics
import sys
import time

from bench.report import Figure, show, write
from webhook.kube.client import Kube, connected

_EXEMPT = "kube-system"


async def _create(kube: Kube, namespace: str, image: str) -> float:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "bench-"},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }
    started = time.perf_counter()
    await kube.request("POST", f"/api/v1/namespaces/{namespace}/pods", body=pod, query={"dryRun": "All"})
    return time.perf_counter() - started


async def _measure(namespace: str, image: str, count: int) -> list[Figure]:
    judged: list[float] = []
    exempt: list[float] = []
    async with connected() as kube:
        for where in (namespace, _EXEMPT):
            for _ in range(10):
                await _create(kube, where, image)
        for _ in range(count):
            judged.append(await _create(kube, namespace, image))
            exempt.append(await _create(kube, _EXEMPT, image))
        together = {}
        for where in (namespace, _EXEMPT, namespace, _EXEMPT):
            # The second round counts: in the first one connections are made.
            started = time.perf_counter()
            await asyncio.gather(*(_create(kube, where, image) for _ in range(50)))
            together[where] = time.perf_counter() - started
    p50 = (statistics.median(judged) - statistics.median(exempt)) * 1e3
    p95 = (statistics.quantiles(judged, n=20)[-1] - statistics.quantiles(exempt, n=20)[-1]) * 1e3
    return [
        Figure("Pod creation without the webhook, p50", statistics.median(exempt) * 1e3, None, "ms"),
        Figure("added by the webhook, p50", p50, 2, "ms"),
        Figure("added by the webhook, p95", p95, 5, "ms"),
        Figure("50 Pods at once, beside the time without", together[namespace] / together[_EXEMPT], 2, "times"),
    ]


def main() -> int:
    """The exit code: 0 if every ratio is within its target."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--namespace", default="default", help="a namespace that is judged (default: default)")
    parser.add_argument("--image", default="registry.example/none:v1", help="an image covered there, and signed")
    parser.add_argument("--count", type=int, default=200, help="Pods (default: 200)")
    options = parser.parse_args()
    figures = asyncio.run(_measure(options.namespace, options.image, options.count))
    show("Pod creation by dry-run", figures)
    write(figures)
    return 0 if all(figure.ok or figure.is_of_this_machine for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
