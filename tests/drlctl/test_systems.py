"""What `drlctl node` makes of its options."""

from __future__ import annotations

from pathlib import Path

from drlctl.systems import node_config
from envs.scenario import load_scenario


def test_models_to_fetch_need_no_folder() -> None:
    """With names nothing is built or looked for here; with folders they are used; both may be."""
    scenario = load_scenario("calm")
    fetching = node_config(scenario, "edge", models=("digits-cnn",), upstream="tcp://cloud:7000")
    assert (fetching.model_dirs, fetching.models) == ((), ("digits-cnn",))
    both = node_config(scenario, "edge", models=("digits-cnn",), model_dirs=(Path("/m"),), upstream="tcp://cloud:7000", preload=True)
    assert (both.model_dirs, both.models, both.preload) == (("/m",), ("digits-cnn",), True)
