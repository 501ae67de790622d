"""`python -m bench`: the figures of the hot path, the cold path, bursts, many policies and memory, beside their targets.

Where E2E_CONTEXT names a cluster, also what all of it costs there. Latency and CPU are those of this machine; what is compared with a
target as a ratio was measured in the same run.
"""

import argparse
import concurrent.futures
import statistics
import sys
import time
from collections.abc import Callable

from bench import cluster, world
from bench.client import Connection, Measured, Server, measure, server
from bench.report import Figure, show, write

_ROUNDS = 5


def _alternating(of: Server, body: bytes, count: int) -> tuple[Measured, Measured]:
    """The webhook and the no-op handler in turns, so that the machine's moods meet both."""
    ours, plain = Measured([], 0.0), Measured([], 0.0)
    for _ in range(_ROUNDS):
        for total, port in ((ours, of.ready["webhook"]), (plain, of.ready["plain"])):
            one = measure(of, port, body, count // _ROUNDS)
            total.latencies += one.latencies
            total.cpu += one.cpu / _ROUNDS
    return ours, plain


def warm(count: int) -> list[Figure]:
    """A Deployment whose image was judged before, on one connection."""
    with server(1) as running:
        body = world.deployment_review([f"{running.ready['host']}/shop/app:v1"])
        ours, plain = _alternating(running, body, count)
        return [
            Figure("warm latency, p50", ours.p50 * 1e3, 0.4, "ms"),
            Figure("warm latency, p99", ours.p99 * 1e3, 2.0, "ms"),
            Figure("no-op TLS handler, p50", plain.p50 * 1e3, None, "ms"),
            Figure("warm CPU per review", ours.cpu * 1e6, 200, "us"),
            Figure("no-op TLS handler, CPU", plain.cpu * 1e6, None, "us"),
            Figure("warm CPU beside the no-op handler's", ours.cpu / plain.cpu, 1.6, "times"),
            Figure("warm reviews per second and core", 1 / ours.cpu, 5_000, "reviews/s", "higher"),
        ]


def cold() -> list[Figure]:
    """An image nobody has asked about: requests to its registry, and the time of the first answer."""
    figures = []
    paths = (("classic", "shop/app", 3), ("bundle", "shop/bundle", 5), ("keyless", "keyless/bundle", 5))
    for name, path, target in paths:
        seconds, cpu, requests = [], [], 0.0
        for _ in range(_ROUNDS):
            with server(1, keyless=name == "keyless") as running:
                connection = Connection(running.ready["webhook"])
                body = world.deployment_review([f"{running.ready['host']}/{path}:v1"])
                before, started = running.state()["cpu"], time.perf_counter()
                answer = connection.review(body)
                seconds.append(time.perf_counter() - started)
                cpu.append(running.state()["cpu"] - before)
                if not answer["allowed"]:
                    raise SystemExit(f"the signed image was refused: {answer}")
                requests = running.state()["requests"]
                connection.review(body)
                if running.state()["requests"] != requests:
                    raise SystemExit("a warm review asked the registry")
        figures += [
            Figure(f"cold requests, {name}", requests, target, "requests"),
            Figure(f"cold latency, {name}, registry on loopback", statistics.median(seconds) * 1e3, None, "ms"),
            Figure(f"cold CPU, {name}, its registry's included", statistics.median(cpu) * 1e3, None, "ms"),
        ]
    return figures


def burst() -> list[Figure]:
    """50 identical Pods of three images at once."""
    with server(1) as running:
        host = running.ready["host"]
        # One repository has three names for its image here, as three containers of a Pod have three images.
        body = world.deployment_review([f"{host}/shop/app:v1", f"{host}/shop/bundle:v1", f"{host}/shop/app:v1"])
        connections = [Connection(running.ready["webhook"]) for _ in range(50)]
        started = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda connection: connection.review(body), connections))
        seconds = time.perf_counter() - started
        if not all(answer["allowed"] for answer in answers):
            raise SystemExit("a signed image was refused in the burst")
        return [
            Figure("burst of 50 Pods with 3 images, requests", running.state()["requests"], 15, "requests"),
            Figure("burst of 50 Pods with 3 images, until the last answer", seconds * 1e3, None, "ms"),
        ]


def many_policies(count: int) -> list[Figure]:
    """One policy and 10,000, side by side."""
    with server(1) as few, server(10_000) as many, server(100) as hundred:
        body = {s.ready["host"]: world.deployment_review([f"{s.ready['host']}/shop/app:v1"]) for s in (few, many)}
        cpu: dict[int, list[float]] = {id(few): [], id(many): []}
        for _ in range(_ROUNDS * 2):
            for one in (few, many):
                measured = measure(one, one.ready["webhook"], body[one.ready["host"]], count // _ROUNDS)
                cpu[id(one)].append(measured.cpu)
        more = statistics.median(cpu[id(many)]) / statistics.median(cpu[id(few)]) - 1
        return [
            Figure("warm CPU, 1 policy → 10,000", more * 100, 5, "% more"),
            Figure("10,000 policies, loaded in", many.ready["loaded"], 5, "s"),
            Figure("10,000 policies, memory", many.ready["grown"] - few.ready["grown"], 6, "MiB"),
            Figure("100 policies, process ready in", hundred.seconds, 1.5, "s"),
        ]


def memory(count: int) -> list[Figure]:
    """Resident memory after the first reviews, and after many more."""
    with server(1) as running:
        host = running.ready["host"]
        body = world.deployment_review([f"{host}/shop/app:v1", f"{host}/shop/bundle:v1"])
        measure(running, running.ready["webhook"], body, 2_000)
        first = running.state()["rss"]
        measure(running, running.ready["webhook"], body, count)
        last = running.state()["rss"]
        return [
            Figure("memory after the first reviews", first, 110, "MiB"),
            Figure(f"memory, {count:,} reviews later", last - first, 2, "MiB more"),
        ]


def main() -> int:
    """The exit code: 0 if every ratio, count and size is within its target."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--reviews", type=int, default=10_000, help="reviews per measurement (default: 10000)")
    count = parser.parse_args().reviews
    figures: list[Figure] = []
    parts: tuple[tuple[str, Callable[[], list[Figure]]], ...] = (
        ("Warm path, one connection", lambda: warm(count)),
        ("Cold path", cold),
        ("Burst", burst),
        ("Many policies", lambda: many_policies(count // 2)),
        ("Memory", lambda: memory(count * 2)),
    )
    for title, part in parts:
        found = part()
        show(title, found)
        figures += found
    if cluster.is_there():
        with cluster.installed() as lab:
            for title, part in (
                ("On a cluster: creating by dry-run", lambda: cluster.added(lab, count // 20)),
                ("On a cluster: memory", lambda: cluster.replicas(lab)),
                ("On a cluster: start with 100 policies", lambda: cluster.started(lab, 100, 1.5)),
                ("On a cluster: start with 10,000 policies", lambda: cluster.started(lab, 10_000, 10)),
            ):
                found = part()
                show(title, found)
                figures += found
    else:
        print("\nOn a cluster: not measured; E2E_CONTEXT names a kind cluster (tests/e2e/README.md)")
    write(figures)
    return 0 if all(figure.ok or figure.is_of_this_machine for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
