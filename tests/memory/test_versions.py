"""The highest versions seen: what came before them is an old state, unless it was on its way already (attack T-01)."""

import pytest

from webhook import limits
from webhook.memory.versions import Versions
from webhook.verdict import Version


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def version(number: int, of: bytes = b"x") -> Version:
    return Version(of, "targets of app", number)


def test_t01_what_is_older_than_the_highest_seen_is_behind() -> None:
    versions = Versions(Clock())
    assert versions.behind([version(1)], versions.moment()) is None
    versions.learn([version(5)])
    versions.learn([version(3)])
    began = versions.moment()
    assert versions.behind([version(4)], began) == "targets of app is version 4, and version 5 has been seen"
    assert versions.behind([version(5)], began) is None
    assert versions.behind([version(6)], began) is None
    assert versions.behind([version(9, b"y"), version(4)], began) is not None
    assert versions.behind([version(1, b"y")], began) is None


def test_t01_what_was_on_its_way_when_a_newer_state_came_is_measured_by_the_one_before() -> None:
    clock = Clock()
    versions = Versions(clock)
    versions.learn([version(5)])
    clock.now = 1
    began = versions.moment()
    clock.now = 2
    versions.learn([version(6)])
    assert versions.behind([version(5)], began) is None
    assert versions.behind([version(4)], began) == "targets of app is version 4, and version 5 has been seen"
    assert versions.behind([version(5)], versions.moment()) is not None


def test_s06_what_is_remembered_is_bounded_and_what_is_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_VERSIONS", 2)
    versions = Versions(Clock())
    versions.learn([version(5, b"kept"), version(5, b"dropped")])
    assert versions.behind([version(4, b"kept")], 0.0) is not None
    versions.learn([version(5, b"new")])
    assert versions.behind([version(4, b"kept")], 0.0) is not None
    assert versions.behind([version(4, b"dropped")], 0.0) is None
