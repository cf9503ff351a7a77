"""Prometheus exporters for what serves no metrics of its own."""
