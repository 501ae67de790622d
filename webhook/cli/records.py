"""The records of what was verified, kept in a file: for `serve`, which has no cluster to keep them in."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from webhook.cli import hosting
from webhook.memory import records as parts
from webhook.memory.records import SHARDS, Records

_log = logging.getLogger(__name__)

_WRITE_SECONDS: Final = 10.0


class RecordsFile:
    """Keeps `records` in one file. It is as trusted as the policy files beside it: whoever writes it says what was verified."""

    def __init__(self, file: Path, records: Records) -> None:
        self._file = file
        self._records = records

    def read(self) -> None:
        """Adds what the file holds; a file that is not there yet holds nothing. Raises `Invalid` or OSError."""
        if self._file.exists():
            self._records.merge(parts.read(self._file.read_text("utf-8"), str(self._file)), hosting.now())

    async def work(self) -> None:
        """Writes what is new until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(_WRITE_SECONDS)
                self.write()
        finally:
            self.write()

    def write(self) -> None:
        """Writes all of it if something is new."""
        changed = self._records.changed()
        if not changed:
            return
        everything = {key: record for shard in range(SHARDS) for key, record in self._records.of(shard).items()}
        # Beside it and moved over it: a process that ends meanwhile leaves a whole file.
        new = self._file.with_name(f"{self._file.name}.new")
        try:
            new.write_text(parts.write(everything), "utf-8")
            new.replace(self._file)
        except OSError as e:
            _log.warning("the records of what was verified are not kept: %s", e)
            return
        for shard in changed:
            self._records.kept(shard)
