"""What makes a load INVALID: each planted fault is named with its mend, a sound one is left alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.adapters.load.locust_load import tightest_latency_ms
from harness.adapters.load.options import LoadOptions, encode_options, read_options
from harness.adapters.load.soundness import problems
from harness.adapters.load.status import LoadStatus, Pace, Punctuality, read_status, write_status
from harness.model.errors import SpecError
from harness.model.objective import Against, Measure, Objective
from harness.model.system import Score

pytestmark = pytest.mark.selftest

SOUND = LoadStatus(
    at=1000.0, pid=1, phase="running", scheduled=2400, sent=2400, ended=2399, outstanding=1, window_s=20.0,
    window_scheduled=800, window_sent=800, cpu_share=0.05,
    lag_window_ms={"p50": 0.5, "p99": 6.0}, lag_total_ms={"p50": 0.5, "p99": 5.0},
)  # fmt: skip
DONE = replace(SOUND, phase="done", ended=2400, outstanding=0)


def judged(status: LoadStatus, *, now_s: float = 1000.4, expected: bool = False) -> tuple[str, ...]:
    """Return the problems found half a second after the report."""
    return problems(status, now_s=now_s, late_ms=20, expected=expected)


def test_a_sound_load_has_no_problem() -> None:
    """Running, and after a stop that was asked for, however long ago."""
    assert judged(SOUND) == ()
    assert judged(DONE, now_s=9999, expected=True) == ()


@pytest.mark.parametrize(
    "status, said",
    [
        (replace(SOUND, fault="the scenario's workload raised KeyError: 'q'"), "KeyError"),
        (replace(SOUND, at=996.9), "stalled or lost"),
        (replace(SOUND, window_sent=791), "off by 1.1%"),
        (replace(SOUND, window_scheduled=240, window_sent=226, window_s=6.0), "off by 5.8%"),
        (replace(SOUND, lag_window_ms={"p99": 20.5}), "p99 send lag 20 ms"),
        (replace(SOUND, lag_total_ms={"p99": 300.0}), "p99 send lag 300 ms"),
        (replace(SOUND, unrouted=24, errors=24), "is the router up? see its log"),
        (replace(SOUND, sent=300, ended=300, unrouted=5), "5 of 300 ended requests named no arm"),
        (replace(SOUND, sent=300, ended=300, unrouted=300), "router or application must set it"),
        (replace(SOUND, unrouted=2399), "100.0% (bound 1%)"),
        (replace(SOUND, cpu_share=0.81), "81% of its core"),
        (DONE, "ended after 2400 requests, before the run did"),
        (replace(DONE, ended=2399), "1 of 2400 requests sent were never accounted for"),
    ],
)
def test_each_fault_of_the_instrument_is_named_with_its_mend(status: LoadStatus, said: str) -> None:
    """One planted fault at a time; the message says what was found and what to do."""
    found = judged(status)
    assert any(said in problem for problem in found), found
    assert all(" — " in problem for problem in found)


@pytest.mark.parametrize(
    "status",
    [
        replace(SOUND, window_sent=793),
        replace(SOUND, window_scheduled=240, window_sent=230, window_s=6.0),
        replace(SOUND, window_scheduled=20, window_sent=10, window_s=1.0),
        replace(SOUND, sent=50, lag_window_ms={"p99": 80.0}),
        replace(SOUND, at=997.5),
        replace(SOUND, unrouted=23),
        replace(SOUND, sent=299, ended=299, unrouted=299),
        replace(SOUND, sent=300, ended=300, unrouted=4),
    ],
)
def test_what_is_within_its_bound_is_no_problem(status: LoadStatus) -> None:
    """Just inside each bound, or too early to tell."""
    assert judged(status) == ()


def test_a_loss_after_the_stop_is_still_a_problem() -> None:
    """An expected end does not excuse requests that never came back."""
    assert judged(replace(DONE, ended=2390), expected=True)


def test_a_status_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Through the file; a missing or broken file is no report."""
    write_status(tmp_path / "status.json", SOUND)
    assert read_status(tmp_path / "status.json") == SOUND
    assert read_status(tmp_path / "none.json") is None
    (tmp_path / "broken.json").write_text('{"at": ')
    assert read_status(tmp_path / "broken.json") is None


def test_the_window_forgets_and_the_total_does_not() -> None:
    """A stall of long ago is out of the window's quantiles, never out of the run's."""
    lags = Punctuality()
    for _ in range(200):
        lags.add(100.0, 0.5)
    for second in range(1000):
        lags.add(130.0 + second / 100, 0.001)
    assert lags.window_ms()["p99"] < 2
    assert lags.total_ms()["p99"] > 490


def test_the_pace_is_that_of_the_last_seconds() -> None:
    """Marks older than the window are dropped; counts are differences."""
    pace = Pace()
    for mark in range(100):
        window_s, scheduled, sent, _ = pace.mark(mark * 0.5, mark * 20, mark * 20 - (mark >= 90) * 8)
    assert window_s == pytest.approx(20, abs=0.6)
    assert scheduled - sent == 8


def test_the_tightest_latency_threshold_sets_the_lag_that_is_borne() -> None:
    """Absolute quantile objectives only, in ms or s; none gives 0."""

    def objective(
        threshold: float, unit: str, measure: Measure = Measure.QUANTILE, against: Against = Against.NUMBER
    ) -> Objective:
        return Objective(
            id="x", requirement="", signal="s", measure=measure, against=against, threshold=threshold, unit=unit
        )

    among = [
        objective(5000, "ms"),
        objective(1, "s"),
        objective(20, "%", against=Against.BASELINE),
        objective(5, "%", Measure.RATIO),
    ]
    assert tightest_latency_ms(among) == 1000
    assert tightest_latency_ms(among[2:]) == 0


OPTIONS = LoadOptions(
    url="http://127.0.0.1:8080", prefix="answer", workload="w.py", root=".", evidence="e", rate=40, seconds=60, seed=1,
    options=(("k", "5"),), bounds_s=(0.1, 5.0), scores=(Score(signal="answer.quality", path="/quality", high=5.0),),
)  # fmt: skip


def test_options_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Through JSON, tuples and all."""
    (tmp_path / "o.json").write_text(encode_options(OPTIONS))
    assert read_options(tmp_path / "o.json") == OPTIONS


@pytest.mark.parametrize(
    "options, said",
    [
        (replace(OPTIONS, url="http://example.org"), "loopback addresses only"),
        (replace(OPTIONS, url="http://10.0.0.1:80"), "loopback addresses only"),
        (replace(OPTIONS, url="127.0.0.1:80"), "no URL"),
        (replace(OPTIONS, rate=1e6), "exceeds"),
    ],
)
def test_load_on_strangers_or_without_bound_is_refused(options: LoadOptions, said: str) -> None:
    """An address outside the machine needs the stack's word, and any load a bound."""
    with pytest.raises(SpecError, match=said):
        options.check()


def test_a_remote_stack_may_be_loaded_when_it_says_so() -> None:
    """The same address, named by the target's description."""
    replace(OPTIONS, url="https://staging.example.org", remote=True).check()


def test_the_deadline_lies_beyond_every_bound() -> None:
    """At least five seconds, and 20 % beyond the largest bound; an explicit one wins."""
    assert OPTIONS.deadline_s == 6.0
    assert replace(OPTIONS, bounds_s=(0.1,)).deadline_s == 5.0
    assert replace(OPTIONS, timeout_s=0.5).deadline_s == 0.5
