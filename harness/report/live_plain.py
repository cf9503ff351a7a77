"""The run as plain lines, for logs and CI: a line a change, never a flood."""

from collections.abc import Callable

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
from harness.model.evidence import Arm
from harness.model.status import Status
from harness.report import words
from harness.report.live_state import ArmNow, RunState

_EVERY_S = 2.0
_BURST = 20  # lines at once within _EVERY_S; beyond it they are counted, not printed
_LOOK_EVERY_S = 5.0
_MOST_PARTS = 6


class PlainLines:
    """Turns events into lines. What changes the course is said at once; the rest waits and is put together."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """`write` takes one line without its newline."""
        self._write = write
        self._waiting: list[str] = []
        self._flushed = self._looked = self._burst_began = -1e18
        self._burst = self._dropped = 0
        self._said = ""

    def event(self, event: Event, state: RunState) -> None:
        """Say what `event` brought; `state` has it already."""
        line, urgent = self._line(event, state)
        now = event.at - (state.began or event.at)
        if line and urgent:
            self.flush(now)
            self._print(now, line)
        elif line:
            self._waiting.append(line)
        if self._waiting and now - self._flushed >= _EVERY_S:
            self.flush(now)

    def flush(self, now: float) -> None:
        """Print what waited, as one line."""
        self._flushed = now
        if not self._waiting:
            return
        parts = list(dict.fromkeys(self._waiting))
        more = f"; and {len(parts) - _MOST_PARTS} more" if len(parts) > _MOST_PARTS else ""
        self._waiting.clear()
        self._print(now, "; ".join(parts[:_MOST_PARTS]) + more)

    def _print(self, now: float, line: str) -> None:
        if now - self._burst_began >= _EVERY_S:
            if self._dropped:
                self._write(f"[{now:7.1f} s] ({self._dropped} lines left out)")
            self._burst_began, self._burst, self._dropped = now, 0, 0
        self._burst += 1
        if self._burst > _BURST and not line.startswith("verdict"):
            self._dropped += 1
            return
        self._write(f"[{now:7.1f} s] {' '.join(line.split())}")

    def _line(self, event: Event, state: RunState) -> tuple[str, bool]:
        match event:
            case PhaseStarted():
                return f"{event.name}{event.detail and ': '}{event.detail}", True
            case PhaseEnded():
                took = next(
                    (p.ended - p.started for p in reversed(state.phases) if p.ended and p.name == event.name), 0.0
                )
                end = "done" if event.ok else "FAILED"
                return f"{event.name} {end} in {words.duration(took)}{event.detail and ': '}{event.detail}", True
            case ServiceStarted():
                return f"{event.name} {event.version} up after {event.seconds:.1f} s{_stand_in(event)}", False
            case StageStarted():
                return f"stage {event.stage}: {words.number(event.share)} % of traffic on the candidate", True
            case StageEnded():
                record = event.record
                reason = f": {record.reason}" if record.reason else ""
                return f"stage {record.id} ended, {words.STATUS_WORDS[record.status]}{reason}", True
            case TrafficMoved():
                moved = f"{words.number(event.before)} % -> {words.number(event.after)} %"
                back = event.after < event.before  # a rise is said by the stage that it begins
                return f"traffic {moved}: {event.why}" if back else "", True
            case Looked():
                return self._look(event, state), False
            case Noted():
                return f"{'' if event.level == 'info' else event.level + ': '}{event.text}", event.level != "info"
            case Decided():
                verdict = event.verdict
                line = f"verdict: {words.headline(verdict)} {verdict.reason} (exit code {int(verdict.exit_code)})"
                return line, True

    def _look(self, event: Looked, state: RunState) -> str:
        """Say how the stage stands when its judgements changed, and every few seconds the rates."""
        statuses = [j.status for j in event.judgements if j.status is not Status.NOT_APPLICABLE]
        standing = ", ".join(f"{n} {words.STATUS_WORDS[status]}" for status, n in words.counts(statuses))
        now = event.at
        changed = standing != self._said
        if not changed and now - self._looked < _LOOK_EVERY_S:
            return ""
        if now - self._looked < _EVERY_S:
            return ""
        self._said, self._looked = standing, now
        arms = ", ".join(f"{arm} {_arm(state.arm(arm))}" for arm in (Arm.BASELINE, Arm.CANDIDATE))
        return f"stage {event.stage or '-'}: {standing or 'nothing judged yet'} | {arms}{_needed(state)}"


def _stand_in(event: ServiceStarted) -> str:
    return " (stand-in)" if event.kind == "stand_in" else ""


def _arm(now: ArmNow) -> str:
    if not now.requests:
        return "no traffic"
    latency = " ".join(f"{name} {ms(value)}" for name, value in (("p50", now.p50), ("p95", now.p95), ("p99", now.p99)))
    return f"{now.rate:.0f}/s {latency}"


def _needed(state: RunState) -> str:
    needed = max((j.needed or 0 for j in state.judgements if j.severity == "critical"), default=0)
    return f" | about {needed:,} more requests to settle" if needed else ""


def ms(seconds: float | None) -> str:
    """Write a latency in milliseconds."""
    if seconds is None:
        return "—"
    if seconds == float("inf"):
        return "beyond the last bound"
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"  # noqa: PLR2004 - a tenth matters below 10 ms
