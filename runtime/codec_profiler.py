"""Measuring codecs on a model's own activations: bytes, seconds on each tier, and answers that they break.

Codecs are timed in this process; a tier is taken to encode as much slower as it runs the model's stages slower than the
host that built the model (`VariantProfile.stage_s` over the manifest's reference times).  On emulated tiers that is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runtime.codec import num_bytes, seal
from runtime.codecs.measuring import measure_codec
from runtime.codecs.parcel import pack, unpack
from runtime.inference.engine import Engine
from runtime.messages import TIERS, Decision, Work
from runtime.models.examples import SPLITS, load_examples
from runtime.profile import CodecProfile, VariantProfile, bits_of

TIMED_EXAMPLES = 40
"""Pictures whose activations are encoded for bytes and times."""

Samples = list[list[np.ndarray]]
"""The tensors of one cut for each example."""


def profile_codecs(
    engine: Engine, model_dir: Path, variant: str, measured: VariantProfile, codecs: Sequence[str]
) -> dict[str, CodecProfile]:
    """Codec -> what it does at every cut of a variant."""
    timed = _activations(engine, variant, load_examples(model_dir, SPLITS[0]).images[:TIMED_EXAMPLES])
    every = {split: load_examples(model_dir, split) for split in SPLITS}
    slower = _slower(engine, variant, measured)
    profiles = {}
    for codec in codecs:
        costs = [measure_codec(codec, samples) for samples in timed]
        broken = {
            split: _correct(engine, variant, codec, part.images, part.labels, measured.correct[split]) for split, part in every.items()
        }
        profiles[codec] = CodecProfile(
            cut_bytes=tuple(_mean_bytes(engine, variant, codec, cut, samples) for cut, samples in enumerate(timed)),
            encode_s={tier: tuple(slower[tier] * float(np.median(cost.encode_s)) for cost in costs) for tier in TIERS},
            decode_s={tier: tuple(slower[tier] * float(np.median(cost.decode_s)) for cost in costs) for tier in TIERS},
            correct={} if all(lines is None for lines in broken.values()) else {s: lines or () for s, lines in broken.items()},
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
    engine: Engine, variant: str, codec: str, images: np.ndarray, labels: np.ndarray, plain: tuple[str, ...]
) -> tuple[tuple[str, ...], ...] | None:
    """cut -> exit -> which examples are right when that cut is crossed in this codec; None when no tensor changes at any cut."""
    manifest = engine.manifest
    ends, stages = manifest.exit_ends, manifest.num_stages
    right = np.array([[[bit == "1" for bit in line] for line in plain]] * (stages + 1))
    changed = False
    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        tensors = [image]
        for cut in range(stages):
            decoded = unpack(pack(tensors, codec)).tensors
            if any((one != other).any() for one, other in zip(decoded, tensors, strict=True)):
                changed = True
                for exit, end in enumerate(ends):
                    if cut < end:
                        (logits,) = engine.run(variant, cut, end, exit, decoded)
                        right[cut, exit, index] = logits.argmax() == label
            tensors = engine.run(variant, cut, cut + 1, None, tensors)
    return tuple(bits_of(lines) for lines in right) if changed else None
