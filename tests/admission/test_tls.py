"""The serving certificate: exchanged while it serves, and a broken pair changes nothing (fault F20)."""

import asyncio
import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from tests.serving import serving
from webhook.admission.tls import ServingCertificate, write_self_signed

NOW = dt.datetime.now(dt.UTC)


async def served(port: int) -> x509.Certificate:
    """The certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown)


async def test_w09_f31_a_new_pair_is_served_to_new_connections(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        old = await served(webhook.ports.webhook)
        assert not webhook.certificate.reload()
        ends: list[dt.datetime] = []
        watching = asyncio.create_task(webhook.certificate.keep_fresh(ends.append, seconds=0.01))
        await asyncio.sleep(0.05)
        write_self_signed(tmp_path, ["127.0.0.1"], NOW, days=90)
        async with asyncio.timeout(5):
            while len(ends) < 2:
                await asyncio.sleep(0.01)
        watching.cancel()
        new = await served(webhook.ports.webhook)
        assert new.serial_number != old.serial_number
        assert ends == [old.not_valid_after_utc, new.not_valid_after_utc]


@pytest.mark.parametrize("broken", ["tls.crt", "tls.key"])
async def test_w09_f31_a_broken_pair_leaves_the_old_one(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as webhook:
        old = await served(webhook.ports.webhook)
        (tmp_path / broken).write_text("broken")
        assert not webhook.certificate.reload()
        assert "not served, the previous certificate stays" in caplog.text
        assert (await served(webhook.ports.webhook)).serial_number == old.serial_number
        (tmp_path / broken).unlink()
        assert not webhook.certificate.reload()
        assert (await served(webhook.ports.webhook)).serial_number == old.serial_number


async def test_w14_old_versions_of_tls_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        assert webhook.certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)):
            await asyncio.open_connection("127.0.0.1", webhook.ports.webhook, ssl=context)


def test_a_certificate_is_for_hosts_and_addresses_and_its_key_for_nobody_else(tmp_path: Path) -> None:
    certificate, private = write_self_signed(tmp_path, ["localhost", "::1"], NOW)
    names = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.value.get_values_for_type(x509.IPAddress)] == ["::1"]
    assert private.stat().st_mode & 0o077 == 0
    with pytest.raises(FileNotFoundError):
        ServingCertificate(tmp_path / "gone", private)
