"""The table of all alerts: checked anew, beside what runs on live stacks recorded."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.model.errors import EnvironmentProblem
from harness.report.alert_table import Checked, alert_table, read_record
from harness.wiring.rules import Checked as CheckedSystem
from harness.wiring.rules import check_rules, systems_with_rules


def write_table(records: Sequence[Path], out: Path, progress: Callable[[str], None], command: str) -> bool:
    """Check all shipped systems and write the table; tell whether all is sound and no alert failed live.

    Raises SpecError for a record that cannot be read, EnvironmentProblem without promtool or where `out` cannot be
    written.
    """
    read = [read_record(path) for path in records]
    results = [check_rules(name, progress) for name in systems_with_rules()]
    checked = [row for result in results for row in _rows(result)]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(alert_table(checked, read, command), encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {out}: {error.strerror}", mend="choose another --out") from error
    failed = [row for record in read for row in record.rows.values() if row["status"] == "failed"]
    return all(result.sound for result in results) and not failed


def _rows(result: CheckedSystem) -> Iterator[Checked]:
    """Yield the required alerts; those that burn rates generate have no id of their own."""
    wrong = [finding.key.partition(":")[0] for finding in result.findings]
    for item in result.proven:
        if item.rule.label("symptom") == "burn":
            continue
        yield Checked(
            id=item.rule.annotation("requirement"),
            alert=item.rule.name,
            system=result.system,
            findings=wrong.count(item.rule.name),
            cases_kept=sum(item.cases.values()),
            cases=len(item.cases),
            killed=item.killed,
            mutants=item.mutants - item.unreachable,
        )
