"""What is shared among registries: no one takes all of it, and all of it comes back (S-06, D-07)."""

import pytest

from webhook.registry.share import Share
from webhook.trust import Unavailable


def test_s06_all_registries_together_are_bounded() -> None:
    share = Share("bytes", 10, 6)
    with share.holding("a") as a, share.holding("b") as b:
        a.add(6)
        b.add(4)
        with pytest.raises(Unavailable, match="4 bytes are under way already, 10 in all"):
            b.add(1)
        with pytest.raises(Unavailable), share.holding("c") as c:
            c.add(1)
    with share.holding("c") as c:
        c.add(6)


def test_d07_one_registry_has_its_part_and_gives_it_back_after_a_failure() -> None:
    share = Share("requests", 10, 2)

    def fails() -> None:
        with share.holding("a") as held:
            held.add(2)
            with pytest.raises(Unavailable):
                held.add(1)
            raise ValueError("broken")

    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            fails()
    assert not share._held
    assert share._total == 0
