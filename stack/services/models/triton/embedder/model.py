"""Triton model `embedder`: TEXT (strings) to EMBEDDING (384 floats, length one)."""

import json
import sys
from pathlib import Path


def _parameter(args, name):
    return json.loads(args["model_config"])["parameters"][name]["string_value"]


class TritonPythonModel:
    """Runs every request of a call of the scheduler in one batch."""

    def initialize(self, args):
        """Make the configured site-packages importable, then load the model; the stub ignores PYTHONPATH."""
        sys.path.insert(0, _parameter(args, "site_packages"))
        from minilm_session import MiniLM

        self._model = MiniLM(Path(_parameter(args, "model_folder")))
        self._model.embed(["warm up"])

    def execute(self, requests):
        """Embed the texts of all requests together."""
        import triton_python_backend_utils as pb_utils

        texts, sizes = [], []
        for request in requests:
            rows = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
            texts.extend(row.decode("utf-8", "replace") for row in rows)
            sizes.append(len(rows))
        vectors, start, responses = self._model.embed(texts), 0, []
        for size in sizes:
            part = pb_utils.Tensor("EMBEDDING", vectors[start : start + size])
            responses.append(pb_utils.InferenceResponse(output_tensors=[part]))
            start += size
        return responses
