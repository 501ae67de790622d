"""A TUF repository in memory: published anew with every change, and broken on demand. Times are those of the real clock, as the client's are."""

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from securesystemslib.signer._crypto_signer import CryptoSigner
from tuf.api.metadata import (  # type: ignore[attr-defined]  # its public names, which it does not mark as such
    Metadata,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

URL = "https://tuf.test"
DAY = dt.timedelta(days=1)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


@dataclass
class TufRepository:
    """`files` by path below the URL. `expires` by role may be changed before `publish`."""

    files: dict[str, bytes] = field(default_factory=dict)
    expires: dict[str, dt.datetime] = field(default_factory=dict)
    version: int = 0
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.signers = {role: CryptoSigner.generate_ed25519() for role in ("root", "timestamp", "snapshot", "targets")}
        self.root = Root(consistent_snapshot=True)
        for role, signer in self.signers.items():
            self.root.add_key(signer.public_key, role)
        self.publish_root()

    def _expires(self, role: str) -> dt.datetime:
        return self.expires.get(role, now() + 7 * DAY)

    def publish_root(self, *further: CryptoSigner) -> bytes:
        """The next root, signed by the root key and by `further`."""
        self.root.expires = self._expires("root")
        metadata = Metadata(self.root)
        metadata.sign(self.signers["root"])
        for signer in further:
            metadata.sign(signer, append=True)
        content = metadata.to_bytes()
        self.files[f"{self.root.version}.root.json"] = content
        return content

    @property
    def first_root(self) -> bytes:
        return self.files["1.root.json"]

    def rotate_root(self, *, signed_by_old: bool = True, gap: int = 1) -> None:
        """Another root key takes over."""
        old, new = self.signers["root"], CryptoSigner.generate_ed25519()
        self.root.revoke_key(old.public_key.keyid, "root")
        self.root.add_key(new.public_key, "root")
        self.signers["root"] = new
        self.root.version += gap
        self.publish_root(*((old,) if signed_by_old else ()))

    def publish(self, content: bytes, name: str = "trusted_root.json") -> None:
        """A new version of the one target, and of everything that vouches for it."""
        self.version += 1
        target = TargetFile.from_data(name, content)
        digest = target.hashes["sha256"]
        self.files[f"targets/{digest}.{name}"] = content
        targets = Targets(self.version, expires=self._expires("targets"), targets={name: target})
        self.files[f"{self.version}.targets.json"] = self._signed("targets", targets)
        snapshot = Snapshot(self.version, expires=self._expires("snapshot"))
        snapshot.meta["targets.json"].version = self.version
        self.files[f"{self.version}.snapshot.json"] = self._signed("snapshot", snapshot)
        timestamp = Timestamp(self.version, expires=self._expires("timestamp"))
        timestamp.snapshot_meta.version = self.version
        self.files["timestamp.json"] = self._signed("timestamp", timestamp)

    def _signed(self, role: str, payload: Any) -> bytes:
        metadata: Metadata[Any] = Metadata(payload)
        metadata.sign(self.signers[role])
        return metadata.to_bytes()

    async def fetch(self, url: str) -> bytes | None:
        """As `keys.publicgood` asks."""
        path = url.removeprefix(f"{URL}/")
        self.asked.append(path)
        return self.files.get(path)


@contextlib.asynccontextmanager
async def serving(repository: TufRepository) -> AsyncIterator[str]:
    """The repository over HTTP on loopback, and its URL. What is missing answers 403, as a store of objects does."""

    async def answer(request: web.BaseRequest) -> web.Response:
        content = await repository.fetch(f"{URL}{request.path}")
        return web.Response(status=403) if content is None else web.Response(body=content)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
