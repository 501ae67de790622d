"""Names of images, normalised once: what was written beside what it means.

It stands apart because a policy speaks about names, and two spellings of one image must never meet two policies. The
grammar is that of distribution's reference package; where that grammar lets one place have several spellings (letter case
and default port of a host), one is chosen here, since a registry answers to all of them.

Nothing here talks to a registry: a tag is not resolved, a digest not believed.
"""

import functools
import hashlib
import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Final, NewType

from webhook import limits
from webhook.parsing import Invalid, quote

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex digits. Only `parse_digest` and `digest_of` make one."""

DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_NAMES: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_HASHES: Final = frozenset({"sha256", "sha384", "sha512"})
_DEFAULT_TAG: Final = "latest"
_HTTPS_PORT: Final = 443
_NUMERIC: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")

# ASCII classes are spelt out: `\w` and `\d` match letters and digits of other scripts.
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST: Final = re.compile(rf"(?P<name>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_SEPARATOR: Final = r"(?:[._]|__|-+)"
_COMPONENT: Final = re.compile(rf"[a-z0-9]+(?:{_SEPARATOR}[a-z0-9]+)*")
_TAG: Final = re.compile(rf"[a-zA-Z0-9_][a-zA-Z0-9_.-]{{0,{limits.MAX_TAG - 1}}}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_HEX_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Repository:
    """A registry's host (with its port, if it is not the default one) and a path on it, both normalised."""

    registry: str
    path: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}"


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image as a Pod names it: repository, and tag or digest or both. `written` is the Pod's own text."""

    repository: Repository
    tag: str | None
    digest: Digest | None
    written: str

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    def at(self, digest: Digest) -> "ImageReference":
        """The image of this digest in the same repository; `written` stays what was written."""
        return replace(self, tag=None, digest=digest)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a node would run: a repository and a digest, with the tag that was written, which proves nothing by itself.

    `pinned`: the digest was written, too, so that a tag beside it is a label that decides nothing.
    """

    repository: Repository
    digest: Digest
    tag: str | None
    pinned: bool = False

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}"


def parse_digest(text: str) -> Digest:
    """`text` as a digest. Raises `Invalid` for any other algorithm, length or letter case (attack R-08)."""
    if not _DIGEST.fullmatch(text):
        raise Invalid(f"{quote(text, 80)}: not a digest (sha256: and 64 lower-case hex digits)")
    return Digest(text)


def digest_of(content: bytes) -> Digest:
    """The digest of bytes: the only way to know what they are, whatever a header or a path says."""
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


def parse_reference(written: str) -> ImageReference:
    """The image that `written` names, as the container ecosystem reads it.

    `nginx` is `docker.io/library/nginx:latest`; a tag beside a digest is kept, though only the digest counts at run time.

    Raises `Invalid`, whose message names no place: the caller knows it. Source: distribution/reference, `regexp.go`.
    """
    return _parse_reference(written)


@functools.lru_cache(maxsize=16_384)
def _parse_reference(written: str) -> ImageReference:
    try:
        return _parse(written)
    except Invalid as e:
        raise Invalid(f"not an image reference: {e}") from None


def _parse(written: str) -> ImageReference:
    # Refused before anything is compared: 'docKer.io' with U+212A lower-cases to 'docker.io' (attack P-06).
    if not written.isascii() or not written.isprintable() or " " in written:
        raise Invalid(f"{quote(written, 80)}: a character that no reference has")
    if len(written) > limits.MAX_REFERENCE:
        raise Invalid(f"{quote(written, 80)}: longer than {limits.MAX_REFERENCE} characters")
    name, at, digest_text = written.partition("@")
    digest = parse_digest(digest_text) if at else None
    tag: str | None = None
    # A colon after the last slash begins the tag; one before it, a port.
    if ":" in name.rpartition("/")[2]:
        name, _, tag = name.rpartition(":")
        if not _TAG.fullmatch(tag):
            raise Invalid(f"{quote(tag, 80)}: not a tag")
    if _HEX_ID.fullmatch(name):
        raise Invalid("64 hex digits are an image id, not a name")
    if name.lower() in _HASHES:
        # A runtime takes it for the id of an image that is already on the node, whatever its name is.
        raise Invalid(f"{quote(written, 80)}: an image id, not a name")
    repository = parse_repository(name)
    return ImageReference(repository, tag or (None if digest else _DEFAULT_TAG), digest, written)


def parse_repository(name: str) -> Repository:
    """`name` without tag or digest, normalised. Raises `Invalid`."""
    head, slash, rest = name.partition("/")
    if slash and names_host(head):
        registry, path = normalise_host(head), rest
    else:
        registry, path = DOCKER_HUB, name
    if registry == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    for component in path.split("/"):
        if not _COMPONENT.fullmatch(component):
            raise Invalid(
                f"{quote(name, 80)}: {quote(component, 80) or 'an empty part'} is not a part of an image's path"
            )
    repository = Repository(registry, path)
    if len(str(repository)) > limits.MAX_NAME:
        raise Invalid(f"{quote(name, 80)}: a name of more than {limits.MAX_NAME} characters")
    return repository


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def names_host(component: str) -> bool:
    """Whether the first component of a name is a host and not a part of a path on Docker Hub."""
    return "." in component or ":" in component or component == "localhost" or component != component.lower()


def normalise_host(text: str) -> str:
    """A registry's host in its one spelling: lower case, no default port, Docker Hub's names as `docker.io`.

    Container tools keep the letter case of a host although every registry answers to all of them, so that `GHCR.io/…`
    would otherwise escape a policy about `ghcr.io` (attack P-04). Raises `Invalid`.
    """
    match = _HOST.fullmatch(text)
    if match is None:
        raise Invalid(f"{quote(text, 80)}: not a registry's host")
    name, port = match["name"].lower(), match["port"]
    if name.startswith("["):
        try:
            address = ipaddress.IPv6Address(name[1:-1])
        except ValueError as e:
            raise Invalid(f"{quote(text, 80)}: not an IPv6 address") from e
        # An IPv4 address in the clothes of an IPv6 one is the same host.
        name = str(address.ipv4_mapped) if address.ipv4_mapped else f"[{address.compressed}]"
    elif _NUMERIC.fullmatch(name.rpartition(".")[2]) and not _is_ipv4(name):
        # `127.1` and `2130706433` are addresses to some resolvers and names to others.
        raise Invalid(f"{quote(text, 80)}: an address that is not written in full")
    if port is not None and not 0 < int(port) < 65_536:
        raise Invalid(f"{quote(text, 80)}: not a port")
    number = _HTTPS_PORT if port is None else int(port)
    # Without its port a host of one label would read as a part of a path on Docker Hub.
    if number != _HTTPS_PORT or not names_host(name):
        return f"{name}:{number}"
    return DOCKER_HUB if name in _DOCKER_HUB_NAMES else name
