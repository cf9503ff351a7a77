"""`ollama` in the stand-in's image: it lists what is served, agrees to that model, and refuses any other."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rollgate_ollama_facade.command import main

pytestmark = pytest.mark.selftest

WEIGHTS = b"weights"


class _Served(BaseHTTPRequestHandler):
    """One model, as the facade describes it."""

    def do_GET(self) -> None:
        model = {"name": "tiny:latest", "digest": hashlib.sha256(WEIGHTS).hexdigest(), "size": len(WEIGHTS)}
        body = json.dumps({"models": [model]}).encode()
        self.send_response(200 if self.path == "/api/tags" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that says it listens everywhere, as in a container; the command asks it on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Served) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setenv("OLLAMA_HOST", f"0.0.0.0:{server.server_port}")
        yield
        server.shutdown()
        thread.join()


def _modelfile(folder: Path, weights: bytes) -> Path:
    (folder / "model.gguf").write_bytes(weights)
    file = folder / "Modelfile"
    file.write_text("# a comment\nFROM ./model.gguf\nPARAMETER temperature 0\n", encoding="utf-8")
    return file


@pytest.mark.usefixtures("served")
def test_list_shows_what_is_served(capsys: pytest.CaptureFixture[str]):
    """Name, the beginning of its digest, and size."""
    main(["list"])
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == [
        "tiny:latest",
        hashlib.sha256(WEIGHTS).hexdigest()[:12],
    ]


@pytest.mark.usefixtures("served")
def test_create_agrees_to_the_model_that_is_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """With or without its tag, from the very same file."""
    for name in ("tiny", "tiny:latest"):
        main(["create", name, "-f", str(_modelfile(tmp_path, WEIGHTS))])
    assert capsys.readouterr().out == "success\n" * 2


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    "name, weights, said",
    [
        ("other", WEIGHTS, "it serves tiny:latest, not other:latest"),
        ("tiny", b"other weights", "it serves tiny:latest from another file"),
    ],
)
def test_create_refuses_any_other_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, weights: bytes, said: str
):
    """Another name, or the same name over other weights: 1, and that it is a stand-in."""
    with pytest.raises(SystemExit) as caught:
        main(["create", name, "-f", str(_modelfile(tmp_path, weights))])
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert said in error
    assert "stand-in" in error


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    "text, said", [("", "found no FROM"), ("FROM away.gguf", "No such file"), (None, "No such file")]
)
def test_a_modelfile_that_names_no_file_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, said: str
):
    """Without FROM, with a file that is away, and no Modelfile at all."""
    file = tmp_path / "Modelfile"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        main(["create", "tiny", "-f", str(file)])
    assert caught.value.code == 1
    assert said in capsys.readouterr().err


def test_no_server_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The health check of a container whose server is gone fails."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    with pytest.raises(SystemExit) as caught:
        main(["list"])
    assert caught.value.code == 1
    assert "no server answers at 127.0.0.1:1" in capsys.readouterr().err
