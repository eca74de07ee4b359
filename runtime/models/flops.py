"""Estimated work of an ONNX node, from shapes alone: what spreads cuts over a model before anything was timed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx

Shapes = Mapping[str, tuple[int, ...]]

_FREE = frozenset((
    "Cast", "Concat", "Constant", "Dropout", "Expand", "Flatten", "Gather", "Identity",
    "Pad", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
))  # fmt: skip
"""Operators that move numbers and compute none."""


def node_flops(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Floating-point operations of one node; a multiplication and its addition count as two.

    Convolutions, matrix products and recurrent layers by their formulas, everything else as one operation for each
    element that goes in or comes out, whichever are more.  0 where shapes are unknown.
    Source: Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017, appendix A.1.
    """
    if node.op_type in _FREE:
        return 0
    ins = [shapes.get(name, ()) for name in node.input]
    outs = [shapes.get(name, ()) for name in node.output]
    match node.op_type:
        case "Conv":
            return 2 * math.prod(outs[0]) * math.prod(ins[1][1:])
        case "ConvTranspose":
            return 2 * math.prod(ins[0]) * math.prod(ins[1][1:])
        case "Gemm" | "MatMul":
            return 2 * math.prod(outs[0]) * _inner_extent(node, ins)
        case "LSTM" | "GRU" | "RNN":
            return 2 * math.prod(ins[0][:2]) * (math.prod(ins[1]) + math.prod(ins[2]))
        case _:
            return max((math.prod(shape) for shape in (*ins, *outs) if shape), default=0)


def _inner_extent(node: onnx.NodeProto, ins: Sequence[tuple[int, ...]]) -> int:
    """The extent that a matrix product sums over."""
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return ins[0][0 if transposed else -1] if ins[0] else 0
