"""`kubectl trust check`: whether these objects would be admitted."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from webhook import limits
from webhook.admission.review import Malformed, Unjudged, parse_review
from webhook.cli import local, namespaces
from webhook.cli.local import Home, PlainHTTP, PolicyFiles, RegistriesFile, TokenModules, TokenPins, TufRoot, TufUrl
from webhook.cli.output import Output, by_image, exit_code, print_judgements
from webhook.judge.enforce import verdict_of
from webhook.judge.explain import Verdict
from webhook.judge.workload import Question, read_question
from webhook.keys import publicgood
from webhook.parsing import Invalid, quote
from webhook.verdict import Denied, Judgement, Ruling
from webhook.yamltext import read_yaml

HELP: Final = """Judge manifests or recorded AdmissionReviews by policies in files, without a cluster.

\b
  kubectl trust check -f deployment.yaml --policy shop.yaml
  helm template ./app | kubectl trust check -f - --policy cluster.yaml --namespace shop
  kubectl trust check -f admissionreview.json --policy shop.yaml -o json
"""


_PASSED: Final = {
    "deletion": "a deletion, which is not judged",
    "no image": "runs no image",
    "unchanged": "unchanged: every container stood in the old object with the same image",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One object of a file: what it is called, and what it asks; None if nothing, for the reason in `passed`.

    `placed`: it names its namespace itself.
    """

    title: str
    question: Question | Malformed | None
    passed: str = "runs no image"
    placed: bool = True


def command(
    file: Annotated[
        list[str],
        typer.Option(
            "--file", "-f", help="A manifest or AdmissionReview, YAML or JSON; - for standard input. Repeatable."
        ),
    ],
    policy: PolicyFiles,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            help="The namespace of manifests that name none. Without it: the one that the TrustPolicies are for; default, if there are none.",
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
) -> None:
    """Judges every object in the files; those that run no image are passed over."""
    modules = local.modules(pkcs11_module, pkcs11_pins)
    tuf = local.tuf(tuf_url, tuf_root)
    options = local.Options(policy, registries, plain_http, operator_namespace, local.parse_time(at), modules, tuf)
    asked, judgements = asyncio.run(_judge(options, file, namespace, timeout))
    everything = [judgement for group in judgements for judgement in group]
    if output is Output.json:
        print_judgements(everything, output)
    else:
        for one, group in zip(asked, judgements, strict=True):
            typer.echo(one.title if group else f"{one.title}: {one.passed}")
            print_judgements(group, output)
    verdicts: list[Verdict] = [verdict_of(images) for group in judgements for images in by_image(group).values()]
    raise typer.Exit(exit_code(verdicts))


async def _judge(
    options: local.Options, files: Sequence[str], given: str | None, seconds: float
) -> tuple[list[Asked], list[list[Judgement]]]:
    judgements: list[list[Judgement]] = []
    async with local.judging(options) as (decider, policies):
        asked = _read(files, namespaces.assumed(policies, given))
        if any(one.question is not None and not one.placed for one in asked):
            namespaces.insist(policies, given)
        deadline = asyncio.get_running_loop().time() + seconds
        for one in asked:
            match one.question:
                case None:
                    judgements.append([])
                case Malformed():
                    judgements.append([Ruling(("",), "", None, Denied((one.question.reason,)))])
                case Question():
                    judgements.append(list(await decider.judgements(one.question, deadline)))
    return asked, judgements


def _read(files: Sequence[str], namespace: str) -> list[Asked]:
    try:
        asked = [one for name in files for one in read_objects(name, namespace)]
    except (Invalid, OSError) as e:
        local.misused(*(e.complaints if isinstance(e, Invalid) else (str(e),)))
    if not asked:
        # A pipe that broke must not look like a manifest that passed.
        local.misused(f"{', '.join(files)}: no Kubernetes object in it, so nothing was judged")
    return asked


def read_objects(name: str, namespace: str) -> Iterator[Asked]:
    """Every object in the file `name` (`-`: standard input), lists taken apart. Raises `Invalid` or OSError."""
    data = sys.stdin.buffer.read(limits.MAX_REVIEW + 1) if name == "-" else Path(name).read_bytes()
    if len(data) > limits.MAX_REVIEW:
        raise Invalid(f"{name}: more than {limits.MAX_REVIEW} bytes")
    for i, document in enumerate(read_yaml(data, name)):
        for one in _unrolled(document):
            yield _asked(one, f"{name}[{i}]", namespace)


def _unrolled(document: object) -> Iterator[object]:
    items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else None
    if isinstance(items, list):
        for item in items:
            yield from _unrolled(item)
    elif document is not None:
        yield document


def _asked(document: object, where: str, namespace: str) -> Asked:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise Invalid(f"{where}: not a Kubernetes object: it has no kind")
    kind, version = document["kind"], str(document.get("apiVersion", ""))
    data = msgspec.json.encode(document)
    if kind == "AdmissionReview":
        try:
            review = parse_review(data)
        except Invalid as e:
            raise Invalid(*(f"{where}: {complaint}" for complaint in e.complaints)) from e
        asked = review.request
        title = f"AdmissionReview {quote(asked.operation)} {quote(asked.kind.kind)} {quote(asked.namespace)}/{quote(asked.name)}"
        if isinstance(review.asked, Unjudged):
            return Asked(title, None, _PASSED[review.asked.reason])
        return Asked(title, review.asked)
    metadata = document.get("metadata")
    names = metadata if isinstance(metadata, dict) else {}
    placed = bool(names.get("namespace"))
    namespace = str(names.get("namespace") or namespace)
    title = f"{quote(kind)} {quote(namespace)}/{quote(names.get('name', ''))}"
    group = version.rpartition("/")[0]
    try:
        return Asked(title, read_question(group, kind, data, namespace), placed=placed)
    except Invalid as e:
        # Refused, whatever the policies say.
        return Asked(title, Malformed(str(e)))
