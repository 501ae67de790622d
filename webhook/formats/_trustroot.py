"""Sigstore's trust root: the authorities and logs of one instance, each in its own window.

Read from the JSON form that sigstore distributes and `cosign trusted-root create` writes. What is newer than we are, a kind of key among
it, is left out, so that a root may grow; what is malformed is refused.
Source: sigstore, protobuf-specs `sigstore_trustroot.proto`.
"""

import functools
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, Struct

from webhook import limits
from webhook.formats._dsse import strict_base64
from webhook.formats._keys import public_key_of
from webhook.formats._logs import Log, Window
from webhook.formats._timestamp import Authority
from webhook.formats._x509 import parse_der, public_key, verify_chain
from webhook.parsing import Invalid, convert, read_json
from webhook.trust import Rejected

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_MEDIA_TYPES: Final = frozenset(
    {
        "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "application/vnd.dev.sigstore.trustedroot+json;version=0.2",
        "application/vnd.dev.sigstore.trustedroot.v0.2+json",
    }
)
# Those that a signature by such a key is checked for (`_keys.PublicKey.verify`); RSA with PSS and what comes after are not.
_KEY_DETAILS: Final = frozenset(
    {
        "PKIX_RSA_PKCS1V15_2048_SHA256",
        "PKIX_RSA_PKCS1V15_3072_SHA256",
        "PKIX_RSA_PKCS1V15_4096_SHA256",
        "PKIX_ECDSA_P256_SHA_256",
        "PKIX_ECDSA_P384_SHA_384",
        "PKIX_ECDSA_P521_SHA_512",
        "PKIX_ED25519",
    }
)

_Time = Annotated[datetime, Meta(tz=True)]


class _Window(Struct):
    start: _Time | None = None
    end: _Time | None = None


class _PublicKey(Struct, rename="camel"):
    raw_bytes: str
    key_details: str
    valid_for: _Window | None = None


class _LogId(Struct, rename="camel"):
    key_id: str


class _Log(Struct, rename="camel"):
    public_key: _PublicKey
    log_id: _LogId
    checkpoint_key_id: _LogId | None = None


class _Certificate(Struct, rename="camel"):
    raw_bytes: str


class _Chain(Struct):
    certificates: list[_Certificate]


class _Authority(Struct, rename="camel"):
    cert_chain: _Chain
    valid_for: _Window | None = None


class _TrustedRoot(Struct, rename="camel"):
    media_type: str
    tlogs: list[_Log] = []
    certificate_authorities: list[_Authority] = []
    ctlogs: list[_Log] = []
    timestamp_authorities: list[_Authority] = []


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """An authority that issues signers' certificates: the certificate that is trusted, and those between it and the signers'."""

    anchor: "Certificate"
    intermediates: "tuple[Certificate, ...]"
    window: Window


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """One instance of sigstore. Known by the hash of the JSON it was read from: equal bytes, equal root.

    `anchors` are the fingerprints of its certificate authorities' keys.
    """

    digest: bytes
    authorities: tuple[CertificateAuthority, ...] = field(compare=False)
    logs: tuple[Log, ...] = field(compare=False)
    certificate_logs: tuple[Log, ...] = field(compare=False)
    timestamp_authorities: tuple[Authority, ...] = field(compare=False)
    anchors: tuple[str, ...] = field(compare=False)

    def chain(self, leaf: "Certificate", moments: "tuple[datetime, ...]") -> "tuple[Certificate, ...]":
        """The chain from `leaf` to one authority that was in force at every one of the moments, as was the whole chain.

        All moments count, and all for one authority: otherwise somebody who has an expired certificate could show a time by which it
        was valid beside the one when it was used (attack C-10). Raises `Rejected`.
        """
        if not moments:
            raise Rejected("nothing that is trusted says when it was signed")
        reasons = ["the trust root has no certificate authority"]
        for authority in self.authorities:
            if not all(authority.window.includes(moment) for moment in moments):
                reasons.append("its certificate's authority was not in force when it was signed")
                continue
            try:
                chains = [verify_chain(leaf, authority.intermediates, [authority.anchor], at) for at in moments]
            except Rejected as e:
                reasons.append(str(e))
                continue
            if len(chains[0]) > 1:
                return chains[0]
            reasons.append("its certificate is an authority's own")
        raise Rejected(reasons[-1])


@functools.lru_cache(maxsize=16)
def parse_trust_root(data: bytes, path: str) -> TrustRoot:
    """The trust root in a `trusted_root.json`. Raises `Invalid` beginning with `path`.

    Nothing of `data` is repeated: it may be somebody's Secret.
    """
    if len(data) > limits.MAX_KEY_MATERIAL:
        raise Invalid(f"{path}: more than {limits.MAX_KEY_MATERIAL} bytes")
    try:
        document = read_json(data, path)
    except Invalid as e:
        raise Invalid(f"{path}: not the JSON of a trust root") from e
    root = convert(document, _TrustedRoot, path)
    if root.media_type not in _MEDIA_TYPES:
        raise Invalid(f"{path}.mediaType: not that of a trust root whose version is known")
    for name in ("tlogs", "certificate_authorities", "ctlogs", "timestamp_authorities"):
        if len(getattr(root, name)) > limits.MAX_ROOT_ENTRIES:
            raise Invalid(f"{path}: more than {limits.MAX_ROOT_ENTRIES} {name.replace('_', ' ')}")
    authorities = tuple(
        _authority(one, f"{path}.certificateAuthorities[{i}]") for i, one in enumerate(root.certificate_authorities)
    )
    return TrustRoot(
        digest=hashlib.sha256(data).digest(),
        authorities=authorities,
        anchors=tuple(dict.fromkeys(fingerprint for one in authorities for fingerprint in _fingerprint(one.anchor))),
        logs=_logs(root.tlogs, f"{path}.tlogs"),
        certificate_logs=_logs(root.ctlogs, f"{path}.ctlogs"),
        timestamp_authorities=tuple(
            _timestamp_authority(one, f"{path}.timestampAuthorities[{i}]")
            for i, one in enumerate(root.timestamp_authorities)
        ),
    )


def _window(window: _Window | None, path: str) -> Window:
    if window is None:
        return Window()
    try:
        return Window(*(None if at is None else at.astimezone(UTC) for at in (window.start, window.end)))
    except OverflowError as e:
        raise Invalid(f"{path}: a time beyond all calendars") from e


def _logs(logs: list[_Log], path: str) -> tuple[Log, ...]:
    return tuple(_log(log, f"{path}[{i}]") for i, log in enumerate(logs) if log.public_key.key_details in _KEY_DETAILS)


def _log(log: _Log, path: str) -> Log:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    identity = strict_base64(log.log_id.key_id, f"{path}.logId.keyId")
    noted = log.checkpoint_key_id
    der = strict_base64(log.public_key.raw_bytes, f"{path}.publicKey.rawBytes")
    try:
        key = public_key_of(load_der_public_key(der))
    except Invalid as e:
        raise Invalid(f"{path}.publicKey.rawBytes: {e}") from e
    except (ValueError, UnsupportedAlgorithm) as e:
        raise Invalid(f"{path}.publicKey.rawBytes: not a public key that can be read") from e
    return Log(
        identity=identity,
        key=key,
        window=_window(log.public_key.valid_for, f"{path}.publicKey.validFor"),
        note_identity=identity if noted is None else strict_base64(noted.key_id, f"{path}.checkpointKeyId.keyId"),
    )


def _certificates(authority: _Authority, path: str) -> "tuple[Certificate, ...]":
    """A chain as it is written: the certificate nearest to the signer's first, the anchor last."""
    written = authority.cert_chain.certificates
    if not 0 < len(written) <= limits.MAX_INTERMEDIATES + 1:
        raise Invalid(f"{path}.certChain: {len(written)} certificates, expected 1 to {limits.MAX_INTERMEDIATES + 1}")
    paths = [f"{path}.certChain.certificates[{i}].rawBytes" for i in range(len(written))]
    return tuple(
        parse_der(strict_base64(one.raw_bytes, where), where) for one, where in zip(written, paths, strict=True)
    )


def _fingerprint(anchor: "Certificate") -> tuple[str, ...]:
    """For people: of a key that a signer's own would not be accepted with, an authority's may all the same be."""
    try:
        return (public_key(anchor).fingerprint,)
    except Invalid:
        return ()


def _authority(authority: _Authority, path: str) -> CertificateAuthority:
    *intermediates, anchor = _certificates(authority, path)
    return CertificateAuthority(anchor, tuple(intermediates), _window(authority.valid_for, f"{path}.validFor"))


def _timestamp_authority(authority: _Authority, path: str) -> Authority:
    certificates = _certificates(authority, path)
    if len(certificates) < 2:
        raise Invalid(f"{path}.certChain: a timestamp authority's own certificate and its root are wanted")
    certificate, *intermediates, root = certificates
    window = _window(authority.valid_for, f"{path}.validFor")
    return Authority((root,), tuple(intermediates), certificate, window.begins, window.ends)
