"""What a policy says about the time after admission."""

import pytest

from tests.policies import policy
from webhook.parsing import Invalid
from webhook.policy import afterwards


def test_a_policy_that_says_nothing_shares_what_all_such_policies_have() -> None:
    assert policy().terms.afterwards == afterwards.DEFAULT
    assert policy("shop/a").terms.afterwards is policy("shop/b").terms.afterwards
    assert policy(onDrift="evict").terms.afterwards.on_drift == "evict"


def test_v05_a_misspelt_word_is_refused() -> None:
    with pytest.raises(Invalid, match=r"spec\.onDrift"):
        policy(onDrift="evikt")
