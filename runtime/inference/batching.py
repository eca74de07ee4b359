"""Run several requests as one: which may go together, what that costs, and how their tensors are joined.

The worker takes n rows through a segment in less than n times the time of one.  To first order a batch takes
fixed + n * per-item seconds, so throughput rises towards 1 / per-item while each row's own time grows with n.

Sources: the affine cost of a batch, Shen et al., Nexus, SOSP 2019 (batching profiles); batching on demand under a
latency bound and holding back for more ("delayed batching"), Crankshaw et al., Clipper, NSDI 2017, section 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from runtime.errors import InvalidConfig, InvalidTensor
from runtime.messages import TensorSpec


class BatchingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a node forms batches.  The default forms none."""

    max_batch: int = 1
    """Requests that run together at most. 1: each alone."""
    max_hold_s: float = 0.0
    """How long an idle worker may leave a job waiting for more of its kind, while nothing else waits. 0: not at all."""
    max_stretch_s: float = 0.0
    """How much longer than its first job alone a batch may take while another tenant's job is left waiting.

    With N tenants a waiting tenant's turn comes at most (N - 1) times this later than without batching; a batch that
    began while nothing else waited runs out, however long.  0: no batch of several forms while it leaves another
    tenant's job behind."""
    fixed_fraction: float | None = None
    """Share of a job's time that a batch pays once (`affine_batch_s`): what batches are expected to take, and on an
    emulated tier do take.  None: each variant's is measured when the node starts."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_batch <= 1024:
            raise InvalidConfig(f"max_batch must be in 1..1024, got {self.max_batch}")
        for name in ("max_hold_s", "max_stretch_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InvalidConfig(f"{name} must be finite and >= 0, got {value}")
        if self.fixed_fraction is not None and not 0 <= self.fixed_fraction <= 1:
            raise InvalidConfig(f"fixed_fraction must be in 0..1, got {self.fixed_fraction}")


NO_BATCHING = BatchingConfig()


class BatchKey(msgspec.Struct, frozen=True, kw_only=True):
    """What requests must share to run together: one segment of one variant of one model."""

    model: str
    variant: str
    start: int
    stop: int
    exit: int | None


BatchSeconds = Callable[[BatchKey, int], float]
"""Expected seconds of n jobs of a key run together; never less for more jobs."""


def affine_batch_s(alone_s: float, fixed_fraction: float, num_rows: int) -> float:
    """Seconds of a batch whose first row alone takes `alone_s`, of which a share is paid once for the whole batch.

    alone_s * (f + (1 - f) * n), so that throughput grows at most 1 / (1 - f) times.
    Source: Nexus, SOSP 2019, alpha * n + beta with alpha = (1 - f) * alone_s and beta = f * alone_s.
    """
    return alone_s * (fixed_fraction + (1.0 - fixed_fraction) * num_rows)


def fixed_fraction(seconds: Sequence[float]) -> float:
    """The share f of `affine_batch_s` that fits measured seconds best, where seconds[i] is a batch of i + 1 rows.

    Least squares in units of the first, which is taken as exact: s_n / s_1 - n = f (1 - n).  Kept within 0..1.
    Raises ValueError for fewer than two measurements, or one that is not positive.
    """
    if len(seconds) < 2 or not min(seconds) > 0:
        raise ValueError(f"a fit needs two or more positive times, got {list(seconds)}")
    rows = np.arange(1, len(seconds) + 1)
    saved = rows - np.asarray(seconds) / seconds[0]
    share = float((saved * (rows - 1)).sum() / ((rows - 1) ** 2).sum())
    return min(1.0, max(0.0, share))


def stack(requests: Sequence[Sequence[np.ndarray]], specs: Sequence[TensorSpec]) -> list[np.ndarray]:
    """n requests' tensors of one cut, each [1, ...] -> one tensor [n, ...] for each of the cut's specs.

    Row i is request i; a single request is given back as it came, uncopied.
    Raises InvalidTensor when there is no request, or a tensor is not what its spec says.
    """
    if not requests:
        raise InvalidTensor("a batch needs one request or more, got none")
    for tensors in requests:
        _check(tensors, specs)
    if len(requests) == 1:
        return list(requests[0])
    return [np.concatenate(column) for column in zip(*requests, strict=True)]


def unstack(tensors: Sequence[np.ndarray], num_rows: int) -> list[list[np.ndarray]]:
    """Invert `stack`: tensors [n, ...] -> for each of the n requests its tensors [1, ...], as views.

    Raises InvalidTensor when a tensor has not exactly `num_rows` rows: then a segment has mixed or lost rows.
    """
    for tensor in tensors:
        if tensor.ndim == 0 or tensor.shape[0] != num_rows:
            raise InvalidTensor(f"a batch of {num_rows} gave a tensor of shape {list(tensor.shape)}: rows cannot be told apart")
    return [[tensor[row : row + 1] for tensor in tensors] for row in range(num_rows)]


def _check(tensors: Sequence[np.ndarray], specs: Sequence[TensorSpec]) -> None:
    want = [(spec.shape, np.dtype(spec.dtype)) for spec in specs]
    if any(not shape or shape[0] != 1 for shape, _ in want):
        raise InvalidTensor(f"only tensors with a leading axis of one are stacked, got specs {[list(shape) for shape, _ in want]}")
    if [(tensor.shape, tensor.dtype) for tensor in tensors] != want:
        got = ", ".join(f"{tensor.dtype}{list(tensor.shape)}" for tensor in tensors) or "nothing"
        raise InvalidTensor(f"a row carries {', '.join(f'{dtype}{list(shape)}' for shape, dtype in want)}; got {got}")
