"""Policies for tests, written as users write them."""

from collections.abc import Mapping
from typing import Any

import yaml

from tests import captures
from webhook.formats import FORMATS
from webhook.policy.parse import key_references, parse_policy
from webhook.policy.policy import Policy
from webhook.trust import KeyRef, Materials, Unresolved
from webhook.verdict import PolicyKey

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
        if reference.lstrip().startswith("-----BEGIN"):
            found[reference] = reference.encode()
    return {**found, **(others or {})}
