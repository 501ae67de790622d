"""The policies of the cluster, as the API server last told, with the keys they name: what is put in force.

Two sources tell: events as they come, and full lists now and then, because a stream can fall silent without ending. Resource
versions order them, so that an old list undoes no newer event. Source: Kubernetes API concepts, "Resource versions".
"""

import asyncio
import contextlib
import datetime as dt
import logging
import secrets
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import json

from webhook import keys, limits
from webhook.keys.cluster import ClusterKeys, ObjectName, name_of
from webhook.keys.remote import Held, RemoteKeys
from webhook.memory.store import PolicyStore
from webhook.operator import radar
from webhook.operator.radar import SignerEnding
from webhook.operator.rollout import staged
from webhook.parsing import Invalid
from webhook.policy import parse
from webhook.policy.keyref import Key, ObjectKey, RemoteKey
from webhook.policy.policy import Policy
from webhook.trust import Format, Unresolved
from webhook.verdict import PolicyKey

_log = logging.getLogger(__name__)

_METADATA: Final = ("namespace", "name", "uid", "generation", "creationTimestamp")
_LOOK_SECONDS: Final = 1.0
_LOOKS_PER_SECOND: Final = 50
_NONE: Final[frozenset[Any]] = frozenset()
"""For the many policies that name nothing elsewhere: an empty set of each one's own takes more than 200 bytes."""


@dataclass(frozen=True, slots=True)
class Written:
    """A policy as the API server has it, at a resource version. Compressed, because there may be as many as objects in the cluster."""

    key: PolicyKey
    version: int
    packed: bytes

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Written":
        """What is needed of a document; who has written which field of it is the most of it, and is not."""
        metadata = {name: document["metadata"][name] for name in _METADATA if name in document["metadata"]}
        kept = {"metadata": metadata, **{name: document[name] for name in ("spec", "status") if name in document}}
        return cls(_key(document), _version(document), _pack(json.encode(kept)))

    @property
    def document(self) -> dict[str, Any]:
        """Names, spec and status, as they were written."""
        found: dict[str, Any] = json.decode(_unpack(self.packed))
        return found


@dataclass(frozen=True, slots=True)
class InForce:
    """A policy as it was written, and what became of it. `complaints`: it is broken, and denies what it covers.

    `objects` and `remote` are what its keys are read from, in the cluster and outside. `ends`: what it rests on and ends, the first first.
    `held`: its keys whose source cannot be asked, and that are in force as they were last read; known of policies that stand.
    """

    written: Written
    objects: frozenset[ObjectName]
    policy: Policy
    complaints: tuple[str, ...] = ()
    remote: frozenset[RemoteKey] = frozenset()
    ends: tuple[SignerEnding, ...] = ()
    held: tuple[tuple[RemoteKey, Held], ...] = ()

    @property
    def document(self) -> Mapping[str, Any]:
        """As it was written: names, spec and status."""
        return self.written.document

    @property
    def version(self) -> int:
        """The resource version it was written as."""
        return self.written.version

    @property
    def state(self) -> str:
        """One word for metrics: whether it is broken, lacks a key, or is in force as it was written."""
        if self.complaints:
            return "broken"
        return "unresolved" if any(isinstance(s.signer, Unresolved) for s in self.policy.demands) else "in_force"


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
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._store = store
        self._keys = cluster_keys
        self._remote = remote_keys
        self._formats = formats
        self._home = home
        self._changed = changed
        self._clock = clock
        self._new_objects = asyncio.Event()
        self.in_force: dict[PolicyKey, InForce] = {}
        self._states: Counter[str] = Counter()
        self._referring: set[PolicyKey] = set()

    @property
    def states(self) -> Counter[str]:
        """How many policies are in which state; those that refer to others' signers, as these stand now."""
        return self._states + Counter(self._standing(self.in_force[key]).state for key in self._referring)

    def standing(self) -> Mapping[PolicyKey, InForce]:
        """Every policy with the signers it refers to, as they are in force, and with the keys it holds."""
        return {key: self._standing(known) for key, known in self.in_force.items()}

    def standing_of(self, key: PolicyKey) -> InForce | None:
        """One of them; None if there is none any more."""
        known = self.in_force.get(key)
        return None if known is None else self._standing(known)

    def _standing(self, known: InForce) -> InForce:
        held = [(key, self._remote.held(key)) for key in known.remote]
        if any(since for _, since in held):
            known = replace(known, held=tuple(sorted(((k, h) for k, h in held if h is not None), key=str)))
        if not known.policy.refers:
            return known
        linked = self._store.snapshot.index.policies.get(known.written.key, known.policy)
        return replace(known, policy=linked, ends=(*known.ends, *self._referred(known.policy, limits.MAX_REFERENCES)))

    def _referred(self, policy: Policy, depth: int) -> Iterator[SignerEnding]:
        """What the signers of others end with that this policy refers to, under the names that it gives them."""
        for named in policy.signers if depth else ():
            source = None if named.ref is None else self.in_force.get(PolicyKey(None, named.ref.policy))
            if named.ref is None or source is None:
                continue
            for one in (*source.ends, *self._referred(source.policy, depth - 1)):
                if one.signer == named.ref.signer:
                    yield replace(one, signer=named.name)

    def seen(self, document: Mapping[str, Any]) -> None:
        """Brings a policy into force as the API server has it, unless something newer is known."""
        if self._is_news(_key(document), _version(document)):
            self._take(Written.of(document))
            self._store.put(self.in_force[_key(document)].policy)
            self._changed()

    def gone(self, document: Mapping[str, Any]) -> None:
        """Takes a policy out of force, unless it was made anew since."""
        key = _key(document)
        before = self.in_force.get(key)
        if before is not None and _version(document) >= before.version:
            self._forget(key)
            self._store.discard(key)
            self._changed()

    def listing(self) -> "Listing":
        """A full list, to be filled page by page."""
        return Listing(self)

    def listed(self, there: Collection[PolicyKey], news: Iterable[Written], version: str) -> None:
        """Brings a full list of all kinds into force. `version`: of the list; what changed after it stays."""
        # An event may have been faster while the list was read.
        changed = [written for written in news if self._is_news(written.key, written.version)]
        for written in changed:
            self._take(written)
        left = [key for key, known in self.in_force.items() if key not in there and known.version <= int(version)]
        for key in left:
            self._forget(key)
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
        self._know(self._built(self.in_force[key].written))
        self._store.put(self.in_force[key].policy)
        self._changed()

    def _is_news(self, key: PolicyKey, version: int) -> bool:
        before = self.in_force.get(key)
        return before is None or version > before.version

    def _take(self, written: Written) -> None:
        before = self.in_force.get(written.key)
        if before is not None and before.document.get("spec") == written.document.get("spec"):
            # Its status or metadata changed; what it demands did not, but perhaps from when on.
            self._know(replace(before, written=written, policy=self._staged(before.policy, written)))
        else:
            self._know(self._built(written))

    def _know(self, known: InForce) -> None:
        """Counts as it goes: counting all of them at each change would take longer than the changes of a big cluster leave."""
        key = known.written.key
        if key in self.in_force:
            self._forget(key)
        self.in_force[key] = known
        if known.policy.refers:
            self._referring.add(key)
        else:
            self._states[known.state] += 1

    def _forget(self, key: PolicyKey) -> None:
        known = self.in_force.pop(key)
        if known.policy.refers:
            self._referring.discard(key)
        else:
            self._states[known.state] -= 1

    def _staged(self, policy: Policy, written: Written) -> Policy:
        """With the end of its audit, if it has one."""
        if policy.terms.afterwards.rollout is None:
            return policy
        before, document = self.in_force.get(written.key), written.document
        same = before is not None and before.document["metadata"].get("uid") == document["metadata"].get("uid")
        return staged(policy, document, before.policy if same and before is not None else None, self._clock())

    def _built(self, written: Written) -> InForce:
        key, spec = written.key, written.document.get("spec")
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
        ends: tuple[SignerEnding, ...] = ()
        try:
            materials = keys.resolve(references, key, self._home, read)
            policy = parse.parse_policy(key, spec, materials, self._formats, self._home)
            ends = radar.endings(spec, policy, materials, self._formats)
        except Invalid as e:
            complaints = e.complaints
            policy = parse.broken_policy(key, spec, complaints)
            _log.error("policy %s is broken and denies what it covers: %s", key, "; ".join(complaints))
        except Exception as e:  # noqa: BLE001 - see below
            # Whoever writes a policy or a key may not stop what reads those of others.
            number = secrets.token_hex(4)
            complaints = (f"spec: an internal error, id {number} in the webhook's log",)
            policy = parse.broken_policy(key, spec, complaints)
            _log.exception(
                "policy %s is broken and denies what it covers: unforeseen error %s: %s", key, number, type(e).__name__
            )
        policy = self._staged(policy, written)
        if not all(self._keys.knows(name) for name in objects):
            self._new_objects.set()
        return InForce(
            written,
            frozenset(objects) if objects else _NONE,
            policy,
            complaints,
            frozenset(remote) if remote else _NONE,
            ends,
        )


class Listing:
    """A full list as it comes. Of what is known already only the key is kept."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._there: set[PolicyKey] = set()
        self._news: list[Written] = []

    def add(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """A page of it."""
        for document in documents:
            key, known = _key(document), self._policies.in_force.get(_key(document))
            self._there.add(key)
            if known is None or known.version < _version(document):
                self._news.append(Written.of(document))

    def end(self, version: str) -> None:
        """Brings it into force. `version`: of the list; what changed after it stays."""
        self._policies.listed(self._there, self._news, version)


# What almost every policy has, so that little of it is left to be kept for each of thousands.
_USUAL: Final = (
    b'"apiVersion":"trusted-images.dev/v1alpha1","metadata":{"namespace":","uid":"","generation":1},"spec":{"exclude":["docker.io/**"],'
    b'"fallback":true,"attestations":[{"name":"keyless":{"issuer":"https://token.actions.githubusercontent.com","subject":"","notation":'
    b'{"gpg":{"mode":"enforce","platforms":"index","signers":[{"cosign":{"key":"-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0D'
    b'AQcDQgAE==\\n-----END PUBLIC KEY-----\\n"},"name":"release"}],"tags":"allow"},"status":{"attestations":[],"conditions":['
    b'{"lastTransitionTime":"202","message":"every signer is known","observedGeneration":1,"reason":"InForce","status":"True","type":'
    b'"Ready"},{"lastTransitionTime":"202","message":"all keys have been read","observedGeneration":1,"reason":"KeysRead","status":"True",'
    b'"type":"SignersResolved"}],"observedGeneration":1,"signers":[{"fingerprints":["SHA256:"],"format":"cosign","hardware":"no","name":'
    b'"release"}]}}'
)


def _pack(document: bytes) -> bytes:
    packing = zlib.compressobj(level=6, zdict=_USUAL)
    return packing.compress(document) + packing.flush()


def _unpack(packed: bytes) -> bytes:
    return zlib.decompressobj(zdict=_USUAL).decompress(packed)


def _key(document: Mapping[str, Any]) -> PolicyKey:
    metadata = document["metadata"]
    return PolicyKey(metadata.get("namespace"), metadata["name"])


def _version(document: Mapping[str, Any]) -> int:
    return int(document["metadata"]["resourceVersion"])
