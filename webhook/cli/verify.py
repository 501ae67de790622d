"""`kubectl trust verify`: whether these images would be admitted."""

import asyncio
import contextlib
from typing import Annotated, Final

import typer

from webhook.cli import importing, local, namespaces
from webhook.cli.importing import NotationTrustPolicy, NotationTrustStore
from webhook.cli.local import Home, PlainHTTP, PolicyFiles, RegistriesFile, TokenModules, TokenPins, TufRoot, TufUrl
from webhook.cli.output import Output, by_image, exit_code, print_judgements
from webhook.judge.enforce import verdict_of
from webhook.judge.workload import Placed, Question
from webhook.keys import publicgood
from webhook.parsing import Invalid
from webhook.policy.policy import Workload
from webhook.verdict import Judgement

HELP: Final = """Judge images by policies in files, without a cluster.

The same judge as at admission, with the credentials of your docker config.

\b
  kubectl trust verify ghcr.io/acme/web:v7 --policy shop.yaml
  kubectl trust verify ghcr.io/acme/web:v7 --policy cluster.yaml --namespace shop
  kubectl trust verify 127.0.0.1:5000/app:v1 -p policy.yaml --plain-http -o json
  kubectl trust verify ghcr.io/acme/web:v7 --notation-trust-policy ~/.config/notation/trustpolicy.json
"""


def command(
    images: Annotated[list[str], typer.Argument(help="Image references.", metavar="IMAGE...")],
    policy: PolicyFiles = [],  # noqa: B006 - not changed, and an option's default is a list
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            help="Judge as in this namespace. Without it: the one that the TrustPolicies are for; default, if there are none.",
        ),
    ] = None,
    registries: RegistriesFile = None,
    plain_http: PlainHTTP = False,
    at: Annotated[str | None, typer.Option(help="Judge as at this time (RFC 3339).", metavar="TIME")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print.")] = Output.text,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, help="Seconds until what was not read is undecided.")
    ] = 30.0,
    operator_namespace: Home = "trusted-images",
    pkcs11_module: TokenModules = None,
    pkcs11_pins: TokenPins = None,
    tuf_url: TufUrl = publicgood.URL,
    tuf_root: TufRoot = None,
    notation_trust_policy: NotationTrustPolicy = None,
    notation_trust_store: NotationTrustStore = None,
) -> None:
    """Judges each image as the main container of a Pod with the default service account."""
    modules, time = local.modules(pkcs11_module, pkcs11_pins), local.parse_time(at)
    tuf = local.tuf(tuf_url, tuf_root)
    with contextlib.ExitStack() as stack:
        try:
            files = stack.enter_context(
                importing.policy_files(policy, notation_trust_policy, notation_trust_store, operator_namespace)
            )
        except (Invalid, OSError) as e:
            local.misused(*(e.complaints if isinstance(e, Invalid) else (str(e),)))
        options = local.Options(files, registries, plain_http, operator_namespace, time, modules, tuf)
        judgements = asyncio.run(_judge(options, images, namespace, timeout))
    print_judgements(judgements, output)
    raise typer.Exit(exit_code(verdict_of(group) for group in by_image(judgements).values()))


async def _judge(options: local.Options, images: list[str], given: str | None, seconds: float) -> list[Judgement]:
    async with local.judging(options) as (decider, policies):
        namespaces.insist(policies, given)
        who = Workload(namespaces.assumed(policies, given), "default", {})
        if given is None and who.namespace != namespaces.DEFAULT:
            typer.echo(f"kubectl-trust: judged as in namespace {who.namespace}, which the policies are for", err=True)
        deadline = asyncio.get_running_loop().time() + seconds
        distinct = list(dict.fromkeys(images))
        questions = [Question(who, (), (Placed("", image, "main"),)) for image in distinct]
        # One question each, so that the answers come in the order of the images; what they share is fetched once.
        answers = await asyncio.gather(*(decider.judgements(question, deadline) for question in questions))
        return [judgement for judgements in answers for judgement in judgements]
