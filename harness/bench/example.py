"""The worked example of docs/judging.md: two rollouts, and what the judge makes of them minute by minute."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.bench.streams import Effect, Layout, Noise, World, draw
from harness.bench.subject import RolloutJudge, calibration, ramp
from harness.report.canvas import figure as figure_of

MINUTES = 30
_ALPHA = 0.01
_LAYOUT = Layout(shares=(0.5,), intervals=4 * MINUTES, views=1)
_WORLD = World(requests_min=400.0, own=Noise(errors=0.5, latency=0.2, memory=0.8))
_SHOWN = (  # what, effect, tempered, colour, dash
    ("as good as its baseline", Effect(), True, "#0b6e4f", "-"),
    ("as good, its noise ignored", Effect(), False, "#0b6e4f", ":"),
    ("errors 1 % become 3 %", Effect(errors=3.0), True, "#c1440e", "-"),
)


def paths(seed: int = 33) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield each release's name and its log10 e-value after every interval of 15 s."""
    for name, effect, tempered, _, _ in _SHOWN:
        stream = draw(np.random.SeedSequence(seed), _WORLD, effect, replace(_LAYOUT), 1)
        judge = RolloutJudge(stream, tempered=tempered)
        for seen in calibration(stream):
            judge.learn(seen)
        yield name, np.array([float(judge.judge(seen)[0]) / math.log(10) for seen in ramp(stream)])


def write(path: Path, seed: int = 33) -> None:
    """Draw the example as a PNG."""
    figure = figure_of((8.5, 4.2))
    axes: Any = figure.subplots()
    looks = np.arange(1, 4 * MINUTES + 1) / 4
    for (name, values), (_, _, _, colour, dash) in zip(paths(seed), _SHOWN, strict=True):
        axes.plot(looks, values, color=colour, linestyle=dash, linewidth=1.8, label=name)
    alarm = -math.log10(_ALPHA)
    axes.axhline(alarm, color="#333333", linewidth=1)
    axes.annotate(f"rolls back at 1/alpha = {1 / _ALPHA:.0f}", (MINUTES, alarm), ha="right", va="bottom", fontsize=9)
    axes.set_ylim(-1.2, 6)
    axes.set_xlim(0, MINUTES)
    axes.set_xlabel("minutes at half the traffic (400 requests a minute in all, a look every 15 s)")
    axes.set_ylabel("evidence that it is worse (log10 e-value)")
    axes.legend(loc="upper left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
