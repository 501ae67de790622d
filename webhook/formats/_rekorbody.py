"""What is written in a transparency log's entry, held against the signature at hand: all of it, or it is an entry of something else.

A closed table of kinds and versions: an unknown one is a rejection, because nobody knows what it would have to be compared with.
Source: Rekor, pkg/types, JSON schemas of `hashedrekord`, `dsse` and `intoto`; Rekor v2, `rekor/v2/entry.proto`.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from webhook.formats._dsse import strict_base64
from webhook.formats._keys import PublicKey
from webhook.parsing import Invalid, convert, quote, read_json
from webhook.trust import Rejected

T = TypeVar("T")

_PEM: Final = re.compile(
    rb"-----BEGIN (?P<label>CERTIFICATE|PUBLIC KEY)-----\n(?P<base64>[A-Za-z0-9+/=\n]+)-----END (?P=label)-----\n?"
)


@dataclass(frozen=True, slots=True)
class Signed:
    """What an entry has to be about.

    `message` is what the signature is over; `payload` is what an envelope holds, None where there is no envelope. `certificate` in DER
    is the signer's, None for a bare key.
    """

    message: bytes
    signature: bytes
    key: PublicKey
    certificate: bytes | None = None
    payload: bytes | None = None


class _Body(Struct, rename="camel"):
    api_version: str
    kind: str
    spec: Any


class _Hash(Struct):
    algorithm: str
    value: str


class _Content(Struct):
    content: str


class _Data(Struct):
    hash: _Hash


class _Signature(Struct, rename="camel"):
    content: str
    public_key: _Content


class _HashedRekord(Struct):
    data: _Data
    signature: _Signature


class _Certificate(Struct, rename="camel"):
    raw_bytes: str


class _Verifier(Struct, rename="camel"):
    x509_certificate: _Certificate | None = None
    public_key: _Certificate | None = None


class _SignatureV2(Struct):
    content: str
    verifier: _Verifier


class _Digest(Struct):
    algorithm: str
    digest: str


class _HashedRekordV2(Struct):
    data: _Digest
    signature: _SignatureV2


class _HashedRekordV2Spec(Struct):
    entry: _HashedRekordV2 = msgspec.field(name="hashedRekordV002")


class _DsseSignature(Struct):
    signature: str
    verifier: str


class _Dsse(Struct, rename="camel"):
    payload_hash: _Hash
    signatures: list[_DsseSignature]


class _DsseV2(Struct, rename="camel"):
    payload_hash: _Digest
    signatures: list[_SignatureV2]


class _DsseV2Spec(Struct):
    entry: _DsseV2 = msgspec.field(name="dsseV002")


class _IntotoSignature(Struct, rename="camel"):
    sig: str
    public_key: str


class _IntotoEnvelope(Struct):
    signatures: list[_IntotoSignature]


class _IntotoContent(Struct, rename="camel"):
    envelope: _IntotoEnvelope
    payload_hash: _Hash


class _Intoto(Struct):
    content: _IntotoContent


def require_about(body: bytes, kind: tuple[str, str] | None, signed: Signed) -> None:
    """Returns if an entry with this body is about what was `signed`. `kind` is what stands beside the body, if anything.

    Raises `Rejected` or `Invalid`.
    """
    read = convert(read_json(body, "log entry"), _Body, "log entry")
    written = (read.kind, read.api_version)
    if kind is not None and kind != written:
        raise Rejected("log entry: its kind is not the one that its bundle names")
    compare = _KINDS.get(written)
    if compare is None:
        raise Rejected(f"log entry: {quote(read.kind, 40)} {quote(read.api_version, 20)} is not supported")
    compare(read.spec, signed)


def _hashedrekord(spec: object, signed: Signed) -> None:
    entry = convert(spec, _HashedRekord, "log entry.spec")
    _require_hash(entry.data.hash.algorithm, _hex(entry.data.hash.value), signed.message, _HASHES)
    _require_signature(_decoded(entry.signature.content), signed)
    _require_pem(_decoded(entry.signature.public_key.content), signed)


def _hashedrekord_v2(spec: object, signed: Signed) -> None:
    entry = convert(spec, _HashedRekordV2Spec, "log entry.spec").entry
    _require_hash(entry.data.algorithm, _decoded(entry.data.digest), signed.message, _HASHES_V2)
    _require_signature_v2(entry.signature, signed)


def _dsse(spec: object, signed: Signed) -> None:
    # `envelopeHash` is of the JSON as some client wrote it, which nobody can make again; what it holds is compared instead.
    entry = convert(spec, _Dsse, "log entry.spec")
    _require_hash(entry.payload_hash.algorithm, _hex(entry.payload_hash.value), _payload(signed), _HASHES)
    [signature] = _only(entry.signatures)
    _require_signature(_decoded(signature.signature), signed)
    _require_pem(_decoded(signature.verifier), signed)


def _dsse_v2(spec: object, signed: Signed) -> None:
    entry = convert(spec, _DsseV2Spec, "log entry.spec").entry
    _require_hash(entry.payload_hash.algorithm, _decoded(entry.payload_hash.digest), _payload(signed), _HASHES_V2)
    [signature] = _only(entry.signatures)
    _require_signature_v2(signature, signed)


def _intoto(spec: object, signed: Signed) -> None:
    content = convert(spec, _Intoto, "log entry.spec").content
    _require_hash(content.payload_hash.algorithm, _hex(content.payload_hash.value), _payload(signed), _HASHES)
    [signature] = _only(content.envelope.signatures)
    # Encoded twice: the envelope's own base64 is what this kind holds as bytes.
    _require_signature(_decoded(_decoded(signature.sig).decode("ascii", "replace")), signed)
    _require_pem(_decoded(signature.public_key), signed)


_KINDS: Final[Mapping[tuple[str, str], Callable[[object, Signed], None]]] = {
    ("hashedrekord", "0.0.1"): _hashedrekord,
    ("hashedrekord", "0.0.2"): _hashedrekord_v2,
    ("dsse", "0.0.1"): _dsse,
    ("dsse", "0.0.2"): _dsse_v2,
    ("intoto", "0.0.2"): _intoto,
}

_HASHES: Final = {"sha256": "sha256", "sha384": "sha384", "sha512": "sha512"}
_HASHES_V2: Final = {"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}


def _decoded(text: str) -> bytes:
    return strict_base64(text, "log entry.spec")


def _hex(text: str) -> bytes:
    try:
        content = bytes.fromhex(text)
    except ValueError as e:
        raise Invalid("log entry.spec: not hex digits") from e
    if content.hex() != text:
        raise Invalid("log entry.spec: not lower-case hex digits")
    return content


def _payload(signed: Signed) -> bytes:
    if signed.payload is None:
        raise Rejected("log entry: of an envelope, and this is none")
    return signed.payload


def _only(signatures: list[T]) -> list[T]:
    if len(signatures) != 1:
        raise Rejected(f"log entry: of {len(signatures)} signatures, expected exactly one")
    return signatures


def _require_hash(algorithm: str, found: bytes, of: bytes, known: Mapping[str, str]) -> None:
    name = known.get(algorithm)
    if name is None:
        raise Rejected(f"log entry: the hash {quote(algorithm, 20)} is not supported")
    if hashlib.new(name, of).digest() != found:
        raise Rejected("log entry: of something else that was signed")


def _require_signature(found: bytes, signed: Signed) -> None:
    if found != signed.signature:
        raise Rejected("log entry: of another signature")


def _require_signature_v2(found: _SignatureV2, signed: Signed) -> None:
    _require_signature(_decoded(found.content), signed)
    certificate, key = found.verifier.x509_certificate, found.verifier.public_key
    if certificate is not None and key is None:
        _require_signer(_decoded(certificate.raw_bytes), signed.certificate)
    elif key is not None and certificate is None:
        _require_signer(_decoded(key.raw_bytes), None if signed.certificate else signed.key.spki)
    else:
        raise Rejected("log entry: neither of a key nor of a certificate")


def _require_pem(pem: bytes, signed: Signed) -> None:
    """A PEM of exactly one certificate, or of exactly one public key."""
    match = _PEM.fullmatch(pem)
    if match is None:
        raise Invalid("log entry.spec: not the PEM of one certificate or public key")
    found = _decoded(match["base64"].replace(b"\n", b"").decode())
    if match["label"] == b"CERTIFICATE":
        _require_signer(found, signed.certificate)
    else:
        _require_signer(found, None if signed.certificate else signed.key.spki)


def _require_signer(found: bytes, wanted: bytes | None) -> None:
    if found != wanted:
        raise Rejected("log entry: of another signer")
