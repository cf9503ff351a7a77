"""Load: Locust in front, an open-loop generator of our own behind it."""

from harness.adapters.load.locust_load import LocustLoad

__all__ = ["LocustLoad"]
