"""nginx as the router: a file with `split_clients`, a check, a reload, and nginx's own word on what it runs.

The configuration includes the written file inside `http`, sends users to `$rollgate_arm` (upstreams `baseline` and
`candidate`), and answers `$rollgate_limit` on an address of its own: docs/routers.md shows it whole.

| parameter | meaning |
|---|---|
| `file` | the included file, which is written here and nowhere else |
| `status_url` | where nginx answers with the limit that it runs |
| `check` | the command that tests the configuration: `nginx -t -c FILE` |
| `reload` | the command that reloads it, `nginx -s reload -c FILE`; or a file with the id of the process to signal |
| `session_header`, `force_header` | the key of assignment; the header by which a request asks for an arm |

There is no lease: nginx stays where it is when the driver dies.
"""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from harness.adapters import durable
from harness.adapters.tool import hear
from harness.model.errors import EnvironmentProblem
from harness.ports import RouterState

BUCKETS = 10_000
_OK = 200
_ANSWER_S = 3.0
_TAKEN_S = 10.0  # the longest wait for new workers
_STEADY_S = 0.25  # old workers go on for 0.1 s beside the new ones: both must give the same answer for longer
_POLL_S = 0.02


class NginxRouter:
    """Moves traffic by rewriting one included file."""

    name = "nginx"
    sticky = True
    returns_alone = False

    def __init__(
        self,
        file: Path,
        status_url: str,
        *,
        check: Sequence[str],
        reload: Sequence[str] | Path,
        session_header: str = "X-Session-ID",
        force_header: str = "X-Rollgate-Arm",
    ) -> None:
        """Touch nothing yet. The parameters are those of the module's table."""
        self._file, self._status_url = file, status_url
        self._check, self._reload = check, reload
        self._session_header, self._force_header = session_header, force_header

    def read(self) -> RouterState:
        """Ask nginx for the limit that it runs; EnvironmentProblem when it does not answer with one."""
        # nginx does not check its upstreams: probes do that.
        return RouterState(limit=self._running(), lease_held=False, candidate_up=True, baseline_up=True)

    def set_limit(self, limit: int) -> None:
        """Write the split, have nginx check and load it, and wait until all its workers say the new limit.

        Raises ValueError outside 0..10000, and EnvironmentProblem when nginx does not take it. Then the file is as
        it was, but for a 0: that stays for the next start.
        """
        if not 0 <= limit <= BUCKETS:
            msg = f"a limit lies in 0..{BUCKETS}, found {limit}"
            raise ValueError(msg)
        with durable.locked(self._file):
            before = durable.content(self._file)
            wanted = split_file(limit, self._session_header, self._force_header).encode()
            if before == wanted and self._settled(limit, patience_s=_STEADY_S):
                return
            durable.replace(self._file, wanted, expected=before)
            try:
                self._load(limit)
            except EnvironmentProblem:
                if limit and before is not None:
                    durable.replace(self._file, before, expected=wanted)
                raise

    def hold_lease(self) -> None:
        """Do nothing: nginx knows no lease."""

    def drop_lease(self) -> None:
        """Do nothing: nginx knows no lease."""

    def settle(self, limit: int) -> None:
        """Do nothing: a share stays where it is."""

    def _load(self, limit: int) -> None:
        checked = hear(self._check)
        if checked.code:
            msg = f"nginx refuses its configuration with the split at {limit}: {checked.last_line()}"
            raise EnvironmentProblem(msg, mend=f"mend what `{' '.join(self._check)}` says")
        if isinstance(self._reload, Path):
            _signal(self._reload)
        elif (told := hear(self._reload)).code:
            msg = f"nginx was not reloaded: {told.last_line()}"
            raise EnvironmentProblem(msg, mend=f"mend what `{' '.join(self._reload)}` says")
        if not self._settled(limit, patience_s=_TAKEN_S):
            msg = f"nginx was told limit {limit} and runs {self._running()}"
            raise EnvironmentProblem(msg, mend=f"read its error log; does it include {self._file}?")

    def _settled(self, limit: int, *, patience_s: float) -> bool:
        """Tell whether nginx comes to say `limit`, and nothing else for a while; one answer may be an old worker's."""
        now = time.monotonic()
        deadline, since = now + patience_s, now
        while now - since < _STEADY_S:
            if self._running() != limit:
                since = time.monotonic()
            now = time.monotonic()
            if since > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def _running(self) -> int:
        try:
            # No proxy, and a new connection each time: a kept one would stay with an old worker.
            answer = httpx.get(self._status_url, timeout=_ANSWER_S, trust_env=False)
        except httpx.HTTPError as error:
            msg = f"the router does not answer on {self._status_url}: {error}"
            raise EnvironmentProblem(msg, mend="start nginx, or read its error log") from error
        text = answer.text.strip()
        if answer.status_code != _OK or not text.isdigit() or int(text) > BUCKETS:
            msg = f"{self._status_url} answers {answer.status_code} {text[:40]!r}, expected a limit in 0..{BUCKETS}"
            raise EnvironmentProblem(msg, mend="it must `return 200 $rollgate_limit`; see docs/routers.md")
        return int(text)


def split_file(limit: int, session_header: str = "X-Session-ID", force_header: str = "X-Rollgate-Arm") -> str:
    """Return the included file for `limit`. nginx counts in hundredths of a percent, as we do, and knows no 0 %."""
    if limit in (0, BUCKETS):
        shares = "    * candidate;\n" if limit else "    * baseline;\n"
    else:
        shares = f"    {limit // 100}.{limit % 100:02d}% candidate;\n    * baseline;\n"
    return (
        "# Written by rollgate, included inside http: changes made by hand are lost.\n"
        f"map '' $rollgate_limit {{\n    default {limit};\n}}\n"
        f"map {_variable(session_header)} $rollgate_key {{\n"
        f"    '' $request_id;\n    default {_variable(session_header)};\n}}\n"
        f"split_clients $rollgate_key $rollgate_split {{\n{shares}}}\n"
        f"map {_variable(force_header)} $rollgate_arm {{\n"
        "    candidate candidate;\n    baseline baseline;\n    default $rollgate_split;\n}\n"
    )


def _variable(header: str) -> str:
    return "$http_" + header.lower().replace("-", "_")


def _signal(pid_file: Path) -> None:
    try:
        os.kill(int(pid_file.read_text(encoding="ascii").strip()), signal.SIGHUP)
    except (OSError, ValueError) as error:
        msg = f"nginx was not reloaded by the process id in {pid_file}: {error}"
        raise EnvironmentProblem(msg, mend="start nginx; the file is its `pid`, and this user must own it") from error
