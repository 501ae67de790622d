"""A signature as somebody published it, classic or bundle, in one form. Everything in here is untrusted, and nothing is judged.

Log entries and timestamps are read only where a policy rests on them: what it does not look at does no harm.
Sources: cosign, SIGNATURE_SPEC.md; sigstore, protobuf-specs `sigstore_bundle.proto`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webhook import limits
from webhook.formats._dsse import read_envelope, strict_base64
from webhook.formats._rekor import Entry, Wanted, read_annotation, read_entry
from webhook.formats._statement import PAYLOAD_TYPE
from webhook.formats._x509 import parse_certificates, parse_der
from webhook.formats.cosign.wire import BUNDLES, Bundle, BundleTimestamp, ClassicTimestamp, Material, RawCertificate
from webhook.parsing import convert, quote, read_json
from webhook.trust import Rejected, Untrusted

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


@dataclass(frozen=True, slots=True)
class Published:
    """One signature.

    `message` is what the signature is over; `untrusted_payload` is read only after it was verified, and is an in-toto statement if
    `is_statement`, else a simple-signing payload. `hint` names the key; there is a certificate, or a key signed.
    """

    is_statement: bool
    untrusted_payload: bytes
    message: bytes
    signature: bytes
    hint: str = ""
    certificate: "Certificate | None" = None
    intermediates: "tuple[Certificate, ...]" = ()
    wanted: Wanted = "promise"
    raw_entries: tuple[Any, ...] = ()
    raw_timestamps: tuple[Any, ...] = ()
    annotation: bytes | None = None
    timestamp: bytes | None = None

    @property
    def envelope_payload(self) -> bytes | None:
        """What its envelope holds; None for a classic signature, which has no envelope."""
        return self.untrusted_payload if self.is_statement else None

    def entries(self) -> tuple[Entry, ...]:
        """The log entries. Raises `Invalid` or `Rejected` if one of them is none."""
        if self.annotation is not None:
            return (read_annotation(self.annotation, "bundle annotation"),)
        return tuple(
            read_entry(raw, f"bundle.verificationMaterial.tlogEntries[{i}]", self.wanted)
            for i, raw in enumerate(self.raw_entries)
        )

    def timestamps(self) -> tuple[bytes, ...]:
        """The timestamps, over the raw bytes of the signature. Raises `Invalid`."""
        if self.timestamp is not None:
            where = "rfc3161timestamp annotation"
            read = convert(read_json(self.timestamp, where), ClassicTimestamp, where)
            return (strict_base64(read.signed, where),)
        path = "bundle.verificationMaterial.timestampVerificationData.rfc3161Timestamps"
        return tuple(_timestamp(raw, f"{path}[{i}]") for i, raw in enumerate(self.raw_timestamps))


def _timestamp(raw: Any, path: str) -> bytes:
    return strict_base64(convert(raw, BundleTimestamp, path).signed_timestamp, path)


def read_published(evidence: Untrusted) -> Published:
    """The signature in a piece of evidence. Raises `Invalid` or `Rejected`."""
    return _read_bundle(evidence.parts["bundle"]) if "bundle" in evidence.parts else _read_layer(evidence.parts)


def _read_bundle(content: bytes) -> Published:
    # (1) protobuf-specs: a bundle of a version we know.
    bundle = convert(read_json(content, "bundle"), Bundle, "bundle")
    version = BUNDLES.get(bundle.media_type)
    if version is None:
        raise Rejected(f"bundle.mediaType: {quote(bundle.media_type, 80)} is not supported")
    # (2) Bounded, whether anything rests on them or not.
    material = bundle.verification_material
    entries = material.tlog_entries or ()
    if len(entries) > limits.MAX_LOG_ENTRIES:
        raise Rejected(f"bundle: more than {limits.MAX_LOG_ENTRIES} log entries")
    stamped = material.timestamp_verification_data
    timestamps = (stamped.rfc3161_timestamps if stamped else None) or ()
    if len(timestamps) > limits.MAX_TIMESTAMPS:
        raise Rejected(f"bundle: more than {limits.MAX_TIMESTAMPS} timestamps")
    # (3) Exactly one signer.
    certificates = _certificates(material, version)
    if bundle.dsse_envelope is None or (material.public_key is None) is not bool(certificates):
        raise Rejected("bundle: not a signed statement with either a public key or a certificate")
    # (4) DSSE: one signature, over the payload and its type.
    envelope = read_envelope(bundle.dsse_envelope, "bundle.dsseEnvelope", PAYLOAD_TYPE)
    return Published(
        is_statement=True,
        untrusted_payload=envelope.untrusted_payload,
        message=envelope.signed,
        signature=envelope.signature,
        hint=material.public_key.hint if material.public_key else "",
        certificate=certificates[0] if certificates else None,
        intermediates=certificates[1:],
        wanted="promise" if version == "0.1" else "proof",
        raw_entries=tuple(entries),
        raw_timestamps=tuple(timestamps),
    )


def _certificates(material: Material, version: str) -> "tuple[Certificate, ...]":
    """The signer's certificate and those that came with it; none for a signature by key."""
    path = "bundle.verificationMaterial"
    chain = material.x509_certificate_chain
    if chain is None:
        one = material.certificate
        return () if one is None else (_certificate(one, f"{path}.certificate"),)
    if material.certificate is not None or version not in {"0.1", "0.2"}:
        raise Rejected(f"{path}.x509CertificateChain: a bundle of this version has `certificate` alone")
    if not 0 < len(chain.certificates) <= limits.MAX_INTERMEDIATES + 1:
        raise Rejected(f"{path}.x509CertificateChain: {len(chain.certificates)} certificates")
    return tuple(
        _certificate(one, f"{path}.x509CertificateChain.certificates[{i}]") for i, one in enumerate(chain.certificates)
    )


def _certificate(written: RawCertificate, path: str) -> "Certificate":
    return parse_der(strict_base64(written.raw_bytes, f"{path}.rawBytes"), path)


def _read_layer(parts: Mapping[str, bytes]) -> Published:
    """A layer of a `.sig` or `.att` tag. ATTESTATION_SPEC: what lies beside an attestation is what lies beside a signature."""
    certificates = parse_certificates(parts["certificate"], "certificate") if "certificate" in parts else ()
    if len(certificates) > 1:
        raise Rejected(f"certificate: {len(certificates)} certificates, expected the signer's alone")
    chain = parse_certificates(parts["chain"], "chain") if "chain" in parts else ()
    if len(chain) > limits.MAX_INTERMEDIATES:
        raise Rejected(f"chain: more than {limits.MAX_INTERMEDIATES} certificates")
    if "envelope" in parts:
        envelope = read_envelope(read_json(parts["envelope"], "envelope"), "envelope", PAYLOAD_TYPE)
        payload, message, signature = envelope.untrusted_payload, envelope.signed, envelope.signature
    else:
        # SIGNATURE_SPEC "Signature": over the exact bytes of the payload.
        payload = message = parts["payload"]
        signature = strict_base64(parts["signature"].decode("ascii", "replace"), "signature")
    return Published(
        is_statement="envelope" in parts,
        untrusted_payload=payload,
        message=message,
        signature=signature,
        certificate=certificates[0] if certificates else None,
        intermediates=chain,
        annotation=parts.get("entry"),
        timestamp=parts.get("timestamp"),
    )
