"""`trustRoot: public`: the trust root of sigstore's public-good instance, kept up to date by TUF.

Refreshed behind the reviews, in a thread, and only where a policy asks for it; what a review reads is memory. The last good one stays in
force until its own metadata ends. A new root is new material, and so makes a new signer: nothing has to be invalidated.

What is kept beyond the process are the repository's files, and they are believed as little as the repository itself: a replica that starts
takes them through the same workflow, from the same root, before it asks, and one that runs what others have changed.
Source: TUF specification 1.0.34, section 5, "Detailed client workflow".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from webhook.formats._trustroot import parse_trust_root
from webhook.keys.kept import KeptKeys
from webhook.parsing import Invalid, convert, quote, read_json
from webhook.policy.keyref import PublicRoot
from webhook.trust import Rejected, Unavailable, Unresolved

if TYPE_CHECKING:
    from tuf.ngclient.fetcher import FetcherInterface

_log = logging.getLogger(__name__)

URL: Final = "https://tuf-repo-cdn.sigstore.dev"
"""Where sigstore publishes it; a mirror has the same files under another URL."""
_TARGET: Final = "trusted_root.json"
_KEY: Final = PublicRoot()
_WHAT: Final = "the kept files"
_REFRESH_SECONDS: Final = 3600.0
_AGAIN_SECONDS: Final = 60.0
_FIRST_SECONDS: Final = 8.0

Fetch = Callable[[str], Awaitable[bytes | None]]
"""What lies at a URL, at most `limits.MAX_TUF_FILE` bytes; None where nothing does. Raises `Unavailable` or `Rejected`."""


Ask = Callable[[str], bytes | None]
"""The same in the updater's thread, which waits."""


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
    until when TUF vouches for what is there (None: no refresh has succeeded yet). `kept`: what outlives the process; by default nothing.
    """

    def __init__(
        self,
        fetch: Fetch,
        folder: Path,
        now: Callable[[], datetime],
        url: str = URL,
        start: Start | None = None,
        refreshed: Callable[[datetime | None], None] = lambda _: None,
        kept: KeptKeys | None = None,
    ) -> None:
        self._fetch = fetch
        self._folder = folder
        self._now = now
        self._url = url.rstrip("/")
        self._start = start or shipped()
        self._refreshed = refreshed
        self._kept = kept
        self._taken: bytes | None = None
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
        # In this order: what others keep from now on is newer than the answer for all we know, and is taken before the next one.
        turn = 0 if self._kept is None else self._kept.turn(_KEY)
        # Then the versions are known below which no answer counts, and none overwrites what another replica was told.
        await self._take_kept()
        courier = _Courier(self._fetch)
        try:
            self._fresh, files = await asyncio.to_thread(self._update, courier.ask)
            if self._kept is not None:
                self._taken = files
                self._kept.learn(_KEY, files, turn)
        except Unavailable as e:
            self.trouble = str(e)
            # Another replica may have reached it.
            await self._take_kept()
        except Rejected as e:
            self.trouble = self._refused = str(e)
        except OSError as e:
            self.trouble = f"TUF's files cannot be written: {e.strerror or e}"
        else:
            self._refused = self.trouble = None
        finally:
            courier.call_off()

    async def _take_kept(self) -> None:
        """Takes what is kept through TUF's workflow, once for each content; it is nothing new if it is older. Raises nothing: what does not verify, or has ended, is nothing."""
        kept = None if self._kept is None else self._kept.find(_KEY)
        if kept is None or kept.material is None or kept.material == self._taken:
            return
        self._taken = kept.material
        try:
            files = convert(read_json(kept.material, _WHAT), dict[str, bytes], _WHAT)
            fresh, _ = await asyncio.to_thread(self._update, _answering(files))
        except (Invalid, Rejected, Unavailable, OSError) as e:
            _log.warning("sigstore's trust root as it was kept is not in force: %s", e)
            if isinstance(e, OSError):
                # Nothing was found wrong with it.
                self._taken = None
            return
        before, self._fresh = self._fresh, fresh
        if before is not None and before.content == fresh.content:
            return
        _log.warning(
            "sigstore's trust root is in force as it was fetched at %s, until it can be fetched again or ends at %s",
            f"{kept.at:%Y-%m-%dT%H:%M:%SZ}",
            f"{fresh.until:%Y-%m-%dT%H:%M:%SZ}",
        )

    def _update(self, ask: Ask) -> tuple[_Fresh, bytes]:
        """TUF's workflow, in a thread; with the files that it rests on. Raises `Unavailable`, `Rejected` for what does not verify, or OSError."""
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
                _fetcher(ask),
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
        until = min(Metadata.from_file(str(one)).signed.expires for one in metadata.glob("*.json"))
        files = {one.name: one.read_bytes() for one in metadata.glob("*.json") if one.name != "root.json"}
        files |= {one.name: one.read_bytes() for one in (metadata / "root_history").glob("*.root.json")}
        return _Fresh(content, until), msgspec.json.encode({**files, _TARGET: content}, order="sorted")


def _answering(files: Mapping[str, bytes]) -> Ask:
    """A repository with these files, whose names have no versions but those of its roots."""

    def ask(url: str) -> bytes | None:
        name = url.rpartition("/")[2]
        return files.get(name, files.get(name.partition(".")[2]))

    return ask


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


def _fetcher(ask: Ask) -> "FetcherInterface":
    from tuf.api.exceptions import DownloadError, DownloadHTTPError
    from tuf.ngclient.fetcher import FetcherInterface

    class Fetcher(FetcherInterface):
        """What the library fetches through; it adds the bounds of each kind of file."""

        def _fetch(self, url: str) -> Iterator[bytes]:
            try:
                content = ask(url)
            except (Unavailable, Rejected) as e:
                raise DownloadError(str(e)) from e
            if content is None:
                raise DownloadHTTPError(f"{url}: not there", 404)
            return iter((content,))

    return Fetcher()
