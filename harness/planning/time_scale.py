"""Divides every duration of Prometheus and Alertmanager files by the time scale, and nothing else.

The text is edited in place, so that what is not a duration stays byte for byte, and scale 1 changes nothing.
"""

import re

SCRAPE_FLOOR_S = 0.5
_WINDOW_FLOOR_S = 4 * SCRAPE_FLOOR_S  # a rate needs four scrapes in its window
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
_DURATION = r"(?:\d+(?:ms|s|m|h|d|w|y))+"
_SETTING = re.compile(
    r"^(?P<head>\s*(?:-\s+)?(?P<key>scrape_interval|evaluation_interval|scrape_timeout|interval|for|keep_firing_for"
    r"|group_wait|group_interval|repeat_interval|resolve_timeout|query_offset)\s*:\s*)(?P<quote>[\"']?)"
    rf"(?P<value>{_DURATION})(?P=quote)(?P<tail>\s*(?:#.*)?)$"
)
_FLOORED = {"scrape_interval", "evaluation_interval", "interval"}
_EXPR = re.compile(r"^(?P<indent>\s*)(?:-\s+)?expr\s*:")
_WINDOW = re.compile(rf"\[\s*(?P<range>{_DURATION})\s*(?::\s*(?P<step>{_DURATION})?\s*)?\]")
_OFFSET = re.compile(rf"\b(?P<word>offset\s+-?)(?P<value>{_DURATION})")


def parse_duration(text: str) -> float:
    """Return the seconds of a Prometheus duration such as "1h30m"; ValueError for anything else."""
    if not re.fullmatch(_DURATION, text):
        msg = f"{text!r} is no duration like 30s or 1h30m"
        raise ValueError(msg)
    return sum(int(n) * _UNITS_MS[unit] for n, unit in re.findall(r"(\d+)(ms|s|m|h|d|w|y)", text)) / 1000


def format_duration(seconds: float) -> str:
    """Return `seconds` as a Prometheus duration, in whole seconds or else in milliseconds."""
    milliseconds = max(1, round(seconds * 1000))
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def scale_duration(text: str, scale: float, *, floor_s: float = 0.0) -> str:
    """Return the duration `text` divided by `scale`, but not below `floor_s` unless it was shorter before.

    A duration of 0 stays 0; scale 1 returns the text as it is.
    """
    seconds = parse_duration(text)
    if scale == 1 or seconds == 0:
        return text
    return format_duration(max(seconds / scale, min(floor_s, seconds)))


def scale_prometheus(text: str, scale: float) -> str:
    """Return prometheus.yml, a rule file or alertmanager.yml with every duration divided by `scale`.

    Scrape and evaluation intervals stop at 0.5 s, windows in PromQL at 2 s. A scrape's timeout is a bound on real
    work, not on waiting: it keeps its length, and only stays within its interval.
    """
    if scale == 1:
        return text
    if scale <= 0:
        msg = f"a time scale is above 0, found {scale:g}"
        raise ValueError(msg)
    editor = _Editor(scale)
    return "".join(editor.line(line) for line in text.splitlines(keepends=True))


class _Editor:
    """Walks the lines and remembers the scrape interval and the expression that it is in."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.interval_s = float("inf")
        self.expr_indent: int | None = None

    def line(self, line: str) -> str:
        body, newline = (line[:-1], "\n") if line.endswith("\n") else (line, "")
        if body.lstrip().startswith("#"):
            return line
        if self._in_expression(body):
            return self._expression(body) + newline
        if match := _SETTING.match(body):
            quote = match["quote"]
            return f"{match['head']}{quote}{self._setting(match['key'], match['value'])}{quote}{match['tail']}{newline}"
        return line

    def _in_expression(self, body: str) -> bool:
        indent = len(body) - len(body.lstrip())
        if match := _EXPR.match(body):
            key_column = body.index("expr")
            self.expr_indent = key_column if "-" in body[:key_column] else len(match["indent"])
            return True
        if self.expr_indent is not None and body.strip() and indent <= self.expr_indent:
            self.expr_indent = None
        return self.expr_indent is not None

    def _expression(self, body: str) -> str:
        def window(match: re.Match[str]) -> str:
            scaled = scale_duration(match["range"], self.scale, floor_s=_WINDOW_FLOOR_S)
            if ":" not in match[0]:
                return f"[{scaled}]"
            step = scale_duration(match["step"], self.scale, floor_s=SCRAPE_FLOOR_S) if match["step"] else ""
            return f"[{scaled}:{step}]"

        body = _WINDOW.sub(window, body)
        return _OFFSET.sub(lambda match: match["word"] + scale_duration(match["value"], self.scale), body)

    def _setting(self, key: str, value: str) -> str:
        if key == "scrape_timeout":
            return format_duration(min(parse_duration(value), self.interval_s))
        scaled = scale_duration(value, self.scale, floor_s=SCRAPE_FLOOR_S if key in _FLOORED else 0.0)
        if key == "scrape_interval":
            self.interval_s = parse_duration(scaled)
        return scaled
