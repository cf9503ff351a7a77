"""Coverage counts what ran and passed, at the level it was proven, and nothing else."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.errors import SpecError
from harness.report.coverage import LEVELS, coverage, print_coverage, read_catalog, read_levels

pytestmark = pytest.mark.selftest

CATALOG = """\
systems:
  one: "a system"
one:
  services:
    aa.svc.cache: {port: 1}   # aa.svc.remark: is no id
    aa.svc.store: {port: 2}
two:
  bb.rollout.stages: {percent: [10]}
out_of_scope:
  - "cc.never.counted: something else"
"""
PASSED, FAILED, BROKEN, SKIPPED = "", "<failure/>", "<error/>", "<skipped/>"


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """A catalog of two systems and three ids."""
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG)
    return path


def junit(path: Path, *cases: tuple[str, str, str]) -> Path:
    """Write a junit.xml of (id, level, outcome); level "" writes none."""
    text = "<testsuites><testsuite>"
    for name, level, outcome in cases:
        props = f'<property name="covers" value="{name}"/>'
        props += f'<property name="covers_level" value="{level}"/>' if level else ""
        text += f"<testcase name='x'><properties>{props}</properties>{outcome}</testcase>"
    path.write_text(text + "</testsuite></testsuites>")
    return path


def test_the_catalog_is_read_by_system(catalog: Path):
    """Ids stand under their system; remarks and what is out of scope are none."""
    assert read_catalog(catalog) == {"one": ("aa.svc.cache", "aa.svc.store"), "two": ("bb.rollout.stages",)}


@pytest.mark.parametrize(
    "cases, level",
    [
        ([("aa.svc.cache", "live", PASSED)], "live"),
        ([("aa.svc.cache", "", PASSED)], "live"),
        ([("aa.svc.cache", "static", PASSED)], "static"),
        ([("aa.svc.cache", "static", PASSED), ("aa.svc.cache", "simulated", PASSED)], "simulated"),
        ([("aa.svc.cache", "live", SKIPPED)], "missing"),
        ([("aa.svc.cache", "live", SKIPPED), ("aa.svc.cache", "static", PASSED)], "static"),
        ([("aa.svc.cache", "live", FAILED)], "missing"),
        ([("aa.svc.cache", "live", PASSED), ("aa.svc.cache", "live", FAILED)], "missing"),
        ([("aa.svc.cache", "static", BROKEN), ("aa.svc.cache", "live", PASSED)], "missing"),
        ([("aa.svc.other", "live", PASSED)], "missing"),
        ([], "missing"),
    ],
)
def test_an_id_counts_at_its_best_level_that_really_ran(
    cases: list[tuple[str, str, str]], level: str, catalog: Path, tmp_path: Path
):
    """A pass counts at its level, a skip for nothing, and one failure takes the id away."""
    found = coverage(catalog, [junit(tmp_path / "junit.xml", *cases)])
    assert found.systems["one"]["aa.svc.cache"] == level


def test_a_failure_in_one_file_spoils_a_pass_in_another(catalog: Path, tmp_path: Path):
    """Files are judged together."""
    good = junit(tmp_path / "a.xml", ("aa.svc.cache", "live", PASSED))
    bad = junit(tmp_path / "b.xml", ("aa.svc.cache", "live", FAILED))
    assert coverage(catalog, [good]).systems["one"]["aa.svc.cache"] == "live"
    assert coverage(catalog, [good, bad]).systems["one"]["aa.svc.cache"] == "missing"


def test_two_ids_of_a_case_keep_their_own_levels(tmp_path: Path):
    """The level that follows an id is that id's."""
    path = tmp_path / "junit.xml"
    props = "".join(
        f'<property name="{name}" value="{value}"/>'
        for name, value in [("covers", "a.b"), ("covers_level", "static"), ("covers", "c.d"), ("covers_level", "live")]
    )
    path.write_text(f"<testsuite><testcase><properties>{props}</properties></testcase></testsuite>")
    assert read_levels([path]) == {"a.b": "static", "c.d": "live"}


@pytest.mark.parametrize("whole, code", [(True, 0), (False, 1)])
def test_the_exit_code_says_whether_what_was_asked_is_whole(*, whole: bool, code: int, catalog: Path, tmp_path: Path):
    """Exit 0 when each asked system is whole; ids of systems that nobody asked for do not count."""
    cases = [("aa.svc.cache", "live", PASSED)] + ([("aa.svc.store", "static", PASSED)] if whole else [])
    lines: list[str] = []
    found = print_coverage(
        catalog, [junit(tmp_path / "j.xml", *cases)], systems=["one"], as_json=False, echo=lines.append
    )
    assert found == code
    assert any("aa.svc.store" in line and ("static" if whole else "missing") in line for line in lines)


def test_json_says_the_same(catalog: Path, tmp_path: Path):
    """--json is one object: levels by system and id, and whether all is whole."""
    out: list[str] = []
    files = [junit(tmp_path / "j.xml", ("bb.rollout.stages", "simulated", PASSED))]
    assert print_coverage(catalog, files, systems=[], as_json=True, echo=out.append) == 1
    said = json.loads("".join(out))
    assert said["systems"]["two"] == {"bb.rollout.stages": "simulated"}
    assert said["whole"] is False


@pytest.mark.parametrize("content", ["", "systems:\n  a: b\n", None])
def test_a_wrong_catalog_is_one_line(content: str | None, tmp_path: Path):
    """A missing or empty catalog is a usage error with a mend."""
    path = tmp_path / "catalog.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SpecError, match="name the catalog's file"):
        coverage(path, [])


def test_a_torn_junit_file_is_one_line(catalog: Path, tmp_path: Path):
    """What is no XML is a usage error, and so is an unknown system."""
    torn = tmp_path / "torn.xml"
    torn.write_text("<testsuite><testcase>")
    with pytest.raises(SpecError, match="run the tests first"):
        coverage(catalog, [torn])
    with pytest.raises(SpecError, match="known: one, two"):
        coverage(catalog, [], systems=["three"])


@given(
    cases=st.lists(
        st.tuples(st.sampled_from(["a.b", "c.d"]), st.sampled_from(LEVELS), st.sampled_from([PASSED, SKIPPED]))
    ),
    name=st.sampled_from(["a.b", "c.d"]),
)
def test_adding_a_failure_never_improves_coverage(
    cases: list[tuple[str, str, str]], name: str, tmp_path_factory: pytest.TempPathFactory
):
    """Law: with one more failing case no id has a better level than before."""
    folder = tmp_path_factory.mktemp("law")
    before = read_levels([junit(folder / "a.xml", *cases)])
    after = read_levels([junit(folder / "b.xml", *cases, (name, "live", FAILED))])
    assert name not in after
    assert {key: level for key, level in before.items() if key != name} == after
