"""MiniLM under ONNX Runtime, as both Triton models and the set-up use it."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

MOST_TOKENS = 128
MOST_TEXTS = 16  # in one run: more only makes the padded batch larger
WIDTH = 384


class MiniLM:
    """Texts to vectors of length one. One thread: the machine's cores are shared by many services."""

    def __init__(self, folder: Path) -> None:
        """Load minilm.onnx and tokenizer.json from `folder`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            os.fspath(folder / "minilm.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(os.fspath(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MOST_TOKENS)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 [len(texts), 384]."""
        vectors = np.empty((len(texts), WIDTH), dtype=np.float32)
        # Texts of like length run together, so that little is computed for padding.
        encodings = self._tokenizer.encode_batch(list(texts))
        order = sorted(range(len(texts)), key=lambda place: len(encodings[place].ids))
        for start in range(0, len(order), MOST_TEXTS):
            places = order[start : start + MOST_TEXTS]
            vectors[places] = self._run([encodings[place].ids for place in places])
        return vectors

    def _run(self, rows: list[list[int]]) -> np.ndarray:
        longest = max(len(row) for row in rows)
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.float32)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return self._session.run(["EMBEDDING"], {"INPUT_IDS": ids, "MASK": mask})[0]
