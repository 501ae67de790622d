"""`signers[].dct`, as policies write it."""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from webhook import limits
from webhook.policy.spec import Rule
from webhook.trust import KeyRef


class DctSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`signers[].dct`."""

    RULES: ClassVar = (
        Rule("size(self.rootKeys) > 0", "empty, so nobody could have signed", ".rootKeys"),
        Rule(
            "!has(self.delegations) || size(self.delegations) > 0",
            "empty, so nobody would have to sign",
            ".delegations",
        ),
    )

    server: Annotated[
        str, Meta(max_length=limits.MAX_URL, description="The notary server's URL, as in https://notary.example.")
    ]
    root_keys: Annotated[
        tuple[Annotated[KeyRef, Meta(max_length=limits.MAX_KEY_TEXT)], ...],
        Meta(
            max_length=limits.MAX_KEYS,
            description="Public keys or certificates of the root role, any of which vouches for a repository.",
        ),
    ]
    delegations: (
        Annotated[
            tuple[Annotated[str, Meta(min_length=1, max_length=limits.MAX_NAME)], ...],
            Meta(
                max_length=limits.MAX_TUF_DELEGATIONS,
                description="Delegations below targets, all of which must have signed; default: releases, then targets.",
            ),
        ]
        | None
    ) = None
    ca: (
        Annotated[
            KeyRef,
            Meta(max_length=limits.MAX_KEY_TEXT, description="Certificates of the server's authority, if private."),
        ]
        | None
    ) = None
