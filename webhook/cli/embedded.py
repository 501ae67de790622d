"""A read-only registry on loopback that serves what real signers left in real ones, and what they left on a notary server.

For `demo` and nothing else.
"""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from webhook.image import Digest, digest_of

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(slots=True)
class EmbeddedRegistry:
    """Repositories by path. Without `referrers_api` it answers 404 there, as registries before OCI 1.1 do."""

    referrers_api: bool
    manifests: dict[tuple[str, Digest], bytes] = field(default_factory=dict)
    tags: dict[tuple[str, str], Digest] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    """By path: what lies on the same host and is no part of the registry, as a lookaside store or a notary server does."""

    def load(self, path: str, folder: Path) -> None:
        """Takes over a captured repository: its tags, manifests and blobs, byte for byte."""
        for file in folder.glob("blob-*"):
            self.add_blob(file.read_bytes())
        for file in folder.glob("manifest-*.json"):
            self.add_manifest(path, file.read_bytes())
        for tag, digest in json.loads((folder / "tags.json").read_bytes()).items():
            self.tags[path, tag] = digest

    def load_trust(self, name: str, folder: Path) -> None:
        """Takes over what a notary server held about the repository `name`: under its own names, and those with hashes."""
        for file in folder.rglob("*.json"):
            role, content = file.relative_to(folder).as_posix().removesuffix(".json"), file.read_bytes()
            for asked in (role, f"{role}.{digest_of(content).removeprefix('sha256:')}"):
                self.files[f"/v2/{name}/_trust/tuf/{asked}.json"] = content

    def add_blob(self, content: bytes) -> Digest:
        """Keeps a blob under the digest of its bytes."""
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def add_manifest(self, path: str, body: bytes, tag: str | None = None) -> Digest:
        """Keeps a manifest under the digest of its bytes, and under a tag."""
        digest = digest_of(body)
        self.manifests[path, digest] = body
        if tag is not None:
            self.tags[path, tag] = digest
        return digest

    async def handle(self, request: web.Request) -> web.Response:
        """Any request of the distribution protocol, and for a file."""
        path = request.path.removeprefix("/v2/")
        repository, slash, reference = path.rpartition("/manifests/")
        if slash:
            body = self.manifests.get((repository, self.tags.get((repository, reference), Digest(reference))))
            return _not_found() if body is None else web.Response(body=body, content_type=_media_type(body))
        repository, slash, reference = path.rpartition("/blobs/")
        if slash and reference in self.blobs:
            return web.Response(body=self.blobs[reference], content_type="application/octet-stream")
        repository, slash, reference = path.rpartition("/referrers/")
        if slash and self.referrers_api:
            found = [
                {"mediaType": _MANIFEST, "digest": digest, "size": len(body)}
                for (where, digest), body in self.manifests.items()
                if where == repository and (json.loads(body).get("subject") or {}).get("digest") == reference
            ]
            index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": found}
            return web.json_response(index, content_type=_INDEX)
        if request.path in self.files:
            return web.Response(body=self.files[request.path], content_type="application/octet-stream")
        return _not_found()


def _media_type(body: bytes) -> str:
    document = json.loads(body)
    return str(document.get("mediaType", _INDEX if "manifests" in document else _MANIFEST))


def _not_found() -> web.Response:
    return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)


@contextlib.asynccontextmanager
async def serving(registry: EmbeddedRegistry) -> AsyncIterator[str]:
    """Serves `registry` over plain HTTP on loopback; gives its host, as image references begin with."""
    app = web.Application()
    app.router.add_get("/{path:.*}", registry.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
