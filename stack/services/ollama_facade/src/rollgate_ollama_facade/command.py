"""The part of Ollama's command line that the facade has: `serve`, `list`, and `create` of the model that it serves."""

import argparse
import hashlib
import http.client
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from rollgate_serving.server import main as serve

LONGEST_S = 10.0
LOOPBACK = "127.0.0.1"


def main(arguments: list[str] | None = None) -> None:
    """Run one command; exits with 0, 1 for what failed, 2 for what is no command."""
    parser = argparse.ArgumentParser(prog="ollama", description=f"{__doc__} A stand-in for Ollama.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve OLLAMA_MODEL_FILE under OLLAMA_MODEL_NAME at OLLAMA_HOST")
    commands.add_parser("list", help="list what is served", aliases=["ls"])
    create = commands.add_parser("create", help="agree to the model that is served, refuse any other")
    create.add_argument("name")
    create.add_argument("-f", "--file", type=Path, default=Path("Modelfile"))
    asked = parser.parse_args(arguments)
    if asked.command == "serve":
        from rollgate_ollama_facade.app import build  # noqa: PLC0415 - llama.cpp, for the server alone

        serve(build)
    elif asked.command == "create":
        _create(asked.name, asked.file)
    else:
        _list()


def _list() -> None:
    sys.stdout.write(f"{'NAME':<32}{'ID':<16}SIZE\n")
    for model in _models():
        sys.stdout.write(f"{model['name']:<32}{model['digest'][:12]:<16}{model['size']} bytes\n")


def _create(name: str, file: Path) -> None:
    """Succeed where the model called `name` is served, from the very file that the Modelfile names."""
    full = name if ":" in name else f"{name}:latest"
    served = {model["name"]: model["digest"] for model in _models()}
    if full not in served:
        _fail(f"this stand-in for Ollama makes no models: it serves {', '.join(served)}, not {full}")
    weights = _weights(file)
    try:
        with weights.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        _fail(f"{weights}: {error.strerror}")
    if digest != served[full]:
        _fail(f"this stand-in for Ollama makes no models: it serves {full} from another file than {weights}")
    sys.stdout.write("success\n")


def _weights(file: Path) -> Path:
    """Return the file that FROM names; relative to the Modelfile, as Ollama reads it."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        _fail(f"{file}: {error.strerror}")
    words = [line.strip().partition(" ") for line in lines]
    named = [value.strip().strip('"') for word, _, value in words if word.upper() == "FROM" and value.strip()]
    if not named:
        _fail(f"{file}: found no FROM")
    return file.parent / named[0]


def _models() -> list[dict[str, Any]]:
    """Ask the server at OLLAMA_HOST what it serves; a server that listens everywhere is asked on loopback."""
    host, _, port = os.environ.get("OLLAMA_HOST", f"{LOOPBACK}:11434").rpartition(":")
    connection = http.client.HTTPConnection(LOOPBACK if host in {"", "0.0.0.0"} else host, int(port), timeout=LONGEST_S)  # noqa: S104
    try:
        connection.request("GET", "/api/tags")
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            _fail(f"the server answers {answer.status}")
        return json.load(answer)["models"]
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        _fail(f"no server answers at {host}:{port}: {error}")
    finally:
        connection.close()


def _fail(text: str) -> NoReturn:
    sys.stderr.write(f"Error: {text}\n")
    raise SystemExit(1)


if __name__ == "__main__":
    main()
