"""The benches of deployed stacks: their servers are strangers, a wrong verdict or a lost request is seen."""

import ast
import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

import httpx
import pytest

from harness.bench.remote import servers
from harness.bench.remote.cells import CASES, DEPLOYMENTS
from harness.bench.remote.place import User
from harness.bench.rollback.answers import Block, Got, read_answers, returned, served
from harness.bench.rollback.table import Moved, RolledBack, Setting, back_line, markdown
from harness.model.errors import SpecError
from harness.model.system import Release
from harness.paths import share_root
from harness.ports import Entry
from harness.wiring.bench_remote import bench_remote
from harness.wiring.provenance import code_digest

pytestmark = pytest.mark.selftest


def test_the_servers_know_nothing_of_rollgate() -> None:
    """A user's own: the standard library alone."""
    tree = ast.parse(Path(servers.__file__).read_text(encoding="utf-8"))
    names = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names
    assert not any(name.startswith("harness") for name in names)


SHAPES = {"threads": ("HTTP/1.1", None), "closing": ("HTTP/1.0", None), "chunked": ("HTTP/1.1", "chunked")}


def test_each_shape_answers_alike_and_has_the_faults_it_is_told(tmp_path: Path) -> None:
    """The double of a number, by each shape's own HTTP; a candidate told to fail fails, and counts it."""
    for shape, (version, encoding) in SHAPES.items():
        folder = tmp_path / shape
        folder.mkdir()
        with ExitStack() as running:
            user = User(folder, running)
            user.serve("baseline", ["--shape", shape, "--median-ms", "1"])
            user.serve("candidate", ["--shape", shape, "--median-ms", "1", "--errors", "1"])
            at = {name: f"http://127.0.0.1:{port}" for name, port in user.ports.items()}
            with httpx.Client(trust_env=False) as client:
                good = client.get(f"{at['baseline']}/answer?q=21")
                bad = client.get(f"{at['candidate']}/answer?q=21")
                told = client.get(f"{at['candidate']}/metrics").text
        assert (good.status_code, good.json()["answer"], bad.status_code) == (200, 42, 500)
        assert (good.http_version, good.headers.get("transfer-encoding")) == (version, encoding)
        assert 'shop_requests_total{outcome="error"} 1' in told
        assert 'shop_seconds_bucket{le="+Inf"} 1' in told


def stored(folder: Path, digest: str, **verdict: object) -> None:
    """Leave a verdict as a gate does."""
    folder.mkdir(parents=True)
    (folder / "verdict.json").write_text(json.dumps({"judgements": [], "stages": [], **verdict}), encoding="utf-8")
    (folder / "code.sha256").write_text(f"{digest}\n", encoding="utf-8")


def test_verdicts_that_are_there_are_not_made_again_and_a_wrong_one_fails_the_bench(tmp_path: Path) -> None:
    """Three of `good`: all promoted is 0; one rolled back, and by no name, is 1 and marked in the table."""
    digest = code_digest(share_root() / "stack" / "systems" / "minimal")
    good = {"decision": "promote", "cause": "proof", "exit_code": 0}
    for wrong in (False, True):
        out = tmp_path / str(wrong)
        for seed, where in enumerate(DEPLOYMENTS, 1):
            told = {"decision": "rollback", "cause": "release", "exit_code": 1} if wrong and seed == 2 else good
            stored(out / f"{where.router}-{where.shape}-good-{seed}", digest, **told)
        said: list[str] = []
        code = bench_remote(seeds=3, only=["good"], out=out, table=None, echo=said.append)
        assert code == int(wrong)
        assert ("**NO**" in (out / "table.md").read_text(encoding="utf-8")) is wrong
        assert said[-1] == f"3 runs, {int(wrong)} wrong verdicts."


def test_an_unknown_case_is_told_with_those_there_are(tmp_path: Path) -> None:
    """Exit code 2, and nothing is made."""
    with pytest.raises(SpecError, match="slow-60pct"):
        bench_remote(seeds=1, only=["slow"], out=tmp_path / "out", table=None, echo=print)
    assert not (tmp_path / "out").exists()


def test_every_bad_case_must_be_named() -> None:
    """None of them is right by its exit code alone."""
    bad = [case for case in CASES if case.name != "good"]
    assert len(bad) == 5
    assert all(case.expect["exit_code"] == "1" and case.expect["judgement"] for case in bad)


def test_what_failed_while_weights_moved_is_told_from_what_failed_beside(tmp_path: Path) -> None:
    """One request lost in each kind of block, one between them; a torn last line counts for nothing."""
    lines = [[n / 10, n / 10 + 0.02, "candidate" if n % 2 else "baseline", ""] for n in range(200)]
    for n, kind in ((30, "status 503"), (100, "reset"), (150, "timeout")):
        lines[n][3] = kind
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n[12", encoding="utf-8")
    answers = read_answers(path)
    still = served([Block(begin=0, end=9)], answers)
    moving = served([Block(begin=11, end=20, moves=45)], answers)
    assert (still.requests, still.failed, dict(still.failures)) == (90, 1, {"status 503": 1})
    assert (moving.requests, moving.moves, dict(moving.failures), moving.candidate) == (90, 45, {"timeout": 1}, 45)
    assert moving.p50_ms == pytest.approx(20, abs=0.01)
    assert math.isnan(served([Block(begin=50, end=60)], answers).p99_ms)


def entry(kind: str, at: float, share: float, **more: object) -> Entry:
    """A journal's entry of a move."""
    what: Mapping[str, object] = {"action": "move", "to": share, **more}
    return Entry(seq=1, at=at, kind=kind, who="", what=what, why="", evidence="", previous="", hash="")


JOURNAL = (
    entry("intent", 5.0, 50.0),
    entry("outcome", 5.1, 50.0, ok=True),
    entry("intent", 14.0, 0.0),
    entry("outcome", 14.1, 0.0, ok=False),
    entry("outcome", 14.5, 0.0, ok=True),
)
GOOD = [Got(t / 2, t / 2 + 0.1, "baseline", "") for t in range(60)]
BAD = [Got(11.0, 11.2, "candidate", "status 500"), Got(14.4, 14.7, "candidate", "status 500")]


def test_a_rollback_is_measured_from_its_first_bad_answer() -> None:
    """Planted at 10, bad from 11.2, decided at 14.0, confirmed at 14.5, the last answer of the candidate at 14.7."""
    told = returned([*GOOD, Got(9.0, 9.1, "candidate", ""), *BAD], JOURNAL, planted=10.0, until=30.0)
    assert told is not None
    assert (told.decided, told.at_zero, told.last) == pytest.approx((2.8, 3.3, 3.5))
    assert (told.late, told.bad, told.others, told.planted_to_breach) == (0, 2, 0, pytest.approx(1.2))
    assert returned(GOOD, JOURNAL, planted=10.0, until=30.0) is None


LATER = Got(15.0, 15.1, "candidate", "")
OTHER = Got(12.0, 12.1, "baseline", "status 503")
WRONG = MappingProxyType({
    "not taken back": {"code": 0},
    "blamed on the environment": {"code": 4},
    "still at 50 %": {"limit": 5000},
    "a baseline that failed": {"more": OTHER},
    "asked of the candidate after its 0 %": {"more": LATER},
    "nobody saw it": {"answers": GOOD},
})  # fmt: skip


@pytest.mark.parametrize("case", ["right", *WRONG])
def test_a_rollback_that_went_wrong_is_no_right_one(case: str) -> None:
    """By exit code, by the router, by what others felt; each is marked."""
    changes = dict(WRONG.get(case, {}))
    answers = changes.pop("answers", [*GOOD, *BAD])
    more = changes.pop("more", None)
    told = returned([*answers, more] if more else answers, JOURNAL, planted=10.0, until=30.0)
    release = Release(name="bad", version="2", title="errs")
    one = RolledBack(release=release, reason="it errs", told=told, **{"code": 1, "limit": 0, **changes})
    assert one.sound is (case == "right")
    assert ("**NO**" in back_line(one)) is (case != "right")


def test_the_page_says_both(tmp_path: Path) -> None:
    """Rows of still and moving weights and one for each release, its reason below."""
    path = tmp_path / "a.jsonl"
    path.write_text('[1, 1.1, "baseline", ""]\n', encoding="utf-8")
    one = served([Block(begin=0, end=2, moves=3)], read_answers(path))
    back = RolledBack(release=Release(name="bad", version="2"), code=3, reason="why", told=None, limit=0)
    setting = Setting(system="shop", feature="f", plan="quick", rate=30, pairs=1, block_s=2, origin="code 1")
    page = markdown(setting, Moved(still=one, moving=one), [back])
    assert page.count("| 3 | 1 | 0 |") == 2
    assert "- bad: why" in page
