"""A cluster with Pods, a registry and a judge, and the leader's work on what runs, one step at a time."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from tests.fake.kube import FakeKube
from tests.fake.registries import ANONYMOUS, FakeRegistries
from tests.fake.registry import FakeRegistry
from tests.fake.signing import SigningKey, key, sign_bundle
from tests.policies import policy
from webhook.background.consequences import Consequences
from webhook.background.pods import PATH, Pods
from webhook.background.rescan import Rescan
from webhook.background.scope import Scope
from webhook.background.work import images_by_state
from webhook.image import Digest
from webhook.judge.decide import Decider
from webhook.judge.evaluate import Judge
from webhook.kube import KubeError
from webhook.kube.client import Document
from webhook.memory.store import PolicyStore
from webhook.observe.running import RunningMetrics
from webhook.operator.installation import Installation
from webhook.operator.standing import Standing
from webhook.operator.wanted import COLLECTIONS
from webhook.policy.policy import Policy
from webhook.verdict import Finding

START = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)
HOST = "registry.test"
INSTALLATION = Installation(namespace="ti")
CONFIGURATION = f"{COLLECTIONS['ValidatingWebhookConfiguration']}/trusted-images"
EXEMPT = {
    "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "ti"]}]
}


class Cluster(FakeKube):
    """Evicts Pods, unless `budget` says no, and lets Pods be watched: events are put into `events`."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = True
        self.evicted: list[str] = []
        self.events: asyncio.Queue[Document | KubeError | None] = asyncio.Queue()
        self.watched: list[str] = []

    async def request(self, method: Any, path: str, **options: Any) -> Document:
        """As an API server answers, evictions included."""
        if not path.endswith("/eviction"):
            return await super().request(method, path, **options)
        self.asked.append((method, path))
        pod = path.removesuffix("/eviction")
        if pod not in self.objects:
            raise KubeError(f"{pod}: not found", 404)
        wanted = options["body"]["deleteOptions"]["preconditions"]["uid"]
        if wanted != self.objects[pod]["metadata"]["uid"]:
            raise KubeError(f"{pod}: another uid", 409)
        if not self.budget:
            raise KubeError(f"{pod}: it would violate the Pod's disruption budget", 429)
        self.evicted.append(pod.rpartition("/")[2])
        self.remove(pod)
        return {}

    async def watch(self, path: str, version: str) -> AsyncIterator[Document]:
        """What is put into `events`; None ends it, an error breaks it."""
        self.watched.append(version)
        while (event := await self.events.get()) is not None:
            if isinstance(event, KubeError):
                raise event
            yield event

    def reasons(self) -> list[str]:
        """Of the Events, in the order in which they were told."""
        return [one["reason"] for place, one in self.objects.items() if "/events/" in place]


class _Nobody:
    def verified(self, signer: str, finding: Finding) -> None: ...

    def recalled(self, *, hit: bool) -> None: ...


class Lab:
    """`now` is the clock of the leader; the judge's stands still."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.now = START
        self.kube = Cluster()
        self.registry = FakeRegistry()
        self.registries = FakeRegistries(self.registry)
        self.store = PolicyStore()
        self.store.set_ready()
        self.store.put_namespace("shop", {})
        self.metrics = RunningMetrics(registry=CollectorRegistry())
        self.judge = Judge(self.registries, pool=pool, now=self.clock, observer=_Nobody())
        self.decider = Decider(self.judge, self.store, lambda _: ANONYMOUS)
        self.kube.put(CONFIGURATION, {"webhooks": [{"name": "images.trusted-images.dev", "namespaceSelector": EXEMPT}]})
        self.lead()

    def lead(self) -> None:
        """A new term begins."""
        self.pods = Pods(self.seconds)
        self.pods.listed = True
        self.standing = Standing()
        for _ in range(2):
            self.look()
        self.rescan = Rescan(
            self.pods,
            self.decider,
            self.store,
            Scope(self.kube, INSTALLATION, self.standing),
            dt.timedelta(hours=12),
            lambda: self.now,
        )
        self.consequences = Consequences(self.kube, self.metrics, lambda: self.now)

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────
    def clock(self) -> dt.datetime:
        """What time it is."""
        return self.now

    def seconds(self) -> float:
        """The same, since the epoch."""
        return self.now.timestamp()

    def passes(self, seconds: float = 60) -> None:
        """Time."""
        self.now += dt.timedelta(seconds=seconds)

    def image(self, *signers: SigningKey, path: str = "app", tag: str = "v1", content: bytes = b"layer") -> Digest:
        """An image under a tag, which means nothing else from now on."""
        digest = self.registry.push_image(path, tag, content)
        for signer in signers:
            sign_bundle(self.registry, path, digest, signer)
        self.registries.remembered.clear()
        return digest

    def policy(self, name: str = "shop/web", **fields: Any) -> Policy:
        """By key `a`, in force from now on."""
        made = policy(name, {"signers": [{"name": "a", "cosign": {"key": key("a").pem}}]}, **fields)
        self.store.put(made)
        return made

    def pod(
        self,
        image: str = f"{HOST}/app:v1",
        running: Digest | str | None = None,
        name: str = "web",
        namespace: str = "shop",
        owner: str | None = None,
        **status: Any,
    ) -> Document:
        """A Pod that was made just now, or is known already, and runs this."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        created = self.now.isoformat().replace("+00:00", "Z")
        metadata = self.kube.objects.get(path, {}).get("metadata", {"creationTimestamp": created})
        if owner is not None:
            other = {"uid": "no controller", "controller": False}
            metadata = {**metadata, "ownerReferences": [other, {"uid": owner, "controller": True}]}
        image_id = "" if running is None else f"{HOST}/app@{running}" if running.startswith("sha256:") else running
        document = self.kube.put(
            path,
            {
                "metadata": {**metadata, "name": name, "namespace": namespace},
                "spec": {"containers": [{"name": "main", "image": image}]},
                "status": {"phase": "Running", "containerStatuses": [{"name": "main", "imageID": image_id}], **status},
            },
        )
        self.pods.seen(document)
        return document

    def look(self) -> None:
        """The leader looks at the webhook configuration, as it does every five seconds."""
        found = self.kube.objects.get(CONFIGURATION)
        if found is None:
            self.standing.broken()
        else:
            version = ("", found["metadata"]["uid"], found["metadata"]["resourceVersion"])
            self.standing.well(frozenset({version}), self.seconds())

    async def step(self) -> None:
        """The leader looks once."""
        self.look()
        await self.rescan.step()
        await self.consequences.follow(self.rescan.followed())
        for uid in list(self.pods.by_uid):
            pod = self.pods.by_uid[uid]
            if f"{PATH.removesuffix('/pods')}/namespaces/{pod.namespace}/pods/{pod.name}" not in self.kube.objects:
                self.pods.gone({"metadata": {"uid": uid}})

    @property
    def is_up_to_date(self) -> bool:
        """Whether everything that runs has been judged under what is in force, and nothing is to be judged now."""
        of = self.rescan
        return of._is_current and not (of._first or of._fresh or of._queue or of._tasks)

    def states(self) -> dict[str, int]:
        """How many images get what."""
        return images_by_state(self.rescan.results, self.pods.sights)

    def endings(self, name: str = "web") -> list[str]:
        """What becomes of what a Pod runs."""
        (pod,) = [pod for pod in self.pods.by_uid.values() if pod.name == name]
        return [line.ending for line in self.rescan.results[pod.sight].runs]


@contextmanager
def lab() -> Iterator[Lab]:
    """One, until the block ends."""
    with ThreadPoolExecutor(1) as pool:
        yield Lab(pool)
