"""The public trust root: what is in force while TUF answers, does not answer, or answers wrongly (faults F16 to F18, attacks T)."""

import asyncio
import datetime as dt
import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from msgspec import json

from tests import captures
from tests.fake.sigstore import Sigstore
from tests.fake.tuf import DAY, URL, TufRepository, now
from webhook.formats._trustroot import parse_trust_root
from webhook.keys import kept as packing
from webhook.keys import publicgood
from webhook.keys.kept import KeptKeys
from webhook.keys.publicgood import Fetch, PublicGood, Start
from webhook.keys.remote import RemoteKeys
from webhook.policy.keyref import PublicRoot
from webhook.trust import Rejected, Unavailable, Unresolved

NEW = Sigstore().trusted_root().encode()
NEWER = Sigstore().trusted_root().encode()
SHIPPED = Sigstore().trusted_root().encode()


class World:
    def __init__(self, folder: Path) -> None:
        self.repository = TufRepository()
        self.repository.publish(NEW)
        self.folder = folder
        self.ahead = dt.timedelta()
        self.root = self.made()

    def made(self, shipped: bytes | None = SHIPPED, url: str = URL) -> PublicGood:
        start = Start(self.repository.first_root, shipped)
        return PublicGood(self.repository.fetch, self.folder, lambda: now() + self.ahead, url, start)

    def reason(self) -> str:
        found = self.root.read()
        assert isinstance(found, Unresolved)
        return found.reason


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_what_tuf_vouches_for_is_in_force(world: World) -> None:
    assert world.root.read() == SHIPPED
    await world.root.refresh()
    assert world.root.read() == NEW
    assert world.root.trouble is None
    assert world.root.fresh_until is not None
    world.repository.publish(NEWER)
    assert world.root.read() == NEW
    await world.root.refresh()
    assert world.root.read() == NEWER


async def test_nothing_new_costs_two_requests(world: World) -> None:
    await world.root.refresh()
    world.repository.asked.clear()
    await world.root.refresh()
    assert [path for path in world.repository.asked if not path.startswith("targets/")] == [
        "2.root.json",
        "timestamp.json",
    ]


def down(error: Exception) -> Callable[[str], "asyncio.Future[bytes | None]"]:
    async def fetch(_url: str) -> bytes | None:
        raise error

    return fetch  # type: ignore[return-value]  # a coroutine is awaited as a future is


@pytest.mark.parametrize(
    "error", [Unavailable("tuf.test: cannot be connected to"), Rejected("tuf.test: an answer of more than 5 bytes")]
)
async def test_f16_a_repository_that_cannot_be_read_leaves_what_is_there(world: World, error: Exception) -> None:
    world.root._fetch = down(error)
    await world.root.refresh()
    assert world.root.read() == SHIPPED
    assert world.root.trouble == str(error)
    assert world.root.fresh_until is None
    # With nothing shipped there is nothing, and that is undecided, not a refusal.
    world.root = world.made(shipped=None)
    assert world.reason() == "sigstore's trust root: it has not been fetched yet"
    world.root._fetch = down(error)
    await world.root.refresh()
    assert world.reason() == f"sigstore's trust root: {error}"


async def test_f16_the_last_good_one_is_kept_while_its_metadata_lasts(world: World) -> None:
    await world.root.refresh()
    world.root._fetch = down(Unavailable("down"))
    world.ahead = 7 * DAY - dt.timedelta(minutes=1)
    await world.root.refresh()
    assert world.root.read() == NEW
    assert world.root.trouble == "down"


async def test_f17_t06_metadata_that_ended_is_not_in_force_a_second_longer(world: World) -> None:
    await world.root.refresh()
    until = world.root.fresh_until
    assert until is not None
    world.ahead = until - now() - dt.timedelta(seconds=30)
    assert world.root.read() == NEW
    world.ahead += dt.timedelta(seconds=30)
    assert world.reason().startswith("sigstore's trust root: its TUF metadata ended at 20")
    # A new answer heals it, without a restart.
    world.repository.expires = dict.fromkeys(("timestamp", "snapshot", "targets", "root"), now() + 30 * DAY)
    world.repository.root.version += 1
    world.repository.publish_root()
    world.repository.publish(NEWER)
    await world.root.refresh()
    assert world.root.read() == NEWER


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
async def test_f17_t06_a_repository_that_answers_with_what_has_ended(world: World, role: str) -> None:
    world.repository.expires = {role: now() - dt.timedelta(seconds=1)}
    world.repository.publish(NEWER)
    await world.root.refresh()
    # Somebody answers, and holds back what is new: what was shipped is no way out.
    assert "expired" in world.reason()
    # An outage does not bring it back.
    fetch, world.root._fetch = world.root._fetch, down(Unavailable("down"))
    await world.root.refresh()
    assert "expired" in world.reason()
    world.root._fetch = fetch
    world.repository.expires = {}
    world.repository.publish(NEWER)
    await world.root.refresh()
    assert world.root.read() == NEWER


async def test_t06_an_ended_root(world: World) -> None:
    world.repository.expires = {"root": now() - dt.timedelta(seconds=1)}
    world.repository.root.version += 1
    world.repository.publish_root()
    await world.root.refresh()
    assert "expired" in world.reason()
    # One that is followed by another has done its duty.
    world.repository.expires = {}
    world.repository.root.version += 1
    world.repository.publish_root()
    await world.root.refresh()
    assert world.root.read() == NEW


async def test_f18_t01_older_metadata_does_not_come_back(world: World) -> None:
    old = dict(world.repository.files)
    world.repository.publish(NEWER)
    await world.root.refresh()
    world.repository.files = old
    await world.root.refresh()
    assert world.root.read() == NEWER
    assert "must be >= 2" in (world.root.trouble or "")


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json"])
async def test_f18_t03_metadata_that_was_changed(world: World, name: str) -> None:
    content = world.repository.files[name]
    for changed in (
        b"{}",
        b"",
        b"not json",
        content.replace(b'"version":1', b'"version":2'),
        content[:-20],
        b"[]" * 9,
    ):
        world.repository.files[name] = changed
        root = world.made()
        await root.refresh()
        assert isinstance(root.read(), Unresolved), changed
    world.repository.files[name] = content
    await world.root.refresh()
    assert world.root.read() == NEW


async def test_f18_t03_a_target_that_is_another(world: World) -> None:
    [name] = [path for path in world.repository.files if path.startswith("targets/")]
    for changed in (NEWER, NEW[:-1], NEW + b" ", NEW[:-1] + b" "):
        world.repository.files[name] = changed
        world.root = world.made()
        await world.root.refresh()
        assert world.reason().startswith(f"sigstore's trust root: {URL}: "), changed


async def test_a_target_that_is_no_trust_root_is_not_in_force(world: World) -> None:
    world.repository.publish(b'{"mediaType":"x"}')
    await world.root.refresh()
    assert "trusted_root.json.mediaType: not that of a trust root" in world.reason()
    world.root = world.made()
    world.repository.publish(NEW, "another.json")
    await world.root.refresh()
    assert "it has no target trusted_root.json" in world.reason()


async def test_t08_a_new_root_key_takes_over_only_with_the_old_ones_word(world: World) -> None:
    world.repository.rotate_root()
    world.repository.publish(NEWER)
    await world.root.refresh()
    assert world.root.read() == NEWER
    world.repository.rotate_root(signed_by_old=False)
    root = world.made()
    await root.refresh()
    assert isinstance(root.read(), Unresolved)


async def test_t08_versions_of_the_root_have_no_gap(world: World) -> None:
    world.repository.rotate_root(gap=2)
    world.repository.publish(NEWER)
    await world.root.refresh()
    # The second one is not there, so the first counts, whose keys have signed the rest.
    assert world.root.read() == NEWER
    assert "3.root.json" not in world.repository.asked


async def test_t02_a_key_counts_once(world: World) -> None:
    repository = TufRepository()
    repository.root.roles["timestamp"].threshold = 2
    first = repository.publish_root()
    repository.publish(NEW)
    root = PublicGood(repository.fetch, world.folder, now, URL, Start(first, SHIPPED))
    await root.refresh()
    found = root.read()
    assert isinstance(found, Unresolved)
    assert "was signed by 1/2 keys" in found.reason


async def test_t08_another_repositorys_root_is_nobodys(world: World) -> None:
    other = TufRepository()
    other.publish(NEWER)
    root = PublicGood(other.fetch, world.folder, now, URL, Start(world.repository.first_root, SHIPPED))
    await root.refresh()
    assert isinstance(root.read(), Unresolved)


async def test_t04_names_of_files_lead_nowhere_else(world: World) -> None:
    await world.root.refresh()
    assert {path.name for path in world.folder.iterdir()} == {"metadata", "targets"}
    assert all(".." not in path for path in world.repository.asked)


async def test_nobody_is_asked_where_no_url_is_given(world: World) -> None:
    assert await world.made(url="").fetch(PublicRoot()) == SHIPPED
    assert world.repository.asked == []


async def test_nobody_is_asked_before_a_policy_asks(world: World) -> None:
    told: list[dt.datetime | None] = []
    world.root._refreshed = told.append
    remote = RemoteKeys({PublicRoot: world.root})
    await remote.look_first(())
    assert world.repository.asked == []
    assert isinstance(remote.read(PublicRoot()), Unresolved)
    await remote.look_first({PublicRoot()})
    assert remote.read(PublicRoot()) == NEW
    assert told == [world.root.fresh_until]
    # Looked at often, the repository asked seldom.
    asked = len(world.repository.asked)
    assert await world.root.fetch(PublicRoot()) == NEW
    assert len(world.repository.asked) == asked
    world.root._due = 0.001
    world.repository.publish(NEWER)
    assert await world.root.fetch(PublicRoot()) == NEW
    async with asyncio.timeout(5):
        while await world.root.fetch(PublicRoot()) != NEWER:
            await asyncio.sleep(0.01)


async def test_what_has_ended_is_noticed_where_it_is_held(world: World) -> None:
    remote = RemoteKeys({PublicRoot: world.root})
    await remote.look_first({PublicRoot()})
    world.ahead = 8 * DAY
    changed = asyncio.Event()
    following = asyncio.create_task(remote.follow(lambda: {PublicRoot()}, lambda _: changed.set()))
    await asyncio.wait_for(changed.wait(), 5)
    assert isinstance(remote.read(PublicRoot()), Unresolved)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_f16_a_repository_that_hangs_keeps_nobody_waiting_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publicgood, "_FIRST_SECONDS", 0.05)

    async def never(_url: str) -> bytes | None:
        await asyncio.sleep(3600)
        return None

    world.root._fetch = never
    async with asyncio.timeout(2):
        assert await world.root.fetch(PublicRoot()) == SHIPPED
        assert await world.root.fetch(PublicRoot()) == SHIPPED
    refreshing = world.root._refreshing
    assert refreshing is not None
    refreshing.cancel()
    await asyncio.gather(refreshing, return_exceptions=True)


async def test_a_refresh_that_fails_is_told_and_tried_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    told: list[dt.datetime | None] = []
    world.root._refreshed = told.append
    fetch, world.root._fetch = world.root._fetch, down(Unavailable("tuf.test: cannot be connected to"))
    assert await world.root.fetch(PublicRoot()) == SHIPPED
    assert "sigstore's trust root could not be refreshed: tuf.test: cannot be connected to" in caplog.text
    assert told == [None]
    assert 50 < world.root._due - asyncio.get_running_loop().time() <= 60
    world.root._fetch, world.root._due = fetch, 0.0
    assert await world.root.fetch(PublicRoot()) == NEW
    assert 3500 < world.root._due - asyncio.get_running_loop().time() <= 3600


async def test_a_refresh_that_nobody_waits_for_ends_its_thread(world: World) -> None:
    asked = asyncio.Event()

    async def never(_url: str) -> bytes | None:
        asked.set()
        await asyncio.sleep(3600)
        return None

    world.root._fetch = never
    before = threading.active_count()
    refreshing = asyncio.create_task(world.root.refresh())
    await asyncio.wait_for(asked.wait(), 10)
    refreshing.cancel()
    await asyncio.gather(refreshing, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
    assert threading.active_count() <= before + 1


async def test_f35_where_nothing_can_be_written_what_is_there_stays(world: World) -> None:
    (world.folder / "metadata").write_text("a file where a folder is wanted")
    await world.root.refresh()
    assert world.root.read() == SHIPPED
    assert "TUF's files cannot be written: File exists" in (world.root.trouble or "")


# ── over a restart of all replicas ───────────────────────────────────────────────────────────────────────────────────


class Restarts:
    """Replicas one after the other, each with nothing but what is kept of the one before, and with a clock `ahead`."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.folders = (folder / str(number) for number in itertools.count())
        self.ahead = dt.timedelta()
        self.kept = KeptKeys(lambda: now() + self.ahead)

    def starts(self, fetch: Fetch | None = None, start: Start | None = None, url: str = URL) -> PublicGood:
        """Another replica. `fetch`: how the repository answers; rightly if nothing is said."""
        kept = KeptKeys(lambda: now() + self.ahead)
        kept.want({PublicRoot()})
        kept.merge(packing.read(packing.write(self.kept.next())[0]))
        self.kept = kept
        folder = next(self.folders)
        folder.mkdir()
        start = start or Start(self.world.repository.first_root, SHIPPED)
        fetch = fetch or self.world.repository.fetch
        return PublicGood(fetch, folder, lambda: now() + self.ahead, url, start, kept=kept)


@pytest.fixture
def restarts(tmp_path: Path) -> Restarts:
    return Restarts(tmp_path)


OUTAGE = down(Unavailable("tuf.test: cannot be connected to"))


async def test_f16_what_was_fetched_counts_after_all_replicas_restarted_while_nobody_answers(
    restarts: Restarts, caplog: pytest.LogCaptureFixture
) -> None:
    await restarts.starts().refresh()
    root = restarts.starts(OUTAGE)
    assert await root.fetch(PublicRoot()) == NEW
    assert root.fresh_until is not None
    assert caplog.text.count("sigstore's trust root is in force as it was fetched at 20") == 1
    # Not a second longer than TUF vouches for it (T-06), and the clock is no way out.
    restarts.ahead = root.fresh_until - now()
    assert isinstance(root.read(), Unresolved)
    # And again after the next restart; what was kept is as it was.
    restarts.ahead = dt.timedelta()
    root = restarts.starts(OUTAGE)
    await root.refresh()
    assert root.read() == NEW
    # The repository, once it answers, says what counts.
    root._fetch = restarts.world.repository.fetch
    restarts.world.repository.publish(NEWER)
    await root.refresh()
    assert root.read() == NEWER
    root = restarts.starts(OUTAGE)
    await root.refresh()
    assert root.read() == NEWER


async def test_f16_a_repository_that_hangs_keeps_nobody_from_what_was_kept(
    restarts: Restarts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await restarts.starts().refresh()
    monkeypatch.setattr(publicgood, "_FIRST_SECONDS", 2)

    async def never(_url: str) -> bytes | None:
        await asyncio.sleep(3600)
        return None

    root = restarts.starts(never)
    assert await root.fetch(PublicRoot()) == NEW
    assert root._refreshing is not None
    root._refreshing.cancel()
    await asyncio.gather(root._refreshing, return_exceptions=True)


async def test_f16_rotated_roots_are_kept_with_it(restarts: Restarts) -> None:
    restarts.world.repository.rotate_root()
    restarts.world.repository.publish(NEWER)
    await restarts.starts().refresh()
    root = restarts.starts(OUTAGE)
    await root.refresh()
    assert root.read() == NEWER
    # Begun with a root that is newer than the one before: what leads there is not needed.
    root = restarts.starts(OUTAGE, Start(restarts.world.repository.files["2.root.json"], SHIPPED))
    await root.refresh()
    assert root.read() == NEWER


async def test_t06_f17_what_was_kept_and_has_ended_is_not_in_force(restarts: Restarts) -> None:
    restarts.world.repository.expires = {"timestamp": now() + dt.timedelta(seconds=2)}
    restarts.world.repository.publish(NEWER)
    await restarts.starts().refresh()
    await asyncio.sleep(2.1)
    root = restarts.starts(OUTAGE)
    await root.refresh()
    # As it was without anything kept: nobody has confirmed anything since this version was made.
    assert root.read() == SHIPPED


async def test_t01_f18_older_metadata_does_not_come_back_after_a_restart(restarts: Restarts) -> None:
    old = dict(restarts.world.repository.files)
    restarts.world.repository.publish(NEWER)
    await restarts.starts().refresh()
    restarts.world.repository.files = old
    root = restarts.starts()
    await root.refresh()
    assert root.read() == NEWER
    assert "must be >= 2" in (root.trouble or "")
    # Nor is it what is kept from then on.
    root = restarts.starts(OUTAGE)
    await root.refresh()
    assert root.read() == NEWER


@pytest.mark.parametrize("ahead", [dt.timedelta(), dt.timedelta(hours=1)])
async def test_t01_f18_a_replica_that_is_shown_older_metadata_writes_it_over_nothing_newer(
    restarts: Restarts, ahead: dt.timedelta
) -> None:
    """Also by the files of one whose clock is ahead: they have their own end."""
    repository = restarts.world.repository
    old = dict(repository.files)

    async def frozen(url: str) -> bytes | None:
        return old.get(url.removeprefix(f"{URL}/"))

    # It began when nothing was kept yet.
    shown, shown_kept = restarts.starts(frozen), restarts.kept
    await shown.refresh()
    assert shown.read() == NEW
    repository.publish(NEWER)
    restarts.kept = KeptKeys(now)
    restarts.ahead = ahead
    await restarts.starts().refresh()
    secret = packing.read(packing.write(restarts.kept.next())[0])
    restarts.ahead = dt.timedelta()
    # The Secret is read each minute, the repository each hour.
    shown_kept.merge(secret)
    await shown.refresh()
    assert shown.read() == NEWER
    assert "must be >= 2" in (shown.trouble or "")
    assert not shown_kept.is_changed
    restarts.kept = shown_kept
    fresh = restarts.starts(frozen)
    await fresh.refresh()
    assert fresh.read() == NEWER


async def test_f18_older_files_that_somebody_keeps_unseat_nothing_and_are_written_over(
    restarts: Restarts, caplog: pytest.LogCaptureFixture
) -> None:
    await restarts.starts().refresh()
    older = packing.read(packing.write(restarts.kept.next())[0])
    restarts.world.repository.publish(NEWER)
    root = restarts.starts()
    await root.refresh()
    secret = packing.read(packing.write(restarts.kept.next())[0])
    restarts.kept.wrote(secret, secret)
    # The Secret was deleted, and made anew by one that is shown older ones.
    restarts.kept.merge({})
    restarts.kept.merge(older)
    await root.refresh()
    assert root.read() == NEWER
    assert "as it was kept is not in force" in caplog.text
    assert restarts.kept.is_changed
    root = restarts.starts(OUTAGE)
    await root.refresh()
    assert root.read() == NEWER


async def test_f35_what_was_kept_is_taken_when_files_can_be_written_again(restarts: Restarts) -> None:
    await restarts.starts().refresh()
    root = restarts.starts(OUTAGE)
    blocked = root._folder / "metadata"
    blocked.write_text("a file where a folder is wanted")
    await root.refresh()
    assert root.read() == SHIPPED
    blocked.unlink()
    await root.refresh()
    assert root.read() == NEW


async def test_t08_m05_what_another_root_vouches_for_is_not_taken_from_the_secret(
    restarts: Restarts, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever writes the Secret writes a repository, and no more: `Restarts` reads what it finds."""
    await restarts.starts().refresh()
    other = TufRepository()
    other.publish(NEWER)
    root = restarts.starts(OUTAGE, Start(other.first_root, SHIPPED))
    await root.refresh()
    assert root.read() == SHIPPED
    assert "sigstore's trust root as it was kept is not in force" in caplog.text
    # A file in it that was changed, as a server could: target, timestamp, or what is no file.
    good = restarts.kept.find(PublicRoot())
    assert good is not None
    assert good.material is not None
    files = json.decode(good.material, type=dict[str, bytes])
    for changed in (
        json.encode(files | {"trusted_root.json": NEWER}),
        json.encode(files | {"timestamp.json": files["timestamp.json"].replace(b'"version":1', b'"version":2')}),
        json.encode({name: content for name, content in files.items() if name != "snapshot.json"}),
        json.encode([]),
        b"garbage",
    ):
        restarts.kept.merge({PublicRoot(): replace(good, material=changed)})
        root = restarts.starts(OUTAGE)
        await root.refresh()
        assert root.read() == SHIPPED
    restarts.kept.merge({PublicRoot(): good})
    root = restarts.starts(OUTAGE)
    await root.refresh()
    assert root.read() == NEW


async def test_m05_the_files_are_kept_and_never_the_root_that_was_shipped(restarts: Restarts) -> None:
    keys = RemoteKeys({PublicRoot: restarts.starts(OUTAGE)}, kept=restarts.kept)
    await keys.look([PublicRoot()])
    assert keys.read(PublicRoot()) == SHIPPED
    assert restarts.kept.find(PublicRoot()) is None
    keys = RemoteKeys({PublicRoot: restarts.starts()}, kept=restarts.kept)
    await keys.look([PublicRoot()])
    assert keys.read(PublicRoot()) == NEW
    kept = restarts.kept.find(PublicRoot())
    assert kept is not None
    assert kept.material is not None
    names = {"1.root.json", "timestamp.json", "snapshot.json", "targets.json", "trusted_root.json"}
    assert json.decode(kept.material, type=dict[str, bytes]).keys() == names


async def test_nothing_that_was_kept_counts_where_nobody_is_to_be_asked(restarts: Restarts) -> None:
    await restarts.starts().refresh()
    assert await restarts.starts(url="").fetch(PublicRoot()) == SHIPPED


async def test_f16_what_another_replica_fetched_counts_where_nobody_answers(restarts: Restarts) -> None:
    cut_off = restarts.starts(OUTAGE)
    kept = restarts.kept
    await cut_off.refresh()
    assert cut_off.read() == SHIPPED
    restarts.kept = KeptKeys(now)
    await restarts.starts().refresh()
    kept.merge(restarts.kept.next())
    await cut_off.refresh()
    assert cut_off.read() == NEW


def test_what_is_shipped_is_what_sigstore_python_ships() -> None:
    folder = resources.files("sigstore") / "_store" / "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev"
    shipped = publicgood.shipped()
    assert shipped.tuf_root == (folder / "root.json").read_bytes()
    assert shipped.trust_root == (folder / "trusted_root.json").read_bytes() == captures.PUBLIC_ROOT


def test_the_public_trust_root_is_read_in_full() -> None:
    root = parse_trust_root(captures.PUBLIC_ROOT, "root")
    assert [log.identity.hex()[:8] for log in root.logs] == ["c0d23d6a", "cf119915"]
    assert (len(root.authorities), len(root.certificate_logs), len(root.timestamp_authorities)) == (2, 2, 1)
    assert len(root.anchors) == 2
