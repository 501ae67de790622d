"""`kubectl trust why`: the cluster's own policies, the user's own rights, and the verdict of admission."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.test_commands import registry, run  # noqa: F401 - a fixture
from tests.fake.apiserver import FakeAPIServer, api_server
from tests.fake.http_registry import HTTPRegistry, stalled
from tests.fake.kubeconfig import write_kubeconfig
from tests.fake.signing import key
from webhook.kube import KubeError
from webhook.policy.document import API_VERSION

NAMESPACED = f"/apis/{API_VERSION}/namespaces/shop"
CLUSTER = f"/apis/{API_VERSION}/clustertrustpolicies"


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeAPIServer]:
    """A cluster with the namespace `shop`, a policy in it, and the key that the policy names."""
    async with api_server() as found:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, found.url)))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        found.put("/api/v1/namespaces/shop", {"metadata": {"name": "shop", "labels": {"tier": "gold"}}})
        pem = base64.b64encode(key("a").pem.encode()).decode()
        found.put("/api/v1/namespaces/shop/secrets/keys", {"data": {"cosign.pub": pem}})
        spec = {
            "images": ["127.0.0.1:*/shop/**"],
            "signers": [{"name": "release", "cosign": {"key": "secret://keys#cosign.pub"}}],
        }
        policy(found, f"{NAMESPACED}/trustpolicies/web", spec)
        yield found


def policy(server: FakeAPIServer, path: str, spec: dict[str, Any]) -> None:
    metadata = {"name": path.rpartition("/")[2]} | ({"namespace": "shop"} if path.startswith(NAMESPACED) else {})
    server.put(path, {"metadata": metadata, "spec": spec})


async def why(what: str, *words: str) -> Result:
    return await run("why", what, "-n", "shop", "--plain-http", "--tuf-url", "", *words)


async def test_it_says_which_rule_decided_what_was_found_and_what_to_do(
    server: FakeAPIServer,
    registry: HTTPRegistry,  # noqa: F811 - the fixture
) -> None:
    policy(
        server,
        f"{CLUSTER}/rest",
        {
            "images": ["**"],
            "fallback": True,
            "signers": [{"name": "no", "static": {"allow": False, "reason": "deny by default"}}],
        },
    )
    policy(
        server,
        f"{CLUSTER}/base",
        {
            "images": ["127.0.0.1:*/**"],
            "signers": [{"name": "ours", "static": {"allow": True, "reason": "a registry of ours"}}],
        },
    )
    image = f"{registry.host}/shop/other:v1"
    result = await why(image)
    assert result.exit_code == 1
    lines = [line.strip() for line in result.output.splitlines()]
    assert lines[0] == f"image {image} in namespace shop"
    assert lines[1].startswith(f"DENIED    {image} (sha256:")
    # What decided stands before what is content.
    assert lines[2] == "policy shop/web, which requires any of its signers: denied"
    assert lines[3].startswith('signer "release": no, ')
    assert any(line.startswith("what to do: sign ") for line in lines)
    assert lines.index("policy cluster/base, which requires any of its signers: allowed") > 3
    assert (
        lines[-1]
        == "policy cluster/rest does not count: it is a fallback, and another cluster policy covers this image"
    )


async def test_what_is_allowed_is_explained_too_and_in_json(server: FakeAPIServer, registry: HTTPRegistry) -> None:  # noqa: F811 - the fixture
    image = f"{registry.host}/shop/signed:v1"
    result = await why(image, "-o", "json")
    assert result.exit_code == 0
    said = json.loads(result.output)
    (entry,) = said["images"]
    assert (entry["verdict"], entry["decidedBy"], entry["setAside"]) == ("allowed", ["shop/web"], [])
    assert entry["policies"][0]["signers"][0]["identity"] == key("a").fingerprint
    assert said["notes"] == []
    denied = json.loads((await why(f"{registry.host}/shop/unsigned:v1", "-o", "json")).output)["images"][0]
    assert denied["decidedBy"] == ["shop/web"]
    assert denied["fixes"][0].startswith("sign ")


async def test_f17_of_what_is_allowed_it_is_said_until_when(server: FakeAPIServer, registry: HTTPRegistry) -> None:  # noqa: F811 - the fixture
    image, ends = f"{registry.host}/shop/signed:v1", "2036-01-02T03:04:05Z"
    release = {"name": "release", "cosign": {"key": key("a").pem}}
    assert "when this ends" not in (await why(image)).output
    spec = {"images": ["127.0.0.1:*/shop/**"], "signers": [{**release, "validity": {"notAfter": ends}}]}
    policy(server, f"{NAMESPACED}/trustpolicies/web", spec)
    said = f"by the signatures that were read allowed until {ends}, when this ends: the validity of its signer; "
    # A revocation list that ends before is no part of it, and nothing is promised of it.
    assert (
        f"{said}revocation lists and OCSP answers, where they count, are renewed by others" in (await why(image)).output
    )
    (entry,) = json.loads((await why(image, "-o", "json")).output)["images"]
    assert entry["policies"][0]["ends"] == {"at": ends, "what": "the validity of its signer"}


async def test_a_pod_is_found_by_its_name_and_a_template_by_its_kind(
    server: FakeAPIServer,
    registry: HTTPRegistry,  # noqa: F811 - the fixture
) -> None:
    container = {"name": "web", "image": f"{registry.host}/shop/signed:v1"}
    status = {"containerStatuses": [{"name": "web", "imageID": f"{registry.host}/shop/signed@sha256:{'0' * 64}"}]}
    server.put(
        "/api/v1/namespaces/shop/pods/web",
        {"metadata": {"name": "web"}, "spec": {"containers": [container]}, "status": status},
    )
    bad = {"name": "bad", "image": f"{registry.host}/shop/unsigned:v1"}
    template = {"metadata": {}, "spec": {"containers": [container, bad]}}
    server.put(
        "/apis/apps/v1/namespaces/shop/deployments/web", {"metadata": {"name": "web"}, "spec": {"template": template}}
    )
    for words in ("web", "pod/web", "po/web"):
        result = await why(words)
        assert result.exit_code == 0, result.output
        assert result.output.startswith("Pod shop/web\nALLOWED ")
        # The tag has been moved since the Pod began.
        assert f"what runs is {registry.host}/shop/signed@sha256:0000" in result.output
    result = await why("deploy/web")
    assert result.exit_code == 1
    assert result.output.startswith("Deployment shop/web\n")
    assert "DENIED " in result.output
    assert "ALLOWED " in result.output
    result = await why("deployment/gone")
    assert result.exit_code == 2
    assert "there is no Deployment gone in namespace shop" in result.output


async def test_r04_of_what_a_pod_runs_it_says_what_reports_say(
    server: FakeAPIServer,
    registry: HTTPRegistry,  # noqa: F811 - the fixture
) -> None:
    fake = registry.registry
    signed = fake.tags["shop/signed", "v1"]
    document = json.loads(fake.manifests["shop/signed", signed].body)
    twin = fake.push_manifest("shop/signed", {**document, "annotations": {"built": "again"}})
    evil = fake.push_image("shop/signed", "evil", b"evil")
    image = f"{registry.host}/shop/signed:v1"
    spec = {"containers": [{"name": "web", "image": image}]}
    for running, said in (
        (
            twin,
            f"policy shop/web on what runs: allowed, judged as {image}@{signed}, which it is or belongs to",
        ),
        (evil, 'no signature by "release"'),
    ):
        status = {"containerStatuses": [{"name": "web", "imageID": f"{registry.host}/shop/signed@{running}"}]}
        server.put("/api/v1/namespaces/shop/pods/web", {"metadata": {"name": "web"}, "spec": spec, "status": status})
        result = await why("web")
        assert result.exit_code == 0
        (line,) = [line for line in result.output.splitlines() if "what runs is " in line]
        assert f"{running}, and not the digest that the name means now; " in line
        assert said in line
    status = {"containerStatuses": [{"name": "web", "imageID": f"{registry.host}/shop/signed@{signed}"}]}
    server.put("/api/v1/namespaces/shop/pods/web", {"metadata": {"name": "web"}, "spec": spec, "status": status})
    assert "what runs" not in (await why("web")).output


async def test_an_exception_is_told(server: FakeAPIServer, registry: HTTPRegistry) -> None:  # noqa: F811 - the fixture
    spec = {
        "policies": ["web"], "images": ["127.0.0.1:*/shop/**"], "reason": "incident 4711", "requestedBy": "alice",
        "approvedBy": "bob", "expiresAt": "2099-01-01T00:00:00Z",
    }  # fmt: skip
    server.put(
        f"{NAMESPACED}/trustexceptions/hotfix", {"metadata": {"name": "hotfix", "namespace": "shop"}, "spec": spec}
    )
    result = await why(f"{registry.host}/shop/unsigned:v1")
    assert result.exit_code == 0
    assert "let in by exception shop/hotfix until 2099-01-01T00:00:00Z, approved by bob: incident 4711" in result.output
    # Looking spends nothing.
    assert "status" not in server.objects[f"{NAMESPACED}/trustexceptions/hotfix"]
    server.failing[f"{NAMESPACED}/trustexceptions"] = KubeError("forbidden", 403)
    result = await why(f"{registry.host}/shop/unsigned:v1")
    assert result.exit_code == 1
    assert "the exceptions are left aside: " in result.output


async def test_what_nobody_covers_and_what_is_no_image(server: FakeAPIServer, registry: HTTPRegistry) -> None:  # noqa: F811 - the fixture
    result = await why("quay.io/else/where:v1")
    assert result.exit_code == 0
    assert "no policy covers this image" in result.output
    result = await why("quay.io/a b")
    assert result.exit_code == 1
    assert "policy" not in result.output.partition("DENIED")[2]


async def test_a_key_that_the_user_may_not_read_is_not_known_and_that_is_said(
    server: FakeAPIServer,
    registry: HTTPRegistry,  # noqa: F811 - the fixture
) -> None:
    server.failing["/api/v1/namespaces/shop/secrets"] = KubeError("forbidden", 403)
    result = await why(f"{registry.host}/shop/signed:v1")
    assert result.exit_code == 2
    assert "Secret shop/keys may not be read by you" in result.output
    assert "the webhook may read more than you" in result.output
    assert "what to do: once that can be read, try again" in result.output


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (
            ("True", "KeysHeld", "pkcs11:object=release: read at 2026-11-24T00:38:00Z, its source cannot be asked"),
            "policy cluster/token: the webhook judges by keys that it holds, so that its verdict may be another: %s",
        ),
        (
            ("True", "KeysRead", "all keys have been read"),
            "policy cluster/token: the webhook says that it knows all keys, so that its verdict may be another",
        ),
        (("False", "KeysNotRead", "nobody has read it"), None),
    ],
)
async def test_f25_a_key_that_the_webhook_knows_and_the_user_cannot_read_is_told(
    server: FakeAPIServer,
    registry: HTTPRegistry,  # noqa: F811 - the fixture
    condition: tuple[str, str, str],
    said: str | None,
) -> None:
    server.remove(f"{NAMESPACED}/trustpolicies/web")
    key = "pkcs11:token=acme;object=release"
    spec = {"images": ["127.0.0.1:*/shop/**"], "signers": [{"name": "release", "cosign": {"key": key}}]}
    status, reason, message = condition
    written = {"type": "SignersResolved", "status": status, "reason": reason, "message": message}
    for generation in (2, 1):
        document = {"metadata": {"name": "token", "generation": 2}, "spec": spec}
        found = {**written, "observedGeneration": generation}
        server.put(f"{CLUSTER}/token", {**document, "status": {"conditions": [found]}})
        result = await why(f"{registry.host}/shop/signed:v1", "-o", "json")
        assert result.exit_code == 2
        notes = json.loads(result.stdout)["notes"]
        # What was said of the policy as it was before says nothing of this one.
        assert notes == ([] if said is None or generation == 1 else [said.replace("%s", message)])


@pytest.mark.parametrize(
    ("failing", "status", "said"),
    [
        (CLUSTER, 403, "you may not read that; the ClusterRole that docs/cli.md shows lets you"),
        (CLUSTER, 404, "is trusted-images installed in this cluster?"),
        ("/api/v1/namespaces/shop", 401, "the kubeconfig's credentials are not accepted"),
        (CLUSTER, 500, "500"),
    ],
)
async def test_what_the_api_server_refuses_is_said_with_what_to_do(
    server: FakeAPIServer, failing: str, status: int, said: str
) -> None:
    server.failing[failing] = KubeError("refused", status)
    result = await why("quay.io/a/b:v1")
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


async def test_a_namespace_that_is_not_there_or_is_none(server: FakeAPIServer) -> None:
    result = await run("why", "quay.io/a/b:v1", "-n", "gone")
    assert (result.exit_code, "there is no namespace gone" in result.output) == (2, True)
    result = await run("why", "quay.io/a/b:v1", "-n", "../x")
    assert (result.exit_code, "not the name of a namespace" in result.output) == (2, True)
    server.down = True
    result = await why("quay.io/a/b:v1")
    assert result.exit_code == 2
    assert "the API server gives no answer" in result.output


async def test_what_is_looked_up_is_as_little_as_the_question_needs(server: FakeAPIServer) -> None:
    await why("quay.io/a/b:v1")
    assert {path for _, path in server.asked} == {
        "/api/v1/namespaces/shop", CLUSTER, f"{NAMESPACED}/trustpolicies", f"{NAMESPACED}/trustexceptions",
        "/api/v1/namespaces/shop/secrets/keys",
    }  # fmt: skip
    assert {method for method, _ in server.asked} == {"GET"}


async def test_nothing_is_told_after_the_answer_when_a_registry_is_silent(
    server: FakeAPIServer,
    registry: HTTPRegistry,  # noqa: F811 - the fixture
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = asyncio.Event()
    registry.script["/manifests/v1"] = stalled(release)
    try:
        result = await why(f"{registry.host}/shop/signed:v1", "--timeout", "0.3")
    finally:
        release.set()
    assert result.exit_code == 2
    assert "could not" in result.output
    assert "Traceback" not in result.output
    # What goes on behind the answer ends with the command, before the connections that it reads by.
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []


REGISTRIES = "/api/v1/namespaces/trusted-images/configmaps/trusted-images-registries"


async def test_registries_are_reached_as_the_webhook_reaches_them(
    server: FakeAPIServer,
    registry: HTTPRegistry,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    async def asked(name: str = "signed") -> Result:
        return await run("why", f"{registry.host}/shop/{name}:v1", "-n", "shop", "--tuf-url", "")

    def configured(**more: Any) -> None:
        hosts = [{"host": registry.host, "plainHTTP": True}, *more.get("others", [])]
        server.put(REGISTRIES, {"data": {"registries.yaml": json.dumps({"registries": hosts})}})

    result = await asked()
    assert result.exit_code == 2
    assert (
        "ConfigMap trusted-images/trusted-images-registries is not there: give the file by --registries"
        in result.output
    )
    configured()
    result = await asked()
    assert (result.exit_code, "--registries" in result.output) == (0, False)
    # Its files are not ours to open.
    login = tmp_path / "config.json"
    login.write_text("{")
    configured(others=[{"host": "other.example", "ca": "/not/here", "credentials": {"dockerconfig": str(login)}}])
    assert (await asked()).exit_code == 0
    result = await asked("unsigned")
    assert result.exit_code == 1
    assert "in files of the webhook's, which are left aside" in result.output
    server.put(REGISTRIES, {"data": {"registries.yaml": "registries: 7"}})
    assert "trusted-images-registries cannot be read, " in (await asked()).output
    server.put(REGISTRIES, {"data": {"registries.yaml": ""}})
    assert "trusted-images-registries cannot be read, registries.yaml: 0 documents" in (await asked()).output
    server.failing[REGISTRIES.rpartition("/")[0]] = KubeError("forbidden", 403)
    assert ": 403 forbidden: give the file by --registries" in (await asked()).output
