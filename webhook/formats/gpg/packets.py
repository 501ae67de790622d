"""OpenPGP packets: where one ends and the next begins, and what is in a compressed one. Bounded before anything is unpacked.

Nothing here is believed. Source: RFC 9580, sections 3 to 6; GnuPG writes the older headers of RFC 4880, which it includes.
"""

import base64
import binascii
import bz2
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from webhook import limits
from webhook.parsing import Invalid

SIGNATURE: Final = 2
ONE_PASS_SIGNATURE: Final = 4
SECRET_KEY: Final = 5
PUBLIC_KEY: Final = 6
SECRET_SUBKEY: Final = 7
COMPRESSED: Final = 8
MARKER: Final = 10
LITERAL: Final = 11
TRUST: Final = 12
USER_ID: Final = 13
PUBLIC_SUBKEY: Final = 14
USER_ATTRIBUTE: Final = 17
PADDING: Final = 21

_STREAMED: Final = frozenset({COMPRESSED, LITERAL})
_FIRST_CHUNK: Final = 512
_KEYS: Final = "PGP PUBLIC KEY BLOCK"
_BEGIN: Final = "-----BEGIN "


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet's tag, which says what it is, and its body."""

    tag: int
    body: bytes


def read_packets(data: bytes, what: str, most: int) -> tuple[Packet, ...]:
    """The packets of a message or keyring, at most `most`, with nothing between or behind them.

    Raises `Invalid` beginning with `what`. Source: RFC 9580, section 4.2.
    """
    found: list[Packet] = []
    cursor = _Cursor(data, what)
    while not cursor.at_end:
        if len(found) == most:
            raise Invalid(f"{what}: more than {most} packets")
        found.append(_packet(cursor))
    return tuple(found)


class _Cursor:
    """Reads from the front, and never past the end."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise self.wrong("cut short")
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets), "big")

    def wrong(self, complaint: str) -> Invalid:
        return Invalid(f"{self._what}: {complaint}")


def _packet(cursor: _Cursor) -> Packet:
    head = cursor.number(1)
    if not head & 0x80:
        raise cursor.wrong("not an OpenPGP packet")
    if head & 0x40:
        return _new_packet(cursor, head & 0x3F)
    tag, kind = head >> 2 & 0x0F, head & 3
    if kind < 3:
        return Packet(tag, cursor.take(cursor.number(1 << kind)))
    if tag not in _STREAMED:
        raise cursor.wrong("a packet without an end")
    return Packet(tag, cursor.rest())


def _new_packet(cursor: _Cursor, tag: int) -> Packet:
    chunks: list[bytes] = []
    while True:
        first = cursor.number(1)
        if not 224 <= first < 255:
            chunks.append(cursor.take(_length(cursor, first)))
            return Packet(tag, b"".join(chunks))
        size = 1 << (first & 0x1F)
        if tag not in _STREAMED or (not chunks and size < _FIRST_CHUNK):
            raise cursor.wrong("a packet in pieces that may not be")
        chunks.append(cursor.take(size))


def _length(cursor: _Cursor, first: int) -> int:
    """The length that begins with the octet `first`; packets and subpackets write it alike, but for pieces of packets."""
    if first < 192:
        return first
    if first < 255:
        return (first - 192 << 8) + cursor.number(1) + 192
    return cursor.number(4)


@dataclass(frozen=True, slots=True)
class Subpacket:
    """A statement inside a signature. `critical`: whoever does not understand it must not believe the signature."""

    kind: int
    critical: bool
    body: bytes


def read_subpackets(data: bytes, what: str) -> Iterator[Subpacket]:
    """The subpackets in an area of a signature. Raises `Invalid`. Source: RFC 9580, section 5.2.3.7."""
    cursor = _Cursor(data, what)
    while not cursor.at_end:
        length = _length(cursor, cursor.number(1))
        if length == 0:
            raise cursor.wrong("an empty subpacket")
        kind = cursor.number(1)
        yield Subpacket(kind & 0x7F, bool(kind & 0x80), cursor.take(length - 1))


def read_integers(data: bytes, count: int, what: str) -> tuple[bytes, ...]:
    """`count` multiprecision integers, big-endian without leading zeros, and nothing behind them.

    Raises `Invalid`. Source: RFC 9580, section 3.2.
    """
    cursor = _Cursor(data, what)
    found = []
    for _ in range(count):
        bits = cursor.number(2)
        integer = cursor.take((bits + 7) // 8)
        if int.from_bytes(integer, "big").bit_length() != bits:
            raise cursor.wrong("an integer of another length than it says")
        found.append(integer)
    if not cursor.at_end:
        raise cursor.wrong("something behind the last integer")
    return tuple(found)


def unpack(body: bytes, what: str) -> bytes:
    """What a compressed packet holds, at most `MAX_OPENPGP` bytes. Raises `Invalid`. Source: RFC 9580, section 5.6."""
    if not body:
        raise Invalid(f"{what}: an empty compressed packet")
    algorithm, packed = body[0], body[1:]
    if algorithm == 0:
        return packed
    # One byte more than is allowed shows that there is more, and is all that is ever unpacked of it.
    most = limits.MAX_OPENPGP + 1
    try:
        match algorithm:
            case 1 | 2:
                inflating = zlib.decompressobj(-zlib.MAX_WBITS if algorithm == 1 else zlib.MAX_WBITS)
                unpacked = inflating.decompress(packed, most)
                complete = inflating.eof and not inflating.unused_data
            case 3:
                expanding = bz2.BZ2Decompressor()
                unpacked = expanding.decompress(packed, most)
                complete = expanding.eof and not expanding.unused_data
            case _:
                raise Invalid(f"{what}: compressed in a way that is not known ({algorithm})")
    except (zlib.error, OSError) as e:
        raise Invalid(f"{what}: its compressed packet cannot be unpacked") from e
    if len(unpacked) == most:
        raise Invalid(f"{what}: more than {limits.MAX_OPENPGP} bytes, unpacked")
    if not complete:
        raise Invalid(f"{what}: its compressed packet is cut short, or something is behind it")
    return unpacked


def read_armor(data: bytes, path: str) -> bytes:
    """The binary form of one or several ASCII-armored public keys; text around them is ignored.

    The check sum is: what it guards is guarded by signatures. Raises `Invalid`. Source: RFC 9580, section 6.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise Invalid(f"{path}: not text") from e
    # No expression: each beginning without an end would have it look through all that follows.
    _, *blocks = text.split(_BEGIN)
    return b"".join(_unarmored(_between(block, path), path) for block in blocks)


def _between(block: str, path: str) -> str:
    """What stands between the line that `block` begins with and the one that ends it. Raises `Invalid` if they are not of public keys."""
    content, end, _ = block.partition(f"-----END {_KEYS}-----")
    if not end or not content.startswith(f"{_KEYS}-----"):
        raise Invalid(f"{path}: not `{_BEGIN}{_KEYS}-----` and its end alone")
    return content.removeprefix(f"{_KEYS}-----")


def _unarmored(text: str, path: str) -> bytes:
    # A header has a colon, the check sum begins with an equals sign; base64 has neither there.
    lines = [line.strip() for line in text.splitlines()]
    content = "".join(line for line in lines if ":" not in line and not line.startswith("="))
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as e:
        raise Invalid(f"{path}: its armor is not base64") from e
