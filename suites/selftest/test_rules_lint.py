"""The lint of alert rules: each trap is planted, and named by its check, its file and its line."""

from pathlib import Path

import pytest
from rule_files import CONFIG, GOOD, alert, loaded, system_of

from harness.model.rule import Finding
from harness.planning.rules.cases import pace_of, proof_of
from harness.planning.rules.catalogue import Catalogue
from harness.planning.rules.lint import delay_bound_s, lint
from harness.planning.rules.mutate import mutants
from harness.planning.rules.sense import sense
from harness.planning.rules.subject import subject_of
from harness.spec.monitoring import find_monitoring, load_monitoring

pytestmark = pytest.mark.selftest

FLOOR = " and sum by (job) (rate(app_requests_total[5m])) > 0.1"
RATIO = 'sum by (job) (rate(app_requests_total{outcome="error"}[5m])) / sum by (job) (rate(app_requests_total[5m]))'

# what is wrong -> (the expression, the check that names it, a word of its message)
PLANTED = {
    "a quantile above the last bucket": (
        "histogram_quantile(0.99, sum by (job, le) (rate(app_seconds_bucket[5m]))) > 10" + FLOOR,
        "bucket-bound",
        "never fire",
    ),
    "a quantile beside every bucket": (
        "histogram_quantile(0.99, sum by (job, le) (rate(app_seconds_bucket[5m]))) > 4" + FLOOR,
        "bucket-bound",
        "no bucket bound",
    ),
    "a quantile in milliseconds": (
        "histogram_quantile(0.99, sum by (job, le) (rate(app_seconds_bucket[5m]))) * 1000 > 4000" + FLOOR,
        "bucket-bound",
        "no bucket bound",
    ),
    "more clients than there can be": ("redis_connected_clients > 10000", "ceiling", "redis_config_maxclients"),
    "a share of no limit": ("redis_memory_used_bytes / redis_memory_max_bytes > 0.85", "zero-divisor", "+Inf"),
    "percent of a ratio": ("nv_gpu_utilization > 95", "unit", "0 to 1"),
    "a ratio of percent": ("DCGM_FI_DEV_GPU_UTIL > 0.95", "unit", "nearly always"),
    "a metric that nobody serves": ("rate(triton_model_loads_total[5m]) > 10", "unknown-metric", "triton_model_loads"),
    "a metric misspelled": ("app_queu > 10", "unknown-metric", "app_queu"),
    "a ratio without traffic": (RATIO + " > 0.05", "traffic-floor", "next to no traffic"),
    "an error series that is never initialised": (
        RATIO.replace('"error"', '"failed"') + " > 0.05" + FLOOR,
        "no-series",
        "no recorded series",
    ),
    "an alternative that is never seen": (
        'rate(app_requests_total{outcome=~"error|lost"}[5m]) > 1',
        "no-series",
        "'lost'",
    ),
    "up without absent": ('up{job="app"} == 0', "absent", "left discovery"),
    "a window of three scrapes": ("rate(app_requests_total[90s]) > 1", "window", "4 scrapes"),
    "a rate of a sum": ("rate(sum(app_requests_total)[5m:30s]) > 1", "rate-order", "reset"),
    "what a healthy stack has": ("app_queue > 2", "healthy", "healthy stack"),
    "the wrong side of a yes or no": ('up{job="app"} == 1 or absent(up{job="app"})', "healthy", "healthy stack"),
    "a whole without its part": (
        RATIO.replace("total[5m]", 'total{outcome="ok"}[5m]') + " > 0.05" + FLOOR,
        "share",
        "leaves out",
    ),
    "percent of a share": (
        "redis_memory_used_bytes / (redis_memory_max_bytes > 0) > 85",
        "unit",
        "is a share of",
    ),
    "two samples alone": ("irate(app_requests_total[5m]) > 1", "window", "two samples"),
    "a histogram without le": (
        "histogram_quantile(0.99, sum by (job) (rate(app_seconds_bucket[5m]))) > 5",
        "quantile-le",
        "le",
    ),
    "a rate of a gauge": ("rate(app_queue[5m]) > 1", "counter", "gauge"),
    "a counter as it stands": ("app_requests_total > 100", "counter", "only ever grows"),
    "le as Prometheus 2 writes it": (
        'rate(app_seconds_bucket{le="5"}[5m]) > 1',
        "version",
        "Prometheus 3",
    ),
    "a function that was renamed": ("holt_winters(app_queue[10m], 0.5, 0.5) > 1", "version", "another version"),
    "a pattern that only Go reads": ('app_queue{job=~"\\\\pL+"} > 10', "syntax", "cannot be read"),
    "what the parser does not know": ("app_queue @ end() > 1", "syntax", "cannot be read"),
}


def found(path: Path) -> list[Finding]:
    """Return what lint and sense say of a system."""
    monitoring = loaded(path)
    catalogue = Catalogue.of(monitoring)
    findings = lint(monitoring)
    for rule in monitoring.alerts:
        try:
            subject = subject_of(rule, {}, catalogue)
            pace = pace_of(rule, subject, monitoring.jobs, catalogue)
            proof = proof_of(rule, subject, pace, mutants(rule.expr, rule.for_s, pace.tick_s))
        except ValueError:
            continue
        findings += sense(rule, subject, proof.decided)
    return findings


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_trap_is_named(what: str, tmp_path: Path) -> None:
    """Its check, the file and the line of the expression, the rule, and a mend."""
    expr, check, word = PLANTED[what]
    path = system_of(tmp_path, alert(expr))
    mine = [f for f in found(path) if f.check == check]
    assert mine, [str(f) for f in found(path)]
    assert any(word in f.message for f in mine)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.strip().startswith(expr[:20]))
    assert {f.where.rpartition(":")[2] for f in mine} == {str(line)}
    assert all(f.where.startswith(str(path)) and f.key == "Planted: expr" and f.mend for f in mine)


def test_a_for_shorter_than_a_scrape_waits_for_nothing(tmp_path: Path) -> None:
    """The app is scraped each 30 s: 20 s see the same sample again; 30 s do not, and 0 is a choice."""
    for hold, wrong in (("20s", ["Planted: for"]), ("30s", []), ("0s", [])):
        monitoring = loaded(system_of(tmp_path / hold, alert("app_queue > 10", hold=hold)))
        assert [f.key for f in lint(monitoring) if f.check == "for"] == wrong


def test_an_offset_delays_what_it_looks_at(tmp_path: Path) -> None:
    """An hour late, where all is; a comparison with an hour ago is not."""
    for expr, wrong in (("app_queue offset 1h > 10", 1), ("app_queue - app_queue offset 1h > 10", 0)):
        monitoring = loaded(system_of(tmp_path / str(wrong), alert(expr, detects_within="3m")))
        assert len([f for f in lint(monitoring) if f.check == "delay"]) == wrong


def test_a_good_rule_is_not_accused(tmp_path: Path) -> None:
    """The rule file that the others are broken from says nothing."""
    assert [str(f) for f in found(system_of(tmp_path))] == []


METADATA = {
    "severity: warning, ": ("", "label", "labels"),
    "severity: warning": ("severity: bad", "label", "labels.severity"),
    "{severity: warning, component: app}": ("{severity: warning}", "label", "labels"),
    "          description: what the summary says\n": ("", "annotation", "annotations"),
    "{{ $value }} of the": ("some of the", "annotation", "annotations.description"),
    "https://example.org/errors": ("''", "annotation", "annotations.runbook_url"),
    "name: app_alerts": ("name: app_cost", "annotation", "annotations"),
    "$labels.instance": ("$labels.pod", "template", "annotations.summary"),
    "detects_within: 7m45s": ("detects_within: 5m", "delay", "annotations.detects_within"),
    "detects_within: 7m40s": ("detects_within: soon", "delay", "annotations.detects_within"),
    "alert: Gone": ("alert: DatabaseGone", "duplicate", ""),
}


@pytest.mark.parametrize("old", METADATA)
def test_labels_annotations_and_promises_are_asked_for(old: str, tmp_path: Path) -> None:
    """A missing or wrong label, annotation, template, promise; an alert that stands twice."""
    new, check, key = METADATA[old]
    text = GOOD.replace("7m45s", "7m40s") if "7m40s" in old else GOOD
    if check == "duplicate":
        text = text.replace("component: db", "component: app")
    assert old in text
    path = system_of(tmp_path, text.replace(old, new, 1))
    mine = [f for f in found(path) if f.check == check]
    assert mine, [str(f) for f in found(path)]
    assert any(key in f.key for f in mine)


def test_a_job_that_nothing_watches_is_named(tmp_path: Path) -> None:
    """Without its absent() rule a job can vanish and every rule about it is silent."""
    text = GOOD[: GOOD.index("      - alert: Gone")]
    assert {f.check for f in found(system_of(tmp_path, text))} == {"uncovered"}


def test_the_delay_is_window_for_scrape_and_evaluation(tmp_path: Path) -> None:
    """5m of window, 2m of `for`, a scrape of 30 s, an evaluation of 15 s."""
    monitoring = loaded(system_of(tmp_path))
    rule = monitoring.alerts[0]
    tree = subject_of(rule, {}, Catalogue.of(monitoring)).tree
    assert delay_bound_s(rule, tree, 30.0) == 300 + 120 + 30 + 15


def test_without_scrapes_names_are_taken_as_they_are(tmp_path: Path) -> None:
    """A stranger's rule file alone: no name is held against anything, the other traps are."""
    path = tmp_path / "alone.yml"
    path.write_text(alert("rate(sum(anything_total)[5m:30s]) > 1"))
    assert {f.check for f in lint(load_monitoring(find_monitoring(str(path))))} == {"rate-order"}


# One mistake for each trap that rules for such stacks are known to fall into.
EIGHT = [
    (
        "FirstResponse",
        "histogram_quantile(0.99, sum by (job, le) (rate(app_seconds_bucket[5m]))) > 60" + FLOOR,
        "bucket-bound",
    ),
    (
        "DefaultBuckets",
        "histogram_quantile(0.95, sum by (job, le) (rate(app_seconds_bucket[5m]))) > 10" + FLOOR,
        "bucket-bound",
    ),
    ("Clients", "redis_connected_clients > 10000", "ceiling"),
    ("Memory", "redis_memory_used_bytes / redis_memory_max_bytes > 0.85", "zero-divisor"),
    ("Percent", "nv_gpu_utilization > 95", "unit"),
    ("Loads", "rate(triton_model_loads_total[5m]) > 10", "unknown-metric"),
    ("NoTraffic", RATIO + " > 0.05", "traffic-floor"),
    ("TooSoon", "rate(app_requests_total[5m]) > 10", "delay"),
]


def test_a_file_with_eight_planted_mistakes_has_all_eight_reported(tmp_path: Path) -> None:
    """One rule a trap; each is named by its own check at its own rule, and nothing else is said."""
    parts = [
        alert(expr, name, "1m", **({"detects_within": "1m"} if name == "TooSoon" else {})) for name, expr, _ in EIGHT
    ]
    rules = parts[0] + "".join(part[part.rindex("      - alert: ") :] for part in parts[1:])
    findings = found(system_of(tmp_path, rules, CONFIG))
    assert {(f.key.partition(":")[0], f.check) for f in findings} == {(name, check) for name, _, check in EIGHT}
