"""What a policy says about the time after admission."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from tests.policies import policy
from webhook.parsing import Invalid
from webhook.policy import afterwards, parse
from webhook.policy.afterwards import NEVER, Rollout

NOW = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)


def test_a_policy_that_says_nothing_shares_what_all_such_policies_have() -> None:
    assert policy().terms.afterwards == afterwards.DEFAULT
    assert policy("shop/a").terms.afterwards is policy("shop/b").terms.afterwards
    assert policy(onDrift="evict").terms.afterwards.on_drift == "evict"


def test_a_rollout_is_clean_unless_it_says_otherwise() -> None:
    assert policy(rollout={"auditFor": "36h"}).terms.afterwards.rollout == Rollout(dt.timedelta(hours=36), "clean")
    always = policy(rollout={"auditFor": "1h30m", "promoteWhen": "always"}).terms.afterwards.rollout
    assert always == Rollout(dt.timedelta(minutes=90), "always")


def test_a_policy_from_a_file_waits_for_nothing() -> None:
    assert policy(rollout={"auditFor": "36h"}).terms.mode_at(NOW) == "enforce"


@pytest.mark.parametrize("mode", ["enforce", "warn"])
@pytest.mark.parametrize(("seconds", "waits"), [(-1, True), (0, False), (1, False)])
def test_until_its_audit_ends_a_policy_audits(mode: str, seconds: int, waits: bool) -> None:
    made = policy(mode=mode, rollout={"auditFor": "36h"})
    made = replace(made, terms=replace(made.terms, afterwards=replace(made.terms.afterwards, audit_until=NOW)))
    assert made.terms.mode_at(NOW + dt.timedelta(seconds=seconds)) == ("audit" if waits else mode)
    assert (
        replace(
            made, terms=replace(made.terms, afterwards=replace(made.terms.afterwards, audit_until=NEVER))
        ).terms.mode_at(NOW)
        == "audit"
    )


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"onDrift": "evikt"}, r"spec\.onDrift"),
        ({"rollout": {"auditFor": "36h", "promoteWhen": "soon"}}, r"spec\.rollout\.promoteWhen"),
        ({"rollout": {}}, r"spec\.rollout"),
        ({"rollout": {"auditFor": "0h"}}, r"spec\.rollout\.auditFor: .*not between"),
        ({"rollout": {"auditFor": "soon"}}, r"spec\.rollout\.auditFor: .*not a span"),
        ({"rollout": {"auditFor": "36h", "promotedAt": "now"}}, r"spec\.rollout"),
        ({"rollout": {"auditFor": "36h"}, "mode": "audit"}, r"spec\.rollout: mode is audit already"),
    ],
)
def test_v05_a_misspelt_word_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        policy(**fields)


def test_that_a_deny_list_waits_as_well_is_told() -> None:
    denying: dict[str, Any] = {"deny": {"signedAfter": "2026-01-01T00:00:00Z"}}
    assert any("deny list" in note for note in parse.warnings(policy(rollout={"auditFor": "36h"}, **denying)))
    assert not any("deny list" in note for note in parse.warnings(policy(**denying)))
    assert not any("deny list" in note for note in parse.warnings(policy(rollout={"auditFor": "36h"})))
