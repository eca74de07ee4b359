"""Work arrays that are kept from call to call, one set per number of states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

KEPT_SIZES = 4
SMALL = 4096
"""Elements up to which an operand is spread out: then numpy's overhead counts, beyond it the memory traffic does."""


class BySize(dict[int, T]):
    """Buffers for each number of states, made when first asked for; the last few sizes are kept."""

    def __init__(self, make: Callable[[int], T]) -> None:
        self._make = make

    def __missing__(self, num: int) -> T:
        if len(self) >= KEPT_SIZES:
            del self[next(iter(self))]
        made = self[num] = self._make(num)
        return made


class Operand:
    """Values broadcast to the shape of the arrays that they meet; spread out where that is small (half numpy's overhead)."""

    def __init__(self, values: npt.NDArray[Any] | np.floating[Any], shape: tuple[int, ...]) -> None:
        self._view = np.broadcast_to(values, shape)
        self._spread = self._view.copy() if self._view.size <= SMALL else None

    def refresh(self) -> npt.NDArray[Any]:
        """The operand, with the values as they are now."""
        if self._spread is None:
            return self._view
        np.copyto(self._spread, self._view)
        return self._spread
