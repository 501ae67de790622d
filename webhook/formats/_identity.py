"""Which image name a signature may bear. Source: containers-policy.json(5), "signedIdentity", and what its reader does.

| there | here |
|---|---|
| matchExact | `exact` |
| matchRepoDigestOrExact | `repoDigestOrExact` |
| matchRepository | `repository` |
| exactReference | `{reference}` |
| exactRepository | `{repository}` |
| remapIdentity | `{prefix, signedPrefix}` |
"""

from dataclasses import dataclass
from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct

from webhook import limits
from webhook.image import (
    DOCKER_HUB,
    Digest,
    Repository,
    Subject,
    names_host,
    normalise_host,
    parse_reference,
    parse_repository,
)
from webhook.parsing import Invalid, quote
from webhook.trust import Rejected

_Name = Annotated[str, Meta(min_length=1, max_length=limits.MAX_NAME)]


class NamedIdentity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`identity: {reference: …}`, `{repository: …}`, or `{prefix: …, signedPrefix: …}` for images that were copied."""

    reference: Annotated[
        Annotated[str, Meta(min_length=1, max_length=limits.MAX_REFERENCE)] | None,
        Meta(description="The name with its tag or digest that the signature must bear."),
    ] = None
    repository: Annotated[_Name | None, Meta(description="The repository that the signature must name.")] = None
    prefix: Annotated[_Name | None, Meta(description="Beginning of the image's name, in whole components.")] = None
    signed_prefix: Annotated[_Name | None, Meta(description="What the signature has in its place.")] = None


IdentityWord = Literal["digest", "repository", "exact", "repoDigestOrExact"]
IdentitySpec = IdentityWord | NamedIdentity


@dataclass(frozen=True, slots=True)
class SignedName:
    """A name as it stands in a signature: no tag is not `latest` here."""

    repository: Repository
    tag: str | None
    digest: Digest | None

    @property
    def is_bare(self) -> bool:
        """Whether it names a repository, and no image in it."""
        return self.tag is None and self.digest is None


def read_name(text: str) -> SignedName:
    """The name that `text` writes. Raises `Invalid`."""
    reference = parse_reference(text)
    last = text.partition("@")[0].rpartition("/")[2]
    return SignedName(reference.repository, reference.tag if ":" in last else None, reference.digest)


@dataclass(frozen=True, slots=True)
class IdentityRule:
    """A rule, checked when the policy was read.

    `bare_names`: a name without tag and digest, such as cosign signs, may stand for every image of its repository after a remap.
    """

    kind: Literal["digest", "repository", "exact", "repoDigestOrExact", "reference", "named", "remapped"]
    reference: SignedName | None = None
    repository: Repository | None = None
    prefix: str = ""
    signed_prefix: str = ""
    bare_names: bool = False

    def tag_of(self, subject: Subject) -> str | None:
        """The tag, if the judgement rests on it, too: where a digest was written, only `exact` compares the label beside it."""
        if self.kind == "exact":
            return subject.tag
        if self.kind in {"repoDigestOrExact", "remapped"} and not subject.pinned:
            return subject.tag
        return None

    def check(self, signed_name: str | None, subject: Subject) -> None:
        """Returns if a signature that bears `signed_name` may stand for `subject`. Raises `Rejected`.

        None: this kind of signature names no image, which only the rule `digest` accepts.
        """
        if self.kind == "digest":
            return
        signed = _signed(signed_name)
        match self.kind:
            case "repository":
                holds = signed.repository == subject.repository
            case "exact":
                holds = signed.repository == subject.repository and _same(signed, subject)
            case "repoDigestOrExact":
                holds = self._same_image(signed, subject, str(subject.repository))
            case "reference":
                holds = signed == self.reference
            case "named":
                holds = signed.repository == self.repository
            case "remapped":
                holds = self._same_image(signed, subject, self._remapped(str(subject.repository)))
            case _:
                assert_never(self.kind)
        if not holds:
            raise Rejected(f"it was made for {quote(signed_name, 120)}, which the policy's `identity` does not accept")

    def _same_image(self, signed: SignedName, subject: Subject, name: str) -> bool:
        """Of an image that is named by digest the repository counts, whose digest is signed; otherwise the tag, too."""
        if str(signed.repository) != name or (signed.is_bare and not self.bare_names):
            return False
        return subject.pinned or signed.is_bare or _same(signed, subject)

    def _remapped(self, name: str) -> str:
        # Whole components only: `acme.io/pay` is no prefix of `acme.io/payments`.
        if name == self.prefix or name.startswith(f"{self.prefix}/"):
            return self.signed_prefix + name[len(self.prefix) :]
        return name


def _signed(signed_name: str | None) -> SignedName:
    if signed_name is None:
        raise Rejected("it names no image, and the policy's `identity` demands a name")
    try:
        return read_name(signed_name)
    except Invalid as e:
        raise Rejected(f"docker-reference: {e}") from e


def _same(signed: SignedName, subject: Subject) -> bool:
    """Whether tag and digest are those of the image. A bare name is no image's."""
    return not signed.is_bare and signed.tag == subject.tag and signed.digest in {None, subject.digest}


def _prefix(text: str) -> str:
    """A registry's host, or a host and the beginning of a path, normalised. Raises `Invalid`."""
    text = text.rstrip("/")
    head, slash, rest = text.partition("/")
    if not slash and names_host(head):
        return normalise_host(head)
    if slash and names_host(head) and normalise_host(head) == DOCKER_HUB:
        # Not a repository yet: `docker.io/acme` is where acme's repositories begin, and no official image.
        return f"{DOCKER_HUB}/{parse_repository(f'{DOCKER_HUB}/{rest}/x').path.removesuffix('/x')}"
    return str(parse_repository(text))


def _full_name(text: str) -> SignedName:
    name = read_name(text)
    if name.is_bare:
        raise Invalid(f"{quote(text, 80)}: without tag and digest; `repository` takes any of them")
    return name


def read_identity(spec: IdentitySpec, path: str, *, bare_names: bool) -> IdentityRule:
    """The rule that a policy writes. Raises `Invalid` beginning with `path`."""
    if not isinstance(spec, NamedIdentity):
        return IdentityRule(spec)
    given = {name for name in ("reference", "repository", "prefix", "signed_prefix") if getattr(spec, name) is not None}
    try:
        if spec.reference is not None and given == {"reference"}:
            return IdentityRule("reference", reference=_full_name(spec.reference))
        if spec.repository is not None and given == {"repository"}:
            return IdentityRule("named", repository=parse_repository(spec.repository))
        if spec.prefix is not None and spec.signed_prefix is not None and given == {"prefix", "signed_prefix"}:
            prefix, signed_prefix = _prefix(spec.prefix), _prefix(spec.signed_prefix)
            return IdentityRule("remapped", prefix=prefix, signed_prefix=signed_prefix, bare_names=bare_names)
    except Invalid as e:
        raise Invalid(f"{path}: {e}") from e
    raise Invalid(f"{path}: either `reference`, or `repository`, or `prefix` and `signedPrefix`")
