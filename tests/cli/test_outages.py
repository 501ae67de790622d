"""Outages at the command line: the same judgement, and records in a file for `serve` (attacks V-02, M-05)."""

import asyncio
import json
import re
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.admission.test_review import review
from tests.captures import NOW
from tests.cli.test_commands import policy, registry, run, served
from tests.fake.http_registry import HTTPRegistry, status
from tests.memory.test_records import known, named
from webhook.cli.records import RecordsFile
from webhook.memory.records import Record, Records
from webhook.parsing import Invalid

__all__ = ["policy", "registry"]


def with_outage(file: str, **on_outage: str) -> str:
    document = yaml.safe_load(Path(file).read_text())
    document["spec"]["onOutage"] = on_outage
    Path(file).write_text(yaml.safe_dump(document))
    return file


def fall_silent(registry: HTTPRegistry) -> None:
    registry.script[""] = status(503)


async def test_v02_verify_and_check_judge_as_a_cluster_would(registry: HTTPRegistry, policy: str) -> None:
    image = f"{registry.host}/shop/unsigned:v1"
    options = ("-p", with_outage(policy, action="warn"), "--plain-http", "--timeout", "5")
    assert (await run("verify", image, "-n", "shop", *options)).exit_code == 1
    fall_silent(registry)
    text = await run("verify", image, "-n", "shop", *options)
    assert text.exit_code == 0
    assert "let in unverified by onOutage: warn: could not verify" in text.output
    (entry,) = json.loads((await run("verify", image, "-n", "shop", *options, "-o", "json")).stdout)
    assert entry["policies"][0]["outage"] == {"action": "warn", "verifiedAt": None}
    assert entry["policies"][0]["satisfied"] is None
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop"}}
    spec = {"containers": [{"name": "a", "image": image}]}
    checked = await run("check", "-f", "-", *options, stdin=json.dumps({**pod, "spec": spec}))
    assert checked.exit_code == 0
    # Nobody has verified anything before a command that has just begun.
    with_outage(policy, action="last-known-good")
    assert (await run("verify", image, "-n", "shop", *options)).exit_code == 2


async def test_serve_knows_after_its_restart_what_it_verified(
    registry: HTTPRegistry, policy: str, tmp_path: Path
) -> None:
    registries, records = tmp_path / "registries.yaml", tmp_path / "records"
    registries.write_text(f"registries: [{{host: '{registry.host}', plainHTTP: true}}]")
    with_outage(policy, action="last-known-good")
    words = ["--policy", policy, "--registries", str(registries), "--drain-seconds", "0"]
    words += ["--outage-records", str(records)]
    digests = {path: registry.registry.tags[f"shop/{path}", "v1"] for path in ("signed", "unsigned")}

    async def asked(port: int, certificate: Path, name: str) -> dict[str, Any]:
        spec = {"containers": [{"name": "a", "image": f"{registry.host}/shop/{name}@{digests[name]}"}]}
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(certificate)))
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            http.post(f"https://127.0.0.1:{port}/validate?timeout=5s", json=review(spec=spec)) as response,
        ):
            found: dict[str, Any] = (await response.json())["response"]
            return found

    async with served(*words) as (process, port, _, certificate):
        assert (await asked(port, certificate, "signed"))["allowed"]
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)
    assert len(records.read_text().splitlines()) == 1
    fall_silent(registry)
    async with served(*words) as (_, port, metrics, certificate):
        answer = await asked(port, certificate, "signed")
        assert answer["allowed"]
        assert "let in by onOutage: last-known-good, verified at" in answer["warnings"][0]
        assert (await asked(port, certificate, "unsigned"))["status"]["code"] == 503
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{metrics}/metrics") as response:
            text = await response.text()
    assert re.search(r'^trusted_images_outage_admissions_total\{action="last-known-good"\} 1\.0$', text, re.MULTILINE)
    assert re.search(r'^trusted_images_outage_admissions_total\{action="warn"\} 0\.0$', text, re.MULTILINE)
    assert re.search(r"^trusted_images_outage_records 1\.0$", text, re.MULTILINE)


async def test_m05_a_file_that_holds_something_else_is_misuse(policy: str, tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.write_text("sha256:x\n")
    result = await run("serve", "--policy", policy, "--outage-records", str(records))
    assert result.exit_code == 2
    assert "--outage-records" in result.output
    assert "line 1 is no record" in result.output


def test_a_file_is_written_when_something_is_new_and_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "records"
    records = Records()
    kept = RecordsFile(file, records)
    kept.read()
    kept.write()
    assert not file.exists()
    for number in range(40):
        records.learn(named(number), Record(NOW))
    kept.write()
    assert not records.changed()
    again = Records()
    RecordsFile(file, again).read()
    assert known(again) == known(records)
    assert [one.name for one in tmp_path.iterdir()] == ["records"]
    # What cannot be written stays owed.
    records.learn(named(41), Record(NOW))
    RecordsFile(tmp_path / "nowhere" / "records", records).write()
    assert records.changed() == {named(41).shard}
    assert "are not kept" in caplog.text
    file.write_text("x")
    with pytest.raises(Invalid):
        kept.read()
