"""That an entry is in a log: the arithmetic of its tree, and the log's signed word about its root.

Sources: RFC 6962, section 2.1; RFC 9162, section 2.1.3.2; C2SP, signed-note and tlog-checkpoint.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from webhook import limits
from webhook.formats._dsse import strict_base64
from webhook.formats._logs import Log
from webhook.parsing import Invalid
from webhook.trust import Rejected

_SIGNATURE: Final = re.compile(r"\N{EM DASH} (?P<name>[^\s+]{1,255}) (?P<signature>[A-Za-z0-9+/=]{1,16384})")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """What somebody says about an entry's place in a tree; nothing of it is verified. `index` is the place, from 0."""

    index: int
    size: int
    root: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str

    def verify(self, body: bytes, log: Log) -> None:
        """Returns if the log has signed a tree that holds `body` at `index`. Raises `Rejected` or `Invalid`."""
        # (1) RFC 9162, 2.1.3.2: from the leaf up to the root.
        if root_of(hashlib.sha256(b"\0" + body).digest(), self.index, self.size, self.hashes) != self.root:
            raise Rejected("log entry: the inclusion proof leads to another root")
        # (2) tlog-checkpoint: the log's own word about that very root and size, without which anybody could make up a tree.
        note = _read_note(self.checkpoint)
        if (note.size, note.root) != (self.size, self.root):
            raise Rejected("log entry: the checkpoint is about another tree")
        # (3) signed-note: lines of other signers, witnesses among them, are passed over.
        for hint, signature in note.signatures:
            if hint == log.note_identity[:4]:
                log.verify(signature, note.text, "log entry: checkpoint")
                return
        raise Rejected("log entry: the checkpoint is not signed by the log")


def root_of(leaf: bytes, index: int, size: int, hashes: Sequence[bytes]) -> bytes:
    """The root of the tree of `size` leaves that has the leaf hash `leaf` at `index`. Raises `Rejected` if there is no such path."""
    if not 0 <= index < size:
        raise Rejected("log entry: its index is outside of the tree")
    if len(hashes) > limits.MAX_INCLUSION_HASHES:
        raise Rejected(f"log entry: more than {limits.MAX_INCLUSION_HASHES} hashes in its inclusion proof")
    node, place, last = leaf, index, size - 1
    for sibling in hashes:
        if last == 0:
            raise Rejected("log entry: the inclusion proof is too long for its tree")
        if place & 1 or place == last:
            node = hashlib.sha256(b"\1" + sibling + node).digest()
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\1" + node + sibling).digest()
        place, last = place >> 1, last >> 1
    if last:
        raise Rejected("log entry: the inclusion proof is too short for its tree")
    return node


@dataclass(frozen=True, slots=True)
class _Note:
    """A checkpoint, read and not verified. `signatures`: the hint of a key, and the signature, line by line."""

    text: bytes
    size: int
    root: bytes
    signatures: tuple[tuple[bytes, bytes], ...]


def _read_note(untrusted: str) -> _Note:
    if len(untrusted) > limits.MAX_CHECKPOINT:
        raise Invalid(f"checkpoint: more than {limits.MAX_CHECKPOINT} characters")
    # signed-note: the last empty line of the note divides its text from its signatures.
    text, border, rest = untrusted.rpartition("\n\n")
    lines = text.split("\n")
    if not border or not rest.endswith("\n") or len(lines) < 3 or not lines[0]:
        raise Invalid("checkpoint: not a signed note")
    if not _SIZE.fullmatch(lines[1]):
        raise Invalid("checkpoint: its second line is not the size of a tree")
    try:
        signed = f"{text}\n".encode()
    except UnicodeEncodeError as e:
        raise Invalid("checkpoint: characters that UTF-8 has no bytes for") from e
    return _Note(
        text=signed,
        size=int(lines[1]),
        root=strict_base64(lines[2], "checkpoint: root"),
        signatures=tuple(_read_signature(line) for line in rest[:-1].split("\n")),
    )


def _read_signature(line: str) -> tuple[bytes, bytes]:
    match = _SIGNATURE.fullmatch(line)
    if match is None:
        raise Invalid("checkpoint: a line that is no signature")
    content = strict_base64(match["signature"], "checkpoint: signature")
    return content[:4], content[4:]
