"""A plot area in SVG: scales, axes, lines and bars. Colours are CSS classes, so that both colour schemes are served."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from harness.report import words

WIDTH = 960.0
LEFT = 62.0
RIGHT = 16.0
TOP = 14.0
BOTTOM = 26.0

Point = tuple[float, float]


def px(value: float) -> str:
    """Write a coordinate: two digits are finer than a screen, and the same bytes everywhere."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Maps values of [low, high] to pixels of [start, end], linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of `value`, held within the plot's edges."""
        low, high, at = (self._warp(v) for v in (self.low, self.high, value))
        part = (at - low) / (high - low) if high > low else 0.0
        return self.start + min(1.0, max(0.0, part)) * (self.end - self.start)

    def _warp(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.log else value

    def ticks(self, most: int = 6) -> list[float]:
        """Return round values to mark."""
        return self._decades() if self.log else _round_steps(self.low, self.high, most)

    def _decades(self) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        finer = (1, 2, 5) if last - first <= 4 else (1,)  # noqa: PLR2004 - more marks would touch each other
        marks = [m * 10.0**d for d in range(first, last + 1) for m in finer]
        return [v for v in marks if self.low * 0.999 <= v <= self.high * 1.001]


def _round_steps(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / most
    if rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(slots=True)
class Plot:
    """A plot being drawn. `x` and `y` are scales in the plot's pixels; later parts lie over earlier ones."""

    title: str
    x: Scale
    y: Scale
    height: float
    parts: list[str] = field(default_factory=list[str])

    @classmethod
    def make(
        cls, title: str, x: tuple[float, float], y: tuple[float, float], height: float, *, log: bool = False,
        bottom: float = BOTTOM, log_y: bool = False,
    ) -> "Plot":  # fmt: skip
        """Return an empty plot; `x` and `y` are the ranges of values, `log` makes both axes logarithmic."""
        return cls(
            title=title,
            x=Scale(low=x[0], high=x[1], start=LEFT, end=WIDTH - RIGHT, log=log),
            y=Scale(low=y[0], high=y[1], start=height - bottom, end=TOP, log=log or log_y),
            height=height,
        )

    def axes(
        self,
        x_label: Callable[[float], str] | None,
        y_label: Callable[[float], str],
        *,
        y_most: int = 4,
        whole: bool = False,
    ) -> None:
        """Draw the grid and its labels; no x labels where `x_label` is None (a plot below has them).

        `whole` marks whole numbers only: there is no half an error.
        """
        for value in self.y.ticks(y_most):
            if whole and value != int(value):
                continue
            at = self.y(value)
            self.line((self.x.start, at), (self.x.end, at), "grid")
            self.text(self.x.start - 8, at + 4, y_label(value), "tick end")
        for value in self.x.ticks(9):
            at = self.x(value)
            self.line((at, self.y.start), (at, self.y.start + 4), "axis")
            if x_label:
                self.text(at, self.y.start + 18, x_label(value), "tick mid")
        self.line((self.x.start, self.y.start), (self.x.end, self.y.start), "axis")

    def line(self, a: Point, b: Point, css: str, tip: str = "") -> None:
        """Draw a line between two pixels."""
        ends = f'x1="{px(a[0])}" y1="{px(a[1])}" x2="{px(b[0])}" y2="{px(b[1])}"'
        self.parts.append(_titled(f'<line class="{css}" {ends}', "line", tip))

    def rect(self, a: Point, b: Point, css: str, tip: str = "") -> None:
        """Draw a rectangle between two corners in pixels."""
        x, y, w, h = min(a[0], b[0]), min(a[1], b[1]), abs(a[0] - b[0]), abs(a[1] - b[1])
        box = f'x="{px(x)}" y="{px(y)}" width="{px(w)}" height="{px(h)}"'
        self.parts.append(_titled(f'<rect class="{css}" {box}', "rect", tip))

    def path(self, values: Sequence[Point], css: str, *, area: bool = False) -> None:
        """Draw values (not pixels) as one line, or as the area under it."""
        if not values:
            return
        pixels = [(self.x(x), self.y(y)) for x, y in values]
        if area:
            pixels = [(pixels[0][0], self.y.start), *pixels, (pixels[-1][0], self.y.start)]
        steps = "L".join(f"{px(x)} {px(y)}" for x, y in pixels)
        self.parts.append(f'<path class="{css}" d="M{steps}{"Z" if area else ""}"/>')

    def dot(self, value: Point, css: str, tip: str = "", radius: float = 2.6) -> None:
        """Draw a dot at a value."""
        where = f'cx="{px(self.x(value[0]))}" cy="{px(self.y(value[1]))}" r="{px(radius)}"'
        self.parts.append(_titled(f'<circle class="{css}" {where}', "circle", tip))

    def text(self, x: float, y: float, text: str, css: str) -> None:
        """Write text at a pixel."""
        self.parts.append(f'<text class="{css}" x="{px(x)}" y="{px(y)}">{escape(text)}</text>')

    def svg(self) -> Markup:
        """Return the whole picture."""
        box = f'viewBox="0 0 {px(WIDTH)} {px(self.height)}"'
        inside = "".join(self.parts)
        return Markup(f'<svg class="plot" role="img" aria-label="{escape(self.title)}" {box}>{inside}</svg>')  # noqa: S704 - every text went through escape


def _titled(opening: str, tag: str, tip: str) -> str:
    return f"{opening}><title>{escape(tip)}</title></{tag}>" if tip else f"{opening}/>"


def interval_bar(
    estimate: float | None, interval: tuple[float, float] | None, threshold: float | None, css: str
) -> Markup:
    """Draw a judgement's interval and estimate beside its threshold, on a line of their own."""
    if estimate is None or not math.isfinite(estimate):
        return Markup()
    low, high = interval or (estimate, estimate)
    known = [v for v in (estimate, low, high, threshold) if v is not None and math.isfinite(v)]
    left, right = min(0.0, *known), max(known)
    if threshold is not None and threshold > 0:
        right = min(right, 4 * max(threshold, estimate))  # an open end must not squeeze the rest to a dot
    right = max(right, left + 1e-9)
    room = 0.06 * (right - left)
    scale = Scale(low=left - (room if left < 0 else 0), high=right + room, start=2, end=158)
    parts = ['<line class="axis" x1="2" y1="11" x2="158" y2="11"/>']
    a, b = scale(low), scale(high)
    parts.append(f'<rect class="fill {css}" x="{px(a)}" y="7" width="{px(max(b - a, 1.5))}" height="8" rx="2"/>')
    if threshold is not None:
        at = px(scale(threshold))
        parts.append(f'<line class="limit" x1="{at}" y1="1" x2="{at}" y2="21"/>')
    parts.append(f'<circle class="fill strong {css}" cx="{px(scale(estimate))}" cy="11" r="4"/>')
    said = f"estimate {words.number(estimate)}, interval {words.number(low)} to {words.number(high)}"
    said += f", threshold {words.number(threshold)}" if threshold is not None else ""
    inside = "".join(parts)
    return Markup(f'<svg class="bar" viewBox="0 0 160 22" role="img" aria-label="{escape(said)}">{inside}</svg>')  # noqa: S704 - numbers and our own class names
