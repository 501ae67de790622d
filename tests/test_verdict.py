"""Verdicts: what they refuse to be made of (attack V-06)."""

import pytest

from webhook.image import Repository, Subject, digest_of
from webhook.verdict import Allowed, PolicyKey, Satisfied


def test_v01_nothing_proven_is_neither_satisfied_nor_allowed() -> None:
    with pytest.raises(ValueError, match="nothing proven"):
        Satisfied(frozenset())
    with pytest.raises(ValueError, match="nothing proven"):
        Allowed(Subject(Repository("ghcr.io", "a/b"), digest_of(b""), None), frozenset())


def test_policies_are_named_with_their_namespace() -> None:
    assert str(PolicyKey("shop", "web")) == "shop/web"
    assert str(PolicyKey(None, "web")) == "cluster/web"
