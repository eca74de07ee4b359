"""What a tensor on the wire looks like."""

from __future__ import annotations

from typing import Literal

import msgspec

from runtime.errors import InvalidTensor

DType = Literal["float32", "float16", "uint8", "int8", "int32", "int64"]


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Shape and dtype of one tensor; its raw bytes follow as a frame of their own."""

    shape: tuple[int, ...]
    dtype: DType

    def __post_init__(self) -> None:
        if len(self.shape) > 8 or any(n < 0 for n in self.shape):
            raise InvalidTensor(f"a shape has at most 8 dimensions, none negative, got {self.shape}")
