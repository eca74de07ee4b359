"""FedProx: keeps local weights near the global ones that they started from."""

from __future__ import annotations

import numpy as np

from runtime.errors import InvalidConfig
from runtime.training.update import Vector


def proximal_gradient(local: Vector, start: Vector, strength: float) -> Vector:
    """mu (w - w_global), float32 [P]: add it to the gradient of each local step.  mu = 0 is FedAvg.

    Source: Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, equation 2.
    """
    if not 0.0 <= strength < float("inf"):
        raise InvalidConfig(f"the strength of the proximal term must be finite and >= 0, got {strength}")
    return np.asarray(np.float32(strength) * np.subtract(local, start, dtype=np.float32))
