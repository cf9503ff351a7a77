"""The FAISS server: what it finds, what it refuses, and that no damaged index is ever served."""

import base64
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_upstreams import client_of
from starlette.applications import Starlette

from rollgate_faiss import snapshot
from rollgate_faiss.app import build, create_app
from rollgate_faiss.instruments import new_instruments
from rollgate_faiss.store import Store
from rollgate_serving.settings import Environment, SettingError

pytestmark = pytest.mark.selftest
DOCUMENTS = {
    "ids": ["gpu", "disk", "net"],
    "vectors": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
    "texts": ["memory of the accelerator", "bytes on the platter", "packets between the hosts"],
}


def _app(folder: Path) -> Starlette:
    return create_app(Store(4, folder), new_instruments("baseline", "1", folder))


async def _filled(client: httpx.AsyncClient) -> None:
    assert (await client.post("/add", json=DOCUMENTS)).status_code == 200


@pytest.mark.asyncio
async def test_a_search_finds_the_nearest_documents_best_first(tmp_path: Path):
    """Three documents on three axes; a vector between two of them."""
    async with client_of(_app(tmp_path)) as client:
        await _filled(client)
        found = (await client.post("/search", json={"vector": [0.2, 0.9, 0, 0], "k": 2})).json()
    assert found["ids"] == ["disk", "gpu"]
    assert found["scores"] == pytest.approx([0.9, 0.2])
    assert found["texts"][0] == "bytes on the platter"


@pytest.mark.asyncio
async def test_a_packed_vector_finds_what_the_listed_one_finds(tmp_path: Path):
    """The same query as numbers and as base64."""
    packed = base64.b64encode(struct.pack("<4f", 0.2, 0.9, 0, 0)).decode()
    async with client_of(_app(tmp_path)) as client:
        await _filled(client)
        listed = (await client.post("/search", json={"vector": [0.2, 0.9, 0, 0], "k": 3})).json()
        assert (await client.post("/search", json={"vector_b64": packed, "k": 3})).json() == listed


@pytest.mark.asyncio
async def test_a_keyword_search_finds_documents_by_their_words(tmp_path: Path):
    """A word in another inflection; a word that no document has."""
    async with client_of(_app(tmp_path)) as client:
        await _filled(client)
        assert (await client.post("/search/keyword", json={"query": "lost packet", "k": 5})).json()["ids"] == ["net"]
        assert (await client.post("/search/keyword", json={"query": "zebra", "k": 5})).json()["ids"] == []


@pytest.mark.asyncio
async def test_a_known_id_is_replaced_and_not_doubled(tmp_path: Path):
    """The same id with another vector."""
    async with client_of(_app(tmp_path)) as client:
        await _filled(client)
        answer = await client.post("/add", json={"ids": ["gpu"], "vectors": [[0, 0, 0, 1]], "texts": ["moved"]})
        assert answer.json() == {"added": 0, "replaced": 1, "documents": 3}
        found = (await client.post("/search", json={"vector": [0, 0, 0, 1], "k": 1})).json()
    assert (found["ids"], found["texts"]) == (["gpu"], ["moved"])


BAD_SEARCHES = {
    "no JSON": b"{",
    "a list": b"[]",
    "nested beyond reason": b"[" * 100_000,
    "no vector": b'{"k": 1}',
    "NaN": b'{"vector": [NaN, 0, 0, 0]}',
    "infinity by exponent": b'{"vector": [1e999, 0, 0, 0]}',
    "too large for a float": b'{"vector": [1e300, 0, 0, 0]}',
    "an integer beyond any float": b'{"vector": [1' + b"0" * 400 + b", 0, 0, 0]}",
    "a wrong dimension": b'{"vector": [1, 0, 0]}',
    "strings for numbers": b'{"vector": ["1", 0, 0, 0]}',
    "true for a number": b'{"vector": [true, 0, 0, 0]}',
    "k of zero": b'{"vector": [1, 0, 0, 0], "k": 0}',
    "k out of range": b'{"vector": [1, 0, 0, 0], "k": 101}',
    "k a fraction": b'{"vector": [1, 0, 0, 0], "k": 1.5}',
    "k true": b'{"vector": [1, 0, 0, 0], "k": true}',
    "packed and not base64": b'{"vector_b64": "***"}',
    "packed and too short": b'{"vector_b64": "AAAA"}',
    "packed NaN": json.dumps(
        {"vector_b64": base64.b64encode(struct.pack("<4f", float("nan"), 0, 0, 0)).decode()}
    ).encode(),
}
BAD_ADDITIONS = {
    "fewer vectors than ids": {"ids": ["a", "b"], "vectors": [[1, 0, 0, 0]]},
    "an id twice": {"ids": ["a", "a"], "vectors": [[1, 0, 0, 0]] * 2},
    "an id that is a number": {"ids": [1], "vectors": [[1, 0, 0, 0]]},
    "no ids": {"ids": [], "vectors": []},
    "a wrong dimension": {"ids": ["a"], "vectors": [[1, 0]]},
    "texts of another count": {"ids": ["a"], "vectors": [[1, 0, 0, 0]], "texts": ["x", "y"]},
}


@pytest.mark.asyncio
@pytest.mark.parametrize("body", BAD_SEARCHES.values(), ids=BAD_SEARCHES)
async def test_a_bad_search_is_a_4xx_with_one_sentence(tmp_path: Path, body: bytes):
    """Every malformed search, against an index that has documents."""
    async with client_of(_app(tmp_path)) as client:
        await _filled(client)
        answer = await client.post("/search", content=body)
        assert 400 <= answer.status_code < 500
        assert list(answer.json()) == ["error"]
        text = (await client.get("/metrics")).text
    assert 'faiss_requests_total{arm="baseline",outcome="rejected",route="/search",version="1"} 1.0' in text
    assert 'faiss_requests_total{arm="baseline",outcome="error",route="/search",version="1"} 0.0' in text


@pytest.mark.asyncio
@pytest.mark.parametrize("body", BAD_ADDITIONS.values(), ids=BAD_ADDITIONS)
async def test_a_bad_addition_is_refused_and_leaves_the_index_as_it_was(tmp_path: Path, body: dict[str, list[Any]]):
    """Every malformed addition."""
    async with client_of(_app(tmp_path)) as client:
        await _filled(client)
        assert (await client.post("/add", json=body)).status_code == 400
        assert (await client.get("/health")).json()["documents"] == 3


@pytest.mark.asyncio
async def test_a_huge_body_is_refused_before_it_is_read(tmp_path: Path):
    """A search of more than a quarter of a megabyte, with and without a declared length."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(400):
            yield b" " * 1024

    async with client_of(_app(tmp_path)) as client:
        assert (await client.post("/search", content=b" " * 300_000)).status_code == 413
        assert (await client.post("/search", content=endless())).status_code == 413


@pytest.mark.asyncio
async def test_a_saved_index_is_served_again_after_a_restart(tmp_path: Path):
    """Save, then a new server over the same folder."""
    async with client_of(_app(tmp_path)) as client:
        await _filled(client)
        saved = (await client.post("/save")).json()
    app, _, _ = build(Environment({"FAISS_DIR": str(tmp_path), "FAISS_DIMENSION": "4", "FAISS_PORT": "0"}))
    async with client_of(app) as client:
        health = (await client.get("/health")).json()
        found = (await client.post("/search", json={"vector": [0, 0, 1, 0], "k": 1})).json()
    assert (health["integrity"], health["documents"], health["dimension"]) == ("ok", 3, 4)
    assert health["index_checksum"] == saved["index_checksum"]
    assert found["ids"] == ["net"]


@pytest.mark.asyncio
async def test_a_byte_changed_on_disk_is_found_by_the_health_check_and_nothing_is_served(tmp_path: Path):
    """The planted violation: one flipped byte in the saved file; then the right byte again."""
    async with client_of(_app(tmp_path)) as client:
        await _filled(client)
        await client.post("/save")
        path = snapshot.current(tmp_path)
        sound = path.read_bytes()
        path.write_bytes(sound[:-5] + bytes([sound[-5] ^ 1]) + sound[-4:])
        health = await client.get("/health")
        assert (health.status_code, health.json()["integrity"]) == (503, "corrupt")
        assert 'faiss_index_integrity_ok{arm="baseline",version="1"} 0.0' in (await client.get("/metrics")).text
        assert (await client.post("/search", json={"vector": [1, 0, 0, 0], "k": 1})).status_code == 503
        assert (await client.post("/save")).status_code == 503
        assert (await client.post("/load")).status_code == 503
        path.write_bytes(sound)
        assert (await client.post("/load")).status_code == 200
        assert (await client.get("/health")).json()["integrity"] == "ok"
        assert (await client.post("/search", json={"vector": [1, 0, 0, 0], "k": 1})).status_code == 200


@pytest.mark.asyncio
async def test_a_server_over_a_corrupt_snapshot_starts_and_says_so(tmp_path: Path):
    """A snapshot damaged before the start; the process must live to report it."""
    path = tmp_path / "damaged.faiss"
    snapshot.write(path, Store(4, tmp_path).encoded())
    path.write_bytes(path.read_bytes()[:-1])
    app, _, _ = build(Environment({"FAISS_DIR": str(tmp_path), "FAISS_DIMENSION": "4", "FAISS_SNAPSHOT": str(path)}))
    async with client_of(app) as client:
        health = await client.get("/health")
    assert (health.status_code, health.json()["integrity"]) == (503, "corrupt")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_snapshot_is_refused(tmp_path: Path, place: int, bit: int):
    """One bit anywhere in the file."""
    path = tmp_path / "one.faiss"
    snapshot.write(path, Store(4, tmp_path).encoded())
    raw = bytearray(path.read_bytes())
    raw[place % len(raw)] ^= 1 << bit
    path.write_bytes(raw)
    with pytest.raises(snapshot.CorruptSnapshotError):
        snapshot.verified_bytes(path)


@settings(max_examples=100)
@given(raw=st.binary(max_size=200))
def test_bytes_that_are_no_snapshot_are_refused_and_nothing_else(raw: bytes):
    """Arbitrary bytes never decode, and never raise anything but the one error."""
    with pytest.raises(snapshot.CorruptSnapshotError):
        snapshot.decode(raw)


def test_a_save_that_stopped_half_way_leaves_the_former_snapshot_in_force(tmp_path: Path):
    """The planted violation: a newer file and a partial one, but no pointer to them."""
    first = snapshot.save(tmp_path, Store(4, tmp_path).encoded())
    (tmp_path / "index-ffffffffffffffff.faiss").write_bytes(b"half")
    (tmp_path / ".CURRENT.1.partial").write_bytes(b"index-ffffffffffffffff.faiss")
    assert snapshot.current(tmp_path) == first
    snapshot.verified_bytes(first)


def test_the_explicit_snapshot_comes_first_then_the_saved_one_then_the_seed(tmp_path: Path):
    """Three snapshots of different sizes; the start takes the right one."""
    sizes = {}
    for count, name in ((1, "seed"), (2, "saved"), (3, "explicit")):
        store = Store(4, tmp_path)
        store.add(DOCUMENTS["ids"][:count], _rows(count), DOCUMENTS["texts"][:count])
        sizes[name] = tmp_path / f"{name}.faiss"
        snapshot.write(sizes[name], store.encoded())
    values = {"FAISS_DIR": str(tmp_path / "dir"), "FAISS_DIMENSION": "4", "FAISS_SEED_SNAPSHOT": str(sizes["seed"])}
    assert _documents(values) == 1
    snapshot.save(tmp_path / "dir", sizes["saved"].read_bytes())
    assert _documents(values) == 2
    assert _documents({**values, "FAISS_SNAPSHOT": str(sizes["explicit"])}) == 3


def test_a_snapshot_that_does_not_exist_stops_the_start(tmp_path: Path):
    """A misspelt path is a setting's error, not an empty index."""
    with pytest.raises(SettingError, match="does not exist"):
        build(Environment({"FAISS_DIR": str(tmp_path), "FAISS_SNAPSHOT": str(tmp_path / "none.faiss")}))


def _rows(count: int) -> np.ndarray:
    return np.array(DOCUMENTS["vectors"][:count], dtype=np.float32)


def _documents(values: dict[str, str]) -> int:
    app, _, _ = build(Environment(values))
    handler = next(route.endpoint for route in app.routes if route.path == "/health")
    return len(handler.__self__._store)  # noqa: SLF001
