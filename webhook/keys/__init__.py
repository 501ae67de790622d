"""Key references → key material. Where the bytes come from is the caller's affair: a watch on the cluster, or files.

What may be referred to was settled by `policy.keyref`; what the bytes must be is settled by the formats.
"""

from collections.abc import Callable, Iterable

from webhook import limits
from webhook.parsing import Invalid
from webhook.policy.keyref import ObjectKey, Pem, parse_keyref
from webhook.trust import KeyRef, Materials, Unresolved
from webhook.verdict import PolicyKey

__all__ = ["ObjectKey", "resolve"]

Read = Callable[[ObjectKey], bytes | Unresolved]
"""Reads one entry of a Secret or ConfigMap."""


def resolve(references: Iterable[KeyRef], owner: PolicyKey, home: str, read: Read) -> Materials:
    """What each reference of the policy `owner` stands for.

    References that are wrong in themselves are left out: the policy's parse complains about them, with their path.
    """
    materials: dict[KeyRef, bytes | Unresolved] = {}
    for reference in references:
        try:
            key = parse_keyref(reference, owner, home)
        except Invalid:
            continue
        found = key.text.encode() if isinstance(key, Pem) else read(key)
        if isinstance(found, bytes) and len(found) > limits.MAX_KEY_MATERIAL:
            found = Unresolved(f"{key}: more than {limits.MAX_KEY_MATERIAL} bytes")
        materials[reference] = found
    return materials
