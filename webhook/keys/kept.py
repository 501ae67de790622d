"""What was last read of the keys outside the cluster, kept beyond the life of every replica: what of it counts, and who may change it.

Nothing here asks anybody or writes anywhere: whoever keeps it reads and writes it as bytes, over exactly what it read. What is kept is
ordered by how often it has become another, and not by clocks: a replica that has not seen the last change has nothing to say about a
key until it has asked its source again, so that nobody brings back what another replica found to be gone.
"""

import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec

from webhook import limits
from webhook.parsing import Invalid, convert, read_json
from webhook.policy.keyref import PublicRoot, RemoteKey, UrlKey
from webhook.policy.pkcs11uri import TokenKey

_RENEWAL: Final = timedelta(days=1)
_SKEW: Final = timedelta(seconds=limits.MAX_CLOCK_SKEW)
_WHAT: Final = "the kept keys"

Kind = Literal["https", "pkcs11", "public"]
_KINDS: Final[Mapping[Kind, type[RemoteKey]]] = {"https": UrlKey, "pkcs11": TokenKey, "public": PublicRoot}
_NAMES: Final[Mapping[type[RemoteKey], Kind]] = {kind: name for name, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Kept:
    """What was read of one key. `material` None: its source has no such key.

    `at`: when its source last said so, aware. `change`: how often that has become another.
    """

    material: bytes | None
    at: datetime
    change: int


@dataclass(frozen=True, slots=True)
class _Said:
    """What this replica wrote of a token last, and reads there all the time; and how often it wrote that again, since others changed it."""

    material: bytes
    at: datetime
    again: int = 0


class KeptKeys:
    """What is kept, as far as it is known here, and what was read here and is not kept yet. `now` is the wall clock.

    `turn` of a key counts what others were seen to change about it: an answer counts if nothing was since its source was asked.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self._kept: dict[RemoteKey, Kept] = {}
        self._own: dict[RemoteKey, Kept] = {}
        self._writing: dict[RemoteKey, Kept] = {}
        self._turns: Counter[RemoteKey] = Counter()
        self._wanted: frozenset[RemoteKey] = frozenset()
        self._said: dict[RemoteKey, _Said] = {}
        self._left_out: dict[RemoteKey, bytes | None] = {}
        self.is_read = False
        """Whether what is kept has been read."""

    @property
    def is_changed(self) -> bool:
        """Whether something is to be written."""
        return bool(self._own)

    def turn(self, key: RemoteKey) -> int:
        """To be remembered before the key's source is asked."""
        return self._turns[key]

    def find(self, key: RemoteKey) -> Kept | None:
        """What counts of a key while its source cannot be asked: its material, or that there is none."""
        found = self._own.get(key) or self._kept.get(key)
        return found if found is not None and self._counts(key, found) else None

    def find_newer(self, key: RemoteKey, turn: int) -> Kept | None:
        """The same, if others have changed it since that turn."""
        return self.find(key) if self._turns[key] > turn else None

    def learn(self, key: RemoteKey, material: bytes | None, turn: int) -> bool:
        """What its source said, which was asked in that turn. False: it has to be asked again, because others changed it meanwhile."""
        self._own.pop(key, None)
        if turn < self._turns[key]:
            # Whether it said so before or after that change, nobody knows.
            return False
        if not self._may_say(key, material):
            # Nor what another read: one of the two is not the key.
            material = None
        own, before, writing = Kept(material, self.now(), 0), self._kept.get(key), self._writing.get(key)
        # That there is none has to be known where there is no entry, too: others may hold what a deleted Secret had.
        is_news = before is None or _differs(own, before) or (writing is not None and writing.material != material)
        if is_news and (key not in self._left_out or self._left_out[key] != material):
            self._own[key] = own
        return True

    def want(self, keys: Collection[RemoteKey]) -> None:
        """Which keys policies name: what was read of others is not kept anew. What takes a key away that may be kept, is all the same."""
        self._wanted = frozenset(keys)
        for key in self._own.keys() - self._wanted:
            is_kept = not self.is_read or key in self._kept or key in self._writing
            if self._own[key].material is not None and not is_kept:
                del self._own[key]
        for key in self._said.keys() - self._wanted:
            del self._said[key]

    def merge(self, kept: Mapping[RemoteKey, Kept]) -> frozenset[RemoteKey]:
        """Takes what is kept, as it was just read. Says which keys have to be asked for again, because others know something else."""
        before, self._kept, self.is_read = self._kept, dict(kept), True
        again = {key for key, one in before.items() if key not in kept and one.material is not None}
        for key, one in kept.items():
            # Both: in a Secret that somebody deleted and we made anew the changes are counted from the beginning.
            if key not in before or before[key].change != one.change or before[key].material != one.material:
                self._turns[key] += 1
                own = self._own.pop(key, None)
                if own is None or own.material != one.material:
                    again.add(key)
                elif _differs(own, one):
                    self._own[key] = own
        return frozenset(again)

    def next(self) -> dict[RemoteKey, Kept]:
        """What is to be kept from now on."""
        found = {key: kept for key, kept in self._kept.items() if not self._is_over(key, kept)}
        self._writing = dict(self._own)
        for key, own in self._writing.items():
            before = self._kept.get(key)
            if before is None:
                found[key] = replace(own, change=1)
            else:
                found[key] = replace(own, change=before.change + (own.material != before.material))
        return found

    def wrote(self, wanted: Mapping[RemoteKey, Kept], kept: Mapping[RemoteKey, Kept]) -> list[RemoteKey]:
        """Of what was wanted, that is kept now. Says what had no room, each once."""
        for key, wrote in self._writing.items():
            # What was learned while it was written has to be written, too.
            own = self._own.get(key)
            if own is not None and own.material == wrote.material:
                del self._own[key]
            self._remember(key, wrote.material)
        self._writing = {}
        left_out = wanted.keys() - kept.keys()
        for key in left_out:
            self._left_out[key] = wanted[key].material
        for key in kept.keys() & self._left_out.keys():
            del self._left_out[key]
        self._kept = dict(kept)
        return sorted(left_out, key=str)

    def _may_say(self, key: RemoteKey, material: bytes | None) -> bool:
        """A removal always; a key less and less often, where others are told something else by the same token and write that each time."""
        last = self._said.get(key)
        if last is None:
            return True
        kept = self._kept.get(key)
        if material != last.material or kept is None:
            del self._said[key]
            return True
        if last.again == 0 or kept.material == material:
            return True
        pause = min(limits.MIN_KEPT_PAUSE * 2.0 ** (min(last.again, 16) - 1), limits.MAX_KEPT_PAUSE)
        return not timedelta() <= self.now() - last.at < pause

    def _remember(self, key: RemoteKey, wrote: bytes | None) -> None:
        """What it wrote and others did not have there. Of what proves itself nobody can say something else."""
        before = self._kept.get(key)
        if wrote is None or (before is not None and before.material == wrote) or not isinstance(key, TokenKey):
            return
        now, last = self.now(), self._said.get(key)
        is_again = last is not None and now - last.at <= limits.MAX_KEPT_PAUSE
        self._said[key] = _Said(wrote, now, last.again + 1 if last is not None and is_again else 0)

    def _counts(self, key: RemoteKey, kept: Kept) -> bool:
        """Not for ever: a source may lose a key while nobody can ask it; that it has none has no age.

        What proves itself has none either, and nobody's word takes it away.
        """
        if not isinstance(key, TokenKey):
            return kept.material is not None
        if kept.material is None:
            return True
        now = self.now()
        return kept.at <= now + _SKEW and now - kept.at < limits.MAX_KEPT

    def _is_over(self, key: RemoteKey, kept: Kept) -> bool:
        is_pinned = isinstance(key, UrlKey) and key in self._wanted and kept.material is not None
        return not is_pinned and self.now() - kept.at >= limits.MAX_KEPT


def _differs(own: Kept, kept: Kept) -> bool:
    """Whether what was read says something else, or the same, and long after it was kept."""
    return own.material != kept.material or not kept.at <= own.at < kept.at + _RENEWAL


# ── as bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    kind: Kind
    key: dict[str, Any]
    material: bytes | None
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    change: Annotated[int, msgspec.Meta(ge=1)]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[_Entry]


def write(kept: Mapping[RemoteKey, Kept]) -> tuple[bytes, dict[RemoteKey, Kept]]:
    """As bytes, `limits.MAX_KEPT_KEYS` at most, and what had room in them: the largest are left out. Takes its time where there are many."""
    room = dict(kept)
    while True:
        entries = [
            _Entry(_NAMES[type(key)], msgspec.to_builtins(key), one.material, one.at, one.change)
            for key, one in sorted(room.items(), key=lambda item: repr(item[0]))
        ]
        plain = msgspec.json.encode(_Document(entries))
        packed = zlib.compress(plain, 9)
        if len(packed) <= limits.MAX_KEPT_KEYS and len(plain) <= limits.MAX_KEPT_PLAIN:
            return packed, room
        # A tenth at once, or thousands that have no room would be packed thousands of times.
        for key in sorted(room, key=lambda key: -len(room[key].material or b""))[: max(1, len(room) // 10)]:
            del room[key]


def read(data: bytes) -> dict[RemoteKey, Kept]:
    """What is kept. Raises `Invalid` if that is not what one of us wrote; nothing in it counts then."""
    unpacking = zlib.decompressobj()
    try:
        plain = unpacking.decompress(data, limits.MAX_KEPT_PLAIN)
    except zlib.error as e:
        raise Invalid(f"{_WHAT}: not packed as we pack them") from e
    if not unpacking.eof or unpacking.unused_data:
        raise Invalid(f"{_WHAT}: cut off, or more than {limits.MAX_KEPT_PLAIN} bytes")
    # Bounded by its bytes already; there are as many values as keys make.
    document = convert(read_json(plain, _WHAT, limits.MAX_KEPT_PLAIN), _Document, _WHAT)
    found = {_key(entry): Kept(entry.material, entry.at, entry.change) for entry in document.keys}
    if len(found) < len(document.keys):
        raise Invalid(f"{_WHAT}: one stands there twice")
    for key, kept in found.items():
        if (
            isinstance(key, UrlKey)
            and kept.material is not None
            and hashlib.sha256(kept.material).hexdigest() != key.sha256
        ):
            raise Invalid(f"{_WHAT}: {key}: not the document with that SHA-256")
    return found


def _key(entry: _Entry) -> RemoteKey:
    """With every field that it has here: one that another version knows more or less of is another key."""
    key: RemoteKey = convert(entry.key, _KINDS[entry.kind], _WHAT)
    if _ordered(key) != _ordered(entry.key):
        raise Invalid(f"{_WHAT}: a reference that another version has written")
    return key


def _ordered(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")
