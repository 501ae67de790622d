"""Rulings → records of what was verified, and back: under which name the same thing is known again.

A record counts for the namespace, the name and the policy it was made under, and for nothing else: who runs an image elsewhere has not
shown that they may pull it (attack M-01), and what is signed under another name may not be signed under this one. The name of a digest is
its repository, unless what the policy wants looks at the tag. Decides nothing.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

import cachetools

from webhook import limits
from webhook.image import Digest, ImageReference, Subject, parse_reference
from webhook.judge.evaluate import Judged
from webhook.judge.workload import Question
from webhook.memory.records import OWNER, Record, RecordKey, Records
from webhook.policy.identity import identity_of
from webhook.policy.policy import Policy
from webhook.trust import Claim, Unresolved
from webhook.verdict import Allowed, Denied, PolicyKey, Ruling

_log = logging.getLogger(__name__)

_IDENTITIES: Final = 1_000
"""Policies whose identity is at hand; it takes a while to find out."""


class KnownGood:
    """The records, for the policies that want them; of other policies nothing is remembered."""

    def __init__(self, records: Records | None = None) -> None:
        self.records = Records() if records is None else records
        self._identities: cachetools.LRUCache[PolicyKey, tuple[Policy, bytes | None]] = cachetools.LRUCache(_IDENTITIES)

    def wants(self, policies: Mapping[PolicyKey, Policy], judged: Judged) -> list[tuple[Ruling, Policy]]:
        """The rulings of which something is to be remembered, each with its policy."""
        found = []
        for one in judged.judgements:
            policy = policies.get(one.policy) if isinstance(one, Ruling) and one.policy is not None else None
            if isinstance(one, Ruling) and policy is not None and policy.terms.on_outage.action == "last-known-good":
                found.append((one, policy))
        return found

    def learn(
        self, question: Question, rulings: Iterable[tuple[Ruling, Policy]], judged: Judged, now: datetime
    ) -> None:
        """Remembers what was proven and what was denied. What was not read for this question was read within the last hour."""
        at = now if judged.seconds == 0 else now - timedelta(seconds=limits.PROOF_SECONDS)
        for ruling, policy in rulings:
            outcome = ruling.outcome
            digest = None if outcome.subject is None else outcome.subject.digest
            what = None if digest is None else self._what(ruling, policy, question.who.namespace)
            if digest is None or what is None:
                continue
            by_digest = self._by_digest(ruling, policy, question.who.namespace, digest)
            if isinstance(outcome, Allowed):
                ends = [proof.valid_until for proof in outcome.proofs if proof.valid_until is not None]
                for name in filter(None, (what, by_digest)):
                    self.records.learn(RecordKey(digest, name), Record(at, min(ends, default=None)))
            elif isinstance(outcome, Denied):
                # A tag that was denied last has no last known good, whatever it meant before.
                for one in self.records.digests(what) if ruling.by_tag else [digest]:
                    self.records.learn(RecordKey(one, what), Record(now, good=False))
                if by_digest is not None:
                    self.records.learn(RecordKey(digest, by_digest), Record(now, good=False))

    def find(self, ruling: Ruling, policy: Policy, namespace: str, now: datetime) -> tuple[Digest, datetime] | None:
        """What the image was when it was last verified, and when that was; None if no record stands for it now.

        By the digest, if one is known; else by the tag that was looked up then: which digest it means now, nobody can say.
        """
        what = self._what(ruling, policy, namespace)
        if what is None:
            return None
        subject = ruling.outcome.subject
        digests = self.records.digests(what) if subject is None else [subject.digest]
        known = [(record.at, one) for one in digests if (record := self.records.find(RecordKey(one, what))) is not None]
        if not known:
            return None
        at, digest = max(known)
        record = self.records.find(RecordKey(digest, what))
        is_young = now - at <= policy.terms.on_outage.max_stale
        # After `until`, time alone would deny it, and nobody needs to be asked for that.
        stands = record is not None and record.good and (record.until is None or now < record.until)
        return (digest, at) if stands and is_young else None

    def _what(self, ruling: Ruling, policy: Policy, namespace: str) -> bytes | None:
        identity = self._identity(policy)
        if identity is None:
            return None
        # Without its digest, which stands beside it in the record; and without a tag that decides nothing beside it.
        name = ruling.image.partition("@")[0]
        image = None if ruling.by_tag else parse_reference(ruling.image)
        if image is not None and image.digest is not None and not _tag_decides(policy, image, image.digest):
            name = str(image.repository)
        return _hashed(identity, namespace, "tag" if ruling.by_tag else "digest", name)

    def _by_digest(self, ruling: Ruling, policy: Policy, namespace: str, digest: Digest) -> bytes | None:
        """The name under which `digest` is known when it is written, for a ruling by a tag that any other name would have got.

        None where the tag decided, as it does wherever tags are refused.
        """
        identity = self._identity(policy)
        if identity is None or not ruling.by_tag or policy.terms.tags == "refuse":
            return None
        image = parse_reference(ruling.image)
        if _tag_decides(policy, image, digest):
            return None
        return _hashed(identity, namespace, "digest", str(image.repository))

    def _identity(self, policy: Policy) -> bytes | None:
        known = self._identities.get(policy.key)
        if known is None or known[0] is not policy:
            try:
                identity: bytes | None = identity_of(policy)
            except TypeError:
                # A bug of ours. Without an identity nothing is remembered of the policy, and nothing let in by it.
                _log.exception("policy %s has no identity, so there is no last known good of it", policy.key)
                identity = None
            known = self._identities[policy.key] = policy, identity
        return known[1]


def _tag_decides(policy: Policy, image: ImageReference, digest: Digest) -> bool:
    """Whether what a policy wants could find something else about the same digest of the same repository under another tag, or none."""
    written = Claim(Subject(image.repository, digest, image.tag, image.digest is not None))
    bare = Claim(Subject(image.repository, digest, None, pinned=True))
    signers = [demand.signer for demand in policy.wanted]
    # A key that is missing satisfies nobody, whatever the tag.
    return any(not isinstance(one, Unresolved) and one.scope(written) != one.scope(bare) for one in signers)


def _hashed(identity: bytes, namespace: str, how: str, name: str) -> bytes:
    owner = hashlib.sha256(namespace.encode()).digest()[:OWNER]
    return owner + hashlib.sha256(b"\0".join([identity, namespace.encode(), how.encode(), name.encode()])).digest()
