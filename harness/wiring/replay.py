"""A stored run judged again: under its own policy to the same judgements, under another to what would have been."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from harness import spec
from harness.adapters.evidence_files import KeptLook, read_evidence, read_looks
from harness.judge.suites import judge_suites
from harness.model.errors import SpecError
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.judgement import Judgement, overall
from harness.model.plan import StagePlan
from harness.model.status import ExitCode, Status, exit_code
from harness.model.system import System
from harness.planning.replay import Course, Outcome, Replay
from harness.run.driver import Judging
from harness.wiring.choices import choose_plan, compressed
from harness.wiring.judging import known_then
from harness.wiring.remote import PartJudge, as_judged
from harness.wiring.stored import read_verdict

_CODES = {
    Status.PASS: ExitCode.PROMOTED,
    Status.FAIL: ExitCode.RELEASE,
    Status.ERROR: ExitCode.ENVIRONMENT,
    Status.INCONCLUSIVE: ExitCode.NO_EVIDENCE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A stored run, read back. `plan` is as the file says, before the run's time scale."""

    verdict: dict[str, Any]
    system: System
    plan: StagePlan
    scale: float
    records: Sequence[Evidence]
    looks: Sequence[KeptLook]
    absent: tuple[Judgement, ...] = ()  # what its target had no source for

    @property
    def latency(self) -> str:
        """The client's finest latency signal, whose counts are the requests served; "" where there is none."""
        named = (s.name for s in self.system.signals if s.client and s.name.endswith(".latency"))
        found = next(named, "")
        return found and f"{found}.fine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What another policy would have made of a stored run, beside what its own did.

    `recorded_s` is how long the recorded rollout took, s; None where none took place.
    """

    decision: str
    cause: str
    reason: str
    recorded_s: float | None
    outcome: Outcome
    courses: tuple[Course, ...]
    claims: tuple[str, ...]
    judgements: tuple[Judgement, ...]

    @property
    def code(self) -> int:
        """The exit code that the gate would have ended in; "no evidence" where there is no decision."""
        outcome = self.outcome
        if outcome.decision is None or outcome.cause is None:
            return int(ExitCode.NO_EVIDENCE)
        return int(exit_code(outcome.decision, outcome.cause))


def read_run(run_dir: Path) -> Stored:
    """Read a stored run. Raises SpecError, naming file and line, for what is missing or broken."""
    verdict = read_verdict(run_dir)
    system, absent = as_judged(run_dir, spec.load_system(run_dir / "system"))
    try:
        name, scale = str(verdict["plan"]), _scale(verdict)
        _moment(verdict)
        _entered(verdict)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"lacks what a replay needs: {type(error).__name__}: {error}"
        where = str(run_dir / "verdict.json")
        raise SpecError(msg, where=where, mend="restore the file as the run left it") from error
    plan = choose_plan(system, "native", name)
    return Stored(
        verdict=verdict,
        system=system,
        plan=plan,
        scale=scale / plan.time_scale,
        records=list(read_evidence(run_dir)),
        looks=read_looks(run_dir),
        absent=absent,
    )


def _scale(verdict: dict[str, Any]) -> float:
    scale = float(verdict["time_scale"])
    if not (math.isfinite(scale) and scale > 0):
        msg = f"time_scale {scale:g}"
        raise ValueError(msg)
    return scale


def _moment(verdict: dict[str, Any]) -> str:
    text = str(verdict["started_at"])
    if datetime.fromisoformat(text).tzinfo is None:
        msg = f"started_at {text} is of no time zone"
        raise ValueError(msg)
    return text


def _entered(verdict: dict[str, Any]) -> tuple[dict[str, float], float]:
    """Return when each stage of the recorded rollout was entered, and when the last one ended; epoch seconds."""
    for name in ("decision", "cause", "reason"):
        str(verdict[name])
    stages = cast("list[dict[str, Any]]", verdict["stages"])
    entered = {str(stage["id"]): float(stage["started_at"]) for stage in stages}
    return entered, float(stages[-1]["ended_at"]) if stages else 0.0


def _judge(run_dir: Path, run: Stored, plan: StagePlan) -> tuple[Judging, tuple[str, ...]]:
    """Return the judge of a stored run, and what it claims of how it compares."""
    judge = known_then(run_dir, run.system, plan, _moment(run.verdict)).judge(run.system, plan)
    return PartJudge(judge, run.absent), judge.claims


def _looks(run: Stored, judge: Judging) -> Iterator[tuple[KeptLook, Sequence[Evidence], tuple[Judgement, ...]]]:
    """Yield each stored look with the evidence that came before it, and what the judge says then."""
    done = 0
    for look in run.looks:
        batch = run.records[done : look.after]
        judge.observe(batch)
        done = look.after
        yield look, batch, judge.look(at=look.at, stage=look.stage, final=look.final)


def judge_again(run_dir: Path) -> tuple[list[dict[str, Any]], int]:
    """Judge a stored run from its evidence, at the looks of the run; return judgements and exit code.

    Same evidence, same policy: the same judgements as in its verdict.json.
    """
    run = read_run(run_dir)
    judge, _ = _judge(run_dir, run, compressed(run.plan, run.scale))
    looks = _looks(run, judge)
    judgements = deque((said for _, _, said in looks), maxlen=1).pop() if run.looks else ()
    whole = _whole(run, judgements)
    return [asdict(j) for j in whole], int(_CODES[overall(whole)])


def _whole(run: Stored, judgements: tuple[Judgement, ...]) -> tuple[Judgement, ...]:
    smoke = judge_suites([r for r in run.records if r.source is Source.SUITE])
    ids = {j.id for j in smoke}
    return (*(j for j in judgements if j.id not in ids), *smoke)


def judge_by_policy(run_dir: Path, policy: Path) -> Replayed:
    """Judge a stored run again under the policy file; say what it would have come to, and when."""
    run = read_run(run_dir)
    plan = compressed(spec.apply_policy(policy, run.system, run.plan), run.scale)
    judge, claims = _judge(run_dir, run, plan)
    entered, ended = _entered(run.verdict)
    replay = Replay(plan, entered)
    requests, judgements = 0, tuple[Judgement, ...]()
    for look, batch, judgements in _looks(run, judge):
        requests += sum(r.n for r in batch if _served_by_candidate(r, run.latency))
        replay.look(at=look.at, stage=look.stage, final=look.final, judgements=judgements, requests=requests)
    return Replayed(
        decision=str(run.verdict["decision"]),
        cause=str(run.verdict["cause"]),
        reason=str(run.verdict["reason"]),
        recorded_s=ended - min(entered.values()) if entered else None,
        outcome=replay.finish(ended),
        courses=tuple(replay.courses.values()),
        claims=claims,
        judgements=_whole(run, judgements),
    )


def _served_by_candidate(record: Evidence, latency: str) -> bool:
    ours = record.signal == latency and record.source is Source.CLIENT and record.kind is Kind.HISTOGRAM
    return ours and record.arm is Arm.CANDIDATE
