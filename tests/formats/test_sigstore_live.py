"""The real cosign signs against a sigstore of our own on loopback, in every shape; we and it must come to the same verdict."""

import asyncio
import contextlib
import datetime as dt
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.fake.pki import CODE_SIGNING, DAY, Issued, issue
from tests.fake.registry import FakeRegistry
from tests.fake.signing import SigningKey, key
from tests.fake.sigstore import Sigstore
from tests.fake.sigstore_cosign import ISSUER, signing_config, sigstore_of_today, trusted_root, write_keys
from tests.fake.sigstore_http import serving, token
from tests.formats.test_keyless import build
from webhook.formats.cosign.keyless import Keyless
from webhook.formats.cosign.signer import Cosign
from webhook.image import Digest, Repository, Subject
from webhook.registry.client import RegistryClient
from webhook.registry.dockerconfig import AnonymousKeychain
from webhook.registry.settings import RegistrySettings
from webhook.trust import Claim, Untrusted
from webhook.verdict import Proof

MISSING = [name for name in ("cosign", "docker-registry") if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"NO {' AND NO '.join(MISSING).upper()}: nothing is signed live")

EMAIL = "dev@acme.test"
GITHUB = "https://token.actions.githubusercontent.com"
WORKFLOW = "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v1"
OLD = ("--use-signing-config=false", "--new-bundle-format=false")


@dataclass
class World:
    """Registry, sigstore and cosign's files, on loopback and in a folder."""

    folder: Path
    registry: str
    url: str
    instance: Sigstore
    asked: list[str]
    environment: dict[str, str]

    def run(
        self,
        *words: str,
        ok: bool = True,
        program: str = "cosign",
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> bool:
        done = subprocess.run(  # noqa: S603 - the program is cosign, the words are ours
            [program, *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not ok or done.returncode == 0, done.stderr
        return done.returncode == 0

    def push(self, path: str) -> str:
        """A small image of its own for each test; its name with its digest."""
        fake = FakeRegistry()
        digest = fake.push_image(path, "v1", path.encode())
        for content in fake.blobs.values():
            where = self._ask("POST", f"/v2/{path}/blobs/uploads/")
            blob = next(name for name, one in fake.blobs.items() if one == content)
            mark = "&" if "?" in where else "?"
            self._ask("PUT", f"{where}{mark}digest={blob}", content, "application/octet-stream")
        manifest = fake.manifests[path, digest]
        self._ask("PUT", f"/v2/{path}/manifests/v1", manifest.body, manifest.media_type)
        return f"{self.registry}/{path}@{digest}"

    def _ask(self, method: str, where: str, body: bytes = b"", media_type: str = "") -> str:
        url = where if where.startswith("http") else f"http://{self.registry}{where}"
        request = urllib.request.Request(url, body, {"Content-Type": media_type}, method=method)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - the same
            return str(response.headers.get("Location", ""))

    def signing_config(self, *, rekor: int | None = None, stamped: bool = False, fulcio: bool = True) -> str:
        name = f"config-{rekor}-{stamped}-{fulcio}.json"
        self.run(*signing_config(self.url, self.folder / name, rekor=rekor, stamped=stamped, fulcio=fulcio))
        return name

    def sign(self, image: str, *words: str, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self.run("sign", *words, "--allow-http-registry", image, environment=environment)

    @property
    def old_roots(self) -> dict[str, str]:
        """What cosign trusts when it signs in the old way."""
        return {
            "SIGSTORE_ROOT_FILE": str(self.folder / "fulcio.pem"),
            "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE": str(self.folder / "ctfe.pub"),
            "SIGSTORE_REKOR_PUBLIC_KEY": str(self.folder / "rekor.pub"),
        }


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Debian's registry, which has no referrers API."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
        f"http: {{addr: {address}}}\n"
    )
    process = subprocess.Popen(  # noqa: S603 - the registry of the signers' tools
        ["docker-registry", "serve", str(config)],  # noqa: S607 - from the PATH
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{address}/v2/", timeout=1).close()
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, "docker-registry ended"
                time.sleep(0.1)
            else:
                break
        yield address
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("live")
    instance = sigstore_of_today("live")
    write_keys(instance, folder)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SIGSTORE_", "COSIGN_"))}
    environment = {**clean, "HOME": str(folder), "COSIGN_PASSWORD": "", "COSIGN_YES": "true"}
    with registry(folder) as address, serving(instance) as (url, asked):
        made = World(folder, address, url, instance, asked, environment)
        made.run(*trusted_root(instance, folder, url))
        yield made


async def _judged(world: World, image: str, signer: Cosign) -> tuple[list[Proof], list[str]]:
    name, _, digest = image.partition("@")
    host, _, path = name.partition("/")
    claim = Claim(Subject(Repository(host, path), Digest(digest), None))
    client = RegistryClient(RegistrySettings.plain_http([host]))
    proofs, reasons = [], []
    try:
        port = client.under(AnonymousKeychain())
        async for found in signer.collect(claim, port):
            if not isinstance(found, Untrusted):
                reasons.append(str(found))
                continue
            try:
                proofs.append(signer.check(found, claim, dt.datetime.now(dt.UTC)))
            except Exception as e:  # noqa: BLE001 - told by the test
                reasons.append(str(e))
    finally:
        await client.close()
    return proofs, reasons


def judged(world: World, image: str, signer: Cosign) -> tuple[list[Proof], list[str]]:
    return asyncio.run(_judged(world, image, signer))


def keyless(world: World, who: Mapping[str, Any] | None = None, **spec: Any) -> Cosign:
    demanded = who or {"issuer": ISSUER, "subject": EMAIL}
    return build(**{"keyless": demanded, "trustRoot": (world.folder / "trusted_root.json").read_text(), **spec})


SHAPES: list[tuple[str, Sequence[str], dict[str, Any], dict[str, Any]]] = [
    ("classic", OLD, {}, {}),
    ("rekor1", (), {"rekor": 1}, {}),
    ("rekor1-tsa", (), {"rekor": 1, "stamped": True}, {"timestamp": {"require": True}}),
    ("rekor2-tsa", (), {"rekor": 2, "stamped": True}, {}),
    ("tsa", (), {"stamped": True}, {"tlog": "ignore", "timestamp": {"require": True}}),
]


def signed(world: World, name: str, words: Sequence[str], config: Mapping[str, Any], identity: str) -> str:
    image = world.push(f"live/{name}")
    if words:
        services = ("--fulcio-url", world.url, "--rekor-url", world.url)
        world.sign(image, *words, *services, "--identity-token", identity, environment=world.old_roots)
    else:
        file = world.signing_config(**config)
        root = ("--signing-config", file, "--trusted-root", "trusted_root.json")
        world.sign(image, *root, "--identity-token", identity)
    return image


@pytest.mark.parametrize(("name", "words", "config", "spec"), SHAPES, ids=[shape[0] for shape in SHAPES])
def test_we_agree_with_cosign_on_what_it_signs(
    world: World, name: str, words: Sequence[str], config: Mapping[str, Any], spec: Mapping[str, Any]
) -> None:
    image = signed(world, name, words, config, token(ISSUER, EMAIL))
    asked = len(world.asked)
    proofs, reasons = judged(world, image, keyless(world, **spec))
    assert [proof.identity for proof in proofs] == [f"issuer={ISSUER},subject={EMAIL}"], reasons
    assert proofs[0].signed_at is not None
    assert (proofs[0].log_index is None) is (name == "tsa")
    # Everything was known: nobody was asked for a key, a proof or a time.
    assert len(world.asked) == asked
    wrong = [{"issuer": ISSUER, "subject": "mallory@acme.test"}, {"issuer": GITHUB, "subject": EMAIL}]
    for who in wrong:
        assert judged(world, image, keyless(world, who, **spec))[0] == []
    for identity, issuer, expected in (
        (EMAIL, ISSUER, True),
        ("mallory@acme.test", ISSUER, False),
        (EMAIL, GITHUB, False),
    ):
        verdict = [
            "verify", "--certificate-identity", identity, "--certificate-oidc-issuer", issuer, "--allow-http-registry",
            "--trusted-root", "trusted_root.json", image,
        ]  # fmt: skip
        if name == "tsa":
            # With no log at all cosign has to be told that it need not look for one.
            verdict += ["--insecure-ignore-tlog=true", "--use-signed-timestamps"]
        elif name == "classic":
            verdict = [word for word in verdict if word not in {"--trusted-root", "trusted_root.json"}]
            verdict += ["--new-bundle-format=false"]
        roots = world.old_roots if name == "classic" else {}
        assert world.run(*verdict, ok=False, environment=roots) is expected, (identity, issuer)


def test_a_workflow_of_github(world: World) -> None:
    claims = {
        "sub": WORKFLOW,
        "repository_uri": "https://github.com/acme/shop",
        "ref": "refs/tags/v1",
        "trigger": "push",
        "environment": "production",
        "runner": "github-hosted",
    }
    image = signed(world, "github", (), {"rekor": 1}, token(GITHUB, **claims))
    wanted = {"repository": "acme/*", "workflow": "release.yml", "ref": "refs/tags/v*", "environment": "production"}
    proofs, reasons = judged(world, image, keyless(world, {"github": wanted}))
    assert [proof.identity for proof in proofs] == [f"issuer={GITHUB},subject={WORKFLOW}"], reasons
    for field, other in (
        ("repository", "evil/*"),
        ("workflow", "other.yml"),
        ("ref", "refs/heads/*"),
        ("environment", "x"),
    ):
        assert judged(world, image, keyless(world, {"github": {**wanted, field: other}}))[0] == [], field


def test_a_key_with_an_entry_in_each_log(world: World) -> None:
    world.run("generate-key-pair", "--output-key-prefix", "live")
    pem = (world.folder / "live.pub").read_text()
    root = (world.folder / "trusted_root.json").read_text()
    logged = build(key=pem, tlog="require", trustRoot=root)
    for rekor, stamped in ((1, False), (2, True)):
        image = world.push(f"live/key-rekor{rekor}")
        file = world.signing_config(rekor=rekor, stamped=stamped, fulcio=False)
        world.sign(image, "--key", "live.key", "--signing-config", file, "--trusted-root", "trusted_root.json")
        proofs, reasons = judged(world, image, logged)
        assert [proof.log_index is not None and proof.signed_at is not None for proof in proofs] == [True], reasons
        assert judged(world, image, build(key=key("other").pem, tlog="require", trustRoot=root))[0] == []
    unlogged = world.push("live/key-unlogged")
    file = world.signing_config(fulcio=False)
    world.sign(unlogged, "--key", "live.key", "--signing-config", file)
    assert judged(world, unlogged, build(key=pem))[0]
    assert judged(world, unlogged, logged) == ([], ["no log entry, which the policy demands"])


def own_authority(world: World) -> tuple[Issued, Issued]:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    root = issue("live root", ca=True, begins=now - DAY, ends=now + 30 * DAY)
    names = x509.SubjectAlternativeName([x509.RFC822Name("release@acme.test")])
    leaf = issue(
        "live release", root, purposes=[CODE_SIGNING], extensions=[(names, False)], begins=now - DAY, ends=now + DAY
    )
    private = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, content in (("own-root.pem", root.pem), ("own-leaf.pem", leaf.pem), ("own.pk8", private)):
        (world.folder / name).write_bytes(content)
    world.run("import-key-pair", "--key", "own.pk8", "--output-key-prefix", "own")
    return root, leaf


def test_a_certificate_of_ones_own_authority(world: World) -> None:
    root, leaf = own_authority(world)
    by = ("--key", "own.key", "--certificate", "own-leaf.pem", "--certificate-chain", "own-root.pem")
    tsa = {"tsa": (world.folder / "tsa.pem").read_text(), "require": True}
    certificate = {"roots": root.pem.decode(), "email": "release@acme.test"}
    for name, words, spec in (
        ("bundle", ("--signing-config", world.signing_config(fulcio=False)), {}),
        ("stamped", ("--signing-config", world.signing_config(stamped=True, fulcio=False)), {"timestamp": tsa}),
        ("classic", (*OLD, "--tlog-upload=false"), {}),
    ):
        image = world.push(f"live/own-{name}")
        world.sign(image, *by, *words)
        proofs, reasons = judged(world, image, build(certificate=certificate, **spec))
        assert [proof.serial for proof in proofs] == [f"{leaf.certificate.serial_number:x}"], (name, reasons)
        assert SigningKey(root.key).fingerprint in proofs[0].identity
        assert (proofs[0].signed_at is not None) is (name == "stamped")
        other = {**certificate, "email": "mallory@acme.test"}
        assert judged(world, image, build(certificate=other, **spec))[0] == []
        elsewhere = {**certificate, "roots": issue("x", ca=True).pem.decode()}
        assert judged(world, image, build(certificate=elsewhere, **spec))[0] == []


@pytest.mark.skipif(shutil.which("cosign-v2") is None, reason="NO COSIGN-V2: cosign 2 signs nothing live")
def test_cosign_2_keyless(world: World) -> None:
    image = world.push("live/v2")
    words = ("sign", "--fulcio-url", world.url, "--rekor-url", world.url, "--identity-token", token(ISSUER, EMAIL))
    world.run(*words, "--allow-http-registry", image, program="cosign-v2", environment=world.old_roots)
    proofs, reasons = judged(world, image, keyless(world))
    assert [proof.identity for proof in proofs] == [f"issuer={ISSUER},subject={EMAIL}"], reasons


def test_what_cosign_writes_about_roots_is_read_in_full(world: World) -> None:
    by = keyless(world).by
    assert isinstance(by, Keyless)
    root = by.root
    assert (len(root.logs), len(root.authorities), len(root.certificate_logs)) == (2, 1, 1)
    assert len(root.timestamp_authorities) == 1
