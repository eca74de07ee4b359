"""The inference half of `drlctl levels`: the same pictures through every level's network and placement, in turns, on live nodes.

A request of each level follows the other, the first one taking turns, so that whatever the host does meanwhile falls on all alike.
Each waits for the one before: what is measured is a request alone, without queues.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from drlctl.output import Progress
from experiments.level_measures import Served
from experiments.levels import LEVELS, Level, Place, placement
from runtime.errors import SystemFailure
from runtime.inference.engine import Engine
from runtime.launch import RunningNodes, launch_nodes
from runtime.messages import TIERS, Decision, Outcome
from runtime.models.examples import Examples
from runtime.models.manifest import load_manifest
from runtime.models.played import load_played
from runtime.profiler import cut_leakage
from runtime.session import Session
from runtime.topology import Topology
from runtime.transport import Context

SPLIT = "test"
VARIANT = "fp32"
DEADLINE_S = 10.0
"""Of a request: latency is measured here, and no deadline is to hide it."""
MEET_S = 20.0
"""For the tiers to hear of each other."""
MEET_POLL_S = 0.1


class _Way(msgspec.Struct, frozen=True, kw_only=True):
    """How a level answers: with which network, placed how."""

    decision: Decision
    leakage: float


def serve_levels(
    topology: Topology, networks: Mapping[Place, tuple[Path, ...]], num_requests: int, seed: int, records: Path, progress: Progress
) -> dict[str, tuple[Served, ...]]:
    """Play `num_requests` pictures of the test split at every level; a line for each request goes to `records` as it ends.

    Where each device has a network of its own, requests go to one after the other.  Raises SystemFailure when a node does not start
    or the tiers do not meet, PeerLost when the device falls silent, InvalidModel for a network that cannot be cut, OSError.
    """
    progress("starting nodes to serve", 0.0)
    examples = load_played(networks["cloud"][0], SPLIT)
    chosen = np.random.default_rng(seed).permutation(np.resize(np.arange(len(examples.labels)), num_requests))
    ways = {level.key: _ways(level, networks, topology) for level in LEVELS}
    served: dict[str, list[Served]] = {level.key: [] for level in LEVELS}
    directories = dict.fromkeys(directory for group in networks.values() for directory in group)
    with launch_nodes(topology, *directories) as nodes, Context() as context, Session(context, nodes.device_address) as session:
        _meet(session, nodes)
        for level in LEVELS:
            for way in ways[level.key]:
                _ask(session, examples, 0, way.decision)  # the first of each only warms up
        with records.open("wb") as file:
            for request, example in enumerate(chosen.tolist()):
                progress(f"request {request + 1} of {num_requests} at every level", request / num_requests)
                for level in _in_turn(request):
                    way = ways[level.key][request % len(ways[level.key])]
                    one = _serve(session, examples, example, level.key, request, way)
                    served[level.key].append(one)
                    file.write(msgspec.json.encode(one) + b"\n")
                    file.flush()
    return {key: tuple(ones) for key, ones in served.items()}


def _in_turn(request: int) -> tuple[Level, ...]:
    first = request % len(LEVELS)
    return (*LEVELS[first:], *LEVELS[:first])


def _ways(level: Level, networks: Mapping[Place, tuple[Path, ...]], topology: Topology) -> list[_Way]:
    """One for each network that the level's training has left."""
    ways = []
    for directory in networks[level.training]:
        decision = placement(level.inference, load_manifest(directory), VARIANT, topology)
        ways.append(_Way(decision=decision, leakage=_leakage(directory, decision)))
    return ways


def _leakage(directory: Path, decision: Decision) -> float:
    """Of what leaves the device."""
    cut, engine = decision.cuts[0], Engine(directory)
    if cut >= engine.manifest.end(decision):
        return 0.0
    return 1.0 if cut == 0 else cut_leakage(engine, directory, decision.variant)[cut]


def _meet(session: Session, nodes: RunningNodes) -> None:
    """Wait until the device has heard of every tier above."""
    until_s = time.perf_counter() + MEET_S
    while len(session.status().telemetry) < len(TIERS):
        nodes.check()
        if time.perf_counter() > until_s:
            raise SystemFailure(f"device, edge and cloud did not hear of each other within {MEET_S:g} s")
        session.receive(MEET_POLL_S)


def _ask(session: Session, examples: Examples, example: int, decision: Decision) -> Outcome:
    return session.infer(decision.model, examples.images[example], DEADLINE_S, decision, fresh=True)


def _serve(session: Session, examples: Examples, example: int, level: str, request: int, way: _Way) -> Served:
    outcome = _ask(session, examples, example, way.decision)
    correct = outcome.prediction is not None and outcome.prediction == int(examples.labels[example])
    outcome = msgspec.structs.replace(outcome, correct=correct, leakage=way.leakage)
    return Served(level=level, request=request, example=example, correct=correct, leakage=way.leakage, outcome=outcome)
