"""Dashboards: what their limits are, how they are written, what is wrong with them."""
