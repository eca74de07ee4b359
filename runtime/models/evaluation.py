"""Which examples each variant and exit gets right, as the engine computes them."""

from __future__ import annotations

import numpy as np

from runtime.inference.engine import Engine
from runtime.models.examples import Examples


def evaluate(engine: Engine, examples: Examples) -> dict[str, np.ndarray]:
    """Variant -> uint8 [num_exits, N]: 1 where that exit's prediction equals the label."""
    return {variant: _correct(engine, variant, examples) for variant in engine.manifest.variants}


def _correct(engine: Engine, variant: str, examples: Examples) -> np.ndarray:
    ends = engine.manifest.exit_ends
    right = np.empty((len(ends), len(examples.labels)), dtype=np.uint8)
    for index, (image, label) in enumerate(zip(examples.images, examples.labels, strict=True)):
        for exit, end in enumerate(ends):
            (logits,) = engine.run(variant, 0, end, exit, [image])
            right[exit, index] = logits.argmax() == label
    return right
