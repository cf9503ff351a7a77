"""`rollgate rules` as a user meets it: a folder of their own, exit codes, one line a mistake."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import command_runs
import pytest
from command_runs import need_promtool
from rule_files import GOOD, alert, system_of

pytestmark = pytest.mark.selftest


@pytest.fixture(autouse=True, scope="module")
def _promtool() -> None:
    need_promtool()


run = partial(command_runs.run, "rules")


def test_a_users_own_folder_is_proven(tmp_path: Path) -> None:
    """By path, outside the checkout: exit 0, one line an alert."""
    code, out, err = run("check", str(system_of(tmp_path).parent.parent.parent))
    assert code == 0, err
    assert "ok    ErrorsHigh" in out
    assert "mine: 3 of 3 alerts proven, sound" in out


def test_a_mistake_is_one_line_and_exit_2(tmp_path: Path) -> None:
    """File, line, rule, key, what was found, the check and the mend; and as data."""
    path = system_of(tmp_path, alert("redis_connected_clients > 10000"))
    code, out, err = run("check", str(path.parent.parent.parent), "--json")
    assert code == 2
    assert f"{path}:11: Planted: expr: `redis_connected_clients` cannot be above" in err
    (report,) = json.loads(out)
    assert report["sound"] is False
    assert [f["check"] for f in report["findings"]] == ["ceiling"]
    assert {rule["alert"] for rule in report["rules"]} == {"Gone", "Planted"}


REFUSED = {
    "a syntax error": ("> 0.05", "> > 0.05", "promtool", 5),
    "a template error": ("{{ $labels.instance }}", "{{ $labels.instance", "promtool", 4),
    "an unknown key": ("        for: 2m", "        fro: 2m", "promtool", 10),
    "a duration that is none": ("        for: 2m", "        for: soon", "promtool", 10),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_prometheus_refuses_is_refused(what: str, tmp_path: Path) -> None:
    """Promtool's own word, with file and line; nothing is proven then."""
    old, new, check, line = REFUSED[what]
    path = system_of(tmp_path, GOOD.replace(old, new, 1))
    code, out, err = run("check", str(path))
    assert code == 2
    assert f"[{check}]" in err or "expected" in err
    assert f"{path}:{line}: " in err
    assert "sound" not in out


def test_a_file_without_a_rule_is_not_sound(tmp_path: Path) -> None:
    """Of nothing, everything is proven: that is no proof."""
    path = system_of(tmp_path, "groups:\n  - name: empty\n    rules: []\n")
    code, out, err = run("check", str(path))
    assert code == 2
    assert f"{path}:1: groups: found no rule at all" in err
    assert "sound" not in out


def test_what_is_not_there_is_named() -> None:
    """An unknown system suggests a known one."""
    code, _, err = run("check", "researchflo")
    assert code == 2
    assert "did you mean `researchflow`?" in err


def test_a_dead_runbook_and_a_stale_burn_rate_are_named(tmp_path: Path) -> None:
    """A relative runbook must lie in the system's folder, with the section."""
    path = system_of(tmp_path, GOOD.replace("https://example.org/errors", "prometheus/runbook.md#errors"))
    code, _, err = run("check", str(path.parent.parent.parent))
    assert (code, "[runbook]" in err) == (2, True)
    (path.parent.parent / "runbook.md").write_text("# Runbook\n\n## Errors\n")
    assert run("check", str(path.parent.parent.parent))[0] == 0


class _Prometheus(BaseHTTPRequestHandler):
    """Answers as a Prometheus with one series."""

    def do_GET(self) -> None:  # the base class names it
        data = {
            "/api/v1/query": {
                "result": [{"metric": {"__name__": "up", "job": "app", "instance": "h:1"}, "value": [0, "1"]}]
            },
            "/api/v1/metadata": {"up": [{"type": "gauge"}]},
            "/api/v1/status/buildinfo": {"version": "3.0"},
        }[urlparse(self.path).path]
        body = json.dumps({"status": "success", "data": data}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def prometheus() -> Iterator[str]:
    """The address of a small stand-in."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Prometheus)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_rules_are_held_against_a_live_prometheus(tmp_path: Path, prometheus: str) -> None:
    """Its series take the place of the recorded ones: what it lacks is unknown."""
    path = system_of(tmp_path)
    code, _, err = run("check", str(path.parent.parent.parent), "--live", prometheus)
    assert code == 2
    assert "no recorded scrape has `app_requests_total`" in err


def test_a_live_prometheus_is_recorded(tmp_path: Path, prometheus: str) -> None:
    """One file a job, beside the system's own rules."""
    path = system_of(tmp_path)
    code, out, _ = run("record", str(path.parent.parent.parent), "--live", prometheus)
    assert code == 0
    assert "app.prom" in out
    text = (path.parent.parent / "scrapes" / "app.prom").read_text()
    assert text.splitlines()[-1] == 'up{instance="app-1",job="app"} 1'


def test_a_prometheus_that_is_away_is_no_fault_of_the_rules(tmp_path: Path) -> None:
    """Exit 4, with the address."""
    code, _, err = run("check", str(system_of(tmp_path)), "--live", "http://127.0.0.1:9")
    assert code == 4
    assert "127.0.0.1:9" in err
