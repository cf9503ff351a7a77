"""report.html: the whole run on one page, in one file that opens offline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.model.event import Event
from harness.model.evidence import Evidence
from harness.model.judgement import Judgement, Verdict
from harness.model.objective import Objective
from harness.model.status import Decision, Status
from harness.ports import Case
from harness.report import charts, series, words
from harness.report.svg import interval_bar

_MOST_PANELS = 4
_MOST_TAIL = 6000  # characters of a log's end


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What the page is made of. Texts must be free of secrets already."""

    verdict: Verdict
    evidence: Sequence[Evidence] = ()
    cases: Sequence[Case] = ()
    log_tails: Mapping[str, str] = field(default_factory=dict[str, str])
    events: Sequence[Event] = ()
    objectives: Sequence[Objective] = ()
    command: str = ""


def page(material: Material) -> str:
    """Return the page's HTML. It refers to nothing outside itself, and shows the same bytes for the same material."""
    verdict = material.verdict
    ordered = words.worst_first(verdict.judgements)
    outcomes = [case.outcome for case in material.cases]
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            v=verdict,
            css=Markup(_style()),  # noqa: S704 - our own file
            tone=_tone(verdict),
            headline=words.headline(verdict),
            decision=words.DECISION_WORDS[verdict.decision],
            rehearsal=words.rehearsal_reasons(verdict) if verdict.rehearsal else [],
            took=words.duration(words.took(verdict)),
            tallies=words.counts([j.status for j in verdict.judgements]),
            culprits=[j for j in ordered if j.status in {Status.FAIL, Status.ERROR} and j.severity == "critical"],
            judged=[j for j in ordered if j.status is not Status.NOT_APPLICABLE],
            inapplicable=[j for j in ordered if j.status is Status.NOT_APPLICABLE],
            cases=sorted(material.cases, key=lambda c: (_OUTCOMES.get(c.outcome, 0), c.name)),
            case_tallies=[(o, outcomes.count(o)) for o in _OUTCOMES if o in outcomes],
            tails={name: text[-_MOST_TAIL:] for name, text in sorted(material.log_tails.items()) if text.strip()},
            command=material.command or words.reproduce(verdict),
            **_plots(material),
        )
    )


_OUTCOMES = {"failed": 0, "error": 1, "skipped": 2, "passed": 3}


def _tone(verdict: Verdict) -> str:
    if verdict.decision is Decision.PROMOTE:
        return "pass"
    return str(verdict.status) if verdict.status is not Status.PASS else "inconclusive"


def _plots(material: Material) -> dict[str, Any]:
    line = series.timeline(material.verdict, material.evidence, material.events)
    if line is None:
        return {"ramp": "", "panels": [], "distributions": [], "bin_s": 0}
    found = [
        latency
        for latency in series.latencies(line, material.evidence, material.objectives, material.verdict)
        if any(h.n for h in latency.whole.values())
    ]
    bad = series.counts(line, material.evidence)[:_MOST_PANELS]
    panels: list[tuple[str, str, Markup]] = []
    for latency in found[:1]:
        panels.append((f"p95 of {latency.signal}", "", charts.p95_over_time(line, latency, labelled=not bad)))
    for index, counts in enumerate(bad):
        drawn = charts.counts_over_time(line, counts, labelled=index == len(bad) - 1)
        said = ", ".join(f"{arm} {bad_n:,} of {n:,}" for arm, (bad_n, n) in counts.totals.items())
        panels.append((counts.signal, said, drawn))
    curves = [(f"{latency.signal}", charts.legend_note(latency), charts.distribution(latency)) for latency in found[:3]]
    return {"ramp": charts.ramp(line), "panels": panels, "distributions": curves, "bin_s": line.bin_s}


def _bar(judgement: Judgement) -> Markup:
    css = f"s-{judgement.status}"
    return interval_bar(judgement.estimate, judgement.interval, judgement.threshold, css)


@cache
def _style() -> str:
    return resources.files("harness.report").joinpath("templates/report.css").read_text(encoding="utf-8")


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("harness.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(number=words.number, status_words=lambda status: words.STATUS_WORDS[status])
    made.globals.update(bar=_bar, measured=words.measured, interval=words.interval)
    return made
