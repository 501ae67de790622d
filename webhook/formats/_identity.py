"""Which image name a signature may bear. The rules are those of containers policy.json, "signedIdentity"."""

from dataclasses import dataclass
from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct

from webhook import limits
from webhook.image import DOCKER_HUB, Repository, Subject, names_host, normalise_host, parse_reference, parse_repository
from webhook.parsing import Invalid, quote
from webhook.trust import Rejected

_Name = Annotated[str, Meta(min_length=1, max_length=limits.MAX_NAME)]


class NamedIdentity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`identity: {repository: …}`, or `{prefix: …, signedPrefix: …}` for images copied from where they were signed."""

    repository: Annotated[_Name | None, Meta(description="The repository that the signature must name.")] = None
    prefix: Annotated[_Name | None, Meta(description="Beginning of the image's name, in whole components.")] = None
    signed_prefix: Annotated[_Name | None, Meta(description="What the signature has in its place.")] = None


IdentitySpec = Literal["digest", "repository", "exact"] | NamedIdentity


@dataclass(frozen=True, slots=True)
class IdentityRule:
    """A rule, checked when the policy was read."""

    kind: Literal["digest", "repository", "exact", "named", "remapped"]
    repository: Repository | None = None
    prefix: str = ""
    signed_prefix: str = ""

    @property
    def looks_at_name(self) -> bool:
        """Whether the rule looks at the image's name at all; otherwise the digest alone counts."""
        return self.kind != "digest"

    @property
    def looks_at_tag(self) -> bool:
        """Whether the judgement rests on the tag, too."""
        return self.kind in {"exact", "remapped"}

    def check(self, signed_name: str | None, subject: Subject) -> None:
        """Returns if a signature that bears `signed_name` may stand for `subject`. Raises `Rejected`.

        None: this kind of signature names no image, which only the rule `digest` accepts.
        """
        if self.kind == "digest":
            return
        if signed_name is None:
            raise Rejected("it names no image, and the policy's `identity` demands a name")
        try:
            repository, tag = _split(signed_name)
        except Invalid as e:
            raise Rejected(f"docker-reference: {e}") from e
        match self.kind:
            case "repository":
                holds = repository == subject.repository
            case "exact":
                holds = repository == subject.repository and tag is not None and tag == subject.tag
            case "named":
                holds = repository == self.repository
            case "remapped":
                holds = str(repository) == self._remapped(str(subject.repository)) and (
                    tag is None or subject.tag is None or tag == subject.tag
                )
            case _:
                assert_never(self.kind)
        if not holds:
            raise Rejected(f"it was made for {quote(signed_name, 120)}, which the policy's `identity` does not accept")

    def _remapped(self, name: str) -> str:
        # Whole components only: `acme.io/pay` is no prefix of `acme.io/payments`.
        if name == self.prefix or name.startswith(f"{self.prefix}/"):
            return self.signed_prefix + name[len(self.prefix) :]
        return name


def _split(signed_name: str) -> tuple[Repository, str | None]:
    """Repository and tag of a signed name; no tag is not `latest` here."""
    reference = parse_reference(signed_name)
    last = signed_name.partition("@")[0].rpartition("/")[2]
    return reference.repository, reference.tag if ":" in last else None


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


def read_identity(spec: IdentitySpec, path: str) -> IdentityRule:
    """The rule that a policy writes. Raises `Invalid` beginning with `path`."""
    if not isinstance(spec, NamedIdentity):
        return IdentityRule(spec)
    given = (spec.repository is not None, spec.prefix is not None, spec.signed_prefix is not None)
    try:
        if spec.repository is not None and given == (True, False, False):
            return IdentityRule("named", repository=parse_repository(spec.repository))
        if spec.prefix is not None and spec.signed_prefix is not None and spec.repository is None:
            return IdentityRule("remapped", prefix=_prefix(spec.prefix), signed_prefix=_prefix(spec.signed_prefix))
    except Invalid as e:
        raise Invalid(f"{path}: {e}") from e
    raise Invalid(f"{path}: either `repository`, or `prefix` and `signedPrefix`")
