"""PromQL: text to a tree whose every part knows its place, and what steady series make of it."""

from harness.planning.promql.parse import PromqlError, parse
from harness.planning.promql.syntax import walk

__all__ = ["PromqlError", "parse", "walk"]
