"""The checker of live alerts: what did its part passes, and each planted violation is rejected by its words."""

import dataclasses
import re

import pytest

from harness.model.rule import Job, Recorded, Rule, Scrape
from harness.planning.rules.catalogue import Catalogue
from harness.planning.rules.live import (
    Delivered,
    Evaluated,
    Foretold,
    Observed,
    Shown,
    Struck,
    foretell,
    show,
    told_value,
)
from harness.planning.rules.routing import Match, Route, Routing
from harness.spec.monitoring import find_monitoring, load_monitoring

pytestmark = pytest.mark.selftest

STEP = 0.5
RULE = Rule(
    name="MemoryHigh",
    alert=True,
    expr="memory_used / memory_total > 0.9",
    group="g",
    file="rules.yml",
    for_s=4.0,
    interval_s=STEP,
    labels=(("severity", "warning"), ("component", "host")),
    annotations=(
        ("summary", "{{ $labels.instance }} has {{ $value | humanizePercentage }} in use"),
        ("description", "The limit is 90 %; found {{ $value | humanizePercentage }}."),
    ),
)
JOBS = (Job(name="node", interval_s=STEP, timeout_s=STEP),)
CATALOGUE = Catalogue(
    [
        Scrape(
            "node",
            tuple(
                Recorded(frozenset({("__name__", name), ("job", "node")}), 1.0)
                for name in ("memory_used", "memory_total")
            ),
        )
    ]
)
ROUTE = Route(
    "operations",
    (),
    "am.yml:1",
    routes=(Route("pager", (Match("severity", "=", "critical"),), "am.yml:2", group_wait_s=0.2),),
    group_wait_s=0.4,
    group_interval_s=2.0,
)
ROUTING = Routing(ROUTE, {})
LABELS = {"alertname": "MemoryHigh", "severity": "warning", "component": "host", "instance": "a"}
TEXTS = {"summary": "a has 93% in use", "description": "The limit is 90 %; found 93%."}
BEGAN, MENDED = 100.0, 110.0
STRUCK = Struck(alert="MemoryHigh", began=BEGAN, mended=MENDED, labels={"instance": "a"}, low=0.92, high=0.94)


def steps(first: float, last: float) -> tuple[float, ...]:
    """Return the moments of evaluations from `first` to `last`."""
    return tuple(first + STEP * number for number in range(round((last - first) / STEP) + 1))


def evaluated(
    waits: float = 101.0, fires: float = 105.0, ends: float = 110.5, labels: dict[str, str] = LABELS
) -> Evaluated:
    """Return an alert that began to wait, fired and ended at these moments."""
    return Evaluated(alert="MemoryHigh", labels=labels, pending=steps(waits, fires - STEP), firing=steps(fires, ends))


def delivered(at: float, *, firing: bool = True, **changes: object) -> Delivered:
    """Return a notification."""
    made = Delivered(receiver="operations", alert="MemoryHigh", labels=LABELS, annotations=TEXTS, firing=firing, at=at)
    return dataclasses.replace(made, **changes)


TOLD = (delivered(105.5), delivered(112.0, firing=False))


def shown(
    series: tuple[Evaluated, ...] = (evaluated(),),
    told: tuple[Delivered, ...] = TOLD,
    *,
    rule: Rule = RULE,
    struck: Struck | None = STRUCK,
    others: tuple[Struck, ...] = (),
) -> Shown:
    """Judge a run of `rule` as the shipped file foretells it."""
    observed = Observed(since=50.0, until=150.0, evaluated=series, delivered=told)
    return show(rule, struck, foretold(), observed, others)


def foretold() -> Foretold:
    """Return what the shipped rule promises."""
    return foretell(RULE, JOBS, CATALOGUE, ROUTING)


def test_an_alert_that_did_its_part_is_proven():
    """It fired and was told in time, with the fault's value, and ended with the mend."""
    found = shown()
    assert found.problems == ()
    assert (found.fired_s, found.delivered_s, found.resolved_s, found.told) == (5.0, 5.5, 2.0, 0.93)
    assert found.silent


def test_what_is_foretold_follows_from_the_files():
    """Window, `for`, a scrape and an evaluation to fire; then its route's wait; its end without `for`."""
    windowed = dataclasses.replace(RULE, expr="rate(memory_used[10s]) > 0.9")
    assert foretold() == Foretold(fires_s=5.0, delivered_s=5.4, resolved_s=3.0, receiver="operations")
    assert foretell(windowed, JOBS, CATALOGUE, ROUTING).fires_s == 15.0
    critical = dataclasses.replace(RULE, labels=(("severity", "critical"),))
    assert foretell(critical, JOBS, CATALOGUE, ROUTING).delivered_s == 5.2
    assert foretell(critical, JOBS, CATALOGUE, ROUTING).receiver == "pager"


VIOLATIONS = {
    "a doubled `for`": ((evaluated(101.0, 109.0),), (delivered(109.5), TOLD[1]), "it waited 8.0 s before it fired"),
    "no `for` at all": ((evaluated(101.5, 101.5),), (delivered(102.0), TOLD[1]), "it waited 0.0 s before it fired"),
    "a threshold above the fault": ((), (), "it never fired"),
    "a threshold below the healthy level": (
        (evaluated(55.0, 59.0, 149.0),),
        (delivered(59.5), *TOLD),
        "it fired without its fault 9.0 s into the run",
    ),
    "a receiver that never gets it": ((evaluated(),), (), "no receiver ever got it"),
    "a receiver that is told late": ((evaluated(),), (delivered(108.0), TOLD[1]), "it was delivered after 8.0 s"),
    "another receiver": ((evaluated(),), (delivered(105.5, receiver="digest"), TOLD[1]), "digest got it"),
    "fires on the healthy stack": (
        (evaluated(), evaluated(60.0, 64.0, 64.5)),
        TOLD,
        "it fired without its fault 14.0 s into the run",
    ),
    "told of on the healthy stack": ((evaluated(),), (delivered(70.0), *TOLD), "operations was told of it without"),
    "fires late": ((evaluated(104.0, 108.0),), (delivered(108.2), TOLD[1]), "it fired after 8.0 s, 6.5 s are foretold"),
    "another instance": (
        (evaluated(), evaluated(labels={**LABELS, "instance": "b"})),
        TOLD,
        "it fired without its fault 55.0 s into the run: instance=b",
    ),
    "ends before the mend": ((evaluated(ends=107.0),), TOLD, "it ended 3.0 s before the mend"),
    "never ends": ((evaluated(),), TOLD[:1], "its end was never delivered"),
    "ends late": (
        (evaluated(ends=119.0),),
        (TOLD[0], delivered(119.5, firing=False)),
        "its end was delivered after 9.5",
    ),
    "another value": (
        (evaluated(),),
        (delivered(105.5, annotations={**TEXTS, "summary": "a has 99% in use"}), TOLD[1]),
        "it tells 0.99, the fault is 0.92 to 0.94",
    ),
    "no value": (
        (evaluated(),),
        (delivered(105.5, annotations={"summary": "much", "description": "much"}), TOLD[1]),
        "its annotations tell no value",
    ),
    "an empty annotation": (
        (evaluated(),),
        (delivered(105.5, annotations={"summary": TEXTS["summary"]}), TOLD[1]),
        "annotations description are empty",
    ),
    "a label of another value": (
        (evaluated(),),
        (delivered(105.5, labels={**LABELS, "severity": "info"}), TOLD[1]),
        "label severity is 'info', expected 'warning'",
    ),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_planted_violation_is_rejected(violation: str):
    """Each by its own words."""
    series, told, expected = VIOLATIONS[violation]
    problems = shown(series, told).problems
    assert any(expected in problem for problem in problems), problems


def test_a_rule_that_nothing_was_done_to_must_be_silent():
    """One evaluation that fires is enough."""
    assert shown((), (), struck=None).problems == ()
    found = shown((evaluated(70.0, 74.0, 74.0),), (), struck=None)
    assert not found.silent
    assert found.problems


def test_a_fault_may_make_another_alert_fire_while_it_lasts():
    """Only the alerts that it names, and not before it."""
    other = Struck(alert="Other", began=95.0, mended=111.0, may=frozenset({"MemoryHigh"}))
    assert shown(struck=None, others=(other,)).problems == ()
    assert shown(struck=None, others=(dataclasses.replace(other, may=frozenset()),)).problems
    assert shown(struck=None, others=(dataclasses.replace(other, began=107.0),)).problems


def test_what_is_before_the_watch_is_not_held_against_a_rule():
    """A stack that starts is without its first scrapes."""
    assert shown((evaluated(), evaluated(40.0, 44.0, 46.0)), (delivered(44.5), *TOLD)).problems == ()


@pytest.mark.parametrize(
    "template, text, value",
    [
        ("{{ $value | humanizePercentage }} in use", "93.2% in use", 0.932),
        ("p95 of {{ $labels.arm }} is {{ $value | humanizeDuration }}", "p95 of candidate is 7.85s", 7.85),
        ("takes {{ $value | humanizeDuration }}", "takes 1m 5s", 65.0),
        ("takes {{ $value | humanizeDuration }}", "takes 250ms", 0.25),
        ("moves {{ $value | humanize }}B/s", "moves 130MB/s", 130e6),
        ('{{ $value | printf "%.1f" }} times a second', "25.0 times a second", 25.0),
        ("{{ $value }} requests wait", "417 requests wait", 417.0),
        ("down ({{ with $labels.instance }}{{ . }}{{ else }}no target{{ end }}): {{ $value }}", "down (a:1): 0", 0.0),
        (
            "down ({{ with $labels.instance }}{{ . }}{{ else }}no target{{ end }}): {{ $value }}",
            "down (no target): 1",
            1.0,
        ),
        ("no value at all", "no value at all", None),
        ("{{ $value }} requests wait", "many requests wait", None),
    ],
)
def test_the_live_value_is_read_out_of_an_annotation(template: str, text: str, value: float | None):
    """In each form in which a template may show it."""
    rule = dataclasses.replace(RULE, annotations=(("summary", template),))
    found = told_value(rule, {"summary": text})
    assert found == (value if value is None else pytest.approx(value))


SAMPLES = {"humanizePercentage": ("93%", 0.93), "humanizeDuration": ("7.85s", 7.85), "humanize": ("130M", 130e6)}


@pytest.mark.parametrize("system", ["researchflow", "pipeline"])
def test_the_live_value_of_every_shipped_alert_can_be_read(system: str):
    """Whatever stands around it, in the first annotation that shows it."""
    for rule in load_monitoring(find_monitoring(system)).alerts:
        texts: dict[str, str] = {}
        expected: list[float] = []
        for name, template in rule.annotations:
            text = re.sub(r"\{\{ with .*?\{\{ end \}\}", "10.0.0.1:80", template)
            for form in re.findall(r"\{\{ \$value(?: \| (\w+).*?)? \}\}", text):
                shown_as, value = SAMPLES.get(form, ("12", 12.0))
                text = re.sub(r"\{\{ \$value.*?\}\}", shown_as, text)
                expected.append(value)
            texts[name] = re.sub(r"\{\{.*?\}\}", "something", text)
        assert expected, rule.name
        assert told_value(rule, texts) == pytest.approx(expected[0]), rule.name
