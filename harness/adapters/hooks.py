"""Webhooks over HTTP: signed, each with a deadline and bounded tries, in threads of their own.

What is sent follows the Standard Webhooks specification (https://www.standardwebhooks.com): the headers `webhook-id`,
`webhook-timestamp` and `webhook-signature`, the last being base64 of HMAC-SHA256 over "id.timestamp.body".
"""

import base64
import hashlib
import hmac
import json
import queue
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception_type, sleep_using_event, stop_after_attempt, wait_exponential_jitter

from harness.adapters.http_question import Answer, NoAnswer, post
from harness.adapters.remote import address_of
from harness.adapters.remote_access import context_of, read_secret
from harness.model.errors import SpecError
from harness.model.hook import BEFORE, Delivered, Delivery
from harness.model.target import Hooks, TlsFiles

_ENCODED = "whsec_"  # begins a secret that is base64, by the specification
_MOST_WAIT_S = 2.0  # between two tries
_LAST_WAIT_S = 30.0  # for those that tell, once the rollout is over
_TRY_AGAIN = frozenset({408, 425, 429, *range(500, 600)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where one hook is, as it is called; `url` may be a secret."""

    url: str = field(repr=False)
    timeout_s: float
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HookAccess:
    """The hooks of a target with their secrets read, which stay in memory. `secrets` are what no file may show."""

    addresses: Mapping[str, Address] = field(default_factory=dict[str, Address])
    key: bytes = field(default=b"", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    tls: TlsFiles = field(default_factory=TlsFiles)


def resolve_hooks(hooks: Hooks, where: str, is_address: Callable[[str], bool]) -> HookAccess:
    """Read the secrets of `hooks`, which stand at `where`. Raises SpecError, which never shows one."""
    secret = read_secret(hooks.secret, where, "secret")
    secrets, addresses = [secret], dict[str, Address]()
    for name, hook in hooks.named().items():
        url = hook.url
        if not url:
            url = read_secret(hook.url_from, where, f"{name}.url_from")
            if not is_address(url):
                message = f"what {hook.url_from.env or hook.url_from.file} holds is no address that can be called"
                raise SpecError(message, where=where, key=f"{name}.url_from", mend="write http(s)://HOST[:PORT]/PATH")
            parts = urlsplit(url)
            secrets += [url, *(part for part in (parts.path.strip("/"), parts.query) if part)]
        addresses[name] = Address(url=url, timeout_s=hook.timeout_s, attempts=hook.attempts)
    if hooks.tls != TlsFiles():
        context_of(hooks.tls)  # a wrong file is told now
    return HookAccess(addresses=addresses, key=_key(secret, where), secrets=tuple(secrets), tls=hooks.tls)


def _key(secret: str, where: str) -> bytes:
    if not secret.startswith(_ENCODED):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_ENCODED), validate=True)
    except ValueError:
        message = f"found {_ENCODED} and then no base64"
        raise SpecError(message, where=where, key="secret", mend="copy the whole secret") from None


def signature(key: bytes, name: str, timestamp: str, body: bytes) -> str:
    """Return what `webhook-signature` says of a delivery: "v1," and base64 of HMAC-SHA256."""
    digest = hmac.new(key, f"{name}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class _Again(Exception):
    """This try failed in a way that another one may mend."""


class Webhooks:
    """The hooks of one rollout: implements `harness.ports.Hooks`.

    `about` goes into every body; `hide` takes secrets out of whatever is sent or told, since what a rollout says may
    repeat what a server has said. No redirect is followed, and no proxy is asked.
    """

    def __init__(
        self, access: HookAccess, *, rollout: str, about: Mapping[str, str], hide: Callable[[str], str] = str
    ) -> None:
        """Call nobody yet."""
        self.rollout, self._access, self._about, self._hide = rollout, access, dict(about), hide
        self.asks = self.has(BEFORE)
        self._done: queue.SimpleQueue[Delivered] = queue.SimpleQueue()
        self._under_way: dict[int, tuple[threading.Thread, Delivery]] = {}
        self._closing = threading.Event()
        self._number = 0

    def has(self, hook: str) -> bool:
        """Tell whether there is such a hook."""
        return hook in self._access.addresses

    def send(self, delivery: Delivery) -> None:
        """Begin to deliver, and return at once."""
        address = self._access.addresses.get(delivery.hook)
        if address is None:
            return
        self._number += 1
        number = self._number
        thread = threading.Thread(target=self._deliver, args=(delivery, address), name=f"hook-{number}", daemon=True)
        self._under_way[number] = (thread, delivery)
        thread.start()

    def collect(self) -> Sequence[Delivered]:
        """Return what came of deliveries since the last call."""
        found: list[Delivered] = []
        while not self._done.empty():
            found.append(self._done.get())
        self._under_way = {number: one for number, one in self._under_way.items() if one[0].is_alive()}
        return found

    def finish(self) -> Sequence[Delivered]:
        """Wait for what tells, half a minute at the most; what asks, and what is late, is given up."""
        until = time.monotonic() + _LAST_WAIT_S
        waiting = list(self._under_way.values())
        for thread, delivery in waiting:
            if delivery.hook != BEFORE:
                thread.join(max(0.0, until - time.monotonic()))
        self._closing.set()
        late = [one for thread, one in waiting if thread.is_alive()]
        told = list(self.collect())
        known = {one.id for one in told}
        self._under_way = {}
        given_up = "given up: the rollout is over"
        return [*told, *(Delivered(id=o.id, hook=o.hook, ok=False, said=given_up) for o in late if o.id not in known)]

    def _deliver(self, delivery: Delivery, address: Address) -> None:
        ok, said, tries = False, "", 0
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(_Again),
                stop=stop_after_attempt(address.attempts),
                wait=wait_exponential_jitter(multiplier=0.2, max=_MOST_WAIT_S, jitter=0.2),
                sleep=sleep_using_event(self._closing),
                reraise=True,
            ):
                with attempt:
                    tries = attempt.retry_state.attempt_number
                    ok, said = self._try(delivery, address)
        except _Again as error:
            said = str(error)
        except Exception as error:  # noqa: BLE001 - a thread that dies in silence would leave its hook unanswered
            said = f"it could not be sent: {type(error).__name__}"
        if tries > 1:
            said = f"{said}, at try {tries}"
        self._done.put(Delivered(id=delivery.id, hook=delivery.hook, ok=ok, said=self._hide(said)))

    def _try(self, delivery: Delivery, address: Address) -> tuple[bool, str]:
        """Return whether the hook took it, and its status; _Again where it may take it later."""
        if self._closing.is_set():
            return False, "given up: the rollout is over"
        try:
            answer = self._post(delivery, address)
        except TimeoutError:
            msg = f"no answer within {address.timeout_s:g} s"
            raise _Again(msg) from None
        except ssl.SSLError as error:
            msg = f"TLS failed: {(error.reason or type(error).__name__).lower().replace('_', ' ')}"
            raise _Again(msg) from None
        except OSError as error:
            msg = f"nobody answers: {(error.strerror or type(error).__name__).lower()}"
            raise _Again(msg) from None
        except NoAnswer:
            raise _Again("no whole HTTP answer") from None
        said = f"status {answer.status}"
        if answer.status in _TRY_AGAIN:
            raise _Again(said)
        if answer.status in range(300, 400):
            return False, f"{said}: redirects are not followed"
        return answer.status in range(200, 300), said

    def _post(self, delivery: Delivery, address: Address) -> Answer:
        parts = urlsplit(address.url)
        body = json.dumps({**self._about, "id": delivery.id, **delivery.body}, sort_keys=True, default=str)
        content = self._hide(body).encode()
        timestamp = str(int(time.time()))
        headers = (
            ("Content-Type", "application/json"),
            ("User-Agent", "rollgate"),
            ("webhook-id", delivery.id),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signature(self._access.key, delivery.id, timestamp, content)),
        )
        return post(
            address_of(address.url),
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            content,
            within_s=address.timeout_s,
            headers=headers,
            tls=self._context() if parts.scheme == "https" else None,
        )

    def _context(self) -> ssl.SSLContext:
        return context_of(self._access.tls)
