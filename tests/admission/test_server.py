"""The webhook's port: what it accepts, how long it waits, and that every review is answered (attacks W, D-07, D-08)."""

import asyncio
import base64
import gzip
import json
import socket
import ssl
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests import captures
from tests.admission.test_review import review
from tests.policies import exception
from tests.serving import Deciding, Running, serving
from webhook import limits
from webhook.admission.server import deadline_after, parse_timeout
from webhook.cli import hosting
from webhook.judge.pin import Pin
from webhook.judge.workload import Question
from webhook.verdict import Answer, Borne, Denied, PolicyKey, Ruling, Tolerance, Undecided, Use


async def deny(_question: Question, _deadline: float) -> Answer:
    return Answer(
        False, 403, "no", ("careful",), {"verdict": "denied", "policy": "shop/p", "digest": "d", "signer": "s"}
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 10), ("", 10), ("nonsense", 10), ("10", 10), ("-5s", 10), ("1e9s", 10), ("s", 10), ("٣s", 10), ("5s\n", 10),
        ("10s", 10), ("1m0s", 30), ("0s", 0), ("29.5s", 29.5), ("30s", 30), ("999s", 30), ("99m", 30), ("500ms", 0.5),
    ],
)  # fmt: skip
def test_w06_the_api_servers_timeout_is_read_and_bounded(text: str | None, seconds: float) -> None:
    assert parse_timeout(text) == seconds


def test_w06_the_answer_is_due_before_the_api_server_gives_up() -> None:
    assert deadline_after(10) == 9
    assert deadline_after(1) == 0.5
    assert deadline_after(0) == 0


async def test_a_review_is_answered_logged_and_counted(tmp_path: Path) -> None:
    async with serving(tmp_path, deny) as webhook:
        status, answer = await webhook.post(review())
        assert status == 200
        assert answer["response"]["uid"] == "u-1"
        assert answer["response"]["status"]["message"] == "no"
        assert (
            await webhook.metric(
                'trusted_images_admission_requests_total{decision="denied",mode="enforce",operation="CREATE"}'
            )
            == 1
        )
        assert await webhook.metric("trusted_images_reviews_in_progress") == 0
    (line,) = webhook.lines
    assert {k: line[k] for k in ("event", "uid", "kind", "namespace", "name", "decision", "policy", "digest", "signer",
                                 "reason")} == {
        "event": "review", "uid": "u-1", "kind": "Pod", "namespace": "shop", "name": "web", "decision": "denied",
        "policy": "shop/p", "digest": "d", "signer": "s", "reason": "no",
    }  # fmt: skip


async def test_x11_a_dry_run_is_judged_and_logged_and_not_counted(tmp_path: Path) -> None:
    async with serving(tmp_path, deny) as webhook:
        _, answer = await webhook.post(review(dryRun=True))
        assert not answer["response"]["allowed"]
        assert (
            await webhook.metric(
                'trusted_images_admission_requests_total{decision="denied",mode="enforce",operation="CREATE"}'
            )
            == 0
        )
    assert webhook.lines[0]["dry_run"] is True


async def test_what_needs_no_judgement_is_answered_without_one(tmp_path: Path) -> None:
    async with serving(tmp_path, deny) as webhook:
        _, deletion = await webhook.post(review(operation="DELETE", object=None))
        assert deletion["response"]["allowed"]
        _, malformed = await webhook.post(review(object={}))
        assert malformed["response"]["status"]["code"] == 403
        assert malformed["response"]["status"]["message"].startswith("spec: missing")
    assert [line["reason"] for line in webhook.lines] == ["deletion", "spec: missing, so there is nothing to judge"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{}", {}, 400),
        (b"\xff\xfe", {}, 400),
        (json.dumps(review()).encode(), {"Content-Type": "text/plain"}, 400),
        (gzip.compress(b"x" * 1_000_000), {"Content-Encoding": "gzip"}, 415),
        (b"x" * (limits.MAX_REVIEW + 1), {}, 413),
    ],
)
async def test_x15_f39_what_is_no_review_is_an_http_error(
    tmp_path: Path, body: bytes, headers: dict[str, str], status: int
) -> None:
    async with serving(tmp_path) as webhook:
        for path in ("/validate", "/validate-policies"):
            assert (await webhook.post(body, path, headers=headers))[0] == status
        # And it still answers.
        assert (await webhook.post(review()))[0] == 200


async def test_x15_other_paths_and_methods(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        async with webhook.http.get(f"{webhook.url}/validate") as response:
            assert response.status == 405
        assert (await webhook.post(review(), "/elsewhere"))[0] == 404
        assert (await webhook.post(review(), "/"))[0] == 404


async def test_d03_a_chunked_body_is_counted_as_it_comes(tmp_path: Path) -> None:
    async def endless() -> object:
        while True:
            yield b"x" * 65_536

    async with serving(tmp_path) as webhook:
        headers = {"Content-Type": "application/json"}
        try:
            async with webhook.http.post(f"{webhook.url}/validate", data=endless(), headers=headers) as response:
                assert response.status == 413
        except aiohttp.ClientError:
            pass  # the server hung up while we were still sending
        assert (await webhook.post(review()))[0] == 200


async def test_d07_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REQUEST_SECONDS", 0.05)
    async with serving(tmp_path) as webhook:
        reader, writer = await _connect(webhook, tmp_path)
        writer.write(
            b"POST /validate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


async def test_d07_a_connection_that_asks_nothing_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(hosting, "_TLS_HANDSHAKE_SECONDS", 1.0)
    async with serving(tmp_path) as webhook:
        assert (await webhook.post(review()))[0] == 200
        for beginning in (b"", b"POST /validate HTTP/1.1\r\nHost: x\r\nX-Slow: "):
            reader, writer = await _connect(webhook, tmp_path)
            writer.write(beginning)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
        with socket.create_connection(("127.0.0.1", webhook.ports.webhook)) as silent:
            silent.settimeout(10)
            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(None, silent.recv, 1) == b""  # before any TLS
        # One that has asked before is not silent.
        assert (await webhook.post(review()))[0] == 200


async def _connect(webhook: Running, folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    trusted = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    return await asyncio.open_connection("127.0.0.1", webhook.ports.webhook, ssl=trusted)


async def test_d03_headers_are_bounded(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        status, _ = await webhook.post(review(), headers={"X-Long": "x" * (limits.MAX_HEADER_FIELD + 1)})
        assert status == 400


async def test_beyond_the_bound_a_review_is_answered_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WAITING_REVIEWS", 3)
    gate, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(_question: Question, _deadline: float) -> Answer:
        begun.release()
        await gate.wait()
        return Answer(True, 200)

    async with serving(tmp_path, slow) as webhook:
        waiting = [asyncio.create_task(webhook.post(review())) for _ in range(3)]
        await begun.acquire()
        await begun.acquire()
        await begun.acquire()
        assert await webhook.metric("trusted_images_reviews_in_progress") == 3
        _, refused = await webhook.post(review())
        assert refused["response"]["status"]["code"] == 503
        # What needs no judgement is still answered: garbage can be collected.
        _, deletion = await webhook.post(review(operation="DELETE", object=None))
        assert deletion["response"]["allowed"]
        gate.set()
        assert all(answer["response"]["allowed"] for _, answer in await asyncio.gather(*waiting))
        assert (await webhook.post(review()))[1]["response"]["allowed"]


async def test_v02_a_failure_of_ours_admits_nothing_and_tells_no_details(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_question: Question, _deadline: float) -> Answer:
        raise KeyError("secret detail")

    async with serving(tmp_path, fail) as webhook:
        _, answer = await webhook.post(review())
        assert answer["response"]["allowed"] is False
        assert answer["response"]["status"]["code"] == 500
        assert "secret" not in answer["response"]["status"]["message"]
        number = answer["response"]["status"]["message"].partition("id ")[2].split()[0]
        assert f"unforeseen error {number}" in caplog.text
        assert (
            await webhook.metric(
                'trusted_images_admission_requests_total{decision="error",mode="enforce",operation="CREATE"}'
            )
            == 1
        )


async def test_w06_the_deadline_reaches_the_judge(tmp_path: Path) -> None:
    left: list[float] = []

    async def note(_question: Question, deadline: float) -> Answer:
        left.append(deadline - asyncio.get_running_loop().time())
        return Answer(True, 200)

    async with serving(tmp_path, note) as webhook:
        await webhook.post(review(), "/validate?timeout=5s")
        await webhook.post(review())
    assert 3 < left[0] <= 4
    assert 8 < left[1] <= 9


async def test_reviews_under_way_are_answered_before_the_server_ends(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def slow(_question: Question, _deadline: float) -> Answer:
        begun.set()
        await asyncio.sleep(0.2)
        return Answer(True, 200)

    answers = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as outside:
        async with serving(tmp_path, slow) as webhook:

            async def ask() -> None:
                async with outside.post(f"{webhook.url}/validate", json=review()) as response:
                    answers.append(await response.json())

            asking = asyncio.create_task(ask())
            await begun.wait()
        await asking
    assert answers[0]["response"]["allowed"]


async def test_f28_a_replica_that_leaves_ends_its_connections_with_an_answer(tmp_path: Path) -> None:
    reasons: list[str | None] = [None]
    async with serving(tmp_path, not_ready=lambda: reasons[0]) as webhook:

        async def connection() -> str | None:
            async with webhook.http.post(f"{webhook.url}/validate", json=review()) as response:
                assert response.status == 200
                assert (await response.json())["response"]["allowed"] is True
                return response.headers.get("Connection")

        assert await connection() is None
        reasons[0] = "shutting down"
        assert await connection() == "close"


async def test_health_says_why_it_is_not_ready(tmp_path: Path) -> None:
    reasons: list[str | None] = ["the policies have not been read yet", None]
    async with serving(tmp_path, not_ready=lambda: reasons[0]) as webhook:

        async def get(path: str) -> tuple[int, str]:
            async with webhook.http.get(webhook.console + path) as response:
                return response.status, await response.text()

        assert await get("/readyz") == (503, "the policies have not been read yet\n")
        assert await get("/livez") == (200, "ok\n")
        reasons.pop(0)
        assert await get("/readyz") == (200, "ok\n")
        assert (await get("/metrics"))[1].startswith("# HELP")


class Pinning(Deciding):
    """Writes one digest; or fails, where the Pod is called so."""

    async def pins(self, question: Question, deadline: float) -> tuple[Pin, ...]:
        if question.who.namespace == "broken":
            raise RuntimeError("a bug")
        return (Pin(f"/{question.images[0].where.replace('.', '/')}", "x@sha256:1"),)


async def test_k16_mutate_answers_with_replacements_and_counts_them(tmp_path: Path) -> None:
    async with serving(tmp_path, Pinning(deny)) as webhook:
        status, answer = await webhook.post(review(), "/mutate")
        assert status == 200
        response = answer["response"]
        assert (response["uid"], response["allowed"], response["patchType"]) == ("u-1", True, "JSONPatch")
        (operation,) = json.loads(base64.b64decode(response["patch"]))
        assert operation == {"op": "replace", "path": "/spec/containers[0]/image", "value": "x@sha256:1"}
        await webhook.post(review(dryRun=True), "/mutate")
        assert await webhook.metric("trusted_images_pinned_images_total") == 1


@pytest.mark.parametrize("changed", [{"namespace": "broken"}, {"operation": "DELETE"}, {"object": None}])
async def test_v02_mutate_admits_without_a_patch_whatever_happens(tmp_path: Path, changed: dict[str, Any]) -> None:
    async with serving(tmp_path, Pinning(deny)) as webhook:
        status, answer = await webhook.post(review(**changed), "/mutate")
        assert (status, answer["response"]) == (200, {"uid": "u-1", "allowed": True})
        assert (await webhook.post(b"{}", "/mutate"))[0] == 400


async def test_f40_mutate_does_not_wait_where_too_many_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WAITING_REVIEWS", 0)
    async with serving(tmp_path, Pinning(deny)) as webhook:
        assert (await webhook.post(review(), "/mutate"))[1]["response"] == {"uid": "u-1", "allowed": True}


async def test_k07_uses_of_exceptions_are_told_by_pod_and_counted(tmp_path: Path) -> None:
    excuses = [exception(f"shop/{name}").excuse(captures.NOW) for name in ("a", "b")]
    rulings = tuple(
        Ruling((place,), "x:v1", PolicyKey("shop", "web"), Denied(("no",)), excuse=excuses[0]) for place in ("p", "q")
    )
    excused = {excuses[0]: rulings, excuses[1]: (replace(rulings[0], excuse=excuses[1]),)}

    async def excuse(_question: Question, _deadline: float) -> Answer:
        return Answer(True, 200, annotations={"exception": "shop/a", "excused": "why"}, excused=excused)  # type: ignore[arg-type]  # none of them is None

    told: list[Use] = []
    async with serving(tmp_path, excuse, tell=told.append) as webhook:
        pod = {"metadata": {"name": "web-1", "uid": "u-7"}, "spec": {"containers": [{"name": "a", "image": "x:v1"}]}}
        await webhook.post(review(object=pod, name=""))
        assert [(str(use.excuse.key), len(use.rulings), use.namespace, use.name, use.uid) for use in told] == [
            ("shop/a", 2, "shop", "web-1", "u-7"), ("shop/b", 1, "shop", "web-1", "u-7"),
        ]  # fmt: skip
        assert await webhook.metric("trusted_images_exceptions_used_total") == 2
        # What has no name yet, or one that is none, is told all the same.
        for metadata in ({"generateName": "web-"}, {"name": 7}):
            await webhook.post(review(object={**pod, "metadata": metadata}, name="web"))
            assert (told[-1].name, told[-1].uid) == ("web", "")
    assert (webhook.lines[0]["exception"], webhook.lines[0]["reason"]) == ("shop/a", "why")


@pytest.mark.parametrize(("known", "action"), [((captures.NOW,), "last-known-good"), ((captures.NOW, None), "warn")])
async def test_v03_what_an_outage_lets_in_is_told_counted_and_logged(
    tmp_path: Path, known: tuple[datetime | None, ...], action: str
) -> None:
    rulings = tuple(
        Ruling(("p",), "x:v1", PolicyKey("shop", "web"), Undecided(("down",), outage=True), tolerance=Tolerance(at))
        for at in known
    )

    async def bear(_question: Question, _deadline: float) -> Answer:
        return Answer(True, 200, annotations={"outage": "the registry is down"}, tolerated=rulings)

    told: list[Borne] = []
    async with serving(tmp_path, bear, bear=told.append) as webhook:
        pod = {"metadata": {"name": "web-1", "uid": "u-7"}, "spec": {"containers": [{"name": "a", "image": "x:v1"}]}}
        await webhook.post(review(object=pod, name=""))
        assert [(one.rulings, one.namespace, one.name, one.uid) for one in told] == [(rulings, "shop", "web-1", "u-7")]
        assert await webhook.metric(f'trusted_images_outage_admissions_total{{action="{action}"}}') == 1
    assert webhook.lines[0]["reason"] == "the registry is down"
