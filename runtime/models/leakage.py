"""How much of the raw input shows in what crosses a cut: distance correlation, 0 nothing in the sample, 1 all of it.

Source: Szekely, Rizzo, Bakirov, "Measuring and testing dependence by correlation of distances",
Annals of Statistics 35(6), 2007, definitions 3 and 4 (the biased sample statistic).
As a measure of what a cut reveals: Vepakomma et al., "NoPeek", ICDM Workshops 2020.
"""

from __future__ import annotations

import numpy as np


def distance_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Dependence of paired samples x [N, ...] and y [N, ...], any shapes behind N, in [0, 1].

        A = centred distances of x,  B = centred distances of y       [N, N]
        dCor^2 = mean(A B) / sqrt(mean(A A) mean(B B)),   0 where either sample is constant

    1 exactly when y is x moved, turned, mirrored or scaled.  The statistic is biased upwards: independent samples
    of few examples or many dimensions stay well above 0, so compare values of the same N.
    Raises ValueError unless there are as many x as y, at least two.
    """
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"distance correlation needs equally many samples, at least 2, got {len(x)} and {len(y)}")
    a, b = _centred_distances(x), _centred_distances(y)
    variances = np.mean(a * a) * np.mean(b * b)
    if variances <= 0:
        return 0.0
    squared = np.mean(a * b) / np.sqrt(variances)
    return float(np.sqrt(np.clip(squared, 0.0, 1.0)))


def _centred_distances(x: np.ndarray) -> np.ndarray:
    """Euclidean distances between samples, with row means, column means taken off and the grand mean added: [N, N]."""
    flat = np.asarray(x, dtype=np.float64).reshape(len(x), -1)
    flat = flat - flat.mean(axis=0)
    gram = flat @ flat.T
    norms = np.diag(gram)
    distances = np.sqrt(np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0.0))
    np.fill_diagonal(distances, 0.0)
    means = distances.mean(axis=0)
    centred: np.ndarray = distances - means[None, :] - means[:, None] + distances.mean()
    return centred
