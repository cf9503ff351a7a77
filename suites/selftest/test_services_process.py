"""The servers as processes: how fast they start, how they end, and what a bad setting says."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.selftest
CLOSED = "http://127.0.0.1:9"
START_S = 0.8
SLACK = 4  # a shared machine


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A server's process; what it says on standard error is kept."""

    def __init__(self, package: str, env: dict[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end())
        command = [sys.executable, "-m", package]
        self.process = subprocess.Popen(command, env={**os.environ, **env}, stderr=self._errors)

    def said(self) -> str:
        """Return what it wrote to standard error so far."""
        self._errors.seek(0)
        return self._errors.read().decode()

    def end(self) -> None:
        """Kill it if it still runs."""
        self.process.kill()
        self.process.wait()
        self._errors.close()


@contextmanager
def _process(package: str, env: dict[str, str]) -> Iterator[Server]:
    server = Server(package, env)
    try:
        yield server
    finally:
        server.end()


def _wait_for(url: str, server: Server) -> float:
    """Return the seconds until the URL answers at all."""
    started = time.monotonic()
    while time.monotonic() - started < 20:
        assert server.process.poll() is None, server.said()
        try:
            httpx.get(url, timeout=1)
        except httpx.TransportError:
            time.sleep(0.01)
        else:
            return time.monotonic() - started
    pytest.fail(f"{url} did not answer")


def _gateway(port: int, **env: str) -> dict[str, str]:
    urls = {f"GATEWAY_{name}_URL": CLOSED for name in ("FAISS", "TRITON", "OLLAMA")}
    return {"GATEWAY_PORT": str(port), **urls, **env}


def test_the_gateway_starts_quickly_and_ends_cleanly_on_sigterm():
    """Start, answer, SIGTERM, exit 0."""
    port = _free_port()
    with _process("rollgate_gateway", _gateway(port)) as server:
        assert _wait_for(f"http://127.0.0.1:{port}/metrics", server) < START_S * SLACK
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


def test_a_request_in_flight_is_answered_after_sigterm():
    """A server that holds its answer back is told to end in the middle of it."""
    port = _free_port()
    # The health check waits a second for a service that takes connections and never answers.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        env = _gateway(port, GATEWAY_FAISS_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
        with _process("rollgate_gateway", env) as server:
            _wait_for(f"http://127.0.0.1:{port}/metrics", server)
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                silent.settimeout(10)
                upstream, _ = silent.accept()  # the request is inside the gateway from here on
                server.process.send_signal(signal.SIGTERM)
                client.settimeout(10)
                assert client.recv(4096).startswith(b"HTTP/1.1 503")
                upstream.close()
            assert server.process.wait(10) == 0


def test_a_crashing_release_exits_with_1():
    """The configured crash, shortly after the start."""
    with _process("rollgate_gateway", _gateway(_free_port(), GATEWAY_FAULT_CRASH_AFTER_S="0.2")) as server:
        assert server.process.wait(20) == 1
        assert "crashing as configured" in server.said()


@pytest.mark.parametrize(
    "package", ["rollgate_gateway", "rollgate_faiss", "rollgate_ollama_facade", "rollgate_exporters.ollama"]
)
def test_a_server_without_its_settings_exits_with_2_and_one_line(package: str):
    """Nothing is set."""
    with _process(package, {}) as server:
        assert server.process.wait(20) == 2
        lines = server.said().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("cannot start: ")


@pytest.mark.parametrize("address", ["ftp://127.0.0.1:1", "http://:8000", "127.0.0.1:port"])
def test_a_gateway_with_a_wrong_address_exits_with_2_and_one_line(address: str):
    """Another scheme, no host, a port that is no number: named before anything is asked."""
    with _process("rollgate_gateway", _gateway(_free_port(), GATEWAY_TRITON_URL=address)) as server:
        assert server.process.wait(20) == 2
        lines = server.said().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"cannot start: GATEWAY_TRITON_URL is {address!r}; expected http://")


def test_an_index_saved_by_one_process_is_served_by_the_next(tmp_path: Path):
    """Add, save, kill -9, start again."""
    port = _free_port()
    env = {"FAISS_PORT": str(port), "FAISS_DIR": str(tmp_path), "FAISS_DIMENSION": "2"}
    url = f"http://127.0.0.1:{port}"
    with _process("rollgate_faiss", env) as server:
        _wait_for(f"{url}/health", server)
        httpx.post(f"{url}/add", json={"ids": ["a"], "vectors": [[1, 0]], "texts": ["x"]}).raise_for_status()
        checksum = httpx.post(f"{url}/save").json()["index_checksum"]
        httpx.post(f"{url}/add", json={"ids": ["b"], "vectors": [[0, 1]], "texts": ["y"]}).raise_for_status()
    with _process("rollgate_faiss", env) as server:
        _wait_for(f"{url}/health", server)
        health = httpx.get(f"{url}/health").json()
    assert (health["documents"], health["index_checksum"], health["integrity"]) == (1, checksum, "ok")
    assert not list(Path(tmp_path).glob("*.partial"))
