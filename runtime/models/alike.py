"""Stage a variant like a reference: a pruned or narrower network is the same sequence of operators with other shapes.

    reference   input -- Cast -- Conv -- Relu -|- Conv -- ...                    | the same cuts, by position
    variant     input -- Cast -- Resize -- Conv -- Relu -|- Conv -- ...          Resize: an extra prefix, in stage 0

Names differ from export to export, so tensors are matched by who makes them, and the wiring is compared as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import onnx

from runtime.errors import InvalidModel
from runtime.models.staged import StagedGraph
from runtime.models.trunk import dependent_nodes

Nodes = Sequence[onnx.NodeProto]


def stage_alike(model: onnx.ModelProto, reference: StagedGraph) -> StagedGraph:
    """`model` with the cuts and exits of `reference`.

    It may have one chain of operators more, before the first cut: a resize, a normalisation.
    Raises InvalidModel when operators, wiring or outputs differ otherwise.
    """
    ours, theirs = dependent_nodes(reference.model.graph), dependent_nodes(model.graph)
    names = _match(reference, model.graph, ours, theirs)
    outputs = [output.name for output in model.graph.output]
    if names is None or [names.get(name) for name in reference.exit_outputs] != outputs:
        raise InvalidModel(_difference(ours, theirs))
    cuts = [[value.name for value in model.graph.input], *([names[name] for name in cut] for cut in reference.cuts[1:])]
    return StagedGraph(model, cuts, outputs, reference.exit_ends)


def _match(reference: StagedGraph, other: onnx.GraphProto, ours: Nodes, theirs: Nodes) -> dict[str, str] | None:
    """Tensor of the reference -> the other's, wherever the extra chain is found to start; None when nowhere."""
    num_extra = len(theirs) - len(ours)
    if num_extra < 0:
        return None
    inputs = dict(zip((value.name for value in reference.model.graph.input), (value.name for value in other.input), strict=False))
    first_cut = [index for index, node in enumerate(ours) if not set(reference.cuts[1]).isdisjoint(node.output)]
    starts = range(max(first_cut, default=0) + 1) if num_extra else range(1)
    found = (_correspondence(dict(inputs), ours, theirs, start, start + num_extra) for start in starts)
    return next((names for names in found if names is not None), None)


def _correspondence(names: dict[str, str], ours: Nodes, theirs: Nodes, start: int, stop: int) -> dict[str, str] | None:
    """`names` of the inputs, grown node by node, with the other's nodes [start, stop) taken for the extra chain."""
    known = set(names.values())
    for index, node in enumerate(ours):
        if index == start and stop > start:
            chain = theirs[start:stop]
            fed = next((name for name in chain[0].input if name in known), "")
            if not _is_chain(chain, fed, known):
                return None
            names = {name: chain[-1].output[0] if other == fed else other for name, other in names.items()}
            known.update(name for link in chain for name in link.output)
        other = theirs[index if index < start else index + stop - start]
        wired = [names[name] for name in node.input if name in names] == [name for name in other.input if name in known]
        if node.op_type != other.op_type or not wired or len(node.output) != len(other.output):
            return None
        names |= dict(zip(node.output, other.output, strict=True))
        known.update(other.output)
    return names


def _is_chain(nodes: Nodes, fed: str, known: set[str]) -> bool:
    """Whether the nodes take nothing that is computed but `fed` and each other's results."""
    inside = {fed}
    for node in nodes:
        if any(name in known and name not in inside for name in node.input):
            return False
        inside.update(node.output)
    return True


def _difference(ours: Nodes, theirs: Nodes) -> str:
    pairs = zip_longest((node.op_type for node in ours), (node.op_type for node in theirs), fillvalue="nothing")
    place, (here, there) = next(((index, pair) for index, pair in enumerate(pairs) if pair[0] != pair[1]), (0, ("", "")))
    where = f"operation {place} is {there}, the reference has {here}" if here else "they are wired differently"
    return (
        f"the variant's topology is not the reference's: {len(theirs)} operations against {len(ours)}, {where}; a variant may change"
        " shapes, and begin with a resize"
    )
