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
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import typer

from webhook.admission.tls import ServingCertificate, write_self_signed
from webhook.cli import embedded, hosting, local
from webhook.cli.embedded import EmbeddedRegistry
from webhook.cli.hosting import Ports
from webhook.image import Digest
from webhook.observe.log import ReviewLog
from webhook.observe.metrics import Metrics
from webhook.registry.client import RegistryClient
from webhook.registry.dockerconfig import AnonymousKeychain
from webhook.registry.settings import RegistrySettings

HELP: Final = """See the main job done, without a cluster: a real server, really signed images.

Exits with 1 if a verdict is not the expected one.
"""

_SECONDS: Final = 60.0
_NAMESPACE: Final = "shop"
_LOOKASIDE: Final = "/lookaside"

_SIGNED_AT: Final = dt.datetime(2026, 11, 24, 0, 38, tzinfo=dt.UTC)
_TRUSTED: Final = "127.0.0.1:5065/dct"
"""The name that is signed in the trust data; it is fetched from the registry of the demo, as from a mirror."""

_OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"


def command() -> None:
    """Asks for every kind of verdict, shows each with its text, and says what to type next."""
    failed = asyncio.run(asyncio.wait_for(_demo(), _SECONDS))
    raise typer.Exit(1 if failed else 0)


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing to ask, and what must come of it: `admitted`, or text that the refusal must contain."""

    title: str
    review: Mapping[str, object]
    admitted: bool
    says: str = ""
    path: str = "/validate"


@dataclass(slots=True)
class Stage:
    """Two registries with the captured images: one with the referrers API, one without, as both are met in the wild."""

    modern: str = ""
    older: str = ""
    registries: tuple[EmbeddedRegistry, EmbeddedRegistry] = field(
        default_factory=lambda: (EmbeddedRegistry(referrers_api=True), EmbeddedRegistry(referrers_api=False))
    )

    def image(self, path: str, *, older: bool = False) -> str:
        """A reference by tag, as a developer writes it."""
        return f"{self.older if older else self.modern}/{path}:v1"


def _captures() -> Path:
    return Path(str(resources.files("webhook.cli"))) / "captures"


def _fill(stage: Stage) -> None:
    """What each repository holds. Whatever is broken here is broken as an attacker would, digests kept consistent."""
    captures = _captures()
    modern, older = stage.registries
    signed_v2, signed_v3 = captures / "cosign-v2-key-sigtag-notlog", captures / "cosign-key-bundle-notlog"
    for path in ("shop/signed-v2", "shop/tampered", "shop/wrong-key", "shop/both-v2-broken", "shop/both-v3-broken"):
        modern.load(path, signed_v2)
    modern.load("shop/signed-v3", captures / "referrers-api")
    older.load("shop/signed-v3", signed_v3)
    older.load("shop/both-v2-broken", signed_v3)
    older.load("shop/both-v2-broken", signed_v2)
    older.load("shop/both-v3-broken", signed_v3)
    older.load("shop/both-v3-broken", signed_v2)
    for path in ("vendor/app", "vendor/other"):
        modern.load(path, captures / "notation-chain-timestamped")
    modern.load("keyless/signed-v2", captures / "cosign-keyless-sigtag")
    older.load("keyless/signed-v3", captures / "cosign-keyless-bundle-rekor1")
    older.load("keyless/somebody-elses", captures / "cosign-keyless-bundle-rekor1")
    for path in ("scanned/web", "scanned/strict"):
        modern.load(path, captures / "cosign-attestations-bundle")
    modern.load("shop/unsigned", signed_v2)
    digest = modern.tags["shop/unsigned", "v1"]
    signature_tag = f"{digest.replace(':', '-')}.sig"
    del modern.tags["shop/unsigned", signature_tag]
    _tamper(modern, "shop/tampered", signature_tag)
    _tamper(older, "shop/both-v2-broken", signature_tag)
    _tamper_bundles(older, "shop/both-v3-broken", digest.replace(":", "-"))
    # Tags that notary signed: v2 means the image, and v1 does too, but the registry has moved it.
    modern.load_trust(_TRUSTED, captures / "dct")
    modern.load("dct", signed_v2)
    modern.tags["dct", "v2"] = digest
    modern.tags["dct", "v1"] = _push_other_image(modern, "dct")
    # Another image, with the signature of the first one hung on it.
    other = _push_other_image(modern, "shop/borrowed")
    modern.load("shop/borrowed", signed_v2)
    modern.tags["shop/borrowed", "v1"] = other
    modern.tags["shop/borrowed", f"{other.replace(':', '-')}.sig"] = modern.tags["shop/borrowed", signature_tag]
    # Signed by two GPG keys; and once by the second alone.
    by_gpg = captures / "gpg-simple-signing"
    for path, signatures in (("shop/by-gpg", (2, 1)), ("shop/by-other-gpg", (2,))):
        modern.load(path, by_gpg)
        folder = f"{_LOOKASIDE}/{path}@{digest.replace(':', '=')}"
        for number, signature in enumerate(signatures, start=1):
            modern.files[f"{folder}/signature-{number}"] = (by_gpg / f"signature-{signature}").read_bytes()


def _tamper(registry: EmbeddedRegistry, path: str, tag: str) -> None:
    """Changes one word of the signed payload and keeps the signature."""
    manifest: dict[str, Any] = json.loads(registry.manifests[path, registry.tags[path, tag]])
    for layer in manifest["layers"]:
        payload = registry.blobs[layer["digest"]].replace(b'"optional"', b'"optionaL"')
        layer.update(digest=registry.add_blob(payload), size=len(payload))
    registry.add_manifest(path, msgspec.json.encode(manifest), tag)


def _tamper_bundles(registry: EmbeddedRegistry, path: str, fallback_tag: str) -> None:
    """Flips a bit in the signature of every bundle that the fallback tag lists."""
    index: dict[str, Any] = json.loads(registry.manifests[path, registry.tags[path, fallback_tag]])
    for entry in index["manifests"]:
        manifest: dict[str, Any] = json.loads(registry.manifests[path, Digest(entry["digest"])])
        layer = manifest["layers"][0]
        bundle: dict[str, Any] = json.loads(registry.blobs[layer["digest"]])
        signature = bundle["dsseEnvelope"]["signatures"][0]
        flipped = bytearray(base64.b64decode(signature["sig"]))
        flipped[-1] ^= 1
        signature["sig"] = base64.b64encode(flipped).decode()
        content = msgspec.json.encode(bundle)
        layer.update(digest=registry.add_blob(content), size=len(content))
        body = msgspec.json.encode(manifest)
        entry.update(digest=registry.add_manifest(path, body), size=len(body))
    registry.add_manifest(path, msgspec.json.encode(index), fallback_tag)


def _push_other_image(registry: EmbeddedRegistry, path: str) -> Digest:
    config = registry.add_blob(b'{"architecture":"amd64","os":"linux"}')
    document = {
        "schemaVersion": 2,
        "mediaType": _OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 37, "digest": config},
        "layers": [],
    }
    return registry.add_manifest(path, msgspec.json.encode(document))


def _policies(stage: Stage) -> str:
    """The policies of the demo. Some are there to be disappointed: their key, their identity or their vendor signed nothing, or a report is too bad."""
    release = {"cosign": {"key": (_captures() / "cosign.pub").read_text()}}
    other = {"cosign": {"key": (_captures() / "other.pub").read_text()}}
    attester = {"name": "ci", "cosign": {"key": (_captures() / "attest.pub").read_text()}}
    vendor = {
        "gpg": {
            "keys": _armored((_captures() / "gpg-rsa3072.pub").read_bytes()),
            "lookaside": f"http://{stage.modern}{_LOOKASIDE}",
            # Signed where the vendor publishes it, under another name than it has here.
            "identity": {"reference": "127.0.0.1:5065/gpg/app:v1"},
        }
    }
    legacy = {"dct": {"server": f"http://{stage.modern}", "rootKeys": [(_captures() / "dct.pem").read_text()]}}
    hosts, by_gpg = [stage.modern, stage.older], f"{stage.modern}/shop/by-*"
    return "---\n".join(
        [
            _policy(
                "shop",
                [f"{host}/shop/**" for host in hosts],
                [*(f"{host}/shop/wrong-key" for host in hosts), by_gpg],
                {"name": "release", **release},
            ),
            _policy("strict", [f"{stage.modern}/shop/wrong-key"], [], {"name": "vendor", **other}),
            _policy("by-gpg", [by_gpg], [], {"name": "vendor", **vendor}),
            _policy("legacy", [_TRUSTED], [], {"name": "legacy", **legacy}),
            _policy("by-certificate", [f"{stage.modern}/vendor/app"], [], _by_certificate("C=US, ST=WA, O=Acme")),
            _policy("another-vendor", [f"{stage.modern}/vendor/other"], [], _by_certificate("C=US, ST=WA, O=Other")),
            _policy("unreachable", ["127.0.0.1:1/**"], [], {"name": "release", **release}),
            _policy("keyless", [f"{host}/keyless/signed-*" for host in hosts], [], _keyless("dev@acme.test")),
            _policy("somebody", [f"{stage.older}/keyless/somebody-*"], [], _keyless("ops@acme.test")),
            _policy("scanned", [f"{stage.modern}/scanned/web"], [], attester, _attested('"HIGH", "CRITICAL"')),
            _policy("flawless", [f"{stage.modern}/scanned/strict"], [], attester, _attested('"MEDIUM", "HIGH"')),
        ]
    )


def _by_certificate(subject: str) -> dict[str, object]:
    """A signer whose certificate an authority has issued to `subject`, and whose signature was timestamped."""
    stores = {"ca": "root.pem", "tsa": "tsa-root.pem"}
    notation = {
        "trustStores": [
            {"type": kind, "certs": (_captures() / "notation" / file).read_text()} for kind, file in stores.items()
        ],
        "trustedIdentities": [f"x509.subject: {subject}"],
        # Nobody answers for the authority that the captured signature's certificates were made by.
        "override": {"revocation": "skip"},
    }
    return {"name": "vendor", "notation": notation}


def _keyless(subject: str) -> dict[str, object]:
    """A signer by identity, under the sigstore that the captures were made with; what they prove, they prove at any later time."""
    who = {"issuer": "https://accounts.acme.test", "subject": subject}
    root = (_captures() / "trusted_root.json").read_text()
    return {"name": "ci", "cosign": {"keyless": who, "trustRoot": root}}


def _attested(refused: str) -> dict[str, object]:
    """Built where it should be, and nothing of these severities found."""
    builder = 'predicate.runDetails.builder.id == "https://ci.example/builders/release"'
    found = f"r.Vulnerabilities.exists(v, v.Severity in [{refused}])"
    clean = f"predicate.scanner.result.Results.all(r, !has(r.Vulnerabilities) || !{found})"
    return {
        "attestations": [
            {"name": "provenance", "type": "https://slsa.dev/provenance/v1", "where": builder},
            {"name": "scan", "type": "vuln", "where": clean},
        ],
        "require": "provenance and scan",
    }


def _policy(
    name: str,
    images: list[str],
    exclude: list[str],
    signer: Mapping[str, object],
    more: Mapping[str, object] | None = None,
) -> str:
    document = {
        "apiVersion": "trusted-images.dev/v1alpha1",
        "kind": "TrustPolicy",
        "metadata": {"name": name, "namespace": _NAMESPACE},
        "spec": {
            "images": images,
            **({"exclude": exclude} if exclude else {}),
            "signers": [signer],
            **(more or {}),
        },
    }
    # JSON is YAML, and this one is shown to nobody.
    return json.dumps(document) + "\n"


def _armored(key: bytes) -> str:
    """A binary OpenPGP key as a policy can hold it."""
    text = base64.encodebytes(key).decode()
    return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{text}-----END PGP PUBLIC KEY BLOCK-----\n"


def _scenes(stage: Stage) -> list[Scene]:
    unsigned, signed = stage.image("shop/unsigned"), stage.image("shop/signed-v2")
    pod = _pod({"containers": [{"name": "app", "image": signed}]})
    debugged = _pod(
        {
            "containers": [{"name": "app", "image": signed}],
            "ephemeralContainers": [{"name": "debugger", "image": unsigned}],
        }
    )
    volume = {"name": "model", "image": {"reference": unsigned}}
    cron = {
        "spec": {
            "jobTemplate": {
                "spec": {
                    "template": _template(
                        {
                            "initContainers": [{"name": "fetch", "image": unsigned}],
                            "containers": [{"name": "app", "image": signed}],
                        }
                    )
                }
            }
        }
    }
    wrong = {
        "apiVersion": "trusted-images.dev/v1alpha1",
        "kind": "TrustPolicy",
        "metadata": {"name": "wrong", "namespace": _NAMESPACE},
        "spec": {
            "images": ["ghcr.io/acme/*"],
            "signers": [{"name": "release", "cosign": {"key": "secret://other-team/cosign#cosign.pub"}}],
            "require": "release and qa",
        },
    }
    no_signature = 'no signature by "release"'
    return [
        Scene("Deployment, nobody signed the image", _deployment(unsigned), admitted=False, says=no_signature),
        Scene("Deployment, signed by cosign 2 (.sig tag)", _deployment(signed), admitted=True),
        Scene(
            "Deployment, signed by cosign 3 (bundle, referrers API)",
            _deployment(stage.image("shop/signed-v3")),
            admitted=True,
        ),
        Scene(
            "Deployment, signed by cosign 3 (bundle, fallback tag)",
            _deployment(stage.image("shop/signed-v3", older=True)),
            admitted=True,
        ),
        Scene(
            "both styles, the .sig one broken",
            _deployment(stage.image("shop/both-v2-broken", older=True)),
            admitted=True,
        ),
        Scene(
            "both styles, the bundle broken", _deployment(stage.image("shop/both-v3-broken", older=True)), admitted=True
        ),
        Scene(
            "the signed payload was changed",
            _deployment(stage.image("shop/tampered")),
            admitted=False,
            says=no_signature,
        ),
        Scene(
            "the signature is another image's",
            _deployment(stage.image("shop/borrowed")),
            admitted=False,
            says=no_signature,
        ),
        Scene(
            "signed, but by a key the policy does not name",
            _deployment(stage.image("shop/wrong-key")),
            admitted=False,
            says='no signature by "vendor"',
        ),
        Scene(
            "keyless by cosign 2 (certificate, log entry)", _deployment(stage.image("keyless/signed-v2")), admitted=True
        ),
        Scene("keyless by cosign 3 (bundle)", _deployment(stage.image("keyless/signed-v3", older=True)), admitted=True),
        Scene(
            "keyless, but by another identity",
            _deployment(stage.image("keyless/somebody-elses", older=True)),
            admitted=False,
            says="signed by dev@acme.test, another subject",
        ),
        Scene(
            "signed with GPG by skopeo (lookaside store), one signature of two by the right key",
            _deployment(stage.image("shop/by-gpg")),
            admitted=True,
        ),
        Scene(
            "signed with GPG, but by another key",
            _deployment(stage.image("shop/by-other-gpg")),
            admitted=False,
            says="signed by unknown key GPG:882516DC24A16540A2BCCEBEAF282D19E8FD329A",
        ),
        Scene("Docker Content Trust, the tag is signed by notary", _deployment(f"{_TRUSTED}:v2"), admitted=True),
        Scene(
            "Docker Content Trust, the registry moved the tag",
            _deployment(f"{_TRUSTED}:v1"),
            admitted=False,
            says="targets: tag v1 is signed for another image",
        ),
        Scene(
            "signed by notation (COSE, certificate, timestamp)",
            _deployment(stage.image("vendor/app")),
            admitted=True,
        ),
        Scene(
            "signed by notation, but by somebody else",
            _deployment(stage.image("vendor/other")),
            admitted=False,
            says="which is no trusted identity of the policy",
        ),
        Scene("provenance and a scan without grave findings", _deployment(stage.image("scanned/web")), admitted=True),
        Scene(
            "the same, and a policy that wants fewer findings",
            _deployment(stage.image("scanned/strict")),
            admitted=False,
            says='no attestation by "scan" (`where` does not hold',
        ),
        Scene("Pod with a signed image", _review("", "Pod", pod), admitted=True),
        Scene(
            "kubectl debug with an unsigned image",
            _review("", "Pod", debugged, old=pod, sub_resource="ephemeralcontainers"),
            admitted=False,
            says="spec.ephemeralContainers[0].image",
        ),
        Scene(
            "Pod with an unsigned image volume",
            _review("", "Pod", _pod({"containers": [{"name": "app", "image": signed}], "volumes": [volume]})),
            admitted=False,
            says="spec.volumes[0].image.reference",
        ),
        Scene(
            "CronJob with an unsigned init container",
            _review("batch", "CronJob", cron),
            admitted=False,
            says="spec.jobTemplate.spec.template.spec.initContainers[0].image",
        ),
        Scene(
            "a label changes on an old Pod", _review("", "Pod", _pod_of(unsigned), old=_pod_of(unsigned)), admitted=True
        ),
        Scene("the registry is down", _deployment("127.0.0.1:1/shop/web:v1"), admitted=False, says="could not verify"),
        Scene(
            "kubectl apply of a wrong policy",
            _review("trusted-images.dev", "TrustPolicy", wrong),
            admitted=False,
            says="spec.require: column 13",
            path="/validate-policies",
        ),
    ]


def _pod_of(image: str) -> dict[str, object]:
    return _pod({"containers": [{"name": "app", "image": image}]})


def _pod(spec: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": _NAMESPACE}, "spec": spec}


def _template(spec: dict[str, object]) -> dict[str, object]:
    return {"metadata": {"labels": {"app": "web"}}, "spec": spec}


def _deployment(image: str) -> dict[str, object]:
    template = _template({"containers": [{"name": "web", "image": image}]})
    return _review("apps", "Deployment", {"metadata": {"name": "web"}, "spec": {"template": template}})


def _review(
    group: str,
    kind: str,
    document: Mapping[str, object],
    old: Mapping[str, object] | None = None,
    sub_resource: str = "",
) -> dict[str, object]:
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": group, "version": "v1", "kind": kind},
        "subResource": sub_resource,
        "namespace": _NAMESPACE,
        "name": "web",
        "operation": "UPDATE" if old else "CREATE",
        "dryRun": False,
        "object": document,
        "oldObject": old,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


async def _demo() -> int:
    """Runs every scene; the number of verdicts that were not the expected ones."""
    with tempfile.TemporaryDirectory(prefix="trusted-images-demo-") as temporary:
        folder = Path(temporary)
        async with _webhook(folder) as (stage, ask):
            typer.echo(
                f"Registries on {stage.modern} (referrers API) and {stage.older} (without); webhook on {ask.url}\n"
                f"Policy {_NAMESPACE}/shop: images {stage.modern}/shop/** and {stage.older}/shop/**, one cosign key.\n"
            )
            failed = 0
            for scene in _scenes(stage):
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
        _fill(stage)
        policy_file = folder / "policy.yaml"
        policy_file.write_text(_policies(stage))
        metrics = Metrics()
        store = local.load_policies([policy_file], hosting.HOME)
        # On loopback by plain HTTP, which only the operator can allow, and only host by host.
        settings = replace(
            RegistrySettings.plain_http([stage.modern, stage.older, "127.0.0.1:1"]),
            mirrors=((_TRUSTED, f"{stage.modern}/dct"),),
        )
        client = RegistryClient(settings, observe=metrics.fetched)
        stack.push_async_callback(client.close)
        log = ReviewLog(stack.enter_context((folder / "reviews.log").open("wb")))
        stack.callback(log.close)
        pool = stack.enter_context(hosting.checking_pool())
        decider = hosting.compose(store, client, lambda _: AnonymousKeychain(), pool, metrics, lambda: _SIGNED_AT)
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
