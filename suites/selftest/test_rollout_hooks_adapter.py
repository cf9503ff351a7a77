"""Webhooks on the wire: signed so that a receiver can tell, bounded in time and tries, and nothing secret is said."""

import base64
import json
import threading
import time
from pathlib import Path

import pytest
from hook_receiver import SECRET, Receiver, receiving
from native_runs import until

from harness import spec
from harness.adapters.hooks import Address, HookAccess, Webhooks, resolve_hooks, signature
from harness.model.errors import SpecError
from harness.model.hook import Delivered, Delivery
from harness.model.target import Hook, Hooks, Secret

pytestmark = pytest.mark.selftest


def hooks_of(
    url: str, *, timeout_s: float = 20.0, attempts: int = 1, key: str = SECRET, hook: str = "before"
) -> Webhooks:
    """Return one hook at `url`."""
    address = Address(url=url, timeout_s=timeout_s, attempts=attempts)
    access = HookAccess(addresses={hook: address}, key=key.encode(), secrets=(key,))
    about = {"rollout": "r1", "system": "shop", "feature": "search"}
    return Webhooks(access, rollout="r1", about=about, hide=lambda text: text.replace(SECRET, "•••"))


def asked(hook: str = "before", **more: object) -> Delivery:
    """Return a delivery."""
    return Delivery(id=f"r1/{hook}/25", hook=hook, body={"type": "stage.before", "stage": "25", **more})


def answer(hooks: Webhooks) -> Delivered:
    """Wait for what comes of the one delivery under way."""
    found: list[Delivered] = []
    assert until(lambda: found.extend(hooks.collect()) or found, within=10)
    (one,) = found
    return one


def test_a_signature_is_what_the_specification_says() -> None:
    """One that the specification's own library (standardwebhooks 1.1.0) has made."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxEek", "1614265330", b'{"test": 2432232314}')
    assert found == "v1,xm3N4+aKmqpsHqf2GrAK/g6ew7J0s6ILlNe44yY/l78="


def test_what_is_sent_is_signed_dated_and_named_by_its_id() -> None:
    """A receiver that checks takes it: all of the body, the same id in the header, a timestamp of now."""
    with receiving(Receiver()) as receiver:
        hooks = hooks_of(f"{receiver.url}/ask?team=blue")
        hooks.send(asked(share=25))
        assert answer(hooks) == Delivered(id="r1/before/25", hook="before", ok=True, said="status 204")
    (got,) = receiver.got
    assert (got["path"], got["id"], got["rollout"]) == ("/ask?team=blue", "r1/before/25", "r1")
    assert (got["feature"], got["share"], got["type"]) == ("search", 25, "stage.before")
    assert abs(time.time() - float(str(got["timestamp"]))) < 30


def test_another_secrets_signature_is_refused_by_a_receiver() -> None:
    """Planted: the receiver knows another secret; the hook does not pass, and it is not tried again."""
    with receiving(Receiver(secret="whsec_" + base64.b64encode(b"another").decode())) as receiver:
        hooks = hooks_of(f"{receiver.url}/ask", attempts=3)
        hooks.send(asked())
        told = answer(hooks)
    assert (told.ok, told.said) == (False, "status 401")
    assert (receiver.forged, receiver.got) == (1, [])


@pytest.mark.parametrize("status, tries", [(500, 2), (503, 2), (429, 2), (403, 1), (404, 1)])
def test_what_may_pass_is_tried_again_within_bounds_under_the_same_id(status: int, tries: int) -> None:
    """5xx and 429 are tried again, a plain no is not."""
    with receiving(Receiver(answers={"/ask": status})) as receiver:
        hooks = hooks_of(f"{receiver.url}/ask", attempts=2)
        hooks.send(asked())
        told = answer(hooks)
    assert not told.ok
    assert f"status {status}" in told.said
    assert len(receiver.got) == tries
    assert {one["id"] for one in receiver.got} == {"r1/before/25"}


def test_a_redirect_is_not_followed() -> None:
    """Planted: it points at another receiver, which must hear nothing."""
    with receiving(Receiver()) as other, receiving(Receiver(answers={"/ask": 307})) as receiver:
        receiver.location = f"{other.url}/stolen"
        hooks = hooks_of(f"{receiver.url}/ask", attempts=3)
        hooks.send(asked())
        told = answer(hooks)
    assert (told.ok, told.said) == (False, "status 307: redirects are not followed")
    assert (len(receiver.got), other.got, other.forged) == (1, [], 0)


def test_a_hook_that_hangs_is_given_up_at_its_timeout_and_blocks_nobody() -> None:
    """Sending returns at once; the answer is a timeout."""
    with receiving(Receiver(hangs={"/ask"})) as receiver:
        hooks = hooks_of(f"{receiver.url}/ask", timeout_s=0.2)
        hooks.send(asked())
        assert hooks.collect() == []
        told = answer(hooks)
    assert (told.ok, told.said) == (False, "no answer within 0.2 s")


def test_what_still_asks_when_the_rollout_is_over_is_given_up_at_once() -> None:
    """`finish` does not wait for a hook before a stage, and stops the tries of it."""
    with receiving(Receiver(hangs={"/ask"})) as receiver:
        hooks = hooks_of(f"{receiver.url}/ask", timeout_s=20, attempts=5)
        hooks.send(asked())
        assert until(lambda: receiver.got)
        (told,) = hooks.finish()
    assert (told.ok, told.said) == (False, "given up: the rollout is over")


def test_what_tells_is_waited_for_when_the_rollout_is_over() -> None:
    """A notification that is under way is delivered first."""
    with receiving(Receiver()) as receiver:
        hooks = hooks_of(f"{receiver.url}/told", hook="notify")
        hooks.send(asked("notify"))
        (told,) = hooks.finish()
    assert (told.ok, len(receiver.got)) == (True, 1)


def test_nobody_there_is_an_answer_too() -> None:
    """A closed port: told in words, without the address."""
    with receiving(Receiver()) as receiver:
        pass
    hooks = hooks_of(f"{receiver.url}/ask")
    hooks.send(asked())
    told = answer(hooks)
    assert (told.ok, told.said) == (False, "nobody answers: connection refused")


def test_https_is_not_spoken_with_a_server_that_proves_nothing() -> None:
    """Planted: a plain server at an https address hears neither the body nor its signature."""
    with receiving(Receiver()) as receiver:
        hooks = hooks_of(receiver.url.replace("http:", "https:") + "/ask")
        hooks.send(asked())
        told = answer(hooks)
    assert (told.ok, told.said.startswith("TLS failed")) == (False, True), told.said
    assert receiver.got == []


def test_a_secret_in_what_is_told_does_not_go_out() -> None:
    """A reason that repeats what a server echoed: masked in the body, which is signed as it is sent."""
    with receiving(Receiver()) as receiver:
        hooks = hooks_of(f"{receiver.url}/ask")
        hooks.send(asked(reason=f"the server said {SECRET}"))
        assert answer(hooks).ok
    assert SECRET not in json.dumps(receiver.got)


def test_no_thread_is_left_waiting() -> None:
    """After the answers the adapter keeps nobody alive."""
    with receiving(Receiver()) as receiver:
        hooks = hooks_of(f"{receiver.url}/ask")
        for _ in range(5):
            hooks.send(asked())
        assert until(lambda: not [one for one in threading.enumerate() if one.name.startswith("hook-")])
        assert len(hooks.collect()) == 5


def test_secrets_are_read_from_where_they_lie_and_told_by_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address from a file, a key from a variable; each that is missing or odd is one error without its value."""
    (tmp_path / "slack").write_text("https://hooks.example/T0/B1/abcdef\n", encoding="utf-8")
    monkeypatch.setenv("HOOKS", "whsec_" + base64.b64encode(b"key-of-hooks").decode())
    hooks = Hooks(secret=Secret(env="HOOKS"), notify=Hook(url_from=Secret(file=str(tmp_path / "slack"))))
    access = resolve_hooks(hooks, "t.yaml: hooks", spec.is_address)
    assert (access.key, access.addresses["notify"].url) == (b"key-of-hooks", "https://hooks.example/T0/B1/abcdef")
    assert "T0/B1/abcdef" in access.secrets
    assert "abcdef" not in repr(access)
    assert "key-of-hooks" not in repr(access)
    for variable, words in (("", "is not set"), ("whsec_§§§§", "no header takes"), ("whsec_!!!!", "no base64")):
        monkeypatch.setenv("HOOKS", variable)
        with pytest.raises(SpecError, match=words) as refused:
            resolve_hooks(hooks, "t.yaml: hooks", spec.is_address)
        assert "whsec_!" not in str(refused.value)
    monkeypatch.setenv("HOOKS", "long-enough")
    (tmp_path / "slack").write_text("ftp://hooks.example/T0/B1/abcdef", encoding="utf-8")
    with pytest.raises(SpecError, match="no address") as refused:
        resolve_hooks(hooks, "t.yaml: hooks", spec.is_address)
    assert "abcdef" not in str(refused.value)
