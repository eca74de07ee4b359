"""Hand-made profiles and observations for tests: plausible numbers, nothing measured."""

from __future__ import annotations

import msgspec
import numpy as np

from envs.reward import Objective
from envs.scenario import Scenario, Techniques, load_scenario
from envs.workload import WorkloadConfig
from runtime.energy import ComputePower, RadioPower
from runtime.inference.difficulty import to_levels
from runtime.loading_profile import LoadingProfile, VariantLoading
from runtime.messages import LinkView, NodeView, Observation
from runtime.profile import CodecProfile, DifficultyProfile, LinkProfile, Overheads, Profile, VariantProfile, write_levels
from runtime.rates import ConstantRate
from runtime.topology import LinkConfig, Topology

HEADER_BYTES = 300
NUM_EXAMPLES = 200
DEVICE_STAGE_S = (0.012, 0.010, 0.008, 0.009, 0.006, 0.005, 0.004)
"""fp32 on the device; int8 takes half, the edge a sixth, the cloud a twentieth."""
HEAD_S = 0.001
FP32_CUT_BYTES = (65536, 32768, 12288, 16384, 6144, 6144, 8192)
"""Payload of cuts 1..7; int8 is a quarter; cut 0 is a 64x64 picture in both."""
LEAKAGE = (1.0, 0.9, 0.8, 0.7, 0.55, 0.5, 0.45, 0.4)
EXIT_ENDS = (3, 5, 7)
FP32_ACCURACY = (0.86, 0.93, 0.97)
INT8_ACCURACY = (0.85, 0.92, 0.96)
GRAPH_BYTES, WEIGHTS_BYTES = 20_000, 150_000
"""Of `with_loading`'s fp32 files."""
TECHNIQUES = Techniques(codecs=("identity", "int8+zstd", "identity+lz4"), early_exit=True)
"""What `make_rich_profile` was measured for."""
DIFFICULTY_TARGETS = (("fp32", 0), ("fp32", 2), ("int8", 0), ("int8", 1))
"""What `with_difficulty` is of: not of every exit."""
_SPEED = {"device": 1.0, "edge": 6.0, "cloud": 20.0}


def make_scenario() -> Scenario:
    """The shipped scenario `congested`."""
    return load_scenario("congested")


def make_fixed_scenario() -> Scenario:
    """A scenario whose every number that predictions depend on is written here, whatever is shipped."""
    return Scenario(
        name="fixed",
        topology=Topology(
            uplink=LinkConfig(down_rate=ConstantRate(bytes_per_s=2_500_000)),
            wan=LinkConfig(down_rate=ConstantRate(bytes_per_s=12_500_000)),
            compute_power=ComputePower(busy_watts=7.3, idle_watts=2.56),
            radio_power=RadioPower(slope_watts_per_byte_per_s=438.39e-3 * 8 / 1e6, base_watts=1.28804),
        ),
        workload=WorkloadConfig(deadline_s=0.3),
        objective=Objective(latency_per_s=4.0, miss=1.0, error=2.0, energy_per_joule=0.2),
    )


def make_profile(scenario: Scenario | None = None) -> Profile:
    """S=7 stages, exits after 3, 5 and 7, variants fp32 and int8, made for `scenario` (default: congested)."""
    scenario = scenario or make_scenario()
    return Profile(
        model=scenario.model,
        scenario=scenario.name,
        scenario_digest=scenario.topology_digest(),
        measured_on="nowhere, made by hand",
        measured_at="2026-01-01T00:00:00+00:00",
        classes=tuple(str(digit) for digit in range(10)),
        exit_ends=EXIT_ENDS,
        variants={
            "fp32": _variant(DEVICE_STAGE_S, HEAD_S, FP32_CUT_BYTES, FP32_ACCURACY, seed=1),
            "int8": _variant(_scaled(DEVICE_STAGE_S, 0.5), HEAD_S / 2, _quarter(FP32_CUT_BYTES), INT8_ACCURACY, seed=2),
        },
        result_bytes=HEADER_BYTES + 40,
        uplink=LinkProfile(rate_bytes_per_s=400_000.0, delay_s=0.010),
        wan=LinkProfile(rate_bytes_per_s=2_500_000.0, delay_s=0.0275),
        overheads=Overheads(base_s=0.002, uplink_s=0.001, wan_s=0.0015),
        memory_bytes={"device": 90_000_000, "edge": 100_000_000, "cloud": 110_000_000},
    )


def make_rich_profile(scenario: Scenario | None = None) -> Profile:
    """The same with two codecs, one of which loses something, and exits that examples leave at."""
    profile = make_profile(scenario)
    rng = np.random.default_rng(3)
    variants = {
        name: msgspec.structs.replace(
            info,
            codecs={"int8+zstd": _codec(info, 0.2, 1e-3, rng), "identity+lz4": _codec(info, 0.7, 5e-4, None)},
            exit_taken={split: "".join(rng.choice(list("012"), NUM_EXAMPLES, p=(0.5, 0.3, 0.2))) for split in ("validation", "test")},
        )
        for name, info in profile.variants.items()
    }
    return msgspec.structs.replace(profile, variants=variants)


def with_difficulty(profile: Profile, targets: tuple[tuple[str, int], ...] = DIFFICULTY_TARGETS) -> Profile:
    """The same with what a device tells of each example: exits err with log odds of their average, give or take 2."""
    rng = np.random.default_rng(4)
    predicted = {}
    for split in ("validation", "test"):
        error = np.array([1 - profile.variants[variant].accuracy[split][exit] for variant, exit in targets])[:, None]
        log_odds = np.log(error / (1 - error)) + rng.uniform(-2, 2, (len(targets), NUM_EXAMPLES))
        predicted[split] = write_levels(to_levels(1 / (1 + np.exp(-log_odds))))
    return msgspec.structs.replace(profile, difficulty=DifficultyProfile(targets=targets, predicted=predicted, look_s=0.0015))


def with_loading(profile: Profile) -> Profile:
    """The same with what loading takes: 40 ms for an fp32 variant's weights, 10 ms for each session and 5 ms for each of its stages.

    int8 has a quarter of the bytes and takes half the time.  Storing a file takes 2 ms and reading nothing.
    """
    bodies = [f"{start}-{stop}" for stop in range(1, profile.num_stages) for start in range(stop)]
    heads = [f"{start}-{end}x{exit}" for exit, end in enumerate(profile.exit_ends) for start in range(end + 1)]

    def files(share: float, seconds: float) -> VariantLoading:
        return VariantLoading(
            graph_bytes=dict.fromkeys([*bodies, *heads], int(GRAPH_BYTES * share)),
            weights_bytes=int(WEIGHTS_BYTES * share),
            session_s=0.010 * seconds,
            stage_s=(0.005 * seconds,) * profile.num_stages,
            weights_s=0.040 * seconds,
        )

    variants = {"fp32": files(1.0, 1.0), "int8": files(0.25, 0.5)}
    loading = LoadingProfile(variants=variants, keep_s=0.002, keep_s_per_byte=0.0, read_s_per_byte=0.0)
    return msgspec.structs.replace(profile, loading=loading)


def looking(scenario: Scenario) -> Scenario:
    """The scenario with inputs looked at for their difficulty."""
    return msgspec.structs.replace(scenario, techniques=msgspec.structs.replace(scenario.techniques, difficulty=True))


def _codec(info: VariantProfile, factor: float, device_s: float, rng: np.random.Generator | None) -> CodecProfile:
    """A codec that leaves `factor` of the bytes; one that takes a generator breaks answers."""
    num_cuts = len(info.cut_bytes)

    def broken(bits: str) -> str:
        assert rng is not None
        return "".join("0" if rng.random() < 0.1 else bit for bit in bits)

    correct = {}
    if rng is not None:
        correct = {split: tuple(tuple(broken(bits) for bits in lines) for _ in range(num_cuts)) for split, lines in info.correct.items()}
    return CodecProfile(
        cut_bytes=tuple(HEADER_BYTES + int((size - HEADER_BYTES) * factor) for size in info.cut_bytes),
        encode_s={tier: tuple(device_s * (1 + cut) / speed for cut in range(num_cuts)) for tier, speed in _SPEED.items()},
        decode_s={tier: tuple(device_s * (2 + cut) / (3 * speed) for cut in range(num_cuts)) for tier, speed in _SPEED.items()},
        correct=correct,
    )


def make_deep_profile(num_stages: int, scenario: Scenario | None = None) -> Profile:
    """One exit and `num_stages` equal stages: many legal decisions."""
    profile = make_profile(scenario)
    rng = np.random.default_rng(num_stages)
    stage_s = tuple((rng.uniform(0.5, 1.5, num_stages) * 0.06 / num_stages).tolist())
    cuts = tuple(int(size) for size in np.geomspace(131072, 4096, num_stages) * rng.uniform(0.5, 2.0, num_stages))
    leakage = tuple(np.linspace(1.0, 0.3, num_stages + 1).tolist())
    variants = {
        "fp32": _variant(stage_s, HEAD_S, cuts, (0.97,), seed=1, leakage=leakage),
        "int8": _variant(_scaled(stage_s, 0.5), HEAD_S / 2, _quarter(cuts), (0.96,), seed=2, leakage=leakage),
    }
    return msgspec.structs.replace(profile, exit_ends=(num_stages,), variants=variants)


def make_observation(**changes: object) -> Observation:
    """An idle system with fresh reports; name any field, or `node.field` / `link.field` with `__`, to change it.

    For example `make_observation(edge__backlog_s=0.1, uplink__rate_bytes_per_s=1e5, deadline_s=0.2)`.
    """
    nodes = {tier: {"backlog_s": 0.0, "num_waiting": 0, "num_own": 0, "age_s": 0.0, "reachable": True} for tier in _SPEED}
    links = {
        "uplink": {"rate_bytes_per_s": 400_000.0, "delay_s": 0.010, "outstanding_bytes": 0.0, "age_s": 0.0},
        "wan": {"rate_bytes_per_s": 2_500_000.0, "delay_s": 0.0275, "outstanding_bytes": 0.0, "age_s": 0.0},
    }
    top: dict[str, object] = {
        "request_id": 1,
        "model": "digits-cnn",
        "at_s": 0.0,
        "deadline_s": 0.3,
        "num_in_flight": 0,
        "arrival_rate_per_s": 15.0,
        "difficulty": (),
        "job": None,
    }
    for name, value in changes.items():
        place, _, field = name.partition("__")
        target: dict[str, object] = (nodes.get(place) or links.get(place) or {}) if field else top  # type: ignore[assignment]
        if (field or name) not in target:
            raise TypeError(f"an observation has no {name!r}")
        target[field or name] = value
    top["nodes"] = tuple(msgspec.convert(node, NodeView) for node in nodes.values())
    top["links"] = tuple(msgspec.convert(link, LinkView) for link in links.values())
    return msgspec.convert(top, Observation, from_attributes=True)


def _variant(
    device_stage_s: tuple[float, ...],
    head_s: float,
    cut_bytes: tuple[int, ...],
    accuracy: tuple[float, ...],
    seed: int,
    leakage: tuple[float, ...] = LEAKAGE,
) -> VariantProfile:
    correct = {split: _correct(accuracy, [seed, index]) for index, split in enumerate(("validation", "test"))}
    return VariantProfile(
        stage_s={tier: _scaled(device_stage_s, 1 / speed) for tier, speed in _SPEED.items()},
        head_s={tier: (head_s / speed,) * len(accuracy) for tier, speed in _SPEED.items()},
        cut_bytes=(4096 + HEADER_BYTES, *(size + HEADER_BYTES for size in cut_bytes)),
        accuracy={split: tuple(bits.count("1") / NUM_EXAMPLES for bits in lines) for split, lines in correct.items()},
        correct=correct,
        leakage=leakage,
        size_bytes=4 * sum(cut_bytes),
    )


def _correct(accuracy: tuple[float, ...], seed: list[int]) -> tuple[str, ...]:
    """Per exit, exactly round(accuracy * NUM_EXAMPLES) right answers, in a shuffled order."""
    rng = np.random.default_rng(seed)
    lines = []
    for share in accuracy:
        bits = np.arange(NUM_EXAMPLES) < round(share * NUM_EXAMPLES)
        lines.append("".join("01"[bit] for bit in rng.permutation(bits).astype(int)))
    return tuple(lines)


def _scaled(values: tuple[float, ...], factor: float) -> tuple[float, ...]:
    return tuple(value * factor for value in values)


def _quarter(values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(value // 4 for value in values)
