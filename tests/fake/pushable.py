"""A `FakeRegistry` over HTTP that takes pushes, so that real signing tools can be tested with it."""

import json
from dataclasses import dataclass, field

from aiohttp import web

from tests.fake.http_registry import HTTPRegistry
from tests.fake.registry import OCI_INDEX, to_json
from webhook.image import Digest, digest_of
from webhook.trust import Manifest


@dataclass
class PushableRegistry(HTTPRegistry):
    """Answers a push by one POST and one PUT, or with PATCHes between; everything else as `HTTPRegistry` does."""

    uploaded: bytes = b""
    issuers: dict[str, bytes] = field(default_factory=dict)
    """What issuers of certificates answer, by the beginning of the path."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/v2/")
        for beginning, answer in self.issuers.items():
            if request.path.startswith(beginning):
                return web.Response(body=answer)
        if request.path == "/v2/":
            return web.json_response({})
        if "/blobs/uploads" in path:
            return await self._upload(request, path)
        repository, found, reference = path.rpartition("/manifests/")
        if found and request.method == "PUT":
            return await self._put(request, repository, reference)
        return await super().handle(request)

    def _referrers(self, request: web.Request, repository: str, digest: Digest) -> web.Response:
        """With the artifacts' types, which signing tools look for in the list."""
        entries = []
        for one in self.registry.list_referrers(repository, digest):
            manifest = json.loads(self.registry.manifests[repository, one.digest].body)
            kind = manifest.get("artifactType") or manifest["config"]["mediaType"]
            entries.append({"mediaType": one.media_type, "digest": one.digest, "size": one.size, "artifactType": kind})
        body = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
        return web.Response(body=body, headers={"Content-Type": OCI_INDEX})

    async def _upload(self, request: web.Request, path: str) -> web.Response:
        body = await request.read()
        if request.method == "POST":
            self.uploaded = b""
            return web.Response(status=202, headers={"Location": f"/v2/{path.rstrip('/')}/one"})
        self.uploaded += body
        if request.method == "PATCH":
            return web.Response(status=202, headers={"Location": request.path})
        digest = self.registry.push_blob(self.uploaded)
        assert digest == request.query["digest"]
        return web.Response(status=201, headers={"Location": f"/v2/{path.partition('/blobs/')[0]}/blobs/{digest}"})

    async def _put(self, request: web.Request, repository: str, reference: str) -> web.Response:
        body = await request.read()
        digest = digest_of(body)
        self.registry.manifests[repository, digest] = Manifest(digest, request.headers["Content-Type"], body)
        if not reference.startswith("sha256:"):
            self.registry.tags[repository, reference] = digest
        headers = {"Docker-Content-Digest": digest, "Location": request.path}
        subject = (json.loads(body).get("subject") or {}).get("digest")
        if subject is not None and self.registry.referrers_api:
            headers["OCI-Subject"] = Digest(subject)
        return web.Response(status=201, headers=headers)
