"""The judge without a cluster: policies, keys and credentials from files. What `verify`, `check` and `serve` share."""

import contextlib
import datetime as dt
import os
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from webhook.cli import hosting
from webhook.cli.hosting import Tuf
from webhook.formats import FORMATS
from webhook.judge import explain
from webhook.judge.decide import Decider
from webhook.keys.files import Loaded, ReadRemote, ask_nobody, load_files
from webhook.keys.pkcs11 import Modules
from webhook.keys.publicgood import PublicGood, Start
from webhook.keys.remote import RemoteKeys
from webhook.memory.store import PolicyStore
from webhook.memory.uses import UsesHere
from webhook.observe.metrics import Metrics
from webhook.parsing import Invalid
from webhook.policy import parse
from webhook.policy.policy import Policy
from webhook.registry.client import RegistryClient
from webhook.registry.dockerconfig import DockerConfigKeychain
from webhook.registry.settings import RegistrySettings, SettingsFile

PolicyFiles = Annotated[
    list[Path],
    typer.Option(
        "--policy",
        "-p",
        help="YAML with TrustPolicy, ClusterTrustPolicy and TrustException resources, and the Secrets and ConfigMaps they refer to. Repeatable.",
        metavar="FILE",
    ),
]
RegistriesFile = Annotated[
    Path | None,
    typer.Option(
        "--registries", help="registries.yaml: plain HTTP, private CAs, mirrors, credentials.", metavar="FILE"
    ),
]
PlainHTTP = Annotated[
    bool, typer.Option("--plain-http", help="Reach every registry by plain HTTP. For tests on loopback.")
]
Home = Annotated[
    str,
    typer.Option(
        "--operator-namespace",
        help="The namespace whose Secrets and ConfigMaps cluster policies may refer to.",
        metavar="NAMESPACE",
    ),
]

TokenModules = Annotated[
    list[Path] | None,
    typer.Option(
        "--pkcs11-module",
        help="A PKCS#11 module that cluster policies may read keys by (pkcs11:…); loading it runs it. Repeatable.",
        metavar="FILE",
    ),
]
TokenPins = Annotated[
    Path | None,
    typer.Option("--pkcs11-pins", help="The directory that pin-source of a pkcs11: key may point into.", metavar="DIR"),
]
TufUrl = Annotated[
    str,
    typer.Option(
        "--tuf-url",
        help="Where sigstore's public trust root is published: a mirror's URL; empty: nobody is asked, and the one of this version counts.",
        metavar="URL",
    ),
]
TufRoot = Annotated[
    Path | None,
    typer.Option(
        "--tuf-root",
        help="The TUF root.json to begin with, if --tuf-url is a repository of your own.",
        metavar="FILE",
    ),
]


def misused(*complaints: str) -> NoReturn:
    """Says what is wrong with what was given, and exits with 2."""
    for complaint in complaints:
        typer.echo(f"kubectl-trust: {complaint}", err=True)
    raise typer.Exit(2)


def modules(paths: Sequence[Path] | None, pins: Path | None) -> Modules:
    """The PKCS#11 modules permitted on the command line. Exits with 2 if one is not named in full."""
    for path in paths or ():
        if not path.is_absolute():
            misused(f"--pkcs11-module {path}: not an absolute path, so what is loaded would depend on where we stand")
    return Modules(tuple(paths or ()), pins)


def tuf(url: str, root: Path | None) -> Tuf:
    """What the two options say. Exits with 2 if the file cannot be read."""
    if root is None:
        return Tuf(url)
    try:
        return Tuf(url, Start(root.read_bytes()))
    except OSError as e:
        misused(str(e))


def load_policies(files: Sequence[Path], home: str) -> PolicyStore:
    """The policies in `files`, ready to be judged by. Raises `Invalid` with every complaint, or OSError."""
    store = PolicyStore()
    put_policies(store, UsesHere(), load_files(files), home, ask_nobody)
    return store


def put_policies(
    store: PolicyStore, uses: UsesHere, loaded: Loaded, home: str, read_remote: ReadRemote
) -> Sequence[Policy]:
    """Replaces what is in `store` by what was loaded. Raises `Invalid` with every complaint, and then changes nothing."""
    policies = loaded.policies(FORMATS, home, read_remote)
    if not policies:
        raise Invalid(f"{', '.join(map(str, loaded.files))}: no TrustPolicy or ClusterTrustPolicy")
    for name, labels in loaded.namespaces.items():
        store.put_namespace(name, labels)
    store.replace_all(policies)
    uses.learn(loaded.uses)
    store.replace_exceptions(loaded.exceptions.values())
    store.set_ready()
    return policies


def docker_config() -> Path:
    """The user's docker config, where docker itself looks for it."""
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def registry_settings(file: Path | None, *, plain_http: bool) -> SettingsFile | RegistrySettings:
    """How registries are reached. Exits with 2 if the file is wrong."""
    if plain_http:
        if file is not None:
            misused("--plain-http and --registries: give one of them; a registries.yaml says plainHTTP for each host")
        return RegistrySettings.plain_http_everywhere()
    if file is None:
        return RegistrySettings.empty()
    try:
        return SettingsFile(file)
    except (Invalid, OSError) as e:
        misused(str(e))


_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the commands that judge have in common."""

    policies: Sequence[Path]
    registries: Path | None
    plain_http: bool
    home: str
    at: dt.datetime | None
    modules: Modules
    tuf: Tuf


@dataclass(frozen=True, slots=True)
class Instruments:
    """What a command judges with, policies left aside."""

    client: RegistryClient
    root: PublicGood
    remote: RemoteKeys
    pool: ThreadPoolExecutor
    metrics: Metrics


@contextlib.asynccontextmanager
async def instruments(
    options: Options, settings: SettingsFile | RegistrySettings | None = None
) -> AsyncIterator[Instruments]:
    """For one command, where the user is the operator, so that private addresses may be asked.

    `settings`: of registries, instead of those that the options name.
    """
    if settings is None:
        settings = registry_settings(options.registries, plain_http=options.plain_http)
    async with contextlib.AsyncExitStack() as stack:
        client = RegistryClient(settings, private_addresses=True)
        stack.push_async_callback(client.close)
        metrics = Metrics()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trusted-images-")))
        root = hosting.public_good(client, folder, options.tuf, metrics)
        remote = hosting.remote_keys(client, options.modules, root)
        yield Instruments(client, root, remote, stack.enter_context(hosting.checking_pool()), metrics)


@contextlib.asynccontextmanager
async def judging(options: Options) -> AsyncIterator[tuple[Decider, Sequence[Policy]]]:
    """The judge over local files, and the policies in them, for one command. What is dangerous in them goes to standard error."""
    keychain = DockerConfigKeychain(docker_config())
    async with instruments(options) as tools:
        store, uses = PolicyStore(), UsesHere()
        try:
            loaded = load_files(options.policies)
            await tools.remote.look_first(loaded.remote_keys(FORMATS, options.home))
            policies = put_policies(store, uses, loaded, options.home, tools.remote.read)
        except (Invalid, OSError) as e:
            misused(*(e.complaints if isinstance(e, Invalid) else (str(e),)))
        for policy in policies:
            for danger in parse.warnings(policy):
                typer.echo(f"kubectl-trust: warning: policy {policy.key}: {explain.warning(danger)}", err=True)
        if tools.root.trouble is not None:
            typer.echo(f"kubectl-trust: sigstore's trust root could not be refreshed: {tools.root.trouble}", err=True)
        at = options.at
        clock = hosting.now if at is None else lambda: at
        judge = hosting.composed(store, tools.client, lambda _: keychain, tools.pool, tools.metrics, clock, uses=uses)
        async with judge as decider:
            yield decider, policies


def parse_time(text: str | None) -> dt.datetime | None:
    """`--at`: RFC 3339 with an offset. Exits with 2 if it is none."""
    if text is None:
        return None
    # The library reads more than RFC 3339, a day alone among it, which could be any of 24 hours.
    if not _RFC_3339.fullmatch(text):
        misused(f"--at {text}: not a time with its offset; write it like 2026-11-24T00:38:00Z")
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError as e:
        misused(f"--at {text}: {e}")
