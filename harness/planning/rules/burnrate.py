"""Alerts on how fast an objective's error budget burns, over a long and a short window at once.

Factors and windows are those of the SRE workbook's chapter on alerting on SLOs: a page when 2 % of a month's budget go
in an hour or 5 % in six, a ticket when 10 % go in a day or three.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.model.evidence import Source
from harness.model.objective import Against, Measure, Objective
from harness.model.system import Signal

HEAD = """\
# Generated from objectives.yaml by `rollgate rules generate {system}`: change the objectives, not this file.
# An error budget is what an objective allows to be bad. Each alert wants a long and a short window to burn it faster
# than its factor: the long one so that a blip is no alert, the short one so that it ends when the fault does.
"""
_FLOOR = 0.05  # requests a second, under which a ratio is no news


@dataclass(frozen=True, slots=True)
class Window:
    """One alert of an objective: burns at `factor` over `long` and over `short`."""

    factor: float
    long: str
    short: str
    hold: str
    severity: str


WINDOWS = (
    Window(14.4, "1h", "5m", "2m", "critical"),
    Window(6, "6h", "30m", "15m", "critical"),
    Window(3, "1d", "2h", "1h", "warning"),
    Window(1, "3d", "6h", "3h", "warning"),
)


def burn_rates(system: str, objectives: Sequence[Objective], signals: Mapping[str, Signal]) -> str:
    """Return the rule file of a system, "" where no objective is a share of requests that Prometheus counts.

    A window whose factor is above 1/budget is left out: no service can burn that fast.
    """
    rules: list[str] = []
    for objective in objectives:
        signal = signals.get(objective.signal)
        ratio = _Ratio.of(objective, signal) if signal else None
        if ratio is None:
            continue
        for window in WINDOWS:
            if window.factor * ratio.budget < 1:
                rules += _rule(objective, ratio, window)
            else:
                limit = f"a budget of {ratio.budget:g} cannot burn {window.factor:g} times as fast"
                rules.append(f"      # {objective.id} over {window.long}: {limit}")
    if not rules:
        return ""
    return (
        "\n".join(
            [
                HEAD.format(system=system) + "groups:",
                "  - name: slo_burn_rate",
                "    interval: 1m",
                "    rules:",
                *rules,
            ]
        )
        + "\n"
    )


@dataclass(frozen=True, slots=True)
class _Ratio:
    """The share of bad requests as PromQL, and how much of it an objective allows."""

    budget: float
    bad: str
    total: str
    inverted: bool

    @classmethod
    def of(cls, objective: Objective, signal: Signal) -> "_Ratio | None":
        if objective.against is not Against.NUMBER or Source.PROMETHEUS not in objective.sources:
            return None
        if objective.measure is Measure.RATIO and objective.unit == "%" and signal.bad and signal.total:
            return cls(objective.threshold / 100, signal.bad, signal.total, inverted=False)
        if objective.measure is Measure.QUANTILE and objective.quantile and signal.histogram:
            name, brace, rest = signal.histogram.partition("{")
            bound = f"{objective.threshold / 1000 / signal.scale:g}"
            le = 'le=~"' + bound + ("" if "." in bound else r"([.]0)?") + '"'
            labels = f"{{{le}, {rest}" if brace else f"{{{le}}}"
            # rounded, since 1 - 0.95 is no 0.05
            budget = round(1 - objective.quantile, 9)
            return cls(budget, f"{name}_bucket{labels}", f"{name}_count{brace}{rest}", inverted=True)
        return None

    def over(self, window: str) -> str:
        share = f"sum(rate({self.bad}[{window}])) / sum(rate({self.total}[{window}]))"
        return f"1 - {share}" if self.inverted else share


def _rule(objective: Objective, ratio: _Ratio, window: Window) -> Iterator[str]:
    name = "".join(part.capitalize() for part in re.split(r"[^a-zA-Z0-9]+", objective.id.split(".", 1)[-1]))
    limit = f"({window.factor:g} * {ratio.budget:g})"
    labels = {"severity": window.severity, "component": "slo", "symptom": "burn", "slo": objective.id}
    yield f"      - alert: BudgetBurn{name}{window.long}"
    yield "        expr: |"
    yield f"          {ratio.over(window.long)} > {limit}"
    yield "            and"
    yield f"          {ratio.over(window.short)} > {limit}"
    yield "            and"
    yield f"          sum(rate({ratio.total}[{window.short}])) > {_FLOOR}"
    yield f"        for: {window.hold}"
    yield "        labels: {" + ", ".join(f"{key}: {value}" for key, value in labels.items()) + "}"
    yield "        annotations:"
    texts = {
        "requirement": objective.id,
        "summary": f"{objective.requirement}: {{{{ $value | humanizePercentage }}}} bad over {window.long}",
        "description": (
            f"{{{{ $value | humanizePercentage }}}} of the requests of the last {window.long} broke the objective, "
            f"{window.factor:g} times what its budget of {ratio.budget * 100:g} % allows, and they still do."
        ),
        "runbook_url": "prometheus/runbook.md#budgetburn",
    }
    for key, text in texts.items():
        yield f"          {key}: {json.dumps(text, ensure_ascii=False)}"
