"""`kubectl trust serve`: the webhook, with its policies from files and no cluster."""

import asyncio
import contextlib
import gc
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from webhook.admission.tls import ServingCertificate, write_self_signed
from webhook.cli import hosting, local, running
from webhook.cli.hosting import Ports, Tuf
from webhook.cli.local import Home, PolicyFiles, RegistriesFile, TokenModules, TokenPins, TufRoot, TufUrl
from webhook.cli.records import RecordsFile
from webhook.cli.running import ANY_ADDRESS, Address, DrainSeconds, LogFormatOption, MetricsPort, Port
from webhook.formats import FORMATS
from webhook.keys import publicgood
from webhook.keys.files import ReadRemote, ask_nobody, load_files
from webhook.keys.pkcs11 import Modules
from webhook.keys.remote import RemoteKeys
from webhook.memory.records import Records
from webhook.memory.store import PolicyStore
from webhook.memory.uses import UsesHere
from webhook.observe.log import LogFormat, ReviewLog, log_to
from webhook.observe.metrics import Metrics
from webhook.observe.watchdog import Watchdog
from webhook.parsing import Invalid
from webhook.policy.keyref import RemoteKey
from webhook.registry.client import RegistryClient
from webhook.registry.dockerconfig import DockerConfigKeychain

HELP: Final = """Run the webhook with policies from files, without a cluster.

Policies, keys, registries, credentials and the certificate are read again when their files change.

Reviews are POSTed to /validate, writes of policies to /validate-policies; /livez, /readyz, /metrics have their own port.

\b
  kubectl trust serve --policy shop.yaml --tls-cert tls.crt --tls-key tls.key
  kubectl trust serve --policy shop.yaml --address 127.0.0.1      # makes a certificate for localhost
"""

_log = logging.getLogger(__name__)

_POLICY_SECONDS: Final = 1.0


def command(
    policy: PolicyFiles,
    tls_cert: Annotated[
        Path | None, typer.Option(help="The serving certificate, PEM with its chain.", metavar="FILE")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.", metavar="FILE")] = None,
    registries: RegistriesFile = None,
    address: Address = ANY_ADDRESS,
    port: Port = 8443,
    metrics_port: MetricsPort = 8080,
    drain_seconds: DrainSeconds = 5.0,
    log_format: LogFormatOption = LogFormat.json,
    operator_namespace: Home = "trusted-images",
    pkcs11_module: TokenModules = None,
    pkcs11_pins: TokenPins = None,
    tuf_url: TufUrl = publicgood.URL,
    tuf_root: TufRoot = None,
    outage_records: Annotated[
        Path | None,
        typer.Option(
            help="Keep records of what was verified here, for policies with onOutage: last-known-good.",
            show_default="in memory",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Serves until SIGTERM or SIGINT; reviews under way are answered first."""
    log_to(sys.stderr, log_format)
    if (tls_cert is None) != (tls_key is None):
        local.misused("--tls-cert and --tls-key belong together")
    metrics = Metrics()
    store = PolicyStore()
    modules = local.modules(pkcs11_module, pkcs11_pins)
    tuf = local.tuf(tuf_url, tuf_root)
    files = PolicyFilesInForce(store, policy, operator_namespace, metrics)
    try:
        files.load()
    except (Invalid, OSError) as e:
        local.misused(*(e.complaints if isinstance(e, Invalid) else (str(e),)))
    settings = local.registry_settings(registries, plain_http=False)
    records = Records()
    kept = None if outage_records is None else RecordsFile(outage_records, records)
    try:
        if kept is not None:
            kept.read()
    except (Invalid, OSError) as e:
        local.misused(f"--outage-records: {e}")
    with _certificate(tls_cert, tls_key, address) as certificate:
        serving = _serve(
            store=store,
            files=files,
            client=lambda: RegistryClient(settings, observe=metrics.fetched),
            modules=modules,
            tuf=tuf,
            certificate=certificate,
            metrics=metrics,
            records=records,
            kept=kept,
            home=operator_namespace,
            address=address,
            ports=Ports(port, metrics_port),
            drain_seconds=drain_seconds,
            log_format=log_format,
        )
        try:
            running.run(serving)
        except hosting.CannotListen as e:
            local.misused(str(e))


class PolicyFilesInForce:
    """Policies from files, read again when a file changes. A set that is wrong is refused as a whole, loudly."""

    def __init__(self, store: PolicyStore, files: Sequence[Path], home: str, metrics: Metrics) -> None:
        self._store = store
        self._files = files
        self._home = home
        self._metrics = metrics
        self._state: tuple[tuple[int, int, int], ...] = ()
        self._read_remote: ReadRemote = ask_nobody
        self._wanted: frozenset[RemoteKey] = frozenset()
        self.fault: str | None = None
        self.uses = UsesHere()
        hosting.gauge_exceptions(metrics, self._states)

    def _states(self) -> list[str]:
        known = [one for of_namespace in self._store.snapshot.exceptions.values() for one in of_namespace]
        return [one.state(hosting.now(), used_up=self.uses.is_used_up(one)) for one in known]

    def load(self) -> None:
        """Reads the files. Raises `Invalid` or OSError, and then what was in force stays so."""
        self._state = self._stat()
        loaded = load_files(self._files)
        policies = local.put_policies(self._store, self.uses, loaded, self._home, self._read_remote)
        self._wanted = loaded.remote_keys(FORMATS, self._home)
        self._metrics.policies.labels("in_force").set(len(policies))
        # What is loaded now lives long: a full collection need not walk it every time.
        gc.collect()
        gc.freeze()

    async def keep_fresh(self, seconds: float = _POLICY_SECONDS) -> None:
        """Looks at the files until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            if self._stat() != self._state:
                self._load_again()

    async def read_keys(self, remote: RemoteKeys) -> None:
        """Reads the keys outside the files from now on, those that are named now at once."""
        self._read_remote = remote.read
        if self._wanted:
            await remote.look_first(self._wanted)
            self._load_again()

    async def follow_keys(self, remote: RemoteKeys) -> None:
        """Reads them again until cancelled, each when it is due."""
        await remote.follow(lambda: self._wanted, lambda _: self._load_again())

    def _load_again(self) -> None:
        try:
            self.load()
        except (Invalid, OSError) as e:
            # Not ready, so that this replica is taken out of service: it would judge by policies nobody wants any more.
            self.fault = f"policy files: {e}"
            _log.error("%s", self.fault)
        else:
            self.fault = None
            _log.info("policies read again")

    def _stat(self) -> tuple[tuple[int, int, int], ...]:
        states = []
        for file in self._files:
            try:
                found = file.stat()
                states.append((found.st_ino, found.st_mtime_ns, found.st_size))
            except OSError:
                states.append((0, 0, 0))
        return tuple(states)


@contextlib.contextmanager
def _certificate(certificate: Path | None, key: Path | None, address: str) -> Iterator[ServingCertificate]:
    """The pair that was given, or one made for this run."""
    with tempfile.TemporaryDirectory(prefix="trusted-images-") as folder:
        if certificate is None or key is None:
            names = ["localhost", "127.0.0.1", "::1"]
            if address not in {"0.0.0.0", "::", *names}:  # noqa: S104 - compared, not bound
                names.append(address)
            certificate, key = write_self_signed(Path(folder), names, hosting.now())
            typer.echo(
                f"No certificate given; made one for {', '.join(names)}. Trust it with --cacert {certificate}", err=True
            )
        try:
            pair = ServingCertificate(certificate, key)
        except (OSError, ValueError) as e:
            local.misused(f"{certificate}: {e}")
        yield pair


async def _serve(
    *,
    store: PolicyStore,
    files: PolicyFilesInForce,
    client: Callable[[], RegistryClient],
    modules: Modules,
    tuf: Tuf,
    certificate: ServingCertificate,
    metrics: Metrics,
    records: Records,
    kept: RecordsFile | None,
    home: str,
    address: str,
    ports: Ports,
    drain_seconds: float,
    log_format: LogFormat,
) -> None:
    stopping = running.signals()
    keychain = DockerConfigKeychain(local.docker_config())
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(Watchdog("webhook", metrics).watching())
        registries = client()
        stack.push_async_callback(registries.close)
        log = ReviewLog(log_format=log_format)
        stack.callback(log.close)
        pool = stack.enter_context(hosting.checking_pool())
        judge = hosting.composed(store, registries, lambda _: keychain, pool, metrics, uses=files.uses, records=records)
        decider = await stack.enter_async_context(judge)
        background = await stack.enter_async_context(running.background())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trusted-images-")))
        remote = hosting.remote_keys(registries, modules, hosting.public_good(registries, folder, tuf, metrics))
        await files.read_keys(remote)
        background(files.keep_fresh())
        background(decider.follow_changes())
        if kept is not None:
            background(kept.work())
        background(files.follow_keys(remote))
        background(certificate.keep_fresh(lambda ends: metrics.certificate_expiry.set(ends.timestamp())))

        def not_ready() -> str | None:
            if not stopping.empty():
                return "shutting down"
            return files.fault if store.is_ready else "the policies have not been read yet"

        listening = hosting.listening(
            decider, metrics, log, certificate.context, home=home, address=address, ports=ports, not_ready=not_ready
        )
        bound = await stack.enter_async_context(listening)
        policies = len(store.snapshot.index.policies)
        _log.info(
            "serving %d policies on https://%s:%d/validate, metrics on port %d",
            policies,
            address,
            bound.webhook,
            bound.metrics,
        )
        await running.stopped(stopping, drain_seconds)
