"""Globs on image names, and on names of namespaces and service accounts.

Host, path, tag and digest match separately. `*` stays within one path segment or one label of a host, `**` crosses segments
or labels, and nothing crosses from host to path: a wildcard that did so let `evil.io/x.registry.io/org/img` pass as
`*.registry.io/org/*` in a peer (attack P-01).
"""

import functools
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from webhook import limits
from webhook.image import DOCKER_HUB, ImageReference, names_host, normalise_host, parse_digest
from webhook.parsing import Invalid, quote

ANY_DIGEST: Final = "sha256:*"
_EVERYTHING: Final = "**"
_WILD_LABEL: Final = r"[a-z0-9*](?:[a-z0-9*-]*[a-z0-9*])?"
_WILD_HOST: Final = re.compile(rf"{_WILD_LABEL}(?:\.{_WILD_LABEL})*(?::(?P<port>[1-9*][0-9*]{{0,4}}))?")
_COMPONENT: Final = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_WILDCARD: Final = re.compile(r"\*+")
_REGEX_WILDCARD: Final = re.compile(r"(?:\.+[*+]+)+")
_TAG_TEXT: Final = re.compile(r"[a-zA-Z0-9_.*-]{1,256}")
_NAME_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_NAME: Final = re.compile(rf"{_NAME_LABEL}(?:\.{_NAME_LABEL})*")
_MAX_NAME: Final = 253
_MAX_NAMESPACE: Final = 63


@dataclass(frozen=True, slots=True)
class ImageGlob:
    """A glob on normalised image names. `host` and `path` are patterns; no `tag` and no `digest`: any of them.

    `hostless`: the host is Docker Hub because none was written.
    """

    host: str
    path: str
    tag: str | None
    digest: str | None
    hostless: bool = field(default=False, compare=False)

    def matches(self, image: ImageReference) -> bool:
        """Whether the image's name, as it is written, is one of those meant."""
        if self.tag is not None and (image.tag is None or not _matches(self.tag, image.tag)):
            return False
        if self.digest is not None and (image.digest is None or self.digest not in {ANY_DIGEST, image.digest}):
            return False
        repository = image.repository
        return _host_matches(self.host, repository.registry) and _path_matches(self.path, repository.path)

    def excludes(self, image: ImageReference) -> bool:
        """Whether the image is meant for certain.

        A tag written beside a digest is an unproven label: anybody could write an excluded tag beside any digest.
        """
        return (self.tag is None or image.digest is None) and self.matches(image)

    @property
    def literal(self) -> str | None:
        """The part of the name before the first component with a wildcard; None if that is already the host."""
        if "*" in self.host:
            return None
        parts = [self.host]
        for segment in self.path.split("/"):
            if "*" in segment:
                break
            parts.append(segment)
        return "/".join(parts)

    @property
    def covers_everything(self) -> bool:
        """Whether every image is meant."""
        return (self.host, self.path, self.tag, self.digest) == (_EVERYTHING, _EVERYTHING, None, None)

    def danger(self) -> str | None:
        """What it means, where that is probably not what was meant; None where it is."""
        folder, _, name = self.path.partition("/")
        if self.hostless and ("*" in self.path or (folder == "library" and names_host(name))):
            return (
                f"a glob without a host and a slash after it is one on Docker Hub, {self};"
                " write HOST/** for a registry, **/… for any of them, ** for every image"
            )
        if _REGEX_WILDCARD.search(self.path):
            return f"{self}: `.` is a dot, and `*` alone any characters; a glob is no regular expression"
        return None

    def __str__(self) -> str:
        name = _EVERYTHING if (self.host, self.path) == (_EVERYTHING, _EVERYTHING) else f"{self.host}/{self.path}"
        return name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


EVERYTHING: Final = ImageGlob(_EVERYTHING, _EVERYTHING, None, None)


def parse_image_glob(text: str) -> ImageGlob:
    """The glob that `text` writes. Raises `Invalid` if it can match no image, which is always a mistake.

    Nobody would be told: a policy that covers nothing refuses nothing.
    """
    try:
        return _read(text)
    except Invalid as e:
        meant = _meant(text)
        if not meant:
            raise
        raise Invalid(f"{e}: a glob is no regular expression; write {' or '.join(meant)}") from e


def _meant(text: str) -> list[str]:
    """The globs that whoever wrote `.*` or `.+` for any characters may have meant; none if `text` is wrong in another way, too."""
    if len(text) > limits.MAX_GLOB:
        return []
    host, slash, path = text.partition("/") if "/" in text else ("", "", text)
    found = []
    for wildcard in ("**", "*") if slash else ("**",):
        candidate = f"{host}{slash}{_REGEX_WILDCARD.sub(wildcard, path)}"
        try:
            _read(candidate)
        except Invalid:
            continue
        found.append(candidate)
    return found


def _read(text: str) -> ImageGlob:
    if len(text) > limits.MAX_GLOB:
        raise Invalid(f"{quote(text, 60)}: longer than {limits.MAX_GLOB} characters")
    if not text.isascii():
        raise Invalid(f"{quote(text, 60)}: a character that no image's name has")
    name, at, digest = text.partition("@")
    if at and digest != ANY_DIGEST:
        parse_digest(digest)
    name, tag = _split_tag(name)
    if "***" in name:
        raise Invalid(f"{quote(text, 60)}: three or more `*` mean nothing; `*` stays within a part, `**` crosses parts")
    if tag is not None and (not _TAG_TEXT.fullmatch(tag) or tag[0] in ".-" or _least(tag) > limits.MAX_TAG):
        raise Invalid(f"{quote(text, 60)}: {quote(tag, 60) or 'an empty tag'} matches no tag")
    host, path, hostless = _split(name, text)
    # Thousands of policies name few registries: their names are kept once.
    return ImageGlob(sys.intern(host), _checked_path(host, path, text), tag, digest or None, hostless)


def _least(pattern: str) -> int:
    """Characters of the shortest text that can match, or fewer: `**/` may stand for nothing."""
    return len(pattern) - pattern.count("*") - pattern.count("/")


_NAMESPACE: Final = "{namespace}"
_SOME_NAMESPACE: Final = "0namespace0"
"""Stands in where the glob is read before anybody asks; as wide as `{namespace}`, so that messages are cut alike."""


@dataclass(frozen=True, slots=True)
class NamespacedGlob:
    """A glob in whose path `{namespace}` stands for the name of the namespace that asks."""

    text: str

    def within(self, namespace: str) -> ImageGlob:
        """The glob for one namespace. A namespace's name is a DNS label, so it adds no wildcard and no separator."""
        return _within(self.text, namespace)


@functools.lru_cache(maxsize=4096)
def _within(text: str, namespace: str) -> ImageGlob:
    return parse_image_glob(text.replace(_NAMESPACE, namespace))


def parse_namespaced_glob(text: str) -> NamespacedGlob:
    """The glob that `text` writes. Raises `Invalid` if it can match no image, or if `{namespace}` is not in its path."""
    host, _, _ = text.partition("/")
    if _NAMESPACE in host:
        raise Invalid(f"{quote(text, 60)}: {_NAMESPACE} may stand in the path alone")
    try:
        _within(text, _SOME_NAMESPACE)
    except Invalid as e:
        raise Invalid(str(e).replace(_SOME_NAMESPACE, _NAMESPACE)) from e
    return NamespacedGlob(text)


def _split_tag(name: str) -> tuple[str, str | None]:
    """The name, and the tag after the colon of its last part: one before a slash begins a port."""
    before, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    return (f"{before}{slash}{last}", tag) if colon else (name, None)


def _checked_path(host: str, path: str, text: str) -> str:
    """`path`, normalised. Raises `Invalid` if no normalised name has such a one."""
    if "*" in host and not _is_possible_host(host):
        raise Invalid(f"{quote(text, 60)}: {quote(host, 60)} matches no registry's host")
    if _least(host) + _least(path) > limits.MAX_NAME:
        raise Invalid(f"{quote(text, 60)}: matches no name, which has at most {limits.MAX_NAME} characters")
    for segment in path.split("/"):
        if not _is_possible(segment):
            raise Invalid(f"{quote(text, 60)}: {quote(segment, 60) or 'an empty part'} matches no part of a path")
    if host != DOCKER_HUB or "/" in path or "**" in path:
        return path
    if "*" in path:
        raise Invalid(f"{quote(text, 60)}: matches nothing, official images are {DOCKER_HUB}/library/{quote(path, 60)}")
    return f"library/{path}"


def _is_possible(segment: str) -> bool:
    """Whether some component of an image's path matches.

    A letter in place of each wildcard fits beside whatever may stand there, so if that makes no component nothing does.
    """
    return _COMPONENT.fullmatch(_WILDCARD.sub("a", segment)) is not None


def _is_possible_host(host: str) -> bool:
    match = _WILD_HOST.fullmatch(host)
    return match is not None and not (match["port"] and "*" not in match["port"] and int(match["port"]) >= 65_536)


def _split(name: str, text: str) -> tuple[str, str, bool]:
    """Host and path, normalised as image names are, and whether no host was written."""
    if name == _EVERYTHING:
        return _EVERYTHING, _EVERYTHING, False
    head, slash, rest = name.partition("/")
    if slash and head == "*":
        raise Invalid(f"{quote(text, 60)}: `*` is one label of a host; any host is `**/…`")
    if slash and "*" in head and ("**" in head or names_host(head)):
        # Names have no default port, so that a glob with one would match none of them.
        return head.lower().removesuffix(":443"), rest, False
    if slash and "*" not in head and names_host(head):
        try:
            return normalise_host(head), rest, False
        except Invalid as e:
            raise Invalid(f"{quote(text, 60)}: {e}") from e
    return DOCKER_HUB, name if slash else f"library/{name}", True


def _host_matches(pattern: str, host: str) -> bool:
    if "*" not in pattern:
        return pattern == host
    if pattern == _EVERYTHING:
        return True
    wanted, _, wanted_port = pattern.partition(":")
    name, _, port = host.partition(":")
    # `:*` is any port, the default one among them, which names do not write.
    if host.startswith("[") or (
        wanted_port != "*" and not (bool(wanted_port) == bool(port) and _matches(wanted_port, port))
    ):
        return False
    return _runs_match(wanted.split("."), name.split("."), ".", least=1)


def _path_matches(pattern: str, path: str) -> bool:
    if "*" not in pattern:
        return pattern == path
    if pattern == _EVERYTHING:
        return True
    # By far the most common shape: everything below a literal.
    if pattern.endswith("/**") and "*" not in pattern[:-3]:
        return path.startswith(pattern[:-2])
    return _runs_match(pattern.split("/"), path.split("/"), "/", least=0)


def _runs_match(patterns: Sequence[str], parts: Sequence[str], separator: str, *, least: int) -> bool:
    """Whether the parts fit the patterns, `**` standing for `least` or more of them, and for one or more at the end.

    Each round knows up to which part the patterns so far can reach, so time is bounded by the product of the lengths:
    no pattern and no name makes it backtrack (attack D-05).
    """
    reached = {0}
    for i, pattern in enumerate(patterns):
        if pattern == "**":
            fewest = 1 if i == len(patterns) - 1 else least
            reached = set(range(min(reached) + fewest, len(parts) + 1))
        elif "**" in pattern:
            reached = {
                end
                for start in reached
                for end in range(start + 1, len(parts) + 1)
                if _matches(pattern.replace("**", "*"), separator.join(parts[start:end]))
            }
        else:
            reached = {start + 1 for start in reached if start < len(parts) and _matches(pattern, parts[start])}
        if not reached:
            return False
    return len(parts) in reached


def _matches(pattern: str, text: str) -> bool:
    """Whether `text` is `pattern` with every `*` standing for anything, the shortest fit first: never backtracking."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    last = rest.pop()
    if not text.startswith(first) or len(text) < len(first) + len(last) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in rest:
        position = text.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


@dataclass(frozen=True, slots=True)
class PathGlob:
    """A glob on a text of segments, such as `acme/shop` or `refs/tags/v1`: `*` stays within one, `**` crosses them."""

    pattern: str

    def matches(self, text: str) -> bool:
        """Whether `text` is one of those meant. Upper and lower case differ."""
        return _path_matches(self.pattern, text)

    def __str__(self) -> str:
        return self.pattern


@dataclass(frozen=True, slots=True)
class NameGlob:
    """A glob on the name of a namespace or service account: `*` stands for any characters."""

    pattern: str

    def matches(self, name: str) -> bool:
        """Whether `name` is one of those meant."""
        return _matches(self.pattern, name)

    @property
    def is_literal(self) -> bool:
        """Whether exactly one name is meant."""
        return "*" not in self.pattern

    def __str__(self) -> str:
        return self.pattern


def parse_name_glob(text: str) -> NameGlob:
    """The glob that `text` writes. Raises `Invalid` if no Kubernetes name can match it."""
    # A letter fits beside whatever a name may have, as in a component of a path.
    if len(text) > _MAX_NAME or not _NAME.fullmatch(_WILDCARD.sub("a", text)):
        raise Invalid(
            f"{quote(text, 60)}: matches no name (lower-case letters, digits, `-` and `.` between them, and `*` for any characters)"
        )
    return NameGlob(text)


def parse_namespace_glob(text: str) -> NameGlob:
    """The glob that `text` writes. Raises `Invalid` if no namespace can match it: their names are labels, which have no dot."""
    glob = parse_name_glob(text)
    if "." in text or _least(text) > _MAX_NAMESPACE:
        raise Invalid(
            f"{quote(text, 60)}: matches no name of a namespace, which has no dot and at most {_MAX_NAMESPACE} characters;"
            " `*` alone stands for any characters"
        )
    return glob
