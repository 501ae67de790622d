"""Signs into a `FakeRegistry` exactly as cosign does; every field can be overridden, so that an attack is one argument away."""

import base64
import copy
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.fake.registry import EMPTY_CONFIG, OCI_INDEX, OCI_MANIFEST, FakeRegistry, to_json
from webhook.formats._dsse import pae
from webhook.image import Digest, digest_of

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
SIGN = "https://sigstore.dev/cosign/sign/v1"
SLSA = "https://slsa.dev/provenance/v1"
IN_TOTO = "application/vnd.in-toto+json"


class Signs(Protocol):
    """Whoever can sign: a private key, or a token that has one."""

    @property
    def hint(self) -> str:
        """Which key, as bundles write it."""
        ...

    def sign(self, message: bytes) -> bytes:
        """A signature in the form in which it is published."""
        ...


@dataclass(frozen=True)
class SigningKey:
    """A private key as a signer holds it."""

    private: Private

    @classmethod
    def generate(cls) -> "SigningKey":
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @property
    def spki(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def pem(self) -> str:
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def fingerprint(self) -> str:
        return f"SHA256:{digest_of(self.spki).removeprefix('sha256:')}"

    @property
    def hint(self) -> str:
        return base64.b64encode(bytes.fromhex(self.fingerprint.removeprefix("SHA256:"))).decode()

    def sign(self, message: bytes) -> bytes:
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(message)
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return self.private.sign(message, ec.ECDSA(hashes.SHA256()))


@functools.cache
def key(name: str) -> SigningKey:
    """A key by name, the same one each time it is asked for: making keys is slow, and tests need to tell them apart."""
    return SigningKey.generate()


Edit = Callable[[dict[str, Any]], None]
"""Changes a document in place, before it is signed or after, as the argument says."""


def _edited(document: Mapping[str, Any], edit: Edit | None) -> dict[str, Any]:
    changed = copy.deepcopy(dict(document))
    if edit is not None:
        edit(changed)
    return changed


# ── the classic layout ───────────────────────────────────────────────────────────────────────────────────────────────
def payload(path: str, digest: str, annotations: Mapping[str, object] | None = None) -> dict[str, Any]:
    """The simple-signing payload that cosign signs."""
    return {
        "critical": {
            "identity": {"docker-reference": f"registry.test/{path}"},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": dict(annotations) if annotations else None,
    }


def classic_layer(registry: FakeRegistry, signer: Signs, content: bytes, edit: Edit | None = None) -> dict[str, Any]:
    """A layer: the payload, and its signature in an annotation. `edit` changes the layer after signing."""
    layer = {
        "mediaType": SIMPLE_SIGNING,
        "size": len(content),
        "digest": registry.push_blob(content),
        "annotations": {"dev.cosignproject.cosign/signature": base64.b64encode(signer.sign(content)).decode()},
    }
    return _edited(layer, edit)


def sign_classic(
    registry: FakeRegistry,
    path: str,
    digest: Digest,
    signer: Signs,
    *,
    annotations: Mapping[str, object] | None = None,
    edit_payload: Edit | None = None,
    edit_layer: Edit | None = None,
    content: bytes | None = None,
) -> None:
    """Adds a signature to the `.sig` tag, behind those that are there."""
    signed = content if content is not None else to_json(_edited(payload(path, digest, annotations), edit_payload))
    tag = f"{digest.replace(':', '-')}.sig"
    layers: list[Any] = []
    if (path, tag) in registry.tags:
        layers = json.loads(registry.manifests[path, registry.tags[path, tag]].body)["layers"]
    push_signature_manifest(registry, path, digest, [*layers, classic_layer(registry, signer, signed, edit_layer)])


def push_signature_manifest(
    registry: FakeRegistry, path: str, digest: Digest, layers: list[Any], suffix: str = ".sig"
) -> None:
    """Puts a manifest with these layers under the `.sig` tag, or the `.att` tag."""
    config = b"{}"
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": digest_of(config)},
        "layers": layers,
    }
    registry.push_manifest(path, document, tag=f"{digest.replace(':', '-')}{suffix}")


# ── bundles ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def statement(digest: str, predicate_type: str = SIGN, annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The in-toto statement that cosign 3 signs: a subject without a name, an empty predicate."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": digest.removeprefix("sha256:")}, "annotations": dict(annotations or {})}],
        "predicateType": predicate_type,
        "predicate": {},
    }


def envelope(signer: Signs, signed: bytes, payload_type: str = IN_TOTO) -> dict[str, Any]:
    """A DSSE envelope over these bytes, without a key's id, as cosign 3 writes it."""
    signature = signer.sign(pae(payload_type, signed))
    return {
        "payload": base64.b64encode(signed).decode(),
        "payloadType": payload_type,
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }


def bundle(signer: Signs, signed: bytes, payload_type: str = IN_TOTO) -> dict[str, Any]:
    """A v0.3 bundle over these bytes."""
    return {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": signer.hint}},
        "dsseEnvelope": envelope(signer, signed, payload_type),
    }


def sign_bundle(
    registry: FakeRegistry,
    path: str,
    digest: Digest,
    signer: Signs,
    *,
    predicate_type: str = SIGN,
    annotations: Mapping[str, str] | None = None,
    fallback: bool = False,
    edit_statement: Edit | None = None,
    edit_bundle: Edit | None = None,
    edit_manifest: Edit | None = None,
    signed: bytes | None = None,
    content: bytes | None = None,
) -> Digest:
    """Pushes a bundle as a referrer; with `fallback` it is also listed under the fallback tag, with the wrong type."""
    if signed is None:
        signed = to_json(_edited(statement(digest, predicate_type, annotations), edit_statement))
    if content is None:
        content = to_json(_edited(bundle(signer, signed), edit_bundle))
    layer = {"mediaType": BUNDLE, "size": len(content), "digest": registry.push_blob(content)}
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": BUNDLE,
        "config": EMPTY_CONFIG,
        "layers": [layer],
        "subject": {"mediaType": OCI_MANIFEST, "size": 1, "digest": digest},
    }
    pushed = registry.push_manifest(path, _edited(document, edit_manifest))
    if fallback:
        list_in_fallback(registry, path, digest, pushed)
    return pushed


# ── attestations ─────────────────────────────────────────────────────────────────────────────────────────────────────
def attestation(digest: str, predicate_type: str = SLSA, predicate: object = None, path: str = "app") -> dict[str, Any]:
    """The in-toto statement that `cosign attest` signs: of version 0.1, with the repository's name."""
    return {
        "_type": "https://in-toto.io/Statement/v0.1",
        "subject": [{"name": f"registry.test/{path}", "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": predicate_type,
        "predicate": {} if predicate is None else predicate,
    }


def attest(
    registry: FakeRegistry,
    path: str,
    digest: Digest,
    signer: SigningKey,
    predicate_type: str = SLSA,
    predicate: object = None,
    *,
    edit: Edit | None = None,
    **options: Any,
) -> Digest:
    """Pushes an attestation as a bundle; `edit` changes the statement before it is signed, `options` are those of `sign_bundle`."""
    signed = to_json(_edited(attestation(digest, predicate_type, predicate, path), edit))
    return sign_bundle(registry, path, digest, signer, signed=signed, **options)


def attest_tagged(
    registry: FakeRegistry,
    path: str,
    digest: Digest,
    signer: SigningKey,
    predicate_type: str = SLSA,
    predicate: object = None,
    *,
    edit: Edit | None = None,
    edit_envelope: Edit | None = None,
    edit_layer: Edit | None = None,
) -> None:
    """Adds an attestation to the `.att` tag, behind those that are there, as cosign 2 does."""
    signed = to_json(_edited(attestation(digest, predicate_type, predicate, path), edit))
    content = to_json(_edited(envelope(signer, signed), edit_envelope))
    layer = {
        "mediaType": ENVELOPE,
        "size": len(content),
        "digest": registry.push_blob(content),
        "annotations": {"dev.cosignproject.cosign/signature": "", "predicateType": predicate_type},
    }
    tag = f"{digest.replace(':', '-')}.att"
    layers: list[Any] = []
    if (path, tag) in registry.tags:
        layers = json.loads(registry.manifests[path, registry.tags[path, tag]].body)["layers"]
    push_signature_manifest(registry, path, digest, [*layers, _edited(layer, edit_layer)], ".att")


def list_in_fallback(registry: FakeRegistry, path: str, digest: Digest, referrer: str) -> None:
    """Adds a referrer to the index under the fallback tag, as go-containerregistry writes it."""
    tag = digest.replace(":", "-")
    entries: list[Any] = []
    if (path, tag) in registry.tags:
        entries = json.loads(registry.manifests[path, registry.tags[path, tag]].body)["manifests"]
    wrong = "application/vnd.oci.empty.v1+json"
    entries.append({"mediaType": OCI_MANIFEST, "size": 1, "digest": referrer, "artifactType": wrong})
    registry.push_manifest(path, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, OCI_INDEX, tag)
