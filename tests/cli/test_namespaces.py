"""Whose namespace `verify` and `check` ask about: that no policy given speaks for it admits nothing (attack P-08)."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_commands import API, deployment, policy, registry, run
from tests.fake.http_registry import HTTPRegistry

__all__ = ["policy", "registry"]
NOBODY: dict[str, Any] = {
    "images": ["**"],
    "signers": [{"name": "nobody", "static": {"allow": False, "reason": "nobody may"}}],
}
IMAGE = "127.0.0.1:9/x:v1"


def written(folder: Path, *names: str, **fields: Any) -> list[str]:
    """Policies that deny everything; a name with a slash is one of a namespace."""
    words = []
    for i, name in enumerate(names):
        namespace, _, own = name.rpartition("/")
        kind = "TrustPolicy" if namespace else "ClusterTrustPolicy"
        metadata = {"name": own, **({"namespace": namespace} if namespace else {})}
        spec = NOBODY | ({} if namespace else fields)
        file = folder / f"{i}.yaml"
        file.write_text(yaml.safe_dump({"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}))
        words += ["-p", str(file)]
    return [*words, "--plain-http"]


async def test_p08_the_namespace_of_the_policies_is_the_one_asked_about(registry: HTTPRegistry, policy: str) -> None:
    note = "kubectl-trust: judged as in namespace shop, which the policies are for\n"
    for name, code in (("signed", 0), ("unsigned", 1)):
        image = f"{registry.host}/shop/{name}:v1"
        result = await run("verify", image, "-p", policy, "--plain-http")
        assert (result.exit_code, result.stderr) == (code, note)
        assert "policy shop/web: " in result.stdout
        said = await run("verify", image, "-p", policy, "-n", "shop", "--plain-http")
        assert (said.exit_code, said.stdout, said.stderr) == (code, result.stdout, "")
        manifest = yaml.safe_dump(deployment(image, namespace=None))
        checked = await run("check", "-f", "-", "-p", policy, "--plain-http", stdin=manifest)
        assert (checked.exit_code, checked.stderr) == (code, "")
        assert checked.stdout.startswith("Deployment shop/web\n")


async def test_p08_where_no_policy_could_speak_nothing_is_allowed(tmp_path: Path) -> None:
    manifest = yaml.safe_dump(deployment(IMAGE, namespace=None))
    prod = {"namespaces": {"match": ["prod-*"]}}
    elsewhere = "policy cluster/b is not for namespace default; give one of its own with -n"
    for names, given, says in (
        (["shop/a"], ["-n", "default"], "policy shop/a is for namespace shop; give -n shop"),
        (["shop/a", "web/a"], [], "the policies are for the namespaces shop, web; give one with -n"),
        (["b"], [], elsewhere),
        (["b", "shop/a"], ["-n", "default"], elsewhere),
    ):
        options = [*given, *written(tmp_path, *names, **prod)]
        for words, stdin in ((("verify", IMAGE), None), (("check", "-f", "-"), manifest)):
            result = await run(*words, *options, stdin=stdin)
            assert (result.exit_code, result.stdout) == (2, "")
            assert f"kubectl-trust: {says}\n" in result.stderr


@pytest.mark.parametrize(
    ("names", "given", "namespace"),
    [
        (["shop/a"], None, "shop"),
        (["shop/a"], "shop", "shop"),
        (["shop/a", "shop/c", "b"], None, "shop"),
        (["shop/a", "web/a"], "web", "web"),
        (["shop/a", "b"], "other", "other"),
        (["b"], None, "default"),
        (["default/a"], None, "default"),
    ],
)
async def test_p08_and_where_one_could_it_does(
    registry: HTTPRegistry, tmp_path: Path, names: list[str], given: str | None, namespace: str
) -> None:
    image = f"{registry.host}/shop/signed:v1"
    options = [*written(tmp_path, *names), *(("-n", given) if given else ())]
    result = await run("verify", image, *options)
    assert result.exit_code == 1
    assert ("judged as in namespace" in result.stderr) is (given is None and namespace != "default")
    manifest = yaml.safe_dump(deployment(image, namespace=None))
    checked = await run("check", "-f", "-", *options, stdin=manifest)
    assert (checked.exit_code, checked.stdout.splitlines()[0]) == (1, f"Deployment {namespace}/web")


async def test_manifests_that_name_their_namespace_are_judged_there(registry: HTTPRegistry, tmp_path: Path) -> None:
    image = f"{registry.host}/shop/signed:v1"
    options = written(tmp_path, "shop/a", "web/a")
    objects = [deployment(image, namespace=name) for name in ("shop", "web", "other")]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {}}
    for one, code in zip([*objects, service], (1, 1, 0, 0), strict=True):
        result = await run("check", "-f", "-", *options, stdin=json.dumps(one))
        assert (result.exit_code, result.stderr) == (code, "")
