"""Whether two images are one: a manifest may be written in many ways, and what runs is said by its configuration, which names every layer by content.

Runtimes keep images by their configuration, and name in `imageID` any of the manifests that they have met with it: also one that somebody else has pushed
elsewhere, with other white space. Only what is another configuration is another image.
Source: OCI image specification, "config", `rootfs.diff_ids`; containerd, `pkg/cri`, image store.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Protocol

from msgspec import Struct

from webhook import limits
from webhook.image import Digest, ImageReference, parse_digest
from webhook.judge.workload import Question
from webhook.parsing import Invalid, convert, read_json
from webhook.trust import Manifest, Rejected, Resolved, Unavailable

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


class _Body(Struct):
    config: _Config


async def is_another(
    read: Read, question: Question, running: ImageReference, verified: Iterable[ImageReference]
) -> bool | None:
    """Whether what runs is none of what was verified; None: nothing can be said, because something of it cannot be read."""
    try:
        async with asyncio.timeout(limits.RESCAN_SECONDS):
            runs = await _configurations(read, question, running)
            if runs is None:
                return None
            unread = False
            for image in verified:
                known = await _configurations(read, question, image)
                if known is not None and runs <= known:
                    return False
                unread = unread or known is None
            return None if unread else True
    except TimeoutError:
        return None


async def _configurations(read: Read, question: Question, image: ImageReference) -> frozenset[Digest] | None:
    """Those of an image, or of all images of an index; None: they cannot be told."""
    meant = await read.meaning(question, image)
    if not isinstance(meant, Resolved) or meant.is_nested:
        return None
    digests = [meant.digest] if meant.platforms is None else [platform.digest for platform in meant.platforms]
    if not 0 < len(digests) <= limits.MAX_COMPARED:
        return None
    found: set[Digest] = set()
    for digest in digests:
        manifest = await read.manifest(question, replace(image, tag=None, digest=digest))
        configuration = configuration_of(manifest) if isinstance(manifest, Manifest) else None
        if configuration is None:
            return None
        found.add(configuration)
    return frozenset(found)


def configuration_of(manifest: Manifest) -> Digest | None:
    """The digest of an image's configuration; None where the manifest is none of an image."""
    try:
        config = convert(read_json(manifest.body, "manifest"), _Body, "manifest").config
        return parse_digest(config.digest) if config.media_type in _CONFIGURATIONS else None
    except Invalid:
        return None
