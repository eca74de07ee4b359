"""Which k of n elements, in as few bytes as three plain layouts allow.

    bitmap   one bit per element                     ceil(n / 8) bytes
    gaps     distance to the element before, less    at most k + (n - k) // 255 bytes
             one; 255 in a byte means "255 and on"
    wide     the same in words of two bytes          at most 2 (k + (n - k) // 65535) bytes

Both ends take the layout with the smallest bound, so the choice need not travel.  Wide gaps win below a density of about
1/256, where sparse gradients live and activations do not.
Source of the gap code: run lengths in LZ4's block format, "additional length" bytes of 255.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from runtime.codecs.raw import Frame
from runtime.errors import MalformedMessage

_WORDS: tuple[np.dtype[Any], ...] = (np.dtype(np.uint8), np.dtype("<u2"))
"""Words of the two gap layouts."""


def bound_bytes(num_kept: int, num_elements: int) -> int:
    """Upper bound of an encoded choice; exact for bitmaps.  Rises with `num_kept`."""
    return min(_bitmap_bytes(num_elements), *(_gaps_bound_bytes(num_kept, num_elements, word) for word in _WORDS))


def write_mask(mask: np.ndarray) -> bytes:
    """Encode bool [n]."""
    indices = np.flatnonzero(mask)
    word = _gap_word(indices.size, mask.size)
    if word is None:
        return np.packbits(mask, bitorder="little").tobytes()
    carry = _carry(word)
    carries, rest = np.divmod(np.diff(indices, prepend=-1) - 1, carry)
    ends = np.cumsum(carries + 1) - 1
    code = np.full(int(ends[-1]) + 1 if ends.size else 0, carry, dtype=word)
    code[ends] = rest
    return code.tobytes()


def read_mask(code: Frame, num_kept: int, num_elements: int) -> np.ndarray:
    """Decode to bool [num_elements] with exactly `num_kept` set.  Raises MalformedMessage; num_kept <= num_elements."""
    if len(code) > bound_bytes(num_kept, num_elements):
        raise MalformedMessage(f"{len(code)} bytes for {num_kept} of {num_elements} indices, which take less")
    word = _gap_word(num_kept, num_elements)
    if word is not None:
        return _read_gaps(code, word, num_kept, num_elements)
    if len(code) != _bitmap_bytes(num_elements):
        raise MalformedMessage(f"a bitmap of {num_elements} elements has {_bitmap_bytes(num_elements)} bytes, got {len(code)}")
    bits = np.unpackbits(np.frombuffer(code, dtype=np.uint8), bitorder="little")
    if np.count_nonzero(bits) != num_kept or bits[num_elements:].any():
        raise MalformedMessage(f"bitmap sets {np.count_nonzero(bits)} bits, expected {num_kept} of the first {num_elements}")
    return bits[:num_elements].view(np.bool_)


def _read_gaps(code: Frame, word: np.dtype[Any], num_kept: int, num_elements: int) -> np.ndarray:
    if len(code) % word.itemsize:
        raise MalformedMessage(f"gaps come in words of {word.itemsize} bytes, got {len(code)} bytes")
    stored = np.frombuffer(code, dtype=word)
    is_end = stored != _carry(word)
    if np.count_nonzero(is_end) != num_kept or (stored.size and not is_end[-1]):
        raise MalformedMessage(f"{stored.size} words of gaps hold {np.count_nonzero(is_end)} indices, expected {num_kept}")
    indices = np.cumsum(stored, dtype=np.int64)[is_end] + np.arange(num_kept)  # rise by construction: no gap is negative
    if num_kept and indices[-1] >= num_elements:
        raise MalformedMessage(f"index {indices[-1]} is outside of {num_elements} elements")
    mask = np.zeros(num_elements, dtype=np.bool_)
    mask[indices] = True
    return mask


def _gap_word(num_kept: int, num_elements: int) -> np.dtype[Any] | None:
    """Word of the gap layout to use; None: a bitmap is as small."""
    word = min(_WORDS, key=lambda each: _gaps_bound_bytes(num_kept, num_elements, each))
    return word if _gaps_bound_bytes(num_kept, num_elements, word) < _bitmap_bytes(num_elements) else None


def _carry(word: np.dtype[Any]) -> int:
    """The word that means "as many, and on"."""
    return int(np.iinfo(word).max)


def _gaps_bound_bytes(num_kept: int, num_elements: int, word: np.dtype[Any]) -> int:
    return word.itemsize * (num_kept + (num_elements - num_kept) // _carry(word)) if num_kept else 0


def _bitmap_bytes(num_elements: int) -> int:
    return (num_elements + 7) // 8
