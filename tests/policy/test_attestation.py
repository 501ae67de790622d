"""Attestations: who, of which type, saying what, how old (attacks C-04, C-20, V-01)."""

import dataclasses
import datetime as dt
from collections.abc import AsyncGenerator, Hashable
from typing import Any

import pytest

from tests.fake.registry import FakeRegistry, to_json
from tests.fake.signing import SLSA, attest, attestation, key
from tests.formats.test_contract import claim_of, judged
from tests.formats.test_cosign import PATH, cosign
from webhook import limits
from webhook.image import Digest, Repository, digest_of
from webhook.parsing import Invalid
from webhook.policy.attestation import Attested
from webhook.policy.predicates import SHORT_NAMES
from webhook.policy.where import parse_where
from webhook.policy.window import Windowed
from webhook.trust import Claim, Evidence, Registry, Rejected, Signer, Unavailable, Unrelated, Untrusted, format_of
from webhook.verdict import Proof

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
IMAGE = digest_of(b"image")
CLAIM = claim_of(IMAGE)
VULN = SHORT_NAMES["vuln"][0]


def attested(*by: Signer, types: tuple[str, ...] = (SLSA,), **options: Any) -> Attested:
    where = options.pop("where", None)
    return Attested(by, types, "slsa-provenance", where and parse_where(where), **options)


@dataclasses.dataclass(frozen=True)
class Stating:
    """Proves a statement of one type, signed at some time."""

    predicate: Any = None
    predicate_type: str = SLSA
    signed_at: dt.datetime | None = None
    name: str = "me"
    place: str = "app"
    valid_until: dt.datetime | None = None
    subject: Any = None

    def scope(self, claim: Claim) -> Hashable:
        return self.name, claim.subject.digest, claim.predicate_type

    def sources(self, claim: Claim) -> tuple[Repository, ...]:
        return (Repository("registry.test", self.place),)

    async def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
        assert claim.predicate_type is not None
        yield Untrusted(self.place, {"by": self.name.encode()})

    def check(self, evidence: Untrusted, claim: Claim, now: dt.datetime) -> Proof:
        assert set(evidence.parts) == {"by"}
        if evidence.parts["by"] != self.name.encode():
            raise Rejected(f"not signed by {self.name}")
        if claim.predicate_type != self.predicate_type:
            raise Unrelated(f"of type {self.predicate_type}")
        statement = attestation(claim.subject.digest, self.predicate_type, self.predicate)
        if self.subject is not None:
            statement["subject"] = self.subject
        content = to_json(statement)
        return Proof("test", self.name, evidence.origin, self.signed_at, content, self.valid_until)

    def dangers(self) -> tuple[str, ...]:
        return ()

    def fingerprints(self) -> tuple[str, ...]:
        return (f"SHA256:{self.name}",)

    def wanted(self) -> str:
        return f"key {self.name}"


async def judge(signer: Attested, claim: Claim = CLAIM) -> tuple[set[Proof], list[str], list[str]]:
    """As the format's contract judges, at this page's time."""
    proofs: set[Proof] = set()
    reasons, causes = [], []
    async for evidence in signer.collect(claim, FakeRegistry()):
        match evidence:
            case Rejected():
                reasons.append(str(evidence))
            case Unavailable():
                causes.append(str(evidence))
            case Untrusted():
                try:
                    proofs.add(signer.check(evidence, claim, NOW))
                except Rejected as e:
                    reasons.append(str(e))
    return proofs, reasons, causes


# ── with the real format ─────────────────────────────────────────────────────────────────────────────────────────────
async def test_c04_an_attestation_satisfies_by_its_type_its_signer_and_what_it_says() -> None:
    registry = FakeRegistry()
    image = registry.push_image(PATH, "v1")
    attest(registry, PATH, image, key("a"), SLSA, {"builder": {"id": "https://ci.example"}})
    claim = claim_of(image)

    async def reasons(signer: Attested) -> list[str]:
        proofs, found, _ = await judged(signer, claim, registry)
        assert bool(proofs) is not bool(found)
        return found

    good = "predicate.builder.id == 'https://ci.example'"
    assert await reasons(attested(cosign(key("a")), where=good)) == []
    assert await reasons(attested(cosign(key("a")), types=("x:y", SLSA), where=good)) == []
    # Each twin differs in one thing.
    assert await reasons(attested(cosign(key("a")), where="predicate.builder.id == 'x'")) == ["`where` does not hold"]
    assert await reasons(attested(cosign(key("a")), types=("x:y",))) == [f"of type {SLSA}, not of type x:y"]
    assert "signed by unknown key" in (await reasons(attested(cosign(key("b")))))[0]


async def test_a_wrong_or_stale_attestation_hides_no_good_one() -> None:
    registry = FakeRegistry()
    image = registry.push_image(PATH, "v1")
    for finished in ("2026-11-01T00:00:00Z", "2026-11-23T23:00:00Z", "2026-11-02T00:00:00Z"):
        attest(registry, PATH, image, key("a"), VULN, {"metadata": {"scanFinishedOn": finished}})
    attest(registry, PATH, image, key("b"), VULN, {"metadata": {"scanFinishedOn": "2026-11-23T23:00:00Z"}})
    attest(registry, PATH, image, key("a"), SLSA)
    signer = attested(cosign(key("a")), types=(VULN,), max_age=24 * HOUR)
    proofs, reasons, _ = await judged(signer, claim_of(image), registry)
    assert len(proofs) == 1
    assert len(reasons) == 4


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_proof_says_of_which_type_it_is_and_keeps_no_statement() -> None:
    ((proof,), _, _) = await judge(attested(Stating(signed_at=NOW)))
    assert (proof.predicate_type, proof.statement, proof.identity) == (SLSA, None, "me")


async def test_v01_what_has_no_answer_does_not_satisfy() -> None:
    proofs, reasons, _ = await judge(attested(Stating({"a": 1}), where="predicate.b == 1"))
    assert (proofs, reasons) == (set(), ["`where` has no answer: there is no field b"])


async def test_a_condition_sees_the_subject_that_is_the_image() -> None:
    other = {"name": "other", "digest": {"sha256": "0" * 64}}
    mine = {"name": "mine", "digest": {"sha256": IMAGE[7:], "sha512": "1"}, "annotations": {"x": "y"}}
    odd: list[Any] = [{"digest": None}, {}, other, mine]
    where = f"subject == {{'name': 'mine', 'digest': {{'sha256': '{IMAGE[7:]}', 'sha512': '1'}}}}"
    proofs, _, _ = await judge(attested(Stating(subject=odd), where=where))
    assert len(proofs) == 1
    proofs, reasons, _ = await judge(attested(Stating(subject=[other]), where="true"))
    assert (proofs, reasons) == (set(), ["it is about another image"])


async def test_a_signer_that_shows_no_statement_proves_none() -> None:
    @dataclasses.dataclass(frozen=True)
    class Mute(Stating):
        def check(self, evidence: Untrusted, claim: Claim, now: dt.datetime) -> Proof:
            return dataclasses.replace(super().check(evidence, claim, now), statement=None)

    proofs, reasons, _ = await judge(attested(Mute()))
    assert (proofs, reasons) == (set(), ["statement: not JSON in UTF-8"])


# ── how old it is ────────────────────────────────────────────────────────────────────────────────────────────────────
def report(finished: dt.datetime | str) -> dict[str, Any]:
    return {"metadata": {"scanFinishedOn": finished if isinstance(finished, str) else finished.isoformat()}}


@pytest.mark.parametrize(
    ("by", "end"),
    [
        # The trusted time of the signature, and then what the predicate says does not matter.
        (Stating(report("2001-01-01T00:00:00Z"), VULN, NOW - HOUR), NOW + HOUR),
        (Stating(None, VULN, NOW - 2 * HOUR), NOW),
        # Without one, the time that the type gives to what it reports.
        (Stating(report(NOW - HOUR), VULN), NOW + HOUR),
        (Stating(report(NOW - 2 * HOUR), VULN), NOW),
        (Stating(report(NOW + dt.timedelta(seconds=limits.MAX_CLOCK_SKEW)), VULN), NOW + 2 * HOUR + 5 * HOUR / 60),
        (Stating(report(NOW - HOUR), VULN, valid_until=NOW), NOW),
    ],
)
async def test_an_attestation_is_young_enough(by: Stating, end: dt.datetime) -> None:
    (proofs, reasons, _) = await judge(attested(by, types=(VULN,), max_age=2 * HOUR))
    assert ([proof.valid_until for proof in proofs], reasons) == ([end], [])
    ((told,),) = ([proof.ends for proof in proofs],)
    assert told is not None
    assert told.what == "the age that is accepted of the attestation, 2h"


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        (Stating(report(NOW), VULN, NOW - 2 * HOUR - HOUR / 60), "the attestation is of 2026-11-25T09:59:00Z, which is more than 2h ago"),
        (Stating(report(NOW - 3 * HOUR), VULN), "the attestation is of 2026-11-25T09:00:00Z, which is more than 2h ago"),
        (Stating(report(NOW + HOUR), VULN), "it reports of 2026-11-25T13:00:00Z, which has not come yet"),
        (Stating(report("9999-12-31T23:59:59Z"), VULN), "it reports of 9999-12-31T23:59:59Z, which has not come yet"),
        (Stating(None, VULN), "the attestation has no trusted time, so no age, and at most 2h is accepted"),
        (Stating(report("soon"), VULN), "predicate.metadata.scanFinishedOn: soon is no time"),
    ],
)  # fmt: skip
async def test_v01_an_attestation_that_is_old_or_of_no_time_does_not_satisfy(by: Stating, reason: str) -> None:
    proofs, reasons, _ = await judge(attested(by, types=(VULN,), max_age=2 * HOUR))
    assert proofs == set()
    assert reasons[0].startswith(reason)


async def test_a_type_that_defines_no_time_needs_a_trusted_one() -> None:
    types = SHORT_NAMES["test-result"]
    claimed = {"timestamp": NOW.isoformat(), "metadata": {"scanFinishedOn": NOW.isoformat()}}
    proofs, reasons, _ = await judge(attested(Stating(claimed, types[0]), types=types, max_age=HOUR))
    assert proofs == set()
    assert "no trusted time" in reasons[0]
    proofs, _, _ = await judge(attested(Stating(claimed, types[0], NOW), types=types, max_age=HOUR))
    assert len(proofs) == 1


async def test_a_proof_that_rests_on_the_present_time_is_kept_for_a_moment() -> None:
    moment = NOW + dt.timedelta(seconds=limits.NOW_SECONDS)
    ((proof,), _, _) = await judge(attested(Stating(), where="now > timestamp('2026-01-01T00:00:00Z')"))
    # It will be asked again; when it ends nobody can tell.
    assert (proof.valid_until, proof.ends) == (moment, None)
    ((proof,), _, _) = await judge(attested(Stating(), where="true"))
    assert proof.valid_until is None
    ((proof,), _, _) = await judge(attested(Stating(valid_until=NOW), where="now > timestamp(0)"))
    assert proof.valid_until == NOW


# ── who made it ──────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_any_of_the_signers_may_have_made_it() -> None:
    one, two = Stating(name="one"), Stating(name="two", place="elsewhere")
    proofs, _, _ = await judge(attested(one, two))
    assert {proof.identity for proof in proofs} == {"one", "two"}


async def test_p10_evidence_counts_for_those_alone_who_look_there() -> None:
    # `two` is found beside `one`, whose place is not where `two` keeps what it signs.
    @dataclasses.dataclass(frozen=True)
    class Elsewhere(Stating):
        async def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
            yield Untrusted("app", {"by": b"two"})

    one, two = Elsewhere(name="one"), Stating(name="two", place="elsewhere")
    signer = attested(one, two)
    (here, there) = [e async for e in signer.collect(CLAIM, FakeRegistry()) if isinstance(e, Untrusted)]
    with pytest.raises(Rejected, match="not signed by one"):
        signer.check(here, CLAIM, NOW)
    assert signer.check(there, CLAIM, NOW).identity == "two"


async def test_one_place_is_read_once_however_many_look_there() -> None:
    registry = FakeRegistry()
    image = registry.push_image(PATH, "v1")
    attest(registry, PATH, image, key("b"))
    signer = attested(*(cosign(key(name)) for name in "abc"), types=SHORT_NAMES["slsa-provenance"])
    assert len((await judged(signer, claim_of(image), registry))[0]) == 1
    assert registry.asked == {"manifest": 3, "referrers": 1, "blob": 1}


async def test_the_reason_is_that_of_whoever_came_furthest() -> None:
    # `two` made it, and its condition fails: that `one` did not make it is not what is wrong.
    signer = attested(Stating(name="one"), Stating(name="two"), types=("x:y", SLSA), where="false || false")
    evidence = Untrusted("app", {"by": b"two", "place": b"0"})
    with pytest.raises(Rejected, match="`where` does not hold"):
        signer.check(evidence, CLAIM, NOW)
    with pytest.raises(Rejected, match="not signed by one") as refused:
        signer.check(Untrusted("app", {"by": b"three", "place": b"0"}), CLAIM, NOW)
    assert not isinstance(refused.value, Unrelated)
    with pytest.raises(Unrelated, match=f"of type {SLSA}"):
        attested(Stating(), types=("x:y", "x:z")).check(Untrusted("app", {"by": b"me"}), CLAIM, NOW)


async def test_v01_nobody_may_attest_nobody_did() -> None:
    # Neither can be written; should one come into being all the same, nothing satisfies it.
    for nobody in (attested(), attested(Stating(), types=())):
        with pytest.raises(Rejected, match="nobody may attest"):
            nobody.check(Untrusted("x", {"by": b"me"}), CLAIM, NOW)


async def test_a_place_that_cannot_be_read_hides_no_other() -> None:
    for error, text in (
        (Unavailable("down"), "down"),
        (Rejected("odd"), "odd"),
        (Invalid("no reference"), "no reference"),
    ):

        @dataclasses.dataclass(frozen=True)
        class Broken(Stating):
            async def collect(
                self, claim: Claim, registry: Registry, error: Exception = error
            ) -> AsyncGenerator[Evidence, None]:
                yield Rejected("first")
                raise error

        proofs, reasons, causes = await judge(attested(Broken(place="broken"), Stating()))
        assert len(proofs) == 1
        assert (reasons, causes) == ((["first"], ["down"]) if text == "down" else (["first", text], []))


async def test_v04_a_signer_whose_key_could_not_be_read_may_have_made_it() -> None:
    cause = 'signer "b": its key could not be read: no Secret'
    proofs, _, causes = await judge(attested(Stating(), unresolved=(cause,)))
    assert (len(proofs), causes) == (1, [cause])


# ── what it is to the judge ──────────────────────────────────────────────────────────────────────────────────────────
def test_the_scope_holds_all_that_the_judgement_rests_on() -> None:
    one, two = Stating(name="one"), Stating(name="two")
    signer = attested(one, two, types=("x:y", SLSA))
    assert signer.scope(CLAIM) == (
        None,
        (
            ("one", IMAGE, "x:y"),
            ("one", IMAGE, SLSA),
            ("two", IMAGE, "x:y"),
            ("two", IMAGE, SLSA),
        ),
    )
    other = claim_of(Digest(f"sha256:{'1' * 64}"))
    assert signer.scope(CLAIM) != signer.scope(other)
    by_name = attested(one, where="image.tag == 'v1'")
    retagged = Claim(dataclasses.replace(CLAIM.subject, tag="v2"))
    assert by_name.scope(CLAIM) != by_name.scope(retagged)
    assert signer.scope(CLAIM) == signer.scope(retagged)


def test_it_reads_where_its_signers_read() -> None:
    signer = attested(Stating(), Stating(name="x"), Stating(place="elsewhere"))
    assert [source.path for source in signer.sources(CLAIM)] == ["app", "elsewhere"]


def test_what_people_are_told_of_it() -> None:
    signer = attested(*(Stating(name=name) for name in "abcde"))
    assert signer.wanted() == "slsa-provenance by key a or key b or key c or 2 more"
    assert attested(Stating(), Stating()).wanted() == "slsa-provenance by key me"
    assert signer.fingerprints() == tuple(f"SHA256:{name}" for name in "abcde")
    assert signer.dangers() == ()
    assert [format_of(one) for one in (Stating(), Windowed(Stating()), signer)] == ["stating", "stating", "attested"]


def test_equal_demands_are_equal_values() -> None:
    def build() -> Attested:
        return attested(cosign(key("a")), where="true", max_age=HOUR)

    assert build() == build()
    assert hash(build()) == hash(build())
    assert build() != attested(cosign(key("a")), where="false || true", max_age=HOUR)
    assert build() != attested(cosign(key("a")), where="true", max_age=2 * HOUR)
