"""The built `digits-cnn`: splitting is transparent, exits differ, and the manifest tells the truth."""

from __future__ import annotations

from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np
import pytest

from runtime.inference.engine import Engine
from runtime.models.examples import load_examples, load_judgement
from runtime.models.manifest import segment_key

VARIANTS = ("fp32", "int8")
EXIT_ENDS = (3, 5, 7)


@pytest.fixture(scope="module")
def engine(digits_model: Path) -> Engine:
    """The model, loaded."""
    return Engine(digits_model)


def run_chain(engine: Engine, variant: str, bounds: tuple[int, ...], exit: int, image: np.ndarray) -> np.ndarray:
    """Logits with the stages run piece by piece, [bounds[k], bounds[k+1]), empty pieces skipped; the head runs last."""
    tensors = [image]
    pieces = [(start, stop) for start, stop in pairwise(bounds) if stop > start]
    for start, stop in pieces[:-1]:
        tensors = engine.run(variant, start, stop, None, tensors)
    return engine.run(variant, *pieces[-1], exit, tensors)[0]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("exit", range(len(EXIT_ENDS)))
def test_split_is_transparent(engine: Engine, digits_model: Path, variant: str, exit: int) -> None:
    """For every pair of cuts the three parts in a row give the whole's logits: exactly in int8, to rounding in fp32."""
    end = EXIT_ENDS[exit]
    for image in load_examples(digits_model, "test").images[:2]:
        (whole,) = engine.run(variant, 0, end, exit, [image])
        for p, q in combinations_with_replacement(range(end + 1), 2):
            parts = run_chain(engine, variant, (0, p, q, end), exit, image)
            if variant == "int8":
                np.testing.assert_array_equal(parts, whole, err_msg=f"cuts {p}, {q}")
            else:
                np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-5 * np.abs(whole).max(), err_msg=f"cuts {p}, {q}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_head_alone_completes_a_body(engine: Engine, digits_model: Path, variant: str) -> None:
    """A head run by itself on the tensors of its cut gives what it gives behind its stages."""
    image = load_examples(digits_model, "test").images[0]
    for exit, end in enumerate(EXIT_ENDS):
        tensors = engine.run(variant, 0, end, None, [image])
        (logits,) = engine.run(variant, end, end, exit, tensors)
        np.testing.assert_allclose(logits, engine.run(variant, 0, end, exit, [image])[0], rtol=1e-5, atol=1e-4)


def test_every_segment_exists(engine: Engine) -> None:
    """Each body i-j and each exit segment i-jxe is there, in both variants."""
    stages = range(EXIT_ENDS[-1] + 1)
    keys = {segment_key(i, j, None) for j in stages for i in range(j)}
    keys |= {segment_key(i, end, exit) for exit, end in enumerate(EXIT_ENDS) for i in range(end + 1)}
    assert engine.manifest.exit_ends == EXIT_ENDS
    assert {name: set(info.segments) for name, info in engine.manifest.variants.items()} == dict.fromkeys(VARIANTS, keys)


def test_cut_sizes(engine: Engine) -> None:
    """The raw input is the same 4096 bytes in both variants; behind it, int8 carries a quarter of fp32's bytes."""
    fp32, int8 = (engine.manifest.variants[name] for name in VARIANTS)
    assert fp32.cut_bytes(0) == int8.cut_bytes(0) == 4096
    assert [4 * int8.cut_bytes(cut) for cut in range(1, 8)] == [fp32.cut_bytes(cut) for cut in range(1, 8)]
    assert int8.size_bytes < fp32.size_bytes / 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_later_exits_are_better(engine: Engine, variant: str) -> None:
    """Accuracy rises from the first exit to the last, which is good."""
    for split in ("validation", "test"):
        first, middle, last = engine.manifest.variants[variant].accuracy[split]
        assert 0.75 < first < last
        assert first - 0.02 <= middle <= last + 0.01
        assert last > 0.96


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_recorded_answers_are_the_engines(engine: Engine, digits_model: Path, variant: str, split: str) -> None:
    """What is recorded per example is what the engine does now, and its mean is the manifest's accuracy."""
    examples, correct = load_examples(digits_model, split), load_judgement(digits_model, split, variant).correct
    assert correct.shape == (len(EXIT_ENDS), len(examples.labels))
    np.testing.assert_allclose(correct.mean(axis=1), engine.manifest.variants[variant].accuracy[split])
    for index in range(0, len(examples.labels), 20):
        for exit, end in enumerate(EXIT_ENDS):
            (logits,) = engine.run(variant, 0, end, exit, [examples.images[index]])
            assert (logits.argmax() == examples.labels[index]) == correct[exit, index]


def test_every_stage_and_head_has_a_reference_time(engine: Engine) -> None:
    """All are measured, and a segment's reference is the sum of its parts'."""
    for variant, info in engine.manifest.variants.items():
        assert min(info.stage_reference_s) > 0
        assert min(info.head_reference_s) > 0
        whole_s = sum(info.stage_reference_s) + info.head_reference_s[2]
        assert engine.manifest.reference_s(variant, 0, 7, 2) == pytest.approx(whole_s)
