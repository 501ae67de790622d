"""Secrets and ConfigMaps of the cluster, asked for again and again.

Asked and not watched: a watch needs the right to list, and whoever may list Secrets has all of them. `get` is enough here, and a
changed key is in force within a second or two all the same.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from webhook.kube import KubeError
from webhook.kube.client import Kube
from webhook.kube.entries import Entries
from webhook.parsing import Invalid, convert
from webhook.policy.keyref import ObjectKey, ObjectKind
from webhook.trust import Unresolved

ObjectName = tuple[ObjectKind, str, str]
"""Kind, namespace and name of a Secret or ConfigMap."""

_AT_ONCE: Final = 10
_PLURALS: Final[Mapping[ObjectKind, str]] = {"Secret": "secrets", "ConfigMap": "configmaps"}


def name_of(key: ObjectKey) -> ObjectName:
    """The object that an entry is in."""
    return key.kind, key.namespace, key.name


class ClusterKeys:
    """What was last read of each object, by `reader`, as messages call whoever reads."""

    def __init__(self, kube: Kube, reader: str = "the webhook's service account") -> None:
        self._kube = kube
        self._reader = reader
        self._known: dict[ObjectName, Mapping[str, bytes] | Unresolved] = {}

    def knows(self, name: ObjectName) -> bool:
        """Whether the object was looked at, whatever came of it."""
        return name in self._known

    def read(self, key: ObjectKey) -> bytes | Unresolved:
        """One entry, as it was when it was last looked at."""
        found = self._known.get(name_of(key), Unresolved("it has not been read yet"))
        if isinstance(found, Unresolved):
            return found
        entry = found.get(key.entry)
        return Unresolved(f"{key.kind} {key.namespace}/{key.name} has no entry {key.entry}") if entry is None else entry

    async def look(self, wanted: Iterable[ObjectName]) -> frozenset[ObjectName]:
        """Reads these objects, forgets all others, and says which of them have changed since."""
        names = set(wanted)
        for name in self._known.keys() - names:
            del self._known[name]
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def changed(name: ObjectName) -> bool:
            async with at_once:
                found = await self._fetch(name)
            before = self._known.get(name)
            self._known[name] = found
            return found != before

        ordered = sorted(names)
        return frozenset(
            name for name, has in zip(ordered, await asyncio.gather(*map(changed, ordered)), strict=True) if has
        )

    async def _fetch(self, name: ObjectName) -> Mapping[str, bytes] | Unresolved:
        kind, namespace, called = name
        title = f"{kind} {namespace}/{called}"
        try:
            found = await self._kube.get(
                f"/api/v1/namespaces/{namespace}/{_PLURALS[kind]}/{called}", resourceVersion="0"
            )
            if found is None:
                return Unresolved(f"{title} does not exist")
            return convert(found, Entries, title).decoded(kind)
        except KubeError as e:
            if e.status in {401, 403}:
                return Unresolved(f"{title} may not be read by {self._reader}")
            # An outage of the API server is no change of the key: what was last read stays in force.
            return self._known.get(name, Unresolved(f"{title} could not be read: {e}"))
        except Invalid as e:
            return Unresolved(str(e))
