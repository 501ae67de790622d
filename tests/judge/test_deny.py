"""Deny lists of signatures: by key, identity, certificate and time (attacks C-08, M-04, V-04)."""

import dataclasses
import datetime as dt
from collections.abc import AsyncGenerator, Hashable, Iterator
from typing import Any

import pytest

from tests import captures
from tests.fake.notation import authority, party, sign_notation, store, subject, trusting
from tests.fake.registries import ANONYMOUS
from tests.fake.signing import key
from tests.judge.test_judge import HOST, World, cosign, question
from tests.policies import policy
from webhook.image import Repository
from webhook.memory.store import PolicyStore
from webhook.policy.policy import NamedSigner, Policy
from webhook.policy.require import parse_require
from webhook.trust import Claim, Evidence, Registry, Untrusted
from webhook.verdict import Allowed, Answer, Denied, Proof, Uncovered

NOW = captures.NOW
HOUR = dt.timedelta(hours=1)
APP = f"{HOST}/app:v1"
NOTATION = "x509.subject: C=US, ST=WA, O=Acme, OU=Releases, CN=v"
ROOT = authority("Root")
IDENTITY = "issuer=https://accounts.example,subject=dev@example.com"


@dataclasses.dataclass(frozen=True)
class Known:
    """Proves what it is told to."""

    identity: str = IDENTITY
    signed_at: dt.datetime | None = None
    serial: str | None = None
    format: str = "cosign"

    def scope(self, claim: Claim) -> Hashable:
        return claim.subject.digest

    def sources(self, claim: Claim) -> tuple[Repository, ...]:
        return ()

    async def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Evidence, None]:
        yield Untrusted("here", {})

    def check(self, evidence: Untrusted, claim: Claim, now: dt.datetime) -> Proof:
        return Proof(self.format, self.identity, evidence.origin, self.signed_at, serial=self.serial)

    def dangers(self) -> tuple[str, ...]:
        return ()

    def fingerprints(self) -> tuple[str, ...]:
        return ()

    def wanted(self) -> str:
        return self.identity


def signed(*signers: Known, require: str | None = None) -> Policy:
    """A policy with these signers, which are not written but known."""
    names = [f"s{i}" for i in range(len(signers))]
    named = tuple(NamedSigner(name, signer) for name, signer in zip(names, signers, strict=True))
    expression = parse_require(require or " or ".join(names), names)
    return dataclasses.replace(policy("shop/web"), signers=named, require=expression)


def denying(**spec: Any) -> Policy:
    return policy("deny", {"deny": spec})


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.registry.push_image("app", "v1")
    yield made
    made.pool.shutdown()


def texts(time: dt.datetime) -> str:
    return time.isoformat()


@pytest.mark.parametrize(
    ("signer", "spec", "how"),
    [
        (Known(), {"signers": [IDENTITY]}, f"by {IDENTITY}"),
        (Known(serial="1f"), {"certSerials": ["00:1F"]}, "with certificate 1f"),
        (Known(signed_at=NOW - HOUR), {"signedAfter": texts(NOW - 2 * HOUR)}, "at 2026-11-23T23:38:00+00:00"),
        (Known(signed_at=NOW - 2 * HOUR), {"signedBefore": texts(NOW - HOUR)}, "at 2026-11-23T22:38:00+00:00"),
        (Known(), {"signedAfter": texts(NOW - HOUR)}, "at an unknown time"),
        (Known(), {"signedBefore": texts(NOW - HOUR)}, "at an unknown time"),
    ],
)
async def test_c08_what_a_deny_list_names_does_not_count(
    world: World, signer: Known, spec: dict[str, Any], how: str
) -> None:
    (ruling, denial) = await world.rulings([signed(signer), denying(**spec)], APP)
    assert isinstance(ruling.outcome, Allowed)
    assert isinstance(denial.outcome, Denied)
    assert denial.outcome.final
    assert denial.outcome.reasons == (f"signed {how}, which is on the policy's deny list",)
    assert not (await world.answer([signed(signer), denying(**spec)], APP)).allowed


async def test_signatures_that_are_refused_alike_are_told_once(world: World) -> None:
    both = signed(Known(serial="1f"), Known("somebody else", serial="1f"), require="s0 and s1")
    (ruling, denial) = await world.rulings([both, denying(certSerials=["1f"])], APP)
    assert isinstance(ruling.outcome, Allowed)
    assert isinstance(denial.outcome, Denied)
    assert denial.outcome.reasons == ("signed with certificate 1f, which is on the policy's deny list",)


@pytest.mark.parametrize(
    ("signer", "spec"),
    [
        (Known(), {"signers": ["issuer=https://accounts.example,subject=other@example.com"]}),
        (Known(serial="1e"), {"certSerials": ["1f"]}),
        (Known(), {"certSerials": ["1f"]}),
        (Known(signed_at=NOW - 2 * HOUR), {"signedAfter": texts(NOW - HOUR)}),
        (Known(signed_at=NOW - HOUR), {"signedBefore": texts(NOW - 2 * HOUR)}),
        (Known(signed_at=NOW), {"signedAfter": texts(NOW - 3 * HOUR), "signedBefore": texts(NOW - HOUR)}),
        (Known(), {"signedAfter": texts(NOW + HOUR)}),
        (Known(format="static"), {"signedAfter": texts(NOW - HOUR)}),
    ],
)
async def test_what_a_deny_list_does_not_name_counts(world: World, signer: Known, spec: dict[str, Any]) -> None:
    answer: Answer = await world.answer([signed(signer), denying(**spec)], APP)
    assert answer.allowed


async def notation(world: World, **spec: Any) -> Policy:
    """A policy of an image that `NOTATION` has signed with Notation."""
    digest = world.registry.push_image("app", "v1")
    sign_notation(world.registry, "app", digest, party("v", ROOT, name=subject("v", OU="Releases")))
    return policy("shop/web", {"signers": [{"name": "v", "notation": trusting(store("ca", ROOT), **spec)}]})


@pytest.mark.parametrize(
    "denied",
    [
        NOTATION,
        "x509.subject: C=US,ST=WA,O=Acme,OU=Releases,CN=v",
        "x509.subject: CN=v, OU=Releases, O=Acme, ST=WA, C=US",
        "x509.subject: C=US, ST=WA, O=Acme, OU=Releases",
        "x509.subject: OU=Releases",
        "x509.subject: 2.5.4.3=v",
    ],
)
async def test_c08_whoever_a_denied_subject_is_part_of_is_denied(world: World, denied: str) -> None:
    written = await notation(world)
    assert (await world.answer([written], APP)).allowed
    (ruling, denial) = await world.rulings([written, denying(signers=[denied])], APP)
    assert isinstance(ruling.outcome, Allowed)
    assert isinstance(denial.outcome, Denied)
    assert denial.outcome.reasons == (f"signed by {NOTATION}, which is on the policy's deny list",)


@pytest.mark.parametrize(
    "denied",
    [
        "x509.subject: C=US, ST=WA, O=Acme, OU=Release",
        "x509.subject: C=US, ST=WA, O=Acme, OU=releases, CN=v",
        "x509.subject: C=US, ST=WA, O=Acme, OU=Releases, CN=v, L=x",
        "x509.subject: OU=v",
    ],
)
async def test_a_subject_that_a_denied_one_is_no_part_of_counts(world: World, denied: str) -> None:
    assert (await world.answer([await notation(world), denying(signers=[denied])], APP)).allowed


async def test_c08_a_denied_subject_is_denied_where_who_signed_is_only_logged(world: World) -> None:
    written = await notation(world, identities=["x509.subject: C=US, ST=WA, O=Other"], level="audit")
    assert (await world.answer([written], APP)).allowed
    assert not (await world.answer([written, denying(signers=["x509.subject: OU=Releases"])], APP)).allowed


async def test_no_subject_is_part_of_a_key(world: World) -> None:
    assert (await world.answer([signed(Known()), denying(signers=["x509.subject: OU=Releases"])], APP)).allowed


async def test_another_good_signature_stands_by_itself(world: World) -> None:
    bad, good = Known(), Known("issuer=https://accounts.example,subject=other@example.com")
    assert (await world.answer([signed(bad, good), denying(signers=[IDENTITY])], APP)).allowed
    assert not (await world.answer([signed(bad, good, require="s0 and s1"), denying(signers=[IDENTITY])], APP)).allowed


async def test_a_policy_may_deny_some_of_its_own_signatures(world: World) -> None:
    own = dataclasses.replace(signed(Known()), terms=denying(signers=[IDENTITY]).terms)
    (ruling,) = await world.rulings([own], APP)
    assert isinstance(ruling.outcome, Denied)
    assert ruling.outcome.final


async def test_m04_a_deny_list_counts_from_the_next_review_on(world: World) -> None:
    allowing = signed(Known())
    assert (await world.answer([allowing], APP)).allowed
    assert not (await world.answer([allowing, denying(signers=[IDENTITY])], APP)).allowed
    assert (await world.answer([allowing], APP)).allowed


async def test_m04_an_answer_is_kept_no_longer_than_until_a_denial_begins(world: World) -> None:
    store = PolicyStore()
    store.put_namespace("shop", {})

    async def seconds(**spec: Any) -> float:
        store.replace_all([signed(Known()), denying(**spec)])
        await world.judge.judge(question(APP), store.snapshot, ANONYMOUS, 1e9)
        return (await world.judge.judge(question(APP), store.snapshot, ANONYMOUS, 1e9)).seconds

    begins = NOW + dt.timedelta(seconds=2)
    assert 0 < await seconds(signedAfter=texts(begins)) <= 2
    assert await seconds(signedAfter=texts(NOW + HOUR)) > 2
    assert await seconds(certSerials=["1f"]) > 2
    # Past it, nothing changes any more.
    assert await seconds(signedAfter=texts(NOW - HOUR)) > 2


async def test_a_deny_list_alone_covers_no_image(world: World) -> None:
    world.signed("other", key("a"))
    (judgement,) = await world.ask([denying(signedAfter=texts(NOW - HOUR))], APP)
    assert isinstance(judgement, Uncovered)


async def test_a_key_without_a_trusted_time_may_have_signed_at_any(world: World) -> None:
    world.signed("app", key("a"))
    by_key = cosign()
    assert (await world.answer([by_key], APP)).allowed
    assert not (await world.answer([by_key, denying(signedAfter=texts(NOW - HOUR))], APP)).allowed
    assert (await world.answer([by_key, denying(signedAfter=texts(NOW + HOUR))], APP)).allowed
