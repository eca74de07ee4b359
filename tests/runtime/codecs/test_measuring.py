"""Costs and damage of codecs, on tensors whose answers are known."""

from __future__ import annotations

import numpy as np

from runtime.codecs.measuring import judge_codec, measure_codec

SAMPLES = [[np.full((2, 50), value, np.float32), np.arange(8, dtype=np.uint8)] for value in (0.0, 1.0, 3.0)]


def test_bytes_are_those_of_the_frames() -> None:
    """fp16 halves the floats and leaves the integers."""
    cost = measure_codec("fp16", SAMPLES)
    assert cost.raw_bytes.tolist() == [408] * 3
    assert cost.num_bytes.tolist() == [208] * 3
    assert cost.encode_s.shape == cost.decode_s.shape == (3,)
    assert (cost.encode_s > 0).all()
    assert (cost.decode_s > 0).all()


def test_judging_tells_which_samples_survive() -> None:
    """A tenth of the elements is kept: a sum of 100 equal elements is right only where they are 0."""

    def is_correct(index: int, tensors: list[np.ndarray]) -> bool:
        return bool(tensors[0].sum() == SAMPLES[index][0].sum())

    assert judge_codec("identity", SAMPLES, is_correct).tolist() == [1, 1, 1]
    assert judge_codec("topk10", SAMPLES, is_correct).tolist() == [1, 0, 0]
