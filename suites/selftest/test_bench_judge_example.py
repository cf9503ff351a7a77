"""The worked example of docs/judging.md says what the page says of it."""

import pytest

from harness.bench import example

pytestmark = pytest.mark.selftest


def test_the_example_shows_what_the_page_tells():
    """The bad release crosses the line after six minutes, the good one never, the untempered one does."""
    shown = dict(example.paths())
    crossed = {name: next((i / 4 for i, v in enumerate(path, 1) if v >= 2), None) for name, path in shown.items()}
    assert crossed == {
        "as good as its baseline": None,
        "as good, its noise ignored": 9.5,
        "errors 1 % become 3 %": 6.0,
    }
