"""The OCI distribution client: implements `trust.Registry`.

What is asked for by digest is hashed before it is returned; nobody's header is believed. What one login fetched, another does
not inherit. Source: OCI distribution specification 1.1; OCI image specification, "manifest", "index".
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from webhook import limits
from webhook.image import Digest, ImageReference, Repository, Subject, digest_of, parse_digest
from webhook.memory.cache import Memo, Remembered
from webhook.parsing import Invalid, quote
from webhook.registry.auth import LoginRefused
from webhook.registry.dockerconfig import DockerConfigKeychain
from webhook.registry.documents import Documents, Login
from webhook.registry.logins import Logins
from webhook.registry.manifests import (
    ACCEPT,
    ACCEPT_INDEX,
    OCI_INDEX,
    descriptors,
    next_page,
    refuse_ambiguous,
    resolved,
)
from webhook.registry.settings import FixedSettings, HostSettings, RegistrySettings, Settings
from webhook.registry.transport import Answer, Body, Timeouts, Transport
from webhook.trust import (
    Access,
    Attachments,
    Descriptor,
    Keychain,
    Manifest,
    Rejected,
    Resolved,
    Unavailable,
)

_NO_REFERRERS_SECONDS: Final = 300.0
_NO_API: Final = frozenset({404, 405, 501})
_SIGNATURES: Final = "/extensions/v2"
"""Where a registry has the signature extension. Source: containers/image, docs/signature-protocols.md."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Found:
    """A look-up's answer, so that absence can be remembered too."""

    manifest: Manifest | None


@dataclass(frozen=True, slots=True)
class _FoundBlob:
    body: bytes | None


@dataclass(frozen=True, slots=True)
class _FoundReferrers:
    descriptors: tuple[Descriptor, ...] | None


@dataclass(frozen=True, slots=True)
class _FoundList:
    body: bytes | None


class RegistryClient:
    """All registries, for one process. `under` gives the port with somebody's logins."""

    def __init__(
        self,
        settings: Settings | RegistrySettings,
        *,
        private_addresses: bool = False,
        observe: Callable[[str, int], None] = lambda _host, _status: None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings: Settings = FixedSettings(settings) if isinstance(settings, RegistrySettings) else settings
        self._transport = Transport(
            self.settings, private_addresses=private_addresses, observe=observe, timeouts=timeouts, clock=clock
        )
        self._logins = Logins(self.settings, self._transport, clock)
        self.documents = Documents(self._transport, self._logins.get)
        self._tags: Memo[Resolved] = Memo(limits.TAG_SECONDS, limits.MAX_REMEMBERED_TAGS, clock=clock)
        self._digests: Memo[Resolved] = Memo(limits.PROOF_SECONDS, limits.MAX_REMEMBERED_TAGS, clock=clock)
        self._tagged: Memo[_Found] = Memo(limits.TAG_SECONDS, limits.MAX_BLOB_MEMORY, size=_size_of_found, clock=clock)
        self._lists: Memo[_FoundReferrers] = Memo(limits.TAG_SECONDS, limits.MAX_REMEMBERED_TAGS, clock=clock)
        self._signatures: Memo[_FoundList] = Memo(
            limits.TAG_SECONDS, limits.MAX_BLOB_MEMORY, size=lambda found: 256 + len(found.body or b""), clock=clock
        )
        self._without_api: Memo[bool] = Memo(_NO_REFERRERS_SECONDS, limits.MAX_TOKENS, clock=clock)
        self._manifests: Memo[Manifest] = Memo(
            limits.PROOF_SECONDS, limits.MAX_BLOB_MEMORY, size=lambda manifest: len(manifest.body) + 256, clock=clock
        )
        self._blobs: Memo[bytes] = Memo(
            limits.PROOF_SECONDS, limits.MAX_BLOB_MEMORY, size=lambda body: len(body) + 256, clock=clock
        )
        self._blob_flights: Memo[_FoundBlob] = Memo(0.0, 1, clock=clock)
        self._operators: dict[HostSettings, DockerConfigKeychain] = {}

    def under(self, keychain: Keychain) -> "RegistryPort":
        """The port, with the logins of `keychain` and, after them, the operator's."""
        return RegistryPort(self, keychain)

    def known(self, keychain: Keychain, repository: Repository) -> Access | None:
        """The logins that open a repository, if that needs no waiting: those of `keychain`, then the operator's."""
        place = self._location(repository)
        own, operators = keychain.known(place), self._operators_keychain(place)
        if own is None or operators is None:
            return own
        added = operators.known(place)
        return None if added is None else (*own, *added)

    async def opened(self, keychain: Keychain, repository: Repository) -> Access:
        """The same, waiting for what has to be read. Raises `Unavailable`."""
        place = self._location(repository)
        own, operators = await keychain.access(place), self._operators_keychain(place)
        return own if operators is None else (*own, *await operators.access(place))

    async def login_elsewhere(self, keychain: Keychain, repository: Repository) -> Login:
        """What a service that keeps something about a repository may be shown, if it asks. Raises `Unavailable`."""
        access = await self.opened(keychain, repository)
        return Login(f"repository:{repository}:pull", self._location(repository).registry, access)

    def _location(self, repository: Repository) -> Repository:
        """Where a repository is fetched from, and whose logins open it: itself, or its place in a mirror."""
        return self.settings.current.location(repository)

    def recall_resolved(self, image: ImageReference, access: Access) -> Remembered[Resolved] | None:
        """What `resolve` would return, if that is remembered; for the warm path."""
        return self._remembered(image).recall((image.repository, image.digest or image.tag, access))

    def _remembered(self, image: ImageReference) -> Memo[Resolved]:
        return self._digests if image.digest else self._tags

    async def close(self) -> None:
        """Ends what is on its way, and all connections."""
        # What waits for another ends before it.
        for flights in (
            self._tags, self._digests, self._tagged, self._lists, self._signatures, self._without_api, self._manifests,
            self._blobs, self._blob_flights, self._logins, self.documents,
        ):  # fmt: skip
            await flights.close()
        await self._transport.close()

    # ── one look-up each ─────────────────────────────────────────────────────────────────────────────────────────────
    async def resolve(self, image: ImageReference, access: Access) -> Resolved:
        """See `trust.Registry.resolve`."""
        reference = image.digest or image.tag or ""

        async def ask() -> Resolved:
            found = await self.manifest(image.repository, reference, access, fresh=True)
            if found is None:
                raise Rejected("there is no such image in the registry")
            return resolved(found)

        return await self._remembered(image).get((image.repository, reference, access), ask)

    async def manifest(
        self, repository: Repository, reference: str, access: Access, *, fresh: bool = False
    ) -> Manifest | None:
        """See `trust.Registry.manifest`. `fresh`: the caller remembers the answer for a tag by itself."""
        wanted = parse_digest(reference) if reference.startswith("sha256:") else None
        key = (repository, reference, access)
        if wanted is not None:
            kept = self._manifests.peek(key)
            if kept is not None:
                return kept

        async def ask() -> _Found:
            limit = limits.MAX_MANIFEST if fresh else limits.MAX_SIGNATURE_MANIFEST
            return _Found(await self._fetch_manifest(repository, reference, wanted, access, limit))

        found = await (ask() if fresh else self._tagged.get(key, ask))
        if found.manifest is not None:
            self._manifests.put((repository, found.manifest.digest, access), found.manifest)
        return found.manifest

    async def _fetch_manifest(
        self, repository: Repository, reference: str, wanted: Digest | None, access: Access, limit: int
    ) -> Manifest | None:
        answer = await self._ask(repository, f"manifests/{reference}", limit, access, ACCEPT)
        if answer.status == 404:
            return None
        name = f"{repository}{'@' if wanted else ':'}{reference}"
        # what the bytes are, whatever a header says they are.
        digest = digest_of(answer.body)
        if wanted is not None and digest != wanted:
            raise Rejected(f"{name}: the registry returned other bytes, {digest}")
        claimed = answer.headers.get("Docker-Content-Digest", digest)
        if claimed != digest:
            raise Rejected(f"{name}: the registry says {quote(claimed, 80)} and returned {digest}")
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        try:
            refuse_ambiguous(answer.body, media_type, name)
        except Invalid as e:
            raise Rejected(str(e)) from e
        return Manifest(digest, media_type, answer.body)

    async def blob(self, repository: Repository, blob: Descriptor, limit: int, access: Access) -> bytes | None:
        """See `trust.Registry.blob`."""
        key = (repository, blob.digest, access)

        async def ask() -> _FoundBlob:
            answer = await self._ask(repository, f"blobs/{blob.digest}", min(blob.size, limit), access, {})
            if answer.status == 404:
                return _FoundBlob(None)
            if digest_of(answer.body) != blob.digest:
                raise Rejected(f"{blob.digest[:19]}…: the registry returned other bytes")
            self._blobs.put(key, answer.body)
            return _FoundBlob(answer.body)

        kept = self._blobs.peek(key)
        if kept is None:
            # A signer and an attestation read the same bundles at the same time. Whoever was told another size asks by himself.
            kept = (await self._blob_flights.get((key, blob.size, limit), ask)).body
        if kept is not None and len(kept) != blob.size:
            raise Rejected(f"{blob.digest[:19]}…: {len(kept)} bytes, and its descriptor says {blob.size}")
        return kept

    async def referrers(self, subject: Subject, access: Access) -> Sequence[Descriptor] | None:
        """See `trust.Registry.referrers`."""
        # By repository and login: one that does not exist says nothing about its registry.
        place = (subject.repository, access)
        if self._without_api.peek(place):
            return None

        async def ask() -> _FoundReferrers:
            return _FoundReferrers(await self._fetch_referrers(subject, access))

        found = await self._lists.get((subject.repository, subject.digest, access), ask)
        if found.descriptors is None:
            self._without_api.put(place, value=True)
        return found.descriptors

    async def _fetch_referrers(self, subject: Subject, access: Access) -> tuple[Descriptor, ...] | None:
        path = f"referrers/{subject.digest}"
        found: list[Descriptor] = []
        query: dict[str, str] = {}
        for page in range(limits.MAX_REFERRER_PAGES):
            answer = await self._ask(
                subject.repository, path, limits.MAX_REFERRER_PAGE, access, ACCEPT_INDEX, query, absent=_NO_API
            )
            media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if answer.status != 200 or media_type not in {OCI_INDEX, "application/json"}:
                # A registry without the API; some answer with a page for people.
                return None if page == 0 else tuple(found)
            found += descriptors(answer.body)
            query = next_page(answer.headers.get("Link", ""), path)
            if not query or len(found) > limits.MAX_REFERRERS:
                break
        return tuple(found)

    async def signatures(self, subject: Subject, access: Access) -> bytes | None:
        """See `trust.Registry.signatures`."""
        repository, path = subject.repository, f"signatures/{subject.digest}"

        async def ask() -> _FoundList:
            answer = await self._ask(
                repository, path, limits.MAX_SIGNATURE_LIST, access, {}, absent=_NO_API, api=_SIGNATURES
            )
            return _FoundList(answer.body if answer.status == 200 else None)

        return (await self._signatures.get((repository, subject.digest, access), ask)).body

    # ── asking, with logins ──────────────────────────────────────────────────────────────────────────────────────────
    async def _ask(
        self,
        repository: Repository,
        path: str,
        limit: int,
        access: Access,
        headers: dict[str, str],
        query: dict[str, str] | None = None,
        absent: frozenset[int] = frozenset({404}),
        api: str = "/v2",
    ) -> Answer:
        """A 200, or a status in `absent`. Tries every login, as the kubelet does; raises `Unavailable` for the rest."""
        place = self._location(repository)
        registry = self.settings.current.of(place.registry)
        url = self._transport.url(registry, f"{api}/{place.path}/{path}", query)
        scope = f"repository:{place.path}:pull"
        status, refusal = 0, None
        for credential in access or (None,):
            try:
                answer = await self._logins.get(registry, url, limit, credential, headers, scope)
            except LoginRefused as e:
                refusal = refusal or e
                continue
            status = answer.status
            if status == 200 or status in absent:
                return answer
            if status not in {401, 403}:
                break
        match status:
            case 0 if refusal is not None:
                raise refusal
            case 401 | 403:
                who = "the credentials are refused" if access else "it wants credentials, and none match"
                raise Unavailable(f"{place}: {who} ({status})")
            case _:
                raise Unavailable(f"{place}: the registry answers {status}")

    def _operators_keychain(self, place: Repository) -> DockerConfigKeychain | None:
        host = self.settings.current.of(place.registry)
        if host.dockerconfig is None:
            return None
        return self._operators.setdefault(host, DockerConfigKeychain(host.dockerconfig))


def _size_of_found(found: _Found) -> int:
    return 256 + (len(found.manifest.body) if found.manifest else 0)


@dataclass(frozen=True, slots=True)
class RegistryPort:
    """Implements `trust.Registry` under one keychain."""

    _client: RegistryClient
    _keychain: Keychain

    async def resolve(self, image: ImageReference) -> Resolved:
        """The digest of `image`, from its bytes."""
        return await self._client.resolve(image, await self._access(image.repository))

    async def manifest(self, repository: Repository, reference: str) -> Manifest | None:
        """The manifest or index that a tag or digest names."""
        return await self._client.manifest(repository, reference, await self._access(repository))

    async def blob(self, repository: Repository, blob: Descriptor, limit: int) -> bytes | None:
        """A blob's bytes."""
        return await self._client.blob(repository, blob, limit, await self._access(repository))

    async def referrers(self, subject: Subject) -> Sequence[Descriptor] | None:
        """The referrers API's list, or None where there is no such API."""
        return await self._client.referrers(subject, await self._access(subject.repository))

    async def signatures(self, subject: Subject) -> bytes | None:
        """The list of the signature extension, or None where there is no such extension."""
        return await self._client.signatures(subject, await self._access(subject.repository))

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
        """What lies at a URL."""
        login = None if about is None else await self._client.login_elsewhere(self._keychain, about)
        return await self._client.documents.ask(
            url, limit, insecure_http=insecure_http, ca=ca, login=login, seconds=seconds
        )

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
        """What a service answers."""
        sent = Body(body, media_type)
        return await self._client.documents.ask(url, limit, post=sent, insecure_http=insecure_http, seconds=seconds)

    async def attachments(self, subject: Subject, tag: str) -> Attachments:
        """What a tag names and the referrers, asked for at once."""
        tagged, referrers = await asyncio.gather(
            _ending(self.manifest(subject.repository, tag)), _ending(self.referrers(subject))
        )
        return Attachments(tagged, referrers)

    async def _access(self, repository: Repository) -> Access:
        return await self._client.opened(self._keychain, repository)


async def _ending(answer: Awaitable[T]) -> T | Rejected | Unavailable:
    try:
        return await answer
    except (Rejected, Unavailable) as e:
        return e
    except Invalid as e:
        return Rejected(str(e))
    except TimeoutError:
        return Unavailable("no answer in time")
