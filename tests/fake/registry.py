"""A registry in memory that can be pushed to, signed into, lied with and broken: the port `trust.Registry`, no HTTP.

`tests.fake.http_registry` serves the same contents over HTTP. Repositories are known by their path alone; the host does not
matter here.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from webhook.image import Digest, ImageReference, Repository, Subject, digest_of
from webhook.registry.manifests import resolved
from webhook.trust import Attachments, Descriptor, Manifest, Rejected, Resolved, Unavailable

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY_CONFIG = {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": digest_of(b"{}")}


def to_json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


class FakeRegistry:
    """What it holds is public: tests read and change it. `asked` counts calls of the port by method.

    `signature_lists` are those of the signature extension. `documents` by URL lie outside of the registry; a service among them is a function of what is posted.
    """

    def __init__(self, *, referrers_api: bool = True) -> None:
        self.referrers_api = referrers_api
        self.manifests: dict[tuple[str, Digest], Manifest] = {}
        self.tags: dict[tuple[str, str], Digest] = {}
        self.blobs: dict[Digest, bytes] = {digest_of(b"{}"): b"{}"}
        self.documents: dict[str, bytes | Callable[[bytes], bytes]] = {}
        self.signature_lists: dict[tuple[str, Digest], bytes] = {}
        self.asked: Counter[str] = Counter()
        self.failures: dict[str, Callable[[], Exception]] = {}

    # ── pushing ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def push_blob(self, content: bytes) -> Digest:
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def push_manifest(
        self, path: str, document: Mapping[str, object] | bytes, media_type: str = OCI_MANIFEST, tag: str | None = None
    ) -> Digest:
        body = document if isinstance(document, bytes) else to_json(document)
        digest = digest_of(body)
        self.manifests[path, digest] = Manifest(digest, media_type, body)
        if tag is not None:
            self.tags[path, tag] = digest
        return digest

    def push_image(self, path: str, tag: str, content: bytes = b"layer") -> Digest:
        """A small image; other `content`, other digest."""
        rootfs = {"type": "layers", "diff_ids": [digest_of(content)]}
        config = to_json({"architecture": "amd64", "os": "linux", "rootfs": rootfs})
        layer = {
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "size": len(content),
            "digest": self.push_blob(content),
        }
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "size": len(config),
                "digest": self.push_blob(config),
            },
            "layers": [layer],
        }
        return self.push_manifest(path, document, tag=tag)

    def push_index(
        self, path: str, tag: str, children: Sequence[Digest], platforms: Sequence[Mapping[str, str] | None] = ()
    ) -> Digest:
        """An index over images that were pushed to the same path; each of its own platform, unless others are given."""
        entries = [
            {
                "mediaType": self.manifests[path, child].media_type,
                "digest": child,
                "size": len(self.manifests[path, child].body),
                "platform": platforms[i] if platforms else {"architecture": f"arch{i}", "os": "linux"},
            }
            for i, child in enumerate(children)
        ]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        return self.push_manifest(path, document, OCI_INDEX, tag)

    def load(self, path: str, folder: Path) -> None:
        """Takes over what a real signer left in a real registry (tests/captures)."""
        for file in folder.glob("blob-*"):
            self.push_blob(file.read_bytes())
        for file in folder.glob("manifest-*.json"):
            body = file.read_bytes()
            document = json.loads(body)
            self.push_manifest(
                path, body, document.get("mediaType", OCI_INDEX if "manifests" in document else OCI_MANIFEST)
            )
        for tag, digest in json.loads((folder / "tags.json").read_text()).items():
            self.tags[path, tag] = Digest(digest)

    # ── breaking ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def fail(self, what: str, error: Callable[[], Exception]) -> None:
        """From now on `what` raises `error()`: a method's name, or a method and its argument (`manifest sha256-….sig`)."""
        self.failures[what] = error

    def lie(self, path: str, reference: str, body: bytes, media_type: str = OCI_MANIFEST) -> None:
        """Answers a tag or digest with other bytes, under the digest that was asked for."""
        digest = self.tags.get((path, reference), Digest(reference))
        self.manifests[path, digest] = Manifest(digest, media_type, body)

    def _asked(self, method: str, argument: str) -> None:
        self.asked[method] += 1
        for what in (method, f"{method} {argument}"):
            if what in self.failures:
                raise self.failures[what]()  # noqa: RSE102 - it makes the error

    # ── the port ─────────────────────────────────────────────────────────────────────────────────────────────────────
    async def resolve(self, image: ImageReference) -> Resolved:
        self._asked("resolve", str(image))
        found = self._manifest(image.repository, image.digest or image.tag or "")
        if found is None:
            raise Rejected("there is no such image")
        return resolved(found)

    async def manifest(self, repository: Repository, reference: str) -> Manifest | None:
        self._asked("manifest", reference)
        return self._manifest(repository, reference)

    def _manifest(self, repository: Repository, reference: str) -> Manifest | None:
        digest = self.tags.get((repository.path, reference), Digest(reference))
        return self.manifests.get((repository.path, digest))

    async def blob(self, repository: Repository, blob: Descriptor, limit: int) -> bytes | None:
        self._asked("blob", blob.digest)
        content = self.blobs.get(blob.digest)
        if content is not None and (len(content) > limit or len(content) != blob.size):
            raise Rejected(f"{blob.digest} has {len(content)} bytes")
        return content

    async def referrers(self, subject: Subject) -> Sequence[Descriptor] | None:
        self._asked("referrers", subject.digest)
        if not self.referrers_api:
            return None
        return self.list_referrers(subject.repository.path, subject.digest)

    def list_referrers(self, repository: str, subject: Digest) -> list[Descriptor]:
        """What refers to `subject`."""
        found = []
        for (path, digest), manifest in self.manifests.items():
            about = json.loads(manifest.body).get("subject") or {}
            if path == repository and about.get("digest") == subject:
                found.append(Descriptor(digest, manifest.media_type, len(manifest.body)))
        return found

    async def signatures(self, subject: Subject) -> bytes | None:
        self._asked("signatures", subject.digest)
        return self.signature_lists.get((subject.repository.path, subject.digest))

    async def get(
        self,
        url: str,
        limit: int,
        *,
        insecure_http: bool = False,
        ca: bytes | None = None,
        about: Repository | None = None,
        seconds: float | None = None,
    ) -> bytes | None:
        return self._document("get", url, b"", limit, insecure_http)

    async def post(
        self,
        url: str,
        body: bytes,
        media_type: str,
        limit: int,
        *,
        insecure_http: bool = False,
        seconds: float | None = None,
    ) -> bytes | None:
        return self._document("post", url, body, limit, insecure_http)

    def _document(self, method: str, url: str, body: bytes, limit: int, insecure_http: bool) -> bytes | None:
        self._asked(method, url)
        if url.startswith("http://") and not insecure_http:
            raise Rejected(f"{url}: plain HTTP")
        found = self.documents.get(url)
        answer = found(body) if callable(found) else found
        if answer is not None and len(answer) > limit:
            raise Rejected(f"{url}: an answer of more than {limit} bytes")
        return answer

    async def attachments(self, subject: Subject, tag: str) -> Attachments:
        tagged: Manifest | Rejected | Unavailable | None
        referrers: Sequence[Descriptor] | Rejected | Unavailable | None
        try:
            tagged = await self.manifest(subject.repository, tag)
        except (Rejected, Unavailable) as e:
            tagged = e
        try:
            referrers = await self.referrers(subject)
        except (Rejected, Unavailable) as e:
            referrers = e
        return Attachments(tagged, referrers)
