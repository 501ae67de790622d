"""Judging Notary Project signatures, in the order of their specification's "Signature Verification"."""

import functools
from collections.abc import AsyncGenerator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from webhook.formats import _timestamp, _x509
from webhook.formats._keys import short
from webhook.formats._revocation import Undetermined, questions_about
from webhook.formats._timestamp import Authority, Timestamp, read_authorities
from webhook.formats.notation import chain, collect, names
from webhook.formats.notation.chain import Chain, read_chain
from webhook.formats.notation.clock import read_authority
from webhook.formats.notation.envelope import Envelope, refuse_lookalikes
from webhook.formats.notation.inquiry import Standing, check_chain
from webhook.formats.notation.level import Actions, Validation
from webhook.formats.notation.spec import TimestampRule
from webhook.image import Repository, parse_digest
from webhook.parsing import convert, quote, read_json
from webhook.policy.names import Name
from webhook.trust import Claim, Evidence, Registry, Rejected, Unavailable, Untrusted
from webhook.verdict import End, Proof, first_end

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.x509 import Certificate


class _Target(Struct, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None


class _Payload(Struct, rename="camel"):
    target_artifact: _Target


@dataclass(frozen=True, slots=True)
class Notation:
    """Somebody whom one of these certificates vouches for must have signed.

    Certificates are DER: `ca` for the scheme `notary.x509`, `signing_authority` for the other, never mixed. `tsa`: one entry for
    each store. `identities`: None for anybody. `annotations` are pairs.
    """

    ca: tuple[bytes, ...]
    signing_authority: tuple[bytes, ...]
    tsa: tuple[tuple[bytes, ...], ...]
    identities: frozenset[Name] | None
    actions: Actions
    timestamp: TimestampRule
    annotations: frozenset[tuple[str, str]]
    described: tuple[str, ...] = field(default=(), compare=False)
    """The identities as the policy writes them, for people."""

    def scope(self, claim: Claim) -> Hashable:
        """The digest, and where to read."""
        return claim.subject.repository, claim.subject.digest, claim.predicate_type

    def sources(self, claim: Claim) -> tuple[Repository, ...]:
        """The image's own repository."""
        return (claim.subject.repository,)

    def dangers(self) -> tuple[str, ...]:
        """Who is not asked for."""
        return dangers_of(self.actions, self.identities)

    def fingerprints(self) -> tuple[str, ...]:
        """Of the keys of all trusted certificates, in the order of the policy."""
        certificates = (*self.ca, *self.signing_authority, *(one for store in self.tsa for one in store))
        return tuple(dict.fromkeys(_x509.public_key(_parse(one)).fingerprint for one in certificates))

    def wanted(self) -> str:
        """Whose certificates, and whose word for it."""
        who = " or ".join(self.described[:3]) + (" or others" if len(self.described) > 3 else "")
        anchors = [_x509.public_key(_parse(one)).fingerprint for one in (*self.ca, *self.signing_authority)]
        pairs = "".join(f" -m {quote(name, 60)}={quote(value, 60)}" for name, value in sorted(self.annotations))
        below = " or ".join(map(short, anchors[:3])) + (" or others" if len(anchors) > 3 else "")
        return f"a certificate of {who} below {below}" + (f", user metadata{pairs}" if pairs else "")

    def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
        """Every signature beside the image, and what the issuers of its certificates say of them."""
        return collect.collect(claim, registry, self._asks)

    def _asks(self, envelope: Envelope, untrusted: Chain) -> "Iterable[tuple[str, tuple[Certificate, ...]]]":
        """The chains to ask about. Raises `Rejected` for a signature that is refused whatever issuers say."""
        if self.actions.revocation == "skip":
            return
        # Nobody is asked in the name of a stranger: the URLs would be anybody's, and strangers would use up what the others need.
        if self.actions.authenticity == "enforce":
            self._check_authenticity(envelope, untrusted)
        if self._leads_to_anchor(envelope, untrusted):
            yield "signer", untrusted.certificates
        if self.tsa and envelope.timestamp is not None:
            yield "tsa", read_authority(envelope.timestamp, self._clocks())

    # ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def check(self, evidence: Untrusted, claim: Claim, now: datetime) -> Proof:
        """Judges one envelope. Raises `Rejected` or `Invalid`; `Unavailable` if only its revocation could not be learned."""
        parse_digest(claim.subject.digest)
        if claim.predicate_type is not None:
            raise Rejected("a signature, not an attestation")
        # (1) "Validate Integrity": an envelope of a form, type and algorithm that we know, signed by its own leaf's key.
        envelope = _read(evidence.parts)
        found = read_chain(envelope.certificates)
        chain.verify(found.leaf, envelope.algorithm, envelope.signature, envelope.signed)
        # Only from here on is the payload what the key's owner wrote: it is about this image.
        self._check_payload(envelope.untrusted_payload, claim, evidence.parts)
        report = _Report(self.actions)
        # (2) "Validate Authenticity": the chain leads to a trusted certificate of the scheme's store, the leaf is a trusted identity.
        identity = names.describe(found.leaf)
        with report.validating("authenticity") as authentic:
            self._check_authenticity(envelope, found)
        if authentic.failed:
            identity = _x509.public_key(found.leaf).fingerprint
        # (3) "Validate Expiry": the only defence against an old, validly signed image (attack N-04).
        with report.validating("expiry") as expiry:
            if envelope.expiry is not None:
                if now >= envelope.expiry:
                    raise Rejected(f"it expired at {envelope.expiry.isoformat()}")
                expiry.until = envelope.expiry
                expiry.ends = End(envelope.expiry, "the signature itself")
        # (4) "Validate Trusted Timestamp": the certificates were valid when it was signed, or are now.
        moment = None
        with report.validating("authentic_timestamp") as timely:
            moment = self._check_time(envelope, found, evidence.parts, now, timely)
        # The word of a signing authority that nobody trusts is nobody's.
        if authentic.failed and envelope.authentic_time is not None:
            moment = None
        # (5) "Validate Revocation Status": last, so that what is wrong anyway is not taken for an outage.
        if self.actions.revocation != "skip":
            with report.validating("revocation") as revocation:
                signed_at = None if moment is None else moment.latest
                self._refuse_unasked(envelope, found)
                revocation.learnt(check_chain("signer", found.certificates, evidence.parts, now, signed_at))
        report.conclude()
        return Proof(
            "notation",
            identity,
            evidence.origin,
            signed_at=None if moment is None else moment.at,
            valid_until=report.valid_until,
            ends=report.ends,
            lists=tuple(report.lists),
            serial=f"{found.leaf.serial_number:x}",
            keys=tuple(_x509.public_key(one).fingerprint for one in found.certificates),
            logged=tuple(report.logged),
            # Of a signer that is only logged, too: what somebody calls themselves may take their signature away, and gives nothing.
            subject=names.claimed(found.leaf),
        )

    def _refuse_unasked(self, envelope: Envelope, found: Chain) -> None:
        # Not an outage: under a policy that does not want it trusted, anybody could make one with a certificate of their own.
        if not self._leads_to_anchor(envelope, found) and any(map(questions_about, found.certificates[:-1])):
            raise Rejected("nobody is asked about certificates that lead to no trusted one")

    def _check_payload(self, untrusted_payload: bytes, claim: Claim, parts: Mapping[str, bytes]) -> None:
        document = read_json(untrusted_payload, "payload")
        # The signers' own parser takes names in any letter case, the last one winning.
        if isinstance(document, dict):
            refuse_lookalikes(document, ("targetArtifact",), "payload")
            target = document.get("targetArtifact")
            if isinstance(target, dict):
                refuse_lookalikes(target, _Target.__struct_encode_fields__, "payload.targetArtifact")
        signed = convert(document, _Payload, "payload").target_artifact
        if signed.digest != claim.subject.digest:
            raise Rejected(f"it is about another image, {quote(signed.digest, 80)}")
        if str(signed.size).encode() != parts.get(collect.IMAGE_SIZE):
            raise Rejected(f"payload.targetArtifact.size: {signed.size}, which is not the image's")
        if signed.media_type.encode() != parts.get(collect.IMAGE_TYPE):
            raise Rejected(
                f"payload.targetArtifact.mediaType: {quote(signed.media_type, 80)}, which is not the image's"
            )
        metadata = signed.annotations or {}
        for name, value in sorted(self.annotations):
            if metadata.get(name) != value:
                raise Rejected(f"user metadata {quote(name, 60)}={quote(value, 60)} is not signed")

    def _check_authenticity(self, envelope: Envelope, found: Chain) -> None:
        if not self._leads_to_anchor(envelope, found):
            store = "ca" if envelope.scheme == "notary.x509" else "signingAuthority"
            raise Rejected(
                f"signed by {names.describe(found.leaf)}, whose certificate leads to none in a trust store of type {store}"
            )
        if self.identities is not None:
            subject = names.subject_of(found.leaf)
            if not any(identity <= subject for identity in self.identities):
                raise Rejected(f"signed by {names.describe(found.leaf)}, which is no trusted identity of the policy")

    def _leads_to_anchor(self, envelope: Envelope, found: Chain) -> bool:
        """The scheme decides about the store: whoever a CA vouches for is no signing authority (attack N-07)."""
        from cryptography.hazmat.primitives.serialization import Encoding

        anchors = self.ca if envelope.scheme == "notary.x509" else self.signing_authority
        return any(one.public_bytes(Encoding.DER) in anchors for one in found.certificates)

    def _clocks(self) -> "tuple[Certificate, ...]":
        return tuple(_parse(one) for store in self.tsa for one in store)

    def _check_time(
        self, envelope: Envelope, found: Chain, parts: Mapping[str, bytes], now: datetime, validation: "_Outcome"
    ) -> Timestamp | None:
        """The trusted time of the signature, if there is one. The whole of it lies where every certificate is valid."""
        begins, ends = chain.begins(found), chain.ends(found)
        if envelope.authentic_time is not None:
            moment = Timestamp(envelope.authentic_time)
        elif self.tsa and (self.timestamp == "always" or now > ends):
            if envelope.timestamp is None:
                raise Rejected("it carries no timestamp, and the policy wants one")
            moment = _timestamp.verify_timestamp(envelope.timestamp, envelope.signature, _authorities(self.tsa))
            behind = read_authority(envelope.timestamp, self._clocks())
            if self.actions.revocation != "skip":
                validation.learnt(check_chain("tsa", behind, parts, now, None))
        else:
            if not begins <= now <= ends:
                raise Rejected(f"its certificates are valid from {begins.isoformat()} to {ends.isoformat()} only")
            validation.until = ends
            if not self._is_timestamped(envelope, found):
                validation.ends = _x509.end_of(found.certificates)
            return None
        if not moment.within(begins, ends):
            raise Rejected(f"it was signed at {moment.at.isoformat()}, when not all of its certificates were valid")
        return moment

    def _is_timestamped(self, envelope: Envelope, found: Chain) -> bool:
        """Whether its timestamp will stand in for certificates that have ended. Decides nothing now."""
        if not self.tsa or envelope.timestamp is None:
            return False
        try:
            moment = _timestamp.verify_timestamp(envelope.timestamp, envelope.signature, _authorities(self.tsa))
        except Rejected:
            return False
        return moment.within(chain.begins(found), chain.ends(found))


def dangers_of(actions: Actions, identities: frozenset[Name] | None) -> tuple[str, ...]:
    """See `trust.Signer.dangers`: what no certificate changes."""
    if actions.authenticity != "enforce":
        return ("notation: authenticity is only logged, so that anybody may have signed",)
    if identities is None:
        return ("notation: trustedIdentities * accepts every certificate below the trust stores' ones",)
    return ()


@dataclass(slots=True)
class _Outcome:
    """One validation: whether it failed, until when what it found holds, what of it ends for good, and the revocation lists it rests on."""

    failed: bool = False
    until: datetime | None = None
    ends: End | None = None
    lists: tuple[End, ...] = ()

    def learnt(self, standing: Standing) -> None:
        """What issuers say of a chain."""
        self.until, self.lists = standing.until, standing.lists


@dataclass(slots=True)
class _Report:
    """What the validations came to, by what the policy makes of their failures."""

    actions: Actions
    logged: list[str] = field(default_factory=list)
    undetermined: list[str] = field(default_factory=list)
    valid_until: datetime | None = None
    ends: End | None = None
    lists: list[End] = field(default_factory=list)

    @contextmanager
    def validating(self, validation: Validation) -> Iterator[_Outcome]:
        """Runs one validation. A failure that is enforced is raised; one that is logged is kept for people."""
        outcome = _Outcome()
        enforced = self.actions.of(validation) == "enforce"
        try:
            yield outcome
        except (Rejected, Undetermined) as e:
            outcome.failed = True
            if not enforced:
                self.logged.append(f"{validation.replace('_', ' ')}: {e}")
            elif isinstance(e, Undetermined):
                self.undetermined.append(str(e))
            else:
                raise
        if not enforced:
            return
        self.ends = first_end((self.ends, outcome.ends))
        self.lists += outcome.lists
        if outcome.until is not None:
            self.valid_until = outcome.until if self.valid_until is None else min(self.valid_until, outcome.until)

    def conclude(self) -> None:
        """Raises `Unavailable` if all that is wrong is that somebody did not answer."""
        if self.undetermined:
            raise Unavailable("; ".join(self.undetermined))


def _read(parts: Mapping[str, bytes]) -> Envelope:
    reader = collect.READERS.get(parts[collect.MEDIA_TYPE].decode("ascii", "replace"))
    if reader is None:
        raise Rejected("neither an envelope in JWS nor one in COSE")
    return reader(parts[collect.ENVELOPE])


@functools.lru_cache(maxsize=256)
def _parse(der: bytes) -> "Certificate":
    """A certificate of a policy, which was read when the policy was."""
    return _x509.parse_der(der, "trust store")


def _authorities(stores: Sequence[Sequence[bytes]]) -> tuple[Authority, ...]:
    return tuple(one for store in stores for one in read_authorities([_parse(der) for der in store], "trust store"))
