"""What issuers say of the certificates of a chain: asked for within bounds, and later judged.

The two halves stand together because they share the names under which answers lie beside the evidence: `NAME POSITION ocsp`,
`… list N`, `… delta N`, and why others are missing, `… unread` or `… exhausted`.
Source: Notary Project, trust-store-trust-policy.md, "Certificate Revocation Evaluation".
"""

import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from webhook import limits
from webhook.formats import _revocation
from webhook.formats._artifacts import Budget
from webhook.formats._revocation import List, Questions, Undetermined
from webhook.parsing import quote
from webhook.trust import Registry, Rejected, Unavailable
from webhook.verdict import End

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.x509 import Certificate


@dataclass(slots=True)
class Inquiry:
    """Requests to issuers, bounded for one image and signer. A certificate is asked about once, in however many chains it stands."""

    registry: Registry
    budget: Budget
    left: int = limits.MAX_REVOCATION_REQUESTS
    _known: "dict[tuple[Certificate, Certificate], dict[str, bytes]]" = field(default_factory=dict)

    async def about_chain(self, name: str, chain: "Sequence[Certificate]") -> dict[str, bytes]:
        """What can be learned of every certificate but the last, which nobody but itself could revoke."""
        parts: dict[str, bytes] = {}
        for position, pair in enumerate(itertools.pairwise(chain)):
            if pair not in self._known:
                self._known[pair] = await self._about(*pair)
            parts |= {f"{name} {position} {part}": content for part, content in self._known[pair].items()}
        return parts

    async def _about(self, certificate: "Certificate", issuer: "Certificate") -> dict[str, bytes]:
        questions = _revocation.questions_about(certificate)
        parts: dict[str, bytes] = {}
        causes: list[str] = []
        asked = _revocation.request(certificate, issuer) if questions.responders else b""
        for url in questions.responders:
            answer = await self._ask(self._post(url, asked), causes, parts)
            if answer is not None:
                parts["ocsp"] = answer
                if _revocation.answers(answer, certificate, issuer):
                    return parts
        for point, urls in enumerate(questions.lists):
            found = await self._first(urls, causes, parts)
            if found is None:
                continue
            parts[f"list {point}"] = found
            delta = await self._first(questions.deltas or _revocation.delta_urls(found), causes, parts)
            if delta is not None:
                parts[f"delta {point}"] = delta
        if causes:
            parts["unread"] = "; ".join(dict.fromkeys(causes)).encode()
        return parts

    async def _first(self, urls: Iterable[str], causes: list[str], parts: dict[str, bytes]) -> bytes | None:
        for url in urls:
            found = await self._ask(self._get(url), causes, parts)
            if found is not None:
                return found
        return None

    async def _ask(
        self, request: Callable[[], Awaitable[bytes | None]], causes: list[str], parts: dict[str, bytes]
    ) -> bytes | None:
        self.left -= 1
        if self.left < 0:
            # Not an outage: whoever publishes signatures could make one with many of them.
            parts["exhausted"] = b"1"
            return None
        try:
            answer = await request()
        except (Rejected, Unavailable) as e:
            causes.append(str(e))
            return None
        if answer is None:
            causes.append("it has no answer")
        elif not self.budget.takes(len(answer)):
            parts["exhausted"] = b"1"
            return None
        return answer

    def _get(self, url: str) -> Callable[[], Awaitable[bytes | None]]:
        return lambda: self.registry.get(
            url, limits.MAX_REVOCATION_LIST, insecure_http=True, seconds=limits.REVOCATION_SECONDS
        )

    def _post(self, url: str, request: bytes) -> Callable[[], Awaitable[bytes | None]]:
        return lambda: self.registry.post(
            url,
            request,
            "application/ocsp-request",
            limits.MAX_OCSP,
            insecure_http=True,
            seconds=limits.REVOCATION_SECONDS,
        )


# ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Standing:
    """Until when every certificate of a chain is known not to be revoked; None: none of them can be.

    `lists`: the revocation lists that say so, and until when each does.
    """

    until: datetime | None = None
    lists: tuple[End, ...] = ()


def check_chain(
    name: str,
    chain: "Sequence[Certificate]",
    parts: Mapping[str, bytes],
    now: datetime,
    signed_at: datetime | None,
) -> Standing:
    """That none of the certificates of a chain was revoked.

    `signed_at`: trusted time of what they signed. Raises `Rejected` if one was revoked, `Undetermined` if nobody knows.
    """
    ends: list[datetime] = []
    lists: dict[str, End] = {}
    unknown: list[str] = []
    for position, (certificate, issuer) in enumerate(itertools.pairwise(chain)):
        about = _About(f"{name} {position}", certificate, issuer, parts, now, signed_at)
        try:
            ends += about.holds_until(lists)
        except Rejected as e:
            raise Rejected(f"certificate {position} of its chain: {e}") from e
        except Undetermined as e:
            # A certificate after this one may certainly be revoked.
            unknown.append(f"whether certificate {position} of its chain was revoked could not be learned: {e}")
    if unknown:
        raise Undetermined("; ".join(unknown))
    return Standing(min(ends, default=None), tuple(lists.values()))


@dataclass(frozen=True, slots=True)
class _About:
    """One certificate, and all that was learned of it."""

    name: str
    certificate: "Certificate"
    issuer: "Certificate"
    parts: Mapping[str, bytes]
    now: datetime
    signed_at: datetime | None

    def holds_until(self, lists: dict[str, End]) -> list[datetime]:
        """Until when it is known not to be revoked; nothing if its issuer revokes none. `lists`: those it rests on are put there."""
        questions = _revocation.questions_about(self.certificate)
        if not questions:
            return []
        causes: list[str] = []
        # "OCSP is preferred over CRLs"; lists where it does not tell, for whatever reason.
        known = self._by_ocsp(causes) or self._by_lists(questions, causes, lists)
        if known:
            return known
        if f"{self.name} exhausted" in self.parts:
            raise Rejected(f"more than {limits.MAX_REVOCATION_REQUESTS} requests about revocation would be needed")
        if (unread := self.parts.get(f"{self.name} unread")) is not None:
            causes.append(quote(unread.decode("utf-8", "replace"), 160))
        raise Undetermined("; ".join(causes) or "nobody was asked")

    def _by_ocsp(self, causes: list[str]) -> list[datetime]:
        answer = self.parts.get(f"{self.name} ocsp")
        if answer is None:
            return []
        try:
            return [_revocation.check_ocsp(answer, self.certificate, self.issuer, self.now, self.signed_at)]
        except Undetermined as e:
            causes.append(str(e))
            return []

    def _by_lists(self, questions: Questions, causes: list[str], lists: dict[str, End]) -> list[datetime]:
        """By every list that was found: each distribution point's is complete, but one may be newer than another."""
        ends = []
        for point, urls in enumerate(questions.lists):
            base, delta = self.parts.get(f"{self.name} list {point}"), self.parts.get(f"{self.name} delta {point}")
            if base is None:
                continue
            if delta is None and (questions.deltas or _revocation.delta_urls(base)):
                causes.append("what changed since its revocation list was not to be had")
                continue
            try:
                until = _revocation.check_list(
                    List(base, delta), urls, self.certificate, self.issuer, self.now, self.signed_at
                )
            except Undetermined as e:
                causes.append(str(e))
                continue
            ends.append(until)
            # Whoever found it had a name for it.
            lists[urls[0]] = End(until, urls[0])
        return ends
