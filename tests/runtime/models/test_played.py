"""Which examples are played: few, spread over the split, and the same for pictures and for what exits make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import UnknownModel
from runtime.messages import TensorSpec
from runtime.models.examples import Examples, Judgement, draw_examples, save_examples
from runtime.models.played import MAX_PLAYED, load_played, load_played_judgement, played_index


@given(st.integers(1, 70_000))
def test_they_are_spread_over_the_split(count: int) -> None:
    """All of a small split; of a large one each once, in order, from the first to the last at even distances."""
    index = played_index(count)
    assert len(index) == min(count, MAX_PLAYED)
    assert (index[0], index[-1]) == (0, count - 1)
    steps = np.diff(index)
    assert not len(steps) or (steps.min() >= 1 and steps.max() - steps.min() <= 1)


def test_pictures_and_judgements_belong_together(tmp_path: Path) -> None:
    """The same examples, whichever file's part they come from."""
    count = 2 * MAX_PLAYED + 7
    numbers = np.arange(count)
    examples = Examples(images=numbers.reshape(-1, 1, 1).astype(np.int64), labels=numbers)
    judged = Judgement(correct=(numbers[None] % 2).astype(np.uint8), entropies=numbers[None] / count)
    save_examples(tmp_path, {"test": examples}, {"test": {"fp32": judged}})
    played, judgement = load_played(tmp_path, "test"), load_played_judgement(tmp_path, "test", "fp32")
    assert len(played.labels) == MAX_PLAYED
    assert played.images[:, 0, 0].tolist() == played.labels.tolist()
    assert judgement.correct[0].tolist() == (played.labels % 2).tolist()
    assert (judgement.entropies[0] * count).round().astype(int).tolist() == played.labels.tolist()


def test_answers_to_random_inputs_are_not_judged(tmp_path: Path) -> None:
    """Nothing is right or wrong about them; the error says what to do instead."""
    drawn = draw_examples(TensorSpec(shape=(1, 4), dtype="float32"), 5, np.random.default_rng(0))
    save_examples(tmp_path, {"test": drawn}, {"test": {}})
    with pytest.raises(UnknownModel, match=r"models build .* --data"):
        load_played_judgement(tmp_path, "test", "fp32")
