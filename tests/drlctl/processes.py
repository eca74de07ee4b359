"""Real daemons in processes of their own, and a client that asks them over real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from runtime.codec import Frame, from_frames, to_frames
from runtime.messages import Message, Observation
from runtime.transport import Context, Dealer, Poller

START_LIMIT_S = 30.0
ANSWER_LIMIT_S = 10.0
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}


def run_cli(
    *arguments: str, env: dict[str, str] | None = None, timeout_s: float = 60.0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`drlctl ARGUMENTS...` to its end."""
    command = [sys.executable, "-m", "drlctl", *arguments]
    environment = {**ENVIRONMENT, **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False, cwd=cwd)


def until(condition: Callable[[], bool], limit_s: float = ANSWER_LIMIT_S) -> None:
    """Wait for a condition, failing after a time limit."""
    deadline_s = time.monotonic() + limit_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        pause.wait(0.005)


class DaemonProcess:
    """`drlctl serve` as a child process."""

    def __init__(self, bundle: Path, *options: str, stdin: int | IO[bytes] = subprocess.DEVNULL) -> None:
        command = [sys.executable, "-m", "drlctl", "serve", str(bundle), "--verbose", *options]
        self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.stderr()
        self.ready: dict[str, str] = json.loads(line)
        self.address, self.http = self.ready["address"], self.ready["http"]

    def stderr(self) -> str:
        """All it said there; ends it first."""
        self.process.kill()
        return self.process.communicate()[1].decode()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def page(self, path: str) -> tuple[int, str]:
        """(HTTP status, body) of a page."""
        try:
            with urllib.request.urlopen(self.http + path, timeout=ANSWER_LIMIT_S) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, sample: str) -> float:
        """A sample's value, 0 when it is not there."""
        lines = [line for line in self.page("/metrics")[1].splitlines() if line.startswith(sample + " ")]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0

    def close(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def daemon(bundle: Path, *options: str, stdin: int | IO[bytes] = subprocess.DEVNULL) -> Iterator[DaemonProcess]:
    """A running daemon, ended afterwards whatever happens."""
    process = DaemonProcess(bundle, *options, stdin=stdin)
    try:
        yield process
    finally:
        process.close()


class Asker:
    """A device's end of the conversation."""

    def __init__(self, context: Context, address: str) -> None:
        self.dealer: Dealer = context.dealer(address)
        self._poller = Poller([self.dealer])

    def send(self, frames: Sequence[Frame]) -> None:
        """Send, waiting for the connection and for room in the queue."""
        until(lambda: self.dealer.send(frames))

    def receive(self, limit_s: float = ANSWER_LIMIT_S) -> Message:
        """The next message; fails when there is none in time."""
        message = self.receive_or_none(limit_s)
        assert message is not None, "no answer in time"
        return message

    def receive_or_none(self, limit_s: float) -> Message | None:
        """The next message, None when there is none in time."""
        frames = self.dealer.recv()
        if frames is None and self._poller.wait(limit_s):
            frames = self.dealer.recv()
        return None if frames is None else from_frames(frames)[0]

    def ask(self, message: Message) -> Message:
        """Send a message and hear the answer."""
        self.send(to_frames(message))
        return self.receive()


@contextlib.contextmanager
def asker(address: str) -> Iterator[Asker]:
    """A connected client."""
    with Context() as context:
        client = Asker(context, address)
        try:
            yield client
        finally:
            client.dealer.close()


def numbered(observation: Observation, count: int) -> list[Observation]:
    """The same observation for requests 0..count-1."""
    return [msgspec.structs.replace(observation, request_id=request_id) for request_id in range(count)]
