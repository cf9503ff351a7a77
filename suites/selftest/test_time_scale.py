"""The time scale: every duration is divided, nothing else is touched, scale 1 is byte for byte."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.paths import share_root
from harness.planning.time_scale import format_duration, parse_duration, scale_duration, scale_prometheus

pytestmark = pytest.mark.selftest

SHIPPED = sorted((share_root() / "stack" / "systems").glob("*/prometheus/**/*.yml"))
RULES = """# every 5m, for: 5m
groups:
  - name: a  # interval: 1m
    interval: 15s
    rules:
      - alert: Slow
        expr: |
          histogram_quantile(0.95, sum by (le) (rate(x_seconds_bucket[5m]))) > 5
            and
          max_over_time(y[1h:30s] offset 5m) > 300
        for: 2m
        keep_firing_for: 1h30m
        annotations:
          summary: p95 [5m] above 5s for 2m
      - record: z
        expr: rate(z[20s])
"""
SCALED = """# every 5m, for: 5m
groups:
  - name: a  # interval: 1m
    interval: 1s
    rules:
      - alert: Slow
        expr: |
          histogram_quantile(0.95, sum by (le) (rate(x_seconds_bucket[20s]))) > 5
            and
          max_over_time(y[240s:2s] offset 20s) > 300
        for: 8s
        keep_firing_for: 360s
        annotations:
          summary: p95 [5m] above 5s for 2m
      - record: z
        expr: rate(z[2s])
"""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parents[1].name}/{path.name}")
def test_what_ships_is_unchanged_at_scale_1_and_still_yaml_at_15(path: Path) -> None:
    """Every shipped file: byte for byte, and the same keys when compressed."""
    text = path.read_text(encoding="utf-8")
    scaled = scale_prometheus(text, 15)

    assert scale_prometheus(text, 1) == text
    assert scaled != text
    assert yaml.safe_load(scaled).keys() == yaml.safe_load(text).keys()


def test_rules_are_scaled_in_their_durations_alone() -> None:
    """Intervals, for, windows, sub-queries and offsets; comments, annotations and thresholds stay."""
    assert scale_prometheus(RULES, 15) == SCALED


def test_scrape_intervals_stop_at_half_a_second() -> None:
    """Scale 60: 15 s would be 0.25 s."""
    assert "scrape_interval: 500ms\n" in scale_prometheus("global:\n  scrape_interval: 15s\n", 60)


def test_a_timeout_keeps_its_length_within_its_own_interval() -> None:
    """A scrape needs the time that it needs; but a timeout above the interval is refused by Prometheus."""
    text = "scrape_configs:\n  - job_name: a\n    scrape_interval: 30s\n    scrape_timeout: 1s\n"
    text += "  - job_name: b\n    scrape_interval: 15s\n    scrape_timeout: 10s\n"

    scaled = yaml.safe_load(scale_prometheus(text, 15))["scrape_configs"]

    assert [(job["scrape_interval"], job["scrape_timeout"]) for job in scaled] == [("2s", "1s"), ("1s", "1s")]


@pytest.mark.parametrize("scale", [0, -1])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    """Zero and below."""
    with pytest.raises(ValueError, match="above 0"):
        scale_prometheus(RULES, scale)


@pytest.mark.parametrize("text", ["", "5", "5 m", "-5m", "5minutes"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Prometheus's own syntax, nothing else."""
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


@given(st.integers(min_value=1, max_value=10**9))
def test_writing_and_reading_a_duration_is_identity(milliseconds: int) -> None:
    """To the millisecond, which is Prometheus's finest unit."""
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.floats(1, 1000), st.sampled_from([0.0, 0.5, 2.0]))
def test_order_is_kept(first: int, second: int, scale: float, floor_s: float) -> None:
    """Of two durations the longer one is never the shorter one afterwards, and none grows."""
    shorter, longer = sorted((first, second))
    scaled = [parse_duration(scale_duration(f"{one}s", scale, floor_s=floor_s)) for one in (shorter, longer)]

    assert scaled[0] <= scaled[1] <= longer
