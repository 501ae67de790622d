"""Whose word a timestamp is: the certificates behind it, so that their issuers can be asked about them.

That the timestamp is good is for `_timestamp` to say. Source: Notary Project, trust-store-trust-policy.md, "Validate Trusted
Timestamp"; RFC 5652, section 5.3.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from webhook import limits
from webhook.formats import _x509
from webhook.formats.notation.chain import issued_by
from webhook.parsing import Invalid
from webhook.trust import Rejected

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.x509 import Certificate


def read_authority(untrusted_token: bytes, trusted: "Sequence[Certificate]") -> "tuple[Certificate, ...]":
    """The certificates of whoever signed a bare token, up to the first that is trusted. Raises `Rejected` if there is none."""
    try:
        written, signer = _read(untrusted_token)
    except Exception as e:
        # A token is a stranger's, and what the library raises for one has no name in common.
        raise Rejected("timestamp: not a token that can be read") from e
    try:
        known = [_x509.parse_der(one, "certificate") for one in written]
        # Before any signature is verified with it: a key can be made to be slow.
        for one in known:
            _x509.public_key(one)
    except Invalid as e:
        raise Rejected(f"timestamp: {e}") from e
    own = [one for one, der in zip(known, written, strict=True) if der == signer]
    chain = own[:1]
    while chain and chain[-1] not in trusted:
        above = [one for one in (*trusted, *known) if one not in chain and issued_by(chain[-1], one)]
        if not above:
            break
        chain.append(above[0])
    if not chain or chain[-1] not in trusted:
        raise Rejected("timestamp: not signed by an authority that is trusted")
    return tuple(chain)


def _read(untrusted_token: bytes) -> tuple[list[bytes], bytes | None]:
    """The certificates in a token, and which of them it says has signed it, in DER. Raises all that the library raises."""
    from asn1crypto import cms

    if len(untrusted_token) > limits.MAX_TIMESTAMP:
        raise ValueError("too many bytes")
    content = cms.ContentInfo.load(untrusted_token, strict=True)["content"]
    certificates: list[Any] = [one.chosen for one in content["certificates"]]
    if len(certificates) > limits.MAX_INTERMEDIATES + 1:
        raise ValueError("too many certificates")
    [signer] = content["signer_infos"]
    named = signer["sid"].chosen
    own = [one.dump() for one in certificates if _is_named(one, named)]
    return [one.dump() for one in certificates], own[0] if own else None


def _is_named(certificate: Any, named: Any) -> bool:
    """By its issuer and number, or by its key's identifier."""
    from asn1crypto import cms

    if isinstance(named, cms.IssuerAndSerialNumber):
        return bool(
            certificate.serial_number == named["serial_number"].native
            and certificate.issuer.dump() == named["issuer"].dump()
        )
    return bool(certificate.key_identifier == named.native)
