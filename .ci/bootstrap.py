"""Make `.venv` with everything that `uv.lock` pins, on a machine that has Python and nothing else.

Finds a pip (or unpacks one), gets the pinned uv with it, and lets uv install what the lock lists, by digest, from the
index that this user has configured. Idempotent: a stamp in `.venv` makes the second run a matter of milliseconds.
Standard library only.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from harness.adapters.debian import Apt  # noqa: E402 - only after the checkout is on the path
from harness.adapters.tool import hear  # noqa: E402
from harness.model.errors import EnvironmentProblem, RollgateError  # noqa: E402
from harness.paths import cache_root  # noqa: E402

VENV = ROOT / ".venv"
STAMP = VENV / "rollgate-stamp"
# What uv must know from pip's configuration, for users who have only ever configured pip.
FROM_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
    "proxy": "ALL_PROXY",
    "cert": "SSL_CERT_FILE",
}


def say(text: str) -> None:
    """Tell the user what is being done."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def members() -> list[Path]:
    """Return the folders of the workspace members: our own servers."""
    project = cast("dict[str, Any]", tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    return [ROOT / name for name in project["tool"]["uv"]["workspace"]["members"]]


def stamp() -> str:
    """Return the digest of all that decides what belongs into `.venv`."""
    files = [ROOT / "uv.lock", Path(__file__), *(folder / "pyproject.toml" for folder in (ROOT, *members()))]
    return hashlib.sha256(b"".join([str(ROOT).encode(), *(file.read_bytes() for file in files)])).hexdigest()


def is_done() -> bool:
    """Tell whether `.venv` holds what the lock says, with a Python that is still there."""
    return os.access(VENV / "bin" / "python", os.X_OK) and STAMP.exists() and STAMP.read_text() == stamp()


def find_pip(cache: Path) -> dict[str, str]:
    """Return the environment in which `python -m pip` works with the running Python: its own pip or an unpacked one.

    Raises:
        EnvironmentProblem: there is no pip to be had.
    """
    if importlib.util.find_spec("pip"):
        return {}
    wheels = [*_bundled_pip(), *Path("/usr/share/python-wheels").glob("pip-*.whl"), *cache.glob("pip/**/pip-*.whl")]
    if not wheels and Apt.present():
        say("this Python has no pip: unpacking the distribution's")
        wheels = _unpack_pip(cache)
    if not wheels:
        raise EnvironmentProblem(
            f"{sys.executable} has neither pip nor ensurepip, and there is no apt-get to fetch pip with",
            mend="install pip for it (apt-get install python3-pip), or uv, and run make setup again",
        )
    return {"PYTHONPATH": str(wheels[0])}


def _bundled_pip() -> list[Path]:
    spec = importlib.util.find_spec("ensurepip")
    folder = Path(spec.origin).parent / "_bundled" if spec and spec.origin else Path("/nonexistent")
    return list(folder.glob("pip-*.whl"))


def _unpack_pip(cache: Path) -> list[Path]:
    folder = cache / "pip"
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        Apt(cache / "apt", say).download(["python3-pip-whl"], Path(scratch))
        for package in Path(scratch).glob("*.deb"):
            unpacked = hear(["dpkg-deb", "-x", package, folder])
            if unpacked.code:
                raise EnvironmentProblem(f"dpkg-deb cannot unpack {package.name}: {unpacked.last_line()}")
    return list(folder.glob("**/pip-*.whl"))


def get_uv(cache: Path) -> tuple[Path | str, dict[str, str]]:
    """Return the pinned uv, fetched by pip into the cache, and what pip's configuration means for uv.

    Where there is no pip at all, a uv on PATH will do.
    """
    lock = cast("dict[str, Any]", tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8")))
    pin = next(package for package in lock["package"] if package["name"] == "uv")
    folder = cache / f"uv-{pin['version']}"
    uv = folder / "bin" / "uv"
    try:
        pip = find_pip(cache)
    except EnvironmentProblem:
        if any_uv := shutil.which("uv"):
            return any_uv, {}
        raise
    if not uv.exists():
        say(f"fetching uv {pin['version']}")
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            requirement = Path(scratch) / "uv.txt"
            digests = " ".join(f"--hash={wheel['hash']}" for wheel in pin["wheels"])
            requirement.write_text(f"uv=={pin['version']} {digests}\n", encoding="utf-8")
            target = Path(scratch) / "uv"
            run_pip(pip, "install", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile",
                    "--target", str(target), "-r", str(requirement))  # fmt: skip
            shutil.rmtree(folder, ignore_errors=True)
            target.rename(folder)
    return uv, uv_settings(run_pip(pip, "config", "list"))


def run_pip(env: Mapping[str, str], *arguments: str) -> str:
    """Return what pip says to `arguments`, with `env` over the present environment. Raises EnvironmentProblem."""
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_NO_INPUT": "1"}
    quiet["PIP_NO_CACHE_DIR"] = "1"  # nothing outside our own cache
    cache = cache_root() / "tools"
    cache.mkdir(parents=True, exist_ok=True)
    # A pip that runs out of its wheel unpacks its certificates into the folder of temporary files, and leaves them.
    with tempfile.TemporaryDirectory(dir=cache, prefix=".pip-") as scratch:
        answer = hear([sys.executable, "-m", "pip", *arguments], env={**quiet, **env, "TMPDIR": scratch})
    if answer.code:
        errors = [line for line in answer.text.splitlines() if line.startswith("ERROR:")]
        raise EnvironmentProblem(
            f"pip {arguments[0]} failed: {errors[-1] if errors else answer.last_line()}",
            mend="check the network, or your pip settings (pip config list): index, proxy, certificates",
        )
    return answer.text


def uv_settings(listing: str) -> dict[str, str]:
    """Translate `pip config list` (lines like global.index-url='...', later sources first) for uv."""
    settings: dict[str, str] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        name = FROM_PIP.get(key.rpartition(".")[2])
        words = [word for word in value.strip("'\"").replace("\\n", " ").split() if _usable(word)]
        if name and words and name not in os.environ and (name not in settings or key.startswith(":env:")):
            settings[name] = (" " if name in {"UV_INDEX", "UV_INSECURE_HOST"} else ",").join(words)
    return settings


def _usable(word: str) -> bool:
    """Tell whether uv can take the word: it refuses a find-links folder that is not there, where pip shrugs."""
    return not word.startswith("/") or Path(word).exists()


def build(uv: Path | str, settings: Mapping[str, str], cache: Path) -> None:
    """Make `.venv` and install what the lock lists, then our own code, editable."""
    for stray in ("UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"):
        os.environ.pop(stray, None)
    own_cache = os.environ.get("UV_CACHE_DIR", str(cache.parent / "uv"))
    env = {**os.environ, **settings, "UV_CACHE_DIR": own_cache, "UV_PYTHON_DOWNLOADS": "never"}
    own_python = VENV / "bin" / "python"
    if not _same_python(own_python):
        say(f"making .venv with Python {sys.version.split()[0]} ({sys.executable})")
        _uv(uv, env, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV))
    with tempfile.TemporaryDirectory() as scratch:
        pinned = Path(scratch) / "requirements.txt"
        _uv(uv, env, "export", "--quiet", "--frozen", "--offline", "--all-packages", "--all-extras", "--all-groups",
            "--no-emit-workspace", "--format", "requirements-txt", "--output-file", str(pinned))  # fmt: skip
        say("installing the locked packages")
        _uv(uv, env, "pip", "install", "--python", str(own_python), "--require-hashes", "--no-build", "--no-deps",
            "-r", str(pinned))  # fmt: skip
    say("installing rollgate and its servers from this checkout")
    editables = [word for folder in (ROOT, *members()) for word in ("--editable", str(folder))]
    path = f"{VENV / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
    _uv(uv, {**env, "PATH": path}, "pip", "install", "--quiet", "--python", str(own_python), "--offline", "--no-deps",
        "--no-build-isolation", *editables)  # fmt: skip


def _same_python(python: Path) -> bool:
    answer = hear([python, "-c", "import sys; print(sys.version_info[:2])"]) if python.exists() else None
    return answer is not None and answer.text.strip() == str(sys.version_info[:2])


def _uv(uv: Path | str, env: Mapping[str, str], *arguments: str) -> None:
    command = [str(uv), *arguments]
    if sys.stderr.isatty():
        code = subprocess.run(command, env=dict(env), cwd=ROOT, check=False).returncode
    else:
        code = hear(command, env=env, folder=ROOT, each_line=_tell_log).code
    if code:
        raise EnvironmentProblem(
            f"uv {' '.join(arguments[:2])} failed, see above",
            mend="check the network, your index settings (UV_DEFAULT_INDEX or pip config), and free disk space",
        )


def _tell_log(line: str) -> None:
    """Pass on what uv says into a log, without the list of every package."""
    if line.strip() and not line.startswith((" + ", " ~ ", " - ")):
        say(line.strip())


@contextmanager
def locked(cache: Path) -> Generator[None]:
    """Hold off a second set-up at the same time."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is running: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str]) -> int:
    """Bring `.venv` up to date; return an exit code."""
    if is_done() and "--again" not in arguments:
        return 0
    began = time.monotonic()
    cache = cache_root() / "tools"
    # One bundle for every tool: users behind a TLS proxy have mostly set only one of these.
    bundle = next((os.environ[key] for key in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
                   if os.environ.get(key)), "")  # fmt: skip
    if bundle:
        os.environ.setdefault("SSL_CERT_FILE", bundle)
        os.environ.setdefault("PIP_CERT", bundle)
    try:
        with locked(cache):
            if is_done() and "--again" not in arguments:
                return 0
            uv, settings = get_uv(cache)
            build(uv, settings, cache)
            STAMP.write_text(stamp())
    except KeyboardInterrupt:
        say("interrupted; make setup goes on from here")
        return 130
    except OSError as problem:
        say(f"{problem.filename or ''}: {problem.strerror or problem}")
        return RollgateError.exit_code
    except RollgateError as problem:
        say(str(problem))
        return problem.exit_code
    say(f"ready in {time.monotonic() - began:.0f} s: .venv/bin/rollgate")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
