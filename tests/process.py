"""The command as a process of its own."""

import asyncio
import re
import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("kubectl-trust")


async def until_serving(process: asyncio.subprocess.Process) -> tuple[str, int, int]:
    """What it has written to standard error until it serves, and the ports of the webhook and of the metrics in it."""
    said = ""
    assert process.stderr is not None
    async with asyncio.timeout(40):
        while (ports := re.search(r"https://\S+:(\d+)/validate, metrics on port (\d+)", said)) is None:
            line = (await process.stderr.readline()).decode()
            assert line, said
            said += line
    return said, int(ports[1]), int(ports[2])
