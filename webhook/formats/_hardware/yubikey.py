"""YubiKey PIV attestation: a certificate that the device itself has made about a key in one of its slots.

A device makes it only of keys that it generated: of an imported key there is none. It is signed by the key in slot f9, whose
certificate leads to a root of the vendor, or to one's own, if one has put another key there. Source: Yubico, "PIV attestation" and
"PIV Attestation OID Arc".
"""

import re
from typing import TYPE_CHECKING, Final

from webhook.formats._hardware.chain import Evidence, device_chain, window
from webhook.formats._x509 import extensions_of
from webhook.trust import Device, Rejected

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.x509 import Certificate

_ARC: Final = "1.3.6.1.4.1.41482.3"
_FIRMWARE: Final = f"{_ARC}.3"
_SERIAL: Final = f"{_ARC}.7"
_POLICY: Final = f"{_ARC}.8"
_FORM_FACTOR: Final = f"{_ARC}.9"
_FIPS: Final = f"{_ARC}.10"
_SLOT: Final = re.compile(r"YubiKey PIV Attestation (?P<slot>9[acde]|8[2-9a-f]|9[0-5])")
_PIN: Final = {1: "never", 2: "once", 3: "always", 4: "match once", 5: "match always"}
_TOUCH: Final = {1: "never", 2: "always", 3: "cached"}
_FORMS: Final = {
    1: "USB-A", 2: "USB-A nano", 3: "USB-C", 4: "USB-C nano", 5: "Lightning and USB-C", 6: "USB-A bio", 7: "USB-C bio",
}  # fmt: skip
# CVE-2017-15361: RSA keys that this firmware generated can be factored, and attestation proves that it did.
_WEAK_RSA: Final = ((4, 2, 6), (4, 3, 4))


def vouch(leaf: "Certificate", key: str, evidence: Evidence) -> Device:
    """The device that holds `key`, as the certificate about it says. Raises `Rejected`."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    # (1) "Subject will be the string YubiKey PIV Attestation with the attested slot appended."
    slot = _slot(leaf)
    # (2) The firmware wrote what it knows of the key; a certificate by any other hand has none of it.
    firmware = _bytes(leaf, _FIRMWARE, 3)
    pin, touch = _bytes(leaf, _POLICY, 2)
    if pin not in _PIN or touch not in _TOUCH:
        raise Rejected("its PIN and touch policy are none that a YubiKey has")
    serial = _integer(leaf, _SERIAL)
    version = (firmware[0], firmware[1], firmware[2])
    if isinstance(leaf.public_key(), rsa.RSAPublicKey) and _WEAK_RSA[0] <= version <= _WEAK_RSA[1]:
        raise Rejected(f"firmware {_dotted(version)} generates RSA keys that can be factored (CVE-2017-15361)")
    # (3) An attested key signs images and no certificates: it must not be able to attest others.
    _refuse_authority(leaf)
    # (4) The device's certificate, and those between it and a pinned root.
    chain = device_chain(leaf, evidence)
    begins, ends = window(chain)
    fips = ", FIPS" if any(one.oid.dotted_string == _FIPS for one in extensions_of(chain[1])) else ""
    about = f"YubiKey {serial}{_form(leaf)}, firmware {_dotted(version)}{fips}, slot {slot}, PIN {_PIN[pin]}, touch {_TOUCH[touch]}"
    return Device(key, "proven", about, begins, ends)


def _slot(leaf: "Certificate") -> str:
    from cryptography.x509.oid import NameOID

    names = [name.value for name in leaf.subject]
    match = _SLOT.fullmatch(str(names[0])) if len(names) == 1 else None
    if match is None or not leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        raise Rejected("it is no attestation of a slot of a YubiKey")
    return match["slot"]


def _value(leaf: "Certificate", oid: str) -> bytes | None:
    """The content of an extension of the vendor's, None if it is missing."""
    from cryptography.x509 import UnrecognizedExtension

    for one in extensions_of(leaf):
        if one.oid.dotted_string == oid and isinstance(one.value, UnrecognizedExtension):
            return one.value.value
    return None


def _bytes(leaf: "Certificate", oid: str, size: int) -> bytes:
    """So many bytes, as they are or in a DER OCTET STRING: firmware writes one or the other."""
    value = _value(leaf, oid)
    if value is None:
        raise Rejected(f"it has no extension {oid}")
    content = value.removeprefix(bytes([0x04, size])) if len(value) == size + 2 else value
    if len(content) != size:
        raise Rejected(f"its extension {oid} is none that a YubiKey writes")
    return content


def _integer(leaf: "Certificate", oid: str) -> int:
    """A DER INTEGER, which is not negative."""
    value = _value(leaf, oid)
    if value is None:
        raise Rejected(f"it has no extension {oid}")
    if not 3 <= len(value) <= 10 or value[:2] != bytes([0x02, len(value) - 2]) or value[2] >= 0x80:
        raise Rejected(f"its extension {oid} is none that a YubiKey writes")
    return int.from_bytes(value[2:])


def _form(leaf: "Certificate") -> str:
    """The form, where the firmware tells it; the high bits are flags."""
    if _value(leaf, _FORM_FACTOR) is None:
        return ""
    form = _bytes(leaf, _FORM_FACTOR, 1)[0] & 0x0F
    return f" ({_FORMS[form]})" if form in _FORMS else ""


def _refuse_authority(leaf: "Certificate") -> None:
    from cryptography.x509 import BasicConstraints

    for one in extensions_of(leaf):
        if isinstance(one.value, BasicConstraints) and one.value.ca:
            raise Rejected("it is an authority's")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
