"""What the bytes of manifests, indexes and lists of referrers mean, and where they could mean two things. Pure.

Source: OCI image specification, "manifest", "index"; OCI distribution specification 1.1, "Listing Referrers".
"""

from typing import Final

import yarl
from msgspec import Struct, field

from webhook import limits
from webhook.image import parse_digest
from webhook.parsing import Invalid, convert, quote, read_json
from webhook.trust import Descriptor, Manifest, Platform, Rejected, Resolved

_OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
_MANIFESTS: Final = frozenset({_OCI_MANIFEST, _DOCKER_MANIFEST})
_INDEXES: Final = frozenset({OCI_INDEX, _DOCKER_INDEX})
ACCEPT: Final = {"Accept": f"{OCI_INDEX}, {_OCI_MANIFEST}, {_DOCKER_INDEX}, {_DOCKER_MANIFEST}"}
ACCEPT_INDEX: Final = {"Accept": OCI_INDEX}
_KEYS: Final = ("schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations")
_DESCRIPTOR_KEYS: Final = ("mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType")
_PLATFORM_KEYS: Final = ("architecture", "os", "os.version", "os.features", "variant", "features")


class _Listed(Struct, rename="camel"):
    digest: str
    media_type: str = ""
    size: int = 0


class _Referrers(Struct):
    manifests: list[_Listed] = field(default_factory=list)


class _Platform(Struct):
    architecture: str | None = None
    os: str | None = None
    variant: str | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether no node can choose it: so BuildKit marks the attestations that it puts among the images of an index."""
        return self.os == "unknown" and self.architecture == "unknown"

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant))) or "no platform"


class _Child(Struct, rename="camel"):
    digest: str
    media_type: str = ""
    platform: _Platform | None = None


class _Body(Struct, rename="camel"):
    """What tells a manifest from an index."""

    schema_version: int
    media_type: str | None = None
    manifests: list[_Child] | None = None
    layers: list[object] | None = None
    config: object = None


def refuse_ambiguous(body: bytes, media_type: str, name: str) -> None:
    """Raises `Rejected` or `Invalid` if the bytes could be read as two different things (attack R-07)."""
    if media_type not in _MANIFESTS | _INDEXES:
        raise Rejected(f"{name}: of type {quote(media_type or 'none', 80)}, which is neither manifest nor index")
    written = read_json(body, name)
    _refuse_lookalikes(written, name)
    document = convert(written, _Body, name)
    if document.schema_version != 2:
        raise Rejected(f"{name}: schema version {document.schema_version} is not supported")
    if document.media_type is not None and document.media_type != media_type:
        raise Rejected(f"{name}: served as {media_type}, and says it is {quote(document.media_type, 80)}")
    has_index, has_manifest = document.manifests is not None, document.layers is not None or document.config is not None
    if has_index == has_manifest or has_index != (media_type in _INDEXES):
        raise Rejected(f"{name}: could be read as manifest and as index, or as neither")


def _refuse_lookalikes(document: object, name: str) -> None:
    """Raises `Rejected` for a key that differs from one of ours in its letter case only.

    Readers written in Go take `Manifests` for `manifests`, and of both the last: they would run what we did not look at.
    """
    known = {key.casefold(): key for key in (*_KEYS, *_DESCRIPTOR_KEYS, *_PLATFORM_KEYS)}
    found = document if isinstance(document, dict) else {}
    nested = [found.get("config"), found.get("subject")]
    for list_of in ("manifests", "layers"):
        listed = found.get(list_of)
        nested += listed if isinstance(listed, list) else []
    nested += [node.get("platform") for node in tuple(nested) if isinstance(node, dict)]
    for node in (found, *nested):
        for key in node if isinstance(node, dict) else ():
            if known.get(key.casefold(), key) != key:
                raise Rejected(f"{name}: {quote(key, 80)} and {known[key.casefold()]} are one key to other readers")


def resolved(manifest: Manifest) -> Resolved:
    """What a reference means, given its manifest or index. Raises `Rejected` or `Invalid`."""
    if manifest.media_type not in _INDEXES:
        return Resolved(manifest.digest)
    children = convert(read_json(manifest.body, "index"), _Body, "index").manifests or []
    if len(children) > limits.MAX_CHILDREN:
        raise Rejected(f"an index of {len(children)} images, more than {limits.MAX_CHILDREN}")
    digests = tuple(parse_digest(child.digest) for child in children)
    platforms = tuple(
        Platform(str(child.platform or "no platform"), digest)
        for child, digest in zip(children, digests, strict=True)
        if child.platform is None or not child.platform.is_unknown
    )
    is_nested = any(child.media_type in _INDEXES for child in children)
    return Resolved(manifest.digest, digests, is_nested, platforms)


def descriptors(body: bytes) -> list[Descriptor]:
    """The referrers on a page; those whose digest is none are passed over. Raises `Invalid`."""
    found = []
    for listed in convert(read_json(body, "referrers"), _Referrers, "referrers").manifests:
        try:
            found.append(Descriptor(parse_digest(listed.digest), listed.media_type, listed.size))
        except Invalid:
            continue
    return found


def next_page(link: str, path: str) -> dict[str, str]:
    """The query of the next page, if the registry's `Link` leads to the same list; only its query is taken (fault F12)."""
    target, _, parameters = link.partition(";")
    if 'rel="next"' not in parameters and "rel=next" not in parameters:
        return {}
    try:
        url = yarl.URL(target.strip().strip("<>"))
    except ValueError:
        return {}
    return dict(url.query) if url.path.endswith(path) else {}
