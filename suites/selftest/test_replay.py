"""Stored runs judged again: the same policy gives the same bytes, another one says what would have happened."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_streams import GOOD, Truth
from stored_runs import store_run

from harness.adapters.evidence_files import kept_digest
from harness.model.codec import encode
from harness.model.errors import SpecError
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.judgement import Judgement, Verdict
from harness.model.plan import Stage, StagePlan
from harness.model.status import Cause, Decision, Status
from harness.planning import rollout
from harness.planning.replay import Outcome, Replay
from harness.wiring import judge_again, judge_by_policy, recorded_by

pytestmark = pytest.mark.selftest


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verdict]:
    """A stored run of a good release."""
    folder = tmp_path_factory.mktemp("runs") / "good"
    return folder, store_run(folder, GOOD, seed=2)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verdict]:
    """A stored run of a release with 3 % errors."""
    folder = tmp_path_factory.mktemp("runs") / "bad"
    return folder, store_run(folder, Truth(errors=0.03), seed=2)


def policy(folder: Path, text: str) -> Path:
    """Write a policy file."""
    path = folder / "policy.yaml"
    path.write_text("schema: 1\n" + text)
    return path


def rollgate(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    command = [sys.executable, "-m", "harness.cli.main", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def plain(judgements: object) -> object:
    """Return what JSON makes of it: an infinite bound is none, as in verdict.json."""
    text = json.dumps(judgements).replace("-Infinity", "null").replace("Infinity", "null")
    return json.loads(text)


def test_two_replays_are_the_same_bytes_and_the_verdicts_own_judgements(bad: tuple[Path, Verdict], tmp_path: Path):
    """`rollgate judge RUN --json` twice: the same bytes, equal to verdict.json, with the verdict's exit code."""
    folder, verdict = bad
    first, second = (rollgate("judge", str(folder), "--json", cwd=tmp_path) for _ in range(2))
    assert first.stdout == second.stdout
    assert first.stdout
    assert first.returncode == int(verdict.exit_code) == 1, first.stderr
    stored = json.loads((folder / "verdict.json").read_text())["judgements"]
    assert plain(json.loads(first.stdout)) == stored


def test_a_changed_line_of_evidence_changes_the_replay(bad: tuple[Path, Verdict]):
    """The planted violation: were the replay read from the verdict, forged evidence would not be seen."""
    folder, _ = bad
    before, _ = judge_again(folder)
    path, verdict = folder / "evidence" / "judged.jsonl", folder / "verdict.json"
    kept, told = path.read_text(), verdict.read_text()
    lines = kept.splitlines()
    at = next(
        i for i, line in enumerate(lines)
        if '"query.error"' in line and '"candidate"' in line and '"bad":1' in line and '"client"' in line
    )  # fmt: skip
    try:
        path.write_text("\n".join([*lines[:at], lines[at].replace('"bad":1', '"bad":0'), *lines[at + 1 :]]) + "\n")
        with pytest.raises(SpecError, match="this is not the evidence that the run left"):
            judge_again(folder)
        verdict.write_text(re.sub("sha256:[0-9a-f]{64}", kept_digest(folder), told))
        after, _ = judge_again(folder)
    finally:
        path.write_text(kept)
        verdict.write_text(told)
    assert before != after


@pytest.mark.parametrize("which", ["good", "bad"])
def test_the_same_policy_comes_to_the_recorded_decision(which: str, request: pytest.FixtureRequest, tmp_path: Path):
    """An empty policy file leads to the decision, cause, reason and moment that were recorded."""
    folder, verdict = request.getfixturevalue(which)
    found = judge_by_policy(folder, policy(tmp_path, ""))
    assert (found.outcome.decision, found.outcome.cause) == (verdict.decision, verdict.cause)
    assert found.outcome.reason == verdict.reason
    assert found.outcome.notes == ()
    assert found.code == int(verdict.exit_code)
    assert found.outcome.moment is not None
    assert found.recorded_s is not None
    assert abs(found.outcome.moment.at_s - found.recorded_s) < 1.5
    assert found.outcome.moment.stage == verdict.stages[-1].id
    assert {"good": Decision.PROMOTE, "bad": Decision.ROLLBACK}[which] is verdict.decision


def test_a_wide_margin_lets_the_bad_release_go_on_as_far_as_the_evidence_goes(
    bad: tuple[Path, Verdict], tmp_path: Path
):
    """With a margin of 50 points nothing fails; the run was cut short, so there is no decision, and exit code 3."""
    text = "margins: {canary.error_rate: 50}\nstages: {'10': {max_bake_s: 600}, '25': {max_bake_s: 600}}\n"
    found = judge_by_policy(bad[0], policy(tmp_path, text))
    assert found.outcome.decision is None
    assert "the evidence ends before this policy would have decided" in found.outcome.reason
    assert found.code == 3
    errors = next(c for c in found.courses if c.id == "canary.error_rate")
    assert errors.failed is None


def test_a_policy_without_the_guardrail_does_not_roll_back_by_it(bad: tuple[Path, Verdict], tmp_path: Path):
    """What only informs neither fails the replay nor is listed among its guardrails."""
    found = judge_by_policy(bad[0], policy(tmp_path, "informational: [canary.error_rate]\n"))
    assert found.outcome.cause is not Cause.RELEASE
    assert all(c.id != "canary.error_rate" for c in found.courses)
    shown = next(j for j in found.judgements if j.id == "canary.error_rate")
    assert (shown.severity, shown.status) == ("info", Status.FAIL)


def test_a_bolder_policy_rolls_back_no_later(bad: tuple[Path, Verdict], tmp_path: Path):
    """With ten times the chance of a false alarm and no margin the failing look comes at the same time or before."""
    found = judge_by_policy(bad[0], policy(tmp_path, "alpha: 0.1\nmargins: {canary.error_rate: 0.1}\n"))
    recorded = judge_by_policy(bad[0], policy(tmp_path, ""))
    assert found.outcome.decision is Decision.ROLLBACK
    assert found.outcome.moment is not None
    assert recorded.outcome.moment is not None
    assert found.outcome.moment.at_s <= recorded.outcome.moment.at_s
    errors = next(c for c in found.courses if c.id == "canary.error_rate")
    assert errors.failed == found.outcome.moment
    assert 0 < found.outcome.moment.requests <= recorded.outcome.moment.requests


def test_a_longer_bake_than_was_recorded_is_not_guessed_at(good: tuple[Path, Verdict], tmp_path: Path):
    """A policy that would have stayed in stage 10 for minutes comes to no decision, and says where it left the ramp."""
    text = "stages: {'10': {min_bake_s: 200, max_bake_s: 300}}\n"
    found = judge_by_policy(good[0], policy(tmp_path, text))
    assert found.outcome.decision is None
    assert "it would have stayed in stage 10 beyond the" in found.outcome.reason


def test_a_shorter_bake_is_taken_with_the_slower_ramps_evidence_and_says_so(good: tuple[Path, Verdict], tmp_path: Path):
    """A policy that would have gone on sooner still promotes, with a note for each stage that it would have cut."""
    found = judge_by_policy(good[0], policy(tmp_path, "stages: {'10': {min_bake_s: 1}}\n"))
    assert found.outcome.decision is Decision.PROMOTE
    assert any("would have left stage 10 after" in note for note in found.outcome.notes)


def test_the_command_tells_both_stories(bad: tuple[Path, Verdict], tmp_path: Path):
    """Text and JSON name the recorded decision, the replayed one, when, and each guardrail's way."""
    path = policy(tmp_path, "alpha: 0.02\n")
    said = rollgate("judge", str(bad[0]), "--policy", str(path), cwd=tmp_path)
    assert said.returncode == 1, said.stderr
    assert said.stdout.startswith("recorded:  rollback, cause release, ")
    assert "policy.yaml: rollback, cause release, at " in said.stdout
    assert "requests of the candidate" in said.stdout
    again = rollgate("judge", str(bad[0]), "--policy", str(path), "--json", cwd=tmp_path)
    document: dict[str, Any] = json.loads(again.stdout)
    assert document["replayed"]["decision"] == document["recorded"]["decision"] == "rollback"
    failed = [g for g in document["guardrails"] if g["failed"]]
    assert [g["id"] for g in failed] == ["canary.error_rate"]


BAD_FILES = {
    "an unknown key": "alfa: 0.1\n",
    "no number": "alpha: .nan\n",
    "below nothing": "weights: {canary.error_rate: -1}\n",
    "an unknown id": "margins: {canary.errors: 1}\n",
    "no guardrail": "informational: [nothing.such]\n",
    "malformed": "margins: {\n",
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_policy_is_one_line_and_exit_code_2(text: str, bad: tuple[Path, Verdict], tmp_path: Path):
    """File, line and mend are named before anything is judged."""
    with pytest.raises(SpecError, match=r"policy.yaml:[1-9].*—") as raised:
        judge_by_policy(bad[0], policy(tmp_path, text))
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "file, old, new",
    [
        ("verdict.json", '"time_scale": 15', '"time_scale": 0'),
        ("verdict.json", '"time_scale": 15', '"time_scale": -3'),
        ("verdict.json", '"started_at": ', '"begun_at": '),
        ("verdict.json", '"started_at": 1', '"started_at": null, "x": 1'),
        ("verdict.json", '"stages": [', '"stages": "x", "y": ['),
        ("verdict.json", '"decision": ', '"decided": '),
        ("verdict.json", 'Z"', '"'),
        ("evidence/looks.jsonl", '"after": 6', '"after": "6"'),
        ("evidence/looks.jsonl", '"at": 1', '"at": "x", "was": 1'),
        ("evidence/looks.jsonl", '"at": 1', '"at": NaN, "was": 1'),
        ("evidence/looks.jsonl", '"after": ', '"after": -'),
        ("evidence/looks.jsonl", '"final"', '"\xff"'),
        ("evidence/judged.jsonl", '"signal":"', '"signal":"\xff'),
    ],
)
def test_a_broken_run_is_one_line_that_names_the_file_and_stays_as_it_is(
    file: str, old: str, new: str, bad: tuple[Path, Verdict], tmp_path: Path
):
    """No traceback, nothing guessed, nothing written."""
    run = tmp_path / "run"
    shutil.copytree(bad[0], run)
    path = run / file
    whole = path.read_bytes()
    assert old.encode() in whole
    path.write_bytes(whole.replace(old.encode(), new.encode("latin-1")))
    before = {item: item.read_bytes() for item in run.rglob("*") if item.is_file()}
    with pytest.raises(SpecError) as told:
        judge_by_policy(run, policy(tmp_path, "alpha: 0.02"))
    assert file in str(told.value)
    assert {item: item.read_bytes() for item in run.rglob("*") if item.is_file()} == before


def _copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


DEEP = "[" * 100_000
TORN = {
    "no looks of a run that had stages": ("evidence/looks.jsonl", lambda _: "", "no look"),
    "less evidence than the looks saw": (
        "evidence/judged.jsonl",
        lambda text: text[: text.rfind("\n", 0, -1) + 1],
        "record",
    ),
    "other evidence": ("evidence/judged.jsonl", lambda text: text.replace('"n":2', '"n":3', 1), "not the evidence"),
    "a deep line of evidence": ("evidence/judged.jsonl", lambda text: DEEP + "\n" + text, "nested too deep"),
    "a deep look": ("evidence/looks.jsonl", lambda text: text + DEEP + "\n", "nested too deep"),
    "a deep verdict": ("verdict.json", lambda _: DEEP, "nested too deep"),
}


@pytest.mark.parametrize("case", TORN.values(), ids=TORN)
def test_a_torn_run_is_refused_with_and_without_a_policy(
    case: tuple[str, Callable[[str], str], str], bad: tuple[Path, Verdict], tmp_path: Path
):
    """One line with the file, exit code 2: what is left may say something else than what was there."""
    run, (file, tear, why) = _copy(bad[0], tmp_path), case
    (run / file).write_text(tear((run / file).read_text()))
    for judge in (judge_again, lambda folder: judge_by_policy(folder, policy(tmp_path, "alpha: 0.02"))):
        with pytest.raises(SpecError, match=why) as told:
            judge(run)
        assert (told.value.exit_code, "\n" in str(told.value)) == (2, False)
        assert file in str(told.value)
    done = rollgate("judge", str(run), cwd=tmp_path)
    assert done.returncode == 2
    assert "internal" not in done.stderr


def test_a_run_that_was_never_looked_at_proves_nothing(good: tuple[Path, Verdict], tmp_path: Path):
    """Its suites passed, then it ended before any traffic: exit code 3, by whatever policy; a suite's failure is 1."""
    run = _copy(good[0], tmp_path)
    case = Evidence(
        kind=Kind.EVENTS,
        source=Source.SUITE,
        signal="suite.rf.svc.redis",
        arm=Arm.CANDIDATE,
        start_s=1.0,
        end_s=1.0,
        n=1,
    )
    for bad, code in ((0, 3), (1, 1)):
        (run / "evidence/judged.jsonl").write_text(
            "".join(encode(one) + "\n" for one in (replace(case, arm=Arm.BASELINE), replace(case, bad=bad)))
        )
        (run / "evidence/looks.jsonl").write_text("")
        verdict = json.loads((run / "verdict.json").read_text()) | {"stages": [], "evidence_digest": kept_digest(run)}
        (run / "verdict.json").write_text(json.dumps(verdict))
        judgements, found = judge_again(run)
        assert ([one["status"] for one in judgements], found) == (["fail" if bad else "pass"], code)
    assert judge_by_policy(run, policy(tmp_path, "")).code == 3


def test_a_run_without_a_look_is_said_to_prove_nothing(good: tuple[Path, Verdict], tmp_path: Path):
    """On the terminal, beside the suites' passes."""
    run = _copy(good[0], tmp_path)
    (run / "evidence/looks.jsonl").write_text("")
    verdict = json.loads((run / "verdict.json").read_text()) | {"stages": []}
    (run / "verdict.json").write_text(json.dumps(verdict))
    done = rollgate("judge", str(run), cwd=tmp_path)
    assert done.returncode == 3
    assert "never looked at" in done.stderr


def test_judgements_that_another_rollgate_recorded_are_told_line_by_line(bad: tuple[Path, Verdict], tmp_path: Path):
    """One that passed then, one whose number was another, one that was not there; a run of this version has none."""
    same = rollgate("judge", str(bad[0]), cwd=tmp_path)
    assert (same.returncode, same.stderr) == (1, "")
    run = _copy(bad[0], tmp_path)
    verdict = json.loads((run / "verdict.json").read_text())
    listed = {one["id"] + one["source"]: one for one in verdict["judgements"]}
    listed["canary.error_rateclient"]["status"] = "pass"
    listed["canary.latency_p95client"]["estimate"] = 1.5
    del listed["canary.restartsprobe"]["comparator"]  # not yet kept then
    verdict["judgements"].remove(listed["canary.memoryprometheus"])
    (run / "verdict.json").write_text(json.dumps(verdict))
    (run / "judge.json").write_text('{"judge": "rollgate 0.0.1, judge 0123456789ab"}')
    done = rollgate("judge", str(run), "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, rollgate("judge", str(bad[0]), "--json", cwd=tmp_path).stdout)
    head, *lines = done.stderr.splitlines()
    assert "of rollgate 0.0.1, judge 0123456789ab; this is rollgate " in head
    assert "canary.error_rate (client): recorded as pass, now fail; other: status" in "".join(lines)
    assert [line.split()[0] for line in lines] == ["canary.error_rate", "canary.latency_p95", "canary.memory"]
    for lost in ("{", DEEP, "[1]", None):
        (run / "judge.json").unlink() if lost is None else (run / "judge.json").write_text(lost)
        assert recorded_by(run)[0] == "a rollgate that did not keep its version"


def test_a_missing_policy_is_exit_code_2(bad: tuple[Path, Verdict], tmp_path: Path):
    """A policy that is not there is bad input."""
    done = rollgate("judge", str(bad[0]), "--policy", "none.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert "no such file" in done.stderr


PLAN = StagePlan(
    name="t",
    stages=tuple(Stage(id=f"{s:g}", share=s, min_bake_s=2, max_bake_s=4) for s in (10, 100)),
    warmup_s=0,
    settle_s=0,
    deadline_s=60,
    patience_s=2,
)


def _replayed(looks: str, entered: dict[str, float], plan: StagePlan = PLAN) -> Outcome:
    """Feed one look a second: "." inconclusive, "p" pass, "f" fail; a final look where the letter is large."""
    words = {".": Status.INCONCLUSIVE, "p": Status.PASS, "f": Status.FAIL, "e": Status.ERROR}
    replay = Replay(plan, entered)
    for second, letter in enumerate(looks, 1):
        stage = max((s for s, at in entered.items() if at < second), key=lambda s: entered[s])
        one = Judgement(id="x.y", status=words[letter.lower()], requirement="", source="client", reason=letter)
        replay.look(at=second, stage=stage, final=letter.isupper(), judgements=[one], requests=10 * second)
    return replay.finish(len(looks) + 0.5)


@pytest.mark.parametrize(
    "looks, entered, decision, reason",
    [
        ("ppppppP", {"10": 0.0, "100": 4.5}, Decision.PROMOTE, "every guardrail is proven"),
        ("ppppppF", {"10": 0.0, "100": 4.5}, Decision.ROLLBACK, "x.y: F"),
        ("..f....", {"10": 0.0, "100": 4.5}, Decision.ROLLBACK, "x.y: f"),
        ("....f..", {"10": 0.0, "100": 4.5}, Decision.ROLLBACK, "x.y: f"),
        ("pppppp", {"10": 0.0, "100": 4.5}, None, "no last look"),
        ("pppp.", {"10": 0.0, "100": 4.5}, None, "kept baking stage 100"),
        ("p", {"10": 0.0}, None, "kept baking stage 10"),
        ("pp", {"10": 0.0, "100": 1.5}, None, "stayed in stage 10 beyond the 1.5 s recorded"),
        ("eeeepp", {"10": 0.0, "100": 3.5}, None, "stayed in stage 10 beyond the 3.5 s recorded"),
        ("eeeeeee", {"10": 0.0}, Decision.ROLLBACK, "no proof within"),
    ],
)  # fmt: skip
def test_a_replay_decides_where_the_evidence_lets_it(
    looks: str, entered: dict[str, float], decision: Decision | None, reason: str
):
    """Ends of every kind: proof, failure in the first or the last stage, errors, and evidence that ends too soon."""
    outcome = _replayed(looks, entered)
    assert outcome.decision is decision, outcome
    assert reason in outcome.reason


def test_a_run_without_a_rollout_comes_to_no_decision():
    """No stage was reached: nothing is judged, nothing passes."""
    outcome = Replay(PLAN, {}).finish(0.0)
    assert outcome.decision is None
    assert "no stage of the rollout was looked at" in outcome.reason


def _recorded(
    plan: StagePlan, statuses: list[Status], lag: float
) -> tuple[list[tuple[float, str, bool, Judgement]], dict[str, float], rollout.State, float]:
    """Play the driver over scripted statuses; return its looks, when stages were entered, its end, and when."""
    now, looks, entered = 0.0, list[tuple[float, str, bool, Judgement]](), dict[str, float]()
    said = iter(statuses)

    def look(stage: str, *, final: bool = False) -> tuple[Judgement, ...]:
        status = next(said, statuses[-1])
        one = Judgement(id="x.y", status=status, requirement="", source="client", reason=f"{status} at {now}")
        looks.append((now, stage, final, one))
        return (one,)

    state, actions = rollout.step(plan, rollout.State(), rollout.Begin(at=now))
    while state.phase is not rollout.Phase.DONE:
        action = actions[-1] if actions else None
        stage = plan.stages[state.index].id
        if isinstance(action, rollout.Move):
            now += lag
            if state.phase is rollout.Phase.MOVING:
                entered[action.stage] = now
            event: rollout.Event = rollout.Moved(at=now, share=action.share)
        elif isinstance(action, rollout.Confirm):
            look(stage)
            now += 1.0
            event = rollout.Confirmed(at=now + lag, judgements=look(stage, final=True))
        else:
            now += 1.0
            event = rollout.Look(at=now + lag, judgements=look(stage))
        state, actions = rollout.step(plan, state, event)
        now = max(now, event.at)
    return looks, entered, state, now


_STATUSES = st.lists(
    st.sampled_from([Status.PASS] * 6 + [Status.INCONCLUSIVE] * 4 + [Status.ERROR, Status.FAIL]),
    min_size=1,
    max_size=25,
)


@given(statuses=_STATUSES, lag=st.floats(0, 0.9), proof=st.sampled_from(["each", "last"]), until=st.booleans())
def test_whatever_was_seen_the_same_policy_comes_to_the_same_end(
    statuses: list[Status], lag: float, proof: str, *, until: bool
):
    """Any statuses, any delay between a look and the step that rests on it: decision, cause and reason are the same."""
    stages = tuple(replace(stage, until_proven=until) for stage in PLAN.stages)
    plan = replace(PLAN, stages=stages, proof=proof)
    looks, entered, state, ended = _recorded(plan, statuses, lag)
    replay = Replay(plan, entered)
    for at, stage, final, one in looks:
        replay.look(at=at, stage=stage, final=final, judgements=[one], requests=0)
    outcome = replay.finish(ended)
    assert (outcome.decision, outcome.cause, outcome.reason) == (state.decision, state.cause, state.reason)
