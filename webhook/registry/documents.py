"""What signatures need from elsewhere than a registry: lookaside stores, notary servers, revocation lists and responders.

Internal addresses are refused unless the operator named the host: some of these URLs stand in certificates, which anybody may
write. A login is shown to the registry's own host at the most, and never where a policy's own authority says who that is.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from typing import Final

import yarl

from webhook import limits
from webhook.memory.cache import Memo
from webhook.parsing import quote
from webhook.registry.auth import LoginRefused
from webhook.registry.settings import HostSettings
from webhook.registry.transport import Answer, Body, Transport
from webhook.trust import BY_REGISTRIES, Access, Credential, Rejected, Unavailable

Authorized = Callable[[HostSettings, yarl.URL, int, Credential | None, dict[str, str], str], Awaitable[Answer]]
"""Asks with one login or none, answering a challenge with a token for the scope."""


@dataclass(frozen=True, slots=True)
class Login:
    """What is shown to a service that asks: a token for `scope`, and `access` if it is on `registry`'s own host."""

    scope: str
    registry: str
    access: Access


_ABSENT: Final = frozenset({404})


@dataclass(frozen=True, slots=True)
class _Found:
    """A look-up's answer, so that absence can be remembered too."""

    body: bytes | None


class Documents:
    """Asks for documents at URLs; equal questions are asked once, and answers kept for as long as a tag."""

    def __init__(self, transport: Transport, authorized: Authorized) -> None:
        self._transport = transport
        self._authorized = authorized
        self._kept: Memo[_Found] = Memo(
            limits.TAG_SECONDS, limits.MAX_BLOB_MEMORY, size=lambda found: 256 + len(found.body or b"")
        )

    async def close(self) -> None:
        """Ends what is on its way."""
        await self._kept.close()

    async def ask(
        self,
        url: str,
        limit: int,
        *,
        post: Body | None = None,
        insecure_http: bool = False,
        ca: bytes | None = None,
        login: Login | None = None,
        seconds: float | None = None,
        absent: frozenset[int] = _ABSENT,
    ) -> bytes | None:
        """See `trust.Registry.get` and `post`. `absent`: statuses that say that there is nothing.

        Raises `Unavailable`, or `Rejected` for a URL that is none.
        """
        target = _parse(url)
        host = self._transport.of(target)
        if target.scheme == "http" and not (insecure_http or host.plain_http):
            raise Rejected(f"{quote(url, 120)}: plain HTTP; an operator can allow it for the host {BY_REGISTRIES}")
        # Whoever chose the authority could read what is sent.
        access = login.access if login is not None and ca is None and login.registry == host.host else ()
        host = host if ca is None else replace(host, authority=ca)

        async def fetch() -> _Found:
            answer = await self._asked(host, target, limit, post, login, access)
            if answer.status != 200 and answer.status not in absent:
                raise Unavailable(f"{quote(url, 120)}: answers {answer.status}")
            return _Found(answer.body if answer.status == 200 else None)

        key: Hashable = (target, limit, post, ca, login and login.scope, access, absent)
        try:
            async with asyncio.timeout(seconds):
                return (await self._kept.get(key, fetch)).body
        except TimeoutError as e:
            raise Unavailable(f"{quote(url, 120)}: no answer in time") from e

    async def _asked(
        self, host: HostSettings, target: yarl.URL, limit: int, post: Body | None, login: Login | None, access: Access
    ) -> Answer:
        if login is None:
            return await self._transport.get(host, target, limit, form=post)
        for credential in access:
            with contextlib.suppress(LoginRefused):
                answer = await self._authorized(host, target, limit, credential, {}, login.scope)
                if answer.status not in {401, 403}:
                    return answer
        return await self._authorized(host, target, limit, None, {}, login.scope)


def _parse(url: str) -> yarl.URL:
    try:
        target = yarl.URL(url)
    except ValueError as e:
        raise Rejected(f"{quote(url, 120)}: not a URL") from e
    if target.scheme not in {"http", "https"} or not target.host or target.user is not None:
        raise Rejected(f"{quote(url, 120)}: not a URL of http or https without a login")
    return target.with_fragment(None)
