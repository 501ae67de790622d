"""Challenges and token services: where a login may go, and where it never goes (attacks S-01, S-02, S-09)."""

import pytest
import yarl

from webhook.registry.auth import Challenge, basic, may_see, parse_challenge, realm_host, token_url
from webhook.registry.settings import HostSettings, RegistrySettings, parse_settings
from webhook.trust import Credential, Unavailable

GHCR = HostSettings("ghcr.io")
EMPTY = RegistrySettings.empty()


@pytest.mark.parametrize(
    ("headers", "realm", "service"),
    [
        (['Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="x"'], "https://ghcr.io/token", "ghcr.io"),
        (['bearer realm="https://ghcr.io/token"'], "https://ghcr.io/token", ""),
        (['Basic realm="x", Bearer realm="https://a.io/t",service="s"'], "https://a.io/t", "s"),
        (['Basic realm="x"', 'Bearer realm="https://a.io/t"'], "https://a.io/t", ""),
        (['Bearer realm="https://a.io/t?a=b,c",error="invalid_token"'], "https://a.io/t?a=b,c", ""),
        (["Basic realm=x"], None, ""),
        (["Basic"], None, ""),
    ],
)
def test_challenges_are_read(headers: list[str], realm: str | None, service: str) -> None:
    found = parse_challenge(headers, "ghcr.io")
    assert (found.realm and str(found.realm), found.service) == (realm, service)


@pytest.mark.parametrize(
    "headers", [[], [""], ["Negotiate"], ["Bearer service=x"], ["Digest realm=x"], ["x" * 100_000]]
)
def test_a_challenge_that_cannot_be_answered_is_the_registrys_fault(headers: list[str]) -> None:
    with pytest.raises(Unavailable, match=r"^ghcr\.io: "):
        parse_challenge(headers, "ghcr.io")


def test_a_realm_that_is_no_url_is_the_registrys_fault() -> None:
    with pytest.raises(Unavailable, match="no URL"):
        parse_challenge(['Bearer realm="https://[::1"'], "ghcr.io")


def url(realm: str | None, settings: RegistrySettings = EMPTY, service: str = "s") -> str:
    challenge = Challenge(None if realm is None else yarl.URL(realm), service)
    return str(token_url(challenge, "repository:a/b:pull", settings, GHCR))


def test_a_token_is_asked_for_with_service_and_scope() -> None:
    assert yarl.URL(url("https://ghcr.io/token")).query == {"service": "s", "scope": "repository:a/b:pull"}
    assert yarl.URL(url("https://ghcr.io/token?x=1", service="")).query == {"x": "1", "scope": "repository:a/b:pull"}


@pytest.mark.parametrize(
    ("realm", "why"),
    [
        (None, "names no token service"),
        ("http://ghcr.io/token", "without TLS"),
        ("http://169.254.169.254/latest/meta-data", "without TLS"),
        ("https://169.254.169.254/latest/meta-data", "on an internal address"),
        ("https://127.0.0.1/token", "on an internal address"),
        ("https://10.0.0.1/token", "on an internal address"),
        ("https://[::1]/token", "on an internal address"),
        ("https://[fd00::1]/token", "on an internal address"),
        ("https://0.0.0.0/token", "on an internal address"),
        ("https://user:pass@ghcr.io/token", "is refused"),
        ("https://ghcr.io/token#x", "is refused"),
        ("ftp://ghcr.io/token", "is refused"),
        ("file:///etc/passwd", "is refused"),
        ("//ghcr.io/token", "is refused"),
        ("/token", "is refused"),
        ("https://a_b.io/token", "is refused"),
        ("https://ghcr.io/token?a=%0d%0ax", "line break"),
    ],
)
def test_s01_a_realm_is_asked_only_where_that_can_do_no_harm(realm: str | None, why: str) -> None:
    if why == "line break":
        with pytest.raises(Unavailable, match="line break"):
            url("https://ghcr.io/token", service="a\r\nb")
        return
    with pytest.raises(Unavailable, match=why):
        url(realm)


def test_s01_the_operator_may_allow_plain_http_and_internal_hosts() -> None:
    settings = parse_settings(b"registries: [{host: '127.0.0.1:5001', plainHTTP: true}, {host: 10.0.0.1}]", "x")
    assert url("http://127.0.0.1:5001/token", settings).startswith("http://127.0.0.1:5001/")
    assert url("https://10.0.0.1/token", settings).startswith("https://10.0.0.1/")
    with pytest.raises(Unavailable, match="without TLS"):
        url("http://127.0.0.1:5002/token", settings)


@pytest.mark.parametrize(
    ("realm", "registry", "shown"),
    [
        ("https://ghcr.io/token", "ghcr.io", True),
        ("https://ghcr.io:443/token", "ghcr.io", True),
        ("https://GHCR.io/token", "ghcr.io", True),
        ("https://evil.io/token", "ghcr.io", False),
        ("https://ghcr.io.evil.io/token", "ghcr.io", False),
        ("https://ghcr.io:8443/token", "ghcr.io", False),
        ("https://auth.docker.io/token", "docker.io", True),
        ("https://auth.docker.io/token", "ghcr.io", False),
        ("https://gitlab.com/jwt/auth", "registry.gitlab.com", True),
    ],
)
def test_s01_a_login_is_shown_to_its_own_registry_only(realm: str, registry: str, shown: bool) -> None:
    assert may_see(yarl.URL(realm), HostSettings(registry)) is shown


def test_s01_or_to_a_token_service_that_the_operator_names() -> None:
    (host,) = parse_settings(b"registries: [{host: a.io, realms: [auth.a.io]}]", "x").hosts.values()
    assert may_see(yarl.URL("https://auth.a.io/token"), host)
    assert not may_see(yarl.URL("https://auth.b.io/token"), host)


def test_hosts_of_realms_have_one_spelling() -> None:
    assert realm_host(yarl.URL("http://a.io:80/")) == "a.io"
    assert realm_host(yarl.URL("http://a.io/")) == "a.io"
    assert realm_host(yarl.URL("https://[::1]:5000/")) == "[::1]:5000"
    assert realm_host(yarl.URL("https://[0:0::1]/")) == "[::1]"


def test_basic_is_utf8_in_base64_and_a_credential_prints_no_password() -> None:
    assert basic(Credential("üser", "päss")) == "Basic w7xzZXI6cMOkc3M="
    assert "päss" not in repr(Credential("üser", "päss"))
