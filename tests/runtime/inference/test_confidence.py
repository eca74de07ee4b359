"""Entropy of logits, and thresholds that never cost more accuracy than allowed."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from runtime.errors import InvalidInput
from runtime.inference import confidence
from runtime.inference.confidence import calibrate_thresholds, normalised_entropy, take_exits

Case = tuple[np.ndarray, np.ndarray, list[float], float]


@st.composite
def cases(draw: st.DrawFn, num_exits: st.SearchStrategy[int], max_examples: int = 25) -> Case:
    """Entropies with many equal values, answers, costs, and a loss that is allowed."""
    shape = (draw(num_exits), draw(st.integers(1, max_examples)))
    values = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.5000001, 0.9, 1.0])
    entropies = draw(arrays.arrays(np.float64, shape, elements=values))
    correct = draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 1)))
    costs = draw(st.lists(st.integers(0, 9).map(float), min_size=shape[0], max_size=shape[0]))
    return entropies, correct, costs, draw(st.sampled_from([0.0, 0.05, 0.1, 0.3, 1.0]))


def judge(entropies: np.ndarray, correct: np.ndarray, costs: list[float], thresholds: tuple[float, ...]) -> tuple[float, int]:
    """(total cost, number correct) of a policy."""
    taken = take_exits(entropies, thresholds)
    return float(np.array(costs)[taken].sum()), int(correct[taken, np.arange(len(taken))].sum())


def test_entropy_by_hand() -> None:
    """Equal logits give 1, one far above the others 0, and p = (3/4, 1/4) gives 0.811278 bits."""
    logits = np.array([[5.0, 5.0], [1000.0, 0.0], [np.log(3.0), 0.0]])
    np.testing.assert_allclose(normalised_entropy(logits), [1.0, 0.0, 0.8112781], atol=1e-7)
    np.testing.assert_allclose(normalised_entropy(np.zeros((2, 3, 7))), np.ones((2, 3)))


@given(arrays.arrays(np.float32, (4, 6), elements=st.floats(-(2.0**99), 2.0**99, width=32)), st.floats(-100, 100))
def test_entropy_is_a_share_and_ignores_a_common_offset(logits: np.ndarray, offset: float) -> None:
    """Whatever the logits, the value is in [0, 1] and finite; adding one number to all logits changes nothing."""
    entropies = normalised_entropy(logits)
    assert ((entropies >= 0) & (entropies <= 1)).all()
    small = np.clip(logits, -50, 50).astype(np.float64)
    np.testing.assert_allclose(normalised_entropy(small + offset), normalised_entropy(small), atol=1e-9)


def test_first_confident_exit_is_taken() -> None:
    """An exit is taken below its threshold, not at it; who is confident nowhere leaves at the last."""
    entropies = np.array([[0.1, 0.5, 0.9, 0.2], [0.0, 0.1, 0.3, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert take_exits(entropies, (0.2, 0.3)).tolist() == [0, 1, 2, 1]
    assert take_exits(entropies[2:], ()).tolist() == [0, 0, 0, 0]


def test_thresholds_by_hand() -> None:
    """Four examples, two exits, costs 1 and 3: leaving in order of entropy gains nothing, loses one, wins it back, loses again.

        entropy of exit 0    0.1  0.2  0.3  0.4
        exit 0 is right       1    0    1    0
        exit 1 is right       1    1    0    1
    Leaving 0, 1, 2, 3, 4 of them early: 3, 3, 2, 3, 2 right at a cost of 12, 10, 8, 6, 4.
    """
    entropies = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.0, 0.0]])
    correct = np.array([[1, 0, 1, 0], [1, 1, 0, 1]])
    (threshold,) = calibrate_thresholds(entropies, correct, [1.0, 3.0], 0.0)
    assert take_exits(entropies, (threshold,)).tolist() == [0, 0, 0, 1]
    (threshold,) = calibrate_thresholds(entropies, correct, [1.0, 3.0], 0.25)
    assert take_exits(entropies, (threshold,)).tolist() == [0, 0, 0, 0]
    assert calibrate_thresholds(entropies, correct, [3.0, 1.0], 0.0) == (confidence.NEVER,)


def test_one_exit_has_no_threshold() -> None:
    """A network without early exits needs none."""
    assert calibrate_thresholds(np.ones((1, 3)), np.ones((1, 3)), [2.0], 0.0) == ()


@given(cases(st.integers(2, 4)))
def test_loss_is_never_exceeded_on_the_calibration_set(case: Case) -> None:
    """The policy loses at most the share allowed against the last exit, and costs no more than always taking that."""
    entropies, correct, costs, loss = case
    thresholds = calibrate_thresholds(*case)
    assert len(thresholds) == len(costs) - 1
    cost, num_correct = judge(entropies, correct, costs, thresholds)
    assert num_correct >= correct[-1].sum() - loss * len(correct[-1]) - 1e-6
    assert cost <= costs[-1] * len(correct[-1]) + 1e-9


@given(cases(st.integers(2, 3), max_examples=8))
def test_small_searches_are_exact(case: Case) -> None:
    """No other thresholds are cheaper within the loss, nor as cheap and more accurate."""
    entropies, correct, costs, loss = case
    grid = [[0.0, *(np.nextafter(value, 2) for value in np.unique(row))] for row in entropies[:-1]]
    least = int(correct[-1].sum()) - loss * len(correct[-1]) - 1e-9
    all_cases = [judge(entropies, correct, costs, thresholds) for thresholds in product(*grid)]
    cost, num_correct = judge(entropies, correct, costs, calibrate_thresholds(*case))
    assert (cost, -num_correct) == min((cost, -right) for cost, right in all_cases if right >= least)


def test_large_searches_keep_the_loss_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only quantiles are tried, the loss is still kept and something is saved."""
    monkeypatch.setattr(confidence, "MAX_CASES", 60_000)
    rng = np.random.default_rng(0)
    entropies = rng.random((4, 2000))
    correct = (entropies + rng.random((4, 2000)) * 0.6 < 1.1).astype(np.int64)
    thresholds = calibrate_thresholds(entropies, correct, [1.0, 2.0, 3.0, 4.0], 0.01)
    cost, num_correct = judge(entropies, correct, [1.0, 2.0, 3.0, 4.0], thresholds)
    assert num_correct >= correct[-1].sum() - 20
    assert cost < 0.7 * 4.0 * 2000


@pytest.mark.parametrize(
    ("entropies", "correct", "costs", "loss"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), [1.0, 2.0], 0.0),
        (np.ones((2, 3)), np.ones((2, 3)), [1.0], 0.0),
        (np.ones((2, 0)), np.ones((2, 0)), [1.0, 2.0], 0.0),
        (np.full((2, 3), np.nan), np.ones((2, 3)), [1.0, 2.0], 0.0),
        (np.ones((2, 3)), np.full((2, 3), 2), [1.0, 2.0], 0.0),
        (np.ones((2, 3)), np.ones((2, 3)), [1.0, np.inf], 0.0),
        (np.ones((2, 3)), np.ones((2, 3)), [1.0, 2.0], -0.1),
    ],
)
def test_impossible_inputs_are_refused(entropies: np.ndarray, correct: np.ndarray, costs: list[float], loss: float) -> None:
    """Shapes that do not fit, no examples, NaN, answers that are neither right nor wrong, costs and losses without sense."""
    with pytest.raises(InvalidInput):
        calibrate_thresholds(entropies, correct, costs, loss)


def test_nodes_can_use_it() -> None:
    """Importing it brings neither torch nor onnx nor scikit-learn."""
    code = "import sys, runtime.inference.confidence; print([name for name in ('torch', 'onnx', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"
