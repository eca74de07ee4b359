"""Measuring codecs on a model's own activations: bytes, seconds on each tier, and answers that they break.

Codecs are timed in this process; a tier is taken to encode as much slower as it runs the model's stages slower than the
host that built the model (`VariantProfile.stage_s` over the manifest's reference times).  On emulated tiers that is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runtime.codec import num_bytes, seal
from runtime.codecs import is_lossless
from runtime.codecs.measuring import measure_codec
from runtime.codecs.parcel import pack, unpack
from runtime.inference.engine import Engine
from runtime.messages import TIERS, Decision, Work
from runtime.models.examples import SPLITS
from runtime.models.played import load_played
from runtime.profile import CodecProfile, VariantProfile, write_bits

TIMED_EXAMPLES = 40
"""Pictures whose activations are encoded for bytes and times."""

Samples = list[list[np.ndarray]]
"""The tensors of one cut for each example."""


def profile_codecs(
    engine: Engine, model_dir: Path, variant: str, measured: VariantProfile, codecs: Sequence[str]
) -> dict[str, CodecProfile]:
    """Codec -> what it does at every cut of a variant."""
    examples = {split: load_played(model_dir, split) for split in SPLITS}
    activations = {split: _activations(engine, variant, part.images) for split, part in examples.items()}
    slower = _slower(engine, variant, measured)
    profiles = {}
    for codec in codecs:
        timed = [samples[:TIMED_EXAMPLES] for samples in activations[SPLITS[0]]]
        costs = [measure_codec(codec, samples) for samples in timed]
        profiles[codec] = CodecProfile(
            cut_bytes=tuple(_mean_bytes(engine, variant, codec, cut, samples) for cut, samples in enumerate(timed)),
            encode_s={tier: tuple(slower[tier] * float(np.median(cost.encode_s)) for cost in costs) for tier in TIERS},
            decode_s={tier: tuple(slower[tier] * float(np.median(cost.decode_s)) for cost in costs) for tier in TIERS},
            correct={}
            if is_lossless(codec)
            else {
                split: _correct(engine, variant, codec, activations[split], part.labels, measured.correct[split])
                for split, part in examples.items()
            },
        )
    return profiles


def _activations(engine: Engine, variant: str, images: np.ndarray) -> list[Samples]:
    """Per cut 0..S, the tensors of each image."""
    stages = engine.manifest.num_stages
    cuts: list[Samples] = [[[image] for image in images]]
    for stage in range(stages):
        cuts.append([engine.run(variant, stage, stage + 1, None, sample) for sample in cuts[-1]])
    return cuts


def _slower(engine: Engine, variant: str, measured: VariantProfile) -> dict[str, float]:
    """How many times as long as on the building host the variant's stages take on each tier."""
    reference_s = sum(engine.manifest.variants[variant].stage_reference_s)
    return {tier: sum(measured.stage_s[tier]) / reference_s for tier in TIERS}


def _mean_bytes(engine: Engine, variant: str, codec: str, cut: int, samples: Samples) -> int:
    """Bytes of a Work message at this cut, frames and header, on average."""
    manifest = engine.manifest
    exit = len(manifest.exit_ends) - 1
    decision = Decision(model=manifest.model, variant=variant, cuts=(cut, manifest.num_stages), exit=exit, codec=codec)
    work = Work(request_id=1 << 30, decision=decision, stage=cut, budget_s=0.1)
    return round(float(np.mean([num_bytes(seal(work, pack(sample, codec))) for sample in samples])))


def _correct(
    engine: Engine, variant: str, codec: str, activations: list[Samples], labels: np.ndarray, plain: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    """cut -> exit -> which examples are right when that cut is crossed in this codec."""
    ends = engine.manifest.exit_ends
    right = np.array([[[bit == "1" for bit in line] for line in plain]] * len(activations))
    for cut, samples in enumerate(activations):
        for index, tensors in enumerate(samples):
            decoded = unpack(pack(tensors, codec)).tensors
            if all((one == other).all() for one, other in zip(decoded, tensors, strict=True)):
                continue  # integers travel as they are
            for exit, end in enumerate(ends):
                if cut < end:
                    (logits,) = engine.run(variant, cut, end, exit, decoded)
                    right[cut, exit, index] = logits.argmax() == labels[index]
    return tuple(write_bits(lines) for lines in right)
