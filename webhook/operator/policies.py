"""The policies of the cluster, as the API server last told, with the keys they name: what is put in force.

Two sources tell: events as they come, and full lists now and then, because a stream can fall silent without ending. Resource
versions order them, so that an old list undoes no newer event. Source: Kubernetes API concepts, "Resource versions".
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from webhook import keys
from webhook.keys.cluster import ClusterKeys, ObjectName, name_of
from webhook.keys.remote import RemoteKeys
from webhook.memory.store import PolicyStore
from webhook.parsing import Invalid
from webhook.policy import parse
from webhook.policy.keyref import Key, ObjectKey, RemoteKey
from webhook.policy.policy import Policy
from webhook.trust import Format, Unresolved
from webhook.verdict import PolicyKey

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
_LOOKS_PER_SECOND: Final = 50


@dataclass(frozen=True, slots=True)
class InForce:
    """A policy as it was written, and what became of it. `complaints`: it is broken, and denies what it covers.

    `objects` and `remote` are what its keys are read from, in the cluster and outside.
    """

    document: Mapping[str, Any]
    version: int
    objects: frozenset[ObjectName]
    policy: Policy
    complaints: tuple[str, ...] = ()
    remote: frozenset[RemoteKey] = frozenset()

    @property
    def state(self) -> str:
        """One word for metrics: whether it is broken, lacks a key, or is in force as it was written."""
        if self.complaints:
            return "broken"
        return "unresolved" if any(isinstance(s.signer, Unresolved) for s in self.policy.signers) else "in_force"


class Policies:
    """Follows the cluster's policies into a store. `changed` is called after every change, with nothing."""

    def __init__(
        self,
        store: PolicyStore,
        cluster_keys: ClusterKeys,
        remote_keys: RemoteKeys,
        formats: Mapping[str, Format[Any]],
        home: str,
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._keys = cluster_keys
        self._remote = remote_keys
        self._formats = formats
        self._home = home
        self._changed = changed
        self._new_objects = asyncio.Event()
        self.in_force: dict[PolicyKey, InForce] = {}

    def standing(self) -> Mapping[PolicyKey, InForce]:
        """Every policy with the signers it refers to, as they are in force."""
        linked = self._store.snapshot.index.policies
        return {
            key: replace(known, policy=linked.get(key, known.policy)) if known.policy.refers else known
            for key, known in self.in_force.items()
        }

    def seen(self, document: Mapping[str, Any]) -> None:
        """Brings a policy into force as the API server has it, unless something newer is known."""
        if self._take(document):
            self._store.put(self.in_force[_key(document)].policy)
            self._changed()

    def gone(self, document: Mapping[str, Any]) -> None:
        """Takes a policy out of force, unless it was made anew since."""
        key = _key(document)
        before = self.in_force.get(key)
        if before is not None and _version(document) >= before.version:
            del self.in_force[key]
            self._store.discard(key)
            self._changed()

    def listed(self, documents: Iterable[Mapping[str, Any]], version: str) -> None:
        """Brings a full list of all kinds into force. `version`: of the list; what changed after it stays."""
        there = {_key(document): document for document in documents}
        changed = [key for key, document in there.items() if self._take(document)]
        left = [key for key, known in self.in_force.items() if key not in there and known.version <= int(version)]
        for key in left:
            del self.in_force[key]
        if changed or left:
            self._store.replace_all(known.policy for known in self.in_force.values())
            self._changed()

    async def read_keys(self) -> None:
        """Looks at every Secret and ConfigMap that a policy names, and builds anew what a change touches."""
        wanted = {name for known in self.in_force.values() for name in known.objects}
        changed = await self._keys.look(wanted)
        for key, known in list(self.in_force.items()):
            if known.objects & changed:
                self._rebuild(key)

    async def follow_keys(self) -> None:
        """Does so until cancelled: at once when a policy names something new, else about once a second."""
        while True:
            count = sum(len(known.objects) for known in self.in_force.values())
            pause = max(_LOOK_SECONDS, count / _LOOKS_PER_SECOND)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._new_objects.wait(), pause)
            self._new_objects.clear()
            await self.read_keys()

    async def read_remote_keys(self) -> None:
        """Looks at the keys outside the cluster, for as long as a start may take."""
        await self._remote.look_first(self._remote_wanted())
        self._remote_changed(self._remote_wanted())

    async def follow_remote_keys(self) -> None:
        """Looks at them until cancelled: at once when a policy names a new one, else when each is due."""
        await self._remote.follow(self._remote_wanted, self._remote_changed)

    def _remote_wanted(self) -> frozenset[RemoteKey]:
        return frozenset(key for known in self.in_force.values() for key in known.remote)

    def _remote_changed(self, changed: frozenset[RemoteKey]) -> None:
        for key, known in list(self.in_force.items()):
            if known.remote & changed:
                self._rebuild(key)

    def _rebuild(self, key: PolicyKey) -> None:
        """Builds a policy anew, because of its keys."""
        known = self.in_force[key]
        self.in_force[key] = self._built(key, known.document, known.version)
        self._store.put(self.in_force[key].policy)
        self._changed()

    def _take(self, document: Mapping[str, Any]) -> bool:
        """Whether the document is news, which is then known."""
        key, version = _key(document), _version(document)
        before = self.in_force.get(key)
        if before is not None and version <= before.version:
            return False
        if before is not None and before.document.get("spec") == document.get("spec"):
            # Its status or metadata changed; what it demands did not.
            self.in_force[key] = replace(before, document=document, version=version)
        else:
            self.in_force[key] = self._built(key, document, version)
        return True

    def _built(self, key: PolicyKey, document: Mapping[str, Any], version: int) -> InForce:
        spec = document.get("spec")
        references = parse.key_references(spec, self._formats)
        objects: set[ObjectName] = set()
        remote: set[RemoteKey] = set()

        def read(wanted: Key) -> bytes | Unresolved:
            if isinstance(wanted, ObjectKey):
                objects.add(name_of(wanted))
                return self._keys.read(wanted)
            remote.add(wanted)
            return self._remote.read(wanted)

        complaints: tuple[str, ...] = ()
        try:
            materials = keys.resolve(references, key, self._home, read)
            policy = parse.parse_policy(key, spec, materials, self._formats, self._home)
        except Invalid as e:
            complaints = e.complaints
            policy = parse.broken_policy(key, spec, complaints)
            _log.error("policy %s is broken and denies what it covers: %s", key, "; ".join(complaints))
        if not all(self._keys.knows(name) for name in objects):
            self._new_objects.set()
        return InForce(document, version, frozenset(objects), policy, complaints, frozenset(remote))


def _key(document: Mapping[str, Any]) -> PolicyKey:
    metadata = document["metadata"]
    return PolicyKey(metadata.get("namespace"), metadata["name"])


def _version(document: Mapping[str, Any]) -> int:
    return int(document["metadata"]["resourceVersion"])
