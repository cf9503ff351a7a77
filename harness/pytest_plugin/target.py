"""What the options name: a system, and a stack that is up or a gate to run once."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness import spec
from harness.model.codec import parse_json
from harness.model.errors import EnvironmentProblem, RollgateError, SpecError
from harness.model.plan import StagePlan
from harness.model.system import System

if TYPE_CHECKING:  # the engine itself is slow to import, and only a gate needs it
    from harness.wiring import GateResult


@dataclass
class Target:
    """Read lazily: a bare pytest run, or `--help`, touches no system at all."""

    system_name: str | None
    provider: str
    stack_file: Path | None
    plan_name: str | None
    release: str | None
    _ran: "list[GateResult | RollgateError]" = field(default_factory=list)  # pyright: ignore[reportUnknownVariableType]

    @property
    def named(self) -> bool:
        """Whether any system is named."""
        return bool(self.system_name or self.stack_file)

    @property
    def provider_name(self) -> str:
        """The provider that runs the stack: of stack.json, or the asked one."""
        if self.stack_file is not None:
            return str(self.described.get("provider", "native"))
        return self._chosen if self.provider == "auto" and self.named else self.provider.replace("auto", "native")

    @cached_property
    def _chosen(self) -> str:
        from harness.wiring import choose_provider  # noqa: PLC0415 - slow

        return choose_provider(self.provider, system=self.system)

    @cached_property
    def system(self) -> System:
        """The named system. Raises pytest.UsageError, with the spec's own line, when its files are wrong."""
        try:
            return spec.load_system(self._root())
        except SpecError as error:
            raise pytest.UsageError(str(error)) from None

    @cached_property
    def plan(self) -> StagePlan:
        """The asked plan, or the provider's default."""
        from harness.wiring import choose_plan, choose_provider  # noqa: PLC0415 - slow

        try:
            return choose_plan(self.system, choose_provider(self.provider_name), self.plan_name)
        except SpecError as error:
            raise pytest.UsageError(str(error)) from None

    @cached_property
    def requirements(self) -> spec.Requirements:
        """What the conformance suites hold the system to."""
        try:
            return spec.load_requirements(self.system.root)
        except SpecError as error:
            raise pytest.UsageError(str(error)) from None

    @cached_property
    def described(self) -> dict[str, Any]:
        """What stack.json says; empty without --stack-file."""
        if self.stack_file is None:
            return {}
        try:
            raw = parse_json(self.stack_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise pytest.UsageError(f"--stack-file {self.stack_file}: {error}") from None
        if not isinstance(raw, dict):
            raise pytest.UsageError(f"--stack-file {self.stack_file}: found no JSON object")
        return cast("dict[str, Any]", raw)

    def unavailable(self) -> str:
        """Return why the asked provider cannot run here; "" when it can, or when a stack is up already."""
        if self.stack_file:
            return ""
        from harness.wiring import choose_provider  # noqa: PLC0415 - slow

        try:
            choose_provider(self.provider_name)
        except (SpecError, EnvironmentProblem) as error:
            return str(error)
        return ""

    def gate(self) -> "GateResult":
        """Run the gate, once per session. Raises the same RollgateError again when it could not run."""
        from harness.wiring import run_gate  # noqa: PLC0415 - slow

        if not self._ran:
            try:
                result = run_gate(self.system, provider=self.provider_name, plan=self.plan_name, release=self.release)
                self._ran.append(result)
            except RollgateError as error:
                self._ran.append(error)
        first = self._ran[0]
        if isinstance(first, RollgateError):
            raise first
        return first

    def _root(self) -> Path:
        if self.system_name:
            return spec.find_system(self.system_name)
        for key in ("system_root", "system"):
            named = self.described.get(key)
            if isinstance(named, str):
                return spec.find_system(named)
        raise SpecError("stack.json names no system", mend="add --system NAME")


TARGET = pytest.StashKey[Target]()
