"""What is lost by choosing among at most 64 decisions in place of the full product: cuts x exits x variants x codecs.

Regret of a catalogue in one state is (best cost in it - best cost of all) / best cost of all.  States are drawn at random and
fresh, none of them had a part in choosing: link rates and delays, queues, reports' ages, deadlines, and objectives with their
weights scaled and with prices on seconds of the device, the uplink and the edge (envs/catalogue.py).  `shipped` is the profile
that comes with drlctl; `codecs` and `rich` have more than was measured, SYNTHETIC codecs and variants made of its stages.
"""

from __future__ import annotations

import time

import msgspec
import numpy as np

from envs.catalogue import MAX_DECISIONS, build_catalogue, regret
from envs.costs import CostModel, build_cost_model
from envs.make import shipped_profile
from envs.scenario import NO_TECHNIQUES, Techniques, load_scenario
from runtime.messages import TIERS
from runtime.profile import CodecProfile, Profile, VariantProfile

SCENARIO = "congested"
LIMITS = (8, 16, 32, MAX_DECISIONS)
SAMPLES, SEED, FRESH_SEED = 10_000, 0, 77
BOUND = 0.005
"""Largest mean regret that the catalogue of 64 may have."""
VARIANTS = {"pruned": (0.55, 0.015), "slim": (0.30, 0.025), "lowres": (0.28, 0.040)}
"""SYNTHETIC variant -> (share of fp32's seconds and bytes, share of right answers that become wrong)."""
CODECS = {"fp16": (0.50, 1e-4, 0.0), "int8": (0.25, 2e-4, 0.004), "int8+zstd": (0.15, 6e-4, 0.004), "identity+lz4": (0.80, 3e-4, 0.0)}
"""SYNTHETIC codec -> (share of the bytes, seconds of the device to encode 10 kB, share of right answers that become wrong)."""
LEAVING = (0.5, 0.3, 0.2)
"""SYNTHETIC share of the examples that is sure at each exit."""


def with_variants(profile: Profile, rng: np.random.Generator) -> Profile:
    """The profile with smaller variants made of fp32's figures."""
    whole = profile.variants["fp32"]
    return msgspec.structs.replace(
        profile, variants=profile.variants | {name: _smaller(whole, *figures, rng) for name, figures in VARIANTS.items()}
    )


def with_codecs(profile: Profile, rng: np.random.Generator) -> Profile:
    """The profile with codecs on every variant, and with exits at which examples leave."""
    variants = {}
    for name, info in profile.variants.items():
        codecs = {codec: _codec(profile, info, *figures, rng) for codec, figures in CODECS.items()}
        taken = {split: "".join(rng.choice(list("012"), len(lines[0]), p=LEAVING)) for split, lines in info.correct.items()}
        variants[name] = msgspec.structs.replace(info, codecs=codecs, exit_taken=taken)
    return msgspec.structs.replace(profile, variants=variants)


def main() -> None:
    profile, rng = shipped_profile("digits-cnn"), np.random.default_rng(SEED)
    techniques = Techniques(codecs=("identity", *CODECS), early_exit=True)
    cases = (
        ("shipped", profile, NO_TECHNIQUES),
        ("codecs", with_codecs(profile, rng), techniques),
        ("rich", with_codecs(with_variants(profile, rng), rng), techniques),
    )
    print(f"Regret of the catalogue against every legal decision, {SAMPLES} fresh states, scenario {SCENARIO}")
    print(f"{'profile':<10}{'legal':>7}{'members':>9}{'mean':>10}{'worst':>10}{'seconds':>10}")
    scenario = load_scenario(SCENARIO)
    for name, used, allowed in cases:
        cost_model = build_cost_model(used, msgspec.structs.replace(scenario, techniques=allowed))
        for limit in LIMITS:
            mean = _report(name, cost_model, limit)
        print(f"{name}: at most {MAX_DECISIONS}: mean regret {mean:.3%}, {'within' if mean <= BOUND else 'ABOVE'} {BOUND:.1%}", flush=True)


def _report(name: str, cost_model: CostModel, limit: int) -> float:
    started_at_s = time.perf_counter()
    catalogue = build_catalogue(cost_model, limit, SAMPLES, SEED)
    seconds = time.perf_counter() - started_at_s
    members = [cost_model.find(decision) for decision in catalogue.decisions]
    mean, worst = regret(cost_model, members, SAMPLES, FRESH_SEED)
    print(f"{name:<10}{catalogue.num_legal:>7}{len(members):>9}{mean:>10.3%}{worst:>10.2%}{seconds:>10.1f}", flush=True)
    return mean


def _smaller(info: VariantProfile, share: float, broken: float, rng: np.random.Generator) -> VariantProfile:
    correct = {split: tuple(_break(bits, broken, rng) for bits in lines) for split, lines in info.correct.items()}
    return msgspec.structs.replace(
        info,
        stage_s={tier: tuple(share * stage_s for stage_s in info.stage_s[tier]) for tier in TIERS},
        cut_bytes=(info.cut_bytes[0], *(round(share * size) for size in info.cut_bytes[1:])),
        correct=correct,
        accuracy={split: tuple(bits.count("1") / len(bits) for bits in lines) for split, lines in correct.items()},
        size_bytes=round(share * info.size_bytes),
    )


def _codec(profile: Profile, info: VariantProfile, share: float, device_s: float, broken: float, rng: np.random.Generator) -> CodecProfile:
    """Bytes of every cut by its share; seconds by its bytes, on each tier as fast as the tier is."""
    fp32 = profile.variants["fp32"].stage_s
    speeds = {tier: sum(fp32["device"]) / sum(fp32[tier]) for tier in TIERS}
    seconds = {tier: tuple(device_s / speeds[tier] * size / 1e4 for size in info.cut_bytes) for tier in TIERS}
    correct = {}
    if broken:
        cuts = range(len(info.cut_bytes))
        correct = {split: tuple(tuple(_break(bits, broken, rng) for bits in lines) for _ in cuts) for split, lines in info.correct.items()}
    return CodecProfile(
        cut_bytes=tuple(round(share * size) for size in info.cut_bytes), encode_s=seconds, decode_s=seconds, correct=correct
    )


def _break(bits: str, share: float, rng: np.random.Generator) -> str:
    return "".join("0" if wrong else bit for bit, wrong in zip(bits, rng.random(len(bits)) < share, strict=True))
