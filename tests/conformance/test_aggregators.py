"""What every aggregator must do.  Registering one enrols it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtime.errors import InvalidConfig, InvalidTensor, MalformedMessage
from runtime.training.aggregation import AGGREGATORS, Aggregator, find_aggregator
from runtime.training.aggregation.server_optimiser import Adam
from runtime.training.aggregation.server_state import ServerState, decode_state, encode_state
from tests.runtime.training.updates import update_of, updates_of

ROBUST = sorted(name for name, aggregator in AGGREGATORS.items() if aggregator.robust)
VALUES = st.floats(-100.0, 100.0, width=32)
DELTAS = hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 5)), elements=VALUES)


@pytest.fixture(params=list(AGGREGATORS))
def aggregator(request: pytest.FixtureRequest) -> Aggregator:
    """Each aggregator in turn."""
    return AGGREGATORS[request.param]


def test_the_registry_is_sorted_and_has_its_identity() -> None:
    """One sorted literal, with the member that the others are compared with."""
    assert list(AGGREGATORS) == sorted(AGGREGATORS)
    assert "fedavg" in AGGREGATORS


def test_an_unknown_aggregator_is_refused_by_name() -> None:
    """The error lists what there is."""
    with pytest.raises(InvalidConfig, match=r"aggregator 'sum' does not exist; there is fedadam, .*trimmed_mean"):
        find_aggregator("sum")


@settings(max_examples=40)
@given(DELTAS, st.randoms(use_true_random=False))
def test_the_order_of_arrival_never_matters(deltas: np.ndarray, random: object) -> None:
    """The same updates in another order give the same bits."""
    updates = updates_of(deltas, [1 + index for index in range(len(deltas))])
    shuffled = updates.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for name, aggregator in AGGREGATORS.items():
        np.testing.assert_array_equal(aggregator.rule.combine(updates), aggregator.rule.combine(shuffled), err_msg=name)


@settings(max_examples=40)
@given(DELTAS, st.integers(2, 1000))
def test_only_the_ratios_of_examples_matter(deltas: np.ndarray, factor: int) -> None:
    """All clients holding `factor` times as much changes nothing."""
    counts = [1 + index for index in range(len(deltas))]
    few, many = updates_of(deltas, counts), updates_of(deltas, [factor * count for count in counts])
    for name, aggregator in AGGREGATORS.items():
        np.testing.assert_allclose(aggregator.rule.combine(few), aggregator.rule.combine(many), rtol=1e-5, atol=1e-5, err_msg=name)


@settings(max_examples=40)
@given(hnp.arrays(np.float32, 4, elements=VALUES), st.integers(1, 100))
def test_one_client_is_followed(delta: np.ndarray, num_examples: int) -> None:
    """The combination of one update is that update."""
    for name, aggregator in AGGREGATORS.items():
        np.testing.assert_array_equal(aggregator.rule.combine([update_of(delta, num_examples=num_examples)]), delta, err_msg=name)


@settings(max_examples=40)
@given(hnp.arrays(np.float32, 4, elements=VALUES), st.integers(1, 12))
def test_agreement_is_kept(delta: np.ndarray, num_clients: int) -> None:
    """When all clients send the same, that is the result."""
    updates = updates_of(np.tile(delta, (num_clients, 1)))
    for name, aggregator in AGGREGATORS.items():
        np.testing.assert_allclose(aggregator.rule.combine(updates), delta, rtol=1e-6, atol=1e-6, err_msg=name)


@settings(max_examples=40)
@given(
    hnp.arrays(np.float32, (8, 3), elements=st.floats(-1.0, 1.0, width=32)),
    hnp.arrays(np.float32, (2, 3), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
)
def test_robust_results_are_bounded_by_the_honest(honest: np.ndarray, lies: np.ndarray) -> None:
    """Two of ten clients may send anything finite and claim any number of examples; the result keeps the honest ones' magnitude."""
    updates = updates_of(np.concatenate([honest, lies]), [1] * 8 + [10**9] * 2)
    largest = np.linalg.norm(honest, axis=1).max()
    for name in ROBUST:
        combined = AGGREGATORS[name].rule.combine(updates)
        assert np.linalg.norm(combined) <= 3.0 * largest + 1e-6, name


def test_the_plain_mean_is_not_robust() -> None:
    """One client in ten that sends 1000 times too much moves FedAvg a hundred times too far: why there are others."""
    deltas = np.ones((10, 2), np.float32)
    deltas[9] *= -1000.0
    np.testing.assert_allclose(AGGREGATORS["fedavg"].rule.combine(updates_of(deltas)), -99.1, rtol=1e-6)
    for name in ROBUST:
        assert AGGREGATORS[name].rule.combine(updates_of(deltas)).min() > 0.0, name


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(aggregator: Aggregator, bad: float) -> None:
    """They never reach the weights, whatever the rule."""
    with pytest.raises(InvalidTensor, match="'client-001' is not_finite"):
        aggregator.rule.combine(updates_of(np.array([[1.0, 2.0], [bad, 0.0], [1.0, 1.0]], np.float32)))


def test_updates_that_do_not_fit_together_are_refused(aggregator: Aggregator) -> None:
    """Nor are vectors of different lengths, or nothing at all."""
    with pytest.raises(InvalidTensor, match="'b' is wrong_shape"):
        aggregator.rule.combine([update_of([1.0, 2.0], "a"), update_of([1.0], "b")])
    with pytest.raises(InvalidTensor, match="nothing to aggregate"):
        aggregator.rule.combine([])


def test_weights_never_leave_the_range_of_float32(aggregator: Aggregator) -> None:
    """A sum that overflows is refused, so that the caller goes on from the weights before it."""
    weights, update = np.full(2, 3.4e38, np.float32), update_of([3e38, 3e38])
    if isinstance(aggregator.optimiser, Adam):  # its step is bounded, whatever the update
        assert np.isfinite(aggregator.aggregate(weights, [update], aggregator.start(2))[0]).all()
        return
    with pytest.raises(InvalidTensor, match="new weights are not_finite after 1 updates"):
        aggregator.aggregate(weights, [update], aggregator.start(2))


def test_aggregating_leaves_its_inputs_alone(aggregator: Aggregator) -> None:
    """Weights, deltas and state are values."""
    weights, state = np.ones(3, np.float32), aggregator.start(3)
    updates = updates_of(np.arange(12, dtype=np.float32).reshape(4, 3))
    before = [update.delta.copy() for update in updates]
    moved, after = aggregator.aggregate(weights, updates, state)
    assert (moved.dtype, moved.shape, after.num_rounds, state.num_rounds) == (np.dtype(np.float32), (3,), 1, 0)
    np.testing.assert_array_equal(weights, np.ones(3))
    for update, delta in zip(updates, before, strict=True):
        np.testing.assert_array_equal(update.delta, delta)
    np.testing.assert_array_equal(state.first_moment, aggregator.start(3).first_moment)


def test_a_checkpoint_resumes_exactly(aggregator: Aggregator) -> None:
    """Two rounds with the state written and read in between equal two rounds without."""
    rng = np.random.default_rng(0)
    first, second = (updates_of(rng.normal(size=(5, 3)).astype(np.float32)) for _ in range(2))
    weights, state = aggregator.aggregate(np.zeros(3, np.float32), first, aggregator.start(3))
    read = decode_state(encode_state(state), like=aggregator.start(3))
    expected, expected_state = aggregator.aggregate(weights, second, state)
    resumed, resumed_state = aggregator.aggregate(weights, second, read)
    np.testing.assert_array_equal(resumed, expected)
    assert encode_state(resumed_state) == encode_state(expected_state)


def test_a_checkpoint_of_another_model_or_optimiser_is_refused(aggregator: Aggregator) -> None:
    """Bytes that are no state, or one of another length or with NaN, never become moments."""
    other = ServerState(first_moment=np.zeros(7), second_moment=np.zeros(9))
    spoilt = msgspec.structs.replace(aggregator.start(3), first_moment=np.full(aggregator.start(3).first_moment.shape, np.nan))
    for blob in (encode_state(other), b"", b"\xc1", encode_state(ServerState(num_rounds=-1))):
        with pytest.raises(MalformedMessage):
            decode_state(blob, like=aggregator.start(3))
    if spoilt.first_moment.size:
        with pytest.raises(MalformedMessage, match="not finite"):
            decode_state(encode_state(spoilt), like=aggregator.start(3))
