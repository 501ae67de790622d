"""`registries.yaml`: how registries are reached.

It is the operator's alone, because plain HTTP, a private authority, a mirror or an internal address is trust of its own kind,
which no tenant may grant.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta, Struct

from webhook import limits
from webhook.image import Repository, normalise_host, parse_repository
from webhook.parsing import Invalid, convert_all, quote
from webhook.yamltext import read_yaml

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0


class _Credentials(Struct, forbid_unknown_fields=True, kw_only=True):
    dockerconfig: Annotated[str, Meta(min_length=1)]


class _Mirror(Struct, forbid_unknown_fields=True, kw_only=True):
    source: Annotated[str, Meta(min_length=1)]
    prefix: Annotated[str, Meta(min_length=1)]


class _Host(Struct, forbid_unknown_fields=True, kw_only=True):
    host: Annotated[str, Meta(min_length=1)]
    plain_http: bool = msgspec.field(default=False, name="plainHTTP")
    ca: str | None = None
    mirrors: list[_Mirror] = []
    credentials: _Credentials | None = None
    realms: list[str] = []


class _File(Struct, forbid_unknown_fields=True, kw_only=True):
    registries: list[_Host]


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How one registry is reached. `configured`: the operator named it, so that it may have a private address.

    `authority`: PEM certificates that a policy gave for this host, in place of `ca`.
    """

    host: str
    plain_http: bool = False
    ca: Path | None = None
    dockerconfig: Path | None = None
    realms: frozenset[str] = frozenset()
    configured: bool = False
    authority: bytes | None = None


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """All of the file, as a value. `mirrors` are (source, prefix) pairs of whole components, longest source first."""

    hosts: Mapping[str, HostSettings] = field(default_factory=dict)
    mirrors: tuple[tuple[str, str], ...] = ()
    everything_plain: bool = False

    @classmethod
    def empty(cls) -> "RegistrySettings":
        """HTTPS with the system's roots everywhere."""
        return cls()

    @classmethod
    def plain_http(cls, hosts: Iterable[str]) -> "RegistrySettings":
        """These hosts by plain HTTP, the others by HTTPS."""
        names = [normalise_host(host) for host in hosts]
        return cls({name: HostSettings(name, plain_http=True, configured=True) for name in names})

    @classmethod
    def plain_http_everywhere(cls) -> "RegistrySettings":
        """Every host by plain HTTP: what `--plain-http` on a command line means."""
        return cls(everything_plain=True)

    def of(self, host: str) -> HostSettings:
        """How `host` is reached; with the defaults if the file does not name it."""
        found = self.hosts.get(host)
        if found is not None:
            return found
        return HostSettings(host, plain_http=self.everything_plain)

    def location(self, repository: Repository) -> Repository:
        """Where `repository` is fetched from: itself, or its place in a mirror. It is judged under its own name."""
        name = str(repository)
        for source, prefix in self.mirrors:
            if name == source or name.startswith(f"{source}/"):
                registry, _, path = f"{prefix}{name[len(source) :]}".partition("/")
                return Repository(registry, path)
        return repository


class Settings(Protocol):
    """Where the settings in force come from."""

    @property
    def current(self) -> RegistrySettings:
        """The settings in force now."""
        ...


@dataclass(frozen=True, slots=True)
class FixedSettings:
    """Settings that never change."""

    current: RegistrySettings


class SettingsFile:
    """Settings from a file that is read again when it changes. A broken change is logged, and the last good ones stay."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises `Invalid` or OSError if the file cannot be used now."""
        self._path = path
        self._clock = clock
        self._looked = clock()
        self._state = _state(path)
        self._settings = parse_settings(_read(path), path.name)

    @property
    def current(self) -> RegistrySettings:
        """The settings in force now; looks at the file at most once a second."""
        if self._clock() - self._looked >= _LOOK_SECONDS:
            self._looked = self._clock()
            self._look()
        return self._settings

    def _look(self) -> None:
        state = _state(self._path)
        if state == self._state:
            return
        self._state = state
        try:
            self._settings = parse_settings(_read(self._path), self._path.name)
        except (Invalid, OSError) as e:
            _log.error("%s; what stood there before stays in force", e)
        else:
            _log.info("%s: read again", self._path.name)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(limits.MAX_YAML + 1)


def _state(path: Path) -> tuple[int, int, int]:
    """What changes when the file, or the link that Kubernetes swaps for it, changes."""
    try:
        found = os.stat(path)  # noqa: PTH116 - follows links, as reading does
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def parse_settings(data: bytes, name: str) -> RegistrySettings:
    """The settings in a registries file. Raises `Invalid` with every complaint, each with its path."""
    if len(data) > limits.MAX_YAML:
        raise Invalid(f"{name}: more than {limits.MAX_YAML} bytes")
    documents = read_yaml(data, name)
    if len(documents) != 1:
        raise Invalid(f"{name}: {len(documents)} documents; exactly one is wanted")
    file = convert_all(documents[0], _File, name)
    hosts: dict[str, HostSettings] = {}
    mirrors: dict[str, str] = {}
    complaints: list[str] = []
    for i, entry in enumerate(file.registries):
        path = f"{name}.registries[{i}]"
        try:
            host = _host(entry)
            if host.host in hosts:
                complaints.append(f"{path}.host: {host.host} stands twice")
            hosts[host.host] = host
            for source, prefix in _mirrors(entry):
                if source in mirrors:
                    complaints.append(f"{path}.mirrors: {source} has two mirrors")
                mirrors[source] = prefix
        except Invalid as e:
            complaints += [f"{path}.{complaint}" for complaint in e.complaints]
    if complaints:
        raise Invalid(*complaints)
    return RegistrySettings(hosts, tuple(sorted(mirrors.items(), key=lambda pair: -len(pair[0]))))


def parse_elsewhere(data: bytes, name: str) -> tuple[RegistrySettings, bool]:
    """The settings in a registries file of another machine, and whether it names files, which are left out: they are that machine's.

    Raises `Invalid` as `parse_settings` does.
    """
    documents = read_yaml(data, name) if len(data) <= limits.MAX_YAML else []
    if len(documents) != 1:
        return parse_settings(data, name), False
    file = convert_all(documents[0], _File, name)
    names_files = any(entry.ca is not None or entry.credentials is not None for entry in file.registries)
    for entry in file.registries:
        entry.ca = entry.credentials = None
    return parse_settings(msgspec.json.encode(file), name), names_files


def _host(entry: _Host) -> HostSettings:
    """Raises `Invalid` with the field."""
    if entry.plain_http and entry.ca:
        raise Invalid("ca: without meaning beside plainHTTP")
    if entry.ca and not Path(entry.ca).is_file():
        raise Invalid(f"ca: {quote(entry.ca)} is no file")
    try:
        host, realms = normalise_host(entry.host), frozenset(map(normalise_host, entry.realms))
    except Invalid as e:
        raise Invalid(f"host: {e}") from e
    return HostSettings(
        host=host,
        plain_http=entry.plain_http,
        ca=Path(entry.ca) if entry.ca else None,
        dockerconfig=Path(entry.credentials.dockerconfig) if entry.credentials else None,
        realms=realms,
        configured=True,
    )


def _mirrors(entry: _Host) -> Iterator[tuple[str, str]]:
    """Raises `Invalid` with the field."""
    for i, mirror in enumerate(entry.mirrors):
        try:
            yield _prefix(mirror.source), _prefix(mirror.prefix)
        except Invalid as e:
            raise Invalid(f"mirrors[{i}]: {e}") from e


def _prefix(text: str) -> str:
    """A host, or a host and the beginning of a path, normalised. Raises `Invalid`."""
    host, slash, path = text.rstrip("/").partition("/")
    host = normalise_host(host)
    # One more part, so that a single one on Docker Hub is not taken for an official image.
    return f"{host}/{parse_repository(f'{host}/{path}/x').path.removesuffix('/x')}" if slash else host
