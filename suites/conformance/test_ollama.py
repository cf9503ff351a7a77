"""Ollama's API: the models it lists, an answer in one piece and in a stream, and requests side by side."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from fixtures.clients import Connect

pytestmark = [pytest.mark.staging, pytest.mark.smoke, pytest.mark.conformance, pytest.mark.service("ollama")]

PROMPT = "Question: what is a canary?\nAnswer:"


@pytest.fixture
def ollama(connect: Connect) -> httpx.Client:
    """The language model's server."""
    return connect("ollama", "http")


@pytest.fixture
def model(ollama: httpx.Client) -> str:
    """The first model that it lists."""
    models = ollama.get("/api/tags").json()["models"]
    assert models, "no model is listed"
    return str(models[0]["name"])


def test_a_model_is_listed(ollama: httpx.Client, model: str):
    """GET /api/tags lists a model, with its size and digest."""
    (first, *_) = ollama.get("/api/tags").json()["models"]
    assert first["name"] == model
    assert first["size"] > 0
    assert first["digest"]


def test_an_answer_in_one_piece(ollama: httpx.Client, model: str):
    """POST /api/generate without a stream gives text, counts and times of its tokens."""
    body = ollama.post("/api/generate", json=generate(model, stream=False)).json()
    assert body["done"] is True
    assert body["response"]
    assert 1 <= body["eval_count"] <= 6
    assert body["total_duration"] >= body["eval_duration"] > 0


def test_an_answer_as_a_stream(ollama: httpx.Client, model: str):
    """With a stream there is one JSON object a line, text in several of them, and only the last is done."""
    with ollama.stream("POST", "/api/generate", json=generate(model, stream=True)) as answer:
        parts = [json.loads(line) for line in answer.iter_lines() if line]
    assert [part["done"] for part in parts] == [False] * (len(parts) - 1) + [True]
    assert "".join(part["response"] for part in parts)


def test_requests_run_side_by_side(ollama: httpx.Client, model: str, required: Callable[[str], Any]):
    """As many requests at once as required are all answered."""
    count = int(required("parallel"))
    with ThreadPoolExecutor(max_workers=count) as pool:
        answers = list(
            pool.map(lambda _: ollama.post("/api/generate", json=generate(model, stream=False)), range(count))
        )
    assert [answer.status_code for answer in answers] == [200] * count


def test_an_unknown_model_is_refused(ollama: httpx.Client):
    """A model that is not there is a 404 with a sentence."""
    answer = ollama.post("/api/generate", json=generate("no-such-model", stream=False))
    assert answer.status_code == 404
    assert "no-such-model" in answer.json()["error"]


def generate(model: str, *, stream: bool) -> dict[str, Any]:
    """Return the body of a small request."""
    return {
        "model": model,
        "prompt": PROMPT,
        "stream": stream,
        "options": {"num_predict": 6, "temperature": 0, "seed": 1},
    }
