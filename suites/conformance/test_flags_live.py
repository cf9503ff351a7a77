"""Feature flags as the application applies them: for exactly the sessions of each flag's share, under its parents."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import httpx
import pytest

from harness.adapters.flags_file import FileFlags
from harness.model.system import Flag, System
from harness.planning.flags import bucket, effective_shares, limit

pytestmark = [
    pytest.mark.staging,
    pytest.mark.smoke,
    pytest.mark.conformance,
    pytest.mark.flags,
    pytest.mark.service("gateway", "faiss", "triton", "ollama"),
]

WINDOW = 10  # buckets: how near to a share's end the sessions lie that are asked
SIDE_BY_SIDE = 10


@dataclass(frozen=True)
class Round:
    """What the flags were set to, in percent, and the features that each asked session then had."""

    shares: Mapping[str, float]
    features: Mapping[str, Sequence[str]]


Rounds = tuple[Round, ...]


def shares_of_rounds(flags: Sequence[Flag]) -> list[dict[str, float]]:
    """Return the shares to try: every flag at one of its own under parents at 90 %, then the parents switched off."""
    parents = {parent for flag in flags for parent in flag.depends}
    others = [flag.name for flag in flags if flag.name not in parents]
    spread = {name: 15.0 + 70.0 * at / max(1, len(others) - 1) for at, name in enumerate(others)}
    half = dict.fromkeys(others, 50.0)
    return [{**spread, **dict.fromkeys(parents, 90.0)}, {**half, **dict.fromkeys(parents, 0.0)}]


def sessions_at(ends: Iterable[int]) -> list[str]:
    """Return a session just below and one just above each end, which is a number of buckets."""
    wanted = {side for end in ends for side in ((end - WINDOW, end), (end, end + WINDOW)) if 0 <= side[0] < 10_000}
    found: dict[tuple[int, int], str] = {}
    for number in count():
        if len(found) == len(wanted):
            return list(found.values())
        session = f"conformance-{number}"
        for low, high in wanted - set(found):
            if low <= bucket(session) < high:
                found[low, high] = session
    raise AssertionError


def faults(flags: Sequence[Flag], name: str, rounds: Rounds) -> list[str]:
    """Return where sessions had a flag that they must not have, or had it not, in words."""
    wrong: list[str] = []
    for one in rounds:
        effective = effective_shares(flags, one.shares)[name]
        for session, features in one.features.items():
            has, must = name in features, bucket(session) < limit(effective)
            if has != must:
                wrong.append(
                    f"{name} at {one.shares[name]:g} %, effective at {effective:g} %: session {session} "
                    f"(bucket {bucket(session)}) {'has' if has else 'lacks'} it"
                )
    return wrong


def orphans(flags: Sequence[Flag], rounds: Rounds) -> list[str]:
    """Return where a session had a flag without one that it depends on, in words."""
    return [
        f"session {session} has {flag.name} without {parent}"
        for one in rounds
        for session, features in one.features.items()
        for flag in flags
        for parent in flag.depends
        if flag.name in features and parent not in features
    ]


def ask_all(flags: Sequence[Flag], set_to: Callable[[str, float], None], ask: Callable[[str], list[str]]) -> Rounds:
    """Set the flags to each round's shares and ask for the features of the sessions at their ends, side by side."""
    rounds: list[Round] = []
    for shares in shares_of_rounds(flags):
        for name, share in shares.items():
            set_to(name, share)
        sessions = sessions_at(limit(share) for share in set(effective_shares(flags, shares).values()))
        with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
            rounds.append(Round(shares, dict(zip(sessions, pool.map(ask, sessions), strict=True))))
    return tuple(rounds)


@pytest.fixture
def ask(entry: httpx.Client, forced: dict[str, str], system: System) -> Callable[[str], list[str]]:
    """`ask(session)`: the features that a session has on this arm."""

    def one(session: str) -> list[str]:
        headers = {**forced, system.traffic.session_header: session}
        answer = entry.post("/query", json={"query": f"what is {session}?", "k": 1}, headers=headers)
        assert answer.status_code == httpx.codes.OK, answer.text[:300]
        return answer.json()["features"]

    return one


@pytest.fixture(scope="session")
def seen() -> dict[str, Rounds | Exception]:
    """What came of asking, by arm: one asking serves the cases of all flags."""
    return {}


@pytest.fixture
def rounds(
    seen: dict[str, Rounds | Exception], arm: str, ask: Callable[[str], list[str]], system: System, flags: FileFlags
) -> Rounds:
    """The features that sessions of this arm had under each round's shares."""
    if arm not in seen:
        try:
            seen[arm] = ask_all(system.flags, flags.set, ask)
        except Exception as error:  # noqa: BLE001 - each of the cases fails by it, none of them asks again
            seen[arm] = error
    found = seen[arm]
    if isinstance(found, Exception):
        pytest.fail(f"the application could not be asked: {type(found).__name__}: {found}", pytrace=False)
    return found


def test_a_flag_is_on_for_the_sessions_of_its_share(flag: str, rounds: Rounds, system: System):
    """To a tenth of a percent: on below its effective share, off above it, and off under a parent that is off."""
    wrong = faults(system.flags, flag, rounds)
    assert not wrong, f"{len(wrong)} of {sum(len(one.features) for one in rounds)} sessions: {wrong[0]}"


@pytest.mark.covers("canary.feature_flag")
def test_the_feature_under_rollout_is_on_for_the_sessions_of_its_share(rounds: Rounds, system: System):
    """The flag that rises in step with the traffic decides, and nothing else in the candidate does."""
    wrong = faults(system.flags, system.traffic.feature, rounds)
    assert not wrong, f"{len(wrong)} of {sum(len(one.features) for one in rounds)} sessions: {wrong[0]}"


@pytest.mark.covers("rf.flag.validation")
def test_no_session_has_a_feature_without_those_that_it_depends_on(rounds: Rounds, system: System):
    """Not one answer names a feature whose parents it does not name too."""
    assert orphans(system.flags, rounds) == []
