"""How far a stream's report agrees with the reference: F1 over cells, and answers that are repeated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def f1(reference: np.ndarray, reported: np.ndarray) -> float:
    """2 TP / (2 TP + FP + FN) over all cells of all frames, both bool of one shape; 1 when both are empty.

    Pooled, so that a frame counts as much as there is in it.
    Source: van Rijsbergen, "Information Retrieval", 1979, chapter 7; as the accuracy of a configuration against the
    golden one: Jiang et al., "Chameleon", SIGCOMM 2018.
    """
    both = int((reference & reported).sum())
    total = int(reference.sum()) + int(reported.sum())
    return 2 * both / total if total else 1.0


def hold_last(answers: Sequence[np.ndarray | None], before: np.ndarray) -> list[np.ndarray]:
    """The report of every frame: its answer, or the last one where it has none (skipped, failed); `before` until the first."""
    report, last = [], before
    for answer in answers:
        last = last if answer is None else answer
        report.append(last)
    return report
