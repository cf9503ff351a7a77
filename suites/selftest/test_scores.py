"""Scores from where they are collected to the judgement: in the load's own answers, and by Prometheus."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import uvloop
from judge_streams import vouched
from known_server import reply, serving

from harness import spec
from harness.adapters.load import calibration
from harness.adapters.load.engine import Engine
from harness.adapters.load.intervals import IntervalBook, Sample
from harness.adapters.load.options import LoadOptions
from harness.adapters.load.scores import BOUNDS, ScoreReader
from harness.adapters.load.workload import load_workload
from harness.adapters.prometheus_series import read_frames
from harness.judge.increments import increment
from harness.model.codec import decode
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.judgement import Judgement
from harness.model.objective import Against, Measure, Objective
from harness.model.status import Status
from harness.model.system import Score, Signal
from harness.paths import share_root
from harness.planning.rollout import doubtful

pytestmark = pytest.mark.selftest

SYSTEM = spec.load_system(spec.find_system("minimal"))
PLAN = SYSTEM.plans[0]
QUALITY = "minimal.vs_quality"
STARS = Score(signal="answer.stars", path="/ratings/0/a~1b", low=1.0, high=5.0, requests="/answer")


def judged(records: Sequence[Evidence], *, at: float, stage: str = "50") -> Judgement:
    """Return what minimal's judge says of the quality."""
    judge = vouched(*SYSTEM.objectives, plan=PLAN)
    judge.observe(records)
    return next(j for j in judge.look(at=at, stage=stage, final=False) if j.id == QUALITY)


@pytest.mark.parametrize("rating, score", [(1, 0), (5, 1), (4, 0.75), (2.5, 0.375), (5.000001, 1), (0.9999999, 0)])
def test_a_number_is_brought_from_its_scale_to_0_to_1(rating: float, score: float) -> None:
    """A rating of 1 to 5, in a list, under a key that a pointer must escape; rounding does not leave the scale."""
    body = json.dumps({"ratings": [{"a/b": rating}]}).encode()
    assert ScoreReader([STARS]).read("/answer?q=1", body) == {"answer.stars": pytest.approx(score, abs=1e-6)}
    assert ScoreReader([STARS]).read("/health", body) == {}


@pytest.mark.parametrize(
    "body, said",
    [
        (b"", "no JSON"),
        (b"no json", "no JSON"),
        (b"\xff\xfe{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"3", "nothing at /ratings/0/a~1b"),
        (b"{}", "nothing at"),
        (b'{"ratings": []}', "nothing at"),
        (b'{"ratings": {"0": null}}', "nothing at"),
        (b'{"ratings": "5"}', "nothing at"),
        (b'{"ratings": [{"a/b": "5"}]}', "no number at"),
        (b'{"ratings": [{"a/b": true}]}', "no number at"),
        (b'{"ratings": [{"a/b": null}]}', "no number at"),
        (b'{"ratings": [{"a/b": [5]}]}', "no number at"),
        (b'{"ratings": [{"a/b": NaN}]}', "nan at /ratings/0/a~1b, outside 1 to 5"),
        (b'{"ratings": [{"a/b": Infinity}]}', "outside 1 to 5"),
        (b'{"ratings": [{"a/b": 0.9}]}', "0.9 at /ratings/0/a~1b, outside 1 to 5"),
        (b'{"ratings": [{"a/b": 5.1}]}', "outside 1 to 5"),
        (b'{"ratings": [{"a/b": 1' + b"0" * 400 + b"}]}", "outside 1 to 5"),
    ],
)
def test_an_answer_without_its_score_says_why(body: bytes, said: str) -> None:
    """No JSON, nothing there, no number, not on the scale: never a number, never left out."""
    found = ScoreReader([STARS]).read("/answer?q=1", body)["answer.stars"]
    assert isinstance(found, str)
    assert said in found


@pytest.mark.parametrize("path", ["/x/-1", "/x/²", "/x/9", "/x/1/2", "/x/01x"])
def test_a_list_is_entered_by_a_position_that_it_has(path: str) -> None:
    """No end by -1, no digits of other alphabets, nothing beyond the end."""
    (found,) = ScoreReader([Score(signal="s", path=path)]).read("/", b'{"x": [1, 1]}').values()
    assert found == f"nothing at {path}"


def test_scores_become_a_histogram_by_arm_and_what_is_unread_lies_beyond_it() -> None:
    """Two arms, one interval: means unshifted by the buckets, failed requests left out, the first trouble noted."""
    book = IntervalBook(prefix="a", bounds_s=(1.0,), interval_s=1.0, unit=Unit.REQUEST, late_s=1.0, start_s=0.0)
    asked: list[tuple[Arm, float | str, str]] = [
        (Arm.BASELINE, 0.9, ""), (Arm.BASELINE, 0.8, ""), (Arm.CANDIDATE, 0.5, ""), (Arm.CANDIDATE, "no number", ""),
        (Arm.CANDIDATE, "no JSON", ""), (Arm.CANDIDATE, 0.1, "status 500"),
    ]  # fmt: skip
    for arm, score, failure in asked:
        book.begin(0.5, 0.0)
        book.end(
            Sample(
                intended_s=0.5, response_s=0.1, service_s=0.1, failure=failure, arm=arm, first=True, checks={},
                scores={"a.quality": score},
            )
        )  # fmt: skip
    found = {r.arm: r for r in book.closed(2.0) if r.signal == "a.quality"}
    baseline, candidate = found[Arm.BASELINE], found[Arm.CANDIDATE]
    assert (baseline.kind, baseline.source, baseline.n, baseline.note) == (Kind.HISTOGRAM, Source.CLIENT, 2, "")
    middles = (np.array([0.0, *BOUNDS[:-1]]) + np.array(BOUNDS)) / 2
    assert np.dot(middles, baseline.counts[:-1]) / 2 == pytest.approx(0.85)
    assert (candidate.n, candidate.counts[-1]) == (3, 2)
    assert candidate.note == "2 of 3 answers without a score: no number"


def on_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bodies: dict[Arm, Sequence[str]]) -> list[Evidence]:
    """Send 400 requests to a server whose arms answer `bodies` by turns; return the load's records, as of stage 50."""
    monkeypatch.setattr(calibration, "REQUESTS", 20)
    turns = dict.fromkeys(Arm, 0)

    async def answer(_path: str, session: str) -> bytes | None:
        arm = list(Arm)[hash(session) % 2]
        turns[arm] += 1
        return reply(bodies[arm][turns[arm] % len(bodies[arm])], arm=arm.value)

    with serving(answer) as server:
        options = LoadOptions(
            url=f"http://127.0.0.1:{server.port}", prefix="answer", root="", evidence=str(tmp_path), rate=200,
            workload=str(share_root() / "scenarios" / "workloads" / "answer.py"), seconds=2.0, seed=3, interval_s=0.25,
            scores=SYSTEM.scenario.scores,
        )  # fmt: skip
        engine = Engine(options, load_workload(Path(options.workload), {}, Path()), lambda _: None)
        uvloop.run(engine.run())
    records = [decode(line) for line in options.records_file.read_text(encoding="utf-8").splitlines()]
    return [replace(record, stage="50", share=0.5) for record in records]


@pytest.mark.parametrize(
    "candidate, status, said",
    [
        (['{"quality": 0.95}'], Status.PASS, "shown within"),
        (['{"quality": 0.4}'], Status.FAIL, "beyond the margin 5 points"),
        (['{"quality": 0.95}', "{}"], Status.FAIL, "unreadable and taken as the worst ("),
    ],
)
def test_the_scores_of_answers_reach_the_judgement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidate: Sequence[str], status: Status, said: str
) -> None:
    """Asked, answered, read, counted, judged by minimal's own objective: better, worse, and half without it."""
    bodies = {Arm.BASELINE: ['{"quality": 0.8}', '{"quality": 0.9}'], Arm.CANDIDATE: candidate}
    records = on_a_server(tmp_path, monkeypatch, bodies)
    found = judged(records, at=records[-1].end_s)
    assert found.status is status, found.reason
    assert said in found.reason
    notes = {record.note for record in records if record.signal == "answer.quality" and record.note}
    assert bool(notes) is ("unreadable" in said)
    assert all("nothing at /quality" in note for note in notes)


@pytest.mark.parametrize("planted", ["{}", "[]", '{"quality": "high"}', '{"quality": NaN}', '{"quality": 1.2}', "none"])
def test_an_answer_without_its_score_is_the_candidates_worst_and_any_of_the_baselines(planted: str) -> None:
    """One of the last answers of either arm, or most of the baseline's; the evidence keeps why."""
    records = list(stream(0.9, 0.9, share=0.5, seconds=20))
    assert judged(records, at=20).status is Status.PASS
    (trouble,) = ScoreReader(SYSTEM.scenario.scores).read("/answer?q=1", planted.encode()).values()
    assert isinstance(trouble, str)

    def with_one(arm: Arm, *, worst: bool) -> Judgement:
        last = next(r for r in reversed(records) if r.arm is arm)
        counts = (last.counts[0] + worst, *last.counts[1:-1], 1 - worst)
        return judged([r for r in records if r is not last] + [replace(last, n=last.n + 1, counts=counts)], at=20)

    assert with_one(Arm.BASELINE, worst=False).status is Status.PASS
    blind = [replace(r, counts=(*(0,) * (len(r.counts) - 1), r.n)) if r.arm is Arm.BASELINE else r for r in records]
    hidden = judged(blind, at=20)
    assert hidden.status is Status.ERROR
    assert "answers of the baseline cannot be read" in hidden.reason
    own, worst = with_one(Arm.CANDIDATE, worst=False), with_one(Arm.CANDIDATE, worst=True)
    assert own.status is worst.status
    assert own.estimate == pytest.approx(worst.estimate, abs=0.01)
    assert "1 of them unreadable and taken as the worst" in own.reason


def stream(candidate: float, baseline: float, *, share: float, seconds: int, start: int = 0) -> Iterator[Evidence]:
    """Yield what the load records of minimal's applications at 60 requests a second, by half seconds."""
    rng = np.random.default_rng(start + 1)
    edges = np.array(BOUNDS)
    for step in range(2 * seconds):
        at = start + step / 2
        for arm, mean, part in ((Arm.BASELINE, baseline, 1 - share), (Arm.CANDIDATE, candidate, share)):
            drawn = np.clip(rng.uniform(mean - 0.1, mean + 0.1, size=rng.poisson(30 * part)), 0, 1)
            counts = np.bincount(np.searchsorted(edges, drawn), minlength=len(edges) + 1)
            if drawn.size:
                yield Evidence(
                    kind=Kind.HISTOGRAM, source=Source.CLIENT, signal="answer.quality", arm=arm, start_s=at,
                    end_s=at + 0.5, stage=f"{100 * share:g}", share=share, n=drawn.size, bounds=BOUNDS,
                    counts=tuple(int(c) for c in counts),
                )  # fmt: skip


@pytest.mark.parametrize("release, status", [("good", Status.PASS), ("low-quality", Status.FAIL)])
def test_minimals_releases_are_told_apart_by_the_time_that_its_plan_has(release: str, status: Status) -> None:
    """Six seconds at a tenth of the traffic, twenty at half: the good one passes, the planted one fails by name."""
    planted = spec.load_release(spec.find_release(SYSTEM, release), SYSTEM)
    quality = float(dict(dict(planted.env).get("app", ())).get("QUALITY", "0.9"))
    first = stream(quality, 0.9, share=0.1, seconds=6)
    found = judged([*first, *stream(quality, 0.9, share=0.5, seconds=20, start=6)], at=26)
    assert found.status is status, found.reason
    assert (dict(planted.expect).get("judgement") == QUALITY) is (status is Status.FAIL)


@pytest.mark.parametrize("candidate, beyond", [(0.7, True), (0.9, False), (0.88, False)])
def test_a_stage_is_not_left_early_on_scores_that_look_worse(candidate: float, *, beyond: bool) -> None:
    """Where high is good, the margin lies under the baseline: three seconds prove nothing, but the estimate says."""
    found = judged(list(stream(candidate, 0.9, share=0.1, seconds=3)), at=3)
    assert found.status is Status.INCONCLUSIVE
    assert (found.threshold, found.comparator) == (-5.0, ">=")
    assert doubtful(found) is beyond


@pytest.mark.parametrize("comparator, estimate, beyond", [
    (">=", 79.0, True), (">=", 80.0, False), (">", 81.0, False), ("<=", 81.0, True), ("<", 79.0, False),
])  # fmt: skip
def test_which_side_of_a_number_is_the_wrong_one(comparator: str, estimate: float, *, beyond: bool) -> None:
    """A threshold of 80."""
    found = Judgement(id="it", status=Status.INCONCLUSIVE, requirement="", source="client", threshold=80.0,
                      estimate=estimate, comparator=comparator)  # fmt: skip
    assert doubtful(found) is beyond


SIGNAL = Signal(name="model.quality", histogram='app_quality{task="qa"}', scale=0.2)
RATED = Objective(
    id="it", requirement="", signal=SIGNAL.name, measure=Measure.SCORE, against=Against.NUMBER, comparator=">=",
    threshold=70.0, unit="%", sources=(Source.PROMETHEUS,),
)  # fmt: skip


def by_prometheus(stars: dict[str, int], *, objective: Objective = RATED, scrapes: int = 30) -> Judgement:
    """Judge a histogram of 0 to 5 stars, `stars` answers to each bound and scrape, as Prometheus exposes it."""
    records: list[Evidence] = []
    for arm in Arm:
        rows: list[dict[str, object]] = []
        total = 0
        for le in ("1", "2", "3", "4", "5", "+Inf"):
            total += stars.get(le, 0)
            labels = {"instance": arm.value, "arm": arm.value, "le": le}
            rows.append({"metric": labels, "values": [[float(at), str(total * at)] for at in range(1, scrapes + 2)]})
        frames = read_frames(SIGNAL, {"bucket": rows}, arm).frames
        for before, now in pairwise(frames):
            record = increment(SIGNAL, arm, before, now).record
            assert record is not None
            records.append(replace(record, stage="50", share=0.5))
    judge = vouched(objective, plan=PLAN)
    judge.observe(records)
    return judge.look(at=records[-1].end_s, stage="50", final=False)[0]


def test_a_histogram_of_prometheus_is_judged_as_scores() -> None:
    """Ratings up to 5, scaled to 0 to 1: known to lie in their buckets, so 4 to 5 passes 70 % and 2 to 3 does not."""
    assert by_prometheus({"5": 5}).status is Status.PASS
    good = by_prometheus(
        {"5": 4, "4": 1}, objective=replace(RATED, against=Against.BASELINE, threshold=30, unit="points")
    )
    assert good.status is Status.PASS, good.reason
    both = by_prometheus({"3": 5})
    assert (both.status, "the baseline misses it too" in both.reason) == (Status.ERROR, True)


def test_a_score_that_prometheus_has_beyond_the_scale_is_the_candidates_worst() -> None:
    """One in the bucket of +Inf: more than five stars, or NaN, which clients of Prometheus count there."""
    found = by_prometheus({"5": 5, "+Inf": 1})
    assert found.status is Status.INCONCLUSIVE
    assert "of them unreadable and taken as the worst" in found.reason
