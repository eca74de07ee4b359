"""The floor: a raw ZeroMQ round trip of given sizes, as its own process."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import zmq


class Echo:
    """A peer process that answers every message with `reply_bytes`; ends with the `with` block."""

    def __init__(self, reply_bytes: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.echo", str(reply_bytes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(self._process.stdout.readline().strip())

    def round_trips_s(self, sizes: list[int], repeats: int, pause_s: float = 0.0) -> list[float]:
        """Seconds of each round trip of a message with frames of these sizes, `pause_s` apart.

        On a virtual machine an idle processor takes long to wake: a peer that was idle for a millisecond
        answers several times later than one in a tight loop.
        """
        frames = [bytes(size) for size in sizes]
        times = []
        for _ in range(repeats):
            if pause_s:
                time.sleep(pause_s)
            start = time.perf_counter()
            self._socket.send_multipart(frames)
            self._socket.recv_multipart()
            times.append(time.perf_counter() - start)
        return times

    def p50_s(self, sizes: list[int], repeats: int = 200, pause_s: float = 0.0) -> float:
        """Median round trip."""
        return statistics.median(self.round_trips_s(sizes, repeats, pause_s))

    def __enter__(self) -> Echo:
        self.round_trips_s([64], 20)
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close(0)
        self._context.term()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def serve(reply_bytes: int) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind("tcp://127.0.0.1:*")
        print(router.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"), flush=True)
        reply = bytes(reply_bytes)
        while True:
            peer = router.recv_multipart()[0]
            router.send_multipart([peer, reply])


if __name__ == "__main__":
    serve(int(sys.argv[1]))
