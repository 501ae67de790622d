"""`kubectl trust demo`: the main job before your eyes, without a cluster.

Nothing is staged but the cluster: the webhook is the real one, asked over TLS with AdmissionReviews as an API server sends
them; the signatures were made by cosign 2.5.0 and 3.1.1, by key and keyless, skopeo 1.22.0, notation 1.3.2 and notary 0.7.0 and are served
byte for byte on loopback. Some of them end, so the judge's clock stands at the time when they were made.
"""

import asyncio
import base64
import contextlib
import datetime as dt
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import typer

from webhook.admission.tls import ServingCertificate, write_self_signed
from webhook.cli import embedded, hosting, local
from webhook.cli.demoscenes import Scene, scenes_on
from webhook.cli.demostage import NAMESPACE, TRUSTED, Stage, fill, policies_of
from webhook.cli.hosting import Ports
from webhook.observe.log import ReviewLog
from webhook.observe.metrics import Metrics
from webhook.registry.client import RegistryClient
from webhook.registry.dockerconfig import AnonymousKeychain
from webhook.registry.settings import RegistrySettings

HELP: Final = """See the main job done, without a cluster: a real server, really signed images.

Exits with 1 if a verdict is not the expected one.
"""

_SECONDS: Final = 60.0
_SIGNED_AT: Final = dt.datetime(2026, 11, 24, 0, 38, tzinfo=dt.UTC)


def command() -> None:
    """Asks for every kind of verdict, shows each with its text, and says what to type next."""
    failed = asyncio.run(asyncio.wait_for(_demo(), _SECONDS))
    raise typer.Exit(1 if failed else 0)


async def _demo() -> int:
    """Runs every scene; the number of verdicts that were not the expected ones."""
    with tempfile.TemporaryDirectory(prefix="trusted-images-demo-") as temporary:
        folder = Path(temporary)
        async with _webhook(folder) as (stage, ask):
            typer.echo(
                f"Registries on {stage.modern} (referrers API) and {stage.older} (without); webhook on {ask.url}\n"
                f"Policy {NAMESPACE}/shop: images {stage.modern}/shop/** and {stage.older}/shop/**, one cosign key.\n"
            )
            failed = 0
            for scene in scenes_on(stage):
                failed += not await _play(scene, ask)
    if failed:
        typer.echo(typer.style(f"\n{failed} verdicts were not the expected ones.", typer.colors.RED, bold=True))
        return failed
    typer.echo(typer.style("\nEvery verdict was the expected one.", typer.colors.GREEN, bold=True))
    typer.echo(_NEXT)
    return 0


_NEXT: Final = """
Next, with an image and a key of your own:

export PATH="$PWD/.venv/bin:$PATH"
cosign generate-key-pair
cosign sign --key cosign.key REGISTRY/IMAGE@sha256:…
cat > policy.yaml <<EOF
apiVersion: trusted-images.dev/v1alpha1
kind: TrustPolicy
metadata: {name: first, namespace: default}
spec:
  images: ["REGISTRY/IMAGE"]
  signers:
  - name: me
    cosign:
      key: |
$(sed 's/^/        /' cosign.pub)
EOF
kubectl-trust verify REGISTRY/IMAGE --policy policy.yaml
kubectl-trust serve --policy policy.yaml --address 127.0.0.1
"""


@dataclass(frozen=True, slots=True)
class Asker:
    """A client of the webhook, as the API server is one."""

    url: str
    post: Callable[[str, Mapping[str, object]], Any]


async def _play(scene: Scene, ask: Asker) -> bool:
    """Asks, prints verdict and text, and says whether they are the expected ones."""
    review, written = await _pinned(scene, ask)
    response: dict[str, Any] = (await ask.post(scene.path, review))["response"]
    allowed, message = response["allowed"], response.get("status", {}).get("message", "")
    expected = allowed is scene.admitted and scene.says in message
    word = "admitted" if allowed else "refused"
    colour = typer.colors.GREEN if allowed else typer.colors.YELLOW
    mark = "" if expected else typer.style("  NOT EXPECTED", typer.colors.RED, bold=True)
    typer.echo(f"{typer.style(f'{word:<9}', colour, bold=True)} {scene.title}{mark}")
    for line in [*written, *message.splitlines(), *(f"warning: {text}" for text in response.get("warnings", []))]:
        typer.echo(typer.style(f"{'':<10}{line}", dim=True))
    return expected


async def _pinned(scene: Scene, ask: Asker) -> tuple[Mapping[str, object], list[str]]:
    """The review as the API server sends it to be judged: the Pod with its digests written in; and what was written."""
    if scene.path != "/validate":
        return scene.review, []
    response = (await ask.post("/mutate", scene.review))["response"]
    review: dict[str, Any] = json.loads(json.dumps(scene.review))
    written: list[str] = []
    for operation in json.loads(base64.b64decode(response.get("patch", "W10="))):
        *way, last = (int(step) if step.isdigit() else step for step in operation["path"].split("/")[1:])
        place: Any = review["request"]["object"]
        for step in way:
            place = place[step]
        place[last] = operation["value"]
        written.append(f"written: {operation['value']}")
    return review, written


@contextlib.asynccontextmanager
async def _webhook(folder: Path) -> AsyncIterator[tuple[Stage, Asker]]:
    """Registries and webhook, running, and a client that trusts the webhook's certificate."""
    async with contextlib.AsyncExitStack() as stack:
        stage = Stage()
        modern, older = stage.registries
        stage.modern = await stack.enter_async_context(embedded.serving(modern))
        stage.older = await stack.enter_async_context(embedded.serving(older))
        fill(stage)
        policy_file = folder / "policy.yaml"
        policy_file.write_text(policies_of(stage))
        metrics = Metrics()
        store = local.load_policies([policy_file], hosting.HOME)
        # On loopback by plain HTTP, which only the operator can allow, and only host by host.
        settings = replace(
            RegistrySettings.plain_http([stage.modern, stage.older, "127.0.0.1:1"]),
            mirrors=((TRUSTED, f"{stage.modern}/dct"),),
        )
        client = RegistryClient(settings, observe=metrics.fetched)
        stack.push_async_callback(client.close)
        log = ReviewLog(stack.enter_context((folder / "reviews.log").open("wb")))
        stack.callback(log.close)
        pool = stack.enter_context(hosting.checking_pool())
        decider = await stack.enter_async_context(
            hosting.composed(store, client, lambda _: AnonymousKeychain(), pool, metrics, lambda: _SIGNED_AT)
        )
        certificate = ServingCertificate(*write_self_signed(folder, ["127.0.0.1"], hosting.now()))
        listening = hosting.listening(
            decider,
            metrics,
            log,
            certificate.context,
            home=hosting.HOME,
            address="127.0.0.1",
            ports=Ports(0, 0),
            not_ready=lambda: None,
        )
        ports = await stack.enter_async_context(listening)
        trusting = ssl.create_default_context(cafile=str(folder / "tls.crt"))
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)))
        url = f"https://127.0.0.1:{ports.webhook}"

        async def post(path: str, review: Mapping[str, object]) -> Any:
            async with session.post(f"{url}{path}?timeout=10s", json=review) as response:
                return await response.json()

        yield stage, Asker(url, post)
