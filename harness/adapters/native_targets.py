"""Scrape targets for Prometheus: one file_sd file a job, beside the configuration that ships."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.adapters.native_render import write
from harness.model.evidence import Arm

_TARGET_FILE = re.compile(r"\btargets/(?P<job>[A-Za-z0-9_-]+)\.json\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """One target: `address` is "host:port" as Prometheus reaches it, `version` the arm's release, "" off the arms."""

    job: str
    address: str
    arm: Arm | None = None
    version: str = ""


def write_targets(folder: Path, scraped: Iterable[Scraped]) -> None:
    """Write `folder`/targets/JOB.json for every job of the inventory, labelled with arm and version where per arm.

    A job that the configuration names and this provider has no service for gets an empty list.
    """
    groups: dict[str, list[dict[str, object]]] = {}
    for config in folder.glob("*.yml"):
        groups |= {match["job"]: [] for match in _TARGET_FILE.finditer(config.read_text(encoding="utf-8"))}
    for one in scraped:
        labels = {"arm": str(one.arm), "version": one.version} if one.arm else {}
        groups.setdefault(one.job, []).append({"targets": [one.address], "labels": labels})
    for job, targets in groups.items():
        write(folder / "targets" / f"{job}.json", json.dumps(targets, indent=1) + "\n")
