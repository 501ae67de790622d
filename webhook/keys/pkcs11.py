"""`pkcs11:` URIs: the public key or certificate on a token, read by a process of its own.

A process and no thread: a module that hangs cannot be cancelled, one that crashes takes its process along, and one that was loaded
before its device was plugged in may never see it. Loading a module is running it, so only those that the operator listed are.
"""

import asyncio
import contextlib
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from webhook import limits
from webhook.parsing import Invalid, convert, quote, read_json
from webhook.policy.pkcs11uri import TokenKey, TokenObject
from webhook.trust import NoSuchKey, Unavailable, Unresolved

_READER: Final = ("-P", "-m", "webhook.keys.tokenreader")
_AT_ONCE: Final = 2
_EDWARDS: Final = frozenset({"06032b6570", "130c656477617264733235353139"})
"""`CKA_EC_PARAMS` of Ed25519: its object identifier (RFC 8410), or its name (PKCS #11 3.0)."""
_CURVES: Final[Mapping[str, str]] = {
    "06082a8648ce3d030107": "SECP256R1",
    "06052b81040022": "SECP384R1",
    "06052b81040023": "SECP521R1",
}
"""The same of the named curves (RFC 5480)."""


@dataclass(frozen=True, slots=True)
class Modules:
    """What the operator permits: modules by absolute path, and the directory that PINs may lie in."""

    paths: tuple[Path, ...] = ()
    pins: Path | None = None

    def of(self, key: TokenKey) -> Path:
        """The module that a URI means. Raises `Invalid` if it is none of those permitted, or it is not clear which."""
        if not self.paths:
            raise Invalid("no PKCS#11 module is permitted; the operator lists them (--pkcs11-module)")
        if key.module_path is not None:
            found = [path for path in self.paths if str(path) == key.module_path]
        elif key.module_name is not None:
            found = [path for path in self.paths if name_of(path) == key.module_name]
        else:
            found = list(self.paths)
        if not found:
            raise Invalid("its module is none of those that the operator permits (--pkcs11-module)")
        if len(found) > 1:
            raise Invalid("several modules are permitted; name one by module-name or module-path")
        return found[0]

    def pin_of(self, key: TokenKey) -> str | None:
        """The PIN that a URI points to; None if it wants none. Raises `Invalid`; what is in the file is not repeated."""
        if key.pin_file is None:
            return None
        file = Path(key.pin_file).resolve()
        if self.pins is None or self.pins.resolve() not in file.parents:
            # Any other file would be sent to a device as a PIN, three of which lock it.
            raise Invalid("pin-source: not in the directory that the operator set aside for PINs (--pkcs11-pins)")
        try:
            with file.open("rb") as opened:
                data = opened.read(limits.MAX_PIN + 1)
            pin = data.decode("utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as e:
            raise Invalid("pin-source: the file cannot be read") from e
        if not pin or len(data) > limits.MAX_PIN:
            raise Invalid(f"pin-source: empty, or more than {limits.MAX_PIN} bytes")
        return pin


def name_of(module: Path) -> str:
    """How `module-name` calls a module: `softhsm2` for `libsofthsm2.so`. Source: RFC 7512, 2.3."""
    return module.name.partition(".so")[0].removeprefix("lib")


class _Object(msgspec.Struct, rename="upper"):
    """A public key or certificate as the token describes it; values are hex."""

    kind: TokenObject = msgspec.field(name="kind")
    modulus: str | None = None
    public_exponent: str | None = None
    ec_params: str | None = None
    ec_point: str | None = None
    value: str | None = None


class _Answer(msgspec.Struct):
    """What the reader wrote."""

    objects: list[_Object] = []
    reason: str | None = None
    outage: bool = False
    not_there: bool = False
    pin_refused: bool = False


class TokenKeys:
    """Implements `remote.Source`. A token is read again and again: it may have been plugged in, or its key been replaced."""

    seconds = limits.TOKEN_SECONDS

    def __init__(self, modules: Modules, reader: Sequence[str] = (sys.executable, *_READER)) -> None:
        self._modules = modules
        self._reader = reader
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._refused: dict[TokenKey, str] = {}

    async def fetch(self, key: TokenKey) -> bytes | Unresolved:
        """The key or certificate, as PEM; `NoSuchKey` only by the token's own word. Raises `Unavailable` if token or module cannot be asked."""
        try:
            module, pin = self._modules.of(key), self._modules.pin_of(key)
        except Invalid as e:
            return Unresolved(f"{key}: {e}")
        if pin is not None and self._refused.get(key) == _hashed(pin):
            # A few wrong PINs lock a device for good.
            return Unresolved(f"{key}: its PIN was refused, and is not tried again until pin-source holds another")
        request = {
            "module": str(module),
            "on": dict(key.on),
            "label": key.label,
            "id": None if key.id is None else key.id.hex(),
            "kinds": ["public", "cert"] if key.kind is None else [key.kind],
            "pin": pin,
        }
        async with self._at_once:
            answer = await self._asked(request)
        if answer.pin_refused and pin is not None:
            self._refused[key] = _hashed(pin)
        if answer.reason is not None:
            if answer.outage:
                raise Unavailable(quote(answer.reason))
            missing = NoSuchKey if answer.not_there else Unresolved
            return missing(f"{key}: {quote(answer.reason)}")
        try:
            return _only_one(answer.objects, wants_certificate=key.kind == "cert")
        except Invalid as e:
            return NoSuchKey(f"{key}: {e}")

    async def _asked(self, request: Mapping[str, Any]) -> _Answer:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._reader,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                # A module's own words are no part of any answer, and may hold what nobody should read.
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as e:
            raise Unavailable(f"no process can be started to read it: {e.strerror}") from e
        try:
            async with asyncio.timeout(limits.TOKEN_READ_SECONDS):
                data = await _exchanged(process, json.dumps(request).encode())
                await process.wait()
        except TimeoutError as e:
            raise Unavailable(f"the module gave no answer within {limits.TOKEN_READ_SECONDS:.0f} s") from e
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if len(data) > limits.MAX_TOKEN_ANSWER:
            raise Unavailable(f"the token describes more than {limits.MAX_TOKEN_ANSWER} bytes")
        try:
            return convert(read_json(data, "the token's answer"), _Answer, "the token's answer")
        except Invalid as e:
            raise Unavailable("the module ended without an answer") from e


async def _exchanged(process: "asyncio.subprocess.Process", request: bytes) -> bytes:
    """What the process says to `request`, up to a byte more than it may."""
    if process.stdin is None or process.stdout is None:
        raise Unavailable("the reader has no pipes")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(request)
        await process.stdin.drain()
        process.stdin.close()
    data = b""
    while len(data) <= limits.MAX_TOKEN_ANSWER:
        more = await process.stdout.read(limits.MAX_TOKEN_ANSWER + 1 - len(data))
        if not more:
            break
        data += more
    return data


def _hashed(pin: str) -> str:
    return hashlib.sha256(pin.encode()).hexdigest()


def _only_one(objects: Sequence[_Object], *, wants_certificate: bool) -> bytes:
    """The PEM of the one object there is. Raises `Invalid`: which of two keys is meant is not for us to guess."""
    found = list(dict.fromkeys(_pem(one, wants_certificate=wants_certificate) for one in objects))
    if not found:
        raise Invalid("no such object on the token")
    if len(found) > 1:
        raise Invalid(f"{len(found)} objects have these attributes; name the id, too")
    return found[0]


def _pem(untrusted: _Object, *, wants_certificate: bool) -> bytes:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        if untrusted.kind == "cert":
            certificate = x509.load_der_x509_certificate(_bytes(untrusted.value))
            if wants_certificate:
                return certificate.public_bytes(Encoding.PEM)
            key: Any = certificate.public_key()
        else:
            key = _public_key(untrusted)
        pem: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as e:
        raise Invalid("the token holds no key that can be read") from e
    return pem


def _public_key(untrusted: _Object) -> Any:
    """The key that a token's attributes describe. Whether policies may trust it is for the formats to say. Raises ValueError.

    Source: PKCS #11, 2.3 "Elliptic curve" and 2.1 "RSA".
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if untrusted.modulus is not None:
        modulus, exponent = _bytes(untrusted.modulus), _bytes(untrusted.public_exponent)
        return rsa.RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus)).public_key()
    encoded = _bytes(untrusted.ec_point)
    if untrusted.ec_params in _EDWARDS:
        return ed25519.Ed25519PublicKey.from_public_bytes(_point(encoded, 32))
    named = _CURVES.get(untrusted.ec_params or "")
    if named is None:
        raise ValueError("an unknown curve")
    curve: ec.EllipticCurve = getattr(ec, named)()
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, _point(encoded, 2 * ((curve.key_size + 7) // 8) + 1))


def _point(encoded: bytes, size: int) -> bytes:
    """The point of `size` bytes in a DER OCTET STRING; some tokens leave that wrapping out. Raises ValueError."""
    header = bytes([0x04, size] if size < 128 else [0x04, 0x81, size])
    point = encoded if len(encoded) == size else encoded.removeprefix(header)
    if len(point) != size:
        raise ValueError("a point of another curve")
    return point


def _bytes(text: str | None) -> bytes:
    if not text:
        raise ValueError("an attribute is missing")
    return bytes.fromhex(text)
