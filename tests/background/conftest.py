"""What all tests of the leader's look at what runs have in common."""

import pytest

from webhook.background import rescan


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine under load a judgement takes longer than the leader waits for it; a test that is about that waits less."""
    monkeypatch.setattr(rescan, "_TICK_SECONDS", 20.0)
