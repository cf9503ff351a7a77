"""Real programs for the native provider: from PATH, from the cache, from the distribution's packages, from a wheel."""

from harness.adapters.programs.program import Origin, Program
from harness.adapters.programs.resolve import ensure

__all__ = ["Origin", "Program", "ensure"]
