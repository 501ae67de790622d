"""Many writes to the API server: bounded, stopped by none that fails, and stopped by its own word (F-33)."""

import asyncio

import pytest

from webhook import limits
from webhook.kube import KubeError
from webhook.kube.writes import Writes


class Lab:
    """What is written, and how. `errors`: what becomes of some of it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.writes = Writes(lambda: self.now)
        self.errors: dict[int, Exception] = {}
        self.asked: list[int] = []
        self.ended: list[int] = []
        self.at_once = self.most = 0

    async def write(self, name: int) -> None:
        self.asked.append(name)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(0)
            if name in self.errors:
                raise self.errors[name]
            self.ended.append(name)
        finally:
            self.at_once -= 1

    async def each(self, count: int = 100) -> dict[int, Exception]:
        self.asked.clear()
        return await self.writes.each(range(count), self.write)


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def test_all_are_written_in_their_order_and_no_more_than_so_many_at_once(lab: Lab) -> None:
    assert await lab.each() == {}
    assert lab.asked == list(range(100))
    assert lab.most == limits.MAX_WRITES_AT_ONCE
    assert await lab.each(0) == {}
    assert lab.asked == []


async def test_f33_one_that_fails_stops_no_other(lab: Lab) -> None:
    lab.errors = {3: KubeError("403 forbidden", 403), 50: KubeError("409 changed", 409), 51: KubeError("500", 500)}
    assert await lab.each() == lab.errors
    assert sorted(lab.ended) == [one for one in range(100) if one not in lab.errors]


async def test_f33_an_error_of_ours_stops_no_other_and_is_told_once(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.errors = {3: KeyError("a bug")}
    for _ in range(3):
        assert await lab.each() == lab.errors
        assert len(lab.asked) == 100
        assert not lab.writes.is_paused
    (told,) = caplog.records
    assert (told.levelname, told.getMessage()) == ("ERROR", "3 could not be written")
    assert "KeyError: 'a bug'" in caplog.text
    # It is mended, and comes again.
    lab.errors.clear()
    assert await lab.each() == {}
    lab.errors[3] = KeyError("another")
    await lab.each()
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (KubeError("429 too many requests", 429, 7), 7),
        (KubeError("429 too many requests", 429), limits.KUBE_PAUSE),
        (KubeError("503 apiserver is shutting down", 503, 5), 5),
        (KubeError("no answer"), limits.KUBE_PAUSE),
    ],
)
async def test_f33_an_api_server_with_too_much_to_do_is_left_alone(lab: Lab, error: KubeError, seconds: float) -> None:
    lab.errors = {0: error}
    assert await lab.each() == {0: error}
    # What was under way ends; nothing else is begun.
    assert lab.asked == list(range(limits.MAX_WRITES_AT_ONCE))
    lab.errors = {}
    lab.now += seconds - 0.1
    assert (await lab.each(), lab.asked, lab.writes.is_paused) == ({}, [], True)
    lab.now += 0.1
    await lab.each()
    assert (len(lab.asked), lab.writes.is_paused) == (100, False)


async def test_the_longest_pause_counts(lab: Lab) -> None:
    lab.errors = {0: KubeError("429", 429, 30), 1: KubeError("429", 429, 1)}
    await lab.each()
    lab.now += 29
    assert lab.writes.is_paused


async def test_f29_whoever_leads_no_longer_writes_no_more(lab: Lab) -> None:
    stuck = asyncio.Event()
    begun: list[int] = []
    left: list[int] = []

    async def write(name: int) -> None:
        begun.append(name)
        try:
            await stuck.wait()
        finally:
            left.append(name)

    task = asyncio.create_task(lab.writes.each(range(100), write))
    while len(begun) < limits.MAX_WRITES_AT_ONCE:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # All have ended before it did, and none was begun since.
    assert begun == list(range(limits.MAX_WRITES_AT_ONCE))
    assert sorted(left) == begun
