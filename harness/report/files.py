"""The run's files, each written whole, none lost because another one failed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.model.errors import RollgateError
from harness.model.event import Event
from harness.model.evidence import Evidence
from harness.model.judgement import Verdict
from harness.model.objective import Objective
from harness.ports import Case
from harness.report import kept, verdict_json
from harness.report.atomic import write_text
from harness.report.kept import Kept
from harness.report.redact import redact


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What came of the writing: the files that are there, and a line for each that is not."""

    files: tuple[Path, ...]
    problems: tuple[str, ...]


def write_all(
    verdict: Verdict,
    out: Path,
    *,
    evidence: Sequence[Evidence] = (),
    cases: Sequence[Case] = (),
    log_tails: Mapping[str, str] | None = None,
    events: Sequence[Event] = (),
    objectives: Sequence[Objective] = (),
    secrets: Sequence[str] = (),
    command: str = "",
) -> Written:
    """Write verdict.json, summary.md, junit.xml, allure-results/, report.html and report.json into `out`.

    `command` is the command line that made the run ("" composes one from the verdict), `secrets` are values
    that no file may show, `objectives` lets the plots know which threshold belongs to which signal. Never
    raises for one file's trouble: `Written.problems` names it, and a caller must not call a run done whose
    verdict.json is among them.
    """
    known = Kept.of(
        cases=[replace(case, message=redact(case.message, secrets)) for case in cases],
        log_tails={name: redact(text, secrets) for name, text in (log_tails or {}).items()},
        events=events,
        objectives=objectives,
        command=redact(command, secrets),
    )
    return _write(_without_secrets(verdict, secrets), out, evidence, known)


def write_again(verdict: Verdict, out: Path, *, evidence: Sequence[Evidence] = ()) -> Written:
    """Write a stored run's files again, with what its report.json kept of cases, logs, moves and looks."""
    try:
        known = kept.loads((out / "report.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = Kept()
    except (OSError, ValueError) as error:
        again = _write(verdict, out, evidence, Kept())
        return replace(again, problems=(f"report.json: {error}", *again.problems))
    return _write(verdict, out, evidence, known)


def _write(verdict: Verdict, out: Path, evidence: Sequence[Evidence], known: Kept) -> Written:
    def summary() -> Path:
        from harness.report.summary import summary as render  # noqa: PLC0415 - each listener on its own

        return write_text(out / "summary.md", render(verdict, known.cases, command=known.command))

    def junit() -> Path:
        from harness.report.junit import junit as render  # noqa: PLC0415 - as above

        return write_text(out / "junit.xml", render(verdict, known.cases))

    def allure() -> Path:
        from harness.report.allure import write_allure  # noqa: PLC0415 - as above

        write_allure(verdict, known.cases, out / "allure-results")
        return out / "allure-results"

    def html() -> Path:
        from harness.report.html import page  # noqa: PLC0415 - as above

        return write_text(out / "report.html", page(verdict, evidence, known))

    return _each(
        {
            "verdict.json": lambda: _write_verdict(verdict, out),
            "report.json": lambda: write_text(out / "report.json", kept.dumps(known)),
            "summary.md": summary,
            "junit.xml": junit,
            "allure-results": allure,
            "report.html": html,
        }
    )


def _write_verdict(verdict: Verdict, out: Path) -> Path:
    """Write verdict.json; one that breaks its schema goes to verdict.rejected.json, for whoever mends it."""
    doc = verdict_json.encode(verdict)
    try:
        verdict_json.check(doc)
    except RollgateError:
        write_text(out / "verdict.rejected.json", verdict_json.text(doc))
        raise
    return write_text(out / "verdict.json", verdict_json.text(doc))


def _each(writers: Mapping[str, Callable[[], Path]]) -> Written:
    files: list[Path] = []
    problems: list[str] = []
    for name, write in writers.items():
        try:
            files.append(write())
        except RollgateError as error:
            problems.append(f"{name}: {error}")
        except Exception as error:  # noqa: BLE001 - one listener's fault must not lose the others
            problems.append(f"{name}: {type(error).__name__}: {error}")
    return Written(files=tuple(files), problems=tuple(problems))


def _without_secrets(verdict: Verdict, secrets: Sequence[str]) -> Verdict:
    def mask(text: str) -> str:
        return redact(text, secrets)

    return replace(
        verdict,
        reason=mask(verdict.reason),
        judgements=tuple(replace(j, reason=mask(j.reason), remedy=mask(j.remedy)) for j in verdict.judgements),
        stages=tuple(replace(s, reason=mask(s.reason)) for s in verdict.stages),
        services=tuple(replace(s, note=mask(s.note), version=mask(s.version)) for s in verdict.services),
    )
