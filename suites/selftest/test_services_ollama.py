"""The Ollama facade over the real llama.cpp engine and the generated model."""

import asyncio
import importlib
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from service_upstreams import client_of
from starlette.applications import Starlette

from rollgate_ollama_facade.app import build
from rollgate_serving.settings import Environment, SettingError

pytestmark = pytest.mark.selftest
MODELS = Path(__file__).parents[2] / "stack/services/models"
PROMPT = {"model": "rollgate-tiny", "prompt": "what is a cache", "options": {"num_predict": 6, "temperature": 0}}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated model."""
    sys.path.insert(0, str(MODELS))
    try:
        path = tmp_path_factory.mktemp("llama") / "tiny.gguf"
        importlib.import_module("tiny_llama").build(path)
    finally:
        sys.path.remove(str(MODELS))
    return path


@pytest.fixture
def app(model_file: Path) -> Starlette:
    """A facade with two slots of 256 tokens."""
    values = {"OLLAMA_MODEL_FILE": str(model_file), "OLLAMA_NUM_PARALLEL": "2", "OLLAMA_CONTEXT_LENGTH": "256"}
    return build(Environment(values))[0]


def _lines(answer: httpx.Response) -> list[dict]:
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.asyncio
async def test_a_whole_answer_and_a_streamed_one_are_the_same_text(app: Starlette):
    """The same prompt without and with streaming, which is Ollama's default."""
    async with client_of(app) as client:
        whole = (await client.post("/api/generate", json={**PROMPT, "stream": False})).json()
        lines = _lines(await client.post("/api/generate", json=PROMPT))
    assert "".join(line["response"] for line in lines) == whole["response"]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["eval_count"] == whole["eval_count"] == 6
    assert whole["response"].isascii()
    assert len(whole["response"].split()) == 6


@pytest.mark.asyncio
async def test_the_timings_are_nanoseconds_that_fit_together(app: Starlette):
    """The parts are no longer than the whole."""
    async with client_of(app) as client:
        answer = (await client.post("/api/generate", json={**PROMPT, "stream": False})).json()
    parts = answer["prompt_eval_duration"] + answer["eval_duration"] + answer["load_duration"]
    assert 0 < parts <= answer["total_duration"]
    assert answer["total_duration"] > 10_000
    assert answer["prompt_eval_count"] > 0
    assert answer["done_reason"] == "length"


@pytest.mark.asyncio
async def test_a_chat_is_answered_whole_and_streamed(app: Starlette):
    """One user message, both ways."""
    body = {"model": "rollgate-tiny", "messages": [{"role": "user", "content": "hi"}], "options": {"num_predict": 3}}
    async with client_of(app) as client:
        whole = (await client.post("/api/chat", json={**body, "stream": False})).json()
        lines = _lines(await client.post("/api/chat", json=body))
    assert whole["message"]["role"] == "assistant"
    assert whole["eval_count"] == 3
    assert lines[-1]["done"]


@pytest.mark.asyncio
async def test_the_model_is_listed_as_ollama_lists_it(app: Starlette, model_file: Path):
    """Tags, running models, version and the plain greeting."""
    size = model_file.stat().st_size  # noqa: ASYNC240 (a test)
    async with client_of(app) as client:
        (listed,) = (await client.get("/api/tags")).json()["models"]
        (running,) = (await client.get("/api/ps")).json()["models"]
        assert (await client.get("/")).text == "Ollama is running"
        assert "version" in (await client.get("/api/version")).json()
        assert (await client.post("/api/show", json={"model": "rollgate-tiny"})).status_code == 200
    assert listed["name"] == running["name"] == "rollgate-tiny:latest"
    assert listed["size"] == size
    assert len(listed["digest"]) == 64


BAD_REQUESTS = {
    "an unknown model": ({"model": "other", "prompt": "x"}, 404),
    "no model": ({"prompt": "x"}, 400),
    "a prompt that is a number": ({"model": "rollgate-tiny", "prompt": 5}, 400),
    "a stream that is no boolean": ({**PROMPT, "stream": "no"}, 400),
    "options that are a list": ({**PROMPT, "options": [1]}, 400),
    "a temperature that is a string": ({**PROMPT, "options": {"temperature": "hot"}}, 400),
    "a negative number of tokens": ({**PROMPT, "options": {"num_predict": -5}}, 400),
    "a stop word that is a number": ({**PROMPT, "options": {"stop": 5}}, 400),
    "a prompt beyond the context, whole": ({**PROMPT, "prompt": "x" * 5000, "stream": False}, 400),
    "a prompt beyond the context, streamed": ({**PROMPT, "prompt": "x" * 5000}, 400),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("body, status", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
async def test_a_bad_request_is_a_4xx_with_one_sentence(app: Starlette, body: dict[str, object], status: int):
    """Every malformed generation; it counts as rejected alone."""
    async with client_of(app) as client:
        answer = await client.post("/api/generate", json=body)
        text = (await client.get("/metrics")).text
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert 'ollama_requests_total{outcome="rejected",route="/api/generate"} 1.0' in text
    assert 'ollama_requests_total{outcome="error",route="/api/generate"} 0.0' in text


@pytest.mark.asyncio
async def test_more_requests_than_slots_are_all_answered(app: Starlette):
    """Twelve at once over two slots; all with the same prompt, so all with the same text."""
    async with client_of(app) as client:
        calls = [client.post("/api/generate", json={**PROMPT, "stream": False}) for _ in range(12)]
        answers = [answer.json() for answer in await asyncio.gather(*calls)]
        text = (await client.get("/metrics")).text
    assert len({answer["response"] for answer in answers}) == 1
    assert 'ollama_tokens_total{kind="generated",model="rollgate-tiny:latest"} 72.0' in text


def test_a_file_that_is_no_model_stops_the_start(tmp_path: Path):
    """A text file, and no file at all."""
    (tmp_path / "no.gguf").write_text("not a model")
    for path in (tmp_path / "no.gguf", tmp_path / "missing.gguf"):
        with pytest.raises(SettingError, match="cannot be loaded"):
            build(Environment({"OLLAMA_MODEL_FILE": str(path)}))


_OPEN_AND_CLOSE = """
import os, sys
from pathlib import Path
from rollgate_ollama_facade.engine import Engine, ModelFile
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for _ in range(10):
    Engine(ModelFile.read(Path(sys.argv[1])), parallel=2, context=256, threads=1).close()
"""


def test_an_engine_closed_right_after_its_start_ends(model_file: Path):
    """On one core its loop starts late: unloading it before that never ended. In a process that can be ended."""
    done = subprocess.run([sys.executable, "-c", _OPEN_AND_CLOSE, str(model_file)], timeout=60, check=False)
    assert done.returncode == 0
