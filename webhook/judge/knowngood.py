"""Rulings → records of what was verified, and back: under which name the same thing is known again.

A record counts for the namespace, the name and the policy it was made under, and for nothing else: who runs an image elsewhere has not
shown that they may pull it (attack M-01), and what is signed under another name may not be signed under this one. Decides nothing.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

import cachetools

from webhook import limits
from webhook.image import Digest
from webhook.judge.evaluate import Judged
from webhook.judge.workload import Question
from webhook.memory.records import OWNER, Record, RecordKey, Records
from webhook.policy.identity import identity_of
from webhook.policy.policy import Policy
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
            if isinstance(outcome, Allowed):
                ends = [proof.valid_until for proof in outcome.proofs if proof.valid_until is not None]
                self.records.learn(RecordKey(digest, what), Record(at, min(ends, default=None)))
            elif isinstance(outcome, Denied):
                # A tag that was denied last has no last known good, whatever it meant before.
                for one in self.records.digests(what) if ruling.by_tag else [digest]:
                    self.records.learn(RecordKey(one, what), Record(now, good=False))

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
        # Without its digest, which stands beside it in the record.
        name = ruling.image.partition("@")[0]
        how = "tag" if ruling.by_tag else "digest"
        owner = hashlib.sha256(namespace.encode()).digest()[:OWNER]
        return owner + hashlib.sha256(b"\0".join([identity, namespace.encode(), how.encode(), name.encode()])).digest()

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
