"""The application under release, once for each arm: its answers, fresh documents, bad input and metrics."""

from typing import Any

import httpx
import pytest

from fixtures.clients import Connect
from harness.adapters.stack_file import Description
from harness.model.evidence import Arm
from harness.model.objective import Against, Measure
from harness.model.system import System

pytestmark = [
    pytest.mark.staging,
    pytest.mark.smoke,
    pytest.mark.conformance,
    pytest.mark.service("gateway", "faiss", "triton", "ollama"),
]

FRESH = {
    "id": "rollgate-conformance-document",
    "text": "The lighthouse on Skerryvore was engineered by Alan Stevenson out of granite from Mull.",
}
BAD_QUERIES: dict[str, Any] = {
    "no query": {},
    "a number": {"query": 5},
    "an empty query": {"query": "  "},
    "no documents wanted": {"query": "x", "k": 0},
    "a list": [],
    "too long": {"query": "x" * 20_000},
}
BAD_DOCUMENTS: dict[str, Any] = {
    "no documents": {},
    "a document without text": {"documents": [{"id": "rollgate-conformance-bad"}]},
    "two of one id": {"documents": [{"id": "rollgate-conformance-bad", "text": "a"}] * 2},
}


def test_a_question_is_answered(
    arm: str, entry: httpx.Client, forced: dict[str, str], system: System, description: Description
):
    """An answer has text, as many documents as asked for, best first, and says which arm and version made it."""
    answer = entry.post("/query", json={"query": "what is a key-value cache for?", "k": 3}, headers=forced)
    assert answer.status_code == 200, answer.text[:300]
    body = answer.json()
    assert body["answer"]
    scores = [document["score"] for document in body["documents"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    version = description["arms"][arm]["version"]
    assert (body["arm"], body["version"]) == (arm, version)
    assert answer.headers[system.traffic.arm_header] == arm
    assert answer.headers[system.traffic.version_header] == version


def test_a_document_just_added_is_found(entry: httpx.Client, forced: dict[str, str]):
    """What was ingested is the best answer to its own words at once, on the arm that took it."""
    taken = entry.post("/ingest", json={"documents": [FRESH]}, headers=forced)
    assert (taken.status_code, taken.json().get("ingested")) == (200, 1), taken.text[:300]
    body = entry.post("/query", json={"query": "who engineered the Skerryvore lighthouse?"}, headers=forced).json()
    assert FRESH["id"] in [document["id"] for document in body["documents"]]


@pytest.mark.parametrize("fault", BAD_QUERIES)
def test_a_bad_question_is_refused(entry: httpx.Client, forced: dict[str, str], fault: str):
    """Bad input is the client's error, a 4xx with a sentence, and never counts against the release."""
    answer = entry.post("/query", json=BAD_QUERIES[fault], headers=forced)
    assert 400 <= answer.status_code < 500, f"{fault}: {answer.status_code}"
    assert answer.json()["error"]


@pytest.mark.parametrize("fault", BAD_DOCUMENTS)
def test_bad_documents_are_refused(entry: httpx.Client, forced: dict[str, str], fault: str):
    """Documents that cannot be taken are refused as a whole."""
    answer = entry.post("/ingest", json=BAD_DOCUMENTS[fault], headers=forced)
    assert 400 <= answer.status_code < 500, f"{fault}: {answer.status_code}"
    assert answer.json()["error"]


def test_text_that_is_no_json_is_refused(entry: httpx.Client, forced: dict[str, str]):
    """A body that is no JSON is a 4xx."""
    answer = entry.post("/query", content=b"{", headers={**forced, "content-type": "application/json"})
    assert 400 <= answer.status_code < 500


def test_the_metrics_tell_arm_version_and_every_threshold(
    arm: str, connect: Connect, system: System, description: Description
):
    """Every series bears arm and version, and the histogram has a bound at each latency threshold that is judged."""
    text = connect("gateway", "http", Arm(arm)).get("/metrics").text
    labels = f'arm="{arm}"', f'version="{description["arms"][arm]["version"]}"'
    counters = [line for line in text.splitlines() if line.startswith("gateway_requests_total{")]
    assert counters
    assert all(label in line for line in counters for label in labels)
    for outcome in ("ok", "error", "rejected"):
        assert any(f'outcome="{outcome}"' in line and 'route="/query"' in line for line in counters), outcome
    bounds = {
        float(line.split('le="', 1)[1].split('"', 1)[0])
        for line in text.splitlines()
        if line.startswith("gateway_request_duration_seconds_bucket{")
    }
    judged = [
        objective.threshold / 1000
        for objective in system.objectives
        if objective.measure is Measure.QUANTILE and objective.against is Against.NUMBER
    ]
    assert set(judged) <= bounds, f"no bucket bound at {sorted(set(judged) - bounds)} s"
