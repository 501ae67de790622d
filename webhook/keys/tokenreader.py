"""Reads one PKCS#11 token, in a process of its own: `python -m webhook.keys.tokenreader`.

A module is somebody else's machine code. It may hang in a call that nobody can cancel, crash, or print; here it does so to nobody but
itself. Only public objects are looked at, and nothing is judged: what is found is written down for the process that asked.

Nothing heavy may be imported here beside python-pkcs11: the process is started again for every look.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

_MAX_SLOTS: Final = 64
_MAX_OBJECTS: Final = 16
_MAX_ATTRIBUTE: Final = 64 * 1024

Answer = dict[str, Any]


class Unreadable(Exception):
    """Nothing could be read. `outage`: the module or the device failed, so that nothing is known of the object."""

    def __init__(self, reason: str, *, outage: bool = False) -> None:
        super().__init__(reason)
        self.outage = outage


class NotThere(Unreadable):
    """The token was asked, and has not the one object that is meant."""


def main() -> None:
    """Reads a request on standard input, and writes one answer on standard output."""
    # What a module prints must not be taken for our answer.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    json.dump(answer(json.load(sys.stdin.buffer)), answers)
    answers.flush()
    # Without the module's own farewell, which may hang, too.
    os._exit(0)


def answer(request: Mapping[str, Any]) -> Answer:
    """What is on the token: `objects`, or `reason` why there are none, and whether that is an `outage`, or the token's word."""
    try:
        import pkcs11
    except ImportError:
        return {"reason": "python-pkcs11 is not installed: the extra `pkcs11` has it", "outage": False}
    try:
        return {"objects": list(_objects(pkcs11, request))}
    except Unreadable as e:
        return {"reason": str(e), "outage": e.outage, "not_there": isinstance(e, NotThere)}
    except (pkcs11.PinIncorrect, pkcs11.PinLocked, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinExpired) as e:
        return {"reason": f"the PIN is refused ({type(e).__name__})", "outage": False, "pin_refused": True}
    except pkcs11.PKCS11Error as e:
        # The library has a type for every answer of a module, and none for a module that cannot be loaded.
        named = type(e) is not pkcs11.PKCS11Error
        reason = f"the module answers {type(e).__name__}" if named else f"the module cannot be loaded: {str(e)[:200]}"
        return {"reason": reason, "outage": True}


def _objects(pkcs11: Any, request: Mapping[str, Any]) -> Iterator[Answer]:
    token = _token(pkcs11.lib(request["module"]), request["on"])
    with token.open(user_pin=request["pin"]) as session:
        for kind in request["kinds"]:
            found = list(_of_kind(pkcs11, session, request, kind))
            if found:
                yield from found
                return
        if next(_found(pkcs11, session, request, "private"), None) is not None:
            raise NotThere("only the private key is there; store its public key or a certificate beside it")
    raise NotThere("no such object on the token")


def _token(library: Any, on: Mapping[str, str]) -> Any:
    """The one token that has all these attributes."""
    found = []
    for slot in library.get_slots(token_present=True)[:_MAX_SLOTS]:
        token = slot.get_token()
        values = {
            "token": token.label,
            "manufacturer": token.manufacturer_id,
            "serial": _plain(token.serial),
            "model": token.model,
            "slot-id": str(slot.slot_id),
            "slot-manufacturer": slot.manufacturer_id,
            "slot-description": slot.slot_description,
            "library-manufacturer": library.manufacturer_id,
            "library-description": library.library_description,
            "library-version": ".".join(map(str, library.library_version)),
        }
        if all(_same(name, values[name], wanted) for name, wanted in on.items()):
            found.append(token)
    if not found:
        raise Unreadable("no such token is present", outage=True)
    if len(found) > 1:
        raise Unreadable(f"{len(found)} tokens have these attributes; name the serial, too")
    return found[0]


def _plain(serial: bytes | str) -> str:
    return serial.decode("utf-8", "replace").strip() if isinstance(serial, bytes) else serial.strip()


def _same(name: str, has: str, wanted: str) -> bool:
    if name == "slot-id":
        return int(has) == int(wanted)
    if name == "library-version":
        # RFC 7512 2.3: a version without its minor part is MAJOR.0.
        return has == (wanted if "." in wanted else f"{wanted}.0")
    return has == wanted


def _found(pkcs11: Any, session: Any, request: Mapping[str, Any], kind: str) -> Iterator[Any]:
    classes = {
        "public": pkcs11.ObjectClass.PUBLIC_KEY,
        "cert": pkcs11.ObjectClass.CERTIFICATE,
        "private": pkcs11.ObjectClass.PRIVATE_KEY,
    }
    wanted: dict[Any, Any] = {pkcs11.Attribute.CLASS: classes[kind]}
    if request["label"] is not None:
        wanted[pkcs11.Attribute.LABEL] = request["label"]
    if request["id"] is not None:
        wanted[pkcs11.Attribute.ID] = bytes.fromhex(request["id"])
    yield from session.get_objects(wanted)


def _of_kind(pkcs11: Any, session: Any, request: Mapping[str, Any], kind: str) -> Iterator[Answer]:
    for count, found in enumerate(_found(pkcs11, session, request, kind)):
        if count >= _MAX_OBJECTS:
            raise NotThere(f"more than {_MAX_OBJECTS} objects have these attributes; name the id, too")
        names = ["VALUE"]
        if kind == "public":
            names = {
                pkcs11.KeyType.RSA: ["MODULUS", "PUBLIC_EXPONENT"],
                pkcs11.KeyType.EC: ["EC_PARAMS", "EC_POINT"],
                pkcs11.KeyType.EC_EDWARDS: ["EC_PARAMS", "EC_POINT"],
            }.get(found[pkcs11.Attribute.KEY_TYPE], [])
        if not names:
            raise NotThere(f"a key of type {found[pkcs11.Attribute.KEY_TYPE]!s}; accepted: ECDSA, RSA, Ed25519")
        values = {name: bytes(found[pkcs11.Attribute[name]]) for name in names}
        if any(len(value) > _MAX_ATTRIBUTE for value in values.values()):
            raise NotThere("an attribute is too large")
        yield {"kind": kind, **{name: value.hex() for name, value in values.items()}}


if __name__ == "__main__":
    main()
