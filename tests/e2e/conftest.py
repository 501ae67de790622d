"""One installation for the whole suite."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.e2e.laboratory import Lab, given_or_made, laboratory
from tests.e2e.load import FIGURES
from tests.e2e.tools import Cluster, missing, until


def pytest_sessionstart() -> None:
    """Whoever ends the run early gets everything ended that it has started: fixtures are left as after a failure."""

    def end(number: int, _frame: object) -> None:
        pytest.exit(f"ended by {signal.Signals(number).name}", 128 + number)

    signal.signal(signal.SIGTERM, end)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a cluster there is nothing to test: one loud line, and every test skipped; an error where it was promised."""
    absent = missing()
    if absent:
        if os.environ.get("E2E_REQUIRED"):
            raise pytest.UsageError(f"E2E_REQUIRED is set, and not found: {', '.join(absent)}")
        reason = f"NO END-TO-END TESTS: {', '.join(absent)} not found (tests/e2e/README.md says what is needed)"
        reporter = config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"\n!!! {reason}\n", red=True, bold=True)
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was asked while something happened, and what came of it."""
    if FIGURES:
        terminalreporter.write_sep("-", "Pods asked for under load")
        for line in FIGURES:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster named by E2E_CONTEXT, or one made for this run."""
    with given_or_made() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def lab(cluster: Cluster) -> Iterator[Lab]:
    """The release, installed as the README says, and registries."""
    with laboratory(cluster) as lab:
        yield lab


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """A namespace of its own for each test."""
    name = f"e2e-{time.monotonic_ns()}"
    lab.cluster.kubectl("create", "namespace", name)
    until(lambda: lab.cluster.get("serviceaccount", "default", "-n", name), "the default service account")
    yield name
    lab.cluster.kubectl("delete", "namespace", name, "--wait=false")
