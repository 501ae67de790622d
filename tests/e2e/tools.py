"""The commands of the suite: the real ones, found on the PATH, each with a bound on its time."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
import yaml

NEEDED = ("docker", "kind", "kubectl", "helm", "cosign", "crane", "docker-registry")
T = TypeVar("T")


class Failed(Exception):
    """A command that ended with another code than 0; what it said on both streams."""


def missing() -> list[str]:
    """The commands that are not there, and `docker` where its engine does not answer."""
    found = [name for name in NEEDED if shutil.which(name) is None]
    if (
        "docker" not in found
        and subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False).returncode
    ):
        found.append("docker (its engine does not answer)")
    return found


def need(*names: str) -> None:
    """Leaves the test out where one of these commands is not there; fails it where everything was promised."""
    absent = [name for name in names if shutil.which(name) is None]
    if absent:
        leave_out(f"{', '.join(absent)} not found (tests/e2e/README.md says what is needed)")


def leave_out(reason: str) -> NoReturn:
    """Ends the test as one that this machine cannot run; as one that failed where that was promised."""
    if os.environ.get("E2E_REQUIRED"):
        pytest.fail(f"E2E_REQUIRED is set: {reason}")
    pytest.skip(f"!!! NOT TESTED: {reason}")


def run(
    *words: str | Path, stdin: str | bytes | None = None, seconds: float = 120, env: Mapping[str, str] | None = None
) -> str:
    """What the command prints. Raises `Failed`."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    ran = subprocess.run(
        [str(word) for word in words], input=data, capture_output=True, timeout=seconds, env=env, check=False
    )
    if ran.returncode:
        raise Failed(
            f"{words[0]} {words[1] if len(words) > 1 else ''}: {ran.stdout.decode()}{ran.stderr.decode()}".strip()
        )
    return ran.stdout.decode()


def until(ask: Callable[[], T], what: str, seconds: float = 60, pause: float = 0.2) -> T:
    """The first answer that is true; `Failed` and AssertionError count as none yet."""
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        try:
            found = ask()
            if found:
                return found
            last = found
        except (Failed, AssertionError) as e:
            last = e
        time.sleep(pause)
    raise AssertionError(f"{what}: not within {seconds:.0f} s; last: {last}")


class Cluster:
    """kubectl under one context."""

    def __init__(self, context: str) -> None:
        self.context = context
        self.name = context.removeprefix("kind-")

    def kubectl(self, *words: str, stdin: str | None = None, seconds: float = 120) -> str:
        """What kubectl prints; warnings stand on its other stream."""
        return run("kubectl", "--context", self.context, *words, stdin=stdin, seconds=seconds)

    def warnings(self, *words: str, stdin: str | None = None) -> str:
        """What kubectl prints on its error stream."""
        ran = subprocess.run(
            ["kubectl", "--context", self.context, *words],
            input=(stdin or "").encode(), capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        return ran.stderr.decode()

    def helm(self, *words: str, seconds: float = 240) -> str:
        """What Helm prints."""
        return run("helm", "--kube-context", self.context, *words, seconds=seconds)

    def apply(self, *documents: Mapping[str, Any]) -> str:
        """Writes objects."""
        return self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))

    def try_out(self, document: Mapping[str, Any], namespace: str) -> str:
        """Creates an object by dry-run. Raises `Failed` with the denial."""
        return self.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", stdin=yaml.safe_dump(document))

    def get(self, *words: str) -> Any:
        """An object or list as JSON."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))
