"""The real `notary` and `notary-server` on loopback, in folders of their own; whatever is started here ends here."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MISSING = [name for name in ("notary", "notary-server") if shutil.which(name) is None]
WHY_NOT = f"not on the PATH: {', '.join(MISSING)} (Debian: apt-get install notary)"

_SECONDS = 30.0
_PASSPHRASES = {f"NOTARY_{role}_PASSPHRASE": "passphrase" for role in ("ROOT", "TARGETS", "SNAPSHOT", "DELEGATION")}


@dataclass(frozen=True)
class Notary:
    """The client, with keys and a cache of its own in `folder`."""

    server: str
    folder: Path

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Runs it, agreeing to whatever it asks; exit code and everything it said."""
        command = ["notary", "-s", self.server, "-d", str(self.folder / "trust")]
        if (self.folder / "config.json").exists():
            command += ["-c", str(self.folder / "config.json")]
        environment = {**os.environ, **_PASSPHRASES, "HOME": str(self.folder)}
        process = await asyncio.create_subprocess_exec(
            *command, *arguments, env=environment, stdin=PIPE, stdout=PIPE, stderr=STDOUT
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(b"yes\n"), _SECONDS)
        except TimeoutError:
            process.kill()
            raise
        return process.returncode or 0, said.decode()

    async def must(self, *arguments: str) -> str:
        """Runs it, and it succeeds."""
        code, said = await self.run(*arguments)
        assert code == 0, said
        return said

    def pin(self, gun: str, key_id: str) -> None:
        """Trusts this root certificate for the repository and nobody on first use."""
        pinned = {
            "trust_pinning": {"disable_tofu": True, "certs": {gun: [key_id]}},
            "trust_dir": str(self.folder / "trust"),
        }
        (self.folder / "config.json").write_text(json.dumps(pinned))


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[str]:
    """`notary-server` on a free port of loopback, with everything in memory; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings: Mapping[str, object] = {
        "server": {"http_addr": address},
        "trust_service": {"type": "local", "hostname": "", "port": "", "key_algorithm": "ecdsa"},
        "storage": {"backend": "memory"},
        "logging": {"level": "error"},
        "repositories": {"gun_prefixes": []},
    }
    (folder / "server.json").write_text(json.dumps(settings))
    process = await asyncio.create_subprocess_exec(
        "notary-server", "-config", str(folder / "server.json"), stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        await asyncio.wait_for(_listening(address), _SECONDS)
        yield f"http://{address}"
    finally:
        process.terminate()
        await process.wait()


async def _listening(address: str) -> None:
    host, _, port = address.partition(":")
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            return
        await asyncio.sleep(0.05)
