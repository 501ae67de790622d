"""The registry client against a registry on loopback: requests counted, bytes hashed, faults told (R, S, D-01, F)."""

import asyncio
import base64
import contextlib
import datetime as dt
import json
import os
import resource
import ssl
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests import captures
from tests.fake.http_registry import (
    Handler,
    HTTPRegistry,
    answers,
    endless,
    reset,
    serving,
    stalled,
    status,
    truncated,
)
from tests.fake.registries import FakeKeychain
from tests.fake.registry import OCI_MANIFEST, FakeRegistry
from tests.fake.signing import attest, key, sign_bundle, sign_classic
from tests.policies import policy
from webhook import limits
from webhook.admission.tls import write_self_signed
from webhook.image import Digest, Subject, digest_of, parse_reference, parse_repository
from webhook.judge.evaluate import Judge
from webhook.judge.workload import Placed, Question
from webhook.memory.store import PolicyStore
from webhook.policy.policy import Workload
from webhook.registry.client import RegistryClient, RegistryPort
from webhook.registry.dockerconfig import AnonymousKeychain
from webhook.registry.settings import FixedSettings, RegistrySettings, Settings, parse_settings
from webhook.registry.transport import Timeouts, Transport, is_refused
from webhook.trust import BY_REGISTRIES, Credential, Descriptor, Keychain, Platform, Rejected, Unavailable
from webhook.verdict import Allowed, Denied, Finding, Ruling, Undecided

PATH = "shop/app"


class Logins:
    """The same logins for every repository."""

    def __init__(self, *credentials: Credential) -> None:
        self.credentials = credentials

    def known(self, repository: object) -> tuple[Credential, ...]:
        return self.credentials

    async def access(self, repository: object) -> tuple[Credential, ...]:
        return self.credentials


class World:
    """A registry over HTTP, and a client of it."""

    def __init__(self, http: HTTPRegistry, client: RegistryClient) -> None:
        self.http = http
        self.client = client
        self.registry = http.registry
        self.digest = self.registry.push_image(PATH, "v1")

    @property
    def name(self) -> str:
        return f"{self.http.host}/{PATH}"

    def port(self, keychain: Keychain | None = None) -> RegistryPort:
        return self.client.under(keychain or AnonymousKeychain())

    async def resolve(self, tag: str = "v1", keychain: Keychain | None = None) -> Digest:
        return (await self.port(keychain).resolve(parse_reference(f"{self.name}:{tag}"))).digest

    def script(self, ending: str, *handlers: Handler) -> None:
        """These answers in turn, then the last again and again."""
        waiting = list(handlers)

        async def handler(request: web.Request) -> web.StreamResponse:
            return await (waiting.pop(0) if len(waiting) > 1 else waiting[0])(request)

        self.http.script[ending] = handler


QUICK = Timeouts(connect=1.0, request=1.0)


@dataclass
class Changed:
    """Settings that a test changes once it knows the ports."""

    current: RegistrySettings = field(default_factory=RegistrySettings)


@contextlib.asynccontextmanager
async def world(settings: Settings | RegistrySettings | None = None, **options: Any) -> AsyncIterator[World]:
    async with serving(HTTPRegistry(FakeRegistry(), **options)) as http:
        client = RegistryClient(settings or RegistrySettings.plain_http([http.host]), timeouts=QUICK)
        try:
            yield World(http, client)
        finally:
            await client.close()


# ── the plain way, and how many requests it takes ────────────────────────────────────────────────────────────────────


async def test_a_tag_is_resolved_once_for_all_who_ask() -> None:
    async with world() as w:
        assert set(await asyncio.gather(*(w.resolve() for _ in range(50)))) == {w.digest}
        assert w.http.count() == 1
        by_digest = await w.port().resolve(parse_reference(f"{w.name}@{w.digest}"))
        assert by_digest.digest == w.digest
        assert w.http.count() == 1  # its manifest had been read already


async def test_an_index_brings_its_children() -> None:
    async with world() as w:
        index = w.registry.push_index(PATH, "multi", [w.digest])
        found = await w.port().resolve(parse_reference(f"{w.name}:multi"))
        assert (found.digest, found.children) == (index, (w.digest,))
        assert found.platforms == (Platform("linux/arch0", w.digest),)
        assert (await w.port().resolve(parse_reference(f"{w.name}:v1"))).platforms is None


async def test_r06_what_a_node_could_choose_of_an_index() -> None:
    async with world() as w:
        children = [w.registry.push_image(PATH, f"c{i}", b"%d" % i) for i in range(4)]
        platforms = [
            {"os": "linux", "architecture": "arm64", "variant": "v8"},
            {"os": "unknown", "architecture": "unknown"},
            None,
            {"architecture": "amd64"},
        ]
        w.registry.push_index(PATH, "multi", children, platforms)
        found = await w.port().resolve(parse_reference(f"{w.name}:multi"))
        assert found.children == tuple(children)
        assert found.platforms == (
            Platform("linux/arm64/v8", children[0]),
            Platform("no platform", children[2]),
            Platform("amd64", children[3]),
        )


async def test_absence_is_no_failure() -> None:
    async with world() as w:
        repository = parse_repository(w.name)
        assert await w.port().manifest(repository, "gone") is None
        assert await w.port().blob(repository, Descriptor(digest_of(b"gone"), "x", 4), 100) is None
        with pytest.raises(Rejected, match="there is no such image in the registry"):
            await w.resolve("gone")


@pytest.mark.parametrize(
    ("bearer", "signed", "requests"),
    [(False, "classic", 3), (False, "bundle", 5), (True, "classic", 5), (True, "bundle", 7)],
)
async def test_a_cold_image_costs_few_requests_and_a_warm_one_none(bearer: bool, signed: str, requests: int) -> None:
    # Manifest, `.sig` tag and referrers at once; then, for a bundle, its manifest and its blob. The payload of the classic
    # form is rebuilt from the name it was signed under, and not fetched. A login costs the challenge and the token.
    async with world(bearer=bearer) as w:
        if signed == "classic":
            sign_classic(
                w.registry, PATH, w.digest, key("a"),
                edit_payload=lambda payload: payload["critical"]["identity"].update({"docker-reference": w.name}),
            )  # fmt: skip
        else:
            sign_bundle(w.registry, PATH, w.digest, key("a"))
        asked: list[int] = []
        for _ in range(2):
            await _judged(w)
            asked.append(w.http.count())
        assert asked[0] == requests
        assert asked[1] == asked[0]


async def test_signatures_and_attestations_of_one_image_share_their_requests() -> None:
    async with world() as w:
        sign_bundle(w.registry, PATH, w.digest, key("a"))
        attest(w.registry, PATH, w.digest, key("a"))
        types = ["slsa-provenance", "https://slsa.dev/provenance/v1"]
        attestations = [{"name": f"x{i}", "type": t} for i, t in enumerate(types)]
        assert isinstance(await _judged(w, attestations=attestations), Allowed)
        # The image; the tags `.sig` and `.att` and the referrers at once; two bundles, each a manifest and a blob.
        assert w.http.count("manifests") + w.http.count("referrers") == 6
        assert w.http.count("blobs") == 2


async def _judged(w: World, keychain: Keychain | None = None, **fields: Any) -> Allowed | Denied | Undecided:
    class Silent:
        def verified(self, signer: str, finding: Finding) -> None: ...

        def recalled(self, *, hit: bool) -> None: ...

    judge = getattr(w, "judge", None)
    if judge is None:
        pool = ThreadPoolExecutor(1)
        judge = Judge(w.client, pool=pool, now=lambda: captures.NOW, observer=Silent())
        w.judge = judge  # type: ignore[attr-defined]  # kept for the second question
    store = PolicyStore()
    store.put(policy("shop/web", {"signers": [{"name": "a", "cosign": {"key": key("a").pem}}]}, **fields))
    question = Question(Workload("shop", "default", {}), (), (Placed("spec", f"{w.name}:v1", "main"),))
    deadline = asyncio.get_running_loop().time() + 5
    (ruling,) = (await judge.judge(question, store.snapshot, keychain or AnonymousKeychain(), deadline)).judgements
    assert isinstance(ruling, Ruling)
    return ruling.outcome


# ── bytes are what they are ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        (b"{}", {"Content-Type": OCI_MANIFEST}, "schemaVersion"),
        (b"not json", {"Content-Type": OCI_MANIFEST}, "not JSON in UTF-8"),
        (b'{"schemaVersion":2,"config":{},"config":{}}', {"Content-Type": OCI_MANIFEST}, "duplicate key config"),
        (b'{"schemaVersion":1,"config":{}}', {"Content-Type": OCI_MANIFEST}, "schema version 1 is not supported"),
        (b'{"schemaVersion":2,"config":{}}', {"Content-Type": "text/html"}, "neither manifest nor index"),
        (b'{"schemaVersion":2,"config":{}}', {"Content-Type": ""}, "neither manifest nor index"),
        (
            b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":{}}',
            {"Content-Type": OCI_MANIFEST},
            "and says it is",
        ),
        (b'{"schemaVersion":2,"config":{},"manifests":[]}', {"Content-Type": OCI_MANIFEST}, "as manifest and as index"),
        (b'{"schemaVersion":2,"manifests":[]}', {"Content-Type": OCI_MANIFEST}, "as manifest and as index"),
        (b'{"schemaVersion":2}', {"Content-Type": OCI_MANIFEST}, "as manifest and as index"),
        (
            json.dumps(
                {"schemaVersion": 2, "manifests": [{"digest": digest_of(bytes([i]))} for i in range(65)]}
            ).encode(),
            {"Content-Type": "application/vnd.oci.image.index.v1+json"},
            "an index of 65 images",
        ),
        (
            b'{"schemaVersion":2,"manifests":[{"digest":"sha512:x"}]}',
            {"Content-Type": "application/vnd.oci.image.index.v1+json"},
            "not a digest",
        ),
        (
            b'{"schemaVersion":2,"config":{},"Layers":[]}',
            {"Content-Type": OCI_MANIFEST},
            "are one key to other readers",
        ),
        (
            b'{"schemaVersion":2,"manifests":[{"platform":{"os":"unknown","architecture":"unknown","OS":"linux"}}]}',
            {"Content-Type": "application/vnd.oci.image.index.v1+json"},
            "OS and os are one key to other readers",
        ),
        (
            b'{"schemaVersion":2,"manifests":[{"digest":"sha256:0","platform":{"os":1}}]}',
            {"Content-Type": "application/vnd.oci.image.index.v1+json"},
            "os: expected str, got int",
        ),
        (
            b'{"schemaVersion":2,"config":{"Digest":"x"}}',
            {"Content-Type": OCI_MANIFEST},
            "are one key to other readers",
        ),
        (
            '{"schemaVersion":2,"manifests":[],"manife\u017fts":[]}'.encode(),
            {"Content-Type": "application/vnd.oci.image.index.v1+json"},
            "are one key to other readers",
        ),
        (
            b'{"schemaVersion":2,"config":{},"layers":[' + b"{}," * 20_000 + b"{}]}",
            {"Content-Type": OCI_MANIFEST},
            "more than 20000 values",
        ),
        (
            b'{"schemaVersion":2,"config":{}}',
            {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": digest_of(b"x")},
            "the registry says sha256:",
        ),
        (b"{}", {"Content-Type": OCI_MANIFEST, "Content-Encoding": "gzip"}, "an encoded body"),
        (b"x" * (limits.MAX_MANIFEST + 1), {"Content-Type": OCI_MANIFEST}, "an answer of more than 4194304 bytes"),
        (b"{}", {f"X-{i}": "x" for i in range(200)}, "in no way that HTTP allows"),
    ],
)
async def test_r07_r02_a_manifest_that_could_be_two_things_is_rejected(
    body: bytes, headers: dict[str, str], why: str
) -> None:
    async with world() as w:
        w.script("/manifests/v1", answers(body, headers))
        with pytest.raises((Rejected, Unavailable, ValueError), match=why):
            await w.resolve()


async def test_r02_f08_other_bytes_than_those_of_the_digest_are_rejected() -> None:
    async with world() as w:
        other = w.registry.manifests[PATH, w.registry.push_image(PATH, "other", b"other")].body
        w.script(f"/manifests/{w.digest}", answers(other, {"Content-Type": OCI_MANIFEST}))
        with pytest.raises(Rejected, match="the registry returned other bytes"):
            await w.port().resolve(parse_reference(f"{w.name}@{w.digest}"))


async def test_r02_blobs_are_hashed_and_of_the_size_that_was_said() -> None:
    async with world() as w:
        repository, digest = parse_repository(w.name), w.registry.push_blob(b"blob")
        assert await w.port().blob(repository, Descriptor(digest, "x", 4), 100) == b"blob"
        with pytest.raises(Rejected, match="4 bytes, and its descriptor says 5"):
            await w.port().blob(repository, Descriptor(digest, "x", 5), 100)
        assert w.http.count("blobs") == 1
        short = w.registry.push_blob(b"shorter")
        with pytest.raises(Rejected, match="more than 3 bytes"):
            await w.port().blob(repository, Descriptor(short, "x", 3), 100)
        with pytest.raises(Rejected, match="more than 2 bytes"):
            await w.port().blob(repository, Descriptor(short, "x", 7), 2)
        w.script(f"/blobs/{short}", answers(b"changed", {}))
        with pytest.raises(Rejected, match="other bytes"):
            await w.port().blob(repository, Descriptor(short, "x", 7), 100)


async def test_d02_f13_an_endless_answer_is_cut_off() -> None:
    async with world() as w:
        w.script("/manifests/v1", endless())
        with pytest.raises(Rejected, match="an answer of more than 4194304 bytes"):
            await w.resolve()
        w.script("/manifests/v1", status(500, body=b"x" * 10_000_000))
        with pytest.raises(Unavailable, match="answers 500"):
            await w.resolve()


async def test_d01_bytes_in_the_air_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_READING_PER_REGISTRY", 10)
    async with world() as w:
        blob = w.registry.push_blob(b"x" * 11)
        small = w.registry.push_blob(b"x" * 10)
        port, repository = w.port(), parse_repository(w.name)
        with pytest.raises(Unavailable, match="bytes are under way already"):
            await port.blob(repository, Descriptor(blob, "x", 11), 100)
        # What was read is given back, whatever came of it.
        for _ in range(3):
            assert await port.blob(repository, Descriptor(small, "x", 10), 100) == b"x" * 10


async def test_d07_a_registry_that_stalls_holds_no_bytes_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_READING", 1000)
    async with world() as slow, world() as w:
        both = RegistrySettings.plain_http([slow.http.host, w.http.host])
        client = RegistryClient(both, timeouts=QUICK)
        promised = [Descriptor(digest_of(bytes([i])), "x", 900) for i in range(5)]
        for blob in promised:
            slow.script(f"/blobs/{blob.digest}", stalled(asyncio.Event()))
        port = client.under(AnonymousKeychain())
        stalling = [asyncio.create_task(port.blob(parse_repository(slow.name), blob, 1000)) for blob in promised]
        await asyncio.sleep(0.05)
        assert (await port.resolve(parse_reference(f"{w.name}:v1"))).digest == w.digest
        for task in stalling:
            task.cancel()
        await asyncio.gather(*stalling, return_exceptions=True)
        await client.close()


async def test_d07_one_registry_does_not_take_the_turns_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WAITING_PER_REGISTRY", 2)
    async with world() as slow, world() as w:
        client = RegistryClient(RegistrySettings.plain_http([slow.http.host, w.http.host]), timeouts=QUICK)
        for tag in ("a", "b"):
            slow.script(f"/manifests/{tag}", stalled(asyncio.Event()))
        port = client.under(AnonymousKeychain())
        await port.resolve(parse_reference(f"{slow.name}:v1"))
        stalling = [asyncio.create_task(port.resolve(parse_reference(f"{slow.name}:{tag}"))) for tag in ("a", "b")]
        await asyncio.sleep(0.05)
        with pytest.raises(Unavailable, match="2 requests are under way already"):
            await port.resolve(parse_reference(f"{slow.name}:v2"))
        assert (await port.resolve(parse_reference(f"{w.name}:v1"))).digest == w.digest
        for task in stalling:
            task.cancel()
        await asyncio.gather(*stalling, return_exceptions=True)
        await client.close()


# ── referrers ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_referrers_of_all_pages() -> None:
    async with world(page=2) as w:
        for name in "abcde":
            sign_bundle(w.registry, PATH, w.digest, key(name))
        subject = Subject(parse_repository(w.name), w.digest, None)
        found = await w.port().referrers(subject)
        assert found is not None
        assert len(found) == 5
        assert w.http.count("referrers") == 3


async def test_d01_f12_pages_without_end_are_bounded() -> None:
    async with world() as w:
        empty = b'{"schemaVersion":2,"manifests":[]}'
        headers = {"Content-Type": "application/vnd.oci.image.index.v1+json"}
        path = f"/v2/{PATH}/referrers/{w.digest}"
        w.script(f"/referrers/{w.digest}", answers(empty, {**headers, "Link": f'<{path}?n=1>; rel="next"'}))
        await w.port().referrers(Subject(parse_repository(w.name), w.digest, None))
        assert w.http.count("referrers") == limits.MAX_REFERRER_PAGES


@pytest.mark.parametrize(
    "link", ['</v2/other/referrers/x?n=1>; rel="next"', '<?n=1>; rel="prev"', '<http://[::1>; rel="next"', "nonsense"]
)
async def test_f12_a_link_that_leads_elsewhere_is_not_followed(link: str) -> None:
    async with world() as w:
        headers = {"Content-Type": "application/vnd.oci.image.index.v1+json", "Link": link}
        body = json.dumps({"manifests": [{"digest": "nonsense"}, {"digest": w.digest, "size": 3}]}).encode()
        w.script(f"/referrers/{w.digest}", answers(body, headers))
        found = await w.port().referrers(Subject(parse_repository(w.name), w.digest, None))
        assert found == (Descriptor(w.digest, "", 3),)
        assert w.http.count("referrers") == 1


@pytest.mark.parametrize("handler", [status(404), status(405), answers(b"<html>", {"Content-Type": "text/html"})])
async def test_a_registry_without_the_api_is_asked_once(handler: Handler) -> None:
    async with world() as w:
        subject = Subject(parse_repository(w.name), w.digest, None)
        w.script(f"/referrers/{w.digest}", handler)
        for _ in range(3):
            assert await w.port().referrers(subject) is None
        assert w.http.count("referrers") == 1


async def test_c20_a_repository_that_does_not_exist_says_nothing_about_its_registry() -> None:
    async with world() as w:
        nowhere = digest_of(b"x")
        w.script(f"/none/referrers/{nowhere}", status(404))
        assert await w.port().referrers(Subject(parse_repository(f"{w.http.host}/none"), nowhere, None)) is None
        sign_bundle(w.registry, PATH, w.digest, key("a"))
        assert isinstance(await _judged(w), Allowed)


async def test_a_later_page_that_is_none_ends_the_list() -> None:
    async with world(page=1) as w:
        for name in "ab":
            sign_bundle(w.registry, PATH, w.digest, key(name))

        async def handler(request: web.Request) -> web.StreamResponse:
            return web.Response(status=404) if request.query else w.http._content(request)

        w.script(f"/referrers/{w.digest}", handler)
        found = await w.port().referrers(Subject(parse_repository(w.name), w.digest, None))
        assert found is not None
        assert len(found) == 1


async def test_attachments_end_each_for_itself() -> None:
    async with world() as w:
        subject = Subject(parse_repository(w.name), w.digest, None)
        tag = w.digest.replace(":", "-") + ".sig"
        w.script(f"/manifests/{tag}", status(500))
        w.script(f"/referrers/{w.digest}", answers(b"{", {"Content-Type": "application/json"}))
        found = await w.port().attachments(subject, tag)
        assert isinstance(found.tagged, Unavailable)
        assert isinstance(found.referrers, Rejected)


# ── the signature extension ──────────────────────────────────────────────────────────────────────────────────────────
async def test_g03_the_extensions_list_is_read_once_and_absence_is_an_answer() -> None:
    async with world() as w:
        subject = Subject(parse_repository(w.name), w.digest, None)
        for _ in range(2):
            assert await w.port().signatures(subject) is None
        assert w.http.count("/extensions/v2/") == 1
    async with world() as w:
        subject = Subject(parse_repository(w.name), w.digest, None)
        w.registry.signature_lists[PATH, w.digest] = b'{"signatures":[]}'
        for _ in range(2):
            assert await w.port().signatures(subject) == b'{"signatures":[]}'
        assert [asked.path for asked in w.http.asked] == [f"/extensions/v2/{PATH}/signatures/{w.digest}"]


async def test_g03_m01_the_extensions_list_needs_the_repositorys_login() -> None:
    async with world(users={"user": "right"}, bearer=True, anonymous=False) as w:
        subject = Subject(parse_repository(w.name), w.digest, None)
        w.registry.signature_lists[PATH, w.digest] = b"{}"
        assert await w.port(Logins(Credential("user", "right"))).signatures(subject) == b"{}"
        with pytest.raises(Unavailable):
            await w.port(Logins(Credential("user", "wrong"))).signatures(subject)
        with pytest.raises(Unavailable):
            await w.port().signatures(subject)


async def test_g03_d01_a_list_of_the_extension_is_bounded() -> None:
    async with world() as w:
        subject = Subject(parse_repository(w.name), w.digest, None)
        w.registry.signature_lists[PATH, w.digest] = bytes(limits.MAX_SIGNATURE_LIST + 1)
        with pytest.raises(Rejected, match="more than 4194304 bytes"):
            await w.port().signatures(subject)


# ── logins ───────────────────────────────────────────────────────────────────────────────────────────────────────────

RIGHT, WRONG = Credential("user", "right"), Credential("user", "wrong")


@pytest.mark.parametrize("bearer", [True, False])
async def test_every_login_is_tried_as_the_kubelet_does(bearer: bool) -> None:
    async with world(users={"user": "right"}, bearer=bearer, anonymous=False) as w:
        assert await w.resolve(keychain=Logins(WRONG, RIGHT)) == w.digest


@pytest.mark.parametrize("bearer", [True, False])
async def test_v03_f05_a_wrong_login_is_an_outage_and_not_a_denial(bearer: bool) -> None:
    async with world(users={"user": "right"}, bearer=bearer, anonymous=False) as w:
        with pytest.raises(Unavailable, match="refuse"):
            await w.resolve(keychain=Logins(WRONG))
        with pytest.raises(Unavailable, match=r"wants credentials, and none match|gives no token to strangers"):
            await w.resolve()


async def test_m01_what_one_login_read_another_reads_for_itself() -> None:
    async with world(users={"user": "right"}) as w:
        assert await w.resolve(keychain=Logins(RIGHT)) == w.digest
        with pytest.raises(Unavailable, match="wants credentials"):
            await w.resolve()
        with pytest.raises(Unavailable):
            await w.port().manifest(parse_repository(w.name), w.digest)
        assert isinstance(await _judged(w), Undecided)


async def test_a_token_serves_many_requests_and_its_challenge_is_met_once() -> None:
    async with world(bearer=True) as w:
        await asyncio.gather(*(w.port().manifest(parse_repository(w.name), f"v{i}") for i in range(20)))
        assert w.http.count("token") == 1
        assert w.http.count("manifests") <= 21


async def test_f05_a_token_that_ended_early_is_replaced() -> None:
    async with world(bearer=True) as w:
        await w.resolve()
        w.http.tokens.clear()
        assert await w.port().manifest(parse_repository(w.name), "gone") is None
        assert w.http.count("token") == 2


async def test_an_identity_token_goes_to_the_token_service_only() -> None:
    async with world(users={"<token>": "refresh"}, bearer=True, anonymous=False) as w:
        login = Credential("<token>", "refresh", identity_token=True)
        assert await w.resolve(keychain=Logins(login)) == w.digest
        assert all("refresh" not in str(asked.headers) + str(asked.query) for asked in w.http.asked)
    async with world(users={"<token>": "refresh"}) as w:
        with pytest.raises(Unavailable, match="refused"):
            await w.resolve(keychain=Logins(login))
        assert all("Authorization" not in asked.headers for asked in w.http.asked)


async def test_s01_a_login_does_not_go_to_another_hosts_token_service() -> None:
    # Plain HTTP is allowed for all of them, so that nothing else stands in the way.
    settings = Changed()
    async with world(settings, users={"user": "right"}, bearer=True) as w, world(users={"user": "right"}) as thief:
        settings.current = RegistrySettings.plain_http([w.http.host, thief.http.host])
        w.http.realm = f"http://{thief.http.host}/token"
        with pytest.raises(
            Unavailable, match=r"its token service .* is another host; to log in there, an operator adds"
        ) as refused:
            await w.resolve(keychain=Logins(RIGHT))
        assert str(refused.value).endswith(BY_REGISTRIES)
        assert thief.http.count() == 0


async def test_s01_a_token_service_on_an_internal_address_is_not_asked() -> None:
    async with world(bearer=True) as w, world() as metadata:
        w.http.realm = f"https://{metadata.http.host}/token"
        with pytest.raises(Unavailable, match="on an internal address"):
            await w.resolve()
        assert metadata.http.count() == 0


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (answers(b"{}", {}), "holds no token"),
        (answers(b'{"token": ""}', {}), "holds no token"),
        (answers(b'{"token": "a\\r\\nX-Evil: b"}', {}), "holds no token"),
        (answers(b'{"token": 7}', {}), "cannot be read"),
        (answers(b"<html>", {}), "cannot be read"),
        (status(403), "gives no token to strangers \\(403\\)"),
        (answers(b"x" * (limits.MAX_TOKEN + 1), {}), "an answer of more than"),
    ],
)
async def test_s10_a_token_services_nonsense_is_told(handler: Handler, why: str) -> None:
    async with world(bearer=True) as w:
        w.script("/token", handler)
        with pytest.raises((Unavailable, Rejected), match=why):
            await w.resolve()


async def test_a_challenge_that_changes_is_met_again() -> None:
    async with world(users={"user": "right"}) as w:
        await w.resolve(keychain=Logins(RIGHT))
        w.http.bearer = True
        assert await w.port(Logins(RIGHT)).manifest(parse_repository(w.name), "gone") is None


async def test_the_operators_logins_come_after_the_pods(tmp_path: Path) -> None:
    async with serving(HTTPRegistry(FakeRegistry(), users={"user": "right"})) as http:
        auth = base64.b64encode(b"user:right").decode()
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {http.host: {"auth": auth}}}))
        text = f"registries: [{{host: '{http.host}', plainHTTP: true, credentials: {{dockerconfig: '{config}'}}}}]"
        client = RegistryClient(parse_settings(text.encode(), "x"), timeouts=QUICK)
        w = World(http, client)
        repository = parse_repository(w.name)
        assert client.known(Logins(WRONG), repository) == (WRONG, RIGHT)
        assert await client.opened(Logins(WRONG), repository) == (WRONG, RIGHT)
        assert client.known(FakeKeychain(slow=True), repository) is None
        assert await w.resolve() == w.digest
        await client.close()


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [500, 502, 503, 504])
async def test_f04_a_server_error_is_tried_again_and_then_an_outage(code: int) -> None:
    async with world() as w:
        image = w.registry.manifests[PATH, w.digest].body
        w.script("/manifests/v1", status(code), status(code), answers(image, {"Content-Type": OCI_MANIFEST}))
        assert await w.resolve() == w.digest
        w.script("/manifests/v2", status(code))
        with pytest.raises(Unavailable, match=f"answers {code}"):
            await w.resolve("v2")
        assert w.http.count("v2/shop/app/manifests/v2") == 1 + limits.MAX_RETRIES


@pytest.mark.parametrize("code", [400, 402, 410, 418, 204])
async def test_v03_other_answers_are_an_outage_at_once(code: int) -> None:
    async with world() as w:
        w.script("/manifests/v1", status(code))
        with pytest.raises(Unavailable, match=f"the registry answers {code}"):
            await w.resolve()
        assert w.http.count() == 1


@pytest.mark.parametrize(
    ("handler", "why"),
    [(reset(), "the connection broke"), (truncated(b"{", 100), "the connection broke")],
)
async def test_f07_a_broken_connection_is_tried_again(handler: Handler, why: str) -> None:
    async with world() as w:
        image = w.registry.manifests[PATH, w.digest].body
        w.script("/manifests/v1", handler, answers(image, {"Content-Type": OCI_MANIFEST}))
        assert await w.resolve() == w.digest
        w.script("/manifests/v2", handler)
        with pytest.raises(Unavailable, match=why):
            await w.resolve("v2")


async def test_f06_silence_is_an_outage_after_the_time_of_a_request() -> None:
    async with world() as w:
        release = asyncio.Event()
        w.script("/manifests/v1", stalled(release))
        with pytest.raises(Unavailable, match="no answer within"):
            await w.resolve()
        release.set()
        assert w.http.count() == 1


async def test_f03_a_registry_that_wants_to_be_left_alone_is() -> None:
    async with world() as w:
        now = [0.0]
        w.client._transport._clock = lambda: now[0]
        w.script("/manifests/v1", status(429, {"Retry-After": "30"}))
        with pytest.raises(Unavailable, match="answers 429") as first:
            await w.resolve()
        assert first.value.retry_after == 30
        now[0] = 10
        with pytest.raises(Unavailable, match="has asked to be left alone for 20 s more"):
            await w.resolve()
        assert w.http.count() == 1
        now[0] = 31
        del w.http.script["/manifests/v1"]
        assert await w.resolve() == w.digest


@pytest.mark.parametrize("pause", [None, "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "٣", "0"])
async def test_f03_a_pause_that_is_no_number_is_a_short_one(pause: str | None) -> None:
    async with world() as w:
        image = w.registry.manifests[PATH, w.digest].body
        limited = status(429, {} if pause is None else {"Retry-After": pause})
        w.script("/manifests/v1", limited, answers(image, {"Content-Type": OCI_MANIFEST}))
        assert await w.resolve() == w.digest


async def test_f01_nobody_listens() -> None:
    async with world() as w:
        host = w.http.host
    client = RegistryClient(RegistrySettings.plain_http([host]), timeouts=QUICK)
    with pytest.raises(Unavailable, match=r"Connect call failed|refused"):
        await client.under(AnonymousKeychain()).resolve(parse_reference(f"{host}/a:v1"))
    await client.close()


async def test_f02_a_name_that_does_not_resolve() -> None:
    client = RegistryClient(RegistrySettings.empty(), timeouts=QUICK)
    with pytest.raises(Unavailable, match=r"cannot be resolved|no answer|internal address"):
        await client.under(AnonymousKeychain()).resolve(parse_reference("nowhere.invalid/a:v1"))
    await client.close()


async def test_f38_without_descriptors_it_is_an_outage_that_ends() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with world() as w:
        lowest_free = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            with pytest.raises(Unavailable, match="Too many open files"):
                await w.resolve()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await w.resolve() == w.digest


async def test_s06_requests_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_FETCHES", 0)
    async with world() as w:
        with pytest.raises(Unavailable, match="0 requests are under way already"):
            await w.resolve()


# ── redirects, addresses, TLS ────────────────────────────────────────────────────────────────────────────────────────


def redirect(location: str) -> Handler:
    return status(307, {"Location": location})


async def test_a_blob_may_come_from_elsewhere_and_the_login_does_not_follow() -> None:
    async with world(users={"user": "right"}) as w, world() as store:
        both = RegistrySettings.plain_http([w.http.host, store.http.host])
        client = RegistryClient(both, timeouts=QUICK)
        digest = w.registry.push_blob(b"blob")
        w.script(f"/blobs/{digest}", redirect(f"http://{store.http.host}/data"))
        store.script("/data", answers(b"blob", {}))
        # A first request meets the challenge, so that the login is sent with what follows.
        await client.under(Logins(RIGHT)).resolve(parse_reference(f"{w.name}:v1"))
        blob = await client.under(Logins(RIGHT)).blob(parse_repository(w.name), Descriptor(digest, "x", 4), 10)
        assert blob == b"blob"
        assert "Authorization" in w.http.asked[-1].headers
        assert "Authorization" not in store.http.asked[-1].headers
        await client.close()


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://169.254.169.254/latest/meta-data", "without TLS|internal address"),
        ("https://169.254.169.254/latest/meta-data", "never asked"),
        ("https://127.0.0.1:1/x", "internal address"),
        ("file:///etc/passwd", "an address that is refused"),
        ("ftp://example.com/x", "an address that is refused"),
        ("http://user:pass@127.0.0.1/x", "an address that is refused"),
        ("http://[::1", "redirects to no URL"),
        ("http://other.invalid/x", "redirects to another host without TLS"),
    ],
)
async def test_s02_redirects_that_are_not_followed(location: str, why: str) -> None:
    async with world() as w:
        w.script("/manifests/v1", redirect(location))
        with pytest.raises(Unavailable, match=why):
            await w.resolve()


async def test_f10_redirects_are_bounded() -> None:
    async with world() as w:
        w.script("/manifests/v1", redirect("v1"))
        with pytest.raises(Unavailable, match="more than 5 redirects"):
            await w.resolve()
        w.script("/manifests/v2", status(307))
        with pytest.raises(Unavailable, match="answers 307"):
            await w.resolve("v2")


async def test_s02_a_login_that_is_posted_is_not_redirected() -> None:
    async with world(users={"<token>": "refresh"}, bearer=True) as w:
        w.script("/token", redirect("/elsewhere"))
        with pytest.raises(Unavailable, match="redirects what is posted to it, which is refused"):
            await w.resolve(keychain=Logins(Credential("<token>", "refresh", identity_token=True)))


@pytest.mark.parametrize(
    ("address", "refused", "refused_to_people"),
    [
        ("127.0.0.1", True, False),
        ("10.0.0.1", True, False),
        ("192.168.1.1", True, False),
        ("172.16.0.1", True, False),
        ("100.64.0.1", True, False),
        ("::1", True, False),
        ("fd00::1", True, False),
        ("169.254.169.254", True, True),
        ("fe80::1", True, True),
        ("fe80::1%eth0", True, True),
        ("0.0.0.0", True, True),  # noqa: S104 - compared, not bound
        ("::", True, True),
        ("224.0.0.1", True, True),
        ("::ffff:169.254.169.254", True, True),
        ("::ffff:10.0.0.1", True, False),
        ("64:ff9b::a9fe:a9fe", True, True),
        ("2002:a9fe:a9fe::1", True, True),
        ("8.8.8.8", False, False),
        ("2606:4700::1111", False, False),
        ("64:ff9b::808:808", False, False),
        ("64:ff9b:1::1", True, False),
        ("fec0::1", True, False),
        ("::7f00:1", True, False),
        ("192.88.99.1", True, False),
    ],
)
def test_s05_internal_addresses_in_every_spelling(address: str, refused: bool, refused_to_people: bool) -> None:
    assert is_refused(address, private=False) is refused
    assert is_refused(address, private=True) is refused_to_people


async def test_s05_a_name_of_an_internal_address_is_refused_unless_the_operator_names_it() -> None:
    async with world() as w:
        port = w.http.host.rpartition(":")[2]
        for name in (f"localhost:{port}", f"127.0.0.1:{port}"):
            client = RegistryClient(RegistrySettings.plain_http_everywhere(), timeouts=QUICK)
            with pytest.raises(Unavailable, match="internal address") as refused:
                await client.under(AnonymousKeychain()).resolve(parse_reference(f"{name}/{PATH}:v1"))
            assert str(refused.value).endswith(f"an operator can allow it {BY_REGISTRIES}")
            await client.close()
            people = RegistryClient(RegistrySettings.plain_http_everywhere(), timeouts=QUICK, private_addresses=True)
            found = await people.under(AnonymousKeychain()).resolve(parse_reference(f"{name}/{PATH}:v1"))
            assert found.digest == w.digest
            await people.close()


async def test_s02_https_never_becomes_http(tmp_path: Path) -> None:
    files = write_self_signed(tmp_path, ["localhost"], dt.datetime.now(dt.UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    async with world() as plain, serving(HTTPRegistry(FakeRegistry()), context) as http:
        digest = http.registry.push_blob(b"blob")
        http.script[f"/blobs/{digest}"] = redirect(f"http://{plain.http.host}/data")
        plain.script("/data", answers(b"blob", {}))
        settings = (
            f"registries: [{{host: '{http.host}', ca: '{files[0]}'}}, {{host: '{plain.http.host}', plainHTTP: true}}]"
        )
        client = RegistryClient(parse_settings(settings.encode(), "x"), timeouts=QUICK)
        with pytest.raises(Unavailable, match="redirects from https to http, which is refused"):
            await client.under(AnonymousKeychain()).blob(
                parse_repository(f"{http.host}/{PATH}"), Descriptor(digest, "x", 4), 100
            )
        assert not plain.http.count("/data")
        await client.close()


async def test_s05_link_local_addresses_are_refused_even_where_the_operator_names_the_host() -> None:
    client = RegistryClient(RegistrySettings.plain_http(["169.254.169.254"]), timeouts=QUICK)
    with pytest.raises(Unavailable, match="is an address that is never asked"):
        await client.under(AnonymousKeychain()).resolve(parse_reference("169.254.169.254/latest/meta-data:v1"))
    await client.close()


async def test_s03_f09_tls_with_a_private_authority_and_without(tmp_path: Path) -> None:
    files = write_self_signed(tmp_path, ["localhost"], dt.datetime.now(dt.UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    async with serving(HTTPRegistry(FakeRegistry()), context) as http:
        digest = http.registry.push_image(PATH, "v1")
        reference = parse_reference(f"{http.host}/{PATH}:v1")

        async def resolved(settings: str) -> Digest:
            client = RegistryClient(parse_settings(settings.encode(), "x"), timeouts=QUICK)
            try:
                return (await client.under(AnonymousKeychain()).resolve(reference)).digest
            finally:
                await client.close()

        assert await resolved(f"registries: [{{host: '{http.host}', ca: '{files[0]}'}}]") == digest
        with pytest.raises(Unavailable, match="its TLS certificate is refused: "):
            await resolved(f"registries: [{{host: '{http.host}'}}]")
        broken = tmp_path / "broken.pem"
        broken.write_text("no certificate")
        with pytest.raises(Unavailable, match=r"the certificate authority .* cannot be read"):
            await resolved(f"registries: [{{host: '{http.host}', ca: '{broken}'}}]")
    async with world() as w:
        client = RegistryClient(
            parse_settings(f"registries: [{{host: '{w.http.host}'}}]".encode(), "x"), timeouts=QUICK
        )
        with pytest.raises(Unavailable, match="is it a plain HTTP registry"):
            await client.under(AnonymousKeychain()).resolve(parse_reference(f"{w.name}:v1"))
        await client.close()


async def test_p11_a_mirror_is_asked_and_the_image_judged_under_its_own_name() -> None:
    async with serving(HTTPRegistry(FakeRegistry())) as http:
        digest = http.registry.push_image("hub/acme/web", "v1")
        mirror = f"{{source: docker.io, prefix: '{http.host}/hub'}}"
        text = f"registries: [{{host: '{http.host}', plainHTTP: true, mirrors: [{mirror}]}}]"
        client = RegistryClient(parse_settings(text.encode(), "x"), timeouts=QUICK)
        image = parse_reference("acme/web:v1")
        assert (await client.under(AnonymousKeychain()).resolve(image)).digest == digest
        assert client.recall_resolved(image, ()) is not None
        await client.close()


def test_docker_hub_is_asked_where_it_lives() -> None:
    client = RegistryClient(RegistrySettings.empty())
    registry = client.settings.current.of("docker.io")
    assert str(client._transport.url(registry, "/v2/")) == "https://registry-1.docker.io/v2/"


async def test_r01_what_is_judged_is_what_the_one_answer_about_the_tag_said() -> None:
    # A registry that says one digest to the first who asks and another to the next: there is no next.
    async with world() as w:
        sign_bundle(w.registry, PATH, w.digest, key("a"))
        other = w.registry.push_image(PATH, "other", b"unsigned")
        bodies = iter([w.registry.manifests[PATH, w.digest], *[w.registry.manifests[PATH, other]] * 9])

        async def turning(_request: web.Request) -> web.Response:
            manifest = next(bodies)
            return web.Response(body=manifest.body, content_type=manifest.media_type)

        w.http.script["/manifests/v1"] = turning
        outcome = await _judged(w)
        assert isinstance(outcome, Allowed)
        assert outcome.subject.digest == w.digest
        assert w.http.count("/manifests/v1") == 1


# ── proxies ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@contextlib.asynccontextmanager
async def proxy(seen: list[str]) -> AsyncIterator[str]:
    """A forward proxy for plain HTTP; what it is asked for is noted."""

    async def forward(request: web.BaseRequest) -> web.Response:
        seen.append(str(request.url))
        async with aiohttp.ClientSession() as session, session.get(str(request.url)) as answer:
            return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)

    server = web.Server(forward)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        await server.shutdown(0.1)


async def test_s09_the_operators_proxy_is_used_and_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    async with proxy(seen) as address:
        monkeypatch.setenv("http_proxy", f"http://user:s3cr3t-CANARY@{address}")
        async with world() as w:
            assert await w.resolve() == w.digest
            assert seen == [f"http://{w.name}/manifests/v1".replace(w.http.host, f"{w.http.host}/v2")]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with world() as w:
            assert await w.resolve() == w.digest
            assert len(seen) == 1


async def test_s09_f41_a_proxy_that_is_down_is_an_outage_and_its_password_is_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("http_proxy", "http://user:s3cr3t-CANARY@127.0.0.1:9")
    async with world() as w:
        with pytest.raises(Unavailable) as caught:
            await w.resolve()
    assert "CANARY" not in str(caught.value) + caplog.text


async def test_r06_an_index_of_indexes_is_told_apart() -> None:
    async with world() as w:
        inner = w.registry.push_index(PATH, "inner", [w.digest])
        w.registry.push_index(PATH, "outer", [inner])
        found = {tag: await w.port().resolve(parse_reference(f"{w.name}:{tag}")) for tag in ("v1", "inner", "outer")}
        assert [one.is_nested for one in found.values()] == [False, False, True]


async def test_d01_a_manifest_of_signatures_is_smaller_than_an_images() -> None:
    async with world() as w:
        w.script("/manifests/x", answers(b" " * (limits.MAX_SIGNATURE_MANIFEST + 1), {"Content-Type": OCI_MANIFEST}))
        with pytest.raises(Rejected, match=f"more than {limits.MAX_SIGNATURE_MANIFEST} bytes"):
            await w.port().manifest(parse_repository(w.name), "x")


def test_s05_a_configured_name_may_lead_to_private_addresses_and_not_to_link_local_ones() -> None:
    settings = parse_settings(b"registries: [{host: 'reg.internal:5000'}]", "x")
    transport = Transport(FixedSettings(settings))
    assert transport._allows("reg.internal", 5000, "10.0.0.1")
    assert not transport._allows("other.internal", 5000, "10.0.0.1")
    assert not transport._allows("reg.internal", 5000, "169.254.169.254")
