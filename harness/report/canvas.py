"""Matplotlib, loaded when something is drawn, and never at home in the user's folders."""

import os
from typing import Any

from harness.paths import cache_root

Figure = Any  # matplotlib's own types leave too much unknown


def figure(size: tuple[float, float]) -> Figure:
    """Return an empty figure of `size` inches. Matplotlib keeps its fonts in rollgate's cache."""
    os.environ.setdefault("MPLCONFIGDIR", str(cache_root() / "matplotlib"))
    from matplotlib.figure import Figure  # noqa: PLC0415 - importing it writes to the folder named above

    return Figure(figsize=size, layout="constrained")
