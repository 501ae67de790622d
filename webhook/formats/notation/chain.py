"""The certificate chain in an envelope: complete, in order, and fit for signing code.

Not the general path validation of `_x509`: the Notary Project wants the chain as it stands in the envelope, judges its validity apart
from its making (a policy may only log the one), and honours three extensions.
Source: Notary Project, signature-specification.md, "Signature Algorithm Requirements", "Certificate Requirements".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from webhook import limits
from webhook.formats import _x509
from webhook.parsing import Invalid, quote
from webhook.trust import Rejected

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm
    from cryptography.x509 import Certificate, Extensions, KeyUsage

_RSA: Final = {2048: "PS256", 3072: "PS384", 4096: "PS512"}
_EC: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_STRONG: Final = frozenset({"sha256", "sha384", "sha512"})

# "Only Basic Constraints, Key Usage and Extended Key Usage are honored", by number. Of others the specification wants none to be
# looked at; one that says of itself that it must be understood (a critical name constraint, say) is refused all the same, but for
# those that restrict nothing that is looked at here: alternative names, and policies (RFC 5280, 6.1.1: any is accepted).
_UNDERSTOOD: Final = frozenset({"2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.17", "2.5.29.32"})

# "MUST NOT contain"; ocspSigning is not in the specification's list, and in notation's.
_OTHER_PURPOSES: Final = {
    "2.5.29.37.0": "anyExtendedKeyUsage",
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
}

# The specification's list of what a leaf must not be used for.
_OTHER_USAGES: Final = ("key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain whose every certificate was issued by the next one, the last by itself. Whether anybody trusts it is not said."""

    certificates: "tuple[Certificate, ...]"

    @property
    def leaf(self) -> "Certificate":
        """Whose key made the signature."""
        return self.certificates[0]


def read_chain(certificates: Sequence[bytes]) -> Chain:
    """The chain in DER, the leaf first. Raises `Invalid`, or `Rejected` for one that no signature may rest on."""
    if not certificates:
        raise Rejected("its certificate chain is empty")
    if len(certificates) > limits.MAX_CHAIN:
        raise Rejected(f"more than {limits.MAX_CHAIN} certificates in its chain")
    chain = tuple(_x509.parse_der(one, f"certificate {i}") for i, one in enumerate(certificates))
    last = len(chain) - 1
    for position, certificate in enumerate(chain):
        # Before any signature is verified with it: a key can be made to be slow.
        _x509.public_key(certificate)
        extensions = _extensions(certificate, position)
        if position == 0:
            _check_leaf(extensions)
        else:
            _check_authority(extensions, position)
    # From the end, where it is decided whether anybody could trust it: what leads nowhere is not followed further.
    for position, certificate in reversed(list(enumerate(chain))):
        issuer = chain[min(position + 1, last)]
        if not issued_by(certificate, issuer):
            wanted = "itself, so the chain is not complete" if position == last else f"certificate {position + 1}"
            raise Rejected(f"certificate {position} of its chain was not issued by {wanted}")
        if position < last and issued_by(certificate, certificate):
            raise Rejected(f"certificate {position} of its chain is self-signed, and not the last")
    return Chain(chain)


def verify(leaf: "Certificate", algorithm: str, signature: bytes, message: bytes) -> None:
    """Returns if the leaf's key made `signature` over `message`. Raises `Rejected`.

    The key decides about the algorithm, and the envelope must say the same ("Algorithm Selection").
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    key, wanted = _signing_key(leaf)
    if algorithm != wanted:
        raise Rejected(f"its algorithm is {algorithm}, and its key's is {wanted}")
    hashed = _hash_of(wanted)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PSS(padding.MGF1(hashed), hashed.digest_size), hashed)
            return
        # RFC 7518, 3.4, and RFC 9053, 2.1: two numbers of the curve's length, not DER.
        half = (key.key_size + 7) // 8
        if len(signature) != 2 * half:
            raise Rejected("its signature has not the length of its curve's")
        r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashed))
    except InvalidSignature as e:
        raise Rejected("its signature was not made by its certificate's key") from e


def algorithm_of(leaf: "Certificate") -> str:
    """The one algorithm that a leaf's key may sign with, by JWS's name. Raises `Rejected`."""
    return _signing_key(leaf)[1]


def _signing_key(leaf: "Certificate") -> "tuple[RSAPublicKey | EllipticCurvePublicKey, str]":
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA:
        return key, _RSA[key.key_size]
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _EC:
        return key, _EC[key.curve.name]
    raise Rejected("its key is none that may sign: RSA of 2048, 3072 or 4096 bits, ECDSA on P-256, P-384 or P-521")


def may_be_trusted(certificate: "Certificate") -> bool:
    """Whether a trust store may hold it: an authority's, or one that a signer has made for itself."""
    from cryptography.x509 import BasicConstraints, ExtensionNotFound

    try:
        is_authority = _x509.read_extensions(certificate, "").get_extension_for_class(BasicConstraints).value.ca
    except (ExtensionNotFound, Invalid):
        is_authority = False
    return is_authority or issued_by(certificate, certificate)


def begins(chain: Chain) -> datetime:
    """When the last certificate of the chain begins to be valid."""
    return max(certificate.not_valid_before_utc for certificate in chain.certificates)


def ends(chain: Chain) -> datetime:
    """When the first certificate of the chain ends."""
    return _x509.ends(chain.certificates)


def _hash_of(algorithm: str) -> "HashAlgorithm":
    from cryptography.hazmat.primitives import hashes

    return {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[2:]]


def issued_by(certificate: "Certificate", issuer: "Certificate") -> bool:
    """Whether `issuer` bears the name and the key that made `certificate`. Raises `Rejected` for a hash that proves nothing."""
    from cryptography.exceptions import InvalidSignature

    try:
        hashed = certificate.signature_hash_algorithm
        # None: Ed25519, which needs none.
        if hashed is not None and hashed.name not in _STRONG:
            raise Rejected(f"a certificate of its chain is signed with {quote(hashed.name, 20)}")
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    except _x509.unreadable():
        return False
    return True


def _extensions(certificate: "Certificate", position: int) -> "Extensions":
    extensions = _x509.read_extensions(certificate, f"certificate {position}")
    for extension in extensions:
        if extension.critical and extension.oid.dotted_string not in _UNDERSTOOD:
            raise Rejected(f"certificate {position} has the critical extension {extension.oid.dotted_string}")
    return extensions


def _check_leaf(extensions: "Extensions") -> None:
    from cryptography.x509 import BasicConstraints, ExtendedKeyUsage, ExtensionNotFound

    try:
        if extensions.get_extension_for_class(BasicConstraints).value.ca:
            raise Rejected("its leaf certificate is an authority's")
    except ExtensionNotFound:
        # "OPTIONAL"
        pass
    usage = _key_usage(extensions, "its leaf certificate")
    if not usage.digital_signature:
        raise Rejected("its leaf certificate is not for digital signatures")
    others = [name for name in _OTHER_USAGES if getattr(usage, name)]
    if others:
        raise Rejected(f"its leaf certificate is for {', '.join(others)} too")
    try:
        purposes = [one.dotted_string for one in extensions.get_extension_for_class(ExtendedKeyUsage).value]
    except ExtensionNotFound:
        # "OPTIONAL"
        return
    others = [_OTHER_PURPOSES[purpose] for purpose in purposes if purpose in _OTHER_PURPOSES]
    if others:
        raise Rejected(f"its leaf certificate is for {', '.join(others)}")


def _check_authority(extensions: "Extensions", position: int) -> None:
    from cryptography.x509 import BasicConstraints, ExtensionNotFound

    try:
        constraints = extensions.get_extension_for_class(BasicConstraints)
    except ExtensionNotFound as e:
        raise Rejected(f"certificate {position} of its chain is no authority's") from e
    if not constraints.critical or not constraints.value.ca:
        raise Rejected(f"certificate {position} of its chain is no authority's")
    # Below certificate 1 is the leaf, which does not count.
    below = position - 1
    if constraints.value.path_length is not None and constraints.value.path_length < below:
        raise Rejected(
            f"certificate {position} of its chain allows {constraints.value.path_length} authorities below it"
        )
    if not _key_usage(extensions, f"certificate {position} of its chain").key_cert_sign:
        raise Rejected(f"certificate {position} of its chain may not sign certificates")


def _key_usage(extensions: "Extensions", whose: str) -> "KeyUsage":
    from cryptography.x509 import ExtensionNotFound, KeyUsage

    try:
        usage = extensions.get_extension_for_class(KeyUsage)
    except ExtensionNotFound as e:
        raise Rejected(f"{whose} does not say what it is for") from e
    if not usage.critical:
        raise Rejected(f"the key usage of {whose} is not critical")
    return usage.value
