"""The base of all images of ours: pulled where a registry answers, else made on the spot with debootstrap."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from docker.errors import APIError, ImageNotFound

from harness.model.errors import EnvironmentProblem

BASE = "debian:bookworm-slim"
SUITE = "bookworm"
MADE_HERE = "org.rollgate.base"  # a label of a base that was made here
_COMMANDS = (
    f"`debootstrap --variant=minbase {SUITE} DIR` and `tar -C DIR -c . | docker import - {BASE}` as root "
    "on a machine that has debootstrap"
)
_MEND = f"let the engine reach a registry that has {BASE}, or make it once: {_COMMANDS}"
# What the official slim image leaves out too.
_LEFT_OUT = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/groff",
    "usr/share/lintian",
)
_DPKG = (
    "force-unsafe-io\n"
    + "".join(f"path-exclude /{folder}/*\n" for folder in _LEFT_OUT)
    + "path-include /usr/share/doc/*/copyright\n"
)
_APT = (
    'APT::Install-Recommends "false";\n'
    'Acquire::Languages "none";\n'
    'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
    'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";\n'
)
_TARGETS = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]


def ensure_base(client: Any, progress: Callable[[str], None]) -> None:  # noqa: ANN401 - docker has no types
    """Leave `debian:bookworm-slim` on the engine. Raises EnvironmentProblem where it can be neither pulled nor made."""
    try:
        client.images.get(BASE)
    except ImageNotFound:
        pass
    else:
        return
    try:
        progress(f"pulling {BASE}")
        client.images.pull(BASE)
    except (APIError, ImageNotFound) as error:
        if os.geteuid() != 0 or not shutil.which("debootstrap"):
            raise EnvironmentProblem(f"{BASE} is not here and cannot be pulled: {error}", mend=_MEND) from error
    else:
        return
    progress(f"no registry answers: making {BASE} with debootstrap (a minute or two)")
    with tempfile.TemporaryDirectory(prefix="rollgate-base-") as folder:
        _make(Path(folder))
        _import(client, Path(folder))


def sources(said: str) -> str:
    """Return the lines of a sources.list for the base, from what `apt-get indextargets` says of this machine.

    Only this suite's own archives, and only those without a password in their address; "" where there are none.
    """
    lines: list[str] = []
    for line in said.splitlines():
        address, release, component = [*line.split(), "", "", ""][:3]
        known = release in {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}
        if known and component == "main" and address.startswith(("http://", "https://")) and "@" not in address:
            lines.append(f"deb {address} {release} {component}\n")
    return "".join(dict.fromkeys(lines))


def _make(folder: Path) -> None:
    """Make the system in `folder`, with this machine's archives where it is the same suite, and its updates."""
    listed = subprocess.run(_TARGETS, capture_output=True, text=True, check=False) if shutil.which("apt-get") else None
    archives = sources(listed.stdout if listed else "")
    mirror = next((line.split()[1] for line in archives.splitlines() if line.split()[2] == SUITE), "")
    _run(["debootstrap", "--variant=minbase", SUITE, str(folder), *([mirror] if mirror else [])])
    (folder / "etc/dpkg/dpkg.cfg.d/slim").write_text(_DPKG, encoding="utf-8")
    (folder / "etc/apt/apt.conf.d/slim").write_text(_APT, encoding="utf-8")
    if archives:
        (folder / "etc/apt/sources.list").write_text(archives, encoding="utf-8")
    inside = {"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    for words in (["apt-get", "update"], ["apt-get", "-y", "upgrade"], ["apt-get", "clean"]):
        _run(["chroot", str(folder), *words], environment=os.environ | inside)
    _slim(folder)


def _slim(folder: Path) -> None:
    for name in _LEFT_OUT:
        for path in sorted((folder / name).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.name != "copyright":
                path.unlink()
    for name in ("var/lib/apt/lists", "var/cache/apt", "var/cache/debconf", "var/log"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    for name in ("etc/machine-id", "etc/resolv.conf", "etc/hostname"):  # of this machine, not of an image
        (folder / name).unlink(missing_ok=True)


def _import(client: Any, folder: Path) -> None:  # noqa: ANN401 - docker has no types
    changes = ['CMD ["bash"]', f'LABEL {MADE_HERE}="made with debootstrap in place of {BASE}"']
    words = ["tar", "-C", str(folder), "--numeric-owner", "--one-file-system", "-c", "."]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as packing:
        name, _, tag = BASE.partition(":")
        client.api.import_image_from_stream(packing.stdout, repository=name, tag=tag, changes=changes)
    if packing.returncode:
        raise EnvironmentProblem(f"{BASE} cannot be packed", mend=_MEND)


def _run(words: list[str], *, environment: Mapping[str, str] | None = None) -> None:
    """Run a command; raises EnvironmentProblem with its last lines."""
    found = subprocess.run(
        words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment
    )
    if found.returncode:
        last = "\n".join(f"  {words[0]} | {line}" for line in (found.stdout + found.stderr).splitlines()[-8:])
        raise EnvironmentProblem(f"{BASE} cannot be made: {words[0]} failed\n{last}\n", mend=_MEND)
