"""Where a graph can be cut, and where it should be: candidates from its trunk, then a few of them.

Every position of the trunk is a cut: its tensors are those made before and needed behind.  Few are worth a stage:

    dominated    another cut has no more bytes and about the same work before it
    crowded      more are left than stages are wanted: the widest gap in work is filled first, until there are enough
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import msgspec
import onnx

from runtime.errors import InvalidModel
from runtime.messages import TensorSpec
from runtime.models.flops import node_flops
from runtime.models.manifest import payload_bytes
from runtime.models.staged import tensor_spec
from runtime.models.trunk import find_trunk

MAX_STAGES = 8
SAME_WORK_FRACTION = 0.02
"""Cuts whose work before them differs by less than this share of the trunk's are alternatives to each other."""
MIDDLE_FRACTION = 0.25
"""A gap is split by its cheapest cut that leaves at least this share of the gap on both sides."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A position where the trunk can be cut."""

    position: int
    """Number of trunk nodes before it."""
    tensors: tuple[str, ...]
    specs: tuple[TensorSpec, ...]
    """Shape and dtype of each."""
    num_bytes: int
    """Payload: the sum of the tensors' raw bytes."""
    flops: int
    """Estimated floating-point operations of the trunk before it."""
    exits: tuple[int, ...] = ()
    """Exits whose heads leave here."""


def find_cuts(graph: onnx.GraphProto) -> tuple[Candidate, ...]:
    """Every position whose tensors can be sent, from the input to the last exit's head.

    `graph`: outputs are the exits' logits, shallowest first; shapes inferred.  Raises InvalidModel when exits do not
    leave at rising depths, when an exit leaves where tensors cannot be sent, or when nothing can be cut.
    """
    trunk = find_trunk(graph)
    values = {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}
    shapes = {name: _shape(value) for name, value in values.items()} | {weight.name: tuple(weight.dims) for weight in graph.initializer}
    exits = {at: exit for exit, at in enumerate((*trunk.branches, trunk.end))}
    found, flops = [], 0
    for position in range(trunk.end + 1):
        tensors = trunk.alive(position)
        specs = _specs(tensors, values, required=position == 0 or position in exits)
        if specs is not None:
            leaving = (exits[position],) if position in exits else ()
            size = payload_bytes(specs)
            found.append(Candidate(position=position, tensors=tensors, specs=specs, num_bytes=size, flops=flops, exits=leaving))
        flops += node_flops(trunk.nodes[position], shapes)
    return tuple(found)


def choose_cuts(candidates: Sequence[Candidate], max_stages: int = MAX_STAGES, required: Collection[int] = ()) -> tuple[Candidate, ...]:
    """At most `max_stages` + 1 of the candidates, in order: cheap to send and spread over the work.

    Always there: the first, those where an exit leaves (the last is one), and the positions in `required`.
    Raises InvalidModel when these alone are too many.
    """
    wanted = {candidates[0].position, candidates[-1].position, *required}
    fixed = [candidate for candidate in candidates if candidate.exits or candidate.position in wanted]
    if len(fixed) - 1 > max_stages:
        raise InvalidModel(f"the cuts that must be there make {len(fixed) - 1} stages, allowed are {max_stages}: allow more")
    good = _not_dominated(candidates, fixed)
    chosen = fixed
    while len(chosen) - 1 < max_stages and (best := _fill_widest_gap(chosen, good)) is not None:
        chosen = sorted([*chosen, best], key=lambda candidate: candidate.position)
    return tuple(chosen)


def _not_dominated(candidates: Sequence[Candidate], fixed: Sequence[Candidate]) -> list[Candidate]:
    """Cheapest first, each unless one with no more bytes and about the same work is kept already.

    Of equals the last is taken: it is behind the activation that ONNX Runtime fuses into the operator before.
    """
    near = SAME_WORK_FRACTION * candidates[-1].flops
    kept = list(fixed)
    for candidate in sorted(candidates, key=lambda each: (each.num_bytes, -each.position)):
        if all(other.num_bytes > candidate.num_bytes or abs(other.flops - candidate.flops) > near for other in kept):
            kept.append(candidate)
    return kept


def _fill_widest_gap(chosen: Sequence[Candidate], good: Sequence[Candidate]) -> Candidate | None:
    """The cut that best splits the widest gap in work which can be split at all."""
    for before, after in sorted(pairwise(chosen), key=lambda gap: gap[0].flops - gap[1].flops):
        inside = [candidate for candidate in good if before.position < candidate.position < after.position]
        if not inside:
            continue
        margin = MIDDLE_FRACTION * (after.flops - before.flops)
        central = [each for each in inside if before.flops + margin <= each.flops <= after.flops - margin]
        if central:
            return min(central, key=lambda each: (each.num_bytes, -each.position))
        middle = (before.flops + after.flops) / 2
        return min(inside, key=lambda each: (abs(each.flops - middle), each.num_bytes, -each.position))
    return None


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(extent.dim_value for extent in value.type.tensor_type.shape.dim)


def _specs(names: Sequence[str], values: Mapping[str, onnx.ValueInfoProto], *, required: bool) -> tuple[TensorSpec, ...] | None:
    """Shapes and dtypes of tensors.  Where one cannot be sent: None, or InvalidModel when it must be."""
    try:
        return tuple(tensor_spec(values.get(name), name) for name in names)
    except InvalidModel:
        if required:
            raise
        return None
