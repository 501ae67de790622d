"""`kubectl trust status`: whether images are judged in this cluster, and by what. With the user's own rights, and reading only."""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from webhook.cli import cluster, hosting, local, statusevents, statuspolicies, statuswebhooks
from webhook.cli.cluster import Context, Kubeconfig
from webhook.cli.output import Output
from webhook.cli.statuslines import Line, State, not_understood, time_of
from webhook.kube import KubeError, is_name
from webhook.parsing import quote

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
        ("webhooks", statuswebhooks.configurations),
        ("certificate", statuswebhooks.certificate),
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
        except Exception as e:  # noqa: BLE001 - whoever may write one thing in a cluster must not hide all others
            answered = True
            yield not_understood(about, e)


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
