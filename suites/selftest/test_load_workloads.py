"""The scenarios' workloads: what they ask, how they check, and what they refuse."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.load.workload import Response, Workload, load_workload, try_workload
from harness.model.errors import SpecError
from harness.paths import share_root

pytestmark = pytest.mark.selftest

WORKLOADS = share_root() / "scenarios" / "workloads"
QUERIES = [
    {"query": f"q{number}", "expect": f"d{number}", "generation": 2 if number % 2 else 1} for number in range(20)
]
GRID = [(number + 0.5) / 4000 for number in range(4000)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a system's folder with ten questions of each generation."""
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in QUERIES))
    return tmp_path


def queries(root: Path, **options: str) -> Workload:
    """Return the query workload."""
    return load_workload(WORKLOADS / "query.py", options, root)


def asked(workload: Workload) -> dict[str, int]:
    """Return how often each question is asked over an even grid of draws."""
    counts: dict[str, int] = {}
    for draw in GRID:
        query = json.loads(workload.request(draw).body)["query"]
        counts[query] = counts.get(query, 0) + 1
    return counts


def answer(*ids: str) -> Response:
    """Return an answer that found the documents `ids`."""
    return Response(200, {}, json.dumps({"documents": [{"id": one} for one in ids]}).encode())


def test_fresh_questions_take_the_share_that_was_asked_for(root: Path) -> None:
    """Every question is asked, and 30 % are about the documents added last."""
    counts = asked(queries(root, fresh_share="0.3"))
    assert len(counts) == 20
    fresh = sum(count for query, count in counts.items() if int(query[1:]) % 2)
    assert fresh / len(GRID) == pytest.approx(0.3, abs=0.01)


def test_a_skew_makes_some_questions_popular(root: Path) -> None:
    """Rank 1 of ten comes ten times as often as rank 10 at skew 1; without skew all are alike."""
    skewed, even = asked(queries(root, skew="1")), asked(queries(root))
    assert max(skewed.values()) / min(skewed.values()) == pytest.approx(10, rel=0.1)
    assert max(even.values()) / min(even.values()) == pytest.approx(1, rel=0.02)


def test_a_missing_document_is_wrong_or_stale_by_its_generation(root: Path) -> None:
    """One check applies to each question, the other says nothing."""
    workload = queries(root)
    for draw in GRID[::100]:
        request = workload.request(draw)
        number = int(json.loads(request.body)["query"][1:])
        check = "stale" if number % 2 else "wrong"
        assert workload.check(request, answer("x", f"d{number}")) == {check: False}
        assert workload.check(request, answer("x", "y")) == {check: True}
        for body in (b"", b"[]", b'{"documents": 3}', b'{"documents": [{}]}', b"\xff"):
            assert workload.check(request, Response(200, {}, body)) == {check: True}


def test_the_shipped_questions_can_be_asked() -> None:
    """The system's own file and options give a workload, with k from the options."""
    root = share_root() / "stack" / "systems" / "researchflow"
    if not (root / "queries.jsonl").is_file():
        pytest.skip("researchflow has no questions here")
    request = queries(root, k="7", fresh_share="0.25", skew="0.6").request(0.5)
    assert json.loads(request.body)["k"] == 7
    assert (request.method, request.path) == ("POST", "/query")


ONE = """\
def workload(o, r): return W()
class W:
    def check(self, request, response): return {}
    def request(self, draw):
"""


@pytest.mark.parametrize(
    "options", [{"queries": "none.jsonl"}, {"k": "five"}, {"fresh_share": "0.5", "queries": "old.jsonl"}]
)
def test_options_that_do_not_fit_are_refused(root: Path, options: dict[str, str]) -> None:
    """No file, no number, no question of a generation that a share was given to."""
    (root / "old.jsonl").write_text(json.dumps(QUERIES[0]) + "\n")
    with pytest.raises(SpecError, match="refuses its options"):
        queries(root, **options)


@pytest.mark.parametrize("text, said", [(None, "no such workload file"), ("x = 1\n", "defines no function")])
def test_a_workload_file_without_a_workload_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    """A missing file, and one that defines nothing."""
    if text is not None:
        (tmp_path / "w.py").write_text(text)
    with pytest.raises(SpecError, match=said):
        load_workload(tmp_path / "w.py", {}, tmp_path)


BROKEN = {
    "no Python": ("def workload(:\n", "w.py:1: cannot be imported: SyntaxError"),
    "an import that is not there": ("\nimport no_such_thing\n", "w.py:2: cannot be imported: ModuleNotFoundError"),
    "an exit": ("raise SystemExit(3)\n", "w.py:1: cannot be imported: SystemExit"),
    "a maker that fails": ("def workload(o, r):\n    return o.x\n", "w.py:2: `workload` fails: AttributeError"),
    "nothing made": ("def workload(o, r):\n    return None\n", "a NoneType without request and check"),
    "a request that fails": (f"{ONE}        return draw['x']\n", "w.py:5: `request` fails: TypeError"),
    "a request that is none": (f"{ONE}        return '/answer'\n", "returned a str, expected a Request"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_scenario_is_told_by_file_and_line_before_anything_starts(tmp_path: Path, case: str) -> None:
    """Each mistake of a user's own file is one line; no traceback, no half-started load."""
    text, said = BROKEN[case]
    (tmp_path / "w.py").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as refused:
        try_workload(tmp_path / "w.py", {}, tmp_path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.floats(0, 1, exclude_max=True))
def test_the_minimal_workload_checks_its_sums(draw: float) -> None:
    """The double is right, anything else is wrong."""
    workload = load_workload(WORKLOADS / "answer.py", {}, Path())
    request = workload.request(draw)
    number = int(request.path.partition("q=")[2])
    assert workload.check(request, Response(200, {}, f'{{"answer": {2 * number}}}'.encode())) == {"wrong": False}
    for body in (f'{{"answer": {2 * number + 1}}}'.encode(), b"{}", b"3", b"no json"):
        assert workload.check(request, Response(200, {}, body)) == {"wrong": True}
