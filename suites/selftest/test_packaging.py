"""What is shipped: the lock names no index, set-up finds its Python, the wheel works from an empty folder."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.selftest

ROOT = Path(__file__).resolve().parents[2]
in_checkout = pytest.mark.skipif(not (ROOT / "uv.lock").exists(), reason="needs the checkout, not the wheel")


def load(name: str) -> ModuleType:
    """Import a script of .ci by its path."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@in_checkout
def test_the_lock_names_no_host_but_the_placeholder() -> None:
    """A registry, a file address or a mirror in uv.lock would bind every user to it."""
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")

    assert load("lock").foreign_hosts(text) == set()
    assert load("lock").PLACEHOLDER in text, "the lock holds no package at all"


@in_checkout
@pytest.mark.parametrize(
    "line",
    [
        'source = { registry = "https://packages.example/simple" }',
        'sdist = { url = "http://packages.example:8080/a/b/part-1.0.tar.gz", hash = "sha256:00" }',
        'source = { url = "https://token@packages.example/part-1.0-py3-none-any.whl" }',
        'source = { git = "https://packages.example/part?rev=1#00" }',
    ],
)
def test_a_foreign_host_in_a_lock_is_seen_and_can_be_moved(line: str) -> None:
    """Planted: a registry, a file with a port, an address with a token, a repository."""
    lock = load("lock")

    assert any("packages.example" in host for host in lock.foreign_hosts(line))
    assert lock.foreign_hosts(lock.neutral(line)) == set()


@in_checkout
def test_a_neutral_lock_keeps_names_and_digests() -> None:
    """Only the place goes: the file's name and its digest stay, and a second pass changes nothing."""
    line = '{ url = "https://packages.example/ab/cd/part-1.0-py3-none-any.whl", hash = "sha256:12ab" },'

    moved = load("lock").neutral(line)

    assert moved == '{ url = "https://index.invalid/files/part-1.0-py3-none-any.whl", hash = "sha256:12ab" },'
    assert load("lock").neutral(moved) == moved


@in_checkout
def test_pips_settings_reach_uv() -> None:
    """A user who has only configured pip installs from the same index, through the same proxy."""
    listing = "global.index-url='https://mirror.example/simple'\nglobal.extra-index-url='https://a.example https://b.example'\n"
    listing += "user.timeout='60'\nglobal.find-links='/not/there'\n:env:.index-url='https://env.example/simple'\n"

    settings = load("bootstrap").uv_settings(listing)

    assert settings["UV_DEFAULT_INDEX"] == "https://env.example/simple"
    assert settings["UV_INDEX"] == "https://a.example https://b.example"
    assert settings["UV_HTTP_TIMEOUT"] == "60"
    assert "UV_FIND_LINKS" not in settings, "uv would refuse a folder that is not there"


@in_checkout
def test_nothing_of_others_is_ever_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set-up installs wheels alone, so it needs no compiler and no Python headers; only our own code is built."""
    bootstrap, calls = load("bootstrap"), list[tuple[str, ...]]()
    for name in ("UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"):
        monkeypatch.delenv(name, raising=False)  # set-up drops these: monkeypatch brings them back
    monkeypatch.setattr(bootstrap, "_uv", lambda _uv, _env, *words: calls.append(words))
    monkeypatch.setattr(bootstrap, "run_pip", lambda _env, *words: calls.append(("pip", *words)) or "")
    monkeypatch.setattr(bootstrap, "find_pip", lambda _cache: {})
    monkeypatch.setattr(Path, "rename", lambda _self, target: target)

    bootstrap.build(*bootstrap.get_uv(tmp_path), tmp_path)

    installs = [words for words in calls if words[:2] == ("pip", "install")]
    from_index = [words for words in installs if "--editable" not in words]
    assert len(installs) == 3, "uv, the locked packages, our own code"
    assert len(from_index) == 2
    assert all("--no-build" in words or words[words.index("--only-binary") + 1] == ":all:" for words in from_index)
    own = next(words for words in installs if "--editable" in words)
    assert "--offline" in own


@in_checkout
def test_what_pip_leaves_among_temporary_files_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip that leaves a temporary file, as one that runs out of its wheel does: it lay in the cache, and is gone."""
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__main__.py").write_text("import tempfile; print(tempfile.mkstemp()[1], end='')")
    (tmp_path / "pip" / "__init__.py").write_text("")
    monkeypatch.setenv("ROLLGATE_CACHE", str(tmp_path / "cache"))
    left = Path(load("bootstrap").run_pip({"PYTHONPATH": str(tmp_path)}, "config", "list"))
    assert left.is_relative_to(tmp_path / "cache")
    assert list((tmp_path / "cache" / "tools").iterdir()) == []


@in_checkout
def test_every_locked_package_has_a_wheel() -> None:
    """A package that comes as source alone could not be installed without building it."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    others = [package for package in lock["package"] if "registry" in package["source"]]

    assert len(others) > 50
    assert [package["name"] for package in others if not package.get("wheels")] == []


def imported(folder: Path) -> set[str]:
    """Return the distributions that the files below `folder` import, by their normal names."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in folder.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    owners = packages_distributions()
    found = {owner for module in modules for owner in owners.get(module.split(".")[0], ())}
    return {normal(name) for name in found if not name.startswith("rollgate")}


def normal(requirement: str) -> str:
    """Return a requirement's name as indexes compare it."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].replace("_", "-").lower()


def amiss(servers: Path, base: list[str], native: list[str]) -> list[str]:
    """Return what the servers import and no list has, and what the native list has and no server imports."""
    used = imported(servers)
    listed = {normal(item) for item in native}
    lacking = used - listed - {normal(item) for item in base}
    return [*(f"{name} is missing" for name in sorted(lacking)), *(f"{x} is idle" for x in sorted(listed - used))]


@in_checkout
def test_the_native_extra_is_what_the_servers_import() -> None:
    """Nothing that a server needs is left to chance, and nothing is installed that none of them imports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    native = project["optional-dependencies"]["native"]

    assert amiss(ROOT / "stack", project["dependencies"], native) == []
    planted = [*(item for item in native if not item.startswith("aiohttp")), "hypothesis>=6"]
    assert amiss(ROOT / "stack", project["dependencies"], planted) == ["aiohttp is missing", "hypothesis is idle"]


@in_checkout
def test_set_up_says_which_python_it_needs_and_where_it_looked(tmp_path: Path) -> None:
    """One Python is too old, one is a shim that fails: one clear message and exit code 4."""
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ncase "$2" in *sys.exit*) exit 1 ;; *) echo 3.10.13 ;; esac\n', encoding="utf-8")
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'version not installed' >&2\nexit 127\n", encoding="utf-8")
    for file in (old, shim):
        file.chmod(0o755)
    text = (ROOT / ".ci" / "setup").read_text(encoding="utf-8")
    here = tmp_path / "ci" / "setup"
    here.parent.mkdir()
    # The absolute places are left out, or the test would find the machine's own Python there.
    here.write_text(
        text.replace("/usr/bin/python3 /usr/local/bin/python3 /opt/homebrew/bin/python3", ""), encoding="utf-8"
    )
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "dirname").symlink_to("/usr/bin/dirname")

    done = subprocess.run(
        ["/bin/sh", str(here)], env={"PATH": f"{tmp_path}:{tools}"}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 4
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert "python3 (3.10.13)" in done.stderr
    assert "python3.12 (not there or does not run)" in done.stderr
    assert "apt-get install" in done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@in_checkout
def test_the_wheel_carries_what_the_engine_runs_on(wheel: Path) -> None:
    """Systems, servers, programs, suites, scenarios, fixtures and conftest are below harness/_share; nothing strays."""
    names = zipfile.ZipFile(wheel).namelist()

    for part in ("conftest.py", "stack/programs.yaml", "stack/systems/minimal/system.yaml", "suites/", "scenarios/"):
        assert any(name.startswith(f"harness/_share/{part}") for name in names), part
    assert {name.split("/")[0] for name in names} == {
        "harness",
        next(n for n in names if "dist-info" in n).split("/")[0],
    }
    assert not [name for name in names if "__pycache__" in name or "/.venv/" in name]


@in_checkout
def test_the_wheel_works_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Unpacked by itself, with the locked packages beside it: the command answers and finds its systems."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ROLLGATE"))}
    code = "from harness.spec import find_system, load_system\n"
    code += "root = find_system('minimal'); print(root); print(load_system(root).name)\n"
    code += "from harness.cli.main import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=empty,
        env={**env, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    share = site / "harness" / "_share"
    assert done.stdout.splitlines()[:2] == [str(share / "stack/systems/minimal"), "minimal"], "the checkout was used"
    assert "gate" in done.stdout
    assert not list(empty.iterdir()), "the command wrote into the working folder"
