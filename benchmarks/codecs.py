"""Wire codecs on real activations: bytes, time and accuracy for every cut of digits-cnn.

    python benchmarks/codecs.py [NUM_PICTURES]

Bytes are means over the test pictures, as a share of identity's; times are medians, of the fastest of three runs each;
accuracy is the last exit's change in percentage points, all pictures behind the cut computed again from what was decoded.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Iterator

import numpy as np

from runtime.codecs import CODECS
from runtime.codecs.measuring import CodecCost, judge_codec, measure_codec
from runtime.codecs.parcel import IDENTITY
from runtime.inference.engine import Engine
from runtime.models.build import ensure_model
from runtime.models.examples import Examples, load_examples

LOSSLESS = [name for name in CODECS if name.startswith(IDENTITY)]
"""All that differ on tensors of integers, which lossy codecs leave alone."""
HEAD = (
    f"{'variant':8}{'cut':>4}{'dtype':>9}{'zeros':>7}{'raw B':>8}  {'codec':14}{'share':>7}{'encode us':>11}{'decode us':>11}{'points':>8}"
)


def main(num_pictures: int = 300) -> None:
    """Measure and print."""
    directory = ensure_model("digits-cnn")
    engine, examples = Engine(directory), load_examples(directory, "test")
    examples = Examples(images=examples.images[:num_pictures], labels=examples.labels[:num_pictures])
    print(f"digits-cnn, {len(examples.labels)} test pictures")
    print(HEAD)
    for variant in engine.manifest.variants:
        for cut in range(engine.manifest.num_stages):
            for line in lines(engine, variant, cut, examples):
                print(line, flush=True)


def lines(engine: Engine, variant: str, cut: int, examples: Examples) -> Iterator[str]:
    """The rows of one cut: every codec on its tensors."""
    last = len(engine.manifest.exit_ends) - 1
    samples = [engine.run(variant, 0, cut, None, [image]) if cut else [image] for image in examples.images]

    def is_correct(index: int, tensors: list[np.ndarray]) -> bool:
        (logits,) = engine.run(variant, cut, engine.manifest.num_stages, last, tensors)
        return bool(logits.argmax() == examples.labels[index])

    reference = judge_codec(IDENTITY, samples, is_correct).mean()
    zeros = np.mean([np.mean(tensor == 0) for sample in samples for tensor in sample])
    dtypes = "+".join(sorted({tensor.dtype.name for tensor in samples[0]}))
    for codec in CODECS if "float" in dtypes else LOSSLESS:
        cost = measure_codec(codec, samples)
        points = 100.0 * (judge_codec(codec, samples, is_correct).mean() - reference)
        yield f"{variant:8}{cut:4}{dtypes:>9}{zeros:7.0%}{cost.raw_bytes.mean():8.0f}  {codec:14}" + columns(cost, points)


def columns(cost: CodecCost, points: float) -> str:
    """The figures of one row."""
    share = cost.num_bytes.sum() / cost.raw_bytes.sum()
    return f"{share:7.1%}{np.median(cost.encode_s) * 1e6:11.1f}{np.median(cost.decode_s) * 1e6:11.1f}{points:+8.2f}"


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:2]))
