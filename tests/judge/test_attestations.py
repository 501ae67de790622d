"""Attestations before the judge: with `require`, memory, outages, and what people are told (C-04, V-04, M-01, M-02)."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from tests import captures
from tests.captures import IMAGE
from tests.fake.registries import ANONYMOUS
from tests.fake.signing import SLSA, attest, attest_tagged, key
from tests.judge.test_judge import HOST, World, question
from tests.policies import policy
from webhook import limits
from webhook.judge.evaluate import Judge
from webhook.judge.explain import as_json, sentence
from webhook.memory.store import PolicyStore
from webhook.policy.policy import Policy
from webhook.trust import Unavailable, Unresolved
from webhook.verdict import Allowed, Denied, Ruling, Satisfied, Undecided, Unknown

VULN = "https://cosign.sigstore.dev/attestation/vuln/v1"
APP = f"{HOST}/app:v1"


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.pool.shutdown()


def demanding(*attestations: dict[str, Any], name: str = "shop/web", **fields: Any) -> Policy:
    """A policy with a signer for keys `a` and `b` each, and these attestations."""
    signers = [{"name": n, "cosign": {"key": key(n).pem}} for n in ("a", "b")]
    return policy(name, {"signers": signers, "attestations": list(attestations), **fields})


PROVENANCE = {"name": "provenance", "type": "slsa-provenance"}
SCAN = {"name": "scan", "type": "vuln", "signedBy": ["b"], "where": "predicate.count == 0"}


async def test_c04_a_signature_and_every_attestation_are_wanted_unless_the_policy_says_otherwise(world: World) -> None:
    digest = world.signed("app", key("a"))
    asked = demanding(PROVENANCE, SCAN)
    denied = await world.outcome([asked], APP)
    assert isinstance(denied, Denied)
    # Whichever is judged first decides.
    assert denied.reasons in {
        (f'no attestation by "provenance" (a signature, not of type {SLSA})',),
        (f'no attestation by "scan" (signed by unknown key {key("a").fingerprint[:23]}…)',),
    } | {
        (
            f'no attestation by "provenance" (a signature, not of type {SLSA})',
            f'no attestation by "scan" (signed by unknown key {key("a").fingerprint[:23]}…)',
        )
    }
    attest(world.registry, "app", digest, key("a"))
    attest_tagged(world.registry, "app", digest, key("b"), VULN, {"count": 0})
    world.judge = Judge(world.registries, pool=world.pool, now=lambda: captures.NOW, observer=world.counter)
    allowed = await world.outcome([asked], APP)
    assert isinstance(allowed, Allowed)
    assert {(proof.identity, proof.predicate_type) for proof in allowed.proofs} == {
        (key("a").fingerprint, None),
        (key("a").fingerprint, SLSA),
        (key("b").fingerprint, VULN),
    }


@pytest.mark.parametrize(
    ("require", "admitted"),
    [("scan", True), ("any", False), ("any or scan", True), ("scan and provenance", False), ("1 of (scan, a)", True)],
)
async def test_attestations_are_names_in_require(world: World, require: str, admitted: bool) -> None:
    digest = world.registry.push_image("app", "v1")
    attest(world.registry, "app", digest, key("b"), VULN, {"count": 0})
    outcome = await world.outcome([demanding(PROVENANCE, SCAN, require=require)], APP)
    assert isinstance(outcome, Allowed if admitted else Denied)


async def test_c07_one_key_that_signs_and_attests_is_one_identity(world: World) -> None:
    digest = world.signed("app", key("a"))
    attest(world.registry, "app", digest, key("a"))
    two = demanding(PROVENANCE, require="2 of (a, provenance)")
    denied = await world.outcome([two], APP)
    assert isinstance(denied, Denied)
    assert "2 different signers are wanted" in denied.reasons[-1]
    attest(world.registry, "app", digest, key("b"))
    world.judge = Judge(world.registries, pool=world.pool, now=lambda: captures.NOW, observer=world.counter)
    assert isinstance(await world.outcome([two], APP), Allowed)


async def test_v04_an_outage_hides_no_attestation_and_no_certain_no(world: World) -> None:
    digest = world.signed("app", key("a"))
    attest_tagged(world.registry, "app", digest, key("b"), VULN, {"count": 7})
    world.registry.fail("referrers", lambda: Unavailable("registry.test: 503"))
    # What was read does not satisfy, and what was not read might.
    outcome = await world.outcome([demanding(SCAN, require="scan")], APP)
    assert isinstance(outcome, Undecided)
    assert outcome.causes == ('attestation "scan": registry.test: 503',)
    attest_tagged(world.registry, "app", digest, key("b"), VULN, {"count": 0})
    assert isinstance(await world.outcome([demanding(SCAN, require="scan")], APP), Allowed)


async def test_v04_an_attesters_key_that_cannot_be_read_leaves_the_others(world: World) -> None:
    digest = world.registry.push_image("app", "v1")
    gone = {"name": "gone", "cosign": {"key": "secret://gone#x"}}
    signers = [gone, {"name": "a", "cosign": {"key": key("a").pem}}]
    unread = {"secret://gone#x": Unresolved("no Secret shop/gone")}
    asked = policy(
        "shop/web",
        {"signers": signers, "attestations": [PROVENANCE], "require": "provenance"},
        materials=unread,  # type: ignore[arg-type]  # a reference is text
    )
    outcome = await world.outcome([asked], APP)
    assert isinstance(outcome, Undecided)
    assert outcome.causes == (
        'attestation "provenance": signer "gone": its key could not be read: no Secret shop/gone',
    )
    attest(world.registry, "app", digest, key("a"))
    assert isinstance(await world.outcome([asked], APP), Allowed)


async def test_requests_for_attestations_are_made_only_where_a_policy_demands_some(world: World) -> None:
    world.signed("app", key("a"))
    await world.outcome([demanding(require="a")], f"{HOST}/app:v1")
    asked = dict(world.registry.asked)
    assert asked == {"resolve": 1, "manifest": 2, "referrers": 1, "blob": 1}
    world.registry.asked.clear()
    await world.outcome([demanding({**PROVENANCE, "signedBy": ["a"]}, require="provenance")], f"{HOST}/app:v1")
    # `a` was judged already; the tag of attestations, the referrers, their manifests and the fallback tag remain.
    assert world.registry.asked == {"manifest": 3, "referrers": 1, "blob": 1}


async def test_m01_a_finding_is_kept_by_what_the_condition_looks_at(world: World) -> None:
    digest = world.registry.push_image("app", "v1")
    world.registry.tags["app", "v2"] = digest
    attest(world.registry, "app", digest, key("a"))
    by_tag = demanding({**PROVENANCE, "where": "image.tag == 'v1'"}, require="provenance")
    assert isinstance(await world.outcome([by_tag], f"{HOST}/app:v1"), Allowed)
    denied = await world.outcome([by_tag], f"{HOST}/app:v2")
    assert isinstance(denied, Denied)
    assert "`where` does not hold" in denied.reasons[0]
    weighed = len(world.counter.weighed)
    plain = demanding(PROVENANCE, require="provenance")
    assert isinstance(await world.outcome([plain], f"{HOST}/app:v1"), Allowed)
    assert isinstance(await world.outcome([plain], f"{HOST}/app:v2"), Allowed)
    assert len(world.counter.weighed) == weighed + 1


async def test_m02_a_finding_ends_with_the_age_it_rests_on(world: World) -> None:
    digest = world.registry.push_image("app", "v1")
    finished = captures.NOW - dt.timedelta(hours=1, minutes=59, seconds=58)
    attest(
        world.registry,
        "app",
        digest,
        key("b"),
        VULN,
        {"count": 0, "metadata": {"scanFinishedOn": finished.isoformat()}},
    )
    assert 0 < await seconds_kept(world, {**SCAN, "maxAge": "2h"}, digest) <= 2
    assert await seconds_kept(world, {**SCAN, "maxAge": "200h"}, digest) > 0


async def test_m02_a_finding_about_the_present_time_is_kept_for_a_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "NOW_SECONDS", 3.0)
    digest = world.registry.push_image("app", "v1")
    attest(world.registry, "app", digest, key("a"))
    assert 0 < await seconds_kept(world, {**PROVENANCE, "where": "now > timestamp(0)"}, digest) <= 3
    assert await seconds_kept(world, {**PROVENANCE, "where": "true"}, digest) > 3


async def seconds_kept(world: World, attestation: dict[str, Any], digest: str) -> float:
    """How long the answer about an image is kept, once it is known."""
    store = PolicyStore()
    store.put_namespace("shop", {})
    store.replace_all([demanding(attestation, require=attestation["name"])])
    asked = question(f"{HOST}/app@{digest}")
    first = await world.judge.judge(asked, store.snapshot, ANONYMOUS, 1e9)
    assert first.seconds == 0.0
    return (await world.judge.judge(asked, store.snapshot, ANONYMOUS, 1e9)).seconds


async def test_what_people_read_of_attestations(world: World) -> None:
    digest = world.signed("app", key("a"))
    attest(world.registry, "app", digest, key("b"), VULN, {"count": 3})
    named, by = f"{HOST}/app@{digest}", f'"scan" (vuln by key {key("b").fingerprint[:23]}…)'

    async def told(require: str | None) -> Ruling:
        fields = {} if require is None else {"require": require}
        (ruling,) = await world.rulings([demanding(SCAN, **fields)], APP)
        return ruling

    ruling = await told("scan")
    assert sentence(ruling) == (
        f'spec.containers[0].image {APP} ({digest[:19]}…): policy shop/web: no attestation by "scan" (signed by unknown key'
        f" {key('a').fingerprint[:23]}…; `where` does not hold). Fix: attest {named} with {by}"
    )
    assert [(one.name, one.is_attestation) for one in ruling.findings] == [("a", False), ("b", False), ("scan", True)]
    assert ruling.findings[0].finding == Unknown(("not needed for the decision",))
    # Of what is lacking, signatures are named apart from attestations.
    for require, what in (
        ("b or scan", f'sign and attest {named} with "b" (key {key("b").fingerprint[:23]}…) or {by}'),
        (None, f"sign and attest {named} so that `((a or b) and scan)` holds; missing: "),
    ):
        outcome = (await told(require)).outcome
        assert isinstance(outcome, Denied)
        assert outcome.fix is not None
        assert outcome.fix.startswith(what)


async def test_what_cosign_attested_is_judged_as_the_policy_says(world: World) -> None:
    world.registry.load("app", captures.path("cosign-attestations-bundle"))
    signers = [{"name": "ci", "cosign": {"key": captures.key("attest.pub").decode()}}]
    types = ["slsa-provenance", "spdx", "cyclonedx", "vuln", "openvex", "test-result"]
    names = [{"name": f"x-{t}", "type": t} for t in types]
    asked = policy(
        "shop/web", {"signers": signers, "attestations": names, "require": " and ".join(f"x-{t}" for t in types)}
    )
    outcome = await world.outcome([asked], f"{HOST}/app@{IMAGE}")
    assert isinstance(outcome, Allowed)
    assert len({proof.predicate_type for proof in outcome.proofs}) >= len(types)
    (ruling,) = await world.rulings([asked], f"{HOST}/app@{IMAGE}")
    assert all(isinstance(named.finding, Satisfied) for named in ruling.findings if named.is_attestation)


async def test_json_tells_of_attestations(world: World) -> None:
    digest = world.signed("app", key("a"))
    attest(world.registry, "app", digest, key("b"), VULN, {"count": 0})
    (ruling,) = await world.rulings([demanding(SCAN)], APP)
    assert isinstance(ruling, Ruling)
    (told,) = as_json([ruling], {ruling.image: "allowed"})
    assert isinstance(told["policies"], list)
    (of_policy,) = told["policies"]
    assert [one["name"] for one in of_policy["signers"]] == ["a", "b"]
    (scan,) = of_policy["attestations"]
    assert scan["satisfied"] is True
    assert scan["identity"] == key("b").fingerprint
    (shown,) = scan["proofs"]
    assert shown["predicateType"] == VULN
