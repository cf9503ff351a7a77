"""The bench of the judge: resumed where it was interrupted, failing where it must."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness.bench import measure, runner, telemetry
from harness.bench.cells import ROLLGATE, Bar, Cell, Kind, Standing, Statistic, Tier
from harness.bench.judge import bench_judge
from harness.bench.oracle import SPRT
from harness.bench.outcome import readings, record, regressions
from harness.bench.runner import Result, chunks
from harness.bench.scenarios import all_cells
from harness.bench.sources import digest
from harness.bench.streams import Effect, Layout, Noise, World
from harness.bench.subject import NEVER, metric_weights
from harness.bench.table import markdown
from harness.bench.tally import Tally
from harness.cli.main import app
from harness.model.status import Status

pytestmark = pytest.mark.selftest
SMALL = Layout(shares=(0.5,), intervals=40, calibration=40, views=2)
WILD = World(own=Noise(errors=0.5, latency=0.2, memory=0.8), requests_min=2000)
QUIET = Console(quiet=True)


def cell(name: str = "good.small", **changes: object) -> Cell:
    """Return a small scenario with `changes`."""
    values = {
        "name": name, "title": "small", "question": "a good candidate is rolled back", "kind": Kind.CALIBRATED,
        "standing": Standing.SAFETY, "runs": (2_000, 200, 100), "bars": (Bar(wanted=0.01, upper=0.012),),
        "wanted": False, "layout": SMALL, "chunk": 50, **changes,
    }  # fmt: skip
    return Cell(**values)


def bench(cells: list[Cell], out: Path, **options: object) -> tuple[int, list[str]]:
    """Run the bench on `cells`; return its exit code and what it said."""
    said: list[str] = []
    values = {"only": [], "runs": None, "jobs": 1, "tables": None, "record": out / "none.json", **options}
    code = bench_judge(Tier.QUICK, out=out, echo=said.append, cells=cells, **values)
    return code, said


def result_of(made: Cell, hits: int, runs: int, at: int = 10) -> Result:
    """Return what a rule that acted in `hits` of `runs` rollouts leaves behind."""
    return Result(made, {ROLLGATE: Tally.of(np.array([at] * hits + [NEVER] * (runs - hits)))})


def test_a_sound_judge_passes_and_what_was_measured_is_told(tmp_path: Path):
    """Exit 0; table, CSV and record are written."""
    code, said = bench([cell()], tmp_path)
    assert code == 0
    assert said == [
        "1 bars met, 0 missed within chance or as goals, 0 safety bars fail, nothing recorded to compare with"
    ]
    assert (
        "| a good candidate is rolled back | small | <= 1.00 % (bound 1.20 %) |" in (tmp_path / "table.md").read_text()
    )
    assert (tmp_path / "results.csv").read_text().startswith("cell,rule,runs,acted,share")
    assert json.loads((tmp_path / "recorded.json").read_text())["cells"]["good.small"]["runs"] == 200


def test_a_judge_that_believes_every_request_fails_the_bench_under_arm_noise(tmp_path: Path):
    """The planted defect: no tempering (phi = 1) where an arm has noise of its own."""
    learnt = replace(SMALL, calibration=960)
    sound = cell(world=WILD, layout=learnt)
    planted = cell("planted", world=WILD, layout=learnt, tempered=False)
    code, said = bench([sound, planted], tmp_path)
    assert code == 1
    assert [line for line in said if line.startswith("SAFETY BAR FAILS: planted: a good candidate is rolled back")]
    assert not any(line.startswith("SAFETY BAR FAILS: good.small") for line in said)


def test_a_missed_goal_is_printed_with_its_distance_and_fails_nothing(tmp_path: Path):
    """A median that is asked to come before the first look."""
    bar = Bar(wanted=0.1, statistic=Statistic.MEDIAN, unit="min")
    goal = cell("late", standing=Standing.GOAL, bars=(bar,), wanted=True, effect=Effect(errors=20.0))
    code, said = bench([goal], tmp_path)
    assert code == 0
    assert said[0].startswith("missed: late: ")
    assert "bar <= 0.10 min" in said[0]
    row = next(line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| a good"))
    assert row.endswith(" min | no |")


def test_an_interrupted_bench_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two chunks are kept; the third and fourth alone are measured again; the result is that of one go."""
    one_go, _ = bench([cell()], tmp_path / "whole")
    measured: list[int] = []
    real = runner.measure

    def counting(*args: object) -> measure.Measured:
        if len(measured) == 2:
            measured.append(0)
            raise KeyboardInterrupt
        measured.append(1)
        return real(*args)

    monkeypatch.setattr(runner, "measure", counting)
    with pytest.raises(KeyboardInterrupt):
        bench([cell()], tmp_path / "cut")
    measured += [1] * 10
    before = len(measured)
    code, _ = bench([cell()], tmp_path / "cut")
    assert (code, len(measured) - before) == (one_go, 2)
    assert (tmp_path / "cut/results.csv").read_text() == (tmp_path / "whole/results.csv").read_text()


@pytest.mark.parametrize("damage", ["", "{", '{"stamp": "older"}', '{"stamp": 3, "tallies": 4}'])
def test_a_broken_or_older_result_is_measured_again(damage: str, tmp_path: Path):
    """Cut short by a full disk, made by other code, or no result at all."""
    work = chunks([cell()], Tier.MINUTE, tmp_path)
    whole = runner.run(work, jobs=1, console=QUIET)["good.small"]
    work[0].path.write_text(damage)
    assert work[0].stored() is None
    assert work[1].stored() is not None
    again = runner.run(work, jobs=1, console=QUIET)["good.small"]
    assert again.tallies == whole.tallies


def test_a_result_rests_on_its_scenario_and_on_the_code_that_made_it_not_on_its_bar(tmp_path: Path):
    """Another world is another stamp; another bar or title is not."""
    stamp = chunks([cell()], Tier.MINUTE, tmp_path)[0].stamp
    same = cell(title="other words", bars=(Bar(wanted=0.5),), runs=(1, 1, 1))
    assert chunks([same], Tier.MINUTE, tmp_path)[0].stamp == stamp
    assert chunks([cell(world=WILD)], Tier.MINUTE, tmp_path)[0].stamp != stamp
    kernels, presenting = digest(("harness.bench.subject",)), digest(("harness.bench.table",))
    assert kernels != presenting
    assert digest(("harness.bench.subject", "harness.judge.contest")) == kernels  # a part of it already


def test_two_processes_give_what_one_gives(tmp_path: Path):
    """Chunks are seeded by their scenario and number alone."""
    work = chunks([cell()], Tier.MINUTE, tmp_path / "one"), chunks([cell()], Tier.MINUTE, tmp_path / "two")
    one, two = (runner.run(part, jobs=jobs, console=QUIET) for part, jobs in zip(work, (1, 2), strict=True))
    assert one["good.small"].tallies == two["good.small"].tallies


def test_an_interrupt_ends_the_bench_with_130_keeps_what_is_done_and_leaves_no_process(tmp_path: Path):
    """The real command, two processes, one SIGINT after the first result."""
    command = [sys.executable, "-m", "harness.cli.main", "bench", "judge", "--only", "blocks-even.iid", "--jobs", "2"]
    process = subprocess.Popen([*command, "--out", str(tmp_path)], stderr=subprocess.PIPE, start_new_session=True)
    try:
        _wait(lambda: any(tmp_path.rglob("judge-*.json")))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert b"Traceback" not in process.stderr.read()
        kept = [path for path in tmp_path.rglob("judge-*.json") if json.loads(path.read_text())["stamp"]]
        assert 1 <= len(kept) < 80
        _wait(lambda: not _alive(process.pid))
    finally:
        if _alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.stderr.close()


def _wait(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_few_runs_fail_a_safety_bar_only_beyond_chance_and_a_full_bench_by_itself():
    """3 of 200 may be chance at 1 %, 12 may not; 230 of 20,000 is too many whatever chance says."""
    made = cell(runs=(20_000, 200, 100))
    assert not readings(result_of(made, 3, 200))[0].broken
    assert readings(result_of(made, 3, 200))[0].met is False
    assert readings(result_of(made, 12, 200))[0].broken
    assert readings(result_of(made, 190, 20_000))[0].met
    assert readings(result_of(made, 230, 20_000))[0].broken


def test_a_single_promotion_on_corrupt_telemetry_breaks_its_bar():
    """Zero is the bar, however few streams."""
    made = next(one for one in all_cells() if one.name == "telemetry")
    assert readings(result_of(made, 1, 50))[0].broken
    assert not readings(result_of(made, 0, 50))[0].broken


@pytest.mark.parametrize(
    "changes, now, then, worse",
    [
        ({}, (30, 1000, 10), (80, 20_000, 10), "more often"),
        ({}, (12, 1000, 10), (160, 20_000, 10), ""),
        ({"wanted": True}, (900, 1000, 10), (1990, 2000, 10), "seldomer"),
        ({"wanted": True}, (1000, 1000, 14), (2000, 2000, 10), "later"),
        ({"wanted": True}, (1000, 1000, 10), (2000, 2000, 10), ""),
    ],
)
def test_what_is_worse_than_recorded_is_a_regression(changes: dict, now: tuple, then: tuple, worse: str):
    """More false alarms, fewer finds, later finds; not what chance explains, nor what is better."""
    made = cell(**changes)
    before = record([result_of(made, *then)])
    said = regressions([result_of(made, *now)], before)
    assert [worse in line for line in said] == ([True] if worse else [])
    assert regressions([result_of(made, *then)], before) == []


def test_a_regression_fails_the_bench(tmp_path: Path):
    """A record of a judge that never erred, held against one that has no tempering."""
    planted = cell(world=WILD, tempered=False, standing=Standing.LIMIT)
    path = tmp_path / "recorded.json"
    path.write_text(json.dumps({"cells": record([result_of(planted, 3, 20_000)])}))
    code, said = bench([planted], tmp_path / "out", record=path)
    assert code == 1
    assert said[0].startswith("REGRESSION: good.small: more often than recorded")


def test_the_table_shows_opponents_beside_rollgate():
    """Share and, for a bad candidate, the median minute."""
    made = cell("errors", wanted=True, bars=(), effect=Effect(errors=3.0))
    result = result_of(made, 90, 100)
    result.tallies[SPRT] = Tally.of(np.full(100, 8))
    text = markdown([result], Tier.FULL)
    assert f"| {SPRT} | 100 % (2) |" in text
    assert f"| {ROLLGATE} | 90 % (2.5) |" in text


def test_tallies_add_up_and_give_the_medians_of_all():
    """Chunks of 3 and 2 against all 5 at once."""
    times = np.array([5, 3, NEVER, 9, 3])
    tally = Tally.of(times[:3])
    tally.add(Tally.of(times[3:]))
    assert tally == Tally.of(times)
    assert (tally.hits, tally.median, tally.share) == (4, 5.0, 0.8)
    assert tally.reached([0, 3, 5, 100]) == [0.0, 0.4, 0.6, 0.8]
    assert Tally.of(np.full(4, NEVER)).median == np.inf


def test_the_weights_of_the_metrics_sum_to_one():
    """Twelve metrics, the first view's as stated."""
    weights = metric_weights(4)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[:3] == pytest.approx([0.60, 0.10, 0.05])
    assert len(weights) == 12


def test_every_scenario_has_a_name_of_its_own_and_is_in_the_full_bench():
    """And whole chunks."""
    cells = all_cells()
    assert len({one.name for one in cells}) == len(cells)
    assert all(one.runs[0] > 0 and all(runs % one.chunk == 0 for runs in one.runs) for one in cells)


def test_sound_telemetry_of_a_good_candidate_is_promoted():
    """Otherwise that nothing corrupt is promoted would say nothing."""
    assert telemetry.decide(None, np.random.default_rng(1)) is Status.PASS


def test_every_kind_of_corruption_is_told():
    """None is left out of the fuzz."""
    rng = np.random.default_rng(1)
    assert {telemetry.tell(rng).corruption for _ in range(300)} == set(telemetry.CORRUPTIONS)


def test_a_judge_that_takes_corrupt_telemetry_at_its_word_fails_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The planted defect: every look passes."""

    class Gullible:
        def observe(self, records: object) -> None:
            del records

        def look(self, **_: object) -> tuple:
            return judgements

    judge = telemetry.new_judge()
    for second in range(telemetry.SECONDS):
        judge.observe(list(telemetry.good_second(second, np.random.default_rng(second))))
    judgements = tuple(replace(one, status=Status.PASS) for one in judge.look(at=1_000_040.0, stage="50", final=True))
    monkeypatch.setattr(telemetry, "new_judge", Gullible)
    planted = replace(next(one for one in all_cells() if one.name == "telemetry"), runs=(10, 10, 10), chunk=10)
    code, said = bench([planted], tmp_path)
    assert code == 1
    assert said[0].startswith("SAFETY BAR FAILS: telemetry: corrupt telemetry is promoted")


def test_an_unknown_scenario_is_refused():
    """Exit 2, with those that there are."""
    done = CliRunner().invoke(app, ["bench", "judge", "--only", "nothing", "--minute"])
    assert "there is no scenario nothing" in str(done.exception)
