"""report.html: the whole run on one page, in one file that opens offline."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.model.evidence import Evidence
from harness.model.judgement import Judgement, Verdict
from harness.model.status import Decision, Status
from harness.report import charts, series, words
from harness.report.kept import Kept
from harness.report.svg import interval_bar

_MOST_PANELS = 4
_MOST_TAIL = 6000  # characters of a log's end


def page(verdict: Verdict, evidence: Sequence[Evidence], kept: Kept) -> str:
    """Return the page's HTML. It refers to nothing outside itself; the same run gives the same bytes.

    Texts must be free of secrets already.
    """
    ordered = words.worst_first(verdict.judgements)
    outcomes = [case.outcome for case in kept.cases]
    template = _templates().get_template("report.html.j2")
    return template.render(
        v=verdict,
        css=Markup(_style()),  # noqa: S704 - our own file
        tone=_tone(verdict),
        headline=words.headline(verdict),
        claims=[claim for claim in verdict.claims if not claim.startswith(("rehearsal: ", "gating: "))],  # said apart
        gates=[claim.removeprefix("gating: ") for claim in verdict.claims if claim.startswith("gating: ")],
        decision=words.DECISION_WORDS[verdict.decision],
        rehearsal=words.rehearsal_reasons(verdict) if verdict.rehearsal else [],
        took=words.duration(words.took(verdict)),
        tallies=words.counts([j.status for j in verdict.judgements]),
        culprits=[j for j in ordered if j.status in {Status.FAIL, Status.ERROR} and j.severity == "critical"],
        judged=[j for j in ordered if j.status is not Status.NOT_APPLICABLE],
        inapplicable=[j for j in ordered if j.status is Status.NOT_APPLICABLE],
        cases=sorted(kept.cases, key=lambda c: (_OUTCOMES.get(c.outcome, 0), c.name)),
        case_tallies=[(o, outcomes.count(o)) for o in _OUTCOMES if o in outcomes],
        tails={name: text[-_MOST_TAIL:] for name, text in sorted(kept.log_tails.items()) if text.strip()},
        command=kept.command or words.reproduce(verdict),
        **_plots(verdict, evidence, kept),
    )


_OUTCOMES = {"failed": 0, "error": 1, "skipped": 2, "passed": 3}


def _tone(verdict: Verdict) -> str:
    if verdict.decision is Decision.PROMOTE:
        return "pass"
    return str(verdict.status) if verdict.status is not Status.PASS else "inconclusive"


def _plots(verdict: Verdict, evidence: Sequence[Evidence], kept: Kept) -> dict[str, Any]:
    line = series.timeline(verdict, evidence, kept)
    if line is None:
        return {"ramp": "", "panels": [], "distributions": [], "clean": [], "looks": False, "bin_s": 0}
    timed = [record for record in evidence if record.signal not in kept.scores]
    found = [
        latency
        for latency in series.latencies(line, timed, kept.limits, verdict)
        if any(h.n for h in latency.whole.values())
    ]
    counted = series.counts(line, evidence)
    bad = [one for one in counted if any(bad_n for bad_n, _n in one.totals.values())][:_MOST_PANELS]
    clean = [_said(one) for one in counted if not any(bad_n for bad_n, _n in one.totals.values())]
    panels = [(f"p95 of {one.signal}", "", charts.p95_over_time(line, one, labelled=not bad)) for one in found[:1]]
    for index, counts in enumerate(bad):
        drawn = charts.counts_over_time(line, counts, labelled=index == len(bad) - 1)
        panels.append((counts.signal, _said(counts), drawn))
    curves = [(f"{latency.signal}", charts.legend_note(latency), charts.distribution(latency)) for latency in found[:3]]
    return {
        "ramp": charts.ramp(line),
        "panels": panels,
        "distributions": curves,
        "clean": clean,
        "looks": bool(line.looks),
        "bin_s": line.bin_s,
    }


def _said(counts: series.Counts) -> str:
    totals = ", ".join(f"{arm} {bad:,} of {n:,}" for arm, (bad, n) in counts.totals.items() if n)
    return f"{counts.signal}: {totals or 'no requests'}"


def _bar(judgement: Judgement) -> Markup:
    if judgement.threshold is None:
        return Markup()  # nothing to be seen against
    css = f"s-{judgement.status}"
    return interval_bar(judgement.estimate, judgement.interval, judgement.threshold, css)


def _status_words(status: str) -> str:
    return words.STATUS_WORDS[Status(status)]


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
    filters, names = cast("dict[str, Any]", made.filters), cast("dict[str, Any]", made.globals)
    filters.update(number=words.number, status_words=_status_words)
    names.update(bar=_bar, measured=words.measured, interval=words.interval)
    return made
