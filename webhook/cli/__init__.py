"""The kubectl-trust command.

`kubectl trust …` works when it is on the PATH. Exit codes everywhere: 0 allowed, 1 denied, 2 could not verify or misused.
One row per subcommand; each imports what it needs when it runs, so that `--help` and completion are instant.
"""

import os
import shlex
import sys
from typing import Annotated

import typer

from webhook import __version__
from webhook.cli import check, crd, demo, operate, serve, status, verify, why, withdraw

app = typer.Typer(
    name="kubectl-trust",
    help="Decides which container images may run, by who signed them.",
    epilog="Exit codes: 0 allowed, 1 denied, 2 could not verify or misused.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"kubectl-trust {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Decides which container images may run, by who signed them."""


app.command("demo", help=demo.HELP)(demo.command)
app.command("verify", help=verify.HELP)(verify.command)
app.command("check", help=check.HELP)(check.command)
app.command("status", help=status.HELP)(status.command)
app.command("why", help=why.HELP)(why.command)
app.command("serve", help=serve.HELP)(serve.command)
app.command("operate", help=operate.HELP)(operate.command)
app.command("withdraw", help=withdraw.HELP)(withdraw.command)
app.command("crd", help=crd.HELP)(crd.command)


def main() -> None:
    """The entry point."""
    app()


def complete() -> None:
    """The entry point of `kubectl_complete-trust`: what kubectl runs to complete `kubectl trust …`.

    kubectl hands over the words typed so far, the last of them unfinished; the answer is one completion a line, then the
    directive `:4`, which says that they are no file names. Source: kubectl plugins, "shell completion for plugins".
    """
    words = sys.argv[1:] or [""]
    # The protocol of the command's own completion scripts, so that there is one source of completions.
    os.environ.update(
        {
            "_KUBECTL_TRUST_COMPLETE": "complete_bash",
            "COMP_WORDS": shlex.join(["kubectl-trust", *words[:-1]]) + f" {words[-1]}",
            "COMP_CWORD": str(len(words)),
        }
    )
    try:
        app(prog_name="kubectl-trust")
    except SystemExit:
        typer.echo("\n:4")
