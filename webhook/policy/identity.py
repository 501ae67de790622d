"""What a policy is, as one hash: the same on every replica and after every start, another as soon as it asks for something else.

A record of what was verified counts only for the very policy it was verified under, keys included. Only what policies are made of
is taken; anything else is an error, so that two policies can never be the same for want of looking.
"""

import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from webhook import __version__
from webhook.moment import in_utc
from webhook.policy.policy import Policy, Terms
from webhook.trust import Unresolved

_TOLD: Final[frozenset[str]] = frozenset({"mode", "message", "on_outage", "afterwards"})
"""What says how a verdict is carried out, and not what it is: a policy may be told to bear with an outage in the middle of one."""


def identity_of(policy: Policy) -> bytes:
    """SHA-256 over this version of ours and everything that the policy demands.

    The version is in it because another one may know better what satisfies. Raises TypeError for a value that no policy may have.
    """
    hashed = hashlib.sha256(__version__.encode())
    for part in _members(policy):
        hashed.update(part)
    return hashed.digest()


def _members(value: object) -> Iterator[bytes]:
    yield _sized(type(value).__qualname__.encode())
    without = _TOLD if isinstance(value, Terms) else frozenset()
    for field in fields(value):  # type: ignore[arg-type]  # whoever calls has looked
        if field.compare and field.name not in without:
            yield from _parts(getattr(value, field.name))


def _parts(value: object) -> Iterator[bytes]:
    """The value as bytes that no other value has: each with its type and its size."""
    match value:
        case tuple():
            yield b"tuple %d " % len(value)
            for one in value:
                yield from _parts(one)
        case frozenset():
            # No order of its own, so that of what it holds.
            yield b"set %d " % len(value)
            yield from sorted(b"".join(_parts(one)) for one in value)
        case Unresolved():
            # Why a key could not be read changes from one try to the next; that it could not is what counts.
            yield b"unresolved "
        case _ if is_dataclass(value):
            yield from _members(value)
        case _:
            yield _sized(f"{type(value).__qualname__} ".encode() + _plain(value))


def _plain(value: object) -> bytes:
    match value:
        case None | bool() | int() | str() | dt.timedelta():
            return str(value).encode()
        case bytes():
            return value
        case dt.datetime():
            return in_utc(value).isoformat().encode()
        case x509.Certificate():
            return value.public_bytes(Encoding.DER)
    raise TypeError(f"{type(value).__qualname__} has no place in a policy's identity")


def _sized(data: bytes) -> bytes:
    return b"%d:%s" % (len(data), data)
