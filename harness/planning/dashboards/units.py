"""Does a panel's unit fit what its query gives? By the units that metrics' names promise."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.planning.promql.parse import PromqlError, parse
from harness.planning.promql.syntax import COMPARISONS, SETS, Aggregate, Binary, Call, Node, Selector, bare, constant

Dims = tuple[tuple[str, int], ...]
_SECOND, _BYTE = "second", "byte"
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Kind:
    """What a number is: powers of base units, and how many of them one is.

    `share` may be a part of a whole, 0 to 1; `surely` is one by its name.
    """

    dims: Dims = ()
    scale: float = 1.0
    share: bool = False
    surely: bool = False


# Grafana's names of units. A GB is 1000**3 bytes where it says "dec", 1024**3 else; only the scale of 1 is compared.
UNITS: Mapping[str, Kind | None] = {
    "short": Kind(), "none": Kind(), "sishort": Kind(), "locale": Kind(), "percentunit": Kind(share=True),
    "percent": Kind(scale=0.01, share=True), "bool": Kind(), "bool_yes_no": Kind(),
    "bool_on_off": Kind(), "ns": Kind(((_SECOND, 1),), 1e-9), "µs": Kind(((_SECOND, 1),), 1e-6),
    "ms": Kind(((_SECOND, 1),), 1e-3), "s": Kind(((_SECOND, 1),)), "m": Kind(((_SECOND, 1),), 60.0),
    "h": Kind(((_SECOND, 1),), 3600.0), "dtdurations": Kind(((_SECOND, 1),)), "bytes": Kind(((_BYTE, 1),)),
    "decbytes": Kind(((_BYTE, 1),)), "mbytes": Kind(((_BYTE, 1),), 1024.0**2), "bits": Kind(((_BYTE, 1),), 0.125),
    "Bps": Kind(((_BYTE, 1), (_SECOND, -1))), "binBps": Kind(((_BYTE, 1), (_SECOND, -1))),
    "bps": Kind(((_BYTE, 1), (_SECOND, -1)), 0.125), "reqps": Kind(((_SECOND, -1),)), "ops": Kind(((_SECOND, -1),)),
    "rps": Kind(((_SECOND, -1),)), "wps": Kind(((_SECOND, -1),)), "iops": Kind(((_SECOND, -1),)),
    "cps": Kind(((_SECOND, -1),)), "eps": Kind(((_SECOND, -1),)), "pps": Kind(((_SECOND, -1),)),
    "opm": Kind(((_SECOND, -1),), 1 / 60), "reqpm": Kind(((_SECOND, -1),), 1 / 60), "celsius": Kind((("celsius", 1),)),
    "watt": Kind((("joule", 1), (_SECOND, -1))), "joule": Kind((("joule", 1),)), "currencyUSD": None,
    "currencyEUR": None, "dateTimeFromNow": None,
}  # fmt: skip

# What a metric's name promises, in this order.
_NAMES: tuple[tuple[str, Kind], ...] = (
    (r".*_timestamp_seconds|.*_time_seconds", Kind((("instant", 1),))),
    (r".*_seconds(_total|_sum|_bucket)?", Kind(((_SECOND, 1),))),
    (r".*_duration_us|.*_microseconds(_total)?|.*_usec", Kind(((_SECOND, 1),), 1e-6)),
    (r".*_(ms|milliseconds)(_total|_sum|_bucket)?", Kind(((_SECOND, 1),), 1e-3)),
    (r"DCGM_FI_DEV_FB_.*", Kind(((_BYTE, 1),), 1024.0**2)),
    (r".*_bytes(_in|_out)?(_total|_sum|_bucket)?", Kind(((_BYTE, 1),))),
    (r"DCGM_FI_DEV_(GPU|MEM_COPY|ENC|DEC)_UTIL|.*_(percent|percentage)", Kind(scale=0.01, share=True)),
    (r"nv_(gpu|cpu)_utilization|.*_ratio|.*:ratio\w*", Kind(share=True)),
    (r".*_celsius", Kind((("celsius", 1),))),
    (r".*_watts", Kind((("joule", 1), (_SECOND, -1)))),
    (r".*_joules(_total)?", Kind((("joule", 1),))),
    (r"\w+:\w+_seconds:p\d+\w*", Kind(((_SECOND, 1),))),
    (r"\w+:\w+:rate\w*", Kind(((_SECOND, -1),))),
)
_NOT_SHARES = r"redis_mem_fragmentation_ratio|redis_allocator_\w+_ratio"
_PER_SECOND = ("rate", "irate", "deriv")
_KEEPING = ("increase", "delta", "idelta", "abs", "ceil", "floor", "round", "clamp", "clamp_min", "clamp_max", "scalar",
            "sum_over_time", "avg_over_time", "min_over_time", "max_over_time", "last_over_time", "sort", "sort_desc",
            "quantile_over_time", "histogram_quantile", "label_replace", "label_join")  # fmt: skip


def misfit(unit: str, text: str) -> str:
    """Return why `unit` does not fit what the query `text` gives, "" where it does or nobody knows."""
    wanted = UNITS.get(unit)
    try:
        found = kind_of(parse(text))
    except PromqlError:
        return ""
    if wanted is None or found is None:
        return ""
    if wanted.dims != found.dims:
        return f"it gives {_words(found)}, {unit} is for {_words(wanted)}"
    if wanted.share and not found.share:
        return f"it gives a count, {unit} is for a share"
    if wanted.dims and _differ(wanted.scale, found.scale):
        return f"it gives {_words(found)}, {unit} is for {_words(wanted)}"
    if wanted.share and _differ(wanted.scale, found.scale):
        return f"it goes from 0 to {1 / found.scale:g}, {unit} from 0 to {1 / wanted.scale:g}"
    if found.surely and not wanted.share and not _differ(found.scale, 1.0):
        return f"it gives a share from 0 to 1, {unit} shows a bare number"
    return ""


def kind_of(node: Node) -> Kind | None:
    """Return what an expression gives; None where nobody knows."""
    node = bare(node)
    if isinstance(node, Selector):
        return _named(node.name)
    if isinstance(node, Aggregate):
        return Kind() if node.op in {"count", "group", "count_values"} else kind_of(node.expr)
    if isinstance(node, Call):
        return _called(node)
    return _combined(node) if isinstance(node, Binary) else None


def _named(name: str) -> Kind:
    known = next((kind for pattern, kind in _NAMES if re.fullmatch(pattern, name)), Kind())
    return Kind() if re.fullmatch(_NOT_SHARES, name) else replace(known, surely=known.share)


def _called(node: Call) -> Kind | None:
    if node.func in {"time", "timestamp"}:
        return Kind((("instant", 1),))
    inner = kind_of(node.args[-1]) if node.func in _PER_SECOND or node.func == "histogram_quantile" else None
    if node.func in _PER_SECOND and inner:
        dims = _times(inner.dims, ((_SECOND, -1),))
        return Kind(dims, inner.scale, share=inner.dims == ((_SECOND, 1),))
    if node.func == "histogram_quantile" and inner:  # of rates of buckets
        return Kind(_times(inner.dims, ((_SECOND, 1),)), inner.scale)
    if node.func in _KEEPING and node.args:
        return next((kind for arg in node.args if (kind := kind_of(arg))), None)
    return Kind() if node.func in {"changes", "resets", "count_over_time", "absent"} else None


def _combined(node: Binary) -> Kind | None:
    left, right = constant(node.lhs), constant(node.rhs)
    if node.op in SETS or (node.op in COMPARISONS and not node.returns_bool):
        return kind_of(node.lhs)
    if node.op in COMPARISONS:
        return Kind()
    lhs, rhs = kind_of(node.lhs), kind_of(node.rhs)
    if node.op in {"+", "-"}:
        return lhs or rhs
    if node.op == "*" and (left is not None or right is not None):
        inner, number = (rhs, left) if left is not None else (lhs, right)
        return replace(inner, scale=inner.scale / number) if inner and number else None
    if node.op == "/" and right is not None:
        return replace(lhs, scale=lhs.scale * right) if lhs and right else None
    if lhs is None or rhs is None or node.op not in {"*", "/"}:
        return None
    if node.op == "*":
        return Kind(_times(lhs.dims, rhs.dims), lhs.scale * rhs.scale, share=lhs.share and rhs.share)
    dims = _times(lhs.dims, tuple((name, -power) for name, power in rhs.dims))
    return Kind(dims, lhs.scale / rhs.scale, share=not dims)


def _times(one: Dims, other: Dims) -> Dims:
    powers = dict(one)
    for name, power in other:
        powers[name] = powers.get(name, 0) + power
    return tuple(sorted((name, power) for name, power in powers.items() if power))


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > _TOLERANCE * max(abs(one), abs(other))


def _words(kind: Kind) -> str:
    if not kind.dims:
        return "a plain number"
    above = [f"{name}s" for name, power in kind.dims if power > 0] or ["a number"]
    below = [name for name, power in kind.dims if power < 0]
    scale = "" if not _differ(kind.scale, 1.0) else f"{kind.scale:g} "
    return scale + " ".join(above) + "".join(f" per {name}" for name in below)
