"""What telling policies how hard each input is brings greedy, in simulation: off, on, and on if looking took no time.

Perfect foresight, which errs nowhere and takes no time, is what could be gained at most.

    make bench ARGS=difficulty                  # of the digits model
    python -m benchmarks.difficulty MODEL       # of any other model of pictures

Profiles are made of the model's own reference times and the scenario's slowdowns, nothing else is running.  Decisions are made
on what the validation split says and played on the test split; all play the same episodes.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import msgspec
import numpy as np

from agents.heldout import choose_greedily
from envs.catalogue import catalogued
from envs.features import Encoder
from envs.make import shipped_profile
from envs.scenario import Scenario, load_scenario
from envs.sim import VectorSim
from runtime.look_profiler import profile_difficulty
from runtime.messages import TIERS
from runtime.models.build import ensure_model
from runtime.models.examples import SPLITS, load_judgement
from runtime.models.manifest import Manifest, load_manifest
from runtime.profile import DifficultyProfile, Profile, VariantProfile, write_bits

NUM_EPISODES = 128
HEADER_BYTES = 300


def main() -> None:
    measure("digits-cnn")


def measure(model: str) -> None:
    directory = ensure_model(model)
    for name in ("congested", "calm"):
        scenario = msgspec.structs.replace(load_scenario(name), model=model)
        profile = modelled_profile(scenario, directory)
        assert profile.difficulty is not None
        foresight = msgspec.structs.replace(profile, difficulty=perfect(profile))
        free = msgspec.structs.replace(profile, difficulty=msgspec.structs.replace(profile.difficulty, look_s=0.0))
        costs = {
            "off": play(scenario, profile),
            "on": play(looking(scenario), profile),
            "on, looking free": play(looking(scenario), free),
            "perfect foresight": play(looking(scenario), foresight),
        }
        print(
            f"{model}, {name}: {NUM_EPISODES} episodes of {scenario.workload.num_requests} requests; 95 % intervals of paired differences"
        )
        for label, cost in costs.items():
            difference = cost - costs["off"]
            half = 1.96 * difference.std(ddof=1) / math.sqrt(NUM_EPISODES)
            print(f"  {label:18} cost {cost.mean():.4f}   against off {difference.mean():+.4f} +- {half:.4f}")


def looking(scenario: Scenario) -> Scenario:
    return msgspec.structs.replace(scenario, techniques=msgspec.structs.replace(scenario.techniques, difficulty=True))


def perfect(profile: Profile) -> DifficultyProfile:
    """Whether each exit errs on each example, known beforehand."""
    targets = tuple((name, exit) for name in profile.variants for exit in range(len(profile.exit_ends)))
    predicted = {
        split: tuple(
            "".join("000" if bit == "1" else "fff" for bit in profile.variants[name].correct[split][exit]) for name, exit in targets
        )
        for split in SPLITS
    }
    return DifficultyProfile(targets=targets, predicted=predicted)


def play(scenario: Scenario, profile: Profile) -> np.ndarray:
    """[episodes]: greedy's mean cost per request."""
    candidates = catalogued(scenario, profile)
    encoder = Encoder(candidates)
    sim = VectorSim(scenario, profile, NUM_EPISODES, split="test", decisions=candidates.decisions, pool_size=NUM_EPISODES)
    raw, total = sim.reset(np.arange(500_000, 500_000 + NUM_EPISODES)), np.zeros(NUM_EPISODES)
    for _ in range(sim.num_requests):
        step = sim.step(choose_greedily(encoder.encode(raw)))
        total -= step.reward / sim.num_requests
        raw = step.raw
    return total


def modelled_profile(scenario: Scenario, directory: Path) -> Profile:
    """Reference times slowed down as the scenario says, links as they are emulated, overheads of the shipped profile."""
    manifest, shipped = load_manifest(directory), shipped_profile("digits-cnn")
    slowdowns = {tier: scenario.topology.tier(tier).slowdown_for(manifest.full_reference_s) for tier in TIERS}
    difficulty = profile_difficulty(directory, slowdowns["device"])
    assert difficulty is not None
    print(f"looking at an input takes the device {1e3 * difficulty.look_s:.2f} ms; told are {difficulty.targets}")
    variants = {name: modelled_variant(manifest, directory, name, slowdowns) for name in manifest.variants}
    return msgspec.structs.replace(
        shipped, model=scenario.model, classes=manifest.classes, exit_ends=manifest.exit_ends, variants=variants, difficulty=difficulty
    )


def modelled_variant(manifest: Manifest, directory: Path, name: str, slowdowns: dict[str, float]) -> VariantProfile:
    info = manifest.variants[name]
    return VariantProfile(
        stage_s={tier: tuple(slowdown * seconds for seconds in info.stage_reference_s) for tier, slowdown in slowdowns.items()},
        head_s={tier: tuple(slowdown * seconds for seconds in info.head_reference_s) for tier, slowdown in slowdowns.items()},
        cut_bytes=tuple(info.cut_bytes(cut) + HEADER_BYTES for cut in range(manifest.num_stages + 1)),
        accuracy=info.accuracy,
        correct={split: write_bits(load_judgement(directory, split, name).correct) for split in SPLITS},
        leakage=(0.0,) * (manifest.num_stages + 1),
        size_bytes=info.size_bytes,
    )


if __name__ == "__main__":
    measure(sys.argv[1])
