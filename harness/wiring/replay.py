"""A stored run judged again: under its own policy to the same judgements, under another to what would have been."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from harness import spec
from harness.adapters.evidence_files import MEND, KeptLook, kept_digest, read_evidence, read_looks
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
from harness.wiring.judging import judge_then, known_then, this_judge
from harness.wiring.remote import PartJudge, as_judged
from harness.wiring.stored import read_verdict

_SOURCES = frozenset(source.value for source in Source)
_WORDS = frozenset({"reason", "remedy", "requirement"})
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
    """Read a stored run. SpecError, naming file and line, for what is missing, broken, or not as the run left it."""
    verdict = read_verdict(run_dir)
    system, absent = as_judged(run_dir, spec.load_system(run_dir / "system"))
    try:
        name, scale = str(verdict["plan"]), _scale(verdict)
        _moment(verdict)
        _entered(verdict)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"lacks what a replay needs: {type(error).__name__}: {error}"
        where = str(run_dir / "verdict.json")
        raise SpecError(msg, where=where, mend=MEND) from error
    plan = choose_plan(system, "native", name)
    run = Stored(
        verdict=verdict,
        system=system,
        plan=plan,
        scale=scale / plan.time_scale,
        records=list(read_evidence(run_dir)),
        looks=read_looks(run_dir),
        absent=absent,
    )
    _check_whole(run_dir, run)
    return run


def _check_whole(run_dir: Path, run: Stored) -> None:
    """Refuse a folder of which a part is lost: what is left of it may say something else."""
    folder = run_dir / "evidence"
    if run.looks and run.looks[-1].after > len(run.records):
        msg = f"{len(run.records)} records, but the last look came after {run.looks[-1].after}"
        raise SpecError(msg, where=str(folder / "judged.jsonl"), mend=MEND)
    if not run.looks and run.verdict["stages"]:
        msg = "no look, but the verdict tells of stages"
        raise SpecError(msg, where=str(folder / "looks.jsonl"), mend=MEND)
    told, found = run.verdict.get("evidence_digest"), kept_digest(run_dir)
    if told and told != found:
        msg = f"{found}, but the verdict rests on {str(told)[:80]}: this is not the evidence that the run left"
        raise SpecError(msg, where=str(folder / "judged.jsonl"), mend=MEND)


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

    Same evidence, same policy, same judge: the same judgements as in its verdict.json. A run that was never looked at
    has its suites' judgements alone, which can prove nothing but a failure.
    """
    run = read_run(run_dir)
    judge, _ = _judge(run_dir, run, compressed(run.plan, run.scale))
    looks = _looks(run, judge)
    judgements = deque((said for _, _, said in looks), maxlen=1).pop() if run.looks else ()
    whole = _whole(run, judgements)
    code = _CODES[overall(whole)]
    if not run.looks and code is ExitCode.PROMOTED:
        code = ExitCode.NO_EVIDENCE
    return [asdict(j) for j in whole], int(code)


def differences(run_dir: Path, judgements: Sequence[dict[str, Any]]) -> list[str]:
    """Return in what `judgements` differ from those of the stored verdict, a line each; none where nothing does.

    Raises SpecError where the verdict cannot be read.
    """
    listed = read_verdict(run_dir).get("judgements")
    recorded = cast("list[dict[str, Any]]", listed if isinstance(listed, list) else [])
    before = {_identity(one): _written(one) for one in recorded if isinstance(one, dict)}  # pyright: ignore[reportUnnecessaryIsInstance] - a file's
    now = {_identity(one): _written(one) for one in judgements}
    found: list[str] = []
    reworded = 0
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        name = f"{key[0]} ({key[1]})"
        if old is None or new is None:
            if key[1] in _SOURCES:  # what else a gate judges, as from its journal, is of no evidence
                found.append(
                    f"{name}: recorded as {old.get('status')}, not judged now" if old else f"{name}: not recorded"
                )
            continue
        fields = [field for field in new if field in old and old[field] != new[field]]  # an older one may hold fewer
        if set(fields) - _WORDS:
            found.append(f"{name}: recorded as {old.get('status')}, now {new['status']}; other: {', '.join(fields)}")
        reworded += bool(fields) and set(fields) <= _WORDS
    return [*found, f"{reworded} in their words alone"] if reworded else found


def recorded_by(run_dir: Path) -> tuple[str, str]:
    """Return in words which judge recorded a stored run's verdict, and which one this is."""
    return judge_then(run_dir) or "a rollgate that did not keep its version", this_judge()


def _identity(judgement: dict[str, Any]) -> tuple[str, str]:
    return str(judgement.get("id")), str(judgement.get("source"))


def _written(judgement: dict[str, Any]) -> dict[str, Any]:
    """Return a judgement as its verdict holds it: what is not finite is null there."""
    interval = judgement.get("interval")
    values = {**judgement, "estimate": _finite(judgement.get("estimate"))}
    return {**values, "interval": [_finite(end) for end in interval] if interval else None}


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
