"""What serving costs: requests per second of one edge node against ONNX Runtime called directly with the same batches.

`python -m benchmarks.throughput [MODEL ...]`; without, three of about a millisecond a request and one of three.
Live: a pipelined client in this process keeps `WINDOW` batches in flight, the node forms batches of what waits (nothing
is emulated).  Direct: `InferenceSession.run` on stacked pictures in a loop of this process, the node idle.
Both in turn, round by round; the ratio is the median of the rounds'.  `batch` is what the node formed on average.

The client and the node's threads share the host's cores.  Where those are short, the ratio of rates falls to the ratio
of processor time, and says more of the host than of the node; so the processor time is printed too: microseconds per
request of ONNX Runtime alone, of the node with all its threads, and of the client.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import psutil
from safetensors.numpy import load_file

from runtime.codec import from_frames, to_frames
from runtime.inference.batching import BatchingConfig
from runtime.launch import launch_node
from runtime.messages import Decision, Result, Work
from runtime.models.build import ensure_model
from runtime.models.examples import load_examples
from runtime.models.manifest import load_manifest, segment_key
from runtime.node import NodeConfig
from runtime.session import Session
from runtime.topology import TierConfig, Topology
from runtime.transport import Context, Poller

SIZES = (1, 2, 4, 8, 16)
WINDOW = 3
ROUNDS, ROUND_S = 5, 0.5
"""Each side has a round's time, roughly."""
MIN_BATCHES = 8
MODELS = ("digits-cnn", "alexnet", "resnet", "mobilenet")


class Client:
    """Sends work to a node, always so many requests ahead of the answers."""

    def __init__(self, session: Session, decision: Decision, images: np.ndarray) -> None:
        self._session, self._decision, self._images = session, decision, images
        self._ids = itertools.count(1)
        self._poller = Poller([session.dealer])
        self.batches: list[int] = []

    def requests_per_s(self, num_requests: int, ahead: int) -> float:
        """Closed loop: every answer is followed by the next request."""
        started_at_s = time.perf_counter()
        num_sent = num_done = 0
        while num_done < num_requests:
            while num_sent < num_requests and num_sent - num_done < ahead:
                self._send(num_sent)
                num_sent += 1
            frames = self._session.dealer.recv()
            if frames is None:
                self._poller.wait(1.0)
                continue
            message, _ = from_frames(frames)
            if isinstance(message, Result):
                self.batches.append(message.spans[0].batch)
                num_done += 1
        return num_requests / (time.perf_counter() - started_at_s)

    def _send(self, number: int) -> None:
        work = Work(request_id=next(self._ids), decision=self._decision, stage=0, budget_s=60.0)
        frames = to_frames(work, [self._images[number % len(self._images)]])
        while not self._session.dealer.send(frames):
            self._poller.wait(0.001)


def direct_session(directory: Path, variant: str) -> ort.InferenceSession:
    """The whole model, as a node's engine has it."""
    manifest = load_manifest(directory)
    info = manifest.variants[variant]
    file = info.segments[segment_key(0, manifest.num_stages, len(manifest.exit_ends) - 1)]
    arrays = load_file(directory / info.weights.path) if info.weights is not None else {}
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_external_initializers(list(file.weights), [ort.OrtValue.ortvalue_from_numpy(arrays[name]) for name in file.weights])
    return ort.InferenceSession((directory / file.path).read_bytes(), options, providers=["CPUExecutionProvider"])


def direct_per_s(session: ort.InferenceSession, batch: np.ndarray, num_requests: int) -> float:
    feed = {session.get_inputs()[0].name: batch}
    started_at_s = time.perf_counter()
    for _ in range(num_requests // len(batch)):
        session.run(None, feed)
    return num_requests / (time.perf_counter() - started_at_s)


def round_requests(per_s: float, size: int) -> int:
    """Whole batches for about `ROUND_S` at that rate."""
    return size * max(MIN_BATCHES, round(ROUND_S * per_s / size))


class Processors:
    """Processor seconds of this process and of a node, read together."""

    def __init__(self, pid: int) -> None:
        self._node = psutil.Process(pid)

    def read(self) -> np.ndarray:
        """[this process, the node]"""
        times = self._node.cpu_times()
        return np.array([time.process_time(), times.user + times.system])


def measure(directory: Path, variant: str, size: int, context: Context) -> tuple[np.ndarray, float]:
    """Medians of [live per s, direct per s, their ratio, processor us of direct, of the node, of the client]; the mean batch."""
    manifest = load_manifest(directory)
    end, exit = manifest.num_stages, len(manifest.exit_ends) - 1
    decision = Decision(model=manifest.model, variant=variant, cuts=(0, end), exit=exit)
    images = load_examples(directory, "test").images
    direct, batch = direct_session(directory, variant), np.concatenate(list(images[:size]))
    topology = Topology(edge=TierConfig(batching=BatchingConfig(max_batch=size)))
    config = NodeConfig(name="edge", tier="edge", model_dirs=(str(directory),), topology=topology, exit_with_parent=True)
    with tempfile.TemporaryDirectory() as folder:
        process = launch_node(config, Path(folder))
        try:
            with Session(context, str(process.ready["address"])) as session:
                session.status()
                client, processors = Client(session, decision, images), Processors(process.pid)
                direct_per_s(direct, batch, MIN_BATCHES * size)
                number = round_requests(direct_per_s(direct, batch, MIN_BATCHES * size), size)
                client.requests_per_s(number, WINDOW * size)
                client.batches.clear()
                rounds = []
                for _ in range(ROUNDS):
                    marks = [processors.read()]
                    live = client.requests_per_s(number, WINDOW * size)
                    marks.append(processors.read())
                    alone = direct_per_s(direct, batch, number)
                    marks.append(processors.read())
                    served, ran = np.diff(marks, axis=0) / number * 1e6
                    rounds.append([live, alone, live / alone, ran[0], served[1], served[0]])
        finally:
            process.stop()
    return np.median(rounds, axis=0), statistics.mean(client.batches)


def main(models: tuple[str, ...] = MODELS) -> None:
    print(f"Requests per second of one edge node / ONNX Runtime alone, {WINDOW} batches in flight, one thread computes")
    print(f"Load of this host's {os.cpu_count()} processors before: {os.getloadavg()[0]:.1f}")
    print(f"{'':<41}{'requests per s':>33}{'processor us per request':>33}")
    names = ("live", "direct", "ratio", "direct", "node", "client")
    print(f"{'model':<13}{'variant':<10}{'max_batch':>10}{'batch':>8}" + "".join(f"{name:>11}" for name in names))
    with Context() as context:
        for model in models:
            directory = ensure_model(model)
            for variant, size in itertools.product(load_manifest(directory).variants, SIZES):
                row, batch = measure(directory, variant, size, context)
                cells = "".join(f"{value:>11.2f}" if index == 2 else f"{value:>11.0f}" for index, value in enumerate(row))
                print(f"{model:<13}{variant:<10}{size:>10}{batch:>8.1f}{cells}", flush=True)


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or MODELS)
