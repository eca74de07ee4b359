"""Bundles with random weights, and observations recorded in the simulator, for tests."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from agents.bundle import Bundle, BundleManifest, Provenance
from agents.network import NetworkShape
from envs.catalogue import build_catalogue, decisions_digest
from envs.costs import CostModel, build_cost_model
from envs.features import CANDIDATE_FIELDS, MYOPIC_INDEX, SCHEMA, STATE_FIELDS
from envs.sim import VectorSim
from runtime.messages import Observation
from tests.envs.profiles import make_profile, make_scenario


@lru_cache(maxsize=1)
def cost_models() -> tuple[CostModel, CostModel]:
    """Of all legal decisions, and of the catalogue's."""
    scenario = make_scenario()
    everything = build_cost_model(make_profile(scenario), scenario)
    return everything, everything.restrict(build_catalogue(everything, samples=2000).decisions)


def make_bundle(seed: int = 0, hidden_size: int = 32) -> Bundle:
    """Valid but for its digests, which `save_bundle` fills in; the weights are noise, large enough to overrule greedy."""
    _, cost_model = cost_models()
    shape = NetworkShape(
        state_size=len(STATE_FIELDS), candidate_size=len(CANDIDATE_FIELDS), hidden_size=hidden_size, myopic_index=MYOPIC_INDEX
    )
    rng = np.random.default_rng(seed)
    arrays = {name: rng.standard_normal(size).astype(np.float32) for name, size in shape.tensor_shapes().items()}
    arrays["kappa"] = np.array(2.0, dtype=np.float32)
    manifest = BundleManifest(
        algorithm="ppo",
        network=shape,
        feature_schema=SCHEMA,
        catalogue_digest=decisions_digest(cost_model.decisions),
        cost_model=cost_model,
        provenance=Provenance(
            scenario="congested", seed=seed, timesteps=0, profile_digest="0" * 64, created_at="2026-01-01T00:00:00+00:00"
        ),
    )
    return Bundle(manifest=manifest, arrays=arrays)


def record_observations(num: int, seed: int = 0, num_envs: int = 50) -> list[Observation]:
    """What devices of the simulator observed while they decided at random."""
    _, cost_model = cost_models()
    scenario = make_scenario()
    sim = VectorSim(scenario, make_profile(scenario), num_envs, decisions=cost_model.decisions, pool_size=num_envs)
    rng = np.random.default_rng(seed)
    raw = sim.reset(np.arange(seed, seed + num_envs))
    observations: list[Observation] = []
    while len(observations) < num:
        at_s = sim.at_s.copy()
        observations += [
            raw.to_observation(index, request_id=len(observations) + index, model=cost_model.model, at_s=float(at_s[index]))
            for index in range(num_envs)
        ]
        raw = sim.step(rng.integers(cost_model.num_decisions, size=num_envs)).raw
    return observations[:num]
