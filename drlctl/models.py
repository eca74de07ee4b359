"""What the models are, and how a network would be cut: for `drlctl models`."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from drlctl.building import import_from_here
from drlctl.extras import require
from runtime.errors import InvalidModel, InvalidPredictor, UnknownModel
from runtime.inference.difficulty import DifficultyCard
from runtime.messages import TensorSpec
from runtime.models.build import find_model
from runtime.models.difficulty import read_difficulty
from runtime.models.examples import draw_examples
from runtime.models.manifest import Manifest, load_manifest
from runtime.models.registry import find_spec, names
from runtime.models.zoo import ModelSpec

if TYPE_CHECKING:
    from runtime.models.cutting import Candidate


log = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One model, and what was built of it."""

    spec: ModelSpec
    directory: str | None
    """None: not built yet."""
    manifest: Manifest | None
    difficulty: DifficultyCard | None = None
    """How well errors are told from the input; None: not fitted yet (`drlctl profile` does)."""


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A place where a network can be cut."""

    position: int
    """Operations of the trunk before it."""
    tensors: tuple[str, ...]
    specs: tuple[TensorSpec, ...]
    num_bytes: int
    flops: int
    flops_fraction: float
    """Share of the work between the first and the last cut that is before it."""
    exits: tuple[int, ...]
    """Exits whose heads begin here."""
    stages: int | None
    """Number of stages before it, if it was chosen."""


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """A network's cuts."""

    target: str
    input: TensorSpec
    num_parameters: int
    exit_ends: tuple[int, ...]
    cuts: tuple[Cut, ...]
    """Every place where it can be cut, from the input to the last exit's head."""


def list_models() -> list[Entry]:
    """All models of the zoo by name, then one's own; a damaged one is left out, with a warning that names it."""
    entries = []
    for name in names():
        try:
            entries.append(show_model(name))
        except UnknownModel as exc:
            log.warning("%s is left out: %s", name, exc)
    return entries


def show_model(name: str) -> Entry:
    """One model.  Raises UnknownModel naming those there are."""
    directory, spec = find_model(name), find_spec(name)
    if directory is None:
        return Entry(spec=spec, directory=None, manifest=None)
    return Entry(spec=spec, directory=str(directory), manifest=load_manifest(directory), difficulty=_difficulty(directory))


def _difficulty(directory: Path) -> DifficultyCard | None:
    """What is known of it; a predictor of other weights or another version counts as none, it is fitted again when needed."""
    try:
        return read_difficulty(directory).card
    except InvalidPredictor:
        return None


def split_network(target: str, shape: str, dtype: str, max_stages: int | None = None) -> Split:
    """Export a network once, as building would, and find its cuts; nothing is trained, kept or changed.

    `target`: a model of the zoo or one's own, or `package.module:factory`, looked for in the current folder too; `shape`:
    "1x3x64x64"; `max_stages`: where not as many as the model would be built with.
    Raises InvalidModel when that is no network, or none that can be built; MissingExtra without torch.
    """
    known = find_spec(target) if ":" not in target else None
    wanted = _input(known, shape, dtype)
    require("train")
    import torch

    from runtime.models.export import export_graph
    from runtime.models.forms import make_untrained
    from runtime.models.staging import find_stages, stage_at

    import_from_here()
    spec = _untrained(known, target, wanted)
    example = draw_examples(wanted, 1, np.random.default_rng(spec.fit.seed)).images[0]
    form = make_untrained(spec, 0, example)
    model = export_graph(form.network, torch.from_numpy(example))
    candidates, chosen = find_stages(model, spec.cuts, max_stages or max(spec.max_stages, len(model.graph.output)), example)
    ends = stage_at(model, chosen).exit_ends
    stages = {cut.position: number for number, cut in enumerate(chosen)}
    return Split(
        target=target,
        input=wanted,
        num_parameters=form.num_parameters,
        exit_ends=ends,
        cuts=tuple(_cut(candidate, candidates[-1].flops, stages.get(candidate.position), ends) for candidate in candidates),
    )


def parse_shape(text: str) -> tuple[int, ...]:
    """Read "1x3x64x64".  Raises InvalidModel for anything else."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text):
        raise InvalidModel(f"an input's shape is whole numbers joined by x, batch first, like 1x3x64x64; got {text!r}")
    return tuple(int(extent) for extent in text.split("x"))


def _untrained(known: ModelSpec | None, target: str, wanted: TensorSpec) -> ModelSpec:
    """The model's specification without its data, or one for a factory."""
    if known is not None:
        return msgspec.structs.replace(known, dataset="", variants=("fp32",), flops_shares={})
    return ModelSpec(name="network", factory=target, arguments={}, input=wanted, variants=("fp32",))


def _input(spec: ModelSpec | None, shape: str, dtype: str) -> TensorSpec:
    """What to trace with: as asked, or a zoo model's own."""
    if spec is not None and not shape:
        return spec.input
    if not shape:
        raise InvalidModel("what does the network take? say its input's shape, batch first: --input 1x3x64x64")
    try:
        return msgspec.convert({"shape": parse_shape(shape), "dtype": dtype}, TensorSpec)
    except msgspec.ValidationError as exc:
        raise InvalidModel(f"an input of {dtype} [{shape}] cannot be sent: {exc}") from exc


def _cut(candidate: Candidate, total_flops: int, stages: int | None, exit_ends: tuple[int, ...]) -> Cut:
    return Cut(
        position=candidate.position,
        tensors=candidate.tensors,
        specs=candidate.specs,
        num_bytes=candidate.num_bytes,
        flops=candidate.flops,
        flops_fraction=candidate.flops / max(1, total_flops),
        exits=tuple(exit for exit, end in enumerate(exit_ends) if end == stages),
        stages=stages,
    )
