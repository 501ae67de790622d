"""GPG simple signing by the real tools: what gpg and skopeo sign is accepted, and what gpg refuses is not.

Skipped, loudly, where the tools are not installed; the captures hold what they wrote.
"""

import asyncio
import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pysequoia
import pytest
from aiohttp import web
from typer.testing import CliRunner

from tests import captures
from tests.captures import IMAGE, NOW
from tests.fake.openpgp import DAY, bound, certificate, message, openpgp_key, payload, self_signed
from tests.fake.registry import to_json
from tests.formats.test_contract import PATH, claim_of
from tests.formats.test_gpg import checked, gpg
from webhook.cli import app
from webhook.image import digest_of
from webhook.parsing import Invalid

needs_gpg = pytest.mark.skipif(shutil.which("gpg") is None, reason="NO GPG: nothing is compared with GnuPG's verdicts")
SKOPEO = ("gpg", "skopeo", "docker-registry")
needs_skopeo = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in SKOPEO),
    reason=f"NO {', '.join(tool for tool in SKOPEO if shutil.which(tool) is None).upper()}: no image is signed by skopeo",
)
TEXT = to_json(payload(PATH, IMAGE))


class GnuPG:
    """gpg with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700)

    def run(self, *words: str, at: str | None = None, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        options = [
            "--batch",
            "--yes",
            "--no-tty",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
            "--trust-model",
            "always",
        ]
        when = ["--faked-system-time", f"{at}!"] if at else []
        environment = {**os.environ, "GNUPGHOME": str(self.home), "LC_ALL": "C"}
        return subprocess.run(  # noqa: S603 - the tool under test
            ["gpg", *options, *when, *words],  # noqa: S607 - whichever gpg is on the PATH
            input=stdin,
            capture_output=True,
            env=environment,
            timeout=60,
            check=False,
        )

    def did(self, *words: str, at: str | None = None, stdin: bytes | None = None) -> bytes:
        done = self.run(*words, at=at, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def key(self, name: str, kind: str, use: str = "sign", life: str = "never", at: str = "20260101T000000") -> str:
        """Makes a key; gives its fingerprint."""
        self.did("--quick-gen-key", name, kind, use, life, at=at)
        return self.fingerprints(name)[0]

    def fingerprints(self, name: str) -> list[str]:
        listed = self.did("--list-keys", "--with-colons", name).decode().splitlines()
        return [line.split(":")[9] for line in listed if line.startswith("fpr")]

    def exported(self, name: str) -> bytes:
        return self.did("--export", name)

    def signed(self, name: str, *options: str, at: str = "20260102T000000") -> bytes:
        return self.did("-u", name, *options, "-o", "-", "-s", at=at, stdin=TEXT)

    def accepts(self, signed: bytes) -> bool:
        """Whether there is one signature, and it is good for a key that is neither expired nor revoked: as GPGME's callers ask."""
        done = self.run("--status-fd", "1", "-o", "-", "--decrypt", at=f"{NOW:%Y%m%dT%H%M%S}", stdin=signed)
        words = [line.split()[1] for line in done.stdout.split(b"\n") if line.startswith(b"[GNUPG:] ")]
        good = [
            word for word in words if word in {b"GOODSIG", b"BADSIG", b"ERRSIG", b"EXPSIG", b"EXPKEYSIG", b"REVKEYSIG"}
        ]
        return done.returncode == 0 and good == [b"GOODSIG"] and b"VALIDSIG" in words

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, timeout=60)  # noqa: S603, S607 - its own agent


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[GnuPG]:
    # A socket's path is short.
    home = Path(os.path.realpath(tmp_path)).parent / f"g{os.getpid()}"
    made = GnuPG(home)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(home, ignore_errors=True)


def ours(signed: bytes, *rings: bytes) -> str:
    return checked(gpg(*rings), signed, claim_of(IMAGE))


@needs_gpg
@pytest.mark.parametrize("kind", ["rsa3072", "ed25519", "nistp256", "nistp384", "nistp521"])
def test_g01_what_gnupg_signs_is_accepted(tool: GnuPG, kind: str) -> None:
    fingerprint = tool.key("release", kind)
    ring = tool.exported("release")
    for options in (
        [],
        ["-z", "0"],
        ["--compress-algo", "zlib"],
        ["--compress-algo", "bzip2"],
        ["--digest-algo", "SHA512"],
    ):
        signed = tool.signed("release", *options)
        assert tool.accepts(signed)
        assert ours(signed, ring) == f"GPG:{fingerprint}"
    armored = tool.did("--armor", "--export", "release")
    assert ours(tool.signed("release"), armored) == f"GPG:{fingerprint}"


@needs_gpg
def test_g01_keys_are_judged_now_as_gnupg_does(tool: GnuPG) -> None:
    """Every state a key can be in: the same verdict. Sequoia's differs where it is said."""
    tool.key("plain", "ed25519")
    states = {"plain": (tool.exported("plain"), tool.signed("plain"))}
    for name, change in {
        "expired": None,
        "prolonged": ["--quick-set-expire", "FPR", "20270201T000000"],
        "shortened": ["--quick-set-expire", "FPR", "20260301T000000"],
    }.items():
        fingerprint = tool.key(name, "ed25519", life="20260201T000000" if name != "shortened" else "never")
        signed = tool.signed(name)
        if change is not None:
            tool.did(*[word.replace("FPR", fingerprint) for word in change], at="20260115T000000")
        states[name] = (tool.exported(name), signed)
    for name, life in {"subkey": "never", "expired-subkey": "20260201T000000", "revoked-subkey": "never"}.items():
        fingerprint = tool.key(name, "ed25519", use="cert")
        tool.did("--quick-add-key", fingerprint, "ed25519", "sign", life, at="20260101T000100")
        signed = tool.signed(name)
        if name == "revoked-subkey":
            edit(tool, fingerprint, "key 1\nrevkey\ny\n2\nsuperseded\n\ny\nsave\n")
        states[name] = (tool.exported(name), signed)
    fingerprint = tool.key("retired", "ed25519")
    signed = tool.signed("retired")
    edit(tool, fingerprint, "revkey\ny\n3\nretired\n\ny\nsave\n")
    states["retired"] = (tool.exported("retired"), signed)

    verdicts = {
        name: (ours(signed, ring).startswith("GPG:"), tool.accepts(signed), sequoia(signed, ring))
        for name, (ring, signed) in states.items()
    }
    assert verdicts == {
        "plain": (True, True, True),
        "expired": (False, False, True),
        "prolonged": (True, True, False),
        "shortened": (False, False, False),
        "subkey": (True, True, True),
        "expired-subkey": (False, False, True),
        "revoked-subkey": (False, False, True),
        "retired": (False, False, True),
    }


def edit(tool: GnuPG, fingerprint: str, commands: str) -> None:
    done = tool.run(
        "--command-fd",
        "0",
        "--status-fd",
        "2",
        "--edit-key",
        fingerprint,
        at="20260301T000000",
        stdin=commands.encode(),
    )
    assert done.returncode == 0, done.stderr.decode()


def sequoia(signed: bytes, ring: bytes) -> bool:
    try:
        pysequoia.verify(signed, store=lambda _: pysequoia.Cert.split_bytes(ring))
    except RuntimeError:
        return False
    return True


LAXER = {
    "its head announces another": "GnuPG takes the signature's word where the head of the message says otherwise",
    "its content is not a literal packet": "GnuPG reads forms of text that nobody defines",
    "cut short": "GnuPG reads a packet that ends before it says",
    "not signed by a key": "GnuPG overlooks the two bytes of the hash, and lengths of integers, that stand beside a signature",
}
"""Where we refuse what GnuPG accepts, and why that is wanted."""


@needs_gpg
@pytest.mark.parametrize("kind", ["ed25519", "rsa2048", "secp256r1"])
def test_g01_one_changed_byte_never_makes_us_accept_what_gnupg_refuses(tool: GnuPG, kind: str) -> None:
    key = openpgp_key("diff", kind)
    ring, signed = certificate(key), message(key, TEXT, NOW - DAY)
    tool.did("--import", stdin=ring)
    assert (tool.accepts(signed), ours(signed, ring)) == (True, f"GPG:{key.fingerprint}")
    chance = random.Random(f"message {kind}")  # noqa: S311 - the same places each time
    end = len(signed)
    differences = []
    for place in [*range(40), *chance.sample(range(40, end - 40), 60), *range(end - 40, end)]:
        changed = bytearray(signed)
        changed[place] ^= chance.randrange(1, 256)
        we, they = ours(bytes(changed), ring), tool.accepts(bytes(changed))
        if we.startswith("GPG:") is not they:
            differences.append(f"byte {place}: {we}")
    print("\n".join(differences))  # noqa: T201 - the report
    assert [one for one in differences if not any(known in one for known in LAXER)] == []


@needs_gpg
def test_g05_one_changed_byte_of_a_keyring_never_makes_us_accept_what_gnupg_refuses(tool: GnuPG) -> None:
    key, sub = openpgp_key("diff"), openpgp_key("diffsub")
    ring, signed = certificate(key, self_signed(key), bound(key, sub)), message(sub, TEXT, NOW - DAY)
    chance = random.Random("keyring")  # noqa: S311 - the same places each time
    differences = []
    for place in [None, *chance.sample(range(len(ring)), 80)]:
        changed = bytearray(ring)
        if place is not None:
            changed[place] ^= chance.randrange(1, 256)
        for left in tool.home.glob("pubring*"):
            left.unlink()
        tool.run("--import", stdin=bytes(changed))
        they = tool.accepts(signed)
        try:
            we = ours(signed, bytes(changed))
        except Invalid as e:
            we = f"refused: {e}"
        if we.startswith("GPG:") is not they:
            differences.append(f"byte {place}: {we}")
    print("\n".join(differences))  # noqa: T201 - the report
    # What remains of a self-signature after a change GnuPG may still take; we never take what it leaves.
    assert [one for one in differences if ": GPG:" in one and "refused" not in one] == []


# ── skopeo ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def docker_registry(folder: Path) -> AsyncIterator[str]:
    """docker-registry on a free port; gives its host."""
    host = f"127.0.0.1:{free_port()}"
    config = {"version": 0.1, "storage": {"inmemory": {}}, "http": {"addr": host}}
    (folder / "registry.yaml").write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        "docker-registry", "serve", str(folder / "registry.yaml"),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(*host.split(":"))
                writer.close()
                break
            await asyncio.sleep(0.1)
        yield host
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def serving_files(folder: Path) -> AsyncIterator[str]:
    """A folder over HTTP; gives its host."""

    async def handle(request: web.Request) -> web.StreamResponse:
        file = folder / request.path.lstrip("/")
        return web.FileResponse(file) if file.is_file() else web.Response(status=404)

    application = web.Application()
    application.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def image_layout(folder: Path) -> None:
    """The captured image as an OCI layout, which skopeo copies from."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for file in captures.path("unsigned").glob("*-*"):
        content = file.read_bytes()
        (blobs / digest_of(content).removeprefix("sha256:")).write_bytes(content)
    manifest = (blobs / IMAGE.removeprefix("sha256:")).read_bytes()
    entry = {"mediaType": json.loads(manifest)["mediaType"], "digest": IMAGE, "size": len(manifest)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


@needs_skopeo
async def test_g01_g03_an_image_that_skopeo_signed_is_allowed_and_no_other(tool: GnuPG, tmp_path: Path) -> None:
    release = tool.key("release", "ed25519", at="20260101T000000")
    tool.key("other", "ed25519", at="20260101T000000")
    image_layout(tmp_path / "layout")
    async with docker_registry(tmp_path) as host, serving_files(tmp_path / "sigs") as store:
        (tmp_path / "registries.d").mkdir()
        entry = {host: {"lookaside": f"file://{tmp_path}/sigs"}}
        (tmp_path / "registries.d" / "d.yaml").write_text(json.dumps({"docker": entry}))
        copy = [
            "skopeo", "--registries.d", str(tmp_path / "registries.d"), "--insecure-policy", "copy",
            "--preserve-digests", "--dest-tls-verify=false",
        ]  # fmt: skip
        for signed, options in (("acme/signed", ["--sign-by", release]), ("acme/unsigned", [])):
            done = await asyncio.create_subprocess_exec(
                *copy, *options, f"oci:{tmp_path}/layout", f"docker://{host}/{signed}:v1",
                env={**os.environ, "GNUPGHOME": str(tool.home)},
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            said, _ = await done.communicate()
            assert done.returncode == 0, said.decode()
        registries = {"registries": [{"host": name, "plainHTTP": True} for name in (host, store)]}
        (tmp_path / "registries.yaml").write_text(json.dumps(registries))

        async def verify(image: str, ring: str, **options: object) -> tuple[int, str]:
            keys = tool.did("--armor", "--export", ring).decode()
            spec = {
                "images": [f"{host}/**"],
                "signers": [{"name": "release", "gpg": {"keys": keys, "lookaside": f"http://{store}", **options}}],
            }
            policy = {
                "apiVersion": "trusted-images.dev/v1alpha1",
                "kind": "TrustPolicy",
                "metadata": {"name": "p"},
                "spec": spec,
            }
            (tmp_path / "policy.yaml").write_text(json.dumps(policy))
            words = ["verify", f"{host}/{image}", "--policy", str(tmp_path / "policy.yaml"), "-o", "json"]
            words += ["--registries", str(tmp_path / "registries.yaml")]
            answer = await asyncio.to_thread(lambda: CliRunner().invoke(app, words))
            return answer.exit_code, answer.output

        code, said_json = await verify("acme/signed:v1", "release")
        assert (code, json.loads(said_json)[0]["policies"][0]["signers"][0]["identity"]) == (0, f"GPG:{release}")
        assert (await verify(f"acme/signed@{IMAGE}", "release"))[0] == 0
        refused: list[tuple[str, str, dict[str, object], str]] = [
            ("acme/signed:v1", "other", {}, f"signed by unknown key GPG:{release}"),
            ("acme/signed:v1", "release", {"identity": {"repository": "acme.test/x"}}, "`identity` does not accept"),
            ("acme/unsigned:v1", "release", {}, "it carries no signature"),
        ]
        for image, ring, changed, why in refused:
            code, said_json = await verify(image, ring, **changed)
            assert (code, why in json.loads(said_json)[0]["reasons"][0]) == (1, True)
