"""A number in one of Grafana's units, as a reader expects it."""

from collections.abc import Mapping

_STEPS_S = ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min"))
_HOURS = 1 / 3600
_SECONDS: Mapping[str, float] = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "m": 60.0, "h": 3600.0}
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_RATES: Mapping[str, str] = {
    **dict.fromkeys(("wps", "rps", "cps", "eps"), "/s"),
    "reqps": " req/s",
    "ops": " ops/s",
    "iops": " io/s",
    "pps": " p/s",
}
_KILO = 1024.0


def quantity(unit: str, value: float, decimals: int | None = None) -> str:
    """Return `value`, which is in `unit`, with the unit."""
    if unit in _SECONDS:
        return _duration(value * _SECONDS[unit])
    if unit in {"bytes", "decbytes", "Bps", "binBps"}:
        return _bytes(value) + ("/s" if unit.endswith("ps") else "")
    if unit in {"percentunit", "percent"}:
        return f"{_plain(value * (100 if unit == 'percentunit' else 1), decimals)} %"
    if unit == "currencyUSD":
        return f"$ {value:.{2 if decimals is None else decimals}f}" if abs(value) >= 1 else f"$ {value:.3g}"
    return _short(value, decimals) + _RATES.get(unit, "")


def _duration(seconds: float) -> str:
    if seconds == 0:
        return "0 s"
    for below, times, name in _STEPS_S:
        if abs(seconds) < below:
            return f"{seconds * times:.3g} {name}"
    return f"{seconds * _HOURS:.3g} h"


def _bytes(value: float) -> str:
    number, name = value, _BINARY[0]
    for name in _BINARY:  # noqa: B007 - the last one reached is shown
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
