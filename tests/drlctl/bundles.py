"""Hand-made bundles: a real cost model of a made-up profile, and random weights."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import msgspec
import numpy as np

from agents.bundle import TAU_PREFIX, Bundle, BundleManifest, Provenance
from agents.network import NetworkShape
from envs.catalogue import decisions_digest
from envs.costs import CostModel, build_cost_model
from envs.features import MYOPIC_INDEX, candidate_fields, schema_of, state_size
from envs.job_features import PRIOR_INDEX, TAU_FIELDS
from tests.envs.profiles import make_profile, make_scenario

HIDDEN_SIZE = 32
NUM_DECISIONS = 64


@lru_cache
def make_cost_model(model: str = "digits-cnn") -> CostModel:
    """64 decisions spread over all legal ones, device-only of the full model among them."""
    scenario = msgspec.structs.replace(make_scenario(), model=model)
    every = build_cost_model(make_profile(scenario), scenario)
    stays = [decision for decision, num_bytes in zip(every.decisions, every.uplink_bytes, strict=True) if num_bytes == 0]
    leaves = [decision for decision in every.decisions if decision not in stays]
    picked = np.linspace(0, len(leaves) - 1, NUM_DECISIONS - len(stays)).astype(int)
    return every.restrict([*stays, *(leaves[index] for index in picked)])


def make_bundle(seed: int = 0, cost_model: CostModel | None = None, scale: float = 0.1) -> Bundle:
    """A bundle whose weights are random, `scale` in size; the digests are for `save_bundle` to fill in."""
    cost_model = cost_model or make_cost_model()
    shape = NetworkShape(
        state_size=state_size(cost_model),
        candidate_size=len(candidate_fields(cost_model)),
        hidden_size=HIDDEN_SIZE,
        myopic_index=MYOPIC_INDEX,
    )
    of_taus = None
    if cost_model.job is not None:
        of_taus = msgspec.structs.replace(shape, candidate_size=len(TAU_FIELDS), myopic_index=PRIOR_INDEX)
    sizes = shape.tensor_shapes()
    if of_taus is not None:
        sizes |= {TAU_PREFIX + name: size for name, size in of_taus.tensor_shapes().items()}
    rng = np.random.default_rng(seed)
    arrays = {name: (scale * rng.standard_normal(size)).astype(np.float32) for name, size in sizes.items()}
    arrays |= {name: np.full((), 10.0, np.float32) for name in sizes if name.endswith("kappa")}
    manifest = BundleManifest(
        algorithm="ppo",
        network=shape,
        tau_network=of_taus,
        feature_schema=schema_of(cost_model),
        catalogue_digest=decisions_digest(cost_model.decisions),
        cost_model=cost_model,
        weights_sha256=hashlib.sha256(b"").hexdigest(),
        provenance=Provenance(scenario="congested", seed=seed, timesteps=0, profile_digest="", created_at="2026-01-01T00:00:00+00:00"),
    )
    return Bundle(manifest=manifest, arrays=arrays)
