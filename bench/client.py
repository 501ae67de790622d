"""The API server's side: keep-alive TLS connections that POST reviews, as plain and as cheap as Python allows."""

import json
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class Connection:
    """One TLS connection that asks and waits."""

    def __init__(self, port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The certificate was made a moment ago for this very server; its check is not what is measured.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=60))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, body: bytes) -> bytes:
        """The body of the answer."""
        head = f"POST /validate?timeout=10s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        data = self._socket.recv(65_536)
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(65_536)
        headers, _, answer = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in headers.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        while len(answer) < length:
            answer += self._socket.recv(65_536)
        return answer

    def review(self, body: bytes) -> dict[str, Any]:
        """The response in the answer."""
        answer: dict[str, Any] = json.loads(self.ask(body))["response"]
        return answer

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()


@dataclass
class Server:
    """The measured process."""

    process: "subprocess.Popen[str]"
    ready: dict[str, Any]
    seconds: float

    def state(self) -> dict[str, float]:
        """Requests that its registry got, its CPU seconds, and its resident MiB."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the server was started without pipes")
        stdin.write("state\n")
        stdin.flush()
        state: dict[str, float] = json.loads(stdout.readline())
        return state


@contextmanager
def server(policies: int, *, keyless: bool = False) -> Iterator[Server]:
    """A measured process with so many policies; `keyless`: and one that wants an identity."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "bench.server", str(policies), *(["keyless"] if keyless else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ourselves
        try:
            if process.stdout is None:
                raise RuntimeError("the server was started without pipes")
            ready = json.loads(process.stdout.readline())
            yield Server(process, ready, time.perf_counter() - started)
        finally:
            process.kill()


@dataclass
class Measured:
    """Latencies in seconds, and the server's CPU seconds for each review."""

    latencies: list[float]
    cpu: float

    @property
    def p50(self) -> float:
        """The median."""
        return statistics.median(self.latencies)

    @property
    def p99(self) -> float:
        """99 of 100 were faster."""
        return statistics.quantiles(self.latencies, n=100)[98]


def measure(of: Server, port: int, body: bytes, count: int) -> Measured:
    """`count` reviews one after another on one connection."""
    connection = Connection(port)
    for _ in range(200):
        connection.ask(body)
    before = of.state()["cpu"]
    latencies = []
    for _ in range(count):
        started = time.perf_counter()
        connection.ask(body)
        latencies.append(time.perf_counter() - started)
    cpu = (of.state()["cpu"] - before) / count
    connection.close()
    return Measured(latencies, cpu)
