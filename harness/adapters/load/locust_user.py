"""Locust's side: a user class that runs the generator, feeds Locust's statistics and drains it at the stop."""

import inspect
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast
from weakref import WeakSet

import gevent
from locust import User, task
from locust.exception import StopUser

from harness.adapters.load.options import LoadOptions, encode_options
from harness.adapters.load.standalone import scenario_options
from harness.adapters.load.status import read_status
from harness.model.errors import SpecError

WORKERS_VARIABLE = "ROLLGATE_LOAD_WORKERS"  # how many Locust workers share the schedule, where Locust can't tell

_BROKEN = 4  # exit code: the instrument failed, which says nothing about what was measured
_log = logging.getLogger(__name__)
_loaded: WeakSet[Any] = WeakSet()


class OpenLoopUser(User):
    """One per Locust process: it owns the generator process, which sends this worker's slice of the schedule.

    A scenario sets `workload` (a file, relative to its own), `prefix` (of the signals) and `system` (whose data
    a load by hand uses). Users beyond the first in a process do nothing: load is a matter of rate here, not of
    users.
    """

    abstract = True
    workload: ClassVar[str] = ""
    prefix: ClassVar[str] = ""
    system: ClassVar[str] = "minimal"
    scenario: ClassVar[dict[str, str]] = {}

    def on_start(self) -> None:
        """Start the generator, once in a Locust process."""
        self._locust = cast("Any", self).environment  # Locust's environment has no types
        self._generator: subprocess.Popen[bytes] | None = None
        if self._locust in _loaded:
            return
        _loaded.add(self._locust)
        try:
            self._options = self._slice()
        except SpecError as error:
            _log.error("%s", error)
            self._give_up(error.exit_code)
            return
        self._start()

    @task
    def watch(self) -> None:
        """Notice that the generator ended, which it does by itself only when its schedule is over."""
        gevent.sleep(0.1)
        if self._generator is None or self._generator.poll() is None:
            return
        if self._generator.returncode:
            _log.error("the load generator ended with %s: see %s", self._generator.returncode, self._options.evidence)
            self._locust.process_exit_code = _BROKEN
        gevent.spawn(self._runner().quit)
        raise StopUser

    def on_stop(self) -> None:
        """Drain the generator: every request that was sent is answered, failed or timed out."""
        generator = self._generator
        if generator is None:
            return
        if generator.poll() is None and generator.stdin:
            generator.stdin.write(b"stop\n")
            generator.stdin.flush()
        try:
            generator.wait(self._options.deadline_s + 3)
        except subprocess.TimeoutExpired:
            generator.kill()
        self._relaying.join(1)
        status = read_status(self._options.status_file)
        if generator.returncode or status is None or status.sent != status.ended:
            self._locust.process_exit_code = _BROKEN

    def _start(self) -> None:
        folder = Path(self._options.evidence)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"load-options-{self._options.worker}.json"
        file.write_text(encode_options(self._options), encoding="utf-8")
        command = [sys.executable, "-m", "harness.adapters.load.generator", str(file)]
        self._generator = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._relaying: gevent.Greenlet[..., None] = gevent.spawn(self._relay)
        self._locust.events.quitting.add_listener(self._before_exit_code)
        _log.info("open loop: %g req/s, evidence in %s", self._options.rate, folder)

    def _slice(self) -> LoadOptions:
        """Return this worker's options, its place among the workers taken from Locust."""
        parsed = self._locust.parsed_options
        options = scenario_options(
            prefix=self.prefix,
            workload=Path(inspect.getfile(type(self))).parent / self.workload,
            system=self.system,
            defaults=self.scenario,
            host=self.host or self._locust.host or "",
            run_time_s=float(getattr(parsed, "run_time", 0) or 0),
        )
        runner = self._runner()
        workers = max(1, int(os.environ.get(WORKERS_VARIABLE) or getattr(parsed, "expect_workers", 1) or 1))
        worker = max(0, int(getattr(runner, "worker_index", 0))) % workers
        return replace(options, worker=worker, workers=workers)

    def _relay(self) -> None:
        """Feed Locust's statistics with the generator's results."""
        for line in cast("Any", self._generator).stdout:
            for name, response_ms, length, failure in json.loads(line):
                self._locust.events.request.fire(
                    request_type="HTTP",
                    name=name,
                    response_time=response_ms,
                    response_length=length,
                    exception=RuntimeError(failure) if failure else None,
                    context={},
                )

    def _before_exit_code(self, **_: object) -> None:
        """Drain before Locust decides on its exit code: it does so before it stops its users."""
        self._runner().stop()

    def _give_up(self, code: int) -> None:
        self._locust.process_exit_code = code
        gevent.spawn(self._runner().quit)
        raise StopUser

    def _runner(self) -> Any:  # noqa: ANN401 - Locust's runners have no common typed face
        return self._locust.runner
