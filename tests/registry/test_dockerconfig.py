"""Docker configs and credential helpers: matched as the kubelet matches, and nothing leaks (attacks S-03 to S-05, S-08)."""

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from webhook.image import parse_repository
from webhook.parsing import Invalid
from webhook.registry.dockerconfig import (
    AnonymousKeychain,
    ChainedKeychain,
    DockerConfigKeychain,
    ask_helper,
    parse_docker_config,
)
from webhook.trust import Credential, Unavailable


def auth(password: str, user: str = "u") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def passwords(auths: dict[str, Any], image: str) -> list[str]:
    config = parse_docker_config(json.dumps({"auths": auths}).encode(), "config.json")
    return [credential.password for credential in config.access(parse_repository(image))]


@pytest.mark.parametrize(
    ("key", "image", "matches"),
    [
        ("ghcr.io", "ghcr.io/a/b", True),
        ("https://ghcr.io", "ghcr.io/a/b", True),
        ("https://ghcr.io/v2/", "ghcr.io/a/b", True),
        ("GHCR.io:443", "ghcr.io/a/b", True),
        ("ghcr.io/a", "ghcr.io/a/b", True),
        ("ghcr.io/a/b", "ghcr.io/a/b", True),
        ("ghcr.io/a", "ghcr.io/ab/c", False),
        ("ghcr.io/a/b/c", "ghcr.io/a/b", False),
        ("ghcr.io", "evil-ghcr.io/a", False),
        ("ghcr.io", "ghcr.io.evil.io/a", False),
        ("ghcr.io", "ghcr.io:5000/a", False),
        ("ghcr.io:5000", "ghcr.io/a", False),
        ("registry:443", "registry:443/a", True),
        ("*.acme.io", "eu.acme.io/a", True),
        ("*.acme.io", "acme.io/a", False),
        ("*.acme.io", "a.eu.acme.io/a", False),
        ("e*u.acme.io", "e-1-u.acme.io/a", True),
        ("e*u.acme.io", "eu.acme.io/a", True),
        ("eu*u.acme.io", "eu.acme.io/a", False),
        ("*", "ghcr.io/a", False),
        ("*.*", "ghcr.io/a", True),
        ("*:5000", "localhost:5000/a", True),
        ("https://index.docker.io/v1/", "nginx", True),
        ("docker.io", "acme/web", True),
        ("registry-1.docker.io", "nginx", True),
        ("index.docker.io/v1", "nginx", True),
    ],
)
def test_s04_s07_a_login_matches_host_and_path_by_whole_parts(key: str, image: str, matches: bool) -> None:
    assert passwords({key: auth("p")}, image) == (["p"] if matches else [])


def test_s07_the_longest_match_comes_first_and_equal_logins_once() -> None:
    auths = {"ghcr.io": auth("host"), "ghcr.io/a/b": auth("repository"), "ghcr.io/a": auth("owner"),
             "https://ghcr.io": auth("host")}  # fmt: skip
    assert passwords(auths, "ghcr.io/a/b") == ["repository", "owner", "host"]


def test_every_form_of_an_entry() -> None:
    data = {
        "a.io": {"username": "u", "password": "p"},
        "b.io": {**auth("ignored"), "identitytoken": "t"},
        "c.io": {"identitytoken": "t"},
        "d.io": {},
        "e.io": {"auth": base64.b64encode(b"u:p:with:colons\0\0").decode()},
    }
    config = parse_docker_config(json.dumps({"auths": data, "HttpHeaders": {}}).encode(), "x")
    assert config.faults == ()
    assert {login.host: login.credential for login in config.logins} == {
        "a.io": Credential("u", "p"),
        "b.io": Credential("u", "t", identity_token=True),
        "c.io": Credential("<token>", "t", identity_token=True),
        "e.io": Credential("u", "p:with:colons"),
    }


def test_the_older_file_has_its_entries_at_the_top() -> None:
    config = parse_docker_config(json.dumps({"ghcr.io": auth("p")}).encode(), ".dockercfg")
    assert [login.host for login in config.logins] == ["ghcr.io"]
    assert parse_docker_config(b"{}", "x").logins == ()


def test_s07_one_broken_entry_costs_the_others_nothing_and_is_named_without_its_secret() -> None:
    data = {"a.io": {"auth": "s3cret!"}, "b.io": {"auth": base64.b64encode(b"s3cret").decode()}, "c.io": auth("p"),
            "d.io": {"auth": 7}, "e.io": "s3cret", "f.io": {"auth": base64.b64encode(b"\xff:x").decode()}}  # fmt: skip
    config = parse_docker_config(json.dumps({"auths": data}).encode(), "x")
    assert [login.host for login in config.logins] == ["c.io"]
    assert len(config.faults) == 5
    assert "s3cret" not in str(config.faults)
    assert "czNjcmV0" not in str(config.faults)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"auths": []}', b'{"auths": {}, "auths": {}}'])
def test_what_is_no_docker_config_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        parse_docker_config(data, "x")


# ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper called `test`: a shell script whose body each test writes."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "docker-credential-test"


def program(file: Path, body: str) -> None:
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


async def test_a_helper_is_asked_for_the_registry(helper: Path) -> None:
    program(helper, 'read -r server; echo "{\\"Username\\": \\"u\\", \\"Secret\\": \\"for $server\\"}"')
    assert await ask_helper("test", "ghcr.io") == (Credential("u", "for ghcr.io"),)
    assert await ask_helper("test", "docker.io") == (Credential("u", "for https://index.docker.io/v1/"),)
    program(helper, 'echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"t\\"}"')
    assert await ask_helper("test", "ghcr.io") == (Credential("<token>", "t", identity_token=True),)


async def test_a_helper_that_knows_nothing_means_anonymous(helper: Path) -> None:
    program(helper, "echo 'credentials not found in native keychain'; exit 1")
    assert await ask_helper("test", "ghcr.io") == ()
    program(helper, "echo '{}'")
    assert await ask_helper("test", "ghcr.io") == ()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("echo s3cret; exit 3", "docker-credential-test: failed with exit code 3"),
        ("echo s3cret", "its answer is not the protocol's JSON"),
        ("yes s3cret", "failed with exit code -|its answer is not|no answer"),
        ("sleep 60", "docker-credential-test: no answer in 0 s"),
        ("exec <&-; sleep 60", "no answer in 0 s"),
    ],
)
async def test_s08_a_helper_that_fails_is_an_outage_and_its_output_is_not_repeated(
    helper: Path, body: str, why: str
) -> None:
    program(helper, body)
    with pytest.raises(Unavailable, match=why) as failed:
        await ask_helper("test", "ghcr.io", seconds=0.3)
    assert "s3cret" not in str(failed.value)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere", "No such file"),
        ("../x", "not the name of one"),
        ("a b", "not the name"),
        ("", "not the name of one"),
    ],
)
async def test_a_helper_is_named_and_not_a_path(name: str, why: str) -> None:
    with pytest.raises(Unavailable, match=why):
        await ask_helper(name, "ghcr.io")


# ── keychains ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, now = tmp_path / "config.json", [0.0]
    keychain = DockerConfigKeychain(file, clock=lambda: now[0])
    repository = parse_repository("ghcr.io/a/b")
    assert not keychain.known(repository)
    file.write_text(json.dumps({"auths": {"ghcr.io": auth("one")}}))
    assert keychain.known(repository) == ()  # looked at less than a second ago
    now[0] += 1
    assert await keychain.access(repository) == (Credential("u", "one"),)
    file.write_text(json.dumps({"auths": {"ghcr.io": auth("three")}}))
    now[0] += 1
    assert keychain.known(repository) == (Credential("u", "three"),)
    file.write_text("{")
    now[0] += 1
    assert keychain.known(repository) == ()
    assert caplog.messages == ["config.json: no login in it is used: config.json: not JSON in UTF-8"]
    file.write_text(json.dumps({"auths": {"ghcr.io": auth("three"), "b.io": {"auth": "s3cret!"}}}))
    now[0] += 1
    assert keychain.known(repository) == (Credential("u", "three"),)
    assert caplog.messages[-1] == "auths.b.io.auth: not base64 of user:password: passed over"
    assert "s3cret" not in caplog.text
    file.unlink()
    now[0] += 1
    assert keychain.known(repository) == ()
    assert len(caplog.messages) == 2


async def test_a_helper_is_asked_once_and_only_where_the_file_has_no_login(tmp_path: Path, helper: Path) -> None:
    asked = tmp_path / "asked"
    program(helper, f'echo x >> {asked}; echo "{{\\"Username\\": \\"u\\", \\"Secret\\": \\"h\\"}}"')
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {"quay.io": auth("q")}, "credHelpers": {"ghcr.io": "test"}}))
    keychain = DockerConfigKeychain(file)
    ghcr, quay, other = map(parse_repository, ("ghcr.io/a/b", "quay.io/a", "gcr.io/a"))
    assert keychain.known(ghcr) is None
    assert await keychain.access(ghcr) == (Credential("u", "h"),)
    assert keychain.known(ghcr) == await keychain.access(ghcr) == (Credential("u", "h"),)
    assert keychain.known(quay) == (Credential("u", "q"),)
    assert await keychain.access(other) == ()
    assert asked.read_text() == "x\n"
    file.write_text(json.dumps({"credsStore": "test"}))
    store = DockerConfigKeychain(file)
    assert await store.access(parse_repository("nginx")) == (Credential("u", "h"),)


async def test_several_keychains_in_a_row() -> None:
    class Slow(AnonymousKeychain):
        def known(self, repository: object) -> None:
            return None

    class Fixed(AnonymousKeychain):
        def known(self, repository: object) -> tuple[Credential, ...]:
            return (Credential("u", "p"),)

        async def access(self, repository: object) -> tuple[Credential, ...]:
            return (Credential("u", "p"),)

    repository = parse_repository("ghcr.io/a")
    both = ChainedKeychain((Fixed(), AnonymousKeychain(), Fixed()))
    assert both.known(repository) == await both.access(repository) == (Credential("u", "p"),)
    assert ChainedKeychain((Fixed(), Slow())).known(repository) is None
