"""From a graph to stages: at automatic cuts, or behind the submodules that somebody names."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import numpy as np
import onnx

from runtime.errors import InvalidModel
from runtime.models.cutting import MAX_STAGES, Candidate, choose_cuts, find_cuts
from runtime.models.finite import finite_cuts
from runtime.models.staged import StagedGraph
from runtime.models.trunk import find_trunk

SCOPES_KEY = "pkg.torch.onnx.name_scopes"
"""Where torch's exporter notes the submodules that a node belongs to, as a literal list, outermost first."""


def stage(
    model: onnx.ModelProto, *, after: Sequence[str] = (), max_stages: int = MAX_STAGES, example: np.ndarray | None = None
) -> StagedGraph:
    """A graph with inferred shapes, cut behind the submodules `after`, or automatically where none is named.

    With an example, not where its values are infinite.  Raises InvalidModel when it cannot be cut: see `find_cuts`,
    `finite_cuts`, `choose_cuts`, `cuts_after`.
    """
    return stage_at(model, find_stages(model, after, max_stages, example)[1])


def find_stages(
    model: onnx.ModelProto, after: Sequence[str], max_stages: int, example: np.ndarray | None
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """(every place where it can be cut, where it is cut); see `stage`."""
    candidates = find_cuts(model.graph)
    if example is not None:
        candidates = finite_cuts(model, candidates, example)
    return candidates, cuts_after(model.graph, candidates, after) if after else choose_cuts(candidates, max_stages)


def stage_at(model: onnx.ModelProto, cuts: Sequence[Candidate]) -> StagedGraph:
    """A graph cut where it is told, the input first; the last exit's head is all that is behind the last cut."""
    outputs = [output.name for output in model.graph.output]
    ends = {exit: number for number, cut in enumerate(cuts) for exit in cut.exits} | {len(outputs) - 1: len(cuts) - 1}
    missing = [exit for exit in range(len(outputs)) if exit not in ends]
    if missing:
        raise InvalidModel(f"no cut where exits {missing} leave the trunk; cuts are at {[cut.position for cut in cuts]}")
    return StagedGraph(model, [cut.tensors for cut in cuts], outputs, [ends[exit] for exit in range(len(outputs))])


def cuts_after(graph: onnx.GraphProto, candidates: Sequence[Candidate], names: Sequence[str]) -> tuple[Candidate, ...]:
    """The input, and the cut behind the last node of each named submodule ("features.3"), in the order given.

    Raises InvalidModel for a name that no node carries, and for a place that cannot be cut.
    """
    scopes = [_scopes(node) for node in find_trunk(graph).nodes]
    by_position = {candidate.position: candidate for candidate in candidates}
    cuts = [candidates[0]]
    for name in names:
        inside = [index for index, scope in enumerate(scopes) if name in scope]
        if not inside:
            there = sorted({each for scope in scopes for each in scope[1:-1]})
            raise InvalidModel(f"no operation of the trunk belongs to a submodule {name!r}; there is {', '.join(there)}")
        cut = by_position.get(inside[-1] + 1)
        if cut is None or cut.position <= cuts[-1].position:
            raise InvalidModel(
                f"cannot cut behind {name!r}: it must be before the last layer, behind the cut named before it, and what it gives finite"
            )
        cuts.append(cut)
    return tuple(cuts)


def _scopes(node: onnx.NodeProto) -> list[str]:
    """Names of the submodules around a node and, last, of its call."""
    noted = next((entry.value for entry in node.metadata_props if entry.key == SCOPES_KEY), "[]")
    scopes: list[str] = ast.literal_eval(noted)
    return scopes
