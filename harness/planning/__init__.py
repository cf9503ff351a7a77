"""Plans as pure data and pure steps: arrivals, the rollout as a state machine, time scales."""
