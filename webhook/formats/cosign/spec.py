"""`signers[].cosign`, as policies write it."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from webhook import limits
from webhook.formats._identity import IdentitySpec
from webhook.policy.spec import Rule
from webhook.trust import KeyRef

PUBLIC_ROOT = KeyRef("public")
"""`trustRoot: public`: the public-good instance of sigstore, by TUF."""

_Text = Annotated[str, Meta(min_length=1, max_length=limits.MAX_TEXT)]
_Pattern = Annotated[str, Meta(min_length=1, max_length=limits.MAX_PATTERN)]
_Key = Annotated[KeyRef, Meta(max_length=limits.MAX_KEY_TEXT)]


class GitHubSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`keyless.github`."""

    repository: Annotated[
        str, Meta(max_length=limits.MAX_GLOB, description="OWNER/NAME of the repository that was built; a glob.")
    ]
    workflow: (
        Annotated[
            str,
            Meta(
                max_length=limits.MAX_TEXT,
                description="The file of the workflow, such as release.yml; of a reusable one with OWNER/NAME/ before its path.",
            ),
        ]
        | None
    ) = None
    ref: (
        Annotated[
            str,
            Meta(max_length=limits.MAX_GLOB, description="The branch or tag in full, such as refs/tags/v*; a glob."),
        ]
        | None
    ) = None
    environment: Annotated[_Text | None, Meta(description="The deployment environment of the job.")] = None
    trigger: Annotated[_Text | None, Meta(description="The event that started the workflow, such as push.")] = None
    runner: Annotated[_Text | None, Meta(description="github-hosted or self-hosted.")] = None


class GitLabSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`keyless.gitlab`."""

    project: Annotated[
        str, Meta(max_length=limits.MAX_GLOB, description="GROUP/NAME of the project that was built; a glob.")
    ]
    ref: (
        Annotated[
            str,
            Meta(max_length=limits.MAX_GLOB, description="The branch or tag in full, such as refs/tags/v*; a glob."),
        ]
        | None
    ) = None
    config: (
        Annotated[
            str,
            Meta(
                max_length=limits.MAX_TEXT,
                description="The file of the pipeline, such as .gitlab-ci.yml; of another project with GROUP/NAME// before it.",
            ),
        ]
        | None
    ) = None


class KeylessSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`keyless`: an issuer and a subject, or a pipeline."""

    RULES: ClassVar = (
        Rule(
            "(has(self.github) ? 1 : 0) + (has(self.gitlab) ? 1 : 0) + (has(self.issuer) || has(self.issuerRegex) || "
            "has(self.subject) || has(self.subjectRegex) ? 1 : 0) == 1",
            "an issuer with a subject, or github, or gitlab is wanted, and only one of them",
        ),
        Rule(
            "has(self.github) || has(self.gitlab) || has(self.issuer) != has(self.issuerRegex)",
            "exactly one of issuer and issuerRegex is wanted",
        ),
        Rule(
            "has(self.github) || has(self.gitlab) || has(self.subject) != has(self.subjectRegex)",
            "exactly one of subject and subjectRegex is wanted",
        ),
        Rule(
            "!has(self.issuer) || !self.issuer.contains('*')",
            "no character stands for others; write issuerRegex",
            ".issuer",
        ),
    )

    issuer: Annotated[_Text | None, Meta(description="Who vouched for the signer: the token's issuer, whole.")] = None
    issuer_regex: Annotated[_Pattern | None, Meta(description="The same by a regular expression of RE2, whole.")] = None
    subject: Annotated[_Text | None, Meta(description="Who signed: the certificate's e-mail or URI, whole.")] = None
    subject_regex: Annotated[_Pattern | None, Meta(description="The same by a regular expression of RE2, whole.")] = (
        None
    )
    github: Annotated[GitHubSpec | None, Meta(description="A workflow of GitHub Actions.")] = None
    gitlab: Annotated[GitLabSpec | None, Meta(description="A pipeline of gitlab.com.")] = None


class CertificateSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`certificate`: one's own authority, and a name."""

    RULES: ClassVar = (
        Rule(
            "(has(self.email) ? 1 : 0) + (has(self.hostname) ? 1 : 0) + (has(self.uri) ? 1 : 0) + (has(self.subject) ? 1 : 0) == 1",
            "exactly one of email, hostname, uri and subject is wanted",
        ),
    )

    roots: Annotated[_Key, Meta(description="The certificates that are trusted: PEM, or a reference to it.")]
    intermediates: Annotated[
        _Key | None, Meta(description="Certificates between them and the signer's, where those lack.")
    ] = None
    email: Annotated[_Text | None, Meta(description="An e-mail among the certificate's alternative names.")] = None
    hostname: Annotated[_Text | None, Meta(description="A DNS name among them.")] = None
    uri: Annotated[_Text | None, Meta(description="A URI among them.")] = None
    subject: Annotated[_Text | None, Meta(description="The distinguished name, such as CN=release,O=Acme.")] = None


class TimestampSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`timestamp`: RFC 3161."""

    tsa: Annotated[
        _Key | None,
        Meta(description="The timestamp authority's certificates, its root among them. Default: those of trustRoot."),
    ] = None
    require: Annotated[bool, Meta(description="Whether a signature without a timestamp counts as none.")] = False


class CosignSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`signers[].cosign`."""

    RULES: ClassVar = (
        Rule(
            "(has(self.key) ? 1 : 0) + (has(self.keys) ? 1 : 0) + (has(self.keyless) ? 1 : 0) + (has(self.certificate) ? 1 : 0) == 1",
            "exactly one of key, keys, keyless and certificate is wanted",
        ),
        Rule("!has(self.keys) || size(self.keys) > 0", "empty, so nobody could have signed", ".keys"),
        Rule(
            "!has(self.keyless) || !has(self.tlog) || self.tlog == 'require' || "
            "has(self.timestamp) && has(self.timestamp.require) && self.timestamp.require",
            "with keyless, a log entry or a timestamp is needed: the certificate lives for minutes",
            ".tlog",
        ),
        Rule(
            "!has(self.trustRoot) || has(self.keyless) || has(self.tlog) && self.tlog == 'require' || "
            "has(self.timestamp) && !has(self.timestamp.tsa)",
            "nothing here is looked up in it",
            ".trustRoot",
        ),
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
            tuple[_Key, ...],
            Meta(max_length=limits.MAX_KEYS, description="Public keys, any of which may have signed (rotation)."),
        ]
        | None
    ) = None
    keyless: Annotated[
        KeylessSpec | None, Meta(description="Whose certificate of sigstore's authority it must be.")
    ] = None
    certificate: Annotated[CertificateSpec | None, Meta(description="Whose certificate of one's own authority.")] = None
    tlog: (
        Annotated[
            Literal["require", "ignore"],
            Meta(
                description="Whether an entry of a transparency log is needed, or not looked at. "
                "Default: require with keyless, else ignore."
            ),
        ]
        | None
    ) = None
    timestamp: Annotated[TimestampSpec | None, Meta(description="Timestamps by an authority (RFC 3161).")] = None
    trust_root: (
        Annotated[
            _Key,
            Meta(
                description="The authorities and logs of sigstore: public (default), or a trusted_root.json: its text, secret://… or configmap://…."
            ),
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

    @property
    def needs_log(self) -> bool:
        """Whether an entry of a log is demanded."""
        return self.tlog == "require" if self.tlog is not None else self.keyless is not None

    @property
    def needs_timestamp(self) -> bool:
        """Whether a timestamp is demanded."""
        return self.timestamp is not None and self.timestamp.require

    @property
    def needs_trust_root(self) -> bool:
        """Whether anything is looked up in the trust root."""
        stamped = self.timestamp is not None and self.timestamp.tsa is None
        return self.keyless is not None or self.needs_log or stamped
