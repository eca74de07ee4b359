"""Make a model directory: train, export, quantise, split, measure.  Needs the `train` extra; nodes never import this."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
from safetensors.numpy import save as save_tensors

from runtime.errors import InvalidDataset, InvalidModel
from runtime.models.alike import stage_alike
from runtime.models.batch_axis import Weights, has_batch_axis, with_batch_axis
from runtime.models.datasets import load_dataset
from runtime.models.datasets.splitting import SplitSpec
from runtime.models.examples import SPLITS, Examples, draw_examples
from runtime.models.export import export_graph
from runtime.models.factories import find_factory
from runtime.models.fingerprints import hash_data, hash_factory
from runtime.models.fitting import one_thread
from runtime.models.forms import DENSE, make_forms, make_untrained
from runtime.models.manifest import WEIGHTS_NAME, Manifest, SegmentFile, VariantInfo, segment_key, store
from runtime.models.measuring import measure, write_manifest
from runtime.models.staged import StagedGraph
from runtime.models.staging import stage
from runtime.models.variant_names import parse_variant
from runtime.models.variants import VARIANTS
from runtime.models.weights import detach_weights, detached_names
from runtime.models.zoo import ModelSpec

Progress = Callable[[str, float], None]

NUM_RANDOM_EXAMPLES = 64

NUM_REHEARSED = 4
"""Pictures that an untrained network is quantised with, to see whether it can be."""

_FIT_SHARE = 0.8
"""Training's share of the whole build, for the progress report."""


def build(spec: ModelSpec, directory: Path, trained: Path, progress: Progress) -> None:
    """Fill an empty directory with the model; whoever calls publishes it, since a manifest is there before the measurements.

    `trained` is a file for the trained weights, used if it is there: see `make_forms`.
    Raises InvalidModel for a network that cannot be staged, before any time is spent on training it.
    """
    _check_code(spec)
    classes, splits = _load_examples(spec)
    images = splits["train"].images
    example = torch.from_numpy(images[0])
    with one_thread():
        if spec.dataset and not trained.is_file():
            _rehearse(spec, export_graph(make_untrained(spec, len(classes), images[0]).network, example), images)
        forms = make_forms(spec, len(classes), splits["train"], trained, lambda phase, done: progress(phase, done * _FIT_SHARE))
        progress("exporting", _FIT_SHARE)
        exported = {name: export_graph(form.network, example) for name, form in forms.items()}
    graph = stage_as_specified(spec, exported[DENSE], images[0])
    staged = {name: graph if name == DENSE else stage_alike(model, graph) for name, model in exported.items()}
    infos = {}
    for name in spec.variants:
        progress(f"splitting {name}", _FIT_SHARE + 0.05)
        parts = parse_variant(name)
        info = _write_variant(VARIANTS[parts.graph](staged[parts.form], images), directory, name)
        form = forms[parts.form]
        infos[name] = msgspec.structs.replace(info, num_parameters=form.num_parameters, flops=form.flops)
    manifest = Manifest(
        model=spec.name,
        classes=classes,
        num_stages=graph.num_stages,
        exit_ends=graph.exit_ends,
        variants=infos,
        dataset=spec.dataset,
        built_on=f"{platform.node()} ({platform.machine()})",
    )
    write_manifest(manifest, directory)
    progress("measuring", _FIT_SHARE + 0.1)
    measure(directory, {name: splits[name] for name in SPLITS})
    progress("done", 1.0)


def stage_as_specified(spec: ModelSpec, model: onnx.ModelProto, example: np.ndarray) -> StagedGraph:
    """The network's graph with the specification's cuts.  Raises InvalidModel like `stage`."""
    return stage(model, after=spec.cuts, max_stages=max(spec.max_stages, len(model.graph.output)), example=example)


def _rehearse(spec: ModelSpec, model: onnx.ModelProto, images: np.ndarray) -> None:
    """What follows the training, on the untrained network: where it fails now it would fail then."""
    graph = stage_as_specified(spec, model, images[0])
    for kind in sorted({parse_variant(name).graph for name in spec.variants}):
        staged = VARIANTS[kind](graph, images[:NUM_REHEARSED])
        for segment in staged.segments():
            staged.extract(*segment)


def _check_code(spec: ModelSpec) -> None:
    """Raise InvalidModel unless the factory's code is what the specification was made for."""
    if not spec.code_sha256:
        return
    find_factory(spec.factory)
    if hash_factory(spec.factory) != spec.code_sha256:
        raise InvalidModel(f"the code of {spec.factory} is not what {spec.name!r} was made for; make it anew with `drlctl models build`")


def _load_examples(spec: ModelSpec) -> tuple[tuple[str, ...], dict[str, Examples]]:
    """Classes, and examples of train, validation and test: the dataset's, or random inputs without meaning."""
    if not spec.dataset:
        rng = np.random.default_rng(spec.fit.seed)
        return (), {split: draw_examples(spec.input, NUM_RANDOM_EXAMPLES, rng) for split in ("train", *SPLITS)}
    if spec.data_sha256 and hash_data(Path(spec.dataset)) != spec.data_sha256:
        raise InvalidDataset(f"{spec.dataset} is not what {spec.name!r} was made for; make it anew with `drlctl models build`")
    dataset = load_dataset(spec.dataset, SplitSpec(seed=spec.fit.seed))
    return dataset.classes, dataset.splits


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
        size_bytes=graph.size_bytes,
    )


def _write_segment(
    graph: StagedGraph, weights: Weights, directory: Path, variant: str, start: int, stop: int, exit: int | None
) -> SegmentFile:
    piece = with_batch_axis(graph.extract(start, stop, exit), np.random.default_rng(0), weights)
    path = f"{variant}/{segment_key(start, stop, exit)}.onnx"
    stored = store(directory, path, piece.SerializeToString(deterministic=True))
    return SegmentFile(**msgspec.structs.asdict(stored), weights=detached_names(piece), any_batch=has_batch_axis(piece))
