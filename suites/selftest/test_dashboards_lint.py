"""`rollgate dashboards check`: a sound folder passes, each lint rule names its planted violation by its line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dashboard_files import DATASOURCES, dashboards_of, panel
from rule_files import GOOD, alert
from typer.testing import CliRunner

from harness.adapters.promtool import Promtool
from harness.cli.main import app
from harness.model.errors import EnvironmentProblem, RollgateError
from harness.model.rule import Finding
from harness.paths import cache_root
from harness.planning.dashboards.lint import lint
from harness.spec.dashboards import load_dashboard
from harness.wiring.dashboards_ground import surroundings

pytestmark = pytest.mark.selftest

Change = Callable[[dict[str, Any]], object]


def linted(root: Path) -> list[Finding]:
    """Return what the lint says of a folder's dashboards."""
    about = surroundings(str(root))
    return lint([load_dashboard(path) for path in about.files.jsons], about.ground)


def run(*arguments: str) -> tuple[int, str, str]:
    """Run the command; return its exit code, stdout and stderr."""
    result = CliRunner().invoke(app, ["dashboards", *arguments])
    if isinstance(result.exception, RollgateError):
        return result.exception.exit_code, result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def promtool() -> None:
    """Skip where there is no promtool."""
    try:
        Promtool.found(cache_root(), lambda _: None)
    except EnvironmentProblem as problem:
        pytest.skip(f"no promtool: {problem}")


def expr(number: int, text: str) -> Change:
    """Return the change that gives a panel another query."""
    return lambda data: data["panels"][number]["targets"][0].update(expr=text)


def unit(number: int, text: str) -> Change:
    """Return the change that gives a panel another unit."""
    return lambda data: data["panels"][number]["fieldConfig"]["defaults"].update(unit=text)


def steps(number: int, *found: tuple[str, float | None]) -> Change:
    """Return the change that gives a panel other thresholds."""
    listed = [{"color": colour, "value": value} for colour, value in found]
    return lambda data: data["panels"][number]["fieldConfig"]["defaults"]["thresholds"].update(steps=listed)


def setting(number: int, **keys: object) -> Change:
    """Return the change that sets a panel's keys."""
    return lambda data: data["panels"][number].update(keys)


def target(number: int, **keys: object) -> Change:
    """Return the change that sets the keys of a panel's query."""
    return lambda data: data["panels"][number]["targets"][0].update(keys)


PLANTED: dict[str, tuple[Change, str, str]] = {
    "no uid": (lambda d: d.update(uid=""), "uid", "no fixed uid"),
    "a uid with a blank": (lambda d: d.update(uid="my app"), "uid", "no fixed uid"),
    "an old schema": (lambda d: d.update(schemaVersion=16), "schema", "found 16"),
    "no panels": (lambda d: d.update(panels=[]), "schema", "no panels"),
    "two panels of one id": (setting(1, id=1), "panel-id", "1 is the id of `Errors`, too"),
    "a panel without an id": (setting(1, id=0), "panel-id", "missing"),
    "two panels of one title": (setting(1, title="Errors"), "title", "the same title"),
    "a panel without a title": (setting(1, title=""), "title", "missing"),
    "no description": (setting(1, description=" "), "description", "missing"),
    "a hidden legend": (setting(1, options={"legend": {"showLegend": False}}), "legend", "hidden"),
    "a query without a legend": (target(1, legendFormat=""), "legend", "no legend"),
    "two queries of one refId": (
        lambda d: d["panels"][1]["targets"].append(dict(d["panels"][1]["targets"][0])), "ref-id", "found refId `A`",
    ),
    "one panel over another": (setting(1, gridPos={"h": 8, "w": 12, "x": 6, "y": 10}), "layout", "lies over `Errors`"),
    "wider than the grid": (setting(1, gridPos={"h": 8, "w": 20, "x": 6, "y": 16}), "layout", "24 columns"),
    "a data source by its uid": (target(1, datasource={"uid": "P1809F7CD0C75ACF3"}), "datasource", "hard-coded"),
    "a data source by its name": (target(1, datasource="Prometheus"), "datasource", "hard-coded"),
    "no data source": (
        lambda d: (d["panels"][1].pop("datasource"), d["panels"][1]["targets"][0].pop("datasource")), "datasource",
        "names no data source",
    ),
    "a variable nobody declared": (expr(1, "app_queue{instance=~'$host'}"), "variable", "$host is not declared"),
    "a variable nobody uses": (
        lambda d: d["templating"]["list"].append({"name": "spare", "type": "textbox", "query": "1"}), "variable",
        "no query uses it",
    ),
    "one value of a variable of many": (expr(1, 'app_queue{instance="$instance"}'), "variable", "takes one value"),
    "a variable of a label that is not there": (
        lambda d: d["templating"]["list"][1].update(query="label_values(up, pod)"), "variable", "has the label pod",
    ),
    "no PromQL": (expr(1, "rate(app_requests_total[5m]"), "syntax", "cannot be read"),
    "an empty query": (expr(1, " "), "syntax", "the query is empty"),
    "a metric nobody serves": (expr(1, "app_queues"), "unknown-metric", "no recorded scrape has `app_queues`"),
    "a label value nobody has": (
        expr(1, 'sum(rate(app_requests_total{outcome="failed"}[5m]))'), "no-series", "no recorded series matches",
    ),
    "a fixed window under four scrapes": (
        expr(1, "histogram_quantile(0.95, sum by (le) (rate(app_seconds_bucket[1m])))"), "window",
        "less than 4 scrapes",
    ),
    "a rate interval of another job's scrapes": (setting(1, interval="15s"), "window", "is 60s here"),
    "a counter as it stands": (expr(1, "app_requests_total"), "counter", "is a counter"),
    "a rate of a gauge": (expr(1, "rate(app_queue[2m])"), "counter", "which is a gauge"),
    "a quantile without le": (
        expr(1, "histogram_quantile(0.95, sum by (instance) (rate(app_seconds_bucket[2m])))"), "quantile-le",
        "without `le`",
    ),
    "no unit": (unit(1, ""), "unit", "missing"),
    "a unit Grafana does not know": (unit(1, "seconds"), "unit", "found `seconds`"),
    "milliseconds of seconds": (unit(1, "ms"), "unit", "it gives seconds, ms is for 0.001 seconds"),
    "percent of a share": (unit(0, "percent"), "unit", "from 0 to 1, percent from 0 to 100"),
    "a share of a count": (
        lambda d: (expr(1, "app_queue")(d), unit(1, "percentunit")(d)), "unit", "a count, percentunit is for a share",
    ),
    "bytes of a rate of bytes": (
        lambda d: (expr(1, "deriv(redis_memory_used_bytes[2m])")(d), unit(1, "bytes")(d)), "unit", "bytes per second",
    ),
    "another limit than the alert's": (
        steps(0, ("green", None), ("orange", 0.1)), "threshold", "ErrorsHigh (warning) above 0.05",
    ),
    "no limit where an alert has one": (steps(0, ("green", None)), "threshold", "found none"),
    "a limit in another severity's colour": (
        steps(0, ("green", None), ("red", 0.05)), "threshold", "colours do not follow",
    ),
    "a limit that nobody states": (steps(1, ("green", None), ("red", 3.0)), "threshold", "no alert and no objective"),
    "good and bad turned round": (steps(2, ("green", None), ("red", 1.0)), "threshold", "colours do not follow"),
    "an alert that no panel shows": (lambda d: d["panels"].pop(0), "unshown", "no panel shows what it is about"),
}  # fmt: skip


def test_a_sound_folder_passes(tmp_path: Path) -> None:
    """The folder that every planted violation starts from."""
    assert linted(dashboards_of(tmp_path)) == []


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_violation_is_named(what: str, tmp_path: Path) -> None:
    """By its check and words, with file and line and a mend."""
    change, check, words = PLANTED[what]
    found = [f for f in linted(dashboards_of(tmp_path, change)) if f.check == check and words in f.message]
    assert found, linted(dashboards_of(tmp_path / "again", change))
    file, _, line = found[0].where.rpartition(":")
    assert Path(file).is_file()
    assert 1 <= int(line) <= len(Path(file).read_text().splitlines())
    assert found[0].mend


def test_a_line_is_that_of_the_key(tmp_path: Path) -> None:
    """The finding about a query points to the line on which its expr stands."""
    root = dashboards_of(tmp_path, expr(1, "app_queues"))
    (found,) = [f for f in linted(root) if f.check == "unknown-metric"]
    file, _, line = found.where.rpartition(":")
    assert '"expr": "app_queues"' in Path(file).read_text().splitlines()[int(line) - 1]
    assert found.mend == "did you mean `app_queue`?"


def test_two_dashboards_of_one_uid_are_named(tmp_path: Path) -> None:
    """Grafana would load one of them."""
    root = dashboards_of(tmp_path)
    first = root / "grafana" / "dashboards" / "app.json"
    (first.parent / "other.json").write_text(first.read_text())
    assert [f.check for f in linted(root)] == ["uid"]


def test_a_rules_new_limit_is_wanted_of_the_panel(tmp_path: Path) -> None:
    """One truth: change the alert alone, and its panel no longer passes."""
    root = dashboards_of(tmp_path, rules=GOOD.replace("> 0.05", "> 0.07", 1))
    (found,) = linted(root)
    assert (found.check, found.message) == ("threshold", "found 0.05, but there is ErrorsHigh (warning) above 0.07")


def test_a_limit_follows_the_panels_own_unit(tmp_path: Path) -> None:
    """An alert on a share, a panel in percent: 0.85 is 85 there, and 0.85 there is a mistake."""
    rules = alert("redis_memory_used_bytes / (redis_memory_max_bytes > 0) > 0.85")
    share = "redis_memory_used_bytes / (redis_memory_max_bytes > 0) * 100"

    rules = rules.replace('absent(up{job="app"})', 'up{job="app"} == 0 or absent(up{job="app"})', 1)

    def shown(value: float) -> Change:
        memory = panel(4, "Memory", "percent", share, steps=[{"color": "orange", "value": value}])
        return lambda d: (d["panels"].append(memory), steps(0, ("green", None))(d))

    assert linted(dashboards_of(tmp_path / "right", shown(85), rules)) == []
    (found,) = linted(dashboards_of(tmp_path / "wrong", shown(0.85), rules))
    assert "found 0.85, but there is Planted (warning) above 85" in found.message


@pytest.mark.usefixtures("promtool")
def test_a_users_own_folder_is_checked(tmp_path: Path) -> None:
    """By path: exit 0 and a line a dashboard; a mistake is one line and exit 2, in JSON too."""
    root = dashboards_of(tmp_path / "good")
    code, out, err = run("check", str(root))
    assert code == 0, err
    assert "mine: 1 dashboards, sound" in out
    code, out, err = run("check", str(dashboards_of(tmp_path / "bad", unit(1, "ms"))), "--json")
    assert code == 2
    assert "app.json:" in err
    assert "[unit]" in err
    assert [f["check"] for f in json.loads(out)[0]["findings"]] == ["unit"]


@pytest.mark.usefixtures("promtool")
def test_what_promtool_refuses_is_named_by_panel(tmp_path: Path) -> None:
    """An expression that our parser takes and Prometheus does not: its own word, with the panel and the line."""
    change = expr(1, "histogram_quantile(app_queue, sum by (le) (rate(app_seconds_bucket[2m])))")
    code, _, err = run("check", str(dashboards_of(tmp_path, change)))
    assert code == 2
    assert "Latency: A:" in err
    assert "[promtool]" in err


WRONG_FILES = {
    "no JSON": ("{", "no JSON"),
    "panels that are no list": ('{"uid": "x", "title": "x", "schemaVersion": 39, "panels": 3}', "panels"),
    "no schema": ('{"uid": "x", "title": "x", "panels": []}', "schemaVersion"),
    "an interval that is none": (
        '{"uid": "x", "title": "x", "schemaVersion": 39, "panels": [{"type": "stat", "interval": "soon"}]}', "soon",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_FILES)
def test_a_file_that_is_no_dashboard_is_one_line(what: str, tmp_path: Path) -> None:
    """File, line and what was expected; exit 2, no traceback."""
    text, words = WRONG_FILES[what]
    root = dashboards_of(tmp_path)
    (root / "grafana" / "dashboards" / "app.json").write_text(text)
    code, _, err = run("check", str(root))
    assert code == 2
    assert "app.json:" in err
    assert words in err


PROVISIONED = {
    "no default": ("isDefault: true", "isDefault: false"),
    "a default that is no Prometheus": ("type: prometheus", "type: loki"),
    "no uid": ("uid: prom, ", ""),
    "an address that is none": ("http://127.0.0.1:9090", "localhost"),
}


@pytest.mark.usefixtures("promtool")
@pytest.mark.parametrize("what", PROVISIONED)
def test_wrong_provisioning_is_named(what: str, tmp_path: Path) -> None:
    """Each by the file."""
    old, new = PROVISIONED[what]
    root = dashboards_of(tmp_path)
    path = root / "grafana" / "provisioning" / "datasources" / "d.yml"
    assert old in DATASOURCES
    path.write_text(DATASOURCES.replace(old, new))
    code, _, err = run("check", str(root))
    assert code == 2
    assert "[provisioning]" in err
