"""What a device's node falls back to is checked before it serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from drlctl.fallback import greedy_fallback, save_cost_model
from drlctl.node import serve
from runtime.errors import InvalidConfig, InvalidProfile
from runtime.node import NodeConfig
from runtime.provision import ModelSources, first_model
from tests.drlctl.bundles import make_cost_model


@pytest.fixture
def cost_model(tmp_path: Path) -> Path:
    """Of a model `other`."""
    path = tmp_path / "cost-model.json"
    save_cost_model(make_cost_model("other"), path)
    return path


def test_a_cost_model_of_another_model_is_refused(cost_model: Path, digits_model: Path) -> None:
    """Its decisions could not be carried out: the node does not start, and the message names both models."""
    assert callable(greedy_fallback(cost_model, "other"))
    config = NodeConfig(name="device", tier="device", model_dirs=(str(digits_model),), cost_model=str(cost_model))
    with pytest.raises(InvalidProfile, match=r"'other'.*'digits-cnn'"):
        serve(config)


def test_the_first_model_is_that_of_the_first_folder(digits_model: Path) -> None:
    """Folders come before what is fetched; of nothing there is no first."""
    assert first_model(ModelSources(model_dirs=(str(digits_model),), models=("fetched",))) == "digits-cnn"
    assert first_model(ModelSources(models=("fetched", "another"))) == "fetched"
    with pytest.raises(InvalidConfig, match="at least one model"):
        first_model(ModelSources())
