"""`kubectl trust operate`: the webhook in a cluster, with everything that follows the cluster put together."""

import asyncio
import contextlib
import datetime as dt
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from webhook import limits
from webhook.cli import hosting, local, running
from webhook.cli.hosting import Ports, Tuf
from webhook.cli.local import RegistriesFile, TokenModules, TokenPins, TufRoot, TufUrl
from webhook.cli.running import ANY_ADDRESS, Address, DrainSeconds, LogFormatOption, MetricsPort, Port
from webhook.cli.secretfiles import SecretFiles
from webhook.formats import FORMATS
from webhook.judge.decide import FindNamespace, KeychainOf
from webhook.judge.workload import Question
from webhook.keys import publicgood
from webhook.keys.kept import KeptKeys
from webhook.keys.pkcs11 import Modules
from webhook.keys.remote import RemoteKeys
from webhook.kube import KubeError, is_name
from webhook.memory.records import Records
from webhook.memory.store import PolicyStore
from webhook.observe.log import LogFormat, ReviewLog, log_to
from webhook.observe.metrics import Metrics
from webhook.observe.notify import Notifier, notifying, parse_notify_url
from webhook.observe.watchdog import Watchdog
from webhook.parsing import Invalid
from webhook.registry.client import RegistryClient
from webhook.registry.settings import RegistrySettings, SettingsFile
from webhook.trust import Keychain

if TYPE_CHECKING:
    import yarl

    # The extra `operator`: its libraries are imported when the command runs.
    from webhook.background.work import Background
    from webhook.kube.client import Kube
    from webhook.kube.lease import Lease
    from webhook.operator.exceptions import Exceptions
    from webhook.operator.installation import Installation
    from webhook.operator.policies import Policies
    from webhook.operator.uses import ClusterUses

HELP: Final = """Run the webhook in a cluster: what the chart's Deployment runs.

Policies, namespaces, keys and pull secrets come from the API server. One replica, the leader, also writes status, the serving
certificate and the webhook configuration.
"""

_log = logging.getLogger(__name__)

_RECORDS_SECONDS: Final = 5.0
_STATES: Final = ("in_force", "unresolved", "broken")


def command(
    namespace: Annotated[
        str, typer.Option(envvar="POD_NAMESPACE", help="The namespace of this installation.")
    ] = "trusted-images",
    identity: Annotated[
        str, typer.Option(envvar="POD_NAME", help="This replica's name.", show_default="the host's name")
    ] = "",
    name: Annotated[
        str, typer.Option(help="The name of the Service, the Lease and the ClusterRole.")
    ] = "trusted-images",
    tls_secret: Annotated[
        str, typer.Option(help="The Secret with the serving certificate.", show_default="NAME-tls")
    ] = "",
    manage_certificate: Annotated[
        bool, typer.Option(help="Make and renew the certificate, or leave that to whoever fills the Secret.")
    ] = True,
    registries: RegistriesFile = None,
    address: Address = ANY_ADDRESS,
    port: Port = 8443,
    metrics_port: MetricsPort = 8080,
    drain_seconds: DrainSeconds = 5.0,
    log_format: LogFormatOption = LogFormat.json,
    pkcs11_module: TokenModules = None,
    pkcs11_pins: TokenPins = None,
    notify_url: Annotated[
        str,
        typer.Option(
            envvar="NOTIFY_URL", help="Where each use of an exception is told, as JSON.", show_default="nowhere"
        ),
    ] = "",
    tuf_url: TufUrl = publicgood.URL,
    tuf_root: TufRoot = None,
    rescan_hours: Annotated[
        float, typer.Option(min=0.1, max=720, help="How often all that runs is judged again, if nothing else makes it.")
    ] = 12.0,
    outage_records: Annotated[
        int,
        typer.Option(
            min=0,
            max=limits.MAX_RECORDS,
            help="How many records of what was verified are kept in the cluster, for policies with onOutage: last-known-good. 0: none.",
        ),
    ] = 8_000,
    keep_keys: Annotated[
        bool,
        typer.Option(
            help="Keep in the cluster what was read of keys outside it, for when all replicas restart in an outage."
        ),
    ] = True,
) -> None:
    """Serves until SIGTERM or SIGINT; reviews under way are answered first."""
    try:
        from webhook.operator.installation import Installation
    except ImportError as e:
        local.misused(f"{e.name} is not installed: the extra `operator` has what runs in a cluster")
    log_to(sys.stderr, log_format)
    settings = local.registry_settings(registries, plain_http=False)
    installation = Installation(
        namespace=namespace,
        service=name,
        secret=tls_secret or f"{name}-tls",
        configuration=f"{name}-webhook",
        owner=name,
        managed=manage_certificate,
    )
    try:
        notify = parse_notify_url(notify_url) if notify_url else None
    except Invalid as e:
        local.misused(f"--notify-url: {e}")
    serving = _operate(
        installation,
        settings,
        local.modules(pkcs11_module, pkcs11_pins),
        notify,
        local.tuf(tuf_url, tuf_root),
        Records(outage_records),
        identity=identity or socket.gethostname(),
        address=address,
        ports=Ports(port, metrics_port),
        drain_seconds=drain_seconds,
        rescan_hours=rescan_hours,
        keep_keys=keep_keys,
        log_format=log_format,
    )
    try:
        running.run(serving)
    except (KubeError, hosting.CannotListen) as e:
        local.misused(str(e))


async def _operate(
    installation: "Installation",
    settings: SettingsFile | RegistrySettings,
    modules: Modules,
    notify: "yarl.URL | None",
    tuf: Tuf,
    records: Records,
    *,
    identity: str,
    address: str,
    ports: Ports,
    drain_seconds: float,
    rescan_hours: float,
    keep_keys: bool,
    log_format: LogFormat,
) -> None:
    from webhook.background.work import Background
    from webhook.cli.expiries import gauge_expiries
    from webhook.keys.cluster import ClusterKeys
    from webhook.kube.client import Kube, connected
    from webhook.kube.lease import Lease
    from webhook.operator.outages import OutageEvents
    from webhook.operator.owned import owner_of
    from webhook.operator.policies import Policies
    from webhook.operator.refusals import RefusalEvents

    stopping = running.signals()
    metrics, store = Metrics(), PolicyStore()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(Watchdog("webhook", metrics).watching())
        kube: Kube = await stack.enter_async_context(connected())
        registries = RegistryClient(settings, observe=metrics.fetched)
        stack.push_async_callback(registries.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trusted-images-")))
        kept = KeptKeys(hosting.now) if keep_keys else None
        root = hosting.public_good(registries, folder, tuf, metrics, kept)
        remote = hosting.remote_keys(registries, modules, root, kept)
        metrics.held_keys.set_function(lambda: remote.held_count)
        policies = Policies(
            store, ClusterKeys(kube), remote, FORMATS, installation.namespace, lambda: _count(policies, metrics)
        )
        lease = Lease(
            kube, installation.namespace, installation.service, identity, lambda: owner_of(kube, installation)
        )
        uses = _uses(kube, store, metrics, await stack.enter_async_context(notifying(notify)))
        gauge_expiries(metrics, policies, uses.exceptions)
        pool = stack.enter_context(hosting.checking_pool())
        keychain_of, find_namespace = _asking(kube, store)
        judge = hosting.composed(
            store, registries, keychain_of, pool, metrics, find_namespace=find_namespace, uses=uses, records=records
        )
        decider = await stack.enter_async_context(judge)
        what_runs = Background(
            kube, store, decider, installation, metrics.running, dt.timedelta(hours=rescan_hours), hosting.now,
            lambda: policies.in_force, lambda: uses.exceptions.known,
        )  # fmt: skip
        # Given back after the work has ended, or it would be taken again.
        stack.push_async_callback(lease.release)
        background = await stack.enter_async_context(running.background())
        end_leading = background(
            lease.lead(_leading(kube, policies, uses.exceptions, installation, metrics, what_runs))
        )
        background(await _keep(kube, installation, kept, remote))
        background(_following(kube, installation, policies, uses.exceptions, store, metrics, stopping))
        outages, refusals = OutageEvents(kube, policies), RefusalEvents(kube, metrics)
        background(_together(uses.work, outages.work, refusals.work))

        log = ReviewLog(log_format=log_format)
        stack.callback(log.close)

        secret = SecretFiles(kube, installation.secret_path, folder)
        certificate = await secret.first(stopping)
        if certificate is None:
            return
        background(secret.keep_fresh(certificate, lambda ends: metrics.certificate_expiry.set(ends.timestamp())))
        background(_together(decider.follow_changes, await _remember(kube, installation, records)))

        def not_ready() -> str | None:
            if not stopping.empty():
                return "shutting down"
            return None if store.is_ready else "the policies have not been read yet"

        listening = hosting.listening(
            decider, metrics, log, certificate.context,
            home=installation.namespace, address=address, ports=ports, not_ready=not_ready, tell=uses.tell,
            bear=outages.tell, tell_refusal=refusals.tell,
        )  # fmt: skip
        bound = await stack.enter_async_context(listening)
        _log.info("serving on https://%s:%d/validate, metrics on port %d", address, bound.webhook, bound.metrics)
        await running.stopped(stopping, drain_seconds, lambda: _lead_no_longer(end_leading, lease))


async def _lead_no_longer(end: running.End, lease: "Lease") -> None:
    """At once: while this replica answers its last reviews, the release may be removed, and another installed by its names."""
    await end()
    await lease.release()


def _asking(kube: "Kube", store: PolicyStore) -> tuple[KeychainOf, FindNamespace]:
    """What a question needs from the API server: the logins of its Pod, and the labels of a namespace nobody has told us of."""
    from webhook.kube.pullsecrets import Puller, PullSecrets

    pull_secrets = PullSecrets(kube)

    def keychain_of(question: Question) -> Keychain:
        who = question.who
        return pull_secrets.of(Puller(who.namespace, who.service_account, question.pull_secrets))

    async def find_namespace(name: str) -> None:
        found = await kube.get(f"/api/v1/namespaces/{name}") if is_name(name) else None
        if found is not None:
            store.put_namespace(name, found["metadata"].get("labels") or {})

    return keychain_of, find_namespace


def _uses(kube: "Kube", store: PolicyStore, metrics: Metrics, notifier: Notifier | None) -> "ClusterUses":
    """Who follows the exceptions into `store`, and counts their uses."""
    from webhook.operator.exceptions import Exceptions
    from webhook.operator.exceptionstatus import state_of
    from webhook.operator.uses import ClusterUses

    exceptions = Exceptions(store)
    hosting.gauge_exceptions(metrics, lambda: [state_of(one, hosting.now()) for one in exceptions.known.values()])
    return ClusterUses(kube, exceptions, hosting.now, notifier)


async def _remember(
    kube: "Kube", installation: "Installation", records: Records
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Reads what was verified before we started; returns what keeps it up from then on. A start waits a little for it."""
    from webhook.operator.records import ClusterRecords

    if not records.most:
        return lambda: asyncio.sleep(0)
    kept = ClusterRecords(kube, installation, records, hosting.now)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_RECORDS_SECONDS):
            await kept.read()
    return kept.work


async def _keep(
    kube: "Kube", installation: "Installation", kept: KeptKeys | None, remote: RemoteKeys
) -> Coroutine[Any, Any, None]:
    """Reads which keys were kept before we started; returns what keeps them up. Before the policies, whose first look at keys needs it."""
    from webhook.operator.keptkeys import ClusterKeptKeys

    if kept is None:
        return asyncio.sleep(0)
    cluster = ClusterKeptKeys(kube, installation, kept, remote.ask_again)
    await cluster.read()
    return cluster.work()


def _leading(
    kube: "Kube",
    policies: "Policies",
    exceptions: "Exceptions",
    installation: "Installation",
    metrics: Metrics,
    what_runs: "Background",
) -> Callable[[], Coroutine[Any, Any, None]]:
    """What a replica does for as long as it leads. `what_runs`: what it does about that."""
    from webhook.operator.duty import Duty
    from webhook.operator.exceptionstatus import ExceptionStatuses
    from webhook.operator.leader import Leader

    duty = Duty(kube, installation, metrics, what_runs.standing)
    leader = Leader(kube, policies, installation, hosting.now, installation.reaches_replica, duty)
    statuses = ExceptionStatuses(kube, exceptions, policies.in_force.keys, hosting.now)
    return lambda: _leads(metrics, what_runs.every, leader.work, statuses.work, what_runs.work)


async def _leads(metrics: Metrics, every: dt.timedelta, *works: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """All that a leader does, until something of it fails or it is cancelled. `every`: how often it judges all that runs."""
    with metrics.leader.track_inprogress(), metrics.lists.kept(every.total_seconds()):
        await _together(*works)


async def _together(*works: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """All of them, until one fails or they are cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for work in works:
            tasks.create_task(work())


def _count(policies: "Policies", metrics: Metrics) -> None:
    for state in _STATES:
        metrics.policies.labels(state).set(policies.states[state])


async def _following(
    kube: "Kube",
    installation: "Installation",
    policies: "Policies",
    exceptions: "Exceptions",
    store: PolicyStore,
    metrics: Metrics,
    stopping: running.Stopping,
) -> None:
    """Follows the cluster. Should that end by itself, the process does, too: it would judge by policies of long ago."""
    from webhook.operator import resync
    from webhook.operator.configuration import withdraw_with_namespace
    from webhook.operator.handlers import follow

    going = asyncio.Event()

    def goes(namespace: str) -> None:
        if namespace == installation.namespace:
            going.set()

    listed = metrics.listed.set_to_current_time
    await resync.first_list(kube, policies, exceptions, store, listed)
    _log.info("%d policies are in force", len(policies.in_force))
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow(policies, exceptions, store, goes, Watchdog("kopf", metrics).watching))
            tasks.create_task(withdraw_with_namespace(kube, installation, going))
            tasks.create_task(policies.follow_keys())
            tasks.create_task(policies.follow_remote_keys())
            tasks.create_task(resync.compare(kube, policies, exceptions, store, listed))
    finally:
        stopping.put_nowait(signal.SIGTERM)
