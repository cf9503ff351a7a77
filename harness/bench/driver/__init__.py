"""The driver itself, unchanged, in simulated worlds full of seeded faults; every step is held to invariants."""
