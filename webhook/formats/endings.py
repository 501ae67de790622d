"""When the material of keys ends: certificates, GPG keys, trust roots. For people who have to renew it in time; nothing is decided by it.

Whether it *counts* at some moment is the formats' to say. Here is only the day that stands in it.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from cryptography import x509

from webhook.formats._trustroot import TrustRoot, parse_trust_root
from webhook.formats.gpg.keyring import Certificate, Key, parse_keyring
from webhook.parsing import Invalid, quote

EndingKind = Literal["certificate", "key", "trust_root", "validity", "hardware"]
ENDING_KINDS: Final[tuple[EndingKind, ...]] = ("certificate", "key", "trust_root", "validity", "hardware")


@dataclass(frozen=True, slots=True)
class Ending:
    """Something that ends `at` a time, which is aware; `what`, in words that follow the name of a signer."""

    kind: EndingKind
    what: str
    at: datetime


# The same keys stand in many policies, and are read again whenever one of them changes.
@functools.lru_cache(maxsize=128)
def endings_of(format_name: str, material: bytes) -> tuple[Ending, ...]:
    """What of a signer's material ends, and when; empty where nothing does, or where it cannot be told."""
    try:
        if format_name == "gpg":
            return tuple(_of_keyring(parse_keyring(material, "")))
        if material.lstrip().startswith(b"{"):
            return tuple(_of_trust_root(parse_trust_root(material, "")))
        return tuple(_of_certificate(one) for one in x509.load_pem_x509_certificates(material))
    except (Invalid, ValueError):
        return ()


def _of_certificate(certificate: x509.Certificate) -> Ending:
    subject = quote(certificate.subject.rfc4514_string() or f"{certificate.serial_number:x}", 120)
    return Ending("certificate", f"certificate {subject}", certificate.not_valid_after_utc)


def _of_keyring(certificates: Iterable[Certificate]) -> Iterator[Ending]:
    for certificate in certificates:
        for key in certificate.signing_keys:
            ends = [end for end in (_end_of_key(certificate.primary), _end_of_key(key)) if end is not None]
            if ends:
                yield Ending("key", f"key GPG:{key.fingerprint}", min(ends))


def _end_of_key(key: Key) -> datetime | None:
    """As its newest self-signature says."""
    last = max((one.created for one in key.self_signatures), default=None)
    return min(
        (one.until for one in key.self_signatures if one.created == last and one.until is not None), default=None
    )


def _of_trust_root(root: TrustRoot) -> Iterator[Ending]:
    """Of each kind of thing the last one: that older ones have ended is how a trust root grows."""
    groups: dict[str, list[datetime | None]] = {
        "certificate authority": [
            _first(one.window.ends, *(c.not_valid_after_utc for c in (one.anchor, *one.intermediates)))
            for one in root.authorities
        ],
        "transparency log": [one.window.ends for one in root.logs],
        "certificate log": [one.window.ends for one in root.certificate_logs],
        "timestamp authority": [
            _first(one.valid_until, *(c.not_valid_after_utc for c in (*one.roots, *one.intermediates)))
            for one in root.timestamp_authorities
        ],
    }
    for what, ends in groups.items():
        known = [end for end in ends if end is not None]
        if known and len(known) == len(ends):
            yield Ending("trust_root", f"the last {what} of its trust root", max(known))


def _first(*ends: datetime | None) -> datetime | None:
    return min((end for end in ends if end is not None), default=None)
