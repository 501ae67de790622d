"""The serving certificate: read again when its files change, without dropping a connection.

A new pair is loaded aside first, so that half-written files or a key of another certificate leave the old pair in service.
"""

import asyncio
import datetime as dt
import ipaddress
import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_log = logging.getLogger(__name__)

RELOAD_SECONDS: Final = 1.0


class ServingCertificate:
    """A certificate chain and its key as PEM files, and the TLS context that serves them."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises OSError or ssl.SSLError if the pair cannot be served."""
        self._certificate = certificate
        self._key = key
        self.context = _context(certificate, key)
        self._state = self._stat()
        self.expires = _expiry(certificate)

    def reload(self) -> bool:
        """Serves the pair that the files hold now to new connections; whether it did. A broken pair changes nothing."""
        state = self._stat()
        if state == self._state:
            return False
        self._state = state
        try:
            _context(self._certificate, self._key)
            expires = _expiry(self._certificate)
            self.context.load_cert_chain(self._certificate, self._key)
        except (OSError, ValueError) as e:
            _log.error("%s: not served, the previous certificate stays: %s", self._certificate, e)
            return False
        self.expires = expires
        return True

    async def keep_fresh(self, changed: Callable[[dt.datetime], None], seconds: float = RELOAD_SECONDS) -> None:
        """Looks at the files until cancelled; tells `changed` when the served certificate ends, now and at each change."""
        changed(self.expires)
        while True:
            await asyncio.sleep(seconds)
            if self.reload():
                _log.info("%s: the new certificate is served, until %s", self._certificate, self.expires)
                changed(self.expires)

    def _stat(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when a file, or the link that Kubernetes swaps for it, changes; zeros for a missing one."""
        states = []
        for file in (self._certificate, self._key):
            try:
                found = file.stat()
                states.append((found.st_ino, found.st_mtime_ns, found.st_size))
            except OSError:
                states.append((0, 0, 0))
        return tuple(states)


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def _expiry(certificate: Path) -> dt.datetime:
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc


def write_self_signed(folder: Path, names: Sequence[str], now: dt.datetime, days: int = 30) -> tuple[Path, Path]:
    """Makes a certificate of its own authority for `names` (hosts and addresses) in `folder`: its file and its key's.

    For trying the webhook without a cluster. ECDSA, since an RSA handshake costs the server several times as much.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trusted-images")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(text) for text in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "tls.crt", folder / "tls.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.touch(mode=0o600)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
