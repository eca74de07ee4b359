"""What a node may be told about its models, and what it makes of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import InvalidConfig, UnknownModel
from runtime.messages import TIERS
from runtime.provision import ModelSources, provide
from runtime.transport import Context


def test_folders_are_loaded_at_once_unless_memory_is_bounded(digits_model: Path, tmp_path: Path) -> None:
    """By default everything is in memory for good; with a budget, or when told so, nothing is yet."""
    folder, store = (str(digits_model),), str(tmp_path)
    with Context() as context:
        assert provide(ModelSources(model_dirs=folder, store_dir=store), "device", None, context, "").in_memory
        lazy = provide(ModelSources(model_dirs=folder, store_dir=store, preload=False), "device", None, context, "")
        bounded = provide(ModelSources(model_dirs=folder, store_dir=store), "device", 10**6, context, "")
    for provision in (lazy, bounded):
        assert provision.residency is not None
        assert provision.residency.num_bytes == 0
        assert set(provision.manifests) == {"digits-cnn"}


def test_what_cannot_be_had_is_a_clear_error(digits_model: Path, tmp_path: Path) -> None:
    """A model to fetch and nobody above; more to preload than memory holds; a folder without a model."""
    store = str(tmp_path / "store")
    with Context() as context:
        with pytest.raises(InvalidConfig, match="without an upstream"):
            provide(ModelSources(models=("digits-cnn",), store_dir=store), "edge", None, context, "")
        with pytest.raises(InvalidConfig, match="does not fit"):
            provide(ModelSources(model_dirs=(str(digits_model),), store_dir=store, preload=True), "device", 1000, context, "")
        with pytest.raises(UnknownModel, match="no model in"):
            provide(ModelSources(model_dirs=(str(tmp_path),), store_dir=store), TIERS[0], None, context, "")
