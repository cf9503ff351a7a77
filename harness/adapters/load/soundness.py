"""Is the load itself sound? From a status report to the problems that make a run's evidence INVALID."""

from harness.adapters.load.status import WINDOW_S, LoadStatus

SILENT_S = 3.0  # a generator is lost when its heartbeat is older

_PACE_LONG, _PACE_SHORT = 0.01, 0.05  # deviation of the achieved from the scheduled rate
_PACE_LEAST = 3  # requests; fewer are rounding of a window's edges
_SHORT_S = 5.0
_CPU_SHARE = 0.8
_LAG_LEAST = 300  # requests before a p99 means anything
_LAG_QUANTILE = "p99"
_UNROUTED = 0.01  # share of the run's ended requests that no judgement sees, for want of an arm
_UNROUTED_LEAST = 5  # requests ...
_UNROUTED_OF = 300  # ... of at least so many: a start's first refusals are no outage


def problems(status: LoadStatus, *, now_s: float, late_ms: float, expected: bool) -> tuple[str, ...]:
    """Return what is wrong with the instrument, each with its mend; empty when it is sound.

    `now_s` is wall seconds, `late_ms` the bound on the p99 send lag, `expected` whether the end was asked for.
    """
    found = [status.fault and f"{status.fault} — mend the scenario's workload"]
    found.append(_alive(status, now_s, expected=expected))
    found.append(_pace(status))
    found.append(_lag(status, late_ms))
    found.append(_unrouted(status))
    if status.cpu_share > _CPU_SHARE:
        found.append(
            f"the generator takes {status.cpu_share:.0%} of its core, more than {_CPU_SHARE:.0%} — "
            "lower the plan's load_rate or add workers"
        )
    if status.phase == "done" and status.sent != status.ended:
        found.append(
            f"{status.sent - status.ended} of {status.sent} requests sent were never accounted for — "
            "keep the run's folder and report it"
        )
    return tuple(problem for problem in found if problem)


def _alive(status: LoadStatus, now_s: float, *, expected: bool) -> str:
    if status.phase == "done":
        if expected:
            return ""
        return (
            f"the load ended after {status.sent} requests, before the run did — "
            "its schedule was too short: raise max_seconds"
        )
    silent_s = now_s - status.at
    if silent_s > SILENT_S:
        return (
            f"generator stalled or lost: no heartbeat for {silent_s:.1f} s — see logs/load.log; "
            "was it killed, or does the machine lack processor time?"
        )
    return ""


def _pace(status: LoadStatus) -> str:
    """Compare what was sent with the schedule, over the window or over the whole run where that is shorter."""
    off = abs(status.window_sent - status.window_scheduled)
    if not status.window_scheduled or off <= _PACE_LEAST or status.window_s < _SHORT_S:
        return ""
    bound = _PACE_LONG if status.window_s >= 0.95 * WINDOW_S else _PACE_SHORT
    share = off / status.window_scheduled
    if share <= bound:
        return ""
    return (
        f"sent {status.window_sent} of {status.window_scheduled} scheduled requests in {status.window_s:.0f} s, off by "
        f"{share:.1%} (bound {bound:.0%}) — lower the plan's load_rate or free processor time"
    )


def _lag(status: LoadStatus, late_ms: float) -> str:
    if status.sent < _LAG_LEAST:
        return ""
    reached = max(status.lag_window_ms.get(_LAG_QUANTILE, 0.0), status.lag_total_ms.get(_LAG_QUANTILE, 0.0))
    if reached <= late_ms:
        return ""
    return (
        f"p99 send lag {reached:.0f} ms, more than {late_ms:.0f} ms — "
        "free processor time or lower the plan's load_rate: latencies count from the intended time"
    )


def _unrouted(status: LoadStatus) -> str:
    """Compare the requests that are blamed on nobody with all that ended, over the whole run."""
    if status.ended < _UNROUTED_OF or status.unrouted < _UNROUTED_LEAST:
        return ""
    share = status.unrouted / status.ended
    if share <= _UNROUTED:
        return ""
    answered = status.unrouted > status.errors
    why = (
        "answers come without the header that `traffic.headers.arm` names: router or application must set it"
        if answered
        else "requests fail before anybody names an arm: is the router up? see its log"
    )
    return (
        f"{status.unrouted} of {status.ended} ended requests named no arm, {share:.1%} (bound {_UNROUTED:.0%}) — {why}"
    )
