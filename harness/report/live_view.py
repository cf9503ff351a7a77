"""The frames of the live view, drawn from the run's state alone."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from harness.model.evidence import Arm
from harness.model.judgement import Judgement, Verdict
from harness.model.status import Cause, Decision, Status
from harness.report import words
from harness.report.live_plain import ms
from harness.report.live_state import WINDOW_S, RunState

_STYLES = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.INCONCLUSIVE: "yellow",
    Status.ERROR: "bold magenta",
    Status.NOT_APPLICABLE: "dim",
}
_MARKS = {Status.PASS: "✓", Status.FAIL: "✗", Status.ERROR: "!"}
_WORST_SHOWN = 6
_BAR = 40


def frame(state: RunState, now: float, *, title: str = "", objectives: int = 0) -> RenderableType:
    """Return one frame. `now` is seconds since the epoch, `objectives` how many there are to judge in all."""
    parts: list[RenderableType] = [_phases(state, now)]
    if state.services and not state.stage:
        parts.append(_services(state))
    if state.stage:
        parts += [_stages(state), _arms(state)]
    if state.judgements:
        parts.append(_judgements(state, objectives))
    parts += [Text(f"· {note.text}", style="dim" if note.level == "info" else "yellow") for note in state.notes]
    return Panel(Group(*parts), title=title or "rollgate", subtitle=_clock(state, now), title_align="left")


def ending(verdict: Verdict) -> RenderableType:
    """Return the panel that stays when the run is over."""
    good = verdict.decision is Decision.PROMOTE
    style = "green" if good else "red" if verdict.cause is Cause.RELEASE else "yellow"
    lines: list[RenderableType] = [Text(words.headline(verdict), style=f"bold {style}")]
    lines += [Text(verdict.reason)] if verdict.reason else []
    open_ones = [j for j in words.worst_first(verdict.judgements) if j.status in {Status.FAIL, Status.ERROR}]
    lines += list(_rows(open_ones[:_WORST_SHOWN]))
    if verdict.rehearsal:
        lines.append(Text("Rehearsal: " + "; ".join(words.rehearsal_reasons(verdict)), style="dim"))
    return Panel(Group(*lines), subtitle=f"exit code {int(verdict.exit_code)}", border_style=style)


def _phases(state: RunState, now: float) -> Text:
    text = Text()
    for phase in state.phases:
        took = words.duration((phase.ended or now) - phase.started)
        mark, style = {None: ("▸", "bold cyan"), True: ("✓", "green"), False: ("✗", "bold red")}[phase.ok]
        text.append(f"{mark} {phase.name} {took}   ", style=style)
    return text


def _services(state: RunState) -> Text:
    text = Text("  up: ")
    for service in sorted(state.services, key=lambda s: s.at):
        text.append(f"{service.name} {service.seconds:.1f}s", style="green")
        text.append(" (stand-in)  " if service.kind == "stand_in" else "  ", style="dim")
    return text


def _stages(state: RunState) -> Text:
    """Draw the ramp as a bar as long as the traffic, with the plan's stages below it."""
    filled = round(_BAR * state.share / 100)
    text = Text("\n  ")
    text.append("━" * filled, style="bold cyan")
    text.append("━" * (_BAR - filled), style="bright_black")
    text.append(f"  {words.number(state.share)} % of traffic on the candidate\n  ", style="bold")
    ids = [stage.id for stage in state.plan.stages] if state.plan else [*state.ended]
    for id_ in ids if state.stage in ids else [*ids, state.stage]:
        record = state.ended.get(id_)
        if record:
            mark = _MARKS.get(record.status, "?")
            text.append(f"{mark} {id_}  ", style=_STYLES[record.status])
        elif id_ == state.stage:
            text.append(f"▸ {id_}  ", style="bold cyan")
        else:
            text.append(f"· {id_}  ", style="bright_black")
    return text


def _arms(state: RunState) -> Table:
    table = Table(box=None, pad_edge=True, header_style="dim")
    table.add_column(f"last {WINDOW_S:.0f} s, client's clock")
    for name in ("req/s", "p50", "p95", "p99", "errors"):
        table.add_column(name, justify="right", min_width=9)
    for arm in (Arm.BASELINE, Arm.CANDIDATE):
        now = state.arm(arm)
        style = "red" if now.errors else ""
        table.add_row(
            str(arm), f"{now.rate:.1f}", ms(now.p50), ms(now.p95), ms(now.p99), Text(f"{now.errors}", style=style)
        )
    return table


def _judgements(state: RunState, objectives: int) -> Group:
    worst = words.worst_first(state.judgements)
    said = Text("\n  ")
    for status, n in words.counts([j.status for j in worst]):
        said.append(f"{n} {words.STATUS_WORDS[status]}  ", style=_STYLES[status])
    if objectives:
        said.append(f"of {objectives} objectives", style="dim")
    shown = [j for j in worst if j.status in {Status.FAIL, Status.ERROR, Status.INCONCLUSIVE}]
    return Group(said, *_rows(shown[:_WORST_SHOWN]))


def _rows(judgements: list[Judgement]) -> Iterator[Text]:
    for j in judgements:
        text = Text("  ", no_wrap=True, overflow="ellipsis")
        text.append(f"{words.STATUS_WORDS[j.status]:<13}", style=_STYLES[j.status])
        text.append(f"{j.id}  ", style="bold")
        if j.estimate is not None:
            text.append(f"{words.measured(j.estimate, j.unit)} against {words.measured(j.threshold, j.unit)}  ")
        if j.needed:
            text.append(f"about {j.needed:,} more requests  ", style="yellow")
        text.append(j.reason, style="dim")
        yield text


def _clock(state: RunState, now: float) -> str:
    elapsed = words.duration(now - state.began) if state.began is not None else "0 s"
    bound = state.bound_s(now)
    return f"{elapsed}" if bound is None else f"{elapsed} elapsed, at most {words.duration(bound)} to go"
