"""Key references → key material. Where the bytes come from is the caller's affair: the cluster, files, or what is asked elsewhere.

What may be referred to was settled by `policy.keyref`; what the bytes must be is settled by the formats.
"""

from collections.abc import Callable, Iterable, Iterator

from webhook import limits
from webhook.parsing import Invalid
from webhook.policy.keyref import Inline, Key, ObjectKey, RemoteKey, parse_keyref
from webhook.trust import KeyRef, Materials, Unresolved
from webhook.verdict import PolicyKey

__all__ = ["Key", "Read", "remote_keys", "resolve"]

Read = Callable[[Key], bytes | Unresolved]
"""Says what is known of one key, and waits for nothing."""


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
        # A text that UTF-8 has no bytes for is no key, and no parse will take it for one.
        found = key.text.encode(errors="replace") if isinstance(key, Inline) else read(key)
        if isinstance(found, bytes) and len(found) > limits.MAX_KEY_MATERIAL:
            found = Unresolved(f"{key}: more than {limits.MAX_KEY_MATERIAL} bytes")
        materials[reference] = found
    return materials


def remote_keys(references: Iterable[KeyRef], owner: PolicyKey, home: str) -> Iterator[RemoteKey]:
    """Those of the references that have to be asked for outside the cluster."""
    for reference in references:
        try:
            key = parse_keyref(reference, owner, home)
        except Invalid:
            continue
        if not isinstance(key, Inline | ObjectKey):
            yield key
