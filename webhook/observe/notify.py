"""A short message to an address that the operator chose: a chat's or a pager's incoming webhook.

Best effort, bounded in time and size, behind the answer. Addresses of this kind are secrets, so they are in no log line.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import yarl

from webhook import limits
from webhook.parsing import Invalid

_log = logging.getLogger(__name__)


def parse_notify_url(text: str) -> yarl.URL:
    """The address that `text` is. Raises `Invalid`, which does not repeat it."""
    try:
        url = yarl.URL(text)
    except ValueError as e:
        raise Invalid("not a URL") from e
    if url.scheme not in {"http", "https"} or not url.host:
        raise Invalid("not a URL of http or https")
    return url


class Notifier:
    """POSTs JSON to one address."""

    def __init__(self, url: yarl.URL, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def send(self, message: Mapping[str, object]) -> None:
        """Sends `message`, once. Whatever comes of it is logged and nothing else; redirects are not followed."""
        try:
            async with self._session.post(self._url, json=message, allow_redirects=False) as response:
                if response.status >= 300:
                    _log.warning("the notification was not taken: %s answers %d", self._url.host, response.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            _log.warning("the notification was not sent: %s: %s", self._url.host, type(e).__name__)


@asynccontextmanager
async def notifying(url: yarl.URL | None) -> AsyncIterator[Notifier | None]:
    """Who sends to `url`, until the block ends; None where nobody is to be told."""
    if url is None:
        yield None
        return
    timeout = aiohttp.ClientTimeout(total=limits.NOTIFY_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
        yield Notifier(url, session)
