"""The daemon's HTTP side: /livez, /readyz, /metrics and /status, in threads of its own.

It never touches the decision loop: it reads what the loop last wrote.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from runtime.errors import InvalidConfig

TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"

REQUEST_TIMEOUT_S = 5.0
"""A client that stays silent for this long loses its connection."""


class Health(Protocol):
    """What the HTTP side asks of the daemon; each answer must be quick and safe from any thread."""

    def live(self) -> bool:
        """The decision loop ticked lately."""

    def ready(self) -> bool:
        """A bundle is loaded and the daemon is not draining."""

    def status(self) -> dict[str, object]:
        """For people and scripts."""

    def exposition(self) -> bytes:
        """Prometheus text."""


class HttpStatus:
    """Serves the four pages until closed."""

    def __init__(self, address: str, health: Health) -> None:
        """`address` is HOST:PORT, port 0 for a free one.  Raises InvalidConfig when it cannot be bound."""
        host, port = parse_host_port(address)
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), _handler(health))
        except OSError as exc:
            raise InvalidConfig(f"cannot serve HTTP on {address}: {exc.strerror or exc}; choose another --http HOST:PORT") from exc
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; safe to call twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def parse_host_port(address: str) -> tuple[str, int]:
    """Split HOST:PORT.  Raises InvalidConfig for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InvalidConfig(f"--http must be HOST:PORT with a port in 0..65535, like 127.0.0.1:9100, got {address!r}")
    return host.strip("[]"), int(port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64  # silent clients must not make the others wait for a place


class _Server6(_Server):
    address_family = socket.AF_INET6


def _handler(health: Health) -> type[BaseHTTPRequestHandler]:
    pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
        "/livez": lambda: _verdict(health.live(), "the decision loop does not tick"),
        "/readyz": lambda: _verdict(health.ready(), "no bundle, or draining"),
        "/metrics": lambda: (200, METRICS, health.exposition()),
        "/status": lambda: (200, "application/json", json.dumps(health.status()).encode() + b"\n"),
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S
        server_version = "drlctl"
        sys_version = ""

        def do_GET(self) -> None:  # the name is http.server's
            page = pages.get(self.path.split("?")[0])
            code, kind, body = page() if page else (404, TEXT, f"pages: {', '.join(pages)}\n".encode())
            self._answer(code, kind, body)

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a line per scrape tells nobody anything."""

    return Handler


def _verdict(good: bool, otherwise: str) -> tuple[int, str, bytes]:
    return (200, TEXT, b"ok\n") if good else (503, TEXT, otherwise.encode() + b"\n")
