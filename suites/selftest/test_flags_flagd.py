"""flagd definition files: what is written serves the same shares, and what is read is taken or refused by name."""

import json
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import spec
from harness.adapters import flagd, flagd_reader
from harness.model.errors import SpecError
from harness.model.system import Flag
from harness.planning.flags import effective_shares

pytestmark = pytest.mark.selftest

A = Flag(name="a", rollout=0, description="the first one, “quoted”")
B = Flag(name="b", rollout=50, target=80, depends=("a",))
C = Flag(name="c", rollout=0, depends=("a", "b"), target=80)
D = Flag(name="d", rollout=100, strategy="immediate")
FLAGS = (A, B, C, D)
SESSIONS = [f"session-{number}" for number in range(4000)]
percents = st.floats(0, 80)


def murmur3(text: str) -> int:
    """Return MurmurHash3 (x86, 32 bits, seed 0) of a text: the hash that flagd's documentation names."""
    data, mask, h = text.encode(), 0xFFFFFFFF, 0
    for at in range(0, len(data), 4):
        block = data[at : at + 4]
        k = int.from_bytes(block, "little") * 0xCC9E2D51 & mask
        k = (k << 15 | k >> 17) & mask
        h ^= k * 0x1B873593 & mask
        if len(block) == 4:
            h = ((h << 13 | h >> 19) * 5 + 0xE6546B64) & mask
    h ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h = (h ^ h >> shift) * factor & mask
    return h


def by_parts(hashed: int, whole: int) -> float:
    """Newer flagd: the hash scaled to the sum of the weights."""
    return hashed * whole >> 32


def by_percent(hashed: int, whole: int) -> float:
    """Older flagd: the size of the signed hash as a percentage."""
    signed = hashed - 2**32 if hashed >= 2**31 else hashed
    return abs(signed) / (2**31 - 1) * whole


def served(text: str, flag: str, session: str, place: Callable[[int, int], float] = by_parts) -> bool:
    """Evaluate one flag of a definition file as flagd does."""
    one = json.loads(text)["flags"][flag]
    variant = one["defaultVariant"]
    if "targeting" in one:
        key, *weights = one["targeting"]["fractional"]
        assert key == {"var": "targetingKey"}
        found, reached = place(murmur3(session), sum(weight for _, weight in weights)), 0.0
        for name, weight in weights:
            reached += weight
            if found < reached:
                variant = name
                break
    return one["variants"][variant]


def test_the_hash_of_this_test_is_the_published_one():
    """Known values of MurmurHash3."""
    assert (murmur3(""), murmur3("test"), murmur3("Hello, world!")) == (0, 0xBA6BD213, 0xC0363E43)


# ---------------------------------------------------------------- what is written


@pytest.mark.parametrize("place", [by_parts, by_percent])
@pytest.mark.parametrize("share", [0, 1, 12.5, 50, 99.99, 100])
def test_flagd_serves_the_effective_share(share: float, place: Callable[[int, int], float]):
    """By either of flagd's ways from hash to bucket: as many sessions as the share says, five deviations wide."""
    text = flagd.export(FLAGS, {"a": share, "b": 100, "c": 100}, name="x")
    for flag in ("a", "b", "c"):
        on = sum(served(text, flag, session, place) for session in SESSIONS)
        part = share / 100
        assert abs(on - len(SESSIONS) * part) <= 5 * (len(SESSIONS) * part * (1 - part)) ** 0.5 + 1


@pytest.mark.parametrize("place", [by_parts, by_percent])
@given(low=percents, high=percents, session=st.text(max_size=12))
def test_in_flagd_too_a_raise_takes_nobody_out(
    place: Callable[[int, int], float], low: float, high: float, session: str
):
    """Whole percents and hundredths mixed: who has the flag at a share has it at every higher one."""
    low, high = sorted((round(low, 2), round(high)))
    before, after = (flagd.export((A,), {"a": share}, name="x") for share in (low, high))
    assert served(before, "a", session, place) <= served(after, "a", session, place)


@given(shares=st.fixed_dictionaries(dict.fromkeys("abc", percents)), session=st.text(max_size=12))
def test_in_flagd_too_a_child_has_its_parents(shares: dict[str, float], session: str):
    """No session has a flag without those that it depends on, though flagd knows no dependencies."""
    text = flagd.export(FLAGS, shares, name="x")
    for flag in FLAGS:
        if served(text, flag.name, session):
            assert all(served(text, parent, session) for parent in flag.depends)


def test_with_own_shares_or_a_hash_of_each_flag_a_child_would_lack_its_parents():
    """The planted violations: a child written with its own share, and a key that differs from flag to flag."""
    own = flagd.export([Flag(name="a", rollout=0), Flag(name="b", rollout=0)], {"a": 10, "b": 50}, name="x")
    assert any(served(own, "b", one) and not served(own, "a", one) for one in SESSIONS)
    same = flagd.export(FLAGS, {"a": 50, "b": 50}, name="x")
    assert any(served(same, "b", f"b{one}") and not served(same, "a", f"a{one}") for one in SESSIONS)


def test_whole_percents_add_up_to_a_hundred():
    """What the oldest flagd wants; finer shares are weights of 10,000, and none and all need no rule."""
    made = {share: json.loads(flagd.export((A,), {"a": share}, name="x"))["flags"]["a"] for share in (0, 7, 12.5, 100)}
    assert made[7]["targeting"]["fractional"][1:] == [["on", 7], ["off", 93]]
    assert made[12.5]["targeting"]["fractional"][1:] == [["on", 1250], ["off", 8750]]
    assert [("targeting" in made[share], made[share]["defaultVariant"]) for share in (0, 100)] == [
        (False, "off"),
        (False, "on"),
    ]


@given(shares=st.fixed_dictionaries(dict.fromkeys("abc", percents)))
def test_what_is_written_is_read_back(shares: dict[str, float]):
    """Every flag, its own share among them, whatever its parents make of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        path.write_text(flagd.export(FLAGS, shares, name="x"), encoding="utf-8")
        found = flagd_reader.read(path)
    assert {flag.name: flag.rollout for flag in found} == {"d": 100, **shares}
    assert [(f.target, f.strategy, f.depends, f.description) for f in found] == [
        (f.target, f.strategy, f.depends, f.description) for f in FLAGS
    ]


# ---------------------------------------------------------------- what is read

PLAIN: dict[str, Any] = {
    "state": "ENABLED",
    "variants": {"on": True, "off": False},
    "defaultVariant": "off",
    "targeting": {"fractional": [{"var": "targetingKey"}, ["on", 20], ["off", 80]]},
}


def write(path: Path, flag: object, **top: object) -> Path:
    """Write a definition file with one flag `x`."""
    path.write_text(json.dumps({"flags": {"x": flag}, **top}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "change, share",
    [
        ({}, 20),
        ({"targeting": {"fractional": [["on", 1], ["off", 3]]}}, 25),
        ({"targeting": {"fractional": [["off"], ["on"]]}}, 50),
        ({"targeting": {"fractional": [{"var": ["targetingKey"]}, ["off", 60], ["on", 20], ["on", 20]]}}, 40),
        ({"targeting": {}}, 0),
        ({"targeting": {}, "defaultVariant": "on"}, 100),
        ({"variants": {"no": False, "yes": True}, "defaultVariant": "yes", "targeting": None}, 100),
        ({"metadata": {"team": "search"}}, 20),
        ({"metadata": {"rollgate.share": 20, "rollgate.target": 40}}, 20),
    ],
)
def test_a_definition_by_others_is_taken(change: dict[str, Any], share: float, tmp_path: Path):
    """Relative weights, either order, other names of the variants, no rule at all, metadata of others."""
    (flag,) = flagd_reader.read(write(tmp_path / "f.json", PLAIN | change))
    assert (flag.name, flag.rollout, flag.strategy, flag.depends) == ("x", share, "canary", ())
    assert effective_shares((flag,), {})["x"] == share


def test_the_other_form_of_flagds_file_is_taken(tmp_path: Path):
    """Flags as a list with keys, shared evaluators and metadata of the file."""
    path = tmp_path / "f.json"
    body = {"flags": [{"key": "x", **PLAIN}], "$evaluators": {}, "metadata": {"version": "7"}}
    path.write_text(json.dumps(body))
    assert [flag.rollout for flag in flagd_reader.read(path)] == [20]


EMAIL = {"fractional": [{"var": "email"}, ["on", 20], ["off", 80]]}
BAD: dict[str, tuple[Any, str, str]] = {
    "disabled": (PLAIN | {"state": "DISABLED"}, "flags.x.state", "found 'DISABLED', expected `ENABLED`"),
    "no state": ({**PLAIN, "state": None}, "flags.x.state", "found nothing"),
    "three variants": (PLAIN | {"variants": {"a": True, "b": False, "c": True}}, "flags.x.variants", "two variants"),
    "text variants": (PLAIN | {"variants": {"on": "true", "off": "false"}}, "flags.x.variants", "one true and one"),
    "number variants": (PLAIN | {"variants": {"on": 1, "off": 0}}, "flags.x.variants", "one true and one false"),
    "two of one kind": (PLAIN | {"variants": {"on": True, "also": True}}, "flags.x.variants", "one true and one false"),
    "no variants": ({**PLAIN, "variants": {}}, "flags.x.variants", "found nothing"),
    "an unknown default": (PLAIN | {"defaultVariant": "red"}, "flags.x.defaultVariant", "one of the variants: on, off"),
    "the code's own default": (PLAIN | {"defaultVariant": None}, "flags.x.defaultVariant", "found nothing"),
    "a rule by attributes": (
        PLAIN | {"targeting": {"if": [{"in": ["@x", {"var": "email"}]}, "on", "off"]}},
        "flags.x.targeting", "found `if`, expected `fractional` alone",
    ),
    "a shared rule": (PLAIN | {"targeting": {"$ref": "rule"}}, "flags.x.targeting", "found `$ref`"),
    "another key": (PLAIN | {"targeting": EMAIL}, "flags.x.targeting.fractional[0]", "expected the session's key"),
    "no weights": (PLAIN | {"targeting": {"fractional": []}}, "flags.x.targeting.fractional", "no weight above 0"),
    "weights of nothing": (
        PLAIN | {"targeting": {"fractional": [["on", 0], ["off", 0]]}}, "flags.x.targeting.fractional", "no weight",
    ),
    "a negative weight": (
        PLAIN | {"targeting": {"fractional": [["on", -1], ["off", 2]]}}, "flags.x.targeting.fractional[0][1]", "-1",
    ),
    "a computed weight": (
        PLAIN | {"targeting": {"fractional": [["on", {"var": "w"}], ["off", 2]]}},
        "flags.x.targeting.fractional[0][1]", "expected a number",
    ),
    "an unknown variant": (
        PLAIN | {"targeting": {"fractional": [["red", 1], ["off", 2]]}}, "flags.x.targeting.fractional[0]", "a variant",
    ),
    "a misspelled key": ({**PLAIN, "targetting": {}}, "flags.x.targetting", "unknown key"),
    "no flag": (5, "flags.x", "found 5, expected keys"),
    "metadata that are none": (PLAIN | {"metadata": "x"}, "flags.x.metadata", "expected keys with values"),
    "an unknown word of ours": (
        PLAIN | {"metadata": {"rollgate.shares": 1}}, 'flags.x.metadata."rollgate.shares"', "unknown key",
    ),
    "a share in quotes": (
        PLAIN | {"metadata": {"rollgate.share": "20"}}, 'flags.x.metadata."rollgate.share"', "expected a number",
    ),
    "a share above 100": (
        PLAIN | {"metadata": {"rollgate.share": 101}}, 'flags.x.metadata."rollgate.share"', "from 0 to 100",
    ),
    "a strategy of others": (
        PLAIN | {"metadata": {"rollgate.strategy": "linear"}}, 'flags.x.metadata."rollgate.strategy"', "canary or imm",
    ),
    "an unknown parent": (
        PLAIN | {"metadata": {"rollgate.depends": "y"}}, 'flags.x.metadata."rollgate.depends"', "found `y`",
    ),
    "its own parent": (
        PLAIN | {"metadata": {"rollgate.depends": "x"}}, 'flags.x.metadata."rollgate.depends"', "cycle x -> x",
    ),
    "parents as a list": (
        PLAIN | {"metadata": {"rollgate.depends": ["y"]}}, 'flags.x.metadata."rollgate.depends"', "expected a text",
    ),
    "a share beyond its target": (
        PLAIN | {"metadata": {"rollgate.target": 10}}, 'flags.x.metadata."rollgate.share"', "at most its target, 10",
    ),
    "a step of a flag that is switched": (
        PLAIN | {"metadata": {"rollgate.strategy": "immediate"}}, 'flags.x.metadata."rollgate.share"', "at once",
    ),
    "a share that the rule does not serve": (
        PLAIN | {"metadata": {"rollgate.share": 30}}, "flags.x.targeting", "found 20 %, expected 30 %",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_what_cannot_be_said_here_is_one_error(fault: str, tmp_path: Path):
    """File, key, what was found and expected, and the mend; exit code 2."""
    flag, key, says = BAD[fault]
    path = write(tmp_path / "f.json", flag)
    with pytest.raises(SpecError) as caught:
        flagd_reader.read(path)
    error = caught.value
    assert (error.where, error.key, says in error.message) == (str(path), key, True), str(error)
    assert "expected" in error.message
    assert error.mend


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "no JSON"),
        (b'{"flags": ', "no JSON"),
        (b"[]", "expected keys with values"),
        (b"{}", "missing, expected the flags by name"),
        (b'{"flags": 1}', "found 1"),
        (b'{"flags": [{}]}', "expected the flag's name"),
        (b'{"flags": {}, "flag": {}}', "unknown key"),
        (b'{"flags": {}, "flags": {}}', "twice"),
        (b'{"flags": {"X": {}}}', "found the name `X`"),
        (b'{"flags": {"x": {"state": NaN}}}', "finite number"),
        (b'{"flags": ' + b"9" * 5000 + b"}", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 200_000, "nested too deeply"),
        (b" " * 600_000, "expected at most"),
    ],
)
def test_a_file_of_another_kind_is_one_error(content: bytes, says: str, tmp_path: Path):
    """Torn, empty, of another shape, endless: one sentence, never a traceback."""
    path = tmp_path / "f.json"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        flagd_reader.read(path)
    assert says in str(caught.value)
    assert str(path) in caught.value.where


def test_no_file_and_a_folder_are_one_error(tmp_path: Path):
    """A wrong name, and a name of something else."""
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(SpecError, match="cannot be read"):
            flagd_reader.read(path)


def test_a_flag_that_the_system_needs_is_missed(tmp_path: Path):
    """What system.yaml names must be in the file."""
    path = write(tmp_path / "f.json", PLAIN)
    assert flagd_reader.read(path, needed=["x"])
    with pytest.raises(SpecError, match="found no flag `y`"):
        flagd_reader.read(path, needed=["x", "y"])


@given(raw=st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["state", "variants", "defaultVariant", "targeting", "metadata", "fractional", "on", "key"]),
        inner, max_size=4,
    ),
    max_leaves=12,
))  # fmt: skip
def test_whatever_stands_there_ends_in_flags_or_in_one_error(raw: object):
    """Fuzz: no value of any shape makes anything but a SpecError."""
    with tempfile.TemporaryDirectory() as folder:
        for body in ({"flags": {"x": raw}}, {"flags": [raw]}, raw):
            path = Path(folder) / "f.json"
            path.write_text(json.dumps(body), encoding="utf-8")
            with suppress(SpecError):
                assert isinstance(flagd_reader.read(path), tuple)


def test_every_name_that_is_taken_is_one_of_flags_json(tmp_path: Path):
    """Both formats hold names to the same rule: what is read can be written as flags.json and read again."""
    for name in ("a", "a_b-9", "A", "9a", "a b", "ä", "", "a\n", "x" * 80):
        path = tmp_path / "f.json"
        path.write_text(json.dumps({"flags": {name: PLAIN}}))
        try:
            flags = flagd_reader.read(path)
        except SpecError:
            flags = ()
        schema = spec.json_schemas()["flags"]["properties"]["flags"]["patternProperties"]
        (pattern,) = schema

        assert bool(flags) == bool(re.fullmatch(pattern, name)), name
