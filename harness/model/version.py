"""Versions as programs tell them."""

import re


def numbers(version: str) -> tuple[int, ...]:
    """Return a release's numbers, for comparison: "20.10.24+dfsg1" is (20, 10, 24); none where it tells none."""
    release = re.split(r"[-~+]", version, maxsplit=1)[0]
    return tuple(int(number) for number in re.findall(r"\d+", release))


def older(version: str, at_least: str) -> bool:
    """Tell whether `version` is older than `at_least`; nothing is older than "", an unknown one than anything else."""
    return bool(at_least) and numbers(version) < numbers(at_least)
