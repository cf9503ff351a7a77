"""The Ollama exporter over a double of Ollama's API: what it serves, what it counts, and what it cannot see."""

import asyncio
import socket

import psutil
import pytest
from exporter_upstreams import OllamaDouble, model, scraped, value
from service_upstreams import client_of, serving
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from rollgate_exporters.ollama.app import Exporter, build, create_app
from rollgate_exporters.ollama.loads import QUICK_FOR_S, QUICK_S, Loads, pause_s
from rollgate_exporters.ollama.memory import ServerProcess
from rollgate_serving.settings import Environment, SettingError

pytestmark = pytest.mark.selftest
GONE = "http://127.0.0.1:9"


def exporter_of(url: str, **changes: float) -> Exporter:
    """Return an exporter that looks by itself once at its start and then not again in a test's time."""
    settings = {"timeout_s": 5.0, "poll_s": 3600.0, "limit_bytes": 4096}
    return Exporter(url=url, **{**settings, **changes})


@pytest.mark.asyncio
async def test_what_ollama_tells_of_its_models_is_served():
    """Version, sizes, memory on GPUs and expiry by model; a model that stays, by either way of saying so, has none."""
    ollama = OllamaDouble()
    ollama.stored = [{"name": "a:latest", "size": 500}, {"name": "c:latest", "size": 7}]
    ollama.loaded = [
        model("a:latest", size=900, vram=600, expires="2026-06-04T14:38:31.837531234-07:00"),
        model("b:latest", size=100, expires="0001-01-01T00:00:00Z"),
        model("c:latest", size=100, expires="2318-11-21T00:00:00Z"),
    ]
    async with serving(ollama.app) as url, client_of(create_app(exporter_of(url))) as client:
        found = await scraped(client)
    assert value(found, "ollama_up") == 1
    assert value(found, "ollama_info", version="0.13.5") == 1
    assert value(found, "ollama_loaded_models") == 3
    assert value(found, "ollama_model_size_bytes", model="a:latest") == 500
    assert value(found, "ollama_model_memory_bytes", model="a:latest") == 900
    assert value(found, "ollama_model_vram_bytes", model="a:latest") == 600
    assert value(found, "ollama_model_expires_timestamp_seconds", model="a:latest") == pytest.approx(
        1780609111.8, abs=1
    )
    assert len([name for name, _ in found if name == "ollama_model_expires_timestamp_seconds"]) == 1
    assert value(found, "ollama_memory_limit_bytes") == 4096
    assert value(found, "ollama_probes_total", path="/api/tags", outcome="ok") == 1
    assert value(found, "ollama_probes_total", path="/api/tags", outcome="error") == 0
    assert value(found, "ollama_probe_duration_seconds_count", path="/api/version") == 1


@pytest.mark.asyncio
async def test_an_ollama_that_is_not_there_is_down_and_the_exporter_is_well():
    """Nothing listens: up 0, no old or made-up numbers, the limit and the counters stay."""
    async with client_of(create_app(exporter_of(GONE))) as client:
        found = await scraped(client)
        health = await client.get("/health")
    assert value(found, "ollama_up") == 0
    assert value(found, "ollama_memory_limit_bytes") == 4096
    assert value(found, "ollama_probes_total", path="/api/tags", outcome="error") == 1
    for name in ("ollama_info", "ollama_loaded_models", "ollama_memory_bytes"):
        assert value(found, name) is None
    assert health.status_code == 200
    assert health.json()["ollama"].startswith("/api/ps: ")


WRONG = {
    "an error": JSONResponse({"error": "out of memory"}, status_code=500),
    "what is no JSON": PlainTextResponse("<html>"),
    "a list": JSONResponse([]),
    "models that are words": JSONResponse({"models": ["a"]}),
    "a model without a size": JSONResponse({"models": [{"name": "a"}]}),
    "a size that is no number": JSONResponse({"models": [{"name": "a", "size": "big"}]}),
    "another place": RedirectResponse("/elsewhere"),
    "more than it can be": Response(b" " * (8 * 2**20 + 1)),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/api/ps", "/api/tags"])
@pytest.mark.parametrize("said", WRONG)
async def test_an_answer_that_ollama_would_not_give_is_an_ollama_that_is_down(said: str, path: str):
    """Of either question; after it Ollama answers again and is up again, and nothing was loaded meanwhile."""
    ollama = OllamaDouble()
    ollama.loaded = [model("a")]
    async with serving(ollama.app) as url, client_of(create_app(exporter_of(url))) as client:
        await scraped(client)
        ollama.instead[path] = WRONG[said]
        wrong = await scraped(client)
        reason = (await client.get("/health")).json()["ollama"]
        ollama.instead.clear()
        mended = await scraped(client)
    assert [value(found, "ollama_up") for found in (wrong, mended)] == [0, 1]
    assert value(mended, "ollama_model_loads_total", model="a") == 0
    assert value(wrong, "ollama_probes_total", path=path, outcome="error") >= 1
    assert reason.startswith(f"{path}: ")


@pytest.mark.asyncio
async def test_an_ollama_that_takes_connections_and_says_nothing_is_down_in_time():
    """A scrape is answered after the probe's time-out and not after Ollama's patience."""

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await receive()
            await receive()  # until the client goes

    async with serving(silent) as url, client_of(create_app(exporter_of(url, timeout_s=0.2))) as client:
        found = await asyncio.wait_for(scraped(client), 20)
        health = (await client.get("/health")).json()
    assert value(found, "ollama_up") == 0
    assert health["ollama"] == "/api/ps: no answer within 0.2 s"
    assert value(found, "ollama_probe_duration_seconds_bucket", path="/api/tags", le="0.1") == 0


@pytest.mark.asyncio
async def test_loads_are_counted_between_scrapes():
    """A model that comes, goes and comes again, seen by the exporter's own looks alone."""
    ollama = OllamaDouble()
    ollama.stored = [{"name": "a:latest", "size": 5}]
    async with serving(ollama.app) as url:
        exporter = exporter_of(url, poll_s=0.01)
        async with client_of(create_app(exporter)) as client:
            assert value(await scraped(client), "ollama_model_loads_total", model="a:latest") == 0
            for listed in ([model("a:latest")], [], [model("a:latest")]):
                ollama.loaded = listed
                await asyncio.wait_for(ollama.looked(3), 20)
            assert value(await scraped(client), "ollama_model_loads_total", model="a:latest") == 2


A, B = ("a", "1"), ("b", "2")


def test_what_was_loaded_before_the_first_look_is_not_counted():
    """Its series begins at 0, so that the next load is an increase."""
    loads = Loads()
    assert loads.seen([A], 1) is False
    assert dict(loads.counts) == {"a": 0}
    assert loads.seen([], 2)
    assert loads.seen([A, B], 3)
    assert dict(loads.counts) == {"a": 1, "b": 1}
    assert not loads.seen([A, B], 4)


def test_a_load_between_two_looks_is_missed():
    """Out and in again, and in and out again: the count is a lower bound, and says so in its help."""
    loads = Loads()
    loads.seen([A], 1)
    loads.seen([A], 2)  # it was unloaded and loaded again meanwhile; B came and went
    assert dict(loads.counts) == {"a": 0}
    help_ = next(m for m in exporter_of(GONE).registry.collect() if m.name == "ollama_model_loads").documentation
    assert "at least" in help_


def test_another_file_under_the_same_name_is_a_load():
    """The digest changed."""
    loads = Loads()
    loads.seen([A], 1)
    loads.seen([("a", "9")], 2)
    assert dict(loads.counts) == {"a": 1}


def test_after_the_process_is_gone_all_is_loaded_again_and_after_a_slow_answer_nothing_is():
    """Refused connections empty the server's memory; a time-out says nothing about it."""
    loads = Loads()
    loads.seen([A], 1)
    loads.process_gone(2)
    loads.seen([A], 3)
    assert dict(loads.counts) == {"a": 1}
    loads.seen([A], 5)  # the answer asked for at 4 never came
    assert dict(loads.counts) == {"a": 1}


def test_an_answer_that_was_overtaken_is_left_out():
    """Asked for earlier, arrived later: it must not unload and load the model again."""
    loads = Loads()
    loads.seen([], 1)
    loads.seen([A], 3)
    assert loads.seen([], 2) is False
    loads.process_gone(2)
    loads.seen([A], 4)
    assert dict(loads.counts) == {"a": 1}


def test_a_model_that_comes_and_goes_ten_times_a_second_is_counted_above_ten():
    """The alert's limit is within reach: after a change the looks are as quick as that needs."""
    loads, now, changed_at = Loads(), 0.0, -1e9
    period_s = 0.1
    while now < 60:
        if loads.seen([A] if now % period_s < period_s / 2 else [B], now):
            changed_at = now
        now += pause_s(now, changed_at, 1.0)
    rate = loads.counts["a"] / 60
    assert 9.5 < rate <= 10.01
    assert period_s > 2 * QUICK_S


def test_looks_are_slow_while_nothing_changes():
    """And never slower than asked for."""
    assert pause_s(100, 100 - QUICK_FOR_S, 1.0) == 1.0
    assert pause_s(100, 99, 1.0) == QUICK_S
    assert pause_s(100, 99, 0.01) == 0.01


@pytest.mark.asyncio
async def test_the_memory_is_that_of_the_process_that_listens_with_its_children():
    """Here: this process. Where nobody listens, or elsewhere, it is not seen."""
    async with serving(OllamaDouble().app) as url:
        seen = ServerProcess(url).resident_bytes()
        if seen is None:
            pytest.skip("this machine does not tell an ordinary user who listens")
    assert seen > 0.5 * psutil.Process().memory_info().rss
    assert ServerProcess(GONE).resident_bytes() is None
    assert ServerProcess("http://192.0.2.1:11434").resident_bytes() is None


@pytest.mark.asyncio
async def test_without_a_process_to_see_the_models_part_of_host_memory_stands_for_it(monkeypatch: pytest.MonkeyPatch):
    """What is on GPUs is not host memory."""
    monkeypatch.setattr(ServerProcess, "resident_bytes", lambda _self: None)
    ollama = OllamaDouble()
    ollama.loaded = [model("a", size=900, vram=600), model("b", size=50)]
    async with serving(ollama.app) as url, client_of(create_app(exporter_of(url))) as client:
        assert value(await scraped(client), "ollama_memory_bytes") == 350


def _bound(port: int) -> socket.socket:
    """Return a socket on a port that others may share: while it does not listen, connections are refused."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made


@pytest.mark.asyncio
async def test_a_restarted_ollama_is_up_at_the_next_scrape_and_its_models_are_loaded_again():
    """Gone and back at the same address; no connection of before stands in the way."""
    ollama = OllamaDouble()
    ollama.loaded = [model("a")]
    with _bound(0) as held:
        port = held.getsockname()[1]
        async with client_of(create_app(exporter_of(f"http://127.0.0.1:{port}"))) as client:
            async with serving(ollama.app, _bound(port)):
                first = await scraped(client)
            between = await scraped(client)
            async with serving(ollama.app, _bound(port)):
                last = await scraped(client)
    assert [value(found, "ollama_up") for found in (first, between, last)] == [1, 0, 1]
    counts = [value(found, "ollama_model_loads_total", model="a") for found in (between, last)]
    assert counts[1] - counts[0] == 1


@pytest.mark.parametrize(
    "values, says",
    [
        ({}, "OLLAMA_EXPORTER_URL is not set"),
        ({"OLLAMA_EXPORTER_URL": "127.0.0.1:1/api"}, "expected http://HOST"),
        ({"OLLAMA_EXPORTER_URL": "127.0.0.1:1", "OLLAMA_EXPORTER_TIMEOUT_S": "never"}, "OLLAMA_EXPORTER_TIMEOUT_S"),
        ({"OLLAMA_EXPORTER_URL": "127.0.0.1:1", "OLLAMA_EXPORTER_POLL_S": "0"}, "OLLAMA_EXPORTER_POLL_S"),
    ],
)
def test_a_setting_that_cannot_be_is_named(values: dict[str, str], says: str):
    """No address, one with a path, times that are none."""
    with pytest.raises(SettingError, match=says):
        build(Environment(values))


def test_by_default_nobody_else_is_listened_to():
    """The loopback address."""
    assert build(Environment({"OLLAMA_EXPORTER_URL": "127.0.0.1:1"}))[1] == "127.0.0.1"
