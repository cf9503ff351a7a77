"""Settings of all selftests."""

from hypothesis import HealthCheck, settings

# A busy machine is no failure: what is asserted is what code does, never how fast this machine does it.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
