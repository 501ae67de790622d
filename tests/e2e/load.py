"""Pods created by dry-run, one after the other, while something happens to the webhook."""

import contextlib
import http.client
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.tools import Cluster, Failed

FIGURES: list[str] = []
"""What each load came to, for the end of the run."""
_THREADS = 2
_PAUSE = 0.02


@dataclass
class Answers:
    """What the API server said. A test asserts on all of it: how much was asked, and what was answered otherwise than wanted."""

    admitted: int = 0
    refused: int = 0
    wrongly_admitted: list[str] = field(default_factory=list)
    wrongly_refused: list[str] = field(default_factory=list)


@contextlib.contextmanager
def load(
    cluster: Cluster, namespace: str, *, wanted: Mapping[str, Any] | None, unwanted: Mapping[str, Any] | None
) -> Iterator[Answers]:
    """Asks until it is left: for a Pod that has to be admitted, and for one that has to be refused by a judgement."""
    proxy = subprocess.Popen(
        ["kubectl", "--context", cluster.context, "proxy", "--port=0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    answers, stopping = Answers(), threading.Event()
    threads: list[threading.Thread] = []
    try:
        said = re.search(r"127\.0\.0\.1:([0-9]+)", proxy.stdout.readline() if proxy.stdout else "")
        if said is None:
            raise Failed("kubectl proxy does not start")
        args = (int(said[1]), namespace, wanted, unwanted, answers, stopping)
        threads = [threading.Thread(target=_ask, args=args, daemon=True) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        yield answers
    finally:
        stopping.set()
        for thread in threads:
            thread.join(30)
        proxy.terminate()
        proxy.communicate()
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].partition(" ")[0]
        FIGURES.append(
            f"{test}: {answers.admitted} admitted, {answers.refused} refused, wrongly"
            f" {len(answers.wrongly_admitted)} and {len(answers.wrongly_refused)}"
        )


def _ask(
    port: int,
    namespace: str,
    wanted: Mapping[str, Any] | None,
    unwanted: Mapping[str, Any] | None,
    answers: Answers,
    stopping: threading.Event,
) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        while not stopping.is_set():
            _ask_once(connection, namespace, wanted, unwanted, answers)
            time.sleep(_PAUSE)


def _ask_once(
    connection: http.client.HTTPConnection,
    namespace: str,
    wanted: Mapping[str, Any] | None,
    unwanted: Mapping[str, Any] | None,
    answers: Answers,
) -> None:
    if wanted is not None:
        admitted, text = _create(connection, namespace, wanted)
        if admitted:
            answers.admitted += 1
        else:
            answers.wrongly_refused.append(text)
    if unwanted is not None:
        admitted, text = _create(connection, namespace, unwanted)
        if admitted:
            answers.wrongly_admitted.append(text)
        elif "no signature by" in text:
            answers.refused += 1
        else:
            # Refused for another reason than the judgement: nobody answered, or could not verify.
            answers.wrongly_refused.append(text)


def _create(connection: http.client.HTTPConnection, namespace: str, pod: Mapping[str, Any]) -> tuple[bool, str]:
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
    connection.request("POST", path, json.dumps(pod), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    return answer.status == http.client.CREATED, f"{time.strftime('%X')} {answer.status} {text[:600]}"
