"""A machine made of a few files: a package archive for apt, a wheel, and programs that are shell scripts."""

import hashlib
import os
import stat
import subprocess
import zipfile
from pathlib import Path

APT_CONF = """
Dir::State::Lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::Etc::SourceList "{root}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Main "/dev/null";
Dir::Etc::Parts "/dev/null";
Acquire::Languages "none";
"""
# Says that a library named in FILE.needs is missing unless a folder of LD_LIBRARY_PATH has it.
LDD = """#!/bin/sh
[ -f "$1.needs" ] || { echo "	not a dynamic executable"; exit 1; }
for library in $(cat "$1.needs"); do
    found="not found"
    for folder in $(echo "${LD_LIBRARY_PATH:-}" | tr ':' ' '); do
        [ -f "$folder/$library" ] && found=$folder/$library
    done
    echo "	$library => $found"
done
"""


def script(path: Path, body: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body if body.startswith("#!") else f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return path


class Machine:
    """One temporary machine below `root`: `bin` is first on its PATH, `repo` is its distribution."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.cache = root / "cache"
        self.repo = root / "repo"
        self.wheels = root / "wheels"
        self.said: list[str] = []
        for folder in (self.bin, self.repo, self.wheels, root / "lists" / "partial"):
            folder.mkdir(parents=True)
        (root / "status").touch()
        (root / "sources.list").write_text(f"deb [trusted=yes] file:{self.repo} ./\n", encoding="utf-8")
        (root / "apt.conf").write_text(APT_CONF.format(root=root), encoding="utf-8")
        script(self.bin / "ldd", LDD)

    def environment(self) -> dict[str, str]:
        """Return what the environment must hold for apt and pip to see this machine alone."""
        return {
            "PATH": f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "APT_CONFIG": str(self.root / "apt.conf"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
        }

    def publish(self, package: str, files: dict[str, str], *, depends: str = "") -> None:
        """Add a package to the distribution: scripts by path, and in PROGRAM.needs the libraries it misses."""
        tree = self.root / "trees" / package
        for name, body in files.items():
            file = script(tree / name, body)
            if file.suffix == ".needs":
                file.write_text(body, encoding="utf-8")
        control = f"Package: {package}\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody\nDescription: a part\n"
        control += f"Depends: {depends}\n" if depends else ""
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN" / "control").write_text(control, encoding="utf-8")
        deb = self.repo / f"{package}.deb"
        build = ["/usr/bin/dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(deb)]
        subprocess.run(build, check=True, capture_output=True)
        body = deb.read_bytes()
        entry = f"{control}Filename: ./{deb.name}\nSize: {len(body)}\nSHA256: {hashlib.sha256(body).hexdigest()}\n\n"
        with (self.repo / "Packages").open("a", encoding="utf-8") as index:
            index.write(entry)

    def publish_wheel(self, name: str, files: dict[str, str]) -> str:
        """Add a wheel of version 1.0 to the package index; return its sha256."""
        wheel = self.wheels / f"{name}-1.0-py3-none-any.whl"
        info = f"{name}-1.0.dist-info"
        whole = files | {
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},,\n" for path in [*whole, f"{info}/RECORD"])
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, body in (whole | {f"{info}/RECORD": record}).items():
                archive.writestr(path, body)
        return hashlib.sha256(wheel.read_bytes()).hexdigest()

    def catalog(self, text: str) -> Path:
        """Write the catalog of programs."""
        path = self.root / "programs.yaml"
        path.write_text(f"schema: 1\nprograms:\n{text}", encoding="utf-8")
        return path
