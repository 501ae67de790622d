"""What was last read of keys outside the cluster, kept in a Secret, so that it outlives all replicas.

The keys are public material; a Secret holds them because whoever may write ConfigMaps here must not bring an old key back (attack M-05).
Whoever may write Secrets here has the serving key, too. Every replica reads it when it starts and once a minute, and writes what it was
told itself, over exactly what it read. Behind the answers, never in their way.
"""

import asyncio
import base64
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Final

from webhook.keys import kept as packing
from webhook.keys.kept import Kept, KeptKeys
from webhook.kube import KubeError
from webhook.kube.client import Document, Kube
from webhook.operator.installation import Installation
from webhook.operator.owned import create_owned
from webhook.parsing import Invalid
from webhook.policy.keyref import RemoteKey

_log = logging.getLogger(__name__)

_WRITE_SECONDS: Final = 2.0
_FAILED_SECONDS: Final = 20.0
_READ_TURNS: Final = 30
_LAST_SECONDS: Final = 2.0
_ENTRY: Final = "keys"


class ClusterKeptKeys:
    """Keeps `kept` in the cluster. `ask_again` is told of keys that other replicas know something else of."""

    def __init__(
        self,
        kube: Kube,
        installation: Installation,
        kept: KeptKeys,
        ask_again: Callable[[frozenset[RemoteKey]], None],
    ) -> None:
        self._kube = kube
        self._installation = installation
        self._kept = kept
        self._ask_again = ask_again
        self._refused: object = None

    async def work(self) -> None:
        """Reads and writes until cancelled; what is new is written then, too, as far as it can be done in a moment."""
        turn = 0
        try:
            while True:
                # Apart from one another, or replicas that started together would always meet.
                await asyncio.sleep(_WRITE_SECONDS * (0.75 + random.random() / 2))  # noqa: S311 - it guards nothing
                turn += 1
                if turn % _READ_TURNS == 0 or not self._kept.is_read:
                    await self.read()
                if not await self.write():
                    await asyncio.sleep(_FAILED_SECONDS)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    await self.write()

    async def read(self) -> None:
        """Takes what is kept, if it can be read."""
        try:
            self._merge(await self._kube.get(self._installation.kept_keys_path))
        except KubeError as e:
            _log.warning("the keys that were kept cannot be read: %s", e)

    async def write(self) -> bool:
        """Writes what is new. False: it cannot be written now, and not by trying again at once."""
        if not self._kept.is_changed:
            return True
        try:
            await self._write()
        except KubeError as e:
            if e.is_conflict:
                return True
            _log.warning("keys that were read are not kept yet: %s", e)
            return False
        return True

    async def _write(self) -> None:
        path = self._installation.kept_keys_path
        found = await self._kube.get(path)
        before = self._merge(found)
        wanted = self._kept.next()
        packed, room = await asyncio.to_thread(packing.write, wanted)
        if room != before:
            data = {_ENTRY: base64.b64encode(packed).decode()}
            if found is None:
                await create_owned(
                    self._kube, self._installation, path, {"kind": "Secret", "type": "Opaque", "data": data}
                )
            else:
                # Its resource version among the metadata: what somebody wrote in between is not overwritten.
                await self._kube.replace(path, {**found, "data": data})
        for key in self._kept.wrote(wanted, room):
            _log.error("key %s is not kept for outages: the Secret at %s has no room for it", key, path)
        for key in room.keys() & before.keys():
            if room[key].material is None and before[key].material is not None:
                _log.warning("key %s is kept no longer: its source has it no more, or not for all replicas", key)

    def _merge(self, found: Document | None) -> dict[RemoteKey, Kept]:
        """Takes what is kept, and says what that is: nothing, and loudly, if it is not what one of us wrote."""
        read: dict[RemoteKey, Kept] = {}
        if found is not None:
            try:
                read = packing.read(base64.b64decode((found.get("data") or {}).get(_ENTRY, ""), validate=True))
            except (Invalid, ValueError, TypeError) as e:
                self._refuse(found, e)
        again = self._kept.merge(read)
        if again:
            self._ask_again(again)
        return read

    def _refuse(self, found: Document, error: Exception) -> None:
        """Once for each content, which stays there until there is something to write."""
        version = found["metadata"].get("resourceVersion")
        if version != self._refused:
            self._refused = version
            name = found["metadata"].get("name")
            reason = error if isinstance(error, Invalid) else "not base64"
            _log.error("nothing in Secret %s counts, and it is written anew: %s", name, reason)
