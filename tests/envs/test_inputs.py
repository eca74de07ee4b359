"""Which pictures come, how often again, and how they are varied."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.inputs import InputsConfig, draw_examples, draw_perturbed, perturbed_picture
from envs.perturbations import BRIGHTNESS_LEVELS, NOISE_LEVELS, PERTURBATIONS, SHIFT_PIXELS, PerturbationName, perturb
from envs.workload import WorkloadConfig, draw_requests
from runtime.errors import InvalidTensor

PICTURE = np.random.default_rng(0).integers(40, 216, (1, 1, 16, 16)).astype(np.uint8)


@pytest.mark.parametrize(("seed", "digest"), [(1, "d8e6eeb1eb3c423e"), (7, "1e6905775f59f150"), (1001, "c11c703e1f8d286b")])
def test_the_default_draws_what_it_always_drew(seed: int, digest: str) -> None:
    """The digests were taken before inputs could repeat: the same seed gives the same episode."""
    requests = draw_requests(WorkloadConfig(), seed, 360)
    assert hashlib.sha256(requests.arrival_s.tobytes() + requests.example.tobytes()).hexdigest()[:16] == digest
    assert not requests.perturbed.any()


@given(
    st.sampled_from([None, 0.0, 0.8, 3.0]),
    st.sampled_from([1.0, 2.5]),
    st.sampled_from(sorted(PERTURBATIONS)),
    st.integers(0, 2**40),
    st.integers(1, 50),
)
def test_inputs_never_change_the_arrivals(
    exponent: float | None, frames: float, perturbation: PerturbationName, seed: int, num_examples: int
) -> None:
    """Whatever is brought comes when it came before, is in the split, and is the same for the same seed."""
    inputs = InputsConfig(zipf_exponent=exponent, frames_per_picture=frames, perturbation=perturbation, perturbed_fraction=0.5)
    config = WorkloadConfig(num_requests=40, inputs=inputs)
    requests, again = draw_requests(config, seed, num_examples), draw_requests(config, seed, num_examples)
    np.testing.assert_array_equal(requests.arrival_s, draw_requests(WorkloadConfig(num_requests=40), seed, num_examples).arrival_s)
    np.testing.assert_array_equal(requests.example, again.example)
    np.testing.assert_array_equal(requests.perturbed, again.perturbed)
    assert requests.example.min() >= 0
    assert requests.example.max() < num_examples


def test_popularity_follows_zipfs_law() -> None:
    """Frequencies by rank against r^-exponent over its sum; another seed makes other pictures popular."""
    config, num_examples, count = InputsConfig(zipf_exponent=0.8), 20, 200_000
    favourites = set()
    for seed in range(5):
        examples = draw_examples(config, np.random.default_rng(seed), count, num_examples)
        shares = np.sort(np.bincount(examples, minlength=num_examples))[::-1] / count
        weights = np.arange(1, num_examples + 1) ** -0.8
        np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.004)
        favourites.add(int(np.bincount(examples).argmax()))
    assert len(favourites) > 1


def test_an_exponent_of_zero_is_uniform() -> None:
    """Every rank has the same weight."""
    examples = draw_examples(InputsConfig(zipf_exponent=0.0), np.random.default_rng(1), 100_000, 10)
    np.testing.assert_allclose(np.bincount(examples) / 100_000, 0.1, atol=0.005)


def test_a_scene_lasts_as_many_requests_as_said() -> None:
    """The mean number in a row of the same picture, of many pictures."""
    examples = draw_examples(InputsConfig(frames_per_picture=5.0), np.random.default_rng(2), 100_000, 10_000)
    assert 100_000 / (1 + np.count_nonzero(np.diff(examples))) == pytest.approx(5.0, rel=0.03)


def test_the_share_of_perturbed_requests_is_as_said() -> None:
    """None without a perturbation, all by default with one."""
    assert draw_perturbed(InputsConfig(perturbation="noise", perturbed_fraction=0.3), 1, 100_000).mean() == pytest.approx(0.3, abs=0.01)
    assert draw_perturbed(InputsConfig(perturbation="noise"), 1, 100).all()
    assert not draw_perturbed(InputsConfig(), 1, 100).any()


@pytest.mark.parametrize("name", sorted(PERTURBATIONS))
def test_a_perturbation_keeps_the_kind_of_picture(name: PerturbationName) -> None:
    """Shape and dtype stay, the original is not written to, and the same request gives the same picture."""
    before = PICTURE.copy()
    config = InputsConfig(perturbation=name)
    one, same, other = (perturbed_picture(config, 3, index, PICTURE) for index in (5, 5, 6))
    assert (one.shape, one.dtype) == (PICTURE.shape, PICTURE.dtype)
    np.testing.assert_array_equal(PICTURE, before)
    np.testing.assert_array_equal(one, same)
    assert (one == other).all() == (name == "none")


def test_perturbations_are_as_small_as_they_say() -> None:
    """By their constants: one level for all, some levels each, or one pixel aside."""
    rng = np.random.default_rng(4)
    steps = perturb("brightness", PICTURE, rng).astype(int) - PICTURE
    assert np.ptp(steps) <= 1
    assert np.abs(steps).max() <= BRIGHTNESS_LEVELS + 0.5
    levels = perturb("noise", np.full((1, 1, 100, 100), 128, np.uint8), rng).astype(float)
    assert levels.std() == pytest.approx(NOISE_LEVELS, rel=0.05)
    moved = {perturb("shift", PICTURE, rng).tobytes() for _ in range(200)}
    assert PICTURE.tobytes() in moved
    assert len(moved) == (2 * SHIFT_PIXELS + 1) ** 2


def test_what_is_no_picture_is_refused() -> None:
    """Perturbations are in grey levels; a sentence has none."""
    with pytest.raises(InvalidTensor, match="uint8 pictures"):
        perturb("noise", np.zeros((1, 8), dtype=np.float32), np.random.default_rng(0))
