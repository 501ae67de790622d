"""What cosign writes into registries: media types, annotations, and the JSON of manifests, bundles and payloads.

Read loosely where signers may add what we do not know, and strictly where a specification says that everything must be understood.
Sources: cosign, SIGNATURE_SPEC.md; sigstore, protobuf-specs `sigstore_bundle.proto`; OCI image specification, "manifest".
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from webhook.formats._simplesigning import Critical

SIGN_PREDICATE: Final = "https://sigstore.dev/cosign/sign/v1"
"""What a bundle must state to count as a signature. An attestation by the same key does not, unlike in cosign itself."""

SIMPLE_SIGNING: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
ENVELOPE: Final = "application/vnd.dsse.envelope.v1+json"
SIGNATURE_ARTIFACT: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"
BUNDLES: Final[Mapping[str, str]] = {
    "application/vnd.dev.sigstore.bundle.v0.3+json": "0.3",
    "application/vnd.dev.sigstore.bundle+json;version=0.3": "0.3",
    "application/vnd.dev.sigstore.bundle+json;version=0.2": "0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.1": "0.1",
}
"""Media types of bundles, and the version that each stands for."""
SIGNATURE: Final = "dev.cosignproject.cosign/signature"
CERTIFICATE: Final = "dev.sigstore.cosign/certificate"
CHAIN: Final = "dev.sigstore.cosign/chain"
ENTRY: Final = "dev.sigstore.cosign/bundle"
TIMESTAMP: Final = "dev.sigstore.cosign/rfc3161timestamp"
PAYLOAD_TYPES: Final = frozenset({"cosign container image signature"})


class PublicKeyMaterial(Struct):
    """Which key signed, by the hash of its SPKI: a hint, never a proof."""

    hint: str = ""


class Timestamps(Struct):
    """RFC 3161 timestamps over the signature."""

    rfc3161_timestamps: list[Any] | None = msgspec.field(default=None, name="rfc3161Timestamps")


class BundleTimestamp(Struct, rename="camel"):
    """One of them, base64 of a whole response."""

    signed_timestamp: str


class ClassicTimestamp(Struct):
    """The same beside a classic signature, in an annotation."""

    signed: str = msgspec.field(name="SignedRFC3161Timestamp")


class RawCertificate(Struct, rename="camel"):
    """A certificate, base64 of DER."""

    raw_bytes: str


class CertificateChain(Struct):
    """The signer's certificate first, then those that lead to a root."""

    certificates: list[RawCertificate]


class Material(Struct, rename="camel"):
    """What a bundle brings to be verified with; exactly one of the first three."""

    public_key: PublicKeyMaterial | None = None
    certificate: RawCertificate | None = None
    x509_certificate_chain: CertificateChain | None = msgspec.field(default=None, name="x509CertificateChain")
    tlog_entries: list[Any] | None = None
    timestamp_verification_data: Timestamps | None = None


class Bundle(Struct, rename="camel"):
    """A sigstore bundle, v0.1 to v0.3."""

    media_type: str
    verification_material: Material
    dsse_envelope: Any = None


class Payload(Struct):
    """What a classic signature is over."""

    critical: Critical
    optional: dict[str, Any] | None = None
