"""Scrape targets for Prometheus: one file_sd file a job, beside the configuration that ships."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from harness.adapters.native_instance import Instance
from harness.adapters.native_render import write

_TARGET_FILE = re.compile(r"\btargets/(?P<job>[A-Za-z0-9_-]+)\.json\b")


def write_targets(folder: Path, instances: Sequence[Instance]) -> None:
    """Write `folder`/targets/JOB.json for every job of the inventory, labelled with arm and version where per arm.

    A job that the configuration names and this provider has no service for gets an empty list.
    """
    groups: dict[str, list[dict[str, object]]] = {}
    for config in folder.glob("*.yml"):
        groups |= {match["job"]: [] for match in _TARGET_FILE.finditer(config.read_text(encoding="utf-8"))}
    for instance in instances:
        service = instance.service
        if service.metrics is None or not service.job or instance.native.unscraped:
            continue
        labels = {"arm": str(instance.arm), "version": instance.version} if instance.arm else {}
        address = instance.address(service.metrics[0])
        groups.setdefault(service.job, []).append({"targets": [address], "labels": labels})
    for job, targets in groups.items():
        write(folder / "targets" / f"{job}.json", json.dumps(targets, indent=1) + "\n")
