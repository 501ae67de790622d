"""Whose signature is wanted where certificates are issued for tokens: an issuer and a subject, or a pipeline of GitHub or GitLab.

A pipeline is known by what its token said, each in its own extension; nothing is cut out of the subject but the place of the workflow's
file, which stands nowhere else. Sources: Fulcio, docs/oid-info.md, "Mapping OIDC token claims"; GitHub and GitLab, claims of their tokens.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from webhook.formats._fulcio import REF, REPOSITORY, Certified
from webhook.formats._pattern import Pattern
from webhook.parsing import Invalid, quote
from webhook.policy.globs import PathGlob
from webhook.trust import Rejected

_PROJECT: Final = re.compile(r"[A-Za-z0-9_.*-]+(?:/[A-Za-z0-9_.*-]+)+")
_FOLDER: Final = ".github/workflows/"
_WORKFLOW: Final = re.compile(rf"(?:[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+/)?{re.escape(_FOLDER)}[A-Za-z0-9_. -]+")
_CONFIG: Final = re.compile(r"(?:[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)+//)?[A-Za-z0-9_.-][A-Za-z0-9_. /-]*")
# A file's name may hold an `@`, and a ref another one: the first of them has to be what divides the two.
_ADDRESS: Final = re.compile(r"(?P<file>[^@]+)@(?:refs/.+|[0-9a-f]{40})")

STRANGE_ISSUERS: Final = ("https://elsewhere.invalid", "http://elsewhere.invalid", "https://elsewhere.invalid/mallory")
"""An expression that fits one of them was meant for nobody: under any issuer, anybody could be the subject."""
_STRANGERS: Final = (
    "mallory@elsewhere.invalid",
    "https://elsewhere.invalid/mallory",
    # Where everybody can have an account.
    "mallory@gmail.com",
    "https://github.com/mallory/anything/.github/workflows/x.yml@refs/heads/x",
    "https://gitlab.com/mallory/anything//.gitlab-ci.yml@refs/heads/x",
)


class Demand(Protocol):
    """Whose certificate it has to be. A frozen value."""

    def check(self, certified: Certified) -> None:
        """Returns if the certificate is theirs. Raises `Rejected`."""
        ...

    def dangers(self) -> tuple[str, ...]:
        """What is allowed and yet dangerous about it."""
        ...

    def wanted(self) -> str:
        """Who that is, in words that follow "signed by"."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """An issuer and a subject, each a text that has to be equal, or a pattern that has to fit the whole of it."""

    issuer: str | Pattern
    subject: str | Pattern

    def check(self, certified: Certified) -> None:
        """See `Demand`."""
        if not _fits(self.issuer, certified.issuer):
            raise Rejected(f"signed by somebody whom {quote(certified.issuer, 120)} vouches for, another issuer")
        if not _fits(self.subject, certified.subject):
            raise Rejected(f"signed by {quote(certified.subject, 120)}, another subject")

    def dangers(self) -> tuple[str, ...]:
        """Patterns that name nobody."""
        return tuple(
            danger
            for name, demand, strangers in (
                ("issuerRegex", self.issuer, STRANGE_ISSUERS),
                ("subjectRegex", self.subject, _STRANGERS),
            )
            if isinstance(demand, Pattern)
            for danger in _dangers(name, demand, strangers)
        )

    def wanted(self) -> str:
        """See `Demand`."""
        return f"{quote(self.subject, 120)} of issuer {quote(self.issuer, 120)}"


def _fits(wanted: str | Pattern, text: str) -> bool:
    return wanted.matches(text) if isinstance(wanted, Pattern) else wanted == text


def _dangers(name: str, pattern: Pattern, strangers: Iterable[str]) -> tuple[str, ...]:
    if pattern.matches_any(strangers):
        return (f"keyless.{name} {quote(pattern, 60)} fits anybody",)
    if not pattern.has_literal:
        return (f"keyless.{name} {quote(pattern, 60)} holds no text that an identity must have",)
    return ()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline of one forge: `name` says which, `base` is where its projects are, `between` what divides project and file there.

    `file` is a path in the project that was built, or, if `is_elsewhere`, begins with the project that it is in (a reusable
    workflow). Without it any file of the project itself may have signed. `claims`: further texts that have to be equal.
    """

    name: str
    issuer: str
    base: str
    between: str
    project: PathGlob
    file: str | None
    is_elsewhere: bool
    ref: PathGlob | None
    claims: tuple[tuple[str, str], ...]

    def check(self, certified: Certified) -> None:
        """See `Demand`."""
        # (1) The forge itself vouches for the rest.
        if certified.issuer != self.issuer:
            raise Rejected(f"signed by somebody whom {quote(certified.issuer, 120)} vouches for, another issuer")
        # (2) The project that was built, by its own extension.
        source = certified.said.get(REPOSITORY, "")
        project = source.removeprefix(self.base)
        if not source.startswith(self.base) or not self.project.matches(project):
            raise Rejected(f"signed for project {quote(source, 120) or 'nobody'}, another one")
        # (3) The file that says how it was built, whose address the subject is.
        address = _ADDRESS.fullmatch(certified.subject)
        if address is None or not self._is_file(address["file"], project):
            raise Rejected(f"signed by workflow {quote(certified.subject, 160)}, another one")
        # (4) What else the policy asks for, each in its own extension.
        ref = certified.said.get(REF, "")
        if self.ref is not None and not self.ref.matches(ref):
            raise Rejected(f"signed for ref {quote(ref, 120) or 'none'}, another one")
        for name, wanted in self.claims:
            found = certified.said.get(name, "")
            if found != wanted:
                raise Rejected(f"signed with {name} {quote(found, 80) or 'none'}, not {quote(wanted, 80)}")

    def _is_file(self, written: str, project: str) -> bool:
        own = f"{self.base}{project}{self.between}"
        if self.file is None:
            return written.startswith(own)
        return written == f"{self.base if self.is_elsewhere else own}{self.file}"

    def dangers(self) -> tuple[str, ...]:
        """A glob that names no owner."""
        if "*" in str(self.project).partition("/")[0]:
            return (f"{self.name}: {quote(self.project, 80)} fits projects of anybody",)
        return ()

    def wanted(self) -> str:
        """See `Demand`."""
        parts = [f"{self.name} {quote(self.project, 80)}"]
        if self.file is not None:
            parts.append(f"file {quote(self.file, 80)}")
        if self.ref is not None:
            parts.append(f"ref {quote(self.ref, 80)}")
        return ", ".join([*parts, *(f"{name} {quote(value, 60)}" for name, value in self.claims)])


def github(
    repository: str,
    workflow: str | None,
    ref: str | None,
    claims: Mapping[str, str | None],
    path: str,
) -> Pipeline:
    """A workflow of GitHub Actions. Raises `Invalid` beginning with `path`."""
    file = f"{_FOLDER}{workflow}" if workflow is not None and "/" not in workflow else workflow
    return Pipeline(
        name="GitHub",
        issuer="https://token.actions.githubusercontent.com",
        base="https://github.com/",
        between="/",
        project=_project(repository, f"{path}.repository"),
        file=_file(file, _WORKFLOW, f"{path}.workflow"),
        is_elsewhere=file is not None and not file.startswith(_FOLDER),
        ref=_ref(ref, f"{path}.ref"),
        claims=tuple((name, value) for name, value in claims.items() if value is not None),
    )


def gitlab(project: str, ref: str | None, config: str | None, path: str) -> Pipeline:
    """A pipeline of gitlab.com. Raises `Invalid` beginning with `path`."""
    return Pipeline(
        name="GitLab",
        issuer="https://gitlab.com",
        base="https://gitlab.com/",
        between="//",
        project=_project(project, f"{path}.project"),
        file=_file(config, _CONFIG, f"{path}.config"),
        is_elsewhere=config is not None and "//" in config,
        ref=_ref(ref, f"{path}.ref"),
        claims=(),
    )


def _project(text: str, path: str) -> PathGlob:
    if not _PROJECT.fullmatch(text):
        raise Invalid(f"{path}: {quote(text, 80)}: write OWNER/NAME, with `*` for any characters of one of them")
    return PathGlob(text)


def _file(text: str | None, form: "re.Pattern[str]", path: str) -> str | None:
    if text is not None and (not form.fullmatch(text) or ".." in text):
        raise Invalid(f"{path}: {quote(text, 80)}: not the path of such a file")
    return text


def _ref(text: str | None, path: str) -> PathGlob | None:
    if text is not None and not text.startswith("refs/"):
        raise Invalid(f"{path}: {quote(text, 80)}: write it in full, such as refs/heads/main or refs/tags/v*")
    return None if text is None else PathGlob(text)
