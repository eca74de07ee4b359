"""What error feedback and momentum correction remember."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidCheckpoint
from runtime.training.compress import COMPRESSORS, find_compressor, load_state, save_state
from runtime.training.compress.dgc import FINAL_DENSITY, WARM_UP_DENSITIES, DeepGradientCompression
from runtime.training.compress.qsgd import Qsgd


@pytest.mark.parametrize("name", [name for name in COMPRESSORS if name.endswith("+ef")])
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), rounds=st.integers(1, 8))
def test_sent_plus_residual_is_what_was_handed_in(name: str, seed: int, rounds: int) -> None:
    """Error feedback loses nothing."""
    compressor, rng = COMPRESSORS[name], np.random.default_rng(seed)
    state, sent, handed_in = compressor.start(300), np.zeros(300), np.zeros(300)
    for _ in range(rounds):
        update = rng.normal(size=300).astype(np.float32)
        compressed, state = compressor.compress(update, state, rng)
        sent += compressor.decompress(compressed, 300)
        handed_in += update
    np.testing.assert_allclose(sent + state.residual, handed_in, atol=1e-4)


def test_error_feedback_brings_sgd_to_the_minimum_where_plain_sign_stays_away() -> None:
    """On 1/2 ||x - a||^2 the last iterate of sign with memory is close to a."""
    compressor, target = COMPRESSORS["sign+ef"], np.linspace(-3, 0.5, 50, dtype=np.float32)
    state, x = compressor.start(50), np.zeros(50, np.float32)
    for step in range(600):
        compressed, state = compressor.compress((x - target) * np.float32(0.1), state, np.random.default_rng(step))
        x = x - compressor.decompress(compressed, 50)
    assert np.abs(x - target).max() < 0.01


def test_dgc_by_hand() -> None:
    """Momentum 1/2, one of three sent: u and v of three rounds on paper."""
    compressor = DeepGradientCompression(momentum=0.5, warm_up=(), density=0.3)
    state, rng = compressor.start(3), np.random.default_rng(0)
    table = [
        # update        sent         v after        u after
        ([4, 2, 1], [4, 0, 0], [0, 2, 1], [0, 2, 1]),
        ([1, 1, 0], [0, 4, 0], [1, 0, 1.5], [1, 0, 0.5]),
        ([0, 0, 0], [0, 0, 1.75], [1.5, 0, 0], [0.5, 0, 0]),
    ]
    for update, sent, residual, momentum in table:
        compressed, state = compressor.compress(np.array(update, np.float32), state, rng)
        assert compressor.decompress(compressed, 3).tolist() == sent
        assert state.residual.tolist() == residual
        assert state.momentum.tolist() == momentum


def test_dgc_of_density_one_is_momentum_sgd_without_its_memory() -> None:
    """Everything is sent, so masking clears everything."""
    compressor = DeepGradientCompression(momentum=0.9, warm_up=(), density=1.0)
    compressed, state = compressor.compress(np.array([1, -2], np.float32), compressor.start(2), np.random.default_rng(0))
    assert compressor.decompress(compressed, 2).tolist() == [1, -2]
    assert not state.residual.any()
    assert not state.momentum.any()


def test_warm_up_sends_less_and_less() -> None:
    """25 % at first, a thousandth at last, and bytes follow."""
    compressor = DeepGradientCompression(rounds_per_stage=2)
    assert [compressor.density(number) for number in (0, 1, 2, 4, 6, 8, 10**6)] == [0.25, 0.25, 0.0625, 0.015625, 0.004, 0.001, 0.001]
    estimates = [compressor.bytes_estimate(100_000, number) for number in range(0, 10, 2)]
    assert estimates == sorted(estimates, reverse=True)
    state, rng = compressor.start(100_000), np.random.default_rng(0)
    for number in range(10):
        compressed, state = compressor.compress(rng.normal(size=100_000).astype(np.float32), state, rng)
        assert compressed.num_bytes <= compressor.bytes_estimate(100_000, number)
    assert compressed.num_bytes < 700  # 100 values of four bytes and gaps of two


@pytest.mark.parametrize(("num_rounds", "stage"), [(1, 1), (60, 1), (134, 1), (136, 2), (900, 10), (1_000_000, 10)])
def test_the_warm_up_is_a_share_of_the_job(num_rounds: int, stage: int) -> None:
    """Four stages of a ninetieth each, one round where that is less and ten where it is more; then the final density."""
    for name in ("dgc", "dgc+qsgd8"):
        compressor = find_compressor(name, num_rounds)
        assert isinstance(compressor, DeepGradientCompression)
        densities = [compressor.density(number) for number in range(4 * stage + 1)]
        assert densities == [share for share in WARM_UP_DENSITIES for _ in range(stage)] + [FINAL_DENSITY]
        assert compressor.bytes_estimate(10_000, 4 * stage) == COMPRESSORS[name].bytes_estimate(10_000, 10**6)


def test_the_error_of_quantised_values_stays_in_the_residual() -> None:
    """With everything sent at once, v after is the quantisation error alone."""
    compressor = DeepGradientCompression(momentum=0.0, warm_up=(), density=1.0, values=Qsgd(4))
    update = np.random.default_rng(0).normal(size=64).astype(np.float32)
    compressed, state = compressor.compress(update, compressor.start(64), np.random.default_rng(1))
    np.testing.assert_allclose(compressor.decompress(compressed, 64) + state.residual, update, atol=1e-6)
    assert state.residual.any()


@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_garbage_is_no_state(data: bytes) -> None:
    """Whatever the file holds, the error says that it is no state."""
    with pytest.raises(InvalidCheckpoint):
        load_state(data)


def test_a_damaged_state_is_refused() -> None:
    """Cut off behind the header."""
    state = COMPRESSORS["dgc"].start(10)
    with pytest.raises(InvalidCheckpoint):
        load_state(save_state(state)[:-8])
