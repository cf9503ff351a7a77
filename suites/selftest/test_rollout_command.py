"""`rollgate rollout` on two plain servers and a flag file: up by proof, down at once, and nothing half-way."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from native_runs import until
from plain_servers import Plain, plain
from typer.testing import CliRunner

from harness.adapters.clock import SystemClock
from harness.adapters.rollouts import RolloutFolder
from harness.cli.main import app
from harness.model.errors import RollgateError
from harness.paths import share_root

pytestmark = [pytest.mark.selftest, pytest.mark.timeout(120)]

PLAN = """\
schema: 1
plans:
  full:
    time_scale: 1
    load_rate: 20
    warmup_s: 0
    settle_s: 0.1
    deadline_s: 60
    patience_s: 2
    look_s: 0.1
    interval_s: 0.1
    holdout: 0
    on_inconclusive: rollback
    stages:
      - {share: 25, min_bake_s: 0.5, max_bake_s: 10}
      - {share: 50, min_bake_s: 0.5, max_bake_s: 10}
      - {share: 100, min_bake_s: 0.5, max_bake_s: 10}
"""
FLAGS = {
    "search": {"rollout": 0, "target": 100, "strategy": "canary", "depends": []},
    "rank": {"rollout": 0, "target": 100, "strategy": "canary", "depends": ["search"]},
    "cache": {"rollout": 0, "target": 100, "strategy": "canary", "depends": []},
    "alarm": {"rollout": 0, "target": 100, "strategy": "immediate", "depends": []},
}


@dataclass
class Shop:
    """A user's stack: two servers, a flag file, and the folder of its rollouts."""

    folder: Path
    baseline: Plain
    candidate: Plain
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "rollouts"

    def arguments(self, *more: str, feature: str = "search", target: bool = True) -> list[str]:
        named = ["--target", str(self.folder / "target.yaml")] if target else []
        return ["rollout", str(self.folder / "shop"), "--feature", feature, "--out", str(self.out), *named, *more]

    def run(self, *more: str, feature: str = "search", target: bool = True) -> tuple[int, str]:
        """Run the command in this process; return its exit code and what it said."""
        done = CliRunner().invoke(app, self.arguments(*more, feature=feature, target=target))
        if isinstance(done.exception, RollgateError):
            return done.exception.exit_code, str(done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    def start(self, *more: str, feature: str = "search") -> subprocess.Popen[str]:
        """Run it as a process of its own, which ends with the test at the latest."""
        known = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1"}
        command = [sys.executable, "-m", "harness.cli.main", *self.arguments(*more, feature=feature)]
        process = subprocess.Popen(command, env=known, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what a failed test has left running, and say what it said."""
        for process in self.started:
            if process.returncode is None:
                process.kill()
                print(process.communicate()[0])  # noqa: T201 - pytest shows it beside the failure

    def flags(self) -> dict[str, float]:
        return json.loads((self.folder / "live.json").read_text(encoding="utf-8"))

    def set_flags(self, **shares: float) -> None:
        (self.folder / "live.json").write_text(json.dumps({**dict.fromkeys(FLAGS, 0.0), **shares}), encoding="utf-8")

    def moves(self) -> list[tuple[str, float]]:
        """Return the confirmed moves of all rollouts, and hold the journal to its chain."""
        folder = RolloutFolder(self.out, SystemClock())
        assert folder.broken_link() is None
        done = [entry.what for entry in folder.entries() if entry.kind == "outcome"]
        return [(str(what["feature"] or "search"), float(str(what["to"]))) for what in done]

    def newest(self) -> Path:
        return self.out / RolloutFolder(self.out, SystemClock()).pasts()[-1].id


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop whose servers are well, and whose flags are all off."""
    system = tmp_path / "shop"
    shutil.copytree(share_root() / "stack" / "systems" / "minimal", system)
    (system / "rollout.yaml").write_text(PLAN, encoding="utf-8")
    (system / "flags.json").write_text(json.dumps({"schema": 1, "flags": FLAGS}), encoding="utf-8")
    described = (system / "system.yaml").read_text(encoding="utf-8")
    described = described.replace("{native: quick, docker: quick, remote: full}", "{remote: full}")
    (system / "system.yaml").write_text(described, encoding="utf-8")
    made = Shop(tmp_path, Plain(), Plain())
    made.set_flags()
    with plain(made.baseline, made.candidate):
        target(made)
        try:
            yield made
        finally:
            made.end()


def target(shop: Shop, router: str = "{kind: flags, file: live.json}", more: str = "") -> None:
    """Write the target file."""
    (shop.folder / "target.yaml").write_text(
        f"schema: 1\nbaseline: {{url: '{shop.baseline.url}'}}\ncandidate: {{url: '{shop.candidate.url}'}}\n"
        f"entry: '{shop.baseline.url}'\nrouter: {router}\n{more}",
        encoding="utf-8",
    )


@pytest.mark.covers("rf.rollout.options", "rf.rollout.behaviour", level="simulated")
def test_a_feature_goes_up_by_proof_to_its_share_down_at_once_and_back(shop: Shop) -> None:
    """0 to 50 through 25; to 10 in one move; up again to 100, and --rollback to the 10 where that began."""
    code, said = shop.run("--target-percentage", "50", "--force", "--verbose")
    assert (code, shop.flags()["search"]) == (0, 50.0), said
    assert "looked (25)" in said
    assert shop.run("--target-percentage", "10", "--force")[0] == 0
    assert shop.flags()["search"] == 10
    assert shop.run("--target-percentage", "100", "--force")[0] == 0
    export = shop.folder / "trail.jsonl"
    code, said = shop.run("--rollback", "--force", "--export", str(export), target=False)
    assert (code, shop.flags()["search"]) == (0, 10.0), said
    shares = [share for _, share in shop.moves()]
    assert shares == [25, 50, 10, 25, 50, 100, 10]
    trail = [json.loads(line) for line in export.read_text(encoding="utf-8").splitlines()]
    assert [entry["seq"] for entry in trail] == list(range(1, len(trail) + 1))
    assert {"rollout", "intent", "outcome", "finish"} <= {entry["kind"] for entry in trail}
    log = (shop.out / "rollout.log").read_text(encoding="utf-8")
    assert "moved from 0 to 25 %" in log
    code, said = shop.run("--status", target=False)
    assert code == 0
    assert "really there: the router's limit is 10 %" in said
    assert shop.run("--verify")[0] == 0


KEPT_BY = {
    "a variable": "auth: {header: {name: Authorization, value: {env: SHOP_TOKEN}}}\n",
    "a file": "auth: {header: {name: Authorization, value: {file: shop/token}}}\n",
    "Prometheus's": "prometheus: {url: 'http://127.0.0.1:9', auth: {header: {name: A, value: {env: SHOP_TOKEN}}}}\n",
}


@pytest.mark.covers("rf.rollout.behaviour", level="simulated")
@pytest.mark.parametrize("case", KEPT_BY)
def test_a_way_back_does_not_wait_for_secrets_that_it_has_no_use_for(
    shop: Shop, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone since it went up: it goes back, saying what it did without, and keeps no copy of them; no way up begins."""
    planted = "s3cr3t-0f-the-shop"
    secret = shop.folder / "shop" / "token"
    monkeypatch.setenv("SHOP_TOKEN", planted)
    if case == "a file":
        secret.write_text(planted, encoding="utf-8")
    if case != "Prometheus's":
        target(shop, more=KEPT_BY[case])
    assert shop.run("--target-percentage", "50", "--force")[0] == 0
    target(shop, more=KEPT_BY[case])
    monkeypatch.delenv("SHOP_TOKEN")
    lies = secret if case == "a file" else shop.folder / "shop" / ".env"
    lies.write_text(f"export SHOP_TOKEN={planted}\nand one line more\n", encoding="utf-8")
    code, said = shop.run("--target-percentage", "100", "--force")
    assert (code, shop.flags()["search"], len(shop.moves())) == (2, 50, 2), said
    code, said = shop.run("--rollback", "--force")
    assert (code, shop.flags()["search"]) == (0, 0.0), said
    assert "done without" in said
    assert ("token" if case == "a file" else "SHOP_TOKEN is not set") in said
    assert [path for path in shop.out.rglob("*") if path.is_file() and planted.encode() in path.read_bytes()] == []
    code, said = shop.run("--status")
    assert code == 0, said


@pytest.mark.covers("rf.rollout.behaviour", level="simulated")
def test_a_candidate_that_dies_on_the_way_is_taken_back_to_where_it_began(shop: Shop) -> None:
    """Planted: it answers no more at 50 %; exit code 1 by name, and the flag is at its base of 10 again."""
    shop.set_flags(search=10)
    dying = Plain()
    with plain(dying):
        shop.candidate = dying
        target(shop)
        process = shop.start("--target-percentage", "100", "--force")
        assert until(lambda: shop.flags()["search"] >= 25, within=60)
    said = process.communicate(timeout=60)[0]
    assert (process.returncode, shop.flags()["search"]) == (1, 10.0), said
    assert "on the candidate" in said or "of the candidate" in said, said


def test_a_dead_candidate_is_given_no_traffic(shop: Shop) -> None:
    """The first look finds it: exit code 1, and nothing above the base was ever asked for."""
    gone = Plain()
    with plain(gone):
        pass
    shop.candidate = gone
    target(shop)
    code, said = shop.run("--target-percentage", "50", "--force")
    assert code == 1, said
    assert {share for _, share in shop.moves()} == {0.0}


BAD: Mapping[str, tuple[list[str], str, int, str]] = {
    "unknown feature": (["--target-percentage", "50", "--force"], "fly", 2, "has no flag `fly`"),
    "above 100": (["--target-percentage", "101", "--force"], "search", 2, "expected 0 to 100"),
    "below 0": (["--target-percentage", "-1", "--force"], "search", 2, "expected 0 to 100"),
    "no number": (["--target-percentage", "nan", "--force"], "search", 2, "expected 0 to 100"),
    "too fine": (["--target-percentage", "33.333", "--force"], "search", 2, "whole hundredths"),
    "nothing asked": (["--force"], "search", 2, "expected one of"),
    "two things asked": (["--rollback", "--status"], "search", 2, "expected one of"),
    "nobody to ask": (["--target-percentage", "50"], "search", 2, "there is no terminal"),
    "above its parent": (["--target-percentage", "50", "--force"], "rank", 2, "raise that one first"),
    "half of an immediate one": (["--target-percentage", "50", "--force"], "alarm", 2, "switched at once"),
    "nothing to resume": (["--resume", "--force"], "search", 2, "nothing to resume"),
    "nothing to take back": (["--rollback", "--force"], "search", 2, "no rollout of `search`"),
    "an unknown plan": (["--target-percentage", "50", "--force", "--plan", "x"], "search", 2, "no plan 'x'"),
}


@pytest.mark.covers("rf.rollout.options", level="simulated")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error_and_moves_nothing(shop: Shop, case: str) -> None:
    """Each is told by its exit code and words; flags and folder stay as they were."""
    more, feature, wanted, words = BAD[case]
    code, said = shop.run(*more, feature=feature)
    assert (code, words in said) == (wanted, True), said
    assert set(shop.flags().values()) == {0.0}
    assert not (shop.out / "journal.sqlite").exists()


def test_flags_in_a_circle_are_refused(shop: Shop) -> None:
    """Two that depend on each other: exit code 2, with the file."""
    circle = {**FLAGS, "search": {**FLAGS["search"], "depends": ["rank"]}}
    path = shop.folder / "shop" / "flags.json"
    path.write_text(json.dumps({"schema": 1, "flags": circle}), encoding="utf-8")
    code, said = shop.run("--target-percentage", "50", "--force")
    assert code == 2
    assert "cycle" in said


ROUTERS = {
    "a router that is away": (
        "{kind: haproxy, admin: /nowhere/admin.sock, lease: '127.0.0.1:9'}",
        4,
        "does not answer",
    ),
    "flags that are away": ("{kind: flags, file: none.json}", 4, "no such file"),
    "another feature's router": ("{kind: flags, file: live.json, flag: cache}", 2, "steers `cache`"),
}


@pytest.mark.parametrize("case", ROUTERS)
def test_a_router_that_cannot_be_used_is_told_before_anything_begins(shop: Shop, case: str) -> None:
    """Nothing is journaled, nothing is moved."""
    router, wanted, words = ROUTERS[case]
    target(shop, router)
    code, said = shop.run("--target-percentage", "50", "--force")
    assert (code, words in said) == (wanted, True), said
    assert not (shop.out / "journal.sqlite").exists()


@pytest.mark.covers("rf.rollout.options", "rf.rollout.behaviour", level="simulated")
def test_a_dry_run_touches_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbered steps; no socket is opened, and no file is made, changed or taken away."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a dry run opened a socket")

    before = {path: path.stat().st_mtime_ns for path in shop.folder.rglob("*")}
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    code, said = shop.run("--target-percentage", "100", "--dry-run")
    monkeypatch.undo()
    assert code == 0, said
    assert "  2. stage 25: search to 25 %" in said
    assert {path: path.stat().st_mtime_ns for path in shop.folder.rglob("*")} == before


def test_a_raise_is_told_without_colour_where_no_terminal_is(shop: Shop) -> None:
    """Not one escape sequence in a pipe."""
    _, said = shop.run("--target-percentage", "25", "--force")
    assert "\x1b" not in said


def test_a_killed_rollout_is_resumed_and_excludes_its_relatives_meanwhile(shop: Shop) -> None:
    """Kill -9 at 25 %: no other rollout of it or of its child begins, an unrelated one does; --resume gets to 50."""
    process = shop.start("--target-percentage", "50", "--force")
    assert until(lambda: shop.flags()["search"] == 25, within=60)
    process.kill()
    process.communicate()
    for feature in ("search", "rank"):
        code, said = shop.run("--target-percentage", "25", "--force", feature=feature)
        assert (code, "is not finished" in said or feature == "rank") == (4, True) or code == 2, said
    assert shop.run("--target-percentage", "25", "--force", feature="cache")[0] == 0
    code, said = shop.run("--resume", "--force", target=False)
    assert (code, shop.flags()["search"]) == (0, 50.0), said
    assert [share for name, share in shop.moves() if name == "search" and share == 25].count(25) >= 1


def test_a_killed_rollout_can_be_taken_back_instead(shop: Shop) -> None:
    """Kill -9, then --rollback: at the base, children first, and nothing is left open."""
    process = shop.start("--target-percentage", "100", "--force")
    assert until(lambda: shop.flags()["search"] == 25, within=60)
    process.kill()
    process.communicate()
    flags = shop.flags()
    shop.set_flags(**{**flags, "rank": 20.0})
    code, said = shop.run("--rollback", "--force")
    assert code == 0, said
    assert (shop.flags()["search"], shop.flags()["rank"]) == (0, 0)
    assert all(one.left.finished for one in RolloutFolder(shop.out, SystemClock()).pasts())
    assert shop.run("--target-percentage", "25", "--force")[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_rollout_goes_back_to_its_base(shop: Shop, number: signal.Signals) -> None:
    """Exit code 130, and the flag stands where it stood."""
    shop.set_flags(search=10)
    process = shop.start("--target-percentage", "100", "--force")
    assert until(lambda: shop.flags()["search"] == 25, within=60)
    process.send_signal(number)
    said = process.communicate(timeout=60)[0]
    assert (process.returncode, shop.flags()["search"]) == (130, 10.0), said


@pytest.mark.parametrize("verb, share", [("abort", 0.0), ("hold", 25.0)])
def test_an_operators_word_reaches_a_live_rollout_and_a_second_driver_does_not(
    shop: Shop, verb: str, share: float
) -> None:
    """`rollgate abort FOLDER`: exit code 3 at the base; `hold` leaves it there. A second driver is refused."""
    path = shop.folder / "shop" / "rollout.yaml"
    path.write_text(PLAN.replace("min_bake_s: 0.5", "min_bake_s: 9"), encoding="utf-8")
    process = shop.start("--target-percentage", "100", "--force")
    assert until(lambda: shop.flags()["search"] == 25, within=60)
    code, said = shop.run("--rollback", "--force")
    assert code == 4, said
    assert "another driver" in said
    done = CliRunner().invoke(app, [verb, str(shop.newest()), "--reason", "as told"])
    assert done.exit_code == 0, done.output
    said = process.communicate(timeout=60)[0]
    assert (process.returncode, shop.flags()["search"]) == (3, share), said


def test_a_changed_journal_is_found_by_its_entry_and_nothing_is_raised_on_it(shop: Shop) -> None:
    """One byte of entry 2: --verify and a way up end in exit code 4 with its number; --rollback still works."""
    assert shop.run("--target-percentage", "25", "--force")[0] == 0
    with sqlite3.connect(shop.out / "journal.sqlite") as db:
        db.execute("update entries set why = 'never' where seq = 2")
    db.close()
    for more in (["--verify"], ["--target-percentage", "50", "--force"]):
        code, said = shop.run(*more)
        assert (code, "entry 2" in said) == (4, True), said
    assert shop.run("--rollback", "--force")[0] == 0
    assert shop.flags()["search"] == 0


UNREADABLE = {"noise": b"no journal at all" * 200, "empty folder's": b"SQLite format 3\0" + b"\0" * 2000}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_journal_that_cannot_be_read_is_one_clear_error(shop: Shop, case: str) -> None:
    """Exit code 4 with the file's name; the flag stays."""
    shop.out.mkdir()
    (shop.out / "journal.sqlite").write_bytes(UNREADABLE[case])
    code, said = shop.run("--target-percentage", "25", "--force")
    assert (code, "journal.sqlite" in said) == (4, True), said
    assert shop.flags()["search"] == 0


def test_a_journal_of_a_newer_layout_is_left_alone(shop: Shop) -> None:
    """Layout 99: exit code 4."""
    shop.out.mkdir()
    with sqlite3.connect(shop.out / "journal.sqlite") as db:
        db.execute("pragma user_version=99")
    db.close()
    code, said = shop.run("--target-percentage", "25", "--force")
    assert (code, "layout 99" in said) == (4, True), said
    assert shop.flags()["search"] == 0


def test_what_nothing_can_be_judged_of_is_refused(shop: Shop) -> None:
    """Without load, Prometheus and probes no guardrail is left: exit code 2, which names the way out."""
    path = shop.folder / "shop" / "objectives.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("sources: [probe]", "sources: [probe]\n    severity: warning"), encoding="utf-8")
    code, said = shop.run("--target-percentage", "25", "--force")
    assert (code, "--load" in said) == (2, True), said
