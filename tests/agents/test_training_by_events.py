"""Training on a scenario that is simulated by events is training."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agents.bundle import load_bundle
from agents.runfolder import BUNDLE_NAME
from agents.training import train
from envs.not_modelled import by_events
from runtime.inference.batching import BatchingConfig
from tests.agents.bundles import cost_models
from tests.agents.scenarios import short_scenario
from tests.agents.test_training import SMALL_PPO
from tests.envs.profiles import make_profile


def test_ppo_learns_where_the_edge_forms_batches(tmp_path: Path) -> None:
    """It starts as greedy, keeps the best network, and leaves a bundle that loads."""
    scenario = short_scenario(20)
    edge = msgspec.structs.replace(scenario.topology.edge, batching=BatchingConfig(max_batch=4, fixed_fraction=0.5))
    batching = msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, edge=edge))
    assert by_events(batching)
    result = train(
        batching,
        make_profile(scenario),
        seed=1,
        timesteps=128,
        num_envs=4,
        out_dir=tmp_path,
        config=msgspec.structs.replace(SMALL_PPO, n_steps=16),
        decisions=cost_models()[1].decisions,
        num_evaluations=1,
        num_held_out=2,
    )
    assert load_bundle(tmp_path / BUNDLE_NAME).manifest == result.bundle.manifest
    assert [point.timesteps for point in result.curve] == [0, 128]
    assert result.gain_fraction >= 0
