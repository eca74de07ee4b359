"""What an overloaded edge's users gain when it may hand work to a neighbour: latency and missed deadlines, off and on.

Two edge nodes whose workers are EMULATED (the full model takes `JOB_S`, so that the host's own noise counts little) and
an EMULATED link between them.  One edge is asked for `BUSY_LOAD` of its worker's time, the other, by users of its own,
for `NEIGHBOUR_LOAD`; Poisson, over real sockets, open loop.  Two such pairs run, one hands over and one does not; each round plays
the same arrivals on both in turn.  Latency is of the busy edge's users, from the intended arrival until the answer; one
that is not answered counts with its deadline.  `its own` are the neighbour's users, who pay for it.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.codec import from_frames
from runtime.launch import launch_node
from runtime.messages import Decision, Failure, Result, Work
from runtime.models.build import ensure_model
from runtime.models.examples import load_examples
from runtime.models.manifest import load_manifest
from runtime.node import NodeConfig
from runtime.protocol.handover import HandoverConfig
from runtime.rates import ConstantRate
from runtime.session import Session
from runtime.topology import LinkConfig, TierConfig, Topology
from runtime.transport import Context, Poller

MODEL = "digits-cnn"
JOB_S, BUDGET_S = 0.02, 0.2
BUSY_LOAD, NEIGHBOUR_LOADS = 1.3, (0.0, 0.3, 0.6)
ROUND_S, ROUNDS = 6.0, 3
LINK = LinkConfig(rate=ConstantRate(bytes_per_s=12.5e6), down_rate=ConstantRate(bytes_per_s=12.5e6), delay_s=0.002)
SETTLE_S = 30.0


class Answers(NamedTuple):
    """What one round's users got: latency in seconds, the deadline for those not answered."""

    busy_s: list[float]
    neighbour_s: list[float]
    missed: int
    handed_over: int


@contextlib.contextmanager
def pair(directory: Path, handover: HandoverConfig | None, context: Context) -> Iterator[tuple[Session, Session]]:
    """Clients of a busy edge and of its neighbour."""
    topology = Topology(edge=TierConfig(full_model_s=JOB_S, handover=handover), num_edges=2, neighbour=LINK)

    def config(name: str, *neighbours: str) -> NodeConfig:
        models = (str(directory),)
        return NodeConfig(name=name, tier="edge", model_dirs=models, neighbours=neighbours, topology=topology, exit_with_parent=True)

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        neighbour = launch_node(config("edge-1"), folder)
        stack.callback(neighbour.stop)
        address = str(neighbour.ready["address"])
        busy = launch_node(config("edge", address), folder)
        stack.callback(busy.stop)
        sessions = [stack.enter_context(Session(context, str(place))) for place in (busy.ready["address"], address)]
        until_s = time.perf_counter() + SETTLE_S
        while not sessions[0].status().neighbours:
            if time.perf_counter() > until_s:
                raise TimeoutError(f"the edges do not know each other after {SETTLE_S:g} s")
        yield sessions[0], sessions[1]


def arrivals(neighbour_load: float, rng: np.random.Generator) -> list[tuple[float, int]]:
    """(instant, which edge) of every request in order of time."""
    schedule = []
    for edge, load in enumerate((BUSY_LOAD, neighbour_load)):
        number = rng.poisson(load * ROUND_S / JOB_S)
        schedule += [(float(at_s), edge) for at_s in rng.uniform(0, ROUND_S, number)]
    return sorted(schedule)


def play(
    sessions: tuple[Session, Session], schedule: list[tuple[float, int]], first_id: int, decision: Decision, image: np.ndarray
) -> Answers:
    """Every request at its time; until all have ended."""
    poller, zero_s = Poller([session.dealer for session in sessions]), time.perf_counter() + 0.1
    latency_s: dict[int, float] = {}
    num_sent = missed = handed = 0
    while len(latency_s) < len(schedule):
        while num_sent < len(schedule) and zero_s + schedule[num_sent][0] <= time.perf_counter():
            sessions[schedule[num_sent][1]].send(Work(request_id=first_id + num_sent, decision=decision, stage=0, budget_s=BUDGET_S), image)
            num_sent += 1
        rest_s = zero_s + schedule[num_sent][0] - time.perf_counter() if num_sent < len(schedule) else 1.0
        poller.wait(min(max(rest_s, 0.0), 1.0))
        for session in sessions:
            while (frames := session.dealer.recv()) is not None:
                message, _ = from_frames(frames)
                if not isinstance(message, Result | Failure):
                    continue
                at_s, edge = schedule[message.request_id - first_id]
                ok = isinstance(message, Result)
                latency_s[message.request_id - first_id] = time.perf_counter() - zero_s - at_s if ok else BUDGET_S
                missed += not ok and edge == 0
                handed += isinstance(message, Result) and edge == 0 and message.spans[0].handed_over
    busy, neighbour = ([latency_s[index] for index, (_, edge) in enumerate(schedule) if edge == which] for which in (0, 1))
    return Answers(busy, neighbour, missed, handed)


def main() -> None:
    directory = ensure_model(MODEL)
    manifest, image = load_manifest(directory), load_examples(directory, "test").images[0]
    decision = Decision(model=MODEL, variant="fp32", cuts=(0, manifest.num_stages), exit=len(manifest.exit_ends) - 1)
    print(f"An EMULATED edge worker ({JOB_S * 1e3:g} ms a job) asked for {BUSY_LOAD:.0%} of its time, deadline {BUDGET_S * 1e3:g} ms;")
    print(
        f"its neighbour over an EMULATED link of {LINK.delay_s * 1e3:g} ms and 100 Mbit/s has users of its own."
        f"  {ROUNDS} rounds of {ROUND_S:g} s"
    )
    print(f"{'neighbour load':<16}{'hand-over':>10}{'handed':>9}{'p50 ms':>9}{'p95 ms':>9}{'missed':>9}{'its own p50 ms':>16}{'p95 ms':>9}")
    with Context() as context, pair(directory, None, context) as off, pair(directory, HandoverConfig(), context) as on:
        first_id = 0
        for load in NEIGHBOUR_LOADS:
            rounds: dict[str, list[Answers]] = {"off": [], "on": []}
            for number in range(ROUNDS):
                schedule = arrivals(load, np.random.default_rng(number))
                for name, sessions in (("off", off), ("on", on)):
                    rounds[name].append(play(sessions, schedule, first_id, decision, image))
                    first_id += len(schedule)
            for name, played in rounds.items():
                print(_row(load, name, played), flush=True)


def _row(load: float, name: str, played: list[Answers]) -> str:
    busy_s = np.concatenate([answers.busy_s for answers in played])
    own_s = np.concatenate([answers.neighbour_s for answers in played])
    p50, p95 = np.percentile(busy_s, [50, 95]) * 1e3
    cells = f"{p50:>9.1f}{p95:>9.1f}{sum(answers.missed for answers in played) / len(busy_s):>9.1%}"
    own = "{:>16.1f}{:>9.1f}".format(*np.percentile(own_s, [50, 95]) * 1e3) if len(own_s) else f"{'-':>16}{'-':>9}"
    return f"{load:<16.0%}{name:>10}{sum(answers.handed_over for answers in played) / len(busy_s):>9.1%}{cells}{own}"


if __name__ == "__main__":
    main()
