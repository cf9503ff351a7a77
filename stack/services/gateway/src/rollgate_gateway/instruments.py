"""The gateway's metrics."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary

from rollgate_serving.metrics import new_registry

# A bound at every latency threshold of the system, so that a share above it is counted exactly.
DURATION_BOUNDS_S = (
    0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75,
    1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 10.0, 15.0,
)  # fmt: skip
STEP_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# The bounds that OpenTelemetry's conventions for generative AI advise.
GEN_AI_DURATION_BOUNDS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
GEN_AI_TOKEN_BOUNDS = (1, 4, 16, 64, 256, 1024, 4096, 16384)
ROUTES = ("/query", "/ingest")
OUTCOMES = ("ok", "error", "rejected")
STEPS = ("embed", "search", "rerank", "generate")
CACHES = ("embedding", "answer")


@dataclass(frozen=True, slots=True)
class Instruments:
    """The metrics, with the arm's labels bound and every child created at zero."""

    registry: CollectorRegistry
    requests: dict[tuple[str, str], Counter]
    duration_s: dict[str, Histogram]
    step_s: dict[str, Histogram]
    caches: dict[tuple[str, bool], Counter]
    quality: Summary
    gen_ai_duration_s: Histogram
    gen_ai_tokens: dict[str, Histogram]
    model_load_s: Counter

    def request(self, route: str, outcome: str, seconds: float) -> None:
        """Record a request; a rejected one has no duration, since nothing was served."""
        self.requests[route, outcome].inc()
        if outcome != "rejected":
            self.duration_s[route].observe(seconds)


def new_instruments(arm: str, version: str, model: str) -> Instruments:
    """Create the metrics with the labels arm and version on each."""
    labels = {"arm": arm, "version": version}
    registry, names = new_registry(labels), tuple(labels)
    requests = Counter("gateway_requests", "Requests by outcome.", ("route", "outcome", *names), registry=registry)
    duration = Histogram(
        "gateway_request_duration_seconds",
        "Time of a request, from its whole body to its answer.",
        ("route", *names),
        buckets=DURATION_BOUNDS_S,
        registry=registry,
    )
    step = Histogram(
        "gateway_step_duration_seconds",
        "Time of a step of a query, while advanced_monitoring is on.",
        ("step", *names),
        buckets=STEP_BOUNDS_S,
        registry=registry,
    )
    caches = Counter("gateway_cache_lookups", "Cache look-ups.", ("cache", "result", *names), registry=registry)
    quality = Summary(
        "gateway_quality_score", "The best returned document's re-rank score, 0 to 100.", names, registry=registry
    )
    return Instruments(
        registry=registry,
        requests={
            (route, outcome): requests.labels(route=route, outcome=outcome, **labels)
            for route in ROUTES
            for outcome in OUTCOMES
        },
        duration_s={route: duration.labels(route=route, **labels) for route in ROUTES},
        step_s={name: step.labels(step=name, **labels) for name in STEPS},
        caches={
            (name, hit): caches.labels(cache=name, result="hit" if hit else "miss", **labels)
            for name in CACHES
            for hit in (True, False)
        },
        quality=quality.labels(**labels),
        **_gen_ai(registry, labels, model),
    )


def _gen_ai(registry: CollectorRegistry, labels: dict[str, str], model: str) -> dict[str, object]:
    """Create the metrics that OpenTelemetry's conventions name."""
    common = {
        "gen_ai_operation_name": "text_completion",
        "gen_ai_provider_name": "ollama",
        "gen_ai_request_model": model,
        **labels,
    }
    duration = Histogram(
        "gen_ai_client_operation_duration_seconds",
        "Time of a call to the language model.",
        tuple(common),
        buckets=GEN_AI_DURATION_BOUNDS_S,
        registry=registry,
    )
    tokens = Histogram(
        "gen_ai_client_token_usage",
        "Tokens of a call to the language model.",
        ("gen_ai_token_type", *common),
        buckets=GEN_AI_TOKEN_BOUNDS,
        registry=registry,
    )
    loads = Counter(
        "gateway_model_load_seconds",
        "Time in which requests waited for the language model to be loaded.",
        ("model", *labels),
        registry=registry,
    )
    return {
        "model_load_s": loads.labels(model=model, **labels),
        "gen_ai_duration_s": duration.labels(**common),
        "gen_ai_tokens": {kind: tokens.labels(gen_ai_token_type=kind, **common) for kind in ("input", "output")},
    }
