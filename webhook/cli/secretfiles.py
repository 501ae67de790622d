"""What the API server keeps in a Secret, kept in files: the serving certificate."""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from webhook.admission.tls import ServingCertificate
from webhook.cli import running
from webhook.kube import KubeError
from webhook.kube.entries import Entries
from webhook.parsing import Invalid, convert

if TYPE_CHECKING:
    # The extra `operator`: its libraries are imported when the command runs.
    from webhook.kube.client import Kube

_log = logging.getLogger(__name__)

_CERTIFICATE_SECONDS: Final = 2.0
_WAIT_SECONDS: Final = 0.2


class SecretFiles:
    """The serving certificate: a Secret on the API server, kept in files because TLS reads files."""

    def __init__(self, kube: "Kube", path: str, folder: Path) -> None:
        self._kube = kube
        self._path = path
        self._files = (folder / "tls.crt", folder / "tls.key")
        self._held: tuple[bytes, ...] = ()

    async def first(self, stopping: running.Stopping) -> ServingCertificate | None:
        """The certificate, as soon as there is one that can be served; None if we are told to stop before."""
        said = False
        while stopping.empty():
            try:
                if await self._fetch():
                    return ServingCertificate(*self._files)
            except (OSError, ValueError) as e:
                _log.error("the certificate in the Secret cannot be served: %s", e)
            if not said:
                said = True
                _log.info("waiting for a certificate: tls.crt and tls.key in the Secret at %s", self._path)
            await asyncio.sleep(_WAIT_SECONDS)
        return None

    async def keep_fresh(self, certificate: ServingCertificate, changed: Callable[[dt.datetime], None]) -> None:
        """Serves what the Secret holds, until cancelled; tells `changed` when the served certificate ends."""
        changed(certificate.expires)
        while True:
            await asyncio.sleep(_CERTIFICATE_SECONDS)
            if await self._fetch() and certificate.reload():
                _log.info("a new certificate is served, until %s", certificate.expires)
                changed(certificate.expires)

    async def _fetch(self) -> bool:
        """Whether the Secret holds another pair than the files did, which then hold it."""
        try:
            found = await self._kube.get(self._path)
            entries = {} if found is None else convert(found, Entries, "Secret").decoded("Secret")
        except (KubeError, Invalid) as e:
            _log.warning("the serving certificate could not be read: %s", e)
            return False
        pair = tuple(entries.get(name, b"") for name in ("tls.crt", "tls.key"))
        if not all(pair) or pair == self._held:
            return False
        self._held = pair
        for file, data in zip(self._files, pair, strict=True):
            # Beside it and moved over it: TLS must never read half of one.
            new = file.with_suffix(".new")
            new.touch(mode=0o600)
            new.write_bytes(data)
            new.replace(file)
        return True
