"""Judging cosign's signatures and bundles: what is true whichever layout they have."""

from collections.abc import AsyncGenerator, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from webhook import limits
from webhook.formats._dsse import read_envelope, strict_base64
from webhook.formats._identity import IdentityRule
from webhook.formats._keys import PublicKey, short
from webhook.formats._statement import PAYLOAD_TYPE, read_statement
from webhook.formats.cosign.collect import collect
from webhook.formats.cosign.wire import BUNDLES, PAYLOAD_TYPES, SIGN_PREDICATE, Bundle, Payload
from webhook.image import Repository, parse_digest
from webhook.parsing import Invalid, convert, quote, read_json
from webhook.trust import Claim, Evidence, Registry, Rejected, Untrusted
from webhook.verdict import Proof


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
        return subject.repository, subject.digest, self.identity.tag_of(subject), claim.predicate_type

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

    def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
        """Everything that may be a signature, from every place."""
        return collect(claim, registry, self.repository, dict(self.annotations))

    def check(self, evidence: Untrusted, claim: Claim, now: datetime) -> Proof:  # noqa: ARG002 - a bare key knows no time
        """Judges a bundle or a classic signature, whichever it is. Raises `Rejected` or `Invalid`."""
        parse_digest(claim.subject.digest)
        if "bundle" in evidence.parts:
            return self._check_bundle(evidence, claim)
        return self._check_classic(evidence, claim)

    def _check_bundle(self, evidence: Untrusted, claim: Claim) -> Proof:
        # (1) protobuf-specs: a bundle of a version we know.
        bundle = convert(read_json(evidence.parts["bundle"], "bundle"), Bundle, "bundle")
        if bundle.media_type not in BUNDLES:
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
        payload = convert(read_json(untrusted_payload, "payload"), Payload, "payload")
        critical = payload.critical
        if critical.type not in PAYLOAD_TYPES:
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
