"""What waiting for models costs, live and as the event simulator predicts it, on a node that has room for one variant only.

An edge that begins with nothing, far from the cloud that has the files (EMULATED links), is asked for two variants in turn:
the first request of each waits until its files have come and are loaded, the others until their variant is loaded in place of
the other, and, where requests come sooner than that, for each other.  How long loading takes is measured on this machine
first (`runtime/load_profiler.py`); both play the same requests.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from envs.live import launch_live
from envs.make import shipped_profile
from envs.scenario import Scenario, load_scenario
from envs.simulators import simulated_system
from envs.system import Step, System
from envs.workload import BackgroundConfig, WorkloadConfig
from runtime.host import StealMeter
from runtime.load_profiler import measure_loading
from runtime.messages import Decision, Outcome
from runtime.models.build import ensure_model
from runtime.models.manifest import load_manifest
from runtime.models.pieces import pieces_of
from runtime.protocol.residency import Residency
from runtime.rates import ConstantRate
from runtime.topology import LinkConfig

MODEL = "digits-cnn"
VARIANTS = ("fp32", "int8")
RATE = ConstantRate(bytes_per_s=4e6)
LINK = LinkConfig(rate=RATE, down_rate=RATE, delay_s=0.002)
NUM_REQUESTS, DEADLINE_S, SEED = 24, 10.0, 5
RATES_PER_S = (1.0, 3.0, 6.0)


class Played(NamedTuple):
    """A request of an episode: when it asked, seconds, and what became of it."""

    at_s: float
    outcome: Outcome


def alternating(num_stages: int, request_id: int) -> Decision:
    """The variants in turn, whole at the edge."""
    return Decision(model=MODEL, variant=VARIANTS[request_id % len(VARIANTS)], cuts=(0, num_stages), exit=2)


def cold_and_tight(model_dir: Path, rate_per_s: float, num_requests: int) -> Scenario:
    """An edge with nothing but room for one variant, behind `LINK` to the cloud."""
    manifest, scenario = load_manifest(model_dir), load_scenario("calm")
    chosen = [alternating(manifest.num_stages, each) for each in range(len(VARIANTS))]
    alone = Residency([manifest], None)
    topology = msgspec.structs.replace(
        scenario.topology,
        edge=msgspec.structs.replace(
            scenario.topology.edge, model_memory_bytes=max(alone.needed_bytes(pieces_of(manifest, each, "edge")) for each in chosen)
        ),
        uplink=LINK,
        wan=LINK,
        distribute=True,
        decision_budget_s=DEADLINE_S / 4,  # nothing is decided by anybody else
    )
    workload = WorkloadConfig(num_requests=num_requests, rate_per_s=rate_per_s, burst_rate_per_s=rate_per_s, deadline_s=DEADLINE_S)
    return msgspec.structs.replace(scenario, topology=topology, workload=workload, background=BackgroundConfig())


def play(system: System, num_stages: int, seed: int) -> list[Played]:
    """An episode, by request; its requests ask for the variants in turn."""
    step: Step = system.reset(seed)
    at_s, outcomes = {}, list(step.outcomes)
    while step.observation is not None:
        request_id = step.observation.request_id
        at_s[request_id] = step.observation.at_s
        step = system.execute(alternating(num_stages, request_id))
        outcomes += step.outcomes
    return [Played(at_s[outcome.request_id], outcome) for outcome in sorted(outcomes, key=lambda each: each.request_id)]


def _line(played: list[Played]) -> str:
    """Medians, ms: of the wait for the first of each variant, of the wait of the others that loaded, of all latencies."""
    waits_s = [each.outcome.breakdown.load_s[1] for each in played]
    fetched_s, loaded_s = waits_s[: len(VARIANTS)], [wait_s for wait_s in waits_s[len(VARIANTS) :] if wait_s > 0]
    latency_s = float(np.median([each.outcome.latency_s for each in played]))
    found = len(waits_s) - len(fetched_s) - len(loaded_s)
    ends = sum(each.outcome.status != "ok" for each in played)
    return (
        f"{np.mean(fetched_s) * 1e3:>10.0f}{np.median(loaded_s) * 1e3 if loaded_s else 0.0:>10.0f}"
        f"{found:>8}{latency_s * 1e3:>12.0f}{ends:>8}"
    )


def main() -> None:
    directory = ensure_model(MODEL)
    num_stages = load_manifest(directory).num_stages
    profile = msgspec.structs.replace(shipped_profile(MODEL), loading=measure_loading(directory))
    print(
        f"{NUM_REQUESTS} requests, {' and '.join(VARIANTS)} in turn, edge with room for one, files come over an EMULATED link of 4 MB/s; ms"
    )
    print(f"{'requests/s':<12}{'':<12}{'fetch':>10}{'load':>10}{'found':>8}{'median':>12}{'failed':>8}")
    for rate_per_s in RATES_PER_S:
        scenario, meter = cold_and_tight(directory, rate_per_s, NUM_REQUESTS), StealMeter()
        with launch_live(scenario, profile=profile) as system:
            print(f"{rate_per_s:<12g}{'live':<12}{_line(play(system, num_stages, SEED))}   host took {meter.fraction():.1%}", flush=True)
        simulated = simulated_system(scenario, profile, split="test")
        print(f"{rate_per_s:<12g}{'simulated':<12}{_line(play(simulated, num_stages, SEED))}", flush=True)
