"""Make a model directory: train, export, quantise, split, measure.  Needs the `train` extra; nodes never import this."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors.numpy import save as save_tensors
from torch import nn

from runtime.files import write_atomically
from runtime.inference.confidence import calibrate_thresholds, take_exits
from runtime.inference.engine import Engine
from runtime.models.batch_axis import Weights, has_batch_axis, with_batch_axis
from runtime.models.datasets import load_dataset
from runtime.models.datasets.splitting import SplitSpec
from runtime.models.evaluation import evaluate
from runtime.models.examples import SPLITS, Examples, Judgement, draw_examples, save_examples
from runtime.models.export import export_graph
from runtime.models.factories import make_network
from runtime.models.fitting import fit, one_thread
from runtime.models.manifest import MANIFEST_NAME, WEIGHTS_NAME, Manifest, SegmentFile, VariantInfo, segment_key, store
from runtime.models.network import ExitsOnly
from runtime.models.reference import measure_references
from runtime.models.staged import StagedGraph
from runtime.models.staging import stage
from runtime.models.variants import VARIANTS
from runtime.models.weights import detach_weights, detached_names
from runtime.models.zoo import ModelSpec

Progress = Callable[[str, float], None]

NUM_RANDOM_EXAMPLES = 64
MAX_EARLY_EXIT_LOSS = 0.005
"""Validation accuracy, as a share of all examples, that leaving early may cost."""

_FIT_SHARE = 0.8
"""Training's share of the whole build, for the progress report."""


def build(spec: ModelSpec, directory: Path, progress: Progress) -> None:
    """Fill an empty directory with the model; whoever calls publishes it, since a manifest is there before the measurements."""
    classes, splits = _load_examples(spec)
    with one_thread():
        network = _make_network(spec, len(classes), splits["train"], lambda done: progress("training", done * _FIT_SHARE))
        progress("exporting", _FIT_SHARE)
        exported = export_graph(network, torch.from_numpy(splits["train"].images[0]))
    graph = stage(exported, after=spec.cuts, max_stages=spec.max_stages)
    infos = {}
    for name in spec.variants:
        progress(f"splitting {name}", _FIT_SHARE + 0.05)
        staged = VARIANTS[name](graph, splits["train"].images)
        infos[name] = _write_variant(staged, directory, name)
    manifest = Manifest(
        model=spec.name,
        classes=classes,
        num_stages=graph.num_stages,
        exit_ends=graph.exit_ends,
        variants=infos,
        dataset=spec.dataset,
        built_on=f"{platform.node()} ({platform.machine()})",
    )
    _write_manifest(manifest, directory)
    progress("measuring", _FIT_SHARE + 0.1)
    _measure(directory, {name: splits[name] for name in SPLITS})
    progress("done", 1.0)


def _load_examples(spec: ModelSpec) -> tuple[tuple[str, ...], dict[str, Examples]]:
    """Classes, and examples of train, validation and test: the dataset's, or random inputs without meaning."""
    if not spec.dataset:
        rng = np.random.default_rng(spec.fit.seed)
        return (), {split: draw_examples(spec.input, NUM_RANDOM_EXAMPLES, rng) for split in ("train", *SPLITS)}
    dataset = load_dataset(spec.dataset, SplitSpec(seed=spec.fit.seed))
    return dataset.classes, dataset.splits


def _make_network(spec: ModelSpec, num_classes: int, train: Examples, progress: Callable[[float], None]) -> nn.Module:
    """The network, trained where the specification says how, ready for export."""
    if not spec.dataset:
        return make_network(spec.factory, spec.arguments, spec.fit.seed)
    network = ExitsOnly(fit(spec, num_classes, train, progress))
    network.fold()
    return network


def _write_variant(graph: StagedGraph, directory: Path, name: str) -> VariantInfo:
    """All segments of a variant; times and accuracies are yet to be measured."""
    thin, arrays = detach_weights(graph)
    segments = {segment_key(*segment): _write_segment(thin, arrays, directory, name, *segment) for segment in thin.segments()}
    return VariantInfo(
        cuts=tuple(graph.specs(cut) for cut in range(graph.num_stages + 1)),
        segments=segments,
        weights=store(directory, f"{name}/{WEIGHTS_NAME}", save_tensors(arrays)) if arrays else None,
        outputs=graph.output_specs(),
        stage_reference_s=(0.0,) * graph.num_stages,
        head_reference_s=(0.0,) * len(graph.exit_ends),
        accuracy={},
        size_bytes=len(graph.model.SerializeToString()),
    )


def _write_segment(
    graph: StagedGraph, weights: Weights, directory: Path, variant: str, start: int, stop: int, exit: int | None
) -> SegmentFile:
    piece = with_batch_axis(graph.extract(start, stop, exit), np.random.default_rng(0), weights)
    path = f"{variant}/{segment_key(start, stop, exit)}.onnx"
    stored = store(directory, path, piece.SerializeToString(deterministic=True))
    return SegmentFile(**msgspec.structs.asdict(stored), weights=detached_names(piece), any_batch=has_batch_axis(piece))


def _measure(directory: Path, examples: dict[str, Examples]) -> None:
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
    _write_manifest(msgspec.structs.replace(engine.manifest, variants=variants), directory)


def _calibrated(info: VariantInfo, exit_ends: tuple[int, ...], judgement: Judgement | None) -> VariantInfo:
    """With the thresholds at which requests may leave early, and how many validation examples do; as it is with one exit."""
    if judgement is None or len(exit_ends) < 2:
        return info
    costs = [sum(info.stage_reference_s[:end]) + sum(info.head_reference_s[: exit + 1]) for exit, end in enumerate(exit_ends)]
    thresholds = calibrate_thresholds(judgement.entropies, judgement.correct, costs, MAX_EARLY_EXIT_LOSS)
    taken = take_exits(judgement.entropies, thresholds)
    shares = np.bincount(taken, minlength=len(exit_ends)) / len(taken)
    return msgspec.structs.replace(info, exit_thresholds=thresholds, exit_shares=tuple(shares.tolist()))


def _write_manifest(manifest: Manifest, directory: Path) -> None:
    write_atomically(directory / MANIFEST_NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
