"""The controller daemon's shell: sockets, signals and HTTP around `Controller`.

    one thread    poll > up to BATCH messages, each: decode, decide, answer > apply a finished reload > poll
    SIGHUP        a worker thread loads and verifies the bundle; the loop swaps it in between two messages
    SIGTERM       not ready any more; what is queued is answered; ends once it is quiet, or after the grace period
    again         ends at once

Signal handlers only raise a flag and wake the loop.  Nothing is logged per request.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

import msgspec

from agents.bundle import load_bundle
from drlctl.controller import Controller, Mind, prepare
from drlctl.fallback import load_cost_model
from drlctl.http_status import HttpStatus
from drlctl.metrics import Metrics
from runtime.codec import Frame, from_frames, to_frames
from runtime.errors import DrlctlError, InvalidBundle, MalformedMessage
from runtime.messages import Message, Observation, Ping, Pong, Refused
from runtime.transport import Context, Descriptor, Poller, Router, Waker

log = logging.getLogger(__name__)

BATCH = 64
"""Messages answered before the loop looks at signals and reloads again."""
IDLE_S = 0.5
"""The loop ticks at least this often."""
LIVE_S = 5.0
"""A loop that has not ticked for this long counts as hung: ten idle periods."""
QUIET_S = 0.5
"""While draining: silence after which nothing is taken to be on its way, on a host so busy that the peer waits for its turn."""
DRAIN_POLL_S = 0.02


class DaemonConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one daemon runs."""

    bundle: Path
    listen: str = "tcp://127.0.0.1:*"
    http: str = "127.0.0.1:0"
    """HOST:PORT of the HTTP side; empty for none."""
    cost_models: tuple[Path, ...] = ()
    """JSON files: models that the bundle does not cover and that greedy decides for."""
    max_age_s: float | None = None
    """Telemetry older than this is stale; None: the scenario's peer timeout."""
    grace_s: float = 10.0
    """Longest time from SIGTERM to the end.  Source: a third of Kubernetes' termination grace period."""
    exit_with_parent: bool = False
    """End when stdin does: a launcher that dies leaves nothing behind."""


class Daemon:
    """One controller process.  `run()` serves until a signal."""

    def __init__(self, config: DaemonConfig) -> None:
        """Raises InvalidBundle or InvalidProfile before anything is bound."""
        self._config = config
        self.metrics = Metrics(self.ready)
        self._controller = Controller(self._load(), [load_cost_model(path) for path in config.cost_models])
        self._waker = Waker()
        self._loaded: SimpleQueue[Mind | DrlctlError] = SimpleQueue()
        self._loading = False
        self._reload_wanted = False
        self._stop_at_s: float | None = None
        self._ticked_at_s = self._heard_at_s = time.monotonic()
        self._show_bundle()

    def run(self, announce: Callable[[dict[str, object]], None]) -> int:
        """Serve until told to stop; returns the exit code.  `announce` is told once where it can be reached."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._waker.close)
            stack.enter_context(self._signals())
            router = stack.enter_context(contextlib.closing(stack.enter_context(Context()).router(self._config.listen)))
            http = stack.enter_context(contextlib.closing(HttpStatus(self._config.http, self))) if self._config.http else None
            parent = Descriptor(0) if self._config.exit_with_parent else None
            poller = Poller([router, self._waker, *([parent] if parent else [])])
            announce({"ready": True, "address": router.address, "http": http.address if http else None, **self._identity()})
            gc.collect()
            gc.freeze()  # what lives now lives until the end: keep the collector's pauses short
            self._loop(router, poller, parent)
            log.info("stopped after %s", self.metrics.totals() or "no question")
        return 0

    # ------------------------------------------------------------ what HTTP asks

    def live(self) -> bool:
        """The loop ticked lately."""
        return time.monotonic() - self._ticked_at_s < LIVE_S

    def ready(self) -> bool:
        """A bundle is loaded, and no signal has asked to stop."""
        return self._stop_at_s is None and self.live()

    def status(self) -> dict[str, object]:
        """For people and scripts."""
        return {"ready": self.ready(), "live": self.live(), "pid": os.getpid(), **self._identity(), "answers": self.metrics.totals()}

    def exposition(self) -> bytes:
        """Prometheus text."""
        return self.metrics.exposition()

    # ------------------------------------------------------------ the loop

    def _loop(self, router: Router, poller: Poller, parent: Descriptor | None) -> None:
        while not self._finished():
            ready = poller.wait(IDLE_S if self._stop_at_s is None else DRAIN_POLL_S)
            self._ticked_at_s = time.monotonic()
            if parent is not None and parent in ready and not os.read(0, 4096):
                log.info("the parent is gone")
                poller.remove(parent)
                self._stop()
            if self._waker in ready:
                self._waker.clear()
                self._reload()
            self._serve(router)

    def _finished(self) -> bool:
        if self._stop_at_s is None:
            return False
        now_s = time.monotonic()
        return now_s - max(self._heard_at_s, self._stop_at_s) > QUIET_S or now_s - self._stop_at_s > self._config.grace_s

    def _serve(self, router: Router) -> None:
        for _ in range(BATCH):
            received = router.recv()
            if received is None:
                return
            self._heard_at_s = self._ticked_at_s
            self._answer(router, *received)

    def _answer(self, router: Router, peer: bytes, frames: list[Frame]) -> None:
        try:
            message, tensors = from_frames(frames)
        except MalformedMessage:
            self.metrics.malformed.inc()
            return  # nobody knows which request it was: the device's time limit settles it
        if isinstance(message, Observation) and not tensors:
            started_s = time.perf_counter()
            answer = self._controller.answer(message)
            decided_s = time.perf_counter() - started_s
            self._send(router, peer, answer.message)
            self.metrics.decided(answer.by, answer.reason, decided_s)  # the device need not wait for the bookkeeping
        elif isinstance(message, Ping) and not tensors:
            self._send(router, peer, Pong(sequence=message.sequence, nodes=()))
        else:
            self._refuse(router, peer, message, len(tensors))

    def _refuse(self, router: Router, peer: bytes, message: Message, num_tensors: int) -> None:
        """A valid message that is not for a controller: refused under its own id, if it has one."""
        self.metrics.malformed.inc()
        request_id = getattr(message, "request_id", None)
        text = f"a controller answers an Observation without tensors, got {type(message).__name__} with {num_tensors}"
        if request_id is not None:
            self._send(router, peer, Refused(request_id=request_id, message=text))

    def _send(self, router: Router, peer: bytes, message: Message) -> None:
        if not router.send(peer, to_frames(message)):
            self.metrics.undeliverable.inc()

    # ------------------------------------------------------------ signals and reloads

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        handlers = {signal.SIGTERM: self._on_stop, signal.SIGINT: self._on_stop, signal.SIGHUP: self._on_reload}
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        if self._stop_at_s is not None:
            os._exit(128 + number)
        self._stop()

    def _on_reload(self, _number: int, _frame: FrameType | None) -> None:
        self._reload_wanted = True
        self._waker.wake()

    def _stop(self) -> None:
        if self._stop_at_s is None:
            self._stop_at_s = time.monotonic()
            self._waker.wake()

    def _reload(self) -> None:
        """Swap in what the worker has loaded, and start it again when asked to."""
        with contextlib.suppress(Empty):
            loaded = self._loaded.get_nowait()
            self._loading = False
            self._swap(loaded)
        if self._reload_wanted and not self._loading:
            self._reload_wanted, self._loading = False, True
            threading.Thread(target=self._load_aside, name="reload", daemon=True).start()

    def _swap(self, loaded: Mind | DrlctlError) -> None:
        try:
            if isinstance(loaded, DrlctlError):
                raise loaded
            before = self._controller.mind.bundle.manifest
            self._controller.swap(loaded)
        except DrlctlError as exc:
            self.metrics.reloads["refused"].inc()
            log.warning("the bundle is refused, the old one goes on: %s", exc)
        else:
            self.metrics.reloads["ok"].inc()
            self._show_bundle()
            for line in loaded.bundle.other_origin(before.provenance.scenario, before.cost_model):
                log.warning("%s", line)
            log.info("now deciding with bundle %s", loaded.bundle.manifest.digest[:12])

    def _load_aside(self) -> None:
        try:
            self._loaded.put(self._load())
        except DrlctlError as exc:
            self._loaded.put(exc)
        except Exception as exc:  # noqa: BLE001  # whatever is in that folder, serving goes on
            self._loaded.put(InvalidBundle(f"{self._config.bundle} cannot be used: {type(exc).__name__}: {exc}"))
        self._waker.wake()

    def _load(self) -> Mind:
        return prepare(load_bundle(self._config.bundle), self._config.max_age_s)

    # ------------------------------------------------------------ who it is

    def _identity(self) -> dict[str, object]:
        manifest = self._controller.mind.bundle.manifest
        return {"bundle": str(self._config.bundle), "digest": manifest.digest, "model": self._controller.model}

    def _show_bundle(self) -> None:
        manifest = self._controller.mind.bundle.manifest
        self.metrics.bundle(self._config.bundle.name, self._controller.model, manifest.digest, manifest.catalogue_digest)
