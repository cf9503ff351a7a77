"""The language model behind the gateway."""

from dataclasses import dataclass

from rollgate_gateway.http import Http, UpstreamError


@dataclass(frozen=True, slots=True)
class Generated:
    """A text that Ollama made, of how many tokens, and how long the model had to be loaded first."""

    text: str
    prompt_tokens: int
    tokens: int
    load_s: float


class Ollama:
    """The language model."""

    def __init__(self, http: Http, url: str, model: str) -> None:
        """Ask for `model` at `url`."""
        self._http, self._url, self.model = http, url, model

    async def generate(self, prompt: str, most_tokens: int) -> Generated:
        """Return a completion of at most `most_tokens` tokens, the likeliest ones (temperature 0)."""
        body = {
            "model": self.model,
            "prompt": prompt,
            "stream": False,
            "options": {"num_predict": most_tokens, "temperature": 0, "seed": 0},
        }
        answer = await self._http.post_json("ollama", f"{self._url}/api/generate", body)
        if not isinstance(answer.get("response"), str):
            raise UpstreamError("ollama", "answered without a response")
        return Generated(
            answer["response"],
            int(answer.get("prompt_eval_count") or 0),
            int(answer.get("eval_count") or 0),
            int(answer.get("load_duration") or 0) / 1e9,
        )
