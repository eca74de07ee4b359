"""Make a model directory: train, export, quantise, split, measure.  Needs the `train` extra; nodes never import this."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors.numpy import save as save_tensors
from torch import nn

from runtime.errors import InvalidConfig
from runtime.files import write_atomically
from runtime.inference.engine import Engine
from runtime.models import digits
from runtime.models.batch_axis import Weights, has_batch_axis, with_batch_axis
from runtime.models.evaluation import evaluate
from runtime.models.examples import SPLITS, Examples, draw_examples, save_examples
from runtime.models.export import export_graph
from runtime.models.factories import make_network
from runtime.models.fitting import fit
from runtime.models.manifest import MANIFEST_NAME, WEIGHTS_NAME, Manifest, SegmentFile, VariantInfo, segment_key, store
from runtime.models.network import ExitsOnly
from runtime.models.reference import measure_references
from runtime.models.staged import StagedGraph
from runtime.models.staging import stage
from runtime.models.variants import VARIANTS
from runtime.models.weights import detach_weights, detached_names
from runtime.models.zoo import ModelSpec

Progress = Callable[[str, float], None]

DATASETS = {"digits": (digits.CLASSES, digits.load_splits)}
"""Name -> (classes, seed -> examples of each split)."""

NUM_RANDOM_EXAMPLES = 64

_FIT_SHARE = 0.8
"""Training's share of the whole build, for the progress report."""


def build(spec: ModelSpec, directory: Path, progress: Progress) -> None:
    """Fill an empty directory with the model; whoever calls publishes it, since a manifest is there before the measurements."""
    classes, splits = _load_examples(spec)
    with _one_thread():
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
    if spec.dataset not in DATASETS:
        raise InvalidConfig(f"{spec.name}: dataset {spec.dataset!r} does not exist; there is {', '.join(sorted(DATASETS))}")
    classes, load_splits = DATASETS[spec.dataset]
    return classes, load_splits(spec.fit.seed)


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
    """Replace the directory's manifest by one with measured times and accuracies, and save the examples."""
    engine = Engine(directory)
    correct = {split: evaluate(engine, part) if engine.manifest.classes else {} for split, part in examples.items()}
    save_examples(directory, examples, correct)
    references = measure_references(engine, examples[SPLITS[0]].images[0])
    variants = {
        name: msgspec.structs.replace(
            info,
            stage_reference_s=references[name][0],
            head_reference_s=references[name][1],
            accuracy={split: tuple(right[name].mean(axis=1).tolist()) for split, right in correct.items() if right},
        )
        for name, info in engine.manifest.variants.items()
    }
    _write_manifest(msgspec.structs.replace(engine.manifest, variants=variants), directory)


def _write_manifest(manifest: Manifest, directory: Path) -> None:
    write_atomically(directory / MANIFEST_NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one core: two processes with two threads each are five times slower on two cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
