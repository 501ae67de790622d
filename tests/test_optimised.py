"""`python -O` removes every `assert` and every `if __debug__`: nothing that decides may rest on them (attack V-06)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import webhook

MODULES = sorted(Path(webhook.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(MODULES[0].parent)))
def test_v06_no_module_asserts(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}"
        assert not (isinstance(node, ast.Name) and node.id == "__debug__"), f"line {node.lineno}"


@pytest.mark.parametrize("flags", [["-O"], ["-OO"]])
def test_v06_the_main_job_has_the_same_verdicts_without_asserts(flags: list[str]) -> None:
    # The demo compares each verdict with the one expected and ends with 1 if any is another.
    ran = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, *flags, "-c", "from webhook.cli import main; main()", "demo"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "refused" in ran.stdout
