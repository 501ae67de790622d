"""Judging cosign's signatures and bundles: what is true whoever signed, and whichever layout it has."""

from collections.abc import AsyncGenerator, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime

from webhook.formats._identity import IdentityRule
from webhook.formats._statement import read_statement
from webhook.formats.cosign.collect import collect
from webhook.formats.cosign.published import Published, read_published
from webhook.formats.cosign.signatory import SignedBy
from webhook.formats.cosign.wire import PAYLOAD_TYPES, SIGN_PREDICATE, Payload
from webhook.image import Repository, parse_digest
from webhook.parsing import convert, quote, read_json
from webhook.trust import Claim, Evidence, Registry, Rejected, Unrelated, Untrusted
from webhook.verdict import Proof


@dataclass(frozen=True, slots=True)
class Cosign:
    """`by` must have signed. `annotations` are pairs; `repository` is where signatures lie, if elsewhere."""

    by: SignedBy
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
        """Those of whoever has to have signed."""
        return self.by.dangers()

    def fingerprints(self) -> tuple[str, ...]:
        """Of the keys, or of the authorities' keys."""
        return self.by.fingerprints()

    def wanted(self) -> str:
        """Whoever has to have signed, and the annotations that have to be signed too."""
        pairs = "".join(f" -a {quote(name, 60)}={quote(value, 60)}" for name, value in sorted(self.annotations))
        return self.by.wanted() + (f", annotations{pairs}" if pairs else "")

    def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
        """Everything that may be a signature, from every place."""
        return collect(claim, registry, self.repository, dict(self.annotations))

    def check(self, evidence: Untrusted, claim: Claim, now: datetime) -> Proof:
        """Judges a bundle, an envelope or a classic signature, whichever it is. Raises `Rejected` or `Invalid`."""
        parse_digest(claim.subject.digest)
        # (1) A classic signature is a plain signature, and an envelope without a bundle around it never is one.
        if claim.predicate_type is None and "envelope" in evidence.parts:
            raise Unrelated("an attestation, not a signature")
        published = read_published(evidence)
        if claim.predicate_type is not None and not published.is_statement:
            raise Unrelated("a signature, not an attestation")
        # (2) Who signed, and when: only from here on is the payload what they wrote.
        signatory = self.by.verify(published, now)
        # (3) It is about this image, and it is the sentence that was asked for.
        if published.is_statement:
            self._check_statement(published, claim)
        else:
            self._check_payload(published, claim)
        return Proof(
            "cosign",
            signatory.identity,
            evidence.origin,
            signed_at=signatory.signed_at,
            statement=published.envelope_payload,
            valid_until=signatory.valid_until,
            keys=signatory.keys,
            serial=signatory.serial,
            log_index=signatory.log_index,
            ends=signatory.ends,
        )

    def _check_statement(self, verified: Published, claim: Claim) -> None:
        statement = read_statement(verified.untrusted_payload, claim.subject)
        stated = quote(statement.predicate_type, 80)
        if claim.predicate_type is None and statement.predicate_type != SIGN_PREDICATE:
            raise Unrelated(f"an attestation of type {stated}, not a signature")
        if claim.predicate_type is not None and statement.predicate_type != claim.predicate_type:
            what = "a signature" if statement.predicate_type == SIGN_PREDICATE else f"of type {stated}"
            raise Unrelated(f"{what}, not of type {quote(claim.predicate_type, 80)}")
        # A bundle's signature names no image; an attestation names the repository.
        self.identity.check(statement.name if claim.predicate_type is not None else None, claim.subject)
        self._check_annotations(statement.annotations)

    def _check_payload(self, verified: Published, claim: Claim) -> None:
        # SIGNATURE_SPEC "Payload".
        payload = convert(read_json(verified.untrusted_payload, "payload"), Payload, "payload")
        critical = payload.critical
        if critical.type not in PAYLOAD_TYPES:
            raise Rejected(f"payload.critical.type: {quote(critical.type, 80)}")
        if critical.image.docker_manifest_digest != claim.subject.digest:
            raise Rejected(f"it is about another image, {quote(critical.image.docker_manifest_digest, 80)}")
        self.identity.check(critical.identity.docker_reference, claim.subject)
        self._check_annotations(payload.optional or {})

    def _check_annotations(self, signed: Mapping[str, object]) -> None:
        for name, value in sorted(self.annotations):
            if signed.get(name) != value:
                raise Rejected(f"annotation {quote(name, 80)} is not {quote(value, 80)}")
