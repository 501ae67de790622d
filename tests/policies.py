"""Policies and exceptions for tests, written as users write them."""

from collections.abc import Mapping
from typing import Any

import yaml

from tests import captures
from webhook.formats import FORMATS
from webhook.policy.exception import TrustException
from webhook.policy.exceptionparse import parse_exception
from webhook.policy.parse import key_references, parse_policy
from webhook.policy.policy import Policy
from webhook.trust import KeyRef, Materials, Unresolved
from webhook.verdict import ExceptionKey, PolicyKey

HOME = "trusted-images"
KEY = captures.key("cosign.pub").decode()
OTHER_KEY = captures.key("other.pub").decode()

SIGNED = {"signers": [{"name": "release", "cosign": {"key": KEY}}]}


def policy(
    name: str = "shop/web",
    spec: Mapping[str, Any] | str | None = None,
    materials: Materials | None = None,
    **fields: Any,
) -> Policy:
    """The policy `namespace/name`, or the cluster policy `name`; without a spec, `images: [**]` and one cosign key."""
    given: Mapping[str, Any] = yaml.safe_load(spec) if isinstance(spec, str) else spec or SIGNED
    whole: dict[str, Any] = {"images": ["**"], **given, **fields}
    namespace, slash, last = name.rpartition("/")
    return parse_policy(PolicyKey(namespace if slash else None, last), whole, inline(whole, materials), FORMATS, HOME)


def inline(spec: object, others: Materials | None = None) -> Materials:
    """The material of the keys that stand in the specification itself; of others, what is given."""
    found: dict[KeyRef, bytes | Unresolved] = {}
    for reference in key_references(spec, FORMATS):
        if reference.lstrip().startswith(("-----BEGIN", "{")):
            found[reference] = reference.encode()
    return {**found, **(others or {})}


EXCEPTION: dict[str, Any] = {
    "policies": ["web"],
    "images": ["**"],
    "reason": "incident 4711",
    "requestedBy": "alice",
    "approvedBy": "bob",
    "expiresAt": "2026-12-31T12:00:00Z",
}
"""Of everything from the policy `web` of its namespace, in force at `captures.NOW`."""


def exception(name: str = "shop/hotfix", uid: str = "", **fields: Any) -> TrustException:
    """The exception `namespace/name`; fields that are None are left out."""
    namespace, _, last = name.rpartition("/")
    spec = {field: value for field, value in {**EXCEPTION, **fields}.items() if value is not None}
    return parse_exception(ExceptionKey(namespace, last), spec, uid)
