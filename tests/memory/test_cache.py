"""`Memo`: equal questions share one flight, only answers are kept, and no one's giving up costs the others theirs."""

import asyncio

import pytest

from webhook import limits
from webhook.memory.cache import Memo, jittered


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Counts how often it is asked; answers when told to."""

    def __init__(self, answer: str = "answer", failure: Exception | None = None) -> None:
        self.asked = 0
        self.go = asyncio.Event()
        self._answer = answer
        self._failure = failure

    async def __call__(self) -> str:
        self.asked += 1
        await self.go.wait()
        if self._failure:
            raise self._failure
        return self._answer


async def test_a_hundred_equal_questions_are_one_flight() -> None:
    memo: Memo[str] = Memo(10, 100)
    source = Source()
    waiting = [asyncio.create_task(memo.get("k", source)) for _ in range(100)]
    await asyncio.sleep(0)
    source.go.set()
    assert set(await asyncio.gather(*waiting)) == {"answer"}
    assert await memo.get("k", source) == "answer"
    assert source.asked == 1
    assert memo.peek("k") == "answer"


async def test_an_error_reaches_all_who_waited_and_is_not_kept() -> None:
    memo: Memo[str] = Memo(10, 100)
    source = Source(failure=OSError("down"))
    source.go.set()
    answers = await asyncio.gather(*(memo.get("k", source) for _ in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["down"] * 3
    assert memo.peek("k") is None
    with pytest.raises(OSError, match="down"):
        await memo.get("k", source)
    assert source.asked == 2


async def test_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    memo: Memo[str] = Memo(10, 100)
    source = Source()
    impatient = asyncio.create_task(memo.get("k", source))
    patient = asyncio.create_task(memo.get("k", source))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    source.go.set()
    assert await patient == "answer"
    assert source.asked == 1


async def test_a_flight_nobody_waits_for_still_lands() -> None:
    memo: Memo[str] = Memo(10, 100)
    source = Source()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await memo.get("k", source)
    source.go.set()
    await asyncio.sleep(0.01)
    assert memo.peek("k") == "answer"


async def test_an_abandoned_error_is_not_reported_by_the_event_loop() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    memo: Memo[str] = Memo(10, 100)
    source = Source(failure=OSError("down"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await memo.get("k", source)
    source.go.set()
    await asyncio.sleep(0.01)
    assert complaints == []


async def test_d07_a_flight_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLIGHT_SECONDS", 0.01)
    memo: Memo[str] = Memo(10, 100)
    with pytest.raises(TimeoutError):
        await memo.get("k", Source())
    # Another one may start.
    source = Source("second")
    source.go.set()
    assert await memo.get("k", source) == "second"


async def test_a_cancelled_flight_is_not_asked_for_its_error() -> None:
    memo: Memo[str] = Memo(10, 100)
    waiting = asyncio.create_task(memo.get("k", Source()))
    await asyncio.sleep(0)
    (flight,) = (task for task in asyncio.all_tasks() if "_fly" in repr(task))
    flight.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_flights_end_with_what_they_ask_also_those_that_have_not_begun() -> None:
    memo: Memo[str] = Memo(10, 100)
    source = Source()
    waiting = [asyncio.create_task(memo.get(k, source)) for k in ("a", "b")]
    await asyncio.sleep(0)
    before = asyncio.all_tasks()
    await memo.close()
    assert len(before - asyncio.all_tasks()) >= 2
    for one in waiting:
        with pytest.raises(asyncio.CancelledError):
            await one
    # And whoever asks again is not told of a flight that is no more.
    source.go.set()
    assert await memo.get("a", source) == "answer"


def test_answers_expire_each_after_its_own_time() -> None:
    clock = Clock()
    memo: Memo[str] = Memo(lambda answer: {"short": 1, "long": 5, "never": 0}[answer], 100, clock=clock)
    for answer in ("short", "long", "never"):
        memo.put(answer, answer)
    assert [memo.peek(a) for a in ("short", "long", "never")] == ["short", "long", None]
    clock.now = 2
    assert [memo.peek(a) for a in ("short", "long")] == [None, "long"]
    clock.now = 6
    assert memo.peek("long") is None


def test_s06_the_number_of_answers_is_bounded_and_the_least_used_goes_first() -> None:
    memo: Memo[int] = Memo(100, 3)
    for i in range(3):
        memo.put(i, i)
    assert memo.peek(0) == 0
    memo.put(3, 3)
    assert [memo.peek(i) for i in range(4)] == [0, None, 2, 3]
    assert len(memo) == 3


def test_s06_the_size_of_answers_is_bounded_and_one_too_large_is_not_kept() -> None:
    memo: Memo[bytes] = Memo(100, 10, size=len)
    memo.put("a", b"12345")
    memo.put("b", b"123456")
    assert memo.peek("a") is None
    assert memo.peek("b") == b"123456"
    memo.put("c", b"x" * 11)
    assert memo.peek("c") is None


def test_what_is_forgotten_is_asked_again() -> None:
    memo: Memo[str] = Memo(100, 10)
    memo.put("k", "v")
    memo.forget("k")
    memo.forget("k")
    assert memo.peek("k") is None


def test_jitter_stays_between_its_bounds() -> None:
    values = {jittered(5, 30) for _ in range(100)}
    assert len(values) > 50
    assert all(5 <= value <= 30 for value in values)
