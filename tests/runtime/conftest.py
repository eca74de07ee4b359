"""Fixtures of the tests with live nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.models.examples import load_examples
from runtime.transport import Context


@pytest.fixture
def context() -> Iterator[Context]:
    """Sockets of one test."""
    with Context() as context:
        yield context


@pytest.fixture(scope="session")
def images(digits_model: Path) -> np.ndarray:
    """The test split of the model that the nodes serve: uint8 [N, 1, 1, 64, 64]."""
    return load_examples(digits_model, "test").images
