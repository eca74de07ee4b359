"""Which pictures the requests bring: how often the same ones come again, and how much like each other they are.

Drawn pictures are those of the held-out split; what is done to them is synthetic (envs/perturbations.py).
"""

from __future__ import annotations

import msgspec
import numpy as np

from envs.perturbations import PerturbationName, perturb
from runtime.messages import MAX_NAME_CHARS
from runtime.topology import require


class InputsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How inputs repeat.  The default draws every picture independently and uniformly."""

    zipf_exponent: float | None = None
    """The picture of popularity rank r is drawn with probability proportional to r^-exponent; None: all alike.

    Which picture has which rank is drawn anew for each episode.  Source: Breslau et al., "Web caching and Zipf-like
    distributions: evidence and implications", INFOCOM 1999, who found exponents of 0.64 to 0.83 in web proxies' traces."""
    frames_per_picture: float = 1.0
    """Mean number of requests in a row that bring the same picture (geometric), as a camera before a still scene would."""
    perturbation: PerturbationName = "none"
    """What is done to the perturbed pictures; synthetic."""
    perturbed_fraction: float = 1.0
    """Share of the requests whose picture is perturbed, each in a way of its own."""
    stream: str = ""
    """Name of the stream that the requests are the frames of; empty: of none, so that no filter sees them."""

    def __post_init__(self) -> None:
        exponent = self.zipf_exponent
        require(exponent is None or 0 <= exponent <= 10, f"zipf_exponent must be in [0, 10], got {exponent}")
        require(1 <= self.frames_per_picture < np.inf, f"frames_per_picture must be finite and >= 1, got {self.frames_per_picture}")
        require(0 <= self.perturbed_fraction <= 1, f"perturbed_fraction must be in [0, 1], got {self.perturbed_fraction}")
        require(len(self.stream) <= MAX_NAME_CHARS, f"stream must have at most {MAX_NAME_CHARS} characters")


_PERTURBATION_SALT = 14


def draw_examples(config: InputsConfig, rng: np.random.Generator, num_requests: int, num_examples: int) -> np.ndarray:
    """int64 [R]: the index of each request's picture, before it is perturbed."""
    if config.zipf_exponent is None:
        examples = rng.integers(num_examples, size=num_requests)
    else:
        examples = rng.permutation(num_examples)[_zipf_ranks(config.zipf_exponent, rng, num_requests, num_examples)]
    if config.frames_per_picture > 1:
        new = rng.random(num_requests) < 1 / config.frames_per_picture
        examples = examples[np.maximum.accumulate(np.where(new, np.arange(num_requests), 0))]
    return examples


def draw_perturbed(config: InputsConfig, seed: int, num_requests: int) -> np.ndarray:
    """bool [R]: whose picture is perturbed."""
    if config.perturbation == "none":
        return np.zeros(num_requests, dtype=bool)
    rng = np.random.default_rng([seed & 0xFFFFFFFF, _PERTURBATION_SALT])
    return rng.random(num_requests) < config.perturbed_fraction


def perturbed_picture(config: InputsConfig, seed: int, index: int, picture: np.ndarray) -> np.ndarray:
    """Request `index`'s own version of a picture.  Raises InvalidTensor for what is no uint8 picture."""
    return perturb(config.perturbation, picture, np.random.default_rng([seed & 0xFFFFFFFF, _PERTURBATION_SALT, index]))


def _zipf_ranks(exponent: float, rng: np.random.Generator, count: int, num_ranks: int) -> np.ndarray:
    """int64 [count] of 0..num_ranks - 1, rank r with probability proportional to (r + 1)^-exponent."""
    cumulative = np.cumsum(np.arange(1, num_ranks + 1, dtype=np.float64) ** -exponent)
    ranks = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
    within: np.ndarray = np.minimum(ranks, num_ranks - 1)
    return within
