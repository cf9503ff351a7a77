"""Bringing a stack up for people: the steps in order, health polled within its bounds, a summary without secrets."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from doubles import SimulatedClock
from preflight_facts import REQUIREMENTS

from harness.model.composition import Composition
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.preflight import Poll
from harness.planning.bring_up import STEPS, after
from harness.planning.summary import Summary, containers_summary, summary_data, summary_lines
from harness.run.bring_up import Hands, await_health, bring_up
from harness.wiring import bring_up as wiring
from harness.wiring.composition import shipped

pytestmark = pytest.mark.selftest

COMPOSITION: Composition = shipped().composition


def _summary(settings: Mapping[str, str], **more: frozenset[str]) -> Summary:
    return containers_summary(COMPOSITION, REQUIREMENTS, "researchflow", settings, gpu=False, **more)


def _hands(taken: list[str], broken: str = "") -> Hands:
    def take(name: str) -> Callable[[], None]:
        def step() -> None:
            taken.append(name)
            if name == broken:
                raise EnvironmentProblem(f"{name} is broken")

        return step

    def unwell() -> Mapping[str, str]:
        take("health")()
        return {}

    def lines(name: str) -> Callable[[], list[str]]:
        return lambda: (take(name)(), [f"{name} line"])[1]

    return Hands(
        logs=take("logs"),
        composition=take("composition"),
        settings=take("settings"),
        start=take("start"),
        unwell=unwell,
        summary=lines("summary"),
        next_steps=lines("next"),
    )


@pytest.mark.covers("rf.pre.steps", level="simulated")
def test_the_steps_are_the_required_ones_in_their_order_and_each_is_told():
    """Log directories, composition, environment, services, health, summary, next steps."""
    taken: list[str] = []
    said: list[str] = []
    bring_up(_hands(taken), REQUIREMENTS.poll, SimulatedClock(), said.append)
    assert taken == ["logs", "composition", "settings", "start", "health", "summary", "next"]
    assert [line for line in said if line.startswith("[")] == [
        f"[{number}/7] {title}" for number, (_, title) in enumerate(STEPS, 1)
    ]
    assert said[-1] == "next line"


@pytest.mark.covers("rf.pre.steps", level="simulated")
@pytest.mark.parametrize("broken", [name for name, _ in STEPS])
def test_a_step_that_fails_ends_it_and_none_follows(broken: str):
    """Nothing is started by settings that were refused, no summary is shown of what is not well."""
    taken: list[str] = []
    with pytest.raises(EnvironmentProblem, match=f"{broken} is broken"):
        bring_up(_hands(taken, broken), REQUIREMENTS.poll, SimulatedClock(), lambda _: None)
    assert taken[-1] == broken
    assert len(taken) == [name for name, _ in STEPS].index(broken) + 1


@pytest.mark.covers("rf.pre.health_poll", level="simulated")
def test_health_is_asked_thirty_times_five_seconds_apart_and_then_given_up():
    """145 s from the first to the last; the error names who is not well and why."""
    assert REQUIREMENTS.poll == Poll(attempts=30, interval_s=5.0)
    clock, moments = SimulatedClock(), list[float]()
    began = clock.monotonic()

    def unwell() -> Mapping[str, str]:
        moments.append(clock.monotonic() - began)
        return {"triton": "503 from /v2/health/ready"}

    with pytest.raises(EnvironmentProblem, match=r"attempt 30 of 30: triton: 503") as caught:
        await_health(unwell, REQUIREMENTS.poll, clock, lambda _: None)
    assert moments == [5.0 * attempt for attempt in range(30)]
    assert clock.monotonic() - began == 145
    assert caught.value.exit_code == 4


@pytest.mark.covers("rf.pre.health_poll", level="simulated")
def test_health_that_comes_at_the_last_attempt_is_enough_and_nothing_is_waited_for_after_it():
    """29 waits, 30 questions."""
    clock, asked = SimulatedClock(), list[str]()
    began = clock.monotonic()
    answers = iter([{"redis": "starting"}] * 29 + [{}])
    await_health(lambda: next(answers), REQUIREMENTS.poll, clock, asked.append)
    assert len(asked) == 30
    assert clock.monotonic() - began == 145
    assert asked[-1] == "attempt 30 of 30: every service is well"


def test_of_many_that_are_unwell_some_are_named_and_the_rest_counted():
    """A line that can be read."""
    text = after(REQUIREMENTS.poll, 1, {f"s{number}": "no" for number in range(9)}).text
    assert text.endswith("s4: no; and 4 more")


@pytest.mark.covers("rf.pre.summary", level="simulated")
def test_a_summary_names_endpoints_documents_next_steps_and_where_credentials_are(tmp_path: Path):
    """By the user's settings; the variable and the file that hold a secret are told, its value is not."""
    (tmp_path / "redis_password").write_text("hunter2", encoding="utf-8")
    settings = {
        "ROUTER_PORT": "9999",
        "ROLLGATE_BIND": "0.0.0.0",  # noqa: S104 - a user's setting
        "ROLLGATE_SECRETS": str(tmp_path),
        "REDIS_PASSWORD": "hunter2",
        "GF_SECURITY_ADMIN_PASSWORD": "hunter2",
    }
    summary = _summary(settings)
    text = "\n".join(summary_lines(summary)) + str(summary_data(summary))
    assert "http://127.0.0.1:9999  (ROUTER_PORT)" in text
    assert "ROLLGATE_SECRETS" in text
    assert f"redis_password: {tmp_path}/redis_password" in text
    assert "GATEWAY_REDIS_PASSWORD_FILE" in text
    assert "docs/preflight.md" in text
    assert "rollgate gate researchflow --provider docker" in text
    assert "hunter2" not in text


@pytest.mark.covers("rf.pre.summary", level="static")
def test_every_document_of_the_summary_is_there():
    """A link that leads nowhere is worse than none."""
    root = Path(__file__).parents[2]
    assert REQUIREMENTS.documents
    for _, path in REQUIREMENTS.documents:
        assert (root / path).is_file(), path


def test_only_what_is_started_is_in_the_summary():
    """No endpoint of a service that nobody started, no credential that nobody uses."""
    summary = _summary({}, only=frozenset({"redis", "router"}))
    assert {one.service for one in summary.endpoints} == {"redis", "router"}
    assert [one.name for one in summary.credentials] == ["redis_password"]


def test_the_containers_are_brought_up_by_the_users_settings(tmp_path: Path):
    """With the real composition and a .env; its log directory is there before anything starts."""
    (tmp_path / ".env").write_text("ROUTER_PORT=9998\n", encoding="utf-8")
    started: list[str] = []
    said: list[str] = []

    def start(values: Mapping[str, str]) -> None:
        assert (tmp_path / "logs").is_dir()
        started.append(values["ROUTER_PORT"])

    wiring.bring_up_containers(
        tmp_path,
        tmp_path / "logs",
        start=start,
        unwell=dict,
        summary=_summary,
        say=said.append,
    )
    assert started == ["9998"]
    assert any(":9998" in line for line in said)
    assert said[-1].strip() == "rollgate history"
    assert said[said.index("[7/7] what to do next") + 1].strip() == "rollgate plan researchflow"


def test_a_log_directory_that_cannot_be_made_is_told(tmp_path: Path):
    """A file stands in its place."""
    (tmp_path / "logs").write_text("", encoding="utf-8")
    with pytest.raises(EnvironmentProblem, match=r"log directory .* cannot be made"):
        wiring.make_log_folders(tmp_path / "logs" / "here")


def test_a_stale_composition_ends_the_way_up(monkeypatch: pytest.MonkeyPatch):
    """By the error of the composition's own check."""
    wiring.check_composition()
    monkeypatch.setattr(wiring, "compose_problems", lambda: [SpecError("stale", where="stack/compose.yaml:3")])
    with pytest.raises(SpecError, match=r"compose\.yaml:3: stale"):
        wiring.check_composition()
