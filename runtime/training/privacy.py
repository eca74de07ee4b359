"""Client-level differential privacy: clip each update, add Gaussian noise to the sum, and account for it.  Off unless configured.

    sensitivity of a sum of clipped updates      C                   (one client joins or leaves)
    noise on the sum                             N(0, (z C)^2)       z is the noise multiplier
    Renyi DP of one round, Poisson sampling q    eps(a) = 1/(a-1) log sum_k C(a,k) (1-q)^(a-k) q^k exp((k^2-k)/(2 z^2))
    rounds                                       their eps(a) add up, whatever q each was drawn with
    (epsilon, delta)                             min over a of the sum + log(1/delta)/(a-1)

The statement holds for a server that is trusted to add the noise, and for clients that each take part in a round independently with
probability q, without others knowing who does.  A fixed number of clients per round is not Poisson sampling; the figures are then
customary, not proven.  The noise is drawn in floating point from the generator passed in, which nobody else may know or guess the
seed of: an adversary who sees all bits of the result can exploit that (Mironov, CCS 2012), and numpy's generators are not made to
resist one who reconstructs their state.

Source: McMahan et al., ICLR 2018 (DP-FedAvg); Mironov, "Renyi Differential Privacy", CSF 2017, Propositions 1 and 3;
Mironov, Talwar, Zhang, "Renyi Differential Privacy of the Sampled Gaussian Mechanism", 2019, section 3.3 (integer orders).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from runtime.errors import InvalidInput
from runtime.messages import PrivacyConfig
from runtime.training.aggregation.means import clip_norms
from runtime.training.aggregation.rule import ordered, stack
from runtime.training.update import Update, Vector

ORDERS: tuple[int, ...] = (*range(2, 65), 80, 96, 128, 192, 256, 512, 1024)
"""Integer Renyi orders that are tried; small ones win for much loss, large ones for little.

Without the fractional orders between them epsilon stays an upper bound: above it by 3 % at noise 0.7 and epsilon 9, less below.
"""


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """The promise that holds after some rounds: (epsilon, delta), found at a Renyi order."""

    epsilon: float
    delta: float
    order: int


def private_mean(updates: Sequence[Update], config: PrivacyConfig, num_expected: float, rng: np.random.Generator) -> Vector:
    """(sum of clipped updates + noise) / `num_expected`, float32 [P].

    `num_expected` is q times the number of clients, a public constant: dividing by how many really came would tell who did.
    All clients weigh the same.  Raises InvalidInput for num_expected <= 0.
    """
    if not 0.0 < num_expected < math.inf:
        raise InvalidInput(f"num_expected must be finite and > 0, got {num_expected}")
    total = clip_norms(stack(ordered(updates)), config.max_norm).sum(axis=0)
    noise = rng.normal(0.0, config.noise_multiplier * config.max_norm, size=total.shape)
    return np.asarray((total + noise) / num_expected).astype(np.float32)


def _log_sum_exp(terms: Sequence[float]) -> float:
    largest = max(terms)
    return largest + math.log(math.fsum(math.exp(term - largest) for term in terms))


def renyi_epsilon(noise_multiplier: float, sampling_fraction: float, order: int) -> float:
    """Renyi DP of one round of the sampled Gaussian at an integer order >= 2; inf without noise.

    Source: Mironov, Talwar, Zhang 2019, section 3.3; for q = 1 it is a / (2 z^2) (Mironov 2017, Proposition 7).
    """
    if order < 2:
        raise InvalidInput(f"Renyi orders are integers >= 2 here, got {order}")
    if noise_multiplier == 0.0:
        return math.inf
    if sampling_fraction == 1.0:
        return order / (2.0 * noise_multiplier**2)
    log_q, log_p = math.log(sampling_fraction), math.log1p(-sampling_fraction)
    terms = [
        math.lgamma(order + 1)
        - math.lgamma(k + 1)
        - math.lgamma(order - k + 1)
        + k * log_q
        + (order - k) * log_p
        + (k * k - k) / (2.0 * noise_multiplier**2)
        for k in range(order + 1)
    ]
    return max(0.0, _log_sum_exp(terms) / (order - 1))


def account(config: PrivacyConfig, releases: Mapping[float, int]) -> Spent:
    """What was spent by `releases`: how many rounds of each sampling fraction; epsilon is inf without noise, 0 before the first round.

    The fractions are of the rounds as they were drawn, and not `config.sampling_fraction`, of which whole clients can fall short.
    Source: Mironov 2017, Proposition 1 (rounds add up) and Proposition 3 (conversion).
    """
    if any(not 0.0 < fraction <= 1.0 or num_rounds < 0 for fraction, num_rounds in releases.items()):
        raise InvalidInput(f"fractions of the clients are in (0, 1], and rounds >= 0, got {dict(releases)}")
    if not any(releases.values()):
        return Spent(epsilon=0.0, delta=config.delta, order=ORDERS[0])

    def epsilon(order: int) -> float:
        spent = math.fsum(count * renyi_epsilon(config.noise_multiplier, fraction, order) for fraction, count in releases.items() if count)
        return spent - math.log(config.delta) / (order - 1)

    best = min(ORDERS, key=epsilon)
    return Spent(epsilon=epsilon(best), delta=config.delta, order=best)
