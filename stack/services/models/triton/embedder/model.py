"""Triton model `embedder`: TEXT (rows of UTF-8) to EMBEDDING (384 floats, length one)."""

import json
import sys
from pathlib import Path
from typing import Any


def _parameter(args: dict[str, str], name: str) -> str:
    return json.loads(args["model_config"])["parameters"][name]["string_value"]


class TritonPythonModel:
    """Runs every request of a call of the scheduler in one batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Make the configured site-packages importable, then load the model; the stub ignores PYTHONPATH."""
        sys.path.insert(0, _parameter(args, "site_packages"))
        import stub_arrays  # noqa: PLC0415 (importable from here on)
        import triton_python_backend_utils as pb_utils  # noqa: PLC0415
        from minilm_session import MiniLM  # noqa: PLC0415

        self._pb_utils, self._arrays = pb_utils, stub_arrays
        self._model = MiniLM(Path(__file__).resolve().parent / _parameter(args, "model_folder"))
        self._model.embed(["warm up"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Embed the texts of all requests together."""
        asked = [self._arrays.texts(self._pb_utils.get_input_tensor_by_name(one, "TEXT")) for one in requests]
        vectors, start, responses = self._model.embed([text for texts in asked for text in texts]), 0, []
        for texts in asked:
            part = vectors[start : start + len(texts)]
            responses.append(self._arrays.result(self._pb_utils, "EMBEDDING", part))
            start += len(texts)
        return responses
