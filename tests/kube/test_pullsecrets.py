"""Whose logins open an image: those that the kubelet would use, read when needed and never listed (S-07, F26)."""

import base64
import json
from typing import Any

import pytest

from tests.fake.kube import FakeKube
from webhook import limits
from webhook.image import parse_repository
from webhook.kube import KubeError
from webhook.kube.pullsecrets import Puller, PullSecrets
from webhook.trust import Credential, Unavailable

REPOSITORY = parse_repository("ghcr.io/acme/web")
SECRETS = "/api/v1/namespaces/shop/secrets"
ACCOUNTS = "/api/v1/namespaces/shop/serviceaccounts"


def secret(user: str, host: str = "ghcr.io", entry: str = ".dockerconfigjson") -> dict[str, Any]:
    auths = {host: {"auth": base64.b64encode(f"{user}:s3cret".encode()).decode()}}
    document = auths if entry == ".dockercfg" else {"auths": auths}
    return {"data": {entry: base64.b64encode(json.dumps(document).encode()).decode()}}


def puller(*names: str, account: str = "default", namespace: str = "shop") -> Puller:
    return Puller(namespace, account, names)


@pytest.fixture
def kube() -> FakeKube:
    made = FakeKube()
    made.put(f"{SECRETS}/one", secret("one"))
    made.put(f"{SECRETS}/two", secret("two", entry=".dockercfg"))
    made.put(f"{SECRETS}/robot", secret("robot"))
    made.put(f"{ACCOUNTS}/default", {"imagePullSecrets": [{"name": "robot"}, {}]})
    return made


@pytest.mark.parametrize(
    ("names", "users"),
    [
        (("one",), ["one"]),
        (("two", "one"), ["two", "one"]),
        ((), ["robot"]),
        (("gone", "one"), ["one"]),
        (("gone",), []),
    ],
)
async def test_s07_the_pods_secrets_or_else_the_accounts(
    kube: FakeKube, names: tuple[str, ...], users: list[str]
) -> None:
    keychain = PullSecrets(kube).of(puller(*names))
    assert keychain.known(REPOSITORY) is None
    assert await keychain.access(REPOSITORY) == tuple(Credential(user, "s3cret") for user in users)
    assert keychain.known(REPOSITORY) is not None
    assert not any(path.endswith("/secrets") for _, path in kube.asked)


async def test_s07_a_pod_names_no_secret_of_another_namespace(kube: FakeKube) -> None:
    assert await PullSecrets(kube).of(puller("one", namespace="other")).access(REPOSITORY) == ()


@pytest.mark.parametrize(
    "name", ["../../other/secrets/one", "..", "one/../two", "%2e%2e", "a?x=1", "a#b", "A", "", "x" * 300]
)
async def test_s07_a_name_that_is_a_path_is_never_asked_for(kube: FakeKube, name: str) -> None:
    kube.put("/api/v1/namespaces/other/secrets/one", secret("others"))
    for asked in (puller(name), puller(account=name), puller("one", namespace=name), puller(name, namespace=name)):
        kube.asked.clear()
        assert await PullSecrets(kube).of(asked).access(REPOSITORY) == ()
        assert kube.asked == []


async def test_s06_a_pod_that_names_many_secrets_has_few_of_them_read(kube: FakeKube) -> None:
    await PullSecrets(kube).of(puller(*(f"s{i}" for i in range(1000)))).access(REPOSITORY)
    assert len(kube.asked) == limits.MAX_PULL_SECRETS


async def test_what_was_read_is_kept_for_a_while_and_for_its_pod_only(kube: FakeKube) -> None:
    secrets = PullSecrets(kube)
    await secrets.of(puller("one")).access(REPOSITORY)
    asked = len(kube.asked)
    await secrets.of(puller("one")).access(parse_repository("docker.io/library/nginx"))
    assert len(kube.asked) == asked
    assert secrets.of(puller("one", account="other")).known(REPOSITORY) is None
    assert secrets.of(puller("two")).known(REPOSITORY) is None


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"data": {"x": "eA=="}},
        {"data": {".dockerconfigjson": "%s3cret%"}},
        {"data": {".dockerconfigjson": "e30x"}},
        {"data": 1},
    ],
)
async def test_f26_a_broken_secret_is_passed_over_and_not_repeated(
    kube: FakeKube, document: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    kube.put(f"{SECRETS}/broken", document)
    found = await PullSecrets(kube).of(puller("broken", "one")).access(REPOSITORY)
    assert [credential.username for credential in found] == ["one"]
    assert "Secret shop/broken" in caplog.text
    assert "s3cret" not in caplog.text


async def test_f26_a_broken_entry_is_named(kube: FakeKube, caplog: pytest.LogCaptureFixture) -> None:
    document = {"auths": {"a.io": {"auth": "s3cret!"}}}
    kube.put(
        f"{SECRETS}/odd", {"data": {".dockerconfigjson": base64.b64encode(json.dumps(document).encode()).decode()}}
    )
    assert await PullSecrets(kube).of(puller("odd")).access(REPOSITORY) == ()
    assert "a.io" in caplog.text
    assert "s3cret" not in caplog.text


async def test_f21_an_api_server_that_is_down_is_an_outage_and_not_remembered(kube: FakeKube) -> None:
    keychain = PullSecrets(kube).of(puller("one"))
    kube.failing["/"] = KubeError("down")
    with pytest.raises(Unavailable, match="pull secrets: down"):
        await keychain.access(REPOSITORY)
    kube.failing.clear()
    assert await keychain.access(REPOSITORY)


async def test_an_account_that_is_not_there_has_no_secrets(kube: FakeKube) -> None:
    assert await PullSecrets(kube).of(puller(account="gone")).access(REPOSITORY) == ()
