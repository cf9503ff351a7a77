"""A stand-in for the Kubernetes API server: custom resources with resource versions, conflicts, status and watch.

It answers as the real one does as far as routes are concerned; what it does not know is 404. The same tests also run
against the real server where that is there: see kubernetes_api/.
"""

import contextlib
import copy
import json
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Key = tuple[str, ...]  # group, version, namespace, plural


@dataclass
class Store:
    """Objects by place and name, every change of them, and the counter that gives resource versions."""

    objects: dict[tuple[Key, str], dict[str, Any]] = field(default_factory=dict)
    changes: list[tuple[int, Key, str, dict[str, Any]]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    counter: int = 0

    def write(self, key: Key, name: str, body: dict[str, Any], kind: str) -> dict[str, Any]:
        """Store `body` under the next resource version; call it with `changed` held."""
        self.counter += 1
        body["metadata"]["resourceVersion"] = str(self.counter)
        self.objects[key, name] = body
        self.changes.append((self.counter, key, kind, copy.deepcopy(body)))
        self.changed.notify_all()
        return body


class StandIn(ThreadingHTTPServer):
    """The server; `store` may be handed to the next one, as a real one's etcd outlives it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, store: Store) -> None:
        """Serve on 127.0.0.1:`port` until `end`."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.store, self.ending = store, threading.Event()
        self._open: list[socket.socket] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Remember each connection: a server that is gone answers on none of them."""
        connection, peer = super().get_request()
        self._open.append(connection)
        return connection, peer

    def end(self) -> None:
        """Stop, watches and kept connections included; safe to call twice."""
        if self.ending.is_set():
            return
        self.ending.set()
        self.shutdown()
        self.server_close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        place = self._place()
        if place is None:
            return self._refuse(404, "NotFound")
        key, name, query = place[0], place[1], parse_qs(urlsplit(self.path).query)
        if "watch" in query and query["watch"][0] in ("1", "true", "True"):
            after, seconds = (query.get(name, ["0"])[0] or "0" for name in ("resourceVersion", "timeoutSeconds"))
            return self._watch(key, int(after), float(seconds) or 60)
        with self.server.store.changed:
            if name:
                found = self.server.store.objects.get((key, name))
                return self._send(200, found) if found else self._refuse(404, "NotFound")
            items = [body for (place, _), body in self.server.store.objects.items() if place == key]
            head = {"resourceVersion": str(self.server.store.counter)}
            return self._send(200, {"kind": "List", "metadata": head, "items": items})

    def do_POST(self) -> None:
        place, body = self._place(), self._body()
        if place is None:
            return self._refuse(404, "NotFound")
        name = str(body["metadata"]["name"])
        with self.server.store.changed:
            if (place[0], name) in self.server.store.objects:
                return self._refuse(409, "AlreadyExists")
            body["metadata"] |= {"generation": 1, "uid": f"uid-{name}"}
            return self._send(201, self.server.store.write(place[0], name, body, "ADDED"))

    def do_PUT(self) -> None:
        place, body = self._place(), self._body()
        with self.server.store.changed:
            found = self.server.store.objects.get(place[:2]) if place else None
            if place is None or found is None:
                return self._refuse(404, "NotFound")
            asked = body["metadata"].get("resourceVersion")
            if not asked:
                return self._refuse(422, "Invalid")  # custom resources take no update without one
            if asked != found["metadata"]["resourceVersion"]:
                return self._refuse(409, "Conflict")
            body["status"] = found.get("status", {})  # it has a resource of its own
            changed = body.get("spec") != found.get("spec")
            body["metadata"]["generation"] = found["metadata"]["generation"] + changed
            if body == found:
                return self._send(200, found)
            return self._send(200, self.server.store.write(*place[:2], body, "MODIFIED"))

    def do_PATCH(self) -> None:
        place, patch = self._place(), self._body()
        with self.server.store.changed:
            found = self.server.store.objects.get(place[:2]) if place else None
            if place is None or found is None or place[2] != "status":
                return self._refuse(404, "NotFound")
            body = {**copy.deepcopy(found), "status": patch.get("status", {})}
            return self._send(200, self.server.store.write(*place[:2], body, "MODIFIED"))

    def _watch(self, key: Key, after: int, seconds: float) -> None:
        """Send every change after a resource version as a line, as it comes, for so many seconds."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        store, deadline = self.server.store, time.monotonic() + seconds
        while time.monotonic() < deadline and not self.server.ending.is_set():
            with store.changed:
                store.changed.wait_for(lambda seen=after: store.counter > seen, timeout=0.1)
                news = [change for change in store.changes if change[0] > after and change[1] == key]
                after = store.counter
            for _, _, kind, body in news:
                self._chunk(json.dumps({"type": kind, "object": body}).encode() + b"\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _place(self) -> tuple[Key, str, str] | None:
        """Return where the path points: (group, version, namespace, plural), name, subresource."""
        parts = urlsplit(self.path).path.strip("/").split("/")
        if len(parts) < 6 or parts[0] != "apis" or parts[3] != "namespaces":
            return None
        name, sub = ([*parts[6:], "", ""])[:2]
        return (parts[1], parts[2], parts[4], parts[5]), name, sub

    def _body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

    def _refuse(self, code: int, reason: str) -> None:
        self._send(code, {"kind": "Status", "status": "Failure", "reason": reason, "code": code})

    def _send(self, code: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass
