"""What a resolved program is."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Origin = Literal["path", "debian", "wheel"]


@dataclass(frozen=True, slots=True)
class Program:
    """One program that can be run: `env` must be laid over the environment of its process.

    `path` is the executable (for data such as `minilm`, its folder). `extras` holds further absolute paths by name,
    such as Triton's `backends` folder. `cwd` is the folder that it must be started in; None: any.
    """

    name: str
    path: Path
    env: dict[str, str]
    version: str
    origin: Origin
    extras: dict[str, str] = field(default_factory=dict[str, str])
    cwd: Path | None = None
