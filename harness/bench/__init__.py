"""The bench of the judge: simulated rollouts with known truth, judged by the gate's own kernels and by other rules."""
