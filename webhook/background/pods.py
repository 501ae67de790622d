"""The Pods of the cluster, as far as they are judged: what they were written as, and what the nodes say that they run.

Read by the leader: a list in pages, then the events after it. Of each Pod little is kept, and what is equal is kept once: the replicas of a
Deployment differ in name and uid only.
"""

import asyncio
import logging
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from webhook import limits
from webhook.image import Digest, parse_digest
from webhook.judge.workload import Placed, Question, read_question
from webhook.kube import KubeError
from webhook.kube.client import Kube
from webhook.parsing import Invalid, convert
from webhook.policy.policy import ContainerKind, Workload

_log = logging.getLogger(__name__)

PATH: Final = "/api/v1/pods"
_AGAIN_SECONDS: Final = 2.0
LONG_AGO: Final = -math.inf
_ENDED: Final = frozenset({"Succeeded", "Failed"})


class _State(Struct):
    running: dict[str, Any] | None = None


class _Container(Struct, rename={"image_id": "imageID"}):
    name: str = ""
    image_id: str = ""
    state: _State | None = None


class _Status(Struct, rename="camel"):
    phase: str = ""
    container_statuses: list[_Container] | None = None
    init_container_statuses: list[_Container] | None = None
    ephemeral_container_statuses: list[_Container] | None = None


class _Owner(Struct):
    uid: str = ""
    controller: bool | None = None


class _Metadata(Struct, rename="camel"):
    name: str
    namespace: str
    uid: str
    creation_timestamp: datetime
    deletion_timestamp: datetime | None = None
    owner_references: list[_Owner] | None = None


class _Pod(Struct):
    metadata: _Metadata
    status: _Status | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """What Pods of one kind have in common: the question they asked, and for each of its images the digest that runs.

    None: the container has not started, or the node does not say by which digest.
    """

    question: Question
    running: tuple[Digest | None, ...]

    def pack(self) -> bytes:
        """In few bytes, the same for equal sights."""
        who = self.question.who
        images = [(placed.where, placed.image, placed.kind, placed.name) for placed in self.question.images]
        labels = sorted(who.labels.items())
        return msgspec.msgpack.encode(
            (who.namespace, who.service_account, labels, self.question.pull_secrets, images, self.running)
        )

    @classmethod
    def unpack(cls, packed: bytes) -> "Sight":
        """What was packed."""
        namespace, account, labels, secrets, images, running = _UNPACK(packed)
        # Lines about it keep where it is, the same words in all Pods.
        placed = tuple(Placed(sys.intern(where), image, kind, name) for where, image, kind, name in images)
        # Nothing is admitted by looking, so nothing is spent and nothing remembered of it.
        return cls(Question(Workload(namespace, account, dict(labels)), secrets, placed, dry_run=True), running)


_UNPACK: Final = msgspec.msgpack.Decoder(
    tuple[
        str,
        str,
        list[tuple[str, str]],
        tuple[str, ...],
        list[tuple[str, str, ContainerKind, str]],
        tuple[Digest | None, ...],
    ]
).decode


@dataclass(slots=True)
class Pod:
    """One Pod. `created` and `seen` are seconds since the epoch; `seen`: since when it was seen to run what it runs.

    `created` is `LONG_AGO` if somebody has changed since by what it is judged. `owner`: the uid of its controller, or its own; as the Pod says, so it means something in its namespace only. `good`: by image, the digest that ran and was in order when it was judged last; None where none has.
    """

    namespace: str
    name: str
    uid: str
    created: float
    seen: float
    sight: bytes
    owner: str
    good: tuple[Digest | None, ...] = ()
    is_leaving: bool = False
    """Somebody has deleted it, and its containers run on until they have ended."""


def running_digest(image_id: str) -> Digest | None:
    """The digest of the image, as runtimes write it: `registry/path@sha256:…`, with or without a scheme before it.

    None for an id without a repository, which is the digest of the image's configuration on that node, and nothing that could be signed.
    """
    _, at, digest = image_id.rpartition("@")
    try:
        return parse_digest(digest) if at else None
    except Invalid:
        return None


def read_pod(document: Mapping[str, Any], now: float) -> Pod | None:
    """The Pod of a document; None if it has ended, or was deleted and nothing of it runs any more. Raises `Invalid`."""
    found = convert(document, _Pod, "Pod")
    metadata, status = found.metadata, found.status or _Status()
    is_leaving = metadata.deletion_timestamp is not None
    if status.phase in _ENDED or (is_leaving and not _runs(status)):
        return None
    question = read_question("", "Pod", msgspec.json.encode(document), metadata.namespace)
    if question is None:
        return None
    told: dict[tuple[ContainerKind, str], Digest | None] = {}
    statuses: dict[ContainerKind, list[_Container] | None] = {
        "main": status.container_statuses,
        "init": status.init_container_statuses,
        "ephemeral": status.ephemeral_container_statuses,
    }
    for kind, containers in statuses.items():
        for container in containers or ():
            told[kind, container.name] = running_digest(container.image_id)
    running = tuple(told.get((placed.kind, placed.name)) for placed in question.images)
    owners = (one.uid for one in metadata.owner_references or () if one.controller and one.uid)
    return Pod(
        # Few, in many Pods.
        sys.intern(metadata.namespace),
        metadata.name,
        metadata.uid,
        metadata.creation_timestamp.timestamp(),
        now,
        Sight(question, running).pack(),
        next(owners, metadata.uid),
        is_leaving=is_leaving,
    )


def _runs(status: _Status) -> bool:
    """Whether its node says of some container that it runs."""
    of_all = (status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses)
    return any(one.state is not None and one.state.running is not None for statuses in of_all for one in statuses or ())


class Pods:
    """Those that there are. `clock` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.by_uid: dict[str, Pod] = {}
        self.sights: dict[bytes, dict[str, Pod]] = {}
        """What there is to be judged, and the Pods of which it is true, by uid."""
        self.fresh: dict[bytes, None] = {}
        """What has not been judged yet, in the order in which it came; whoever judges it takes it away."""
        self.news = asyncio.Event()
        self.listed = False
        """Whether a full list has been read."""
        self._left_out = False

    def seen(self, document: Mapping[str, Any]) -> None:
        """What an event, or a list, says of a Pod."""
        try:
            pod = read_pod(document, self._clock())
        except Invalid as e:
            _log.warning("a Pod cannot be read, and is not compared: %s", e)
            return
        if pod is None:
            self.gone(document)
            return
        before = self.by_uid.get(pod.uid)
        if before is not None:
            if before.sight == pod.sight:
                before.is_leaving = pod.is_leaving
                return
            pod = _since_before(before, pod)
            self._drop(before)
        elif len(self.by_uid) >= limits.MAX_PODS:
            if not self._left_out:
                _log.error("more than %d Pods: those beyond are not compared with the policies", limits.MAX_PODS)
            self._left_out = True
            return
        self._add(pod)

    def gone(self, document: Mapping[str, Any]) -> None:
        """A Pod has ended."""
        before = self.by_uid.get(document["metadata"].get("uid", ""))
        if before is not None:
            self._drop(before)

    def _add(self, pod: Pod) -> None:
        if pod.sight in self.sights:
            # Kept once: what is there, not its equal. Pods of one controller are of one kind.
            other = next(iter(self.sights[pod.sight].values()))
            pod.sight = other.sight
            pod.owner = other.owner if pod.owner == other.owner else pod.owner
        self.sights.setdefault(pod.sight, {})[pod.uid] = pod
        self.by_uid[pod.uid] = pod
        # A Pod more of a kind that was judged is judged, too: whether it has drifted depends on its own age.
        self.fresh[pod.sight] = None
        self.news.set()

    def _drop(self, pod: Pod) -> None:
        del self.by_uid[pod.uid]
        of_sight = self.sights[pod.sight]
        del of_sight[pod.uid]
        if not of_sight:
            del self.sights[pod.sight]
            self.fresh.pop(pod.sight, None)

    async def follow(self, kube: Kube) -> None:
        """Follows them until cancelled."""
        version = ""
        while True:
            try:
                version = version or await self._list(kube)
                async for event in kube.watch(PATH, version):
                    version = self._told(event) or version
            except KubeError as e:
                if e.status == 410:
                    version = ""
                _log.info("the Pods are followed again in %.0f s: %s", _AGAIN_SECONDS, e)
                await asyncio.sleep(_AGAIN_SECONDS)

    def _told(self, event: Mapping[str, Any]) -> str:
        """Takes an event, and gives its resource version."""
        document = event.get("object") or {}
        match event.get("type"):
            case "ADDED" | "MODIFIED":
                self.seen(document)
            case "DELETED":
                self.gone(document)
        return str((document.get("metadata") or {}).get("resourceVersion") or "")

    async def _list(self, kube: Kube) -> str:
        there: set[str] = set()
        version = ""
        async for items, of in kube.pages(PATH):
            version = of
            for item in items:
                there.add(item["metadata"].get("uid", ""))
                self.seen(item)
        for uid in self.by_uid.keys() - there:
            self._drop(self.by_uid[uid])
        self.listed = True
        self._left_out = False
        self.news.set()
        return version


def _since_before(before: Pod, pod: Pod) -> Pod:
    """A Pod, with what is known of it from before. What was asked about it anew was admitted, or not, at a time that nobody here knows."""
    was, now = Sight.unpack(before.sight).question, Sight.unpack(pod.sight).question
    good = before.good if was.images == now.images else ()
    return replace(pod, good=good, created=before.created if was == now else LONG_AGO)
