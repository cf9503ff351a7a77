"""The gateway over a real FAISS index and doubles of Triton, Ollama and Redis: answers, flags, faults, refusals."""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from service_upstreams import DIMENSION, RedisDouble, TritonDouble, client_of, hashed_vector, ollama_double, serving

from rollgate_faiss.app import create_app as faiss_app
from rollgate_faiss.instruments import new_instruments
from rollgate_faiss.store import Store
from rollgate_gateway import settings as gateway_settings
from rollgate_gateway.app import create_app
from rollgate_gateway.faults import FaultInjector
from rollgate_gateway.flags import FEATURES, Definitions, LiveFlags, bucket
from rollgate_gateway.health import FRESH_S
from rollgate_gateway.settings import Faults
from rollgate_serving.settings import Environment, SettingError

pytestmark = pytest.mark.selftest
TOPICS = (
    "cache",
    "queue",
    "router",
    "index",
    "kernel",
    "tensor",
    "token",
    "replica",
    "probe",
    "ledger",
    "orbit",
    "enzyme",
)
TEXTS = {f"doc-{name}": f"a note on the {name} and how the {name} behaves" for name in TOPICS}
ALL_ON = dict.fromkeys(FEATURES, 100)


@dataclass
class Stack:
    """The services behind a gateway, and the environment that points at them."""

    env: dict[str, str]
    triton: TritonDouble
    ollama_calls: list[dict[str, Any]]
    redis: RedisDouble
    flags: Path
    store: Store = field(repr=False)

    @asynccontextmanager
    async def gateway(self, **env: str) -> AsyncIterator[httpx.AsyncClient]:
        """Give a client of a gateway with further environment; Redis has been reached where there is one."""
        settings = gateway_settings.read(Environment({**self.env, **env}))
        async with client_of(create_app(settings)) as client:
            for _ in range(400):
                if (await client.get("/health")).json()["dependencies"]["redis"] != "away":
                    break
                await asyncio.sleep(0.01)
            yield client

    def deploy(self, shares: dict[str, float]) -> None:
        """Replace the flags file."""
        fresh = self.flags.with_suffix(".new")
        fresh.write_text(json.dumps(shares))
        fresh.replace(self.flags)


@asynccontextmanager
async def stack_in(folder: Path) -> AsyncIterator[Stack]:
    """Start everything behind the gateway."""
    store, triton, calls, redis = Store(DIMENSION, folder / "index"), TritonDouble(), [], RedisDouble()
    store.add(list(TEXTS), np.stack([hashed_vector(text) for text in TEXTS.values()]), list(TEXTS.values()))
    await redis.start()
    async with AsyncExitStack() as exits:
        exits.push_async_callback(redis.stop)
        faiss = await exits.enter_async_context(serving(faiss_app(store, new_instruments("baseline", "1", folder))))
        env = {
            "GATEWAY_ARM": "candidate",
            "GATEWAY_VERSION": "2.0",
            "GATEWAY_FAISS_URL": faiss,
            "GATEWAY_TRITON_URL": (await exits.enter_async_context(serving(triton.app))).removeprefix("http://"),
            "GATEWAY_OLLAMA_URL": await exits.enter_async_context(serving(ollama_double(calls))),
            "GATEWAY_REDIS_URL": redis.url,
            "GATEWAY_FLAGS_FILE": str(folder / "flags.json"),
        }
        stack = Stack(env, triton, calls, redis, folder / "flags.json", store)
        stack.deploy({"ai_inference": 100, "vector_search": 100})
        yield stack


async def _ask(client: httpx.AsyncClient, topic: str = "kernel", session: str = "s", **body: object) -> httpx.Response:
    payload = {"query": f"how does the {topic} behave?", **body}
    return await client.post("/query", json=payload, headers={"X-Session-ID": session})


@pytest.mark.asyncio
async def test_a_query_gets_its_document_first_and_tells_who_answered(tmp_path: Path):
    """The plain way through embed, search, re-rank and generate."""
    async with stack_in(tmp_path) as stack, stack.gateway() as client:
        answer = await _ask(client, k=3)
    body = answer.json()
    assert answer.status_code == 200
    assert body["documents"][0]["id"] == "doc-kernel"
    assert len(body["documents"]) == 3
    assert (body["arm"], body["version"], body["cached"], body["tokens"]) == ("candidate", "2.0", False, 8)
    assert (answer.headers["X-Arm"], answer.headers["X-Version"]) == ("candidate", "2.0")
    assert answer.headers["X-Features"] == "ai_inference,vector_search"
    assert set(body["timings_ms"]) == {"embed", "search", "rerank", "generate"}
    assert all(took > 0 for took in body["timings_ms"].values())


@pytest.mark.asyncio
async def test_without_ai_inference_the_answer_is_the_best_document(tmp_path: Path):
    """Every flag at zero: keyword search and an extractive answer."""
    async with stack_in(tmp_path) as stack, stack.gateway() as client:
        stack.deploy({})
        answer = await _ask(client)
    assert answer.json()["answer"] == TEXTS["doc-kernel"]
    assert answer.json()["features"] == []
    assert answer.headers["X-Features"] == ""
    assert stack.ollama_calls == []
    assert all(model != "embedder" for model, _ in stack.triton.calls)


@pytest.mark.asyncio
async def test_every_feature_shows_its_effect(tmp_path: Path):
    """All flags on: one batched re-rank, half the tokens, a whole answer from the cache at the second time."""
    async with stack_in(tmp_path) as stack, stack.gateway() as client:
        await _ask(client)
        assert [size for model, size in stack.triton.calls if model == "reranker"] == [5, 5]
        stack.deploy(ALL_ON)
        first, calls = await _ask(client), len(stack.triton.calls)
        second = await _ask(client)
        text = (await client.get("/metrics")).text
    assert stack.triton.calls[calls - 1] == ("reranker", 10)
    assert stack.ollama_calls[-1]["options"]["num_predict"] == 4
    assert set(first.headers["X-Features"].split(",")) == set(FEATURES) - {"triton_gpu_acceleration"}
    assert (first.json()["cached"], second.json()["cached"]) == (False, True)
    assert second.json()["documents"] == first.json()["documents"]
    assert len(stack.triton.calls) == calls
    assert 'gateway_step_duration_seconds_count{arm="candidate",step="rerank",version="2.0"} 1.0' in text


@pytest.mark.asyncio
async def test_the_gpu_model_is_asked_only_where_triton_has_one(tmp_path: Path):
    """The flag on, with a GPU instance at hand."""
    async with stack_in(tmp_path) as stack:
        stack.triton.gpu_model = True
        stack.deploy(ALL_ON)
        async with stack.gateway() as client:
            answer = await _ask(client)
    assert "triton_gpu_acceleration" in answer.headers["X-Features"]
    assert stack.triton.calls[0] == ("embedder_gpu", 1)


@pytest.mark.asyncio
async def test_concurrent_queries_are_embedded_in_one_call_under_batch_inference(tmp_path: Path):
    """Six different questions at once."""
    async with stack_in(tmp_path) as stack:
        stack.deploy(ALL_ON)
        async with stack.gateway() as client:
            answers = await asyncio.gather(*(_ask(client, topic) for topic in TOPICS[:6]))
    assert [one.json()["documents"][0]["id"] for one in answers] == [f"doc-{topic}" for topic in TOPICS[:6]]
    embedded = [size for model, size in stack.triton.calls if model == "embedder"]
    assert sum(embedded) == 6
    assert len(embedded) < 6


@pytest.mark.asyncio
async def test_an_embedding_is_asked_for_once(tmp_path: Path):
    """The same question in another dress."""
    async with stack_in(tmp_path) as stack, stack.gateway() as client:
        await client.post("/query", json={"query": "How does the  KERNEL behave?"})
        await client.post("/query", json={"query": "how does the kernel behave"})
    assert [model for model, _ in stack.triton.calls].count("embedder") == 1
    assert all(key.startswith(b"rollgate:candidate:2.0:") for key in stack.redis.values)


@pytest.mark.asyncio
async def test_an_ingested_document_is_found_and_former_answers_are_left_behind(tmp_path: Path):
    """A new document that answers a question whose former answer is cached."""
    async with stack_in(tmp_path) as stack:
        stack.deploy(ALL_ON)
        async with stack.gateway() as client:
            await _ask(client, "volcano")
            rows = [{"id": "doc-volcano", "text": "a note on the volcano and how the volcano does behave"}]
            assert (await client.post("/ingest", json={"documents": rows})).json()["ingested"] == 1
            answer = (await _ask(client, "volcano")).json()
    assert answer["documents"][0]["id"] == "doc-volcano"
    assert not answer["cached"]


BAD_QUERIES = {
    "no JSON": b"{",
    "a list": b"[]",
    "no query": b"{}",
    "a number": b'{"query": 5}',
    "blank": b'{"query": "  "}',
    "too long": json.dumps({"query": "x" * 4001}).encode(),
    "a lone surrogate": b'{"query": "\\ud800"}',
    "k of zero": b'{"query": "x", "k": 0}',
    "k too large": b'{"query": "x", "k": 51}',
    "k a string": b'{"query": "x", "k": "5"}',
    "k true": b'{"query": "x", "k": true}',
    "NaN for k": b'{"query": "x", "k": NaN}',
    "a huge body": b'{"query": "' + b"x" * 70_000 + b'"}',
    "not UTF-8": b'{"query": "\xff\xfe"}',
}


@pytest.mark.asyncio
async def test_bad_input_is_a_4xx_that_counts_as_rejected_alone(tmp_path: Path):
    """Every malformed query, and malformed documents."""
    async with stack_in(tmp_path) as stack, stack.gateway() as client:
        for name, body in BAD_QUERIES.items():
            answer = await client.post("/query", content=body)
            assert 400 <= answer.status_code < 500, name
            assert list(answer.json()) == ["error"], name
            assert answer.headers["X-Arm"] == "candidate"
        for rows in (None, [], [{}], [{"id": "a"}], [{"id": "a", "text": ""}], [{"id": "a", "text": "x"}] * 2, ["x"]):
            assert (await client.post("/ingest", json={"documents": rows})).status_code == 400
        assert (await client.get("/query")).status_code == 405
        assert (await client.get("/nothing")).json() == {"error": "there is no /nothing here"}
        counted = _requests((await client.get("/metrics")).text)
    assert counted["/query"] == {"ok": 0, "error": 0, "rejected": len(BAD_QUERIES)}
    assert counted["/ingest"] == {"ok": 0, "error": 0, "rejected": 7}


@pytest.mark.asyncio
async def test_unusual_but_legal_questions_are_answered(tmp_path: Path):
    """Zero bytes, emoji and right-to-left text pass through every step."""
    async with stack_in(tmp_path) as stack, stack.gateway() as client:
        for query in ("kernel \x00 zero", "🚀 kernel", "מה kernel", "' OR 1=1 --", "k" * 4000):
            assert (await client.post("/query", json={"query": query})).status_code == 200, query


def _requests(text: str) -> dict[str, dict[str, int]]:
    counted: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        if line.startswith("gateway_requests_total{"):
            labels = dict(part.split("=") for part in line[line.index("{") + 1 : line.index("}")].split(","))
            assert (labels["arm"], labels["version"]) == ('"candidate"', '"2.0"')
            by_outcome = counted.setdefault(labels["route"].strip('"'), {})
            by_outcome[labels["outcome"].strip('"')] = int(float(line.split()[-1]))
    return counted


@pytest.mark.asyncio
async def test_every_outcome_and_every_threshold_is_a_series_from_the_start(tmp_path: Path):
    """A gateway that was asked nothing: missing series must not look like no errors."""
    async with stack_in(tmp_path) as stack, stack.gateway() as client:
        text = (await client.get("/metrics")).text
    assert _requests(text) == {route: {"ok": 0, "error": 0, "rejected": 0} for route in ("/query", "/ingest")}
    for bound in ("0.1", "0.2", "0.5", "1.0", "1.5", "5.0", "8.0", "10.0", "15.0", "+Inf"):
        labels = f'arm="candidate",le="{bound}",route="/query",version="2.0"'
        assert f"gateway_request_duration_seconds_bucket{{{labels}}} 0.0" in text
    assert 'process_resident_memory_bytes{arm="candidate",version="2.0"}' in text


@pytest.mark.asyncio
@pytest.mark.parametrize("service", ["FAISS", "TRITON", "OLLAMA"])
async def test_a_service_that_is_away_is_an_error_that_names_it_and_fails_the_health_check(
    tmp_path: Path, service: str
):
    """Each hard dependency in turn points at a closed port."""
    async with stack_in(tmp_path) as stack, stack.gateway(**{f"GATEWAY_{service}_URL": "http://127.0.0.1:9"}) as client:
        answer, health = await _ask(client), await client.get("/health")
        counted = _requests((await client.get("/metrics")).text)
    assert answer.status_code == 502
    assert answer.json()["error"].startswith(service.lower())
    assert (health.status_code, health.json()["status"]) == (503, "unavailable")
    assert counted["/query"]["error"] == 1


@pytest.mark.asyncio
async def test_a_corrupt_index_is_an_error_and_fails_the_health_check(tmp_path: Path):
    """FAISS is there but refuses to search."""
    async with stack_in(tmp_path) as stack, stack.gateway() as client:
        path = tmp_path / "damaged"
        path.write_bytes(b"x")
        stack.store.source, stack.store.damage = path, "planted"
        assert (await _ask(client)).status_code == 502
        await asyncio.sleep(FRESH_S)  # a report younger than this may be handed out again
        assert (await client.get("/health")).status_code == 503


@pytest.mark.asyncio
async def test_without_redis_the_gateway_goes_on_and_comes_back_to_it(tmp_path: Path):
    """Redis closes its port, queries go on at once, Redis returns and the cache is used again."""
    async with stack_in(tmp_path) as stack, stack.gateway() as client:
        await stack.redis.stop()
        started = time.monotonic()
        answers = [await _ask(client) for _ in range(20)]
        assert time.monotonic() - started < 3
        assert {one.status_code for one in answers} == {200}
        health = await client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        await stack.redis.start()
        for _ in range(300):
            if (await client.get("/health")).json()["status"] == "ok":
                break
            await asyncio.sleep(0.02)
        calls = len(stack.triton.calls)
        await _ask(client)
        await _ask(client)
        assert [model for model, _ in stack.triton.calls[calls:]].count("embedder") <= 1
        assert (await client.get("/health")).json()["status"] == "ok"


@pytest.mark.asyncio
async def test_a_redis_that_hangs_costs_one_short_wait_and_no_more(tmp_path: Path):
    """Redis takes commands and never answers: the breaker keeps later requests from waiting too."""
    async with stack_in(tmp_path) as stack, stack.gateway() as client:
        stack.redis.hangs = True
        await _ask(client)
        started = time.monotonic()
        for _ in range(5):
            assert (await _ask(client)).status_code == 200
        assert time.monotonic() - started < 1


@pytest.mark.asyncio
async def test_a_redis_that_was_never_there_does_not_keep_the_gateway_from_starting(tmp_path: Path):
    """A closed port from the start."""
    async with stack_in(tmp_path) as stack:
        await stack.redis.stop()
        settings = gateway_settings.read(Environment(stack.env))
        async with client_of(create_app(settings)) as client:
            assert (await _ask(client)).status_code == 200
            assert (await client.get("/health")).json()["dependencies"]["redis"] == "away"


# ---------------------------------------------------------------- flags


def test_a_session_has_the_bucket_that_the_router_gives_it():
    """The router's own hash: xxh32 with seed 0, modulo 10,000."""
    for session in ("", "s1", "a-longer-session-id", "ü"):
        assert bucket(session) == xxhash.xxh32(session.encode()).intdigest() % 10_000


@given(sessions=st.lists(st.text(min_size=1, max_size=20), max_size=30), low=st.floats(0, 100), high=st.floats(0, 100))
def test_raising_a_flag_never_takes_it_from_a_session(sessions: list[str], low: float, high: float):
    """Two shares in order; the sessions of the lower are among those of the higher."""
    low, high = sorted((low, high))
    below, above = (LiveFlags(None, Definitions({}, {}), {"ai_inference": share}) for share in (low, high))
    for session in sessions:
        assert set(below.features(session)) <= set(above.features(session))


@given(shares=st.dictionaries(st.sampled_from(FEATURES), st.floats(0, 100)))
def test_an_effective_share_is_the_least_of_the_flag_and_its_parents(shares: dict[str, float]):
    """A chain of three flags."""
    parents = {"vector_search": ("ai_inference",), "semantic_cache": ("vector_search",)}
    effective = Definitions({}, parents).effective(shares)
    own = {name: shares.get(name, 0.0) for name in FEATURES}
    assert effective["vector_search"] == min(own["vector_search"], own["ai_inference"])
    assert effective["semantic_cache"] == min(own["semantic_cache"], own["vector_search"], own["ai_inference"])


def test_a_cycle_of_parents_switches_nothing_on():
    """The planted violation: two flags that depend on each other."""
    definitions = Definitions({}, {"vector_search": ("semantic_cache",), "semantic_cache": ("vector_search",)})
    assert definitions.effective(ALL_ON)["vector_search"] == 0


def test_the_flags_file_is_read_again_and_its_last_good_state_outlives_a_broken_one(tmp_path: Path):
    """Changed, half-written, gone, and back."""
    path = tmp_path / "flags.json"
    flags = LiveFlags(path, Definitions({"ai_inference": 0}, {}), {"cost_optimization": 100})
    assert flags.features("s") == ("cost_optimization",)
    path.write_text('{"ai_inference": 100, "cost_optimization": 0, "unknown": 100, "vector_search": "100"}')
    assert flags.features("s") == ("ai_inference", "cost_optimization")
    path.write_text('{"ai_infer')
    assert flags.features("s") == ("ai_inference", "cost_optimization")
    path.unlink()
    assert flags.features("s") == ("ai_inference", "cost_optimization")
    path.write_text('{"ai_inference": 0}')
    assert flags.features("s") == ("cost_optimization",)


def test_the_shipped_definitions_give_every_flag_its_parents():
    """ResearchFlow's own flags.json is what the gateway reads."""
    path = Path(__file__).parents[2] / "stack/systems/researchflow/flags.json"
    definitions = Definitions.read(path)
    assert definitions.parents["batch_inference"] == ("ai_inference",)
    assert definitions.effective({"cost_optimization": 50, "ai_inference": 0})["cost_optimization"] == 0
    assert definitions.effective({})["advanced_monitoring"] == 100


# ---------------------------------------------------------------- faults


def test_faults_are_drawn_from_the_seed_alone():
    """The same seed fails the same requests at the configured share; another seed fails others."""
    drawn = {seed: [_injector(seed=seed, error_rate=0.1).fails() for _ in range(1)] for seed in range(3)}
    assert set(drawn) == {0, 1, 2}
    one, two, other = (_injector(seed=seed, error_rate=0.1) for seed in (5, 5, 6))
    first, again, others = ([injector.fails() for _ in range(5000)] for injector in (one, two, other))
    assert first == again != others
    assert 400 < sum(first) < 600


def _injector(**faults: float) -> FaultInjector:
    return FaultInjector(Faults(**faults))


def test_no_fault_is_on_by_default():
    """A release that configures nothing is sound."""
    injector = _injector()
    assert not any(injector.fails() or injector.wrong() or injector.delay_s(1.0) for _ in range(1000))


def test_a_switch_turns_every_fault_on_and_off(tmp_path: Path):
    """Nothing while the file is away, all of it while it is there, and nothing again."""
    switch = tmp_path / "switch"
    injector = FaultInjector(Faults(error_rate=1, wrong_rate=1, delay_ms=10, tail_rate=1, tail_factor=2, switch=switch))
    seen: list[bool] = []
    for on in (False, True, False):
        switch.touch() if on else switch.unlink(missing_ok=True)
        seen += [injector.fails(), injector.wrong(), injector.delay_s(0.1) > 0]
    assert seen == [False] * 3 + [True] * 3 + [False] * 3


def test_the_latency_factor_stretches_a_request_by_its_own_time():
    """A request of 40 ms under a factor of 3, with a fixed delay beside it."""
    assert _injector(latency_factor=3, delay_ms=10).delay_s(0.04) == pytest.approx(0.09)


def test_the_tail_fault_holds_back_a_share_by_a_multiple_of_the_observed_p99():
    """Requests of 100 ms under a factor of 5; and never less than 100 ms."""
    injector = _injector(tail_rate=0.05, tail_factor=5, seed=1)
    delays = [injector.delay_s(0.1) for _ in range(2000)][10:]
    held = [delay for delay in delays if delay]
    assert 60 < len(held) < 140
    assert held == pytest.approx([0.4] * len(held))
    assert max(_injector(tail_rate=1, tail_factor=2).delay_s(0.001) for _ in range(5)) == 0.1


LEAK = """
import gc
import sys
import psutil
sys.path[:0] = {path!r}
import test_services_gateway as tested
process, injector = psutil.Process(), tested._injector(leak_kb={leak_kb})
gc.collect()
before = process.memory_full_info().uss
for _ in range(40):
    injector.fails()
print(process.memory_full_info().uss - before)
"""


@pytest.mark.parametrize("leak_kb", [4096, 0])
def test_the_leak_really_holds_memory(leak_kb: int):
    """A hundred and sixty megabytes by forty requests, resident and not just reserved; without the fault none.

    In a process of its own: this one's allocator may serve the leak from pages that it already holds. Counted page
    by page: the kernel's running count of resident pages is kept for each CPU and lags by megabytes where there are
    many. Reserved memory alone would count next to nothing, so half is proof enough.
    """
    script = LEAK.format(path=[str(Path(__file__).parent), *sys.path], leak_kb=leak_kb)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (int(done.stdout) > 80 * 2**20) is (leak_kb > 0)


@pytest.mark.asyncio
async def test_a_failing_release_answers_500_at_its_rate(tmp_path: Path):
    """Every request fails; good ones do not."""
    async with stack_in(tmp_path) as stack, stack.gateway(GATEWAY_FAULT_ERROR_RATE="1") as client:
        assert (await _ask(client)).status_code == 500
        assert _requests((await client.get("/metrics")).text)["/query"] == {"ok": 0, "error": 1, "rejected": 0}


@pytest.mark.asyncio
async def test_a_wrong_release_gives_documents_without_the_expected_one(tmp_path: Path):
    """The answer keeps its shape: five documents, but not the right one; and it never reaches the cache."""
    async with stack_in(tmp_path) as stack:
        stack.deploy(ALL_ON)
        async with stack.gateway(GATEWAY_FAULT_WRONG_RATE="1") as client:
            wrong = (await _ask(client)).json()
        async with stack.gateway() as client:
            right = (await _ask(client)).json()
    assert len(wrong["documents"]) == 5
    assert "doc-kernel" not in [one["id"] for one in wrong["documents"]]
    assert right["documents"][0]["id"] == "doc-kernel"
    assert not right["cached"]


@pytest.mark.asyncio
async def test_an_overridden_flag_ignores_the_file(tmp_path: Path):
    """A release that switches a feature on for everybody."""
    async with stack_in(tmp_path) as stack, stack.gateway(GATEWAY_FLAG_OVERRIDES="batch_inference=100") as client:
        assert "batch_inference" in (await _ask(client)).headers["X-Features"]


@pytest.mark.parametrize(
    "name, value",
    [
        ("GATEWAY_PORT", "http"),
        ("GATEWAY_PORT", "70000"),
        ("GATEWAY_FAULT_ERROR_RATE", "5"),
        ("GATEWAY_FAULT_ERROR_RATE", "nan"),
        ("GATEWAY_FAULT_LATENCY_FACTOR", "0.5"),
        ("GATEWAY_FLAG_OVERRIDES", "batch_inference"),
        ("GATEWAY_FLAG_OVERRIDES", "batch=100"),
        ("GATEWAY_FLAG_OVERRIDES", "batch_inference=200"),
        ("GATEWAY_REDIS_PASSWORD_FILE", "/nonexistent/secret"),
        ("GATEWAY_FAISS_URL", ""),
        ("GATEWAY_FAISS_URL", "redis://a:1"),
        ("GATEWAY_TRITON_URL", "http://"),
        ("GATEWAY_TRITON_URL", "http://user@b:2"),
        ("GATEWAY_OLLAMA_URL", "c:70000"),
        ("GATEWAY_OLLAMA_URL", "http://c:3/api"),
    ],
)
def test_a_bad_setting_is_named(name: str, value: str):
    """Every kind of malformed setting."""
    env = {"GATEWAY_FAISS_URL": "a:1", "GATEWAY_TRITON_URL": "b:2", "GATEWAY_OLLAMA_URL": "c:3", name: value}
    with pytest.raises(SettingError, match=name):
        gateway_settings.read(Environment(env))


@pytest.mark.parametrize(
    "address, url",
    [("a:1", "http://a:1"), ("http://a:1/", "http://a:1"), ("https://a", "https://a"), ("[::1]:1", "http://[::1]:1")],
)
def test_an_address_may_be_written_short(address: str, url: str):
    """With and without the scheme, the port, the last slash."""
    env = {"GATEWAY_FAISS_URL": address, "GATEWAY_TRITON_URL": "b:2", "GATEWAY_OLLAMA_URL": "c:3"}
    assert gateway_settings.read(Environment(env)).faiss_url == url


def test_every_setting_is_documented():
    """The README of the services names every variable that the code reads."""
    services = Path(__file__).parents[2] / "stack/services"
    readme = (services / "README.md").read_text()
    for source in services.glob("*/src/*/*.py"):
        for name in re.findall(r'"((?:GATEWAY|FAISS|OLLAMA)_[A-Z_0-9]+)"', source.read_text()):
            assert f"`{name}`" in readme, f"{source.name} reads {name}"
