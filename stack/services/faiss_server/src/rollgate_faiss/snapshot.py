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
        if header["magic"] != MAGIC:
            msg = f"its magic is {header['magic']!r}, expected {MAGIC!r}"
            raise CorruptSnapshotError(msg)
        cut, size = int(header["index_bytes"]), int(header["documents_bytes"])
        if len(rest) != cut + size:
            msg = f"it has {len(rest)} bytes after its header, expected {cut + size}"
            raise CorruptSnapshotError(msg)
        index = faiss.deserialize_index(np.frombuffer(rest[:cut], dtype=np.uint8))
        documents = json.loads(rest[cut:])
        content = Content(index, list(documents["ids"]), list(documents["texts"]))
    except CorruptSnapshotError:
        raise
    except Exception as error:
        msg = f"it cannot be read: {type(error).__name__}"
        raise CorruptSnapshotError(msg) from error
    if not content.index.ntotal == len(content.ids) == len(content.texts):
        msg = f"{content.index.ntotal} vectors, {len(content.ids)} ids and {len(content.texts)} texts do not match"
        raise CorruptSnapshotError(msg)
    return content


def checksum_file(path: Path) -> Path:
    """Return the checksum file that stands beside a snapshot."""
    return path.with_name(path.name + ".sha256")


def recorded_checksum(path: Path) -> str:
    """Return the digest in the checksum file, or raise CorruptSnapshotError."""
    try:
        words = checksum_file(path).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"its checksum file cannot be read: {type(error).__name__}"
        raise CorruptSnapshotError(msg) from error
    if not words:
        msg = "its checksum file is empty"
        raise CorruptSnapshotError(msg)
    return words[0]


def verified_bytes(path: Path) -> bytes:
    """Return the file's bytes if they have the recorded digest, or raise CorruptSnapshotError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        msg = f"it cannot be read: {type(error).__name__}"
        raise CorruptSnapshotError(msg) from error
    found, expected = hashlib.sha256(raw).hexdigest(), recorded_checksum(path)
    if found != expected:
        msg = f"its SHA-256 is {found[:12]}..., recorded is {expected[:12]}..."
        raise CorruptSnapshotError(msg)
    return raw


def write(path: Path, content: Content) -> str:
    """Write a snapshot and its checksum file at a path of the caller's choice; return the digest."""
    raw = encode(content)
    digest = hashlib.sha256(raw).hexdigest()
    _replace(path, raw)
    _replace(checksum_file(path), f"{digest}  {path.name}\n".encode())
    return digest


def save(folder: Path, content: Content) -> Path:
    """Save into the server's folder, point `CURRENT` at it, prune old snapshots; return the snapshot's path."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(encode(content)).hexdigest()
    path = folder / f"index-{digest[:16]}.faiss"
    write(path, content)
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
