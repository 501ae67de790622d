"""Artifacts that lie beside an image: found in every place that the specification knows, read within one budget. Judges nothing.

Every tradition that stores signatures in the registry looks into the same places, and each picks its own by the artifact's kind.
Sources: OCI image specification, "manifest"; OCI distribution specification, "Listing Referrers", "Referrers Tag Schema".
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from webhook import limits
from webhook.image import Digest, Subject, parse_digest
from webhook.parsing import Invalid, convert, read_json
from webhook.trust import Descriptor, Manifest, Registry, Rejected, Unavailable


class Layer(Struct, rename="camel"):
    """A descriptor among a manifest's layers, as somebody wrote it."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None


class _Config(Struct, rename="camel"):
    media_type: str = ""


class _Reference(Struct):
    digest: str


class _Index(Struct):
    manifests: list[_Reference]


class Artifact(Struct, rename="camel"):
    """A manifest that carries signatures."""

    layers: list[Layer]
    config: _Config | None = None
    artifact_type: str | None = None
    subject: _Reference | None = None

    @property
    def kind(self) -> str:
        """What the artifact is, as the image specification defines it for lists of referrers."""
        return self.artifact_type or (self.config.media_type if self.config else "")


@dataclass(frozen=True, slots=True)
class Found:
    """An artifact and where it was, for people."""

    artifact: Artifact
    origin: str


@dataclass(slots=True)
class Budget:
    """What may still be read of one place, for one image and signer: rubbish in one hides nothing in another (attack C-20)."""

    signatures: int = limits.MAX_SIGNATURES
    bytes: int = limits.MAX_EVIDENCE

    def takes_signature(self) -> bool:
        """Counts one signature; False if that is one too many."""
        self.signatures -= 1
        return self.signatures >= 0

    def takes(self, size: int) -> bool:
        """Counts bytes; False if that is too many."""
        self.bytes -= max(size, 0)
        return self.bytes >= 0


def read_artifact(manifest: Manifest, origin: str) -> Artifact:
    """The artifact in a manifest's bytes. Raises `Invalid`; the message begins with `origin`."""
    return convert(read_json(manifest.body, origin), Artifact, origin)


def as_evidence(error: Rejected | Unavailable | Invalid) -> Rejected | Unavailable:
    """An error as one thing found: what cannot be read is a rejection of this piece, never an outage."""
    return Rejected(str(error)) if isinstance(error, Invalid) else error


def fallback_tag(image: Subject) -> str:
    """The tag under which referrers are listed where the registry has no referrers API, or had none when they were pushed."""
    return image.digest.replace(":", "-")


@dataclass(slots=True)
class Shelf:
    """The artifacts beside one image, in the repository `place` names, read through one port. `budget`: of the place that is being read."""

    image: Digest
    place: Subject
    registry: Registry
    budget: Budget = field(default_factory=Budget)
    _seen: set[Digest] = field(default_factory=set)

    async def referrers(
        self, kinds: frozenset[str], listed: Sequence[Descriptor] | Rejected | Unavailable | None
    ) -> AsyncGenerator[Found | Rejected | Unavailable, None]:
        """The referrers of these kinds: those that the API has `listed`, and last those on the fallback tag.

        The fallback tag is read although the registry has the API: what was pushed before it had one lies there.
        """
        if isinstance(listed, Rejected | Unavailable):
            yield listed
        else:
            async for found in self._each(kinds, listed or ()):
                yield found
        self.budget = Budget()
        async for found in self._on_fallback_tag(kinds):
            yield found

    async def _on_fallback_tag(self, kinds: frozenset[str]) -> AsyncGenerator[Found | Rejected | Unavailable, None]:
        try:
            index = await self.registry.manifest(self.place.repository, fallback_tag(self.place))
            if index is None:
                return
            entries = convert(read_json(index.body, "fallback index"), _Index, "fallback index").manifests
        except (Rejected, Unavailable, Invalid) as e:
            yield as_evidence(e)
            return
        # Descriptors are known to carry wrong artifact types here, so nothing but the digest is taken from them.
        descriptors = [Descriptor(digest, "", 0) for entry in entries if (digest := _digest_or_none(entry.digest))]
        async for found in self._each(kinds, descriptors):
            yield found

    async def _each(
        self, kinds: frozenset[str], descriptors: Sequence[Descriptor]
    ) -> AsyncGenerator[Found | Rejected | Unavailable, None]:
        known = len(self._seen)
        for descriptor in descriptors:
            if descriptor.digest in self._seen:
                continue
            if len(self._seen) - known >= limits.MAX_REFERRERS:
                yield Rejected(f"more than {limits.MAX_REFERRERS} referrers; the rest was not read")
                return
            self._seen.add(descriptor.digest)
            origin = f"referrer {descriptor.digest[:19]}…"
            try:
                manifest = await self.registry.manifest(self.place.repository, descriptor.digest)
                if manifest is None:
                    yield Rejected(f"{origin}: listed, but not there")
                    continue
                artifact = read_artifact(manifest, origin)
                if artifact.kind not in kinds:
                    # Another tradition's signature, an SBOM: nothing of ours, and nothing to complain about.
                    continue
                if artifact.subject is None or artifact.subject.digest != self.image:
                    yield Rejected(f"{origin}: refers to another image")
                    continue
            except (Rejected, Unavailable, Invalid) as e:
                yield as_evidence(e)
                continue
            yield Found(artifact, origin)

    async def fetch(self, layer: Layer, origin: str, limit: int) -> bytes:
        """A layer's bytes, at most `limit`. Raises `Invalid`, `Rejected` or `Unavailable`."""
        if not 0 <= layer.size <= limit:
            raise Rejected(f"{origin}: {layer.size} bytes, more than {limit}")
        if not self.budget.takes(layer.size):
            raise Rejected(f"{origin}: more than {limits.MAX_EVIDENCE} bytes of signatures in all")
        descriptor = Descriptor(parse_digest(layer.digest), layer.media_type, layer.size)
        content = await self.registry.blob(self.place.repository, descriptor, limit)
        if content is None:
            raise Rejected(f"{origin}: its content is not there")
        return content


def _digest_or_none(text: str) -> Digest | None:
    try:
        return parse_digest(text)
    except Invalid:
        return None
