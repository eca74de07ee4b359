"""The simplest attack on a cut: the best linear map from its tensors back to the picture.  Numpy only.

    guess(z) = mean picture + k(z)^T (K + r I)^-1 (X - mean picture)        K = Z Z^T, k(z) = Z z, rows of Z the centred features

Ridge regression in its dual form, [N, N] however many features there are.
Source: Saunders, Gammerman, Vovk, "Ridge regression learning algorithm in dual variables", ICML 1998, section 2.
"""

from __future__ import annotations

import numpy as np

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Tried in turn, as shares of the mean squared norm of the features."""


class LinearInverse:
    """Fitted to features [N, F] and pictures [N, ...], for any ridge."""

    def __init__(self, features: np.ndarray, pictures: np.ndarray) -> None:
        self._mean = features.mean(axis=0)
        self._features = features - self._mean
        self._shape = pictures.shape[1:]
        self._pictures = pictures.reshape(len(pictures), -1)
        self._mean_picture = self._pictures.mean(axis=0)
        self._kernel = (self._features @ self._features.T).astype(np.float64)

    def guess(self, features: np.ndarray, ridge: float) -> np.ndarray:
        """Pictures [M, ...] of features [M, F], float32 in 0..1."""
        num = len(self._kernel)
        steadied = self._kernel + max(ridge * np.trace(self._kernel) / num, 1e-9) * np.eye(num)
        weights = np.linalg.solve(steadied, self._pictures - self._mean_picture)
        flat = (features - self._mean) @ self._features.T @ weights + self._mean_picture
        guesses: np.ndarray = np.clip(flat, 0, 1).reshape(len(features), *self._shape).astype(np.float32)
        return guesses
