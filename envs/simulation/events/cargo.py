"""Tensors that are not there: parcels of the right kind and size that say whose they are.

Machines look at a parcel's specs, codec and bytes, and hand it on; only workers and inspectors look inside.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.codec import num_bytes, seal
from runtime.codecs.parcel import IDENTITY, Parcel
from runtime.messages import Decision, Message, Result, TensorSpec, Work
from runtime.models.manifest import Manifest
from runtime.profile import Profile
from runtime.protocol.payload_sizes import HEADER_BYTES


@dataclass(slots=True)
class Ride:
    """One request's input on its way."""

    example: int
    """Of the split."""
    picture: int
    """Equal for equal inputs: the example, or for an input of its own minus one less its request's index."""
    decision: Decision | None = None
    """Set when it is decided."""


class Cargo(Parcel, frozen=True, kw_only=True):
    """Tensors of one cut of one request."""

    ride: Ride
    variant: str
    cut: int


class Cargos:
    """Makes cargo of one model: bytes on the wire are those of its profile."""

    def __init__(self, profile: Profile, manifest: Manifest) -> None:
        self._profile, self._manifest = profile, manifest
        self._known: dict[tuple[str, int, str], tuple[tuple[TensorSpec, ...], tuple[bytes, ...]]] = {}

    def make(self, ride: Ride, variant: str, cut: int, codec: str = IDENTITY) -> Cargo:
        """What crosses `cut` for this request."""
        key = variant, cut, codec
        if key not in self._known:
            size = max(0, self.work_bytes(*key) - HEADER_BYTES)
            self._known[key] = self._manifest.variants[variant].cuts[cut], (bytes(size),)
        specs, frames = self._known[key]
        return Cargo(specs=specs, codec=codec, frames=frames, ride=ride, variant=variant, cut=cut)

    def work_bytes(self, variant: str, cut: int, codec: str) -> int:
        """Bytes on the wire of a Work message, header included."""
        info = self._profile.variants[variant]
        sizes = info.codecs[codec].cut_bytes if codec in info.codecs else info.cut_bytes
        return sizes[cut]

    def bytes_of(self, message: Message, parcel: Parcel) -> int:
        """Bytes on the wire of any message."""
        match message:
            case Work(decision=decision, stage=stage):
                return self.work_bytes(decision.variant, stage, decision.codec)
            case Result():
                return self._profile.result_bytes
            case _:
                return num_bytes(seal(message, parcel))
