"""Two replicas on one cluster, each with its own connections: they race for the Lease and for the certificate, and agree (fault F29)."""

import asyncio
import base64
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from tests.fake.apiserver import FakeAPIServer, api_server
from tests.operator.test_leader import CONFIGURATION, INSTALLATION, WANTED, Lab
from tests.operator.test_policies import World
from tests.operator.test_watching import lead_to, until
from webhook.kube import KubeError, lease
from webhook.kube.client import Kube, connected
from webhook.kube.lease import Lease
from webhook.observe.metrics import Metrics
from webhook.operator import leader
from webhook.operator.certificates import AUTHORITY_DAYS
from webhook.operator.duty import Duty
from webhook.operator.leader import Leader

LEASE = "/apis/coordination.k8s.io/v1/namespaces/ti/leases/trusted-images"


async def nobody() -> None:
    """Nothing that the Lease goes with."""


async def reached() -> bool:
    """The Service leads to a replica."""
    return True


@dataclass
class Cluster:
    """What the chart has made, and a clock that all replicas share."""

    server: FakeAPIServer
    now: dt.datetime = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def leader(self, kube: Kube) -> Leader:
        return Leader(
            kube, World().policies, INSTALLATION, lambda: self.now, reached, Duty(kube, INSTALLATION, Metrics())
        )

    def served(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self._data("tls.crt"))

    def published(self) -> list[x509.Certificate]:
        bundle = self.server.objects[CONFIGURATION]["webhooks"][0]["clientConfig"]["caBundle"]
        return x509.load_pem_x509_certificates(base64.b64decode(bundle))

    def is_trusted(self) -> bool:
        """Whether the certificate in the Secret is signed by an authority that API servers are told."""
        for authority in self.published():
            with contextlib.suppress(Exception):
                self.served().verify_directly_issued_by(authority)
                return True
        return False

    def _data(self, name: str) -> bytes:
        return base64.b64decode(self.server.objects[INSTALLATION.secret_path]["data"][name])

    def written(self) -> list[tuple[str, str]]:
        return [asked for asked in self.server.asked if asked[0] != "GET" and asked[1] != LEASE]


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    async with api_server() as server:
        lead_to(server, tmp_path, monkeypatch)
        lab = Lab()
        lab.want(WANTED)
        lab.answered()
        for path, document in lab.kube.objects.items():
            server.put(path, document)
        yield Cluster(server)


async def test_f29_two_leaders_at_once_agree_on_one_certificate_and_leave_it(cluster: Cluster) -> None:
    async with connected() as one, connected() as other:
        leaders = [cluster.leader(one), cluster.leader(other)]
        for _ in range(4):
            results = await asyncio.gather(*(each.keep_certificate() for each in leaders), return_exceptions=True)
            # Whoever comes second is told so, and overwrites nothing.
            assert all(result is None or (isinstance(result, KubeError) and result.is_conflict) for result in results)
            cluster.now += dt.timedelta(seconds=5)
        assert cluster.is_trusted()
        serial, before = cluster.served().serial_number, len(cluster.written())
        for _ in range(3):
            await asyncio.gather(*(each.keep_certificate() for each in leaders))
            cluster.now += dt.timedelta(seconds=5)
        assert cluster.served().serial_number == serial
        assert len(cluster.written()) == before


async def test_f29_w09_two_leaders_renew_at_once_and_what_is_served_is_always_trusted(cluster: Cluster) -> None:
    async with connected() as one, connected() as other:
        leaders = [cluster.leader(one), cluster.leader(other)]
        for _ in range(3):
            await asyncio.gather(*(each.keep_certificate() for each in leaders), return_exceptions=True)
            cluster.now += dt.timedelta(seconds=5)
        serials = {cluster.served().serial_number}
        for _ in range((AUTHORITY_DAYS + 30) // 5):
            cluster.now += dt.timedelta(days=5)
            # That is many rounds; three are enough for whatever has to wait for another.
            for _ in range(3):
                await asyncio.gather(*(each.keep_certificate() for each in leaders), return_exceptions=True)
                assert cluster.is_trusted()
                cluster.now += dt.timedelta(minutes=11)
            assert cluster.served().not_valid_after_utc > cluster.now
            serials.add(cluster.served().serial_number)
        assert 4 <= len(serials) <= 12


async def test_f29_of_two_replicas_one_leads_and_the_other_follows_when_it_is_lost(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW", 0.05)
    monkeypatch.setattr(leader, "_CERTIFICATE_SECONDS", 0.05)
    seconds = [0.0]
    async with connected() as one, connected() as other:
        tasks = {}
        for name, kube in (("a", one), ("b", other)):
            candidate = Lease(kube, "ti", "trusted-images", name, nobody, lambda: seconds[0])
            tasks[name] = asyncio.create_task(candidate.lead(cluster.leader(kube).work))

        def holder() -> str:
            found = cluster.server.objects.get(LEASE)
            return "" if found is None else str(found["spec"]["holderIdentity"])

        try:
            await until(lambda: INSTALLATION.secret_path in cluster.server.objects)
            first = holder()
            serial = cluster.served().serial_number
            # It dies without giving the Lease back.
            tasks[first].cancel()
            await asyncio.sleep(0.3)
            assert holder() == first
            seconds[0] += lease.DURATION + 1
            await until(lambda: holder() not in {"", first})
            cluster.server.remove(INSTALLATION.secret_path)
            await until(lambda: INSTALLATION.secret_path in cluster.server.objects)
            assert cluster.served().serial_number != serial
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
