"""The index in memory: vectors in FAISS, ids and texts beside them, and the state of its snapshot."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from rollgate_faiss import snapshot
from rollgate_faiss.keywords import Keywords

log = logging.getLogger("rollgate.faiss")
Vectors = npt.NDArray[np.float32]
RECHECK_S = 2.0


@dataclass(frozen=True, slots=True)
class Hits:
    """What a search found, best first: three lists of the same length."""

    ids: list[str]
    scores: list[float]
    texts: list[str]


class Store:
    """Documents of one index. Scores are inner products, so cosines for vectors of length one.

    `folder` takes the saves. `source` is the snapshot that is served, None while nothing has been saved.
    """

    def __init__(self, dimension: int, folder: Path) -> None:
        """Start empty with vectors of `dimension` floats."""
        faiss.omp_set_num_threads(1)
        self.folder = folder
        self.source: Path | None = None
        self.checksum = ""
        self.damage = ""
        self._checked = (-1.0, (0, 0, 0))
        self._take(snapshot.Content(faiss.IndexFlatIP(dimension), [], []))

    def _take(self, content: snapshot.Content) -> None:
        self._index, self._ids, self._texts = content.index, list(content.ids), list(content.texts)
        self._rows = {name: row for row, name in enumerate(self._ids)}
        self._keywords = Keywords(self._texts)

    @property
    def dimension(self) -> int:
        """Floats in a vector."""
        return int(self._index.d)

    @property
    def size_bytes(self) -> int:
        """Bytes that the vectors take."""
        return int(self._index.ntotal) * self.dimension * 4

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._ids)

    def add(self, ids: list[str], vectors: Vectors, texts: list[str]) -> int:
        """Add documents, one row of `vectors` each; a known id is replaced. Return how many were new."""
        fresh = [number for number, name in enumerate(ids) if name not in self._rows]
        known = [number for number, name in enumerate(ids) if name in self._rows]
        if known:
            self._replace(ids, vectors, texts, known)
        if fresh:
            self._index.add(np.ascontiguousarray(vectors[fresh]))
            for number in fresh:
                self._rows[ids[number]] = len(self._ids)
                self._ids.append(ids[number])
                self._texts.append(texts[number])
                self._keywords.append(texts[number])
        return len(fresh)

    def _replace(self, ids: list[str], vectors: Vectors, texts: list[str], numbers: list[int]) -> None:
        stored: Vectors = self._index.reconstruct_n(0, self._index.ntotal)
        for number in numbers:
            row = self._rows[ids[number]]
            stored[row] = vectors[number]
            self._texts[row] = texts[number] or self._texts[row]
        index = faiss.IndexFlatIP(self.dimension)
        index.add(stored)
        self._index = index
        self._keywords = Keywords(self._texts)

    def search(self, vector: Vectors, k: int) -> Hits:
        """Return the up to `k` nearest documents to a vector of shape [dimension]."""
        if not self._ids:
            return Hits([], [], [])
        scores, rows = self._index.search(vector.reshape(1, -1), min(k, len(self._ids)))
        return self._hits([(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True) if row >= 0])

    def search_words(self, query: str, k: int) -> Hits:
        """Return up to `k` documents that share words with the query, by BM25."""
        return self._hits(self._keywords.search(query, k))

    def _hits(self, found: list[tuple[int, float]]) -> Hits:
        rows = [row for row, _ in found]
        return Hits([self._ids[row] for row in rows], [score for _, score in found], [self._texts[row] for row in rows])

    def encoded(self) -> bytes:
        """Return the content of this moment as a snapshot."""
        return snapshot.encode(snapshot.Content(self._index, self._ids, self._texts))

    def saved(self, path: Path) -> None:
        """Name the snapshot that the content was saved to: /health watches that one from now on."""
        self._adopt(path)

    def load(self, path: Path) -> None:
        """Serve a snapshot after checking it whole. A damaged one leaves the former content and marks damage."""
        try:
            content = snapshot.decode(snapshot.verified_bytes(path))
        except snapshot.CorruptSnapshotError as error:
            self.source, self.damage = path, f"snapshot {path.name}: {error}"
            log.error("%s", self.damage)  # noqa: TRY400 (the cause is in the sentence; a traceback adds nothing)
            raise
        self._take(content)
        self._adopt(path)
        log.info("serving %d documents from %s", len(self), path)

    def _adopt(self, path: Path) -> None:
        self.source, self.damage = path, ""
        self.checksum = snapshot.recorded_checksum(path)
        self._checked = (time.monotonic(), _stamp(path))

    def sound(self) -> bool:
        """Tell whether index and documents match, and the snapshot on disk still has its recorded digest.

        The digest is computed again when the file changed, and every RECHECK_S seconds at most.
        """
        if not self._index.ntotal == len(self._ids) == len(self._texts):
            self.damage = f"{self._index.ntotal} vectors for {len(self._ids)} documents"
        elif self.source is not None:
            self._recheck(self.source)
        return not self.damage

    def _recheck(self, path: Path) -> None:
        now, stamp = time.monotonic(), _stamp(path)
        if stamp == self._checked[1] and now - self._checked[0] < RECHECK_S:
            return
        self._checked = (now, stamp)
        try:
            snapshot.verified_bytes(path)
        except snapshot.CorruptSnapshotError as error:
            self.damage = f"snapshot {path.name}: {error}"
            log.error("%s", self.damage)  # noqa: TRY400 (as above)
            return
        self.damage = ""


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
