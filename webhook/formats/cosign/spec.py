"""`signers[].cosign`, as policies write it."""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from webhook import limits
from webhook.formats._identity import IdentitySpec
from webhook.policy.spec import Rule
from webhook.trust import KeyRef


class CosignSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`signers[].cosign`."""

    RULES: ClassVar = (
        Rule("has(self.key) != has(self.keys)", "exactly one of key and keys is wanted"),
        Rule("!has(self.keys) || size(self.keys) > 0", "empty, so nobody could have signed", ".keys"),
    )

    key: (
        Annotated[
            KeyRef,
            Meta(
                max_length=limits.MAX_KEY_TEXT,
                description="The public key: PEM, secret://…, configmap://…, k8s://…; in a cluster policy also https://… or pkcs11:….",
            ),
        ]
        | None
    ) = None
    keys: (
        Annotated[
            tuple[Annotated[KeyRef, Meta(max_length=limits.MAX_KEY_TEXT)], ...],
            Meta(max_length=limits.MAX_KEYS, description="Public keys, any of which may have signed (rotation)."),
        ]
        | None
    ) = None
    repository: (
        Annotated[str, Meta(max_length=limits.MAX_NAME, description="Where signatures lie, if not beside the image.")]
        | None
    ) = None
    annotations: Annotated[
        dict[str, Annotated[str, Meta(max_length=limits.MAX_TEXT)]],
        Meta(max_length=limits.MAX_GLOBS, description="Annotations that must have been signed."),
    ] = {}
    identity: Annotated[
        IdentitySpec, Meta(description="Which image name must have been signed; default: any, the digest counts.")
    ] = "digest"
