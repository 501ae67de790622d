"""What may be a GPG signature of an image, from a lookaside store or the registry itself. Judges nothing.

Source: containers/image, docs/signature-protocols.md, "docker/distribution registries—separate storage" and "—with the
X-Registry-Supports-Signatures API extension".
"""

from collections.abc import AsyncGenerator
from typing import Final

from msgspec import Struct

from webhook import limits
from webhook.formats._artifacts import Budget, as_evidence
from webhook.formats._dsse import strict_base64
from webhook.image import Subject
from webhook.parsing import Invalid, convert, read_json
from webhook.trust import Evidence, Registry, Rejected, Unavailable, Untrusted

REGISTRY: Final = "registry"
"""In place of a store's address: the registry's own signature extension."""

_SCHEMA: Final = 2
_KIND: Final = "atomic"
_NAMED: Final = b"\0simple-signing\n"
_OTHER: Final = b"\0"
_TOO_MANY: Final = f"the first {limits.MAX_SIGNATURES} signatures were read, and no more"
_TOO_MUCH: Final = f"more than {limits.MAX_EVIDENCE} bytes of signatures in all; the rest was not read"


class _Kept(Struct, rename="camel"):
    """A signature in a registry's list."""

    schema_version: int
    type: str
    content: str


class _List(Struct):
    signatures: list[_Kept] | None = None


async def in_store(base: str, image: Subject, registry: Registry) -> AsyncGenerator[Evidence, None]:
    """`signature-1`, `signature-2`, … below a store's address, to the first that is not there."""
    algorithm, _, digits = image.digest.partition(":")
    folder = f"{base}/{image.repository.path}@{algorithm}={digits}"
    budget = Budget()
    for number in range(1, limits.MAX_SIGNATURES + 1):
        origin = f"signature-{number}"
        try:
            content = await registry.get(f"{folder}/{origin}", limits.MAX_OPENPGP)
        except Rejected as e:
            # One that is too large hides none behind it.
            yield e
            continue
        except Unavailable as e:
            yield e
            return
        if content is None:
            return
        if not budget.takes(len(content)):
            yield Rejected(_TOO_MUCH)
            return
        for evidence in _one(content, origin):
            yield evidence
    yield Rejected(_TOO_MANY)


async def in_registry(image: Subject, registry: Registry) -> AsyncGenerator[Evidence, None]:
    """The list that the registry keeps, if it has the extension."""
    try:
        body = await registry.signatures(image)
        if body is None:
            return
        kept = convert(read_json(body, "signatures"), _List, "signatures").signatures or []
    except (Rejected, Unavailable, Invalid) as e:
        yield as_evidence(e)
        return
    budget = Budget()
    for number, one in enumerate(kept, start=1):
        origin = f"signature {number} in the registry"
        if (one.schema_version, one.type) != (_SCHEMA, _KIND):
            # Another kind of signature: nothing of ours, and nothing to complain about.
            continue
        try:
            content = strict_base64(one.content, origin)
        except Invalid as e:
            yield as_evidence(e)
            continue
        if not budget.takes_signature():
            yield Rejected(_TOO_MANY)
            return
        for evidence in _one(content, origin):
            yield evidence


def _one(content: bytes, origin: str) -> tuple[Evidence, ...]:
    """A signature as containers/image stores it: of this kind it may have a name, any other has one and is not ours."""
    if content.startswith(_OTHER) and not content.startswith(_NAMED):
        return ()
    return (Untrusted(origin, {"signature": content.removeprefix(_NAMED)}),)
