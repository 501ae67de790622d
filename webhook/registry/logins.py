"""Asking with a login: challenges answered, tokens fetched, kept and brought along.

Whom a login may be shown to is `auth`'s to say. Source: distribution, "Token Authentication Specification".
"""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

import cachetools
import yarl
from msgspec import Struct

from webhook import limits
from webhook.memory.cache import Memo
from webhook.parsing import Invalid, convert, read_json
from webhook.registry import auth
from webhook.registry.auth import Challenge, LoginRefused
from webhook.registry.settings import HostSettings, Settings
from webhook.registry.transport import Answer, Transport
from webhook.trust import BY_REGISTRIES, Credential, Unavailable

_TOKEN_SECONDS: Final = 60.0


class _Token(Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float = _TOKEN_SECONDS


@dataclass(frozen=True, slots=True)
class _KeptToken:
    header: str
    seconds: float


class Logins:
    """What is known of how registries want to be asked, and the tokens that they gave; for one process."""

    def __init__(self, settings: Settings, transport: Transport, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._transport = transport
        # Hosts are named by Pods, so what is kept of them is bounded.
        self._challenges: cachetools.LRUCache[HostSettings, Challenge | None] = cachetools.LRUCache(limits.MAX_TOKENS)
        self._first: cachetools.LRUCache[HostSettings, asyncio.Lock] = cachetools.LRUCache(limits.MAX_TOKENS)
        self._tokens: Memo[_KeptToken] = Memo(lambda token: token.seconds, limits.MAX_TOKENS, clock=clock)

    async def close(self) -> None:
        """Ends what is on its way."""
        await self._tokens.close()

    async def get(
        self,
        registry: HostSettings,
        url: yarl.URL,
        limit: int,
        credential: Credential | None,
        headers: dict[str, str],
        scope: str,
    ) -> Answer:
        """The answer to one request with one login. A challenge is remembered, so that later requests bring their token at once.

        A 401 is an answer; raises `LoginRefused` and `Unavailable`.
        """

        async def send() -> Answer:
            authorization = await self._authorization(registry, scope, credential)
            sent = headers if authorization is None else {**headers, "Authorization": authorization}
            return await self._transport.get(registry, url, limit, headers=sent)

        if registry not in self._challenges:
            # One request of many at once meets the challenge; the others wait, and bring their token.
            async with self._first.setdefault(registry, asyncio.Lock()):
                if registry not in self._challenges:
                    answer = await send()
                    self._challenges[registry] = self._challenge_in(answer, registry)
                    if answer.status != 401:
                        return answer
        answer = await send()
        if answer.status != 401:
            return answer
        # The challenge has changed, or a token has ended early: once more, and no further.
        self._challenges[registry] = self._challenge_in(answer, registry)
        self._tokens.forget(_token_key(registry, scope, credential))
        return await send()

    def _challenge_in(self, answer: Answer, registry: HostSettings) -> Challenge | None:
        if answer.status != 401:
            return None
        return auth.parse_challenge(answer.headers.getall("WWW-Authenticate", []), registry.host)

    async def _authorization(self, registry: HostSettings, scope: str, credential: Credential | None) -> str | None:
        challenge = self._challenges.get(registry)
        if challenge is None:
            return None
        if challenge.realm is None:
            usable = credential is not None and not credential.identity_token
            return auth.basic(credential) if usable and credential is not None else None
        key = _token_key(registry, scope, credential)
        token = await self._tokens.get(key, lambda: self._fetch_token(registry, challenge, scope, credential))
        return token.header

    async def _fetch_token(
        self, registry: HostSettings, challenge: Challenge, scope: str, credential: Credential | None
    ) -> _KeptToken:
        url = auth.token_url(challenge, scope, self._settings.current, registry)
        form, headers = None, {}
        if credential is not None:
            if not auth.may_see(url, registry):
                raise Unavailable(
                    f"{registry.host}: its token service {auth.realm_host(url)} is another host; to log in there, an operator"
                    f" adds `realms: [{auth.realm_host(url)}]` to it {BY_REGISTRIES}"
                )
            if credential.identity_token:
                form = {
                    "grant_type": "refresh_token",
                    "service": challenge.service,
                    "client_id": "trusted-images",
                    "scope": scope,
                    "refresh_token": credential.password,
                }
                url = url.with_query(None)
            else:
                headers["Authorization"] = auth.basic(credential)
        answer = await self._transport.get(registry, url, limits.MAX_TOKEN, headers=headers, form=form)
        if answer.status != 200:
            who = "refuses the credentials" if credential is not None else "gives no token to strangers"
            kind = LoginRefused if answer.status in {400, 401, 403} else Unavailable
            raise kind(f"{registry.host}: its token service {who} ({answer.status})")
        try:
            token = convert(read_json(answer.body, "token"), _Token, "token")
        except Invalid as e:
            raise Unavailable(f"{registry.host}: its token service's answer cannot be read") from e
        text = token.token or token.access_token
        if not text or not text.isascii() or not text.isprintable():
            raise Unavailable(f"{registry.host}: its token service's answer holds no token")
        return _KeptToken(f"Bearer {text}", max(token.expires_in, _TOKEN_SECONDS) * 0.9)


def _token_key(registry: HostSettings, scope: str, credential: Credential | None) -> Hashable:
    return registry, scope, credential
