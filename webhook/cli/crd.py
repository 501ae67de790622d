"""`kubectl trust crd`: the custom resource definitions, from the structs that read the resources."""

from typing import Final

import typer
import yaml

from webhook.formats import FORMATS
from webhook.policy.schema import definitions

HELP: Final = """Print the custom resource definitions, to apply without the chart.

\b
  kubectl trust crd | kubectl apply --server-side -f -
"""


def command() -> None:
    """Prints one YAML document a kind; equal schemas give equal bytes."""
    typer.echo(render(), nl=False)


def render() -> str:
    """What the chart and `manifests/` hold, too."""
    return yaml.safe_dump_all(definitions(FORMATS), sort_keys=False, width=120, allow_unicode=True)
