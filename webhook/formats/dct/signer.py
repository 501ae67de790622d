"""Judging Docker Content Trust: what the keys of a repository's root have signed about a tag, at this time."""

from collections.abc import AsyncGenerator, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from webhook.formats._keys import PublicKey, short
from webhook.formats.dct.collect import Collection, collect
from webhook.formats.dct.verify import Chain, Holder, agreed, first, in_base64
from webhook.formats.dct.wire import RELEASES, Listing
from webhook.image import Digest, Repository, Subject, parse_digest
from webhook.parsing import Invalid
from webhook.trust import Claim, Evidence, Registry, Rejected, Untrusted
from webhook.verdict import Proof, first_end


@dataclass(frozen=True, slots=True)
class Dct:
    """Root keys, any of which vouches; `delegations`, by full name, all of which must have signed (none: as docker looks).

    `server` is a URL without a slash at its end, `ca` the PEM certificates of its authority, if that is a private one.
    """

    server: str
    root_keys: tuple[PublicKey, ...]
    delegations: tuple[str, ...]
    ca: bytes | None

    def scope(self, claim: Claim) -> Hashable:
        """The tag too, unless a digest was written beside it: it is what was signed."""
        subject = claim.subject
        return subject.repository, subject.digest, _tag_of(subject), claim.predicate_type

    def sources(self, claim: Claim) -> tuple[Repository, ...]:
        """The image's repository: a server on the same host is shown the same logins."""
        return (claim.subject.repository,)

    def dangers(self) -> tuple[str, ...]:
        """None of the demand's own: what a replica that has just started cannot know is said in the pages."""
        return ()

    def fingerprints(self) -> tuple[str, ...]:
        """Of the root keys, in the order of the policy; whom they delegate to is theirs to say."""
        return tuple(key.fingerprint for key in self.root_keys)

    def wanted(self) -> str:
        """The root keys, shortened, and the delegations."""
        shown = " or ".join(short(key.fingerprint) for key in self.root_keys[:3])
        more = f" or {len(self.root_keys) - 3} more" if len(self.root_keys) > 3 else ""
        roles = f", by {' and '.join(self.delegations)}" if self.delegations else ""
        return f"Docker Content Trust on {self.server}, root key {shown}{more}{roles}"

    def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
        """The metadata of the image's repository."""
        collection = Collection(self.server, claim.subject.repository, self.ca, registry)
        return collect(collection, frozenset(self.root_keys), self.delegations or (RELEASES,))

    def check(self, evidence: Untrusted, claim: Claim, now: datetime) -> Proof:
        """Judges a repository's metadata. Raises `Rejected`, with the versions of what in it is genuine."""
        subject = claim.subject
        digest = parse_digest(subject.digest)
        if claim.predicate_type is not None:
            raise Rejected("trust data, not an attestation")
        anchors = [self.server, *sorted(self.fingerprints())]
        chain = Chain(str(subject.repository), evidence.parts, now, anchors)
        try:
            # (1) TUF 5.3: the root, from a key that the policy names; nobody is trusted on first use.
            root, anchor = chain.root(self.root_keys)
            # (2) TUF 5.4: the timestamp, which bounds how old all the rest may be.
            timestamp = chain.timestamp(root)
            # (3) TUF 5.5: the snapshot, the one that the timestamp lists.
            snapshot = chain.snapshot(root, timestamp)
            # (4) TUF 5.6: the targets role and delegations, those that the snapshot lists.
            holders = self._holders(chain, chain.targets(root, snapshot), snapshot)
            # (5) The tag that was signed means the digest that is judged; without a tag, some tag does.
            role = self._signed_by(holders, _tag_of(subject), digest)
        except (Rejected, Invalid) as e:
            raise Rejected(str(e), tuple(chain.versions)) from e
        return Proof(
            "dct",
            anchor.fingerprint,
            f"{role} in the {evidence.origin}",
            valid_until=min(chain.ends),
            ends=first_end(chain.publisher_ends),
            keys=(anchor.fingerprint, *sorted(key.fingerprint for key in chain.keys - {anchor})),
            versions=tuple(chain.versions),
        )

    def _holders(self, chain: Chain, targets: Holder, snapshot: Listing) -> Sequence[Holder]:
        """The roles that are asked: the policy's delegations, or docker's two in their order.

        Source: docker/cli, `cli/command/image/trust.go`, `getTrustedPullTargets`.
        """
        verified = {"targets": targets}
        if not self.delegations:
            # A delegation that was given up, or that has never signed, says nothing; one that cannot be read is not passed over.
            if targets.delegates_to(RELEASES) is None or RELEASES not in snapshot.meta:
                return (targets,)
            return (chain.delegated(RELEASES, targets, snapshot), targets)
        for name in self.delegations:
            delegator = targets
            for path in list(accumulate(name.split("/"), "{}/{}".format))[1:]:
                if path not in verified:
                    verified[path] = chain.delegated(path, delegator, snapshot)
                delegator = verified[path]
        return [verified[name] for name in self.delegations]

    def _signed_by(self, holders: Sequence[Holder], tag: str | None, digest: Digest) -> str:
        """The roles that say so, in words. Raises `Rejected`."""
        names = " and ".join(holder.name for holder in holders)
        if tag is not None:
            if not self.delegations:
                return first(holders, tag, digest).name
            agreed(holders, tag, digest)
            return names
        # By digest alone: a tag under which the image would be accepted by tag.
        for holder in holders[:1] if self.delegations else holders:
            for found in holder.tags(in_base64(digest)):
                try:
                    return self._signed_by(holders, found, digest)
                except Rejected:
                    continue
        raise Rejected(f"{names}: no tag is signed for this image")


def _tag_of(subject: Subject) -> str | None:
    """The tag that must mean the digest: none where the digest was written, which is then all that a node looks at (attack R-03)."""
    return None if subject.pinned else subject.tag
