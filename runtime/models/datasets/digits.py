"""Real handwritten digits, 8x8 scans enlarged to 64x64: small enough to train on anywhere, no download.

Source: scikit-learn `load_digits`, the test part of UCI "Optical Recognition of Handwritten Digits"
(Alpaydin & Kaynak 1998), 1797 pictures with values 0..16.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from runtime.models.datasets.splitting import take
from runtime.models.examples import Examples

CLASSES = tuple("0123456789")
IMAGE_SIDE = 64
NUM_VALIDATION, NUM_TEST = 337, 360
"""The other 1100 are for training."""


def load_splits(seed: int) -> dict[str, Examples]:
    """Split names train, validation and test -> disjoint, stratified examples.  The same seed gives the same split."""
    raw = load_digits()
    everything = Examples(images=enlarge(raw.images), labels=raw.target.astype(np.int64))
    rest, test = take(everything, NUM_TEST, seed)
    train, validation = take(rest, NUM_VALIDATION, seed)
    return {"train": train, "validation": validation, "test": test}


def enlarge(scans: np.ndarray) -> np.ndarray:
    """Scans [N, 8, 8] with values 0..16 -> uint8 [N, 1, 1, 64, 64], bilinear; ink is 255."""
    grey = np.rint(scans * (255 / 16)).astype(np.uint8)
    size = (IMAGE_SIDE, IMAGE_SIDE)
    pictures = [np.asarray(Image.fromarray(scan).resize(size, Image.Resampling.BILINEAR)) for scan in grey]
    return np.stack(pictures)[:, None, None]
