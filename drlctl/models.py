"""What the models are, and how a network would be cut: for `drlctl models`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from drlctl.extras import require
from runtime.errors import InvalidModel, InvalidPredictor
from runtime.inference.difficulty import DifficultyCard
from runtime.messages import TensorSpec
from runtime.models.build import find_model
from runtime.models.difficulty import read_difficulty
from runtime.models.manifest import Manifest, load_manifest
from runtime.models.registry import find_spec, names
from runtime.models.zoo import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from runtime.models.cutting import Candidate


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
    """All models of the zoo by name, then one's own."""
    return [show_model(name) for name in names()]


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


def split_network(target: str, shape: str, dtype: str, max_stages: int) -> Split:
    """Export a network once and find its cuts; nothing is trained, kept or changed.

    `target`: a zoo model, or `package.module:factory`, looked for in the current folder too; `shape`: "1x3x64x64".
    Raises InvalidModel when that is no network, or none that can be cut; MissingExtra without torch.
    """
    spec = find_spec(target) if ":" not in target else None
    wanted = _input(spec, shape, dtype)
    require("train")
    from runtime.models.cutting import choose_cuts, find_cuts
    from runtime.models.export import export_graph
    from runtime.models.staging import cuts_after

    network = _network(target, spec)
    graph = export_graph(network, _example(wanted)).graph
    candidates = find_cuts(graph)
    chosen = cuts_after(graph, candidates, spec.cuts) if spec is not None and spec.cuts else choose_cuts(candidates, max_stages)
    stages = {cut.position: number for number, cut in enumerate(chosen)}
    leaving = {exit: stages[cut.position] for cut in candidates for exit in cut.exits if cut.position in stages}
    ends = tuple(leaving.get(exit, len(chosen) - 1) for exit in range(len(graph.output)))
    return Split(
        target=target,
        input=wanted,
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        exit_ends=ends,
        cuts=tuple(_cut(candidate, candidates[-1].flops, stages.get(candidate.position), ends) for candidate in candidates),
    )


def parse_shape(text: str) -> tuple[int, ...]:
    """Read "1x3x64x64".  Raises InvalidModel for anything else."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text):
        raise InvalidModel(f"an input's shape is whole numbers joined by x, batch first, like 1x3x64x64; got {text!r}")
    return tuple(int(extent) for extent in text.split("x"))


def _network(target: str, spec: ModelSpec | None) -> nn.Module:
    from runtime.models.factories import make_network

    if spec is not None:
        return make_network(spec.factory, spec.arguments, spec.fit.seed)
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: an installed command does not look there
    return make_network(target, {}, seed=0)


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


def _example(spec: TensorSpec) -> Tensor:
    import torch

    return torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype))  # as integers, zeros are indices into whatever there is


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
