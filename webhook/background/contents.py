"""Whether two images are one: a manifest may be written in many ways, and what runs is said by its configuration, which names every layer by content.

Runtimes keep images by their configuration, and name in `imageID` any of the manifests that they have met with it: also one that somebody else has pushed
elsewhere, with other white space. Only what is another configuration is another image.

Nobody is accused of less than that. To be judged as the other, an image must consist of the same layers as well: snapshotters that fetch lazily
mount layers as the manifest describes them, and do not compare them with the configuration.
Source: OCI image specification, "config", `rootfs.diff_ids`; containerd, `pkg/cri`, image store; stargz-snapshotter, "TOCDigest".
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from msgspec import Struct, field

from webhook import limits
from webhook.image import Digest, ImageReference, parse_digest
from webhook.judge.workload import Question
from webhook.parsing import Invalid, convert, read_json
from webhook.trust import Manifest, Platform, Rejected, Resolved, Unavailable

_CONFIGURATIONS: Final = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
"""Of images. An artifact's is empty, and the same for all of them."""


class Read(Protocol):
    """Who reads registries; `judge.decide.Decider` implements it. Nothing is raised."""

    async def meaning(self, question: Question, image: ImageReference) -> Resolved | Rejected | Unavailable:
        """What the name of an image means now."""
        ...

    async def manifest(self, question: Question, image: ImageReference) -> Manifest | Rejected | Unavailable | None:
        """The manifest that an image's digest names; None: there is none."""
        ...


class _Config(Struct, rename="camel"):
    digest: str
    media_type: str = ""


class _Layer(Struct):
    digest: str
    annotations: dict[str, str] | None = None


class _Body(Struct):
    config: _Config
    layers: list[_Layer] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a manifest describes: a configuration, and layers, each with all that is said of how it is mounted."""

    configuration: Digest
    layers: tuple[tuple[str, frozenset[tuple[str, str]]], ...]


@dataclass(frozen=True, slots=True)
class _Images:
    """Those that a digest stands for, each with its platform, which is empty for an image that is none of an index."""

    by_platform: frozenset[tuple[str, _Contents]]

    @property
    def contents(self) -> frozenset[_Contents]:
        return frozenset(one for _, one in self.by_platform)

    @property
    def configurations(self) -> frozenset[Digest]:
        return frozenset(one.configuration for _, one in self.by_platform)

    @property
    def is_index(self) -> bool:
        return any(platform for platform, _ in self.by_platform)

    def are_among(self, others: "_Images") -> bool:
        """Whether whatever a node may choose of these is what it may choose of the others."""
        if self.is_index and others.is_index:
            return self.by_platform <= others.by_platform
        return self.contents <= others.contents


async def is_another(
    read: Read, question: Question, running: ImageReference, verified: Iterable[ImageReference]
) -> bool | None:
    """Whether what runs is none of what was verified; None: nothing can be said, because something of it cannot be read."""
    try:
        async with asyncio.timeout(limits.RESCAN_SECONDS):
            runs = await _images(read, question, running)
            if runs is None:
                return None
            unread = False
            for image in verified:
                known = await _images(read, question, image)
                if known is not None and runs.configurations <= known.configurations:
                    return False
                unread = unread or known is None
            return None if unread else True
    except TimeoutError:
        return None


async def is_twin(read: Read, question: Question, running: ImageReference, other: ImageReference) -> bool | None:
    """Whether what runs is the other image under another digest, and may be judged as that; None: nothing can be said."""
    runs = await _images(read, question, running)
    known = None if runs is None else await _images(read, question, other)
    return None if runs is None or known is None else runs.are_among(known)


async def _images(read: Read, question: Question, image: ImageReference) -> _Images | None:
    """Those that an image's digest, or its tag, stands for; None: they cannot be told."""
    meant = await read.meaning(question, image)
    if not isinstance(meant, Resolved) or meant.is_nested:
        return None
    platforms = (Platform("", meant.digest),) if meant.platforms is None else meant.platforms
    if not 0 < len(platforms) <= limits.MAX_COMPARED:
        return None
    found: set[tuple[str, _Contents]] = set()
    for platform in platforms:
        manifest = await read.manifest(question, image.at(platform.digest))
        contents = contents_of(manifest) if isinstance(manifest, Manifest) else None
        if contents is None:
            return None
        found.add((platform.name, contents))
    return _Images(frozenset(found))


def contents_of(manifest: Manifest) -> _Contents | None:
    """What an image's manifest describes; None where the manifest is none of an image."""
    try:
        body = convert(read_json(manifest.body, "manifest"), _Body, "manifest")
        if body.config.media_type not in _CONFIGURATIONS:
            return None
        layers = tuple((layer.digest, frozenset((layer.annotations or {}).items())) for layer in body.layers)
        return _Contents(parse_digest(body.config.digest), layers)
    except Invalid:
        return None
