"""What may be a Notary Project signature of an image, and what the issuers of its certificates say of them. Judges nothing.

Source: Notary Project, signature-specification.md, "Storage"; trust-store-trust-policy.md, "Certificate Revocation Evaluation".
"""

from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TYPE_CHECKING, Final

from webhook import limits
from webhook.formats._artifacts import Artifact, Shelf, as_evidence
from webhook.formats.notation import cose, jws
from webhook.formats.notation.chain import Chain, read_chain
from webhook.formats.notation.envelope import Envelope
from webhook.formats.notation.inquiry import Inquiry
from webhook.image import Subject
from webhook.parsing import Invalid
from webhook.trust import Claim, Evidence, Registry, Rejected, Unavailable, Untrusted

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_SIGNATURES: Final = frozenset({"application/vnd.cncf.notary.signature"})
READERS: Final = {jws.MEDIA_TYPE: jws.read, cose.MEDIA_TYPE: cose.read}
ENVELOPE, MEDIA_TYPE, IMAGE_SIZE, IMAGE_TYPE = "envelope", "media type", "image size", "image media type"

Asks = Callable[[Envelope, Chain], Iterable["tuple[str, tuple[Certificate, ...]]"]]
"""The chains to ask about, each with the name that its answers get; none for a signature that nobody would trust anyway."""


async def collect(claim: Claim, registry: Registry, asks: Asks) -> AsyncGenerator[Evidence, None]:
    """Everything that may be a signature: the referrers, and last the referrers fallback tag, where notation writes by default."""
    image = claim.subject
    try:
        listed = await registry.referrers(image)
    except (Rejected, Unavailable) as e:
        yield e
        listed = None
    shelf = Shelf(image.digest, image, registry)
    inquiry = Inquiry(registry, shelf.budget)
    async for found in shelf.referrers(_SIGNATURES, listed):
        if isinstance(found, Rejected | Unavailable):
            yield found
            continue
        try:
            parts = await _envelope(found.artifact, found.origin, shelf)
            parts |= await _image(image, registry)
            parts |= await _answers(parts, asks, inquiry)
        except (Rejected, Unavailable, Invalid) as e:
            yield as_evidence(e)
            continue
        yield Untrusted(found.origin, parts)


async def _envelope(artifact: Artifact, origin: str, shelf: Shelf) -> dict[str, bytes]:
    if len(artifact.layers) != 1 or artifact.layers[0].media_type not in READERS:
        raise Rejected(f"{origin}: expected exactly one layer, an envelope in JWS or COSE")
    if not shelf.budget.takes_signature():
        raise Rejected(f"more than {limits.MAX_SIGNATURES} signatures; the rest was not read")
    [layer] = artifact.layers
    return {ENVELOPE: await shelf.fetch(layer, origin, limits.MAX_PAYLOAD), MEDIA_TYPE: layer.media_type.encode()}


async def _image(image: Subject, registry: Registry) -> dict[str, bytes]:
    """What the signature must say of the image beside its digest; the bytes were hashed when they were read."""
    manifest = await registry.manifest(image.repository, image.digest)
    if manifest is None:
        raise Rejected("there is no such image")
    return {IMAGE_SIZE: str(len(manifest.body)).encode(), IMAGE_TYPE: manifest.media_type.encode()}


async def _answers(parts: dict[str, bytes], asks: Asks, inquiry: Inquiry) -> dict[str, bytes]:
    """What issuers say. Nothing for an envelope that cannot be read: why, `check` will say."""
    answers: dict[str, bytes] = {}
    try:
        envelope = READERS[parts[MEDIA_TYPE].decode()](parts[ENVELOPE])
        for name, chain in asks(envelope, read_chain(envelope.certificates)):
            answers |= await inquiry.about_chain(name, chain)
    except (Rejected, Invalid):
        pass
    return answers
