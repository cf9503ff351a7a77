"""The vector store of each arm: a sound index, documents added, found and kept, bad vectors refused."""

from typing import Any

import httpx
import pytest

from fixtures.clients import Connect
from harness.model.evidence import Arm

pytestmark = [pytest.mark.staging, pytest.mark.smoke, pytest.mark.conformance, pytest.mark.service("faiss")]

NAME = "rollgate-conformance-vector"
TEXT = "zyzzyva quokka"


@pytest.fixture
def index(connect: Connect, arm: str) -> httpx.Client:
    """The arm's vector store."""
    return connect("faiss", "http", Arm(arm))


@pytest.fixture
def dimension(index: httpx.Client) -> int:
    """How many numbers a vector of this index has."""
    return int(index.get("/health").json()["dimension"])


def test_the_index_is_sound(index: httpx.Client):
    """Health tells that the index's integrity is ok, how many documents it holds, and its checksum."""
    answer = index.get("/health")
    body = answer.json()
    assert (answer.status_code, body["integrity"]) == (200, "ok"), body
    assert body["documents"] > 0, "the index is empty"
    assert body["index_checksum"]
    assert "faiss_index_integrity_ok" in index.get("/metrics").text


def test_what_was_added_is_found_and_kept(index: httpx.Client, dimension: int):
    """A vector that was added is its own best match, by vector and by word, and still so after save and load."""
    vector = [0.0] * dimension
    vector[0] = 1.0  # far from every text: it gets into nobody's answers
    added = index.post("/add", json={"ids": [NAME], "vectors": [vector], "texts": [TEXT]})
    assert added.status_code == 200, added.text[:300]
    documents = index.get("/health").json()["documents"]
    for step in ("", "/save", "/load"):
        if step:
            answer = index.post(step)
            assert answer.status_code == 200, f"{step}: {answer.text[:300]}"
        assert index.post("/search", json={"vector": vector, "k": 1}).json()["ids"] == [NAME], step
        assert index.post("/search/keyword", json={"query": TEXT, "k": 1}).json()["ids"] == [NAME], step
        assert index.get("/health").json()["documents"] == documents, step
    assert index.get("/health").json()["integrity"] == "ok"


@pytest.mark.parametrize("fault", ["short", "long", "text", "nothing", "huge", "no list"])
def test_a_bad_vector_is_refused(index: httpx.Client, dimension: int, fault: str):
    """A vector of the wrong length or content is a 4xx that says what is wrong, for add and for search."""
    vector: Any = {
        "short": [0.5] * (dimension - 1),
        "long": [0.5] * (dimension + 1),
        "text": ["x"] * dimension,
        "nothing": [None] * dimension,
        "huge": [1e300] * dimension,
        "no list": "0.5",
    }[fault]
    documents = index.get("/health").json()["documents"]
    for path, body in (
        ("/search", {"vector": vector, "k": 1}),
        ("/add", {"ids": [f"{NAME}-bad"], "vectors": [vector]}),
    ):
        answer = index.post(path, json=body)
        assert 400 <= answer.status_code < 500, f"{path} with {fault}: {answer.status_code}"
        assert answer.json()["error"]
    assert index.get("/health").json()["documents"] == documents
