"""What may be a signature or an attestation of an image, from every place where cosign leaves one. Judges nothing.

Sources: cosign, SIGNATURE_SPEC.md, "Storage"; ATTESTATION_SPEC.md.
"""

import itertools
from collections.abc import AsyncGenerator, Mapping

import msgspec

from webhook import limits
from webhook.formats._artifacts import Artifact, Budget, Layer, Shelf, as_evidence, fallback_tag, read_artifact
from webhook.formats.cosign.wire import (
    BUNDLES,
    CERTIFICATE,
    CHAIN,
    ENTRY,
    ENVELOPE,
    SIGNATURE,
    SIGNATURE_ARTIFACT,
    SIMPLE_SIGNING,
    TIMESTAMP,
)
from webhook.image import DOCKER_HUB, Digest, Repository, Subject, digest_of
from webhook.parsing import Invalid
from webhook.trust import Claim, Evidence, Manifest, Registry, Rejected, Unavailable, Untrusted

_SIGNATURES = frozenset(BUNDLES) | {SIGNATURE_ARTIFACT}
_BESIDE = {"certificate": CERTIFICATE, "chain": CHAIN, "entry": ENTRY, "timestamp": TIMESTAMP}
"""What else lies beside a signature, each in an annotation that may be missing or empty."""


async def collect(
    claim: Claim, registry: Registry, repository: Repository | None, annotations: Mapping[str, str]
) -> AsyncGenerator[Evidence, None]:
    """Everything that may be what is claimed: on the `.sig` or the `.att` tag, among the referrers, and last those on the fallback tag.

    `repository`: where signatures lie, if not beside the image; what they are about stays the image. `annotations`: those that
    the policy demands, which help to rebuild a payload.
    """
    image = claim.subject
    place = Subject(repository or image.repository, image.digest, image.tag)
    # Signatures and attestations have a tag each. Bundles of both lie together, and only what they state tells them apart.
    suffix, kinds = (".sig", _SIGNATURES) if claim.predicate_type is None else (".att", frozenset(BUNDLES))
    tag = fallback_tag(image)
    found = await registry.attachments(place, f"{tag}{suffix}")
    shelf = Shelf(image.digest, place, registry)
    if isinstance(found.tagged, Manifest):
        async for evidence in _tagged(found.tagged, f"{tag[:19]}…{suffix}", shelf, claim, annotations):
            yield evidence
        shelf.budget = Budget()
    elif found.tagged is not None:
        yield found.tagged
    async for referrer in shelf.referrers(kinds, found.referrers):
        if isinstance(referrer, Rejected | Unavailable):
            yield referrer
        elif referrer.artifact.kind == SIGNATURE_ARTIFACT:
            async for evidence in _layers(referrer.artifact, referrer.origin, shelf, image, annotations):
                yield evidence
        else:
            yield await _bundle(referrer.artifact, referrer.origin, shelf)


async def _tagged(
    manifest: Manifest, origin: str, shelf: Shelf, claim: Claim, annotations: Mapping[str, str]
) -> AsyncGenerator[Evidence, None]:
    try:
        artifact = read_artifact(manifest, origin)
    except Invalid as e:
        yield as_evidence(e)
        return
    if claim.predicate_type is None:
        layers = _layers(artifact, origin, shelf, claim.subject, annotations)
    else:
        layers = _envelopes(artifact, origin, shelf)
    async for evidence in layers:
        yield evidence


async def _envelopes(artifact: Artifact, origin: str, shelf: Shelf) -> AsyncGenerator[Evidence, None]:
    """Each layer is a DSSE envelope. The annotation that says of which type is nobody's word."""
    for i, layer in enumerate(artifact.layers):
        if i >= limits.MAX_LAYERS or not shelf.budget.takes_signature():
            yield Rejected(f"{origin}: more than {limits.MAX_LAYERS} attestations; the rest was not read")
            return
        where = f"{origin} layer {i}"
        if layer.media_type != ENVELOPE:
            yield Rejected(f"{where}: not an attestation")
            continue
        try:
            envelope = await shelf.fetch(layer, where, limits.MAX_BLOB)
        except (Rejected, Unavailable, Invalid) as e:
            yield as_evidence(e)
            continue
        yield Untrusted(where, {"envelope": envelope, **_beside(layer.annotations or {})})


async def _layers(
    artifact: Artifact, origin: str, shelf: Shelf, image: Subject, annotations: Mapping[str, str]
) -> AsyncGenerator[Evidence, None]:
    """Each layer is a payload, with its signature in an annotation."""
    for i, layer in enumerate(artifact.layers):
        if i >= limits.MAX_LAYERS or not shelf.budget.takes_signature():
            yield Rejected(f"{origin}: more than {limits.MAX_LAYERS} signatures; the rest was not read")
            return
        where = f"{origin} layer {i}"
        written = layer.annotations or {}
        signature = written.get(SIGNATURE, "")
        if layer.media_type != SIMPLE_SIGNING or not signature:
            yield Rejected(f"{where}: not a cosign signature")
            continue
        try:
            payload = _rebuilt(layer, image, annotations) or await shelf.fetch(layer, where, limits.MAX_PAYLOAD)
        except (Rejected, Unavailable, Invalid) as e:
            yield as_evidence(e)
            continue
        yield Untrusted(where, {"payload": payload, "signature": _bytes(signature), **_beside(written)})


def _beside(written: Mapping[str, str]) -> dict[str, bytes]:
    """What lies beside a signature, in annotations."""
    return {name: _bytes(written[annotation]) for name, annotation in _BESIDE.items() if written.get(annotation)}


def _bytes(text: str) -> bytes:
    # JSON can write characters that UTF-8 cannot: they must not end the reading of the other layers.
    return text.encode(errors="replace")


def _rebuilt(layer: Layer, image: Subject, annotations: Mapping[str, str]) -> bytes | None:
    """The payload, if it is the one that cosign writes for this image: its digest then saves a request.

    Accepted only under the descriptor's digest and size, so these are the bytes that would have been fetched.
    """
    optional = dict(sorted(annotations.items())) or None
    # Cosign writes Docker Hub by its old name.
    name = str(image.repository)
    names = (name, f"index.{name}") if image.repository.registry == DOCKER_HUB else (name,)
    choices = (b"null", msgspec.json.encode(optional)) if optional else (b"null",)
    for signed_name, choice in itertools.product(names, choices):
        payload = _payload(signed_name, image.digest, choice)
        if len(payload) == layer.size and digest_of(payload) == layer.digest:
            return payload
    return None


def _payload(signed_name: str, digest: Digest, optional: bytes) -> bytes:
    return (
        b'{"critical":{"identity":{"docker-reference":"%b"},"image":{"docker-manifest-digest":"%b"},'
        b'"type":"cosign container image signature"},"optional":%b}'
    ) % (signed_name.encode(), digest.encode(), optional)


async def _bundle(artifact: Artifact, origin: str, shelf: Shelf) -> Evidence:
    if len(artifact.layers) != 1 or artifact.layers[0].media_type not in BUNDLES:
        return Rejected(f"{origin}: expected exactly one layer, a bundle")
    if not shelf.budget.takes_signature():
        return Rejected(f"more than {limits.MAX_SIGNATURES} signatures; the rest was not read")
    try:
        return Untrusted(origin, {"bundle": await shelf.fetch(artifact.layers[0], origin, limits.MAX_BLOB)})
    except (Rejected, Unavailable, Invalid) as e:
        return as_evidence(e)
