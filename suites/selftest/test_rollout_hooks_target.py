"""Hooks in a target file: what they may say, and that each mistake is one clear error without the address."""

import re
from pathlib import Path

import pytest

from harness import spec
from harness.model.errors import SpecError

pytestmark = pytest.mark.selftest

PLANTED = "hunter2-9f3c"
TARGET = """\
schema: 1
baseline: {url: "https://old.shop.example:8443"}
candidate: {url: "https://new.shop.example:8443"}
router: {kind: client}
hooks:
  secret: {env: HOOK_SECRET}
  before: {url: "https://ops.shop.example/rollgate/ask?team=search", timeout_s: 2, attempts: 2}
  after: {url: "http://127.0.0.1:9000/after"}
  notify: {url_from: {file: secrets/notify}}
  tls: {ca: ca.pem}
"""
BEFORE = "https://ops.shop.example/rollgate/ask?team=search"
BAD = {
    "no http": (BEFORE, f"ftp://ops/{PLANTED}", "hooks.before.url: found something else"),
    "no host": (BEFORE, f"https:///{PLANTED}", "hooks.before.url: found no address"),
    "a port beyond all": (BEFORE, f"https://ops:99999/{PLANTED}", "hooks.before.url: found no address"),
    "a fragment": (BEFORE, f"https://ops/a#{PLANTED}", "hooks.before.url: found no address"),
    "a blank": (BEFORE, f"https://ops/a {PLANTED}", "hooks.before.url: found no address"),
    "a password in the address": (BEFORE, f"https://me:{PLANTED}@ops/a", "hooks.before.url: found a secret"),
    "two addresses": (f'url: "{BEFORE}"', f'url: "{BEFORE}", url_from: {{env: A}}', "hooks.before: found both"),
    "no address": (f'url: "{BEFORE}", ', "", "hooks.before: found neither"),
    "no secret": ("  secret: {env: HOOK_SECRET}\n", "", "hooks.secret: missing"),
    "a secret written out": ("{env: HOOK_SECRET}", PLANTED, "hooks.secret: found a secret written out"),
    "a secret address written out": ("{file: secrets/notify}", f'"https://ops/{PLANTED}"', "hooks.notify.url_from:"),
    "two places of the secret": ("{env: HOOK_SECRET}", "{env: A, file: b}", "hooks.secret: found both"),
    "two places of an address": ("{file: secrets/notify}", "{env: A, file: b}", "hooks.notify.url_from: found both"),
    "no patience at all": ("timeout_s: 2", "timeout_s: 0", "hooks.before.timeout_s: found something else"),
    "patience without end": ("timeout_s: 2", "timeout_s: 3600", "hooks.before.timeout_s: found something else"),
    "tries without end": ("attempts: 2", "attempts: 100", "hooks.before.attempts: found something else"),
    "an unknown hook": ("  after:", "  during:", "hooks.during: unknown key"),
    "half a certificate": ("{ca: ca.pem}", "{cert: me.pem}", "hooks.tls: found no `key`"),
}


def target(folder: Path, text: str = TARGET) -> Path:
    """Write a target file."""
    path = folder / "target.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_hooks_are_told_as_they_were_written(tmp_path: Path) -> None:
    """Addresses, places of secrets and bounds; and a run's copy of them reads the same."""
    hooks = spec.load_target(target(tmp_path)).hooks
    assert hooks is not None
    assert hooks.before is not None
    assert (hooks.before.url, hooks.before.timeout_s, hooks.before.attempts) == (BEFORE, 2, 2)
    assert set(hooks.named()) == {"before", "after", "notify"}
    assert hooks.files == (str(tmp_path / "secrets/notify"),)
    assert hooks.tls.ca == str(tmp_path / "ca.pem")
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    again = spec.load_target(target(copy, spec.target_text(spec.load_target(target(tmp_path)))))
    assert again.hooks == hooks


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_in_a_hook_is_one_line_that_shows_no_address(tmp_path: Path, case: str) -> None:
    """By file, line, key and mend; what may be a secret is not repeated."""
    old, new, message = BAD[case]
    text = TARGET.replace(old, new, 1)
    assert text != TARGET
    with pytest.raises(SpecError) as refused:
        spec.load_target(target(tmp_path, text))
    told = str(refused.value)
    assert re.search(rf"target\.yaml:\d+: {re.escape(message)}", told), told
    assert " — " in told
    assert PLANTED not in told
    assert "\n" not in told


def test_hooks_that_name_none_are_refused(tmp_path: Path) -> None:
    """A secret alone is a mistake."""
    text = TARGET[: TARGET.index("  before:")]
    with pytest.raises(SpecError, match="found no hook"):
        spec.load_target(target(tmp_path, text))
