"""`signers[].notation`, as policies write it."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from webhook import limits
from webhook.policy.spec import Rule
from webhook.trust import KeyRef

StoreType = Literal["ca", "signingAuthority", "tsa"]
Level = Literal["strict", "permissive", "audit"]
TimestampRule = Literal["always", "afterCertExpiry"]


class TrustStore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `trustStores`."""

    type: Annotated[
        StoreType,
        Meta(
            description="What its certificates vouch for: signers (ca), services that sign for others (signingAuthority), or times (tsa)."
        ),
    ]
    certs: Annotated[
        KeyRef,
        Meta(max_length=limits.MAX_KEY_TEXT, description="Certificates: PEM, secret://… or configmap://…."),
    ]


class Override(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`override`: validations that are treated otherwise than the level says."""

    authenticity: Annotated[
        Literal["enforce", "log"] | None,
        Meta(description="Whether the signer must be one that the policy trusts. log: anybody may have signed."),
    ] = None
    authentic_timestamp: Annotated[
        Literal["enforce", "log"] | None,
        Meta(description="Whether the certificates must have been valid when it was signed, or now."),
    ] = None
    expiry: Annotated[
        Literal["enforce", "log"] | None, Meta(description="Whether the expiry that the signer wrote counts.")
    ] = None
    revocation: Annotated[
        Literal["enforce", "log", "skip"] | None,
        Meta(description="Whether the certificates must not have been revoked. skip: nobody is asked."),
    ] = None


class NotationSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`signers[].notation`."""

    RULES: ClassVar = (
        Rule(
            "self.trustStores.exists(s, s.type != 'tsa')",
            "a store of type ca or signingAuthority is wanted: nobody else could vouch for a signer",
            ".trustStores",
        ),
        Rule(
            "!has(self.timestamp) || self.trustStores.exists(s, s.type == 'tsa')",
            "needs a trust store of type tsa",
            ".timestamp",
        ),
        Rule(
            "size(self.trustedIdentities) == 1 || !self.trustedIdentities.exists(i, i == '*')",
            "* stands alone",
            ".trustedIdentities",
        ),
    )

    trust_stores: Annotated[
        tuple[TrustStore, ...],
        Meta(
            min_length=1, max_length=limits.MAX_TRUST_STORES, description="Certificates that are trusted, by what for."
        ),
    ]
    trusted_identities: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=limits.MAX_DISTINGUISHED_NAME)], ...],
        Meta(
            min_length=1,
            max_length=limits.MAX_IDENTITIES,
            description="Whose certificates: x509.subject: C=…, ST=…, O=… and what else the subject must have; or * alone, for all.",
        ),
    ]
    level: Annotated[
        Level, Meta(description="Which validations are enforced, and which are only shown when they fail.")
    ] = "strict"
    override: Annotated[Override | None, Meta(description="Validations that are treated otherwise.")] = None
    timestamp: (
        Annotated[
            TimestampRule,
            Meta(description="With a tsa store: when a timestamp is wanted. Default: always."),
        ]
        | None
    ) = None
    annotations: Annotated[
        dict[str, Annotated[str, Meta(max_length=limits.MAX_TEXT)]],
        Meta(max_length=limits.MAX_GLOBS, description="User metadata that must have been signed."),
    ] = {}
