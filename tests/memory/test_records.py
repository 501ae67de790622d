"""Records of what was verified: the newest counts, nobody crowds out another, and text is read strictly (attacks M-05, M-02)."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.captures import NOW
from webhook import limits
from webhook.image import digest_of
from webhook.memory.records import OWNER, SHARDS, Record, RecordKey, Records, read, surplus, write
from webhook.parsing import Invalid

MINUTE = dt.timedelta(minutes=1)


def named(number: int, owner: bytes = b"shop") -> RecordKey:
    return RecordKey(digest_of(b"%d" % number), owner.ljust(OWNER, b"\0") + b"what")


def known(records: Records) -> set[RecordKey]:
    return {key for shard in range(SHARDS) for key in records.of(shard)}


def test_the_newest_counts_and_of_one_moment_the_denial() -> None:
    records = Records()
    good, bad = Record(NOW), Record(NOW, good=False)
    for order in ((good, bad), (bad, good)):
        for one in order:
            records.merge({named(1): one}, NOW)
        assert records.find(named(1)) == bad
    records.merge({named(1): Record(NOW + MINUTE)}, NOW + MINUTE)
    records.merge({named(1): bad}, NOW + MINUTE)
    assert records.find(named(1)) == Record(NOW + MINUTE)
    # What others keep already is not to be kept again.
    assert not records.changed()


def test_what_is_of_the_future_is_believed_nobody() -> None:
    records = Records()
    skew = dt.timedelta(seconds=limits.MAX_CLOCK_SKEW)
    records.merge({named(1): Record(NOW + skew), named(2): Record(NOW + skew + MINUTE)}, NOW)
    assert known(records) == {named(1)}


def test_a_denial_is_remembered_only_of_what_was_good() -> None:
    records = Records()
    records.learn(named(1), Record(NOW, good=False))
    assert len(records) == 0
    records.learn(named(1), Record(NOW))
    records.learn(named(1), Record(NOW + MINUTE, good=False))
    assert records.find(named(1)) == Record(NOW + MINUTE, good=False)
    records.learn(named(1), Record(NOW + 2 * MINUTE))
    found = records.find(named(1))
    assert found is not None
    assert found.good


def test_changes_are_owed_until_somebody_keeps_them() -> None:
    records = Records()
    records.learn(named(1), Record(NOW))
    shard = named(1).shard
    assert records.changed() == {shard}
    records.kept(shard)
    records.learn(named(1), Record(NOW + 59 * MINUTE))
    assert not records.changed()
    records.learn(named(1), Record(NOW + 59 * MINUTE, NOW + 90 * MINUTE))
    assert records.changed() == {shard}
    records.kept(shard)
    records.lost(shard)
    assert records.changed() == {shard}


def test_d09_there_are_never_more_than_were_wanted() -> None:
    records = Records(20)
    for number in range(200):
        records.learn(named(number), Record(NOW + number * MINUTE))
        assert len(records) <= 20
    kept = known(records)
    assert named(199) in kept
    assert named(0) not in kept
    assert records.digests(named(0).what)
    assert len(records.digests(named(0).what)) == len(records)
    none = Records(0)
    none.learn(named(1), Record(NOW))
    none.merge({named(2): Record(NOW)}, NOW)
    assert (len(none), none.digests(named(1).what)) == (0, ())


def test_m05_whoever_verifies_without_end_forgets_their_own() -> None:
    records = Records(50)
    for number in range(10):
        records.learn(named(number, b"quiet"), Record(NOW))
    for number in range(1000):
        records.learn(named(number, b"loud"), Record(NOW + number * MINUTE))
    assert {named(number, b"quiet") for number in range(10)} <= known(records)
    # The last of an owner's records is gone with its name.
    few = Records(1)
    few.learn(named(1, b"a"), Record(NOW))
    few.learn(named(2, b"b"), Record(NOW + MINUTE))
    assert known(few) == {named(2, b"b")}
    assert few.digests(named(1, b"a").what) == ()


keys = st.builds(named, st.integers(0, 500), st.sampled_from([b"a", b"b", b"c"]))
times = st.integers(-(10**6), 10**6).map(lambda seconds: NOW + dt.timedelta(seconds=seconds))
some = st.dictionaries(keys, st.builds(Record, times), max_size=60)


@given(some, st.integers(0, 60))
def test_what_is_left_is_the_newest_of_everybody(records: dict[RecordKey, Record], most: int) -> None:
    gone = surplus(records, most)
    assert len(records) - len(gone) == min(len(records), most)
    left = records.keys() - set(gone)
    for owner in {key.owner for key in records}:
        newest = max((records[key].at for key in gone if key.owner == owner), default=None)
        oldest = min((records[key].at for key in left if key.owner == owner), default=None)
        assert newest is None or oldest is None or newest <= oldest
    counts = [sum(key.owner == owner for key in left) for owner in {key.owner for key in gone}]
    # Nobody who lost something is left with much less than somebody else.
    assert not counts or max(sum(key.owner == owner for key in left) for owner in {key.owner for key in records}) <= (
        min(counts) + 1
    )


denied = st.builds(Record, times, good=st.just(False))
ending = st.builds(Record, times, times)


@given(st.dictionaries(keys, st.builds(Record, times) | denied | ending, max_size=30))
def test_what_is_written_is_read(records: dict[RecordKey, Record]) -> None:
    text = write(records)
    assert read(text, "x") == records
    assert write(read(text, "x")) == text


GOOD = write({named(1): Record(NOW)}).strip()


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "",
        GOOD.replace("sha256:", "sha512:"),
        GOOD.replace("2026", "soon"),
        GOOD.replace("Z -", " -"),
        GOOD.replace("Z -", "Z good"),
        GOOD + " more",
        GOOD.replace(" ", "  ", 1),
        GOOD.replace(GOOD.split(" ")[1], "a"),
    ],
)
def test_m05_what_is_no_record_makes_the_whole_text_none(line: str) -> None:
    assert len(read(f"{GOOD}\n", "x")) == 1
    with pytest.raises(Invalid, match="x: line 2 is no record"):
        read(f"{GOOD}\n{line}\n{GOOD}\n", "x")


def test_m05_a_text_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_RECORDS_TEXT", len(GOOD))
    assert read(GOOD, "x")
    with pytest.raises(Invalid, match="more than"):
        read(f"{GOOD}\n", "x")
