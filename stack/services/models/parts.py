"""What the set-up makes, each into a folder of its own."""

import json
import os
import shutil
import sysconfig
from pathlib import Path

import faiss
import minilm
import numpy as np
import tiny_llama
from minilm_session import MiniLM

from rollgate_faiss import snapshot

HERE = Path(__file__).resolve().parent


def read_corpus(path: Path) -> list[dict[str, object]]:
    """Return the documents of a corpus.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def make_llama(folder: Path) -> None:
    """Write llama.gguf."""
    tiny_llama.build(folder / "llama.gguf")


def make_minilm(folder: Path, weights: Path, corpus: Path) -> None:
    """Write the graph, the tokenizer and the corpus' vectors."""
    minilm.build(weights / "model.safetensors", folder / "minilm.onnx")
    shutil.copyfile(weights / "tokenizer.json", folder / "tokenizer.json")
    texts = [str(document["text"]) for document in read_corpus(corpus)]
    np.savez(folder / "corpus.npz", texts=np.array(texts), vectors=MiniLM(folder).embed(texts))


def make_triton(folder: Path, minilm_folder: Path) -> None:
    """Write the model repository; the models find packages and weights by parameters of their configuration.

    The weights lie beside the repository, and are named from a model's own folder: a container has both elsewhere.
    """
    packages = Path(sysconfig.get_path("purelib"))
    values = {"@site_packages@": os.fspath(packages), "@model_folder@": f"../../../{minilm_folder.name}"}
    for name in ("embedder", "reranker"):
        version = folder / name / "1"
        version.mkdir(parents=True)
        shutil.copyfile(HERE / "triton" / name / "model.py", version / "model.py")
        for shared in sorted((HERE / "triton" / "shared").glob("*.py")):
            shutil.copyfile(shared, version / shared.name)
        # The backend imports numpy before any model can extend the path; a model's folder is on the path already.
        for package in ("numpy", "numpy.libs"):
            if (packages / package).is_dir():
                (version / package).symlink_to(packages / package)
        config = (HERE / "triton" / name / "config.pbtxt").read_text(encoding="utf-8")
        for mark, value in values.items():
            config = config.replace(mark, value)
        (folder / name / "config.pbtxt").write_text(config, encoding="utf-8")


def make_faiss(folder: Path, minilm_folder: Path, corpus: Path) -> None:
    """Write full.faiss, and stale.faiss with the first generation alone."""
    documents = read_corpus(corpus)
    vectors = np.load(minilm_folder / "corpus.npz", allow_pickle=False)["vectors"]
    for name, most in (("full", 2), ("stale", 1)):
        rows = [place for place, document in enumerate(documents) if int(str(document["generation"])) <= most]
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors[rows]))
        ids, texts = ([str(documents[place][key]) for place in rows] for key in ("id", "text"))
        snapshot.write(folder / f"{name}.faiss", snapshot.encode(snapshot.Content(index, ids, texts)))
