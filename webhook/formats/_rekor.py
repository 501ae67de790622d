"""Entries of transparency logs: that a log which is trusted has one, and that it is about the very signature at hand.

A log accepts anything from anybody, so an entry proves nothing until its body was compared with what we hold: with what was signed,
with the signature, and with the key or certificate (CVE-2022-36056, CVE-2026-22703). `_rekorbody` does that.
Sources: sigstore, protobuf-specs `sigstore_rekor.proto`; Rekor, "Signed Entry Timestamp"; cosign, SIGNATURE_SPEC.md, "bundle".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from webhook import limits
from webhook.formats._dsse import strict_base64
from webhook.formats._logs import Log
from webhook.formats._merkle import InclusionProof
from webhook.formats._rekorbody import Signed, require_about
from webhook.parsing import Invalid, convert, read_json
from webhook.trust import Rejected

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_Number = Annotated[str, Meta(max_length=19)]

Wanted = Literal["promise", "proof"]
"""What vouches for an entry: the log's promise to include it (SET), or a proof that it did. Bundles of 0.1 bring the first, newer ones the second."""


class _LogId(Struct, rename="camel"):
    key_id: str


class _Kind(Struct):
    kind: str
    version: str


class _Promise(Struct, rename="camel"):
    signed_entry_timestamp: str


class _Checkpoint(Struct):
    envelope: str


class _Proof(Struct, rename="camel"):
    """Zero and empty fields are left out by some signers, as proto3 allows."""

    root_hash: str
    tree_size: _Number
    log_index: _Number = "0"
    hashes: list[str] = []
    checkpoint: _Checkpoint | None = None


class _Entry(Struct, rename="camel"):
    log_id: _LogId
    kind_version: _Kind
    canonicalized_body: str
    log_index: _Number = "0"
    integrated_time: _Number = "0"
    inclusion_promise: _Promise | None = None
    inclusion_proof: _Proof | None = None


class _Payload(Struct):
    body: str
    integrated_time: int = msgspec.field(name="integratedTime")
    log_index: int = msgspec.field(name="logIndex")
    log_id: str = msgspec.field(name="logID")


class _Annotation(Struct):
    """`dev.sigstore.cosign/bundle`: a promise, and what it is over."""

    promise: str = msgspec.field(name="SignedEntryTimestamp")
    payload: _Payload = msgspec.field(name="Payload")


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as somebody published it; nothing of it is verified. `time` in seconds since 1970, 0 for none; `kind`: name and version."""

    log: bytes
    index: int
    time: int
    body: bytes
    body_text: str
    kind: tuple[str, str] | None
    promise: bytes | None
    proof: InclusionProof | None


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry that a log has: its index there, and when the log says that it came in, if it says so under its signature."""

    log: Log
    index: int
    at: datetime | None


def read_entry(untrusted: object, path: str, wanted: Wanted) -> Entry:
    """A bundle's log entry. Raises `Invalid`, or `Rejected` if what has to vouch for it is missing."""
    entry = convert(untrusted, _Entry, path)
    proof = entry.inclusion_proof
    if wanted == "promise" and proof is not None and proof.checkpoint is None:
        # Bundles of 0.1 may hold a proof that nobody signed: it proves nothing, and the promise is what counts.
        proof = None
    if wanted == "promise" and entry.inclusion_promise is None:
        raise Rejected(f"{path}: no inclusion promise, which a bundle of this version must have")
    if wanted == "proof" and proof is None:
        raise Rejected(f"{path}: no inclusion proof, which a bundle of this version must have")
    promise = entry.inclusion_promise
    return Entry(
        log=strict_base64(entry.log_id.key_id, f"{path}.logId.keyId"),
        index=_number(entry.log_index, f"{path}.logIndex"),
        time=_number(entry.integrated_time, f"{path}.integratedTime"),
        body=strict_base64(entry.canonicalized_body, f"{path}.canonicalizedBody"),
        body_text=entry.canonicalized_body,
        kind=(entry.kind_version.kind, entry.kind_version.version),
        promise=strict_base64(promise.signed_entry_timestamp, f"{path}.inclusionPromise") if promise else None,
        proof=_read_proof(proof, f"{path}.inclusionProof") if proof else None,
    )


def _read_proof(proof: _Proof, path: str) -> InclusionProof:
    if proof.checkpoint is None:
        raise Rejected(f"{path}: no checkpoint, so nobody vouches for its root")
    if len(proof.hashes) > limits.MAX_INCLUSION_HASHES:
        raise Rejected(f"{path}: more than {limits.MAX_INCLUSION_HASHES} hashes")
    return InclusionProof(
        index=_number(proof.log_index, f"{path}.logIndex"),
        size=_number(proof.tree_size, f"{path}.treeSize"),
        root=strict_base64(proof.root_hash, f"{path}.rootHash"),
        hashes=tuple(strict_base64(text, f"{path}.hashes[{i}]") for i, text in enumerate(proof.hashes)),
        checkpoint=proof.checkpoint.envelope,
    )


def read_annotation(untrusted: bytes, path: str) -> Entry:
    """The log entry beside a classic signature. Raises `Invalid`."""
    annotation = convert(read_json(untrusted, path), _Annotation, path)
    payload = annotation.payload
    if not _HEX.fullmatch(payload.log_id):
        raise Invalid(f"{path}.Payload.logID: not 64 lower-case hex digits")
    return Entry(
        log=bytes.fromhex(payload.log_id),
        index=payload.log_index,
        time=payload.integrated_time,
        body=strict_base64(payload.body, f"{path}.Payload.body"),
        body_text=payload.body,
        kind=None,
        promise=strict_base64(annotation.promise, f"{path}.SignedEntryTimestamp"),
        proof=None,
    )


def _number(text: str, path: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise Invalid(f"{path}: not a whole number")
    return int(text)


def verify_entry(entry: Entry, logs: Sequence[Log], signed: Signed) -> Logged | None:
    """What one of the logs has of the signature at hand; None if the entry is of a log that none of them is.

    Whether the log's key was in force then is for the caller to ask: not every log says when. Raises `Rejected` or `Invalid`.
    """
    # (1) The key comes from the trust root, never from the log (attack C-15).
    known = [log for log in logs if log.identity == entry.log]
    if not known:
        return None
    # (2) Somebody vouches for the entry: its promise and its proof both hold, where both exist.
    log = _vouching(entry, known)
    # (3) A time that nobody signed is the publisher's (attack C-11).
    if entry.promise is None and entry.time:
        raise Rejected("log entry: a time without the log's signature over it")
    # (4) Without a promise nothing vouches for the index but the proof's own.
    if entry.promise is None and entry.proof is not None and entry.proof.index != entry.index:
        raise Rejected("log entry: two different indexes")
    # (5) It is about this signature, by this key, over these bytes (attacks C-01, C-03).
    require_about(entry.body, entry.kind, signed)
    return Logged(log, entry.index, None if entry.promise is None else _moment(entry.time))


def _vouching(entry: Entry, logs: Sequence[Log]) -> Log:
    """The one of the logs, alike in name, that has signed what the entry needs. Raises `Rejected`."""
    reasons = []
    for log in logs:
        try:
            if entry.promise is not None:
                log.verify(entry.promise, _promised(entry), "log entry: promise")
            if entry.proof is not None:
                entry.proof.verify(entry.body, log)
        except Rejected as e:
            reasons.append(str(e))
        else:
            return log
    raise Rejected(reasons[-1])


def _promised(entry: Entry) -> bytes:
    """What the log's promise is over: canonical JSON (RFC 8785) of these four members, none of which needs escapes."""
    return b'{"body":"%b","integratedTime":%d,"logID":"%b","logIndex":%d}' % (
        entry.body_text.encode(),
        entry.time,
        entry.log.hex().encode(),
        entry.index,
    )


def _moment(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError) as e:
        raise Rejected("log entry: a time beyond all calendars") from e
