"""CBOR as COSE signatures need it, read so that no two readers could see two things in the same bytes.

A reader of our own because what general ones accept is what must be refused here: the last of two equal keys, indefinite lengths,
tags that turn into objects, references to other items. Source: RFC 8949; RFC 9052, section 9.
"""

from dataclasses import dataclass
from typing import Final

from webhook import limits
from webhook.parsing import Invalid, quote

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _OTHER = range(8)
_SIMPLE: Final = {20: False, 21: True, 22: None}
_INDEFINITE: Final = 31


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged item. What the tag means is for the reader of the item to say."""

    number: int
    value: object


def read_cbor(data: bytes, path: str) -> object:
    """The one item in `data`: int, bytes, str, bool, None, list, dict with keys of int or str, or `Tag`.

    Refused are indefinite lengths, equal keys, keys of other types, floats and other simple values, nesting deeper than
    `MAX_CBOR_DEPTH`, more than `MAX_CBOR_ITEMS` items, and anything behind the item. Raises `Invalid` beginning with `path`.
    """
    reader = _Reader(data, path)
    item = reader.item(0)
    if reader.at != len(data):
        raise reader.wrong("bytes behind its end")
    return item


def head(major: int, length: int) -> bytes:
    """The shortest beginning of an item. Source: RFC 8949, section 3."""
    if length < 24:
        return bytes([major << 5 | length])
    size = next(size for size in (1, 2, 4, 8) if length < 1 << 8 * size)
    return bytes([major << 5 | 24 + size.bit_length() - 1]) + length.to_bytes(size, "big")


def byte_string(content: bytes) -> bytes:
    """`content` as a CBOR byte string."""
    return head(_BYTES, len(content)) + content


class _Reader:
    def __init__(self, data: bytes, path: str) -> None:
        self._data = data
        self._path = path
        self._items = 0
        self.at = 0

    def wrong(self, why: str) -> Invalid:
        return Invalid(f"{self._path}: not CBOR that is accepted: {why}")

    def item(self, depth: int) -> object:
        self._items += 1
        if depth > limits.MAX_CBOR_DEPTH or self._items > limits.MAX_CBOR_ITEMS:
            raise self.wrong("too deep, or too many items")
        first = self._take(1)[0]
        major, short = first >> 5, first & 0x1F
        if major == _OTHER:
            if short not in _SIMPLE:
                raise self.wrong("a float, or a simple value that means nothing")
            return _SIMPLE[short]
        argument = self._argument(short)
        match major:
            case 0:
                return argument
            case 1:
                return -1 - argument
            case 2:
                return self._take(argument)
            case 3:
                return self._text(argument)
            case 4:
                return [self.item(depth + 1) for _ in range(self._count(argument))]
            case 5:
                return self._map(self._count(argument), depth + 1)
            case _:
                return Tag(argument, self.item(depth + 1))

    def _take(self, count: int) -> bytes:
        taken = self._data[self.at : self.at + count]
        if len(taken) != count:
            raise self.wrong("it ends too early")
        self.at += count
        return taken

    def _argument(self, short: int) -> int:
        if short < 24:
            return short
        if short >= 28:
            raise self.wrong("an indefinite length" if short == _INDEFINITE else "a length that means nothing")
        return int.from_bytes(self._take(1 << (short - 24)), "big")

    def _count(self, argument: int) -> int:
        # Each item has a byte at least: a count that cannot be is not begun with.
        if argument > len(self._data) - self.at:
            raise self.wrong("it ends too early")
        return argument

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError as e:
            raise self.wrong("text that is not UTF-8") from e

    def _map(self, count: int, depth: int) -> dict[int | str, object]:
        found: dict[int | str, object] = {}
        for _ in range(count):
            key = self.item(depth)
            # `True` is an int to Python, and would be the label 1.
            if isinstance(key, bool) or not isinstance(key, int | str):
                raise self.wrong("a key that is neither a number nor text")
            if key in found:
                raise self.wrong(f"duplicate key {quote(key, 80)}")
            found[key] = self.item(depth)
        return found
