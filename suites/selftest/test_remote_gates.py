"""Whole gates on two plain servers of a user's own, described by a copy of the smallest system."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from plain_servers import Plain, plain

from harness.paths import share_root
from harness.report import verdict_json

pytestmark = [pytest.mark.selftest, pytest.mark.alone, pytest.mark.timeout(400)]

PLANTED = "s3cr3t-0f-the-shop"
MEDIAN_S = 0.1  # a service that takes its time: what a busy machine adds to it weighs little
PLAN = """\
schema: 1
plans:
  full:
    time_scale: 1
    load_rate: 70
    warmup_s: 2
    settle_s: 0.5
    deadline_s: 200
    look_s: 0.5
    holdout: 10
    stages:
      - {share: 20, min_bake_s: 2, max_bake_s: 4}
      - {share: 50, min_bake_s: 5, max_bake_s: 60, until_proven: true}
      - {share: 100, min_bake_s: 4, max_bake_s: 60}
    margins: {minimal.vs_errors: 0.75, minimal.vs_wrong: 1, minimal.vs_latency_p95: 33}
    informational: [minimal.vs_latency_p99]
"""


def folder_of(tmp_path: Path) -> Path:
    """Copy the smallest system as a user would, with a plan and a number that fit slower servers."""
    folder = tmp_path / "shop"
    shutil.copytree(share_root() / "stack" / "systems" / "minimal", folder)
    (folder / "rollout.yaml").write_text(PLAN, encoding="utf-8")
    (folder / ".env").write_text(f"SHOP_TOKEN={PLANTED}\n", encoding="utf-8")
    for name, old, new in (
        ("objectives.yaml", "threshold: 200\n", "threshold: 5000\n"),
        ("system.yaml", "1000, 2000]", "1000, 2000, 5000, 10000]"),
        ("system.yaml", "{native: quick, docker: quick, remote: full}", "{remote: full}"),
    ):
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder


def rollgate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    known = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1", **environment}
    command = [sys.executable, "-m", "harness.cli.main", *arguments]
    return subprocess.run(command, env=known, capture_output=True, text=True, timeout=390, check=False)


def gate(tmp_path: Path, baseline: Plain, candidate: Plain, *, auth: str = "") -> tuple[int, dict[str, Any], str]:
    """Run a gate on both; return its exit code, its verdict, which must fit its schema, and what it said."""
    (tmp_path / "target.yaml").write_text(
        f"schema: 1\nbaseline: {{url: '{baseline.url}'}}\ncandidate: {{url: '{candidate.url}'}}\n"
        f"router: {{kind: client}}\n{auth}",
        encoding="utf-8",
    )
    out = tmp_path / "out"
    done = rollgate(
        "gate", str(folder_of(tmp_path)), "--provider", "remote", "--target", str(tmp_path / "target.yaml"),
        "--out", str(out), SHOP_TOKEN=PLANTED,
    )  # fmt: skip
    assert (out / "verdict.json").exists(), done.stderr
    verdict = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
    verdict_json.check(verdict)
    left = [
        p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if str(out) in " ".join(p.info["cmdline"] or ())
    ]
    assert left == []
    return done.returncode, verdict, done.stdout + done.stderr


def test_a_good_release_behind_a_door_is_promoted_and_its_secret_stays_a_secret(tmp_path: Path):
    """Client-side evidence alone: exit code 0, all stages, judged again to the same; no file holds the token."""
    wants = {"Authorization": f"Bearer {PLANTED}"}
    baseline = Plain(version="1.4.2", median_s=MEDIAN_S, wants=wants)
    candidate = Plain(version="1.5.0", median_s=MEDIAN_S, wants=wants)
    auth = 'auth: {header: {name: Authorization, prefix: "Bearer ", value: {env: SHOP_TOKEN}}}\n'
    with plain(baseline, candidate):
        code, verdict, said = gate(tmp_path, baseline, candidate, auth=auth)
    assert (code, verdict["decision"], verdict["cause"]) == (0, "promote", "proof"), verdict["reason"]
    assert [stage["share"] for stage in verdict["stages"]] == [20, 50, 90]
    assert (verdict["provider"], verdict["rehearsal"]) == ("remote", False)
    assert (verdict["baseline"], verdict["candidate"]) == ("baseline 1.4.2", "candidate 1.5.0")
    assert any("no traffic but rollgate's own was moved" in claim for claim in verdict["claims"])
    assert PLANTED not in said
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(found) > 15
    assert [path for path in found if PLANTED.encode() in path.read_bytes()] == []
    again = rollgate("judge", str(tmp_path / "out"), "--json")
    assert again.returncode == 0, again.stderr
    told = {(j["id"], j["source"]): (j["status"], j["reason"]) for j in verdict["judgements"]}
    for judgement in json.loads(again.stdout):
        assert told[judgement["id"], judgement["source"]] == (judgement["status"], judgement["reason"])


def test_a_release_that_errs_is_rolled_back_by_name_and_its_echo_is_kept_clean(tmp_path: Path):
    """3 % errors: exit code 1 by the comparison; the server sends back what it heard, and no file shows the token."""
    baseline = Plain(median_s=MEDIAN_S)
    candidate = Plain(median_s=MEDIAN_S, error_rate=0.03)
    auth = "auth: {header: {name: X-Api-Key, value: {env: SHOP_TOKEN}}}\n"
    with plain(baseline, candidate):
        code, verdict, said = gate(tmp_path, baseline, candidate, auth=auth)
    assert PLANTED in candidate.heard
    assert (code, verdict["decision"], verdict["cause"]) == (1, "rollback", "release"), verdict["reason"]
    failed = {j["id"] for j in verdict["judgements"] if j["status"] == "fail"}
    assert failed <= {"minimal.vs_errors", "minimal.checks"}
    assert PLANTED not in said
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file() and PLANTED.encode() in p.read_bytes()] == []


def test_a_dead_candidate_is_rolled_back_before_any_traffic(tmp_path: Path):
    """Nobody answers at its address while the baseline does: the release's fault, exit code 1, no stage entered."""
    baseline, candidate = Plain(median_s=MEDIAN_S), Plain()
    with plain(candidate):
        pass
    with plain(baseline):
        code, verdict, _ = gate(tmp_path, baseline, candidate)
    assert (code, verdict["decision"], verdict["cause"]) == (1, "rollback", "release"), verdict["reason"]
    assert verdict["reason"].startswith("before any traffic: ")
    assert verdict["stages"] == []
    assert baseline.answered <= 2, "nothing but the first look"
