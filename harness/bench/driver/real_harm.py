"""What else befalls a driver: signals, a freeze, a full or read-only disk, a clock that steps. All parts are real."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.adapters.programs import ensure
from harness.bench.driver.real_crash import PACKAGES, begin, ended, path_of
from harness.bench.driver.real_place import FEATURE, SHARES, Place, wait
from harness.model.status import ExitCode
from harness.paths import cache_root

UP = ("--target-percentage", "100")
_SLEEP_S = 0.5
_AT = SHARES[1]  # where it strikes
_LEAST = 1024  # bytes: more than the flags' file has, less than a journal
_SMALL = 4 * 2**20  # bytes of a disk that is to be full


@dataclass(slots=True)
class Harm:
    """What one harm came to: how it was done, what was seen, and what did not hold."""

    name: str
    means: str
    seen: str = ""
    broken: list[str] = field(default_factory=list[str])

    def hold(self, found: bool, text: str) -> None:  # noqa: FBT001 - an assertion's own shape
        """Keep what does not hold."""
        if not found:
            self.broken.append(text)

    def at(self, place: Place, share: float, *, flag: float | None = None) -> None:
        """Hold router, flag and users to a share."""
        state, own = place.router().read(), place.flags.read()[FEATURE]
        found, wanted = (state.limit / 100, own), (share, share if flag is None else flag)
        self.hold(found == wanted, f"limit and flag are {found}, expected {wanted}")
        self.hold(place.users_see(share), f"users do not see {share:g} %")
        self.hold(place.journal.broken_link() is None, "the chain is broken")


def harms(place: Place, *, freeze_s: float, echo: Callable[[str], None]) -> list[Harm]:
    """Do every harm once; the long freeze lasts `freeze_s`."""
    todo: list[Callable[[], Harm]] = [
        lambda: interrupted(place, signal.SIGTERM),
        lambda: interrupted(place, signal.SIGINT),
        lambda: frozen(place, freeze_s, None),
        lambda: frozen(place, 3.0, 0),
        lambda: frozen(place, 3.0, 10_000),
        lambda: full(place),
        lambda: read_only_journal(place),
        lambda: read_only_flags(place),
        lambda: stepped(place, 3600),
        lambda: stepped(place, -3600),
    ]
    found: list[Harm] = []
    for act in todo:
        found.append(act())
        echo(
            f"{found[-1].name}: {found[-1].seen or 'broken'}{''.join(f'; BROKEN: {text}' for text in found[-1].broken)}"
        )
    return found


def interrupted(place: Place, number: signal.Signals) -> Harm:
    """Signal a driver at 50 %, which began at 25 %: it goes back there, and ends with 130."""
    harm = Harm(f"{number.name} at {_AT:g} %", "signal")
    place.fresh("harm", SHARES[0])
    child = begin(place, place.arguments(*UP), "log")
    wait(lambda: place.moved_to(_AT), f"{_AT:g} %")
    began = time.monotonic()
    os.kill(child.pid or 0, number)
    back_s = wait(lambda: place.router().read().limit == SHARES[0] * 100, "the way back")
    code = ended(child)
    harm.seen = (
        f"back at {SHARES[0]:g} % after {back_s:.2f} s, ended after {time.monotonic() - began:.2f} s with {code}"
    )
    harm.hold(code == ExitCode.INTERRUPTED, f"exit code {code}")
    harm.at(place, SHARES[0])
    return harm


def frozen(place: Place, seconds: float, moved: int | None) -> Harm:
    """Stop a driver at 50 %; `moved`: somebody moves the router's limit meanwhile. Then let it go on."""
    hand = "" if moved is None else f", the router moved by hand to {moved / 100:g} %"
    harm = Harm(f"SIGSTOP for {seconds:g} s at {_AT:g} %{hand}, SIGCONT", "signal")
    place.fresh("harm", SHARES[0])
    # It strikes while the driver sleeps between two looks: of a freeze within a look it does not know.
    place.describe(look_s=_SLEEP_S)
    child = begin(place, place.arguments(*UP), "log")
    wait(lambda: place.moved_to(_AT), f"{_AT:g} %")
    time.sleep(_SLEEP_S / 2)
    os.kill(child.pid or 0, signal.SIGSTOP)
    try:
        back_s = wait(lambda: place.users_see(SHARES[0]), "users to be back")
        until = time.monotonic() + seconds - back_s
        while time.monotonic() < until:
            harm.hold(place.users_see(SHARES[0]), "users were not left where they had been")
            time.sleep(0.2)
        if moved is not None:
            place.meddle(moved)
        before = len(place.journal.entries())
    finally:
        os.kill(child.pid or 0, signal.SIGCONT)
        place.describe()
    code, entries = ended(child), place.journal.entries()
    moves = path_of(entries[before:])
    harm.seen = f"users back at {SHARES[0]:g} % after {back_s:.2f} s; then the moves {_list(moves)}, exit code {code}"
    if moved is None:
        again = any(e.kind == "resume" and e.what.get("away_s") for e in entries)
        harm.hold(again, "the stage did not bake anew")
        harm.hold((code, moves) == (0, SHARES[2:]), f"moves {moves}, exit code {code}")
        harm.at(place, SHARES[-1])
    else:
        harm.hold((code, moves) == (ExitCode.ENVIRONMENT, SHARES[:1]), f"moves {moves}, exit code {code}")
        harm.at(place, SHARES[0])
    return harm


def full(place: Place) -> Harm:
    """Fill the disk of the journal and the evidence while 50 % bake; then free it, and go on."""
    with _small_disk(place) as (disk, means):
        harm = Harm(f"disk full at {_AT:g} %, then free again, --resume", means)
        place.fresh("harm", SHARES[0])
        place.elsewhere = disk / "rollouts"
        child = begin(place, place.arguments(*UP), os.devnull)  # what it says is a file as well
        wait(lambda: place.moved_to(_AT), f"{_AT:g} %")
        _fill(disk, child.pid or 0)
        code = ended(child)
        harm.at(place, SHARES[0])
        (disk / "ballast").unlink(missing_ok=True)
        unfinished = not place.journal.pasts()[-1].left.finished
        again = ended(begin(place, place.arguments("--resume"), "log")) if unfinished else None
        harm.seen = f"back at {SHARES[0]:g} %, exit code {code}; resumed once there was space: {again}"
        harm.hold(code == ExitCode.ENVIRONMENT, f"exit code {code}")
        harm.hold(again in {None, int(ExitCode.ENVIRONMENT)}, f"resumed, exit code {again}")
        harm.hold(place.journal.pasts()[-1].left.finished, "the rollout is still open")
        harm.at(place, SHARES[0])
        place.elsewhere = None
    return harm


def read_only_journal(place: Place) -> Harm:
    """Let the folder of the rollouts be read-only from the beginning: nothing is moved."""
    with _small_disk(place) as (disk, means):
        harm = Harm("the journal's folder is read-only from the beginning", means)
        place.fresh("harm", SHARES[0])
        place.elsewhere = disk / "rollouts"
        with _read_only(disk):
            code = ended(begin(place, place.arguments(*UP), "log"))
        harm.seen = f"nothing moved, exit code {code}"
        harm.hold(code == ExitCode.ENVIRONMENT, f"exit code {code}")
        harm.at(place, SHARES[0])
        place.elsewhere = None
    return harm


def read_only_flags(place: Place) -> Harm:
    """Let the flags' folder become read-only while 50 % bake: the next step up fails, users go back, and it is told."""
    with _small_disk(place) as (disk, means):
        harm = Harm(f"the flags' folder becomes read-only at {_AT:g} %, then writable", means)
        place.fresh("harm", SHARES[0])
        real = disk / "live.json"
        shutil.move(place.folder / "live.json", real)
        (place.folder / "live.json").symlink_to(real)
        child = begin(place, place.arguments(*UP), "log")
        wait(lambda: place.moved_to(_AT), f"{_AT:g} %")
        with _read_only(disk):
            code = ended(child)
            harm.at(place, SHARES[0], flag=_AT)
            told = [e for e in place.journal.entries() if e.kind == "finish"]
            harm.hold(len(told) == 1 and "the way back failed" in told[0].why, "the journal does not tell it")
        mended = ended(begin(place, place.arguments("--target-percentage", f"{SHARES[0]:g}"), "log"))
        harm.seen = (
            f"users at {SHARES[0]:g} %, flag left at {_AT:g} % and told, exit code {code}; then mended: {mended}"
        )
        harm.hold((code, mended) == (ExitCode.ENVIRONMENT, 0), f"exit codes {code} and {mended}")
        harm.at(place, SHARES[0])
    return harm


def stepped(place: Place, seconds: int) -> Harm:
    """Step the driver's wall clock while 50 % bake: the same end, as soon as ever."""
    found = ensure(["libfaketime"], cache_root(), lambda _: None).get("libfaketime")
    harm = Harm(f"the wall clock steps by {seconds:+d} s at {_AT:g} %", "libfaketime, the clock that never steps left")
    if found is None:
        harm.seen = "not done: libfaketime is not to be had here"
        return harm
    place.fresh("harm", SHARES[0])
    clock = place.folder / "clock"
    clock.write_text("+0\n", encoding="ascii")
    env = {**os.environ, "PYTHONPATH": str(PACKAGES), "LD_PRELOAD": str(found.path), "FAKETIME_NO_CACHE": "1",
           "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
    words = [sys.executable, "-m", "harness.bench.driver.real_child", *place.arguments(*UP)]
    with (place.folder / "log").open("ab") as log:
        process = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait(lambda: place.moved_to(_AT), f"{_AT:g} %")
        began = time.monotonic()
        clock.write_text(f"{seconds:+d}\n", encoding="ascii")
        code = process.wait(60)
    finally:
        process.kill()
        process.wait()
    took, at = time.monotonic() - began, [entry.at for entry in place.journal.entries()]
    harm.seen = f"promoted after {took:.1f} s more, exit code {code}"
    harm.hold(abs(at[-1] - at[0]) > abs(seconds) / 2, "the clock did not step")
    harm.hold((code, path_of(place.journal.entries())) == (0, SHARES[1:]), f"exit code {code}")
    harm.at(place, SHARES[-1])
    return harm


@contextmanager
def _small_disk(place: Place) -> Generator[tuple[Path, str]]:
    """Yield a folder on a small disk of its own, and what it is: a tmpfs for root, else a plain folder."""
    disk = place.root / "disk"
    disk.mkdir()
    mounted = _mount("-t", "tmpfs", "-o", f"size={_SMALL}", "tmpfs", str(disk))
    try:
        yield disk, "a tmpfs of its own" if mounted else "no root: RLIMIT_FSIZE, and the mode of the folder"
    finally:
        place.elsewhere = None
        if mounted:
            _tell("umount", "-l", str(disk))
        shutil.rmtree(disk, ignore_errors=True)


@contextmanager
def _read_only(disk: Path) -> Generator[None]:
    """Make a small disk read-only for a while."""
    remounted = os.path.ismount(disk) and _mount("-o", "remount,ro", str(disk))
    if not remounted:
        disk.chmod(0o555)
    try:
        yield
    finally:
        if remounted:
            _mount("-o", "remount,rw", str(disk))
        else:
            disk.chmod(0o755)


def _mount(*words: str) -> bool:
    return os.geteuid() == 0 and _tell("mount", *words)


def _tell(program: str, *words: str) -> bool:
    """Run a program of the machine's; tell whether it did what it was asked."""
    found = shutil.which(program)
    return bool(found) and subprocess.run([str(found), *words], check=False, capture_output=True).returncode == 0


def _fill(disk: Path, pid: int) -> None:
    """Take all space of a small disk; where it has no size of its own, let no file of the process grow any more."""
    if not os.path.ismount(disk):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_LEAST, resource.RLIM_INFINITY))
        return
    with (disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * _LEAST)


def _list(shares: tuple[float, ...]) -> str:
    return ", ".join(f"{share:g} %" for share in shares) or "none"
