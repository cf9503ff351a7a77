"""A server that is nothing like the smallest system's: IPv6, a name of its own, a base path, POST, 204, a key."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import spec
from harness.adapters.load import calibration
from harness.adapters.load.engine import Engine
from harness.adapters.load.options import LoadOptions, encode_options, read_options
from harness.adapters.load.status import LoadStatus, read_status
from harness.adapters.load.workload import load_workload
from harness.adapters.probes import Asker, Question
from harness.adapters.remote import address_of
from harness.cli.main import app
from harness.model.errors import SpecError
from harness.model.system import Health
from harness.model.target import Auth, HeaderAuth, Secret
from harness.paths import share_root
from harness.wiring.remote import deployed

pytestmark = pytest.mark.selftest

NAME, KEY = "shop.internal", "s3cr3t-of-the-shop"
WORKLOAD = """\
import json
from harness.adapters.load.workload import Request
JSON = (("Content-Type", "application/json"),)

class Doubles:
    def request(self, draw):
        number = int(draw * 1000)
        if number % 4 == 0:
            return Request("POST", "/api/v2/track", body=b"{}", headers=JSON)
        body = json.dumps({"n": number}).encode()
        return Request("POST", "/api/v2/double", body=body, headers=JSON, expect=2 * number)

    def check(self, request, response):
        return {} if response.status == 204 else {"wrong": json.loads(response.body)["double"] != request.expect}

def workload(options, root):
    return Doubles()
"""


class _Stranger(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._tell(204 if self.path == "/api/v2/up" else 404)

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/v2/double":
            self._tell(200, json.dumps({"double": 2 * sent["n"]}).encode())
        else:
            self._tell(204 if self.path == "/api/v2/track" else 404)

    def _tell(self, status: int, body: bytes = b"") -> None:
        if self.headers["Host"] != NAME:
            status, body = 421, b""
        elif self.headers["X-Api-Key"] != KEY:
            status, body = 401, b""
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


class _V6(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


@contextmanager
def stranger() -> Iterator[str]:
    """Serve on ::1; yield the address."""
    try:
        server = _V6(("::1", 0), _Stranger)
    except OSError:
        pytest.skip("needs IPv6 on loopback")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://[::1]:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def load(url: str, folder: Path, *, host: str) -> LoadStatus:
    """Send half a second of load as the options' file tells it; return what it came to."""
    (folder / "key").write_text(f"{KEY}\n", encoding="ascii")
    (folder / "doubles.py").write_text(WORKLOAD, encoding="utf-8")
    key = HeaderAuth(name="X-Api-Key", value=Secret(file=str(folder / "key")))
    options = LoadOptions(
        url=url, prefix="answer", workload=str(folder / "doubles.py"), root="", evidence=str(folder), rate=80,
        seconds=0.5, seed=3, host=host, auth=Auth(header=key),
    )  # fmt: skip
    (folder / "options.json").write_text(encode_options(options), encoding="utf-8")
    told = read_options(folder / "options.json")

    async def all_of_it() -> int:
        return await Engine(told, load_workload(Path(told.workload), {}, folder), lambda _: None).run()

    assert asyncio.run(all_of_it()) == 0
    status = read_status(told.status_file)
    assert status is not None
    return status


def test_load_reaches_a_named_server_on_ipv6_by_post_and_takes_204_for_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request is answered; asked by its bare address the same server refuses them all."""
    monkeypatch.setattr(calibration, "REQUESTS", 20)
    with stranger() as url:
        named, bare = load(url, tmp_path, host=NAME), load(url, tmp_path, host="")
    assert (named.errors, named.timeouts, bare.errors) == (0, 0, bare.ended)
    assert min(named.ended, bare.ended) > 20


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_probes_reach_it_too(tmp_path: Path, kind: str) -> None:
    """By HTTP with its name and key, and by a bare connection; a wrong name is told."""
    (tmp_path / "key").write_text(f"{KEY}\n", encoding="ascii")
    told = "schema: 1\nbaseline: {{url: '{0}'}}\ncandidate: {{url: 'http://[::1]:9'}}\nhost: {1}\n"
    told += "router: {{kind: client}}\nauth: {{header: {{name: X-Api-Key, value: {{file: key}}}}}}\n"
    how = Health(kind=kind, port="http", path="/api/v2/up", statuses=(204,))
    said = {}
    with stranger() as url:
        for name in (NAME, "another.shop"):
            (tmp_path / "target.yaml").write_text(told.format(url, name), encoding="utf-8")
            access = deployed(spec.load_system(spec.find_system("minimal")), tmp_path / "target.yaml").access
            question = Question(signal="health.app", address=address_of(url), how=how, access=access)
            said[name] = Asker(timeout_s=30).problem(question)
    assert said[NAME] == ""
    assert ("421" in said["another.shop"]) == (kind == "http")


def test_init_gives_a_scenario_of_ones_own(tmp_path: Path) -> None:
    """What is asked stands in the new folder, is what a gate would take, and the folder is sound."""
    folder = tmp_path / "mine"
    assert CliRunner().invoke(app, ["init", str(folder)]).exit_code == 0
    assert (folder / spec.load_system(folder).scenario.locustfile).is_file()
    assert (folder / "scenarios" / "workloads" / "answer.py").is_file()
    assert CliRunner().invoke(app, ["validate", str(folder)]).exit_code == 0


def test_a_scenario_that_cannot_run_is_refused_by_validate_and_by_gate(tmp_path: Path) -> None:
    """One typing error in the user's own file: exit code 2 with its line; nothing is asked, no run is begun."""
    folder = tmp_path / "mine"
    CliRunner().invoke(app, ["init", str(folder)])
    (folder / "scenarios" / "workloads" / "answer.py").write_text("import jsn\n", encoding="utf-8")
    (tmp_path / "target.yaml").write_text(
        "schema: 1\nbaseline: {url: 'http://127.0.0.1:9'}\ncandidate: {url: 'http://127.0.0.1:10'}\n"
        "router: {kind: client}\n",
        encoding="utf-8",
    )
    gate = ["gate", str(folder), "--provider", "remote", "--target", str(tmp_path / "target.yaml")]
    for words in (["validate", str(folder)], [*gate, "--out", str(tmp_path / "out")]):
        done = CliRunner().invoke(app, words)
        assert isinstance(done.exception, SpecError)
        assert "workloads/answer.py:1: cannot be imported: ModuleNotFoundError" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_the_documented_flags_are_all_that_a_rollout_needs(tmp_path: Path) -> None:
    """The page's own `flags.json` in a folder as init gives it: its flag is known, and a dry run plans its way."""
    page = share_root() / "docs" / "rollout.md"
    if not page.is_file():
        pytest.skip("needs the checkout, not the wheel")
    folder = tmp_path / "mine"
    CliRunner().invoke(app, ["init", str(folder)])
    shown = page.read_text(encoding="utf-8").split("```json\n")[1].split("```")[0]
    (folder / "flags.json").write_text(shown, encoding="utf-8")
    (tmp_path / "live.json").write_text('{"new_shop": 0}\n', encoding="utf-8")
    (tmp_path / "target.yaml").write_text(
        "schema: 1\nbaseline: {url: 'http://127.0.0.1:9'}\ncandidate: {url: 'http://127.0.0.1:10'}\n"
        "entry: 'http://127.0.0.1:11'\nrouter: {kind: flags, file: live.json}\n",
        encoding="utf-8",
    )
    words = ["rollout", str(folder), "--feature", "new_shop", "--target", str(tmp_path / "target.yaml")]
    done = CliRunner().invoke(app, [*words, "--target-percentage", "50", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "new_shop to 10 %" in done.output
