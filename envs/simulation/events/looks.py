"""What inspectors see: digests of what inputs are, sketches and thumbnails of the real pictures, difficulty as profiled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from envs.inputs import InputsConfig, perturbed_picture
from envs.simulation.events.cargo import Cargo, Ride
from runtime.inference.cache.fingerprint import DIGEST_BYTES, Fingerprint
from runtime.inference.pictures import thumbnail
from runtime.messages import Tier
from runtime.models.examples import Examples
from runtime.profile import Profile
from runtime.protocol.events import Inspect, Inspected
from runtime.protocol.payload_sizes import HEADER_BYTES


class Pictures:
    """The inputs of one episode."""

    def __init__(self, inputs: InputsConfig, examples: Examples | None, seed: int) -> None:
        """`examples`: the split; None where nobody looks at pictures."""
        self._inputs, self._examples, self._seed = inputs, examples, seed

    def picture(self, ride: Ride) -> np.ndarray:
        """What a request brings."""
        assert self._examples is not None, "whoever has pictures looked at gives examples"
        image: np.ndarray = self._examples.images[ride.example]
        return image if ride.picture >= 0 else perturbed_picture(self._inputs, self._seed, -1 - ride.picture, image)


class Looks:
    """One tier's inspector.  Looks do not wait for one another."""

    def __init__(self, profile: Profile, tier: Tier, told: Callable[[int], tuple[float, ...]]) -> None:
        """`told`: what is told of an example's difficulty."""
        self._profile, self._tier, self._told = profile, tier, told

    def inspect(self, job: Inspect, pictures: Pictures, started_at_s: float) -> Inspected:
        """A look that begins now, done."""
        cargo = job.parcel
        assert isinstance(cargo, Cargo), "nothing else is looked at"
        end_s = started_at_s + self._seconds(job, cargo)
        seen = job.sketcher is not None or job.thumbnail_side
        picture = pictures.picture(cargo.ride) if seen else None
        fingerprint = None
        if job.digest:
            sketch = job.sketcher.sketch([picture]) if job.sketcher is not None and picture is not None else None
            fingerprint = Fingerprint(digest=_digest(cargo), sketch=sketch)
        return Inspected(
            request_id=job.request_id,
            parcel=cargo,
            started_at_s=started_at_s,
            finished_at_s=end_s,
            at_s=end_s,
            fingerprint=fingerprint,
            thumbnail=thumbnail(picture, job.thumbnail_side) if job.thumbnail_side and picture is not None else None,
            difficulty=self._told(cargo.ride.example) if job.difficulty is not None else (),
        )

    def _seconds(self, job: Inspect, cargo: Cargo) -> float:
        """As profiled: on the device by what is looked for, above it by bytes; the cloud's as on the edge, for want of its own."""
        profile = self._profile
        if self._tier != "device":
            return profile.edge_lookup_s + profile.edge_lookup_s_per_byte * (sum(len(frame) for frame in cargo.frames) + HEADER_BYTES)
        told = profile.difficulty.look_s if job.difficulty is not None and profile.difficulty is not None else 0.0
        return profile.lookup_s * job.digest + profile.thumbnail_s * (job.thumbnail_side > 0) + told


def _digest(cargo: Cargo) -> bytes:
    """Equal for equal tensors in one codec; raw inputs are the same for every variant."""
    content = f"{cargo.ride.picture} {cargo.variant if cargo.cut else ''} {cargo.cut} {cargo.codec}"
    return hashlib.blake2b(content.encode(), digest_size=DIGEST_BYTES).digest()
