"""Feature flags as a graph: shares under parents, what may be raised, what excludes what, who goes back first."""

import json
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import xxhash
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.model.system import Flag
from harness.planning import flags as graph

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.selftest

NAMES = ("a", "b", "c", "d", "e")
A, B, C = (
    Flag(name="a", rollout=0),
    Flag(name="b", rollout=0, depends=("a",)),
    Flag(name="c", rollout=0, depends=("b",)),
)
D = Flag(name="d", rollout=0)
FAMILY = (C, A, D, B)  # the order of the file is not the order of the family
ALL = dict.fromkeys(NAMES, 100.0)

percents = st.floats(0, 100)
shares_of_all = st.fixed_dictionaries(dict.fromkeys(NAMES, percents))


@st.composite
def families(draw: st.DrawFn) -> tuple[Flag, ...]:
    """Flags without a cycle: each may depend on those before it; in any order."""
    made = [
        Flag(
            name=name, rollout=0, depends=tuple(draw(st.lists(st.sampled_from(NAMES[:at]), unique=True)) if at else ())
        )
        for at, name in enumerate(NAMES)
    ]
    return tuple(draw(st.permutations(made)))


def worth(flags: Sequence[Flag], shares: "Mapping[str, float]", name: str) -> float:
    """Return an effective share by the definition itself, slowly."""
    flag = next(one for one in flags if one.name == name)
    return min([shares[name], *(worth(flags, shares, parent) for parent in flag.depends)])


# ---------------------------------------------------------------- sticky assignment


def test_a_session_has_one_bucket_by_a_hash_that_is_published():
    """xxh32 with seed 0, modulo 10,000: known values of the hash, so that no other function passes for it."""
    assert xxhash.xxh32(b"").intdigest() == 0x02CC5D05
    assert [graph.bucket(session) for session in ("", "s1", "ü")] == [
        0x02CC5D05 % 10_000,
        xxhash.xxh32(b"s1").intdigest() % 10_000,
        xxhash.xxh32("ü".encode()).intdigest() % 10_000,
    ]


@given(session=st.text(), low=percents, high=percents)
def test_raising_a_share_never_moves_a_session_out(session: str, low: float, high: float):
    """Who has the feature at a share has it at every higher one."""
    low, high = sorted((low, high))
    assert graph.is_on(session, low) <= graph.is_on(session, high)


def test_a_hash_that_is_salted_by_the_share_moves_sessions_out():
    """The planted violation: assignment that depends on the share itself is not sticky, and the same test sees it."""

    def salted(session: str, percent: float) -> bool:
        return graph.bucket(f"{session}{percent}") < graph.limit(percent)

    sessions = [f"s{number}" for number in range(1000)]
    assert any(salted(one, 25) and not salted(one, 50) for one in sessions)
    assert not any(graph.is_on(one, 25) and not graph.is_on(one, 50) for one in sessions)


@pytest.mark.parametrize("percent", [0, 0.01, 1.1, 10, 12.5, 50, 75, 99.99, 100])
def test_the_share_of_sessions_is_the_asked_one(percent: float):
    """Of 20,000 sessions, as many have the feature as the share says, within five standard deviations."""
    n = 20_000
    on = sum(graph.is_on(f"session-{number}", percent) for number in range(n))
    part = percent / 100
    assert abs(on - n * part) <= 5 * (n * part * (1 - part)) ** 0.5


@given(percent=percents)
def test_a_share_is_the_nearest_number_of_buckets(percent: float):
    """0 % is none, 100 % is all, and no rounding of binary fractions gives one bucket more (1.1 % is 110)."""
    assert 0 <= graph.limit(percent) <= graph.BUCKETS
    assert abs(graph.limit(percent) - percent * 100) <= 0.5
    assert [graph.limit(one) for one in (0, 1.1, 14.29, 100)] == [0, 110, 1429, 10_000]


@given(percent=percents, session=st.text(max_size=20))
def test_the_gateway_puts_a_session_where_the_router_does(percent: float, session: str):
    """The application's own code agrees for every share: flags and traffic move together, to the bucket."""
    from rollgate_gateway.flags import Definitions, LiveFlags  # noqa: PLC0415 - the server's package

    live = LiveFlags(None, Definitions({}, {}), {"ai_inference": percent})
    assert ("ai_inference" in live.features(session)) == graph.is_on(session, percent)


def test_the_gateway_takes_no_bucket_too_many():
    """1.1 % are 110 buckets, though 1.1 * 100 is a little more than 110 in binary: the 111th has not the feature."""
    from rollgate_gateway.flags import Definitions, LiveFlags, bucket  # noqa: PLC0415 - the server's package

    session = next(name for number in range(100_000) if bucket(name := f"s{number}") == 110)
    live = LiveFlags(None, Definitions({}, {}), {"ai_inference": 1.1})
    assert live.features(session) == ()


# ---------------------------------------------------------------- effective shares


@given(flags=families(), shares=shares_of_all)
def test_an_effective_share_is_the_least_on_the_way_up(flags: tuple[Flag, ...], shares: dict[str, float]):
    """Against the definition, for any family, any order of the file and any shares."""
    assert graph.effective_shares(flags, shares) == {one.name: worth(flags, shares, one.name) for one in flags}


@given(flags=families(), shares=shares_of_all)
def test_a_child_is_on_only_where_its_parents_are(flags: tuple[Flag, ...], shares: dict[str, float]):
    """Buckets are shared by all flags: no session ever has a child without every one of its parents."""
    effective = graph.effective_shares(flags, shares)
    for flag in flags:
        for session in ("s1", "s2", "s3"):
            on = graph.is_on(session, effective[flag.name])
            assert not on or all(graph.is_on(session, effective[parent]) for parent in flag.depends)


def test_own_shares_alone_would_put_a_child_on_without_its_parent():
    """The planted violation: without the parents' shares, sessions have `b` and not `a`."""
    shares = {"a": 10.0, "b": 50.0}
    sessions = [f"s{number}" for number in range(200)]
    assert any(graph.is_on(one, shares["b"]) and not graph.is_on(one, shares["a"]) for one in sessions)


def test_a_share_under_a_parent_that_is_off_is_valid_and_worth_nothing():
    """50 under 0 is 0, without an error; where the deployed state names no share, the flag's own rollout counts."""
    child = Flag(name="b", rollout=50, depends=("a",))
    assert graph.effective_shares((A, child), {}) == {"a": 0, "b": 0}
    assert graph.effective_shares((A, child), {"a": 30.0}) == {"a": 30, "b": 30}
    assert list(graph.clashes((A, child))) == []


def test_a_cycle_and_an_unknown_parent_switch_nothing_on():
    """The planted violations: whatever hangs on either is off; the rest is not touched."""
    turning = (Flag(name="a", rollout=0, depends=("b",)), B, C, D, Flag(name="e", rollout=0, depends=("nobody",)))
    assert graph.effective_shares(turning, ALL) == {"a": 0, "b": 0, "c": 0, "d": 100, "e": 0}


def test_the_gateway_and_the_planner_agree_on_the_shipped_flags():
    """The application's own computation gives the same effective shares for researchflow's flags."""
    from harness import spec  # noqa: PLC0415 - with the other
    from rollgate_gateway.flags import Definitions  # noqa: PLC0415 - the server's package

    root = spec.find_system("researchflow")
    system = spec.load_system(root)
    names = list(json.loads((root / "flags.json").read_text())["flags"])
    for step in range(20):
        shares = {name: float((37 * step + 29 * at) % 101) for at, name in enumerate(names)}
        assert graph.effective_shares(system.flags, shares) == Definitions.read(root / "flags.json").effective(shares)


# ---------------------------------------------------------------- cycles


@given(flags=families())
def test_a_family_has_no_cycle(flags: tuple[Flag, ...]):
    """No false alarm."""
    assert graph.cycle({flag.name: flag.depends for flag in flags}) == []


@given(flags=families(), data=st.data())
def test_a_planted_cycle_is_found_and_is_one(flags: tuple[Flag, ...], data: st.DataObject):
    """A flag is made to depend on one of its own descendants: the answer is a closed way along real dependencies."""
    name = data.draw(st.sampled_from(NAMES))
    below = sorted(graph.descendants(flags, name))
    assume(below)
    depends = {flag.name: list(flag.depends) for flag in flags}
    depends[name].append(data.draw(st.sampled_from(below)))
    turn = graph.cycle(depends)
    assert turn[0] == turn[-1]
    assert len(turn) > 1
    assert all(parent in depends[child] for child, parent in pairwise(turn))


def test_a_flag_that_depends_on_itself_is_a_cycle():
    """The shortest one."""
    assert graph.cycle({"a": ["a"]}) == ["a", "a"]


def test_a_long_chain_is_walked_without_a_deep_stack():
    """20,000 flags, one under the other: no recursion ends the check, and it takes no time."""
    chain = tuple(Flag(name=f"f{n}", rollout=100, depends=(f"f{n - 1}",) if n else ()) for n in range(20_000))
    began = time.process_time()
    assert graph.cycle({flag.name: flag.depends for flag in chain}) == []
    assert graph.effective_shares(chain, {"f0": 7.0})["f19999"] == 7
    assert len(graph.rollback_order(chain, "f0")) == 20_000
    assert len(graph.ancestors(chain, "f19999")) == 19_999
    assert time.process_time() - began < 10


# ---------------------------------------------------------------- what excludes what, and who goes first


def test_features_of_one_line_exclude_each_other_and_siblings_do_not():
    """The same one, child and parent, grandchild and grandparent; a stranger runs beside them."""
    assert graph.related(FAMILY, "a", "a")
    assert graph.related(FAMILY, "a", "c")
    assert graph.related(FAMILY, "c", "a")
    assert not graph.related(FAMILY, "a", "d")
    siblings = (A, B, Flag(name="e", rollout=0, depends=("a",)))
    assert not graph.related(siblings, "b", "e")


@given(flags=families(), a=st.sampled_from(NAMES), b=st.sampled_from(NAMES))
def test_what_excludes_each_other_does_so_both_ways(flags: tuple[Flag, ...], a: str, b: str):
    """The relation is symmetric, and a flag is an ancestor of its descendants."""
    assert graph.related(flags, a, b) == graph.related(flags, b, a)
    assert (a in graph.ancestors(flags, b)) == (b in graph.descendants(flags, a))


def test_a_parent_goes_back_after_its_children():
    """The whole line below, children first; what is not below stays."""
    assert graph.rollback_order(FAMILY, "a") == ("c", "b", "a")
    assert graph.rollback_order(FAMILY, "b") == ("c", "b")
    assert graph.rollback_order(FAMILY, "d") == ("d",)


@given(flags=families(), name=st.sampled_from(NAMES))
def test_no_flag_goes_back_before_one_that_depends_on_it(flags: tuple[Flag, ...], name: str):
    """For any family: exactly the flag and its descendants, each once, none before its own descendants."""
    order = graph.rollback_order(flags, name)
    assert sorted(order) == sorted(graph.descendants(flags, name) | {name})
    for place, one in enumerate(order):
        assert not graph.descendants(flags, one) & set(order[place:])


def test_a_cycle_goes_back_whole():
    """Even a graph that no file may hold yields every flag once."""
    turning = (Flag(name="a", rollout=0, depends=("c",)), B, C)
    assert sorted(graph.rollback_order(turning, "a")) == ["a", "b", "c"]


# ---------------------------------------------------------------- what may be raised


@pytest.mark.parametrize(
    "shares, name, to, says",
    [
        ({"a": 100.0}, "b", 100, ""),
        ({"a": 50.0, "b": 0.0}, "b", 50, ""),
        ({"a": 50.0}, "b", 50.1, "parent `a` is effective at 50 %"),
        ({"a": 0.0, "b": 100.0}, "c", 1, "parent `b` is effective at 0 %"),
        ({"a": 0.0, "b": 50.0}, "b", 50, ""),
        ({"a": 0.0, "b": 50.0}, "b", 49, ""),
        ({"a": 0.0, "b": 50.0}, "b", 51, "parent `a` is effective at 0 %"),
        ({}, "a", 100.5, "between 0 and 100"),
        ({}, "a", float("nan"), "between 0 and 100"),
        ({}, "a", -1, "between 0 and 100"),
        ({}, "nobody", 1, "no flag `nobody`"),
    ],
)
def test_a_flag_is_not_raised_above_its_parents(shares: dict[str, float], name: str, to: float, says: str):
    """A raise ends at the parents' effective share, in words; taking back or staying never needs a parent."""
    found = graph.refuse_raise(FAMILY, shares, name, to)
    assert says in found
    assert bool(found) == bool(says)


@given(flags=families(), shares=shares_of_all, name=st.sampled_from(NAMES), to=percents)
def test_a_raise_that_is_allowed_is_worth_what_it_says(
    flags: tuple[Flag, ...], shares: dict[str, float], name: str, to: float
):
    """After an allowed raise the flag's effective share is its own; a refused one would have been worth less."""
    after = graph.effective_shares(flags, {**shares, name: to})
    if to > shares[name]:
        assert (after[name] == to) == (graph.refuse_raise(flags, shares, name, to) == "")
    else:
        assert graph.refuse_raise(flags, shares, name, to) == ""


def test_a_raise_ends_at_the_target_and_an_immediate_flag_goes_there_at_once():
    """The planted violations: past the target, and a step on the way for what is switched."""
    flags = (Flag(name="half", rollout=0, target=50), Flag(name="switch", rollout=0, strategy="immediate"))
    assert "target is 50 %" in graph.refuse_raise(flags, {}, "half", 51)
    assert graph.refuse_raise(flags, {}, "half", 50) == ""
    assert "switched at once" in graph.refuse_raise(flags, {}, "switch", 10)
    assert graph.refuse_raise(flags, {}, "switch", 100) == ""
    assert graph.refuse_raise(flags, {"switch": 100.0}, "switch", 0) == ""


def test_an_unknown_parent_refuses_every_raise():
    """Nobody can vouch for it."""
    assert "no flag of this system" in graph.refuse_raise((B,), {}, "b", 1)


# ---------------------------------------------------------------- fields that do not fit


@pytest.mark.parametrize(
    "flags, field, says",
    [
        ((Flag(name="a", rollout=60, target=50),), "rollout", "at most its target, 50"),
        ((Flag(name="a", rollout=60, strategy="immediate"),), "rollout", "switched at once"),
        ((A, Flag(name="b", rollout=0, depends=("a", "a"))), "depends", "twice"),
        ((Flag(name="a", rollout=0, target=50), B), "target", "at most 50, the target of its parent"),
    ],
)
def test_fields_that_cannot_both_hold_are_told(flags: tuple[Flag, ...], field: str, says: str):
    """Each clash names the flag's field and what was expected."""
    (clash,) = graph.clashes(flags)
    assert (clash.field, says in clash.message) == (field, True), clash
    assert clash.mend


@given(flags=families())
def test_sound_flags_do_not_clash(flags: tuple[Flag, ...]):
    """No false alarm."""
    assert list(graph.clashes(flags)) == []
