"""Docker config JSON → the logins for a repository, matched as the kubelet matches them.

Also the credential-helper protocol, for the command line. No secret is ever part of a message.
"""

import asyncio
import base64
import binascii
import contextlib
import logging
import math
import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from webhook import limits
from webhook.image import DOCKER_HUB, Repository
from webhook.memory.cache import Memo
from webhook.parsing import Invalid, convert, quote, read_json
from webhook.trust import Access, Credential, Keychain, Unavailable

_DOCKER_HUB_KEYS: Final = frozenset({"index.docker.io", "registry-1.docker.io", "docker.io"})
_DOCKER_HUB_SERVER: Final = "https://index.docker.io/v1/"
_log = logging.getLogger(__name__)

_HELPER_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOOK_SECONDS: Final = 1.0
_HELPER_SECONDS: Final = 10.0
_HELPER_KEPT_SECONDS: Final = 300.0
_NO_CREDENTIALS: Final = b"credentials not found"
_TOKEN_USER: Final = "<token>"  # noqa: S105 - a word of the protocol, no secret


class _Auth(Struct):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None


class _Config(Struct):
    auths: dict[str, Any] | None = None
    cred_helpers: dict[str, str] | None = msgspec.field(default=None, name="credHelpers")
    creds_store: str | None = msgspec.field(default=None, name="credsStore")


@dataclass(frozen=True, slots=True)
class Login:
    """A credential, and the host and path it is for. `host` may have `*` in its labels."""

    host: str
    path: str
    credential: Credential


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """What a docker config says. `faults` are entries that were passed over, without their secrets."""

    logins: tuple[Login, ...] = ()
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str | None = None
    faults: tuple[str, ...] = ()

    def access(self, repository: Repository) -> Access:
        """The logins that match, the longest match first, as the kubelet orders them."""
        found = [login for login in self.logins if _matches(login, repository)]
        found.sort(key=lambda login: len(login.host) + len(login.path), reverse=True)
        return tuple(dict.fromkeys(login.credential for login in found))

    def helper(self, repository: Repository) -> str | None:
        """The credential helper that is asked for this registry."""
        host = repository.registry
        keys = (host, f"https://{host}", *((_DOCKER_HUB_SERVER, "index.docker.io") if host == DOCKER_HUB else ()))
        return next((self.helpers[key] for key in keys if key in self.helpers), self.store)


def parse_docker_config(data: bytes, what: str) -> DockerConfig:
    """A docker config (`config.json`, `.dockerconfigjson`) or the older `.dockercfg`, whose entries stand at the top.

    Entries that cannot be read are passed over and named in `faults`. Raises `Invalid` if `data` is no such file at all.
    """
    document = read_json(data, what)
    if not isinstance(document, dict):
        raise Invalid(f"{what}: expected object")
    legacy = "auths" not in document and all(isinstance(value, dict) and "auth" in value for value in document.values())
    config = convert({"auths": document} if legacy and document else document, _Config, what)
    logins, faults = [], []
    for key, value in (config.auths or {}).items():
        try:
            login = _login(key, convert(value, _Auth, f"{what}.auths.{quote(key, 120)}"))
        except Invalid as e:
            faults.append(str(e))
            continue
        if login is not None:
            logins.append(login)
    return DockerConfig(tuple(logins), config.cred_helpers or {}, config.creds_store, tuple(faults))


def _login(key: str, auth: _Auth) -> Login | None:
    """None for an entry without a secret, as docker writes them beside a credential store."""
    host, path = _split(key)
    username, password = auth.username or "", auth.password or ""
    if auth.auth:
        try:
            decoded = base64.b64decode(auth.auth, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise Invalid(f"auths.{quote(key, 120)}.auth: not base64 of user:password") from None
        username, colon, password = decoded.rstrip("\0").partition(":")
        if not colon:
            raise Invalid(f"auths.{quote(key, 120)}.auth: not base64 of user:password")
    if auth.identitytoken:
        return Login(host, path, Credential(username or _TOKEN_USER, auth.identitytoken, identity_token=True))
    return Login(host, path, Credential(username, password)) if username or password else None


def _split(key: str) -> tuple[str, str]:
    """Host and path of a key: `https://index.docker.io/v1/`, `ghcr.io`, `registry.acme.io:5000/team`."""
    text = key.removeprefix("https://").removeprefix("http://")
    host, _, path = text.partition("/")
    path = path.strip("/")
    if path in {"v1", "v2"}:
        path = ""
    host = host.lower().removesuffix(":443")
    return (DOCKER_HUB if host in _DOCKER_HUB_KEYS else host), path


def _matches(login: Login, repository: Repository) -> bool:
    """Host label by label and with its port, path by whole components: a look-alike host gets nothing (attack S-04)."""
    wanted, _, wanted_port = login.host.partition(":")
    host, _, port = repository.registry.removesuffix(":443").partition(":")
    if wanted_port != port:
        return False
    wanted_labels, labels = wanted.split("."), host.split(".")
    if len(wanted_labels) != len(labels) or not all(map(_label_matches, wanted_labels, labels)):
        return False
    return not login.path or f"{repository.path}/".startswith(f"{login.path}/")


def _label_matches(pattern: str, label: str) -> bool:
    first, star, last = pattern.partition("*")
    if not star:
        return pattern == label
    return len(label) >= len(first) + len(last) and label.startswith(first) and label.endswith(last) and "*" not in last


class AnonymousKeychain:
    """No logins at all."""

    def known(self, repository: Repository) -> Access | None:  # noqa: ARG002 - the same for every repository
        """None of them."""
        return ()

    async def access(self, repository: Repository) -> Access:  # noqa: ARG002 - the same
        """None of them."""
        return ()


class DockerConfigKeychain:
    """The logins of a docker config file, read again when it changes; credential helpers are asked, and remembered."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked = -math.inf
        self._state: tuple[int, int, int] | None = None
        self._config = DockerConfig()
        self._helped: Memo[Access] = Memo(_HELPER_KEPT_SECONDS, 1024)

    def known(self, repository: Repository) -> Access | None:
        """The logins, if no helper has to be run for them."""
        config = self._read()
        found = config.access(repository)
        helper = config.helper(repository)
        return found if found or helper is None else self._helped.peek((helper, repository.registry))

    async def access(self, repository: Repository) -> Access:
        """The logins. Raises `Unavailable` if a helper fails."""
        known = self.known(repository)
        helper = self._config.helper(repository)
        if known is not None or helper is None:
            return known or ()
        registry = repository.registry
        return await self._helped.get((helper, registry), lambda: ask_helper(helper, registry))

    def _read(self) -> DockerConfig:
        """The file's contents, looked at once a second at the most."""
        if self._clock() - self._looked < _LOOK_SECONDS:
            return self._config
        self._looked = self._clock()
        try:
            found = self._path.stat()
            state = (found.st_ino, found.st_mtime_ns, found.st_size)
            if state != self._state:
                with self._path.open("rb") as file:
                    data = file.read(limits.MAX_KEY_MATERIAL + 1)
                self._state = state
                self._config = parse_docker_config(data[: limits.MAX_KEY_MATERIAL], self._path.name)
                for fault in self._config.faults:
                    _log.warning("%s: passed over", fault)
        except FileNotFoundError:
            self._state, self._config = None, DockerConfig()
        except (OSError, Invalid) as e:
            self._config = DockerConfig()
            _log.warning("%s: no login in it is used: %s", self._path.name, e)
        return self._config


async def ask_helper(helper: str, registry: str, seconds: float = _HELPER_SECONDS) -> Access:
    """What `docker-credential-<helper> get` says of a registry. Raises `Unavailable` without repeating what it printed.

    Source: docker/docker-credential-helpers, "Development".
    """
    if not _HELPER_NAME.fullmatch(helper):
        raise Unavailable(f"credential helper {quote(helper, 80)}: not the name of one")
    program = f"docker-credential-{helper}"
    server = _DOCKER_HUB_SERVER if registry == DOCKER_HUB else registry
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            program, "get", stdin=pipe, stdout=pipe, stderr=null, start_new_session=True
        )
    except OSError as e:
        raise Unavailable(f"{program}: {e.strerror}") from e
    try:
        async with asyncio.timeout(seconds):
            output = await _converse(process, server)
    except TimeoutError as e:
        raise Unavailable(f"{program}: no answer in {seconds:.0f} s") from e
    finally:
        if process.returncode is None:
            await _end(process)
    if process.returncode != 0:
        if _NO_CREDENTIALS in output:
            return ()
        raise Unavailable(f"{program}: failed with exit code {process.returncode}")
    return _from_helper(output, program)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kills the helper and what it started; a child of it would keep the pipe open, and us waiting for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # What it had written is read to the end: until then the event loop does not see that it is gone.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await process.communicate()


async def _converse(process: asyncio.subprocess.Process, server: str) -> bytes:
    if process.stdin is None or process.stdout is None:
        raise Unavailable("the helper's pipes were not made")
    process.stdin.write(server.encode())
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await process.stdin.drain()
    process.stdin.close()
    output = b""
    while len(output) <= limits.MAX_ERROR_BODY:
        chunk = await process.stdout.read(limits.MAX_ERROR_BODY)
        if not chunk:
            await process.wait()
            return output
        output += chunk
    return output


class _Helped(Struct):
    username: str = msgspec.field(default="", name="Username")
    secret: str = msgspec.field(default="", name="Secret")


def _from_helper(output: bytes, program: str) -> Access:
    try:
        helped = convert(read_json(output, program), _Helped, program)
    except Invalid:
        raise Unavailable(f"{program}: its answer is not the protocol's JSON") from None
    if not helped.secret:
        return ()
    return (Credential(helped.username, helped.secret, identity_token=helped.username == _TOKEN_USER),)


@dataclass(frozen=True, slots=True)
class ChainedKeychain:
    """Several keychains: the logins of the first come first."""

    keychains: tuple[Keychain, ...]

    def known(self, repository: Repository) -> Access | None:
        """All logins, if none of the keychains has to wait."""
        known = [keychain.known(repository) for keychain in self.keychains]
        if any(access is None for access in known):
            return None
        return tuple(dict.fromkeys(credential for access in known for credential in access or ()))

    async def access(self, repository: Repository) -> Access:
        """All logins. Raises `Unavailable` if one of the keychains cannot be read."""
        opened = [await keychain.access(repository) for keychain in self.keychains]
        return tuple(dict.fromkeys(credential for access in opened for credential in access))
