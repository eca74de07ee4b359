"""Which clients take part in a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from runtime.errors import InvalidInput


def _check_count(num_sampled: int, num_clients: int) -> None:
    if not 1 <= num_sampled <= num_clients:
        raise InvalidInput(f"num_sampled must be in 1..{num_clients} (the clients there are), got {num_sampled}")


def num_drawn(fraction: float, num_clients: int) -> int:
    """How many of `num_clients` take part in a round: `fraction` of them, rounded, and one at least."""
    return max(1, round(fraction * num_clients))


def sample_uniformly(clients: Sequence[str], num_sampled: int, rng: np.random.Generator) -> tuple[str, ...]:
    """`num_sampled` different clients, each set equally likely, in name order.

    Source: McMahan et al., AISTATS 2017, Algorithm 1 (S_t).
    """
    _check_count(num_sampled, len(clients))
    names = sorted(clients)
    return tuple(names[index] for index in sorted(rng.choice(len(names), num_sampled, replace=False)))


def sample_by_examples(num_examples: Mapping[str, int], num_sampled: int, rng: np.random.Generator) -> tuple[str, ...]:
    """`num_sampled` different clients drawn one by one in proportion to their examples, in name order.

    Averaging such clients with equal weights estimates the weighted mean, exactly only for draws with replacement;
    weighing them by examples again would count large clients twice.
    Source: Li et al., "On the Convergence of FedAvg on Non-IID Data", ICLR 2020, section 3.3 (scheme I, here without replacement).
    """
    names = sorted(client for client, count in num_examples.items() if count > 0)
    _check_count(num_sampled, len(names))
    shares = np.array([num_examples[name] for name in names], np.float64)
    chosen = rng.choice(len(names), num_sampled, replace=False, p=shares / shares.sum())
    return tuple(names[index] for index in sorted(chosen))
