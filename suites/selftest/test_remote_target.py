"""Target files: what they say, how each mistake is told, and that no message or copy ever holds a secret."""

import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from harness import spec
from harness.model.errors import SpecError
from harness.model.evidence import Arm
from harness.paths import share_root
from harness.spec.document import read_document

pytestmark = pytest.mark.selftest

PLANTED = "hunter2-9f3c"
TARGET = """\
schema: 1
baseline: {url: "https://old.shop.example:8443", version: "1.0.0"}
candidate: {url: "https://new.shop.example:8443"}
router: {kind: client}
prometheus: {url: "https://prometheus.shop.example/monitoring", auth: {basic: {user: reader, password: {env: PROM}}}}
host: shop.example:8443
auth:
  header: {name: Authorization, prefix: "Bearer ", value: {env: SHOP_TOKEN}}
  tls: {ca: ca.pem, cert: client.pem, key: client.key}
"""
BAD = {
    "no kind of ours": ("kind: client", "kind: traefik", "router.kind: found 'traefik', expected"),
    "a key of another kind": (
        "kind: client",
        "kind: client, admin: a.sock",
        "router.admin: unknown key for kind client",
    ),
    "a kind without its key": ("kind: client", "kind: haproxy", "router.admin: missing"),
    "a router without its entry": ("{kind: client}", "{kind: flags, file: flags.json}", "entry: missing"),
    "an entry that nobody asks": ("auth:\n", 'entry: "https://shop.example"\nauth:\n', "entry: found an address"),
    "an unknown key": ("prometheus:", "promethius:", "promethius: unknown key"),
    "a host with a scheme": ("host: shop.example:8443", "host: https://shop", "host: found 'https://shop'"),
    "no scheme": ("https://old.shop", "old.shop", "baseline.url: found 'old.shop"),
    "a path": ("new.shop.example:8443", "new.shop.example:8443/api", "candidate.url: found"),
    "a port beyond all": ("new.shop.example:8443", "new.shop.example:99999", "candidate.url: found"),
    "one address twice": ("new.shop.example", "old.shop.example", "candidate.url: found the baseline's"),
    "a certificate alone": (", key: client.key", "", "auth.tls: found no `key`"),
    "two places of a secret": ("{env: SHOP_TOKEN}", "{env: A, file: b}", "auth.header.value: found both"),
    "no place of a secret": ("{env: SHOP_TOKEN}", "{}", "auth.header.value: found neither"),
    "one header twice": ("  tls:", "  basic: {user: me, password: {env: P}}\n  tls:", "auth.header.name: found"),
}
INLINE = {
    "a header's value": ("{env: SHOP_TOKEN}", f'"{PLANTED}"', "auth.header.value"),
    "a number": ("{env: SHOP_TOKEN}", "12345678", "auth.header.value"),
    "a password": ("{env: PROM}", PLANTED, "prometheus.auth.basic.password"),
    "a password in an address": ("https://old.", f"https://me:{PLANTED}@old.", "baseline.url"),
    "a user in an address": ("https://old.", f"https://{PLANTED}@old.", "baseline.url"),
    "a key in PEM": ("key: client.key", f'key: "-----BEGIN PRIVATE KEY-----{PLANTED}"', "auth.tls.key"),
    "an odd name of a variable": ("env: SHOP_TOKEN", f"env: '{PLANTED}'", "auth.header.value.env"),
    "all of it in the prefix": ('"Bearer "', f'"Bearer {PLANTED}"', "auth.header.prefix"),
    "a header as text": ('{name: Authorization, prefix: "Bearer ", value: {env: SHOP_TOKEN}}', PLANTED, "auth.header"),
    "a key of nobody's": ("{env: SHOP_TOKEN}", f"{{value: {PLANTED}}}", "auth.header.value"),
    "a password beside the user": ("user: reader", f"user: 'reader:{PLANTED}'", "prometheus.auth.basic.user"),
}


def target(folder: Path, text: str = TARGET) -> Path:
    """Write a target file."""
    path = folder / "target.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_target_file_says_where_everything_is(tmp_path: Path):
    """Addresses as written, paths relative to the file, secrets by their places alone."""
    found = spec.load_target(target(tmp_path))
    assert (found.arm(Arm.BASELINE).url, found.baseline.version) == ("https://old.shop.example:8443", "1.0.0")
    assert found.split_by_load
    assert found.host == "shop.example:8443"
    assert found.auth.tls.key == str(tmp_path / "client.key")
    assert found.auth.variables == ("SHOP_TOKEN",)
    assert found.prometheus is not None
    assert found.prometheus.auth.variables == ("PROM",)


@pytest.mark.parametrize(
    "router",
    [
        "{kind: client}",
        "{kind: flags, file: flags.json, flag: fresh}",
        "{kind: haproxy, admin: /run/haproxy/admin.sock, map: limits.map, lease: 0.0.0.0:9999}",
        "{kind: nginx, file: a.conf, status_url: 'http://127.0.0.1:9', check: [nginx, -t], reload: [reload, nginx]}",
        "{kind: gateway_api, namespace: shop, route: api, baseline: api-old, candidate: api-new, context: prod}",
    ],
)
def test_what_a_run_keeps_of_a_target_reads_the_same(tmp_path: Path, router: str):
    """The copy without comments is a target file with the same meaning, wherever it is put."""
    entry = "" if "client" in router else 'entry: "https://shop.example"\n'
    text = TARGET.replace("{kind: client}", router).replace("auth:\n", f"{entry}auth:  # was {PLANTED}\n", 1)
    first = spec.load_target(target(tmp_path, text))
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    again = spec.load_target(target(copy, spec.target_text(first)))
    assert {**_fields(again), "path": ""} == {**_fields(first), "path": ""}
    assert PLANTED not in (copy / "target.yaml").read_text()


def _fields(found: object) -> dict[str, object]:
    return {name: getattr(found, name) for name in getattr(type(found), "__slots__", ())}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_with_line_key_and_mend(tmp_path: Path, case: str):
    """Each planted mistake is refused where it stands, with what was found and how to mend it."""
    old, new, message = BAD[case]
    text = TARGET.replace(old, new, 1)
    assert text != TARGET
    with pytest.raises(SpecError) as refused:
        spec.load_target(target(tmp_path, text))
    told = str(refused.value)
    assert re.search(rf"target\.yaml:\d+: {re.escape(message)}", told), told
    assert " — " in told
    assert "\n" not in told


@pytest.mark.parametrize("case", INLINE)
def test_a_secret_written_out_is_refused_and_not_repeated(tmp_path: Path, case: str):
    """A secret in the file is an error that names its key, and the message does not show it."""
    old, new, key = INLINE[case]
    text = TARGET.replace(old, new, 1)
    assert text != TARGET
    with pytest.raises(SpecError) as refused:
        spec.load_target(target(tmp_path, text))
    told = str(refused.value)
    assert f": {key}" in told, told
    assert PLANTED not in told
    assert "12345678" not in told


def test_editors_see_the_same_format(tmp_path: Path):
    """The published schema takes the documented example, and no secret written out."""
    checked = Draft202012Validator(spec.json_schemas()["target"])
    checked.validate(read_document(target(tmp_path)).data)
    with pytest.raises(ValidationError):
        checked.validate(read_document(target(tmp_path, TARGET.replace("{env: PROM}", PLANTED))).data)


def test_the_documented_examples_are_sound(tmp_path: Path):
    """Every target file in docs/remote.md can be read."""
    page = share_root() / "docs" / "remote.md"
    if not page.is_file():
        pytest.skip("needs the checkout, not the wheel")
    examples = re.findall(r"```yaml\n(schema: 1\n.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for text in examples:
        spec.load_target(target(tmp_path, text))
