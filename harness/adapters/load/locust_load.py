"""The load of a run: Locust in a process of its own, watched from outside."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.adapters.load.options import LoadOptions, encode_options
from harness.adapters.load.soundness import problems
from harness.adapters.load.standalone import OPTIONS_VARIABLE, entry_url, read_stack
from harness.adapters.load.status import LoadStatus, read_status
from harness.adapters.load.workload import try_workload
from harness.adapters.processes import Process, clean_environment, start
from harness.model.codec import decode
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.evidence import Evidence
from harness.model.objective import Against, Measure, Objective
from harness.model.plan import StagePlan
from harness.model.system import System
from harness.model.target import Auth
from harness.paths import share_root
from harness.ports import LoadHealth

_PACKAGE_ROOT = Path(__file__).resolve().parents[3]
_START_S = 20.0
_DRAIN_S = 8.0  # beyond the last request's deadline: Locust's own way down
_LATE_MS = 20.0  # p99 send lag that a shared machine is held to ...
_LATE_SHARE = 0.1  # ... or this share of the tightest latency threshold, where that is more
_SHORT_INTERVAL_S, _INTERVAL_S = 0.5, 1.0


class LocustLoad:
    """Open-loop load on a stack by the system's scenario: implements `harness.ports.Load`.

    `rate` in requests a second, for at most `max_seconds`. Evidence and status lie in `out`/evidence.
    """

    def __init__(
        self,
        system: System,
        stack_json: Path,
        plan: StagePlan,
        *,
        out: Path,
        seed: int,
        rate: float,
        max_seconds: float,
        candidate_url: str = "",
        split: Path | None = None,
        auth: Auth | None = None,
        host: str = "",
    ) -> None:
        """Send nothing yet; `stack_json` is read at the start.

        With `candidate_url` the load splits itself, by the order in the file `split`; `auth` lets it in, `host` is the
        name it asks by.
        """
        self._system, self._stack_json, self._out = system, stack_json, out
        scenario, traffic = system.scenario, system.traffic
        self._late_ms = max(_LATE_MS, _LATE_SHARE * tightest_latency_ms(system.objectives))
        locustfile = _locate(scenario.locustfile, system.root)
        self._locustfile = locustfile
        self._options = LoadOptions(
            url="",
            prefix=scenario.name,
            workload=str(locustfile.parent / "workloads" / locustfile.name),
            root=str(system.root),
            evidence=str(out / "evidence"),
            rate=rate,
            seconds=max_seconds,
            seed=seed,
            process=scenario.process,
            options=scenario.options,
            scores=scenario.scores,
            session_header=traffic.session_header,
            arm_header=traffic.arm_header,
            unit=traffic.unit,
            bounds_s=traffic.bounds_s or LoadOptions.bounds_s,
            interval_s=_SHORT_INTERVAL_S if plan.look_s <= _SHORT_INTERVAL_S else _INTERVAL_S,
            late_s=self._late_ms / 1e3,
            candidate_url=candidate_url,
            split=str(split or ""),
            auth=auth or Auth(),
            host=host,
            epoch_s=time.time() - time.monotonic(),  # as the driver's, which is made at the same moment
        )
        self._locust: Process | None = None
        self._stopped = False
        self._offset = 0

    def start(self) -> None:
        """Start Locust and return once requests flow; EnvironmentProblem when they do not."""
        stack = read_stack(self._stack_json)
        self._options = replace(self._options, url=entry_url(stack), remote=bool(stack.get("remote")))
        self._options.check()
        Path(self._options.evidence).mkdir(parents=True, exist_ok=True)
        for left in (self._options.records_file, self._options.status_file):
            left.unlink(missing_ok=True)  # of a process before: what it saw has been judged, or is too old to be
        options_file = Path(self._options.evidence) / "load-options.json"
        options_file.write_text(encode_options(self._options), encoding="utf-8")
        environment = _environment(options_file, self._options.auth.variables)
        log = self._out / "logs" / "load.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self._locust = start(self._command(), env=environment, cwd=self._out, log=log)
        self._await_requests(log)

    def collect(self) -> Sequence[Evidence]:
        """Return the records of the intervals that were closed since the last call."""
        try:
            with self._options.records_file.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return ()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [decode(line) for line in whole.decode().splitlines()]

    def health(self) -> LoadHealth:
        """Tell whether the instrument is sound now, and after `stop` whether it was to the end."""
        status = read_status(self._options.status_file)
        running = self._locust is not None and self._locust.poll() is None
        if self._locust is None:
            return LoadHealth(running=False)
        if status is None:
            return LoadHealth(running=running, problems=("the load never reported — see logs/load.log",))
        found = problems(status, now_s=time.time(), late_ms=self._late_ms, expected=self._stopped)
        if not running and status.phase != "done":
            found = (f"the load's process is gone ({self._locust.exit_note}) — see logs/load.log", *found)
        return LoadHealth(running=running, problems=found)

    def status(self) -> LoadStatus | None:
        """Return the generator's latest report."""
        return read_status(self._options.status_file)

    def stop(self) -> None:
        """Drain and stop, within the request deadline and a few seconds; safe to call twice."""
        if self._locust is None or self._stopped:
            return
        self._stopped = True
        self._locust.terminate(grace=self._options.deadline_s + _DRAIN_S)

    def kill(self) -> None:
        """End the generator by SIGKILL, as a drill or the kernel would."""
        self._signal(signal.SIGKILL)

    def stall(self, seconds: float) -> None:
        """Freeze the generator for `seconds`, and return at once."""
        self._signal(signal.SIGSTOP)
        timer = threading.Timer(seconds, self._signal, (signal.SIGCONT,))
        timer.daemon = True
        timer.start()

    def _command(self) -> list[str]:
        drained_s = str(int(self._options.deadline_s + 5))
        return [
            sys.executable, "-m", "locust", "-f", str(self._locustfile), "--headless", "--users", "1",
            "--host", self._options.url, "--stop-timeout", drained_s, "--only-summary", "--exit-code-on-error", "0",
        ]  # fmt: skip

    def _await_requests(self, log: Path) -> None:
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            status = self.status()
            if status is not None and status.phase != "calibrating":
                return
            if self._locust is not None and self._locust.poll() is not None:
                break
            time.sleep(0.05)
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        self._stopped = True
        if self._locust is not None:
            self._locust.terminate(grace=1.0)
        msg = f"the load did not start within {_START_S:g} s: {last[0]}"
        raise EnvironmentProblem(msg, mend=f"see {log}")

    def _signal(self, number: signal.Signals) -> None:
        status = self.status()
        if status is not None and status.phase != "done":
            with suppress(ProcessLookupError):
                os.kill(status.pid, number)


def _environment(options_file: Path, variables: Sequence[str]) -> dict[str, str]:
    """Return a clean environment (no LOCUST_* of the user's) with this very package on the path.

    `variables` are those that hold the secrets of the load: they travel here, and in no file.
    """
    paths = [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **clean_environment(),
        **{name: os.environ[name] for name in variables if name in os.environ},
        OPTIONS_VARIABLE: str(options_file),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }


def check_scenario(system: System) -> None:
    """Load the system's scenario and have it make one request, of which nothing is sent. Raises SpecError."""
    scenario = system.scenario
    locustfile = _locate(scenario.locustfile, system.root)
    if not locustfile.is_file():
        msg = f"found no scenario {scenario.locustfile}, in the system's folder or in rollgate's own"
        raise SpecError(msg, where=str(system.root / "scenarios.yaml"), key="scenario.locustfile", mend="name a file")
    try_workload(locustfile.parent / "workloads" / locustfile.name, dict(scenario.options), system.root)


def tightest_latency_ms(objectives: Sequence[Objective]) -> float:
    """Return the least latency threshold among `objectives`, in milliseconds; 0 where there is none."""
    in_ms = {"ms": 1.0, "s": 1000.0}
    return min(
        (
            objective.threshold * in_ms[objective.unit]
            for objective in objectives
            if objective.measure is Measure.QUANTILE and objective.against is Against.NUMBER and objective.unit in in_ms
        ),
        default=0.0,
    )


def _locate(locustfile: str, root: Path) -> Path:
    """Find a scenario in the system's own folder first, then in rollgate's data."""
    own = root / locustfile
    return own if own.is_file() else share_root() / locustfile
