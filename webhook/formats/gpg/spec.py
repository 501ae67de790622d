"""`signers[].gpg`, as policies write it."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from webhook import limits
from webhook.formats._identity import NamedIdentity
from webhook.policy.spec import Rule
from webhook.trust import KeyRef


class GpgSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`signers[].gpg`."""

    RULES: ClassVar = (
        Rule(
            "!has(self.fingerprints) || size(self.fingerprints) > 0 && "
            "self.fingerprints.all(f, f.matches('^[A-Fa-f0-9]{40}$'))",
            "full fingerprints are wanted, of 40 hex digits",
            ".fingerprints",
        ),
        Rule(
            "self.lookaside == 'registry' || self.lookaside.startsWith('https://') || "
            "self.lookaside.startsWith('http://')",
            "the address of a lookaside store, or the word registry",
            ".lookaside",
        ),
    )

    keys: Annotated[
        KeyRef,
        Meta(
            max_length=limits.MAX_KEY_TEXT,
            description="The keyring: armored keys, or a reference to armored or binary ones (secret://…, configmap://…).",
        ),
    ]
    lookaside: Annotated[
        str,
        Meta(
            max_length=limits.MAX_TEXT,
            description="Where signatures lie: the address of a lookaside store, or registry for its own signature extension.",
        ),
    ]
    fingerprints: (
        Annotated[
            tuple[Annotated[str, Meta(max_length=40)], ...],
            Meta(
                max_length=limits.MAX_KEYS,
                description="Full fingerprints; of the keyring these keys count, and subkeys of these primary keys.",
            ),
        ]
        | None
    ) = None
    identity: Annotated[
        Literal["exact", "repository", "repoDigestOrExact"] | NamedIdentity,
        Meta(
            description="Which image name must have been signed; default: this repository, and this tag unless a digest is named."
        ),
    ] = "repoDigestOrExact"
