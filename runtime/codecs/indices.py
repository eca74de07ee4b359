"""Which k of n elements, in as few bytes as two plain layouts allow.

    bitmap   one bit per element                     ceil(n / 8) bytes
    gaps     distance to the element before, less    at most k + (n - k) // 255 bytes
             one; 255 in a byte means "255 and on"

Both ends take the layout with the smaller bound, so the choice need not travel.  Plain uint16 indices (2 k bytes) would be
smaller than gaps only below a density of 1/256, and uint32 never.
Source of the gap code: run lengths in LZ4's block format, "additional length" bytes of 255.
"""

from __future__ import annotations

import numpy as np

from runtime.codecs.raw import Frame
from runtime.errors import MalformedMessage

_CARRY = 255


def bound_bytes(num_kept: int, num_elements: int) -> int:
    """Upper bound of an encoded choice; exact for bitmaps.  Rises with `num_kept`."""
    return min(_gaps_bound_bytes(num_kept, num_elements), _bitmap_bytes(num_elements))


def write_mask(mask: np.ndarray) -> bytes:
    """Encode bool [n]."""
    indices = np.flatnonzero(mask)
    if not _as_gaps(indices.size, mask.size):
        return np.packbits(mask, bitorder="little").tobytes()
    carries, rest = np.divmod(np.diff(indices, prepend=-1) - 1, _CARRY)
    ends = np.cumsum(carries + 1) - 1
    code = np.full(int(ends[-1]) + 1 if ends.size else 0, _CARRY, dtype=np.uint8)
    code[ends] = rest
    return code.tobytes()


def read_mask(code: Frame, num_kept: int, num_elements: int) -> np.ndarray:
    """Decode to bool [num_elements] with exactly `num_kept` set.  Raises MalformedMessage; num_kept <= num_elements."""
    if len(code) > bound_bytes(num_kept, num_elements):
        raise MalformedMessage(f"{len(code)} bytes for {num_kept} of {num_elements} indices, which take less")
    stored = np.frombuffer(code, dtype=np.uint8)
    if _as_gaps(num_kept, num_elements):
        return _read_gaps(stored, num_kept, num_elements)
    if stored.size != _bitmap_bytes(num_elements):
        raise MalformedMessage(f"a bitmap of {num_elements} elements has {_bitmap_bytes(num_elements)} bytes, got {stored.size}")
    bits = np.unpackbits(stored, bitorder="little")
    if np.count_nonzero(bits) != num_kept or bits[num_elements:].any():
        raise MalformedMessage(f"bitmap sets {np.count_nonzero(bits)} bits, expected {num_kept} of the first {num_elements}")
    return bits[:num_elements].view(np.bool_)


def _read_gaps(stored: np.ndarray, num_kept: int, num_elements: int) -> np.ndarray:
    is_end = stored != _CARRY
    if np.count_nonzero(is_end) != num_kept or (stored.size and not is_end[-1]):
        raise MalformedMessage(f"{stored.size} bytes of gaps hold {np.count_nonzero(is_end)} indices, expected {num_kept}")
    indices = np.cumsum(stored, dtype=np.int64)[is_end] + np.arange(num_kept)  # rise by construction: no gap is negative
    if num_kept and indices[-1] >= num_elements:
        raise MalformedMessage(f"index {indices[-1]} is outside of {num_elements} elements")
    mask = np.zeros(num_elements, dtype=np.bool_)
    mask[indices] = True
    return mask


def _as_gaps(num_kept: int, num_elements: int) -> bool:
    return _gaps_bound_bytes(num_kept, num_elements) < _bitmap_bytes(num_elements)


def _gaps_bound_bytes(num_kept: int, num_elements: int) -> int:
    return num_kept + (num_elements - num_kept) // _CARRY if num_kept else 0


def _bitmap_bytes(num_elements: int) -> int:
    return (num_elements + 7) // 8
