"""`kubectl trust`: what each command prints, and the code it exits with."""

import asyncio
import base64
import contextlib
import datetime as dt
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from typer.testing import CliRunner, Result

from tests import captures
from tests.admission.test_review import review
from tests.fake.http_registry import HTTPRegistry, serving, status
from tests.fake.notation import authority, party, sign_notation
from tests.fake.pki import DAY
from tests.fake.registry import FakeRegistry
from tests.fake.signing import key, sign_bundle
from tests.process import PROGRAM, until_serving
from webhook import __version__
from webhook.cli import app, complete

API = "trusted-images.dev/v1alpha1"
TODAY = dt.datetime.now(dt.UTC).replace(microsecond=0)  # the command asks the clock


async def run(*words: str, stdin: str | bytes | None = None) -> Result:
    """The command in a thread of its own, as it brings its own event loop."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, list(words), input=stdin))


@pytest.fixture
async def registry() -> AsyncIterator[HTTPRegistry]:
    """A registry with `shop/signed`, `shop/unsigned` and `shop/other` (signed by somebody else)."""
    fake = FakeRegistry()
    for path, signers in (("shop/signed", ["a"]), ("shop/unsigned", []), ("shop/other", ["b"])):
        digest = fake.push_image(path, "v1", path.encode())
        for name in signers:
            sign_bundle(fake, path, digest, key(name))
    async with serving(HTTPRegistry(fake)) as http:
        yield http


@pytest.fixture
def policy(tmp_path: Path) -> str:
    file = tmp_path / "policy.yaml"
    spec = {
        "images": ["127.0.0.1:*/shop/**"],
        "tags": "allow",
        "signers": [{"name": "release", "cosign": {"key": key("a").pem}}],
    }
    metadata = {"name": "web", "namespace": "shop"}
    file.write_text(yaml.safe_dump({"apiVersion": API, "kind": "TrustPolicy", "metadata": metadata, "spec": spec}))
    return str(file)


def test_help_and_version_are_for_people() -> None:
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.output) == (0, f"kubectl-trust {__version__}\n")
    helped = CliRunner().invoke(app, ["--help"])
    assert "Exit codes: 0 allowed, 1 denied, 2 could not verify or misused." in re.sub(r"\s+", " ", helped.output)
    assert CliRunner().invoke(app, ["nonsense"]).exit_code == 2
    assert CliRunner().invoke(app, ["verify"]).exit_code == 2


# ── verify ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_verify_says_who_signed(registry: HTTPRegistry, policy: str) -> None:
    result = await run("verify", f"{registry.host}/shop/signed:v1", "-p", policy, "-n", "shop", "--plain-http")
    assert result.exit_code == 0
    first, second = result.output.splitlines()
    digest = registry.registry.tags["shop/signed", "v1"]
    assert first == f"ALLOWED   {registry.host}/shop/signed:v1 ({digest})"
    assert second.strip() == f"policy shop/web: signed by {key('a').fingerprint}"


async def test_verify_says_what_to_do(registry: HTTPRegistry, policy: str) -> None:
    images = [f"{registry.host}/shop/{name}:v1" for name in ("signed", "unsigned", "other")]
    result = await run("verify", *images, "-p", policy, "-n", "shop", "--plain-http")
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.output.splitlines() if not line.startswith(" ")] == [
        "ALLOWED", "DENIED", "DENIED",
    ]  # fmt: skip
    assert "it carries no signature" in result.output
    assert "Fix: sign " in result.output


async def test_verify_and_check_warn_of_dangerous_policies_once(
    registry: HTTPRegistry, policy: str, tmp_path: Path
) -> None:
    images = [f"{registry.host}/shop/{name}:v1" for name in ("signed", "other")]
    manifest = tmp_path / "deployment.yaml"
    manifest.write_text(yaml.safe_dump(deployment(*images)))
    commands: list[list[str]] = [["verify", *images], ["check", "-f", str(manifest)]]
    options = ["-p", policy, "-n", "shop", "--plain-http", "-o", "json"]
    for command in commands:
        assert "warning" not in (await run(*command, *options)).stderr
    document = yaml.safe_load(Path(policy).read_text())
    document["spec"]["signers"].append({"name": "anything", "static": {"allow": True, "reason": "incident"}})
    Path(policy).write_text(yaml.safe_dump(document))
    for command in commands:
        result = await run(*command, *options)
        (line,) = [line for line in result.stderr.splitlines() if "warning" in line]
        assert line.startswith('kubectl-trust: warning: policy shop/web: signer "anything": static allows every image')
        # Standard output holds nothing else.
        assert {one["verdict"] for one in json.loads(result.stdout)} == {"allowed"}


async def test_verify_in_json_is_for_scripts(registry: HTTPRegistry, policy: str) -> None:
    image = f"{registry.host}/shop/signed:v1"
    result = await run("verify", image, "-p", policy, "-n", "shop", "--plain-http", "-o", "json")
    (entry,) = json.loads(result.output)
    assert (entry["image"], entry["verdict"], entry["reasons"]) == (image, "allowed", [])
    (of_policy,) = entry["policies"]
    (signer,) = of_policy["signers"]
    (proof,) = signer.pop("proofs")
    assert signer == {"name": "release", "satisfied": True, "identity": key("a").fingerprint, "reason": None}
    assert (of_policy["name"], of_policy["satisfied"], of_policy["attestations"]) == ("shop/web", True, [])
    assert of_policy["exception"] is None
    assert (proof["identity"], proof["signedAt"], proof["logIndex"]) == (key("a").fingerprint, None, None)


async def test_verify_and_check_tell_of_attestations_and_judge_at_another_time(
    registry: HTTPRegistry, tmp_path: Path
) -> None:
    registry.registry.load("shop/attested", captures.path("cosign-attestations-bundle"))
    image = f"{registry.host}/shop/attested:v1"
    spec = {
        "images": ["**"],
        "signers": [{"name": "ci", "cosign": {"key": captures.key("attest.pub").decode()}}],
        "attestations": [{"name": "scan", "type": "vuln", "maxAge": "24h"}],
        "require": "scan",
    }
    metadata = {"name": "web", "namespace": "shop"}
    document = {"apiVersion": API, "kind": "TrustPolicy", "metadata": metadata, "spec": spec}
    policy_file = tmp_path / "policy.yaml"
    policy_file.write_text(yaml.safe_dump(document))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "shop"}}
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(yaml.safe_dump({**pod, "spec": {"containers": [{"name": "c", "image": image}]}}))
    for command in (("verify", image, "-n", "shop"), ("check", "-f", str(manifest))):
        common = (*command, "-p", str(policy_file), "--plain-http")
        young = await run(*common, "--at", "2026-11-26T00:00:00Z")
        assert young.exit_code == 0
        assert "attested https://cosign.sigstore.dev/attestation/vuln/v1 by SHA256:" in young.output
        assert ", until 2026-11-26T09:05:21Z, from referrer sha256:" in young.output
        old = await run(*common, "--at", "2026-11-27T00:00:00Z")
        assert old.exit_code == 1
        assert "the attestation is of 2026-11-25T09:05:21Z, which is more than 24h ago" in old.output


async def test_verify_follows_a_reference_into_another_file(registry: HTTPRegistry, tmp_path: Path) -> None:
    web, base = tmp_path / "web.yaml", tmp_path / "base.yaml"
    signers = [{"name": "release", "ref": {"name": "base/release"}}]
    for file, kind, metadata, spec in (
        (web, "TrustPolicy", {"name": "web", "namespace": "shop"}, {"images": ["**"], "signers": signers}),
        (
            base,
            "ClusterTrustPolicy",
            {"name": "base"},
            {"images": ["ghcr.io/**"], "signers": [{"name": "release", "cosign": {"key": key("a").pem}}]},
        ),
    ):
        file.write_text(yaml.safe_dump({"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}))
    asked = ["verify", f"{registry.host}/shop/signed:v1", "-n", "shop", "--plain-http", "-p", str(web)]
    result = await run(*asked, "-p", str(base))
    assert result.exit_code == 0
    assert f"signed by {key('a').fingerprint}" in result.output
    result = await run(*asked)
    assert result.exit_code == 2
    assert 'signer "release": it is signer base/release: there is no ClusterTrustPolicy base' in result.output


async def test_verify_takes_notations_own_trust_policy(registry: HTTPRegistry, tmp_path: Path) -> None:
    root = authority("Root", begins=TODAY - DAY, ends=TODAY + DAY)
    signer = party("Signer", root, begins=TODAY - DAY, ends=TODAY + DAY)
    digest = registry.registry.tags["shop/signed", "v1"]
    sign_notation(registry.registry, "shop/signed", digest, signer, signed_at=TODAY)
    store = tmp_path / "truststore" / "x509" / "ca" / "acme"
    store.mkdir(parents=True)
    (store / "root.pem").write_text(root.pem)
    statement = {
        "name": "acme",
        "registryScopes": [f"{registry.host}/shop/signed"],
        "signatureVerification": {"level": "strict"},
        "trustStores": ["ca:acme"],
        "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Acme"],
    }
    skipped = {
        "name": "old",
        "registryScopes": [f"{registry.host}/shop/unsigned"],
        "signatureVerification": {"level": "skip"},
    }
    file = tmp_path / "trustpolicy.json"
    file.write_text(json.dumps({"version": "1.0", "trustPolicies": [statement, skipped]}))
    images = [f"{registry.host}/shop/{name}:v1" for name in ("signed", "unsigned", "other")]
    result = await run("verify", *images, "--notation-trust-policy", str(file), "--plain-http")
    assert result.exit_code == 1
    lines = [line.strip() for line in result.output.splitlines()]
    assert "policy cluster/acme-0: signed by x509.subject: C=US, ST=WA, O=Acme, CN=Signer" in lines
    assert any("old: level skip: its images are allowed without a signature" in line for line in lines)
    assert any("no statement of the trust policy is for this image" in line for line in lines)
    # The user's own policies beside it, and the same folder by name.
    named = ["--notation-trust-policy", str(file), "--notation-trust-store", str(tmp_path / "truststore")]
    assert (await run("verify", images[0], *named, "--plain-http")).exit_code == 0
    # What is logged is told.
    statement["signatureVerification"] = {"level": "audit"}
    statement["trustedIdentities"] = ["x509.subject: C=US, ST=WA, O=Other"]
    file.write_text(json.dumps({"version": "1.0", "trustPolicies": [statement]}))
    result = await run("verify", images[0], *named, "--plain-http")
    assert result.exit_code == 0
    assert "; not enforced: signed by SHA256:" in result.output
    assert "which is no trusted identity of the policy" in result.output


async def test_verify_wants_something_to_verify_by(tmp_path: Path) -> None:
    for words, why in (
        ([], "give --policy FILE, or --notation-trust-policy FILE"),
        (["--notation-trust-store", str(tmp_path)], "means nothing without --notation-trust-policy"),
        (["--notation-trust-policy", str(tmp_path / "none.json")], "No such file"),
    ):
        result = await run("verify", "ghcr.io/acme/web:v1", *words)
        assert result.exit_code == 2
        assert why in result.output


async def test_verify_knows_when_it_does_not_know(registry: HTTPRegistry, policy: str) -> None:
    registry.script["/manifests/v1"] = status(500)
    image = f"{registry.host}/shop/signed:v1"
    result = await run("verify", image, "-p", policy, "-n", "shop", "--plain-http")
    assert result.exit_code == 2
    assert result.output.startswith("UNDECIDED ")
    assert "could not verify" in result.output


async def test_s08_nothing_that_is_printed_holds_a_password(
    registry: HTTPRegistry,
    policy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        said = json.dumps({"errors": [{"message": request.headers.get("Authorization", "")}]})
        headers = {"WWW-Authenticate": 'Basic realm="CANARY"', "X-Said": said}
        return web.Response(status=401, headers=headers, text=said)

    registry.script["/manifests/v1"] = echo
    login = base64.b64encode(b"user:CANARY").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": login}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for output in ("text", "json"):
        image = f"{registry.host}/shop/signed:v1"
        result = await run("verify", image, "-p", policy, "-n", "shop", "--plain-http", "-o", output)
        assert result.exit_code == 2
        assert "the credentials are refused (401)" in result.output
        for secret in ("CANARY", login):
            assert secret not in result.output + result.stderr + caplog.text
    assert login in str(registry.asked)


async def test_verify_says_that_no_policy_covers(registry: HTTPRegistry, policy: str) -> None:
    result = await run("verify", "ghcr.io/acme/web:v1", "-p", policy, "-n", "shop")
    assert result.exit_code == 0
    assert "no trust policy covers this image; it was not verified" in result.output


async def test_verify_with_a_registries_file(registry: HTTPRegistry, policy: str, tmp_path: Path) -> None:
    file = tmp_path / "registries.yaml"
    file.write_text(f"registries: [{{host: '{registry.host}', plainHTTP: true}}]")
    image = f"{registry.host}/shop/signed:v1"
    assert (await run("verify", image, "-p", policy, "-n", "shop", "--registries", str(file))).exit_code == 0
    both = await run("verify", image, "-p", policy, "--registries", str(file), "--plain-http")
    assert (both.exit_code, both.output) == (
        2, "kubectl-trust: --plain-http and --registries: give one of them; a registries.yaml says plainHTTP for each host\n",
    )  # fmt: skip
    file.write_text("registries: 7")
    broken = await run("verify", image, "-p", policy, "--registries", str(file))
    assert (broken.exit_code, broken.output) == (
        2, "kubectl-trust: registries.yaml.registries: expected array, got int\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "complaints"),
    [
        (None, ["[Errno 2] No such file or directory: "]),
        ("", [": no TrustPolicy or ClusterTrustPolicy"]),
        ("a: [", [", line 2, column 1: "]),
        (
            f"{{apiVersion: {API}, kind: TrustPolicy, metadata: {{name: a}}, spec: {{images: ['docker.io/*'], require: x}}}}",
            [
                "spec.signers: required",
                "spec.require: there are no signers",
                "spec.images[0]: docker.io/*: matches nothing",
            ],
        ),
    ],
)
async def test_a_wrong_policy_file_is_misuse_with_every_complaint(
    tmp_path: Path, content: str | None, complaints: list[str]
) -> None:
    file = tmp_path / "p.yaml"
    if content is not None:
        file.write_text(content)
    result = await run("verify", "nginx", "-p", str(file))
    assert result.exit_code == 2
    for line, complaint in zip(result.output.splitlines(), complaints, strict=True):
        assert line.startswith("kubectl-trust: ")
        assert complaint in line


@pytest.mark.parametrize(
    ("time", "code", "why"),
    [
        ("2026-11-24T00:00:00Z", 0, ""),
        ("2026-11-24T00:00:00+01:00", 0, ""),
        ("yesterday", 2, "not a time with its offset; write it like"),
        ("2026-11-24", 2, "not a time with its offset"),
        ("2026-13-24T00:00:00Z", 2, "month must be in"),
        ("2026-11-24T00:00:00", 2, "not a time with its offset"),
    ],
)
async def test_another_time_is_a_time(policy: str, time: str, code: int, why: str) -> None:
    result = await run("verify", "nginx", "-p", policy, "--at", time)
    assert result.exit_code == code
    assert why in result.output


# ── check ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def deployment(*images: str, namespace: str | None = "shop") -> dict[str, Any]:
    containers = [{"name": f"c{i}", "image": image} for i, image in enumerate(images)]
    metadata = {"name": "web", **({"namespace": namespace} if namespace else {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}}},
    }


async def test_check_judges_manifests_from_files_and_standard_input(
    registry: HTTPRegistry, policy: str, tmp_path: Path
) -> None:
    good, bad = f"{registry.host}/shop/signed:v1", f"{registry.host}/shop/unsigned:v1"
    file = tmp_path / "app.yaml"
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {}}
    file.write_text(yaml.safe_dump_all([deployment(good), service]))
    options = ("-p", policy, "--plain-http")
    fine = await run("check", "-f", str(file), *options)
    assert fine.exit_code == 0
    assert fine.output.splitlines()[0] == "Deployment shop/web"
    assert fine.output.splitlines()[-1] == "Service shop/web: runs no image"
    listed = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [deployment(good), deployment(good, bad)]})
    piped = await run("check", "-f", "-", *options, stdin=listed)
    assert piped.exit_code == 1
    assert "spec.template.spec.containers[1].image" in piped.output
    elsewhere = await run(
        "check", "-f", "-", *options, "-n", "shop", stdin=yaml.safe_dump(deployment(bad, namespace=None))
    )
    assert elsewhere.exit_code == 1
    in_json = await run("check", "-f", "-", *options, "-o", "json", stdin=listed)
    assert {entry["image"]: entry["verdict"] for entry in json.loads(in_json.output)} == {
        good: "allowed",
        bad: "denied",
    }


async def test_check_judges_recorded_reviews(registry: HTTPRegistry, policy: str) -> None:
    spec = {"containers": [{"name": "a", "image": f"{registry.host}/shop/unsigned:v1"}]}
    result = await run("check", "-f", "-", "-p", policy, "--plain-http", stdin=json.dumps(review(spec=spec)))
    assert result.exit_code == 1
    assert result.output.startswith("AdmissionReview CREATE Pod shop/web\nDENIED ")
    gone = await run("check", "-f", "-", "-p", policy, stdin=json.dumps(review(operation="DELETE", object=None)))
    assert (gone.exit_code, gone.output) == (
        0,
        "AdmissionReview DELETE Pod shop/web: a deletion, which is not judged\n",
    )


async def test_check_refuses_what_cannot_be_judged(policy: str) -> None:
    malformed = await run("check", "-f", "-", "-p", policy, stdin=yaml.safe_dump(deployment()))
    assert malformed.exit_code == 1
    assert "spec.template.spec.containers: empty" in malformed.output


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no Kubernetes object in it, so nothing was judged"),
        ("---\n---\n", "no Kubernetes object in it, so nothing was judged"),
        ("just text", "not a Kubernetes object: it has no kind"),
        ("kind: 7", "not a Kubernetes object: it has no kind"),
        ("a: [", "line 2, column 1"),
        ("kind: AdmissionReview", "AdmissionReview: expected admission.k8s.io/v1"),
        ("#" * 7_400_000, "more than 7340032 bytes"),
    ],
)
async def test_what_is_no_manifest_is_misuse(policy: str, text: str, why: str) -> None:
    result = await run("check", "-f", "-", "-p", policy, stdin=text)
    assert result.exit_code == 2
    assert why in result.output
    assert (await run("check", "-f", "/does/not/exist", "-p", policy)).exit_code == 2


# ── demo, completion, serve ──────────────────────────────────────────────────────────────────────────────────────────


async def test_the_demo_shows_what_it_expects() -> None:
    result = await run("demo")
    assert result.exit_code == 0, result.output
    told = [line.split()[0] for line in result.output.splitlines() if line[:1] not in {"", " "}]
    assert told.count("admitted") == 14
    assert told.count("refused") == 15


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([""], {"verify", "check", "serve", "demo"}),
        (["ver"], {"verify"}),
        (["verify", "--pol"], {"--policy"}),
        (["verify", "-o", ""], {"text", "json"}),
        ([], {"verify", "check", "serve", "demo"}),
    ],
)
def test_kubectl_completes_our_commands(
    words: list[str], found: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("_KUBECTL_TRUST_COMPLETE", "COMP_WORDS", "COMP_CWORD"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-trust", *words])
    with contextlib.suppress(SystemExit):
        complete()
    lines = capsys.readouterr().out.split()
    assert lines[-1] == ":4"
    assert found <= set(lines)


@contextlib.asynccontextmanager
async def served(*words: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int, int, Path]]:
    """`kubectl-trust serve` as a process: itself, its two ports, and the certificate that it made."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "serve", "--address", "127.0.0.1", "--port", "0", "--metrics-port", "0", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        said, webhook, metrics = await until_serving(process)
        certificate = re.search(r"--cacert (\S+)", said)
        assert certificate is not None
        yield process, webhook, metrics, Path(certificate[1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_serve_answers_follows_its_files_and_ends_when_told(
    registry: HTTPRegistry, policy: str, tmp_path: Path
) -> None:
    registries = tmp_path / "registries.yaml"
    registries.write_text(f"registries: [{{host: '{registry.host}', plainHTTP: true}}]")
    words = ("--policy", policy, "--registries", str(registries), "--drain-seconds", "0")
    async with (
        served(*words) as (process, port, metrics, certificate),
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(certificate)))
        ) as http,
    ):

        async def allowed(image: str) -> bool:
            spec = {"containers": [{"name": "a", "image": f"{registry.host}/shop/{image}:v1"}]}
            async with http.post(f"https://127.0.0.1:{port}/validate", json=review(spec=spec)) as response:
                answer = await response.json()
                return bool(answer["response"]["allowed"])

        async def ready() -> int:
            async with http.get(f"http://127.0.0.1:{metrics}/readyz") as response:
                return response.status

        assert await allowed("signed")
        assert not await allowed("unsigned")
        assert not await allowed("other")
        assert await ready() == 200
        # The key is exchanged while it runs.
        file = Path(policy)
        text = file.read_text()
        document = yaml.safe_load(text)
        document["spec"]["signers"][0]["cosign"]["key"] = key("b").pem
        file.write_text(yaml.safe_dump(document))
        await _until(lambda: allowed("other"))
        assert not await allowed("signed")
        # A broken file changes nothing, and takes the replica out of service.
        file.write_text("a: [")

        async def not_ready() -> bool:
            return await ready() == 503

        await _until(not_ready)
        assert await allowed("other")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def _until(condition: Any, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.1)


async def test_serve_misused(policy: str, tmp_path: Path) -> None:
    alone = await run("serve", "-p", policy, "--tls-cert", "x")
    assert (alone.exit_code, alone.output) == (2, "kubectl-trust: --tls-cert and --tls-key belong together\n")
    broken = tmp_path / "tls.crt"
    broken.write_text("no certificate")
    pair = await run("serve", "-p", policy, "--tls-cert", str(broken), "--tls-key", str(broken))
    assert pair.exit_code == 2
    assert str(broken) in pair.output
    gone = await run("serve", "-p", str(tmp_path / "gone.yaml"))
    assert gone.exit_code == 2


async def test_what_an_image_is_called_cannot_draw_on_the_terminal(policy: str, tmp_path: Path) -> None:
    file = tmp_path / "pod.json"
    evil = "evil\u001b[2K\rALLOWED   good:v1"
    file.write_text(
        json.dumps({"kind": "Pod", "apiVersion": "v1", "spec": {"containers": [{"name": "a", "image": evil}]}})
    )
    result = await run("check", "-f", str(file), "-p", policy)
    assert result.exit_code == 1
    assert "\x1b[2K" not in result.output
    assert "\r" not in result.output


async def test_images_are_told_in_the_order_they_were_asked_about(policy: str) -> None:
    result = await run("verify", "b.example/x", "Not A Name", "nginx", "nginx", "-p", policy, "-o", "json")
    told = json.loads(result.stdout)
    assert [one["image"] for one in told] == ["b.example/x:latest", "Not A Name", "docker.io/library/nginx:latest"]
    assert told[2]["reasons"] == [
        "docker.io/library/nginx:latest: no trust policy covers this image; it was not verified"
    ]


async def test_w05_labels_of_a_namespace_that_nobody_told_are_not_known(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    selects = (
        f"{{apiVersion: {API}, kind: ClusterTrustPolicy, metadata: {{name: a}}, spec: {{images: ['**'], "
        "namespaces: {selector: {matchLabels: {stage: production}}}, "
        "signers: [{name: nobody, static: {allow: false, reason: because}}]}}"
    )
    namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {stage: %s}}}"
    for text, code, says in (
        (selects, 2, "the labels of the namespace are not known"),
        (f"{selects}\n---\n{namespace % 'test'}", 0, "no trust policy covers this image"),
    ):
        file.write_text(text)
        result = await run("verify", "127.0.0.1:9/x", "-n", "shop", "-p", str(file), "--plain-http")
        assert (result.exit_code, says in result.output) == (code, True)


async def test_a_port_that_is_taken_is_misuse(policy: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["serve", "-p", policy, "--address", "127.0.0.1", "--port", str(port), "--metrics-port", "0"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "from webhook.cli import main; main()", *words, stderr=asyncio.subprocess.PIPE
        )
        _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}: " in said.decode()
    assert "Traceback" not in said.decode()


@pytest.mark.parametrize("command", [["operate"], ["withdraw"], ["why", "web"], ["status"]], ids=lambda words: words[0])
def test_without_a_cluster_the_commands_for_one_are_misused(command: list[str], tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    ran = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", "from webhook.cli import main; main()", *command],
        env={**environment, "KUBECONFIG": str(tmp_path / "none")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "neither in a Pod nor with a kubeconfig" in ran.stderr
    assert "Traceback" not in ran.stderr
