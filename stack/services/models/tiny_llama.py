"""A Llama of half a megabyte with random weights, as GGUF: real tokens and real batching, no download.

Its vocabulary is the bytes, the printable characters, a few words with every beginning of theirs, so that the
tokenizer can build each word from the left, and the commonest letter pairs and triples of the corpus' topics, so that
a prompt has about half as many tokens as letters. Only the rows of those words in the output layer are not zero: the
likeliest token is always a word, never a stray byte or the end of the text, and a reply has the length asked for.
"""

import os
from collections import Counter
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

SEED = 7
WIDTH = 64
LAYERS = 2
HEADS = 4
FEED_FORWARD = 96
CONTEXT = 2048
SCALE = 0.08
PAIRS = 200
TRIPLES = 200
TOPICS = Path(__file__).with_name("topics.txt")
SPACE = "\u2581"
_TEXT = (
    "accelerator answer batch cache capacity cluster compute context data decoding document embedding error "
    "evidence index inference latency layer load memory metric model network pipeline query queue rank replica "
    "request result search service signal step stream system token traffic vector weight "
)
_WORDS = tuple(_TEXT.split())


def _vocabulary() -> tuple[list[str], list[float], list[int]]:
    """Return tokens, scores and types, in llama's order: control, bytes, characters, beginnings, words."""
    kinds = gguf.TokenType
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256]
    pieces = [SPACE, *(chr(code) for code in range(33, 127))]
    spaced = [SPACE + word for word in _WORDS]
    beginnings = {word[:end] for word in spaced for end in range(2, len(word) + 1)}
    pieces += sorted(beginnings | _common_pieces(), key=lambda piece: (len(piece), piece))
    # The tokenizer merges the pair with the best score first: longer beginnings score higher.
    scores = [0.0] * len(tokens) + [float(len(piece)) for piece in pieces]
    return tokens + pieces, scores, [int(kind) for kind in types] + [int(kinds.NORMAL)] * len(pieces)


def _common_pieces() -> set[str]:
    """Return the commonest pairs of letters, and the commonest triples that begin with such a pair."""
    text = SPACE + SPACE.join(TOPICS.read_text(encoding="utf-8").split())
    ranked = [Counter(text[at : at + size] for at in range(len(text) - size + 1)).most_common() for size in (2, 3)]
    pairs = [piece for piece, _ in ranked[0] if piece.strip(SPACE).isalpha()][:PAIRS]
    return {*pairs, *[piece for piece, _ in ranked[1] if piece[:2] in pairs and piece[2].isalpha()][:TRIPLES]}


def build(target: Path, seed: int = SEED) -> None:
    """Write the model; the same seed gives the same bytes."""
    tokens, scores, types = _vocabulary()
    writer = gguf.GGUFWriter(os.fspath(target), "llama")
    writer.add_name("rollgate-tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, values in _tensors(np.random.default_rng(seed), tokens).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(draws: np.random.Generator, tokens: list[str]) -> dict[str, npt.NDArray[np.floating]]:
    def random(*shape: int) -> npt.NDArray[np.float32]:
        return (draws.standard_normal(shape) * SCALE).astype(np.float32)

    ones = np.ones(WIDTH, dtype=np.float32)
    words = {SPACE + word for word in _WORDS}
    output = random(len(tokens), WIDTH)
    output[[token not in words for token in tokens]] = 0
    # The two tables over the vocabulary are most of the file: half precision for them.
    found: dict[str, npt.NDArray[np.floating]] = {
        "token_embd.weight": random(len(tokens), WIDTH).astype(np.float16),
        "output_norm.weight": ones,
        "output.weight": output.astype(np.float16),
    }
    for number in range(LAYERS):
        block = f"blk.{number}"
        found |= {f"{block}.attn_norm.weight": ones, f"{block}.ffn_norm.weight": ones}
        found |= {f"{block}.attn_{part}.weight": random(WIDTH, WIDTH) for part in ("q", "k", "v", "output")}
        found |= {f"{block}.ffn_{part}.weight": random(FEED_FORWARD, WIDTH) for part in ("gate", "up")}
        found[f"{block}.ffn_down.weight"] = random(WIDTH, FEED_FORWARD)
    return found
