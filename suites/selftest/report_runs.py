"""Seeded, made-up runs for the report's tests: evidence, events, cases and a verdict that fit together."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from harness.model.event import (
    Decided,
    Event,
    Looked,
    Noted,
    PhaseEnded,
    PhaseStarted,
    ServiceStarted,
    StageEnded,
    StageStarted,
    TrafficMoved,
)
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.judgement import Judgement, ServiceKind, ServiceRecord, StageRecord, Verdict
from harness.model.objective import Against, Measure, Objective
from harness.model.plan import Stage, StagePlan
from harness.model.status import Cause, Decision, Status, exit_code, merge
from harness.ports import Case

START = 1_760_000_000.0
BOUNDS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1, 0.15, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 8.0, 15.0)
SHARES = (10.0, 25.0, 50.0, 75.0, 100.0)
SECRET = "hunter2-redis-s3cr3t"  # noqa: S105 - planted, to be found nowhere in a report

PLAN = StagePlan(
    name="quick",
    stages=tuple(Stage(id=f"{s:.0f}", share=s, min_bake_s=6, max_bake_s=24) for s in SHARES),
    warmup_s=6,
    settle_s=0.5,
    deadline_s=180,
    load_rate=40,
    claims=(
        "p95 no worse than 1.5 x the baseline's and errors at most 2 points above it, at 99 % confidence",
        "a load of 40 requests a second on one machine: nothing about capacity",
    ),
)

OBJECTIVES = (
    Objective(id="rf.rollout.error_rate", requirement="error rate <= 5 %", signal="query.error",
              measure=Measure.RATIO, threshold=5, unit="%", sources=(Source.CLIENT, Source.PROMETHEUS)),
    Objective(id="rf.rollout.latency_p95", requirement="p95 latency <= 5000 ms", signal="query.latency",
              measure=Measure.QUANTILE, quantile=0.95, threshold=5000, unit="ms",
              sources=(Source.CLIENT, Source.PROMETHEUS)),
    Objective(id="rf.rollout.latency_p99", requirement="p99 latency <= 8000 ms", signal="query.latency",
              measure=Measure.QUANTILE, quantile=0.99, threshold=8000, unit="ms", sources=(Source.CLIENT,)),
    Objective(id="rf.canary.errors", requirement="the candidate's error rate is at most 2 points above the baseline's",
              signal="query.error", measure=Measure.RATIO, against=Against.BASELINE, threshold=2, unit="points"),
    Objective(id="rf.canary.latency_p95", requirement="the candidate's p95 is at most 50 % above the baseline's",
              signal="query.latency", measure=Measure.QUANTILE, quantile=0.95, against=Against.BASELINE,
              threshold=50, unit="%"),
    Objective(id="rf.canary.wrong", requirement="wrong answers at most 2 points more often than the baseline",
              signal="query.wrong", measure=Measure.RATIO, against=Against.BASELINE, threshold=2, unit="points"),
)  # fmt: skip

SERVICES = (
    ("prometheus", "real", "2.42.0", 0.1, ""),
    ("redis", "real", "7.0.15", 0.1, ""),
    ("router", "real", "HAProxy 2.6.12", 0.1, ""),
    ("alertmanager", "real", "0.25.0", 0.2, ""),
    ("triton", "real", "2.51.0", 1.6, ""),
    ("faiss", "real", "1.12.0", 0.6, ""),
    ("ollama", "stand_in", "xllamacpp 2025.9", 0.9, "Ollama's API over llama.cpp, where no ollama is on PATH"),
    ("gateway", "real", "baseline 1.4.2, candidate 1.5.0", 0.5, ""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeRun:
    """One made-up run, whole."""

    verdict: Verdict
    evidence: tuple[Evidence, ...]
    events: tuple[Event, ...]
    cases: tuple[Case, ...]
    log_tails: dict[str, str]


def utc(at: float) -> str:
    """Return seconds since the epoch as the verdict writes instants."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def made_run(*, bad: bool = False, seed: int = 7) -> MadeRun:
    """Make a run: promoted when good; when bad, rolled back at 25 % for errors and a slow tail."""
    maker = _Maker(bad=bad, seed=seed)
    maker.make()
    return MadeRun(
        verdict=maker.verdict(),
        evidence=tuple(maker.evidence),
        events=tuple(maker.events),
        cases=_cases(),
        log_tails=_logs(bad=bad),
    )


class _Maker:
    def __init__(self, *, bad: bool, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.bad = bad
        self.at = START
        self.evidence: list[Evidence] = []
        self.events: list[Event] = []
        self.stages: list[StageRecord] = []
        self.n: dict[tuple[Arm, str], int] = {}
        self.final: tuple[Judgement, ...] = ()

    def make(self) -> None:
        self._bring_up()
        self.events.append(PhaseStarted(name="warmup", at=self.at))
        for _ in range(6):
            self._second("warmup", 0.0)
        self.events.append(PhaseEnded(name="warmup", at=self.at, ok=True))
        self.events.append(PhaseStarted(name="rollout", at=self.at, detail="plan quick"))
        lengths = (6, 9) if self.bad else (6, 6, 9, 12, 24)
        before = 0.0
        for share, seconds in zip(SHARES, lengths, strict=False):
            self._stage(before, share, seconds, last=share == SHARES[len(lengths) - 1])
            before = share
        why = "a guardrail failed" if self.bad else "every guardrail was settled"
        if self.bad:
            self.events.append(TrafficMoved(before=before, after=0.0, why=why, at=self.at))
        self.events.append(PhaseEnded(name="rollout", at=self.at, ok=not self.bad))
        self.events.append(Decided(verdict=self.verdict(), at=self.at))

    def _bring_up(self) -> None:
        self.events.append(PhaseStarted(name="stack", at=self.at, detail="8 services"))
        for name, kind, version, seconds, _note in SERVICES:
            self.events.append(
                ServiceStarted(name=name, at=self.at + seconds, seconds=seconds, kind=kind, version=version)
            )
        self.at += 6.0
        self.events += [PhaseEnded(name="stack", at=self.at, ok=True), PhaseStarted(name="smoke", at=self.at)]
        self.at += 3.0
        self.events.append(PhaseEnded(name="smoke", at=self.at, ok=True, detail="14 passed, 1 skipped"))
        self.events.append(Noted(text="no GPU on this machine: 3 checks do not apply", at=self.at))

    def _stage(self, before: float, share: float, seconds: int, *, last: bool) -> None:
        began = self.at
        stage = f"{share:.0f}"
        self.events.append(TrafficMoved(before=before, after=share, why="next stage", at=self.at))
        self.events.append(StageStarted(stage=stage, share=share, at=self.at))
        for second in range(seconds):
            fresh = self._second(stage, share / 100)
            judged = self._judgements(stage, done=last and second == seconds - 1)
            self.events.append(Looked(stage=stage, at=self.at, judgements=judged, evidence=fresh))
            self.final = judged
        failed = last and self.bad
        record = StageRecord(
            id=stage, share=share, started_at=began, ended_at=self.at,
            status=Status.FAIL if failed else Status.PASS,
            n_baseline=self.n.get((Arm.BASELINE, stage), 0), n_candidate=self.n.get((Arm.CANDIDATE, stage), 0),
            p95_baseline_ms=41.5, p95_candidate_ms=188.0 if self.bad else 43.1,
            reason="rf.canary.errors failed" if failed else "",
        )  # fmt: skip
        self.stages.append(record)
        self.events.append(StageEnded(record=record, at=self.at))

    def _second(self, stage: str, share: float) -> tuple[Evidence, ...]:
        effective = min(share, 0.95)
        fresh: list[Evidence] = []
        for arm, part in ((Arm.BASELINE, 1 - effective), (Arm.CANDIDATE, effective)):
            n = int(self.random.poisson(40 * part)) if part else 0
            self.n[arm, stage] = self.n.get((arm, stage), 0) + n
            fresh += self._signals(arm, stage, share, n)
        sessions = int(self.random.poisson(9))
        moved = int(self.random.binomial(sessions, effective))
        fresh.append(
            Evidence(kind=Kind.ASSIGNMENT, source=Source.CLIENT, signal="assignment", start_s=self.at,
                     end_s=self.at + 1, unit=Unit.SESSION, stage=stage, share=share, n=sessions, bad=moved)
        )  # fmt: skip
        self.evidence += fresh
        self.at += 1.0
        return tuple(fresh)

    def _signals(self, arm: Arm, stage: str, share: float, n: int) -> list[Evidence]:
        ill = self.bad and arm is Arm.CANDIDATE
        seconds = self.random.lognormal(np.log(0.019), 0.48, n)
        if ill:
            seconds = np.where(self.random.random(n) < 0.12, seconds * 9, seconds * 1.25)
        counts = np.histogram(seconds, bins=(-np.inf, *BOUNDS, np.inf))[0]
        bad = int(self.random.binomial(n, 0.11 if ill else 0.002))
        wrong = int(self.random.binomial(n, 0.03 if ill else 0.004))
        made: list[Evidence] = []
        for signal, kind, extra in (
            ("query.latency", Kind.HISTOGRAM, {"bounds": BOUNDS, "counts": tuple(int(c) for c in counts)}),
            ("query.error", Kind.EVENTS, {"bad": bad}),
            ("query.wrong", Kind.EVENTS, {"bad": wrong}),
        ):
            made.append(
                Evidence(kind=kind, source=Source.CLIENT, signal=signal, start_s=self.at, end_s=self.at + 1,
                         arm=arm, stage=stage, share=share, n=n, **extra)
            )  # fmt: skip
        return made

    def _judgements(self, stage: str, *, done: bool) -> tuple[Judgement, ...]:
        n = self.n.get((Arm.CANDIDATE, stage), 0) + 1
        open_status = Status.PASS if done else Status.INCONCLUSIVE
        return _bad_judgements(n, done=done) if self.bad else _good_judgements(n, open_status)

    def verdict(self) -> Verdict:
        status = merge(j.status for j in self.final if j.severity == "critical")
        decision, cause = (Decision.ROLLBACK, Cause.RELEASE) if self.bad else (Decision.PROMOTE, Cause.PROOF)
        return Verdict(
            run_id="rf-20251009-085320-bad" if self.bad else "rf-20251009-085320-good",
            system="researchflow",
            baseline="baseline",
            candidate="bad-errors" if self.bad else "good",
            decision=decision,
            cause=cause,
            status=status,
            exit_code=exit_code(decision, cause),
            rehearsal=True,
            plan="quick",
            started_at=utc(START),
            finished_at=utc(self.at + 4),
            evidence_digest="sha256:" + hashlib.sha256(str(self.evidence).encode()).hexdigest(),
            reason=(
                "rf.canary.errors failed at stage 25: 11.2 points more errors than the baseline, at most 2 allowed"
                if self.bad
                else "all 10 critical objectives hold through 100 %"
            ),
            claims=PLAN.claims,
            stages=tuple(self.stages),
            judgements=self.final,
            services=tuple(
                ServiceRecord(name=name, kind=ServiceKind(kind), version=version, note=note)
                for name, kind, version, _seconds, note in SERVICES
            ),
            time_scale=1.0,
            seed=7,
            provider="native",
            waivers=(
                {
                    "id": "rf.alert.network_traffic",
                    "reason": "loopback only, no interface of its own",
                    "who": "ops@example.org",
                    "until": "2025-12-31",
                },
            ),
        )


def _j(id_: str, requirement: str, threshold: float | None, unit: str, **more: object) -> Judgement:
    values: dict[str, object] = {"status": Status.PASS, "source": "client", **more}
    return Judgement(id=id_, requirement=requirement, threshold=threshold, unit=unit, **values)  # type: ignore[arg-type]


def _always() -> tuple[Judgement, ...]:
    return (
        _j("rf.rollout.availability", "every service's HTTP health endpoint answers", 100, "%", source="probe",
           estimate=100.0, n=412),
        _j("rf.rollout.service_health", "every service-specific check holds", 100, "%", source="probe",
           estimate=100.0, n=309),
        _j("rf.rollout.metrics", "Prometheus collects every metric that the checks need", None, "",
           source="prometheus", n=9),
        _j("rf.rollout.assignment", "the router sends the configured share of sessions to the candidate", 10, "%",
           estimate=9.6, interval=(7.1, 12.7), n=512),
        _j("rf.gpu.visible", "the declared GPUs are visible", None, "", status=Status.NOT_APPLICABLE, source="probe",
           reason="the native provider's inventory declares no GPU"),
        _j("rf.alert.ollama_gpu_unavailable", "no alert: no GPU visible for 2m", None, "",
           status=Status.NOT_APPLICABLE, source="prometheus", reason="the inventory declares no GPU"),
    )  # fmt: skip


def _good_judgements(n: int, state: Status) -> tuple[Judgement, ...]:
    needed = None if state is Status.PASS else max(0, 900 - n)
    why = "" if state is Status.PASS else "the interval still reaches over the margin"
    return (
        _j("rf.rollout.error_rate", "error rate <= 5 %", 5, "%", estimate=0.21, interval=(0.05, 0.9), n=n),
        _j("rf.rollout.error_rate", "error rate <= 5 %", 5, "%", source="prometheus", estimate=0.22,
           interval=(0.05, 0.95), n=n - 3 if n > 3 else 0),
        _j("rf.rollout.latency_p95", "p95 latency <= 5000 ms", 5000, "ms", estimate=43.1, interval=(39.0, 60.0), n=n),
        _j("rf.rollout.latency_p99", "p99 latency <= 8000 ms", 8000, "ms", estimate=66.0, interval=(58.0, 150.0), n=n),
        _j("rf.canary.errors", OBJECTIVES[3].requirement, 2, "points", status=state, estimate=0.04,
           interval=(-0.6, 1.1), n=n, needed=needed, reason=why),
        _j("rf.canary.latency_p95", OBJECTIVES[4].requirement, 50, "%", status=state, estimate=3.8,
           interval=(-7.5, 19.0), n=n, needed=needed, reason=why),
        _j("rf.canary.wrong", OBJECTIVES[5].requirement, 2, "points", status=state, estimate=-0.1,
           interval=(-0.9, 1.0), n=n, needed=needed, reason=why),
        *_always(),
    )  # fmt: skip


def _bad_judgements(n: int, *, done: bool) -> tuple[Judgement, ...]:
    fail = Status.FAIL if done else Status.INCONCLUSIVE
    return (
        _j("rf.rollout.error_rate", "error rate <= 5 %", 5, "%", status=fail, estimate=11.4, interval=(6.9, 17.3), n=n,
           stage="25", reason=f"{round(n * 0.114)} of {n} requests failed",
           remedy="read the candidate's log under logs/ and mend the errors it names"),
        _j("rf.rollout.error_rate", "error rate <= 5 %", 5, "%", source="prometheus", status=fail, estimate=11.6,
           interval=(6.8, 17.9), n=n, stage="25", reason="the gateway counted the same errors",
           remedy="read the candidate's log under logs/ and mend the errors it names"),
        _j("rf.canary.errors", OBJECTIVES[3].requirement, 2, "points", status=fail, estimate=11.2,
           interval=(6.6, 17.1), n=n, stage="25", reason="the candidate fails where the baseline does not",
           remedy="compare the two arms' logs for the same minute"),
        _j("rf.rollout.latency_p95", "p95 latency <= 5000 ms", 5000, "ms", estimate=188.0, interval=(150.0, 240.0),
           n=n),
        _j("rf.rollout.latency_p99", "p99 latency <= 8000 ms", 8000, "ms", status=Status.INCONCLUSIVE,
           severity="warning", estimate=310.0, interval=(200.0, 15000.0), n=n, needed=340,
           reason="too few requests to bound the tail", remedy="bake longer, or raise the load"),
        _j("rf.canary.latency_p95", OBJECTIVES[4].requirement, 50, "%", status=Status.INCONCLUSIVE, estimate=352.0,
           interval=(31.0, 480.0), n=n, needed=60, reason="the interval reaches over the margin",
           remedy="bake longer, or raise the load"),
        _j("rf.canary.wrong", OBJECTIVES[5].requirement, 2, "points", status=Status.INCONCLUSIVE, estimate=2.7,
           interval=(-0.4, 6.8), n=n, needed=410, reason="the interval reaches over the margin"),
        _j("rf.slo.leak", "resident memory grows by at most 5 MB a minute", 5, "MB/min", source="prometheus",
           status=Status.ERROR, severity="warning", reason="no sample of the candidate's memory came in",
           remedy="check the gateway's scrape target in Prometheus"),
        *_always(),
    )  # fmt: skip


def _cases() -> tuple[Case, ...]:
    path = "suites/conformance/test_services.py"
    return (
        Case(name=f"{path}::test_redis_answers_ping[rf.svc.redis]", outcome="passed", covers=("rf.svc.redis",),
             message="", seconds=0.02),
        Case(name=f"{path}::test_triton_is_ready[rf.svc.triton]", outcome="passed",
             covers=("rf.svc.triton", "rf.rollout.service_health"), message="", seconds=0.31, arm="candidate"),
        Case(name=f"{path}::test_scrape_job_is_up[rf.scrape.cadvisor]", outcome="skipped",
             covers=("rf.scrape.cadvisor",), message="the native provider's inventory has no cAdvisor", seconds=0.0),
        Case(name="suites/smoke/test_gateway.py::test_a_query_is_answered", outcome="passed", covers=(),
             message="", seconds=0.12, arm="candidate"),
    )  # fmt: skip


def _logs(*, bad: bool) -> dict[str, str]:
    lines = ["INFO started on 127.0.0.1:41873", f"INFO redis redis://:{SECRET}@127.0.0.1:6379/0 connected"]
    lines += ['ERROR query failed: <Upstream & "reranker"> answered 500'] * 6 if bad else ["INFO GET /health 200"]
    return {
        "gateway[candidate]": "\n".join(lines),
        "gateway[baseline]": "INFO started on 127.0.0.1:40211\nINFO GET /health 200",
        "router": "[NOTICE] haproxy version is 2.6.12\nnew limit 1000",
    }


if __name__ == "__main__":  # renews the golden report
    from pathlib import Path
    from shutil import rmtree
    from tempfile import mkdtemp

    from harness.report.files import write_all

    run, made = made_run(bad=True), Path(mkdtemp())
    write_all(run.verdict, made, evidence=run.evidence, cases=run.cases, log_tails=run.log_tails, events=run.events,
              objectives=OBJECTIVES)  # fmt: skip
    golden = Path(__file__).resolve().parents[2] / "reports" / "golden"
    golden.mkdir(parents=True, exist_ok=True)
    for name in ("verdict.json", "summary.md", "junit.xml", "report.html"):
        (golden / name).write_bytes((made / name).read_bytes())
    rmtree(made)
