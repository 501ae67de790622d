"""What lies elsewhere than in a registry, asked for over loopback: no internal address, no plain HTTP by default, few logins."""

import datetime as dt
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from tests.fake.http_registry import HTTPRegistry, serving, status
from tests.fake.registry import FakeRegistry
from webhook import limits
from webhook.admission.tls import write_self_signed
from webhook.image import Repository, digest_of, parse_repository
from webhook.registry.client import RegistryClient
from webhook.registry.dockerconfig import AnonymousKeychain
from webhook.registry.settings import HostSettings, RegistrySettings
from webhook.trust import Access, Credential, Rejected, Unavailable


@pytest.fixture
async def store() -> AsyncIterator[HTTPRegistry]:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=request.content_type.encode() + b" " + await request.read())

    async with serving(HTTPRegistry(FakeRegistry())) as http:
        http.script["/echo"] = echo
        http.script["/missing"] = status(404)
        http.script["/broken"] = status(403)
        yield http


def client(store: HTTPRegistry, *, named: bool = True) -> RegistryClient:
    return RegistryClient(RegistrySettings.plain_http([store.host]) if named else RegistrySettings.empty())


async def test_documents_are_read_once_and_absence_is_an_answer(store: HTTPRegistry) -> None:
    registries = client(store)
    port = registries.under(AnonymousKeychain())
    for _ in range(2):
        assert await port.get(f"http://{store.host}/echo", 100) == b"application/octet-stream "
        assert await port.get(f"http://{store.host}/missing#fragment", 100) is None
    assert store.count() == 2
    posted = await port.post(f"http://{store.host}/echo", b"question", "application/ocsp-request", 100)
    assert posted == b"application/ocsp-request question"
    assert [asked.method for asked in store.asked] == ["GET", "GET", "POST"]
    assert not any("Authorization" in asked.headers for asked in store.asked)
    await registries.close()


async def test_v03_another_status_is_no_answer_and_too_much_is_a_rejection(store: HTTPRegistry) -> None:
    registries = client(store)
    port = registries.under(AnonymousKeychain())
    with pytest.raises(Unavailable, match="answers 403"):
        await port.get(f"http://{store.host}/broken", 100)
    with pytest.raises(Rejected, match="more than 10 bytes"):
        await port.get(f"http://{store.host}/echo", 10)
    await registries.close()


@pytest.mark.parametrize(
    ("url", "insecure_http", "why"),
    [
        ("http://HOST/echo", False, "plain HTTP; an operator can allow it"),
        ("http://HOST/echo", True, "is an internal address"),
        ("https://169.254.169.254/x", False, "never asked"),
        ("file:///etc/passwd", True, "not a URL of http or https"),
        ("https://user:pass@example.test/x", False, "without a login"),
        ("https:///x", False, "not a URL"),
        ("http://[::1", True, "not a URL"),
    ],
)
async def test_s05_urls_that_are_not_asked(store: HTTPRegistry, url: str, insecure_http: bool, why: str) -> None:
    registries = client(store, named=False)
    with pytest.raises((Rejected, Unavailable), match=why):
        await registries.under(AnonymousKeychain()).get(
            url.replace("HOST", store.host), 100, insecure_http=insecure_http
        )
    assert store.count() == 0
    await registries.close()


# ── logins, and authorities that a policy brings ─────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Logins:
    """These logins for everything."""

    access_: Access

    def known(self, repository: Repository) -> Access | None:
        return self.access_

    async def access(self, repository: Repository) -> Access:
        return self.access_


RIGHT = Credential("user", "right")
WRONG = Credential("user", "wrong")


def document(http: HTTPRegistry) -> str:
    """A URL of what the fake serves only to those who may read it."""
    http.registry.push_blob(b"trust data")
    return f"{http.scheme}://{http.host}/v2/app/blobs/{digest_of(b'trust data')}"


async def test_a_service_that_gives_tokens_to_strangers_is_asked_for_one() -> None:
    async with serving(HTTPRegistry(FakeRegistry(), bearer=True)) as http:
        registries, url = client(http), document(http)
        port = registries.under(AnonymousKeychain())
        with pytest.raises(Unavailable, match="answers 401"):
            await port.get(url, 100)
        about = parse_repository("docker.io/library/nginx")
        assert await port.get(url, 100, about=about) == b"trust data"
        (token,) = [asked for asked in http.asked if asked.path == "/token"]
        assert token.query["scope"] == ["repository:docker.io/library/nginx:pull"]
        assert "Authorization" not in token.headers
        await registries.close()


@pytest.mark.parametrize("bearer", [True, False])
async def test_s01_a_login_is_shown_to_the_registry_s_own_host_and_nobody_else(*, bearer: bool) -> None:
    async with serving(HTTPRegistry(FakeRegistry(), users={"user": "right"}, bearer=bearer, anonymous=False)) as http:
        registries, url = client(http), document(http)
        own, other = parse_repository(f"{http.host}/app"), parse_repository("registry.test/app")
        port = registries.under(Logins((WRONG, RIGHT)))
        assert await port.get(url, 100, about=own) == b"trust data"
        http.asked.clear()
        with pytest.raises(Unavailable, match=r"answers 401|gives no token to strangers"):
            await port.get(url, 100, about=other)
        assert not any("Basic" in asked.headers.get("Authorization", "") for asked in http.asked)
        # What one login opened is not there for another, nor for nobody.
        with pytest.raises(Unavailable):
            await registries.under(AnonymousKeychain()).get(url, 100, about=own)
        with pytest.raises(Unavailable):
            await registries.under(Logins((WRONG,))).get(url, 100, about=own)
        await registries.close()


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, bytes]:
    """A server's side of TLS, and the authority that clients need."""
    files = write_self_signed(tmp_path, ["localhost"], dt.datetime.now(dt.UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context, files[0].read_bytes()


def named(*hosts: str) -> RegistryClient:
    """Internal addresses are the operator's to allow, whatever a policy says."""
    return RegistryClient(RegistrySettings({host: HostSettings(host, configured=True) for host in hosts}))


async def test_s03_an_authority_that_a_policy_brings_is_for_its_server_and_for_its_own_requests(
    tls: tuple[ssl.SSLContext, bytes],
) -> None:
    context, authority = tls
    async with serving(HTTPRegistry(FakeRegistry()), context) as http:
        registries, url = named(http.host), document(http)
        port = registries.under(AnonymousKeychain())
        assert await port.get(url, 100, ca=authority) == b"trust data"
        # Neither what it fetched nor its connection is there for those who do not trust it.
        with pytest.raises(Unavailable, match="its TLS certificate is refused"):
            await port.get(url, 100)
        with pytest.raises(Unavailable, match="the certificate authority of the policy cannot be used"):
            await port.get(url, 100, ca=b"no certificate")
        await registries.close()


async def test_s03_an_authority_that_a_policy_brings_takes_the_place_of_the_operator_s(
    tls: tuple[ssl.SSLContext, bytes], tmp_path: Path
) -> None:
    context, authority = tls
    operators, other = tmp_path / "operators.pem", tmp_path / "other"
    operators.write_bytes(authority)
    other.mkdir()
    (another, _) = write_self_signed(other, ["localhost"], dt.datetime.now(dt.UTC))
    async with serving(HTTPRegistry(FakeRegistry()), context) as http:
        settings = RegistrySettings({http.host: HostSettings(http.host, configured=True, ca=operators)})
        registries, url = RegistryClient(settings), document(http)
        port = registries.under(AnonymousKeychain())
        assert await port.get(url, 100) == b"trust data"
        with pytest.raises(Unavailable, match="its TLS certificate is refused"):
            await port.get(url, 100, ca=another.read_bytes())
        await registries.close()


async def test_s03_s02_an_authority_does_not_follow_redirects(
    tls: tuple[ssl.SSLContext, bytes], tmp_path: Path
) -> None:
    context, authority = tls
    async with (
        serving(HTTPRegistry(FakeRegistry()), context) as http,
        serving(HTTPRegistry(FakeRegistry()), context) as elsewhere,
    ):
        http.script["/moved"] = status(307, {"Location": document(elsewhere)})
        registries = named(http.host, elsewhere.host)
        port = registries.under(AnonymousKeychain())
        with pytest.raises(Unavailable, match="its TLS certificate is refused"):
            await port.get(f"https://{http.host}/moved", 100, ca=authority)
        await registries.close()


async def test_s01_whoever_brings_the_authority_sees_no_login(tls: tuple[ssl.SSLContext, bytes]) -> None:
    context, authority = tls
    async with serving(HTTPRegistry(FakeRegistry(), users={"user": "right"}), context) as http:
        registries, url = named(http.host), document(http)
        port = registries.under(Logins((RIGHT,)))
        with pytest.raises(Unavailable, match=r"answers 401"):
            await port.get(url, 100, ca=authority, about=parse_repository(f"{http.host}/app"))
        assert not any("Authorization" in asked.headers for asked in http.asked)
        await registries.close()


async def test_m06_an_internal_address_is_refused_whatever_authority_a_policy_brings(
    tls: tuple[ssl.SSLContext, bytes],
) -> None:
    context, authority = tls
    async with serving(HTTPRegistry(FakeRegistry()), context) as http:
        registries = named()
        with pytest.raises(Unavailable, match="internal address"):
            await registries.under(AnonymousKeychain()).get(document(http), 100, ca=authority)
        assert http.count() == 0
        await registries.close()


async def test_s06_authorities_are_kept_ready_in_bounded_number(
    tls: tuple[ssl.SSLContext, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_AUTHORITIES", 2)
    context, authority = tls
    async with serving(HTTPRegistry(FakeRegistry()), context) as http:
        registries, url = named(http.host), document(http)
        for padding in range(4):
            assert await registries.under(AnonymousKeychain()).get(url, 100, ca=authority + b"\n" * padding)
        assert len(registries._transport._given) == 2
        await registries.close()
