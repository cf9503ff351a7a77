"""The live view: shows the run, never floods a log, never breaks the run."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from report_runs import OBJECTIVES, PLAN, START, MadeRun, made_run
from rich.console import Console

from harness.model.event import Decided, Event, Looked, Noted, PhaseStarted, StageStarted
from harness.model.evidence import Arm
from harness.report.live import LiveView
from harness.report.live_state import RunState
from harness.report.live_view import frame

pytestmark = pytest.mark.selftest


def _plain(events: Iterator[Event] | tuple[Event, ...], **more: object) -> list[str]:
    out = io.StringIO()
    view = LiveView(Console(file=out, width=100), plan=PLAN, objectives=OBJECTIVES, **more)  # type: ignore[arg-type]
    for event in events:
        view.emit(event)
    view.close()
    return out.getvalue().splitlines()


def _state(run: MadeRun, part: float) -> RunState:
    state = RunState(plan=PLAN)
    for event in run.events[: int(len(run.events) * part)]:
        state.update(event)
    return state


def _drawn(state: RunState, width: int = 110) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    console.print(frame(state, state.last, title="researchflow", objectives=len(OBJECTIVES)))
    return out.getvalue()


def test_plain_lines_tell_the_course_of_the_run() -> None:
    """Phases, services, stages, the way back, and the verdict with its exit code, in order."""
    said = "\n".join(_plain(made_run(bad=True).events))

    places = [
        said.index(word)
        for word in ("stack: 8 services", "redis 7.0.15 up", "stack done", "warmup", "stage 10: 10 %", "stage 25: 25 %",
                     "stage 25 ended, fail", "traffic 25 % -> 0 %: a guardrail failed", "verdict: bad-errors was")
    ]  # fmt: skip
    assert places == sorted(places)
    assert "(stand-in)" in said or "and 2 more" in said
    assert "(exit code 1)" in said
    assert "candidate 8/s p50" in said


def test_plain_lines_never_flood() -> None:
    """A thousand looks, notes and warnings in ten seconds: a few dozen lines, and the verdict is among them."""
    run = made_run()
    looked = next(e for e in run.events if isinstance(e, Looked))
    flood: list[Event] = [PhaseStarted(name="rollout", at=START)]
    for i in range(1000):
        at = START + i / 100
        flood += [
            replace(looked, at=at),
            Noted(text=f"note {i}", at=at),
            Noted(text=f"bad {i}", at=at, level="warning"),
        ]
    flood.append(Decided(verdict=run.verdict, at=START + 10))

    lines = _plain(tuple(flood))

    assert len(lines) < 140
    assert any("lines left out" in line for line in lines)
    assert "verdict: good was promoted" in lines[-1]


def test_a_line_is_one_line_without_colour() -> None:
    """A note with line breaks and colour codes stays one line of plain text; every line has its time."""
    lines = _plain((PhaseStarted(name="stack", at=START), Noted(text="a\nb\n[red]c[/red]", at=START + 3)))

    assert lines == ["[    0.0 s] stack", "[    3.0 s] a b [red]c[/red]"]


def test_looks_are_said_when_they_change_and_every_few_seconds() -> None:
    """Of 57 looks a second apart, about a dozen lines."""
    lines = [line for line in _plain(made_run().events) if re.search(r"stage \d+: \d+ (pass|inconclusive|fail)", line)]

    assert 5 <= len(lines) <= 20


def test_the_frame_shows_traffic_rates_latencies_and_what_is_needed() -> None:
    """In the middle of the ramp: the bar, the stages, both arms, the unproven ones, the bound on the time left."""
    drawn = _drawn(_state(made_run(), 0.6))

    for word in ("75 % of traffic on the candidate", "✓ 10", "▸ 75", "· 100", "baseline", "candidate", "p99", "req/s",
                 "rf.canary.errors", "more requests", "elapsed, at most"):  # fmt: skip
        assert word in drawn, word


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_frame_fits_its_terminal(width: int) -> None:
    """Narrow or wide, at every moment of the run."""
    run = made_run(bad=True)
    for part in (0.0, 0.02, 0.2, 0.5, 0.9, 1.0):
        assert all(len(line) <= width for line in _drawn(_state(run, part), width).splitlines())


def test_rates_and_quantiles_come_from_the_clients_last_seconds() -> None:
    """At 75 %, 40 requests a second in all: both arms' rates add up, and p50 < p95 < p99."""
    state = _state(made_run(), 0.75)
    baseline, candidate = state.arm(Arm.BASELINE), state.arm(Arm.CANDIDATE)

    assert baseline.rate + candidate.rate == pytest.approx(40, rel=0.25)
    assert candidate.p50
    assert candidate.p95
    assert candidate.p99
    assert 0.01 < candidate.p50 < candidate.p95 < candidate.p99 < 0.2


def test_the_time_left_is_bounded_by_plan_and_deadline() -> None:
    """At the start of stage 10: five stages of 24 s, under the deadline; none before, none after the verdict."""
    state = RunState(plan=PLAN)
    assert state.bound_s(START) is None
    state.update(PhaseStarted(name="rollout", at=START))
    state.update(StageStarted(stage="10", share=10, at=START))
    assert state.bound_s(START) == pytest.approx(120)
    assert state.bound_s(START + 170) == pytest.approx(0)
    state.update(Decided(verdict=made_run().verdict, at=START + 60))
    assert state.bound_s(START + 60) is None


def test_a_terminal_gets_the_drawing_and_a_last_panel() -> None:
    """Rich's own thread draws while events come in; at the end the terminal is given back with the verdict on it."""
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=100), plan=PLAN, plain=False, now=lambda: START + 30)
    for event in made_run(bad=True).events:
        view.emit(event)
    view.close()
    view.close()

    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "bad-errors was rolled back" in shown
    assert "exit code 1" in shown
    assert "\x1b[?25h" in out.getvalue()  # the cursor is back


@pytest.mark.parametrize("name", ["CI", "NO_COLOR"])
def test_ci_and_no_color_get_plain_lines_even_on_a_terminal(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The environment's word counts."""
    monkeypatch.setenv(name, "1")
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=100))
    view.emit(PhaseStarted(name="stack", at=START))
    view.close()

    assert "[    0.0 s] stack" in out.getvalue()
    assert "\x1b[?25l" not in out.getvalue()


class _BrokenPipe(io.StringIO):
    """A terminal that went away; counts who still writes to it."""

    writes = 0

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self._error = error

    def write(self, _text: str) -> int:
        self.writes += 1
        raise self._error


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("error", [BrokenPipeError, OSError, ValueError])
def test_a_terminal_that_goes_away_never_breaks_the_run(error: type[Exception], *, plain: bool) -> None:
    """Every write raises (a closed pipe, a vanished terminal, a closed file): none comes out, and the view gives up."""
    gone = _BrokenPipe(error)
    view = LiveView(Console(file=gone, force_terminal=True), plan=PLAN, plain=plain)

    for event in made_run().events:
        view.emit(event)
    view.close()

    assert gone.writes < 30


def test_a_fault_of_the_view_is_told_once_and_the_view_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted exception in the drawing: one note, then silence."""

    def broken(_self: RunState, _event: Event) -> None:
        msg = "planted"
        raise RuntimeError(msg)

    monkeypatch.setattr(RunState, "update", broken)

    lines = _plain(made_run().events)

    assert lines == ["the live view failed and is off, the run goes on: RuntimeError: planted"]


def test_the_view_shows_what_users_wait_for_not_a_part_of_it() -> None:
    """Beside `query.latency` the load hands in `query.service`, ten times quicker: it is not mistaken for it."""
    run = made_run()
    state = RunState()
    for event in run.events:
        if isinstance(event, Looked):
            quick = [
                replace(r, signal="query.service", bounds=tuple(b / 10 for b in r.bounds))
                for r in event.evidence
                if r.signal == "query.latency"
            ]
            state.update(replace(event, evidence=(*quick, *event.evidence)))

    assert state.arm(Arm.CANDIDATE).p50 == pytest.approx(0.019, rel=0.15)
