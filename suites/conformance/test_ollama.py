"""Ollama's API: the models it lists, an answer in one piece and in a stream, and requests side by side."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from fixtures.clients import Connect

pytestmark = [pytest.mark.staging, pytest.mark.smoke, pytest.mark.conformance, pytest.mark.service("ollama")]

LENGTHS = (48, 192, 768)  # tokens an answer
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
    """As many answers as required are being written at one moment: a queue behind fewer slots never shows that.

    A busy machine may let one answer end before the last begins, so longer ones are asked for then.
    """
    count = int(required("parallel"))
    seen = 0
    for tokens in LENGTHS:
        with ThreadPoolExecutor(max_workers=count) as pool:
            spans = list(pool.map(lambda _, n=tokens: writing(ollama, model, n), range(count)))
        seen = max(seen, at_once(spans))
        if seen >= count:
            break
    assert seen >= count, f"{seen} of {count} requests ran side by side"


def writing(ollama: httpx.Client, model: str, tokens: int) -> tuple[float, float]:
    """Return when the first and the middle piece of one streamed answer came, on the monotonic clock.

    Not the last one: where a slot changes hands, this process may hear of it after the next answer's first.
    """
    body = generate(model, stream=True)
    body["options"]["num_predict"] = tokens
    with ollama.stream("POST", "/api/generate", json=body) as answer:
        assert answer.status_code == 200
        times = [time.monotonic() for line in answer.iter_lines() if line and json.loads(line).get("response")]
    assert len(times) > 1, "the answer did not come in pieces"
    return times[0], times[len(times) // 2]


def at_once(spans: list[tuple[float, float]]) -> int:
    """Return the largest number of spans that hold one common moment: the beginning of one of them."""
    return max(sum(first <= begin < middle for first, middle in spans) for begin, _ in spans)


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
