"""Three traditions in one rule on a cluster: cosign by a key on a token, notation, and GPG, of which any two are enough.

The token is SoftHSM2, which every replica reads through the module that the chart mounts (docs/hardware.md, as it is written there).
"""

import base64
import contextlib
import functools
import http.server
import json
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from pkcs11 import ObjectClass
from pkcs11.util.ec import encode_ec_public_key

from tests.e2e.laboratory import IMAGE, NAMESPACE, Lab, free_port, install, resource, values
from tests.e2e.test_outages import everyone
from tests.e2e.test_story import in_force, pod, refused
from tests.e2e.tools import Failed, leave_out, need, run, until
from tests.fake.softhsm import MODULE, SoftHSM
from webhook.image import digest_of

TOKEN = "acme"
SIGNERS = ("release", "vendor", "qa")


@dataclass
class Signers:
    """Who signs, each in a tradition of its own: `release` by cosign, `vendor` by notation, `qa` by GPG."""

    lab: Lab
    folder: Path
    hsm: SoftHSM
    store: str
    """The host of the lookaside store."""

    @property
    def sign(self) -> dict[str, Callable[[str], None]]:
        """How each of them signs an image."""
        return {"release": self._release, "vendor": self._vendor, "qa": self._qa}

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the key on the token."""
        with self.hsm.session(TOKEN) as session:
            der = encode_ec_public_key(session.get_key(ObjectClass.PUBLIC_KEY, label="release"))
        spki = load_der_public_key(der).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"SHA256:{digest_of(spki).removeprefix('sha256:')}"

    def _release(self, image: str) -> None:
        # Debian's cosign is built without PKCS #11. What it would have the token sign, it prints, and what the token signed, it attaches.
        payload, signature = self.folder / "payload.json", self.folder / "signature"
        payload.write_text(run("cosign", "generate", "--allow-http-registry", image, env=self.lab.env))
        signature.write_bytes(base64.b64encode(self.hsm.sign(TOKEN, "release", payload.read_bytes())))
        run("cosign", "attach", "signature", "--allow-http-registry", "--payload", payload, "--signature", signature, image,
            env=self.lab.env)  # fmt: skip

    def _vendor(self, image: str) -> None:
        run("notation", "sign", "--insecure-registry", image, env=self.environment)

    def _qa(self, image: str) -> None:
        # Skopeo signs what it copies, also onto itself.
        name = f"docker://{image.partition('@')[0]}:v1"
        run("skopeo", "--insecure-policy", "--registries.d", self.folder / "registries.d", "copy", "--preserve-digests",
            "--src-tls-verify=false", "--dest-tls-verify=false", "--sign-by", "qa@acme.test", name, name,
            env=self.environment)  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """Where notation and GnuPG have their keys."""
        return {**self.lab.env, "XDG_CONFIG_HOME": str(self.folder), "GNUPGHOME": str(self.folder / "gnupg")}

    def make_keys(self) -> None:
        """A key each."""
        self.hsm.make_token(TOKEN)
        self.hsm.make_key(TOKEN, "secp256r1", "release")
        run("notation", "cert", "generate-test", "--default", "vendor.acme.test", env=self.environment)
        (self.folder / "gnupg").mkdir(mode=0o700)
        run("gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key", "qa@acme.test", "ed25519",
            "sign", "never", env=self.environment)  # fmt: skip
        kept = {"docker": {self.lab.public.host: {"lookaside": f"file://{self.folder}/store"}}}
        for name in ("registries.d", "store"):
            (self.folder / name).mkdir()
        (self.folder / "registries.d" / "e2e.yaml").write_text(json.dumps(kept))

    def policy(self, namespace: str) -> dict[str, object]:
        """Any two of them, in one namespace. Keys on tokens are for cluster policies."""
        own = (self.folder / "notation" / "localkeys" / "vendor.acme.test.crt").read_text()
        ring = run("gpg", "--armor", "--export", "qa@acme.test", env=self.environment)
        signers = [
            {"name": "release", "cosign": {"key": f"pkcs11:token={TOKEN};object=release"}},
            {
                "name": "vendor",
                "notation": {
                    "trustStores": [{"type": "ca", "certs": own}],
                    "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Notary, CN=vendor.acme.test"],
                },
            },
            {"name": "qa", "gpg": {"keys": ring, "lookaside": f"http://{self.store}"}},
        ]
        return resource("ClusterTrustPolicy", f"{namespace}-traditions", None, {
            "images": [f"{self.lab.public.host}/traditions/**"], "namespaces": {"match": [namespace]},
            "signers": signers, "require": f"2 of ({', '.join(SIGNERS)})",
        })  # fmt: skip


@pytest.fixture(scope="module")
def signers(lab: Lab) -> Iterator[Signers]:
    """Tools, keys and store, and a release that knows of token and store."""
    need("notation", "skopeo", "gpg", "gpg-agent", "softhsm2-util")
    if MODULE is None:
        leave_out("libsofthsm2.so not found")
    folder = lab.folder / "traditions"
    folder.mkdir()
    host = f"{lab.public.host.partition(':')[0]}:{free_port(lab.public.host.partition(':')[0])}"
    made = Signers(lab, folder, SoftHSM(folder / "hsm"), host)
    with pytest.MonkeyPatch.context() as patched, contextlib.ExitStack() as stack:
        for name, value in made.hsm.environment.items():
            patched.setenv(name, value)
        stack.callback(run, "gpgconf", "--homedir", folder / "gnupg", "--kill", "all")
        made.make_keys()
        stack.enter_context(serving(folder / "store", host))
        stack.callback(install, lab)
        install_with(made, push_module(lab, folder / "modules", made.hsm))
        yield made


def install_with(signers: Signers, module: str) -> None:
    """A release that reads tokens by the module in this image."""
    registries = values(signers.lab)["registries"]["registries"]
    install(signers.lab, {
        "registries": {"registries": [*registries, {"host": signers.store, "plainHTTP": True}]},
        "podAnnotations": {"e2e/registry": f"{signers.lab.public.host} {signers.store}"},
        "pkcs11": {"modules": ["/modules/libsofthsm2.so"]},
        "extraEnv": [{"name": "SOFTHSM2_CONF", "value": "/modules/softhsm2.conf"}],
        "extraVolumes": [{"name": "modules", "image": {"reference": module}}],
        "extraVolumeMounts": [{"name": "modules", "mountPath": "/modules", "readOnly": True}],
    })  # fmt: skip


@contextlib.contextmanager
def serving(folder: Path, host: str) -> Iterator[None]:
    """A folder over HTTP; 503 for everything while there is a file `down` in it."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if (folder / "down").exists():
                self.send_error(http.HTTPStatus.SERVICE_UNAVAILABLE)
            else:
                super().do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    address, _, port = host.partition(":")
    server = http.server.ThreadingHTTPServer((address, int(port)), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def push_module(lab: Lab, folder: Path, hsm: SoftHSM, tag: str = "v1") -> str:
    """An image with the module of this machine and the tokens, which everybody may read; its name with the digest."""
    assert MODULE is not None
    folder.mkdir()
    shutil.copy(MODULE, folder / "libsofthsm2.so")
    shutil.copytree(hsm.tokens, folder / "tokens")
    (folder / "softhsm2.conf").write_text("directories.tokendir = /modules/tokens\nlog.level = ERROR\n")
    load = ("run", "--rm", "--volume", f"{folder}:/modules:ro", "--entrypoint", "/app/venv/bin/python", IMAGE)
    try:
        run("docker", *load, "-c", "import ctypes; ctypes.CDLL('/modules/libsofthsm2.so')")
    except Failed as e:
        leave_out(f"the SoftHSM2 of this machine does not run in our image: {e}")

    def readable(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mode |= 0o555 if entry.isdir() else 0o444
        return entry

    with tarfile.open(folder / "layer.tar", "w") as layer:
        for name in ("libsofthsm2.so", "softhsm2.conf", "tokens"):
            layer.add(folder / name, name, filter=readable)
    base = lab.push(lab.public, "modules/base:v1")
    name = f"{lab.public.host}/modules/softhsm2"
    run("crane", "append", "--insecure", "--base", base, "--new_layer", folder / "layer.tar", "--new_tag", f"{name}:{tag}",
        env=lab.env)  # fmt: skip
    return f"{name}@{run('crane', 'digest', '--insecure', f'{name}:{tag}', env=lab.env).strip()}"


@pytest.fixture
def policed(lab: Lab, namespace: str, signers: Signers) -> Iterator[str]:
    """A namespace where any two of the three have to have signed, in force."""
    document = signers.policy(namespace)
    name = f"{namespace}-traditions"
    lab.cluster.apply(document)
    try:
        in_force(lab, "ctp", name)
        yield namespace
    finally:
        lab.cluster.kubectl("delete", "ctp", name, "--ignore-not-found")


def test_c07_any_two_traditions_admit_and_one_alone_is_refused_with_what_is_missing(
    lab: Lab, policed: str, signers: Signers
) -> None:
    [told, *_] = lab.cluster.get("ctp", f"{policed}-traditions")["status"]["signers"]
    assert told["fingerprints"] == [signers.fingerprint]
    for count in (0, 1, 2):
        for by in combinations(SIGNERS, count):
            image = lab.push(lab.public, f"traditions/{'-'.join(by) or 'nobody'}:v1")
            for name in by:
                signers.sign[name](image)
            if count == 2:
                lab.cluster.try_out(pod(image), policed)
                continue
            text = refused(lab, pod(image), policed)
            assert f"policy cluster/{policed}-traditions: " in text
            assert f"so that `2 of ({', '.join(SIGNERS)})`" in text
            missing = {name for name in SIGNERS if f'no signature by "{name}"' in text}
            # As soon as two are known not to have signed, the third is not waited for.
            assert missing == set(SIGNERS) - set(by) or (count == 0 and len(missing) == 2), text


def test_v04_a_store_that_is_down_hides_no_two_others_and_lets_nobody_in(
    lab: Lab, policed: str, signers: Signers
) -> None:
    both, alone = (lab.push(lab.public, f"traditions/down-{name}:v1") for name in ("both", "alone"))
    for image in (both, alone):
        signers.sign["release"](image)
    signers.sign["vendor"](both)
    down = signers.folder / "store" / "down"
    down.touch()
    try:
        lab.cluster.try_out(pod(both), policed)
        text = refused(lab, pod(alone), policed)
        assert "could not verify" in text
        assert signers.store in text
    finally:
        down.unlink()
    until(lambda: 'no signature by "qa"' in refused(lab, pod(alone), policed), "the store that is back", 40)


def test_f25_a_key_on_a_token_that_is_gone_counts_after_all_replicas_restarted(
    lab: Lab, policed: str, signers: Signers
) -> None:
    """The module finds no token any more, and nothing is left in any replica's memory."""
    both, alone = (lab.push(lab.public, f"traditions/kept-{name}:v1") for name in ("both", "alone"))
    for image in (both, alone):
        signers.sign["vendor"](image)
    signers.sign["release"](both)
    until(lambda: lab.cluster.get("secrets", "-n", NAMESPACE, "trusted-images-kept-keys"), "what is kept", 30)
    before = everyone(lab)
    empty = SoftHSM(signers.folder / "empty")
    try:
        install_with(signers, push_module(lab, signers.folder / "empty-modules", empty, "empty"))
        until(lambda: before.isdisjoint(everyone(lab)), "the end of the replicas before", 60)
        until(lambda: "its source cannot be asked since" in told(lab, policed), "the condition", 60)
        lab.cluster.try_out(pod(both), policed)
        text = refused(lab, pod(alone), policed)
        assert 'no signature by "release"' in text
    finally:
        install_with(signers, push_module(lab, signers.folder / "modules-again", signers.hsm))
    until(lambda: told(lab, policed) == "all keys have been read", "the token that is back", 60)


def told(lab: Lab, namespace: str) -> str:
    """What the policy's status says of its keys."""
    conditions = lab.cluster.get("ctp", f"{namespace}-traditions")["status"]["conditions"]
    return next(str(one["message"]) for one in conditions if one["type"] == "SignersResolved")
