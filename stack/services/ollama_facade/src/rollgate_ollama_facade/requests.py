"""Ollama's request bodies, checked and turned into llama.cpp's."""

from dataclasses import dataclass
from typing import Any

from rollgate_serving.body import BadRequest, is_number, list_field, text_field

MOST_PROMPT = 200_000
MOST_MESSAGES = 500
MOST_TOKENS = 4096
DEFAULT_TOKENS = 128
# Ollama's name -> llama.cpp's, with the range that is let through.
_OPTIONS: dict[str, tuple[str, float, float]] = {
    "temperature": ("temperature", 0.0, 10.0),
    "top_p": ("top_p", 0.0, 1.0),
    "top_k": ("top_k", 0, 100_000),
    "min_p": ("min_p", 0.0, 1.0),
    "seed": ("seed", -(2**31), 2**32 - 1),
    "repeat_penalty": ("repeat_penalty", 0.0, 10.0),
}
_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Asked:
    """A generation that a client asked for. An empty `engine` body only loads the model."""

    model: str
    stream: bool
    engine: dict[str, Any]


def generate(body: dict[str, Any]) -> Asked:
    """Read a body of /api/generate."""
    prompt = text_field(body, "prompt", most=MOST_PROMPT, required=False)
    system = text_field(body, "system", most=MOST_PROMPT, required=False)
    whole = f"{system}\n\n{prompt}" if system and prompt else prompt
    engine = {"prompt": whole, **_options(body)} if prompt else {}
    return Asked(text_field(body, "model", most=200), _stream(body), engine)


def chat(body: dict[str, Any]) -> Asked:
    """Read a body of /api/chat."""
    model = text_field(body, "model", most=200)
    messages = [
        _message(value, number)
        for number, value in enumerate(list_field(body, "messages", most=MOST_MESSAGES, required=False))
    ]
    engine = {"messages": messages, **_options(body)} if messages else {}
    return Asked(model, _stream(body), engine)


def _message(value: object, number: int) -> dict[str, str]:
    if not isinstance(value, dict):
        raise BadRequest(f"`messages[{number}]` must be an object with role and content")
    role = text_field(value, "role", most=20)
    if role not in _ROLES:
        raise BadRequest(f"`messages[{number}].role` is {role!r}; expected one of {', '.join(_ROLES)}")
    return {"role": role, "content": text_field(value, "content", most=MOST_PROMPT, required=False)}


def _stream(body: dict[str, Any]) -> bool:
    value = body.get("stream", True)
    if not isinstance(value, bool):
        raise BadRequest("`stream` must be true or false")
    return value


def _options(body: dict[str, Any]) -> dict[str, Any]:
    options = body.get("options") or {}
    if not isinstance(options, dict):
        raise BadRequest("`options` must be an object")
    engine: dict[str, Any] = {"max_tokens": _tokens(options.get("num_predict"))}
    for name, (theirs, least, most) in _OPTIONS.items():
        if (value := options.get(name)) is None:
            continue
        if not is_number(value) or not least <= value <= most:
            raise BadRequest(f"`options.{name}` must be a number from {least:g} to {most:g}")
        engine[theirs] = int(value) if isinstance(least, int) else float(value)
    if (stop := options.get("stop")) is not None:
        words = stop if isinstance(stop, list) else [stop]
        if not all(isinstance(word, str) and word for word in words):
            raise BadRequest("`options.stop` must be a string or a list of strings")
        engine["stop"] = words
    return engine


def _tokens(value: object) -> int:
    """Return how many tokens to make; Ollama's -1 and -2 (no limit, fill the context) mean the most we allow."""
    if value is None:
        return DEFAULT_TOKENS
    if isinstance(value, bool) or not isinstance(value, int) or not -2 <= value <= 2**31:  # noqa: PLR2004 (Ollama's -2)
        raise BadRequest("`options.num_predict` must be a whole number, -2 or more")
    return min(value, MOST_TOKENS) if value >= 0 else MOST_TOKENS
