"""The numpy network is the torch network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.network import MASKED_LOGIT, NetworkShape, ScoringNetwork
from agents.scoring import CandidateScorer


def _scorer(activation: str, seed: int = 0) -> CandidateScorer:
    torch.manual_seed(seed)
    shape = NetworkShape(
        state_size=11,
        candidate_size=9,
        hidden_size=32,
        activation=activation,  # type: ignore[arg-type]
        myopic_index=4,
        myopic_scale=2.0,
    )
    scorer = CandidateScorer(shape, kappa=3.0)
    torch.nn.init.normal_(scorer.output.weight)
    return scorer


def _features(rng: np.random.Generator, num: int, candidates: int = 48) -> dict[str, np.ndarray]:
    mask = (rng.random((num, candidates)) < 0.7).astype(np.int8)
    mask[:, 0] = 1
    return {
        "state": rng.standard_normal((num, 11), dtype=np.float32),
        "candidates": rng.standard_normal((num, candidates, 9), dtype=np.float32),
        "mask": mask,
    }


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_numpy_and_torch_agree_on_every_score(activation: str) -> None:
    """Scores agree to float32 accuracy, and the best candidate wherever two are not a rounding error apart."""
    scorer = _scorer(activation)
    network = ScoringNetwork(scorer.shape, scorer.arrays())
    features = _features(np.random.default_rng(1), 2000)
    with torch.no_grad():
        expected = scorer({name: torch.as_tensor(array) for name, array in features.items()}).numpy()
    batch = network.logits_batch(features["state"], features["candidates"], features["mask"])
    np.testing.assert_allclose(batch, expected, rtol=1e-4, atol=1e-4)
    singles = np.stack([network.logits(*row).copy() for row in zip(*features.values(), strict=True)])
    np.testing.assert_allclose(singles, expected, rtol=1e-4, atol=1e-4)


def test_masked_candidates_are_never_best() -> None:
    """A masked candidate scores MASKED_LOGIT whatever its features."""
    scorer = _scorer("tanh")
    network = ScoringNetwork(scorer.shape, scorer.arrays())
    features = _features(np.random.default_rng(2), 500)
    logits = network.logits_batch(features["state"], features["candidates"], features["mask"])
    assert (logits[features["mask"] == 0] == np.float32(MASKED_LOGIT)).all()
    assert (features["mask"][np.arange(500), logits.argmax(axis=1)] == 1).all()


def test_an_untrained_scorer_ranks_by_myopic_cost() -> None:
    """The last layer starts at zero, so only the myopic cost counts, times kappa and its scale."""
    shape = NetworkShape(state_size=11, candidate_size=9, hidden_size=32, myopic_index=4, myopic_scale=2.0)
    scorer = CandidateScorer(shape, kappa=3.0)
    features = _features(np.random.default_rng(3), 100)
    features["mask"][:] = 1
    logits = ScoringNetwork(shape, scorer.arrays()).logits_batch(features["state"], features["candidates"], features["mask"])
    np.testing.assert_allclose(logits, -6.0 * features["candidates"][:, :, 4], rtol=1e-5)


def test_the_number_of_candidates_may_change() -> None:
    """One network scores 5 candidates as it scored them among 48."""
    scorer = _scorer("tanh")
    network = ScoringNetwork(scorer.shape, scorer.arrays())
    features = _features(np.random.default_rng(4), 1)
    state, candidates, mask = (array[0] for array in features.values())
    many = network.logits(state, candidates, mask).copy()
    few = network.logits(state, candidates[:5], mask[:5])
    np.testing.assert_allclose(few, many[:5], rtol=1e-4, atol=1e-5)


def test_weights_are_copied() -> None:
    """Changing the arrays afterwards does not change the network."""
    scorer = _scorer("tanh")
    arrays = {name: array.copy() for name, array in scorer.arrays().items()}
    network = ScoringNetwork(scorer.shape, arrays)
    features = _features(np.random.default_rng(5), 10)
    before = network.logits_batch(features["state"], features["candidates"], features["mask"])
    for array in arrays.values():
        array[...] = np.nan
    after = network.logits_batch(features["state"], features["candidates"], features["mask"])
    np.testing.assert_array_equal(before, after)
