"""MiniLM (a six-layer BERT) as an ONNX graph, built from its published weights.

The graph takes INPUT_IDS int64 [batch, tokens] and MASK float32 [batch, tokens], and gives EMBEDDING float32
[batch, 384]: the mean of the last layer over the tokens of each text, scaled to length one.
"""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

LAYERS = 6
HEADS = 12
WIDTH = 384
HEAD_WIDTH = WIDTH // HEADS
EPSILON = 1e-12
OPSET = 20  # the first with Gelu
IR_VERSION = 10
MASKED = -1e9
Array = npt.NDArray[np.float32]


class _Graph:
    """Collects nodes and constants under fresh names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        self.constants[name] = numpy_helper.from_array(np.require(value, requirements="C"), name)
        return name

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def linear(self, name: str, value: str, weight: Array, bias: Array) -> str:
        """Add x W + b, for a weight of shape [in, out]."""
        product = self.op("MatMul", value, self.constant(f"{name}.weight", weight))
        return self.op("Add", product, self.constant(f"{name}.bias", bias))

    def normalise(self, name: str, value: str, weights: dict[str, Array]) -> str:
        scale = self.constant(f"{name}.scale", weights[f"{name}.weight"])
        shift = self.constant(f"{name}.shift", weights[f"{name}.bias"])
        return self.op("LayerNormalization", value, scale, shift, axis=-1, epsilon=EPSILON)


def build(weights_file: Path, target: Path) -> None:
    """Write the ONNX graph of the weights in `weights_file` (safetensors) to `target`."""
    weights: dict[str, Array] = load_file(weights_file)
    graph = _Graph()
    hidden = _embed(graph, weights)
    mask = _attention_mask(graph)
    for number in range(LAYERS):
        hidden = _layer(graph, f"encoder.layer.{number}", hidden, mask, weights)
    _pool(graph, hidden)
    batch = ["batch", "tokens"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "minilm",
            [
                helper.make_tensor_value_info("INPUT_IDS", TensorProto.INT64, batch),
                helper.make_tensor_value_info("MASK", TensorProto.FLOAT, batch),
            ],
            [helper.make_tensor_value_info("EMBEDDING", TensorProto.FLOAT, ["batch", WIDTH])],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="rollgate",
    )
    onnx.checker.check_model(model)
    onnx.save_model(model, str(target))


def _embed(graph: _Graph, weights: dict[str, Array]) -> str:
    words = graph.constant("words", weights["embeddings.word_embeddings.weight"])
    # Every text is one segment, so the segment's vector is folded into the positions'.
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    graph.constant("places", places)
    shape = graph.op("Shape", "INPUT_IDS")
    length = graph.op("Slice", shape, graph.constant("one", np.array([1])), graph.constant("two", np.array([2])))
    zero = graph.constant("zero", np.array([0]))
    position = graph.op("Slice", "places", zero, length, zero)
    total = graph.op("Add", graph.op("Gather", words, "INPUT_IDS"), position)
    return graph.normalise("embeddings.LayerNorm", total, weights)


def _attention_mask(graph: _Graph) -> str:
    """Give 0 for tokens and MASKED for padding, in shape [batch, 1, 1, tokens]."""
    wide = graph.op("Unsqueeze", "MASK", graph.constant("middle", np.array([1, 2])))
    inverse = graph.op("Sub", graph.constant("float_one", np.array(1, dtype=np.float32)), wide)
    return graph.op("Mul", inverse, graph.constant("masked", np.array(MASKED, dtype=np.float32)))


def _layer(graph: _Graph, name: str, hidden: str, mask: str, weights: dict[str, Array]) -> str:
    attended = _attention(graph, f"{name}.attention", hidden, mask, weights)
    output = weights[f"{name}.attention.output.dense.weight"].T
    projected = graph.linear(f"{name}.project", attended, output, weights[f"{name}.attention.output.dense.bias"])
    middle = graph.normalise(f"{name}.attention.output.LayerNorm", graph.op("Add", projected, hidden), weights)
    up, down = f"{name}.intermediate.dense", f"{name}.output.dense"
    wide = graph.op("Gelu", graph.linear(f"{name}.up", middle, weights[f"{up}.weight"].T, weights[f"{up}.bias"]))
    narrow = graph.linear(f"{name}.down", wide, weights[f"{down}.weight"].T, weights[f"{down}.bias"])
    return graph.normalise(f"{name}.output.LayerNorm", graph.op("Add", narrow, middle), weights)


def _attention(graph: _Graph, name: str, hidden: str, mask: str, weights: dict[str, Array]) -> str:
    """Query, key and value in one product; the query carries the scale 1/sqrt(head width)."""
    scale = np.float32(1 / math.sqrt(HEAD_WIDTH))
    parts = [(weights[f"{name}.self.{part}.weight"].T, weights[f"{name}.self.{part}.bias"]) for part in _PARTS]
    (query_weight, query_bias), *others = parts
    scaled = [(query_weight * scale, query_bias * scale), *others]
    joint = graph.linear(
        f"{name}.joint", hidden, np.concatenate([weight for weight, _ in scaled], axis=1),
        np.concatenate([bias for _, bias in scaled]),
    )  # fmt: skip
    heads = graph.op("Reshape", joint, graph.constant("heads", np.array([0, 0, 3, HEADS, HEAD_WIDTH])))
    ordered = graph.op("Transpose", heads, perm=[2, 0, 3, 1, 4])
    query, key, value = (
        graph.op("Gather", ordered, graph.constant(f"part_{part}", np.array(part)), axis=0) for part in range(3)
    )
    scores = graph.op("Add", graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2])), mask)
    mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
    together = graph.op("Transpose", mixed, perm=[0, 2, 1, 3])
    return graph.op("Reshape", together, graph.constant("width", np.array([0, 0, WIDTH])))


_PARTS = ("query", "key", "value")


def _pool(graph: _Graph, hidden: str) -> None:
    """Average over the tokens that are no padding, then scale to length one."""
    last = graph.constant("last", np.array([-1]))
    weight = graph.op("Unsqueeze", "MASK", last)
    over_tokens = graph.constant("over_tokens", np.array([1]))
    total = graph.op("ReduceSum", graph.op("Mul", hidden, weight), over_tokens, keepdims=0)
    mean = graph.op("Div", total, graph.op("ReduceSum", weight, over_tokens, keepdims=0))
    length = graph.op("ReduceL2", mean, last, keepdims=1)
    graph.op("Div", mean, length, output="EMBEDDING")
