"""The composition root: configuration -> adapters -> loops."""

from harness.adapters.load import check_scenario
from harness.wiring.bench import bench_gates
from harness.wiring.choices import choose_plan, choose_provider
from harness.wiring.gate import GateResult, run_gate
from harness.wiring.judging import how_it_gates
from harness.wiring.preflight import diagnose
from harness.wiring.replay import Replayed, differences, judge_again, judge_by_policy, recorded_by
from harness.wiring.stored import give_order, read_verdict, report_again

__all__ = [
    "GateResult",
    "Replayed",
    "bench_gates",
    "check_scenario",
    "choose_plan",
    "choose_provider",
    "diagnose",
    "differences",
    "give_order",
    "how_it_gates",
    "judge_again",
    "judge_by_policy",
    "read_verdict",
    "recorded_by",
    "report_again",
    "run_gate",
]
