"""What only the built model can tell: times, accuracies, and at which confidence requests may leave early."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from runtime.files import write_atomically
from runtime.inference.confidence import calibrate_thresholds, take_exits
from runtime.inference.engine import Engine
from runtime.models.evaluation import evaluate
from runtime.models.examples import SPLITS, Examples, Judgement, save_examples
from runtime.models.manifest import MANIFEST_NAME, Manifest, VariantInfo
from runtime.models.reference import measure_references

MAX_EARLY_EXIT_LOSS = 0.005
"""Validation accuracy, as a share of all examples, that leaving early may cost."""


def measure(directory: Path, examples: dict[str, Examples]) -> None:
    """Replace the directory's manifest by one with measured times, accuracies and confidence, and save the examples."""
    engine = Engine(directory)
    judged = {split: evaluate(engine, part) if engine.manifest.classes else {} for split, part in examples.items()}
    save_examples(directory, examples, judged)
    references = measure_references(engine, examples[SPLITS[0]].images[0])
    variants = {}
    for name, info in engine.manifest.variants.items():
        measured = msgspec.structs.replace(
            info,
            stage_reference_s=references[name][0],
            head_reference_s=references[name][1],
            accuracy={split: tuple(each[name].correct.mean(axis=1).tolist()) for split, each in judged.items() if each},
        )
        variants[name] = _calibrated(measured, engine.manifest.exit_ends, judged[SPLITS[0]].get(name))
    write_manifest(msgspec.structs.replace(engine.manifest, variants=variants), directory)


def _calibrated(info: VariantInfo, exit_ends: tuple[int, ...], judgement: Judgement | None) -> VariantInfo:
    """With the thresholds at which requests may leave early, and how many validation examples do; as it is with one exit."""
    if judgement is None or len(exit_ends) < 2:
        return info
    costs = info.exit_costs_s(exit_ends)
    thresholds = calibrate_thresholds(judgement.entropies, judgement.correct, costs, MAX_EARLY_EXIT_LOSS)
    taken = take_exits(judgement.entropies, thresholds)
    shares = np.bincount(taken, minlength=len(exit_ends)) / len(taken)
    return msgspec.structs.replace(info, exit_thresholds=thresholds, exit_shares=tuple(shares.tolist()))


def write_manifest(manifest: Manifest, directory: Path) -> None:
    """Write a model directory's manifest, whole or not at all."""
    write_atomically(directory / MANIFEST_NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
