"""A short vector in place of a gradient, of which only distances matter.

Adaptive tau asks how far clients' gradients lie from their mean, |g_i - g|, and for nothing else of them.  A count sketch
adds every element, with a random sign, to one of `SKETCH_SIZE` sums; it is linear, so that the sketch of a difference is
the difference of sketches, and it keeps squared lengths in the mean:

    s[h(j)] += sign(j) g[j]          E |s|^2 = |g|^2,  Var |s|^2 <= 2 |g|^4 / SKETCH_SIZE

so lengths are off by some 2 % (one standard deviation).  All nodes of a job hash alike.  A vector that is no longer than
its sketch would be stays as it is.
Source: Charikar, Chen and Farach-Colton, "Finding frequent items in data streams", 2002; as a projection that keeps
distances: Weinberger et al., "Feature hashing for large scale multitask learning", ICML 2009, lemma 2.
"""

from __future__ import annotations

import numpy as np

SKETCH_SIZE = 1024


class Sketch:
    """Sketches of vectors float32 [P]; those of the same `seed` and P may be compared."""

    def __init__(self, num_elements: int, seed: int) -> None:
        self.size = min(num_elements, SKETCH_SIZE)
        """Of a sketch, in elements."""
        rng = np.random.default_rng([seed, num_elements])
        self._places = rng.integers(self.size, size=num_elements) if num_elements > self.size else None
        self._signs = rng.choice((-1.0, 1.0), size=num_elements)

    def __call__(self, vector: np.ndarray) -> np.ndarray:
        """float32 [P] -> float32 [size]."""
        if self._places is None:
            return vector
        return np.bincount(self._places, weights=self._signs * vector, minlength=self.size).astype(np.float32)
