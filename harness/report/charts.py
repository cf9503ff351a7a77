"""The report's plots: the ramp, both arms' p95 and bad events over time, and their latency distributions."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from harness.model.evidence import Arm
from harness.model.status import Status
from harness.report import words
from harness.report.series import Counts, Latency, Timeline
from harness.report.svg import BOTTOM, LEFT, Plot

_ARMS = ((Arm.BASELINE, "base"), (Arm.CANDIDATE, "cand"))
_WIDEST_BAR = 9.0
_MANY_BOUNDS = 40
_MOST_THRESHOLDS_OFF = 8.0  # a threshold this many times above the data would press the data flat


def ramp(line: Timeline) -> Markup:
    """Draw the candidate's share over time, the stages, each look of the judge and the decision."""
    plot = Plot.make("candidate's share of the traffic over time", (0, line.length), (0, 122), 200, bottom=40)
    _bands(plot, line, named=True)
    plot.axes(None, lambda share: f"{share:.0f} %" if share <= 100 else "")  # noqa: PLR2004 - percent
    plot.path(line.share, "area cand", area=True)
    plot.path(line.share, "line cand")
    for at in line.looks:
        plot.line((plot.x(at), plot.y.start + 15), (plot.x(at), plot.y.start + 26), "look")
    if line.looks:
        plot.text(LEFT - 8, plot.y.start + 27, "looks", "tick end")
    _decision(plot, line, named=True)
    return plot.svg()


def p95_over_time(line: Timeline, latency: Latency, *, labelled: bool) -> Markup:
    """Draw both arms' p95 over time, with the thresholds that lie within reach."""
    values = [ms for points in latency.p95.values() for _at, ms in points]
    if not values:
        return Markup()
    near = [(text, ms) for text, ms in latency.thresholds if ms <= _MOST_THRESHOLDS_OFF * max(values)]
    top = max([*values, *(ms for _text, ms in near)]) * 1.15
    height = 190.0 if labelled else 172.0
    plot = Plot.make(f"p95 of {latency.signal} over time", (0, line.length), (0, top), height,
                     bottom=BOTTOM if labelled else 8)  # fmt: skip
    _bands(plot, line)
    plot.axes(_seconds if labelled else None, lambda ms: f"{words.number(ms)} ms")
    for text, ms in near:
        _threshold(plot, text, ms)
    far = [ms for _text, ms in latency.thresholds if ms > _MOST_THRESHOLDS_OFF * max(values)]
    if far:
        said = ", ".join(f"{words.number(ms)} ms" for ms in far)
        plot.text(plot.x.start + 6, plot.y.end + 12, f"▲ thresholds far above: {said}", "tick")
    for arm, css in _ARMS:
        plot.path(latency.p95[arm], f"line {css}")
        for at, ms in latency.p95[arm]:
            plot.dot((at, ms), f"fill strong {css}", f"{arm}: p95 {ms:.1f} ms at {at:.0f} s")
    _decision(plot, line)
    return plot.svg()


def counts_over_time(line: Timeline, counts: Counts, *, labelled: bool) -> Markup:
    """Draw bad events as bars, the two arms side by side in each bin."""
    most = max((bad for bins in counts.bins.values() for _at, bad, _n in bins), default=0)
    height = 130.0 if labelled else 112.0
    plot = Plot.make(f"{counts.signal} over time", (0, line.length), (0, max(most, 1) * 1.15), height,
                     bottom=BOTTOM if labelled else 8)  # fmt: skip
    _bands(plot, line)
    plot.axes(_seconds if labelled else None, words.number, y_most=3, whole=True)
    width = min(_WIDEST_BAR, 0.42 * (plot.x(line.bin_s) - plot.x(0)))
    for place, (arm, css) in enumerate(_ARMS):
        for at, bad, n in counts.bins[arm]:
            if bad:
                left = plot.x(at + line.bin_s / 2) + (place - 1) * width
                tip = f"{arm}: {bad} of {n} at {at:.0f} s"
                plot.rect((left, plot.y(bad)), (left + width, plot.y.start), f"fill strong {css}", tip)
    _decision(plot, line)
    return plot.svg()


def distribution(latency: Latency) -> Markup:
    """Draw, for both arms, the share of requests slower than x: both axes logarithmic, thresholds as lines."""
    points = {arm: [(s * 1000, share) for s, share in latency.whole[arm].above()] for arm in Arm}
    shown = [(ms, share) for some in points.values() for ms, share in some if share > 0]
    if not shown:
        return Markup()
    least = min(share for _ms, share in shown)
    bounds = sorted({ms for some in points.values() for ms, _share in some})
    slow = max(ms for ms, _share in shown)
    after = next((ms for ms in bounds if ms > slow), slow * 2)
    right = max([after, *(ms for _text, ms in latency.thresholds)]) * 1.25
    low = min(0.6 * least, 0.008)
    plot = Plot.make(f"distribution of {latency.signal}", (bounds[0] * 0.8, right), (low, 1.0), 330, log=True)
    plot.axes(_milliseconds, _percent)
    dots = 1.6 if len(bounds) > _MANY_BOUNDS else 2.6
    for share, name in ((0.5, "p50"), (0.05, "p95"), (0.01, "p99"), (0.001, "p99.9")):
        if share >= low:
            plot.line((plot.x.start, plot.y(share)), (plot.x.end, plot.y(share)), "guide")
            plot.text(plot.x.start + 6, plot.y(share) - 4, name, "tick")
    for text, ms in latency.thresholds:
        _upright(plot, text, ms)
    for arm, css in _ARMS:
        drawn = [(ms, share) for ms, share in points[arm] if share > 0]
        plot.path([(plot.x.low, 1.0), *drawn], f"line {css}")
        for ms, share in drawn:
            plot.dot(
                (ms, share), f"fill strong {css}", f"{arm}: {100 * share:.3g} % slower than {words.number(ms)} ms", dots
            )
    return plot.svg()


def legend_note(latency: Latency) -> str:
    """Say how many requests each arm's curve stands on, and its quantiles."""
    parts: list[str] = []
    for arm in Arm:
        whole = latency.whole[arm]
        named = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
        said = [f"{name} {_quantile(whole.quantile(q), whole.bounds)}" for q, name in named] if whole.n else []
        parts.append(f"{arm}: {', '.join([f'{whole.n:,} requests', *said])}")
    return " · ".join(parts)


def _quantile(seconds: float | None, bounds: Sequence[float]) -> str:
    if seconds is None:
        return "—"
    return f"over {words.number(bounds[-1] * 1000)} ms" if math.isinf(seconds) else f"{seconds * 1000:,.1f} ms"


def _bands(plot: Plot, line: Timeline, *, named: bool = False) -> None:
    """Shade the stages in turns, with their status as a strip at the top."""
    for index, stage in enumerate(line.stages):
        a, b = plot.x(stage.started_at - line.began), plot.x(stage.ended_at - line.began)
        if b <= a:
            continue
        plot.rect((a, plot.y.end), (b, plot.y.start), f"band b{index % 2}")
        if named:
            word = words.STATUS_WORDS[stage.status]
            tip = f"stage {stage.id}: {word}, {stage.n_baseline:,} / {stage.n_candidate:,} requests"
            plot.rect((a + 0.5, plot.y.end - 6), (b - 0.5, plot.y.end - 2), f"fill strong {_css(stage.status)}", tip)
            if b - a > 26:  # noqa: PLR2004 - pixels that the label needs
                plot.text((a + b) / 2, plot.y.end + 13, f"{words.number(stage.share)} %", "tick mid")


def _decision(plot: Plot, line: Timeline, *, named: bool = False) -> None:
    if line.decided is None:
        return
    at = plot.x(line.decided)
    plot.line((at, plot.y.end - 8), (at, plot.y.start), "decided", f"decided after {line.decided:.0f} s")
    if named:
        plot.text(at - 5, plot.y.start - 8, "decided", "tick end strong-text")


def _threshold(plot: Plot, text: str, ms: float) -> None:
    plot.line((plot.x.start, plot.y(ms)), (plot.x.end, plot.y(ms)), "limit")
    plot.text(plot.x.start + 6, plot.y(ms) - 5, text, "tick limit-text")


def _upright(plot: Plot, text: str, ms: float) -> None:
    at = plot.x(ms)
    plot.line((at, plot.y.end), (at, plot.y.start), "limit", text)
    y = plot.y.end + 8
    plot.parts.append(
        f'<text class="tick limit-text end" transform="translate({at - 5:.1f} {y:.1f}) rotate(-90)">'
        f"{words.number(ms)} ms</text>"
    )


def _css(status: Status) -> str:
    return f"s-{status}"


def _seconds(value: float) -> str:
    return "0" if value == 0 else words.duration(value).replace(".0 s", " s")


def _milliseconds(ms: float) -> str:
    return f"{words.number(ms / 1000)} s" if ms >= 1000 else f"{words.number(ms)} ms"  # noqa: PLR2004 - ms in a second


def _percent(share: float) -> str:
    return f"{words.number(100 * share)} %"
