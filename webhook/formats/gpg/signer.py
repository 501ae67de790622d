"""Judging GPG simple signing: who signed, whether their key is good now, and what they said."""

from collections.abc import AsyncGenerator, Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from webhook import limits
from webhook.formats._identity import IdentityRule
from webhook.formats.gpg.collect import REGISTRY, in_registry, in_store
from webhook.formats.gpg.keyring import Key
from webhook.formats.gpg.message import PAYLOAD_TYPE, Message, Payload, read_message
from webhook.image import Repository, parse_digest
from webhook.parsing import convert, quote, read_json
from webhook.trust import Claim, Evidence, Registry, Rejected, Untrusted
from webhook.verdict import End, Proof, first_end

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key whose signature counts, and the primary key it belongs to, which may be the same."""

    primary: Key
    key: Key

    @property
    def identity(self) -> str:
        """Who signed: the primary key, so that one person's keys count as one."""
        return f"GPG:{self.primary.fingerprint}"

    def ends(self, at: datetime) -> tuple[datetime, ...]:
        """The times from which on one of the two may no longer be good. Raises `Rejected` if one is not good at `at`."""
        if self.key is self.primary:
            return self.key.ends(at, signing=True)
        return (*self.primary.ends(at, signing=False), *self.key.ends(at, signing=True))

    def expires(self, at: datetime) -> End | None:
        """The first of the two that expires, as is known at `at`; None if neither does."""
        return first_end((self.primary.expires(at), self.key.expires(at)))


@dataclass(frozen=True, slots=True)
class Gpg:
    """Any of these keys must have signed. `lookaside`: the address of the store, or that the registry is one."""

    keys: tuple[TrustedKey, ...]
    identity: IdentityRule
    lookaside: str

    def scope(self, claim: Claim) -> Hashable:
        """The digest, and the name: it says where to read, and what must have been signed."""
        subject = claim.subject
        return subject.repository, subject.digest, self.identity.tag_of(subject), claim.predicate_type

    def sources(self, claim: Claim) -> tuple[Repository, ...]:
        """The image's own repository, if its registry keeps the signatures; a lookaside store is shown no login."""
        return (claim.subject.repository,) if self.lookaside == REGISTRY else ()

    def dangers(self) -> tuple[str, ...]:
        """None: a key is a key."""
        return ()

    def fingerprints(self) -> tuple[str, ...]:
        """Of the primary keys, in the order of the keyring."""
        return tuple(dict.fromkeys(one.identity for one in self.keys))

    def wanted(self) -> str:
        """The primary keys; their fingerprints are not cut, because people compare them whole."""
        names = self.fingerprints()
        more = f" or {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"key {' or '.join(names[:_SHOWN])}{more}"

    def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
        """Everything that may be a signature, from the one place where the policy says they are."""
        if self.lookaside == REGISTRY:
            return in_registry(claim.subject, registry)
        return in_store(self.lookaside, claim.subject, registry)

    def check(self, evidence: Untrusted, claim: Claim, now: datetime) -> Proof:
        """Judges one signed message. Raises `Rejected` or `Invalid`."""
        parse_digest(claim.subject.digest)
        # (1) A plain signature, never an attestation.
        if claim.predicate_type is not None:
            raise Rejected("a signature, not an attestation")
        # (2) RFC 9580, section 10.3: one signature over one text, and nothing beside them.
        message = read_message(evidence.parts["signature"])
        # (3) Made by a key of this signer, over these bytes.
        trusted = self._signed_by(message)
        # (4) A key that is good now, whenever it was used.
        ends = trusted.ends(now)
        expires = _expires(message, trusted, now)
        # (5) Only from here on is the text what the key's owner signed.
        payload = convert(read_json(message.untrusted_content, "payload"), Payload, "payload")
        critical = payload.critical
        if critical.type != PAYLOAD_TYPE:
            raise Rejected(f"payload.critical.type: {quote(critical.type, 80)}")
        # (6) It is about this digest,
        if critical.image.docker_manifest_digest != claim.subject.digest:
            raise Rejected(f"it is about another image, {quote(critical.image.docker_manifest_digest, 80)}")
        # (7) and about this name.
        self.identity.check(critical.identity.docker_reference, claim.subject)
        return Proof(
            "gpg",
            trusted.identity,
            evidence.origin,
            valid_until=min(ends, default=None),
            # By these a key is known that also signs in another tradition, or under a second primary key.
            keys=tuple(dict.fromkeys((trusted.key.public.fingerprint, trusted.primary.public.fingerprint))),
        ).ending((expires, trusted.expires(now)))

    def _signed_by(self, message: Message) -> TrustedKey:
        """The key that made the signature. Raises `Rejected` if none of ours did."""
        signature = message.signature
        hinted = [one for one in self.keys if signature.may_be_by(one.key.fingerprint)]
        if not hinted:
            raise Rejected(f"signed by unknown key GPG:{quote(max(signature.issuers, key=len), 40)}")
        if signature.is_weak:
            raise Rejected(
                f"signed over a hash that is not accepted ({signature.hash_algorithm}); SHA-256 or better is"
            )
        for one in hinted:
            try:
                signature.verify(one.key.public, message.untrusted_content)
            except Rejected:
                continue
            if not message.is_announced(one.key.fingerprint):
                raise Rejected("its head announces another key than signed it")
            return one
        raise Rejected("not signed by a key of this signer")


def _expires(message: Message, trusted: TrustedKey, now: datetime) -> End | None:
    """When the signature itself ends, if its signer said so. Raises `Rejected` if it does not hold now."""
    signature = message.signature
    if signature.created > now + timedelta(seconds=limits.MAX_CLOCK_SKEW):
        raise Rejected(f"signed at {signature.created:%Y-%m-%dT%H:%M:%SZ}, which is yet to come")
    if signature.created < trusted.key.created:
        raise Rejected("signed before its key was made")
    if signature.expires is None:
        return None
    if signature.expires <= now:
        raise Rejected(f"the signature expired at {signature.expires:%Y-%m-%dT%H:%M:%SZ}")
    return End(signature.expires, "the signature itself")
