"""Fixtures of every suite; rollgate's own plugin comes with its installation."""

pytest_plugins = ["fixtures.stack", "fixtures.clients", "fixtures.containers"]
