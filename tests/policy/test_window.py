"""Windows of time and ages of signatures (attack C-08)."""

import dataclasses
import datetime as dt
from collections.abc import AsyncGenerator, Hashable

import pytest

from webhook import limits
from webhook.image import Digest, Repository, Subject
from webhook.moment import rfc3339
from webhook.policy.window import Windowed, span
from webhook.trust import Claim, Evidence, Registry, Rejected, Untrusted
from webhook.verdict import End, Proof

DAY = dt.timedelta(days=1)
T = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
CLAIM = Claim(Subject(Repository("registry.test", "app"), Digest(f"sha256:{'0' * 64}"), "v1"))
EVIDENCE = Untrusted("here", {})


@dataclasses.dataclass(frozen=True)
class Timed:
    """Proves that it signed at this time, until that."""

    signed_at: dt.datetime | None = None
    valid_until: dt.datetime | None = None

    def scope(self, claim: Claim) -> Hashable:
        return claim.subject.digest

    def sources(self, claim: Claim) -> tuple[Repository, ...]:
        return (claim.subject.repository,)

    async def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
        yield EVIDENCE

    def check(self, evidence: Untrusted, claim: Claim, now: dt.datetime) -> Proof:
        return Proof("test", "me", evidence.origin, signed_at=self.signed_at, valid_until=self.valid_until)

    def dangers(self) -> tuple[str, ...]:
        return ("dangerous",)

    def fingerprints(self) -> tuple[str, ...]:
        return ("SHA256:0",)

    def wanted(self) -> str:
        return "key K"


def check(signer: Windowed, now: dt.datetime = T) -> Proof:
    return signer.check(EVIDENCE, CLAIM, now)


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted time", "now"])
@pytest.mark.parametrize("days", [-2, -1, 0, 1, 2])
def test_c08_a_signer_counts_between_two_times_both_included(days: int, trusted: bool) -> None:
    at = T + days * DAY
    # By a trusted time, whatever time it is now; without one by now.
    signer = Windowed(Timed(at if trusted else None), T - DAY, T + DAY)
    now = T + 500 * DAY if trusted else at
    if abs(days) <= 1:
        assert check(signer, now).signed_at == (at if trusted else None)
        return
    when = "2026-11-2" if days < 0 else "2026-11-27T12:00:00Z"
    how = "signed at" if trusted else "no trusted time, so judged by now,"
    bound = "before 2026-11-24T12:00:00Z" if days < 0 else "after 2026-11-26T12:00:00Z"
    with pytest.raises(Rejected, match=f"^{how} {when}.*: {bound}"):
        check(signer, now)


def test_c08_a_second_past_the_end_is_past_the_end() -> None:
    second = dt.timedelta(seconds=1)
    assert check(Windowed(Timed(T), T, T)).signed_at == T
    with pytest.raises(Rejected, match="before"):
        check(Windowed(Timed(T - second), T, T))
    with pytest.raises(Rejected, match="after"):
        check(Windowed(Timed(T + second), T, T))


def test_one_bound_is_enough() -> None:
    assert check(Windowed(Timed(T), not_before=T - DAY)).signed_at == T
    assert check(Windowed(Timed(T), not_after=T + DAY)).signed_at == T
    with pytest.raises(Rejected, match="before"):
        check(Windowed(Timed(T), not_before=T + DAY))
    with pytest.raises(Rejected, match="after"):
        check(Windowed(Timed(T), not_after=T - DAY))


def test_a_signature_has_an_age() -> None:
    fresh = Windowed(Timed(T - DAY), max_age=DAY)
    assert check(fresh).valid_until == T
    with pytest.raises(Rejected, match="the signature is of 2026-11-24T12:00:00Z, which is more than 24h ago"):
        check(fresh, T + dt.timedelta(seconds=1))


def test_c08_a_signature_of_times_to_come_is_not_fresh() -> None:
    skew = dt.timedelta(seconds=limits.MAX_CLOCK_SKEW)
    assert check(Windowed(Timed(T + skew), max_age=DAY)).valid_until == T + skew + DAY
    with pytest.raises(Rejected, match="which is still to come"):
        check(Windowed(Timed(T + skew + dt.timedelta(seconds=1)), max_age=DAY))


def test_v01_a_signature_without_a_trusted_time_has_no_age() -> None:
    with pytest.raises(Rejected, match="the signature has no trusted time, so no age, and at most 24h is accepted"):
        check(Windowed(Timed(), max_age=DAY))


def test_f17_what_of_a_signature_ends_by_the_policy_is_told() -> None:
    by_validity = check(Windowed(Timed(), not_after=T + DAY))
    assert by_validity.ends == End(T + DAY, "the validity of its signer")
    # Of a signature of a trusted time that does not matter any more.
    assert check(Windowed(Timed(T), not_after=T + DAY)).ends is None
    by_age = check(Windowed(Timed(T), not_after=T + DAY, max_age=3 * DAY))
    assert by_age.ends == End(T + 3 * DAY, "the age that is accepted of the signature, 72h")
    # What its own signer knows to hold for a shorter time may be renewed, and ends nothing.
    assert check(Windowed(Timed(None, T), None, T + DAY)).ends == by_validity.ends


@pytest.mark.parametrize(
    ("signer", "end"),
    [
        (Windowed(Timed(T, None), T - DAY, T + DAY), None),
        (Windowed(Timed(None, None), T - DAY, T + DAY), T + DAY),
        (Windowed(Timed(None, T + 2 * DAY), None, T + DAY), T + DAY),
        (Windowed(Timed(None, T), None, T + DAY), T),
        (Windowed(Timed(T, None), None, T + DAY, 3 * DAY), T + 3 * DAY),
        (Windowed(Timed(T, T + DAY), max_age=3 * DAY), T + DAY),
        (Windowed(Timed(None, T + DAY), not_before=T - DAY), T + DAY),
    ],
)
def test_a_proof_ends_with_what_ends_first(signer: Windowed, end: dt.datetime | None) -> None:
    assert check(signer).valid_until == end


async def test_everything_else_is_the_signers_own() -> None:
    inner = Timed()
    signer = Windowed(inner, T - DAY, T + DAY, DAY)
    assert signer.scope(CLAIM) == inner.scope(CLAIM)
    assert signer.sources(CLAIM) == inner.sources(CLAIM)
    assert (signer.dangers(), signer.fingerprints()) == (("dangerous",), ("SHA256:0",))
    assert signer.wanted() == "key K, not before 2026-11-24T12:00:00Z, not after 2026-11-26T12:00:00Z, at most 24h old"
    assert Windowed(inner).wanted() == "key K"
    registry: Registry = None  # type: ignore[assignment]  # nothing is asked of it
    assert [e async for e in signer.collect(CLAIM, registry)] == [EVIDENCE]


def test_times_and_spans_as_people_read_them() -> None:
    assert (
        rfc3339(dt.datetime(2026, 11, 25, 14, tzinfo=dt.timezone(2 * dt.timedelta(hours=1)))) == "2026-11-25T12:00:00Z"
    )
    assert [span(dt.timedelta(seconds=s)) for s in (0, 59, 3600, 5400, 90061)] == [
        "0s",
        "59s",
        "1h",
        "1h30m",
        "25h1m1s",
    ]
