"""Routers besides HAProxy's: see docs/routers.md for what each promises."""
