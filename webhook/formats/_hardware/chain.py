"""From a certificate about a key to one of the pinned roots, as devices issue them.

Not `_x509.verify_chain`: the certificates that a device makes of itself are older than the Web's profile, and lack key usages and key
identifiers that it demands. What makes a path is checked all the same: names, signatures, who may issue, how deep. Source: RFC 5280, 6.1.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from webhook import limits
from webhook.formats._x509 import extensions_of, public_key
from webhook.parsing import Invalid
from webhook.trust import Rejected

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.x509 import Certificate

_HASHES = frozenset({"sha256", "sha384", "sha512"})


@dataclass(slots=True)
class Evidence:
    """What a policy brings: certificates, untrusted and in any order, and the roots that it pins.

    `checks`: how many more signatures of certificates are looked at; names that are all alike would make for many.
    """

    untrusted: "tuple[Certificate, ...]"
    roots: "tuple[Certificate, ...]"
    checks: int


def device_chain(leaf: "Certificate", evidence: Evidence) -> "tuple[Certificate, ...]":
    """The chain from `leaf` to a pinned root, timeless. Raises `Rejected`."""
    chain = [leaf]
    while len(chain) <= limits.MAX_DEVICE_CHAIN:
        root = _issuer(chain, evidence.roots, evidence)
        if root is not None:
            return (*chain, root)
        issuer = _issuer(chain, evidence.untrusted, evidence)
        if issuer is None:
            raise Rejected("it leads to none of the pinned roots")
        chain.append(issuer)
    raise Rejected(f"more than {limits.MAX_DEVICE_CHAIN} certificates below a root")


def _issuer(
    chain: "list[Certificate]", candidates: "tuple[Certificate, ...]", evidence: Evidence
) -> "Certificate | None":
    """The one of the candidates that issued the last certificate of the chain, and may."""
    for candidate in candidates:
        # A certificate stands in a chain once; its name may be that of several, so the signature decides.
        if candidate.subject == chain[-1].issuer and candidate not in chain and _may_issue(candidate, len(chain) - 1):
            if not evidence.checks:
                raise Rejected("too many certificates of the same name")
            evidence.checks -= 1
            if _has_signed(candidate, chain[-1]):
                return candidate
    return None


def _may_issue(issuer: "Certificate", below: int) -> bool:
    """Whether it is an authority's, with at most so many authorities below it as there are (RFC 5280, 4.2.1.3 and 4.2.1.9)."""
    from cryptography.x509 import BasicConstraints, ExtensionNotFound, KeyUsage

    extensions = extensions_of(issuer)
    try:
        constraints = extensions.get_extension_for_class(BasicConstraints).value
    except ExtensionNotFound:
        return False
    try:
        may_sign = extensions.get_extension_for_class(KeyUsage).value.key_cert_sign
    except ExtensionNotFound:
        # Devices leave it out.
        may_sign = True
    return constraints.ca and may_sign and (constraints.path_length is None or constraints.path_length >= below)


def _has_signed(issuer: "Certificate", certificate: "Certificate") -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        # A weak key signs for anybody.
        public_key(issuer)
        hash_ = certificate.signature_hash_algorithm
        # Ed25519 brings its own.
        if hash_ is not None and hash_.name not in _HASHES:
            return False
        certificate.verify_directly_issued_by(issuer)
    except (Invalid, InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def window(chain: "tuple[Certificate, ...]") -> tuple[datetime, datetime]:
    """From when until when all of a chain is valid."""
    return max(one.not_valid_before_utc for one in chain), min(one.not_valid_after_utc for one in chain)
