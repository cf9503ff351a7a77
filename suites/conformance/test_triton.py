"""Triton: ready over HTTP, speaking gRPC, models loaded and answering, queues counted."""

import math
import socket
from collections.abc import Callable
from typing import Any

import pytest

from fixtures.clients import Connect

pytestmark = [pytest.mark.staging, pytest.mark.smoke, pytest.mark.conformance, pytest.mark.service("triton")]

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS = 4  # the frame type that a server's half of the preface begins with


def test_triton_is_ready(connect: Connect):
    """GET /v2/health/ready and /v2/health/live answer 200, and the server says that it is Triton."""
    client = connect("triton", "http")
    assert client.get("/v2").json().get("name") == "triton"
    for path in ("/v2/health/ready", "/v2/health/live"):
        assert client.get(path).status_code == 200, path


def test_triton_speaks_grpc(host_and_port: Callable[[str, str], tuple[str, int]]):
    """The gRPC port answers the HTTP/2 preface with its SETTINGS frame: an open port alone proves no protocol."""
    with socket.create_connection(host_and_port("triton", "grpc"), timeout=5) as connection:
        connection.sendall(HTTP2_PREFACE + EMPTY_SETTINGS)
        head = connection.recv(9)
    assert len(head) == 9, f"found {head!r}"
    assert head[3] == SETTINGS, f"found {head!r}, no SETTINGS frame"


def test_every_model_of_the_repository_is_loaded(connect: Connect):
    """Each model of the repository's index is READY and tells its configuration."""
    client = connect("triton", "http")
    models = client.post("/v2/repository/index", json={}).json()
    assert models, "the repository is empty"
    assert {model["name"]: model.get("state") for model in models} == {model["name"]: "READY" for model in models}
    for model in models:
        assert client.get(f"/v2/models/{model['name']}/config").json()["name"] == model["name"]


def test_a_model_answers(connect: Connect, required: Callable[[str], Any]):
    """The embedder makes vectors of unit length in the required dimension, and other ones of other texts."""
    first, second = (embed(connect, text) for text in ("what is a canary release", "how does a cache evict its keys"))
    assert len(first) == len(second) == required("dimension")
    assert math.sqrt(sum(x * x for x in first)) == pytest.approx(1.0, abs=0.01)
    assert sum(x * y for x, y in zip(first, second, strict=True)) < 0.95


def test_a_malformed_request_is_refused(connect: Connect):
    """An input that the model does not have is a 4xx, and the server stays ready."""
    client = connect("triton", "http")
    body = {"inputs": [{"name": "NOTHING", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}
    assert 400 <= client.post("/v2/models/embedder/infer", json=body).status_code < 500
    assert client.get("/v2/health/ready").status_code == 200


def test_triton_counts_its_queues(connect: Connect):
    """For each model the metrics tell inferences, time in the queue and what waits there now."""
    lines = connect("triton", "metrics").get("/metrics").text.splitlines()
    models = connect("triton", "http").post("/v2/repository/index", json={}).json()
    for name in ("nv_inference_count", "nv_inference_queue_duration_us", "nv_inference_pending_request_count"):
        for model in models:
            assert any(line.startswith(f"{name}{{") and f'model="{model["name"]}"' in line for line in lines), (
                f"no {name} of {model['name']}"
            )


def embed(connect: Connect, text: str) -> list[float]:
    """Return the embedding of a text."""
    raw = list(text.encode())
    body = {"inputs": [{"name": "TEXT", "datatype": "UINT8", "shape": [1, len(raw)], "data": raw}]}
    answer = connect("triton", "http").post("/v2/models/embedder/infer", json=body)
    assert answer.status_code == 200, answer.text[:300]
    return answer.json()["outputs"][0]["data"]
