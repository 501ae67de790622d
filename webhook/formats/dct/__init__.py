"""Docker Content Trust: what a tag means, as Notary v1 has it signed, from a root that the policy pins.

A tradition that is being retired, for images that are still signed so. `spec` is what policies write, `collect` reads the server,
`verify` follows the chain of `wire`'s documents by `keys`, `signer` puts them in order.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, ParamSpec, TypeVar

from webhook.formats._keys import PublicKey, parse_public_keys
from webhook.formats._x509 import parse_certificates, public_key
from webhook.formats.dct.signer import Dct
from webhook.formats.dct.spec import DctSpec
from webhook.formats.dct.wire import is_role_path
from webhook.image import normalise_host
from webhook.parsing import Invalid, quote
from webhook.trust import Format, KeyRef

P = ParamSpec("P")
T = TypeVar("T")

_SERVER: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-zA-Z0-9.:\[\]-]+)(?P<path>(?:/(?!\.{1,2}(?:/|$))[a-zA-Z0-9._~-]+)*)/?"
)


def _keys(spec: DctSpec) -> Iterable[tuple[str, KeyRef]]:
    for i, key in enumerate(spec.root_keys):
        yield f".rootKeys[{i}]", key
    if spec.ca is not None:
        yield ".ca", spec.ca


def _examine(spec: DctSpec) -> tuple[str, ...]:
    complaints: list[str] = []
    _read(spec, complaints)
    if complaints:
        raise Invalid(*complaints)
    return ()


def _build(spec: DctSpec, materials: Mapping[KeyRef, bytes]) -> Dct:
    complaints: list[str] = []
    anchors: dict[PublicKey, None] = {}
    for path, reference in _keys(spec):
        if path != ".ca":
            read = _collected(complaints, _read_root_keys, materials[reference], path)
            anchors.update(dict.fromkeys(read or ()))
    server, delegations = _read(spec, complaints)
    ca = None if spec.ca is None else _collected(complaints, _read_authority, materials[spec.ca])
    if complaints or server is None or delegations is None:
        raise Invalid(*complaints)
    return Dct(server, tuple(anchors), delegations, ca)


def _read(spec: DctSpec, complaints: list[str]) -> tuple[str | None, tuple[str, ...] | None]:
    """What is written, whatever the keys are: the server and the roles, or None and what is wrong with them."""
    if not spec.root_keys:
        complaints.append(".rootKeys: empty, so nobody could have signed")
    return _collected(complaints, _read_server, spec), _collected(complaints, _read_delegations, spec.delegations)


def _collected(complaints: list[str], read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What `read` gives, or None and its complaints."""
    try:
        return read(*args, **kwargs)
    except Invalid as e:
        complaints += e.complaints
        return None


def _read_server(spec: DctSpec) -> str:
    """The server's URL without a slash at its end. Raises `Invalid`."""
    match = _SERVER.fullmatch(spec.server)
    if match is None:
        raise Invalid(f".server: {quote(spec.server, 80)} is not a URL like https://notary.example")
    try:
        normalise_host(match["host"])
    except Invalid as e:
        raise Invalid(f".server: {e}") from e
    if spec.ca is not None and match["scheme"] == "http":
        raise Invalid(".ca: without meaning beside a server without TLS")
    return f"{match['scheme']}://{match['host'].lower()}{match['path']}"


def _read_root_keys(data: bytes, path: str) -> tuple[PublicKey, ...]:
    """Public keys, or those in certificates. Raises `Invalid`."""
    if b"-----BEGIN CERTIFICATE-----" not in data:
        return parse_public_keys(data, path)
    if b"PUBLIC KEY-----" in data:
        raise Invalid(f"{path}: public keys and certificates in one string; give them one by one")
    try:
        return tuple(public_key(certificate) for certificate in parse_certificates(data, path))
    except Invalid as e:
        raise Invalid(*(text if text.startswith(path) else f"{path}: {text}" for text in e.complaints)) from e


def _read_delegations(names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The full names of the roles. Raises `Invalid`."""
    complaints = []
    for i, name in enumerate(names or ()):
        if name == "targets" or name.startswith("targets/"):
            complaints.append(f".delegations[{i}]: {quote(name, 80)}: write it without `targets/`")
        elif not is_role_path(name):
            complaints.append(
                f".delegations[{i}]: {quote(name, 80)} is not a delegation's name: lower-case letters, digits, `-`, `_`, and `/` between"
            )
    if names is not None and not names:
        complaints.append(".delegations: empty, so nobody would have to sign")
    if complaints:
        raise Invalid(*complaints)
    return tuple(f"targets/{name}" for name in dict.fromkeys(names or ()))


def _read_authority(data: bytes) -> bytes:
    """The certificates in one form, so that equal ones are equal. Raises `Invalid`."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in parse_certificates(data, ".ca"))


FORMAT: Final = Format(
    "dct",
    "Docker Content Trust (Notary v1): what a tag means. Being retired.",
    DctSpec,
    keys=_keys,
    build=_build,
    examine=_examine,
)
