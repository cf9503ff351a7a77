"""Evidence and objectives in, judgements out: pure and deterministic.

The judge reads no clock, no file and no random number. It keeps sums, never the records, so that a look
costs the same after a minute as after a day.
"""

from harness.judge.judge import Judge
from harness.model.judgement import overall

__all__ = ["Judge", "overall"]
