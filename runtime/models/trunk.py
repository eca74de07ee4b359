"""What a graph is before it has stages: a trunk in topological order, and where each exit's branch leaves it.

    input -- n0 -- n1 -- n2 -- n3 -- n4 -- output 1 (the full model)
                     \\
                      b0 -- b1 -- output 0             exit 0 leaves the trunk at position 2

Position k lies behind k trunk nodes.  The trunk is what the last output needs; what only an earlier output needs is that
exit's head.  Nodes that depend on no input are constants, like weights: they are in neither.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import onnx

from runtime.errors import InvalidModel

RANDOM = frozenset({"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"})
"""Operators that give something else at every run.  Source: ONNX operators, opset 18."""


class Trunk(msgspec.Struct, frozen=True, kw_only=True):
    """A graph's nodes in order, the life of its tensors, its exits."""

    nodes: tuple[onnx.NodeProto, ...]
    born: dict[str, int]
    """Tensor -> the first position at which it exists; graph inputs exist at 0."""
    gone: dict[str, int]
    """Tensor -> the first position at which nobody needs it any more."""
    branches: tuple[int, ...]
    """Position at which each exit but the last leaves the trunk, rising."""
    end: int
    """The last position that can be a cut: behind it begins the last exit's head, the last layer with weights."""

    def alive(self, position: int) -> tuple[str, ...]:
        """Tensors that exist at a position and are needed behind it, in the order in which they are made."""
        return tuple(name for name, born in self.born.items() if born <= position < self.gone.get(name, 0))


def find_trunk(graph: onnx.GraphProto) -> Trunk:
    """The trunk of a graph whose outputs are its exits, shallowest first.

    Raises InvalidModel for an output that depends on no input, for constants that are drawn at random, and unless exits
    leave the trunk at rising depth.
    """
    dependent = dependent_nodes(graph)
    _check_constants(graph, dependent)
    outputs = [output.name for output in graph.output]
    needs = [_needed_by(dependent, output) for output in outputs]
    nodes = [node for index, node in enumerate(dependent) if index in needs[-1]]
    born = {value.name: 0 for value in graph.input}
    born |= {name: at for at, node in enumerate(nodes, start=1) for name in node.output if name}
    gone = {name: at for at, node in enumerate(nodes, start=1) for name in node.input if name in born}
    gone[outputs[-1]] = len(nodes) + 1
    branches = []
    for needed, output in zip(needs[:-1], outputs, strict=False):
        head = [dependent[index] for index in needed - needs[-1]]
        taken = {name for node in head for name in node.input if name in born} or {output}
        branches.append(max(born[name] for name in taken))
        gone |= {name: max(gone.get(name, 0), branches[-1] + 1) for name in taken}
    end = _last_weighted(graph, nodes)
    _check_depths([*branches, end], len(nodes))
    return Trunk(nodes=tuple(nodes), born=born, gone=gone, branches=tuple(branches), end=end)


def dependent_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes whose result depends on a graph input, in graph order."""
    reached = {value.name for value in graph.input}
    found = []
    for node in graph.node:
        if not reached.isdisjoint(node.input):
            reached.update(name for name in node.output if name)
            found.append(node)
    return found


def _check_constants(graph: onnx.GraphProto, dependent: Sequence[onnx.NodeProto]) -> None:
    computed = {name for node in dependent for name in node.output}
    drawn = [node.op_type for node in graph.node if node.op_type in RANDOM and computed.isdisjoint(node.output)]
    if drawn:
        raise InvalidModel(
            f"the network draws random numbers that do not depend on its input ({', '.join(drawn)}): each part of a cut would draw"
            " its own; draw them once, in its constructor, as a buffer"
        )


def _needed_by(nodes: Sequence[onnx.NodeProto], output: str) -> set[int]:
    """Indices of those `nodes` that the output needs: one walk from the last to the first."""
    wanted, needed = {output}, set()
    for index in reversed(range(len(nodes))):
        if not wanted.isdisjoint(nodes[index].output):
            needed.add(index)
            wanted.update(nodes[index].input)
    if not needed:
        raise InvalidModel(f"output {output!r} depends on no operation on the input: there is nothing to split")
    return needed


def _last_weighted(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> int:
    """Index of the last node that takes a matrix of weights; of the last node where there is none."""
    matrices = {weight.name for weight in graph.initializer if len(weight.dims) > 1}
    weighted = [index for index, node in enumerate(nodes) if not matrices.isdisjoint(node.input)]
    return weighted[-1] if weighted else len(nodes) - 1


def _check_depths(depths: Sequence[int], num_nodes: int) -> None:
    if depths[-1] < 1:
        raise InvalidModel(f"of {num_nodes} operations the first is the last with weights: there is nothing to cut")
    if depths[0] < 1 or list(depths) != sorted(set(depths)):
        raise InvalidModel(
            f"exits leave the trunk after {list(depths)} of its {num_nodes} operations; each must leave it later than the one "
            "before, the first not before the first operation: return the logits shallowest first, from different depths"
        )
