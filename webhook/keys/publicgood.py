"""`trustRoot: public`: the trust root of sigstore's public-good instance, kept up to date by TUF.

Refreshed behind the reviews, in a thread, and only where a policy asks for it; what a review reads is memory. The last good one stays in
force until its own metadata ends. A new root is new material, and so makes a new signer: nothing has to be invalidated.
Source: TUF specification 1.0.34, section 5, "Detailed client workflow".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from webhook.formats._trustroot import parse_trust_root
from webhook.parsing import Invalid, quote
from webhook.policy.keyref import PublicRoot
from webhook.trust import Rejected, Unavailable, Unresolved

if TYPE_CHECKING:
    from tuf.ngclient.fetcher import FetcherInterface

_log = logging.getLogger(__name__)

URL: Final = "https://tuf-repo-cdn.sigstore.dev"
"""Where sigstore publishes it; a mirror has the same files under another URL."""
_TARGET: Final = "trusted_root.json"
_REFRESH_SECONDS: Final = 3600.0
_AGAIN_SECONDS: Final = 60.0
_FIRST_SECONDS: Final = 8.0

Fetch = Callable[[str], Awaitable[bytes | None]]
"""What lies at a URL, at most `limits.MAX_TUF_FILE` bytes; None where nothing does. Raises `Unavailable` or `Rejected`."""


@dataclass(frozen=True, slots=True)
class Start:
    """What to begin with: a TUF root that is trusted without proof, and the trust root of its repository as it was then, if known."""

    tuf_root: bytes
    trust_root: bytes | None = None


def shipped() -> Start:
    """What this version brings along."""
    folder = resources.files("webhook.keys") / "sigstore"
    return Start((folder / "root.json").read_bytes(), (folder / "trusted_root.json").read_bytes())


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A trust root that TUF vouches for until its metadata ends. Aware."""

    content: bytes
    until: datetime


class PublicGood:
    """The trust root as it is now, a `remote.Source`. `url` empty: nobody is asked, and what it began with stays.

    `folder` is for TUF's files, which keep older metadata from coming back while the process lives. `refreshed` is told after each try
    until when TUF vouches for what is there (None: no refresh has succeeded yet).
    """

    def __init__(
        self,
        fetch: Fetch,
        folder: Path,
        now: Callable[[], datetime],
        url: str = URL,
        start: Start | None = None,
        refreshed: Callable[[datetime | None], None] = lambda _: None,
    ) -> None:
        self._fetch = fetch
        self._folder = folder
        self._now = now
        self._url = url.rstrip("/")
        self._start = start or shipped()
        self._refreshed = refreshed
        self._fresh: _Fresh | None = None
        self._refused: str | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._due = 0.0
        self.trouble: str | None = None
        """Why the last refresh failed, for people; None if it succeeded or there was none."""

    @property
    def seconds(self) -> float:
        """Often, because the answer can change by time alone; the repository is asked far more seldom."""
        return 1.0

    @property
    def fresh_until(self) -> datetime | None:
        """Until when TUF vouches for it; None as long as no refresh has succeeded."""
        return self._fresh.until if self._fresh else None

    async def fetch(self, _key: PublicRoot) -> bytes | Unresolved:
        """What is in force now. The first time it waits a little for a refresh, later for nothing."""
        clock = asyncio.get_running_loop().time()
        if self._url and self._refreshing is None and clock >= self._due:
            is_first = not self._due
            self._refreshing = asyncio.create_task(self._refresh_in_turn())
            if is_first:
                await asyncio.wait({self._refreshing}, timeout=_FIRST_SECONDS)
        return self.read()

    def read(self) -> bytes | Unresolved:
        """What is in force now."""
        if self._fresh is not None:
            # No grace: whoever can hold back new metadata could otherwise keep a root alive that was replaced (attack T-06).
            if self._now() < self._fresh.until:
                return self._fresh.content
            return Unresolved(
                f"sigstore's trust root: its TUF metadata ended at {self._fresh.until:%Y-%m-%dT%H:%M:%SZ}"
            )
        if self._refused is not None:
            # Somebody answers, and not rightly: that outweighs what nobody has confirmed since it was shipped.
            return Unresolved(f"sigstore's trust root: {self._refused}")
        if self._start.trust_root is None:
            return Unresolved(f"sigstore's trust root: {self.trouble or 'it has not been fetched yet'}")
        return self._start.trust_root

    async def _refresh_in_turn(self) -> None:
        try:
            await self.refresh()
            self._refreshed(self.fresh_until)
            if self.trouble is not None:
                _log.error("sigstore's trust root could not be refreshed: %s", self.trouble)
        finally:
            pause = _AGAIN_SECONDS if self.trouble else _REFRESH_SECONDS
            self._due = asyncio.get_running_loop().time() + pause
            self._refreshing = None

    async def refresh(self) -> None:
        """Asks the repository once; what it says is in force afterwards if TUF vouches for it. Raises nothing."""
        courier = _Courier(self._fetch)
        try:
            self._fresh = await asyncio.to_thread(self._update, courier)
        except Unavailable as e:
            self.trouble = str(e)
        except Rejected as e:
            self.trouble = self._refused = str(e)
        except OSError as e:
            self.trouble = f"TUF's files cannot be written: {e.strerror or e}"
        else:
            self._refused = self.trouble = None
        finally:
            courier.call_off()

    def _update(self, courier: "_Courier") -> _Fresh:
        """TUF's workflow, in a thread. Raises `Unavailable`, `Rejected` for what does not verify, or OSError."""
        from tuf.api.exceptions import DownloadError, DownloadLengthMismatchError, RepositoryError
        from tuf.api.metadata import Metadata
        from tuf.ngclient.updater import Updater

        metadata, targets = self._folder / "metadata", self._folder / "targets"
        try:
            for folder in (metadata, targets):
                folder.mkdir(exist_ok=True)
            updater = Updater(
                str(metadata),
                self._url,
                str(targets),
                f"{self._url}/targets",
                _fetcher(courier),
                bootstrap=self._start.tuf_root,
            )
            updater.refresh()
            target = updater.get_targetinfo(_TARGET)
            if target is None:
                raise Rejected(f"{self._url}: it has no target {_TARGET}")
            content = Path(updater.download_target(target)).read_bytes()
            parse_trust_root(content, _TARGET)
        except (RepositoryError, DownloadLengthMismatchError, Invalid) as e:
            raise Rejected(f"{self._url}: {quote(e)}") from e
        except DownloadError as e:
            raise Unavailable(quote(e)) from e
        # Whatever vouched for it, delegated roles included, was written there after it had been verified.
        return _Fresh(content, min(Metadata.from_file(str(one)).signed.expires for one in metadata.glob("*.json")))


class _Courier:
    """Carries questions from the updater's thread to the event loop, and is called off when nobody waits for it any more."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._loop = asyncio.get_running_loop()
        self._asked: Future[bytes | None] | None = None
        self._is_called_off = False

    def ask(self, url: str) -> bytes | None:
        """See `Fetch`; in the thread."""
        self._asked = asyncio.run_coroutine_threadsafe(self._answer(url), self._loop)
        if self._is_called_off:
            self._asked.cancel()
        try:
            return self._asked.result()
        except CancelledError as e:
            raise Unavailable("called off") from e

    async def _answer(self, url: str) -> bytes | None:
        return await self._fetch(url)

    def call_off(self) -> None:
        """Ends what the thread waits for, so that it ends too."""
        self._is_called_off = True
        if self._asked is not None:
            self._asked.cancel()


def _fetcher(courier: _Courier) -> "FetcherInterface":
    from tuf.api.exceptions import DownloadError, DownloadHTTPError
    from tuf.ngclient.fetcher import FetcherInterface

    class Fetcher(FetcherInterface):
        """What the library fetches through; it adds the bounds of each kind of file."""

        def _fetch(self, url: str) -> Iterator[bytes]:
            try:
                content = courier.ask(url)
            except (Unavailable, Rejected) as e:
                raise DownloadError(str(e)) from e
            if content is None:
                raise DownloadHTTPError(f"{url}: not there", 404)
            return iter((content,))

    return Fetcher()
