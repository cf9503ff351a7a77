"""promtool's unit tests as data: input series, rule files, and questions whose answers tell what fired when."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.model.rule import Rule
from harness.planning.promql.steady import Labels
from harness.planning.rules.cases import Pace, Proof, Run
from harness.planning.rules.levels import Layout, decoyed
from harness.planning.rules.mutate import Mutant

# The rule itself, its expression without `for`, and an alert that always fires: a run that it is missing from was never
# evaluated, or promtool's answer is no longer understood.
_FEW = 4
ORIGINAL, PROBE, ALWAYS = "R", "P", "S"
_FIRST, _MID, _LATE, _END = (f"{op} by (alertname)" for op in ("min", "group", "sum", "count"))
_KINDS = (_FIRST, _MID, _LATE, _END)
_BLOCK = re.compile(
    r'expr: "(?P<expr>(?:\\.|[^"\\])*)", time: .*?got:(?P<got>.*?)(?=\n\s*(?:name: [^\n]*)?expr: |\Z)', re.DOTALL
)
_SAMPLE = re.compile(r'\{alertname="(?P<name>[A-Z]\d*)_(?P<run>\w+)"\}\s+(?P<value>[^\s,]+)')
_ERROR = re.compile(r"rule: (?P<name>[A-Z]\d*)_(?P<run>\w+), time: .*?err: ")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one alert did in a run: when it first fired (seconds; None: never), and whether it fired at three moments.

    They are the end of phase two, when the shortest window has forgotten it, and when all of them have.
    """

    first_s: float | None
    mid: bool
    late: bool
    end: bool


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from the start of a run: when watching begins, when phases two and three begin, late in it, the end."""

    watch_s: int
    over_s: int
    back_s: int
    late_s: int
    end_s: int


def times_of(pace: Pace, run: Run) -> Times:
    """Return when the phases of a run begin. What happens after a fault is waited for only where a run is about it."""
    settled = pace.aligned(pace.settle_s)
    over = settled + pace.aligned(pace.for_s + _FEW * pace.tick_s)
    back = over + (pace.burst_s if run.burst else pace.calm_s)
    late = back + (pace.late_s if run.ends else pace.aligned(pace.tick_s))
    return Times(settled, over, back, late, back + settled + pace.aligned(_FEW * pace.tick_s) if run.ends else late)


def rule_file(rules: Sequence[Mapping[str, Any]], tick_s: int) -> dict[str, Any]:
    """Return a rule file of one group."""
    return {"groups": [{"name": "proof", "interval": f"{tick_s}s", "rules": list(rules)}]}


def rules_of(
    proof: Proof, run: int, key: str, records: Sequence[Rule], dropped: frozenset[int] = frozenset()
) -> list[dict[str, Any]]:
    """Return what is evaluated in a run: recordings, the rule, its probe, and the mutants chosen for it.

    The alerts' names end in `key`, which tells the answers of many runs apart.
    """
    rules: list[dict[str, Any]] = [
        {"record": r.name, "expr": r.expr, "labels": dict(r.labels)}
        for r in records
        if r.name in proof.subject.recorded
    ]
    rules.append(_alert(f"{ALWAYS}_{key}", "vector(1)", 0.0))
    rules.append(_alert(f"{ORIGINAL}_{key}", proof.rule.expr, proof.rule.for_s))
    rules.append(_alert(f"{PROBE}_{key}", proof.rule.expr, 0.0))
    for index, mutant in enumerate(proof.mutants):
        if run in proof.chosen[index] and index not in dropped:
            rules.append(_alert(f"{mutant_name(index)}_{key}", mutant.expr, mutant.for_s))
    return rules


def mutant_name(index: int) -> str:
    """Return the alert name of a mutant."""
    return f"M{index}"


def _alert(name: str, expr: str, for_s: float) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": name, "expr": expr}
    if for_s:
        rule["for"] = f"{round(for_s * 1000)}ms"
    return rule


def test_file(proof: Proof, run: Run) -> dict[str, Any]:
    """Return the test of one run, but for its `rule_files`.

    Its expectations are empty: what promtool reports instead is what is read.
    """
    pace, times = proof.pace, times_of(proof.pace, run)
    watched = f"[{times.end_s - times.watch_s}s:{pace.tick_s}s]"
    seen = f'{_FIRST} (min_over_time(timestamp(ALERTS{{alertstate="firing"}}){watched}))'
    firing = '(ALERTS{alertstate="firing"})'
    last = times.back_s - pace.tick_s
    questions = [
        (seen, times.end_s),
        (f"{_MID} {firing}", last),
        (f"{_LATE} {firing}", times.late_s),
        (f"{_END} {firing}", times.end_s),
    ]
    return {
        "evaluation_interval": f"{pace.tick_s}s",
        "tests": [
            {
                "interval": f"{pace.sample_s}s",
                "input_series": [{"series": s, "values": v} for s, v in streams(proof, run)],
                "promql_expr_test": [
                    {"expr": expr, "eval_time": f"{at}s", "exp_samples": []} for expr, at in questions
                ],
            }
        ],
    }


def streams(proof: Proof, run: Run) -> Iterator[tuple[str, str]]:
    """Yield every series of a run in promtool's notation: its name with labels, and its values."""
    times, pace = times_of(proof.pace, run), proof.pace
    lengths = (times.over_s, times.back_s - times.over_s, times.end_s - times.back_s)
    counts = [length // pace.sample_s for length in lengths]
    counts[2] += 1
    layout = Layout.of([*proof.subject.atoms, *proof.decoys])
    under, over, back = run.phases
    sides = ((under, over), (over, under), (back, over))
    phases = [layout.expanded(decoyed(own, proof.decoys, run.decoys, other)) for own, other in sides]
    for key in dict.fromkeys(key for phase in phases for key in phase):
        name = dict(key)["__name__"]
        base = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        counted = proof.subject.kinds.get(name) in {"counter", "ramp"} or (
            name not in proof.subject.kinds and proof.subject.kinds.get(f"{base}_bucket") == "counter"
        )
        levels = [phase.get(key) for phase in phases]
        yield _series(key), _values(levels, counts, pace.sample_s, counted=counted, reset=run.reset)


def _values(levels: Sequence[float | None], counts: Sequence[int], sample_s: int, *, counted: bool, reset: bool) -> str:
    parts: list[str] = []
    value = 0.0
    for number, (level, count) in enumerate(zip(levels, counts, strict=True)):
        if level is None:
            parts.append(f"stale _x{count - 1}" if number else f"_x{count}")
            value = 0.0
        elif not counted:
            parts.append(f"{level!r}+0x{count - 1}")
        else:
            step = level * sample_s
            if number == 0:
                parts.append(f"0+{step!r}x{count - 1}")
                value = step * (count - 1)
            else:
                if reset and number == 1:
                    value = 0.0
                parts.append(f"{value + step!r}+{step!r}x{count - 1}")
                value += step * count
    return " ".join(parts)


def _series(key: Labels) -> str:
    labels = dict(key)
    name = labels.pop("__name__")
    inner = ",".join(f'{k}="{_escaped(labels[k])}"' for k in sorted(labels))
    return f"{name}{{{inner}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def read_answers(text: str) -> dict[str, dict[str, Seen]]:
    """Return what each alert did, by run and name, from all that promtool said. A run without answers is left out."""
    said: dict[str, dict[str, dict[str, float]]] = {}
    for block in _BLOCK.finditer(text):
        kind = next((k for k in _KINDS if block["expr"].startswith(k)), "")
        for sample in _SAMPLE.finditer(block["got"]):
            run = said.setdefault(sample["run"], {})
            run.setdefault(sample["name"], {})[kind] = float(sample["value"])
    return {
        run: {
            name: Seen(kinds.get(_FIRST), _MID in kinds, _LATE in kinds, _END in kinds) for name, kinds in names.items()
        }
        for run, names in said.items()
        if set(_KINDS) <= set(names.get(ALWAYS, ()))
    }


def read_errors(text: str) -> dict[str, set[str]]:
    """Return the rules whose evaluation failed, by run: they spoil its answers."""
    found: dict[str, set[str]] = {}
    for match in _ERROR.finditer(text):
        found.setdefault(match["run"], set()).add(match["name"])
    return found


def label(mutant: Mutant) -> str:
    """Return a mutant in one phrase."""
    return f"{mutant.kind}: {mutant.change}"
