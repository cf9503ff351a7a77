"""A number in one of Grafana's units, as a reader expects it."""

import math
from collections.abc import Mapping

_STEPS_S = ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min"))
_HOURS = 1 / 3600
_SECONDS: Mapping[str, float] = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "m": 60.0, "h": 3600.0}
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
_RATES: Mapping[str, str] = {
    **dict.fromkeys(("wps", "rps", "cps", "eps"), "/s"),
    "reqps": " req/s",
    "ops": " ops/s",
    "iops": " io/s",
    "pps": " p/s",
}
_KILO = 1024.0
BINARY = ("bytes", "decbytes", "Bps", "binBps")


def quantity(unit: str, value: float, decimals: int | None = None) -> str:
    """Return `value`, which is in `unit`, with the unit."""
    if unit in _SECONDS:
        return _duration(value * _SECONDS[unit])
    if unit in BINARY:
        return _bytes(value) + ("/s" if unit.endswith("ps") else "")
    if unit in {"percentunit", "percent"}:
        return f"{_plain(value * (100 if unit == 'percentunit' else 1), decimals)} %"
    if unit == "currencyUSD":
        small = 0 < abs(value) < 0.1  # noqa: PLR2004 - under ten cents, digits count
        return f"$ {value:.2g}" if small else f"$ {value:.{2 if decimals is None else decimals}f}"
    return _short(value, decimals) + _RATES.get(unit, "")


def binary_ticks(top: float) -> list[float]:
    """Return about four round numbers of bytes from 0 up to `top`: 0, 16, 32, 48 MiB."""
    if top <= 0:
        return [0.0]
    step = 2.0 ** math.ceil(math.log2(top / 4))
    return [step * n for n in range(int(top / step) + 1)]


def _duration(seconds: float) -> str:
    if seconds == 0:
        return "0 s"
    for below, times, name in _STEPS_S:
        if abs(seconds) < below:
            return f"{seconds * times:.3g} {name}"
    return f"{seconds * _HOURS:.3g} h"


def _bytes(value: float) -> str:
    number, name = value, _BYTES[0]
    for name in _BYTES:  # noqa: B007 - the last one reached is shown
        if abs(number) < _KILO:
            break
        number /= _KILO
    return f"{number:.3g} {name}"


def _short(value: float, decimals: int | None) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "K")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'K' else size):.3g} {letter}"
    return _plain(value, decimals)


def _plain(value: float, decimals: int | None) -> str:
    return f"{value:.{decimals}f}" if decimals is not None else f"{value:.4g}"
