"""Until when an image that is allowed stays so: as much as has to be left of what was proven (faults F17, F31)."""

import asyncio
import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests import captures
from tests.fake.pki import DAY
from tests.fake.registries import ANONYMOUS
from tests.fake.signing import key
from tests.judge.test_judge import HOST, World, question
from tests.policies import policy
from webhook.image import Digest, digest_of
from webhook.judge import explain
from webhook.judge.case import Case, cases_of
from webhook.judge.ruling import judgements_on
from webhook.memory.store import PolicyStore
from webhook.policy.policy import Policy
from webhook.trust import Platform, Resolved, Unresolved
from webhook.verdict import Allowed, End, Proof, Ruling, Satisfied, Unknown

NOW = captures.NOW
INDEX, ARM, AMD = (digest_of(text) for text in (b"index", b"arm", b"amd"))
PLATFORMS = (Platform("linux/arm64", ARM), Platform("linux/amd64", AMD))


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.pool.shutdown()


def end(days: float) -> End:
    return End(NOW + days * DAY, f"what ends after {days}")


def proof(who: str, days: float | None, **fields: Any) -> Proof:
    return Proof("test", who, "here", ends=None if days is None else end(days), **fields)


def wanting(require: str, **fields: Any) -> Policy:
    signers = [{"name": name, "cosign": {"key": key(name).pem}} for name in ("a", "b", "c")]
    scan = {"name": "scan", "type": "vuln"}
    return policy("shop/web", {"signers": signers, "attestations": [scan]}, require=require, **fields)


def ruling(
    about: Policy,
    found: Mapping[tuple[str, Digest], frozenset[Proof]],
    *others: Policy,
    resolved: Resolved | None = None,
) -> Ruling:
    """What the policy says of an image about which this, and nothing else, was found."""
    store = PolicyStore()
    store.replace_all([about, *others])
    store.put_namespace("shop", {})
    _, [case] = cases_of(question(f"{HOST}/app@{INDEX}"), store.snapshot, NOW)
    case.resolved = resolved or Resolved(INDEX)
    _find(case, about, found)
    rulings = [one for one in judgements_on(case, final=True) or () if isinstance(one, Ruling)]
    return next(one for one in rulings if one.policy == about.key)


def _find(case: Case, about: Policy, found: Mapping[tuple[str, Digest], frozenset[Proof]]) -> None:
    for demand in about.demands:
        assert not isinstance(demand.signer, Unresolved)
        for digest in (INDEX, ARM, AMD):
            proofs = found.get((demand.name, digest))
            case.findings[digest, demand.signer] = Satisfied(proofs) if proofs else Unknown(("not asked",))


def until(about: Policy, found: Mapping[str, tuple[Proof, ...]], *others: Policy) -> End | None:
    outcome = ruling(about, {(name, INDEX): frozenset(proofs) for name, proofs in found.items()}, *others).outcome
    assert isinstance(outcome, Allowed)
    return outcome.ends


# Ends of a, b, c and of the attestation, in days; None: never.
@pytest.mark.parametrize(
    ("require", "ends", "wanted"),
    [
        ("a", {"a": 10}, 10),
        ("a", {"a": None}, None),
        ("a or b", {"a": 10, "b": 20}, 20),
        ("a or b", {"a": 10, "b": None}, None),
        ("a or b", {"a": 10}, 10),
        ("a and b", {"a": 10, "b": 20}, 10),
        ("a and b", {"a": None, "b": 20}, 20),
        ("2 of (a, b, c)", {"a": 10, "b": 20, "c": 30}, 20),
        ("2 of (a, b, c)", {"a": 10, "b": 20, "c": None}, 20),
        ("2 of (a, b, c)", {"a": 10, "b": None, "c": None}, None),
        ("3 of (a, b, c)", {"a": 10, "b": 20, "c": 30}, 10),
        ("a and (b or c)", {"a": 30, "b": 10, "c": 20}, 20),
        ("a and scan", {"a": 30, "scan": 5}, 5),
        ("a and scan", {"a": 3, "scan": None}, 3),
        # What is not asked for ends nothing.
        ("a", {"a": 10, "b": 1}, 10),
    ],
)
def test_f17_an_image_is_allowed_as_long_as_enough_is_left(
    require: str, ends: dict[str, float | None], wanted: float | None
) -> None:
    found = {name: (proof(name, days),) for name, days in ends.items()}
    assert until(wanting(require), found) == (None if wanted is None else end(wanted))


def test_of_several_signatures_of_one_signer_the_last_counts() -> None:
    assert until(wanting("a"), {"a": (proof("x", 10), proof("y", 40), proof("z", 20))}) == end(40)


def test_c07_a_signer_under_two_names_is_left_as_one() -> None:
    # Until then there are two people; afterwards one of them, twice.
    found = {"a": (proof("x", None), proof("y", 10)), "b": (proof("x", None),)}
    assert until(wanting("2 of (a, b)"), found) == end(10)


def test_what_a_deny_list_leaves_is_what_must_last() -> None:
    found = {"a": (proof("good", 10), proof("SHA256:" + "0" * 64, None))}
    assert until(wanting("a"), found) is None
    denying = policy("deny", {"deny": {"keys": ["SHA256:" + "0" * 64]}})
    assert until(wanting("a"), found, denying) == end(10)


@pytest.mark.parametrize(("platforms", "wanted"), [("all", 10), ("any", 20)])
def test_of_an_index_the_images_that_have_to_be_signed_count(platforms: str, wanted: float) -> None:
    resolved = Resolved(INDEX, (ARM, AMD), platforms=PLATFORMS)
    found = {("a", ARM): frozenset({proof("x", 10)}), ("a", AMD): frozenset({proof("x", 20)})}
    outcome = ruling(wanting("a", platforms=platforms), found, resolved=resolved).outcome
    assert isinstance(outcome, Allowed)
    assert outcome.ends == end(wanted)


async def test_whoever_wants_to_know_for_how_long_has_everything_read(world: World) -> None:
    world.signed("app", key("a"), key("b"))
    a, b = ({"name": name, "cosign": {"key": key(name).pem}} for name in ("a", "b"))
    ends = {**a, "validity": {"notAfter": (NOW + DAY).isoformat()}}
    store = PolicyStore()
    store.put_namespace("shop", {})

    async def until(*signers: dict[str, Any], thorough: bool = True) -> End | None:
        store.put(policy("shop/web", {"signers": list(signers)}))
        asked = replace(question(f"{HOST}/app:v1"), thorough=thorough)
        deadline = asyncio.get_running_loop().time() + 10
        (one,) = (await world.judge.judge(asked, store.snapshot, ANONYMOUS, deadline)).judgements
        assert isinstance(one, Ruling)
        assert isinstance(one.outcome, Allowed)
        return one.outcome.ends

    told = End(NOW + DAY, "the validity of its signer")
    for thorough in (False, True):
        assert await until(ends, thorough=thorough) == told
    # What is remembered of one of them is enough to admit it, and not to say for how long.
    assert await until(ends, b, thorough=False) == told
    assert await until(ends, b) is None
    assert await until(ends, b, thorough=False) is not None


def test_people_and_machines_are_told_until_when() -> None:
    lasting, ending = (ruling(wanting("a"), {("a", INDEX): frozenset({proof("x", days)})}) for days in (None, 10))
    at = (NOW + 10 * DAY).astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    said = f"by the signatures that were read allowed until {at}, when this ends: what ends after 10; "
    assert (explain.ends(ending) or "").startswith(said)
    assert explain.ends(lasting) is None
    told = explain.as_json([ending], {ending.image: "allowed"})[0]["policies"]
    assert isinstance(told, list)
    assert told[0]["ends"] == {"at": at, "what": "what ends after 10"}
