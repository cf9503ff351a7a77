"""report.html: one file, nothing outside it, everything a reader needs, and the same bytes for the same run."""

import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from report_runs import OBJECTIVES, MadeRun, made_run

from harness.model.judgement import Verdict
from harness.model.objective import Measure
from harness.model.status import Cause, Decision, ExitCode, Status
from harness.report import kept as kept_text
from harness.report.html import page
from harness.report.kept import Kept
from harness.report.words import worst_first

pytestmark = pytest.mark.selftest

_VOID = {"meta", "link", "br", "hr", "img", "input"}
_LOADING = {"src", "href", "xlink:href", "data", "action", "poster", "srcset", "background"}


class _Page(HTMLParser):
    """Collects what a page refers to, its text, and whether its tags close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.refers: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.unbalanced: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.unbalanced += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.refers += [value or "" for name, value in attrs if name in _LOADING]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.refers += [value or "" for name, value in attrs if name in _LOADING]

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outside(html: str) -> list[str]:
    """Return what a page would fetch from elsewhere: addresses, imports, scripts."""
    found = _Page(html)
    wrong = [r for r in found.refers if r and not r.startswith(("#", "data:"))]
    wrong += [tag for tag in found.tags if tag in {"script", "iframe", "object", "embed", "base"}]
    return wrong + re.findall(r"@import[^;]*|url\((?!['\"]?data:)[^)]*\)", html)


def _page(run: MadeRun) -> str:
    kept = Kept.of(cases=run.cases, log_tails=run.log_tails, events=run.events, objectives=OBJECTIVES, command="")
    return page(run.verdict, run.evidence, kept)


def _bare(verdict: Verdict) -> str:
    return page(verdict, (), Kept())


@pytest.mark.parametrize("bad", [False, True])
def test_the_page_refers_to_nothing_outside_itself(*, bad: bool) -> None:
    """No scripts, no fonts, no images from elsewhere: it opens offline."""
    html = _page(made_run(bad=bad))

    assert outside(html) == []
    assert "default-src 'none'" in html


@pytest.mark.parametrize(
    "planted",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/a.css">',
        '<img src="logo.png">',
        "<style>@import 'a.css';</style>",
        "<style>a { background: url(https://example/x.png) }</style>",
        "<svg><use xlink:href='other.svg#a'/></svg>",
    ],
)
def test_the_search_for_outside_references_finds_planted_ones(planted: str) -> None:
    """The check above is no empty one."""
    assert outside(_page(made_run()) + planted)


@pytest.mark.parametrize("bad", [False, True])
def test_the_page_is_well_formed_and_its_links_lead_somewhere(*, bad: bool) -> None:
    """Tags close in order; every #link has its target; no id twice."""
    found = _Page(_page(made_run(bad=bad)))

    assert found.unbalanced == []
    assert {r[1:] for r in found.refers if r.startswith("#")} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_the_page_tells_the_whole_run() -> None:
    """Verdict, cause, badge with its why, every judgement, service, waiver, case, log, and the way to run it again."""
    run = made_run(bad=True)
    text = " ".join(_Page(_page(run)).text)

    for said in (
        "Rolled back", "because of the release", "Rehearsal", "stand-ins served for ollama",
        *(j.id for j in run.verdict.judgements), *(j.requirement for j in run.verdict.judgements),
        *(j.remedy for j in run.verdict.judgements if j.status is not Status.PASS),
        *(s.name for s in run.verdict.services), *(s.version for s in run.verdict.services),
        *run.verdict.claims, "ops@example.org", "test_redis_answers_ping[rf.svc.redis]", "no cAdvisor",
        "gateway[candidate]", "rollgate gate researchflow --release bad-errors", run.verdict.evidence_digest,
    ):  # fmt: skip
        assert said in text, said


def test_what_fails_stands_first() -> None:
    """The table's order is fail, error, inconclusive, pass; critical before the rest."""
    run = made_run(bad=True)
    found = [j.status for j in worst_first(run.verdict.judgements)]
    order = [Status.FAIL, Status.ERROR, Status.INCONCLUSIVE, Status.PASS, Status.NOT_APPLICABLE]

    assert found == sorted(found, key=order.index)
    table = _page(run).partition('<table class="judgements">')[2]
    assert table.index("rf.canary.errors") < table.index("rf.slo.leak") < table.index("rf.rollout.availability")


def test_the_same_run_makes_the_same_bytes() -> None:
    """No clock, no random ids in the page."""
    assert _page(made_run(bad=True)) == _page(made_run(bad=True))


def test_markup_in_evidence_is_text_on_the_page() -> None:
    """A version, a log line or a requirement that holds HTML is shown, never run."""
    run = made_run()
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    verdict = replace(
        run.verdict,
        candidate=hostile,
        reason=hostile,
        judgements=(replace(run.verdict.judgements[0], requirement=hostile, reason=hostile, unit="ms"),),
    )
    html = _page(replace(run, verdict=verdict, log_tails={"router": hostile, hostile: "x"}))

    assert outside(html) == []
    assert "&lt;script&gt;alert(1)" in html


def test_a_run_that_never_began_still_has_a_page() -> None:
    """The environment broke at the start: no stages, no judgements, no evidence, no services."""
    verdict = replace(
        made_run().verdict, decision=Decision.ROLLBACK, cause=Cause.ENVIRONMENT, status=Status.ERROR,
        exit_code=ExitCode.ENVIRONMENT, stages=(), judgements=(), services=(), claims=(), waivers=(), rehearsal=False,
        reason="redis did not come up: port taken",
    )  # fmt: skip
    html = _bare(verdict)

    assert _Page(html).unbalanced == []
    assert "redis did not come up" in html
    assert "says nothing about the release" in html
    assert "Nothing was judged" in html


def test_a_page_without_evidence_still_shows_the_ramp() -> None:
    """The evidence folder is gone: the stages of the verdict are drawn, the curves are left out."""
    html = _bare(made_run(bad=True).verdict)

    assert 'id="timeline"' in html
    assert 'id="latency"' not in html


def test_a_promotion_by_hand_claims_nothing() -> None:
    """An operator promoted: the plan's claims are shown as unproven."""
    verdict = replace(made_run().verdict, cause=Cause.OPERATOR)

    assert "claims were <b>not</b> proven" in _bare(verdict)


def test_the_page_says_how_the_arms_were_compared_apart_from_what_may_be_claimed() -> None:
    """A claim about the gating stands under its own words, without its mark; a page without one has no such words."""
    verdict = made_run().verdict
    how = replace(verdict, claims=(*verdict.claims, "gating: not calibrated (nothing is known)"))
    assert "How the arms were compared:" in _bare(how)
    assert "<li>not calibrated (nothing is known)</li>" in _bare(how)
    assert "How the arms were compared:" not in _bare(verdict)


def test_the_page_is_made_in_under_two_seconds() -> None:
    """An hour of evidence, one record a second: the gate's end stays quick."""
    run = made_run()
    long = [replace(r, start_s=r.start_s + 80 * i, end_s=r.end_s + 80 * i) for i in range(45) for r in run.evidence]
    stages = tuple(replace(s, ended_at=s.ended_at + 3600) for s in run.verdict.stages[-1:])
    began = time.monotonic()

    html = page(replace(run.verdict, stages=stages), long, Kept())

    assert time.monotonic() - began < 2
    assert len(html) < 400_000


def test_latencies_are_drawn_from_the_finest_buckets_and_the_main_one_first() -> None:
    """A load that hands in `query.service` and `query.latency.fine` as well: latency leads, drawn from the fine one."""
    run = made_run()
    fine_bounds = tuple(0.001 * 1.1**i for i in range(100))
    extra = []
    for record in run.evidence:
        if record.signal == "query.latency":
            counts = (0,) * 30 + (record.n,) + (0,) * 70
            extra.append(replace(record, signal="query.latency.fine", bounds=fine_bounds, counts=counts))
            extra.append(replace(record, signal="query.service"))
    html = _page(replace(run, evidence=(*extra, *run.evidence)))
    figures = re.findall(r"<figcaption><b>([^<]+)</b>", html)

    assert figures.index("p95 of query.latency") < figures.index("query.latency") < figures.index("query.service")
    assert "query.latency.fine" not in html
    assert "p95 17" in html.partition('id="latency"')[2]  # 0.001 * 1.1 ** 30 = 17.4 ms


def test_scores_are_not_drawn_as_latencies() -> None:
    """Histograms of a signal that an objective on scores reads; without such an objective they are taken for times."""
    run = made_run()
    scores = [replace(r, signal="query.quality") for r in run.evidence if r.signal == "query.latency"]
    quality = replace(OBJECTIVES[0], signal="query.quality", measure=Measure.SCORE)
    for objectives, drawn in ((OBJECTIVES, True), ((*OBJECTIVES, quality), False)):
        kept = Kept.of(cases=(), log_tails={}, events=run.events, objectives=objectives, command="")
        assert kept_text.loads(kept_text.dumps(kept)) == kept
        assert ("query.quality" in page(run.verdict, (*run.evidence, *scores), kept)) is drawn


def test_signals_without_a_single_bad_event_are_said_not_drawn() -> None:
    """No empty plots: a sentence with the counts."""
    run = made_run()
    clean = tuple(replace(r, bad=0) if r.signal == "query.error" else r for r in run.evidence)
    html = _page(replace(run, evidence=clean))

    assert re.search(r"None at all: query\.error: baseline 0 of \d+, candidate 0 of 1,\d+", html)
    assert "<b>query.error</b>" not in html
