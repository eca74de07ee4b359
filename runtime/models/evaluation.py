"""What each variant and exit makes of labelled examples, as the engine computes them."""

from __future__ import annotations

import numpy as np

from runtime.inference.confidence import normalised_entropy
from runtime.inference.engine import Engine
from runtime.models.examples import Examples, Judgement


def evaluate(engine: Engine, examples: Examples) -> dict[str, Judgement]:
    """Variant -> what its exits get right, and how sure they are."""
    return {variant: _judge(engine, variant, examples) for variant in engine.manifest.variants}


def _judge(engine: Engine, variant: str, examples: Examples) -> Judgement:
    ends = engine.manifest.exit_ends
    right = np.empty((len(ends), len(examples.labels)), dtype=np.uint8)
    entropies = np.empty(right.shape, dtype=np.float64)
    for index, (image, label) in enumerate(zip(examples.images, examples.labels, strict=True)):
        for exit, end in enumerate(ends):
            (logits,) = engine.run(variant, 0, end, exit, [image])
            right[exit, index] = logits.argmax() == label
            entropies[exit, index] = normalised_entropy(logits[0])
    return Judgement(correct=right, entropies=entropies)
