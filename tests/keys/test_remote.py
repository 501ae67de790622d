"""Keys outside the cluster: asked for in the background, again when they are due, and kept through outages."""

import asyncio
import logging
from dataclasses import dataclass, field

import pytest

from webhook import limits
from webhook.keys.remote import RemoteKeys
from webhook.policy.keyref import RemoteKey, UrlKey
from webhook.policy.pkcs11uri import TokenKey
from webhook.trust import Unavailable, Unresolved

A, B = UrlKey("https://keys.example/a", "0" * 64), UrlKey("https://keys.example/b", "1" * 64)
TOKEN = TokenKey(label="signer")


@dataclass
class Shelf:
    """A source that has what it is given. An exception is raised, an event waited for."""

    seconds: float | None = None
    held: dict[RemoteKey, bytes | Unresolved | Exception | asyncio.Event] = field(default_factory=dict)
    asked: list[RemoteKey] = field(default_factory=list)

    async def fetch(self, key: RemoteKey) -> bytes | Unresolved:
        self.asked.append(key)
        found = self.held.get(key, Unresolved("gone"))
        if isinstance(found, asyncio.Event):
            await found.wait()
            return b"late"
        if isinstance(found, Exception):
            raise found
        return found


class World:
    def __init__(self, seconds: float | None = None) -> None:
        self.shelf = Shelf(seconds)
        self.now = 1000.0
        self.keys = RemoteKeys({UrlKey: self.shelf}, lambda: self.now)

    async def look(self, *wanted: RemoteKey) -> frozenset[RemoteKey]:
        return await self.keys.look(wanted)


async def test_what_was_read_once_and_for_good_is_not_asked_for_again() -> None:
    world = World()
    world.shelf.held[A] = b"key"
    assert world.keys.read(A) == Unresolved("https://keys.example/a: it has not been read yet")
    assert await world.look(A) == {A}
    world.now += 1e9
    assert await world.look(A) == frozenset()
    assert world.keys.read(A) == b"key"
    assert world.shelf.asked == [A]


async def test_what_may_change_is_read_again_when_it_is_due() -> None:
    world = World(seconds=30)
    world.shelf.held[A] = b"key"
    await world.look(A)
    world.now += 29
    assert await world.look(A) == frozenset()
    assert len(world.shelf.asked) == 1
    world.now += 1
    assert await world.look(A) == frozenset()
    assert len(world.shelf.asked) == 2
    world.shelf.held[A] = b"other"
    world.now += 30
    assert await world.look(A) == {A}
    assert world.keys.read(A) == b"other"


async def test_f25_a_key_that_is_missing_is_asked_for_less_and_less_often_and_heals() -> None:
    world = World()
    await world.look(A)
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        asked = len(world.shelf.asked)
        world.now += pause - 0.1
        await world.look(A)
        assert len(world.shelf.asked) == asked, pause
        world.now += 0.1
        await world.look(A)
        assert len(world.shelf.asked) == asked + 1, pause
    world.shelf.held[A] = b"key"
    world.now += limits.MAX_KEY_PAUSE
    assert await world.look(A) == {A}


async def test_f25_an_outage_changes_no_key_and_its_end_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    world = World(seconds=30)
    world.shelf.held[A] = Unavailable("no answer")
    assert await world.look(A) == {A}
    assert world.keys.read(A) == Unresolved("https://keys.example/a: no answer")
    world.shelf.held[A] = b"key"
    world.now += 1
    await world.look(A)
    world.shelf.held[A] = Unavailable("no answer")
    world.now += 30
    assert await world.look(A) == frozenset()
    assert world.keys.read(A) == b"key"
    assert "key https://keys.example/a could not be read: no answer" in caplog.text
    # A source that answers, and has it no more, is no outage.
    world.shelf.held[A] = Unresolved("gone")
    world.now += 1
    assert await world.look(A) == {A}
    assert world.keys.read(A) == Unresolved("gone")


async def test_what_nobody_wants_any_more_is_forgotten() -> None:
    world = World()
    world.shelf.held[A] = b"key"
    await world.look(A, B)
    await world.look(B)
    assert isinstance(world.keys.read(A), Unresolved)
    await world.look(A)
    assert world.shelf.asked == [A, B, A]


async def test_a_kind_that_nobody_reads_is_unresolved() -> None:
    world = World()
    await world.look(TOKEN)
    assert world.keys.read(TOKEN) == Unresolved("pkcs11:object=signer: not supported here")


async def test_v02_an_error_of_ours_leaves_its_key_undecided(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.shelf.held |= {A: RuntimeError("a bug"), B: b"key"}
    with caplog.at_level(logging.ERROR):
        await world.look(A, B)
    assert world.keys.read(A) == Unresolved("https://keys.example/a: an error of the webhook, which stands in its log")
    assert world.keys.read(B) == b"key"
    assert "a bug" in caplog.text


async def test_a_start_waits_for_no_source_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_KEYS_SECONDS", 0.05)
    world = World()
    world.shelf.held |= {A: asyncio.Event(), B: b"key"}
    await world.keys.look_first([A, B])
    assert isinstance(world.keys.read(A), Unresolved)
    assert world.keys.read(B) == b"key"


async def test_d07_a_source_that_hangs_keeps_no_other_key_waiting() -> None:
    world = World()
    hanging = asyncio.Event()
    world.shelf.held |= {A: hanging, B: b"key"}
    wanted: set[RemoteKey] = {A}
    changes: list[RemoteKey] = []
    told = asyncio.Event()

    def changed(keys: frozenset[RemoteKey]) -> None:
        changes.extend(keys)
        told.set()

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        following = tasks.create_task(world.keys.follow(lambda: wanted, changed))
        await asyncio.sleep(0)
        # A policy that comes later and names another key has it at once.
        wanted.add(B)
        world.keys.read(B)
        await told.wait()
        assert changes == [B]
        told.clear()
        hanging.set()
        await told.wait()
        assert changes == [B, A]
        assert world.shelf.asked == [A, B]
        following.cancel()
    assert world.keys.read(A) == b"late"
