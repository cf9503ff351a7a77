"""Snapshots: one file holds vectors and documents, a checksum file stands beside it, writes are atomic.

A snapshot is a header line (JSON: magic, sizes), the serialised FAISS index, then the documents as JSON.
`NAME.sha256` holds its digest in the form of `sha256sum`. In the server's folder a save writes a file named
after its digest, then the checksum, and last the pointer `CURRENT`; a crash at any point leaves the former
snapshot in force.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

MAGIC = "rollgate-faiss-1"
POINTER = "CURRENT"
KEPT = 2


class CorruptSnapshotError(Exception):
    """A snapshot's bytes are not what was written; the message says what differs."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a snapshot holds: the index, and each row's id and text ("" where none is known)."""

    index: faiss.Index
    ids: list[str]
    texts: list[str]


def encode(content: Content) -> bytes:
    """Return the snapshot's bytes; the same content gives the same bytes."""
    vectors = faiss.serialize_index(content.index).tobytes()
    documents = json.dumps({"ids": content.ids, "texts": content.texts}, ensure_ascii=False).encode()
    header = {"magic": MAGIC, "index_bytes": len(vectors), "documents_bytes": len(documents)}
    return json.dumps(header).encode() + b"\n" + vectors + documents


def decode(raw: bytes) -> Content:
    """Return a snapshot's content, or raise CorruptSnapshotError."""
    line, _, rest = raw.partition(b"\n")
    try:
        header = json.loads(line)
        cut = int(header["index_bytes"])
        whole = header["magic"] == MAGIC and len(rest) == cut + int(header["documents_bytes"])
        index = faiss.deserialize_index(np.frombuffer(rest[:cut], dtype=np.uint8)) if whole else None
        documents = json.loads(rest[cut:]) if whole else {}
        ids, texts = list(documents.get("ids", ())), list(documents.get("texts", ()))
    except Exception as error:
        raise CorruptSnapshotError(f"it cannot be read: {type(error).__name__}") from error
    if index is None:
        raise CorruptSnapshotError(f"its header does not fit its {len(rest)} bytes, or it is no {MAGIC} file")
    if not index.ntotal == len(ids) == len(texts):
        raise CorruptSnapshotError(f"{index.ntotal} vectors, {len(ids)} ids and {len(texts)} texts do not match")
    return Content(index, ids, texts)


def checksum_file(path: Path) -> Path:
    """Return the checksum file that stands beside a snapshot."""
    return path.with_name(path.name + ".sha256")


def recorded_checksum(path: Path) -> str:
    """Return the digest in the checksum file, or raise CorruptSnapshotError."""
    try:
        words = checksum_file(path).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptSnapshotError(f"its checksum file cannot be read: {type(error).__name__}") from error
    if not words:
        raise CorruptSnapshotError("its checksum file is empty")
    return words[0]


def verified_bytes(path: Path) -> bytes:
    """Return the file's bytes if they have the recorded digest, or raise CorruptSnapshotError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CorruptSnapshotError(f"it cannot be read: {type(error).__name__}") from error
    found, expected = hashlib.sha256(raw).hexdigest(), recorded_checksum(path)
    if found != expected:
        raise CorruptSnapshotError(f"its SHA-256 is {found[:12]}..., recorded is {expected[:12]}...")
    return raw


def write(path: Path, raw: bytes) -> str:
    """Write an encoded snapshot and its checksum file at a path of the caller's choice; return the digest."""
    digest = hashlib.sha256(raw).hexdigest()
    _replace(path, raw)
    _replace(checksum_file(path), f"{digest}  {path.name}\n".encode())
    return digest


def save(folder: Path, raw: bytes) -> Path:
    """Save an encoded snapshot into the server's folder, point `CURRENT` at it, prune old ones; return its path."""
    path = folder / f"index-{hashlib.sha256(raw).hexdigest()[:16]}.faiss"
    write(path, raw)
    _replace(folder / POINTER, f"{path.name}\n".encode())
    _prune(folder, keep=path)
    return path


def current(folder: Path) -> Path | None:
    """Return the snapshot that `CURRENT` points at, None where nothing was saved yet."""
    pointer = folder / POINTER
    if not pointer.is_file():
        return None
    return folder / Path(pointer.read_text(encoding="utf-8", errors="replace").strip() or "missing").name


def _prune(folder: Path, keep: Path) -> None:
    others = sorted(
        (path for path in folder.glob("index-*.faiss") if path != keep),
        key=lambda path: path.stat().st_mtime_ns,
        reverse=True,
    )
    for path in others[KEPT - 1 :]:
        path.unlink(missing_ok=True)
        checksum_file(path).unlink(missing_ok=True)


def _replace(path: Path, raw: bytes) -> None:
    """Write and flush a neighbour file, rename it into place, flush the folder: a reader sees old or new, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
