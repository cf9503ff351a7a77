"""What one generator process is told: a JSON file, written by whoever starts it."""

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from harness.model.errors import SpecError
from harness.model.evidence import Arm
from harness.model.system import Score
from harness.model.target import Auth, BasicAuth, HeaderAuth, Secret, TlsFiles

MAX_REQUESTS = 5_000_000  # a bound on every run's count, whatever rate and seconds say
DEFAULT_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

_MIN_TIMEOUT_S = 5.0
_TIMEOUT_BEYOND_BOUNDS = 1.2


def deadline_s(bounds_s: Sequence[float]) -> float:
    """Return the seconds after which a request has failed: slower than every bound, the usual ones where none are."""
    return max(_MIN_TIMEOUT_S, _TIMEOUT_BEYOND_BOUNDS * (bounds_s or DEFAULT_BOUNDS_S)[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """One worker's part of a load.

    `url` is scheme://host:port. `prefix` names the signals (`<prefix>.latency`). `evidence` is the folder of
    interval records and status. A request sent more than `late_s` after its time counts as late. Addresses
    other than loopback are refused unless `remote`. With `candidate_url` the load splits itself: `url` is the
    baseline's then, and the order in the file `split` says which sessions go to the candidate. `auth` says where
    the secrets lie that let the load in. `host` is the name to ask by, "" for the one in each address. `epoch_s` is
    what the run's own time is ahead of the monotonic clock: records are in it, and no step of the wall clock moves
    them away from the run's stages; 0 for the wall clock's time at the start.
    """

    url: str
    prefix: str
    workload: str
    root: str
    evidence: str
    rate: float
    seconds: float
    seed: int
    process: str = "poisson"
    options: tuple[tuple[str, str], ...] = ()
    scores: tuple[Score, ...] = ()
    session_header: str = "X-Session-ID"
    arm_header: str = "X-Arm"
    unit: str = "session"
    bounds_s: tuple[float, ...] = DEFAULT_BOUNDS_S
    interval_s: float = 1.0
    late_s: float = 0.02
    timeout_s: float = 0.0  # 0: beyond the largest bound
    worker: int = 0
    workers: int = 1
    remote: bool = False
    host: str = ""
    candidate_url: str = ""
    split: str = ""
    auth: Auth = field(default_factory=Auth)
    epoch_s: float = 0.0

    @property
    def deadline_s(self) -> float:
        """Seconds after its intended time at which a request has failed: slower than every bound."""
        return self.timeout_s or deadline_s(self.bounds_s)

    @property
    def records_file(self) -> Path:
        """Where the interval records go, one JSON object a line."""
        return Path(self.evidence) / f"load-{self.worker}.jsonl"

    @property
    def status_file(self) -> Path:
        """Where the generator says how it is; the first worker's has the plain name."""
        return Path(self.evidence) / (f"load-status-{self.worker}.json" if self.worker else "load-status.json")

    @property
    def urls(self) -> Mapping[Arm | None, str]:
        """Where requests go: by arm where the load splits itself, else to the one address (None)."""
        return {Arm.BASELINE: self.url, Arm.CANDIDATE: self.candidate_url} if self.candidate_url else {None: self.url}

    def check(self) -> None:
        """Raise SpecError for options that would load a stranger, or without bound."""
        for url in self.urls.values():
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise SpecError(f"the load's address is no URL: {url!r}", mend="give http://HOST:PORT")
            if not self.remote and not _is_loopback(parts.hostname):
                raise SpecError(
                    f"load goes to loopback addresses only, found {parts.hostname}",
                    mend="name a deployed target by --target; its stack.json then says remote: true",
                )
        if self.rate * self.seconds > MAX_REQUESTS:
            raise SpecError(
                f"{self.rate:g} req/s for {self.seconds:g} s exceeds {MAX_REQUESTS} requests",
                mend="lower the plan's load_rate or its deadline",
            )


def encode_options(options: LoadOptions) -> str:
    """Return the options as JSON."""
    return json.dumps(asdict(options), indent=1)


def read_options(path: Path) -> LoadOptions:
    """Return the options in the file `path`; SpecError when they are none, or unbounded."""
    try:
        raw = cast("Mapping[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        known = {one.name for one in fields(LoadOptions)}
        values = {name: value for name, value in raw.items() if name in known}
        values["bounds_s"] = tuple(values.get("bounds_s", DEFAULT_BOUNDS_S))
        values["options"] = tuple((str(k), str(v)) for k, v in values.get("options", ()))
        values["scores"] = tuple(Score(**score) for score in values.get("scores", ()))
        values["auth"] = _auth(values.get("auth") or {})
        options = LoadOptions(**values)
    except (OSError, ValueError, TypeError) as error:
        raise SpecError(f"load options cannot be read: {error}", where=str(path)) from error
    options.check()
    return options


def _auth(raw: Mapping[str, Any]) -> Auth:
    header = cast("dict[str, Any] | None", raw.get("header"))
    basic = cast("dict[str, Any] | None", raw.get("basic"))
    return Auth(
        header=HeaderAuth(name=header["name"], prefix=header["prefix"], value=Secret(**header["value"]))
        if header
        else None,
        basic=BasicAuth(user=basic["user"], password=Secret(**basic["password"])) if basic else None,
        tls=TlsFiles(**raw.get("tls", {})),
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
