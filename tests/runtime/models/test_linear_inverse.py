"""The linear inverse against ridge regression in its primal form."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.models.linear_inverse import RIDGES, LinearInverse


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("num_features", [3, 30])
def test_dual_and_primal_agree(ridge: float, num_features: int) -> None:
    """(Z^T Z + r I)^-1 Z^T X on centred data, with fewer and with more features than pictures."""
    rng = np.random.default_rng(0)
    features, pictures, unseen = rng.normal(size=(12, num_features)), rng.random((12, 1, 2, 2)), rng.normal(size=(4, num_features))
    centred, flat = features - features.mean(axis=0), pictures.reshape(12, -1)
    strength = ridge * np.trace(centred @ centred.T) / 12
    weights = np.linalg.solve(centred.T @ centred + strength * np.eye(num_features), centred.T @ (flat - flat.mean(axis=0)))
    expected = np.clip((unseen - features.mean(axis=0)) @ weights + flat.mean(axis=0), 0, 1)
    guesses = LinearInverse(features, pictures).guess(unseen, ridge)
    np.testing.assert_allclose(guesses.reshape(4, -1), expected, atol=1e-5)
