"""Policies in a code-signing certificate: an authority's word that its subscriber's key is in a certified device.

The authority has not seen the key being made; it has committed itself, and audits what it commits itself to. Source: CA/Browser Forum,
"Baseline Requirements for the Issuance and Management of Publicly-Trusted Code Signing Certificates", 1.2, 6.2.7.4 and 7.1.6.
"""

import datetime as dt
from typing import TYPE_CHECKING, Final

from webhook import limits
from webhook.formats._hardware.chain import Evidence, window
from webhook.formats._x509 import extensions_of, require_code_signing, verify_chain
from webhook.parsing import quote
from webhook.trust import Device, Rejected

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.x509 import Certificate

_EXTENDED: Final = "2.23.140.1.3"
"""Extended validation: keys in hardware from the beginning."""
_ORDINARY: Final = "2.23.140.1.4.1"
"""Without it: keys in hardware for certificates since `_HARDWARE_SINCE`."""
_HARDWARE_SINCE: Final = dt.datetime(2023, 6, 1, tzinfo=dt.UTC)
_ANY_POLICY: Final = "2.5.29.32.0"
_POLICY_MAPPINGS: Final = "2.5.29.33"


def vouch(leaf: "Certificate", key: str, evidence: Evidence) -> Device:
    """The certificate that speaks for `key`. Raises `Rejected`."""
    # (1) It is a certificate for signing code, and leads to a pinned root.
    require_code_signing(leaf)
    chain = _chain(leaf, evidence)
    # (2) It says by which rules it was issued, and they demand a device.
    stated = _policies(leaf)
    if _EXTENDED in stated:
        policy, rules = _EXTENDED, "EV code signing"
    elif _ORDINARY in stated and leaf.not_valid_before_utc >= _HARDWARE_SINCE:
        policy, rules = _ORDINARY, "code signing"
    elif _ORDINARY in stated:
        raise Rejected("it is from before June 2023, when its policy did not yet demand hardware")
    else:
        raise Rejected(f"it states neither policy {_EXTENDED} nor {_ORDINARY}")
    # (3) RFC 5280, 6.1.3 (d): a policy holds if every authority below the root states it, or any.
    inhibited = any(_inhibits_any_policy(one) for one in chain[1:])
    for authority in chain[1:-1]:
        allowed = _policies(authority)
        if policy not in allowed and (inhibited or _ANY_POLICY not in allowed):
            raise Rejected("an authority between it and the root does not issue by that policy")
        if any(one.oid.dotted_string == _POLICY_MAPPINGS for one in extensions_of(authority)):
            raise Rejected("an authority between it and the root renames policies")
    begins, ends = window(chain)
    about = f"{rules} certificate {leaf.serial_number:x} by {quote(leaf.issuer.rfc4514_string(), 120)}"
    return Device(key, "claimed", about, begins, ends)


def _chain(leaf: "Certificate", evidence: Evidence) -> "tuple[Certificate, ...]":
    """The chain, valid at some time at least: at the beginning of the certificate, or of a root that is younger."""
    others = tuple(one for one in evidence.untrusted if one != leaf and _is_authority(one))[: limits.MAX_INTERMEDIATES]
    begins = leaf.not_valid_before_utc
    younger = [one.not_valid_before_utc for one in (*others, *evidence.roots)]
    latest = max((at for at in younger if begins < at < leaf.not_valid_after_utc), default=begins)
    try:
        return verify_chain(leaf, others, evidence.roots, begins)
    except Rejected:
        return verify_chain(leaf, others, evidence.roots, latest)


def _is_authority(certificate: "Certificate") -> bool:
    from cryptography.x509 import BasicConstraints

    return any(isinstance(one.value, BasicConstraints) and one.value.ca for one in extensions_of(certificate))


def _policies(certificate: "Certificate") -> frozenset[str]:
    from cryptography.x509 import CertificatePolicies

    return frozenset(
        policy.policy_identifier.dotted_string
        for one in extensions_of(certificate)
        if isinstance(one.value, CertificatePolicies)
        for policy in one.value
    )


def _inhibits_any_policy(certificate: "Certificate") -> bool:
    from cryptography.x509 import InhibitAnyPolicy

    return any(isinstance(one.value, InhibitAnyPolicy) for one in extensions_of(certificate))
