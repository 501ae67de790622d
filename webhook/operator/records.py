"""The records of what was verified, kept in the cluster: ConfigMaps, so that they outlive all replicas.

Every replica reads all of them when it starts and once a minute, and writes what it found itself: a few parts at a time, each read first
and written only over what was read, so that replicas lose nothing of one another. Behind the answers, never in their way. Each part is
authenticated by a key in a Secret: whoever may write ConfigMaps here, and not read Secrets, adds nothing (attack M-05).
"""

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import logging
import random
import secrets
from collections.abc import Callable
from typing import Any, Final

from webhook.kube import KubeError
from webhook.kube.client import Document, Kube
from webhook.memory import records as parts
from webhook.memory.records import SHARDS, Records
from webhook.operator.installation import Installation
from webhook.operator.owned import create_owned
from webhook.parsing import Invalid

_log = logging.getLogger(__name__)

_WRITE_SECONDS: Final = 10.0
_READ_TURNS: Final = 6
_LAST_SECONDS: Final = 2.0
_PARTS_AT_ONCE: Final = 4
"""Parts that one replica writes in a round: at most 24 writes a minute, whatever happens."""
_KEY_BYTES: Final = 32


class ClusterRecords:
    """Keeps `records` in the cluster. Nothing here fails a review: what cannot be kept is kept later."""

    def __init__(
        self, kube: Kube, installation: Installation, records: Records, clock: Callable[[], dt.datetime]
    ) -> None:
        self._kube = kube
        self._installation = installation
        self._records = records
        self._clock = clock
        self._key: bytes | None = None

    async def work(self) -> None:
        """Reads and writes until cancelled; what is new is written then, too, as far as it can be done in a moment."""
        turn = 0
        try:
            while True:
                turn += 1
                # Apart from one another, or replicas that started together would always meet.
                await asyncio.sleep(_WRITE_SECONDS * (0.75 + random.random() / 2))  # noqa: S311 - it guards nothing
                if turn % _READ_TURNS == 0:
                    await self.read()
                await self.write()
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    await self.write(SHARDS)

    async def read(self) -> None:
        """Adds what is kept, as far as it can be read."""
        try:
            for shard in range(SHARDS):
                found = await self._kube.get(self._installation.records_path(shard), resourceVersion="0")
                await self._merge(found, shard)
        except KubeError as e:
            _log.warning("the records of what was verified cannot be read: %s", e)

    async def write(self, most: int = _PARTS_AT_ONCE) -> None:
        """Writes some of what nobody keeps yet, `most` parts of it."""
        changed = sorted(self._records.changed())
        for shard in random.sample(changed, min(most, len(changed))):
            try:
                await self._write(shard)
            except KubeError as e:
                self._records.lost(shard)
                if not e.is_conflict:
                    _log.warning("a part of the records of what was verified is not kept yet: %s", e)

    async def _write(self, shard: int) -> None:
        path = self._installation.records_path(shard)
        found = await self._kube.get(path)
        await self._merge(found, shard)
        key = await self._find_key()
        # What comes while it is written is new again.
        self._records.kept(shard)
        held = self._records.of(shard)
        # Twice what a part has on the average, so that chance and whoever chooses digests crowd nobody out.
        for gone in parts.surplus(held, 2 * self._records.most // SHARDS + 1):
            del held[gone]
        text = parts.write(held)
        data = {"records": text, "mac": _mac(key, shard, text)}
        if found is None:
            await create_owned(self._kube, self._installation, path, {"kind": "ConfigMap", "data": data})
        elif found.get("data") != data:
            await self._kube.replace(path, {**found, "data": data})

    async def _merge(self, found: Document | None, shard: int) -> None:
        """Adds what a part holds; nothing, and loudly, if it is not what one of us wrote, and then it is written anew."""
        if found is None:
            return
        data: dict[str, Any] = found.get("data") or {}
        text, mac = str(data.get("records", "")), str(data.get("mac", "")).encode()
        name = found["metadata"]["name"]
        if not hmac.compare_digest(mac, _mac(await self._find_key(), shard, text).encode()):
            # The key was replaced, perhaps, and another replica knows it already.
            self._key = None
            if not hmac.compare_digest(mac, _mac(await self._find_key(), shard, text).encode()):
                _log.error("ConfigMap %s was not written by us, and nothing in it counts", name)
                self._records.lost(shard)
                return
        try:
            read = parts.read(text, name)
        except Invalid as e:
            _log.error("%s", e)
            return
        self._records.merge(read, self._clock())
        if self._records.of(shard).items() - read.items():
            # Another has written it without knowing what we know.
            self._records.lost(shard)

    async def _find_key(self) -> bytes:
        """The key, made by whichever replica is first. Raises `KubeError`."""
        if self._key is not None:
            return self._key
        path = self._installation.records_key_path
        found = await self._kube.get(path)
        if found is None:
            fresh = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
            try:
                found = await create_owned(
                    self._kube, self._installation, path, {"kind": "Secret", "type": "Opaque", "data": {"key": fresh}}
                )
            except KubeError as e:
                if not e.is_conflict:
                    raise
                found = await self._kube.get(path)
        key = _decoded(found)
        if len(key) < _KEY_BYTES:
            raise KubeError(f"{path}: holds no key of {_KEY_BYTES} bytes; delete it, and another is made")
        self._key = key
        return key


def _mac(key: bytes, shard: int, text: str) -> str:
    """Over the part's number, too, so that none stands in for another."""
    return hmac.new(key, f"records {shard}\n{text}".encode(), hashlib.sha256).hexdigest()


def _decoded(secret: Document | None) -> bytes:
    try:
        return base64.b64decode(((secret or {}).get("data") or {}).get("key", ""), validate=True)
    except (ValueError, TypeError):
        return b""
