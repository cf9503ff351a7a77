"""Load: Locust in front, an open-loop generator of our own behind it."""

from harness.adapters.load.locust_load import LocustLoad, check_scenario

__all__ = ["LocustLoad", "check_scenario"]
