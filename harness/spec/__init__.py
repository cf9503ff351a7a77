"""YAML and JSON in, the engine's nouns out: every mistake is one line with file, line, key and mend."""

from harness.spec.calibration import CALIBRATION_FILE, calibration_text, load_calibrations
from harness.spec.candidates import load_drill, load_release
from harness.spec.find import find_drill, find_release, find_system
from harness.spec.flags import flags_text
from harness.spec.folder import load_system, validate
from harness.spec.hooks import is_address
from harness.spec.policy import apply_policy
from harness.spec.published import json_schemas
from harness.spec.requirements import Requirements, load_requirements
from harness.spec.target import load_target, target_text

__all__ = [
    "CALIBRATION_FILE",
    "Requirements",
    "apply_policy",
    "calibration_text",
    "find_drill",
    "find_release",
    "find_system",
    "flags_text",
    "is_address",
    "json_schemas",
    "load_calibrations",
    "load_drill",
    "load_release",
    "load_requirements",
    "load_system",
    "load_target",
    "target_text",
    "validate",
]
