"""Allowed or refused by decree: for images that nobody signs. The reason is part of the policy."""

from collections.abc import AsyncGenerator, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Final

from msgspec import Meta, Struct

from webhook import limits
from webhook.image import Digest, Repository, parse_digest
from webhook.parsing import Invalid, quote
from webhook.policy.spec import DigestText, Rule
from webhook.trust import Claim, Evidence, Format, KeyRef, Registry, Rejected, Untrusted
from webhook.verdict import Proof


class StaticSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`signers[].static`."""

    RULES: ClassVar = (
        Rule(
            "self.allow || !has(self.digests)",
            "with allow: false nothing is allowed, so a list means nothing",
            ".digests",
        ),
        Rule("!has(self.digests) || size(self.digests) > 0", "empty, so nothing would be allowed", ".digests"),
    )

    allow: Annotated[
        bool, Meta(description="Whether images are allowed (true) or refused (false) without a signature.")
    ]
    reason: Annotated[str, Meta(min_length=1, max_length=limits.MAX_TEXT, description="Why; shown when it decides.")]
    digests: (
        Annotated[
            tuple[DigestText, ...],
            Meta(max_length=limits.MAX_DENIED, description="With allow: these digests only; default: any image."),
        ]
        | None
    ) = None


@dataclass(frozen=True, slots=True)
class Static:
    """Satisfied by the digests listed (None: by any), or by nothing."""

    allow: bool
    digests: frozenset[Digest] | None
    reason: str

    def scope(self, claim: Claim) -> Hashable:
        """The digest alone."""
        return claim.subject.digest, claim.predicate_type

    def sources(self, claim: Claim) -> tuple[Repository, ...]:  # noqa: ARG002 - nothing is read
        """None: nothing is read."""
        return ()

    def dangers(self) -> tuple[str, ...]:
        """An allowance without digests stands for every image that the policy names."""
        if self.allow and self.digests is None:
            return ("static allows every image that the policy names, without a signature; list digests",)
        return ()

    def fingerprints(self) -> tuple[str, ...]:
        """None: a decree has no key."""
        return ()

    def wanted(self) -> str:
        """The decree, in words."""
        if not self.allow:
            return f"nobody: {quote(self.reason)}"
        return "any digest" if self.digests is None else "a digest on the policy's list"

    async def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:  # noqa: ARG002 - the same
        """The policy itself is the evidence."""
        yield Untrusted("the policy", {})

    def check(self, evidence: Untrusted, claim: Claim, now: datetime) -> Proof:  # noqa: ARG002 - a decree knows no time
        """Judges the digest. Raises `Rejected`."""
        digest = parse_digest(claim.subject.digest)
        if claim.predicate_type is not None:
            raise Rejected("a decree is not an attestation")
        if not self.allow:
            raise Rejected(quote(self.reason))
        if self.digests is not None and digest not in self.digests:
            raise Rejected(f"not one of the {len(self.digests)} digests that are allowed: {quote(self.reason)}")
        return Proof("static", f"static:{quote(self.reason)}", evidence.origin)


def _keys(_spec: StaticSpec) -> Iterable[tuple[str, KeyRef]]:
    return ()


def _build(spec: StaticSpec, _materials: Mapping[KeyRef, bytes]) -> Static:
    complaints: list[str] = []
    if spec.digests is not None and not spec.allow:
        complaints.append(".digests: with allow: false nothing is allowed, so a list means nothing")
    if spec.digests is not None and not spec.digests:
        complaints.append(".digests: empty, so nothing would be allowed")
    digests = []
    for i, text in enumerate(spec.digests or ()):
        try:
            digests.append(parse_digest(text))
        except Invalid as e:
            complaints.append(f".digests[{i}]: {e}")
    if complaints:
        raise Invalid(*complaints)
    return Static(spec.allow, None if spec.digests is None else frozenset(digests), spec.reason)


FORMAT: Final = Format(
    "static",
    "A decree in place of a signature, by digest.",
    StaticSpec,
    keys=_keys,
    build=_build,
    signs=False,
    never=lambda spec: not spec.allow,
)
