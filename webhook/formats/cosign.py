"""Cosign signatures by a public key: the classic layout and sigstore bundles.

Which of them an image carries is found out, never configured, and they are judged one by one: a broken one hides no good
one. Sources: cosign, SIGNATURE_SPEC.md; sigstore, protobuf-specs `sigstore_bundle.proto`; OCI distribution, "referrers".
"""

import itertools
from collections.abc import AsyncGenerator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta, Struct

from webhook import limits
from webhook.formats._dsse import read_envelope, strict_base64
from webhook.formats._identity import IdentityRule, IdentitySpec, read_identity
from webhook.formats._keys import PublicKey, parse_public_keys, short
from webhook.formats._statement import PAYLOAD_TYPE, read_statement
from webhook.image import DOCKER_HUB, Digest, Repository, Subject, digest_of, parse_digest, parse_repository
from webhook.parsing import Invalid, convert, quote, read_json
from webhook.policy.spec import Rule
from webhook.trust import (
    Claim,
    Descriptor,
    Evidence,
    Format,
    KeyRef,
    Manifest,
    Registry,
    Rejected,
    Unavailable,
    Untrusted,
)
from webhook.verdict import Proof

SIGN_PREDICATE: Final = "https://sigstore.dev/cosign/sign/v1"
"""What a bundle must state to count as a signature. An attestation by the same key does not, unlike in cosign itself."""

_SIMPLE_SIGNING: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE_ARTIFACT: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"
_BUNDLE_V03: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_BUNDLES: Final = frozenset(
    {
        _BUNDLE_V03,
        "application/vnd.dev.sigstore.bundle+json;version=0.3",
        "application/vnd.dev.sigstore.bundle+json;version=0.2",
        "application/vnd.dev.sigstore.bundle+json;version=0.1",
    }
)
_SIGNATURE: Final = "dev.cosignproject.cosign/signature"
_CERTIFICATE: Final = "dev.sigstore.cosign/certificate"
_PAYLOAD_TYPES: Final = frozenset({"cosign container image signature"})


class CosignSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`signers[].cosign`."""

    RULES: ClassVar = (
        Rule("has(self.key) != has(self.keys)", "exactly one of key and keys is wanted"),
        Rule("!has(self.keys) || size(self.keys) > 0", "empty, so nobody could have signed", ".keys"),
    )

    key: (
        Annotated[
            KeyRef,
            Meta(
                max_length=limits.MAX_KEY_TEXT,
                description="The public key: PEM, secret://…, configmap://… or k8s://….",
            ),
        ]
        | None
    ) = None
    keys: (
        Annotated[
            tuple[Annotated[KeyRef, Meta(max_length=limits.MAX_KEY_TEXT)], ...],
            Meta(max_length=limits.MAX_KEYS, description="Public keys, any of which may have signed (rotation)."),
        ]
        | None
    ) = None
    repository: (
        Annotated[str, Meta(max_length=limits.MAX_NAME, description="Where signatures lie, if not beside the image.")]
        | None
    ) = None
    annotations: Annotated[
        dict[str, Annotated[str, Meta(max_length=limits.MAX_TEXT)]],
        Meta(max_length=limits.MAX_GLOBS, description="Annotations that must have been signed."),
    ] = {}
    identity: Annotated[
        IdentitySpec, Meta(description="Which image name must have been signed; default: any, the digest counts.")
    ] = "digest"


class _Layer(Struct, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None


class _Config(Struct, rename="camel"):
    media_type: str = ""


class _Reference(Struct):
    digest: str


class _Artifact(Struct, rename="camel"):
    """A manifest that carries signatures."""

    layers: list[_Layer]
    config: _Config | None = None
    artifact_type: str | None = None
    subject: _Reference | None = None

    @property
    def kind(self) -> str:
        """What the artifact is, as the image specification defines it for lists of referrers."""
        return self.artifact_type or (self.config.media_type if self.config else "")


class _Index(Struct):
    manifests: list[_Reference]


@dataclass(frozen=True, slots=True)
class Cosign:
    """Any of these keys must have signed. `annotations` are pairs; `repository` is where signatures lie, if elsewhere."""

    anchors: tuple[PublicKey, ...]
    identity: IdentityRule
    annotations: frozenset[tuple[str, str]]
    repository: Repository | None

    def scope(self, claim: Claim) -> Hashable:
        """The digest; the name and tag only where the policy looks at them, or where they say where to read."""
        subject = claim.subject
        tag = subject.tag if self.identity.looks_at_tag else None
        return subject.repository, subject.digest, tag, claim.predicate_type

    def sources(self, claim: Claim) -> tuple[Repository, ...]:
        """The image's own repository, or the one that the policy names."""
        return (self.repository or claim.subject.repository,)

    def dangers(self) -> tuple[str, ...]:
        """None: a key is a key."""
        return ()

    def fingerprints(self) -> tuple[str, ...]:
        """Of all keys, in the order of the policy."""
        return tuple(key.fingerprint for key in self.anchors)

    def wanted(self) -> str:
        """The keys, shortened, and the annotations that have to be signed with them."""
        shown = " or ".join(short(key.fingerprint) for key in self.anchors[:3])
        more = f" or {len(self.anchors) - 3} more" if len(self.anchors) > 3 else ""
        pairs = "".join(f" -a {quote(name, 60)}={quote(value, 60)}" for name, value in sorted(self.annotations))
        return f"key {shown}{more}" + (f", annotations{pairs}" if pairs else "")

    # ── collect ──────────────────────────────────────────────────────────────────────────────────────────────────────
    async def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
        """Everything that may be a signature: the `.sig` tag, the referrers, and last the referrers fallback tag.

        The fallback tag is read although the registry has the referrers API: what was signed before it had one lies there.
        """
        image = claim.subject
        # Where the signatures lie; what they are about stays the image.
        place = Subject(self.repository or image.repository, image.digest, image.tag)
        tag = image.digest.replace(":", "-")
        found = await registry.attachments(place, f"{tag}.sig")
        budget = _Budget()
        if isinstance(found.tagged, Manifest):
            async for evidence in self._classic(found.tagged, f"{tag[:19]}….sig", claim, place, registry, budget):
                yield evidence
        elif found.tagged is not None:
            yield found.tagged
        seen: set[Digest] = set()
        if isinstance(found.referrers, Rejected | Unavailable):
            yield found.referrers
        else:
            async for evidence in self._referrers(found.referrers or (), seen, claim, place, registry, budget):
                yield evidence
        async for evidence in self._fallback(tag, seen, claim, place, registry, budget):
            yield evidence

    async def _fallback(
        self, tag: str, seen: set[Digest], claim: Claim, place: Subject, registry: Registry, budget: "_Budget"
    ) -> AsyncGenerator[Evidence, None]:
        try:
            index = await registry.manifest(place.repository, tag)
            if index is None:
                return
            listed = convert(read_json(index.body, "fallback index"), _Index, "fallback index").manifests
        except (Rejected, Unavailable, Invalid) as e:
            yield _as_evidence(e)
            return
        # Descriptors are known to carry wrong artifact types here, so nothing but the digest is taken from them.
        descriptors = [Descriptor(digest, "", 0) for entry in listed if (digest := _digest_or_none(entry.digest))]
        async for evidence in self._referrers(descriptors, seen, claim, place, registry, budget):
            yield evidence

    async def _referrers(
        self,
        descriptors: Sequence[Descriptor],
        seen: set[Digest],
        claim: Claim,
        place: Subject,
        registry: Registry,
        budget: "_Budget",
    ) -> AsyncGenerator[Evidence, None]:
        for descriptor in descriptors:
            if descriptor.digest in seen:
                continue
            if len(seen) >= limits.MAX_REFERRERS:
                yield Rejected(f"more than {limits.MAX_REFERRERS} referrers; the rest was not read")
                return
            seen.add(descriptor.digest)
            origin = f"referrer {descriptor.digest[:19]}…"
            try:
                manifest = await registry.manifest(place.repository, descriptor.digest)
                if manifest is None:
                    yield Rejected(f"{origin}: listed, but not there")
                    continue
                artifact = _artifact(manifest, origin)
                if artifact.kind not in _BUNDLES and artifact.kind != _SIGNATURE_ARTIFACT:
                    # Another tradition's signature, an SBOM: nothing of ours, and nothing to complain about.
                    continue
                if artifact.subject is None or artifact.subject.digest != claim.subject.digest:
                    yield Rejected(f"{origin}: refers to another image")
                    continue
            except (Rejected, Unavailable, Invalid) as e:
                yield _as_evidence(e)
                continue
            if artifact.kind == _SIGNATURE_ARTIFACT:
                async for evidence in self._layers(artifact, origin, claim, place, registry, budget):
                    yield evidence
            else:
                yield await _bundle(artifact, origin, place, registry, budget)

    async def _classic(
        self, manifest: Manifest, origin: str, claim: Claim, place: Subject, registry: Registry, budget: "_Budget"
    ) -> AsyncGenerator[Evidence, None]:
        try:
            artifact = _artifact(manifest, origin)
        except Invalid as e:
            yield _as_evidence(e)
            return
        async for evidence in self._layers(artifact, origin, claim, place, registry, budget):
            yield evidence

    async def _layers(
        self, artifact: _Artifact, origin: str, claim: Claim, place: Subject, registry: Registry, budget: "_Budget"
    ) -> AsyncGenerator[Evidence, None]:
        """Each layer is a payload, with its signature in an annotation."""
        for i, layer in enumerate(artifact.layers):
            if i >= limits.MAX_LAYERS or not budget.takes_signature():
                yield Rejected(f"{origin}: more than {limits.MAX_LAYERS} signatures; the rest was not read")
                return
            where = f"{origin} layer {i}"
            annotations = layer.annotations or {}
            signature = annotations.get(_SIGNATURE, "")
            if layer.media_type != _SIMPLE_SIGNING or not signature:
                yield Rejected(f"{where}: not a cosign signature")
                continue
            try:
                payload = self._rebuilt(layer, claim.subject) or await _fetched(layer, where, place, registry, budget)
            except (Rejected, Unavailable, Invalid) as e:
                yield _as_evidence(e)
                continue
            parts = {"payload": payload, "signature": signature.encode()}
            if annotations.get(_CERTIFICATE):
                parts["certificate"] = annotations[_CERTIFICATE].encode()
            yield Untrusted(where, parts)

    def _rebuilt(self, layer: _Layer, image: Subject) -> bytes | None:
        """The payload, if it is the one that cosign writes for this image: its digest then saves a request.

        Accepted only under the descriptor's digest and size, so these are the bytes that would have been fetched.
        """
        optional = dict(sorted(self.annotations)) or None
        # Cosign writes Docker Hub by its old name.
        name = str(image.repository)
        names = (name, f"index.{name}") if image.repository.registry == DOCKER_HUB else (name,)
        choices = (b"null", msgspec.json.encode(optional)) if optional else (b"null",)
        for signed_name, choice in itertools.product(names, choices):
            payload = (
                b'{"critical":{"identity":{"docker-reference":"%b"},"image":{"docker-manifest-digest":"%b"},'
                b'"type":"cosign container image signature"},"optional":%b}'
            ) % (signed_name.encode(), image.digest.encode(), choice)
            if len(payload) == layer.size and digest_of(payload) == layer.digest:
                return payload
        return None

    # ── check ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def check(self, evidence: Untrusted, claim: Claim, now: datetime) -> Proof:  # noqa: ARG002 - a bare key knows no time
        """Judges a bundle or a classic signature, whichever it is. Raises `Rejected` or `Invalid`."""
        parse_digest(claim.subject.digest)
        if "bundle" in evidence.parts:
            return self._check_bundle(evidence, claim)
        return self._check_classic(evidence, claim)

    def _check_bundle(self, evidence: Untrusted, claim: Claim) -> Proof:
        # (1) protobuf-specs: a bundle of a version we know.
        bundle = convert(read_json(evidence.parts["bundle"], "bundle"), _Bundle, "bundle")
        if bundle.media_type not in _BUNDLES:
            raise Rejected(f"bundle.mediaType: {quote(bundle.media_type, 80)} is not supported")
        # (2) Bounded, though a key signature rests on none of them.
        material = bundle.verification_material
        if len(material.tlog_entries or ()) > limits.MAX_LOG_ENTRIES:
            raise Rejected(f"bundle: more than {limits.MAX_LOG_ENTRIES} log entries")
        if material.timestamp_verification_data is not None:
            timestamps = material.timestamp_verification_data.rfc3161_timestamps or ()
            if len(timestamps) > limits.MAX_TIMESTAMPS:
                raise Rejected(f"bundle: more than {limits.MAX_TIMESTAMPS} timestamps")
        # (3) A key, and nothing else: a certificate's key is not "the key", whatever it is.
        if material.certificate is not None or material.x509_certificate_chain is not None:
            raise Rejected("signed with a certificate, and the policy names a key")
        if material.public_key is None or bundle.dsse_envelope is None:
            raise Rejected("bundle: not a signed statement with a public key")
        # (4) The hint chooses among the policy's keys and proves nothing.
        hint = material.public_key.hint
        keys = [key for key in self.anchors if not hint or key.hint == hint]
        if not keys:
            raise Rejected(f"signed by unknown key {_shown_hint(hint)}")
        # (5) DSSE: from here on the payload is what a key's owner wrote.
        envelope = read_envelope(bundle.dsse_envelope, "bundle.dsseEnvelope", PAYLOAD_TYPE)
        key = _signed_by(keys, envelope.signature, envelope.signed)
        # (6) It is about this image, and it is the sentence that was asked for.
        statement = read_statement(envelope.untrusted_payload, claim.subject)
        wanted = claim.predicate_type or SIGN_PREDICATE
        if statement.predicate_type != wanted:
            what = "an attestation" if claim.predicate_type is None else "a statement"
            raise Rejected(f"{what} of type {quote(statement.predicate_type, 80)}, not a signature")
        # (7) A bundle's signature names no image.
        self.identity.check(None, claim.subject)
        self._check_annotations(statement.annotations)
        return Proof("cosign", key.fingerprint, evidence.origin, statement=envelope.untrusted_payload)

    def _check_classic(self, evidence: Untrusted, claim: Claim) -> Proof:
        # (1) A classic signature is a plain signature: an attestation lies elsewhere.
        if claim.predicate_type is not None:
            raise Rejected("a signature, not an attestation")
        if "certificate" in evidence.parts:
            raise Rejected("signed with a certificate, and the policy names a key")
        # (2) SIGNATURE_SPEC "Signature": over the exact bytes of the payload.
        signature = strict_base64(evidence.parts["signature"].decode("ascii", "replace"), "signature")
        untrusted_payload = evidence.parts["payload"]
        key = _signed_by(self.anchors, signature, untrusted_payload)
        # (3) SIGNATURE_SPEC "Payload": only from here on is it what the key's owner wrote.
        payload = convert(read_json(untrusted_payload, "payload"), _Payload, "payload")
        critical = payload.critical
        if critical.type not in _PAYLOAD_TYPES:
            raise Rejected(f"payload.critical.type: {quote(critical.type, 80)}")
        # (4) It is about this digest.
        if critical.image.docker_manifest_digest != claim.subject.digest:
            raise Rejected(f"it is about another image, {quote(critical.image.docker_manifest_digest, 80)}")
        # (5) And about this name and these annotations, where the policy asks for them.
        self.identity.check(critical.identity.docker_reference, claim.subject)
        self._check_annotations(payload.optional or {})
        return Proof("cosign", key.fingerprint, evidence.origin)

    def _check_annotations(self, signed: Mapping[str, object]) -> None:
        for name, value in sorted(self.annotations):
            if signed.get(name) != value:
                raise Rejected(f"annotation {quote(name, 80)} is not {quote(value, 80)}")


class _Budget:
    """What one image and signer may still cost, over all places."""

    def __init__(self) -> None:
        self.signatures = limits.MAX_SIGNATURES
        self.bytes = limits.MAX_EVIDENCE

    def takes_signature(self) -> bool:
        """Counts one signature; False if that is one too many."""
        self.signatures -= 1
        return self.signatures >= 0

    def takes(self, size: int) -> bool:
        """Counts bytes; False if that is too many."""
        self.bytes -= max(size, 0)
        return self.bytes >= 0


class _PublicKeyMaterial(Struct):
    hint: str = ""


class _Timestamps(Struct):
    rfc3161_timestamps: list[Any] | None = msgspec.field(default=None, name="rfc3161Timestamps")


class _Material(Struct, rename="camel"):
    public_key: _PublicKeyMaterial | None = None
    certificate: Any = None
    x509_certificate_chain: Any = msgspec.field(default=None, name="x509CertificateChain")
    tlog_entries: list[Any] | None = None
    timestamp_verification_data: _Timestamps | None = None


class _Bundle(Struct, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: Any = None


class _SignedIdentity(Struct, rename="kebab", forbid_unknown_fields=True):
    docker_reference: str


class _SignedImage(Struct, rename="kebab", forbid_unknown_fields=True):
    docker_manifest_digest: str


class _Critical(Struct, forbid_unknown_fields=True):
    """Every member must be understood: that is what "critical" means."""

    identity: _SignedIdentity
    image: _SignedImage
    type: str


class _Payload(Struct):
    critical: _Critical
    optional: dict[str, Any] | None = None


def _artifact(manifest: Manifest, origin: str) -> _Artifact:
    return convert(read_json(manifest.body, origin), _Artifact, origin)


def _digest_or_none(text: str) -> Digest | None:
    try:
        return parse_digest(text)
    except Invalid:
        return None


def _as_evidence(error: Rejected | Unavailable | Invalid) -> Rejected | Unavailable:
    return Rejected(str(error)) if isinstance(error, Invalid) else error


async def _bundle(artifact: _Artifact, origin: str, place: Subject, registry: Registry, budget: _Budget) -> Evidence:
    if len(artifact.layers) != 1 or artifact.layers[0].media_type not in _BUNDLES:
        return Rejected(f"{origin}: expected exactly one layer, a bundle")
    if not budget.takes_signature():
        return Rejected(f"more than {limits.MAX_SIGNATURES} signatures; the rest was not read")
    try:
        return Untrusted(origin, {"bundle": await _fetched(artifact.layers[0], origin, place, registry, budget)})
    except (Rejected, Unavailable, Invalid) as e:
        return _as_evidence(e)


async def _fetched(layer: _Layer, origin: str, place: Subject, registry: Registry, budget: _Budget) -> bytes:
    """The layer's bytes. Raises `Invalid`, `Rejected` or `Unavailable`."""
    limit = limits.MAX_PAYLOAD if layer.media_type == _SIMPLE_SIGNING else limits.MAX_BLOB
    if not 0 <= layer.size <= limit:
        raise Rejected(f"{origin}: {layer.size} bytes, more than {limit}")
    if not budget.takes(layer.size):
        raise Rejected(f"{origin}: more than {limits.MAX_EVIDENCE} bytes of signatures in all")
    descriptor = Descriptor(parse_digest(layer.digest), layer.media_type, layer.size)
    content = await registry.blob(place.repository, descriptor, limit)
    if content is None:
        raise Rejected(f"{origin}: its content is not there")
    return content


def _signed_by(keys: Iterable[PublicKey], signature: bytes, message: bytes) -> PublicKey:
    """The first of the keys that made the signature. Raises `Rejected` if none did, or there are none."""
    for key in keys:
        try:
            key.verify(signature, message)
        except Rejected:
            continue
        return key
    raise Rejected("not signed by a key of this signer")


def _shown_hint(hint: str) -> str:
    """A bundle's hint as a fingerprint, if it has that form; it is the publisher's word."""
    try:
        content = strict_base64(hint, "hint")
    except Invalid:
        return quote(hint, 40)
    return short(f"SHA256:{content.hex()}") if len(content) == 32 else quote(hint, 40)


def _keys(spec: CosignSpec) -> Iterable[tuple[str, KeyRef]]:
    if spec.key is not None:
        yield ".key", spec.key
    for i, key in enumerate(spec.keys or ()):
        yield f".keys[{i}]", key


def _build(spec: CosignSpec, materials: Mapping[KeyRef, bytes]) -> Cosign:
    complaints: list[str] = []
    if (spec.key is None) == (spec.keys is None):
        complaints.append(": exactly one of key and keys is wanted")
    elif spec.keys is not None and not spec.keys:
        complaints.append(".keys: empty, so nobody could sign")
    anchors: dict[PublicKey, None] = {}
    for path, reference in _keys(spec):
        try:
            anchors.update(dict.fromkeys(parse_public_keys(materials[reference], path)))
        except Invalid as e:
            complaints += e.complaints
    try:
        repository = parse_repository(spec.repository) if spec.repository is not None else None
    except Invalid as e:
        complaints.append(f".repository: {e}")
        repository = None
    try:
        identity = read_identity(spec.identity, ".identity")
    except Invalid as e:
        complaints += e.complaints
        identity = IdentityRule("exact")
    if complaints:
        raise Invalid(*complaints)
    return Cosign(tuple(anchors), identity, frozenset(spec.annotations.items()), repository)


FORMAT: Final = Format(
    "cosign", "Signatures by cosign 2 and 3, whichever layout they have.", CosignSpec, keys=_keys, build=_build
)
