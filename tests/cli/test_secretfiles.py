"""The serving certificate as replicas take it from its Secret (attack W-09)."""

import asyncio
import base64
import datetime as dt
import signal
from pathlib import Path

import pytest

from tests.fake.kube import FakeKube
from webhook.cli import secretfiles
from webhook.cli.running import Stopping
from webhook.cli.secretfiles import SecretFiles
from webhook.kube import KubeError
from webhook.operator.certificates import Data, next_data

PATH = "/api/v1/namespaces/ti/secrets/tls"
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def made(now: dt.datetime = START) -> Data:
    found = next_data(None, ["a.svc"], now)
    assert found is not None
    return found


def put(kube: FakeKube, data: Data) -> None:
    kube.put(PATH, {"data": {name: base64.b64encode(value).decode() for name, value in data.items()}})


async def test_w09_it_waits_for_a_pair_that_can_be_served_and_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secretfiles, "_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(secretfiles, "_CERTIFICATE_SECONDS", 0.01)
    kube, stopping = FakeKube(), Stopping()
    files = SecretFiles(kube, PATH, tmp_path)
    waiting = asyncio.create_task(files.first(stopping))
    for broken in ({"tls.crt": b"x", "tls.key": b"x"}, {"tls.crt": made()["tls.crt"]}):
        put(kube, broken)
        await asyncio.sleep(0.05)
        assert not waiting.done()
    put(kube, made())
    certificate = await asyncio.wait_for(waiting, 5)
    assert certificate is not None
    ends: list[dt.datetime] = []
    following = asyncio.create_task(files.keep_fresh(certificate, ends.append))
    kube.failing[PATH] = KubeError("down")
    await asyncio.sleep(0.05)
    kube.failing.clear()
    put(kube, made(START + dt.timedelta(days=1)))
    async with asyncio.timeout(5):
        while len(ends) < 2:
            await asyncio.sleep(0.01)
    assert ends[1] - ends[0] == dt.timedelta(days=1)
    # What cannot be served changes nothing.
    put(kube, {"tls.crt": b"x", "tls.key": b"x"})
    await asyncio.sleep(0.05)
    assert certificate.expires == ends[1]
    assert (tmp_path / "tls.key").stat().st_mode & 0o077 == 0
    following.cancel()


async def test_told_to_stop_it_waits_no_longer(tmp_path: Path) -> None:
    stopping = Stopping()
    stopping.put_nowait(signal.SIGTERM)
    assert await SecretFiles(FakeKube(), PATH, tmp_path).first(stopping) is None
