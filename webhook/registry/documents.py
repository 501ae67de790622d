"""What signatures need from elsewhere than a registry: lookaside stores, notary servers, revocation lists and responders.

No login of any registry is ever shown to such a place, and internal addresses are refused unless the operator named the host:
some of these URLs stand in certificates, which anybody may write.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

import yarl

from webhook import limits
from webhook.memory.cache import Memo
from webhook.parsing import quote
from webhook.registry.transport import Body, Transport
from webhook.trust import Rejected, Unavailable

_ABSENT: Final = frozenset({404})


@dataclass(frozen=True, slots=True)
class _Found:
    """A look-up's answer, so that absence can be remembered too."""

    body: bytes | None


class Documents:
    """Asks for documents at URLs; equal questions are asked once, and answers kept for as long as a tag."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._kept: Memo[_Found] = Memo(
            limits.TAG_SECONDS, limits.MAX_BLOB_MEMORY, size=lambda found: 256 + len(found.body or b"")
        )

    async def ask(
        self,
        url: str,
        limit: int,
        *,
        post: Body | None = None,
        insecure_http: bool = False,
        absent: frozenset[int] = _ABSENT,
    ) -> bytes | None:
        """See `trust.Registry.get` and `post`. `absent`: statuses that say that there is nothing.

        Raises `Unavailable`, or `Rejected` for a URL that is none.
        """
        target = _parse(url)
        host = self._transport.of(target)
        if target.scheme == "http" and not (insecure_http or host.plain_http):
            raise Rejected(f"{quote(url, 120)}: plain HTTP; an operator can allow it for the host in registries.yaml")

        async def fetch() -> _Found:
            answer = await self._transport.get(host, target, limit, form=post)
            if answer.status != 200 and answer.status not in absent:
                raise Unavailable(f"{quote(url, 120)}: answers {answer.status}")
            return _Found(answer.body if answer.status == 200 else None)

        key: Hashable = (target, limit, post, absent)
        return (await self._kept.get(key, fetch)).body


def _parse(url: str) -> yarl.URL:
    try:
        target = yarl.URL(url)
    except ValueError as e:
        raise Rejected(f"{quote(url, 120)}: not a URL") from e
    if target.scheme not in {"http", "https"} or not target.host or target.user is not None:
        raise Rejected(f"{quote(url, 120)}: not a URL of http or https without a login")
    return target.with_fragment(None)
