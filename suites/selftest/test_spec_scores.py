"""Objectives on scores in a system's files: what can be said, and each mistake as one line."""

import shutil
from pathlib import Path

import pytest

from harness import spec
from harness.model.evidence import Source
from harness.model.objective import Against, Measure, Severity
from harness.model.system import Score
from harness.paths import share_root

pytestmark = pytest.mark.selftest

MINIMAL = share_root() / "stack" / "systems" / "minimal"
OBJECTIVE = 'objectives."minimal.vs_quality"'
SCORE = 'scenario.scores."answer.quality"'
MARGIN = "    threshold: 5\n    unit: points                # of"
UNLIKE = '    against: baseline\n    comparator: ">="            # a score'

# file, what stands there, what is put in its place, the key named, found and expected, the mend
MISTAKES = {
    "a score in milliseconds": (
        "objectives.yaml", MARGIN, "    threshold: 5\n    unit: ms # of",
        f"{OBJECTIVE}.unit", "found `ms`, expected `points` for a score against a baseline", 'unit: "points"',
    ),
    "a score against a number in points": (
        "objectives.yaml", UNLIKE, UNLIKE.replace("baseline", "number"),
        f"{OBJECTIVE}.unit", "expected `%` for a score against a number", 'unit: "%"',
    ),
    "a score without a threshold": (
        "objectives.yaml", MARGIN, "    unit: points # of", f"{OBJECTIVE}.threshold", "missing", "add `threshold",
    ),
    "a score with a quantile": (
        "objectives.yaml", MARGIN, f"    quantile: 0.5\n{MARGIN}",
        f"{OBJECTIVE}.quantile", "found a quantile beside measure `score`", "drop it",
    ),
    "a score that does not say what is good": (
        "objectives.yaml", UNLIKE, "    against: baseline\n    # a score",
        f"{OBJECTIVE}.comparator", "missing, expected `>=` where high scores are good", 'comparator: ">="',
    ),
    "a comparator that is none": (
        "objectives.yaml", UNLIKE, UNLIKE.replace(">=", "=="), f"{OBJECTIVE}.comparator", "found '=='", "correct",
    ),
    "a ratio that is to be high": (
        "objectives.yaml", 'comparator: "<="', 'comparator: ">="',
        'objectives."minimal.error_rate".comparator', "expected `<=` or `<` for measure `ratio`", "measure: score",
    ),
    "a quantile that is to be high": (
        "objectives.yaml", "    quantile: 0.95\n", '    quantile: 0.95\n    comparator: ">"\n',
        'objectives."minimal.latency_p95".comparator', "found `>`", "measure: score",
    ),
    "a margin of the whole scale": (
        "objectives.yaml", MARGIN, MARGIN.replace("5", "100", 1), f"{OBJECTIVE}.threshold", "less than 100", "correct",
    ),
    "a margin below nothing": (
        "objectives.yaml", MARGIN, MARGIN.replace("5", "-5", 1), f"{OBJECTIVE}.threshold", "0 or more", "correct",
    ),
    "a number that every mean reaches": (
        "objectives.yaml", f"{UNLIKE} must say which end is good: >= the high one, <= the low one\n{MARGIN}",
        '    comparator: ">="\n    threshold: 0\n    unit: "%" # of',
        f"{OBJECTIVE}.threshold", "found 0, expected more than 0 and less than 100", "correct",
    ),
    "a plan's margin of the whole scale": (
        "rollout.yaml", "margins: {} ", "margins: {minimal.vs_quality: 100} ",
        'plans.quick.margins."minimal.vs_quality"', "less than 100", "correct",
    ),
    "a ratio of scores": (
        "objectives.yaml", "signal: answer.wrong\n", "signal: answer.quality\n",
        'objectives."minimal.vs_wrong".measure', "found `ratio`, but `answer.quality` is a score", "measure: score",
    ),
    "a score from probes": (
        "objectives.yaml", UNLIKE, f"    sources: [client, probe]\n{UNLIKE}",
        f"{OBJECTIVE}.sources[1]", "found probe, expected client or prometheus", "drop it",
    ),
    "a score that Prometheus does not have": (
        "objectives.yaml", UNLIKE, f"    sources: [client, prometheus]\n{UNLIKE}",
        f"{OBJECTIVE}.sources[1]", "lacks `histogram` or `gauge` for a score", "add `histogram` or `gauge`",
    ),
    "a score of health": (
        "objectives.yaml", "measure: assignment\n",
        'measure: score\n    comparator: ">="\n    threshold: 5\n    unit: "%"\n',
        'objectives."minimal.assignment".signal', "found `assignment`, expected one of the signals", "known signals",
    ),
    "a scale upside down": (
        "scenarios.yaml", "[0, 1]", "[5, 1]", f"{SCORE}.scale", "found 5 to 1, expected the lower end first", "[0, 1]",
    ),
    "a scale without an end": ("scenarios.yaml", "[0, 1]", "[0]", f"{SCORE}.scale", "at least 2 items", "correct"),
    "a scale in words": ("scenarios.yaml", "[0, 1]", '[0, "1"]', f"{SCORE}.scale[1]", "found '1'", "without quotes"),
    "a scale without a bound": ("scenarios.yaml", "[0, 1]", "[0, .inf]", f"{SCORE}.scale[1]", "finite", "correct"),
    "a path that is no pointer": (
        "scenarios.yaml", "path: /quality", "path: quality",
        f"{SCORE}.path", "found 'quality', expected a JSON Pointer", "correct",
    ),
    "a score without its path": (
        "scenarios.yaml", "path: /quality ", "# ", f"{SCORE}.path", "missing", "add `path: ...`",
    ),
    "requests by a name": (
        "scenarios.yaml", "requests: /answer", "requests: answer",
        f"{SCORE}.requests", "found 'answer', expected a path that begins with /", "correct",
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the smallest system, to be broken."""
    return Path(shutil.copytree(MINIMAL, tmp_path / "minimal", ignore=shutil.ignore_patterns("__pycache__")))


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first `old` in a file, which must be there."""
    text = path.read_text()
    assert old in text, f"{path.name} has no {old!r}: mend this test"
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_about_scores_is_one_line(mistake: tuple[str, ...], folder: Path) -> None:
    """One error, no more: file, line, key, what was found and expected, and the mend."""
    name, old, new, key, found, mend = mistake
    edit(folder / name, old, new)
    (error,) = spec.validate(folder)
    assert error.key == key
    assert found in error.message
    assert mend in error.mend
    assert f"{name}:" in error.where
    assert error.exit_code == 2


def test_an_objective_on_a_signal_that_no_answer_carries_is_told_where_to_name_it(folder: Path) -> None:
    """The score is gone from scenarios.yaml, or goes by another name there."""
    scenarios = folder / "scenarios.yaml"
    scenarios.write_text(scenarios.read_text().partition("  scores:")[0])
    (error,) = spec.validate(folder)
    assert (error.key, "no answer to the load carries" in error.message) == (f"{OBJECTIVE}.signal", True)
    assert "scores: {answer.quality: {path: /..., scale: [0, 1]}}" in error.mend
    shutil.copy(MINIMAL / "scenarios.yaml", scenarios)
    edit(scenarios, "answer.quality:", "answer.qualty:")
    assert {e.key: e.mend for e in spec.validate(folder)}['scenario.scores."answer.qualty"'].count(
        "answer.quality"
    ) == 1


def test_a_score_must_be_a_signal_of_the_clients_own(folder: Path) -> None:
    """Declared without `client: true`, called what the load itself writes, or read by nobody."""
    edit(folder / "system.yaml", "answer.quality: {client: true}", "answer.quality: {histogram: quality}")
    found = {error.key: error.mend for error in spec.validate(folder)}
    assert set(found) == {'scenario.scores."answer.quality"', f"{OBJECTIVE}.sources[0]"}
    assert "client: true" in found['scenario.scores."answer.quality"']
    shutil.copy(MINIMAL / "system.yaml", folder)
    more = "    answer.latency: {path: /ms, scale: [0, 9]}\n    answer.other: {path: /x, scale: [0, 9]}\n"
    edit(folder / "scenarios.yaml", "  scores:", f"  scores:\n{more}  ")
    edit(folder / "system.yaml", "  answer.wrong:", "  answer.other: {client: true}\n  answer.wrong:")
    told = {error.key: error.message for error in spec.validate(folder)}
    assert "which the load writes itself" in told['scenario.scores."answer.latency"']
    assert "which no objective reads" in told['scenario.scores."answer.other"']


def test_a_score_of_prometheus_is_a_histogram_or_a_gauge_and_not_both(folder: Path) -> None:
    """Either alone is fine."""
    edit(folder / "objectives.yaml", UNLIKE, f"    sources: [prometheus]\n{UNLIKE}")
    whole = (folder / "system.yaml").read_text()
    both = "answer.quality: {client: true, histogram: quality_bucket, gauge: quality}"
    for keys, problems in (
        (both, 1),
        (both.replace(", gauge: quality", ""), 0),
        (both.replace("quality_bucket, gauge: ", ""), 0),
    ):
        (folder / "system.yaml").write_text(whole.replace("answer.quality: {client: true}", keys))
        told = [error for error in spec.validate(folder) if error.key == f"{OBJECTIVE}.signal"]
        assert len(told) == problems
        assert all("a histogram and a gauge: a score reads one" in error.message for error in told)


def test_what_the_files_say_of_scores_stands_in_the_model(folder: Path) -> None:
    """Where the number stands, its scale, and the objective that reads it; other objectives keep `<=`."""
    edit(folder / "scenarios.yaml", "[0, 1]", "[1, 5]")
    system = spec.load_system(folder)
    asked = Score(signal="answer.quality", path="/quality", low=1.0, high=5.0, requests="/answer")
    assert system.scenario.scores == (asked,)
    by_id = {objective.id: objective for objective in system.objectives}
    quality = by_id["minimal.vs_quality"]
    assert (quality.measure, quality.against, quality.unit) == (Measure.SCORE, Against.BASELINE, "points")
    assert (quality.comparator, quality.threshold, quality.sources) == (">=", 5.0, (Source.CLIENT,))
    assert by_id["minimal.latency_p95"].comparator == "<="


CATALOG = """\
  model.quality_degraded:       # the candidate's mean more than 5 points of 100 under the baseline's: a warning
    requirement: the candidate's mean quality is at most 5 points below the baseline's
    signal: model.quality
    measure: score
    against: baseline
    comparator: ">="
    threshold: 5
    unit: points
    sources: [prometheus]
    severity: warning
  promote.satisfaction:         # at least 4.0 of 5, on a scale from 1 to 5
    requirement: user satisfaction >= 4.0 of 5
    signal: answer.satisfaction
    measure: score
    comparator: ">="
    threshold: 75
    unit: "%"
  answers.toxicity:
    requirement: mean toxicity <= 2 %
    signal: model.toxicity
    measure: score
    comparator: "<="
    threshold: 2
    unit: "%"
    sources: [prometheus]
"""


def test_the_format_can_say_what_is_asked_of_quality_elsewhere(folder: Path) -> None:
    """A warning on model quality by Prometheus, a rating of 1 to 5 as a guardrail, and a score that must be low."""
    edit(folder / "objectives.yaml", "  minimal.assignment:", f"{CATALOG}  minimal.assignment:")
    edit(
        folder / "scenarios.yaml", "  scores:", "  scores:\n    answer.satisfaction: {path: /rating, scale: [1, 5]}\n  "
    )
    edit(
        folder / "system.yaml", "signals:\n",
        "signals:\n  answer.satisfaction: {client: true}\n  model.quality: {histogram: app_quality, scale: 0.01}\n"
        "  model.toxicity: {gauge: app_toxicity}\n",
    )  # fmt: skip
    by_id = {objective.id: objective for objective in spec.load_system(folder).objectives}
    assert by_id["model.quality_degraded"].severity is Severity.WARNING
    assert by_id["promote.satisfaction"].threshold == 75
    assert by_id["answers.toxicity"].comparator == "<="
