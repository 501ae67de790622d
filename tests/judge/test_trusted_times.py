"""What a policy says about times, identities and certificates, judged on what cosign really signed without a key (C-08)."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from tests import captures
from tests.captures import IMAGE
from tests.judge.test_judge import HOST, World
from tests.policies import policy
from webhook.judge.evaluate import Judge
from webhook.judge.explain import details
from webhook.verdict import Allowed, Denied, Ruling

SIGNED = dt.datetime(2026, 11, 24, 0, 37, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
YEAR = 365 * DAY
APP = f"{HOST}/app@{IMAGE}"
ISSUER, SUBJECT = "https://accounts.acme.test", "dev@acme.test"
IDENTITY = f"issuer={ISSUER},subject={SUBJECT}"


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.registry.load("app", captures.path("cosign-keyless-sigtag"))
    made.registry.load("attested", captures.path("cosign-keyless-attestation-att"))
    yield made
    made.pool.shutdown()


def keyless(root: str = "trusted_root.json", more: dict[str, Any] | None = None, **fields: Any) -> Any:
    who = {"issuer": ISSUER, "subject": SUBJECT}
    signer = {"name": "ci", "cosign": {"keyless": who, "trustRoot": captures.key(root).decode()}, **(more or {})}
    return policy("shop/web", {"signers": [signer]}, **fields)


async def ruling(world: World, asked: Any, at: dt.datetime, image: str = APP) -> Ruling:
    world.judge = Judge(world.registries, pool=world.pool, now=lambda: at, observer=world.counter)
    return next(iter(await world.rulings([asked], image)))


async def outcome(world: World, asked: Any, at: dt.datetime, image: str = APP) -> Allowed | Denied:
    found = (await ruling(world, asked, at, image)).outcome
    assert isinstance(found, Allowed | Denied)
    return found


async def test_c08_a_window_is_judged_at_the_time_of_the_log(world: World) -> None:
    def within(**validity: str) -> Any:
        return keyless(more={"validity": validity})

    # Whatever time it is now.
    for now in (SIGNED - YEAR, SIGNED + YEAR):
        assert isinstance(await outcome(world, within(notAfter="2026-11-25T00:00:00Z"), now), Allowed)
        assert isinstance(await outcome(world, within(notBefore="2026-11-23T00:00:00Z"), now), Allowed)
        late = await outcome(world, within(notAfter="2026-11-23T00:00:00Z"), now)
        assert isinstance(late, Denied)
        assert "signed at 2026-11-24T00:3" in late.reasons[0]
        assert "after 2026-11-23T00:00:00Z, until when this signer counts" in late.reasons[0]
        assert isinstance(await outcome(world, within(notBefore="2026-11-25T00:00:00Z"), now), Denied)


async def test_a_signature_grows_too_old(world: World) -> None:
    young = keyless(freshness={"maxSignatureAge": "48h"})
    assert isinstance(await outcome(world, young, SIGNED + DAY), Allowed)
    old = await outcome(world, young, SIGNED + 3 * DAY)
    assert isinstance(old, Denied)
    assert "which is more than 48h ago" in old.reasons[0]


async def test_c08_denied_times_identities_and_certificates(world: World) -> None:
    allowed = await outcome(world, keyless(), SIGNED + DAY)
    assert isinstance(allowed, Allowed)
    (proof,) = allowed.proofs
    assert proof.serial is not None
    for spec, denied in (
        ({"signedAfter": "2026-11-23T00:00:00Z"}, True),
        ({"signedAfter": "2026-11-25T00:00:00Z"}, False),
        ({"signedBefore": "2026-11-25T00:00:00Z"}, True),
        ({"signedBefore": "2026-11-23T00:00:00Z"}, False),
        ({"signedAfter": "2026-11-23T00:00:00Z", "signedBefore": "2026-11-25T00:00:00Z"}, True),
        ({"signedAfter": "2026-11-25T00:00:00Z", "signedBefore": "2026-11-26T00:00:00Z"}, False),
        ({"signers": [IDENTITY]}, True),
        ({"signers": [f"issuer={ISSUER},subject=ops@acme.test"]}, False),
        ({"certSerials": [f"00:{proof.serial.upper()}" if len(proof.serial) % 2 == 0 else f"0{proof.serial}"]}, True),
        ({"certSerials": ["1f"]}, False),
    ):
        found = await outcome(world, keyless(deny=spec), SIGNED + DAY)
        assert isinstance(found, Denied) is denied, spec
        assert not isinstance(found, Denied) or found.final


async def test_an_attestation_is_as_old_as_the_log_says(world: World) -> None:
    image = f"{HOST}/attested@{IMAGE}"
    # The build ended on the morning of the 25th; it was signed in the evening.
    wanted = {"name": "provenance", "type": "slsa-provenance", "maxAge": "12h"}
    asked = keyless("attest_trusted_root.json", attestations=[wanted], require="provenance")
    found = await ruling(world, asked, dt.datetime(2026, 11, 26, 6, tzinfo=dt.UTC), image)
    assert isinstance(found.outcome, Allowed)
    (told,) = details(found)
    assert told.startswith(f"attested https://slsa.dev/provenance/v1 by {IDENTITY}, at 2026-11-25T20:00:5")
    assert ", log index " in told
    assert ", certificate " in told
    old = await outcome(world, asked, dt.datetime(2026, 11, 26, 10, tzinfo=dt.UTC), image)
    assert isinstance(old, Denied)
    assert "the attestation is of 2026-11-25T20:00:5" in old.reasons[0]
