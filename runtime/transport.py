"""Sockets.  The only module that imports zmq.

Every option that libzmq leaves dangerous by default is set here, once: unroutable messages are refused
and not dropped, queues and frames are bounded, handshakes time out, lingering is bounded, nothing is
queued for a peer that is not connected.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Protocol

import zmq

from runtime.codec import MAX_MESSAGE_BYTES, Frame
from runtime.errors import InvalidConfig

HIGH_WATER_MESSAGES = 1000
"""Messages queued per peer and direction before a send is refused."""
HANDSHAKE_MS = 2000
LINGER_MS = 200
RECONNECT_MS, RECONNECT_MAX_MS = 20, 1000
COPY_BELOW_BYTES = 65536
"""Smaller frames are copied (cheaper, and later changes to the buffer do no harm); larger ones are zero-copy."""

_NOW, _NOW_AND_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
"""As plain integers: pyzmq's own multipart calls combine enumeration members for every frame, which takes longer than sending it."""


class Endpoint(Protocol):
    """Anything a Poller can wait for."""

    @property
    def handle(self) -> object:
        """What zmq polls: a zmq socket or a file descriptor."""


class Context:
    """One per process: the I/O thread behind every socket made from it."""

    def __init__(self) -> None:
        self._context = zmq.Context()

    def router(self, address: str = "tcp://127.0.0.1:*") -> Router:
        """A bound socket that serves many peers."""
        return Router(self._context, address)

    def dealer(self, address: str) -> Dealer:
        """A socket connected to one peer's router."""
        return Dealer(self._context, address)

    def close(self) -> None:
        """End the I/O thread; every socket must have been closed.  Safe to call twice."""
        self._context.term()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Router:
    """Serves peers, each known by an opaque id."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
        self._socket = _socket(context, zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        _attach(self._socket, "bind", address)
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    @property
    def handle(self) -> object:
        """For the Poller."""
        return self._socket

    def recv(self) -> tuple[bytes, list[Frame]] | None:
        """The next (peer, frames), or None when there is none now."""
        parts = _recv(self._socket)
        return None if parts is None else (bytes(parts[0]), parts[1:])

    def send(self, peer: bytes, frames: Sequence[Frame]) -> bool:
        """Queue a message for a peer; False when it is gone or its queue is full."""
        return _send(self._socket, [peer, *frames])

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        self._socket.close(linger=LINGER_MS)


class Dealer:
    """Talks to one peer."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
        self._socket = _socket(context, zmq.DEALER)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        _attach(self._socket, "connect", address)
        self.address = address

    @property
    def handle(self) -> object:
        """For the Poller."""
        return self._socket

    def recv(self) -> list[Frame] | None:
        """The next message's frames, or None when there is none now, or none any more: it may be closed since it was waited for."""
        return None if self._socket.closed else _recv(self._socket)

    def send(self, frames: Sequence[Frame]) -> bool:
        """Queue a message; False when the peer is not connected or its queue is full."""
        return _send(self._socket, frames)

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        self._socket.close(linger=LINGER_MS)


class Waker:
    """Lets other threads wake a poll loop."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    @property
    def handle(self) -> object:
        """For the Poller."""
        return self._ours.fileno()

    def wake(self) -> None:
        """Make the loop's poll return; any thread may call it, also after close."""
        try:
            self._theirs.send(b"\0")
        except BlockingIOError:
            return  # the buffer is full of wake-ups already
        except OSError:
            return  # closed: nobody is left to wake

    def clear(self) -> None:
        """Swallow pending wake-ups."""
        try:
            while self._ours.recv(4096):
                continue
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close both ends; safe to call twice."""
        self._ours.close()
        self._theirs.close()


class Descriptor:
    """A plain file descriptor to wait for (a pipe from the parent, say)."""

    def __init__(self, fileno: int) -> None:
        self.handle: object = fileno


class Poller:
    """Waits until some of its endpoints can be read."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._poller = zmq.Poller()
        self._by_handle: dict[object, Endpoint] = {}
        for endpoint in endpoints:
            self.add(endpoint)

    def add(self, endpoint: Endpoint) -> None:
        """Wait for this one too."""
        self._poller.register(endpoint.handle, zmq.POLLIN)
        self._by_handle[endpoint.handle] = endpoint

    def remove(self, endpoint: Endpoint) -> None:
        """Wait for it no more."""
        self._poller.unregister(endpoint.handle)
        del self._by_handle[endpoint.handle]

    def wait(self, timeout_s: float | None) -> list[Endpoint]:
        """Readable endpoints, empty after `timeout_s` (rounded up to a millisecond); None waits for ever."""
        timeout_ms = None if timeout_s is None else max(0, -int(-timeout_s * 1000 // 1))
        return [self._by_handle[handle] for handle, _ in self._poller.poll(timeout_ms)]


def _socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    sock = context.socket(kind)
    sock.setsockopt(zmq.SNDHWM, HIGH_WATER_MESSAGES)
    sock.setsockopt(zmq.RCVHWM, HIGH_WATER_MESSAGES)
    sock.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    sock.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    sock.setsockopt(zmq.LINGER, LINGER_MS)
    sock.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    sock.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    sock.copy_threshold = COPY_BELOW_BYTES
    return sock


def _attach(sock: zmq.Socket[bytes], verb: str, address: str) -> None:
    try:
        getattr(sock, verb)(address)
    except zmq.ZMQError as exc:
        sock.close(linger=0)
        raise InvalidConfig(f"cannot {verb} {address!r}: {exc}; expected an address like tcp://127.0.0.1:5555") from exc


def _recv(sock: zmq.Socket[bytes]) -> list[Frame] | None:
    parts: list[Frame] = []
    try:
        while True:
            frame = sock.recv(_NOW, copy=False)
            parts.append(frame.buffer)
            if not frame.more:
                return parts
    except zmq.Again:  # between the parts of a message it cannot be: they arrive together
        return None


def _send(sock: zmq.Socket[bytes], parts: Sequence[Frame]) -> bool:
    try:
        for part in parts[:-1]:
            sock.send(part, _NOW_AND_MORE, copy=len(part) < COPY_BELOW_BYTES)
        sock.send(parts[-1], _NOW, copy=len(parts[-1]) < COPY_BELOW_BYTES)
    except zmq.Again:
        return False
    except zmq.ZMQError as exc:
        if exc.errno == zmq.EHOSTUNREACH:
            return False
        raise
    return True
