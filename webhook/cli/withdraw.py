"""`kubectl trust withdraw`: takes the webhook configuration away; the first step of removing a release."""

import asyncio
from typing import Annotated, Final

import typer

from webhook.cli import local
from webhook.kube import KubeError

HELP: Final = """Take the webhook configuration of an installation away: from then on nothing is judged.

The chart runs it before it is uninstalled. In an emergency it can be run by hand:

\b
  kubectl trust withdraw --namespace trusted-images
"""


def command(
    namespace: Annotated[
        str, typer.Option(envvar="POD_NAMESPACE", help="The namespace of the installation.")
    ] = "trusted-images",
    name: Annotated[str, typer.Option(help="The name of its Service.")] = "trusted-images",
) -> None:
    """Exits with 2 if the API server does not do it."""
    try:
        from webhook.kube.client import connected
        from webhook.operator.configuration import withdraw
        from webhook.operator.installation import Installation
    except ImportError as e:
        local.misused(f"{e.name} is not installed: the extra `operator` has what speaks to a cluster")

    async def run() -> None:
        async with connected() as kube:
            await withdraw(kube, Installation(namespace=namespace, service=name, configuration=f"{name}-webhook"))

    try:
        asyncio.run(run())
    except KubeError as e:
        local.misused(str(e))
    typer.echo(f"nothing is judged by {namespace}/{name} any more", err=True)
