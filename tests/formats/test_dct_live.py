"""Docker Content Trust with the real tools: what `notary` signs we accept, and what we accept `notary` accepts too."""

import base64
import contextlib
import datetime as dt
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.fake import notary_tools
from tests.fake.notary import RELEASES, NotaryRepository, certified
from tests.fake.notary_tools import Notary
from tests.fake.registry import FakeRegistry
from tests.formats.test_dct import GUN, IMAGE, MUTATIONS, OTHER, ROLES, build, claim, fields, judged, repository
from webhook.formats.dct.signer import Dct
from webhook.image import Digest
from webhook.registry.client import RegistryClient
from webhook.registry.dockerconfig import AnonymousKeychain
from webhook.registry.settings import RegistrySettings
from webhook.trust import Rejected, Untrusted
from webhook.verdict import Proof

_log = logging.getLogger(__name__)

pytestmark = pytest.mark.skipif(bool(notary_tools.MISSING), reason=notary_tools.WHY_NOT)


class Publisher:
    """A repository that `notary` keeps on `notary-server`, and what we say of it."""

    def __init__(self, notary: Notary) -> None:
        self.notary = notary

    async def add(self, tag: str, digest: Digest, *roles: str) -> None:
        """Signs a tag, in the targets role unless others are named."""
        where = [argument for role in roles for argument in ("-r", role)]
        await self.notary.must("addhash", "-p", GUN, tag, "401", "--sha256", digest.removeprefix("sha256:"), *where)

    async def root_pem(self) -> str:
        """The certificate of the root key in use."""
        url = f"{self.notary.server}/v2/{GUN}/_trust/tuf/root.json"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            root = json.loads(await response.read())["signed"]
        (keyid,) = root["roles"]["root"]["keyids"]
        return base64.b64decode(root["keys"][keyid]["keyval"]["public"]).decode()

    def signer(self, *pems: str, **spec: Any) -> Dct:
        return build(server=self.notary.server, rootKeys=[*pems], **spec)

    async def judge(self, signer: Dct, tag: str | None, digest: Digest = IMAGE) -> Proof | str:
        """The proof, or why there is none. A client of its own each time: nothing is remembered."""
        settings = RegistrySettings.plain_http([self.notary.server.removeprefix("http://")])
        client = RegistryClient(settings)
        try:
            [evidence] = [e async for e in signer.collect(claim(tag, digest), client.under(AnonymousKeychain()))]
            if not isinstance(evidence, Untrusted):
                return str(evidence)
            return signer.check(evidence, claim(tag, digest), dt.datetime.now(dt.UTC))
        except Rejected as e:
            return str(e)
        finally:
            await client.close()


@contextlib.asynccontextmanager
async def publishing(folder: Path) -> AsyncIterator[Publisher]:
    async with notary_tools.serving(folder) as server:
        publisher = Publisher(Notary(server, folder))
        await publisher.notary.must("init", "-p", GUN)
        await publisher.add("v1", IMAGE)
        yield publisher


async def test_what_notary_signs_is_accepted_and_nothing_else(tmp_path: Path) -> None:
    async with publishing(tmp_path) as publisher:
        signer = publisher.signer(await publisher.root_pem())
        assert isinstance(await publisher.judge(signer, "v1"), Proof)
        assert isinstance(await publisher.judge(signer, None), Proof)
        for tag, digest, why in (
            ("v1", OTHER, f"targets: tag v1 is signed for another image, {IMAGE}"),
            ("v2", IMAGE, "targets: nothing signed for tag v2"),
            (None, OTHER, "targets: no tag is signed for this image"),
        ):
            assert await publisher.judge(signer, tag, digest) == why
        stranger = publisher.signer(certified(ec.generate_private_key(ec.SECP256R1()), GUN).pem.decode())
        assert await publisher.judge(stranger, "v1") == "root: not signed by a root key of the policy"
        await publisher.notary.must("remove", "-p", GUN, "v1")
        assert await publisher.judge(signer, "v1") == "targets: nothing signed for tag v1"


async def test_delegations_and_rotated_keys_of_notary_are_followed(tmp_path: Path) -> None:
    async with publishing(tmp_path) as publisher:
        notary = publisher.notary
        first = await publisher.root_pem()
        alice = certified(ec.generate_private_key(ec.SECP256R1()), "alice")
        (tmp_path / "alice.crt").write_bytes(alice.pem)
        form = PrivateFormat.PKCS8
        (tmp_path / "alice.key").write_bytes(alice.private.private_bytes(Encoding.PEM, form, NoEncryption()))
        for role in (RELEASES, "targets/alice"):
            await notary.must("delegation", "add", "-p", GUN, role, str(tmp_path / "alice.crt"), "--all-paths")
        await notary.must("key", "rotate", GUN, "snapshot", "-r")
        await notary.must("key", "import", str(tmp_path / "alice.key"), "--role", "user")
        await publisher.add("v2", IMAGE, RELEASES, "targets/alice")
        await publisher.add("v3", OTHER, RELEASES)
        await publisher.add("v3", IMAGE, "targets/alice")
        both = publisher.signer(first, delegations=["releases", "alice"])
        found = await publisher.judge(both, "v2")
        assert isinstance(found, Proof)
        assert alice.public.fingerprint in found.keys
        assert "nothing signed for tag v1" in str(await publisher.judge(both, "v1"))
        assert "is signed for another image" in str(await publisher.judge(both, "v3"))
        # The root key is replaced twice: the policy may name any of the three.
        pems = [first]
        for _ in range(2):
            await notary.must("key", "rotate", GUN, "root")
            pems.append(await publisher.root_pem())
        assert len(set(pems)) == 3
        for pem in pems:
            assert isinstance(await publisher.judge(publisher.signer(pem), "v2"), Proof)
        await notary.must("key", "rotate", GUN, "targets")
        assert isinstance(await publisher.judge(publisher.signer(first), "v1"), Proof)


# ── our verdict beside notary's own ──────────────────────────────────────────────────────────────────────────────────
STRICTER = {
    ("expired", RELEASES): "notary passes over a delegation that it cannot use, and looks into the next role",
    ("too_few_signatures", RELEASES): "the same",
    ("wrong_key", RELEASES): "the same",
    ("claimed_key", RELEASES): "the same",
    ("no_keys", RELEASES): "the same",
}
"""Where we reject and notary does not, and why; the other way round there is nothing."""


@contextlib.asynccontextmanager
async def serving(registry: FakeRegistry) -> AsyncIterator[str]:
    """What our fake would answer, over HTTP."""

    async def handle(request: web.Request) -> web.Response:
        content = registry.documents.get(f"https://notary.test{request.path}")
        if request.path == "/v2/":
            return web.Response()
        if not isinstance(content, bytes):
            return web.json_response({"errors": [{"code": "METADATA_NOT_FOUND"}]}, status=404)
        return web.Response(body=content)

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def of_today(targets: Mapping[str, Mapping[str, str]] | None = None) -> NotaryRepository:
    """A repository that is valid now, by the clock that notary asks."""
    now = dt.datetime.now(dt.UTC)
    made = repository(targets=targets or {"targets": {"v1": IMAGE, "v2": IMAGE}, RELEASES: {"v2": IMAGE}})
    end = (now + dt.timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return made.copy(expires=dict.fromkeys(ROLES, end))


class Oracle:
    """`notary lookup` over what our fake serves, and our verdict on the same bytes."""

    def __init__(self, server: str, registry: FakeRegistry, folder: Path) -> None:
        self.server = server
        self.registry = registry
        self.folder = folder
        self.count = 0
        self.differences: dict[tuple[str, str], str] = {}

    async def compare(self, name: str, role: str, made: NotaryRepository) -> bool:
        """Our verdict; what differs is kept, with what each says."""
        made.publish(self.registry)
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        notary = Notary(self.server, folder)
        notary.pin(GUN, made.keys["root"][0].id)
        code, said = await notary.run("lookup", GUN, "v2")
        theirs = code == 0 and IMAGE.removeprefix("sha256:") in said
        try:
            await judged(self.registry, claim("v2"), build(), dt.datetime.now(dt.UTC))
        except Rejected as e:
            ours, why = False, str(e)
        else:
            ours, why = True, "accepted"
        if ours != theirs:
            self.differences[name, role] = f"{'wider' if ours else 'stricter'}: {why} | {said[-160:]}"
        return ours


@contextlib.asynccontextmanager
async def oracle(folder: Path) -> AsyncIterator[Oracle]:
    registry = FakeRegistry()
    async with serving(registry) as server:
        made = Oracle(server, registry, folder)
        assert await made.compare("valid", "all", of_today())
        assert not made.differences, made.differences
        yield made


async def test_t10_each_fault_is_judged_as_by_notary_itself(tmp_path: Path) -> None:
    faults: list[tuple[Callable[[NotaryRepository, str], None], str]] = [*MUTATIONS]
    async with oracle(tmp_path) as both:
        for mutate, _ in faults:
            for role in ROLES:
                made = of_today()
                mutate(made, role)
                if mutate.__name__ == "expired":
                    made.expires[role] = "2026-01-01T00:00:00Z"
                await both.compare(mutate.__name__, role, made)
        assert set(both.differences) == set(STRICTER), both.differences
        assert all(text.startswith("stricter: ") for text in both.differences.values()), both.differences


@pytest.mark.parametrize("role", ROLES)
async def test_t03_signed_nonsense_that_notary_refuses_is_refused(tmp_path: Path, role: str) -> None:
    """Each field replaced by each of these before it is signed. We may be stricter, and never wider."""
    # Notary's `lookup` goes through the roles in another order than docker, so one of them knows the tag; and it reads every tag's
    # hashes before it is asked for one, so there is no other tag.
    holder = RELEASES if role == RELEASES else "targets"
    targets = {"targets": {}, RELEASES: {}, holder: {"v2": IMAGE}}
    original = json.loads(of_today(targets).made()[role])["signed"]
    random = Random(role)  # noqa: S311 - the same choice each time
    async with oracle(tmp_path) as both:
        for path in fields(original):
            for value in random.sample([None, {}, [], "", 0, -1, True, "x", 2**40, ["x"], {"x": "x"}], 4):

                def replaces(said: dict[str, Any], path: Any = path, value: object = value) -> None:
                    node: Any = said
                    for step in path[:-1]:
                        node = node[step]
                    node[path[-1]] = value

                made = of_today(targets)
                made.edit[role] = replaces
                await both.compare(f"{path} = {value!r}", role, made)
        for what, text in both.differences.items():
            _log.info("%s: %s", what, text)
        wider = {what: text for what, text in both.differences.items() if text.startswith("wider")}
        assert not wider, wider
