"""`onOutage` as it is written, and a policy's identity: the same value everywhere, another with every other demand (attack M-01)."""

import dataclasses
import datetime as dt
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests import captures
from tests.formats.test_contract import CASES, build
from tests.policies import OTHER_KEY, policy
from tests.test_docs import blocks, read_any_key
from webhook import keys, limits
from webhook.formats import FORMATS
from webhook.image import digest_of
from webhook.parsing import Invalid
from webhook.policy import identity, parse
from webhook.policy.afterwards import DEFAULT
from webhook.policy.document import parse_document
from webhook.policy.identity import identity_of
from webhook.policy.outage import DENY
from webhook.policy.policy import NamedSigner, Policy
from webhook.trust import KeyRef, Unresolved

RECORDS = {"action": "last-known-good"}
GONE = KeyRef("secret://gone#x")


def test_what_an_outage_is_to_come_to() -> None:
    assert policy().terms.on_outage is DENY
    assert policy(onOutage={"action": "deny"}).terms.on_outage == DENY
    assert policy(onOutage={"action": "warn"}).terms.on_outage.action == "warn"
    known = policy(onOutage=RECORDS).terms.on_outage
    assert (known.action, known.max_stale) == ("last-known-good", limits.DEFAULT_STALE)
    assert policy(onOutage={**RECORDS, "maxStale": "1h"}).terms.on_outage.max_stale == dt.timedelta(hours=1)
    assert policy(onOutage={**RECORDS, "maxStale": "720h"}).terms.on_outage.max_stale == dt.timedelta(days=30)
    # Thousands of policies that say the same hold it once.
    assert policy(onOutage=RECORDS).terms.on_outage is known


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ({}, "spec.onOutage.action: required"),
        ({"action": "allow"}, "spec.onOutage.action: allow is none of deny, warn, last-known-good"),
        ({"action": "warn", "maxStale": "24h"}, "spec.onOutage.maxStale: only last-known-good has an age"),
        ({"action": "deny", "maxStale": "24h"}, "spec.onOutage.maxStale: only last-known-good has an age"),
        ({**RECORDS, "maxStale": "59m"}, "spec.onOutage.maxStale: not between 1h and 720h"),
        ({**RECORDS, "maxStale": "721h"}, "spec.onOutage.maxStale: not between 1h and 720h"),
        ({**RECORDS, "maxStale": "soon"}, "spec.onOutage.maxStale: soon: not a span of time"),
        ({**RECORDS, "stale": "1h"}, "spec.onOutage.stale: unknown field"),
    ],
)
def test_what_is_refused(written: dict[str, str], complaint: str) -> None:
    with pytest.raises(Invalid) as e:
        policy(onOutage=written)
    assert e.value.complaints[0].startswith(complaint)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, []),
        ({"onOutage": {"action": "deny"}}, []),
        ({"onOutage": {"action": "warn"}}, ["spec.onOutage: warn lets in whatever nobody could verify"]),
        ({"onOutage": RECORDS, "tags": "allow"}, ["spec.onOutage: last-known-good knows digests"]),
        ({"onOutage": RECORDS, "tags": "pin"}, []),
    ],
)
def test_what_is_dangerous_is_told(fields: dict[str, Any], says: list[str]) -> None:
    told = [text for text in parse.warnings(policy(**fields)) if text.startswith("spec.onOutage")]
    assert len(told) == len(says)
    assert all(text.startswith(start) for text, start in zip(told, says, strict=True))


def documented() -> list[Policy]:
    found = []
    for _, text in blocks("TrustPolicy"):
        document = parse_document(yaml.safe_load(text))
        references = parse.key_references(document.spec, FORMATS)
        materials = keys.resolve(references, document.key, "trusted-images", read_any_key)
        found.append(parse.parse_policy(document.key, document.spec, materials, FORMATS, "trusted-images"))
    return found


def test_every_policy_of_the_pages_has_an_identity_of_its_own() -> None:
    policies = documented()
    assert len(policies) > 10
    equal = dict.fromkeys(
        dataclasses.replace(
            one, terms=dataclasses.replace(one.terms, mode="enforce", message=None, on_outage=DENY, afterwards=DEFAULT)
        )
        for one in policies
    )
    assert len({identity_of(one) for one in policies}) == len(equal)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_signers_of_every_format_have_one(case: Any) -> None:
    def named(**changed: Any) -> Policy:
        signer = NamedSigner("a", build(case, digest_of(b"image"), **changed))
        return dataclasses.replace(policy(), signers=(signer,))

    assert identity_of(named()) == identity_of(named())
    if case.by_evidence:
        assert identity_of(named()) != identity_of(named(**case.stranger))


PROGRAM = """
from tests.policies import policy
from webhook.policy.afterwards import DEFAULT
from webhook.policy.identity import identity_of
print(identity_of(policy(images=["a/**", "b/**"], workloads={"containers": ["main", "init", "volume"]}, deny={"keys": [
    "SHA256:" + "ab" * 32, "SHA256:" + "cd" * 32, "SHA256:" + "ef" * 32]})).hex())
"""


def test_it_is_the_same_in_every_process() -> None:
    said = {
        subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
    assert len(said.pop().strip()) == 64


def test_it_is_another_with_every_other_demand_and_not_with_what_a_verdict_comes_to() -> None:
    plain = identity_of(policy())
    for same in ({"mode": "audit"}, {"message": "ask us"}, {"onOutage": {"action": "warn"}}):
        assert identity_of(policy(**same)) == plain
    changes: list[dict[str, Any]] = [
        {"images": ["ghcr.io/**"]},
        {"exclude": ["ghcr.io/**"]},
        {"workloads": {"serviceAccounts": ["a"]}},
        {"workloads": {"selector": {"matchLabels": {"a": "b"}}}},
        {"signers": [{"name": "release", "cosign": {"key": OTHER_KEY}}]},
        {"signers": [{"name": "other", "cosign": {"key": captures.key("cosign.pub").decode()}}]},
        {"freshness": {"maxSignatureAge": "24h"}},
        {"platforms": "all"},
        {"tags": "refuse"},
        {"deny": {"digests": [digest_of(b"x")]}},
        {"deny": {"signedBefore": "2026-01-01T00:00:00Z"}},
        {"deny": {"signedBefore": "2026-01-02T00:00:00Z"}},
        {"attestations": [{"name": "x", "type": "spdx"}]},
        {"attestations": [{"name": "x", "type": "spdx", "where": "predicate.a == 1"}]},
        {"attestations": [{"name": "x", "type": "spdx", "maxAge": "1h"}]},
    ]
    identities = [plain, *(identity_of(policy(**change)) for change in changes)]
    assert len(set(identities)) == len(identities)
    assert identity_of(policy("shop/other")) != plain
    assert identity_of(policy("web")) != plain


def test_a_key_that_is_missing_is_the_same_whatever_the_reason() -> None:
    spec = {"signers": [{"name": "a", "cosign": {"key": GONE}}]}
    one, other = (policy(spec=spec, materials={GONE: Unresolved(why)}) for why in ("down", "slow"))
    assert identity_of(one) == identity_of(other)
    assert identity_of(policy(spec=spec, materials={GONE: captures.key("cosign.pub")})) != identity_of(one)


def test_another_version_of_ours_knows_nothing_of_what_this_one_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity_of(policy())
    monkeypatch.setattr(identity, "__version__", "9.9.9")
    assert identity_of(policy()) != before


def test_what_no_policy_is_made_of_has_no_identity() -> None:
    with pytest.raises(TypeError, match="float has no place"):
        identity_of(dataclasses.replace(policy(), images=(1.5,)))  # type: ignore[arg-type]
