"""What a bench of the driver came to: the faults that were really hit, and the rules that were checked."""

from harness.bench.driver.rules import Rule
from harness.bench.driver.runner import Result


def markdown(result: Result) -> str:
    """Return the table."""
    lines = ["# The driver, simulated", "", f"Made by `rollgate bench driver --rollouts {result.runs}`.", ""]
    lines += [
        f"{result.runs:,} rollouts from as many seeds, driven by {result.lives:,} processes; in {result.failures:,} of",
        "them a rule did not hold. The driver is the one that moves real traffic; simulated are clock, router, flags,",
        "disk, metrics, judge and operator. `rollgate bench driver --seed N` replays one rollout and shows its steps.",
    ]
    lines += ["", "## Faults that were hit", "", "| fault | times | rollouts |", "|---|---|---|"]
    lines += [f"| {fault} | {times:,} | {result.worlds[fault]:,} |" for fault, times in result.hits.most_common()]
    lines += ["", "## Rules", "", "| rule | checks |", "|---|---|"]
    lines += [f"| {rule} | {result.checks[rule]:,} |" for rule in Rule]
    lines += ["", "## How the rollouts ended", "", "| end | rollouts |", "|---|---|"]
    lines += [f"| {end} | {times:,} |" for end, times in result.ends.most_common()]
    if result.broken:
        lines += ["", "## Rules that did not hold", "", "| seed | rule | what was found |", "|---|---|---|"]
        lines += [f"| {seed} | {rule} | {text} |" for seed, rule, text in result.broken]
    return "\n".join(lines) + "\n"
