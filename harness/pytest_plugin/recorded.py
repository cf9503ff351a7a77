"""Cases that the session's gate has run already: their results are read, not made again."""

from typing import Any

import pytest

from harness.model.errors import RollgateError
from harness.ports import Case
from harness.pytest_plugin.marks import arm_of, covers_of
from harness.pytest_plugin.target import TARGET


class RecordedCaseError(Exception):
    """A case that the gate recorded as failed; its text is what the case said."""


class RecordedCase(pytest.Item):
    """One conformance case of the gate's own run of the suites."""

    @classmethod
    def of(cls, item: pytest.Item) -> "RecordedCase":
        """Stand for `item`: same name, place, markers and keywords, no fixtures."""
        untyped: Any = cls
        made: RecordedCase = untyped.from_parent(item.parent, name=item.name)
        made.own_markers = list(item.own_markers)
        made.keywords.update(item.keywords)
        made.place = item.location
        made.about = arm_of(item)
        made.proves = tuple(covers_of(item))
        return made

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - pytest's own
        """Begin without a place: `of` sets it."""
        super().__init__(**kwargs)  # pyright: ignore[reportUnknownMemberType] - the same
        self.place: tuple[str, int | None, str] = ("", None, "")
        self.about = ""
        self.proves: tuple[tuple[str, str], ...] = ()

    def runtest(self) -> None:
        """Report what the gate recorded of this case."""
        case = recorded(self.config.stash[TARGET].gate().cases, self.nodeid)
        if case is None:
            raise RecordedCaseError("the gate ended before this case ran: see its verdict")
        for place, (name, _) in enumerate(self.user_properties):
            if name == "covers_level":
                self.user_properties[place] = (name, case.level)
        if case.outcome == "skipped":
            pytest.skip(case.message or "skipped in the gate")
        if case.outcome != "passed":
            raise RecordedCaseError(case.message or case.outcome)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # noqa: ANN401
        """Show the recorded message, or the harness's own error, without a traceback."""
        if isinstance(excinfo.value, RecordedCaseError | RollgateError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> Any:  # noqa: ANN401 - pytest's own
        """Return where the case is written."""
        path, line, name = self.place
        return path, line, name


def recorded(cases: Any, nodeid: str) -> Case | None:  # noqa: ANN401 - a sequence of cases
    """Return the case whose name is `nodeid`, compared from suites/ on: roots differ, the rest does not."""
    wanted = _from_suites(nodeid)
    return next((case for case in cases if _from_suites(case.name) == wanted), None)


def _from_suites(name: str) -> str:
    return name.rpartition("suites/")[2]
