"""A model small enough to be built within a test: two stages, two exits, one epoch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.models.build import ensure_model
from runtime.models.zoo import ZOO, ConvSpec, ExitSpec, FitSpec, ModelSpec, conv_chain_spec

TINY = conv_chain_spec(
    "tiny",
    stages=((ConvSpec(channels=4, stride=4),), (ConvSpec(channels=8, stride=4),)),
    exits=(ExitSpec(end=1, num_features=3), ExitSpec(end=2)),
    fit=FitSpec(epochs=1),
)


@pytest.fixture(scope="session")
def tiny_spec() -> Iterator[ModelSpec]:
    """The tiny model, registered in the zoo while the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ZOO, TINY.name, TINY)
        yield TINY


@pytest.fixture(scope="session")
def tiny_cache(tiny_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the tiny model."""
    cache = tmp_path_factory.mktemp("cache")
    ensure_model(tiny_spec.name, cache)
    return cache
