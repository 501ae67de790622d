"""`kubectl trust status`: whether images are judged in this cluster, and by what. With the user's own rights, and reading only."""

import asyncio
import base64
import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Final

import typer
from cryptography import x509

from webhook.cli import cluster, hosting, local, statusevents, statuspolicies
from webhook.cli.cluster import Context, Kubeconfig
from webhook.cli.output import Output
from webhook.cli.statuslines import Line, State, time_of
from webhook.kube import KubeError, is_name
from webhook.parsing import Invalid, quote

if TYPE_CHECKING:
    from webhook.kube.client import Kube
    from webhook.operator.installation import Installation

HELP: Final = """Say whether images are judged in this cluster: replicas, webhook configurations, certificate, policies, exceptions; what runs, and
what was refused, let in or drifted in the last hour.

Read with your kubeconfig; what you may not read is said to be unknown. Exits with 0 if all is well, 1 if something is wrong, 2 if not
everything could be looked at.

\b
  kubectl trust status
  kubectl trust status --namespace security --name images -o json
"""

_SOON: Final = dt.timedelta(days=7)
_LEASE_SECONDS: Final = 60


_COLOURS: Final = {
    State.ok: typer.colors.GREEN, State.note: typer.colors.CYAN, State.wrong: typer.colors.RED, State.unknown: typer.colors.YELLOW,
}  # fmt: skip


def command(
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="The namespace of the installation.")
    ] = hosting.HOME,
    name: Annotated[str, typer.Option(help="The name of its Deployment and Service.")] = hosting.HOME,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print.")] = Output.text,
) -> None:
    """Looks at everything, whatever is wrong with the rest."""
    try:
        from webhook.kube.client import connected
        from webhook.operator.installation import Installation
    except ImportError as e:
        local.misused(f"{e.name} is not installed: the extra `operator` has what speaks to a cluster")
    if not is_name(namespace) or not is_name(name):
        local.misused(f"{quote(namespace)}/{quote(name)}: not the names of a namespace and an installation")
    installation = Installation(
        namespace=namespace, service=name, secret=f"{name}-tls", configuration=f"{name}-webhook", owner=name
    )

    async def run() -> list[Line]:
        async with connected(kubeconfig, context) as kube:
            return [line async for line in look(kube, installation, hosting.now())]

    try:
        lines = asyncio.run(run())
    except KubeError as e:
        cluster.complain(e)
    if output is Output.json:
        said = [{"about": line.about, "state": line.state.value, "text": line.text} for line in lines]
        typer.echo(json.dumps({"installation": f"{namespace}/{name}", "lines": said}, indent=2))
    else:
        for line in lines:
            word = typer.style(f"{line.state.value:<9}", _COLOURS[line.state], bold=line.state is State.wrong)
            typer.echo(f"{line.about:<14}{word}{line.text}")
    states = {line.state for line in lines}
    raise typer.Exit(1 if State.wrong in states else 2 if State.unknown in states else 0)


async def look(kube: "Kube", installation: "Installation", now: dt.datetime) -> AsyncIterator[Line]:
    """Everything about one installation; what may not be looked at costs only its own line. Raises `KubeError` without any answer."""
    answered = False
    for about, lines in (
        ("replicas", _replicas),
        ("leader", _leader),
        ("webhooks", _configurations),
        ("certificate", _certificate),
        ("policies", statuspolicies.policies),
        ("exceptions", statuspolicies.exceptions),
        ("drift", statusevents.drift),
        ("outages", statusevents.outages),
        ("refusals", statusevents.refusals),
    ):
        try:
            async for line in lines(kube, installation, now):
                answered = True
                yield line
        except KubeError as e:
            # All Events of a big cluster may take it longer than we wait.
            if e.status == 401 or (e.status == 0 and not answered):
                raise
            yield Line(about, State.unknown, str(e))


# ── what runs ────────────────────────────────────────────────────────────────────────────────────────────────────────
async def _replicas(kube: "Kube", installation: "Installation", _now: dt.datetime) -> AsyncIterator[Line]:
    found = await kube.get(f"/apis/apps/v1/namespaces/{installation.namespace}/deployments/{installation.service}")
    if found is None:
        place = f"{installation.namespace}/{installation.service}"
        yield Line("replicas", State.wrong, f"there is no Deployment {place}: is it installed elsewhere?")
        return
    wanted, ready = found["spec"].get("replicas", 1), (found.get("status") or {}).get("readyReplicas", 0)
    image = found["spec"]["template"]["spec"]["containers"][0].get("image", "")
    # With one that answers, everything is judged; the others are there so that it stays so.
    state = State.wrong if ready == 0 else State.note if ready < wanted else State.ok
    yield Line("replicas", state, f"{ready} of {wanted} ready, {quote(image)}")


async def _leader(kube: "Kube", installation: "Installation", now: dt.datetime) -> AsyncIterator[Line]:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{installation.namespace}/leases/{installation.service}"
    spec = ((await kube.get(path)) or {}).get("spec") or {}
    if not spec.get("holderIdentity"):
        yield Line("leader", State.wrong, "no replica leads: nobody writes status or renews the certificate")
        return
    seconds = (now - time_of(spec.get("renewTime"))).total_seconds()
    state = State.ok if seconds < _LEASE_SECONDS else State.wrong
    yield Line("leader", state, f"{quote(spec['holderIdentity'])}, seen {max(seconds, 0):.0f} s ago")


# ── whether we are asked ─────────────────────────────────────────────────────────────────────────────────────────────
async def _configurations(kube: "Kube", installation: "Installation", now: dt.datetime) -> AsyncIterator[Line]:
    from webhook.observe.metrics import CONFIGURATIONS
    from webhook.operator.duty import fault_of, trouble_of_unkept
    from webhook.operator.wanted import configurations_in, paths_of

    wanted, wrong = [], None
    try:
        wanted = configurations_in(await kube.get(installation.configuration_path), installation)
    except Invalid as e:
        wrong = e
    if not wanted:
        faults = {
            kind: fault_of(await kube.get(path), {"webhooks": []}) for kind, path in paths_of(installation).items()
        }
        yield Line("webhooks", State.wrong, trouble_of_unkept(faults, wrong, installation).message)
    for path, written in wanted:
        found = await kube.get(path)
        about = CONFIGURATIONS[written["kind"]]
        fault = fault_of(found, written)
        if fault is not None:
            yield Line(about, State.wrong, f"{written['metadata']['name']} is not as it was installed: {fault}")
            continue
        webhooks = (found or {})["webhooks"]
        ends = _last_authority(webhooks[0]["clientConfig"].get("caBundle"))
        if ends is None or ends <= now:
            yield Line(about, State.wrong, "its authorities have ended or cannot be read: API servers reach nobody")
            continue
        ignoring = [one["name"] for one in webhooks if one.get("failurePolicy") == "Ignore"]
        if ignoring:
            yield Line(about, State.note, f"in place; without an answer everything is admitted: {', '.join(ignoring)}")
        else:
            yield Line(about, State.ok, f"in place, fails closed, its authority until {ends:%Y-%m-%d}")


def _last_authority(bundle: object) -> dt.datetime | None:
    """When the last authority of a caBundle ends."""
    try:
        certificates = x509.load_pem_x509_certificates(base64.b64decode(str(bundle or "")))
    except ValueError:
        return None
    return max(one.not_valid_after_utc for one in certificates)


async def _certificate(kube: "Kube", installation: "Installation", now: dt.datetime) -> AsyncIterator[Line]:
    found = await kube.get(installation.secret_path)
    if found is None:
        yield Line("certificate", State.wrong, f"there is no Secret {installation.namespace}/{installation.secret}")
        return
    # Its private key comes along, and is looked at by nobody.
    ends = _last_authority((found.get("data") or {}).get("tls.crt"))
    if ends is None:
        yield Line("certificate", State.wrong, f"Secret {installation.namespace}/{installation.secret} holds none")
    else:
        yield Line("certificate", State.ok if ends - now > _SOON else State.wrong, f"until {ends:%Y-%m-%d %H:%M} UTC")
