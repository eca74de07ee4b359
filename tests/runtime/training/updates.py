"""Updates for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtime.training.update import Update, UpdateHeader


def update_of(delta: Sequence[float] | np.ndarray, client: str = "a", num_examples: int = 1, round_: int = 0) -> Update:
    """One client's update."""
    return Update(
        header=UpdateHeader(client=client, round=round_, num_examples=num_examples, metrics={"loss": 1.0}),
        delta=np.asarray(delta, np.float32),
    )


def updates_of(deltas: np.ndarray, num_examples: Sequence[int] | None = None) -> list[Update]:
    """One update per row, clients named by row."""
    counts = [1] * len(deltas) if num_examples is None else num_examples
    return [update_of(row, f"client-{index:03d}", count) for index, (row, count) in enumerate(zip(deltas, counts, strict=True))]
