"""Work estimates, each counted on paper."""

from __future__ import annotations

import pytest
from onnx import helper

from runtime.models.flops import node_flops

SHAPES = {
    "image": (1, 3, 8, 8),
    "kernel": (16, 3, 3, 3),
    "maps": (1, 16, 8, 8),
    "depthwise": (16, 1, 3, 3),
    "grow": (16, 4, 4, 4),
    "large": (1, 4, 16, 16),
    "row": (1, 20),
    "matrix": (10, 20),
    "logits": (1, 10),
    "steps": (5, 1, 20),
    "lstm_w": (1, 32, 20),
    "lstm_r": (1, 32, 8),
}

CASES = [
    ("Conv", ["image", "kernel"], "maps", {}, 2 * (16 * 8 * 8) * (3 * 3 * 3)),
    ("Conv", ["maps", "depthwise"], "maps", {"group": 16}, 2 * (16 * 8 * 8) * (3 * 3)),
    ("ConvTranspose", ["maps", "grow"], "large", {}, 2 * (16 * 8 * 8) * (4 * 4 * 4)),
    ("Gemm", ["row", "matrix"], "logits", {"transB": 1}, 2 * 10 * 20),
    ("LSTM", ["steps", "lstm_w", "lstm_r"], "states", {}, 2 * 5 * (32 * 20 + 32 * 8)),
    ("Relu", ["maps"], "maps", {}, 16 * 8 * 8),
    ("GlobalAveragePool", ["maps"], "pooled", {}, 16 * 8 * 8),
    ("Reshape", ["maps", "shape"], "row", {}, 0),
    ("Relu", ["unknown"], "unknown", {}, 0),
]


@pytest.mark.parametrize(("op_type", "inputs", "output", "attributes", "expected"), CASES)
def test_work_of_an_operator(op_type: str, inputs: list[str], output: str, attributes: dict[str, int], expected: int) -> None:
    """Products count two operations a term, everything else one an element, moving data nothing."""
    assert node_flops(helper.make_node(op_type, inputs, [output], **attributes), SHAPES) == expected
