"""The gateway's settings. Every one is an environment variable; docs stand in stack/services/README.md."""

from dataclasses import dataclass
from pathlib import Path

from rollgate_gateway.flags import FEATURES
from rollgate_serving.settings import Environment, SettingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Faults that a release may bring in by its public configuration; all off by default.

    Rates are shares in [0, 1] of the /query requests, drawn from `seed`. Factors multiply a request's time. With
    `switch` all but the crash act only while that file is there.
    """

    seed: int = 0
    error_rate: float = 0.0
    delay_ms: float = 0.0
    latency_factor: float = 1.0
    tail_rate: float = 0.0
    tail_factor: float = 1.0
    tail_ms: float = 0.0
    wrong_rate: float = 0.0
    leak_kb: float = 0.0
    crash_after_s: float = 0.0
    switch: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the gateway listens, who it is and whom it asks. Addresses are base URLs."""

    host: str
    port: int
    arm: str
    version: str
    faiss_url: str
    triton_url: str
    ollama_url: str
    ollama_model: str
    redis_url: str
    redis_password: str
    flags_file: Path | None
    flag_definitions: Path | None
    flag_overrides: dict[str, float]
    max_tokens: int
    upstream_timeout_s: float
    faults: Faults


def read(env: Environment) -> Settings:
    """Read and check every setting."""
    return Settings(
        host=env.text("GATEWAY_HOST", "127.0.0.1"),
        port=env.whole("GATEWAY_PORT", 8080, most=65535),
        arm=env.text("GATEWAY_ARM", "baseline"),
        version=env.text("GATEWAY_VERSION", "0"),
        faiss_url=env.base_url("GATEWAY_FAISS_URL"),
        triton_url=env.base_url("GATEWAY_TRITON_URL"),
        ollama_url=env.base_url("GATEWAY_OLLAMA_URL"),
        ollama_model=env.text("GATEWAY_OLLAMA_MODEL", "rollgate-tiny"),
        redis_url=env.text("GATEWAY_REDIS_URL", ""),
        redis_password=_secret(env.path("GATEWAY_REDIS_PASSWORD_FILE")),
        flags_file=env.path("GATEWAY_FLAGS_FILE"),
        flag_definitions=env.path("GATEWAY_FLAG_DEFINITIONS") or env.path("GATEWAY_FLAG_PARENTS"),
        flag_overrides=_overrides(env.text("GATEWAY_FLAG_OVERRIDES", "")),
        max_tokens=env.whole("GATEWAY_MAX_TOKENS", 8, least=1, most=4096),
        upstream_timeout_s=env.number("GATEWAY_UPSTREAM_TIMEOUT_S", 15.0, least=0.05, most=600),
        faults=_faults(env),
    )


def _faults(env: Environment) -> Faults:
    return Faults(
        seed=env.whole("GATEWAY_FAULT_SEED", 0),
        error_rate=env.number("GATEWAY_FAULT_ERROR_RATE", 0, least=0, most=1),
        delay_ms=env.number("GATEWAY_FAULT_DELAY_MS", 0, least=0, most=600_000),
        latency_factor=env.number("GATEWAY_FAULT_LATENCY_FACTOR", 1, least=1, most=1000),
        tail_rate=env.number("GATEWAY_FAULT_TAIL_RATE", 0, least=0, most=1),
        tail_factor=env.number("GATEWAY_FAULT_TAIL_FACTOR", 1, least=1, most=1000),
        tail_ms=env.number("GATEWAY_FAULT_TAIL_MS", 0, least=0, most=600_000),
        wrong_rate=env.number("GATEWAY_FAULT_WRONG_RATE", 0, least=0, most=1),
        leak_kb=env.number("GATEWAY_FAULT_LEAK_KB", 0, least=0, most=1024 * 1024),
        crash_after_s=env.number("GATEWAY_FAULT_CRASH_AFTER_S", 0, least=0, most=1e7),
        switch=env.path("GATEWAY_FAULT_SWITCH"),
    )


def _secret(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingError(f"GATEWAY_REDIS_PASSWORD_FILE cannot be read: {error}") from None


def _overrides(text: str) -> dict[str, float]:
    """Read "flag=percent,flag=percent"."""
    overrides: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = part.partition("=")
        try:
            percent = float(value)
        except ValueError:
            percent = -1.0
        if name.strip() not in FEATURES or not 0 <= percent <= 100:  # noqa: PLR2004 (percent)
            raise SettingError(
                f"GATEWAY_FLAG_OVERRIDES holds {part!r}; expected FLAG=PERCENT with FLAG one of {', '.join(FEATURES)}"
            )
        overrides[name.strip()] = percent
    return overrides
