"""What left the device at each cut, in three figures: dependence on the input, and how well an attacker paints it again.

Needs the `train` extra.  See runtime/models/leakage.py for the distance correlation, runtime/models/reconstruction.py for the
attack and its assumptions, runtime/models/similarity.py for NMSE and SSIM.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from runtime.codecs.parcel import IDENTITY, pack, unpack
from runtime.errors import InvalidInput
from runtime.inference.engine import Engine
from runtime.models.leakage import distance_correlation
from runtime.models.pixels import WHITE
from runtime.models.reconstruction import Attacker, AttackSpec, Method
from runtime.models.similarity import nmse, ssim

LEAKAGE_PICTURES = 200
"""Unseen pictures that the distance correlation is taken over; its bias depends on how many."""

Progress = Callable[[str, float], None]


class CutPrivacy(msgspec.Struct, frozen=True, kw_only=True):
    """One cut of one variant, under attack."""

    cut: int
    leakage: float
    """Distance correlation of the raw input and what crosses, 1 at cut 0."""
    nmse: float
    """Of the reconstruction: 0 is the picture itself, 1 (0 dB) no better than the mean picture."""
    ssim: float
    """Of the reconstruction: 1 is the picture itself."""
    attack_s: float
    """Time that preparing the attack took."""
    method: Method | None = None
    """What reconstructed it; None at cut 0."""
    guesses: np.ndarray
    """Reconstructions of the unseen pictures, float32 [N, C, H, W] in 0..1."""


def measure_privacy(
    engine: Engine,
    variant: str,
    own: np.ndarray,
    unseen: np.ndarray,
    *,
    codec: str = IDENTITY,
    spec: AttackSpec | None = None,
    progress: Progress | None = None,
) -> tuple[CutPrivacy, ...]:
    """Attack every cut 0..S of a variant with the attacker's `own` pictures, and judge on `unseen` ones.

    Both uint8 [N, 1, C, H, W], disjoint.  `codec` is what tensors cross the link in.  At cut 0 the picture itself leaves.
    Raises InvalidInput for a model that does not take pictures, InvalidDecision for an unknown codec.
    """
    if own.ndim != 5 or own.dtype != np.uint8:
        raise InvalidInput(f"reconstruction is of pictures, uint8 [N, 1, C, H, W]; the model takes {own.dtype}{list(own.shape)}")
    spec = spec or AttackSpec()
    own = own[: spec.max_pictures]
    pictures, mean = _unit(unseen), _unit(own).mean(axis=0)
    cuts = [CutPrivacy(cut=0, leakage=1.0, nmse=0.0, ssim=1.0, attack_s=0.0, guesses=pictures)]
    ways = zip(_crossings(engine, variant, own, codec), _crossings(engine, variant, unseen, codec), strict=True)
    for cut, (seen, victims) in enumerate(ways, start=1):
        if progress is not None:
            progress(f"attacking cut {cut} of {variant}", (cut - 1) / engine.manifest.num_stages)
        started_s = time.perf_counter()
        attacker = Attacker(seen, own[:, 0], spec)
        attack_s = time.perf_counter() - started_s
        guesses = attacker.guess(victims)
        cuts.append(
            CutPrivacy(
                cut=cut,
                leakage=_leakage(pictures, victims),
                nmse=nmse(pictures, guesses, mean),
                ssim=ssim(pictures, guesses),
                attack_s=attack_s,
                method=attacker.method,
                guesses=guesses,
            )
        )
    return tuple(cuts)


def _unit(pictures: np.ndarray) -> np.ndarray:
    """uint8 [N, 1, C, H, W] -> float32 [N, C, H, W] in 0..1"""
    unit: np.ndarray = (pictures[:, 0] / WHITE).astype(np.float32)
    return unit


def _crossings(engine: Engine, variant: str, pictures: np.ndarray, codec: str) -> Iterator[list[np.ndarray]]:
    """For cut 1, 2, ... S: its tensors for all pictures, [N, ...] each, as they come out of the codec."""
    at_cut = [[picture] for picture in pictures]
    for stage in range(engine.manifest.num_stages):
        at_cut = [engine.run(variant, stage, stage + 1, None, tensors) for tensors in at_cut]
        received = [unpack(pack(tensors, codec)).tensors for tensors in at_cut]
        yield [np.concatenate(parts) for parts in zip(*received, strict=True)]


def _leakage(pictures: np.ndarray, victims: list[np.ndarray]) -> float:
    num = min(LEAKAGE_PICTURES, len(pictures))
    crossing = np.concatenate([tensor[:num].reshape(num, -1).astype(np.float64) for tensor in victims], axis=1)
    return distance_correlation(pictures[:num], crossing)
