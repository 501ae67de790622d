"""`https://…#sha256=…`: a document on the Web, fetched once. The hash makes it ours; the server decides nothing.

Fetched as registries are: bounded, with no login, from no internal address that the operator has not named (attack S-05).
"""

import hashlib
from collections.abc import Awaitable, Callable

from webhook import limits
from webhook.policy.keyref import UrlKey
from webhook.trust import Rejected, Unavailable

Ask = Callable[[str, int], Awaitable[bytes | None]]
"""What lies at a URL, at most so many bytes; None if nothing does. Raises `Unavailable` or `Rejected`."""


class HttpsKeys:
    """Implements `remote.Source`."""

    seconds = None

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def fetch(self, key: UrlKey) -> bytes:
        """The document that the policy means. Raises `Unavailable` for anything else: the server has no say in what that is."""
        try:
            found = await self._ask(key.url, limits.MAX_KEY_MATERIAL)
        except Rejected as e:
            raise Unavailable(str(e)) from e
        except TimeoutError as e:
            raise Unavailable("no answer in time") from e
        if found is None:
            raise Unavailable("nothing is there (404)")
        sha256 = hashlib.sha256(found).hexdigest()
        if sha256 != key.sha256:
            raise Unavailable(f"its SHA-256 is {sha256}, and the policy wants {key.sha256}")
        return found
