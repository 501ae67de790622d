"""`kubectl trust why`: by which rule of the cluster an image is admitted or refused, what was found, and what to do."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from webhook.cli import cluster, hosting, local, whatruns
from webhook.cli.cluster import Context, Kubeconfig, Seen
from webhook.cli.clusterregistries import cluster_registries
from webhook.cli.local import Home, PlainHTTP, RegistriesFile, TokenModules, TokenPins, TufRoot, TufUrl
from webhook.cli.output import Output, by_image, exit_code, headline
from webhook.cli.statuslines import conditions, shown
from webhook.image import parse_reference
from webhook.judge import explain
from webhook.judge.aside import set_aside
from webhook.judge.enforce import verdict_of
from webhook.judge.workload import Placed, Question
from webhook.keys import publicgood
from webhook.kube import KubeError, is_name
from webhook.parsing import Invalid, quote
from webhook.policy.policy import Workload
from webhook.registry.dockerconfig import DockerConfigKeychain
from webhook.verdict import Allowed, Denied, Judgement, NamedFinding, PolicyKey, Ruling, Undecided

if TYPE_CHECKING:
    from webhook.kube.client import Kube

HELP: Final = """Explain by the cluster's own policies why an image, or what a Pod runs, is admitted or refused.

Policies, keys and exceptions are read with your kubeconfig, and judged as at admission: which rule decided, what was found, what to do.

\b
  kubectl trust why ghcr.io/acme/web:v7 -n shop
  kubectl trust why deployment/web -n shop
  kubectl trust why web-5d8f9c7b-x2x7k -n shop -o json
"""


@dataclass(frozen=True, slots=True)
class Explained:
    """The judgements of one question, the policies that were set aside by image, and what is to be said of what runs by image."""

    title: str
    seen: Seen
    judgements: Sequence[Judgement]
    aside: Mapping[str, Mapping[PolicyKey, str]]
    running: Mapping[str, str] = field(default_factory=dict)


def command(
    what: Annotated[
        str, typer.Argument(help="An image, TYPE/NAME as kubectl writes it, or a Pod's name.", metavar="IMAGE|POD")
    ],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="The namespace that it runs in, or would.")
    ] = "default",
    service_account: Annotated[
        str, typer.Option(help="For an image: the service account of the Pod that would run it.")
    ] = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    registries: RegistriesFile = None,
    plain_http: PlainHTTP = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print.")] = Output.text,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, help="Seconds until what was not read is undecided.")
    ] = 30.0,
    operator_namespace: Home = hosting.HOME,
    pkcs11_module: TokenModules = None,
    pkcs11_pins: TokenPins = None,
    tuf_url: TufUrl = publicgood.URL,
    tuf_root: TufRoot = None,
) -> None:
    """Exits as `verify` does: 0 allowed, 1 denied, 2 could not verify, or the cluster could not be read."""
    try:
        from webhook.kube.client import connected
    except ImportError as e:
        local.misused(f"{e.name} is not installed: the extra `operator` has what speaks to a cluster")
    if not is_name(namespace):
        local.misused(f"--namespace {quote(namespace)}: not the name of a namespace")
    modules, tuf = local.modules(pkcs11_module, pkcs11_pins), local.tuf(tuf_url, tuf_root)
    options = local.Options((), registries, plain_http, operator_namespace, None, modules, tuf)

    async def run() -> Explained:
        async with connected(kubeconfig, context) as kube:
            return await _explained(kube, options, what, Workload(namespace, service_account, {}), timeout)

    try:
        explained = asyncio.run(run())
    except KubeError as e:
        cluster.complain(e)
    if output is Output.json:
        typer.echo(json.dumps(_as_json(explained), indent=2))
    else:
        _print(explained)
    raise typer.Exit(exit_code(verdict_of(group) for group in by_image(explained.judgements).values()))


async def _explained(kube: "Kube", options: local.Options, what: str, who: Workload, seconds: float) -> Explained:
    from webhook.kube.pullsecrets import Puller, PullSecrets
    from webhook.operator.uses import ClusterUses

    asked = await cluster.find_object(kube, what, who.namespace)
    if asked is None:
        question = Question(who, (), (Placed("", what, "main"),))
        title, running = f"image {quote(what)} in namespace {who.namespace}", dict[str, str]()
    else:
        question, title, running = asked.question, asked.title, dict(asked.running)
    own, pull_secrets = DockerConfigKeychain(local.docker_config()), PullSecrets(kube)

    def keychain_of(question: Question) -> cluster.EitherKeychain:
        who = question.who
        pods = pull_secrets.of(Puller(who.namespace, who.service_account, question.pull_secrets))
        return cluster.EitherKeychain(pods, own)

    settings, missing = None, None
    if options.registries is None and not options.plain_http:
        settings, missing = await cluster_registries(kube, options.home, hosting.HOME)
    async with local.instruments(options, settings) as tools:
        seen = await cluster.look(kube, who.namespace, options.home, tools.remote)
        uses = ClusterUses(kube, seen.exceptions, hosting.now)
        judge = hosting.composed(seen.store, tools.client, keychain_of, tools.pool, tools.metrics, uses=uses)
        async with judge as decider:
            judgements = await decider.judgements(question, asyncio.get_running_loop().time() + seconds)
            told = await whatruns.told_of(decider, question, running, judgements, seconds)
    # Of no concern where everything could be read and satisfies.
    if missing is not None and verdict_of(judgements) != "allowed":
        seen = replace(seen, notes=(*seen.notes, missing))
    return Explained(title, seen, judgements, _aside(seen, question, judgements), told)


def _aside(seen: Seen, question: Question, judgements: Sequence[Judgement]) -> dict[str, dict[PolicyKey, str]]:
    """By image, the policies that name it and do not count."""
    snapshot, found = seen.store.snapshot, dict[str, dict[PolicyKey, str]]()
    labels = snapshot.namespace_labels(question.who.namespace)
    for placed in question.images:
        try:
            image = parse_reference(placed.image)
        except Invalid:
            continue
        rulings = [one for one in judgements if isinstance(one, Ruling) and placed.where in one.places]
        counted = {one.policy for one in rulings if one.policy is not None}
        aside = set_aside(snapshot.index.policies.values(), counted, image, question.who, placed.kind, labels)
        found.setdefault(str(image), {}).update(aside)
    return found


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────
_MARKS: Final = {True: "yes", False: "no", None: "not known"}


def _print(explained: Explained) -> None:
    typer.echo(explained.title)
    for image, group in by_image(explained.judgements).items():
        typer.echo(headline(image, group))
        verdict = verdict_of(group)
        # What decided first; what is content after it.
        for judgement in sorted(group, key=lambda one: verdict_of([one]) != verdict):
            for line in _lines(explained.seen, judgement):
                typer.echo(f"{'':<10}{line}")
        for key, why in sorted(explained.aside.get(image, {}).items(), key=lambda one: str(one[0])):
            typer.echo(f"{'':<10}policy {key} does not count: {why}")
        if image in explained.running:
            typer.echo(f"{'':<10}{explained.running[image]}")
    for note in _notes(explained):
        typer.echo(f"kubectl-trust: {note}", err=True)


def _lines(seen: Seen, judgement: Judgement) -> list[str]:
    if not isinstance(judgement, Ruling):
        return ["no policy covers this image: it is admitted with a warning, and was not verified",
                "what to do: a policy whose `images` name it; a `fallback` ClusterTrustPolicy denies by default"]  # fmt: skip
    if judgement.policy is None:
        return [explain.sentence(judgement)]
    outcome, verdict = judgement.outcome, verdict_of([judgement])
    mode = "" if judgement.mode == "enforce" else f", in mode {judgement.mode}"
    lines = [f"policy {judgement.policy}{mode}, which requires {_required(seen, judgement.policy)}: {verdict}"]
    lines += [_finding(named) for named in judgement.findings]
    match outcome:
        case Denied():
            lines += [f"  because {reason}" for reason in outcome.reasons]
        case Undecided():
            lines += [f"  because it could not be verified: {cause}" for cause in dict.fromkeys(outcome.causes)]
        case Allowed():
            lines += [f"  {detail}" for detail in explain.details(judgement)]
            lines += [f"  {end}" for end in (explain.ends(judgement),) if end is not None]
    if judgement.excuse is not None:
        lines.append(f"  {explain.excused(judgement.excuse)}")
    if judgement.tolerance is not None:
        lines.append(f"  {explain.tolerated(judgement.tolerance)}")
    lines += [f"  note: {note}" for note in judgement.notes]
    if judgement.message:
        lines.append(f"  the policy says: {quote(judgement.message, 1024)}")
    if (fix := _fix(judgement)) is not None:
        lines.append(f"  what to do: {fix}")
    return lines


def _finding(named: NamedFinding) -> str:
    satisfied, identity, reason = explain.found(named.finding)
    what = "attestation" if named.is_attestation else "signer"
    return f'  {what} "{named.name}": {_MARKS[satisfied]}, {identity or reason}'


def _fix(ruling: Ruling) -> str | None:
    """The shortest way out."""
    match ruling.outcome:
        case Denied(fix=fix, final=final):
            return fix or ("nothing lifts this but the policy itself" if final else None)
        case Undecided():
            return "once that can be read, try again"
        case _:
            return None


def _required(seen: Seen, key: PolicyKey) -> str:
    """The demand, as it was written."""
    known = seen.policies.in_force.get(key)
    spec: Mapping[str, Any] = (known.document.get("spec") if known is not None else None) or {}
    if written := spec.get("require"):
        return quote(written, 256)
    if not spec.get("signers"):
        return "nothing, and only denies"
    return "any of its signers" + (", and every attestation" if spec.get("attestations") else "")


def _notes(explained: Explained) -> list[str]:
    notes = list(explained.seen.notes)
    said = " ".join(explain.sentence(one) for one in explained.judgements if isinstance(one, Ruling))
    if f"may not be read by {cluster.BY_YOU}" in said:
        notes.append("the webhook may read more than you: where it says *not known* because of that, it may well know")
    notes += dict.fromkeys(filter(None, (_known_there(explained.seen, one) for one in explained.judgements)))
    return notes


def _known_there(seen: Seen, judgement: Judgement) -> str | None:
    """Why the webhook's own verdict may be another: it knows keys that could not be read here, by what the policy's status says."""
    if not isinstance(judgement, Ruling) or judgement.policy is None or not isinstance(judgement.outcome, Undecided):
        return None
    known = seen.policies.standing_of(judgement.policy)
    if known is None or known.state != "unresolved":
        return None
    said = conditions(dict(known.document)).get("SignersResolved", {})
    if said.get("status") != "True" or said.get("observedGeneration") != known.document["metadata"].get("generation"):
        return None
    if said.get("reason") == "KeysHeld":
        return f"policy {judgement.policy}: the webhook judges by keys that it holds, so that its verdict may be another: {shown(said.get('message'))}"
    return f"policy {judgement.policy}: the webhook says that it knows all keys, so that its verdict may be another"


def _as_json(explained: Explained) -> dict[str, object]:
    groups = by_image(explained.judgements)
    images = explain.as_json(explained.judgements, {image: verdict_of(group) for image, group in groups.items()})
    for entry in images:
        image = str(entry["image"])
        deciding = [one for one in groups[image] if isinstance(one, Ruling) and verdict_of([one]) == entry["verdict"]]
        entry["decidedBy"] = [str(one.policy) for one in deciding if one.policy is not None]
        entry["fixes"] = list(filter(None, map(_fix, deciding)))
        aside = explained.aside.get(image, {})
        entry["setAside"] = [{"policy": str(key), "why": why} for key, why in aside.items()]
    return {"about": explained.title, "images": images, "notes": _notes(explained)}
