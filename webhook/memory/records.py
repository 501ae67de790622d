"""What was verified, and when: for the time when nobody can be asked.

A record says of one digest, as one policy's value judged it in one namespace, whether it satisfied. The newest says it, also where it
did not: a denial puts an end to what was good before. Bounded: whoever has most forgets first, what is oldest. Pure memory: who keeps
records beyond the process reads and adds them as text.
"""

import base64
import binascii
import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from webhook import limits
from webhook.image import Digest, parse_digest
from webhook.moment import rfc3339
from webhook.parsing import Invalid, quote

SHARDS: Final = 16
"""Parts that records are kept in, by their digest: a change writes one of them anew, and not all."""

OWNER: Final = 6
"""Bytes of `RecordKey.what` that say whose record it is."""

_NEVER: Final = "-"
_DENIED: Final = "denied"


@dataclass(frozen=True, slots=True)
class RecordKey:
    """Of which digest, and of what about it: the hash of policy, namespace and name, which `judge.knowngood` makes.

    It begins with who it belongs to, in `OWNER` bytes: where there are too many, whoever has most forgets first.
    """

    digest: Digest
    what: bytes

    @property
    def owner(self) -> bytes:
        """Whose record it is; not who, but the same for the same."""
        return self.what[:OWNER]

    @property
    def shard(self) -> int:
        """Which part it is kept in."""
        return int(self.digest[-1], 16) % SHARDS


@dataclass(frozen=True, slots=True)
class Record:
    """What was found `at` that time, aware. `until`: from then on the same evidence might not prove it again (None: it always would).

    `good` is false for a denial that came after something good.
    """

    at: datetime
    until: datetime | None = None
    good: bool = True


class Records:
    """Those that are known here. `most`: how many; 0 remembers nothing."""

    def __init__(self, most: int = limits.MAX_RECORDS) -> None:
        self._most = most
        self._known: dict[RecordKey, Record] = {}
        self._digests: dict[bytes, set[Digest]] = {}
        self._changed: set[int] = set()

    def find(self, key: RecordKey) -> Record | None:
        """What is known of it."""
        return self._known.get(key)

    def digests(self, what: bytes) -> tuple[Digest, ...]:
        """All digests that were judged as `what`."""
        return tuple(self._digests.get(what, ()))

    def learn(self, key: RecordKey, record: Record) -> None:
        """Remembers what was just found. A denial only where something good is known, which it puts an end to.

        What says the same an hour later is written down anew; in between, the record that is kept is new enough.
        """
        before = self._known.get(key)
        if before is None and not record.good:
            return
        if (
            before is None
            or (before.good, before.until) != (record.good, record.until)
            or record.at - before.at >= _RENEWAL
        ):
            self._put(key, record)
            self._changed.add(key.shard)

    def merge(self, records: Mapping[RecordKey, Record], now: datetime) -> None:
        """Adds what others found, as far as it is newer than what is known here. What is of the future is believed nobody."""
        for key, record in records.items():
            before = self._known.get(key)
            if record.at <= now + _SKEW and (before is None or _order(record) > _order(before)):
                self._put(key, record)

    def changed(self) -> frozenset[int]:
        """The parts that hold something nobody keeps yet."""
        return frozenset(self._changed)

    def kept(self, shard: int) -> None:
        """Somebody keeps all of this part now."""
        self._changed.discard(shard)

    def lost(self, shard: int) -> None:
        """Nobody keeps it after all."""
        self._changed.add(shard)

    @property
    def most(self) -> int:
        """How many are remembered."""
        return self._most

    def of(self, shard: int) -> dict[RecordKey, Record]:
        """All records of a part."""
        return {key: record for key, record in self._known.items() if key.shard == shard}

    def _put(self, key: RecordKey, record: Record) -> None:
        if not self._most:
            return
        self._known[key] = record
        self._digests.setdefault(key.what, set()).add(key.digest)
        if len(self._known) > self._most:
            # A tenth at once, or each of many new ones would look at all of them.
            for gone in surplus(self._known, self._most - self._most // 10):
                del self._known[gone]
                self._digests[gone.what].discard(gone.digest)
                if not self._digests[gone.what]:
                    del self._digests[gone.what]

    def __len__(self) -> int:
        return len(self._known)


_RENEWAL: Final = timedelta(seconds=limits.PROOF_SECONDS)
_SKEW: Final = timedelta(seconds=limits.MAX_CLOCK_SKEW)


def _order(record: Record) -> tuple[datetime, bool]:
    """Which of two counts: the newer one; of one moment the denial."""
    return record.at, not record.good


def surplus(records: Mapping[RecordKey, Record], most: int) -> list[RecordKey]:
    """What is forgotten so that `most` are left: one by one the oldest of whoever has most.

    A namespace that verifies without end so forgets its own, and no other's (attack M-05).
    """
    by_owner: dict[bytes, list[RecordKey]] = {}
    for key in sorted(records, key=lambda one: (records[one].at, one.digest, one.what), reverse=True):
        by_owner.setdefault(key.owner, []).append(key)
    heap = [(-len(keys), owner) for owner, keys in by_owner.items()]
    heapq.heapify(heap)
    gone = []
    for _ in range(len(records) - most):
        count, owner = heap[0]
        gone.append(by_owner[owner].pop())
        heapq.heapreplace(heap, (count + 1, owner))
    return gone


# ── as text ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def write(records: Mapping[RecordKey, Record]) -> str:
    """A line for each, in an order that depends on nothing else."""
    return "".join(sorted(f"{_line(one)}\n" for one in records.items()))


def _line(one: tuple[RecordKey, Record]) -> str:
    key, record = one
    until = _DENIED if not record.good else _NEVER if record.until is None else rfc3339(record.until)
    return f"{key.digest} {base64.urlsafe_b64encode(key.what).decode()} {rfc3339(record.at)} {until}"


def read(untrusted: str, where: str) -> dict[RecordKey, Record]:
    """The records in a text that `write` wrote. Raises `Invalid` for anything else: half of it is no record of anything."""
    if len(untrusted) > limits.MAX_RECORDS_TEXT:
        raise Invalid(f"{where}: more than {limits.MAX_RECORDS_TEXT} characters")
    return dict(_read(untrusted.splitlines(), where))


def _read(lines: Iterable[str], where: str) -> Iterator[tuple[RecordKey, Record]]:
    for number, line in enumerate(lines, 1):
        try:
            digest, what, at, until = line.split(" ")
            key = RecordKey(parse_digest(digest), base64.urlsafe_b64decode(what))
            record = Record(_readshown(at))
            if until == _DENIED:
                record = replace(record, good=False)
            elif until != _NEVER:
                record = replace(record, until=_readshown(until))
        except (ValueError, binascii.Error) as e:
            raise Invalid(f"{where}: line {number} is no record: {quote(line, 80)}") from e
        yield key, record


def _readshown(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return time
