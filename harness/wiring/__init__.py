"""The composition root: configuration -> adapters -> loops."""

from harness.wiring.bench import bench_gates
from harness.wiring.gate import GateResult, choose_plan, choose_provider, run_gate
from harness.wiring.machine import diagnose
from harness.wiring.stored import give_order, judge_again, read_verdict, report_again

__all__ = [
    "GateResult",
    "bench_gates",
    "choose_plan",
    "choose_provider",
    "diagnose",
    "give_order",
    "judge_again",
    "read_verdict",
    "report_again",
    "run_gate",
]
