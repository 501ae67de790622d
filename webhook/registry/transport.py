"""HTTP with bounds: bytes counted on the stream, redirects by hand, addresses checked before they are connected to.

It knows nothing of images. Whatever prevents an answer is `Unavailable` and names the cause; only bytes beyond a limit and
encoded bodies are `Rejected`, because those a publisher chooses.
"""

import asyncio
import ipaddress
import os
import random
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import cachetools
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from multidict import CIMultiDictProxy

from webhook import limits
from webhook.image import DOCKER_HUB
from webhook.registry.settings import HostSettings, Settings
from webhook.registry.share import Held, Share
from webhook.trust import BY_REGISTRIES, Rejected, Unavailable

_DOCKER_HUB_API: Final = "registry-1.docker.io"
_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PAUSE_SECONDS: Final = 0.2
_IDENTITY: Final = {"Accept-Encoding": "identity", "User-Agent": "trusted-images"}


@dataclass(frozen=True, slots=True)
class Body:
    """What is posted, and what it is."""

    content: bytes
    media_type: str


Form = Mapping[str, str] | Body
"""The body of a POST: fields of a form, or bytes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said; `body` is complete and within the limit, and of an error only its beginning."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds."""

    connect: float = limits.CONNECT_SECONDS
    request: float = limits.REQUEST_SECONDS


class Refused(OSError):
    """An address that must not be connected to."""


def is_refused(address: str, *, private: bool) -> bool:
    """Whether an address may not be connected to. `private`: loopback and private networks may be.

    Forms that carry an IPv4 address inside an IPv6 one are judged by the IPv4 address (attack S-05).
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or _nat64(ip) or ip
    never = ip.is_link_local or ip.is_multicast or ip.is_unspecified
    return never or not (private or (ip.is_global and not any(ip in network for network in _SPECIAL)))


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Internal by their definition, and global to some versions of the library: RFC 8215, 3879, 4291 §2.5.5.1, 7526.
_SPECIAL: Final = (
    ipaddress.IPv6Network("64:ff9b:1::/48"),
    ipaddress.IPv6Network("fec0::/10"),
    ipaddress.IPv6Network("::/96"),
    ipaddress.IPv4Network("192.88.99.0/24"),
)


def _nat64(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None


class _CheckedResolver(AbstractResolver):
    """Resolves names to those of their addresses that may be connected to; the connection uses these and no others."""

    def __init__(self, allows: Callable[[str, int, str], bool]) -> None:
        self._inner = ThreadedResolver()
        self._allows = allows

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [result for result in found if self._allows(host, port, result["host"])]
        if not allowed:
            raise Refused(f"{host} has an internal address")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


class Transport:
    """One HTTP client for all registries. `observe` is told the host and status of every answer, 0 for none."""

    def __init__(
        self,
        settings: Settings,
        *,
        private_addresses: bool = False,
        observe: Callable[[str, int], None] = lambda _host, _status: None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._private = private_addresses
        self._observe = observe
        self._timeouts = timeouts or Timeouts()
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[Path | None, tuple[float, ssl.SSLContext]] = {}
        self._given: cachetools.LRUCache[bytes, ssl.SSLContext] = cachetools.LRUCache(limits.MAX_AUTHORITIES)
        # Hosts are named by Pods, so what is kept of them is bounded.
        self._rests_until: cachetools.LRUCache[str, float] = cachetools.LRUCache(limits.MAX_TOKENS)
        self._requests = Share("requests", limits.MAX_FETCHES, limits.MAX_WAITING_PER_REGISTRY)
        self._bytes = Share("bytes", limits.MAX_READING, limits.MAX_READING_PER_REGISTRY)
        # An operator's proxy is asked to connect for us; its own address is theirs to choose.
        self._proxies = {
            yarl.URL(url).host
            for url in urllib.request.getproxies().values()
            if url.startswith(("http://", "https://"))
        }

    def url(self, registry: HostSettings, path: str, query: Mapping[str, str] | None = None) -> yarl.URL:
        """The address of `path` on a registry."""
        host = _DOCKER_HUB_API if registry.host == DOCKER_HUB else registry.host
        scheme = "http" if registry.plain_http else "https"
        return yarl.URL(f"{scheme}://{host}{path}", encoded=True).with_query(query or {})

    async def get(
        self,
        registry: HostSettings,
        url: yarl.URL,
        limit: int,
        *,
        headers: Mapping[str, str] | None = None,
        form: Form | None = None,
    ) -> Answer:
        """The answer to a GET (with `form`: a POST), after bounded retries and redirects; any status but those retried.

        Raises `Unavailable` if there is none, `Rejected` if the body is longer than `limit` bytes or encoded.
        """
        host = registry.host
        if self._rests_until.get(host, 0.0) > self._clock():
            left = self._rests_until[host] - self._clock()
            raise Unavailable(f"{host}: has asked to be left alone for {left:.0f} s more", retry_after=left)
        with self._requests.holding(host) as held:
            held.add(1)
            kind = {"Content-Type": form.media_type} if isinstance(form, Body) else {}
            return await self._tried(registry, url, limit, {**(headers or {}), **kind}, form)

    async def _tried(
        self,
        registry: HostSettings,
        url: yarl.URL,
        limit: int,
        headers: Mapping[str, str],
        form: Form | None,
    ) -> Answer:
        tries = 0
        while True:
            tries += 1
            try:
                answer = await self._redirected(registry, url, limit, headers, form)
            except _Broken as e:
                if tries > limits.MAX_RETRIES:
                    raise Unavailable(str(e)) from e
            else:
                if answer.status not in _RETRIED:
                    return answer
                pause = _retry_after(answer.headers.get("Retry-After"))
                if answer.status == 429 or pause > _PAUSE_SECONDS:
                    self._rests_until[registry.host] = self._clock() + pause
                if tries > limits.MAX_RETRIES or pause > _PAUSE_SECONDS:
                    raise Unavailable(f"{registry.host}: answers {answer.status}", retry_after=pause or None)
            await asyncio.sleep(random.uniform(_PAUSE_SECONDS / 4, _PAUSE_SECONDS))  # noqa: S311 - spreads load

    async def _redirected(
        self,
        registry: HostSettings,
        url: yarl.URL,
        limit: int,
        headers: Mapping[str, str],
        form: Form | None,
    ) -> Answer:
        origin, seen = url.origin(), 0
        while True:
            sent = {**_IDENTITY, **headers}
            # A login is for the host it was made for, and for nobody it points to (attack S-02).
            if url.origin() != origin:
                sent.pop("Authorization", None)
            answer = await self._once(registry, url, limit, sent, form)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or location is None:
                return answer
            seen += 1
            if seen > limits.MAX_REDIRECTS:
                raise Unavailable(f"{registry.host}: more than {limits.MAX_REDIRECTS} redirects")
            if form is not None:
                raise Unavailable(f"{registry.host}: redirects what is posted to it, which is refused")
            try:
                target = url.join(yarl.URL(location))
            except ValueError as e:
                raise Unavailable(f"{registry.host}: redirects to no URL") from e
            if target.scheme not in {"http", "https"} or target.host is None or target.user is not None:
                raise Unavailable(f"{registry.host}: redirects to an address that is refused")
            if url.scheme == "https" and target.scheme != "https":
                raise Unavailable(f"{registry.host}: redirects from https to http, which is refused")
            if target.scheme == "http" and target.origin() != origin and not self.of(target).plain_http:
                raise Unavailable(f"{registry.host}: redirects to another host without TLS, which is refused")
            url = target

    def of(self, url: yarl.URL) -> HostSettings:
        """The settings of whatever host a URL names."""
        default = 443 if url.scheme == "https" else 80
        host = url.host or ""
        name = f"[{host}]" if ":" in host else host
        return self._settings.current.of(name if url.port == default else f"{name}:{url.port}")

    async def _once(
        self,
        registry: HostSettings,
        url: yarl.URL,
        limit: int,
        headers: Mapping[str, str],
        form: Form | None,
    ) -> Answer:
        host = url.host or ""
        self._refuse_literal(host, url)
        timeout = aiohttp.ClientTimeout(total=self._timeouts.request, sock_connect=self._timeouts.connect)
        status = 0
        try:
            async with self._client().request(
                "GET" if form is None else "POST",
                url,
                data=form.content if isinstance(form, Body) else form,
                headers=headers,
                allow_redirects=False,
                timeout=timeout,
                ssl=self._tls(registry, url),
            ) as response:
                status = response.status
                with self._bytes.holding(registry.host) as held:
                    body = await _read(response, limit if status == 200 else limits.MAX_ERROR_BODY, host, held)
                return Answer(status, response.headers, body)
        except (Rejected, Unavailable):
            raise
        except TimeoutError as e:
            raise Unavailable(f"{host}: no answer within {self._timeouts.request:.0f} s") from e
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise _cause(e, host) from e
        finally:
            self._observe(registry.host, status)

    def _tls(self, registry: HostSettings, url: yarl.URL) -> ssl.SSLContext:
        """A policy's authority is for the host it was given for, and for nobody it points to."""
        if registry.authority is not None and self.of(url).host == registry.host:
            return self._context_of(registry.authority)
        return self._context(self._ca(registry, url))

    def _context_of(self, authority: bytes) -> ssl.SSLContext:
        """The same, made of the certificates that a policy holds."""
        context = self._given.get(authority)
        if context is None:
            try:
                context = self._given[authority] = ssl.create_default_context(cadata=authority.decode("ascii"))
            except (ValueError, ssl.SSLError) as e:
                raise Unavailable("the certificate authority of the policy cannot be used") from e
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _ca(self, registry: HostSettings, url: yarl.URL) -> Path | None:
        """The private authority of the host that is really asked, a token service or a redirect's target included."""
        asked = self.of(url)
        same = url.host == (_DOCKER_HUB_API if registry.host == DOCKER_HUB else self.url(registry, "/").host)
        return asked.ca or (registry.ca if same else None)

    def _refuse_literal(self, host: str, url: yarl.URL) -> None:
        """An address instead of a name is not resolved, so it is checked here."""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return
        if is_refused(host, private=True):
            raise Unavailable(f"{host}: is an address that is never asked")
        if not self._allows(host, url.port or 0, host):
            raise Unavailable(f"{host}: is an internal address; an operator can allow it {BY_REGISTRIES}")

    def _allows(self, host: str, port: int, address: str) -> bool:
        if host in self._proxies or not is_refused(address, private=self._private):
            return True
        if is_refused(address, private=True):
            # Link-local and the like: whoever may name hosts may not name these (cloud metadata).
            return False
        settings = self._settings.current
        name = f"[{host}]" if ":" in host else host
        return settings.of(f"{name}:{port}").configured or (port in {80, 443} and settings.of(name).configured)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_CheckedResolver(self._allows),
                limit=0,
                limit_per_host=limits.MAX_FETCHES_PER_REGISTRY,
                ttl_dns_cache=10,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=True,
                max_line_size=limits.MAX_HEADER_FIELD,
                max_field_size=limits.MAX_HEADER_FIELD,
            )
        return self._session

    def _context(self, ca: Path | None) -> ssl.SSLContext:
        """Verifying, TLS 1.2 or newer; made anew when the authority's file changes."""
        try:
            changed = os.stat(ca).st_mtime if ca else 0.0  # noqa: PTH116 - follows links, as reading does
            kept = self._contexts.get(ca)
            if kept is None or kept[0] != changed:
                context = ssl.create_default_context(cafile=ca)
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                kept = self._contexts[ca] = (changed, context)
        except (OSError, ssl.SSLError) as e:
            raise Unavailable(f"the certificate authority {ca} cannot be read, which stands {BY_REGISTRIES}") from e
        return kept[1]

    async def close(self) -> None:
        """Ends all connections."""
        if self._session is not None:
            await self._session.close()


class _Broken(Exception):
    """A connection that failed in a way that a second try may mend."""


def _cause(error: Exception, host: str) -> Exception:
    """What to raise for a library's error: worth another try or not, and in words that name the cause."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
            return Unavailable(f"{host}: its TLS certificate is refused: {reason}")
        case aiohttp.ClientConnectorSSLError() | aiohttp.ClientSSLError() | ssl.SSLError():
            return Unavailable(f"{host}: no TLS connection (is it a plain HTTP registry?)")
        case aiohttp.ClientConnectorError(os_error=Refused()):
            return Unavailable(f"{host}: has an internal address; an operator can allow it {BY_REGISTRIES}")
        case aiohttp.ClientConnectorDNSError():
            return Unavailable(f"{host}: its name cannot be resolved")
        case aiohttp.ClientConnectorError():
            return _Broken(f"{host}: {error.os_error.strerror or 'cannot be connected to'}")
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | aiohttp.ClientPayloadError():
            return _Broken(f"{host}: the connection broke")
        case aiohttp.ClientResponseError():
            return Unavailable(f"{host}: answers in no way that HTTP allows")
        case _:
            return Unavailable(f"{host}: {type(error).__name__}")


async def _read(response: aiohttp.ClientResponse, limit: int, host: str, held: Held) -> bytes:
    """The whole body, counted as it comes; of an error no more than `limit` bytes."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Rejected(f"{host}: an encoded body, which was not asked for")
    is_error = response.status != 200
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        held.add(len(chunk))
        if len(body) > limit:
            # Nothing more of this connection is wanted.
            response.close()
            if is_error:
                return bytes(body[:limit])
            raise Rejected(f"{host}: an answer of more than {limit} bytes")
    return bytes(body)


def _retry_after(text: str | None) -> float:
    """Seconds that a `Retry-After` asks for, bounded; a date, or nothing, is a short while."""
    if text is not None and text.isascii() and text.isdigit():
        return min(float(text[:6]), limits.MAX_BACK_OFF)
    return 0.0
