"""What the runtime adds: a live request's p50 at several cuts against the sum of its parts measured alone.

Parts: ONNX Runtime on the same segments (one process, no sockets) + a raw ZeroMQ round trip of the same bytes
for every hop.  Emulation is off.  All are measured in turn, round by round, in one run, and the parts twice: in a tight loop,
and a millisecond apart, as a request's are while other nodes have it (a host's caches are colder then).
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.echo import Echo
from runtime.codec import to_frames
from runtime.inference.engine import Engine
from runtime.launch import launch_nodes
from runtime.messages import TIERS, Decision, Result, Span, Submit, Work
from runtime.models.build import ensure_model
from runtime.models.examples import load_examples
from runtime.session import Session
from runtime.topology import Topology
from runtime.transport import Context

ROUNDS, REPEATS = 8, 40
PAUSE_S = 1e-3
CASES = [
    *(("fp32", cuts, 2) for cuts in ((7, 7), (0, 7), (3, 7), (0, 0), (2, 5))),
    *(("int8", cuts, 2) for cuts in ((3, 7), (2, 5))),
]


def sizes(message: object, tensors: list[np.ndarray]) -> list[int]:
    return [len(frame) for frame in to_frames(message, tensors)]  # type: ignore[arg-type]


class Parts:
    """One decision's parts: segments to run, and the hops' frames."""

    def __init__(self, engine: Engine, decision: Decision, image: np.ndarray) -> None:
        manifest = engine.manifest
        self.engine, self.decision = engine, decision
        self.segments = []
        self.hops = [sizes(Submit(request_id=1 << 40, model=decision.model, deadline_s=1.0, decision=decision), [image])]
        tensors = [image]
        for tier in TIERS:
            start, stop = manifest.stage_range(decision, tier)
            if tier != "device" and start < manifest.end(decision):
                self.hops.append(sizes(Work(request_id=1 << 40, decision=decision, stage=start, budget_s=1.0), tensors))
            if start < stop:
                exit = decision.exit if stop == manifest.end(decision) else None
                self.segments.append((start, stop, exit, tensors))
                tensors = engine.run(decision.variant, start, stop, exit, tensors)

    def compute_p50_s(self, pause_s: float = 0.0) -> float:
        times = []
        for _ in range(REPEATS):
            if pause_s:
                time.sleep(pause_s)
            start_s = time.perf_counter()
            for start, stop, exit, tensors in self.segments:
                self.engine.run(self.decision.variant, start, stop, exit, tensors)
            times.append(time.perf_counter() - start_s)
        return statistics.median(times)


def cells(live: list[float], parts: list[tuple[float, float]]) -> str:
    """Compute and echoes in milliseconds, and the ratio of a request to both: medians over rounds."""
    compute, echoes = (statistics.median(values) * 1e3 for values in zip(*parts, strict=True))
    ratio = statistics.median(whole / sum(both) for whole, both in zip(live, parts, strict=True))
    return f"{compute:>10.3f}{echoes:>10.3f}{ratio:>8.2f}"


def main() -> None:
    model_dir: Path = ensure_model("digits-cnn")
    engine = Engine(model_dir)
    engine.preload()
    image = load_examples(model_dir, "test").images[0]
    reply = sum(sizes(Result(request_id=1 << 40, exit=2, spans=(Span(), Span())), [np.zeros((1, 10), np.float32)]))
    print("Overhead of the runtime: live p50 / (ONNX Runtime alone + raw ZeroMQ round trips), emulation off")
    print(f"{'':<39}{'in a loop':>28}{f'{PAUSE_S * 1e3:g} ms apart':>28}")
    parts_of = f"{'compute':>10}{'echoes':>10}{'ratio':>8}"
    print(f"{'decision':<24}{'hops':>5}{'live ms':>10}{parts_of}{parts_of}")
    with (
        launch_nodes(Topology(), model_dir) as nodes,
        Context() as context,
        Session(context, nodes.device_address) as session,
        Echo(reply) as echo,
    ):
        for variant, cuts, exit in CASES:
            decision = Decision(model="digits-cnn", variant=variant, cuts=cuts, exit=exit)
            parts = Parts(engine, decision, image)
            live, loop, apart = [], [], []
            for _ in range(ROUNDS):
                times = []
                for _ in range(REPEATS):
                    start_s = time.perf_counter()
                    outcome = session.infer("digits-cnn", image, 5.0, decision)
                    times.append(time.perf_counter() - start_s)
                    assert outcome.status == "ok", outcome
                live.append(statistics.median(times))
                loop.append((parts.compute_p50_s(), sum(echo.p50_s(hop, REPEATS) for hop in parts.hops)))
                apart.append((parts.compute_p50_s(PAUSE_S), sum(echo.p50_s(hop, REPEATS, PAUSE_S) for hop in parts.hops)))
            row = f"{decision.label():<24}{len(parts.hops):>5}{statistics.median(live) * 1e3:>10.3f}"
            print(row + cells(live, loop) + cells(live, apart), flush=True)


if __name__ == "__main__":
    main()
