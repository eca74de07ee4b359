"""What getting a model's pieces into memory takes: the part of a profile that nodes need which do not have everything there."""

from __future__ import annotations

import msgspec


class VariantLoading(msgspec.Struct, frozen=True, kw_only=True):
    """One variant's files, and seconds of making sessions of them."""

    graph_bytes: dict[str, int]
    """Name of a segment ("2-5", "2-5x1"; runtime/models/manifest.py) -> bytes of its file."""
    weights_bytes: int = 0
    """Of the file that its segments share; 0: there is none."""
    standalone: tuple[str, ...] = ()
    """Segments that take nothing from that file."""
    session_s: float
    """Of any piece, whatever it holds."""
    stage_s: tuple[float, ...]
    """More, for each of its stages."""
    weights_s: float = 0.0
    """More, for the first piece that takes weights: reading them."""

    def load_s(self, start: int, stop: int) -> float:
        """Seconds of loading stages [start, stop) when their weights are in memory."""
        return self.session_s + sum(self.stage_s[start:stop])


class LoadingProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Measured on the host that profiled: loading takes the host's time, on emulated tiers too.  Files were in its page cache."""

    variants: dict[str, VariantLoading]
    keep_s: float
    """Seconds of verifying and storing a fetched file of any size, and for each byte of it."""
    keep_s_per_byte: float
    read_s_per_byte: float
    """Seconds of reading and verifying a stored file, for each byte of it."""
